//! A mail's data that is passed on while it comes in: lines as they came, and only where something is odd about them read and
//! written anew.

use super::{
    data::{DataReader, LineEndings, Lines},
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

    /// Takes the next block of `input`, which starts where the last call left off. Returns how many octets were taken, and the
    /// line ends once the end of data has come.
    pub fn next(&mut self, input: &[u8]) -> (usize, Option<LineEndings>) {
        let (clean, dots) = self.reader.clean_lines(input);
        self.clean = clean.len();
        self.size += clean.len() - dots;
        self.rewritten.written();
        let rest = input.get(self.clean..).unwrap_or_default();
        let (taken, end) = self.reader.read(rest, &mut |octets| {
            self.size += octets.len();
            self.rewritten.push(octets);
        });
        (self.clean + taken, end)
    }

    /// The last block as it goes over the wire, dots stuffed, of the same input.
    #[must_use]
    pub fn block<'i>(&'i self, input: &'i [u8]) -> [&'i [u8]; 2] {
        [input.get(..self.clean).unwrap_or_default(), self.rewritten.ready()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::codec::data::END;

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
            let (taken, end) = passage.next(&waiting);
            onward.extend(passage.block(&waiting).concat());
            waiting.drain(..taken);
            total += taken;
            if let Some(end) = end {
                onward.extend_from_slice(END);
                let (kept, end_of_onward, taken) = read(BareLineEndings::Reject, &onward);
                assert!(end_of_onward.is_some() && taken == onward.len(), "one end: {}", onward.escape_ascii());
                assert_eq!(passage.size(), kept.len());
                return (kept, Some(end), total);
            }
        }
        (Vec::new(), None, total)
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
