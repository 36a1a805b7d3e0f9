//! The connection to an upstream: octets in and out, with deadlines. What they mean is the codec's.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::rustls::ServerConfig;

use super::spool::Spool;
use crate::{
    service::listener,
    smtp::{
        codec::{
            data::{DataReader, LineEndings},
            line::{CommandLine, LineReader},
            reply::Reply,
        },
        config::{BareLineEndings, Deadlines},
    },
    tls::Channel,
};

/// An upstream's connection.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    input: Vec<u8>,
    /// Octets at the start of `input` that were taken.
    taken: usize,
    lines: LineReader,
    /// Replies that wait to be sent.
    output: Vec<u8>,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer went away.
    #[error("connection closed")]
    Closed,
    /// The peer sent nothing, or took nothing, within the deadline.
    #[error("timed out")]
    TimedOut,
    /// The network, or a handshake.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Connection {
    /// Wraps a connection; `input` is what was read from it already.
    #[must_use]
    pub const fn new(channel: Channel, input: Vec<u8>) -> Self {
        Self { channel, input, taken: 0, lines: LineReader::new(), output: Vec::new() }
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
        memchr::memchr(b'\n', self.rest()).is_some()
    }

    /// A look at the next line without its CRLF, where all of it has come and it is in order.
    #[must_use]
    pub fn peek(&self) -> Option<&[u8]> {
        self.lines.peek(self.rest())
    }

    fn rest(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    /// Reads a command line. Cancel-safe: what has come so far is kept.
    ///
    /// # Errors
    /// Where the peer goes away.
    pub async fn line(&mut self) -> Result<CommandLine, ConnectionError> {
        loop {
            let (used, line) = self.lines.read(self.input.get(self.taken..).unwrap_or_default());
            self.taken += used;
            if let Some(line) = line {
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Reads a mail's data up to its end into `spool`; returns what its lines ended in.
    ///
    /// # Errors
    /// Where the peer goes away, sends nothing for `data_block` or takes longer than `data`.
    pub async fn data(&mut self, spool: &mut Spool, bare: BareLineEndings, deadlines: &Deadlines) -> Result<LineEndings, ConnectionError> {
        let end = Instant::now() + deadlines.data;
        let mut reader = DataReader::new(bare);
        loop {
            let (used, line_endings) = reader.read(self.input.get(self.taken..).unwrap_or_default(), &mut |bytes| spool.push(bytes));
            self.taken += used;
            if let Some(line_endings) = line_endings {
                return Ok(line_endings);
            }
            spool.settle().await;
            let patience = end.min(Instant::now() + deadlines.data_block);
            timeout_at(patience, self.fill()).await.map_err(|_| ConnectionError::TimedOut)??;
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

    /// Puts a reply behind those that wait; they go out with the next [`Connection::flush`].
    pub fn queue(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    /// Sends the replies that wait.
    ///
    /// # Errors
    /// Where the peer goes away, or does not take it within `patience`.
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
        sent.map_err(|_| ConnectionError::TimedOut)?.map_err(ConnectionError::Io)
    }

    /// Sends the replies that wait and closes the connection, so that a peer that is still talking hears them.
    pub async fn hang_up(&mut self) {
        let last = std::mem::take(&mut self.output);
        listener::hang_up(&mut self.channel, &last).await;
    }

    /// Puts TLS underneath. What came in the clear behind STARTTLS is dropped (RFC 3207 section 4.2).
    ///
    /// # Errors
    /// Where the handshake fails, or takes longer than `patience`.
    pub async fn encrypt(&mut self, config: Arc<ServerConfig>, patience: Duration) -> Result<(), ConnectionError> {
        self.input.clear();
        self.taken = 0;
        let channel = std::mem::take(&mut self.channel).accept(config);
        self.channel = timeout(patience, channel).await.map_err(|_| ConnectionError::TimedOut)??;
        Ok(())
    }
}

/// Octets of one read of data.
const READ: usize = 16 * 1024;
/// Octets of a first read: idle sessions are many, and a command line is short.
const FIRST_READ: usize = 4 * 1024;
