//! The connection to a next hop: lines out, one reply at a time in.
//!
//! One reply at a time, so that nothing that came behind it is taken for the reply to a later command, and nothing that
//! came in the clear is read once TLS is spoken; bounded, so that a line without an end needs no room.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_rustls::rustls::ClientConfig;

use crate::{
    limits,
    smtp::codec::reply::{NoReply, Reply, ReplyReader},
    tls::Channel,
};

/// A connection on which replies are read. Whoever gives a read up half-way must not use it again.
pub(super) struct Connection {
    stream: BufReader<Channel>,
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// What came is none.
    #[error(transparent)]
    NoReply(#[from] NoReply),
    /// It said more than [`limits::REPLY_LINES`] lines or [`limits::REPLY_OCTETS`] and had not come to an end.
    #[error("a reply without an end")]
    Endless,
    /// The connection ended, or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Connection {
    pub(super) fn new(channel: Channel) -> Self {
        Self { stream: BufReader::with_capacity(READ_AHEAD, channel) }
    }

    /// Sends commands with their line ends.
    pub(super) async fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        self.stream.write_all(lines).await?;
        self.stream.flush().await
    }

    /// Where a mail's data is written.
    pub(super) fn output(&mut self) -> &mut Channel {
        self.stream.get_mut()
    }

    /// Reads the next reply, of one line or several. Of each line so much is kept as the bounds allow, and the rest is
    /// read and dropped: its code counts however much it says.
    pub(super) async fn reply(&mut self) -> Result<Reply, ReadError> {
        let (mut reader, mut octets, mut lines) = (ReplyReader::default(), 0_usize, 0_usize);
        loop {
            let available = self.stream.fill_buf().await?;
            if available.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up").into());
            }
            let end = memchr::memchr(b'\n', available).map_or(available.len(), |feed| feed + 1);
            let piece = available.get(..end).unwrap_or_default();
            lines += usize::from(piece.ends_with(b"\n"));
            let found = reader.take(piece)?;
            self.stream.consume(end);
            if let Some(reply) = found {
                return Ok(reply);
            }
            octets = octets.saturating_add(end);
            if octets > limits::REPLY_OCTETS || lines > limits::REPLY_LINES {
                return Err(ReadError::Endless);
            }
        }
    }

    /// Puts TLS underneath. What came in the clear behind the reply to STARTTLS was said by anybody, so its being there
    /// ends the connection.
    pub(super) async fn encrypt(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        if !self.stream.buffer().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it said more in the clear than its answer to STARTTLS"));
        }
        let channel = std::mem::take(self.stream.get_mut());
        *self.stream.get_mut() = channel.connect(config, name).await?;
        Ok(())
    }

    /// Whether nothing has come that nobody asked for, the connection's end included. Asked before each command: a reply
    /// too many would be taken for the answer to it, and a mail for delivered that was not.
    pub(super) fn is_quiet(&mut self) -> bool {
        Pin::new(&mut self.stream).poll_fill_buf(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.get_ref().is_encrypted()
    }
}

/// Octets of replies that are read ahead.
const READ_AHEAD: usize = 2 * 1024;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
