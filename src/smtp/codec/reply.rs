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

    /// Reads a whole reply as it came over the connection; none where it is none.
    #[must_use]
    pub fn parse(connection: &str) -> Option<Self> {
        let mut reader = ReplyReader::default();
        let whole = if connection.ends_with('\n') { connection.to_owned() } else { format!("{connection}\n") };
        whole.as_bytes().split_inclusive(|byte| *byte == b'\n').find_map(|line| reader.take(line).transpose())?.ok()
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

    /// The reply as it goes over the connection.
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{mark}{line}\r\n", self.code).as_bytes());
        }
    }
}

/// What came is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// A line that does not start with a code.
    #[error("it said what is no reply: {0:?}")]
    NoCode(String),
    /// Lines of one reply with codes of which one accepts, or that are not of one class (RFC 5321 section 4.2.1).
    #[error("it gave the codes {0} and {1} in one reply")]
    MixedCodes(u16, u16),
}

/// Puts a reply together from the octets of its lines (RFC 5321 sections 4.2 and 4.2.1): `NNN`, then nothing, a blank and
/// text, or a hyphen where more lines follow. Takes lines of any length and any number, and keeps of them
/// [`limits::REPLY_LINE`] octets each and [`limits::REPLY_TEXT`] in all.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<u16>,
    lines: Vec<String>,
    /// Octets of `lines`, and one for each.
    kept: usize,
    /// The line that is being read, as far as it is kept.
    line: Vec<u8>,
}

impl ReplyReader {
    /// Takes a line with its LF, or the next piece of one without. Returns the reply once its last line has come.
    ///
    /// # Errors
    /// Where it is none; nothing that follows belongs to it then.
    pub fn take(&mut self, piece: &[u8]) -> Result<Option<Reply>, NoReply> {
        let room = (CODE + limits::REPLY_LINE).saturating_sub(self.line.len());
        self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
        if !piece.ends_with(b"\n") {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let text = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let more = self.read(line.get(..text).unwrap_or_default())?;
        Ok(self.code.filter(|_| !more).map(|code| Reply { code, lines: std::mem::take(&mut self.lines) }))
    }

    /// Reads a line, and tells whether more lines follow.
    fn read(&mut self, line: &[u8]) -> Result<bool, NoReply> {
        let none = || NoReply::NoCode(line.escape_ascii().take(SHOWN).map(char::from).collect());
        let (digits, rest) = line.split_at_checked(3).ok_or_else(none)?;
        let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let code = number.and_then(|text| text.parse().ok()).filter(|code| (200..600).contains(code)).ok_or_else(none)?;
        let (more, text) = match rest.split_first() {
            Some((b'-', text)) => (true, text),
            Some((b' ' | b'\t', text)) => (false, text),
            // Neither a reply nor anything else: what starts as a refusal is one.
            Some((byte, _)) if !byte.is_ascii_alphanumeric() => (false, rest),
            Some(_) => return Err(none()),
            None => (false, rest),
        };
        match self.code {
            // Two refusals for good, or for now, are one: the last code is the one that counts.
            Some(before) if before != code && (before / 100 != code / 100 || code < 400) => return Err(NoReply::MixedCodes(before, code)),
            _ => self.code = Some(code),
        }
        // The last line is always kept: it is what people read.
        if !more || self.kept + text.len() < limits::REPLY_TEXT {
            self.kept += text.len() + 1;
            self.lines.push(shown(text));
        }
        Ok(more)
    }
}

/// Text that may stand in a reply and in a log; octets that are no UTF-8 are not repeated.
fn shown(text: &[u8]) -> String {
    let whole = match std::str::from_utf8(text) {
        // Cut in the middle of a letter.
        Err(error) if error.error_len().is_none() => text.get(..error.valid_up_to()).unwrap_or_default(),
        Ok(_) | Err(_) => text,
    };
    let text = match std::str::from_utf8(whole) {
        Ok(text) => text.to_owned(),
        Err(_) => whole.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect(),
    };
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Octets of a code and what stands behind it.
const CODE: usize = 4;
/// Octets that are shown of what is no reply.
const SHOWN: usize = 80;
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
        for connection in ["250 2.1.0 Ok\r\n", "550-5.1.1 no\r\n550 5.1.1 such user\r\n", "250 \r\n", "354 go\r\n"] {
            let reply = Reply::parse(connection).unwrap();
            let mut out = Vec::new();
            reply.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), connection);
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
        for odd in [
            "",
            "25",
            "abc hello",
            "250-a\r\n550 b",
            "550-a\r\n250 b",
            "250-a\r\n251 b",
            "450-a\r\n550",
            "999 x",
            "100 x",
            "2500 x",
            "+50 x",
        ] {
            assert_eq!(Reply::parse(odd), None, "{odd:?}");
        }
        assert_eq!(Reply::parse("250 a\x07b").unwrap().text(), ["a?b"]);
    }

    #[test]
    fn bare_codes_are_replies() {
        for (connection, code, lines) in [
            ("250\r\n", 250, vec![""]),
            ("220\n", 220, vec![""]),
            ("250-\r\n250\r\n", 250, vec!["", ""]),
            ("250-a\r\n250\r\n", 250, vec!["a", ""]),
            ("250-\r\n250 \r\n", 250, vec!["", ""]),
            ("550-a\r\n554 b\r\n", 554, vec!["a", "b"]),
        ] {
            let reply = Reply::parse(connection).unwrap();
            assert_eq!((reply.code(), reply.text()), (code, lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>().as_slice()));
        }
    }

    #[test]
    fn lines_of_any_length_and_number_need_little_room() {
        let long = format!("250-{0}\r\n250 {0}\r\n", "é".repeat(1 << 20));
        let mut reader = ReplyReader::default();
        let mut found = None;
        for line in long.as_bytes().split_inclusive(|byte| *byte == b'\n') {
            for piece in line.chunks(1_000) {
                found = reader.take(piece).unwrap();
                assert!(reader.line.capacity() < 16 * 1024);
            }
        }
        let reply = found.unwrap();
        assert_eq!((reply.code(), reply.text()[0].len(), reply.text()[1].len()), (250, limits::REPLY_LINE, limits::REPLY_LINE));
        let many = format!("{}550 the end\r\n", "550-x\r\n".repeat(100_000));
        let reply = Reply::parse(&many).unwrap();
        assert_eq!((reply.code(), reply.text().last().map(String::as_str)), (550, Some("the end")));
        assert!(reply.text().iter().map(|line| line.len() + 1).sum::<usize>() <= limits::REPLY_TEXT + "the end".len() + 1);
    }
}
