//! Command lines: CRLF ends them and nothing else (RFC 5321 section 2.3.8), within [`limits::COMMAND_LINE`].

use memchr::memchr;

use crate::limits;

/// A command line as received.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line that ended in CRLF, without it.
    Whole(Vec<u8>),
    /// A line that ended in a bare LF, or held a bare CR.
    BareLineEnding,
    /// A line over [`limits::COMMAND_LINE`] octets; it was read to its end.
    TooLong,
    /// No line end came within [`limits::ENDLESS_LINE`] octets. What follows is no command.
    Endless,
}

/// Reads command lines, however they are cut into pieces. Of a line that is too long only the length is kept.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Octets of the current line that were dropped.
    dropped: usize,
}

impl LineReader {
    /// A reader at the start of a line.
    #[must_use]
    pub const fn new() -> Self {
        Self { dropped: 0 }
    }

    /// Takes what it can of `input`, which starts where the last call left off. Returns how many octets were taken, and the line
    /// once its end, or [`limits::ENDLESS_LINE`], is reached.
    pub fn read(&mut self, input: &[u8]) -> (usize, Option<CommandLine>) {
        let Some(end) = memchr(b'\n', input) else {
            let length = self.dropped.saturating_add(input.len());
            if length > limits::ENDLESS_LINE {
                return (input.len(), Some(CommandLine::Endless));
            }
            if input.len() >= limits::COMMAND_LINE {
                self.dropped = length;
                return (input.len(), None);
            }
            return (0, None);
        };
        let length = std::mem::take(&mut self.dropped).saturating_add(end + 1);
        let line = if length > limits::ENDLESS_LINE {
            CommandLine::Endless
        } else if length > limits::COMMAND_LINE {
            CommandLine::TooLong
        } else {
            input.get(..end).and_then(whole).map_or(CommandLine::BareLineEnding, |line| CommandLine::Whole(line.to_vec()))
        };
        (end + 1, Some(line))
    }

    /// The next line without its CRLF, where all of it has come and it is a [`CommandLine::Whole`] one. Takes nothing.
    #[must_use]
    pub fn peek<'i>(&self, input: &'i [u8]) -> Option<&'i [u8]> {
        let end = memchr(b'\n', input).filter(|end| self.dropped == 0 && *end < limits::COMMAND_LINE)?;
        input.get(..end).and_then(whole)
    }
}

/// A line without its LF: the text before its CR, where that is the only one.
fn whole(line: &[u8]) -> Option<&[u8]> {
    line.strip_suffix(b"\r").filter(|line| memchr(b'\r', line).is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every line of `wire`, fed in pieces of `cut` octets, up to one without end.
    fn lines(wire: &[u8], cut: usize) -> Vec<CommandLine> {
        let (mut reader, mut waiting, mut lines) = (LineReader::new(), Vec::new(), Vec::new());
        for piece in wire.chunks(cut) {
            waiting.extend_from_slice(piece);
            loop {
                let peeked = reader.peek(&waiting).map(<[u8]>::to_vec);
                let (used, line) = reader.read(&waiting);
                waiting.drain(..used);
                assert!(waiting.len() < limits::COMMAND_LINE + cut, "the reader needs little room");
                let Some(line) = line else { break };
                assert_eq!(peeked, if let CommandLine::Whole(line) = &line { Some(line.clone()) } else { None });
                let is_endless = line == CommandLine::Endless;
                lines.push(line);
                if is_endless {
                    return lines;
                }
            }
        }
        lines
    }

    #[test]
    fn lines_end_in_crlf_and_have_a_bound() {
        let whole = |text: &str| CommandLine::Whole(text.into());
        assert_eq!(lines(b"NOOP\r\n\r\nQUIT\r\nEH", 100), [whole("NOOP"), whole(""), whole("QUIT")]);
        assert_eq!(lines(b"a\nb\rc\r\nd\r\r\ne\r\n", 100)[..3], [const { CommandLine::BareLineEnding }; 3]);
        for (length, found) in [
            (limits::COMMAND_LINE - 2, whole(&"x".repeat(limits::COMMAND_LINE - 2))),
            (limits::COMMAND_LINE - 1, CommandLine::TooLong),
            (limits::ENDLESS_LINE - 2, CommandLine::TooLong),
            (limits::ENDLESS_LINE - 1, CommandLine::Endless),
            (limits::ENDLESS_LINE * 4, CommandLine::Endless),
        ] {
            let wire = [vec![b'x'; length], b"\r\nNOOP\r\n".to_vec()].concat();
            for cut in [1_000, 4_096, wire.len()] {
                assert_eq!(lines(&wire, cut).first(), Some(&found), "{length} by {cut}");
            }
        }
        assert_eq!(lines(&vec![b'x'; limits::ENDLESS_LINE + 5_000], 4_096), [CommandLine::Endless], "no line end is needed");
    }

    proptest! {
        #[test]
        fn any_cutting_reads_the_same(wire in "([A-Z ]{0,6}(\r\n|\n|\r|\0)){0,8}", cut in 1_usize..9) {
            prop_assert_eq!(lines(wire.as_bytes(), cut), lines(wire.as_bytes(), wire.len().max(1)));
        }
    }
}
