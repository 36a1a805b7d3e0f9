//! Authentication-Results: what a trusted upstream found out (RFC 8601).
//!
//! mail-auth writes this field and does not read it, so the reader is ours. Strict: a field that departs from the
//! grammar is not believed, because a lenient reader is what a forger hopes for.

use crate::{
    limits,
    message::{
        Domain,
        header::{self, Headers},
    },
};

use super::proof::{AuthResult, Identity, Signature, Source};

/// The field's name.
pub const FIELD: &str = "Authentication-Results";

/// One field, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Who speaks, in lower case.
    pub authserv_id: String,
    /// What it says.
    pub methods: Vec<Method>,
}

/// One method's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// `dkim`, `spf`, `dmarc`, `arc`, in lower case.
    pub name: String,
    /// Its result.
    pub result: AuthResult,
    /// `ptype.property` in lower case, and the value.
    pub properties: Vec<(String, String)>,
}

impl Method {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The field departs from RFC 8601 section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed Authentication-Results field")]
pub struct Malformed;

impl Results {
    /// Reads a field's value, unfolded.
    ///
    /// # Errors
    /// [`Malformed`] for anything outside of the grammar: an unknown result, a repeated property, an open comment.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        if value.len() > limits::RESULTS || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Err(Malformed);
        }
        let mut reader = Reader { rest: value };
        reader.skip()?;
        let authserv_id = reader.value()?.to_ascii_lowercase();
        if authserv_id.is_empty() {
            return Err(Malformed);
        }
        reader.skip()?;
        if !reader.rest.is_empty() && !reader.rest.starts_with(';') {
            if reader.token()? != "1" {
                return Err(Malformed);
            }
            reader.skip()?;
        }
        let mut methods = Vec::new();
        while reader.take(';') {
            reader.skip()?;
            if reader.rest.is_empty() {
                break;
            }
            if let Some(method) = reader.method()? {
                methods.push(method);
            }
            reader.skip()?;
        }
        if reader.rest.is_empty() { Ok(Self { authserv_id, methods }) } else { Err(Malformed) }
    }

    /// What it says, as an identity of the mail whose From has this domain.
    #[must_use]
    pub fn identity(&self, author: Option<&Domain>) -> Identity {
        let find = |name: &str| self.methods.iter().find(|method| method.name == name);
        let result = |name| find(name).map_or(AuthResult::None, |method| method.result);
        // DMARC speaks of one author; where it names another one, it speaks of another mail.
        let dmarc = find("dmarc").map_or(AuthResult::None, |method| {
            let from = method
                .property("header.from")
                .map(|from| from.rsplit('@').next().unwrap_or(from))
                .and_then(|from| Domain::parse(from).ok());
            if from.as_ref() == author { method.result } else { AuthResult::None }
        });
        // The upstream says that DMARC passes and not by which signature: one of the author's own organisation, then.
        let aligned = |domain: &Domain| dmarc == AuthResult::Pass && author.is_some_and(|author| domain.is_kin_of(author));
        let domain = |method: &Method| method.property("header.d").and_then(|domain| Domain::parse(domain).ok());
        let signature = |method: &Method| Signature {
            domain: domain(method),
            aligned: domain(method).as_ref().is_some_and(aligned),
            selector: method.property("header.s").unwrap_or_default().escape_default().to_string(),
            result: method.result,
            weakness: None,
            covers: None,
            signed_at: 0,
        };
        let dkim = self.methods.iter().filter(|method| method.name == "dkim").take(limits::SIGNATURES).map(signature).collect();
        Identity { source: Source::Upstream, spf: result("spf"), dkim, dmarc, arc: result("arc"), client: None, trouble: None }
    }
}

/// What a trusted upstream put on top of a mail: the topmost field, if it speaks in one of these names and stands above
/// all but the upstream's own Received. Everything below may come from anybody.
#[must_use]
pub fn believed(headers: &Headers<'_>, authserv_ids: &[String]) -> Option<Results> {
    let mut received = 0;
    for field in headers.fields() {
        if headers.is_named(field, "Received") {
            received += 1;
            if received > 1 {
                return None;
            }
        } else if headers.is_named(field, FIELD) {
            let value = headers.unfolded(field);
            let results = Results::parse(std::str::from_utf8(&value).ok()?).ok()?;
            return authserv_ids.iter().any(|id| id.eq_ignore_ascii_case(&results.authserv_id)).then_some(results);
        }
    }
    None
}

/// Whether a field claims to be written by `authserv_id`. Lenient where [`Results::parse`] is strict: what a careless
/// reader might take for our voice counts, whatever follows the name.
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
                        return Ok(out);
                    }
                    _ => out.push(letter),
                }
            }
            return Err(Malformed);
        }
        self.span(|letter| letter.is_ascii_graphic() && !matches!(letter, ';' | '(' | ')' | '"' | '\\' | ',')).map(str::to_owned)
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
        // Results of methods that are not asked for may be words that are not known here.
        let known = matches!(name.as_str(), "dkim" | "spf" | "dmarc" | "arc");
        let result = match AuthResult::parse(word) {
            Some(result) => result,
            None if known => return Err(Malformed),
            None => AuthResult::None,
        };
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
            } else if !matches!(property.as_str(), "reason" | "action") {
                return Err(Malformed);
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
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn what_an_upstream_writes() {
        let results = Results::parse(
            "mx.corp.example; dkim=pass (2048-bit key) header.d=bank.test header.i=@bank.test header.s=s1; spf=pass smtp.mailfrom=a@bank.test; dmarc=pass (p=reject dis=none) header.from=bank.test",
        )
        .unwrap();
        assert_eq!(results.authserv_id, "mx.corp.example");
        let identity = results.identity(Some(&domain("bank.test")));
        assert_eq!((identity.spf, identity.dmarc), (AuthResult::Pass, AuthResult::Pass));
        assert_eq!(identity.proofs().count(), 1);
        assert_eq!(results.identity(Some(&domain("other.test"))).dmarc, AuthResult::None);
        assert_eq!(Results::parse("mx.corp.example 1; none").unwrap().methods, []);
    }

    #[test]
    fn comments_and_strings_are_no_results() {
        let author = domain("bank.test");
        for value in [
            "mx; dkim=pass (header.d=bank.test) header.d=attack.test",
            "mx; dkim=fail reason=\"x; dkim=pass header.d=bank.test\" header.d=bank.test",
            "mx; x=1 (; dkim=pass header.d=bank.test)",
            "mx; dkim=pass header.i=@bank.test",
        ] {
            let proofs = Results::parse(value).map(|results| {
                let identity = results.identity(Some(&author));
                identity.proofs().any(|signature| signature.domain.as_ref() == Some(&author))
            });
            assert_ne!(proofs, Ok(true), "{value}");
        }
        for value in [
            "",
            ";",
            "mx; dkim",
            "mx; dkim=",
            "mx; dkim=passs",
            "mx; dkim=pass header.d=a header.d=b",
            "mx; dkim=pass (",
            "mx 2; dkim=pass",
            "mx; dkim/2=pass",
            "mx, dkim=pass",
            "mx; dkim=pass header.d=\"a",
        ] {
            assert_eq!(Results::parse(value), Err(Malformed), "{value}");
        }
    }

    #[test]
    fn only_what_stands_on_top_is_believed() {
        let ids = ["mx.corp.example".to_owned()];
        let believed = |raw: &str| believed(&Headers::read(raw.as_bytes()), &ids).is_some();
        let own = "Authentication-Results: mx.corp.example; dkim=pass header.d=bank.test\r\n";
        let received = "Received: from x by mx.corp.example; date\r\n";
        let foreign = "Authentication-Results: mx.attack.test; dkim=pass header.d=bank.test\r\n";
        assert!(believed(&format!("{own}{received}From: a@b\r\n\r\n")));
        assert!(believed(&format!("{received}{own}From: a@b\r\n\r\n")));
        assert!(!believed(&format!("{received}{received}{own}From: a@b\r\n\r\n")));
        assert!(!believed(&format!("{foreign}{own}From: a@b\r\n\r\n")));
        assert!(!believed("From: a@b\r\n\r\n"));
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
