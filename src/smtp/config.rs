//! The settings of SMTP, both ways, as values.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    limits,
    mail::Network,
    tls::{CertificateFiles, ClientTls},
};

/// The settings of the hop that both sides of SMTP use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses on which upstreams connect in the clear; STARTTLS may follow.
    pub listen: Vec<SocketAddr>,
    /// Addresses on which TLS is spoken from the first octet (RFC 8314 section 3.3).
    pub listen_tls: Vec<SocketAddr>,
    /// The hop's own domain name: in the greeting, in EHLO and in trace fields.
    pub hostname: String,
    /// The next hops, `HOST:PORT` each, in the order in which they are tried.
    pub next_hops: Vec<String>,
    /// Whether TLS is required of them, or tried.
    pub next_hop_tls: ClientTls,
    /// Whether connections to them wait for the next session.
    pub pool: Pooling,
    /// By which command mails go to them.
    pub chunking: Chunking,
    /// A file of their certificate authorities, in PEM; none: the system's.
    pub authorities: Option<PathBuf>,
    /// The hop's certificate; without it STARTTLS is not offered.
    pub certificate: Option<CertificateFiles>,
    /// Octets up to which a mail is inspected, and kept in memory.
    pub inspect_limit: usize,
    /// Octets up to which a mail is taken.
    pub size_limit: usize,
    /// Whether the hop writes a Received field.
    pub trace: Trace,
    /// What happens to a CR or an LF that stands alone.
    pub bare_line_endings: BareLineEndings,
    /// Networks whose hosts may connect; empty: all. Others get 554.
    pub accept_from: Vec<Network>,
    /// Networks of proxies, whose connections start with a PROXY header.
    pub proxies: Vec<Network>,
    /// Networks of hosts that may name their client (XCLIENT, XFORWARD).
    pub trusted_upstreams: Vec<Network>,
    /// Limits on what is taken on at once.
    pub bounds: Bounds,
    /// Deadlines of both sides.
    pub deadlines: Deadlines,
}

impl Config {
    /// The settings of a relay with this name to these next hops, all else by default. It listens nowhere.
    #[must_use]
    pub fn relay(hostname: impl Into<String>, next_hops: Vec<String>) -> Self {
        Self {
            listen: Vec::new(),
            listen_tls: Vec::new(),
            hostname: hostname.into(),
            next_hops,
            next_hop_tls: ClientTls::default(),
            pool: Pooling::On,
            chunking: Chunking::Off,
            authorities: None,
            certificate: None,
            inspect_limit: limits::INSPECT,
            size_limit: limits::SIZE,
            trace: Trace::Written,
            bare_line_endings: BareLineEndings::Reject,
            accept_from: Vec::new(),
            proxies: Vec::new(),
            trusted_upstreams: Vec::new(),
            bounds: Bounds::default(),
            deadlines: Deadlines::default(),
        }
    }
}

/// Whether connections to next hops are kept across upstreams' sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// After a mail that was accepted the connection waits for whoever comes next.
    On,
    /// Each session has its own, and closes it at its end.
    Off,
}

/// By which command a mail goes to the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// BDAT where the next hop announces it (RFC 3030), in one chunk; a mail that is passed on while it comes goes by DATA.
    On,
    /// DATA.
    Off,
}

/// Whether the hop writes a Received field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// One field on top of each mail (RFC 5321 section 4.4).
    Written,
    /// No field: the hop leaves no trace.
    Hidden,
}

/// What happens to a CR or an LF that stands alone. It is never relayed: two programs could read two mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLineEndings {
    /// The mail is refused with 550 5.5.2.
    Reject,
    /// It becomes CR LF. That breaks signatures, so the mail is not exempted.
    Normalize,
}

/// Bounds on sessions and mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions at once; more get 421.
    pub connections: usize,
    /// Sessions at once from one address; more get 421.
    pub connections_per_address: usize,
    /// Recipients of one mail; more get 452.
    pub recipients: usize,
    /// Commands in one session that begin or continue no mail; one more gets 421.
    pub idle_commands: usize,
    /// Octets of all mails in memory at once; a mail beyond them gets 452.
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

/// Deadlines of SMTP (RFC 5321 section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the next hop to accept a connection, greet, agree on TLS and reply to EHLO.
    pub connect: Duration,
    /// For a reply of the next hop to any command but the final dot.
    pub reply: Duration,
    /// For its reply to the final dot.
    pub final_reply: Duration,
    /// For an upstream's next command, for a reply to be taken, and for a TLS handshake.
    pub command: Duration,
    /// For the next octets of a mail's data, and for the next hop to take a block of it.
    pub data_block: Duration,
    /// For the whole of a mail's data from the upstream.
    pub data: Duration,
    /// For sessions to finish their mails once the hop drains.
    pub drain: Duration,
    /// Time for which a next hop that could not be reached is tried last.
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
