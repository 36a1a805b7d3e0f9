//! GuardLink guard links: the one-time link, who it was for and until when, in an address that only the hop can open.
//!
//! AES-256-GCM-SIV (RFC 8452): nothing to store, nothing to tamper with, and any replica with a key of the ring opens what
//! another one sealed. The nonce is a keyed hash of what is sealed, so that sealing is a pure function; this cipher is made
//! to be safe where a nonce repeats for the same text.
//!
//! A guard link stands in plain text too, so it is as short as a link can be that needs no store: what is sealed is packed
//! first. Key mark, nonce and authentication take 29 octets, which is 39 characters, beside the one-time link's own token.
//!
//! Where the hop has a folder for them, the sealed value is stored there instead, and the guard link is its name alone
//! ([`ShortLink`]).

use std::{fmt, time::Duration};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::Timestamp;

use super::{link_id::LinkId, pack, tag::Key};

/// What a guard link holds.
#[derive(Clone, PartialEq, Eq)]
pub struct GuardLink {
    /// The one-time link. A secret: it is shown to nobody but the reader's browser, in the answer to a press.
    pub link: String,
    /// The hop's id of the mail.
    pub mail: String,
    /// The entry that acted.
    pub entry: String,
    /// The domain of the mail's author.
    pub author: String,
    /// The recipient, where there was one alone; empty otherwise.
    pub recipient: String,
    /// When the mail was decided.
    pub at: Timestamp,
    /// From when on it no longer opens.
    pub until: Timestamp,
}

impl fmt::Debug for GuardLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardLink(mail {}, entry {})", self.mail, self.entry)
    }
}

/// Seals and opens guard links.
#[derive(Clone, Debug)]
pub struct GuardLinkKeys {
    /// Where the guard page is, as readers reach it: `https://links.corp.example`, without a slash at the end.
    pub url: String,
    /// The keys, the newest first: it seals, all open.
    pub keys: Vec<SealKey>,
    /// How long a guard link opens.
    pub lifetime: Duration,
}

/// A guard link that is the name of what it holds.
#[derive(Clone, Debug)]
pub struct ShortLink {
    /// The link, as it stands in the mail.
    pub url: String,
    /// What must be stored before the mail leaves, so that the link opens.
    pub stored: StoredLink,
}

/// What is stored of a guard link.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredLink {
    /// Its name.
    pub id: LinkId,
    /// The sealed value in base64 (RFC 4648 section 5), at most [`STORED`] octets. Nobody reads it without a key of the ring.
    pub value: String,
}

impl fmt::Debug for StoredLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredLink({:?})", self.id)
    }
}

/// A key of the ring. Does not print itself.
#[derive(Clone)]
pub struct SealKey {
    cipher: std::sync::Arc<LessSafeKey>,
    nonces: Key,
    ids: Key,
    /// Marks which key sealed, so that opening does not try all. Not a secret.
    mark: u8,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl SealKey {
    /// A key as `keygen` writes it, for this purpose.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = Key::parse(text)?;
        let cipher = UnboundKey::new(&AES_256_GCM_SIV, &key.octets("guard-seal")).ok()?;
        let mark = key.octets("guard-mark").first().copied().unwrap_or(0);
        let cipher = std::sync::Arc::new(LessSafeKey::new(cipher));
        Some(Self { cipher, nonces: key.derive("guard-nonce"), ids: key.derive("guard-id"), mark })
    }

    /// The name of what this key sealed.
    fn id(&self, value: &[u8], until: Timestamp) -> Option<LinkId> {
        LinkId::new(until, &self.ids.digest(value))
    }
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No key of the ring sealed it, or it was changed.
    #[error("it was not sealed here")]
    Foreign,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl GuardLinkKeys {
    /// The guard link that holds this whole; none where there is no key or the link is too long to be sealed.
    #[must_use]
    pub fn seal(&self, sealed: &GuardLink) -> Option<String> {
        let (_, value) = self.sealed(sealed)?;
        let link = format!("{}{PATH}{}", self.url, BASE64.encode(value));
        (link.len() <= LONGEST).then_some(link)
    }

    /// The guard link for this where it is stored: the same for the same. None where there is no key, the link is too long to
    /// be sealed, or it opens beyond the days that names can tell ([`LinkId`]).
    #[must_use]
    pub fn shorten(&self, sealed: &GuardLink) -> Option<ShortLink> {
        let (key, value) = self.sealed(sealed)?;
        let stored = StoredLink { id: key.id(&value, sealed.until)?, value: BASE64.encode(value) };
        (stored.value.len() <= STORED).then(|| ShortLink { url: format!("{}{SHORT_PATH}{}", self.url, stored.id), stored })
    }

    fn sealed(&self, sealed: &GuardLink) -> Option<(&SealKey, Vec<u8>)> {
        let key = self.keys.first()?;
        let mut text = vec![VERSION];
        let at = u32::try_from(sealed.at.as_second()).ok()?;
        let until = u32::try_from(sealed.until.as_second()).ok()?;
        text.extend_from_slice(&at.to_be_bytes());
        text.extend_from_slice(&until.to_be_bytes());
        let fields = [&sealed.link, &sealed.mail, &sealed.entry, &sealed.author, &sealed.recipient];
        if fields.iter().any(|field| field.contains(BETWEEN)) || fields.iter().map(|field| field.len()).sum::<usize>() > FIELDS {
            return None;
        }
        text.extend(pack::pack(fields.map(String::as_str).join(BETWEEN).as_bytes())?);
        let nonce: [u8; NONCE_LEN] = key.nonces.digest(&text).get(..NONCE_LEN)?.try_into().ok()?;
        let mut value = vec![key.mark];
        value.extend_from_slice(&nonce);
        key.cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut text).ok()?;
        value.extend_from_slice(&text);
        Some((key, value))
    }

    /// Opens the last part of a guard link's path.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of what was sealed is known then, but that it has expired.
    pub fn open(&self, value: &str, now: Timestamp) -> Result<GuardLink, OpenError> {
        let (_, _, sealed) = self.opened(value, LONGEST).ok_or(OpenError::Foreign)?;
        in_time(sealed, now)
    }

    /// Opens what was stored under a name. What stands there under another name than its own does not open.
    ///
    /// # Errors
    /// As [`GuardLinkKeys::open`].
    pub fn open_stored(&self, stored: &StoredLink, now: Timestamp) -> Result<GuardLink, OpenError> {
        let (key, value, sealed) = self.opened(&stored.value, STORED).ok_or(OpenError::Foreign)?;
        if key.id(&value, sealed.until) != Some(stored.id) {
            return Err(OpenError::Foreign);
        }
        in_time(sealed, now)
    }

    fn opened(&self, value: &str, longest: usize) -> Option<(&SealKey, Vec<u8>, GuardLink)> {
        if value.len() > longest {
            return None;
        }
        let value = BASE64.decode(value).ok()?;
        let (mark, rest) = value.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        let (key, sealed) = self.keys.iter().filter(|key| key.mark == *mark).find_map(|key| {
            let mut text = sealed.to_vec();
            let opened = key.cipher.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut text).ok()?;
            Some((key, read(opened)?))
        })?;
        Some((key, value, sealed))
    }
}

fn in_time(sealed: GuardLink, now: Timestamp) -> Result<GuardLink, OpenError> {
    if now >= sealed.until { Err(OpenError::Expired) } else { Ok(sealed) }
}

fn read(text: &[u8]) -> Option<GuardLink> {
    let (version, mut rest) = text.split_first()?;
    if *version != VERSION {
        return None;
    }
    let mut take = |count: usize| {
        let (piece, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(piece)
    };
    let mut time = || Timestamp::from_second(i64::from(u32::from_be_bytes(take(4)?.try_into().ok()?))).ok();
    let (at, until) = (time()?, time()?);
    let fields = String::from_utf8(pack::unpack(rest, FIELDS + 4)?).ok()?;
    let mut fields = fields.split(BETWEEN).map(str::to_owned);
    let sealed = GuardLink {
        link: fields.next()?,
        mail: fields.next()?,
        entry: fields.next()?,
        author: fields.next()?,
        recipient: fields.next()?,
        at,
        until,
    };
    fields.next().is_none().then_some(sealed)
}

/// The path in front of a sealed value.
pub const PATH: &str = "/c/";
/// The path in front of the name of a stored one.
pub const SHORT_PATH: &str = "/s/";
/// What these keys are for, so that nothing sealed for another purpose opens here.
const PURPOSE: &[u8] = b"firstclick guard link";
const VERSION: u8 = 2;
/// What stands between the fields; none holds it.
const BETWEEN: &str = "\0";
/// Octets of the fields together: a guard link of the longest length holds no more.
const FIELDS: usize = 4_096;
/// Octets of the longest guard link: mail programs and browsers take 2,000. Where a line of the mail would not hold it (RFC
/// 5322 section 2.1.1), its part is encoded anew.
pub const LONGEST: usize = 2_000;
/// Octets of the longest value that is stored: all fields, where packing makes none of them shorter, have 5,700.
pub const STORED: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: u8) -> SealKey {
        use base64::engine::general_purpose::STANDARD;
        SealKey::parse(&STANDARD.encode([letter; 32])).unwrap()
    }

    fn sealed() -> GuardLink {
        GuardLink {
            link: format!("https://login.vendor.test/reset/{}?lang=de", "a1B2".repeat(30)),
            mail: "1a20ecd86fca5b1238a".into(),
            entry: "vendor".into(),
            author: "vendor.test".into(),
            recipient: "bob@corp.example".into(),
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            until: Timestamp::from_second(1_800_600_000).unwrap(),
        }
    }

    fn ring(letters: &[u8]) -> GuardLinkKeys {
        let keys = letters.iter().map(|letter| key(*letter)).collect();
        GuardLinkKeys { url: "https://links.corp.example".into(), keys, lifetime: Duration::from_hours(24) }
    }

    #[test]
    fn it_opens_what_it_sealed_and_nothing_else() {
        let link = ring(&[1]).seal(&sealed()).unwrap();
        assert!(link.len() < 280, "{} characters", link.len());
        let value = link.rsplit('/').next().unwrap();
        let now = Timestamp::from_second(1_800_000_100).unwrap();
        assert_eq!(ring(&[1]).open(value, now), Ok(sealed()));
        // The ring has turned, and the old key still opens.
        assert_eq!(ring(&[2, 1]).open(value, now), Ok(sealed()));
        assert_eq!(ring(&[2]).open(value, now), Err(OpenError::Foreign));
        assert_eq!(ring(&[1]).open(value, sealed().until), Err(OpenError::Expired));
        for at in 0..value.len() {
            let mut bent = value.as_bytes().to_vec();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap();
            assert!(ring(&[1]).open(&bent, now).is_err(), "octet {at}");
            assert!(ring(&[1]).open(value.get(..at).unwrap(), now).is_err(), "cut at {at}");
        }
        for odd in ["", "x", "\u{e4}", &"A".repeat(100_000)] {
            assert_eq!(ring(&[1]).open(odd, now), Err(OpenError::Foreign));
        }
    }

    /// What is sealed of usual links. Before packing: 259, 244, 272, 272, 384 characters.
    #[test]
    fn guard_links_are_short() {
        for (link, most) in [
            ("https://login.vendor.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a", 170),
            ("https://login.vendor.test/verify?token=Xk29LmQz81PwVt7RbYcDa0", 165),
            ("https://app.vendor.test/invite/0198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21/accept?lang=de", 175),
            ("https://shop.vendor.test/wp-login.php?action=rp&key=Xk29LmQz81PwVt7RbYcD&login=bob", 200),
            (
                "https://auth.vendor.test/magic?jwt=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
                340,
            ),
        ] {
            let sealed = GuardLink { link: link.into(), ..sealed() };
            let short = ring(&[1]).seal(&sealed).unwrap();
            println!("{} -> {}", link.len(), short.len());
            assert!(short.len() <= most, "{link}: {} characters", short.len());
            let value = short.rsplit('/').next().unwrap();
            assert_eq!(ring(&[1]).open(value, sealed.at), Ok(sealed));
        }
    }

    /// The longest host for which a link is short enough to stand in `<...>` on a line of 76 characters.
    const HOST: &str = "https://first-click.mail-security.corp.example.t";

    #[test]
    fn a_stored_link_has_70_characters_at_most() {
        assert_eq!(HOST.len(), "https://".len() + 40);
        let guard_links = GuardLinkKeys { url: HOST.into(), ..ring(&[1]) };
        for length in [1, 40, 400, 3_900] {
            let sealed = GuardLink { link: format!("https://a.test/{}", "x9".repeat(length / 2)), ..sealed() };
            let short = guard_links.shorten(&sealed).unwrap();
            assert_eq!(short.url.len(), 70, "{}", short.url);
            assert_eq!(short.url, format!("{HOST}/s/{}", short.stored.id));
            assert_eq!(short.url, guard_links.shorten(&sealed).unwrap().url, "a pure function");
            assert!(!short.stored.value.contains("a.test") && short.stored.value.len() <= STORED);
            assert_eq!(guard_links.open_stored(&short.stored, sealed.at), Ok(sealed.clone()));
            assert_eq!(guard_links.open_stored(&short.stored, sealed.until), Err(OpenError::Expired));
        }
        assert!(guard_links.shorten(&GuardLink { link: "x".repeat(FIELDS), ..sealed() }).is_none());
    }

    #[test]
    fn what_is_stored_opens_under_its_own_name_alone() {
        let now = sealed().at;
        let short = ring(&[1]).shorten(&sealed()).unwrap();
        let other = ring(&[1]).shorten(&GuardLink { recipient: "eve@corp.example".into(), ..sealed() }).unwrap();
        assert_ne!(short.url, other.url);
        let swapped = StoredLink { id: short.stored.id, value: other.stored.value };
        assert_eq!(ring(&[1]).open_stored(&swapped, now), Err(OpenError::Foreign));
        assert_eq!(ring(&[2, 1]).open_stored(&short.stored, now), Ok(sealed()), "the ring has turned");
        assert_eq!(ring(&[2]).open_stored(&short.stored, now), Err(OpenError::Foreign));
        for value in [String::new(), "x".repeat(STORED + 1), short.stored.value.replace('A', "B")] {
            assert_eq!(ring(&[1]).open_stored(&StoredLink { id: short.stored.id, value }, now), Err(OpenError::Foreign));
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let short = ring(&[1]).shorten(&sealed()).unwrap().stored;
        let printed = format!("{:?} {:?} {short:?}", sealed(), ring(&[1]));
        assert!(!printed.contains("a1B2") && !printed.contains(&short.value) && !printed.contains(&short.id.to_string()), "{printed}");
    }
}
