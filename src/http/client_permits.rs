//! How much each client holds at one time, so that none holds all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// What clients hold. A client is an IPv4 address or an IPv6 /64: a host may have as many addresses of the latter as it likes
/// (RFC 4291 section 2.5.4).
#[derive(Debug, Default)]
pub(super) struct ClientPermits(Mutex<HashMap<IpAddr, usize>>);

/// A client's permit; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    clients: Arc<ClientPermits>,
    client: IpAddr,
}

impl ClientPermits {
    /// A permit for a client; none where it holds `most` already.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Permit> {
        let client = network(address);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&client).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        held.insert(client, count + 1);
        Some(Permit { clients: Arc::clone(self), client })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

/// What addresses of one client have in common.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_holds_its_share_and_gives_it_back() {
        let clients: Arc<ClientPermits> = Arc::default();
        let of = |text: &str| clients.admit(text.parse().unwrap(), 2);
        let held = [of("2001:db8::1").unwrap(), of("2001:db8::ffff").unwrap()];
        assert!(of("2001:db8::2").is_none(), "another address of the same host");
        let others = [of("2001:db8:0:1::1"), of("192.0.2.1"), of("192.0.2.2"), of("::ffff:192.0.2.1")];
        assert!(others.iter().all(Option::is_some));
        assert!(of("192.0.2.1").is_none());
        drop(held);
        assert!(of("2001:db8::2").is_some());
        drop(others);
        assert!(clients.0.lock().unwrap().is_empty());
    }
}
