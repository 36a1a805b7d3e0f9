//! One upstream's session: its commands go to the next hop as they come, a mail once it is decided.
//!
//! [`run`](Session::run) reads commands, [`obey`](Session::obey) carries them out, [`Session::answer`] queues the replies and
//! counts the refusals. A mail gets 250 only after the next hop's own 250.

mod data;
pub use data::as_kept;
mod envelope;
mod large;

use std::sync::Arc;

use tokio::{net::TcpStream, time::Instant};

use super::{
    Server, Snapshot, Start,
    client_info::ClientInfo,
    connection::{Connection, ConnectionError},
};
use crate::{
    limits,
    pipeline::{RefusedBy, Stage},
    service::{Shutdown, listener::Accepted},
    smtp::{
        client::relay::{self, Destination, Relay},
        codec::{
            attributes::Protocol,
            command::{Command, CommandError, PathCommand},
            extensions::{Extension, Extensions},
            line::CommandLine,
            reply::Reply,
        },
    },
    tls::Channel,
};

/// Serves one upstream until it leaves, breaks a bound, or the hop stops.
pub(super) async fn serve(accepted: Accepted<TcpStream>, start: Start, server: &Arc<Server>) {
    let upstream = accepted.client;
    let mut session = Session {
        connection: Connection::new(Channel::Clear(accepted.stream), accepted.input),
        client_info: ClientInfo::of(upstream),
        server: Arc::clone(server),
        snapshot: server.snapshot(),
        relay: Relay::default(),
        idle: 0,
        group: limits::RECIPIENTS_AT_FIRST,
        stage: Stage::Command,
        shutdown: accepted.shutdown,
    };
    if start == Start::Tls
        && let Err(error) = session.encrypt().await
    {
        tracing::debug!(%upstream, %error, "session did not start");
        return;
    }
    match session.run().await {
        Ok(()) | Err(ConnectionError::Closed) => {}
        Err(error) => {
            tracing::debug!(%upstream, %error, "session ended");
            if matches!(error, ConnectionError::TimedOut) {
                let reply = Reply::new(421, format!("4.4.2 {} timed out", session.snapshot.config.hostname));
                session.answer(RefusedBy::Hop, &reply);
                let _ = session.flush().await;
            }
        }
    }
    session.relay.close().await;
}

struct Session {
    connection: Connection,
    client_info: ClientInfo,
    server: Arc<Server>,
    /// The snapshot that this session, or its mail, is handled by.
    snapshot: Arc<Snapshot>,
    relay: Relay,
    /// Commands so far that began or continued no mail.
    idle: usize,
    /// RCPTs that the next group has at most.
    group: usize,
    /// The stage of the command that is being answered, for the count of refusals.
    stage: Stage,
    shutdown: Shutdown,
}

/// The state of a session.
enum State {
    /// No EHLO or HELO was received.
    Connected,
    /// EHLO or HELO was received, and no transaction is open.
    Greeted(Greeted),
    /// The next hop has accepted MAIL: a transaction is open.
    InTransaction(Greeted, OpenTransaction),
    /// A transaction was open, and the connection to the next hop is lost. The recipients that got 250 are lost with it, so only
    /// 4yz may follow.
    LostTransaction(Greeted),
}

impl State {
    /// The state without a transaction.
    fn reset(self) -> Self {
        match self {
            Self::Connected => Self::Connected,
            Self::Greeted(greeted) | Self::InTransaction(greeted, _) | Self::LostTransaction(greeted) => Self::Greeted(greeted),
        }
    }

    const fn is_in_transaction(&self) -> bool {
        matches!(self, Self::InTransaction(..) | Self::LostTransaction(_))
    }
}

/// The upstream's EHLO or HELO, and the extensions in the reply.
struct Greeted {
    helo: String,
    protocol: Protocol,
    announced: Extensions,
}

/// A transaction that is open at the next hop.
struct OpenTransaction {
    mail: PathCommand,
    /// The paths of the recipients that the next hop has accepted.
    recipients: Vec<String>,
}

/// What the session does after a command.
enum Next {
    Go,
    /// It ends: the upstream sent QUIT.
    Close,
    /// It ends although the upstream may still be sending; the last reply must reach it.
    HangUp,
}

impl Session {
    /// The TLS handshake of a listener of `listen_tls`.
    async fn encrypt(&mut self) -> Result<(), ConnectionError> {
        let config = self.snapshot.server_tls.clone().ok_or(ConnectionError::Closed)?;
        self.connection.encrypt(config, self.snapshot.config.deadlines.command).await
    }

    /// Reads commands and carries them out until the session ends.
    async fn run(&mut self) -> Result<(), ConnectionError> {
        if self.snapshot.config.next_hops.is_empty() {
            self.stage = Stage::Connection;
            let what = format!("{} 4.3.5 takes no mails yet: no next hop is set, try again later", self.snapshot.config.hostname);
            self.answer(RefusedBy::Hop, &Reply::new(421, what));
            self.connection.hang_up().await;
            return Ok(());
        }
        self.answer(RefusedBy::Hop, &self.greeting());
        let mut state = State::Connected;
        loop {
            if !self.connection.has_line() {
                self.flush().await?;
            }
            self.stage = Stage::Command;
            let Some(line) = self.next_line(state.is_in_transaction()).await? else {
                let reply = Reply::new(421, format!("4.3.2 {} is stopping, try again soon", self.snapshot.config.hostname));
                self.answer(RefusedBy::Hop, &reply);
                return self.flush().await;
            };
            let next = match read(&line) {
                Ok(command) => {
                    self.stage = stage(&line);
                    let next;
                    (state, next) = self.obey(command, state).await?;
                    next
                }
                Err(Misread::Command(reply)) => {
                    self.stage = stage(&line);
                    self.idle(RefusedBy::Hop, &reply)
                }
                Err(Misread::Peer(reply)) => {
                    self.answer(RefusedBy::Hop, &reply);
                    Next::HangUp
                }
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

    /// Carries out a command.
    async fn obey(&mut self, command: Command, state: State) -> Result<(State, Next), ConnectionError> {
        Ok(match (command, state) {
            (Command::Ehlo(name), _) => (self.greet(name, Protocol::Esmtp).await, Next::Go),
            (Command::Helo(name), _) => (self.greet(name, Protocol::Smtp).await, Next::Go),
            (Command::Quit, state) => {
                let reply = Reply::new(221, format!("2.0.0 {} closing connection", self.snapshot.config.hostname));
                self.answer(RefusedBy::Hop, &reply);
                (state, Next::Close)
            }
            (Command::Rset, state) => {
                self.relay.abandon();
                self.client_info.mail = None;
                (state.reset(), self.idle(RefusedBy::Hop, &ok()))
            }
            (Command::Noop, state) => (state, self.idle(RefusedBy::Hop, &ok())),
            (Command::Vrfy(_), state) => (state, self.idle(RefusedBy::Hop, &Reply::new(252, "2.5.0 cannot verify, send the mail"))),
            (Command::Help, state) => (state, self.idle(RefusedBy::Hop, &Reply::new(214, "2.0.0 firstclick passes mail on; see RFC 5321"))),
            (Command::StartTls, state) => self.start_tls(state).await?,
            (command @ (Command::Xclient(_) | Command::Xforward(_)), state) => self.speak_for(command, state),
            (Command::Mail(mail), State::Greeted(greeted)) => self.mail(mail, greeted).await,
            (Command::Rcpt(recipient), State::InTransaction(greeted, open)) => {
                // The replies to those before do not wait for the next hop's to these.
                self.flush().await?;
                self.recipients(recipient, greeted, open).await
            }
            (Command::Rcpt(_), state @ State::LostTransaction(_)) => (state, self.idle(RefusedBy::Hop, &relay::lost())),
            (Command::Data, State::LostTransaction(greeted)) => (State::Greeted(greeted), self.idle(RefusedBy::Hop, &relay::lost())),
            (Command::Data, State::InTransaction(greeted, open)) if open.recipients.is_empty() => {
                (State::InTransaction(greeted, open), self.idle(RefusedBy::Hop, &Reply::new(554, "5.5.1 no valid recipients")))
            }
            (Command::Data, State::InTransaction(greeted, open)) => {
                let next = self.data(&greeted, &open).await?;
                (State::Greeted(greeted), next)
            }
            (Command::Mail(_), State::Connected) => (State::Connected, self.out_of_order("EHLO comes first")),
            (Command::Mail(_), state) => (state, self.out_of_order("a transaction is open")),
            (Command::Rcpt(_) | Command::Data, state) => (state, self.out_of_order("MAIL comes first")),
        })
    }

    fn out_of_order(&mut self, why: &str) -> Next {
        self.idle(RefusedBy::Hop, &Reply::new(503, format!("5.5.1 bad sequence of commands, {why}")))
    }

    fn greeting(&self) -> Reply {
        Reply::new(220, format!("{} ESMTP firstclick", self.snapshot.config.hostname))
    }

    /// Queues a reply to the upstream. Every refusal before the data is counted here; those after the data are records.
    fn answer(&mut self, by: RefusedBy, reply: &Reply) {
        if reply.code() >= 400 {
            let client = self.client_info.peer_of_mail().forwarded_client().unwrap_or(self.client_info.peer);
            self.snapshot.pipeline.shared.refused(by, self.stage, reply.code(), client);
        }
        self.connection.queue(reply);
    }

    /// Answers a command that begins or continues no mail; too many of them end the session with 421.
    fn idle(&mut self, by: RefusedBy, reply: &Reply) -> Next {
        self.answer(by, reply);
        self.idles()
    }

    /// Counts a command that began or continued no mail, and was answered.
    fn idles(&mut self) -> Next {
        self.idle += 1;
        if self.idle <= self.snapshot.config.bounds.idle_commands {
            return Next::Go;
        }
        self.answer(RefusedBy::Hop, &Reply::new(421, "4.7.0 too many commands without a mail"));
        Next::HangUp
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        self.connection.flush(self.snapshot.config.deadlines.command).await
    }

    /// The next line; none where the hop drains and no transaction is open. Between two mails a silent session closes its
    /// connection to the next hop, and gets less time where sessions are many. Cancel-safe.
    async fn next_line(&mut self, in_transaction: bool) -> Result<Option<CommandLine>, ConnectionError> {
        let start = Instant::now();
        loop {
            let config = &self.snapshot.config;
            let crowded = !in_transaction && self.server.is_crowded(config);
            let patience = if crowded { config.deadlines.command.min(limits::CROWDED_PATIENCE) } else { config.deadlines.command };
            let (last, look) = (start + patience, Instant::now() + limits::LOOK);
            let line = if in_transaction {
                self.connection.line(last.min(look)).await
            } else {
                tokio::select! {
                    biased;
                    line = self.connection.line(last.min(look)) => line,
                    () = self.shutdown.drain.cancelled() => return Ok(None),
                }
            };
            match line {
                Err(ConnectionError::TimedOut) if look < last => self.connection.rest(),
                line => return line.map(Some),
            }
            if !in_transaction && start.elapsed() >= limits::IDLE_NEXT_HOP {
                self.relay.close().await;
            }
        }
    }

    /// EHLO and HELO. A reload takes effect here.
    async fn greet(&mut self, helo: String, protocol: Protocol) -> State {
        self.snapshot = self.server.snapshot();
        self.client_info.mail = None;
        let extensions = self.relay.extensions(destination(&self.server, &self.snapshot)).await;
        let config = &self.snapshot.config;
        let (announced, reply) = match protocol {
            Protocol::Smtp => (Extensions::default(), Reply::new(250, config.hostname.clone())),
            Protocol::Esmtp => {
                let mut announced = extensions.carried(config.size_limit);
                if self.snapshot.server_tls.is_some() && !self.connection.is_encrypted() {
                    announced = announced.with(Extension::StartTls);
                }
                if self.client_info.is_trusted(config) {
                    announced = announced.with(Extension::Xclient).with(Extension::Xforward);
                }
                (announced, Reply::lines(250, std::iter::once(config.hostname.clone()).chain(announced.lines()).collect()))
            }
        };
        self.answer(RefusedBy::Hop, &reply);
        State::Greeted(Greeted { helo, protocol, announced })
    }

    /// STARTTLS. The session starts again after it (RFC 3207 section 4.2).
    async fn start_tls(&mut self, state: State) -> Result<(State, Next), ConnectionError> {
        let config = match &self.snapshot.server_tls {
            Some(_) if self.connection.is_encrypted() => return Ok((state, self.out_of_order("TLS is spoken already"))),
            Some(_) if state.is_in_transaction() => return Ok((state, self.out_of_order("a transaction is open"))),
            Some(config) => Arc::clone(config),
            None => return Ok((state, self.idle(RefusedBy::Hop, &Reply::new(502, "5.5.1 TLS is not offered")))),
        };
        self.relay.abandon();
        self.answer(RefusedBy::Hop, &Reply::new(220, "2.0.0 ready to start TLS"));
        self.flush().await?;
        self.connection.encrypt(config, self.snapshot.config.deadlines.command).await?;
        Ok((State::Connected, Next::Go))
    }

    /// XCLIENT, after which the session starts again, and XFORWARD, which is for the next mail.
    fn speak_for(&mut self, command: Command, state: State) -> (State, Next) {
        if !self.client_info.is_trusted(&self.snapshot.config) {
            let reply = Reply::new(550, "5.7.0 you may not speak for others; see identity.trusted_upstreams");
            return (state, self.idle(RefusedBy::Hop, &reply));
        }
        match (command, state) {
            (Command::Xclient(client), State::Connected | State::Greeted(_)) => {
                self.client_info.speak_for(client);
                self.relay.abandon();
                self.answer(RefusedBy::Hop, &self.greeting());
                (State::Connected, Next::Go)
            }
            (Command::Xforward(client), state @ State::Greeted(_)) => {
                self.client_info.forward(client);
                self.answer(RefusedBy::Hop, &ok());
                (state, Next::Go)
            }
            (_, State::Connected) => (State::Connected, self.out_of_order("EHLO comes first")),
            (_, state) => (state, self.out_of_order("a transaction is open")),
        }
    }
}

/// The next hops that a session's mails go to.
fn destination<'a>(server: &'a Server, snapshot: &'a Snapshot) -> Destination<'a> {
    Destination { config: &snapshot.config, tls: snapshot.client_tls.as_ref(), route: &server.route, pool: &snapshot.pool }
}

fn ok() -> Reply {
    Reply::new(250, "2.0.0 ok")
}

/// A line that is no command, and the reply to it.
enum Misread {
    /// One malformed line: the session goes on.
    Command(Reply),
    /// The peer speaks no SMTP: the session ends, and nothing that follows is taken for a command.
    Peer(Reply),
}

fn read(line: &CommandLine) -> Result<Command, Misread> {
    match line {
        // A browser, or a script that was made to speak to the wrong port.
        CommandLine::Whole(line) if [" HTTP/1.1", " HTTP/1.0", " HTTP/2.0"].iter().any(|end| line.ends_with(end.as_bytes())) => {
            Err(Misread::Peer(Reply::new(502, "5.5.2 this is SMTP")))
        }
        CommandLine::Endless => Err(Misread::Peer(Reply::new(500, "5.5.2 the line has no end"))),
        CommandLine::Whole(line) => Command::parse(line).map_err(|error| Misread::Command(refusal(error, line))),
        CommandLine::BareLineEnding => Err(Misread::Command(Reply::new(500, "5.5.2 a line must end in CR LF"))),
        CommandLine::TooLong => Err(Misread::Command(Reply::new(500, "5.5.2 the line is too long"))),
    }
}

/// The stage of a line by its verb, whether or not its arguments are well-formed.
fn stage(line: &CommandLine) -> Stage {
    let CommandLine::Whole(line) = line else { return Stage::Command };
    let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let stages = [("MAIL", Stage::Mail), ("RCPT", Stage::Recipient), ("DATA", Stage::Data)];
    stages.into_iter().find(|(name, _)| verb.eq_ignore_ascii_case(name.as_bytes())).map_or(Stage::Command, |(_, stage)| stage)
}

fn refusal(error: CommandError, line: &[u8]) -> Reply {
    let code = match error {
        CommandError::Unknown if line.is_empty() => 500,
        CommandError::Unknown => 502,
        CommandError::Syntax | CommandError::Path | CommandError::Recipient | CommandError::NullRecipient | CommandError::Characters => 501,
    };
    Reply::new(code, error.to_string())
}
