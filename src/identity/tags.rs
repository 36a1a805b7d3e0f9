//! The tag list of RFC 6376 section 3.2, read strictly and in one place.
//!
//! DKIM-Signature, key records, DMARC records, ARC-Seal, ARC-Message-Signature and the instance of
//! ARC-Authentication-Results are tag lists. A lenient second reader may take `d =`, `D=` or the last of two `d=` for the
//! tag, so everything that leaves room for two readings is refused here. Internationalised values (RFC 8616) are refused
//! too: no sender is known to need them.

/// Tags that one list may hold: signatures have 8 to 14.
const TAGS: usize = 64;

/// The list can be read in more than one way, or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A tag list: names as they stand, values without the white space around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags<'t>(Vec<(&'t str, &'t str)>);

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A text without the white space around it: FWS of RFC 6376 section 2.8, and no other.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// A value without any white space, for values in which it means nothing (base64, quoted-printable).
pub(crate) fn squeezed(value: &str) -> String {
    value.chars().filter(|letter| !letter.is_ascii() || !is_space(*letter as u8)).collect()
}

/// The items of a list with colons (RFC 6376 sections 3.5 and 3.6.1: `h=`, `q=`, `s=`, `t=`), trimmed.
pub(crate) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(':').map(trim)
}

impl<'t> Tags<'t> {
    /// Reads a list; its known tags are named in lower case, and another spelling of them is refused.
    pub(crate) fn read(text: &'t [u8], known: &[&str]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
        if !text.bytes().all(|byte| is_space(byte) || byte.is_ascii_graphic()) {
            return Err(Malformed);
        }
        let mut pieces: Vec<&str> = text.splitn(TAGS + 1, ';').collect();
        // One semicolon may end the list.
        if pieces.last().is_some_and(|last| trim(last).is_empty()) {
            pieces.pop();
        }
        if pieces.is_empty() || pieces.len() > TAGS {
            return Err(Malformed);
        }
        let mut tags: Vec<(&str, &str)> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (name, value) = piece.split_once('=').ok_or(Malformed)?;
            let (name, value) = (trim(name), trim(value));
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !letters || !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
                return Err(Malformed);
            }
            // Names differ by case for some readers, and not for others.
            let twice = tags.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            let disguised = known.iter().any(|known| known.eq_ignore_ascii_case(name) && *known != name);
            if twice || disguised {
                return Err(Malformed);
            }
            tags.push((name, value));
        }
        Ok(Self(tags))
    }

    /// The value of a tag; none where it is absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The first tag's name and value.
    pub(crate) fn first(&self) -> Option<(&'t str, &'t str)> {
        self.0.first().copied()
    }

    /// A number of at most this many digits: none where the tag is absent.
    pub(crate) fn number(&self, name: &str, digits: usize) -> Result<Option<u64>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if value.is_empty() || value.len() > digits || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed);
        }
        // RFC 6376 section 3.5: values that do not fit are the largest that do.
        Ok(Some(value.parse().unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_reading_or_none() {
        let read =
            |text: &str| Tags::read(text.as_bytes(), &["a", "b", "d", "bh"]).map(|tags| (tags.get("d").map(str::to_owned), tags.0.len()));
        let d = |count| Ok((Some("x".to_owned()), count));
        for (text, tags) in [
            ("d=x", d(1)),
            ("d=x;", d(1)),
            (" d = x ; b = y z \r\n\t; ", d(2)),
            ("d=\r\n x;b=", d(2)),
            ("d=x; z_1=a=b:c", d(2)),
            ("d=x; unknown=1; Unknown2=1", d(3)),
            ("", Err(Malformed)),
            (";", Err(Malformed)),
            (" ; d=x", Err(Malformed)),
            ("d=x;; b=y", Err(Malformed)),
            ("d=x;;", Err(Malformed)),
            ("d=x; ;", Err(Malformed)),
            ("d=x; b", Err(Malformed)),
            ("d=x; =y", Err(Malformed)),
            ("d=x; d=y", Err(Malformed)),
            ("d=x; D=y", Err(Malformed)),
            ("D=x; d=y", Err(Malformed)),
            ("D=x", Err(Malformed)),
            ("d=x; d =y", Err(Malformed)),
            ("d=x; d\t=y", Err(Malformed)),
            ("d=x; b h=y", Err(Malformed)),
            ("d=x; 1b=y", Err(Malformed)),
            ("d=x; _b=y", Err(Malformed)),
            ("d=x; b-h=y", Err(Malformed)),
            ("d=x; z=1; Z=2", Err(Malformed)),
            ("d=x; b=\u{e9}", Err(Malformed)),
            ("d=x\0; b=y", Err(Malformed)),
            ("d=x; \u{b}d=y", Err(Malformed)),
        ] {
            assert_eq!(read(text), tags, "{text:?}");
        }
        assert!(read("z=x;").is_ok());
        let many: String = (0..=TAGS).map(|at| format!("t{at}=x;")).collect();
        assert_eq!(read(&many), Err(Malformed));
    }

    #[test]
    fn numbers() {
        for (text, number) in [
            ("t=1", Ok(Some(1))),
            ("t=99999999999999999999999999", Ok(Some(u64::MAX))),
            ("b=1", Ok(None)),
            ("t=", Err(Malformed)),
            ("t=-1", Err(Malformed)),
            ("t=+1", Err(Malformed)),
            ("t=1 2", Err(Malformed)),
            ("t=0x1", Err(Malformed)),
        ] {
            assert_eq!(Tags::read(text.as_bytes(), &[]).unwrap().number("t", 76), number, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tags::read(&bytes, &["d"]);
        }
    }
}
