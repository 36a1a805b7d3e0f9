//! One mail as it was received, before anything is decided about it.

use std::net::IpAddr;

use crate::limits;

/// A mail transaction (RFC 5321 section 3.3) whose data has been received, or the same by milter.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The hop's id of the mail; it stands in the hop's Received field, the record and the log.
    pub id: &'a str,
    /// The protocol by which it came.
    pub protocol: Protocol,
    /// The host that handed it over, and its name.
    pub client: Client<'a>,
    /// Reverse-path and forward-paths.
    pub envelope: Envelope<'a>,
    /// The octets as received, dots unstuffed: the header block at least.
    pub data: &'a [u8],
    /// Whether that is all of the mail.
    pub held: Held,
    /// Octets of the mail; of one that is still being received, those so far.
    pub size: usize,
    /// Whether its line ends were repaired on the way in.
    pub repair: LineRepair,
}

/// How much of a mail [`Transaction::data`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it that may have to be inspected.
    Whole,
    /// Its header, and perhaps a part of its body. The mail is too large to be inspected, or was announced so, or there is no
    /// memory for it; by SMTP the rest is still being received.
    Header,
}

/// The protocol of a mail or of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP: the hop receives the mail and relays it.
    Smtp,
    /// Milter: an MTA keeps the mail and asks what to change.
    Milter,
    /// A file, read by `explain`.
    File,
}

impl Protocol {
    /// The label in metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Milter => "milter",
            Self::File => "file",
        }
    }
}

/// The host that handed a mail over, and its name.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The host's address, and what is known of it.
    pub peer: Peer,
    /// The name in EHLO or HELO.
    pub helo: &'a str,
}

/// The host that handed a mail over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host at this address; whether it is a trusted upstream is looked up.
    Host(IpAddr),
    /// A trusted upstream that named its client (XFORWARD).
    Forwarded {
        /// The upstream's address.
        upstream: IpAddr,
        /// The client's address.
        client: IpAddr,
    },
    /// The sender's own host, by `explain --client-ip`.
    Client(IpAddr),
    /// A trusted upstream without an address: the mail was saved behind it (`explain`).
    TrustedUpstream,
}

impl Peer {
    /// The address of the client that a trusted upstream named.
    #[must_use]
    pub const fn forwarded_client(&self) -> Option<IpAddr> {
        match self {
            Self::Forwarded { client, .. } => Some(*client),
            Self::Host(_) | Self::Client(_) | Self::TrustedUpstream => None,
        }
    }

    /// The address of the host at the other end of the connection; none where there was no connection.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Host(address) | Self::Forwarded { upstream: address, .. } | Self::Client(address) => Some(*address),
            Self::TrustedUpstream => None,
        }
    }
}

/// The envelope of a mail (RFC 5321 section 2.3.1): paths as received, angle brackets included.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The reverse-path; `<>` is the null path.
    pub reverse_path: &'a str,
    /// The forward-paths that the next hop accepted.
    pub recipients: &'a [String],
}

/// Whether a mail's line ends were repaired; what is judged is then not what the sender signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRepair {
    /// Every line ended in CRLF.
    None,
    /// A CR or an LF stood alone, and became CRLF.
    Done,
}

/// The address inside a path (RFC 5321 section 4.1.2), without brackets and source route, cut at [`crate::limits::LOGGED_PATH`]
/// octets.
#[must_use]
pub fn address(path: &str) -> String {
    let inside = path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(path);
    let routed = inside.strip_prefix('@').and_then(|rest| rest.split_once(':')).map_or(inside, |(_, rest)| rest);
    routed.chars().take(limits::LOGGED_PATH).collect()
}
