//! SMTP replies (RFC 5321 section 4.2): what the hop says itself, and what it passes on.

use std::fmt;

use crate::limits;

/// One reply, of one line or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line, of our own.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![text.into()] }
    }

    /// A reply of several lines, of our own.
    #[must_use]
    pub const fn lines(code: u16, lines: Vec<String>) -> Self {
        Self { code, lines }
    }

    /// Reads a reply as it came over the wire; none where it is none.
    #[must_use]
    pub fn parse(wire: &str) -> Option<Self> {
        let mut lines = Vec::new();
        let mut code = None;
        for line in wire.lines() {
            let (digits, rest) = line.split_at_checked(3)?;
            let number: u16 = digits.parse().ok().filter(|number| (200..600).contains(number))?;
            if *code.get_or_insert(number) != number {
                return None;
            }
            let text = rest.strip_prefix(['-', ' ']).unwrap_or(rest);
            lines.push(text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).take(limits::REPLY_LINE).collect());
        }
        Some(Self { code: code?, lines })
    }

    /// The three digits.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// 2yz.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it ends a command: 2yz, 4yz or 5yz, and not 354.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.is_accepted() || self.code >= 400
    }

    /// 5yz.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.code / 100 == 5
    }

    /// Each line without its code.
    #[must_use]
    pub fn text(&self) -> &[String] {
        &self.lines
    }

    /// The id under which the next hop queued the mail, where its reply names one: one grep follows the mail through both
    /// machines.
    #[must_use]
    pub fn queue_id(&self) -> Option<&str> {
        // Postfix and Sendmail's kin, Exim, Haraka, OpenSMTPD, Exchange.
        let text = self.lines.last().filter(|_| self.is_accepted())?;
        let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest.trim_start());
        let found =
            after("queued as ").or_else(|| after(" id=")).or_else(|| after("Queued (")).or_else(|| after("InternalId=")).or_else(|| {
                let (before, _) = text.split_once(" Message accepted for delivery")?;
                before.rsplit(' ').next()
            })?;
        let end = found.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter)).unwrap_or(found.len());
        found.get(..end.min(QUEUE_ID)).map(|id| id.trim_end_matches('.')).filter(|id| !id.is_empty())
    }

    /// The reply as it goes over the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{mark}{line}\r\n", self.code).as_bytes());
        }
    }
}

/// Characters of a queue id that are kept.
const QUEUE_ID: usize = 64;

/// On one line, for logs.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_back_as_they_were() {
        for wire in ["250 2.1.0 Ok\r\n", "550-5.1.1 no\r\n550 5.1.1 such user\r\n", "250 \r\n", "354 go\r\n"] {
            let reply = Reply::parse(wire).unwrap();
            let mut out = Vec::new();
            reply.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
        for (text, id) in [
            ("2.0.0 Ok: queued as 4XyZ1", Some("4XyZ1")),
            ("OK id=1tEAbc-000000001-2Xyz", Some("1tEAbc-000000001-2Xyz")),
            ("Message Queued (3F2A-11.1)", Some("3F2A-11.1")),
            ("2.0.0 5a8f1 Message accepted for delivery", Some("5a8f1")),
            ("2.6.0 <x@y> [InternalId=123, Hostname=z] Queued mail for delivery", Some("123")),
            ("ok", None),
        ] {
            assert_eq!(Reply::new(250, text).queue_id(), id, "{text}");
        }
        assert_eq!(Reply::new(451, "queued as x").queue_id(), None);
        for odd in ["", "25", "abc hello", "250-a\r\n550 b", "999 x", "100 x"] {
            assert_eq!(Reply::parse(odd), None, "{odd:?}");
        }
        assert_eq!(Reply::parse("250 a\x07b").unwrap().text(), ["a?b"]);
    }
}
