//! A domain name in the one form in which two of them may be compared.

use std::fmt;

use super::suffix;

/// A domain name as A-labels in lower case, without a trailing dot (RFC 5890 section 2.3.2.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

/// Why a text is no [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// A character, an empty label, a trailing dot or a label over 63 octets.
    #[error("not a plain domain name")]
    Syntax,
    /// The name changes when it is normalised, so that two programs may see two names.
    #[error("the name is not in its normal form; write it as people see it, or as xn-- labels")]
    NotNormal,
}

impl Domain {
    /// Reads a domain as it stands in an address, in any case, as A-labels or U-labels.
    ///
    /// # Errors
    /// [`DomainError::Syntax`] for an address literal, an empty label, a trailing dot or a character outside of
    /// letters, digits and hyphens; [`DomainError::NotNormal`] for what RFC 5895 would silently change (soft hyphens,
    /// full-width letters and dots) beyond its case.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if text.is_ascii() {
            let lower = text.to_ascii_lowercase();
            if !is_plain(&lower) {
                return Err(DomainError::Syntax);
            }
            if lower.split('.').any(|label| label.starts_with("xn--")) {
                let (_, valid) = idna::domain_to_unicode(&lower);
                valid.map_err(|_| DomainError::Syntax)?;
            }
            return Ok(Self(lower.into()));
        }
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| DomainError::Syntax)?;
        if !is_plain(&ascii) {
            return Err(DomainError::Syntax);
        }
        let (unicode, valid) = idna::domain_to_unicode(&ascii);
        valid.map_err(|_| DomainError::Syntax)?;
        if unicode != text.to_lowercase() {
            return Err(DomainError::NotNormal);
        }
        Ok(Self(ascii.into()))
    }

    /// The A-labels in lower case, as in `xn--bcher-kva.example`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other` or stands below it, by whole labels.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self == other || self.is_below(other)
    }

    /// Whether this stands below `other`, by whole labels.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// This domain's parents, nearest first, down to the last label.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            rest = rest.split_once('.')?.1;
            Some(rest)
        })
    }

    /// The part that somebody registered, by the public suffix list: `bank.co.uk` of `login.bank.co.uk`. None for a
    /// public suffix itself.
    #[must_use]
    pub fn registered(&self) -> Option<&str> {
        suffix::registered(&self.0)
    }

    /// Whether one owner registered both. Two names under a public suffix never belong together, by whatever DMARC record of the
    /// suffix.
    #[must_use]
    pub fn is_kin_of(&self, other: &Self) -> bool {
        self.registered().is_some() && self.registered() == other.registered()
    }
}

fn is_plain(ascii: &str) -> bool {
    ascii.len() <= 253
        && ascii.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        && !ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_one_name() {
        let domain = |text| Domain::parse(text).map(|domain| domain.as_str().to_owned());
        assert_eq!(domain("Bank.TEST"), Ok("bank.test".into()));
        assert_eq!(domain("bücher.example"), Ok("xn--bcher-kva.example".into()));
        assert_eq!(domain("BÜCHER.example"), Ok("xn--bcher-kva.example".into()));
        assert_eq!(domain("XN--bcher-kva.example"), Ok("xn--bcher-kva.example".into()));
        for odd in ["", ".", "bank.test.", "a..b", "bank .test", "bank\0.test", "[192.0.2.1]", "192.0.2.1", "-a.b", "a_b.c"] {
            assert_eq!(domain(odd), Err(DomainError::Syntax), "{odd:?}");
        }
        for changed in ["bank。test", "ｂank.test", "ba\u{ad}nk.test", "ba\u{200b}nk.test"] {
            assert!(domain(changed).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn parents_are_labels_and_not_text() {
        let parse = |text| Domain::parse(text).unwrap();
        assert!(parse("a.bank.test").is_below(&parse("bank.test")));
        assert!(!parse("xbank.test").is_within(&parse("bank.test")));
        assert!(!parse("bank.test").is_below(&parse("bank.test")));
        assert!(parse("a.bank.co.uk").is_kin_of(&parse("b.bank.co.uk")));
        assert!(!parse("bank.co.uk").is_kin_of(&parse("evil.co.uk")));
        assert!(!parse("co.uk").is_kin_of(&parse("co.uk")));
        assert!(!parse("a.github.io").is_kin_of(&parse("b.github.io")));
        assert_eq!(parse("a.b.c").parents().collect::<Vec<_>>(), ["b.c", "c"]);
    }
}
