//! One mail as it was handed over, before anything is decided about it.

use std::net::IpAddr;

use crate::limits;

/// A mail transaction (RFC 5321 section 3.3) whose data has come, or the same as an MTA tells it by milter.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The hop's id of it; it stands in the trace field, the record and the log.
    pub id: &'a str,
    /// By which protocol it came.
    pub protocol: Protocol,
    /// Who handed it over.
    pub client: Client<'a>,
    /// From whom to whom.
    pub envelope: Envelope<'a>,
    /// The octets as they came, dots unstuffed; of a mail over `inspect_limit` the header block at least.
    pub data: &'a [u8],
    /// Octets of the whole mail.
    pub size: usize,
    /// Whether its line ends were repaired on the way in.
    pub repair: LineRepair,
}

/// By which protocol a mail comes, or a session is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The hop takes it and hands it on.
    Smtp,
    /// An MTA keeps it and asks what to change.
    Milter,
    /// It was read from a file, by `explain`.
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

/// Who handed a mail over.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The host.
    pub peer: Peer,
    /// The name that it gave in EHLO or HELO.
    pub helo: &'a str,
}

/// The host that handed a mail over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host at this address; whether it is a trusted upstream is looked up.
    Host(IpAddr),
    /// A host that speaks for a client (XFORWARD); it was let in because it is a trusted upstream.
    Forwarded {
        /// The host.
        upstream: IpAddr,
        /// The client.
        client: IpAddr,
    },
    /// The sender's own host, as somebody says who knows (`explain --client-ip`).
    Client(IpAddr),
    /// A trusted upstream; the mail was saved behind it (`explain`).
    TrustedUpstream,
}

impl Peer {
    /// The client that a trusted upstream named.
    #[must_use]
    pub const fn forwarded_client(&self) -> Option<IpAddr> {
        match self {
            Self::Forwarded { client, .. } => Some(*client),
            Self::Host(_) | Self::Client(_) | Self::TrustedUpstream => None,
        }
    }

    /// The host at the other end of the connection.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Host(address) | Self::Forwarded { upstream: address, .. } | Self::Client(address) => Some(*address),
            Self::TrustedUpstream => None,
        }
    }
}

/// From whom a mail goes to whom (RFC 5321 section 2.3.1): paths as they were sent, angle brackets included.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The reverse-path; `<>` is the null path.
    pub reverse_path: &'a str,
    /// The forward-paths that were accepted.
    pub recipients: &'a [String],
}

/// Whether a mail's line ends were repaired on the way in; what is judged is then not what the sender signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRepair {
    /// They were as they should be.
    None,
    /// A CR or an LF stood alone and is CR LF now.
    Done,
}

/// The address inside a path (RFC 5321 section 4.1.2), without brackets and source route, cut at what a log line may hold.
#[must_use]
pub fn address(path: &str) -> String {
    let inside = path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(path);
    let routed = inside.strip_prefix('@').and_then(|rest| rest.split_once(':')).map_or(inside, |(_, rest)| rest);
    routed.chars().take(limits::LOGGED_PATH).collect()
}
