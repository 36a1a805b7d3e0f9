//! SMTP replies (RFC 5321 section 4.2), read and written: the hop's own, and the next hop's that are relayed.

use std::{fmt, io::Write as _};

use crate::limits;

/// One reply, of one line or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line that the hop itself gives.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![text.into()] }
    }

    /// A reply of several lines that the hop itself gives.
    #[must_use]
    pub const fn lines(code: u16, lines: Vec<String>) -> Self {
        Self { code, lines }
    }

    /// Reads a whole reply, with or without its last line end; none where the text is no reply.
    #[must_use]
    pub fn parse(wire: &str) -> Option<Self> {
        let mut reader = ReplyReader::default();
        let whole = if wire.ends_with('\n') { wire.to_owned() } else { format!("{wire}\n") };
        whole.as_bytes().split_inclusive(|byte| *byte == b'\n').find_map(|line| reader.take(line).transpose())?.ok()
    }

    /// The reply code, as in 550.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// Whether the code is 2yz: the command was done.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the code ends a command: 2yz, 4yz or 5yz, and not 354.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.is_accepted() || self.code >= 400
    }

    /// Whether the code is 5yz: the command was refused for good.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.code / 100 == 5
    }

    /// Each line without its code.
    #[must_use]
    pub fn text(&self) -> &[String] {
        &self.lines
    }

    /// The id under which the next hop queued the mail, where its reply names one: it links the logs of both hosts. 64 characters
    /// at most.
    #[must_use]
    pub fn queue_id(&self) -> Option<&str> {
        // The wordings of Postfix, Sendmail, Exim, Haraka, OpenSMTPD and Exchange.
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

    /// Writes the reply's lines, each with its CRLF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            // To memory, so it cannot fail.
            let _ = write!(out, "{}{mark}{line}\r\n", self.code);
        }
    }
}

/// Why what came is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// A line that does not start with a code from 200 to 599; the line's first 80 characters.
    #[error("malformed reply: {0:?}")]
    NoCode(String),
    /// Lines of one reply with codes of which one accepts, or that are not of one class (RFC 5321 section 4.2.1).
    #[error("malformed reply: the codes {0} and {1} in one")]
    MixedCodes(u16, u16),
    /// More than [`limits::REPLY_LINES`] lines or [`limits::REPLY_OCTETS`] octets, and no last line.
    #[error("malformed reply: it has no end")]
    Endless,
}

/// Puts a reply together from the octets of its lines (RFC 5321 sections 4.2 and 4.2.1): `NNN`, then nothing, a blank and
/// text, or a hyphen where more lines follow. Takes lines of any length and any number, and keeps of them
/// [`limits::REPLY_LINE`] octets each and [`limits::REPLY_TEXT`] in all.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<u16>,
    lines: Vec<String>,
    /// Octets of `lines`, and one for each line.
    kept: usize,
    /// The line that is being read, as far as it is kept.
    line: Vec<u8>,
    /// Lines and octets received, kept or not.
    came: (usize, usize),
}

impl ReplyReader {
    /// Takes a line with its LF, or the next piece of one without. Returns the reply once its last line has come.
    ///
    /// # Errors
    /// [`NoReply`]; nothing that follows belongs to the reply then.
    pub fn take(&mut self, piece: &[u8]) -> Result<Option<Reply>, NoReply> {
        let room = (CODE + limits::REPLY_LINE).saturating_sub(self.line.len());
        let ends = piece.ends_with(b"\n");
        if !ends || !self.line.is_empty() {
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
        }
        self.came = (self.came.0 + usize::from(ends), self.came.1.saturating_add(piece.len()));
        let is_endless = self.came.0 > limits::REPLY_LINES || self.came.1 > limits::REPLY_OCTETS;
        if !ends {
            return if is_endless { Err(NoReply::Endless) } else { Ok(None) };
        }
        let kept = std::mem::take(&mut self.line);
        // A line that came in one piece is read where it is.
        let line = if kept.is_empty() { piece.get(..room).unwrap_or(piece) } else { &kept };
        let text = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let more = self.read(line.get(..text).unwrap_or_default())?;
        if more && is_endless {
            return Err(NoReply::Endless);
        }
        Ok(self.code.filter(|_| !more).map(|code| Reply { code, lines: std::mem::take(&mut self.lines) }))
    }

    /// Reads a line; returns whether more lines follow.
    fn read(&mut self, line: &[u8]) -> Result<bool, NoReply> {
        let none = || NoReply::NoCode(line.escape_ascii().take(SHOWN).map(char::from).collect());
        let (digits, rest) = line.split_at_checked(3).ok_or_else(none)?;
        let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let code = number.and_then(|text| text.parse().ok()).filter(|code| (200..600).contains(code)).ok_or_else(none)?;
        let (more, text) = match rest.split_first() {
            Some((b'-', text)) => (true, text),
            Some((b' ' | b'\t', text)) => (false, text),
            // A reply with a malformed separator: its code is obeyed all the same.
            Some((byte, _)) if !byte.is_ascii_alphanumeric() => (false, rest),
            Some(_) => return Err(none()),
            None => (false, rest),
        };
        match self.code {
            // Several 4yz codes, or several 5yz codes, are one refusal: the last code counts.
            Some(before) if before != code && (before / 100 != code / 100 || code < 400) => return Err(NoReply::MixedCodes(before, code)),
            _ => self.code = Some(code),
        }
        // The last line is always kept: it is the one that reports quote.
        if !more || self.kept + text.len() < limits::REPLY_TEXT {
            self.kept += text.len() + 1;
            self.lines.push(shown(text));
        }
        Ok(more)
    }
}

/// Text that may stand in a reply and in a log; control characters, and octets of what is not UTF-8, become `?`.
fn shown(text: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(text)
        && !text.chars().any(char::is_control)
    {
        return text.to_owned();
    }
    let whole = match std::str::from_utf8(text) {
        // Cut inside a character.
        Err(error) if error.error_len().is_none() => text.get(..error.valid_up_to()).unwrap_or_default(),
        Ok(_) | Err(_) => text,
    };
    let text = match std::str::from_utf8(whole) {
        Ok(text) => text.to_owned(),
        Err(_) => whole.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect(),
    };
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Octets of a code and its separator.
const CODE: usize = 4;
/// Characters of a malformed line that an error shows.
const SHOWN: usize = 80;
/// Characters of a queue id that are kept.
const QUEUE_ID: usize = 64;

/// The reply on one line, for logs.
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
        for (wire, code, lines) in [
            ("250\r\n", 250, vec![""]),
            ("220\n", 220, vec![""]),
            ("250-\r\n250\r\n", 250, vec!["", ""]),
            ("250-a\r\n250\r\n", 250, vec!["a", ""]),
            ("250-\r\n250 \r\n", 250, vec!["", ""]),
            ("550-a\r\n554 b\r\n", 554, vec!["a", "b"]),
        ] {
            let reply = Reply::parse(wire).unwrap();
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
        let many = format!("{}550 the end\r\n", format!("550-{}\r\n", "x".repeat(limits::REPLY_LINE)).repeat(limits::REPLY_LINES - 1));
        let reply = Reply::parse(&many).unwrap();
        assert_eq!((reply.code(), reply.text().last().map(String::as_str)), (550, Some("the end")));
        assert!(reply.text().iter().map(|line| line.len() + 1).sum::<usize>() <= limits::REPLY_TEXT + "the end".len() + 1);
    }

    #[test]
    fn a_reply_without_end_is_none() {
        let mut reader = ReplyReader::default();
        let ended = (0..=limits::REPLY_LINES).find_map(|_| reader.take(b"250-x\r\n").err());
        assert_eq!(ended, Some(NoReply::Endless));
        let (mut reader, block) = (ReplyReader::default(), vec![b'x'; 1 << 20]);
        let ended = (0..=limits::REPLY_OCTETS >> 20).find_map(|_| reader.take(&block).err());
        assert_eq!(ended, Some(NoReply::Endless));
    }

    proptest::proptest! {
        #[test]
        fn replies_are_read_as_they_are_written(code in 200_u16..600, lines in proptest::collection::vec("\\PC{0,40}", 1..5), cut in 1_usize..20) {
            let reply = Reply::lines(code, lines);
            let mut wire = Vec::new();
            reply.write(&mut wire);
            let (mut reader, mut found) = (ReplyReader::default(), None);
            for piece in wire.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(cut)) {
                proptest::prop_assert_eq!(&found, &None);
                found = reader.take(piece).unwrap();
            }
            proptest::prop_assert_eq!(found, Some(reply));
        }
    }
}
