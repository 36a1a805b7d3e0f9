//! The connection to a next hop: commands out, one reply at a time in.
//!
//! One reply at a time, so that nothing that came behind it is taken for the reply to a later command, and nothing that
//! came in the clear is read once TLS is spoken.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncWrite as _, AsyncWriteExt as _, BufReader},
    task::coop::unconstrained,
    time::Instant,
};
use tokio_rustls::rustls::ClientConfig;

use crate::{
    clock::Alarm,
    smtp::codec::reply::{NoReply, Reply, ReplyReader},
    tls::Channel,
};

/// A connection on which replies are read. No method is cancel-safe: whoever gives up a call half-way must drop the connection.
pub(super) struct Connection {
    stream: BufReader<Channel>,
    alarm: Alarm,
}

/// Why a command was not sent, or no reply read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It was not done in time.
    #[error("timed out")]
    TimedOut,
    /// What came is no reply (RFC 5321 section 4.2).
    #[error(transparent)]
    NoReply(#[from] NoReply),
    /// The connection ended, or the network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why not all octets of a mail's data were written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The next hop has said something, or closed the connection, and the last of them are left.
    #[error("connection closed, or a reply before the end of the mail")]
    Interrupted,
    /// The network failed, or the next hop took none in time; the last of them are left.
    #[error(transparent)]
    NotTheEnd(io::Error),
    /// The same, and the last of them may have left.
    #[error(transparent)]
    PerhapsTheEnd(io::Error),
}

impl Connection {
    /// A connection of which nothing was read.
    pub(super) fn new(channel: Channel) -> Self {
        Self { stream: BufReader::with_capacity(READ_AHEAD, channel), alarm: Alarm::new() }
    }

    /// Sends command lines with their line ends; `patience` is for the next hop to take them.
    pub(super) async fn send(&mut self, lines: &[u8], patience: Duration) -> Result<(), ReadError> {
        let send = async {
            self.stream.write_all(lines).await?;
            Ok(self.stream.flush().await?)
        };
        self.alarm.within(Instant::now() + patience, send).await.unwrap_or(Err(ReadError::TimedOut))
    }

    /// Writes octets of a mail's data, as long as the next hop says nothing; `patience` is for it to take some of them.
    pub(super) async fn write(&mut self, mut slices: &mut [IoSlice<'_>], patience: Duration) -> Result<(), WriteError> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let write = poll_fn(|context| {
                if Pin::new(&mut self.stream).poll_fill_buf(context).is_ready() {
                    return Poll::Ready(Err(WriteError::Interrupted));
                }
                Pin::new(self.stream.get_mut()).poll_write_vectored(context, slices).map_err(WriteError::NotTheEnd)
            });
            let written = self.alarm.within(Instant::now() + patience, write).await;
            match written.unwrap_or_else(|_| Err(WriteError::NotTheEnd(io::ErrorKind::TimedOut.into())))? {
                0 => return Err(WriteError::NotTheEnd(io::ErrorKind::WriteZero.into())),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
        let flushed = self.alarm.within(Instant::now() + patience, self.stream.flush()).await;
        flushed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(WriteError::PerhapsTheEnd)
    }

    /// Resolves once something has come that was not read, the connection's end included. Cancel-safe.
    pub(super) async fn speaks(&mut self) {
        // Where it fails, the next read says why.
        let _ = self.stream.fill_buf().await;
    }

    /// Reads the next reply, of one line or several, all of it within `patience`. Not cancel-safe: the lines read so far are lost.
    pub(super) async fn reply(&mut self, patience: Duration) -> Result<Reply, ReadError> {
        let Self { stream, alarm } = self;
        let read = async {
            let mut reader = ReplyReader::default();
            loop {
                let available = stream.fill_buf().await?;
                if available.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed").into());
                }
                let end = memchr::memchr(b'\n', available).map_or(available.len(), |feed| feed + 1);
                let found = reader.take(available.get(..end).unwrap_or_default())?;
                stream.consume(end);
                if let Some(reply) = found {
                    return Ok(reply);
                }
            }
        };
        alarm.within(Instant::now() + patience, read).await.unwrap_or(Err(ReadError::TimedOut))
    }

    /// Puts TLS underneath. Octets that came in the clear behind the reply to STARTTLS are an error: anybody may have put them
    /// there.
    pub(super) async fn encrypt(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        if !self.stream.buffer().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "octets in the clear behind the reply to STARTTLS"));
        }
        let channel = std::mem::take(self.stream.get_mut());
        *self.stream.get_mut() = channel.connect(config, name).await?;
        Ok(())
    }

    /// Whether nothing has come that nobody asked for, the connection's end included. Asked before each command: a reply
    /// too many would be taken for the answer to it, and a mail for delivered that was not. Unconstrained: a task that has used up
    /// its turn would be told that nothing is there.
    pub(super) fn is_quiet(&mut self) -> bool {
        let look = pin!(unconstrained(poll_fn(|context| Pin::new(&mut self.stream).poll_fill_buf(context).map(drop))));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether TLS is in use.
    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.get_ref().is_encrypted()
    }
}

/// Octets that one read takes of replies.
const READ_AHEAD: usize = 2 * 1024;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
