//! DKIM: which signatures can speak for the author, and whether they hold (RFC 6376).
//!
//! Only those are looked up: anybody can sign with a domain whose name servers never answer. The keys are looked up here, each
//! within a deadline of its own, read strictly, and handed to mail-auth, which looks up nothing itself.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Instant};

use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsCache, DnsError, Error, MessageAuthenticator, NoCache, Parameters, ResolverCache, TxtRecord,
    dkim::{DkimError, DomainKey},
    dns::TxtRecordParser as _,
};

use super::{
    claims::Claims,
    key,
    proof::{AuthResult, Coverage, Signature, Weakness},
    resolver::{Answer, Dns},
};
use crate::{
    limits,
    message::{Domain, header::Headers},
};

/// The name of the signature's field.
pub(super) const FIELD: &str = "DKIM-Signature";

/// Whether a signer can speak for an author: it is the author's domain, a parent of it within its organisation, or named
/// for it. A child speaks for its parent only where it is named.
pub(super) fn speaks_for(signer: &Domain, author: &Domain, signers: &[Domain]) -> bool {
    signer == author || (author.is_below(signer) && signer.is_kin_of(author)) || signers.contains(signer)
}

/// A name as it may stand in a log.
pub(super) fn cleaned(name: &str) -> String {
    let mut clean = name.escape_default().to_string();
    clean.truncate(limits::LOGGED_PATH);
    clean
}

/// A signature of the mail, with its tags where they can be read.
pub(super) struct Listed {
    pub(super) signature: Signature,
    pub(super) claims: Option<Claims>,
}

impl Listed {
    /// Whether its key is worth a look-up.
    fn is_open(&self) -> bool {
        self.claims.is_some() && self.signature.weakness.is_none()
    }
}

/// The mail's signatures, topmost first: at most so many that can speak for the author as are looked at, and as many that
/// cannot.
pub(super) fn listed(headers: &Headers<'_>, author: Option<&Domain>, signers: &[Domain], now: i64) -> Vec<Listed> {
    let (mut own, mut others) = (0, 0);
    let mut list = Vec::new();
    for field in headers.named(FIELD) {
        let claims = Claims::dkim(headers.value(field));
        let speaks = claims.as_ref().is_ok_and(|claims| author.is_some_and(|author| speaks_for(&claims.domain, author, signers)));
        let count = if speaks { &mut own } else { &mut others };
        *count += 1;
        if *count > limits::SIGNATURES {
            continue;
        }
        let (result, weakness) = match &claims {
            Ok(_) if !speaks => (AuthResult::None, Some(Weakness::NotTheAuthors)),
            Ok(claims) => claims.weakness(now).map_or((AuthResult::None, None), |weakness| (AuthResult::Policy, Some(weakness))),
            // A signature that cannot be read is neutral (RFC 8601 section 2.7.1).
            Err(weakness) => (AuthResult::Neutral, Some(*weakness)),
        };
        list.push(Listed { signature: described(claims.as_ref().ok(), result, weakness), claims: claims.ok() });
    }
    list
}

fn described(claims: Option<&Claims>, result: AuthResult, weakness: Option<Weakness>) -> Signature {
    Signature {
        domain: claims.map(|claims| claims.domain.clone()),
        selector: claims.map(|claims| cleaned(&claims.selector)).unwrap_or_default(),
        result,
        weakness,
        coverage: claims.map_or_else(Coverage::nothing, |claims| Coverage::Fields(claims.fields.clone())),
        signed_at: claims.and_then(|claims| claims.signed_at),
        aligned: false,
        id: claims.map(Claims::id).unwrap_or_default(),
    }
}

/// The answers of DNS about keys, by their fully qualified names.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<String, Answer<Vec<u8>>>);

impl Keys {
    /// Looks up several keys at one time.
    pub(super) async fn ask<'c>(dns: &Dns, claims: impl Iterator<Item = &'c Claims>) -> Self {
        let mut names: Vec<String> = claims.map(Claims::key_name).collect();
        names.sort_unstable();
        names.dedup();
        Self(dns.texts_of(names).await.into_iter().collect())
    }

    /// The one key record that may verify a signature.
    pub(super) fn of(&self, claims: &Claims) -> Result<&[u8], Weakness> {
        self.0.get(&claims.key_name()).map_or(Err(Weakness::KeyMissing), |answer| key::record(answer, claims))
    }
}

/// The claims whose keys are worth a look-up.
pub(super) fn open(list: &[Listed]) -> impl Iterator<Item = &Claims> {
    list.iter().filter(|listed| listed.is_open()).filter_map(|listed| listed.claims.as_ref())
}

/// Verifies the signatures whose key was found.
pub(super) async fn verify(verifier: &MessageAuthenticator, raw: &[u8], list: &mut [Listed], keys: &Keys) {
    let mut records = Records::default();
    for listed in list.iter_mut().filter(|listed| listed.is_open()) {
        let Some(claims) = &listed.claims else { continue };
        match keys.of(claims).and_then(|record| DomainKey::parse(record).map_err(|_| Weakness::KeyRecord)) {
            Ok(key) => records.add(&claims.key_name(), key.into()),
            Err(weakness) => {
                let result = if weakness == Weakness::NoAnswer { AuthResult::TempError } else { AuthResult::PermError };
                (listed.signature.result, listed.signature.weakness) = (result, Some(weakness));
            }
        }
    }
    if !list.iter().any(Listed::is_open) {
        return;
    }
    // The body is hashed here, once there is something to compare it with.
    let Some(mut mail) = AuthenticatedMessage::parse(raw) else { return };
    let wanted: Vec<&Claims> = open(list).collect();
    mail.retain_dkim_signatures(
        |found| {
            if wanted.iter().any(|claims| claims.agrees(found)) { Ok(()) } else { Err(DkimError::UnsupportedVersion) }
        },
    );
    let outputs = verifier.verify_dkim(Parameters::new(&mail).with_cache(&records)).await;
    for listed in list.iter_mut().filter(|listed| listed.is_open()) {
        let Some(claims) = &listed.claims else { continue };
        let output = outputs.iter().find(|output| output.signature().is_some_and(|found| claims.agrees(found)));
        (listed.signature.result, listed.signature.weakness) = match output {
            // The two readers differ: what mail-auth verified is not what was read here.
            None => (AuthResult::Neutral, Some(Weakness::Malformed)),
            Some(output) if output.is_atps() => (AuthResult::Policy, Some(Weakness::Malformed)),
            Some(output) => outcome(output.result()),
        };
    }
}

/// The result of a signature whose key was found.
pub(super) fn outcome(result: &DkimResult) -> (AuthResult, Option<Weakness>) {
    match result {
        DkimResult::Pass => (AuthResult::Pass, None),
        DkimResult::Neutral(Error::Dkim(DkimError::BodyHashMismatch)) => (AuthResult::Fail, Some(Weakness::BodyHash)),
        DkimResult::Neutral(Error::Dkim(DkimError::SignatureExpired)) => (AuthResult::Policy, Some(Weakness::OutOfTime)),
        DkimResult::Fail(_) => (AuthResult::Fail, Some(Weakness::Forged)),
        DkimResult::TempError(_) => (AuthResult::TempError, Some(Weakness::NoAnswer)),
        DkimResult::PermError(_) => (AuthResult::PermError, Some(Weakness::KeyRecord)),
        DkimResult::Neutral(_) | DkimResult::None => (AuthResult::Neutral, Some(Weakness::Malformed)),
    }
}

/// The records that mail-auth gets; every other name does not exist for it.
#[derive(Default)]
pub(super) struct Records(HashMap<Box<str>, TxtRecord>);

impl Records {
    pub(super) fn add(&mut self, name: &str, record: TxtRecord) {
        self.0.insert(name.to_ascii_lowercase().into(), record);
    }
}

impl ResolverCache<Box<str>, TxtRecord> for Records {
    fn get<Q>(&self, name: &Q) -> Option<TxtRecord>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let nothing = || TxtRecord::Error(Error::Dns(DnsError::InvalidRecordType));
        Some(self.0.get(name).cloned().unwrap_or_else(nothing))
    }

    fn remove<Q>(&self, _: &Q) -> Option<TxtRecord>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: TxtRecord, _: Instant) {}
}

impl DnsCache for Records {
    type Txt = Self;
    type Mx = NoCache;
    type Ipv4 = NoCache;
    type Ipv6 = NoCache;
    type Ptr = NoCache;

    fn txt(&self) -> Option<&Self> {
        Some(self)
    }

    fn mx(&self) -> Option<&NoCache> {
        None
    }

    fn ipv4(&self) -> Option<&NoCache> {
        None
    }

    fn ipv6(&self) -> Option<&NoCache> {
        None
    }

    fn ptr(&self) -> Option<&NoCache> {
        None
    }
}
