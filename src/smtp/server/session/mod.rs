//! One upstream's session: its commands go to the next hop as they come, a mail once it is decided.
//!
//! The states are types: [`Greeted`] knows what was announced, [`OpenTransaction`] knows what the next hop took. 250 for a
//! mail goes to the upstream only after the next hop's own.

mod data;

use std::{net::IpAddr, sync::Arc};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Server, Snapshot, Start,
    client_info::{self, ClientInfo},
    connection::{CommandLine, Connection, ConnectionError},
    permits::Permit,
};
use crate::{
    limits,
    smtp::{
        client::{
            next_hop::Extensions,
            relay::{self, MailOutcome, Relay},
        },
        codec::{
            command::{Attributes, Command, CommandError, PathCommand, Protocol},
            reply::Reply,
        },
        config::Config,
    },
    tls::Channel,
};

/// Serves one upstream until it leaves, breaks a bound, or the hop stops.
pub(super) async fn serve(
    stream: TcpStream,
    start: Start,
    peer: IpAddr,
    server: Arc<Server>,
    stop: watch::Receiver<bool>,
    mut place: Permit,
) {
    let _ = stream.set_nodelay(true);
    let snapshot = server.snapshot();
    let mut session = match open(stream, peer, &server, snapshot, stop).await {
        Ok(session) => session,
        Err(error) => {
            tracing::debug!(upstream = %peer, %error, "session did not start");
            return;
        }
    };
    let peer = session.client_info.peer;
    if let Err(reply) = admit(&session.client_info, &session.snapshot.config, &mut place) {
        // Those who are sent away take no place from those who are let in.
        drop(place);
        server.refuse(session.connection, &reply).await;
        return;
    }
    let _open = session.snapshot.pipeline.metrics.session("smtp");
    if start == Start::Tls
        && let Err(error) = session.encrypt().await
    {
        tracing::debug!(upstream = %peer, %error, "session did not start");
        return;
    }
    match session.run().await {
        Ok(()) | Err(ConnectionError::Closed) => {}
        Err(error) => {
            tracing::debug!(upstream = %peer, %error, "session broke off");
            if matches!(error, ConnectionError::Silent) {
                session.connection.queue(&Reply::new(421, format!("4.4.2 {} waited too long", session.snapshot.config.hostname)));
                let _ = session.flush().await;
            }
        }
    }
    session.relay.leave().await;
}

/// What comes before anything else: a proxy's header.
async fn open(
    mut stream: TcpStream,
    peer: IpAddr,
    server: &Arc<Server>,
    snapshot: Arc<Snapshot>,
    stop: watch::Receiver<bool>,
) -> Result<Session, ConnectionError> {
    let (mut client_info, mut input) = (ClientInfo::of(peer), Vec::new());
    if snapshot.config.proxies.iter().any(|network| network.contains(peer)) {
        let (client, rest) = client_info::read_proxy_header(&mut stream, limits::PROXY_HEADER).await?;
        client_info = client.map_or_else(|| ClientInfo::proxy_itself(peer), |client| ClientInfo::of(client.to_canonical()));
        input = rest;
    }
    let connection = Connection::new(Channel::Clear(stream), input);
    Ok(Session { connection, client_info, server: Arc::clone(server), snapshot, relay: Relay::default(), idle: 0, stop })
}

/// Whether this host may have a session, now that it is known who it is. A proxy's own checks are let in.
///
/// # Errors
/// What it is told otherwise.
fn admit(client_info: &ClientInfo, config: &Config, place: &mut Permit) -> Result<(), Reply> {
    let upstream = client_info.peer;
    let listed = config.accept_from.is_empty() || config.accept_from.iter().any(|network| network.contains(upstream));
    if !listed && !client_info.is_proxy_itself {
        tracing::warn!(%upstream, "turned away: not in smtp.accept_from");
        return Err(Reply::new(554, "5.7.1 you may not connect here"));
    }
    if place.of(upstream, &config.bounds).is_err() {
        tracing::warn!(%upstream, bound = "smtp.bounds.connections_per_address", "turned away");
        return Err(Reply::new(421, format!("{} 4.7.0 too many sessions from your address, try again soon", config.hostname)));
    }
    Ok(())
}

struct Session {
    connection: Connection,
    client_info: ClientInfo,
    server: Arc<Server>,
    /// What this session, or its mail, goes by.
    snapshot: Arc<Snapshot>,
    relay: Relay,
    /// Commands so far that brought no mail nearer.
    idle: usize,
    stop: watch::Receiver<bool>,
}

/// An upstream that has said who it is.
struct Greeted {
    helo: String,
    protocol: Protocol,
    announced: Extensions,
}

/// A mail whose MAIL the next hop took.
struct OpenTransaction {
    mail: PathCommand,
    recipients: Vec<String>,
    standing: Standing,
}

/// Whether the next hop still has what it took of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has.
    Open,
    /// It broke off. The upstream was told 250 for recipients that are gone, so only 4xx may follow.
    Lost,
}

/// What happens after a command.
enum Next {
    Go,
    /// The upstream has said that it is done.
    Close,
    /// The session ends although the upstream may be talking still; it should hear why.
    HangUp,
}

/// Where a session stands.
#[derive(Default)]
struct State {
    greeted: Option<Greeted>,
    transaction: Option<OpenTransaction>,
}

impl Session {
    /// TLS from the first octet.
    async fn encrypt(&mut self) -> Result<(), ConnectionError> {
        let config = self.snapshot.server_tls.clone().ok_or(ConnectionError::Closed)?;
        self.connection.encrypt(config, self.snapshot.config.deadlines.command).await
    }

    async fn run(&mut self) -> Result<(), ConnectionError> {
        self.connection.queue(&self.greeting());
        let mut state = State::default();
        loop {
            if !self.connection.has_line() {
                self.flush().await?;
            }
            let Some(line) = self.next_line(state.transaction.is_some()).await? else {
                self.connection.queue(&Reply::new(421, format!("4.3.2 {} is stopping, try again soon", self.snapshot.config.hostname)));
                return self.flush().await;
            };
            let command = match line {
                CommandLine::Whole(line) if is_another_protocol(&line) => {
                    self.connection.queue(&Reply::new(502, "5.5.2 this is SMTP"));
                    self.connection.hang_up().await;
                    return Ok(());
                }
                CommandLine::Endless => {
                    self.connection.queue(&Reply::new(500, "5.5.2 the line has no end"));
                    self.connection.hang_up().await;
                    return Ok(());
                }
                CommandLine::Whole(line) => Command::parse(&line).map_err(|error| refusal(error, &line)),
                CommandLine::BareLineEnding => Err(Reply::new(500, "5.5.2 a line must end in CR LF")),
                CommandLine::TooLong => Err(Reply::new(500, "5.5.2 the line is too long")),
            };
            let next = match command {
                Ok(command) => self.obey(command, &mut state).await?,
                Err(reply) => self.idle_reply(&reply),
            };
            match next {
                Next::Go => {}
                Next::Close => return self.flush().await,
                Next::HangUp => {
                    self.connection.hang_up().await;
                    return Ok(());
                }
            }
        }
    }

    async fn obey(&mut self, command: Command, state: &mut State) -> Result<Next, ConnectionError> {
        let greeted = state.greeted.as_ref();
        let next = match (command, greeted, state.transaction.as_mut()) {
            (Command::Ehlo(name), ..) => {
                *state = self.greet(name, Protocol::Esmtp).await;
                Next::Go
            }
            (Command::Helo(name), ..) => {
                *state = self.greet(name, Protocol::Smtp).await;
                Next::Go
            }
            (Command::Quit, ..) => {
                self.connection.queue(&Reply::new(221, format!("2.0.0 {} says goodbye", self.snapshot.config.hostname)));
                Next::Close
            }
            (Command::Rset, ..) => {
                state.transaction = None;
                self.relay.give_up();
                self.idle_reply(&Reply::new(250, "2.0.0 ok"))
            }
            (Command::Noop, ..) => self.idle_reply(&Reply::new(250, "2.0.0 ok")),
            (Command::Vrfy, ..) => self.idle_reply(&Reply::new(252, "2.5.0 send the mail and see")),
            (Command::Help, ..) => self.idle_reply(&Reply::new(214, "2.0.0 firstclick passes mail on; see RFC 5321")),
            (Command::StartTls, _, open) => {
                let (in_mail, encrypted_before) = (open.is_some(), self.connection.is_encrypted());
                let next = self.start_tls(in_mail).await?;
                if self.connection.is_encrypted() != encrypted_before {
                    *state = State::default();
                }
                next
            }
            (Command::Xclient(client), _, None) if self.client_info.is_trusted(&self.snapshot.config) => {
                self.client_info.speak_for(client);
                self.relay.give_up();
                *state = State::default();
                self.connection.queue(&self.greeting());
                Next::Go
            }
            (Command::Xforward(client), Some(_), None) if self.client_info.is_trusted(&self.snapshot.config) => {
                self.client_info.forward(client);
                self.connection.queue(&Reply::new(250, "2.0.0 ok"));
                Next::Go
            }
            (Command::Xclient(_) | Command::Xforward(_), ..) if !self.client_info.is_trusted(&self.snapshot.config) => {
                self.idle_reply(&Reply::new(550, "5.7.0 you may not speak for others; see identity.trusted_upstreams"))
            }
            (Command::Mail(_), None, _) => self.idle_reply(&Reply::new(503, "5.5.1 say EHLO first")),
            (Command::Mail(line), Some(greeted), None) => {
                let (next, open) = self.mail(line, greeted).await;
                state.transaction = open;
                next
            }
            (Command::Mail(_) | Command::Xclient(_) | Command::Xforward(_), ..) => self.idle_reply(&Reply::new(503, "5.5.1 not now")),
            (Command::Rcpt(line), Some(_), Some(open)) => self.recipient(line, open).await,
            (Command::Data, Some(_), Some(open)) if open.standing == Standing::Lost => {
                state.transaction = None;
                self.idle_reply(&relay::broke_off())
            }
            (Command::Data, Some(_), Some(open)) if open.recipients.is_empty() => {
                self.idle_reply(&Reply::new(554, "5.5.1 no valid recipients"))
            }
            (Command::Data, Some(greeted), Some(_)) => {
                let open = state.transaction.take();
                match open {
                    Some(open) => self.data(greeted, &open).await?,
                    None => Next::Go,
                }
            }
            (Command::Rcpt(_) | Command::Data, ..) => self.idle_reply(&Reply::new(503, "5.5.1 say MAIL first")),
        };
        Ok(next)
    }

    fn greeting(&self) -> Reply {
        Reply::new(220, format!("{} ESMTP firstclick", self.snapshot.config.hostname))
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        self.connection.flush(self.snapshot.config.deadlines.command).await
    }

    /// The next line; none where the hop stops and nothing is open that should be finished. A silent session between
    /// two mails gives its next hop back, and makes room where it is crowded.
    async fn next_line(&mut self, in_mail: bool) -> Result<Option<CommandLine>, ConnectionError> {
        let start = Instant::now();
        loop {
            let config = &self.snapshot.config;
            let crowded = !in_mail && self.server.permits.is_crowded(&config.bounds);
            let patience = if crowded { config.deadlines.command.min(limits::CROWDED_PATIENCE) } else { config.deadlines.command };
            let Some(left) = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(ConnectionError::Silent);
            };
            let look = left.min(limits::LOOK);
            let line = if in_mail {
                timeout(look, self.connection.line()).await
            } else {
                tokio::select! {
                    biased;
                    line = timeout(look, self.connection.line()) => line,
                    _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
                }
            };
            if let Ok(line) = line {
                return line.map(Some);
            }
            if !in_mail && start.elapsed() >= limits::IDLE_NEXT_HOP {
                self.relay.leave().await;
            }
        }
    }

    /// Answers a command that brings no mail nearer; too many of them end the session.
    fn idle_reply(&mut self, reply: &Reply) -> Next {
        self.idle += 1;
        self.connection.queue(reply);
        if self.idle <= self.snapshot.config.bounds.idle_commands {
            return Next::Go;
        }
        self.connection.queue(&Reply::new(421, "4.7.0 too many commands without a mail"));
        Next::HangUp
    }

    async fn greet(&mut self, helo: String, protocol: Protocol) -> State {
        self.snapshot = self.server.snapshot();
        let announced = self.relay.extensions(&self.server, &self.snapshot).await;
        let config = &self.snapshot.config;
        match protocol {
            Protocol::Smtp => self.connection.queue(&Reply::new(250, config.hostname.clone())),
            Protocol::Esmtp => {
                let trusted = self.client_info.is_trusted(config);
                let mut lines = vec![config.hostname.clone()];
                let mut offer = |offered: bool, keyword: &str| {
                    if offered {
                        lines.push(keyword.to_owned());
                    }
                };
                offer(announced.pipelining, "PIPELINING");
                offer(announced.eight_bit_mime, "8BITMIME");
                offer(announced.smtputf8, "SMTPUTF8");
                offer(announced.dsn, "DSN");
                offer(announced.enhanced_status_codes, "ENHANCEDSTATUSCODES");
                offer(self.snapshot.server_tls.is_some() && !self.connection.is_encrypted(), "STARTTLS");
                offer(trusted, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT");
                offer(trusted, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE");
                if let Some(size) = announced.size {
                    let most = if size == 0 { config.size_limit } else { size.min(config.size_limit) };
                    lines.push(format!("SIZE {most}"));
                }
                self.connection.queue(&Reply::lines(250, lines));
            }
        }
        self.client_info.mail = None;
        State { greeted: Some(Greeted { helo, protocol, announced }), transaction: None }
    }

    async fn start_tls(&mut self, in_mail: bool) -> Result<Next, ConnectionError> {
        let config = match &self.snapshot.server_tls {
            Some(config) if !self.connection.is_encrypted() && !in_mail => Arc::clone(config),
            Some(_) => return Ok(self.idle_reply(&Reply::new(503, "5.5.1 not now"))),
            None => return Ok(self.idle_reply(&Reply::new(502, "5.5.1 TLS is not offered"))),
        };
        self.relay.give_up();
        self.connection.queue(&Reply::new(220, "2.0.0 go ahead"));
        self.flush().await?;
        self.connection.encrypt(config, self.snapshot.config.deadlines.command).await?;
        Ok(Next::Go)
    }

    /// MAIL, and the RCPTs that came in the same breath.
    async fn mail(&mut self, line: PathCommand, greeted: &Greeted) -> (Next, Option<OpenTransaction>) {
        // A reload takes effect here: a mail is decided by one configuration from its beginning to its end.
        self.snapshot = self.server.snapshot();
        let snapshot = Arc::clone(&self.snapshot);
        let most = snapshot.config.size_limit;
        if line.parameter("SIZE").and_then(|size| size.parse::<usize>().ok()).is_some_and(|size| size > most) {
            return (self.idle_reply(&Reply::new(552, format!("5.3.4 the mail is larger than {most} octets"))), None);
        }
        if line.parameter("REQUIRETLS").is_some() {
            // RFC 8689 binds every hop; this one does not promise it, so it must not take the mail.
            return (self.idle_reply(&Reply::new(555, "5.7.30 REQUIRETLS is not offered here")), None);
        }
        let mut recipients = Vec::new();
        while self.relay.takes_pipelines() && recipients.len() < BATCH.min(snapshot.config.bounds.recipients) {
            let Some(Ok(Command::Rcpt(recipient))) = self.connection.peek().map(Command::parse) else { break };
            // The line is there already, so reading it waits for nobody.
            if self.connection.line().await.is_err() {
                break;
            }
            recipients.push(recipient);
        }
        let client = self.client_info.client(&greeted.helo);
        let client = Attributes { protocol: client.protocol.or(Some(greeted.protocol)), ..client };
        match self.relay.open(&self.server, &snapshot, &greeted.announced, Some(&client), &line, &recipients).await {
            MailOutcome::Changed => {
                self.connection.queue(&Reply::new(421, "4.3.2 the next hop's extensions have changed, please say EHLO again"));
                (Next::HangUp, None)
            }
            MailOutcome::No(reply) => {
                let mut next = self.idle_reply(&reply);
                for _ in &recipients {
                    next = self.idle_reply(&reply);
                }
                (next, None)
            }
            MailOutcome::Yes { mail, recipients: replies } => {
                self.connection.queue(&mail);
                for reply in &replies {
                    self.connection.queue(reply);
                }
                let closing = std::iter::once(&mail).chain(&replies).any(|reply| reply.code() == 421);
                let taken =
                    recipients.into_iter().zip(&replies).filter(|(_, reply)| reply.is_accepted()).map(|(recipient, _)| recipient.path);
                let open =
                    mail.is_accepted().then(|| OpenTransaction { mail: line, recipients: taken.collect(), standing: Standing::Open });
                if open.is_none() {
                    self.idle += 1;
                }
                let over = closing || self.idle > snapshot.config.bounds.idle_commands;
                (if over { Next::HangUp } else { Next::Go }, open)
            }
        }
    }

    async fn recipient(&mut self, line: PathCommand, open: &mut OpenTransaction) -> Next {
        if open.recipients.len() >= self.snapshot.config.bounds.recipients {
            return self.idle_reply(&Reply::new(452, "4.5.3 too many recipients, send the rest in another mail"));
        }
        if open.standing == Standing::Lost {
            return self.idle_reply(&relay::broke_off());
        }
        let snapshot = Arc::clone(&self.snapshot);
        match self.relay.recipient(&self.server, &snapshot, &line).await {
            Ok(reply) if reply.is_accepted() => {
                self.connection.queue(&reply);
                open.recipients.push(line.path);
                Next::Go
            }
            Ok(reply) if reply.code() == 421 => {
                self.connection.queue(&reply);
                Next::HangUp
            }
            Ok(reply) => self.idle_reply(&reply),
            Err(reply) => {
                // What the next hop took before is gone with its connection.
                open.recipients.clear();
                open.standing = Standing::Lost;
                self.idle_reply(&reply)
            }
        }
    }
}

/// RCPTs that are sent on in one breath.
const BATCH: usize = 100;

/// A browser, or a script that was told to talk to the wrong port: nothing of what follows may be taken for a command.
fn is_another_protocol(line: &[u8]) -> bool {
    line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") || line.ends_with(b" HTTP/2.0")
}

fn refusal(error: CommandError, line: &[u8]) -> Reply {
    let code = match error {
        CommandError::Unknown if line.is_empty() => 500,
        CommandError::Unknown => 502,
        CommandError::Syntax | CommandError::Path | CommandError::Recipient | CommandError::NullRecipient | CommandError::Characters => 501,
    };
    Reply::new(code, error.to_string())
}
