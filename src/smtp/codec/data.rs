//! A mail's data on the wire, incoming: the one true end, dots unstuffed, line ends repaired or reported (RFC 5321 sections
//! 2.3.8, 4.1.1.4 and 4.5.2). What is written to the next hop is [`super::stuffing`]'s.

use memchr::{memchr, memmem, memrchr};

use crate::smtp::config::BareLineEndings;

/// Where the end of data starts: a line of a lone dot, at the start of the data or behind a CRLF. No end may start before `from`.
#[must_use]
pub fn end(wire: &[u8], from: usize) -> Option<usize> {
    if from == 0 && wire.starts_with(END) {
        return Some(0);
    }
    // From the line end before it.
    let from = from.saturating_sub(2);
    memmem::find(wire.get(from..).unwrap_or_default(), b"\r\n.\r\n").map(|at| from + at + 2)
}

/// The end of data.
pub const END: &[u8] = b".\r\n";

/// What stands in whole lines of data, as they go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Lines that are on the wire as they are in the mail: CR LF ends each, none starts with a dot, and none holds a NUL.
    Plain,
    /// The same with dots at the start of lines.
    Stuffed,
    /// A CR or an LF stands alone, or a NUL is there: for [`DataReader`] to tell.
    Odd,
}

impl Lines {
    /// Looks at whole lines, from the start of one.
    #[must_use]
    pub fn of(lines: &[u8]) -> Self {
        let Some((first, rest)) = lines.split_first() else { return Self::Plain };
        // One pass without a branch, so that it compiles to vector instructions.
        let (mut odd, mut stuffed) = (u8::from(matches!(first, 0 | b'\n')), u8::from(*first == b'.'));
        for (before, byte) in lines.iter().zip(rest) {
            odd |= u8::from((*before == b'\r') != (*byte == b'\n')) | u8::from(*byte == 0);
            stuffed |= u8::from(*before == b'\n') & u8::from(*byte == b'.');
        }
        match (odd | u8::from(!lines.ends_with(b"\n")), stuffed) {
            (0, 0) => Self::Plain,
            (0, _) => Self::Stuffed,
            _ => Self::Odd,
        }
    }
}

/// Keeps lines that hold so many stuffed dots, without these.
fn unstuff(lines: &[u8], dots: usize, keep: &mut impl FnMut(&[u8])) {
    let mut from = usize::from(dots > 0 && lines.starts_with(b"."));
    for at in memmem::find_iter(lines, b"\n.").take(dots) {
        keep(lines.get(from..=at).unwrap_or_default());
        from = at + 2;
    }
    keep(lines.get(from..).unwrap_or_default());
}

/// The line ends of a mail's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEndings {
    /// CR LF, each of them.
    Clean,
    /// A CR or an LF stood alone.
    Bare,
    /// A line was a lone dot but for NULs, as it came or once line ends were repaired: whoever drops NULs sees the end of
    /// data there (RFC 5321 section 4.1.1.4).
    FalseEnd,
}

/// Octets of a long line that are held back at most.
const PIECE: usize = 16 * 1024;

/// Reads a mail's data, however it is cut into pieces.
#[derive(Debug)]
pub struct DataReader {
    inside: Inside,
    bare: BareLineEndings,
    seen: LineEndings,
    text: Text,
}

/// The text of a line so far, NULs not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Nothing { nul: bool },
    Dot { nul: bool },
    More,
}

impl Text {
    const NONE: Self = Self::Nothing { nul: false };

    fn and(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self = match (self, byte) {
                (Self::Nothing { .. }, 0) => Self::Nothing { nul: true },
                (Self::Dot { .. }, 0) => Self::Dot { nul: true },
                (Self::Nothing { nul }, b'.') => Self::Dot { nul },
                _ => return Self::More,
            };
        }
        self
    }
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// At the start of a line: behind a CRLF, or at the start of the data. A dot here is stuffing, or the end of data.
    LineStart,
    /// Behind the start of a line, or behind an LF that stood alone: a dot here is text.
    Line,
}

impl DataReader {
    /// A reader at the start of the data; `bare` is whether a CR or an LF that stands alone is kept or becomes CR LF.
    #[must_use]
    pub const fn new(bare: BareLineEndings) -> Self {
        Self { inside: Inside::LineStart, bare, seen: LineEndings::Clean, text: Text::NONE }
    }

    /// Takes what it can of `input`, which starts where the last call left off, and gives the mail's octets to `keep`. Returns
    /// how many octets were taken, and the line ends once the end of data has come; the octets behind it are commands.
    pub fn read(&mut self, input: &[u8], keep: &mut impl FnMut(&[u8])) -> (usize, Option<LineEndings>) {
        let (lines, dots) = self.clean_lines(input);
        unstuff(lines, dots, keep);
        let mut at = lines.len();
        while let Some(feed) = input.get(at..).and_then(|rest| memchr(b'\n', rest)) {
            let line = input.get(at..=at + feed).unwrap_or_default();
            at += line.len();
            if self.line(line, keep) {
                return (at, Some(self.seen));
            }
        }
        // A long line is taken in pieces, so that it need not be buffered; its last octets may be half of a line end.
        let rest = input.get(at..).unwrap_or_default();
        if rest.len() > PIECE {
            let piece = rest.get(..rest.len() - 2).unwrap_or_default();
            self.keep(piece, b"", keep);
            self.inside = Inside::Line;
            at += piece.len();
        }
        (at, None)
    }

    /// The whole lines at the start of `input`, up to the end of data, where nothing is odd about them ([`Lines`]): they are read,
    /// and may be written, as they are on the wire, and the next call starts behind them. Otherwise none. Beside them, how many
    /// dots are stuffed in them.
    #[must_use]
    pub fn clean_lines<'i>(&self, input: &'i [u8]) -> (&'i [u8], usize) {
        if self.inside != Inside::LineStart {
            return (&[], 0);
        }
        let length = end(input, 0).or_else(|| memrchr(b'\n', input).map(|feed| feed + 1)).unwrap_or_default();
        let lines = input.get(..length).unwrap_or_default();
        match Lines::of(lines) {
            Lines::Plain => (lines, 0),
            Lines::Stuffed => (lines, usize::from(lines.starts_with(b".")) + memmem::find_iter(lines, b"\n.").count()),
            Lines::Odd => (&[], 0),
        }
    }

    /// Whether the next octet begins a line.
    #[must_use]
    pub fn is_at_line_start(&self) -> bool {
        self.inside == Inside::LineStart
    }

    /// The line ends so far.
    #[must_use]
    pub const fn line_endings(&self) -> LineEndings {
        self.seen
    }

    /// Takes one line with its LF, or the last piece of one; returns whether it was the end of data.
    fn line(&mut self, line: &[u8], keep: &mut impl FnMut(&[u8])) -> bool {
        if self.inside == Inside::LineStart && line == b".\r\n" {
            return true;
        }
        match line.strip_suffix(b"\r\n") {
            Some(text) if memchr(b'\r', text).is_none() => {
                self.text = self.text.and(text);
                self.end_line();
                keep(self.unstuffed(line));
                self.inside = Inside::LineStart;
            }
            Some(text) => {
                self.keep(text, b"\r\n", keep);
                self.inside = Inside::LineStart;
            }
            None => {
                self.saw_bare();
                self.keep(line.strip_suffix(b"\n").unwrap_or(line), b"\n", keep);
                self.inside = Inside::Line;
            }
        }
        false
    }

    fn unstuffed<'l>(&self, bytes: &'l [u8]) -> &'l [u8] {
        if self.inside == Inside::LineStart { bytes.strip_prefix(b".").unwrap_or(bytes) } else { bytes }
    }

    fn saw_bare(&mut self) {
        if self.seen == LineEndings::Clean {
            self.seen = LineEndings::Bare;
        }
    }

    /// Ends a line, as it came or as it is repaired.
    fn end_line(&mut self) {
        if self.text == (Text::Dot { nul: true }) {
            self.seen = LineEndings::FalseEnd;
        }
        self.text = Text::NONE;
    }

    /// Keeps text that may hold a CR alone, and its line end.
    fn keep(&mut self, text: &[u8], end: &[u8], keep: &mut impl FnMut(&[u8])) {
        let mut rest = text;
        while let Some(at) = memchr(b'\r', rest) {
            self.saw_bare();
            self.text = self.text.and(rest.get(..at).unwrap_or_default());
            self.end_line();
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        self.text = self.text.and(rest);
        if !end.is_empty() {
            self.end_line();
        }
        let text = self.unstuffed(text);
        if self.bare == BareLineEndings::Reject {
            keep(text);
            keep(end);
            return;
        }
        for (at, piece) in text.split(|byte| *byte == b'\r').enumerate() {
            if at > 0 {
                keep(b"\r\n");
            }
            keep(piece);
        }
        if !end.is_empty() {
            keep(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(bare: BareLineEndings, pieces: &[&[u8]]) -> (Vec<u8>, Option<LineEndings>, Vec<u8>) {
        let (mut reader, mut into, mut waiting) = (DataReader::new(bare), Vec::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            waiting.extend_from_slice(piece);
            let (used, end) = reader.read(&waiting, &mut |bytes| into.extend_from_slice(bytes));
            waiting.drain(..used);
            if end.is_some() {
                waiting.extend(pieces[at + 1..].iter().flat_map(|piece| piece.iter()));
                return (into, end, waiting);
            }
        }
        (into, None, waiting)
    }

    fn read(pieces: &[&[u8]]) -> (Vec<u8>, Option<LineEndings>, Vec<u8>) {
        read_with(BareLineEndings::Reject, pieces)
    }

    const FAKES: [&str; 10] =
        ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\r\n.\r\r\n", "\r\n\0.\r\n", "\r\n.\r\r\n"];

    #[test]
    fn data_ends_at_crlf_dot_crlf_only() {
        assert_eq!(read(&[b"a\r\n.\r\nNOOP\r\n"]), (b"a\r\n".to_vec(), Some(LineEndings::Clean), b"NOOP\r\n".to_vec()));
        assert_eq!(read(&[b".\r\n"]), (vec![], Some(LineEndings::Clean), vec![]));
        for fake in FAKES {
            let text = format!("a{fake}MAIL FROM:<evil@x>\r\n.\r\n");
            let (_, end, rest) = read(&[text.as_bytes()]);
            let odd = if fake.contains('\0') { LineEndings::FalseEnd } else { LineEndings::Bare };
            assert_eq!((end, rest.as_slice()), (Some(odd), &b""[..]), "{fake:?}");
        }
    }

    #[test]
    fn normalised_data_holds_crlf_only_and_no_new_end() {
        for fake in FAKES {
            let text = format!("a{fake}MAIL FROM:<evil@x>\r\n.\r\n");
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            for pieces in [vec![text.as_bytes()], pieces] {
                let (kept, _, rest) = read_with(BareLineEndings::Normalize, &pieces);
                assert!(rest.is_empty());
                assert!(!crate::message::header::has_bare_line_ending(&kept), "{fake:?}: {}", kept.escape_ascii());
            }
        }
        assert_eq!(
            read_with(BareLineEndings::Normalize, &[b"a\nb\rc\r\r\n.d\n..e\r\n..f\r\n.\r\n"]).0,
            b"a\r\nb\r\nc\r\n\r\nd\r\n..e\r\n.f\r\n"
        );
    }

    #[test]
    fn dots_are_unstuffed_where_they_were_stuffed() {
        assert_eq!(read(&[b"..\r\n...a\r\na.\r\n..\r\n.\r\n"]).0, b".\r\n..a\r\na.\r\n.\r\n");
        assert_eq!(read(&[b"a\n..\r\n.\r\n"]).1, Some(LineEndings::Bare));
    }

    #[test]
    fn any_cutting_reads_the_same() {
        let long = "x".repeat(PIECE * 2 + 7);
        let connection = format!("..a\r\n{long}\r\n.b\r\n\r\n{long}\r\n.\r\n");
        let whole = read(&[connection.as_bytes()]);
        assert_eq!(whole.1, Some(LineEndings::Clean));
        for size in [1, 2, 3, 7, 1_000, PIECE, PIECE + 1, PIECE + 3] {
            let pieces: Vec<&[u8]> = connection.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces), whole, "{size}");
        }
    }
}
