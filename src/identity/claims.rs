//! The tags of a DKIM-Signature, an ARC-Message-Signature or an ARC-Seal, read strictly.

use aws_lc_rs::digest;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use mail_auth::crypto::Algorithm;

use super::{
    proof::Weakness,
    tags::{self, Malformed, Tags},
};
use crate::message::Domain;

/// Base64 as signers write it: with padding or without, and with whatever stands in the bits that mean nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// How far a signer's clock may run ahead of ours, in seconds.
const CLOCK_SKEW: i64 = 300;

const KNOWN: &[&str] =
    &["v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x", "z", "r", "cv", "atps", "atpsh", "k", "p", "n", "g"];

/// The tags of one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// `a=`, the algorithm.
    pub(super) algorithm: Algorithm,
    /// `d=`, the signing domain.
    pub(super) domain: Domain,
    /// `s=`, the selector, in lower case.
    pub(super) selector: String,
    /// `h=`, the signed fields, in lower case; empty for a seal.
    pub(super) fields: Vec<String>,
    /// `bh=`, the body hash, decoded; empty for a seal.
    pub(super) body_hash: Vec<u8>,
    /// `b=`, the signature, decoded.
    pub(super) signature: Vec<u8>,
    /// `b=` as it stands, without white space.
    pub(super) signature_text: String,
    /// Whether there is an `l=`, which leaves the end of the body unsigned.
    pub(super) has_length: bool,
    /// `t=`, the time of signing, in seconds since 1970.
    pub(super) signed_at: Option<i64>,
    /// `x=`, the time of expiry, in seconds since 1970.
    pub(super) expires: Option<i64>,
    /// Whether `i=` lies below `d=`.
    pub(super) identity_below: bool,
    /// `i=` of an ARC set, its instance, from 1; 0 for DKIM.
    pub(super) instance: u8,
    /// `cv=` of a seal, the state of the chain before it.
    pub(super) chain: Option<Chain>,
}

/// `cv=` of a seal (RFC 8617 section 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// `none`: the mail had no chain.
    None,
    /// `pass`: the chain was intact.
    Pass,
    /// `fail`: the chain was broken.
    Fail,
}

impl From<Malformed> for Weakness {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Claims {
    /// Reads the value of a DKIM-Signature field (RFC 6376 section 3.5).
    pub(super) fn dkim(value: &[u8]) -> Result<Self, Weakness> {
        let tags = Tags::read(value, KNOWN)?;
        if tags.get("v") != Some("1") {
            return Err(Weakness::Malformed);
        }
        // q= lists how the key is fetched; there is one way (RFC 6376 section 3.5).
        if tags.get("q").is_some_and(|ways| !tags::items(ways).any(|way| way.eq_ignore_ascii_case("dns/txt"))) {
            return Err(Weakness::Malformed);
        }
        let mut claims = Self::message(&tags)?;
        if let Some(identity) = tags.get("i") {
            let identity = tags::squeezed(identity);
            let (_, at) = identity.rsplit_once('@').ok_or(Weakness::Malformed)?;
            let at = Domain::parse(at).map_err(|_| Weakness::Malformed)?;
            if !at.is_within(&claims.domain) {
                return Err(Weakness::Malformed);
            }
            claims.identity_below = at != claims.domain;
        }
        Ok(claims)
    }

    /// Reads the value of an ARC-Message-Signature field (RFC 8617 section 4.1.2): as DKIM-Signature, but `i=` is the
    /// instance and there is no `v=`. `c=` may be left out (simple/simple). An empty `h=` is refused, though the chain
    /// would verify: such a signature covers nothing.
    pub(super) fn arc_message(value: &[u8]) -> Result<Self, Weakness> {
        let tags = Tags::read(value, KNOWN)?;
        let mut claims = Self::message(&tags)?;
        claims.instance = instance(tags.get("i").unwrap_or_default())?;
        if tags.get("cv").is_some() || claims.fields.iter().any(|name| name == "arc-seal") {
            return Err(Weakness::Malformed);
        }
        Ok(claims)
    }

    /// Reads the value of an ARC-Seal field (RFC 8617 section 4.1.3). It signs a fixed list of fields and no body, so that
    /// `h=`, `bh=`, `l=` and `c=` have no place in it.
    pub(super) fn arc_seal(value: &[u8]) -> Result<Self, Weakness> {
        let tags = Tags::read(value, KNOWN)?;
        if ["h", "bh", "l", "c"].iter().any(|name| tags.get(name).is_some()) {
            return Err(Weakness::Malformed);
        }
        let mut claims = Self::common(&tags)?;
        claims.instance = instance(tags.get("i").unwrap_or_default())?;
        claims.chain = Some(match tags.get("cv") {
            Some(word) if word.eq_ignore_ascii_case("none") => Chain::None,
            Some(word) if word.eq_ignore_ascii_case("pass") => Chain::Pass,
            Some(word) if word.eq_ignore_ascii_case("fail") => Chain::Fail,
            _ => return Err(Weakness::Malformed),
        });
        Ok(claims)
    }

    /// The tags of all three: `a`, `b`, `d`, `s`, `t`.
    fn common(tags: &Tags<'_>) -> Result<Self, Weakness> {
        let need = |name: &str| tags.get(name).ok_or(Weakness::Malformed);
        let algorithm = match need("a")?.to_ascii_lowercase().as_str() {
            "rsa-sha256" => Algorithm::RsaSha256,
            "rsa-sha1" => Algorithm::RsaSha1,
            "ed25519-sha256" => Algorithm::Ed25519Sha256,
            _ => return Err(Weakness::Malformed),
        };
        let signature_text = tags::squeezed(need("b")?);
        let signature = decoded(&signature_text)?;
        let (domain, selector) = (need("d")?, need("s")?);
        let domain = Domain::parse(domain).ok().filter(|_| domain.is_ascii()).ok_or(Weakness::Name)?;
        if !is_name(selector) {
            return Err(Weakness::Name);
        }
        let signed_at = tags.number("t", 12)?.map(seconds);
        Ok(Self {
            algorithm,
            domain,
            selector: selector.to_ascii_lowercase(),
            fields: Vec::new(),
            body_hash: Vec::new(),
            signature,
            signature_text,
            has_length: false,
            signed_at,
            expires: None,
            identity_below: false,
            instance: 0,
            chain: None,
        })
    }

    /// The further tags of the two that sign a message: `bh`, `c`, `h`, `l`, `x`.
    fn message(tags: &Tags<'_>) -> Result<Self, Weakness> {
        let mut claims = Self::common(tags)?;
        claims.body_hash = decoded(&tags::squeezed(tags.get("bh").ok_or(Weakness::Malformed)?))?;
        if let Some(ways) = tags.get("c") {
            let is_way = |way: &str| way.eq_ignore_ascii_case("simple") || way.eq_ignore_ascii_case("relaxed");
            let (header, body) = ways.split_once('/').unwrap_or((ways, "simple"));
            if !is_way(header) || !is_way(body) {
                return Err(Weakness::Malformed);
            }
        }
        for name in tags::items(tags.get("h").ok_or(Weakness::Malformed)?) {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Weakness::Malformed);
            }
            claims.fields.push(name.to_ascii_lowercase());
        }
        claims.has_length = tags.number("l", 76)?.is_some();
        claims.expires = tags.number("x", 12)?.map(seconds);
        if claims.expires.zip(claims.signed_at).is_some_and(|(expires, signed_at)| expires <= signed_at) {
            return Err(Weakness::Malformed);
        }
        Ok(claims)
    }

    /// Why the signature is no proof, whatever its key; none where its tags are good.
    pub(super) fn weakness(&self, now: i64) -> Option<Weakness> {
        let covers = |field: &str| self.fields.iter().any(|name| name == field);
        let late = self.expires.is_some_and(|expires| expires <= now);
        let early = self.signed_at.is_some_and(|signed_at| signed_at > now.saturating_add(CLOCK_SKEW));
        if self.algorithm == Algorithm::RsaSha1 {
            Some(Weakness::Sha1)
        } else if self.has_length {
            Some(Weakness::BodyLength)
        } else if !covers("from") {
            Some(Weakness::FromUnsigned)
        } else if !covers("subject") {
            Some(Weakness::SubjectUnsigned)
        } else if late || early {
            Some(Weakness::OutOfTime)
        } else {
            None
        }
    }

    /// Why a seal is not accepted, whatever its key; none where its tags are good.
    pub(super) fn weakness_of_seal(&self) -> Option<Weakness> {
        (self.algorithm == Algorithm::RsaSha1).then_some(Weakness::Sha1)
    }

    /// The id of the signature in replay memory: SHA-256 over `d=`, `s=` and the decoded `b=`, each behind its length.
    pub(super) fn id(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.domain.as_str().as_bytes(), self.selector.as_bytes(), &self.signature] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        id
    }

    /// The fully qualified DNS name of its key, `SELECTOR._domainkey.DOMAIN.`.
    pub(super) fn key_name(&self) -> String {
        format!("{}._domainkey.{}.", self.selector, self.domain)
    }

    /// Whether mail-auth, which verifies it, has read the same; a signature that it reads otherwise is not verified.
    pub(super) fn agrees(&self, other: &mail_auth::dkim::Signature) -> bool {
        let mail_auth::dkim::Signature { v, a, d, s, h, b, bh, l, t, x, .. } = other;
        let own = (1, self.algorithm, self.domain.as_str(), self.selector.as_str(), &self.signature, &self.body_hash);
        own == (*v, *a, d.as_str(), s.to_ascii_lowercase().as_str(), b, bh) && self.agrees_on(h, *l, *t, *x)
    }

    /// As [`Self::agrees`], for an ARC-Message-Signature.
    pub(super) fn agrees_arc(&self, other: &mail_auth::arc::Signature) -> bool {
        let mail_auth::arc::Signature { i, a, d, s, h, b, bh, l, t, x, .. } = other;
        let own =
            (u32::from(self.instance), self.algorithm, self.domain.as_str(), self.selector.as_str(), &self.signature, &self.body_hash);
        own == (*i, *a, d.as_str(), s.to_ascii_lowercase().as_str(), b, bh) && self.agrees_on(h, *l, *t, *x)
    }

    /// As [`Self::agrees`], for an ARC-Seal.
    pub(super) fn agrees_seal(&self, other: &mail_auth::arc::Seal) -> bool {
        let mail_auth::arc::Seal { i, a, d, s, b, t, cv, .. } = other;
        let own = (u32::from(self.instance), self.algorithm, self.domain.as_str(), self.selector.as_str(), &self.signature);
        let chain = match cv {
            mail_auth::arc::ChainValidation::None => Chain::None,
            mail_auth::arc::ChainValidation::Fail => Chain::Fail,
            mail_auth::arc::ChainValidation::Pass => Chain::Pass,
        };
        own == (*i, *a, d.as_str(), s.to_ascii_lowercase().as_str(), b)
            && self.chain == Some(chain)
            && u64::try_from(self.signed_at.unwrap_or(0)) == Ok(*t)
    }

    fn agrees_on(&self, fields: &[String], length: u64, signed_at: u64, expires: u64) -> bool {
        let number = |own: Option<i64>| u64::try_from(own.unwrap_or(0)).unwrap_or(u64::MAX);
        fields.len() == self.fields.len()
            && fields.iter().zip(&self.fields).all(|(one, other)| one.eq_ignore_ascii_case(other))
            && length == 0
            && number(self.signed_at) == signed_at
            && number(self.expires) == expires
    }
}

/// The instance of an ARC field (RFC 8617 section 4.2.1): 1 to 50.
fn instance(value: &str) -> Result<u8, Weakness> {
    let plain = !value.is_empty() && value.len() <= 2 && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| plain && (1..=50).contains(number));
    number.ok_or(Weakness::Malformed)
}

/// Splits an ARC-Authentication-Results value into its instance and what stands behind it (RFC 8617 section 4.1.1).
pub(super) fn arc_results(value: &[u8]) -> Option<(u8, &[u8])> {
    let end = value.iter().position(|byte| *byte == b';')?;
    let (head, rest) = value.split_at_checked(end)?;
    let tags = Tags::read(head, &["i"]).ok()?;
    let (name, number) = tags.first()?;
    (name == "i").then(|| instance(number).ok()).flatten().map(|instance| (instance, rest.get(1..).unwrap_or_default()))
}

fn seconds(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Decodes base64 that may hold no white space any more; nothing is refused.
pub(super) fn decoded(text: &str) -> Result<Vec<u8>, Weakness> {
    BASE64.decode(text).ok().filter(|bytes| !bytes.is_empty()).ok_or(Weakness::Malformed)
}

/// Letters, digits, hyphens, underscores and dots between labels: nothing that a DNS library or a log would read differently.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_tell_signatures_apart() {
        let id = |d: &str, s: &str, b: &str| {
            Claims::dkim(format!("v=1; a=rsa-sha256; d={d}; s={s}; h=from; bh=YQ==; b={b}").as_bytes()).unwrap().id()
        };
        let own = id("bank.test", "s1", "QUJDRA==");
        for (d, s, b) in [("BANK.test", "S1", "QUJDRA"), ("bank.test", "s1", "QUJD\r\n RA=="), ("bank.test", "s1", "QUJDRB==")] {
            assert_eq!(id(d, s, b), own, "{d} {s} {b}: the same octets");
        }
        for (d, s, b) in [("a.bank.test", "s1", "QUJDRA=="), ("bank.test", "s2", "QUJDRA=="), ("bank.test", "s1", "QUJDRQ==")] {
            assert_ne!(id(d, s, b), own, "{d} {s} {b}");
        }
    }

    #[test]
    fn names() {
        for (name, right) in
            [("s1", true), ("a_b-c.d", true), ("", false), (".", false), ("a.", false), ("a..b", false), ("a b", false), ("a\\b", false)]
        {
            assert_eq!(is_name(name), right, "{name:?}");
        }
        assert!(!is_name(&"a".repeat(64)) && is_name(&"a".repeat(63)));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(v=1|a=rsa-sha256|;| |d=a.b|s=x|b=YQ|bh=YQ|h=from|:|i=@|t=1|x=|l=0){0,24}") {
            for value in [bytes.as_slice(), text.as_bytes()] {
                let _ = Claims::dkim(value);
                let _ = Claims::arc_message(value);
                let _ = Claims::arc_seal(value);
                let _ = arc_results(value);
            }
        }

        /// Whatever is read here is read the same by mail-auth, or refused before it is verified.
        #[test]
        fn two_readers_agree(text in "v=1; (d=a.b; |D=x.y; |d =c.d; |s=x; |S=y; |a=rsa-sha256; |h=from:subject; |bh=YQ==; |b=YQ==; |t=1; |i=@a.b; |; ){5,12}") {
            if let (Ok(own), Ok(other)) = (Claims::dkim(text.as_bytes()), mail_auth::dkim::Signature::parse(text.as_bytes())) {
                prop_assert!(own.agrees(&other), "{text}");
            }
        }
    }
}
