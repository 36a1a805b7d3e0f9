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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(instance: u8, cv: &str) -> [String; 3] {
        [
            format!("ARC-Seal: i={instance}; a=rsa-sha256; cv={cv}; d=list.test; s=s1; t=1; b=YQ==\r\n"),
            format!(
                "ARC-Message-Signature: i={instance}; a=rsa-sha256; c=relaxed/relaxed; d=list.test; s=s1; h=from:subject; bh=YQ==; b=YQ==\r\n"
            ),
            format!("ARC-Authentication-Results: i={instance}; mx.list.test; dkim=pass header.d=bank.test\r\n"),
        ]
    }

    fn read(fields: &str) -> Result<usize, Broken> {
        chain(Message::read(format!("{fields}From: a@b.test\r\n\r\n").as_bytes()).headers()).map(|sets| sets.len())
    }

    #[test]
    fn chains() {
        let one = set(1, "none").concat();
        let two = set(2, "pass").concat() + &one;
        let [seal, signature, results] = set(1, "none");
        assert_eq!(read(&one), Ok(1));
        assert_eq!(read(&two), Ok(2));
        assert_eq!(read(&(one.clone() + &set(2, "pass").concat())), Ok(2), "in any order");
        assert_eq!(read(""), Err(Broken::Absent));
        for (what, fields) in [
            ("two sets of one instance", one.repeat(2)),
            ("a gap", set(3, "pass").concat() + &one),
            ("no first", set(2, "pass").concat()),
            ("cv=pass at first", set(1, "pass").concat()),
            ("cv=none at second", set(2, "none").concat() + &one),
            ("cv=fail", set(2, "fail").concat() + &one),
            ("no results", format!("{seal}{signature}")),
            ("no signature", format!("{seal}{results}")),
            ("no seal", format!("{signature}{results}")),
            ("two results", format!("{one}{results}")),
        ] {
            assert_eq!(read(&fields), Err(Broken::Invalid), "{what}");
        }
        let many: String =
            (1..=u8::try_from(limits::SEALS).unwrap() + 1).map(|at| set(at, if at == 1 { "none" } else { "pass" }).concat()).collect();
        assert_eq!(read(&many), Err(Broken::TooLong));
    }

    /// The rules of RFC 8617 for one field, each with its twin.
    #[test]
    fn fields() {
        let one = set(1, "none").concat();
        for (from, right, wrong) in [
            ("c=relaxed/relaxed; ", "", "c=relaxed/relaxed; c=relaxed/relaxed; "),
            ("a=rsa-sha256; c=", "a=rsa-sha256; xy=1; c=", "c="),
            ("a=rsa-sha256; cv", "a=rsa-sha256; zz=1; cv", "cv"),
            ("h=from:subject", "h=from:subject:dkim-signature", "h=from:arc-seal:subject"),
            ("h=from:subject", "h = from : subject", "h="),
            ("h=from:subject; bh", "h=from:subject; bh", "bh"),
            ("cv=none", "cv=None", "cv="),
            ("cv=none", "cv = none", "cv=none; cv=none"),
            ("cv=none; d=list.test", "cv=none; d=LIST.test", "cv=none; d=list.test; d=attack.test"),
            ("cv=none; d=list.test", "cv=none;\r\n\td=list.test", "cv=none; D=list.test"),
            ("cv=none; d", "zz=h; cv=none; d", "cv=none; h=from; d"),
            ("cv=none; d", "cv=none; d", "cv=none; bh=YQ==; d"),
            ("cv=none; d", "cv=none; d", "cv=none;; d"),
            ("cv=none; d", "cv=none; d", "cv=none; no_value; d"),
            ("cv=none; d", "cv=none; d", "cv=none; 1x=y; d"),
            ("i=1; a=rsa-sha256; cv", "i = 1 ; a=rsa-sha256; cv", "i=0; a=rsa-sha256; cv"),
            ("i=1; a=rsa-sha256; cv", "i=01; a=rsa-sha256; cv", "i=51; a=rsa-sha256; cv"),
            ("i=1; a=rsa-sha256; cv", "i=1; a=RSA-SHA256; cv", "i=1; i=1; a=rsa-sha256; cv"),
            ("i=1; mx", "i = 1 ; mx", "i=1 2; mx"),
            ("i=1; mx", "i=1 ; mx", "I=1; mx"),
            ("i=1; mx", "\r\n i=1; mx", "j=1; mx"),
            ("t=1; b", "b", "t=x; b"),
            ("s=s1; t", "s=S1; t", "s=s1.; t"),
        ] {
            assert!(one.contains(from), "{from}");
            assert_eq!(read(&one.replace(from, right)), Ok(1), "{right}");
            assert_eq!(read(&one.replace(from, wrong)), Err(Broken::Invalid), "{wrong}");
        }
    }

    /// What large sealers write is read.
    #[test]
    fn results_of_large_sealers() {
        for value in [
            &b" i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=bank.test;\r\n dmarc=pass action=none header.from=bank.test; dkim=pass\r\n header.d=bank.test; arc=none"[..],
            b" i=1; mx.google.com;\r\n       dkim=pass header.i=@bank.test header.s=s1 header.b=abc;\r\n       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=bank.test",
        ] {
            let (instance, rest) = arc_results(value).unwrap();
            let results = Results::parse(unfolded(rest).unwrap().trim()).unwrap();
            assert_eq!(instance, 1);
            assert!(results.methods.iter().any(|method| method.name == "dmarc" && method.result == AuthResult::Pass));
        }
        assert_eq!(arc_results(b" mx.test; dmarc=pass header.from=bank.test"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), text in "(i=1|a=rsa-sha256|cv=none|;| |d=|s=|b=YQ==|h=from){0,20}") {
            for value in [bytes.as_slice(), text.as_bytes()] {
                for name in [SEAL, SIGNATURE, RESULTS] {
                    let raw = [name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
                    let _ = chain(Message::read(&raw).headers());
                }
            }
        }
    }
}
