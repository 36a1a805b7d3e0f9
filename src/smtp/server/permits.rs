//! Who may speak: how many sessions there are, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{limits, smtp::config::Bounds};

/// The count of sessions.
#[derive(Debug, Default)]
pub(super) struct Permits {
    open: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    /// Whose it is; none while that is not known.
    address: Option<IpAddr>,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Permits {
    /// Takes a place among all, for a connection of which nobody knows yet who it is.
    ///
    /// # Errors
    /// Where there are too many.
    pub(super) fn admit(self: &Arc<Self>, bounds: &Bounds) -> Result<Permit, Busy> {
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < bounds.connections).then_some(open + 1));
        taken.map(|_| Permit { permits: Arc::clone(self), address: None }).map_err(|_| Busy)
    }

    /// Sessions that are open.
    #[must_use]
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether idle sessions should make room.
    #[must_use]
    pub(super) fn is_crowded(&self, bounds: &Bounds) -> bool {
        self.open() * 100 >= bounds.connections * limits::CROWDED
    }
}

impl Permit {
    /// Takes the place for an address.
    ///
    /// # Errors
    /// Where there are too many from it.
    pub(super) fn of(&mut self, address: IpAddr, bounds: &Bounds) -> Result<(), Busy> {
        let mut addresses = self.permits.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let here = addresses.get(&address).copied().unwrap_or_default();
        if here >= bounds.connections_per_address {
            return Err(Busy);
        }
        addresses.insert(address, here + 1);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut addresses = self.permits.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(here) = addresses.get_mut(&address) {
                *here -= 1;
                if *here == 0 {
                    addresses.remove(&address);
                }
            }
        }
        self.permits.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let permits = Arc::new(Permits::default());
        let bounds = Bounds { connections: 3, connections_per_address: 2, ..Bounds::default() };
        let (one, two): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let place = |address| {
            let mut place = permits.admit(&bounds)?;
            place.of(address, &bounds).map(|()| place)
        };
        let first = place(one).unwrap();
        let _second = place(one).unwrap();
        assert_eq!(place(one).unwrap_err(), Busy);
        assert_eq!(permits.open(), 2, "whoever is turned away holds nothing");
        let _third = place(two).unwrap();
        assert_eq!(permits.admit(&bounds).unwrap_err(), Busy);
        assert!(permits.is_crowded(&bounds));
        drop(first);
        assert_eq!(permits.open(), 2);
        assert!(place(one).is_ok());
    }
}
