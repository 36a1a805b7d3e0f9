//! How many mails are asked about at one time: a bound for the whole hop, and a tenth of it for one client network.
//!
//! Slow name servers make look-ups pile up. Past the bound nobody waits: the mail passes as an ordinary mail.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::Network;

/// Who is let in.
#[derive(Clone, Debug)]
pub(super) struct LookupPermits {
    held: Arc<Mutex<Held>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    // At most `most` networks hold anything, so the table is bounded too.
    by_network: HashMap<IpAddr, usize>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct LookupPermit {
    held: Arc<Mutex<Held>>,
    network: Option<IpAddr>,
}

impl LookupPermits {
    pub(super) fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    /// A place for a mail of this client; loopback is no client network, but the machine itself: its MTA, a proxy. None where all are taken, or where its network (IPv4 /24, IPv6 /48) holds a tenth.
    /// A mail whose client is not known counts for the whole only.
    pub(super) fn enter(&self, client: Option<IpAddr>) -> Option<LookupPermit> {
        let network = client.map(|client| client.to_canonical()).filter(|client| !client.is_loopback()).map(Network::around);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.all >= self.most {
            return None;
        }
        if let Some(network) = network {
            let count = held.by_network.get(&network).copied().unwrap_or(0);
            if count >= (self.most / 10).max(1) {
                return None;
            }
            held.by_network.insert(network, count + 1);
        }
        held.all += 1;
        drop(held);
        Some(LookupPermit { held: Arc::clone(&self.held), network })
    }
}

impl Drop for LookupPermit {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        if let Some(network) = self.network {
            let left = held.by_network.get(&network).copied().unwrap_or(0).saturating_sub(1);
            if left == 0 {
                held.by_network.remove(&network);
            } else {
                held.by_network.insert(network, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn a_tenth_for_one_network_and_no_more_than_all() {
        let lookup_permits = LookupPermits::new(20);
        let mut places: Vec<LookupPermit> = Vec::new();
        places.push(lookup_permits.enter(address("192.0.2.1")).unwrap());
        places.push(lookup_permits.enter(address("192.0.2.200")).unwrap());
        assert!(lookup_permits.enter(address("192.0.2.77")).is_none(), "a third of the same /24");
        assert!(lookup_permits.enter(address("::ffff:192.0.2.77")).is_none(), "and in IPv6 clothes");
        places.push(lookup_permits.enter(address("192.0.3.1")).unwrap());
        places.push(lookup_permits.enter(address("2001:db8:1::1")).unwrap());
        places.push(lookup_permits.enter(address("2001:db8:1:ffff::1")).unwrap());
        assert!(lookup_permits.enter(address("2001:db8:1:2::3")).is_none(), "a third of the same /48");
        while let Some(place) = lookup_permits.enter(if places.len().is_multiple_of(2) { None } else { address("127.0.0.1") }) {
            places.push(place);
        }
        assert_eq!(places.len(), 20);
        assert!(lookup_permits.enter(address("198.51.100.1")).is_none(), "the whole is taken");
        places.remove(0);
        assert!(lookup_permits.enter(address("192.0.2.77")).is_some(), "a place that was given back");
        places.clear();
        assert!(lookup_permits.held.lock().unwrap().by_network.is_empty());
    }
}
