//! What is known of a mail's sender, and which signatures count as proof of it.
//!
//! Values only: who asked whom is in the room's other files. A signature that verifies may still be no proof, because
//! it covers too little or is too weak; that is a [`Weakness`].

use std::{fmt, net::IpAddr};

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

/// Why a signature is no proof even where it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weakness {
    /// `a=rsa-sha1` (RFC 8301 section 3.1).
    Sha1,
    /// `l=`: text can be appended (RFC 6376 section 8.2).
    BodyLength,
    /// From is not among the signed fields (RFC 6376 section 5.4).
    FromUnsigned,
    /// Subject is not among the signed fields.
    SubjectUnsigned,
    /// Past its `x=`, or `t=` lies in the future.
    OutOfTime,
    /// Its domain or selector is no plain name.
    Name,
    /// Its key's record cannot be read, or is larger than a key needs.
    KeyRecord,
    /// Its key says that it is a test, `t=y`: to be treated as if there were no signature (RFC 6376 section 3.6.1).
    TestingKey,
}

impl Weakness {
    /// One clause for people.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Sha1 => "it uses rsa-sha1",
            Self::BodyLength => "it has an l= tag, so text can be appended",
            Self::FromUnsigned => "it does not cover From",
            Self::SubjectUnsigned => "it does not cover Subject",
            Self::OutOfTime => "it is expired or from the future",
            Self::Name => "its domain or selector is no plain name",
            Self::KeyRecord => "its key's record cannot be read, or is too large",
            Self::TestingKey => "its key is marked as a test (t=y)",
        }
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
    /// The fields that it covers, in lower case; none where an upstream verified it and only told the result.
    pub covers: Option<Vec<String>>,
    /// `t=`, in seconds since 1970; 0 where it is absent.
    pub signed_at: u64,
    /// Whether DMARC passes by this signature alone (RFC 9989 section 4.4).
    pub aligned: bool,
}

impl Signature {
    /// Whether it verifies and counts as proof.
    #[must_use]
    pub fn is_proof(&self) -> bool {
        self.result == AuthResult::Pass && self.weakness.is_none() && self.domain.is_some()
    }

    /// Whether it covers a field; a signature that an upstream vouches for is taken to.
    #[must_use]
    pub fn covers(&self, field: &str) -> bool {
        self.covers.as_ref().is_none_or(|covered| covered.iter().any(|name| name == field))
    }
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
    /// SPF of the reverse-path's domain (RFC 7208).
    pub spf: AuthResult,
    /// The signatures, topmost first, as many as are looked at.
    pub dkim: Vec<Signature>,
    /// DMARC (RFC 9989), by DKIM or by SPF; [`Signature::aligned`] tells which signature made it pass.
    pub dmarc: AuthResult,
    /// The ARC chain's state; looked at only where every sealer is named. Never proof by itself.
    pub arc: AuthResult,
    /// The address that SPF was asked for.
    pub client: Option<IpAddr>,
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
