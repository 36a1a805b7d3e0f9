//! The connection to an upstream: octets in and out, with deadlines. [`codec`](crate::smtp::codec) gives them their meaning.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_rustls::rustls::ServerConfig;

use crate::{
    clock::{Alarm, TimedOut},
    limits,
    service::listener,
    smtp::codec::{
        line::{CommandLine, LineReader},
        reply::Reply,
    },
    tls::Channel,
};

/// A connection to an upstream, in the clear or in TLS.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    input: Vec<u8>,
    /// Octets at the start of `input` that were taken.
    taken: usize,
    lines: LineReader,
    /// Replies that were queued and not sent.
    output: Vec<u8>,
    alarm: Alarm,
}

/// Why a connection can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed the connection.
    #[error("connection closed")]
    Closed,
    /// The peer sent nothing, or took no octet, within the deadline.
    #[error("timed out")]
    TimedOut,
    /// The network failed, or a TLS handshake.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<TimedOut> for ConnectionError {
    fn from(TimedOut: TimedOut) -> Self {
        Self::TimedOut
    }
}

impl Connection {
    /// Wraps a connection; `input` holds the octets that were read from it already.
    #[must_use]
    pub fn new(channel: Channel, input: Vec<u8>) -> Self {
        Self { channel, input, taken: 0, lines: LineReader::new(), output: Vec::new(), alarm: Alarm::new() }
    }

    /// Whether TLS is in use.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.channel.is_encrypted()
    }

    /// Whether octets have come that were not taken.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.input().is_empty()
    }

    /// Whether a whole line has come that was not taken: the peer pipelines (RFC 2920).
    #[must_use]
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.input()).is_some()
    }

    /// The next line without its CRLF, where all of it has come and it is well-formed. Takes nothing.
    #[must_use]
    pub fn peek(&self) -> Option<&[u8]> {
        self.lines.peek(self.input())
    }

    /// Reads a command line. Cancel-safe: the octets received so far are kept for the next call.
    ///
    /// # Errors
    /// Where the connection ends, or no whole line comes until the deadline.
    pub async fn line(&mut self, deadline: Instant) -> Result<CommandLine, ConnectionError> {
        loop {
            let (used, line) = self.lines.read(self.input.get(self.taken..).unwrap_or_default());
            self.taken += used;
            if let Some(line) = line {
                return Ok(line);
            }
            // A large buffer is not kept while no mail comes.
            if self.input.capacity() > READ {
                self.rest();
            }
            self.fill(deadline, if self.has_input() { READ } else { FIRST_READ }).await?;
        }
    }

    /// The octets that have come and were not taken.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    /// Takes octets at the start of the input and drops them.
    pub const fn skip(&mut self, octets: usize) {
        self.taken += octets;
    }

    /// Takes octets at the start of the input, in the buffer that they were read into, and drops so many `behind` them.
    #[must_use]
    pub fn take(&mut self, octets: usize, behind: usize) -> Vec<u8> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let rest = self.input.get(octets + behind..).unwrap_or_default().to_vec();
        self.input.truncate(octets);
        std::mem::replace(&mut self.input, rest)
    }

    /// Gives a buffer back that is no longer needed: the next mail is read into it.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.input.is_empty() && buffer.capacity() <= READ {
            buffer.clear();
            self.input = buffer;
        }
    }

    /// Lets the buffer go, but for the octets that were not taken: the peer is silent.
    pub fn rest(&mut self) {
        self.input.drain(..std::mem::take(&mut self.taken));
        self.input.shrink_to(if self.input.is_empty() { 0 } else { READ });
    }

    /// Reads some more of a mail's data, with room for so many octets. Cancel-safe.
    ///
    /// # Errors
    /// Where the connection ends, or nothing comes until the deadline.
    pub async fn more(&mut self, deadline: Instant, room: usize) -> Result<(), ConnectionError> {
        self.fill(deadline, room.clamp(READ, limits::BLOCK)).await
    }

    async fn fill(&mut self, deadline: Instant, room: usize) -> Result<(), ConnectionError> {
        self.input.drain(..std::mem::take(&mut self.taken));
        // By as much as is wanted and no more: a mail is as large as its buffer.
        let enough = if self.input.is_empty() { room } else { room / 4 };
        if self.input.capacity() - self.input.len() < enough {
            self.input.reserve_exact(room);
        }
        let read = self.alarm.within(deadline, self.channel.read_buf(&mut self.input)).await??;
        if read == 0 { Err(ConnectionError::Closed) } else { Ok(()) }
    }

    /// Queues a reply; it is sent by the next [`Connection::flush`].
    pub fn queue(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    /// Sends the queued replies. Not cancel-safe: part of them may have been sent, and a second call sends them again.
    ///
    /// # Errors
    /// Where the connection ends, or the peer does not take the octets within `patience`.
    pub async fn flush(&mut self, patience: Duration) -> Result<(), ConnectionError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let send = async {
            self.channel.write_all(&self.output).await?;
            self.channel.flush().await
        };
        let sent = self.alarm.within(Instant::now() + patience, send).await;
        self.output.clear();
        self.output.shrink_to(READ);
        sent?.map_err(ConnectionError::Io)
    }

    /// Sends the queued replies and closes the connection in two steps, so that a peer that is still sending receives them.
    pub async fn hang_up(&mut self) {
        let last = std::mem::take(&mut self.output);
        listener::hang_up(&mut self.channel, &last).await;
    }

    /// Puts TLS underneath. What came in the clear behind STARTTLS is dropped (RFC 3207 section 4.2). Not cancel-safe.
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

/// Octets of a mail's first read: most come whole.
const READ: usize = 16 * 1024;
/// Octets of the read of a command: idle sessions are many, and a command line is short.
const FIRST_READ: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A large mail and a command that has begun behind it: 150 such sessions took 62 MB where the octet kept the mail's buffer.
    #[tokio::test]
    async fn what_begins_behind_a_large_mail_does_not_keep_its_buffer() {
        const MAIL: usize = 1 << 20;
        for passed_on in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut connection = Connection::new(Channel::Clear(listener.accept().await.unwrap().0), Vec::new());
            let sent = tokio::spawn(async move { upstream.write_all(&vec![b'N'; MAIL + 1]).await.map(|()| upstream) });
            let soon = Instant::now() + limits::COMMAND;
            while connection.input().len() <= MAIL {
                connection.more(soon, limits::BLOCK).await.unwrap();
            }
            if passed_on {
                connection.skip(MAIL);
            } else {
                let mail = connection.take(MAIL, 0);
                connection.reuse(mail);
            }
            assert!(matches!(connection.line(Instant::now()).await, Err(ConnectionError::TimedOut)));
            assert_eq!(connection.input(), b"N");
            assert!(connection.input.capacity() <= 2 * READ, "{}", connection.input.capacity());
            drop(sent);
        }
    }
}
