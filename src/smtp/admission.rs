//! Who may speak: how many sessions there are, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::setup::Bounds;
use crate::limits;

/// The count of sessions.
#[derive(Debug, Default)]
pub(super) struct Admission {
    open: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// A session's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// There are too many sessions.
    Busy,
    /// There are too many from this address.
    BusyAddress,
}

impl Admission {
    /// Takes a place.
    ///
    /// # Errors
    /// Where a bound is reached.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, bounds: &Bounds) -> Result<Place, TurnedAway> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.load(Ordering::Relaxed) >= bounds.connections {
            return Err(TurnedAway::Busy);
        }
        let here = addresses.entry(address).or_default();
        if *here >= bounds.connections_per_address {
            return Err(TurnedAway::BusyAddress);
        }
        *here += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { admission: Arc::clone(self), address })
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

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = addresses.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                addresses.remove(&self.address);
            }
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let admission = Arc::new(Admission::default());
        let bounds = Bounds { connections: 3, connections_per_address: 2, ..Bounds::default() };
        let (one, two): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = admission.admit(one, &bounds).unwrap();
        let _second = admission.admit(one, &bounds).unwrap();
        assert_eq!(admission.admit(one, &bounds).unwrap_err(), TurnedAway::BusyAddress);
        let _third = admission.admit(two, &bounds).unwrap();
        assert_eq!(admission.admit(two, &bounds).unwrap_err(), TurnedAway::Busy);
        assert!(admission.is_crowded(&bounds));
        drop(first);
        assert_eq!(admission.open(), 2);
        assert!(admission.admit(one, &bounds).is_ok());
    }
}
