//! A mail's identity as values, and which of its signatures count as proof.
//!
//! Values only: how they are found is in the module's other files. A signature that verifies may still be no proof, because it
//! covers too little or is too weak; that is a [`Weakness`].

use std::{fmt, net::IpAddr};

use jiff::Timestamp;

pub use super::{
    coverage::{Coverage, Seen},
    weakness::{Trouble, Weakness},
};
pub use crate::mail::AuthResult;
use crate::message::Domain;

impl fmt::Display for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One DKIM signature and its result (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `d=`, the signing domain; none where it cannot be read.
    pub domain: Option<Domain>,
    /// `s=`, the selector, cleaned for logs.
    pub selector: String,
    /// The result of verifying it.
    pub result: AuthResult,
    /// Why it is no proof all the same.
    pub weakness: Option<Weakness>,
    /// The fields that it covers; nothing where its field in the mail is not known.
    pub coverage: Coverage,
    /// `t=`, in seconds since 1970; none where it is absent.
    pub signed_at: Option<i64>,
    /// Whether DMARC passes by this signature alone (RFC 9989 section 4.4).
    pub aligned: bool,
    /// The id of the signature in replay memory: SHA-256 of `d=`, `s=` and the decoded `b=`, each behind its length. Zeros where
    /// there is no such field, or where several fit one result of an upstream.
    pub id: [u8; 32],
}

impl Signature {
    /// Whether it verifies and counts as proof.
    #[must_use]
    pub fn is_proof(&self) -> bool {
        self.result == AuthResult::Pass && self.weakness.is_none() && self.domain.is_some()
    }
}

/// How SPF passed or not, for the one client (RFC 7208).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spf {
    /// The result of RFC 7208 section 2.6.
    pub result: AuthResult,
    /// MAIL FROM's domain; HELO for the null path (RFC 7208 section 2.4).
    pub domain: Option<Domain>,
    /// The mechanism that matched; none where none did, or where the result is an upstream's.
    pub by: Option<Mechanism>,
}

/// The kind of SPF mechanism that matched (RFC 7208 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `ip4`, `ip6`, `a`, `mx`, through `include` and `redirect` too: the record names the client's address.
    Address,
    /// `all`: whoever the client is.
    All,
    /// `ptr`: by the name that the client's network gives it.
    Ptr,
    /// `exists`: by the answer of a name server.
    Exists,
}

/// The connecting client, and how its address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address; an IPv4 address in IPv6 form is given as IPv4.
    pub address: IpAddr,
    /// What the address rests on.
    pub known_by: KnownBy,
}

/// What a client's address rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnownBy {
    /// The connection's peer, or the client that a PROXY header or XCLIENT names.
    Connection,
    /// XFORWARD of a trusted upstream.
    Announced,
    /// The Received field of a trusted upstream, read by the grammar of its MTA.
    Received,
    /// An option of the command line: `explain --client-ip`.
    Told,
}

/// Where the results come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing was looked up.
    #[default]
    Nobody,
    /// The hop's own checks, by DNS.
    Here,
    /// The Authentication-Results of a trusted upstream (RFC 8601).
    Upstream,
    /// The ARC-Authentication-Results of a sealer that the admin named (RFC 8617).
    Sealer(Domain),
    /// Nobody: the sender is assumed to have proven itself, for mails that were saved long ago and for tests.
    Assumed,
}

/// A mail's identity: the results of SPF, DKIM, DMARC and ARC, and the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Where the results come from.
    pub source: Source,
    /// SPF of the reverse-path's domain (RFC 7208); none where it was not checked.
    pub spf: Option<Spf>,
    /// The signatures, topmost first, as many as are looked at; those that cannot speak for the author have the result
    /// `none` and [`Weakness::NotTheAuthors`].
    pub dkim: Vec<Signature>,
    /// DMARC (RFC 9989), by DKIM or by SPF; [`Signature::aligned`] marks a signature that made it pass.
    pub dmarc: AuthResult,
    /// The ARC chain's state; looked at only where every sealer is named. Never proof by itself.
    pub arc: AuthResult,
    /// The client that delivered the mail to the company, where it is known.
    pub client: Option<Client>,
    /// Why the identity could not be looked up, for people.
    pub trouble: Option<String>,
}

impl Identity {
    /// The identity of a mail of this author's that proved itself as well as can be, at this time: every field of its header
    /// counts as covered. Nothing of it was seen; no mail that is relayed may have it.
    #[must_use]
    pub fn assumed(author: Option<&Domain>, client: Option<IpAddr>, at: Timestamp) -> Self {
        let signature = Signature {
            domain: author.cloned(),
            selector: String::new(),
            result: AuthResult::Pass,
            weakness: None,
            coverage: Coverage::Whole,
            signed_at: Some(at.as_second()),
            aligned: true,
            id: [0; 32],
        };
        Self {
            source: Source::Assumed,
            spf: Some(Spf { result: AuthResult::Pass, domain: author.cloned(), by: Some(Mechanism::Address) }),
            dkim: vec![signature],
            dmarc: AuthResult::Pass,
            arc: AuthResult::None,
            client: client.map(|address| Client { address, known_by: KnownBy::Told }),
            trouble: None,
        }
    }

    /// An identity without any result, for this reason.
    #[must_use]
    pub fn unknown(trouble: impl Into<String>) -> Self {
        Self { trouble: Some(trouble.into()), ..Self::default() }
    }

    /// The signatures that count as proof.
    pub fn proofs(&self) -> impl Iterator<Item = &Signature> {
        self.dkim.iter().filter(|signature| signature.is_proof())
    }
}
