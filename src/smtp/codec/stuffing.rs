//! A mail's data on the wire, outgoing: dots stuffed, one true end (RFC 5321 sections 4.1.1.4 and 4.5.2).

use super::data::END;

/// Stuffs dots, however the mail is cut into pieces, into a buffer of what is ready to be written. The mail must hold CRLF line
/// ends only.
#[derive(Debug)]
pub struct Stuffing {
    buffer: Vec<u8>,
    /// The last two octets of the mail so far.
    last: [u8; 2],
}

impl Default for Stuffing {
    fn default() -> Self {
        // A mail starts at the start of a line.
        Self { buffer: Vec::new(), last: *b"\r\n" }
    }
}

impl Stuffing {
    /// Takes the next octets of the mail.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.reserve(bytes.len() + bytes.len() / 64 + 8);
        if self.last == *b"\r\n" && bytes.starts_with(b".") {
            self.buffer.push(b'.');
        }
        // A dot may stand right behind a cut line end: the two octets before this piece are looked at first.
        if let (b'\r', Some(b"\n.")) = (self.last[1], bytes.get(..2)) {
            self.buffer.extend_from_slice(b"\n.");
            self.copy(bytes.get(1..).unwrap_or_default());
        } else {
            self.copy(bytes);
        }
        match bytes {
            [.., first, second] => self.last = [*first, *second],
            [only] => self.last = [self.last[1], *only],
            [] => {}
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        let mut from = 0;
        for at in memchr::memmem::find_iter(bytes, b"\r\n.") {
            self.buffer.extend_from_slice(bytes.get(from..at + 2).unwrap_or_default());
            self.buffer.push(b'.');
            from = at + 2;
        }
        self.buffer.extend_from_slice(bytes.get(from..).unwrap_or_default());
    }

    /// Ends the mail's last line where it has no end. What came in by SMTP has; without it the final dot would be part of a line.
    pub fn end_line(&mut self) {
        if self.last != *b"\r\n" {
            self.push(b"\r\n");
        }
    }

    /// Ends the data: writes the final dot, and a CRLF before it where the mail does not end in one.
    pub fn finish(&mut self) {
        self.end_line();
        self.buffer.extend_from_slice(END);
    }

    /// The octets that are ready to be written.
    #[must_use]
    pub fn ready(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops the octets that were ready, once they are written.
    pub fn written(&mut self) {
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::codec::data::DataReader;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Stuffing::default();
        for piece in pieces {
            out.push(piece);
        }
        out.finish();
        out.buffer
    }

    fn read_back(wire: &[u8]) -> Vec<u8> {
        let mut reader = DataReader::new(crate::smtp::config::BareLineEndings::Reject);
        let mut kept = Vec::new();
        let (used, end) = reader.read(wire, &mut |bytes| kept.extend_from_slice(bytes));
        assert!(end.is_some() && used == wire.len(), "{}", wire.escape_ascii());
        kept
    }

    #[test]
    fn any_cutting_is_stuffed_the_same() {
        let mail = b".a\r\n..b\r\n.\r\nc.\r\n\r\n.\r\n.d\r\n";
        let whole = stuffed(&[mail]);
        assert_eq!(whole, b"..a\r\n...b\r\n..\r\nc.\r\n\r\n..\r\n..d\r\n.\r\n");
        for size in 1..mail.len() {
            let pieces: Vec<&[u8]> = mail.chunks(size).collect();
            assert_eq!(stuffed(&pieces), whole, "{size}");
        }
        assert_eq!(stuffed(&[]), b".\r\n");
        assert_eq!(stuffed(&[b"a: b"]), b"a: b\r\n.\r\n");
    }

    proptest::proptest! {
        #[test]
        fn what_is_stuffed_is_read_back(lines in proptest::collection::vec("[.a]{0,4}", 0..20), cut in 1_usize..9) {
            let mail: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
            let pieces: Vec<&[u8]> = mail.chunks(cut).collect();
            proptest::prop_assert_eq!(read_back(&stuffed(&pieces)), mail);
        }
    }
}
