//! The next hop, by lettre's low-level connection behind one wrapper.
//!
//! lettre brings the protocol's order; what a relay needs besides stands here: no delay on the socket, each reply as it
//! came, one reply line handed out at a time, a deadline around every call, and the extensions that lettre does not
//! read. Its `send` and its `Address` are never used: they stop at the first refused recipient and refuse legal paths.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use lettre::transport::smtp::{
    client::{AsyncSmtpConnection, AsyncTokioStream},
    extension::ClientId,
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::reply::Reply;
use crate::limits;

/// A connection to the next hop.
pub struct NextHop {
    connection: AsyncSmtpConnection,
    heard: Heard,
    extensions: Extensions,
}

/// What a hop announces (RFC 1869) and this one can carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 1870; the number, or 0 where there is none.
    pub size: Option<usize>,
}

/// What went wrong between the hops.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// It cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It greeted with a refusal.
    #[error("refused the session: {0}")]
    Refused(Reply),
    /// It broke off, or said something that is no reply.
    #[error("broke off: {0}")]
    Broken(String),
    /// It said nothing in time.
    #[error("said nothing in time")]
    Silent,
}

/// What became of a mail's data.
#[derive(Debug)]
pub enum Sent {
    /// The next hop answered: to DATA where it refused that, to the final dot otherwise.
    Answered(Reply),
    /// The connection broke before the final dot was sent: the next hop has nothing.
    NotSent(HopError),
    /// It broke after: the next hop may have the mail.
    Unknown(HopError),
}

impl NextHop {
    /// Connects, greets and reads the extensions.
    ///
    /// # Errors
    /// Says why there is no session; nothing was sent.
    pub async fn connect(address: &str, hostname: &str) -> Result<Self, HopError> {
        let heard = Heard::default();
        let open = async {
            let stream = TcpStream::connect(address).await.map_err(|error| HopError::Unreachable(error.to_string()))?;
            stream.set_nodelay(true).map_err(|error| HopError::Unreachable(error.to_string()))?;
            let stream = LineStream { stream: BufReader::with_capacity(REPLIES, stream), heard: heard.clone(), line: 0 };
            let greeted = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ClientId::Domain(hostname.to_owned())).await;
            greeted.map_err(|error| match heard.last_reply() {
                Some(reply) if reply.code() >= 400 => HopError::Refused(reply),
                _ => HopError::Broken(error.to_string()),
            })
        };
        let connection = timeout(limits::CONNECT, open).await.map_err(|_| HopError::Silent)??;
        let extensions = heard.last_reply().map(|reply| Extensions::read(&reply)).unwrap_or_default();
        Ok(Self { connection, heard, extensions })
    }

    /// What it announced.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Sends command lines, all at once where it pipelines, and reads a reply for each.
    ///
    /// # Errors
    /// Where it breaks off; how many of the commands it heard is then not known.
    pub async fn commands(&mut self, lines: &[String]) -> Result<Vec<Reply>, HopError> {
        if !self.extensions.pipelining || lines.len() == 1 {
            let mut replies = Vec::with_capacity(lines.len());
            for line in lines {
                replies.push(self.exchange(Some(&format!("{line}\r\n")), limits::REPLY).await?);
            }
            return Ok(replies);
        }
        let mut text = lines.join("\r\n");
        text.push_str("\r\n");
        let mut replies = vec![self.exchange(Some(&text), limits::REPLY).await?];
        for _ in 1..lines.len() {
            replies.push(self.exchange(None, limits::REPLY).await?);
        }
        Ok(replies)
    }

    /// Sends DATA and the mail. The mail must hold CRLF line ends only and end in one, as what came by [`super::wire`]
    /// does.
    pub async fn data(&mut self, mail: &[u8]) -> Sent {
        match self.exchange(Some("DATA\r\n"), limits::REPLY).await {
            Ok(reply) if reply.code() == 354 => {}
            Ok(reply) => return Sent::Answered(reply),
            Err(error) => return Sent::NotSent(error),
        }
        // lettre adds the CRLF of the final CRLF.CRLF itself.
        let mail = mail.strip_suffix(b"\r\n").unwrap_or(mail);
        self.heard.forget();
        match timeout(limits::FINAL_REPLY, self.connection.message(mail)).await {
            Err(_) => Sent::Unknown(HopError::Silent),
            Ok(answer) => match self.heard.complete_reply() {
                Some(reply) => Sent::Answered(reply),
                None => Sent::Unknown(HopError::Broken(answer.err().map(|error| error.to_string()).unwrap_or_default())),
            },
        }
    }

    /// Ends the session politely; nobody waits long for it.
    pub async fn quit(mut self) {
        let _ = timeout(GOODBYE, self.connection.command("QUIT\r\n")).await;
    }

    async fn exchange(&mut self, lines: Option<&str>, patience: Duration) -> Result<Reply, HopError> {
        self.heard.forget();
        let answer = async {
            match lines {
                Some(lines) => self.connection.command(lines).await,
                None => self.connection.read_response().await,
            }
        };
        let answer = timeout(patience, answer).await.map_err(|_| HopError::Silent)?;
        self.heard.complete_reply().ok_or_else(|| HopError::Broken(answer.err().map(|error| error.to_string()).unwrap_or_default()))
    }
}

/// Time for the answer to QUIT.
const GOODBYE: Duration = Duration::from_secs(2);
/// Octets of replies that are read ahead.
const REPLIES: usize = 4 * 1024;

impl Extensions {
    /// All of them: what is announced while nobody knows what the next hop can carry. Nothing is taken then, so
    /// nothing is promised; but an upstream must not give a mail up because an extension is missing for a minute.
    #[must_use]
    pub const fn all() -> Self {
        Self { pipelining: true, eight_bit_mime: true, smtputf8: true, dsn: true, enhanced_status_codes: true, size: Some(0) }
    }

    /// Whether everything that another set holds is here too.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        (self.eight_bit_mime || !other.eight_bit_mime) && (self.smtputf8 || !other.smtputf8) && (self.dsn || !other.dsn) && (self.size.is_some() || other.size.is_none())
    }

    fn read(ehlo: &Reply) -> Self {
        let mut found = Self::default();
        for line in ehlo.text().iter().skip(1) {
            let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "ENHANCEDSTATUSCODES" => found.enhanced_status_codes = true,
                "SIZE" => found.size = Some(rest.trim().parse().unwrap_or(0)),
                _ => {}
            }
        }
        found
    }
}

/// The reply lines since the last command, as they came.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, line: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() + line.len() <= TRANSCRIPT {
            heard.extend(line.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }));
        }
    }

    /// The reply, where its last line has come.
    fn complete_reply(&self) -> Option<Reply> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.lines().next_back()?;
        let whole = heard.ends_with('\n') && last.as_bytes().get(3) != Some(&b'-');
        whole.then(|| Reply::parse(&heard)).flatten()
    }

    /// The last of several replies: greeting, then the answer to EHLO.
    fn last_reply(&self) -> Option<Reply> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<&str> = Vec::new();
        for line in heard.lines() {
            if lines.last().is_some_and(|last| last.as_bytes().get(3) != Some(&b'-')) {
                lines.clear();
            }
            lines.push(line);
        }
        Reply::parse(&lines.join("\n"))
    }
}

/// Octets of replies that are kept; lettre stops reading a reply long before.
const TRANSCRIPT: usize = 64 * 1024;

/// A stream that hands out one reply line for each read and keeps it.
///
/// One line at a time, so that nothing that came behind a reply is taken for the reply to a later command; bounded, so
/// that a line without an end needs no room.
struct LineStream {
    stream: BufReader<TcpStream>,
    heard: Heard,
    /// Octets of the line that is being read.
    line: usize,
}

impl fmt::Debug for LineStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineStream")
    }
}

impl AsyncRead for LineStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let available = match Pin::new(&mut this.stream).poll_fill_buf(context) {
            Poll::Ready(Ok(available)) => available,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let end = memchr::memchr(b'\n', available).map_or(available.len(), |feed| feed + 1);
        let piece = available.get(..end.min(into.remaining())).unwrap_or_default();
        this.line += piece.len();
        if this.line > limits::REPLY_LINE {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a reply line is too long")));
        }
        if piece.ends_with(b"\n") {
            this.line = 0;
        }
        this.heard.add(piece);
        into.put_slice(piece);
        let taken = piece.len();
        Pin::new(&mut this.stream).consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }
}

impl AsyncTokioStream for LineStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }
}
