//! For whom an upstream speaks: the TCP peer, or the client that a PROXY header, XCLIENT or XFORWARD names.
//!
//! Only hosts that the configuration trusts may say so; everybody else is who they are.

use std::{io, net::IpAddr, time::Duration};

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::{
    identity::Peer,
    smtp::{codec::command::Attributes, config::Config},
};

/// Who hands mails over in a session.
#[derive(Clone, Debug)]
pub(super) struct ClientInfo {
    /// The host at the other end: the TCP peer, or the one whom a proxy or XCLIENT names.
    pub(super) peer: IpAddr,
    /// A proxy looks whether the hop is there, or cannot say for whom it connects (LOCAL, UNKNOWN).
    pub(super) is_proxy_itself: bool,
    /// What XCLIENT said besides the address.
    pub(super) session: Attributes,
    /// What XFORWARD said of the next mail's client.
    pub(super) mail: Option<Attributes>,
}

impl ClientInfo {
    pub(super) fn of(peer: IpAddr) -> Self {
        Self { peer, is_proxy_itself: false, session: Attributes::default(), mail: None }
    }

    pub(super) fn proxy_itself(proxy: IpAddr) -> Self {
        Self { is_proxy_itself: true, ..Self::of(proxy) }
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

    /// Who handed the mail over, for `identity`.
    pub(super) fn arrival(&self) -> Peer {
        match self.mail.as_ref().and_then(|mail| mail.address) {
            Some(client) => Peer::Forwarded { upstream: self.peer, client: client.to_canonical() },
            None => Peer::Host(self.peer),
        }
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

/// Reads the PROXY header that a connection from a proxy starts with, version 1 or 2. Returns the client's address,
/// none for the proxy's own checks, and what was read past the header.
///
/// # Errors
/// Where there is no such header, or it does not come in time.
pub(super) async fn read_proxy_header(stream: &mut (impl AsyncRead + Unpin), patience: Duration) -> io::Result<(Option<IpAddr>, Vec<u8>)> {
    let mut input = Vec::with_capacity(256);
    let read = async {
        loop {
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let header = HeaderResult::parse(&input);
            if header.is_complete() {
                let found = match &header {
                    HeaderResult::V1(Ok(header)) => Some((client_v1(&header.addresses), header.header.len())),
                    HeaderResult::V2(Ok(header)) => Some((client_v2(header), header.len())),
                    HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
                };
                let (client, length) = found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no PROXY header"))?;
                return Ok((client, input.split_off(length)));
            }
            if input.len() > PROXY_HEADER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is too long"));
            }
        }
    };
    timeout(patience, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

const fn client_v1(addresses: &v1::Addresses) -> Option<IpAddr> {
    match addresses {
        v1::Addresses::Tcp4(pair) => Some(IpAddr::V4(pair.source_address)),
        v1::Addresses::Tcp6(pair) => Some(IpAddr::V6(pair.source_address)),
        v1::Addresses::Unknown => None,
    }
}

fn client_v2(header: &v2::Header<'_>) -> Option<IpAddr> {
    match (header.command, &header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(pair)) => Some(IpAddr::V4(pair.source_address)),
        (v2::Command::Proxy, v2::Addresses::IPv6(pair)) => Some(IpAddr::V6(pair.source_address)),
        _ => None,
    }
}

/// Octets of the longest header: version 2 with a certificate's name and the like.
const PROXY_HEADER: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Option<(Option<IpAddr>, Vec<u8>)> {
        read_proxy_header(&mut { bytes }, Duration::from_secs(5)).await.ok()
    }

    #[tokio::test]
    async fn proxy_headers() {
        let client = "192.0.2.7".parse().ok();
        assert_eq!(read(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\nEHLO a\r\n").await, Some((client, b"EHLO a\r\n".to_vec())));
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await, Some((None, vec![])));
        let v2 = |command: u8, length: u8| {
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, length, 192, 0, 2, 7, 192, 0, 2, 1, 0x10, 0, 0, 25], b"EHLO a\r\n"]
                .concat()
        };
        assert_eq!(read(&v2(0x21, 12)).await, Some((client, b"EHLO a\r\n".to_vec())));
        assert_eq!(read(&v2(0x20, 12)).await, Some((None, b"EHLO a\r\n".to_vec())));
        for odd in [&b"EHLO a\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 192.0.2.7", &[b'P'; 5_000], &v2(0x21, 200), &v2(0x31, 12)] {
            assert_eq!(read(odd).await, None, "{}", odd.escape_ascii());
        }
    }
}
