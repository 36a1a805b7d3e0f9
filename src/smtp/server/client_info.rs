//! For whom an upstream speaks: the TCP peer, or the client that a PROXY header, XCLIENT or XFORWARD names.
//!
//! Only hosts that the configuration trusts may say so; everybody else is who they are.

use std::net::IpAddr;

use crate::{
    mail::Peer,
    smtp::{codec::attributes::Attributes, config::Config},
};

/// Who hands mails over in a session.
#[derive(Clone, Debug)]
pub(super) struct ClientInfo {
    /// The host at the other end: the TCP peer, or the one whom a proxy or XCLIENT names.
    pub(super) peer: IpAddr,
    /// What XCLIENT said besides the address.
    pub(super) session: Attributes,
    /// What XFORWARD said of the next mail's client.
    pub(super) mail: Option<Attributes>,
}

impl ClientInfo {
    pub(super) fn of(peer: IpAddr) -> Self {
        Self { peer, session: Attributes::default(), mail: None }
    }

    /// Whether this upstream may say for whom it speaks.
    pub(super) fn is_trusted(&self, config: &Config) -> bool {
        config.trusted_upstreams.iter().any(|network| network.contains(self.peer))
    }

    /// XCLIENT: the rest of the session is another host's.
    pub(super) fn speak_for(&mut self, client: Attributes) {
        if let Some(address) = client.address {
            self.peer = address.to_canonical();
        }
        self.session = client;
        self.mail = None;
    }

    /// XFORWARD comes in several lines; they add up.
    pub(super) fn forward(&mut self, more: Attributes) {
        let known = self.mail.get_or_insert_default();
        known.address = more.address.or(known.address);
        known.name = more.name.or(known.name.take());
        known.helo = more.helo.or(known.helo.take());
        known.protocol = more.protocol.or(known.protocol);
    }

    /// Who handed the mail over.
    pub(super) fn peer_of_mail(&self) -> Peer {
        match self.mail.as_ref().and_then(|mail| mail.address) {
            Some(client) => Peer::Forwarded { upstream: self.peer, client: client.to_canonical() },
            None => Peer::Host(self.peer),
        }
    }

    /// Whose network a mail's memory is counted for: the client's that is named, or the host's that hands it over. None for a
    /// trusted upstream, which hands over everybody's.
    pub(super) fn counted(&self, config: &Config) -> Option<IpAddr> {
        let client = self.mail.as_ref().and_then(|mail| mail.address).map_or(self.peer, |client| client.to_canonical());
        let trusted = config.trusted_upstreams.iter().any(|network| network.contains(client));
        (!trusted).then_some(client)
    }

    /// The client, as the next hop may be told by XFORWARD.
    pub(super) fn client(&self, helo: &str) -> Attributes {
        self.mail.clone().unwrap_or_else(|| Attributes {
            address: Some(self.peer),
            name: self.session.name.clone(),
            helo: Some(self.session.helo.clone().unwrap_or_else(|| helo.to_owned())),
            protocol: self.session.protocol,
        })
    }
}
