//! The client of a session and of a mail: the TCP peer, or the one that a PROXY header, XCLIENT or XFORWARD names.
//!
//! Only hosts that the configuration trusts may name a client; the client of all others is the peer.

use std::net::IpAddr;

use crate::{
    mail::Peer,
    smtp::{codec::attributes::Attributes, config::Config},
};

/// The client of a session and of its next mail.
#[derive(Clone, Debug)]
pub(super) struct ClientInfo {
    /// The host at the other end: the TCP peer, or the one that a PROXY header or XCLIENT names.
    pub(super) peer: IpAddr,
    /// The attributes of XCLIENT beside the address.
    pub(super) session: Attributes,
    /// The attributes of XFORWARD, for the next mail only.
    pub(super) mail: Option<Attributes>,
}

impl ClientInfo {
    pub(super) fn of(peer: IpAddr) -> Self {
        Self { peer, session: Attributes::default(), mail: None }
    }

    /// Whether this upstream may name a client (`trusted_upstreams`).
    pub(super) fn is_trusted(&self, config: &Config) -> bool {
        config.trusted_upstreams.iter().any(|network| network.contains(self.peer))
    }

    /// XCLIENT: the rest of the session is from this client.
    pub(super) fn speak_for(&mut self, client: Attributes) {
        if let Some(address) = client.address {
            self.peer = address.to_canonical();
        }
        self.session = client;
        self.mail = None;
    }

    /// XFORWARD: adds attributes; several commands may come before one mail.
    pub(super) fn forward(&mut self, more: Attributes) {
        let known = self.mail.get_or_insert_default();
        known.address = more.address.or(known.address);
        known.name = more.name.or(known.name.take());
        known.helo = more.helo.or(known.helo.take());
        known.protocol = more.protocol.or(known.protocol);
    }

    /// The host that hands the next mail over.
    pub(super) fn peer_of_mail(&self) -> Peer {
        match self.mail.as_ref().and_then(|mail| mail.address) {
            Some(client) => Peer::Forwarded { upstream: self.peer, client: client.to_canonical() },
            None => Peer::Host(self.peer),
        }
    }

    /// The address whose network a mail's memory is counted for: the named client's, or the peer's. None for a trusted upstream
    /// that names no client: it hands over many clients' mails.
    pub(super) fn counted(&self, config: &Config) -> Option<IpAddr> {
        let client = self.mail.as_ref().and_then(|mail| mail.address).map_or(self.peer, |client| client.to_canonical());
        let trusted = config.trusted_upstreams.iter().any(|network| network.contains(client));
        (!trusted).then_some(client)
    }

    /// The attributes of the client for the next hop (XFORWARD); `helo` stands in where none was named.
    pub(super) fn client(&self, helo: &str) -> Attributes {
        self.mail.clone().unwrap_or_else(|| Attributes {
            address: Some(self.peer),
            name: self.session.name.clone(),
            helo: Some(self.session.helo.clone().unwrap_or_else(|| helo.to_owned())),
            protocol: self.session.protocol,
        })
    }
}
