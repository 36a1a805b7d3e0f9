//! A mail's data that is passed on while it comes in: lines as they came, and only where something is odd about them read and
//! written anew.

use super::{
    data::{DataReader, END, LineEndings, Lines},
    stuffing::Stuffing,
};
use crate::smtp::config::BareLineEndings;

/// Data on its way from one wire to another, however it is cut into pieces.
#[derive(Debug)]
pub struct Passage {
    reader: DataReader,
    /// Octets of the mail so far, dots unstuffed.
    size: usize,
    /// Of the last block: octets at its start that go on as they came, and what was made of the rest.
    clean: usize,
    rewritten: Stuffing,
}

impl Passage {
    /// A passage at the start of the data; see [`DataReader::new`].
    #[must_use]
    pub fn new(bare: BareLineEndings) -> Self {
        Self { reader: DataReader::new(bare), size: 0, clean: 0, rewritten: Stuffing::default() }
    }

    /// Octets of the mail so far, dots unstuffed.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The line ends so far.
    #[must_use]
    pub const fn line_endings(&self) -> LineEndings {
        self.reader.line_endings()
    }

    /// Reads whole lines at the start of the data; returns the mail's octets, most times in the buffer in which they came.
    #[must_use]
    pub fn unstuffed(&mut self, lines: Vec<u8>) -> Vec<u8> {
        if Lines::of(&lines) == Lines::Plain {
            self.size += lines.len();
            return lines;
        }
        let mut octets = Vec::with_capacity(lines.len());
        self.read(&lines, &mut |kept| octets.extend_from_slice(kept));
        octets
    }

    /// Reads data that is not passed on; see [`DataReader::read`].
    pub fn read(&mut self, input: &[u8], keep: &mut impl FnMut(&[u8])) -> (usize, Option<LineEndings>) {
        self.reader.read(input, &mut |octets| {
            self.size += octets.len();
            keep(octets);
        })
    }

    /// Takes the next block of `input`, which starts where the last call left off. Returns how many octets were taken, none where
    /// more must come first, and the line ends once the end of data has come.
    pub fn next(&mut self, input: &[u8]) -> (usize, Option<LineEndings>) {
        let (clean, dots) = self.reader.clean_lines(input);
        self.clean = clean.len();
        self.size += clean.len() - dots;
        self.rewritten.written();
        let rest = input.get(self.clean..).unwrap_or_default();
        let piece = rest.get(..self.piece(rest)).unwrap_or_default();
        let (taken, end) = self.reader.read(piece, &mut |octets| {
            self.size += octets.len();
            self.rewritten.push(octets);
        });
        (self.clean + taken, end)
    }

    /// Octets that are read and written anew, behind what goes on as it came: the end of data, or whole lines, so that those
    /// behind them go on as they come again. The beginning of a line waits for its end, unless the line is long.
    fn piece(&self, rest: &[u8]) -> usize {
        if rest.starts_with(END) {
            return END.len();
        }
        let most = rest.get(..PIECE).unwrap_or(rest);
        match memchr::memrchr(b'\n', most) {
            _ if self.clean > 0 => 0,
            Some(feed) => feed + 1,
            None if most.len() == PIECE || !self.reader.is_at_line_start() => most.len(),
            None => 0,
        }
    }

    /// The last block as it goes over the wire, dots stuffed, of the same input.
    #[must_use]
    pub fn block<'i>(&'i self, input: &'i [u8]) -> [&'i [u8]; 2] {
        [input.get(..self.clean).unwrap_or_default(), self.rewritten.ready()]
    }
}

/// Octets that are read and written anew at once: what they are written to takes memory beside the block.
const PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader keeps of data, what else it says, and how many octets it takes.
    fn read(bare: BareLineEndings, wire: &[u8]) -> (Vec<u8>, Option<LineEndings>, usize) {
        let (mut reader, mut kept) = (DataReader::new(bare), Vec::new());
        let (taken, end) = reader.read(wire, &mut |octets| kept.extend_from_slice(octets));
        (kept, end, taken)
    }

    /// The same of data that was passed on in pieces of this size.
    fn passed_on(bare: BareLineEndings, wire: &[u8], cut: usize) -> (Vec<u8>, Option<LineEndings>, usize) {
        let (mut passage, mut onward, mut waiting, mut total) = (Passage::new(bare), Vec::new(), Vec::new(), 0);
        for piece in wire.chunks(cut) {
            waiting.extend_from_slice(piece);
            loop {
                let (taken, end) = passage.next(&waiting);
                onward.extend(passage.block(&waiting).concat());
                assert!(passage.rewritten.ready().len() <= PIECE * 2, "what is written anew is bounded");
                waiting.drain(..taken);
                total += taken;
                if let Some(end) = end {
                    onward.extend_from_slice(END);
                    let (kept, end_of_onward, taken) = read(BareLineEndings::Reject, &onward);
                    assert!(end_of_onward.is_some() && taken == onward.len(), "one end: {}", onward.escape_ascii());
                    assert_eq!(passage.size(), kept.len());
                    return (kept, Some(end), total);
                }
                if taken == 0 {
                    break;
                }
            }
            assert!(waiting.len() <= PIECE, "and so is what waits for the end of its line");
        }
        (Vec::new(), None, total)
    }

    /// However the blocks end, nothing of an ordinary mail is written anew, and behind an odd line nothing more than it.
    #[test]
    fn lines_go_on_as_they_came() {
        let lines = b"a line\r\n..dots\r\n".repeat(5_000);
        for (wire, anew) in [(lines.clone(), 0), ([&lines[..], b"bare\nfeed\r\n", &lines].concat(), 2 * PIECE)] {
            let (mut passage, mut waiting, mut written) = (Passage::new(BareLineEndings::Normalize), Vec::new(), 0);
            for block in wire.chunks(10_007) {
                waiting.extend_from_slice(block);
                while let (taken, None) = passage.next(&waiting)
                    && taken > 0
                {
                    written += passage.rewritten.ready().len();
                    waiting.drain(..taken);
                }
            }
            assert!(written <= anew, "{written} of {}", wire.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        /// What is passed on is read as the mail that came, however it is cut.
        #[test]
        fn what_is_passed_on_is_read_as_it_came(
            lines in proptest::collection::vec("(\\.{0,2}[ab]{0,3}|x{40}|\0?\\.|\\.\r)(\r\n|\r\n|\r\n|\r\n|\n|\r)", 0..12),
            long in 0_usize..2,
            cut in 1_usize..40,
        ) {
            let wire = [lines.concat().as_bytes(), &b"y".repeat(long * 50_000), b"\r\n.b\r\n.\r\nNOOP\r\n"].concat();
            for bare in [BareLineEndings::Reject, BareLineEndings::Normalize] {
                let whole = read(bare, &wire);
                for cut in [cut, cut * 1_000, wire.len()] {
                    let passed = passed_on(bare, &wire, cut);
                    prop_assert_eq!((passed.1, passed.2), (whole.1, whole.2));
                    // A mail with bare line ends is refused where they are not repaired, so it does not matter what goes on.
                    if bare == BareLineEndings::Normalize || whole.1 == Some(LineEndings::Clean) {
                        prop_assert_eq!(&passed.0, &whole.0);
                    }
                }
            }
        }
    }
}
