//! Authentication-Results: the checks of a trusted upstream (RFC 8601).
//!
//! mail-auth writes this field and does not read it, so the reader is ours. Strict: a field that departs from the
//! grammar is not believed, because a lenient reader is what a forger hopes for.

use super::proof::AuthResult;
use crate::{limits, message::header};

/// The name of the field.
pub const FIELD: &str = "Authentication-Results";

/// One field, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// The authserv-id, in lower case; empty in the form without one.
    pub authserv_id: String,
    /// The results, one for each method, in order.
    pub methods: Vec<Method>,
}

/// One method's result (RFC 8601 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// `dkim`, `spf`, `dmarc`, `arc`, in lower case.
    pub name: String,
    /// Its result; a word that is not known is a permanent error of this one result.
    pub result: AuthResult,
    /// `ptype.property` in lower case, and the value. Gateways write some without a ptype (Cisco: `d=` behind dmarc).
    pub properties: Vec<(String, String)>,
}

impl Method {
    /// The value of a property, by its name, as in `header.d`; none where it is absent.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The field is outside of the grammar of RFC 8601 section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed Authentication-Results field")]
pub struct Malformed;

impl Results {
    /// Reads a field's value, unfolded.
    ///
    /// # Errors
    /// [`Malformed`] for anything outside of the grammar: a repeated property, an open comment, two words for a name.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value)?;
        reader.skip()?;
        let authserv_id = reader.value()?.to_ascii_lowercase();
        // `dkim=pass ...` is no authserv-id: it is the form without one.
        if authserv_id.is_empty() || authserv_id.contains('=') {
            return Err(Malformed);
        }
        reader.skip()?;
        if !reader.rest.is_empty() && !reader.rest.starts_with(';') {
            if reader.token()? != "1" {
                return Err(Malformed);
            }
            reader.skip()?;
        }
        let methods = if reader.take(';') { reader.methods()? } else { Vec::new() };
        if reader.rest.is_empty() { Ok(Self { authserv_id, methods }) } else { Err(Malformed) }
    }

    /// Reads a value that begins with a method instead of a name, as Exchange Online writes it.
    ///
    /// # Errors
    /// [`Malformed`], as for [`Results::parse`].
    pub fn parse_nameless(value: &str) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value)?;
        let methods = reader.methods()?;
        if reader.rest.is_empty() && !methods.is_empty() { Ok(Self { authserv_id: String::new(), methods }) } else { Err(Malformed) }
    }
}

/// Whether a field claims to be written by `authserv_id`. Lenient where [`Results::parse`] is strict: a field that a careless
/// reader might take for the hop's counts, whatever follows the name.
#[must_use]
pub fn claims(value: &[u8], authserv_id: &str) -> bool {
    let text: String = value.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' }).collect();
    let mut reader = Reader { rest: &text };
    if reader.skip().is_err() {
        return false;
    }
    let name = reader.rest.split([';', ' ', '(']).next().unwrap_or_default().trim_matches('"').trim_end_matches('.');
    name.eq_ignore_ascii_case(authserv_id.trim_end_matches('.'))
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(value: &'a str) -> Result<Self, Malformed> {
        if value.len() > limits::RESULTS || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Err(Malformed);
        }
        Ok(Self { rest: value })
    }

    /// Methods with semicolons between them, and maybe one at the end.
    fn methods(&mut self) -> Result<Vec<Method>, Malformed> {
        let mut methods = Vec::new();
        loop {
            self.skip()?;
            if self.rest.is_empty() {
                return Ok(methods);
            }
            methods.extend(self.method()?);
            self.skip()?;
            if !self.take(';') {
                return Ok(methods);
            }
        }
    }

    /// Skips white space and comments (RFC 5322 section 3.2.2).
    fn skip(&mut self) -> Result<(), Malformed> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if !self.rest.starts_with('(') {
                return Ok(());
            }
            let end = header::comment(self.rest).ok_or(Malformed)?;
            self.rest = self.rest.get(end..).unwrap_or_default();
        }
    }

    fn take(&mut self, letter: char) -> bool {
        self.rest.strip_prefix(letter).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    fn span(&mut self, belongs: impl Fn(char) -> bool) -> Result<&'a str, Malformed> {
        let end = self.rest.find(|letter| !belongs(letter)).unwrap_or(self.rest.len());
        let (span, rest) = self.rest.split_at_checked(end).ok_or(Malformed)?;
        self.rest = rest;
        if span.is_empty() { Err(Malformed) } else { Ok(span) }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.span(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
    }

    /// A token, quoted string, domain or address.
    fn value(&mut self) -> Result<String, Malformed> {
        if self.take('"') {
            let (mut out, mut escaped) = (String::new(), false);
            for (at, letter) in self.rest.char_indices() {
                match letter {
                    _ if escaped => {
                        escaped = false;
                        out.push(letter);
                    }
                    '\\' => escaped = true,
                    '"' => {
                        self.rest = self.rest.get(at + 1..).unwrap_or_default();
                        // A quoted local part: `"a b"@bank.test`.
                        if self.rest.starts_with('@') {
                            out.push_str(self.word()?);
                        }
                        return Ok(out);
                    }
                    _ => out.push(letter),
                }
            }
            return Err(Malformed);
        }
        self.word().map(str::to_owned)
    }

    fn word(&mut self) -> Result<&'a str, Malformed> {
        self.span(|letter| letter.is_ascii_graphic() && !matches!(letter, ';' | '(' | ')' | '"' | '\\' | ','))
    }

    fn method(&mut self) -> Result<Option<Method>, Malformed> {
        let name = self.token()?.to_ascii_lowercase();
        self.skip()?;
        if name == "none" && (self.rest.is_empty() || self.rest.starts_with(';')) {
            return Ok(None);
        }
        if self.take('/') {
            self.skip()?;
            if self.token()? != "1" {
                return Err(Malformed);
            }
            self.skip()?;
        }
        if !self.take('=') {
            return Err(Malformed);
        }
        self.skip()?;
        let word = self.token()?;
        // An unknown word (`dkim=invalid`) is an error of that result alone.
        let result = AuthResult::parse(word).unwrap_or(AuthResult::PermError);
        let mut properties: Vec<(String, String)> = Vec::new();
        loop {
            self.skip()?;
            if self.rest.is_empty() || self.rest.starts_with(';') {
                break;
            }
            let mut property = self.token()?.to_ascii_lowercase();
            self.skip()?;
            if self.take('.') {
                self.skip()?;
                property.push('.');
                property.push_str(&self.token()?.to_ascii_lowercase());
                self.skip()?;
            }
            if !self.take('=') {
                return Err(Malformed);
            }
            self.skip()?;
            let value = self.value()?;
            if properties.iter().any(|(known, _)| *known == property) {
                return Err(Malformed);
            }
            properties.push((property, value));
        }
        Ok(Some(Method { name, result, properties }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The method, result and properties of a value, as texts.
    fn said(value: &str) -> Result<Vec<String>, Malformed> {
        let results = Results::parse(value).or_else(|_| Results::parse_nameless(value))?;
        let line = |method: &Method| {
            let properties = method.properties.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
            format!("{}={}{properties}", method.name, method.result)
        };
        Ok(results.methods.iter().map(line).collect())
    }

    #[test]
    fn what_gateways_write() {
        for (value, lines) in [
            ("mx.corp.example 1; none", &[][..]),
            ("mx.corp.example", &[]),
            (
                "mx.corp.example; dkim=pass (2048-bit key) header.d=bank.test header.i=@bank.test header.s=s1; dmarc=pass (p=reject dis=none) header.from=bank.test",
                &["dkim=pass header.d=bank.test header.i=@bank.test header.s=s1", "dmarc=pass header.from=bank.test"],
            ),
            (
                "mx.google.com;       dkim=pass header.i=@bank.test header.s=s1 header.b=\"AbC+/d\";       spf=pass (google.com: domain of a@bank.test designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@bank.test",
                &["dkim=pass header.i=@bank.test header.s=s1 header.b=AbC+/d", "spf=pass smtp.mailfrom=a@bank.test"],
            ),
            (
                "esa1.corp.example; dkim=pass (signature verified) header.i=@bank.test; spf=Pass smtp.mailfrom=a@bank.test; dmarc=pass (p=reject dis=none) d=bank.test",
                &["dkim=pass header.i=@bank.test", "spf=pass smtp.mailfrom=a@bank.test", "dmarc=pass d=bank.test"],
            ),
            (
                "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=bank.test; dkim=pass (signature was verified) header.d=bank.test;dmarc=pass action=none header.from=bank.test;compauth=pass reason=100",
                &[
                    "spf=pass smtp.mailfrom=bank.test",
                    "dkim=pass header.d=bank.test",
                    "dmarc=pass action=none header.from=bank.test",
                    "compauth=pass reason=100",
                ],
            ),
            (
                "mx.corp.example; dkim=invalid (no key) header.d=x.test; dkim=pass header.d=bank.test x-bits=2048",
                &["dkim=permerror header.d=x.test", "dkim=pass header.d=bank.test x-bits=2048"],
            ),
            (
                "mx.corp.example; dkim=pass header.i=\"joe smith\"@bank.test header.d=bank.test",
                &["dkim=pass header.i=joe smith@bank.test header.d=bank.test"],
            ),
            (
                "mx; dkim=fail reason=\"x; dkim=pass header.d=bank.test\" header.d=a.test",
                &["dkim=fail reason=x; dkim=pass header.d=bank.test header.d=a.test"],
            ),
            ("mx; dkim=pass (header.d=bank.test) header.d=attack.test", &["dkim=pass header.d=attack.test"]),
            ("mx; x=1 (; dkim=pass header.d=bank.test)", &["x=permerror"]),
        ] {
            assert_eq!(said(value).unwrap(), lines, "{value}");
        }
        for value in [
            "",
            ";",
            "mx; dkim",
            "mx; dkim=",
            "mx; dkim=pass header.d=a header.d=b",
            "mx; dkim=pass (",
            "mx 2; dkim=pass",
            "mx; dkim/2=pass",
            "mx, dkim=pass",
            "mx; dkim=pass header.d=\"a",
            "mx; dkim=pass;; spf=pass",
            "mx x; dkim=pass",
        ] {
            assert_eq!(said(value), Err(Malformed), "{value}");
        }
        assert_eq!(Results::parse("dkim=pass header.d=bank.test"), Err(Malformed), "a method is no name");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}", dense in "(mx|;|=|\\(|\\)|\"|@|dkim=pass|header.d| |\\\\|a.test){0,20}") {
            for value in [text, dense] {
                let _ = Results::parse(&value);
                let _ = Results::parse_nameless(&value);
                let _ = claims(value.as_bytes(), "mx");
            }
        }
    }

    #[test]
    fn forged_claims_are_seen_however_written() {
        for value in [
            "hop.test; dkim=pass",
            " HOP.test ; x",
            "(c) hop.test 1; x",
            "\"hop.test\"; x",
            "hop.test.; x",
            "hop.test(c); x",
            "hop.test",
            "hop.test\0; x",
        ] {
            assert!(claims(value.as_bytes(), "hop.test"), "{value:?}");
        }
        for value in ["hop.test.attack.test; x", "xhop.test; x", "mx.test; hop.test"] {
            assert!(!claims(value.as_bytes(), "hop.test"), "{value:?}");
        }
    }
}
