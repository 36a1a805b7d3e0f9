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

    /// The reply as it goes over the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{mark}{line}\r\n", self.code).as_bytes());
        }
    }
}

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
        for odd in ["", "25", "abc hello", "250-a\r\n550 b", "999 x", "100 x"] {
            assert_eq!(Reply::parse(odd), None, "{odd:?}");
        }
        assert_eq!(Reply::parse("250 a\x07b").unwrap().text(), ["a?b"]);
    }
}
