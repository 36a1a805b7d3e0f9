//! What the admin decides about SMTP: values only, compiled from what the admin wrote.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    identity::Network,
    limits,
    tls::{CertificateFiles, ClientTls},
};

/// All that the admin decides about the hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where upstreams connect.
    pub listen: Vec<SocketAddr>,
    /// Where upstreams connect that speak TLS from the first octet (RFC 8314 section 3.3).
    pub listen_tls: Vec<SocketAddr>,
    /// The hop's own name.
    pub hostname: String,
    /// The next hops, `HOST:PORT` each, in the order in which they are tried.
    pub next_hops: Vec<String>,
    /// How TLS is spoken with them.
    pub next_hop_tls: ClientTls,
    /// A file of certificate authorities for them; none: the system's.
    pub authorities: Option<PathBuf>,
    /// Our certificate; without it STARTTLS is not offered.
    pub certificate: Option<CertificateFiles>,
    /// Octets up to which a mail is inspected, and kept in memory.
    pub inspect_limit: usize,
    /// Octets up to which a mail is taken.
    pub size_limit: usize,
    /// Whether a Received field is written.
    pub trace: Trace,
    /// What becomes of a CR or an LF that stands alone.
    pub bare_line_endings: BareLineEndings,
    /// Who may connect; empty: everybody.
    pub accept_from: Vec<Network>,
    /// Whose connections start with a PROXY header.
    pub proxies: Vec<Network>,
    /// Who may say whom they speak for (XCLIENT, XFORWARD).
    pub trusted_upstreams: Vec<Network>,
    /// Where mails over `inspect_limit` wait, in files without a name.
    pub temporary: PathBuf,
    /// Limits on what is taken on at once.
    pub bounds: Bounds,
    /// How long the hop waits.
    pub deadlines: Deadlines,
}

impl Config {
    /// A relay with this name to these next hops, all else as it is where nobody says otherwise. It listens nowhere.
    #[must_use]
    pub fn relay(hostname: impl Into<String>, next_hops: Vec<String>) -> Self {
        let disk = Path::new("/var/tmp");
        Self {
            listen: Vec::new(),
            listen_tls: Vec::new(),
            hostname: hostname.into(),
            next_hops,
            next_hop_tls: ClientTls::default(),
            authorities: None,
            certificate: None,
            inspect_limit: limits::INSPECT,
            size_limit: limits::SIZE,
            trace: Trace::Written,
            bare_line_endings: BareLineEndings::Reject,
            accept_from: Vec::new(),
            proxies: Vec::new(),
            trusted_upstreams: Vec::new(),
            // Not /tmp, which is memory on many systems.
            temporary: if disk.is_dir() { disk.into() } else { std::env::temp_dir() },
            bounds: Bounds::default(),
            deadlines: Deadlines::default(),
        }
    }
}

/// Whether the hop leaves a Received field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It does (RFC 5321 section 4.4).
    Written,
    /// It does not.
    Hidden,
}

/// What becomes of a CR or an LF that stands alone. It is never passed through: two programs could see two mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLineEndings {
    /// The mail is refused (550 5.5.2).
    Reject,
    /// It becomes CR LF. That breaks signatures, so the mail is not exempted.
    Normalize,
}

/// How much the hop takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions at once; past it a connection hears 421.
    pub connections: usize,
    /// Sessions at once from one address; past it a connection hears 421.
    pub connections_per_address: usize,
    /// Recipients of one mail; past it RCPT hears 452.
    pub recipients: usize,
    /// Commands that bring no mail nearer, in one session, before it is closed.
    pub idle_commands: usize,
    /// Octets of all mails in memory at once; past it a mail hears 452.
    pub memory: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS,
            recipients: limits::RECIPIENTS,
            idle_commands: limits::IDLE_COMMANDS,
            memory: limits::MEMORY,
        }
    }
}

/// How long the hop waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the next hop to accept a connection and greet.
    pub connect: Duration,
    /// For a reply of the next hop.
    pub reply: Duration,
    /// For its reply to the final dot.
    pub final_reply: Duration,
    /// For an upstream's next command, and for a handshake.
    pub command: Duration,
    /// For an upstream's next octets of data.
    pub data_block: Duration,
    /// For the whole of a mail's data.
    pub data: Duration,
    /// For sessions to finish once the hop stops.
    pub drain: Duration,
    /// How long a next hop that could not be reached is tried last.
    pub dead_hop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: limits::CONNECT,
            reply: limits::REPLY,
            final_reply: limits::FINAL_REPLY,
            command: limits::COMMAND,
            data_block: limits::DATA_BLOCK,
            data: limits::DATA,
            drain: limits::DRAIN,
            dead_hop: limits::DEAD_HOP,
        }
    }
}
