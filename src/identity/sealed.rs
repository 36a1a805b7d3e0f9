//! ARC: what a sealer that the admin named says of a mail that it changed (RFC 8617).
//!
//! A mailing list or a gateway in front of the hop breaks the sender's DKIM signature. Where it seals, its first
//! ARC-Authentication-Results field tells what held when the mail came to it. Anybody can seal anything, so a chain is
//! looked at only where every seal is of a domain in `identity.arc_sealers`, before a single key is looked up. What counts
//! is what the sender's own signature covered, as its field still says, and of that what the newest
//! ARC-Message-Signature covers too: what either leaves out, anybody could have changed. The seal must cover that field.

use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, dkim::DomainKey, dns::TxtRecordParser as _};

use super::{
    claims::{Chain, Claims, arc_results},
    dkim::{self, Keys, Records},
    proof::{AuthResult, Coverage, Identity, Seen, Source, Weakness},
    resolver::Dns,
    results::Results,
    upstream::{self, Question},
};
use crate::{
    limits,
    message::{
        Domain, Message,
        header::{Field, Headers},
    },
};

const SEAL: &str = "ARC-Seal";
const SIGNATURE: &str = "ARC-Message-Signature";
const RESULTS: &str = "ARC-Authentication-Results";

/// One set of a chain.
pub(super) struct Set<'m> {
    pub(super) seal: Claims,
    pub(super) signature: Claims,
    pub(super) results: &'m [u8],
}

/// Why a chain is not looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There is none.
    Absent,
    /// It is not as RFC 8617 wants it.
    Invalid,
    /// It has more sets than are looked at.
    TooLong,
}

/// The sets of a mail, the first sealer's first (RFC 8617 section 5.2): 1, 2, 3 ..., one of each field, `cv=none` in the
/// first and `pass` in all others.
pub(super) fn chain<'m>(headers: &Headers<'m>) -> Result<Vec<Set<'m>>, Broken> {
    let fields = |name: &'static str| headers.fields().iter().filter(|field| headers.is_named(field, name)).collect::<Vec<&Field>>();
    let (seals, signatures, results) = (fields(SEAL), fields(SIGNATURE), fields(RESULTS));
    if seals.is_empty() && signatures.is_empty() && results.is_empty() {
        return Err(Broken::Absent);
    }
    if seals.len() != signatures.len() || seals.len() != results.len() {
        return Err(Broken::Invalid);
    }
    if seals.len() > limits::SEALS {
        return Err(Broken::TooLong);
    }
    let read = |fields: Vec<&Field>, reader: fn(&[u8]) -> Result<Claims, Weakness>| {
        let mut claims =
            fields.into_iter().map(|field| reader(headers.value(field))).collect::<Result<Vec<_>, _>>().map_err(|_| Broken::Invalid)?;
        claims.sort_by_key(|claims| claims.instance);
        Ok(claims)
    };
    let (seals, signatures) = (read(seals, Claims::arc_seal)?, read(signatures, Claims::arc_message)?);
    let mut told: Vec<(u8, &[u8])> =
        results.into_iter().map(|field| arc_results(headers.value(field))).collect::<Option<_>>().ok_or(Broken::Invalid)?;
    told.sort_by_key(|(instance, _)| *instance);
    let mut sets = Vec::new();
    for ((at, (seal, signature)), (instance, results)) in (1_u8..).zip(seals.into_iter().zip(signatures)).zip(told) {
        let chain = if at == 1 { Chain::None } else { Chain::Pass };
        if seal.instance != at || signature.instance != at || instance != at || seal.chain != Some(chain) {
            return Err(Broken::Invalid);
        }
        sets.push(Set { seal, signature, results });
    }
    Ok(sets)
}

/// What the chain says: its result and, where it can be believed, the identity that its first sealer found.
pub(super) async fn ask(
    verifier: &MessageAuthenticator,
    dns: &Dns,
    message: &Message<'_>,
    sealers: &[Domain],
    question: &Question<'_>,
) -> (AuthResult, Option<Identity>) {
    let sets = match chain(message.headers()) {
        Ok(sets) => sets,
        Err(Broken::Absent | Broken::TooLong) => return (AuthResult::None, None),
        Err(Broken::Invalid) => return (AuthResult::Fail, None),
    };
    let all = || sets.iter().flat_map(|set| [&set.seal, &set.signature]);
    if !all().all(|claims| sealers.contains(&claims.domain)) {
        return (AuthResult::None, None);
    }
    let (Some(first), Some(newest)) = (sets.first(), sets.last()) else { return (AuthResult::None, None) };
    if sets.iter().any(|set| set.seal.weakness_of_seal().is_some()) || newest.signature.weakness(question.now).is_some() {
        return (AuthResult::Policy, None);
    }
    let keys = Keys::ask(dns, sets.iter().map(|set| &set.seal).chain([&newest.signature])).await;
    let mut records = Records::default();
    for claims in sets.iter().map(|set| &set.seal).chain([&newest.signature]) {
        match keys.of(claims).and_then(|record| DomainKey::parse(record).map_err(|_| Weakness::KeyRecord)) {
            Ok(key) => records.add(&claims.key_name(), key.into()),
            Err(Weakness::NoAnswer) => return (AuthResult::TempError, None),
            Err(_) => return (AuthResult::PermError, None),
        }
    }
    let Some(mail) = AuthenticatedMessage::parse(message.raw()) else { return (AuthResult::Fail, None) };
    let output = verifier.verify_arc(Parameters::new(&mail).with_cache(&records)).await;
    if *output.result() != DkimResult::Pass {
        return (dkim::outcome(output.result()).0, None);
    }
    // Both readers must have read the same.
    let same = output.chain().len() == sets.len()
        && output
            .chain()
            .iter()
            .zip(&sets)
            .all(|(link, set)| set.seal.agrees_seal(link.seal.header) && set.signature.agrees_arc(link.signature.header));
    let results = unfolded(first.results).and_then(|text| Results::parse(text.trim()).ok());
    let (Some(results), true) = (results, same) else { return (AuthResult::Fail, None) };
    let covered = Coverage::Fields(newest.signature.fields.clone());
    let mut identity = upstream::identity(&results.methods, &Question { sealed: Some(&covered), ..*question });
    identity.source = Source::Sealer(first.seal.domain.clone());
    if !matches!(covered.of(message.headers(), dkim::FIELD), Seen::Covered(_)) {
        for signature in &mut identity.dkim {
            signature.weakness.get_or_insert(Weakness::Unsealed);
            signature.aligned = false;
        }
    }
    (AuthResult::Pass, Some(identity))
}

fn unfolded(value: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(value).ok()?.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect())
}
