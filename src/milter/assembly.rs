//! A mail as an MTA tells it, put together again, and an edited mail as the changes that an MTA can be asked for.
//!
//! Pure. The octets that come out are those that the MTA had, line ends apart, which it keeps as its system does.

use std::{collections::HashMap, ops::Range};

use super::codec::MilterReply;
use crate::{
    edit::{self, Patch},
    message::header::Headers,
};

/// Octets of one piece of a new body that every MTA takes.
const PIECE: usize = 65_535;

/// A mail, as far as it was told.
#[derive(Debug, Default)]
pub struct MessageAssembly {
    raw: Vec<u8>,
    fields: Vec<(Vec<u8>, Range<usize>)>,
}

impl MessageAssembly {
    /// Takes a header field. An MTA tells the lines of a folded one with LF between them.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let start = self.raw.len();
        self.raw.extend_from_slice(name);
        self.raw.push(b':');
        let mut before = 0;
        for byte in value {
            if *byte == b'\n' && before != b'\r' {
                self.raw.push(b'\r');
            }
            self.raw.push(*byte);
            before = *byte;
        }
        self.raw.extend_from_slice(b"\r\n");
        self.fields.push((name.to_vec(), start..self.raw.len()));
    }

    /// The header is complete.
    pub fn end_of_header(&mut self) {
        self.raw.extend_from_slice(b"\r\n");
    }

    /// Takes a piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        self.raw.extend_from_slice(piece);
    }

    /// The mail so far.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Header fields so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.fields.len()
    }

    /// What the MTA has to do for the mail to become what the patches make of it. A field of which a patch takes any octet
    /// goes as a whole, since an MTA deletes fields only: patches take header fields away and put others on top.
    #[must_use]
    pub fn changes(&self, patches: &[Patch]) -> Vec<MilterReply> {
        let mut answers = Vec::new();
        let mut taken: Vec<&Range<usize>> = patches.iter().map(|patch| &patch.at).filter(|at| !at.is_empty()).collect();
        taken.sort_unstable_by_key(|at| at.start);
        let is_taken = |field: &Range<usize>| {
            let first = taken.partition_point(|at| at.end <= field.start);
            taken.get(first).is_some_and(|at| at.start < field.end)
        };
        let mut numbers: HashMap<Vec<u8>, u32> = HashMap::new();
        for (name, range) in &self.fields {
            let number = numbers.entry(name.to_ascii_lowercase()).or_default();
            *number += 1;
            if is_taken(range) {
                answers.push(MilterReply::Delete { name: name.clone(), number: *number });
            }
        }
        // From the last to the first: a deleted field must not change the number of one that goes too.
        answers.reverse();
        let body = self.fields.last().map_or(0, |(_, range)| range.end) + 2;
        if patches.iter().any(|patch| patch.at.start >= body) {
            let shift = |patch: &Patch| Patch { at: patch.at.start - body..patch.at.end - body, with: patch.with.clone() };
            let inside: Vec<Patch> = patches.iter().filter(|patch| patch.at.start >= body).map(shift).collect();
            // Patches that do not fit would have been refused where they were made.
            if let Ok(changed) = edit::apply(self.raw.get(body..).unwrap_or_default(), &inside) {
                answers.extend(changed.chunks(PIECE).map(|piece| MilterReply::Body(piece.to_vec())));
            }
        }
        // Each is put on top of the one before, so the last comes first.
        let added: Vec<u8> = patches.iter().filter(|patch| patch.at.start < body).flat_map(|patch| patch.with.iter().copied()).collect();
        let headers = Headers::read(&added);
        for field in headers.fields().iter().rev() {
            let name = added.get(field.name.clone()).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default().to_owned();
            let value = added.get(field.name.end + 1..field.whole.end).unwrap_or_default();
            let value: Vec<u8> = value.strip_suffix(b"\r\n").unwrap_or(value).iter().copied().filter(|byte| *byte != b'\r').collect();
            answers.push(MilterReply::Insert { name, value });
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_mail_again() {
        let mut assembly = MessageAssembly::default();
        assembly.field(b"Subject", b" caf\xe9\n\ttwo");
        assembly.field(b"X-Odd ", b"x");
        assembly.end_of_header();
        assembly.body(b"one\r\n");
        assembly.body(b"two\r\n");
        assert_eq!(assembly.raw(), b"Subject: caf\xe9\r\n\ttwo\r\nX-Odd :x\r\n\r\none\r\ntwo\r\n");
    }

    #[test]
    fn fields_go_by_number_and_come_in_order() {
        let mut assembly = MessageAssembly::default();
        for (name, value) in [("X-Tag", " 1"), ("Subject", " s"), ("x-tag", " 2\n x"), ("X-Tag", " 3")] {
            assembly.field(name.as_bytes(), value.as_bytes());
        }
        let removal = |at: usize| Patch { at: assembly.fields[at].1.clone(), with: Vec::new() };
        let tag = Patch { at: 0..0, with: b"A: 1\r\nB: 2;\r\n\tc\r\n".to_vec() };
        assert_eq!(
            assembly.changes(&[removal(0), removal(2), tag]),
            [
                MilterReply::Delete { name: b"x-tag".to_vec(), number: 2 },
                MilterReply::Delete { name: b"X-Tag".to_vec(), number: 1 },
                MilterReply::Insert { name: "B".into(), value: b" 2;\n\tc".to_vec() },
                MilterReply::Insert { name: "A".into(), value: b" 1".to_vec() },
            ]
        );
        assert!(assembly.changes(&[]).is_empty());
    }
}
