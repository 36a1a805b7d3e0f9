//! The one From address, or why there is none that every reader would agree on.
//!
//! Strict on purpose: where RFC 5322 leaves room that mail programs fill differently (groups, routes, several
//! addresses, comments inside the address, encoded address characters), the mail has no author and is not exempted.

use super::{
    Domain,
    header::{self, Headers},
};
use crate::mail::Flaw;

/// The author of a mail: the one address in From.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The domain of the address, by which entries and DMARC identify the author.
    pub domain: Domain,
    /// The whole address as written.
    pub address: String,
    /// The name beside it, decoded by nobody; for people only.
    pub name: String,
}

impl Author {
    /// Finds the author of a mail.
    ///
    /// # Errors
    /// The flaw that keeps the author from being certain.
    pub fn find(headers: &Headers<'_>) -> Result<Self, Flaw> {
        let value = from(headers)?;
        let author = Self::read(&value)?;
        let second_reader = second_opinion(&value);
        if second_reader.as_deref() != Some(author.address.as_str()) {
            return Err(Flaw::FromDisagrees);
        }
        Ok(author)
    }

    /// The author by this reader alone: enough to see that no entry names him.
    ///
    /// # Errors
    /// The flaw that keeps the author from being certain.
    pub fn claimed(headers: &Headers<'_>) -> Result<Self, Flaw> {
        Self::read(&from(headers)?)
    }

    /// Reads the value of a From field (RFC 5322 section 3.4, one `mailbox` only).
    ///
    /// # Errors
    /// The flaw that keeps the author from being certain.
    pub fn read(value: &str) -> Result<Self, Flaw> {
        let mut reader = Reader { rest: value };
        let mut words: Vec<&str> = Vec::new();
        let address = loop {
            reader.skip_comments()?;
            match reader.rest.bytes().next() {
                None => break bare_address(&words)?,
                Some(b'<') => {
                    let close = reader.rest.find('>').ok_or(Flaw::FromSyntax)?;
                    let inside = reader.rest.get(1..close).unwrap_or_default();
                    reader.rest = reader.rest.get(close + 1..).unwrap_or_default();
                    reader.skip_comments()?;
                    match reader.rest.bytes().next() {
                        None => {}
                        Some(b',') => return Err(Flaw::FromMany),
                        Some(_) => return Err(Flaw::FromSyntax),
                    }
                    if inside.starts_with('@') {
                        return Err(Flaw::FromRoute);
                    }
                    // A bare address in front of the angle brackets is read as the author by some programs, and a
                    // quoted one is only a name (`"a@b" <x@y>`), which this reader keeps as a word.
                    if words.iter().any(|word| word.contains('@') && !word.starts_with('"')) {
                        return Err(Flaw::FromSyntax);
                    }
                    break inside;
                }
                Some(b',') => return Err(Flaw::FromMany),
                Some(b':' | b';') => return Err(Flaw::FromGroup),
                Some(b'"') => words.push(reader.quoted()?),
                Some(b'>' | b'\\' | b')') => return Err(Flaw::FromSyntax),
                Some(_) => words.push(reader.word()),
            }
        };
        if address.is_empty() {
            return Err(Flaw::FromMissing);
        }
        let (local, domain) = address.rsplit_once('@').ok_or(Flaw::FromSyntax)?;
        if !is_plain_local(local) {
            return Err(Flaw::FromSyntax);
        }
        let domain = Domain::parse(domain).map_err(|_| Flaw::FromDomain)?;
        let name = words.join(" ");
        if hides_address(&name) {
            return Err(Flaw::FromEncoded);
        }
        if name.chars().any(char::is_control) {
            return Err(Flaw::HeaderControl);
        }
        Ok(Self { domain, address: address.to_owned(), name: if name == address { String::new() } else { name } })
    }
}

/// The value of the one From field.
fn from(headers: &Headers<'_>) -> Result<String, Flaw> {
    let mut fields = headers.named("From");
    let field = fields.next().ok_or(Flaw::FromMissing)?;
    if fields.next().is_some() {
        return Err(Flaw::FromRepeated);
    }
    String::from_utf8(headers.unfolded(field)).map_err(|_| Flaw::HeaderEightBit)
}

/// What mail-parser takes for the address; only where it finds exactly one mailbox in exactly one field.
fn second_opinion(value: &str) -> Option<String> {
    let raw = format!("From: {value}\r\n\r\n");
    let message = mail_parser::MessageParser::new().parse(raw.as_bytes())?;
    let list = message.from()?;
    let mut all = list.mailboxes();
    let only = all.next()?;
    if all.next().is_some() {
        return None;
    }
    only.address().map(str::to_owned)
}

fn bare_address<'a>(words: &[&'a str]) -> Result<&'a str, Flaw> {
    match words {
        [] => Err(Flaw::FromMissing),
        [only] => Ok(only),
        _ => Err(Flaw::FromSyntax),
    }
}

fn is_plain_local(local: &str) -> bool {
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted {
        Some(inside) => !inside.is_empty() && !inside.contains(['@', '<', '>', ',', '"', '\\', '(', ')', ':', ';']),
        None => {
            !local.is_empty()
                && local
                    .chars()
                    .all(|letter| letter.is_alphanumeric() || letter.is_ascii() && b"!#$%&'*+/=?^_`{|}~-.".contains(&(letter as u8)))
        }
    }
}

/// Whether an encoded word (RFC 2047) decodes to characters that a careless reader, decoding first, would take for
/// the syntax of an address.
fn hides_address(name: &str) -> bool {
    if !name.contains("=?") {
        return false;
    }
    let raw = format!("Subject: {name}\r\n\r\n");
    let decoded = mail_parser::MessageParser::new()
        .parse(raw.as_bytes())
        .and_then(|message| message.subject().map(str::to_owned))
        .unwrap_or_default();
    decoded.contains(['<', '>', '@', ',', ':', ';']) || decoded.chars().any(char::is_control)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_comments(&mut self) -> Result<(), Flaw> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if !self.rest.starts_with('(') {
                return Ok(());
            }
            let (inside, rest) = header::comment(self.rest).and_then(|end| self.rest.split_at_checked(end)).ok_or(Flaw::FromSyntax)?;
            // `x@attack.test (admin@bank.test)` is harmless; an address with its brackets is not.
            if inside.contains(['<', '>']) {
                return Err(Flaw::FromSyntax);
            }
            self.rest = rest;
        }
    }

    fn quoted(&mut self) -> Result<&'a str, Flaw> {
        let mut escaped = false;
        for (at, letter) in self.rest.char_indices().skip(1) {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    // A quoted string that goes on as an address: `"a b"@c`.
                    let mut end = at + 1;
                    if self.rest.get(end..).is_some_and(|rest| rest.starts_with('@')) {
                        end += word_length(self.rest.get(end..).unwrap_or_default());
                    }
                    let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
                    self.rest = rest;
                    return Ok(word);
                }
                _ => {}
            }
        }
        Err(Flaw::FromSyntax)
    }

    fn word(&mut self) -> &'a str {
        let (word, rest) = self.rest.split_at_checked(word_length(self.rest).max(1)).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }
}

fn word_length(text: &str) -> usize {
    text.find([' ', '\t', '<', '>', ',', ';', ':', '"', '(', ')', '\\']).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address() {
        for (value, domain, name) in [
            ("a@bank.test", "bank.test", ""),
            ("<a@bank.test>", "bank.test", ""),
            ("Bank Support <a@BANK.test>", "bank.test", "Bank Support"),
            ("\"admin@bank.test\" <x@attack.test>", "attack.test", "\"admin@bank.test\""),
            ("x@attack.test (admin@bank.test)", "attack.test", ""),
            ("=?utf-8?q?B=C3=BCcher?= <a@bank.test>", "bank.test", "=?utf-8?q?B=C3=BCcher?="),
            ("アプリ <a@bank.test>", "bank.test", "アプリ"),
            ("\"a b\"@bank.test", "bank.test", ""),
            ("Slack, Inc. <a@bank.test>", "", ""),
        ] {
            match Author::read(value) {
                Ok(author) => assert_eq!((author.domain.as_str(), author.name.as_str()), (domain, name), "{value}"),
                Err(flaw) => assert_eq!((domain, flaw), ("", Flaw::FromMany), "{value}"),
            }
        }
    }

    #[test]
    fn anything_else_is_a_flaw() {
        for (value, flaw) in [
            ("", Flaw::FromMissing),
            ("<>", Flaw::FromMissing),
            ("a@bank.test, b@attack.test", Flaw::FromMany),
            ("a@bank.test,<b@attack.test>", Flaw::FromMany),
            ("<a@attack.test>b@bank.test", Flaw::FromSyntax),
            ("<a@bank.test>\\,<b@attack.test>", Flaw::FromSyntax),
            ("a@bank.test <b@attack.test>", Flaw::FromSyntax),
            ("<@attack.test,@x:admin@bank.test>", Flaw::FromRoute),
            ("bank: admin@bank.test;", Flaw::FromGroup),
            ("undisclosed:;", Flaw::FromGroup),
            ("\"a@bank.test\"@attack.test", Flaw::FromSyntax),
            ("=?utf-8?B?PGFAYmFuay50ZXN0Pg==?= <x@attack.test>", Flaw::FromEncoded),
            ("a@bank.test.", Flaw::FromDomain),
            ("a@bank .test", Flaw::FromSyntax),
            ("a@=?utf-8?Q?bank.test?=", Flaw::FromDomain),
            ("a@bank.test(<x@attack.test>)", Flaw::FromSyntax),
            ("a(@attack.test)@bank.test", Flaw::FromSyntax),
            ("a@[192.0.2.1]", Flaw::FromDomain),
        ] {
            assert_eq!(Author::read(value), Err(flaw), "{value}");
        }
        assert_eq!(Author::read(&format!("a@bank.test {}", "(".repeat(10_000))), Err(Flaw::FromSyntax));
    }
}
