//! Permits for connections or requests at one time, in all and of one client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The part of an address by which clients are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKey {
    /// By the address: upstream MTAs have few.
    Address,
    /// By the IPv4 address or the IPv6 /64: a host may have as many addresses of the latter as it likes (RFC 4291 section 2.5.4).
    Host,
}

impl ClientKey {
    /// The part of an address that all of one client's addresses have in common.
    #[must_use]
    pub fn of(self, address: IpAddr) -> IpAddr {
        match (self, address.to_canonical()) {
            (Self::Host, IpAddr::V6(address)) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            (_, address) => address,
        }
    }
}

/// The permits that are held. The bounds are arguments of each call, so that a reload changes them.
#[derive(Debug)]
pub struct Permits {
    key: ClientKey,
    open: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's or request's permit; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    /// The client; none while it is not known.
    client: Option<IpAddr>,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Permits {
    /// With no permit held; `key` is the part of an address by which clients are counted.
    #[must_use]
    pub fn new(key: ClientKey) -> Self {
        Self { key, open: AtomicUsize::new(0), clients: Mutex::default() }
    }

    /// Takes a permit among all, where fewer than `most` are held.
    ///
    /// # Errors
    /// `most` permits are held already.
    pub fn admit(self: &Arc<Self>, most: usize) -> Result<Permit, Busy> {
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        taken.map(|_| Permit { permits: Arc::clone(self), client: None }).map_err(|_| Busy)
    }

    /// How many permits are held.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Makes it a permit of this client, where that client holds fewer than `most`. Called once for each permit.
    ///
    /// # Errors
    /// The client holds `most` permits already.
    pub fn assign(&mut self, client: IpAddr, most: usize) -> Result<(), Busy> {
        let client = self.permits.key.of(client);
        let mut clients = self.permits.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let held = clients.get(&client).copied().unwrap_or_default();
        if held >= most || self.client.is_some() {
            return Err(Busy);
        }
        clients.insert(client, held + 1);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            let mut clients = self.permits.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = clients.get_mut(&client) {
                *held -= 1;
                if *held == 0 {
                    clients.remove(&client);
                }
            }
        }
        self.permits.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(permits: &Arc<Permits>, client: &str) -> Result<Permit, Busy> {
        let mut permit = permits.admit(5)?;
        permit.assign(client.parse().unwrap(), 2).map(|()| permit)
    }

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Arc::new(Permits::new(ClientKey::Address));
        let first = admit(&permits, "192.0.2.1").unwrap();
        let _second = admit(&permits, "::ffff:192.0.2.1").unwrap();
        assert_eq!(admit(&permits, "192.0.2.1").unwrap_err(), Busy);
        assert_eq!(permits.open(), 2, "a refused client holds nothing");
        let _others = ["192.0.2.2", "2001:db8::1", "2001:db8::2"].map(|other| admit(&permits, other).unwrap());
        assert_eq!(permits.admit(5).unwrap_err(), Busy);
        drop(first);
        assert_eq!(permits.open(), 4);
        assert!(admit(&permits, "192.0.2.1").is_ok());
    }

    #[test]
    fn a_host_has_many_addresses() {
        let permits = Arc::new(Permits::new(ClientKey::Host));
        let held = ["2001:db8::1", "2001:db8::ffff"].map(|address| admit(&permits, address).unwrap());
        assert!(admit(&permits, "2001:db8::2").is_err(), "another address of the same host");
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"].map(|address| admit(&permits, address).unwrap());
        drop(held);
        assert!(admit(&permits, "2001:db8::2").is_ok());
        drop(others);
        assert!(permits.clients.lock().unwrap().is_empty(), "a table of those who hold something, and nobody else");
        assert_eq!(permits.open(), 0);
    }
}
