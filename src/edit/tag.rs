//! The tag that the scanner's rule looks for, its signature, and the removal of every header that looks like it.
//!
//! The tag is a static token, because mail-flow rules can only compare text. It is therefore removed from every mail that comes
//! in, before anything is decided; by the signature beside it a hop that has the key can verify that the tag belongs to this
//! mail.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;

use super::Patch;
pub use super::token::Token;
use crate::{
    identity::results,
    message::{Message, header::Headers},
};

/// Headers that make Exchange leave a mail alone. From outside they are always forgeries.
const ALWAYS_REMOVED: &[&str] =
    &["X-MS-Exchange-Organization-SkipSafeLinksProcessing", "X-MS-Exchange-Organization-SkipSafeAttachmentProcessing"];

/// A key of 32 octets. Does not print itself.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// Reads a key as `keygen` writes it: 32 octets in base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() == 32)?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A key for another purpose, so that no two uses share one.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, purpose.as_bytes()).as_ref()))
    }

    /// 32 octets for another purpose, derived from this key.
    pub(super) fn octets(&self, purpose: &str) -> [u8; 32] {
        self.derive(purpose).digest(b"octets")
    }

    /// A keyed hash of a text of any length: HMAC-SHA-256 over its length in 8 octets, the highest first, and itself.
    #[must_use]
    pub fn digest(&self, text: &[u8]) -> [u8; 32] {
        self.over(&[text]).as_ref().try_into().unwrap_or_default()
    }

    /// HMAC-SHA-256 over length-prefixed pieces, so that no two lists of pieces give the same octets.
    fn over(&self, pieces: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for piece in pieces {
            context.update(&(piece.len() as u64).to_be_bytes());
            context.update(piece);
        }
        context.sign()
    }

    /// A short keyed hash of a link, 16 hexadecimal digits, by which the audit identifies it without holding it.
    #[must_use]
    pub fn fingerprint(&self, secret: &str) -> String {
        let tag = self.over(&[secret.as_bytes()]);
        hexadecimal(tag.as_ref().get(..8).unwrap_or_default())
    }
}

/// Octets in hexadecimal, in lower case.
#[must_use]
pub fn hexadecimal(octets: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    let mut text = String::with_capacity(octets.len() * 2);
    text.extend(octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]));
    text
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The header, tokens and keys of tags.
#[derive(Clone, Debug)]
pub struct Tagger {
    /// The name of the header; its signature stands in `NAME-Signature`.
    pub header: String,
    /// The tokens, the newest first, which is the one that is written.
    pub tokens: Vec<Token>,
    /// The tokens that no mail carries yet.
    pub staged: Vec<Token>,
    /// The keys, the newest first; the newest signs, all verify.
    pub keys: Vec<Key>,
    /// The hop's own domain name: Authentication-Results that claim it are removed.
    pub authserv_id: String,
}

impl Tagger {
    /// The name of the header that holds the signature.
    #[must_use]
    pub fn signature_header(&self) -> String {
        format!("{}-Signature", self.header)
    }

    /// The patches that remove every header that only the hop itself may write, in any spelling and any number. Linear in the
    /// header's octets; empty for most mails.
    #[must_use]
    pub fn removals(&self, headers: &Headers<'_>) -> Vec<Patch> {
        let signature = self.signature_header();
        let forged = headers.fields().iter().filter(|field| {
            let is = |name: &str| headers.is_named(field, name);
            is(&self.header)
                || is(&signature)
                || ALWAYS_REMOVED.iter().any(|name| is(name))
                || is(results::FIELD) && results::claims(headers.value(field), &self.authserv_id)
        });
        forged.map(|field| Patch { at: field.whole.clone(), with: Vec::new() }).collect()
    }

    /// The tag and its signature, as a patch on top of the mail. None where there is no token or no key.
    #[must_use]
    pub fn tag(&self, message: &Message<'_>, entry: &str, now: Timestamp) -> Option<Patch> {
        let (token, key) = (self.tokens.first()?, self.keys.first()?);
        let time = now.as_second().to_string();
        let body = body_hash(message);
        let proof = sign(key, message, entry, &time, &body);
        let with = format!(
            "{name}: {token}\r\n{name}-Signature: v=1; entry={entry}; t={time};\r\n\th={body};\r\n\tb={proof}\r\n",
            name = self.header,
            token = token.expose(),
            proof = BASE64.encode(proof.as_ref()),
        );
        Some(Patch { at: 0..0, with: with.into_bytes() })
    }

    /// Whether a mail has a tag and a signature by one of the keys that belongs to it.
    #[must_use]
    pub fn verifies(&self, message: &Message<'_>) -> bool {
        let headers = message.headers();
        let token = headers.first(&self.header).unwrap_or_default();
        if !self.tokens.iter().any(|known| known.expose().as_bytes() == token) {
            return false;
        }
        let value = headers.first(&self.signature_header()).unwrap_or_default();
        let Ok(value) = std::str::from_utf8(&value) else { return false };
        let tag = |name: &str| {
            value
                .split(';')
                .filter_map(|tag| tag.trim().split_once('='))
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
        };
        let (Some(entry), Some(time), Some(body), Some(proof)) = (tag("entry"), tag("t"), tag("h"), tag("b")) else { return false };
        let Ok(proof) = BASE64.decode(proof) else { return false };
        tag("v").as_deref() == Some("1")
            && body == body_hash(message)
            && self.keys.iter().any(|key| {
                let expected = sign(key, message, &entry, &time, &body);
                aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &proof).is_ok()
            })
    }
}

/// The entry, the time, what names the mail and its people, and the body: a signature cannot be moved to another mail.
fn sign(key: &Key, message: &Message<'_>, entry: &str, time: &str, body: &str) -> hmac::Tag {
    let field = |name: &str| message.headers().first(name).unwrap_or_default();
    key.over(&[entry.as_bytes(), time.as_bytes(), &field("Message-ID"), &field("From"), &field("To"), body.as_bytes()])
}

/// SHA-256 of the body without the blank lines at its end, as RFC 6376 section 3.4.3 hashes it: some servers add one.
fn body_hash(message: &Message<'_>) -> String {
    let mut body = message.raw().get(message.headers().body()..).unwrap_or_default();
    while let Some(rest) = body.strip_suffix(b"\r\n") {
        body = rest;
    }
    BASE64.encode(digest::digest(&digest::SHA256, body).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::apply;

    fn tagger() -> Tagger {
        Tagger {
            header: "X-Firstclick".into(),
            tokens: vec![Token::parse("test-token").unwrap()],
            staged: Vec::new(),
            keys: vec![Key::parse(&BASE64.encode([7; 32])).unwrap()],
            authserv_id: "hop.test".into(),
        }
    }

    const MAIL: &[u8] = b"From: a@bank.test\r\nTo: b@corp.example\r\nMessage-ID: <1@bank.test>\r\n\r\nbody\r\n";

    #[test]
    fn a_tag_belongs_to_its_mail() {
        let tagger = tagger();
        let patch = tagger.tag(&Message::read(MAIL), "bank", Timestamp::UNIX_EPOCH).unwrap();
        let tagged = apply(MAIL, &[patch]).unwrap();
        assert!(tagged.ends_with(MAIL));
        assert!(tagger.verifies(&Message::read(&tagged)));
        assert!(!tagger.verifies(&Message::read(MAIL)));
        let text = String::from_utf8(tagged).unwrap();
        for (from, to) in [
            ("a@bank.test", "c@bank.test"),
            ("b@corp", "c@corp"),
            ("<1@", "<2@"),
            ("body", "Body"),
            ("entry=bank", "entry=bonk"),
            ("t=0", "t=1"),
            ("test-token", "test-taken"),
        ] {
            let moved = text.replacen(from, to, 1);
            assert!(!tagger.verifies(&Message::read(moved.as_bytes())), "{from}");
        }
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    }

    #[test]
    fn forged_voices_are_removed_however_written() {
        let forged = "x-firstclick: test-token\r\nX-FIRSTCLICK\r\n : a\r\nX-Firstclick : b\r\nX-Firstclick\0: c\r\nX-Firstclick-Signature: v=1;\r\n b=x\r\n\
             X-MS-Exchange-Organization-SkipSafeLinksProcessing: 1\r\nAuthentication-Results: HOP.test; dkim=pass\r\n";
        let kept = "X-Firstclick-Other: d\r\nAuthentication-Results: mx.test; dkim=pass\r\nFrom: a@b\r\n\r\nX-Firstclick: in the body\r\n";
        let raw = format!("{forged}{kept}");
        let tagger = tagger();
        let removals = tagger.removals(&Headers::read(raw.as_bytes()));
        assert_eq!(String::from_utf8(apply(raw.as_bytes(), &removals).unwrap()).unwrap(), kept);
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", tagger()).matches("test-token").count(), 0);
    }
}
