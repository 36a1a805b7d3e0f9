//! ARC: what a sealer that the admin named says of a mail that it changed (RFC 8617).
//!
//! A mailing list or a gateway in front of the hop breaks the sender's DKIM signature. Where it seals, its first
//! ARC-Authentication-Results field tells what held when the mail came to it. Anybody can seal anything, so a chain is
//! looked at only where every seal is of a domain in `identity.arc_sealers`, before a single key is looked up. The newest
//! ARC-Message-Signature stands in for the broken signature: what it leaves out, anybody could have changed since.

use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, crypto::Algorithm};

use super::{
    Claims, dkim_result, is_name,
    proof::{AuthResult, Identity, Source},
    results::Results,
    weakness, weakness_of_key,
};
use crate::{
    limits,
    message::{Domain, Message, header::Headers},
};

const SEAL: &str = "ARC-Seal";
const SIGNATURE: &str = "ARC-Message-Signature";

/// What the chain says: its result and, where it can be believed, the identity that its first sealer found.
pub(super) async fn ask(
    dns: &MessageAuthenticator,
    mail: &AuthenticatedMessage<'_>,
    message: &Message<'_>,
    sealers: &[Domain],
    author: Option<&Domain>,
    now: u64,
) -> (AuthResult, Option<Identity>) {
    if !all_named(message.headers(), sealers) {
        return (AuthResult::None, None);
    }
    let output = dns.verify_arc(mail).await;
    let result = dkim_result(output.result());
    let (DkimResult::Pass, Some(first), Some(newest)) = (output.result(), output.chain().first(), output.chain().last()) else {
        return (result, None);
    };
    let signature = newest.signature.header;
    let claims = Claims::of_sealer(signature);
    let weak = output.chain().iter().any(|set| set.seal.header.a == Algorithm::RsaSha1)
        || weakness(&claims, now).is_some()
        || weakness_of_key(dns, &claims).await.is_some();
    let (Some(results), false) = (first_results(first.results.value), weak) else { return (AuthResult::Policy, None) };
    let mut identity = results.identity(author);
    identity.source = Domain::parse(&first.seal.header.d).map_or(Source::Nobody, Source::Sealer);
    let covers: Vec<String> = signature.h.iter().map(|name| name.to_ascii_lowercase()).collect();
    for found in &mut identity.dkim {
        found.covers = Some(covers.clone());
        found.signed_at = signature.t;
    }
    (result, Some(identity))
}

/// Whether there is a chain of bounded length, and each seal and signature in it is of a named domain. It also bounds what
/// is looked up: one key for each.
fn all_named(headers: &Headers<'_>, sealers: &[Domain]) -> bool {
    let mut seals = 0;
    for field in headers.fields() {
        let is_seal = headers.is_named(field, SEAL);
        if !is_seal && !headers.is_named(field, SIGNATURE) {
            continue;
        }
        seals += usize::from(is_seal);
        let value = headers.unfolded(field);
        let Ok(text) = std::str::from_utf8(&value) else { return false };
        let tag = |name: &str| text.split(';').filter_map(|tag| tag.split_once('=')).find(|(known, _)| known.trim() == name);
        let named = tag("d").and_then(|(_, domain)| Domain::parse(domain.trim()).ok()).is_some_and(|domain| sealers.contains(&domain));
        let selector = tag("s").is_some_and(|(_, selector)| is_name(selector.trim()));
        if !named || !selector || seals > limits::SEALS {
            return false;
        }
    }
    seals > 0
}

/// The results of an ARC-Authentication-Results field: `i=1;` and then what stands in Authentication-Results (RFC 8617
/// section 4.1.1).
fn first_results(value: &[u8]) -> Option<Results> {
    let unfolded: String = std::str::from_utf8(value).ok()?.split("\r\n").collect();
    let (instance, rest) = unfolded.trim().split_once(';')?;
    let (name, number) = instance.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("i") || number.trim() != "1" {
        return None;
    }
    Results::parse(rest.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_large_sealers_write() {
        let author = Domain::parse("bank.test").unwrap();
        for value in [
            " i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=bank.test;\r\n dmarc=pass action=none header.from=bank.test; dkim=pass\r\n header.d=bank.test; arc=none\r\n",
            " i=1; mx.google.com;\r\n       dkim=pass header.i=@bank.test header.d=bank.test header.s=s1 header.b=abc;\r\n       spf=pass (google.com: domain of a@bank.test designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@bank.test;\r\n       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=bank.test\r\n",
        ] {
            let identity = first_results(value.as_bytes()).unwrap().identity(Some(&author));
            assert_eq!(identity.dmarc, AuthResult::Pass, "{value}");
        }
        assert_eq!(first_results(b" i=2; mx.test; dmarc=pass header.from=bank.test"), None);
        assert_eq!(first_results(b" mx.test; dmarc=pass header.from=bank.test"), None);
    }

    #[test]
    fn every_seal_must_be_of_a_named_domain() {
        let sealers = [Domain::parse("list.test").unwrap()];
        let named = |raw: &str| all_named(&Headers::read(raw.as_bytes()), &sealers);
        let own = "ARC-Seal: i=1; a=rsa-sha256; d=list.test;\r\n s=s1; b=x\r\nARC-Message-Signature: i=1; d=list.test; s=s1; b=x\r\n";
        assert!(named(&format!("{own}\r\n")));
        assert!(named(&format!("{}\r\n", own.repeat(limits::SEALS))));
        assert!(!named(&format!("{}\r\n", own.repeat(limits::SEALS + 1))));
        assert!(!named("From: a@b.test\r\n\r\n"));
        assert!(!named(&format!("{own}{}\r\n", own.replace("list.test", "attack.test"))));
        assert!(!named(&format!("{}\r\n", own.replace("s=s1", "s=a b"))));
    }
}
