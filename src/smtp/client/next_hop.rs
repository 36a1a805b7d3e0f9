//! The next hop: a session with it, command by command, each with its deadline.
//!
//! Replies as they came are read by `connection`, a mail's data goes out without a copy by `outgoing`, and `route` chooses
//! among several hops. No library is underneath: those that send mails refuse legal paths, stop at the first refused
//! recipient, and take replies that RFC 5321 allows for errors.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::rustls::ClientConfig;

use super::{
    connection::Connection,
    outgoing::{Outgoing, Written},
};
use crate::{
    smtp::{
        codec::reply::Reply,
        config::{Config, Deadlines},
    },
    tls::{Channel, ClientTls},
};

/// A connection to the next hop.
pub struct NextHop {
    connection: Connection,
    extensions: Extensions,
    deadlines: Deadlines,
    /// As the configuration names it.
    name: String,
    broken: bool,
}

/// What a hop announces (RFC 1869) and this one can carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, in any combination")]
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
    /// RFC 3207.
    pub start_tls: bool,
    /// Postfix's XFORWARD: it wants to know the client.
    pub xforward: bool,
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
    /// It answered with a reply that does not belong to the command.
    #[error("unexpected reply: {0}")]
    UnexpectedReply(Reply),
    /// It said nothing in time.
    #[error("said nothing in time")]
    Silent,
    /// It speaks no TLS, or not the way that the configuration wants.
    #[error("no TLS: {0}")]
    Tls(String),
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
    /// Connects, greets, encrypts as the configuration wants, and reads the extensions.
    ///
    /// # Errors
    /// Says why there is no session; nothing was sent.
    pub async fn connect(address: SocketAddr, name: &str, config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<Self, HopError> {
        let open = async {
            let mut hop = Self::greet(address, name, config).await?;
            let Some(tls) = tls else { return Ok(hop) };
            match hop.encrypt(Arc::clone(tls), config).await {
                Ok(()) => Ok(hop),
                // Better in the clear than not at all is what opportunistic means (RFC 7435).
                Err(error) if config.next_hop_tls == ClientTls::Opportunistic => {
                    if hop.extensions.start_tls {
                        tracing::warn!(next_hop = name, %error, "next hop: the mails go in the clear");
                        hop = Self::greet(address, name, config).await?;
                    }
                    Ok(hop)
                }
                Err(error) => Err(error),
            }
        };
        timeout(config.deadlines.connect, open).await.map_err(|_| HopError::Silent)?
    }

    async fn greet(address: SocketAddr, name: &str, config: &Config) -> Result<Self, HopError> {
        let stream = TcpStream::connect(address).await.map_err(|error| HopError::Unreachable(error.to_string()))?;
        // A next hop on this machine that is down: the kernel may choose its port to leave from, and the connection meets
        // itself. Held open, it would keep the next hop from its own port.
        if stream.local_addr().is_ok_and(|local| local == address) {
            return Err(HopError::Unreachable("nobody listens there".into()));
        }
        stream.set_nodelay(true).map_err(|error| HopError::Unreachable(error.to_string()))?;
        let mut hop = Self {
            connection: Connection::new(Channel::Clear(stream)),
            extensions: Extensions::default(),
            deadlines: config.deadlines,
            name: name.to_owned(),
            broken: false,
        };
        let greeting = hop.exchange(None, config.deadlines.reply).await?;
        match greeting.code() {
            220 => {}
            400.. => return Err(HopError::Refused(greeting)),
            _ => return Err(HopError::Broken(format!("its greeting is {greeting}"))),
        }
        hop.hello(config).await?;
        Ok(hop)
    }

    /// EHLO, and HELO where the hop does not know that (RFC 5321 section 3.2). 521 and 554 refuse the session, and 4yz puts
    /// it off. Behind HELO there is no STARTTLS, so it is not said where TLS must be.
    async fn hello(&mut self, config: &Config) -> Result<(), HopError> {
        let reply = self.exchange(Some(&format!("EHLO {}\r\n", config.hostname)), config.deadlines.reply).await?;
        if reply.is_accepted() {
            self.extensions = Extensions::read(&reply);
            return Ok(());
        }
        if !reply.is_refused() || matches!(reply.code(), 521 | 554) {
            return Err(HopError::Refused(reply));
        }
        if matches!(config.next_hop_tls, ClientTls::Required | ClientTls::Verified) {
            return Err(HopError::Tls(format!("it answered EHLO with {reply}")));
        }
        self.extensions = Extensions::default();
        let reply = self.exchange(Some(&format!("HELO {}\r\n", config.hostname)), config.deadlines.reply).await?;
        if reply.is_accepted() { Ok(()) } else { Err(HopError::Refused(reply)) }
    }

    /// STARTTLS and a second EHLO: what was announced in the clear counts for nothing (RFC 3207 section 4.2).
    async fn encrypt(&mut self, tls: Arc<ClientConfig>, config: &Config) -> Result<(), HopError> {
        if !self.extensions.start_tls {
            return Err(HopError::Tls("it does not offer STARTTLS".into()));
        }
        let reply = self.exchange(Some("STARTTLS\r\n"), config.deadlines.reply).await?;
        if reply.code() != 220 {
            return Err(HopError::Tls(format!("it answered STARTTLS with {reply}")));
        }
        let host = self.name.rsplit_once(':').map_or(self.name.as_str(), |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| HopError::Tls(error.to_string()))?;
        self.connection.encrypt(tls, name).await.map_err(|error| HopError::Tls(error.to_string()))?;
        self.hello(config).await
    }

    /// What it announced.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether TLS is spoken with it.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// Whether the connection is of no more use.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Sends commands and returns each one's reply, in one breath where the hop takes that (RFC 2920).
    ///
    /// # Errors
    /// Where it breaks off; how many of the commands it heard is then not known.
    pub async fn commands(&mut self, lines: &[String]) -> Result<Vec<Reply>, HopError> {
        let patience = self.deadlines.reply;
        if !self.extensions.pipelining || lines.len() == 1 {
            let mut replies = Vec::with_capacity(lines.len());
            for line in lines {
                replies.push(self.exchange(Some(&format!("{line}\r\n")), patience).await?);
            }
            return Ok(replies);
        }
        let mut text = lines.join("\r\n");
        text.push_str("\r\n");
        let mut replies = vec![self.exchange(Some(&text), patience).await?];
        for _ in 1..lines.len() {
            replies.push(self.exchange(None, patience).await?);
        }
        Ok(replies)
    }

    /// Sends DATA and the mail.
    pub async fn data(&mut self, mail: Outgoing<'_>) -> Sent {
        match self.exchange(Some("DATA\r\n"), self.deadlines.reply).await {
            Ok(reply) if reply.code() == 354 => {}
            Ok(reply) if reply.code() >= 400 => return Sent::Answered(reply),
            // 250 to DATA accepts nothing: the mail was not sent.
            Ok(reply) => {
                self.broken = true;
                return Sent::NotSent(HopError::Broken(format!("it answered DATA with {reply}")));
            }
            Err(error) => return Sent::NotSent(error),
        }
        if let Err(error) = self.expect_quiet() {
            return Sent::NotSent(error);
        }
        match mail.write(self.connection.output(), &self.deadlines).await {
            Written::Whole => {}
            Written::NotTheEnd(error) => {
                self.broken = true;
                // It may have said why before it hung up.
                return match timeout(LAST_WORDS, self.connection.reply()).await {
                    Ok(Ok(reply)) if reply.code() >= 400 => Sent::Answered(reply),
                    _ => Sent::NotSent(HopError::Broken(error.to_string())),
                };
            }
            Written::PerhapsTheEnd(error) => {
                self.broken = true;
                return Sent::Unknown(HopError::Broken(error.to_string()));
            }
        }
        match self.exchange(None, self.deadlines.final_reply).await {
            Ok(reply) => Sent::Answered(reply),
            Err(error) => Sent::Unknown(error),
        }
    }

    /// Ends the session politely; nobody waits long for it.
    pub async fn quit(mut self) {
        if !self.broken {
            let _ = self.exchange(Some("QUIT\r\n"), LAST_WORDS).await;
        }
    }

    /// A next hop that talks without being asked is out of step, or gone.
    fn expect_quiet(&mut self) -> Result<(), HopError> {
        if self.connection.is_quiet() {
            return Ok(());
        }
        self.broken = true;
        Err(HopError::Broken("it hung up, or said more than it was asked".into()))
    }

    async fn exchange(&mut self, lines: Option<&str>, patience: Duration) -> Result<Reply, HopError> {
        if lines.is_some() {
            self.expect_quiet()?;
        }
        let answer = async {
            if let Some(lines) = lines {
                self.connection.send(lines.as_bytes()).await?;
            }
            self.connection.reply().await
        };
        let answer = timeout(patience, answer).await;
        self.broken |= !matches!(answer, Ok(Ok(_)));
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(HopError::Broken(error.to_string())),
            Err(_) => Err(HopError::Silent),
        }
    }
}

/// Time for the answer to QUIT, and for last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Extensions {
    /// All of them: what is announced while nobody knows what the next hop can carry. Nothing is taken then, so
    /// nothing is promised; but an upstream must not give a mail up because an extension is missing for a minute.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            enhanced_status_codes: true,
            size: Some(0),
            start_tls: false,
            xforward: false,
        }
    }

    /// Whether everything that another set holds is here too.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        (self.eight_bit_mime || !other.eight_bit_mime)
            && (self.smtputf8 || !other.smtputf8)
            && (self.dsn || !other.dsn)
            && (self.size.is_some() || other.size.is_none())
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
                "STARTTLS" => found.start_tls = true,
                "XFORWARD" => found.xforward = true,
                "SIZE" => found.size = Some(rest.trim().parse().unwrap_or(0)),
                _ => {}
            }
        }
        found
    }
}
