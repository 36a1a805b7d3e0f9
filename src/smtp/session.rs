//! One upstream's session: its commands go to the next hop as they come, a mail once it is decided.
//!
//! The states are types: [`Greeted`] knows what was announced, [`Transaction`] knows what the next hop took. 250 for a
//! mail goes to the upstream only after the next hop's own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpStream, sync::watch};

use super::{
    Front,
    command::{Command, CommandError, PathLine},
    next_hop::{Extensions, HopError, NextHop, Sent},
    reply::Reply,
    trace,
    wire::{DataEnd, Line, Wire, WireError},
};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::Stopwatch,
    edit,
    identity::{Arrival, Peer},
    limits,
    pipeline::{Arriving, Walked, address},
    settings::Trace,
};

/// Serves one upstream until it leaves, breaks a bound, or the hop stops.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, front: Arc<Front>, stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut session = Session { wire: Wire::new(stream), peer: peer.ip(), front, hop: None, idle: 0, stop };
    match session.run().await {
        Ok(()) | Err(WireError::Closed) => {}
        Err(error) => {
            tracing::debug!(upstream = %peer.ip(), %error, "session broke off");
            if matches!(error, WireError::Silent) {
                session.wire.queue(&Reply::new(421, format!("4.4.2 {} waited too long", session.front.smtp.hostname)));
                let _ = session.wire.flush().await;
            }
        }
    }
    if let Some(hop) = session.hop.take() {
        hop.connection.quit().await;
    }
}

struct Session {
    wire: Wire<TcpStream>,
    peer: IpAddr,
    front: Arc<Front>,
    hop: Option<Hop>,
    idle: usize,
    stop: watch::Receiver<bool>,
}

/// The session's connection to the next hop.
struct Hop {
    connection: NextHop,
    /// Whether it still holds a transaction that our side has given up.
    stale: bool,
    /// Whether it has carried a mail already; then it may have been closed meanwhile.
    used: bool,
}

/// An upstream that has said who it is.
struct Greeted {
    helo: String,
    protocol: Protocol,
    announced: Extensions,
}

/// The protocol by which mails come, as a trace field names it (RFC 3848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Smtp,
    Esmtp,
}

/// A mail whose MAIL the next hop took.
struct Transaction {
    mail: PathLine,
    recipients: Vec<String>,
}

/// What happens after a command.
enum Next {
    Go,
    Close,
}

impl Session {
    async fn run(&mut self) -> Result<(), WireError> {
        let hostname = self.front.smtp.hostname.clone();
        self.wire.queue(&Reply::new(220, format!("{hostname} ESMTP firstclick")));
        let mut greeted: Option<Greeted> = None;
        let mut transaction: Option<Transaction> = None;
        loop {
            if !self.wire.has_line() {
                self.wire.flush().await?;
            }
            let Some(line) = self.next_line(transaction.is_none()).await? else {
                self.wire.queue(&Reply::new(421, format!("4.3.2 {hostname} is stopping, try again soon")));
                return self.wire.flush().await;
            };
            let command = match line {
                Line::Whole(line) => Command::parse(&line).map_err(|error| refusal(error, &line)),
                Line::BareLineEnding => Err(Reply::new(500, "5.5.2 a line must end in CR LF")),
                Line::TooLong => Err(Reply::new(500, "5.5.2 the line is too long")),
            };
            let command = match command {
                Ok(command) => command,
                Err(reply) => {
                    if let Next::Close = self.idle_reply(&reply).await? {
                        return Ok(());
                    }
                    continue;
                }
            };
            let next = match (command, greeted.as_ref(), transaction.take()) {
                (Command::Ehlo(name), ..) => {
                    greeted = Some(self.greet(name, Protocol::Esmtp).await);
                    Next::Go
                }
                (Command::Helo(name), ..) => {
                    greeted = Some(self.greet(name, Protocol::Smtp).await);
                    Next::Go
                }
                (Command::Quit, ..) => {
                    self.wire.queue(&Reply::new(221, format!("2.0.0 {hostname} says goodbye")));
                    self.wire.flush().await?;
                    return Ok(());
                }
                (Command::Rset, ..) => {
                    self.give_up();
                    self.idle_reply(&Reply::new(250, "2.0.0 ok")).await?
                }
                (Command::Noop, _, open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(250, "2.0.0 ok")).await?
                }
                (Command::Vrfy, _, open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(252, "2.5.0 send the mail and see")).await?
                }
                (Command::Help, _, open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(214, "2.0.0 firstclick passes mail on; see RFC 5321")).await?
                }
                (Command::Mail(line), Some(greeted), None) => {
                    let (next, open) = self.mail(line, greeted).await;
                    transaction = open;
                    next
                }
                (Command::Rcpt(line), Some(_), Some(mut open)) => {
                    let next = self.recipient(line, &mut open).await;
                    transaction = Some(open);
                    next
                }
                (Command::Data, Some(greeted), Some(open)) => {
                    if open.recipients.is_empty() {
                        transaction = Some(open);
                        self.idle_reply(&Reply::new(554, "5.5.1 no valid recipients")).await?
                    } else {
                        self.data(greeted, &open).await?
                    }
                }
                (Command::Mail(_), None, open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(503, "5.5.1 say EHLO first")).await?
                }
                (Command::Mail(_), Some(_), open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(503, "5.5.1 one mail at a time")).await?
                }
                (Command::Rcpt(_) | Command::Data, _, open) => {
                    transaction = open;
                    self.idle_reply(&Reply::new(503, "5.5.1 say MAIL first")).await?
                }
            };
            if matches!(next, Next::Close) {
                return self.wire.flush().await;
            }
        }
    }

    /// The next line; none where the hop stops and nothing is open that should be finished.
    async fn next_line(&mut self, may_stop: bool) -> Result<Option<Line>, WireError> {
        if !may_stop || self.wire.has_line() {
            return self.wire.line().await.map(Some);
        }
        tokio::select! {
            line = self.wire.line() => line.map(Some),
            _ = self.stop.wait_for(|stop| *stop) => Ok(None),
        }
    }

    /// Answers a command that brings no mail nearer; too many of them end the session.
    async fn idle_reply(&mut self, reply: &Reply) -> Result<Next, WireError> {
        self.idle += 1;
        self.wire.queue(reply);
        if self.idle <= limits::IDLE_COMMANDS {
            return Ok(Next::Go);
        }
        self.wire.queue(&Reply::new(421, "4.7.0 too many commands without a mail"));
        self.wire.flush().await?;
        Ok(Next::Close)
    }

    /// Gives up what the next hop was told; it hears RSET before it hears anything else.
    fn give_up(&mut self) {
        if let Some(hop) = &mut self.hop {
            hop.stale = true;
        }
    }

    async fn greet(&mut self, helo: String, protocol: Protocol) -> Greeted {
        self.give_up();
        let announced = match self.connect().await {
            Ok(hop) => hop.connection.extensions().clone(),
            // Nothing will be taken while the next hop is away; see `Extensions::all`.
            Err(_) => Extensions::all(),
        };
        let smtp = &self.front.smtp;
        match protocol {
            Protocol::Smtp => self.wire.queue(&Reply::new(250, smtp.hostname.clone())),
            Protocol::Esmtp => {
                let mut lines = vec![smtp.hostname.clone()];
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
                if let Some(size) = announced.size {
                    let most = if size == 0 { smtp.size_limit } else { size.min(smtp.size_limit) };
                    lines.push(format!("SIZE {most}"));
                }
                self.wire.queue(&Reply::lines(250, lines));
            }
        }
        Greeted { helo, protocol, announced }
    }

    /// The connection to the next hop, opened where there is none.
    async fn connect(&mut self) -> Result<&mut Hop, HopError> {
        if self.hop.is_none() {
            let smtp = &self.front.smtp;
            match NextHop::connect(&smtp.next_hop, &smtp.hostname).await {
                Ok(connection) => self.hop = Some(Hop { connection, stale: false, used: false }),
                Err(error) => {
                    tracing::warn!(next_hop = smtp.next_hop, %error, "next hop");
                    return Err(error);
                }
            }
        }
        self.hop.as_mut().ok_or_else(|| HopError::Unreachable("no connection".into()))
    }

    /// Sends commands to the next hop; a connection that breaks is dropped.
    async fn tell(&mut self, lines: &[String]) -> Result<Vec<Reply>, HopError> {
        let hop = self.connect().await?;
        let answer = hop.connection.commands(lines).await;
        if let Err(error) = &answer {
            tracing::warn!(next_hop = self.front.smtp.next_hop, %error, "next hop");
            self.hop = None;
        }
        answer
    }

    /// MAIL, and the RCPTs that came in the same breath.
    async fn mail(&mut self, line: PathLine, greeted: &Greeted) -> (Next, Option<Transaction>) {
        let most = self.front.smtp.size_limit;
        if line.parameter("SIZE").and_then(|size| size.parse::<usize>().ok()).is_some_and(|size| size > most) {
            self.wire.queue(&Reply::new(552, format!("5.3.4 the mail is larger than {most} octets")));
            return (Next::Go, None);
        }
        let fresh = self.hop.is_none();
        match self.connect().await {
            Ok(hop) if fresh && !hop.connection.extensions().covers(&greeted.announced) => {
                self.wire.queue(&Reply::new(421, "4.3.2 the next hop's extensions have changed, please say EHLO again"));
                return (Next::Close, None);
            }
            Ok(_) => {}
            Err(error) => {
                self.wire.queue(&unreachable(&error));
                return (Next::Go, None);
            }
        }
        let mut recipients = Vec::new();
        while self.hop.as_ref().is_some_and(|hop| hop.connection.extensions().pipelining) && recipients.len() < BATCH {
            let Some(Ok(Command::Rcpt(recipient))) = self.wire.peek().map(Command::parse) else { break };
            // The line is there already, so reading it waits for nobody.
            if self.wire.line().await.is_err() {
                break;
            }
            recipients.push(recipient);
        }
        let mut lines = vec![line.line("MAIL FROM")];
        lines.extend(recipients.iter().map(|recipient| recipient.line("RCPT TO")));
        let replies = match self.tell_anew(&lines).await {
            Ok(replies) => replies,
            Err(error) => {
                for _ in &lines {
                    self.wire.queue(&unreachable(&error));
                }
                return (Next::Go, None);
            }
        };
        for reply in &replies {
            self.wire.queue(reply);
        }
        if replies.iter().any(|reply| reply.code() == 421) {
            return (Next::Close, None);
        }
        let mut replies = replies.into_iter();
        if !replies.next().is_some_and(|reply| reply.is_accepted()) {
            self.idle += 1;
            return (if self.idle > limits::IDLE_COMMANDS { Next::Close } else { Next::Go }, None);
        }
        let taken = recipients.into_iter().zip(replies).filter(|(_, reply)| reply.is_accepted()).map(|(recipient, _)| recipient.path);
        (Next::Go, Some(Transaction { mail: line, recipients: taken.collect() }))
    }

    /// Starts a transaction at the next hop: what it holds is taken back first, and a connection that it closed since
    /// the last mail is opened again. Safe, because nothing of this mail was sent on it.
    async fn tell_anew(&mut self, lines: &[String]) -> Result<Vec<Reply>, HopError> {
        let (stale, used) = self.hop.as_ref().map_or((false, false), |hop| (hop.stale, hop.used));
        let outcome = if stale {
            let mut with_reset = vec!["RSET".to_owned()];
            with_reset.extend_from_slice(lines);
            self.tell(&with_reset).await.map(|mut replies| replies.split_off(1))
        } else {
            self.tell(lines).await
        };
        let replies = match outcome {
            Err(HopError::Broken(_)) if used || stale => self.tell(lines).await?,
            outcome => outcome?,
        };
        if let Some(hop) = &mut self.hop {
            hop.stale = false;
            hop.used = true;
        }
        Ok(replies)
    }

    async fn recipient(&mut self, line: PathLine, open: &mut Transaction) -> Next {
        if open.recipients.len() >= limits::RECIPIENTS {
            self.wire.queue(&Reply::new(452, "4.5.3 too many recipients, send the rest in another mail"));
            return Next::Go;
        }
        if self.hop.is_none() {
            self.wire.queue(&Reply::new(451, "4.4.2 the next hop broke off, send the mail again"));
            return Next::Go;
        }
        match self.tell(&[line.line("RCPT TO")]).await {
            Ok(replies) => {
                let Some(reply) = replies.into_iter().next() else { return Next::Close };
                self.wire.queue(&reply);
                if reply.is_accepted() {
                    open.recipients.push(line.path);
                }
                if reply.code() == 421 { Next::Close } else { Next::Go }
            }
            Err(error) => {
                // What the next hop took before is gone with its connection.
                open.recipients.clear();
                self.wire.queue(&unreachable(&error));
                Next::Go
            }
        }
    }

    async fn data(&mut self, greeted: &Greeted, open: &Transaction) -> Result<Next, WireError> {
        let front = Arc::clone(&self.front);
        let id = trace::id();
        // One buffer: the trace field stands in front of the mail from the start.
        let mut buffer = Vec::with_capacity(BUFFER);
        if front.smtp.trace == Trace::Written {
            let utf8 = open.mail.parameter("SMTPUTF8").is_some();
            trace::received(&mut buffer, &front.smtp.hostname, &greeted.helo, self.peer, greeted.protocol, utf8, &id);
        }
        let head = buffer.len();
        self.wire.queue(&Reply::new(354, "end with CR LF . CR LF"));
        self.wire.flush().await?;
        let end = self.wire.data(&mut buffer, front.smtp.size_limit).await?;
        let watch = Stopwatch::start();
        let refused = match end {
            DataEnd::Clean => None,
            DataEnd::BareLineEnding => Some(Reply::new(550, "5.5.2 the mail holds a CR or an LF that stands alone")),
            DataEnd::TooLarge => Some(Reply::new(552, format!("5.3.4 the mail is larger than {} octets", front.smtp.size_limit))),
        };
        if let Some(reply) = refused {
            self.give_up();
            self.wire.queue(&reply);
            return Ok(Next::Go);
        }
        let raw = buffer.get(head..).unwrap_or_default();
        let reverse_path = address(&open.mail.path);
        let arrival = Arrival { peer: Peer::Host(self.peer), helo: &greeted.helo, reverse_path: &reverse_path };
        let arriving = Arriving { id: &id, raw, arrival, upstream: self.peer, reverse_path: &open.mail.path, recipients: &open.recipients };
        let walked = front.hall.walk(&arriving).await;
        let (reply, outcome, next) = match refused_by_bounds(&walked) {
            Some(reply) => {
                self.give_up();
                let outcome = Outcome { delivery: Delivery::Refused, reply: reply.to_string(), latency_ms: milliseconds(watch) };
                (reply, outcome, Next::Go)
            }
            None => self.deliver(&buffer, head, &walked, watch).await,
        };
        front.hall.remember(&arriving, &walked, &outcome).await;
        self.wire.queue(&reply);
        self.idle = 0;
        Ok(next)
    }

    /// Hands a mail to the next hop and finds the words for the upstream.
    async fn deliver(&mut self, buffer: &[u8], head: usize, walked: &Walked, watch: Stopwatch) -> (Reply, Outcome, Next) {
        let edited = (!walked.patches.is_empty()).then(|| {
            let (trace, raw) = buffer.split_at_checked(head).unwrap_or_default();
            edit::apply(raw, &walked.patches).map(|mail| [trace, &mail].concat())
        });
        let sent = match (&mut self.hop, &edited) {
            (None, _) => Sent::NotSent(HopError::Broken("the connection is gone".into())),
            // Patches are made of header fields, which do not overlap; were it otherwise, a forged tag might stay.
            (Some(_), Some(Err(error))) => Sent::NotSent(HopError::Broken(error.to_string())),
            (Some(hop), Some(Ok(mail))) => hop.connection.data(mail).await,
            (Some(hop), None) => hop.connection.data(buffer).await,
        };
        let (delivery, reply) = match sent {
            Sent::Answered(reply) => {
                let delivery = if reply.is_accepted() {
                    Delivery::Accepted
                } else if reply.is_refused() {
                    Delivery::Refused
                } else {
                    Delivery::Deferred
                };
                (delivery, reply)
            }
            Sent::NotSent(error) => {
                tracing::warn!(next_hop = self.front.smtp.next_hop, %error, "next hop");
                self.hop = None;
                (Delivery::Deferred, Reply::new(451, "4.4.2 the next hop broke off, send the mail again"))
            }
            Sent::Unknown(error) => {
                tracing::error!(next_hop = self.front.smtp.next_hop, %error, "next hop: it may have the mail; the upstream is told to send it again");
                self.hop = None;
                (Delivery::Unknown, Reply::new(451, "4.4.2 the next hop broke off after the mail was sent, send it again"))
            }
        };
        // A reply that belongs to no mail, as 354, is nothing that the upstream could use.
        let reply = if (200..300).contains(&reply.code()) || reply.code() >= 400 { reply } else { Reply::new(451, "4.5.0 the next hop is confused") };
        if !reply.is_accepted() {
            self.give_up();
        }
        let next = if reply.code() == 421 { Next::Close } else { Next::Go };
        let outcome = Outcome { delivery, reply: reply.to_string(), latency_ms: milliseconds(watch) };
        (reply, outcome, next)
    }
}

/// RCPTs that are sent on in one breath.
const BATCH: usize = 100;
/// Octets that a mail's buffer starts with: most mails fit.
const BUFFER: usize = 32 * 1024;

fn milliseconds(watch: Stopwatch) -> u64 {
    u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn refused_by_bounds(walked: &Walked) -> Option<Reply> {
    if walked.received > limits::RECEIVED_FIELDS {
        return Some(Reply::new(554, "5.4.6 the mail is looping: it has too many Received fields"));
    }
    (walked.header_size > limits::HEADER_BLOCK).then(|| Reply::new(552, "5.3.4 the header is too large"))
}

fn refusal(error: CommandError, line: &[u8]) -> Reply {
    let code = match error {
        CommandError::Unknown if line.is_empty() => 500,
        CommandError::Unknown => 502,
        CommandError::Syntax | CommandError::Path => 501,
        CommandError::Characters => 501,
    };
    Reply::new(code, error.to_string())
}

fn unreachable(error: &HopError) -> Reply {
    match error {
        HopError::Refused(reply) => reply_of_refusal(reply),
        HopError::Unreachable(_) | HopError::Silent => Reply::new(451, "4.4.1 the next hop cannot be reached, try again later"),
        HopError::Broken(_) => Reply::new(451, "4.4.2 the next hop broke off, try again later"),
    }
}

/// A next hop that refuses the whole session refuses no mail in particular: whatever it says, the upstream keeps its
/// mails and tries again.
fn reply_of_refusal(reply: &Reply) -> Reply {
    Reply::new(451, format!("4.4.1 the next hop refused the session: {reply}"))
}
