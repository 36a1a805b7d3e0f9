//! What is known of a mail's sender, and which signatures count as proof of it.
//!
//! Values only: who asked whom is in the module's other files. A signature that verifies may still be no proof, because
//! it covers too little or is too weak; that is a [`Weakness`].

use std::{fmt, net::IpAddr};

pub use super::{
    coverage::{Coverage, Seen},
    weakness::{Trouble, Weakness},
};
use crate::message::Domain;

/// A result as RFC 8601 section 2.7 names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AuthResult {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// SPF only: probably not.
    SoftFail,
    /// There is no statement.
    Neutral,
    /// Nothing to check.
    #[default]
    None,
    /// The method's owner does not accept it.
    Policy,
    /// It could not be found out now.
    TempError,
    /// It can never be found out.
    PermError,
}

impl AuthResult {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Pass, "pass"),
        (Self::Fail, "fail"),
        (Self::SoftFail, "softfail"),
        (Self::Neutral, "neutral"),
        (Self::None, "none"),
        (Self::Policy, "policy"),
        (Self::TempError, "temperror"),
        (Self::PermError, "permerror"),
    ];

    /// The word in an Authentication-Results field.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("none", |(_, name)| name)
    }

    /// Reads the word of an Authentication-Results field.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(known, _)| *known)
    }
}

impl fmt::Display for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One DKIM signature and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `d=`.
    pub domain: Option<Domain>,
    /// `s=`, cleaned for logs.
    pub selector: String,
    /// Whether it verifies.
    pub result: AuthResult,
    /// Why it is no proof all the same.
    pub weakness: Option<Weakness>,
    /// The fields that it covers; nothing where its field in the mail is not known.
    pub coverage: Coverage,
    /// `t=`, in seconds since 1970; none where it is absent.
    pub signed_at: Option<i64>,
    /// Whether DMARC passes by this signature alone (RFC 9989 section 4.4).
    pub aligned: bool,
    /// SHA-256 of `d=`, `s=` and the decoded `b=`, each behind its length: what replay memory knows a mail by. Zeros where
    /// there is no such field, or where several fit what an upstream said of one.
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
    /// The result.
    pub result: AuthResult,
    /// MAIL FROM's domain; HELO for the null path (RFC 7208 section 2.4).
    pub domain: Option<Domain>,
    /// What matched; none where nothing did, or an upstream said so.
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
    /// The address; never an IPv4 address in IPv6 clothes.
    pub address: IpAddr,
    /// How it is known.
    pub known_by: KnownBy,
}

/// How a client's address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnownBy {
    /// It is the host at the other end (or the one that a PROXY header or XCLIENT put there).
    Connection,
    /// A trusted upstream said so for this mail: XFORWARD.
    Announced,
    /// A trusted upstream's own Received says so, read by the grammar of its MTA.
    Received,
    /// Somebody who knows says so: `explain --client-ip`.
    Told,
}

/// Who found it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody asked.
    #[default]
    Nobody,
    /// The hop itself, by DNS.
    Here,
    /// A trusted upstream, in its Authentication-Results.
    Upstream,
    /// A sealer that the admin named, in its ARC-Authentication-Results (RFC 8617).
    Sealer(Domain),
}

/// All that is known of a mail's sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who found it out.
    pub source: Source,
    /// SPF of the reverse-path's domain (RFC 7208); none where it was not asked.
    pub spf: Option<Spf>,
    /// The signatures, topmost first, as many as are looked at; those that cannot speak for the author have the result
    /// `none` and [`Weakness::NotTheAuthors`].
    pub dkim: Vec<Signature>,
    /// DMARC (RFC 9989), by DKIM or by SPF; [`Signature::aligned`] tells which signature made it pass.
    pub dmarc: AuthResult,
    /// The ARC chain's state; looked at only where every sealer is named. Never proof by itself.
    pub arc: AuthResult,
    /// The client that delivered the mail to the company, where it is known.
    pub client: Option<Client>,
    /// What kept the question from being answered, for people.
    pub trouble: Option<String>,
}

impl Identity {
    /// An identity that nobody could find out.
    #[must_use]
    pub fn unknown(trouble: impl Into<String>) -> Self {
        Self { trouble: Some(trouble.into()), ..Self::default() }
    }

    /// The signatures that count as proof.
    pub fn proofs(&self) -> impl Iterator<Item = &Signature> {
        self.dkim.iter().filter(|signature| signature.is_proof())
    }
}
