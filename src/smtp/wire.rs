//! Lines and data on the wire: CRLF only, and the one true end of data (RFC 5321 section 4.1.1.4).
//!
//! A line that ends otherwise, or data with a CR or LF that stands alone, is an error that is told at the true end, so
//! that the session stays in step and nothing can be smuggled past it.

use memchr::memchr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use crate::limits;

/// An upstream's connection.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    input: Vec<u8>,
    /// How much of `input` was taken.
    taken: usize,
    output: Vec<u8>,
}

/// A command line as it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that ended in CRLF, without it.
    Whole(Vec<u8>),
    /// A line that ended in a bare LF, or held a bare CR.
    BareLineEnding,
    /// A line over [`limits::COMMAND_LINE`]; it was read to its end.
    TooLong,
}

/// How data ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEnd {
    /// As it should.
    Clean,
    /// It held a CR or an LF that stands alone.
    BareLineEnding,
    /// It was larger than allowed; what came too much was dropped.
    TooLarge,
}

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer went away.
    #[error("the connection was closed")]
    Closed,
    /// The peer took too long.
    #[error("the peer was silent for too long")]
    Silent,
    /// The network.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Wraps a connection.
    pub const fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), taken: 0, output: Vec::new() }
    }

    /// Whether a whole line has come already: the peer pipelines.
    #[must_use]
    pub fn has_line(&self) -> bool {
        memchr(b'\n', self.rest()).is_some()
    }

    /// A look at the next line, where it has come already and is a whole one.
    #[must_use]
    pub fn peek(&self) -> Option<&[u8]> {
        let rest = self.rest();
        let end = memchr(b'\n', rest)?;
        rest.get(..end)?.strip_suffix(b"\r").filter(|line| line.len() + 2 <= limits::COMMAND_LINE && !line.contains(&b'\r'))
    }

    fn rest(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// Where the peer goes away or is silent for [`limits::COMMAND`].
    pub async fn line(&mut self) -> Result<Line, WireError> {
        let deadline = Instant::now() + limits::COMMAND;
        let mut too_long = false;
        loop {
            if let Some(end) = memchr(b'\n', self.rest()) {
                let line = self.rest().get(..end).unwrap_or_default();
                let line = if too_long || end + 1 > limits::COMMAND_LINE {
                    Line::TooLong
                } else {
                    match line.strip_suffix(b"\r") {
                        Some(line) if !line.contains(&b'\r') => Line::Whole(line.to_vec()),
                        _ => Line::BareLineEnding,
                    }
                };
                self.taken += end + 1;
                return Ok(line);
            }
            if self.rest().len() >= limits::COMMAND_LINE {
                too_long = true;
                self.taken = self.input.len();
            }
            timeout_at(deadline, self.fill()).await.map_err(|_| WireError::Silent)??;
        }
    }

    /// Reads data up to its end and appends it to `into`, dots unstuffed (RFC 5321 section 4.5.2).
    ///
    /// # Errors
    /// Where the peer goes away or takes longer than [`limits::DATA`].
    pub async fn data(&mut self, into: &mut Vec<u8>, most: usize) -> Result<DataEnd, WireError> {
        let deadline = Instant::now() + limits::DATA;
        let most = into.len() + most;
        let mut reader = DataReader::default();
        loop {
            let (used, done) = reader.read(self.input.get(self.taken..).unwrap_or_default(), into, most);
            self.taken += used;
            if done {
                return Ok(reader.end());
            }
            let patience = deadline.min(Instant::now() + limits::DATA_BLOCK);
            timeout_at(patience, self.fill()).await.map_err(|_| WireError::Silent)??;
        }
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.capacity() < READ {
            self.input.reserve(READ);
        }
        if self.stream.read_buf(&mut self.input).await? == 0 { Err(WireError::Closed) } else { Ok(()) }
    }

    /// Puts a reply into the queue; it goes out with the next [`Wire::flush`].
    pub fn queue(&mut self, reply: &super::reply::Reply) {
        reply.write(&mut self.output);
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Where the peer goes away or takes nothing for [`limits::COMMAND`].
    pub async fn flush(&mut self) -> Result<(), WireError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = timeout(limits::COMMAND, self.stream.write_all(&self.output)).await;
        self.output.clear();
        sent.map_err(|_| WireError::Silent)?.map_err(WireError::Io)
    }
}

/// Octets of one read.
const READ: usize = 16 * 1024;

/// The state of reading data: where in a line, and what was odd.
#[derive(Debug)]
pub struct DataReader {
    /// Octets of a line's beginning that came without its end.
    inside: Inside,
    bare: bool,
    too_large: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Behind a CRLF, or at the very beginning.
    LineStart,
    /// Behind the start of a line, or behind an LF that stood alone: no dot counts here.
    Line,
}

impl Default for DataReader {
    fn default() -> Self {
        Self { inside: Inside::LineStart, bare: false, too_large: false }
    }
}

impl DataReader {
    /// Takes what it can of `input`; returns how much that was, and whether the end of data has come.
    pub fn read(&mut self, input: &[u8], into: &mut Vec<u8>, most: usize) -> (usize, bool) {
        let mut at = 0;
        while let Some(feed) = input.get(at..).and_then(|rest| memchr(b'\n', rest)) {
            let line = input.get(at..=at + feed).unwrap_or_default();
            at += line.len();
            if self.line(line, into, most) {
                return (at, true);
            }
        }
        // A long line in pieces, so that it needs no room here; its last octets may be half of a line end.
        let rest = input.get(at..).unwrap_or_default();
        if rest.len() > READ {
            let piece = rest.get(..rest.len() - 2).unwrap_or_default();
            self.piece(piece, into, most);
            at += piece.len();
        }
        (at, false)
    }

    /// One line with its LF, or the last piece of one.
    fn line(&mut self, line: &[u8], into: &mut Vec<u8>, most: usize) -> bool {
        if self.inside == Inside::LineStart && line == b".\r\n" {
            return true;
        }
        let text = line.strip_suffix(b"\r\n");
        let alone = text.is_none_or(|text| memchr(b'\r', text).is_some());
        self.bare |= alone;
        self.push(line, into, most);
        self.inside = if text.is_some() { Inside::LineStart } else { Inside::Line };
        false
    }

    fn piece(&mut self, piece: &[u8], into: &mut Vec<u8>, most: usize) {
        self.bare |= memchr(b'\r', piece).is_some();
        self.push(piece, into, most);
        self.inside = Inside::Line;
    }

    fn push(&mut self, bytes: &[u8], into: &mut Vec<u8>, most: usize) {
        let bytes = if self.inside == Inside::LineStart { bytes.strip_prefix(b".").unwrap_or(bytes) } else { bytes };
        if into.len() + bytes.len() > most {
            self.too_large = true;
        }
        if !self.too_large {
            into.extend_from_slice(bytes);
        }
    }

    /// What was odd, once the end has come.
    #[must_use]
    pub const fn end(&self) -> DataEnd {
        if self.too_large {
            DataEnd::TooLarge
        } else if self.bare {
            DataEnd::BareLineEnding
        } else {
            DataEnd::Clean
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]], most: usize) -> (Vec<u8>, Option<DataEnd>, Vec<u8>) {
        let (mut reader, mut into, mut waiting) = (DataReader::default(), Vec::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            waiting.extend_from_slice(piece);
            let (used, done) = reader.read(&waiting, &mut into, most);
            waiting.drain(..used);
            if done {
                waiting.extend(pieces[at + 1..].iter().flat_map(|piece| piece.iter()));
                return (into, Some(reader.end()), waiting);
            }
        }
        (into, None, waiting)
    }

    #[test]
    fn data_ends_at_crlf_dot_crlf_only() {
        assert_eq!(read(&[b"a\r\n.\r\nNOOP\r\n"], 100), (b"a\r\n".to_vec(), Some(DataEnd::Clean), b"NOOP\r\n".to_vec()));
        assert_eq!(read(&[b".\r\n"], 100), (vec![], Some(DataEnd::Clean), vec![]));
        for fake in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\r\n.\r\r\n", "\r\n\0.\r\n", "\r\n.\r\r\n"] {
            let text = format!("a{fake}MAIL FROM:<evil@x>\r\n.\r\n");
            let (_, end, rest) = read(&[text.as_bytes()], 1_000);
            let odd = if fake.contains('\0') { DataEnd::Clean } else { DataEnd::BareLineEnding };
            assert_eq!((end, rest.as_slice()), (Some(odd), &b""[..]), "{fake:?}");
        }
    }

    #[test]
    fn dots_are_unstuffed_where_they_were_stuffed() {
        assert_eq!(read(&[b"..\r\n...a\r\na.\r\n..\r\n.\r\n"], 100).0, b".\r\n..a\r\na.\r\n.\r\n");
        assert_eq!(read(&[b"a\n..\r\n.\r\n"], 100).1, Some(DataEnd::BareLineEnding));
    }

    #[test]
    fn any_cutting_reads_the_same() {
        let long = "x".repeat(READ * 2 + 7);
        let wire = format!("..a\r\n{long}\r\n.b\r\n\r\n{long}\r\n.\r\n");
        let whole = read(&[wire.as_bytes()], 1 << 20);
        assert_eq!(whole.1, Some(DataEnd::Clean));
        for size in [1, 2, 3, 7, 1_000, READ, READ + 1, READ + 3] {
            let pieces: Vec<&[u8]> = wire.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces, 1 << 20), whole, "{size}");
        }
    }

    #[test]
    fn too_much_is_read_to_the_true_end() {
        let (into, end, rest) = read(&[b"0123456789\r\n.\nHELP\r\n.\r\nQUIT\r\n"], 5);
        assert!(into.len() <= 5);
        assert_eq!((end, rest.as_slice()), (Some(DataEnd::TooLarge), &b"QUIT\r\n"[..]));
    }
}
