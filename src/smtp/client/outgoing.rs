//! A mail's data as the next hop gets it: dots stuffed, one true end (RFC 5321 sections 4.1.1.4 and 4.5.2).
//!
//! The pieces are slices of what came in and of what the edits put in between, so that a mail is copied once, into the
//! socket's buffer.

use tokio::{
    fs::File,
    io::{self, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::smtp::config::Deadlines;

/// What is sent: the pieces in order, then what is left of the file. All of it holds CRLF line ends only.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// In memory.
    pub pieces: Vec<&'a [u8]>,
    /// On disk.
    pub file: Option<&'a mut File>,
}

/// How far it got.
#[derive(Debug)]
pub(super) enum Written {
    /// All of it, the final dot included.
    Whole,
    /// Not the final dot, for certain.
    NotTheEnd(io::Error),
    /// Perhaps the final dot.
    PerhapsTheEnd(io::Error),
}

impl Outgoing<'_> {
    /// Writes everything and the end. Each write has the deadline of a block of data.
    pub(super) async fn write(self, to: &mut (impl AsyncWrite + Unpin), deadlines: &Deadlines) -> Written {
        let mut out = Stuffing::default();
        for piece in self.pieces {
            // A large piece goes in parts, so that the buffer stays small.
            for part in piece.chunks(BUFFER) {
                out.push(part);
                if out.buffer.len() >= BUFFER
                    && let Err(error) = out.send(to, deadlines).await
                {
                    return Written::NotTheEnd(error);
                }
            }
        }
        if let Some(file) = self.file {
            let mut block = vec![0; BUFFER];
            loop {
                let read = match file.read(&mut block).await {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => return Written::NotTheEnd(error),
                };
                out.push(block.get(..read).unwrap_or_default());
                if let Err(error) = out.send(to, deadlines).await {
                    return Written::NotTheEnd(error);
                }
            }
        }
        out.finish();
        match out.send(to, deadlines).await {
            Ok(()) => Written::Whole,
            Err(error) => Written::PerhapsTheEnd(error),
        }
    }
}

/// Octets that are written at once: most mails fit.
const BUFFER: usize = 64 * 1024;

/// Stuffs dots over any cutting into pieces.
#[derive(Debug)]
struct Stuffing {
    buffer: Vec<u8>,
    last: [u8; 2],
}

impl Default for Stuffing {
    fn default() -> Self {
        // A mail starts at the start of a line.
        Self { buffer: Vec::new(), last: *b"\r\n" }
    }
}

impl Stuffing {
    fn push(&mut self, bytes: &[u8]) {
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

    fn finish(&mut self) {
        // What came in by SMTP ends in CRLF; without it the final dot would be part of a line.
        if self.last != *b"\r\n" {
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.buffer.extend_from_slice(b".\r\n");
    }

    async fn send(&mut self, to: &mut (impl AsyncWrite + Unpin), deadlines: &Deadlines) -> io::Result<()> {
        let write = async {
            to.write_all(&self.buffer).await?;
            to.flush().await
        };
        let written = timeout(deadlines.data_block, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.buffer.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::server::connection::DataReader;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Stuffing::default();
        for piece in pieces {
            out.push(piece);
        }
        out.finish();
        out.buffer
    }

    fn read_back(connection: &[u8]) -> Vec<u8> {
        let mut reader = DataReader::new(crate::smtp::config::BareLineEndings::Reject);
        let mut kept = Vec::new();
        let (used, done) = reader.read(connection, &mut |bytes| kept.extend_from_slice(bytes));
        assert!(done && used == connection.len(), "{}", connection.escape_ascii());
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
