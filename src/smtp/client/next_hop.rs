//! A session with a next hop, command by command, each with its deadline.
//!
//! A [`NextHop`] that exists can be used: what fails takes it away, and so does a future that is dropped half-way. No library
//! is underneath: those that send mails refuse legal paths, stop at the first refused recipient, and take replies that
//! RFC 5321 allows for errors.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::rustls::ClientConfig;

use super::{
    connection::{Connection, ReadError},
    pool::Pool,
    sending::Sending,
};
use crate::{
    limits,
    smtp::{
        codec::{
            attributes::Attributes,
            command::{Command, PathCommand},
            extensions::{Extension, Extensions},
            reply::Reply,
        },
        config::{Chunking, Config, Deadlines},
    },
    tls::{Channel, ClientTls},
};

/// A connection to a next hop that has greeted.
#[derive(Debug)]
pub struct NextHop {
    pub(super) connection: Box<Connection>,
    chunking: Chunking,
    extensions: Extensions,
    pub(super) deadlines: Box<Deadlines>,
    key: Box<Key>,
    /// When it was opened.
    since: Instant,
    /// Transactions that were begun on it.
    transactions: usize,
    standing: Standing,
    users: Users,
    /// The pool of the configuration by which it was opened; none while it waits there.
    pub(super) home: Option<Arc<Pool>>,
    /// Command lines on their way out.
    lines: Vec<u8>,
}

/// A command of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Step<'s> {
    /// RSET.
    Reset,
    /// XFORWARD: for whom the mail is.
    Forward(&'s Attributes),
    /// MAIL.
    Mail(&'s PathCommand),
    /// RCPT.
    Recipient(&'s PathCommand),
}

/// What a connection has in common with the one that a session would open in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `HOST:PORT` as the configuration names it.
    pub name: Arc<str>,
    /// The address that the name led to.
    pub address: SocketAddr,
    /// The address that it leaves from. The system chooses it: no setting does yet.
    pub source: IpAddr,
    /// The TLS policy under which it was opened.
    pub tls: ClientTls,
    /// What came of the policy.
    pub achieved: Achieved,
    /// The name in EHLO.
    pub hello: String,
}

/// The TLS of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Achieved {
    /// None: it is not wanted, or the next hop does not offer it.
    Clear,
    /// None: the next hop offers it, and the handshake failed. Another try may be luckier.
    ClearFallback,
    /// TLS.
    Encrypted,
}

/// What the next hop may hold against a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing: whatever was begun on it was accepted to its end.
    Spotless,
    /// It replied 4xx or 5xx, or a transaction was given up. Servers count either, until they slow down or hang up.
    Blemished,
}

/// Whose mails a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    /// One session's.
    One,
    /// Perhaps others', too: it has waited in the pool.
    Several,
}

impl Key {
    /// Whether a session that wants this next hop, by this configuration, would open such a connection.
    #[must_use]
    pub fn serves(&self, name: &str, config: &Config) -> bool {
        let encryption = match config.next_hop_tls {
            ClientTls::Off => self.achieved == Achieved::Clear,
            ClientTls::Opportunistic => true,
            ClientTls::Required | ClientTls::Verified => self.achieved == Achieved::Encrypted,
        };
        *self.name == *name && self.tls == config.next_hop_tls && self.hello == config.hostname && encryption
    }
}

/// An error between the hop and the next hop. No mail was refused by it.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// The name has no address, or no connection was accepted there.
    #[error("{0}")]
    Unreachable(String),
    /// The next hop refused the session: in its greeting, or in its reply to EHLO or HELO.
    #[error("session refused: {0}")]
    Refused(Reply),
    /// The connection was lost, or given up because what came is no reply, or none to the greeting or DATA.
    #[error("{0}")]
    Broken(String),
    /// A reply whose code does not belong to the command, such as 354 to RCPT.
    #[error("unexpected reply: {0}")]
    UnexpectedReply(Reply),
    /// No reply, or no connection, within the deadline.
    #[error("timed out")]
    TimedOut,
    /// The next hop offers no TLS, or not the TLS that the configuration requires.
    #[error("no TLS: {0}")]
    Tls(String),
}

impl From<ReadError> for HopError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TimedOut => Self::TimedOut,
            error => Self::Broken(error.to_string()),
        }
    }
}

impl HopError {
    /// The error for the log: of a reply within a session its code alone, since its words may hold a reader's address.
    #[must_use]
    pub fn without_words(&self) -> String {
        match self {
            Self::UnexpectedReply(reply) => format!("unexpected reply, {}", reply.code()),
            error => error.to_string(),
        }
    }
}

/// The result of sending a mail's data.
#[derive(Debug)]
pub enum Sent {
    /// The next hop replied with 2yz, 4yz or 5yz: to DATA where it refused that, to the final dot otherwise.
    Replied {
        /// The reply, for the upstream.
        reply: Reply,
        /// The connection, where it can be used again.
        hop: Option<NextHop>,
    },
    /// The connection broke before the final dot was sent: the next hop has nothing.
    NotSent(HopError),
    /// The connection broke after the final dot was sent: the next hop may have the mail.
    Unknown(HopError),
}

impl NextHop {
    /// Connects, greets, encrypts as the configuration wants, and reads the extensions, all within `deadlines.connect`. `tls` is
    /// none where the configuration wants no TLS.
    ///
    /// # Errors
    /// [`HopError`]; the next hop has received no MAIL.
    pub async fn connect(address: SocketAddr, name: &str, config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<Self, HopError> {
        let open = async {
            let mut hop = Self::greet(address, name, config).await?;
            let Some(tls) = tls else { return Ok(hop) };
            match hop.encrypt(Arc::clone(tls), config).await {
                Ok(()) => Ok(hop),
                // Better in the clear than not at all is what opportunistic means (RFC 7435).
                Err(error) if config.next_hop_tls == ClientTls::Opportunistic => {
                    if hop.extensions.has(Extension::StartTls) {
                        tracing::warn!(next_hop = name, %error, "next hop: the mails go in the clear");
                        hop = Self::greet(address, name, config).await?;
                        hop.key.achieved = Achieved::ClearFallback;
                    }
                    Ok(hop)
                }
                Err(error) => Err(error),
            }
        };
        timeout(config.deadlines.connect, open).await.map_err(|_| HopError::TimedOut)?
    }

    /// Connects, and reads the greeting and the reply to EHLO or HELO.
    async fn greet(address: SocketAddr, name: &str, config: &Config) -> Result<Self, HopError> {
        let unreachable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => HopError::Unreachable("connection refused".into()),
            _ => HopError::Unreachable(error.to_string()),
        };
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        // A next hop on this machine that is down: the kernel may choose its port to leave from, and the connection meets
        // itself. Held open, it would keep the next hop from its own port.
        let source = stream.local_addr().map_err(unreachable)?;
        if source == address {
            return Err(HopError::Unreachable("connection refused".into()));
        }
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut hop = Self {
            connection: Box::new(Connection::new(Channel::Clear(stream))),
            chunking: config.chunking,
            extensions: Extensions::default(),
            deadlines: Box::new(config.deadlines),
            key: Box::new(Key {
                name: name.into(),
                address,
                source: source.ip(),
                tls: config.next_hop_tls,
                achieved: Achieved::Clear,
                hello: config.hostname.clone(),
            }),
            since: Instant::now(),
            transactions: 0,
            standing: Standing::Spotless,
            users: Users::One,
            home: None,
            lines: Vec::new(),
        };
        let greeting = hop.next_reply(config.deadlines.reply).await?;
        match greeting.code() {
            220 => {}
            400.. => return Err(HopError::Refused(greeting)),
            _ => return Err(unexpected(&greeting)),
        }
        hop.hello(config).await?;
        Ok(hop)
    }

    /// EHLO, and HELO where the next hop refuses that (RFC 5321 section 3.2). 521 (RFC 7504) and 554 refuse the session, and 4yz
    /// puts it off. HELO has no STARTTLS, so it is not sent where TLS is required.
    async fn hello(&mut self, config: &Config) -> Result<(), HopError> {
        let reply = self.exchange(&Command::Ehlo(config.hostname.clone()), config.deadlines.reply).await?;
        if reply.is_accepted() {
            self.extensions = Extensions::read(&reply);
            return Ok(());
        }
        if !reply.is_refused() || matches!(reply.code(), 521 | 554) {
            return Err(HopError::Refused(reply));
        }
        if matches!(config.next_hop_tls, ClientTls::Required | ClientTls::Verified) {
            return Err(HopError::Tls(format!("EHLO was answered with {reply}")));
        }
        self.extensions = Extensions::default();
        let reply = self.exchange(&Command::Helo(config.hostname.clone()), config.deadlines.reply).await?;
        if reply.is_accepted() { Ok(()) } else { Err(HopError::Refused(reply)) }
    }

    /// STARTTLS and a second EHLO: what was announced in the clear counts for nothing (RFC 3207 section 4.2).
    async fn encrypt(&mut self, tls: Arc<ClientConfig>, config: &Config) -> Result<(), HopError> {
        if !self.extensions.has(Extension::StartTls) {
            return Err(HopError::Tls("STARTTLS is not offered".into()));
        }
        let reply = self.exchange(&Command::StartTls, config.deadlines.reply).await?;
        if reply.code() != 220 {
            return Err(HopError::Tls(format!("STARTTLS was answered with {reply}")));
        }
        let named = &*self.key.name;
        let host = named.rsplit_once(':').map_or(named, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| HopError::Tls(error.to_string()))?;
        self.connection.encrypt(tls, name).await.map_err(|error| HopError::Tls(error.to_string()))?;
        self.key.achieved = Achieved::Encrypted;
        self.hello(config).await
    }

    /// The extensions that the next hop announced in its last reply to EHLO.
    #[must_use]
    pub const fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// `HOST:PORT` as the configuration names it.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.key.name
    }

    /// What another connection must have in common with it to stand in for it.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether TLS is in use.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// Whether a session would open it by this configuration, too: a reload may have changed what is wanted.
    #[must_use]
    pub fn suits(&self, config: &Config) -> bool {
        config.next_hops.iter().any(|named| self.key.serves(named, config))
    }

    /// Whether a transaction was begun on it: the next hop may have closed it since.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.transactions > 0
    }

    /// Whether other sessions may have used it.
    pub(super) fn is_shared(&self) -> bool {
        self.users == Users::Several
    }

    /// Notes that it goes from one session to another.
    pub(super) const fn is_passed_on(&mut self) {
        self.users = Users::Several;
    }

    /// Counts a transaction that begins on it.
    pub(super) const fn begins_transaction(&mut self) {
        self.transactions += 1;
    }

    /// Notes that a transaction on it is given up.
    pub(super) const fn is_given_up(&mut self) {
        self.standing = Standing::Blemished;
    }

    /// Until when it may wait for another session, now that its mail was accepted; none where it may not. Its time may be over.
    pub(super) fn parkable_until(&mut self, now: Instant) -> Option<Instant> {
        let may = self.standing == Standing::Spotless && self.key.achieved != Achieved::ClearFallback && self.is_quiet();
        let end = (now + limits::PARKED_IDLE).min(self.since + limits::PARKED_AGE);
        may.then_some(if self.transactions < limits::PARKED_MAILS { end } else { now })
    }

    /// Sends commands, in one group where the next hop announces PIPELINING (RFC 2920). Returns each one's reply in their order, and
    /// the connection; `patience` is for each reply. After 421, which closes the connection (RFC 5321 section 3.8), none is sent
    /// and no reply awaited. Not cancel-safe: a dropped future takes the connection with it.
    ///
    /// The connection is an error where a reply does not come, or ends no command (1yz, 3yz): of those without a reply it is then
    /// unknown whether they were carried out.
    pub async fn commands(mut self, steps: &[Step<'_>], patience: Duration) -> (Vec<Reply>, Result<Self, HopError>) {
        let mut replies = Vec::with_capacity(steps.len());
        let told = self.tell(steps, patience, &mut replies).await;
        if replies.iter().any(|reply| reply.code() >= 400) {
            self.standing = Standing::Blemished;
        }
        (replies, told.map(|()| self))
    }

    async fn tell(&mut self, steps: &[Step<'_>], patience: Duration, replies: &mut Vec<Reply>) -> Result<(), HopError> {
        let group = if self.extensions.has(Extension::Pipelining) { steps.len().max(1) } else { 1 };
        for group in steps.chunks(group) {
            self.lines.clear();
            for step in group {
                step.write(self.extensions, &mut self.lines);
            }
            self.expect_quiet()?;
            self.send().await?;
            for _ in group {
                let reply = self.next_reply(patience).await?;
                if !reply.is_final() {
                    return Err(HopError::UnexpectedReply(reply));
                }
                let closes = reply.code() == 421;
                replies.push(reply);
                if closes {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a whole mail may go by BDAT: wanted, announced, and not refused by this address before.
    pub(super) fn takes_chunks(&self) -> bool {
        let wanted = self.chunking == Chunking::On && self.extensions.has(Extension::Chunking);
        wanted && self.home.as_ref().is_none_or(|pool| pool.takes_chunks(self.key.address))
    }

    /// Sends DATA; the next hop then waits for the mail.
    ///
    /// # Errors
    /// [`Sent`]: the next hop refused it, or nothing was sent.
    pub async fn data(mut self) -> Result<Sending, Sent> {
        match self.exchange(&Command::Data, self.deadlines.reply).await {
            Ok(reply) if reply.code() == 354 => Ok(Sending(self)),
            Ok(reply) if reply.code() >= 400 => Err(self.replied(reply)),
            // 250 to DATA accepts nothing: the mail was not sent.
            Ok(reply) => Err(Sent::NotSent(unexpected(&reply))),
            Err(error) => Err(Sent::NotSent(error)),
        }
    }

    /// The reply, and the connection unless 421 closes it (RFC 5321 section 3.8).
    pub(super) fn replied(mut self, reply: Reply) -> Sent {
        if !reply.is_accepted() {
            self.standing = Standing::Blemished;
        }
        let hop = (reply.code() != 421).then_some(self);
        Sent::Replied { reply, hop }
    }

    /// Sends QUIT and waits for the reply, two seconds at most.
    pub async fn quit(mut self) {
        let _ = self.exchange(&Command::Quit, LAST_WORDS).await;
    }

    /// The same, and waits until the next hop has closed the connection, two seconds more at most: only then it counts for nothing.
    pub(super) async fn leave(mut self) {
        if self.exchange(&Command::Quit, LAST_WORDS).await.is_ok() {
            let _ = self.connection.reply(LAST_WORDS).await;
        }
    }

    /// Whether nothing has come that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.connection.is_quiet()
    }

    /// A next hop that sends a reply to no command is out of step, or has closed the connection: an error either way.
    fn expect_quiet(&mut self) -> Result<(), HopError> {
        if self.is_quiet() { Ok(()) } else { Err(HopError::Broken("connection closed, or a reply too many".into())) }
    }

    /// Sends one command and reads its reply, within a deadline.
    async fn exchange(&mut self, command: &Command, patience: Duration) -> Result<Reply, HopError> {
        self.expect_quiet()?;
        self.lines.clear();
        command.write(&mut self.lines);
        self.send().await?;
        self.next_reply(patience).await
    }

    pub(super) async fn next_reply(&mut self, patience: Duration) -> Result<Reply, HopError> {
        Ok(self.connection.reply(patience).await?)
    }

    /// Sends the command lines.
    async fn send(&mut self) -> Result<(), HopError> {
        Ok(self.connection.send(&self.lines, self.deadlines.reply).await?)
    }
}

impl Step<'_> {
    /// Writes the line with its CRLF, for a next hop that announces these.
    fn write(&self, announced: Extensions, out: &mut Vec<u8>) {
        match self {
            Self::Reset => out.extend_from_slice(b"RSET"),
            Self::Forward(client) => {
                out.extend_from_slice(b"XFORWARD");
                client.write(announced.forwarded(), out);
            }
            Self::Mail(path) => path.write("MAIL FROM:", out),
            Self::Recipient(path) => path.write("RCPT TO:", out),
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The error for a reply after which the two sides are out of step: the connection is given up as if it were lost.
fn unexpected(reply: &Reply) -> HopError {
    HopError::Broken(format!("unexpected reply, {}", reply.code()))
}

/// Time for the reply to QUIT, and for the reply of a next hop that has closed the connection.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
