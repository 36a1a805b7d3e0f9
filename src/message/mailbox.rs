//! The addresses in To and Cc (RFC 5322 section 3.4).
//!
//! Strict, as the reader of From is: where mail programs could find other addresses than this reader does, the field names
//! nobody. Comments, display names, groups and routes never name anybody.

use std::fmt;

use super::{Domain, author::Author, header};
use crate::limits;
use crate::mail::Flaw;

/// An addr-spec (RFC 5322 section 3.4.1) in the form in which two of them may be compared: local part in lower case, domain
/// normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local: String,
    domain: Domain,
}

impl Mailbox {
    /// Reads an address without angle brackets, as an envelope path holds it (RFC 5321 section 4.1.2). None where it has no
    /// plain domain.
    #[must_use]
    pub fn parse(address: &str) -> Option<Self> {
        let (local, domain) = address.rsplit_once('@')?;
        (!local.is_empty()).then_some(())?;
        Some(Self { local: local.to_lowercase(), domain: Domain::parse(domain).ok()? })
    }

    /// The local part, in lower case.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The local part without what follows the first `+` (RFC 5233 calls it the detail).
    #[must_use]
    pub fn user(&self) -> &str {
        match self.local.split_once('+') {
            Some((user, _)) if !user.is_empty() => user,
            _ => &self.local,
        }
    }

    /// The domain, normalised.
    #[must_use]
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The same mailbox without its detail: `bob@corp.example` of `bob+news@corp.example`.
    #[must_use]
    pub fn without_detail(&self) -> Self {
        Self { local: self.user().to_owned(), domain: self.domain.clone() }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// Reads the value of a To or Cc field, unfolded: one mailbox or several, at most [`limits::ADDRESSEES`]. An empty value
/// names nobody.
///
/// # Errors
/// The flaw of the first address that not every program reads alike; groups and routes are such.
pub fn list(value: &[u8]) -> Result<Vec<Mailbox>, Flaw> {
    let value = std::str::from_utf8(value).map_err(|_| Flaw::HeaderEightBit)?;
    if value.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut mailboxes = Vec::new();
    for piece in pieces(value)? {
        if mailboxes.len() >= limits::ADDRESSEES {
            return Err(Flaw::FromMany);
        }
        let author = Author::read(piece)?;
        mailboxes.push(Mailbox::parse(&author.address).ok_or(Flaw::FromDomain)?);
    }
    if second_opinion(value).as_deref() == Some(&mailboxes) { Ok(mailboxes) } else { Err(Flaw::FromDisagrees) }
}

/// The addresses between the commas that separate them: those outside of quoted strings, comments and angle brackets.
fn pieces(value: &str) -> Result<Vec<&str>, Flaw> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    let (mut quoted, mut in_brackets) = (false, false);
    while let Some(letter) = value.get(at..).and_then(|rest| rest.chars().next()) {
        let mut next = at + letter.len_utf8();
        match letter {
            '\\' if quoted => next += value.get(next..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8),
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => next = at + value.get(at..).and_then(header::comment).ok_or(Flaw::FromSyntax)?,
            '<' => in_brackets = true,
            '>' => in_brackets = false,
            ',' if !in_brackets => {
                pieces.push(value.get(start..at).unwrap_or_default());
                start = next;
            }
            _ => {}
        }
        at = next;
    }
    if quoted || in_brackets {
        return Err(Flaw::FromSyntax);
    }
    pieces.push(value.get(start..).unwrap_or_default());
    Ok(pieces)
}

/// What mail-parser finds; a second reader that must agree.
fn second_opinion(value: &str) -> Option<Vec<Mailbox>> {
    let raw = format!("To: {value}\r\n\r\n");
    let message = mail_parser::MessageParser::new().parse(raw.as_bytes())?;
    message.to()?.mailboxes().map(|mailbox| Mailbox::parse(mailbox.address()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Vec<String>, Flaw> {
        list(value.as_bytes()).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_names_somebody() {
        for (value, names) in [
            ("bob@corp.example", &["bob@corp.example"][..]),
            ("Bob <Bob@CORP.example>", &["bob@corp.example"]),
            ("\"Doe, Bob\" <bob@corp.example>", &["bob@corp.example"]),
            ("bob@corp.example, \"Ann (a)\" <ann+x@corp.example>", &["bob@corp.example", "ann+x@corp.example"]),
            ("bob@corp.example (eve@attack.test)", &["bob@corp.example"]),
            ("\"eve@attack.test\" <bob@corp.example>", &["bob@corp.example"]),
            ("", &[]),
            ("  ", &[]),
        ] {
            assert_eq!(read(value).as_deref(), Ok(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..]), "{value}");
        }
    }

    #[test]
    fn what_names_nobody() {
        for value in [
            "undisclosed-recipients:;",
            "all: bob@corp.example, ann@corp.example;",
            "<@relay.test:bob@corp.example>",
            "eve@attack.test <bob@corp.example>",
            "bob@corp.example,",
            ",bob@corp.example",
            "bob@corp.example,,ann@corp.example",
            "bob@corp.example ann@corp.example",
            "bob@corp.example; ann@corp.example",
            "bob@corp.example \"",
            "bob@corp.example (",
            "<bob@corp.example",
            "bob",
            "=?utf-8?q?bob=40corp.example?=",
            "bob@[192.0.2.1]",
        ] {
            assert!(read(value).is_err(), "{value}: {:?}", read(value));
        }
        assert!(read(&vec!["bob@corp.example"; 2_000].join(", ")).is_err());
    }

    #[test]
    fn details_are_left_out() {
        let user = |address: &str| Mailbox::parse(address).unwrap().without_detail().to_string();
        assert_eq!(user("Bob+news@corp.example"), "bob@corp.example");
        assert_eq!(user("+news@corp.example"), "+news@corp.example");
        assert_eq!(user("bob@corp.example"), "bob@corp.example");
        assert_eq!(Mailbox::parse("@corp.example"), None);
        assert_eq!(Mailbox::parse("bob"), None);
    }
}
