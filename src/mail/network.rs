//! Networks in CIDR notation: of trusted hosts, of a sender's hosts, and of the clients that bounds are counted by.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

/// A network (RFC 4632), or one address as a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address; none for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok().map(Self)
    }

    /// A network by an address in it and the length of its prefix; none where the family has fewer bits.
    #[must_use]
    pub fn new(base: IpAddr, bits: u8) -> Option<Self> {
        IpNet::new(base, bits).ok().map(Self)
    }

    /// The network that a client's bounds are counted by: IPv4 /24, IPv6 /48, what one customer of a provider is usually given
    /// at most.
    #[must_use]
    pub fn around(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 24 } else { 48 };
        // Both families have more bits than that.
        Self(IpNet::new(address, bits).map_or_else(|_| IpNet::from(address), |network| network.trunc()))
    }

    /// The address as it was written, host bits included.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Whether an address lies in the network. An IPv4 address that came by an IPv6 socket counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let network = Network::parse("10.0.0.0/8").unwrap();
        assert!(network.contains("10.1.2.3".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("11.0.0.1".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("10.0.0.0/33").is_none());
        assert!(Network::parse("10.1.2.3").unwrap().contains("10.1.2.3".parse().unwrap()));
        assert_eq!(Network::around("::ffff:192.0.2.77".parse().unwrap()).to_string(), "192.0.2.0/24");
        assert_eq!(Network::around("2001:db8:1:2::3".parse().unwrap()).to_string(), "2001:db8:1::/48");
    }
}
