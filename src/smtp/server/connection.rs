//! Lines and data on the connection: CRLF only, and the one true end of data (RFC 5321 section 4.1.1.4).
//!
//! A line that ends otherwise, or data with a CR or LF that stands alone, is an error that is told at the true end, so
//! that the session stays in step and nothing can be smuggled past it.

use std::{sync::Arc, time::Duration};

use memchr::memchr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::rustls::ServerConfig;

use super::spool::Spool;
use crate::{
    limits,
    smtp::{
        codec::reply::Reply,
        config::{BareLineEndings, Deadlines},
    },
    tls::Channel,
};

/// An upstream's connection.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    input: Vec<u8>,
    /// How much of `input` was taken.
    taken: usize,
    /// Octets of the line that is being read which were dropped, because it is too long.
    dropped: usize,
    output: Vec<u8>,
}

/// A command line as it came.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A line that ended in CRLF, without it.
    Whole(Vec<u8>),
    /// A line that ended in a bare LF, or held a bare CR.
    BareLineEnding,
    /// A line over [`limits::COMMAND_LINE`]; it was read to its end.
    TooLong,
    /// A line that had not ended after [`limits::ENDLESS_LINE`]. What follows is no command.
    Endless,
}

/// What the lines of a mail's data ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEndings {
    /// CR LF, all of them.
    Clean,
    /// A CR or an LF stood alone somewhere.
    Bare,
    /// A line was a lone dot but for NULs, as it came or once line ends were repaired: whoever drops NULs sees the end of
    /// data there (RFC 5321 section 4.1.1.4).
    FalseEnd,
}

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
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

impl Connection {
    /// Wraps a connection; `input` is what was read from it already.
    #[must_use]
    pub const fn new(channel: Channel, input: Vec<u8>) -> Self {
        Self { channel, input, taken: 0, dropped: 0, output: Vec::new() }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.channel.is_encrypted()
    }

    /// Whether anything has come that was not taken yet.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.rest().is_empty()
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

    /// Reads a command line. May be given up and called again: what has come so far is kept.
    ///
    /// # Errors
    /// Where the peer goes away.
    pub async fn line(&mut self) -> Result<CommandLine, ConnectionError> {
        loop {
            if let Some(end) = memchr(b'\n', self.rest()) {
                let line = self.rest().get(..end).unwrap_or_default();
                let length = self.dropped.saturating_add(end + 1);
                let line = if length > limits::ENDLESS_LINE {
                    CommandLine::Endless
                } else if length > limits::COMMAND_LINE {
                    CommandLine::TooLong
                } else {
                    match line.strip_suffix(b"\r") {
                        Some(line) if !line.contains(&b'\r') => CommandLine::Whole(line.to_vec()),
                        _ => CommandLine::BareLineEnding,
                    }
                };
                self.taken += end + 1;
                self.dropped = 0;
                return Ok(line);
            }
            if self.rest().len() >= limits::COMMAND_LINE {
                self.dropped = self.dropped.saturating_add(self.rest().len());
                self.taken = self.input.len();
            }
            if self.dropped > limits::ENDLESS_LINE {
                return Ok(CommandLine::Endless);
            }
            self.fill().await?;
        }
    }

    /// Reads data up to its end into `spool`, dots unstuffed (RFC 5321 section 4.5.2).
    ///
    /// # Errors
    /// Where the peer goes away, is silent for `data_block` or takes longer than `data`.
    pub async fn data(&mut self, spool: &mut Spool, bare: BareLineEndings, deadlines: &Deadlines) -> Result<LineEndings, ConnectionError> {
        let end = Instant::now() + deadlines.data;
        let mut reader = DataReader::new(bare);
        loop {
            let (used, done) = reader.read(self.input.get(self.taken..).unwrap_or_default(), &mut |bytes| spool.push(bytes));
            self.taken += used;
            if done {
                return Ok(reader.line_endings());
            }
            spool.settle().await;
            let patience = end.min(Instant::now() + deadlines.data_block);
            timeout_at(patience, self.fill()).await.map_err(|_| ConnectionError::Silent)??;
        }
    }

    async fn fill(&mut self) -> Result<(), ConnectionError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() && self.input.capacity() > READ {
            self.input = Vec::new();
        }
        self.input.reserve(if self.input.is_empty() { FIRST_READ } else { READ });
        if self.channel.read_buf(&mut self.input).await? == 0 { Err(ConnectionError::Closed) } else { Ok(()) }
    }

    /// Puts a reply into the queue; it goes out with the next [`Connection::flush`].
    pub fn queue(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Where the peer goes away or takes nothing for so long.
    pub async fn flush(&mut self, patience: Duration) -> Result<(), ConnectionError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let send = async {
            self.channel.write_all(&self.output).await?;
            self.channel.flush().await
        };
        let sent = timeout(patience, send).await;
        self.output.clear();
        self.output.shrink_to(READ);
        sent.map_err(|_| ConnectionError::Silent)?.map_err(ConnectionError::Io)
    }

    /// Sends what waits, ends our side, and reads on for a moment: a connection that is closed with octets unread is
    /// reset, and a reset takes the last reply away from a peer that was still talking.
    pub async fn hang_up(&mut self) {
        let drain = async {
            self.flush(limits::LINGER).await?;
            self.channel.shutdown().await?;
            let (mut dropped, mut block) = (0, [0; FIRST_READ]);
            while dropped < limits::LINGER_OCTETS {
                match self.channel.read(&mut block).await? {
                    0 => break,
                    read => dropped += read,
                }
            }
            Ok::<_, ConnectionError>(())
        };
        // Whatever comes of it, the connection is closed.
        let _ = timeout(limits::LINGER, drain).await;
    }

    /// Shakes hands. What came in the clear behind STARTTLS is dropped (RFC 3207 section 4.2).
    ///
    /// # Errors
    /// Where the peer cannot, or takes longer than `patience`.
    pub async fn encrypt(&mut self, config: Arc<ServerConfig>, patience: Duration) -> Result<(), ConnectionError> {
        self.input.clear();
        self.taken = 0;
        let channel = std::mem::take(&mut self.channel).accept(config);
        self.channel = timeout(patience, channel).await.map_err(|_| ConnectionError::Silent)??;
        Ok(())
    }
}

/// Octets of one read of data.
const READ: usize = 16 * 1024;
/// Octets of a first read: idle sessions are many, and a command line is short.
const FIRST_READ: usize = 4 * 1024;

/// The state of reading data: where in a line, and what was odd.
#[derive(Debug)]
pub struct DataReader {
    inside: Inside,
    bare: BareLineEndings,
    seen: LineEndings,
    text: Text,
}

/// What a line holds so far, NULs not counted.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Behind a CRLF, or at the very beginning.
    LineStart,
    /// Behind the start of a line, or behind an LF that stood alone: no dot counts here.
    CommandLine,
}

impl DataReader {
    /// A reader that has read nothing.
    #[must_use]
    pub const fn new(bare: BareLineEndings) -> Self {
        Self { inside: Inside::LineStart, bare, seen: LineEndings::Clean, text: Text::NONE }
    }

    /// Takes what it can of `input`; returns how much that was, and whether the end of data has come.
    pub fn read(&mut self, input: &[u8], keep: &mut impl FnMut(&[u8])) -> (usize, bool) {
        let mut at = 0;
        while let Some(feed) = input.get(at..).and_then(|rest| memchr(b'\n', rest)) {
            let line = input.get(at..=at + feed).unwrap_or_default();
            at += line.len();
            if self.line(line, keep) {
                return (at, true);
            }
        }
        // A long line in pieces, so that it needs no room here; its last octets may be half of a line end.
        let rest = input.get(at..).unwrap_or_default();
        if rest.len() > READ {
            let piece = rest.get(..rest.len() - 2).unwrap_or_default();
            self.keep(piece, b"", keep);
            self.inside = Inside::CommandLine;
            at += piece.len();
        }
        (at, false)
    }

    /// One line with its LF, or the last piece of one.
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
                self.inside = Inside::CommandLine;
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

    /// A line is over, as it came or as it is repaired.
    fn end_line(&mut self) {
        if self.text == (Text::Dot { nul: true }) {
            self.seen = LineEndings::FalseEnd;
        }
        self.text = Text::NONE;
    }

    /// Keeps text that may hold a CR alone, and what ends it.
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

    /// What the lines ended in.
    #[must_use]
    pub const fn line_endings(&self) -> LineEndings {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(bare: BareLineEndings, pieces: &[&[u8]]) -> (Vec<u8>, Option<LineEndings>, Vec<u8>) {
        let (mut reader, mut into, mut waiting) = (DataReader::new(bare), Vec::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            waiting.extend_from_slice(piece);
            let (used, done) = reader.read(&waiting, &mut |bytes| into.extend_from_slice(bytes));
            waiting.drain(..used);
            if done {
                waiting.extend(pieces[at + 1..].iter().flat_map(|piece| piece.iter()));
                return (into, Some(reader.line_endings()), waiting);
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
        let long = "x".repeat(READ * 2 + 7);
        let connection = format!("..a\r\n{long}\r\n.b\r\n\r\n{long}\r\n.\r\n");
        let whole = read(&[connection.as_bytes()]);
        assert_eq!(whole.1, Some(LineEndings::Clean));
        for size in [1, 2, 3, 7, 1_000, READ, READ + 1, READ + 3] {
            let pieces: Vec<&[u8]> = connection.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces), whole, "{size}");
        }
    }
}
