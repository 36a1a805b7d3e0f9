//! A connection that hands out one reply line at a time, and keeps what it handed out.
//!
//! One line at a time, so that nothing that came behind a reply is taken for the reply to a later command, and nothing
//! that came in the clear is read once TLS is spoken; bounded, so that a line without an end needs no room. lettre holds
//! one handle, the hop another: the hop writes a mail's data past lettre, and puts TLS underneath it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::rustls::ClientConfig;

use crate::{limits, smtp::reply::Reply, tls::Channel};

/// A handle of the connection; all clones are the same connection.
#[derive(Clone)]
pub(super) struct LineStream(Arc<Mutex<Inner>>);

struct Inner {
    stream: BufReader<Channel>,
    /// Octets of the line that is being read.
    line: usize,
    /// Lines since then.
    lines: usize,
    /// The reply lines since the last [`LineStream::forget`], as they came.
    heard: Vec<u8>,
}

impl LineStream {
    pub(super) fn new(channel: Channel) -> Self {
        Self(Arc::new(Mutex::new(Inner { stream: BufReader::with_capacity(REPLIES, channel), line: 0, lines: 0, heard: Vec::new() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self) {
        let mut inner = self.inner();
        inner.heard.clear();
        inner.lines = 0;
    }

    /// What was heard, as text; octets that are no UTF-8 are not repeated.
    fn transcript(&self) -> String {
        let inner = self.inner();
        match std::str::from_utf8(&inner.heard) {
            Ok(text) => text.to_owned(),
            Err(_) => inner.heard.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect(),
        }
    }

    /// The reply, where its last line has come.
    pub(super) fn complete_reply(&self) -> Option<Reply> {
        let heard = self.transcript();
        let last = heard.lines().next_back()?;
        let whole = heard.ends_with('\n') && last.as_bytes().get(3) != Some(&b'-');
        whole.then(|| Reply::parse(&heard)).flatten()
    }

    /// The code of the first of several replies.
    pub(super) fn greeting_code(&self) -> Option<u16> {
        self.transcript().get(..3)?.parse().ok()
    }

    /// The last of several replies: greeting, then the answer to EHLO.
    pub(super) fn last_reply(&self) -> Option<Reply> {
        let heard = self.transcript();
        let mut lines: Vec<&str> = Vec::new();
        for line in heard.lines() {
            if lines.last().is_some_and(|last| last.as_bytes().get(3) != Some(&b'-')) {
                lines.clear();
            }
            lines.push(line);
        }
        Reply::parse(&lines.join("\n"))
    }

    /// Puts TLS underneath. What came in the clear behind the reply to STARTTLS was said by anybody, so its being there
    /// ends the connection.
    pub(super) async fn encrypt(&self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        let channel = {
            let mut inner = self.inner();
            if !inner.stream.buffer().is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it said more in the clear than its answer to STARTTLS"));
            }
            std::mem::take(inner.stream.get_mut())
        };
        let channel = channel.connect(config, name).await?;
        *self.inner().stream.get_mut() = channel;
        Ok(())
    }

    /// Whether nothing has come that nobody asked for, the connection's end included. Asked before each command: a reply
    /// too many would be taken for the answer to it, and a mail for delivered that was not.
    pub(super) fn is_quiet(&self) -> bool {
        let mut inner = self.inner();
        Pin::new(&mut inner.stream).poll_fill_buf(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.inner().stream.get_ref().is_encrypted()
    }
}

/// Octets of replies that are read ahead.
const REPLIES: usize = 2 * 1024;
/// Octets of replies that are kept; lettre stops reading a reply before.
const TRANSCRIPT: usize = 128 * 1024;

impl fmt::Debug for LineStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineStream")
    }
}

impl AsyncRead for LineStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let available = match Pin::new(&mut inner.stream).poll_fill_buf(context) {
            Poll::Ready(Ok(available)) => available,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let end = memchr::memchr(b'\n', available).map_or(available.len(), |feed| feed + 1);
        let piece = available.get(..end.min(into.remaining())).unwrap_or_default();
        inner.line += piece.len();
        if inner.line > limits::REPLY_LINE {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a reply line is too long")));
        }
        if piece.ends_with(b"\n") {
            inner.line = 0;
            inner.lines += 1;
        }
        if inner.lines > limits::REPLY_LINES {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a reply has too many lines")));
        }
        if inner.heard.len() + piece.len() <= TRANSCRIPT {
            inner.heard.extend_from_slice(piece);
        }
        // lettre reads text: what is no ASCII must not end the reply.
        let taken = piece.len();
        if piece.is_ascii() {
            into.put_slice(piece);
        } else {
            let plain: Vec<u8> = piece.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
            into.put_slice(&plain);
        }
        Pin::new(&mut inner.stream).consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.inner().stream.get_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner().stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner().stream.get_mut()).poll_shutdown(context)
    }
}

impl AsyncTokioStream for LineStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner().stream.get_ref().tcp().ok_or(io::ErrorKind::NotConnected)?.peer_addr()
    }
}
