//! One connection of an MTA: one client after another, one mail after another, each decided by itself.
//!
//! The reply to the end of the header is whether the MTA needs to send the body. While the sender's identity is looked up, the
//! MTA gets replies that keep it waiting.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Server,
    assembly::MessageAssembly,
    codec::{self, CodecError, MilterReply, MtaCommand, Negotiation, action, step},
};
use crate::{
    clock::{self, Stopwatch},
    limits,
    mail::{
        Client, Delivery, Envelope, Held, LineRepair, Outcome, Peer, Protocol, Transaction,
        record::{self, RefusalRecord},
    },
    pipeline::{Pipeline, Refusal, fault::FaultPoint},
    service::{listener::Accepted, memory::MemoryShare},
};

/// Why a session ended before the MTA ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// A frame cannot be read.
    #[error(transparent)]
    MtaCommand(#[from] CodecError),
    /// The MTA offers too little; its offer.
    #[error("the MTA offers version {0:?}; firstclick needs version 6 with header changes and leading space (Postfix 2.6, Sendmail 8.14)")]
    Negotiation(Negotiation),
    /// A command came in a state that does not allow it.
    #[error("a frame out of turn")]
    OutOfTurn,
    /// A reply cannot be written.
    #[error("the MTA takes no answer: {0}")]
    Write(#[from] std::io::Error),
    /// The MTA sent nothing within the deadline.
    #[error("the MTA was silent for too long")]
    Silent,
}

/// The client that the MTA serves: address and name.
#[derive(Default)]
struct MtaClient {
    address: Option<IpAddr>,
    helo: String,
}

impl MtaClient {
    /// The unspecified address for a client without one (a local program), which proves nothing.
    fn address_or_none(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// A mail that is being received.
struct OpenTransaction {
    /// The pipeline that decides about it, from its first command to its record; a reload in between takes effect with the next
    /// mail.
    pipeline: Arc<Pipeline>,
    reverse_path: String,
    recipients: Vec<String>,
    queue_id: Option<String>,
    assembly: MessageAssembly,
    /// Octets received of the mail, kept or not.
    size: usize,
    /// What was told of it so far.
    told: Told,
    header: Header,
    body: Body,
    /// The mail's share of the hop's memory.
    memory: MemoryShare,
}

/// How much of a mail was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The envelope, and fields of the header.
    Header,
    /// The whole header, and pieces of the body.
    Body,
}

/// Whether a mail's header was kept. It must be read, since it may hold a forged field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    /// All of it, so far.
    Kept,
    /// It is larger than [`limits::HEADER_BLOCK`].
    TooLarge,
    /// There is no memory for it at this time.
    NoMemory,
}

/// Why the MTA is to refuse a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusedFor {
    /// The pipeline refuses it.
    Pipeline(Refusal),
    /// There is no memory for its header at this time.
    NoMemory,
}

/// Whether a mail's body was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    /// All of it, so far.
    #[default]
    Kept,
    /// No entry names the author; only the header is to be changed.
    NotNeeded,
    /// It is larger than `inspect_limit`, or there is no memory for it at this time.
    TooLarge,
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(accepted: Accepted<S>, server: &Server) -> Result<(), SessionError> {
    let Accepted { stream, shutdown, .. } = accepted;
    let (input, mut output) = tokio::io::split(stream);
    let mut input = BufReader::with_capacity(16 * 1024, input);
    let mut session = Session { server, client: MtaClient::default(), mail: None, queue_id: None, negotiated: false };
    let mut out = Vec::new();
    loop {
        // A draining hop closes the connection between two mails; the MTA opens another one for the next mail.
        let idle = session.mail.is_none();
        let read = timeout(limits::MILTER_PATIENCE, codec::read(&mut input));
        let frame = tokio::select! {
            read = read => read.map_err(|_| SessionError::Silent)?,
            () = shutdown.drain.cancelled(), if idle => return Ok(()),
        };
        let frame = match frame {
            Err(CodecError::Closed) | Ok(MtaCommand::Quit) => return Ok(()),
            frame => frame?,
        };
        if matches!(frame, MtaCommand::EndOfBody(_)) {
            let deciding = session.end(frame);
            tokio::pin!(deciding);
            let mut tick = interval(limits::MILTER_PROGRESS);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick.tick().await;
            let answers = loop {
                tokio::select! {
                    answers = &mut deciding => break answers?,
                    _ = tick.tick() => {
                        out.clear();
                        MilterReply::Progress.write(&mut out);
                        write(&mut output, &out).await?;
                    }
                }
            };
            out.clear();
            for answer in &answers {
                answer.write(&mut out);
            }
        } else {
            out.clear();
            if let Some(answer) = session.handle(frame).await? {
                answer.write(&mut out);
            }
        }
        if !out.is_empty() {
            write(&mut output, &out).await?;
        }
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), SessionError> {
    let sent = async {
        output.write_all(bytes).await?;
        output.flush().await
    };
    Ok(timeout(limits::MILTER_PATIENCE, sent).await.map_err(|_| SessionError::Silent)??)
}

struct Session<'d> {
    server: &'d Server,
    client: MtaClient,
    mail: Option<Box<OpenTransaction>>,
    queue_id: Option<String>,
    negotiated: bool,
}

impl Session<'_> {
    /// Handles every command but the end of a mail; returns the reply, where there is one.
    async fn handle(&mut self, frame: MtaCommand) -> Result<Option<MilterReply>, SessionError> {
        if !self.negotiated && !matches!(frame, MtaCommand::Negotiate(_)) {
            return Err(SessionError::OutOfTurn);
        }
        match frame {
            MtaCommand::Negotiate(offer) => {
                self.negotiated = true;
                return Ok(Some(MilterReply::Negotiate(agree(offer)?)));
            }
            MtaCommand::Macros(pairs) => {
                if let Some((_, id)) = pairs.into_iter().find(|(name, _)| name == b"i" || name == b"{i}") {
                    self.queue_id = Some(text(&id));
                }
            }
            MtaCommand::Connect(address) => {
                self.client = MtaClient { address, ..MtaClient::default() };
                self.forget();
            }
            MtaCommand::Helo(name) => self.client.helo = text(&name),
            MtaCommand::Mail(path) => {
                // Sendmail tells the queue id in front of MAIL, Postfix at the end of the header.
                let queue_id = self.queue_id.take();
                self.forget();
                self.queue_id = queue_id;
                self.mail = Some(Box::new(OpenTransaction::begin(self.server, &self.client, bracketed(&path))));
            }
            MtaCommand::Recipient(path) => {
                let mail = self.mail_in(Told::Header)?;
                if mail.recipients.len() < limits::MILTER_RECIPIENTS {
                    mail.recipients.push(bracketed(&path));
                } else {
                    // Not all recipients are known, so the mail must not be exempted.
                    mail.body = Body::TooLarge;
                }
            }
            MtaCommand::Header(name, value) => return self.field(&name, &value),
            MtaCommand::EndOfHeader => return self.end_of_header().await,
            MtaCommand::Body(piece) => return self.body(&piece),
            MtaCommand::Abort => self.forget(),
            MtaCommand::QuitClient => {
                self.forget();
                self.client = MtaClient::default();
            }
            MtaCommand::Other => return Ok(Some(MilterReply::Continue)),
            MtaCommand::EndOfBody(_) | MtaCommand::Quit => return Err(SessionError::OutOfTurn),
        }
        Ok(None)
    }

    /// Drops the open transaction: nothing of it belongs to the next mail.
    fn forget(&mut self) {
        self.mail = None;
        self.queue_id = None;
    }

    /// The open transaction, if so much of it was told; a frame out of turn ends the session, since what it carries would stay
    /// unread.
    fn mail_in(&mut self, told: Told) -> Result<&mut OpenTransaction, SessionError> {
        self.mail.as_deref_mut().filter(|mail| mail.told == told).ok_or(SessionError::OutOfTurn)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<Option<MilterReply>, SessionError> {
        let mail = self.mail_in(Told::Header)?;
        mail.size = mail.size.saturating_add(name.len() + value.len() + 3);
        // If the connection were closed, an MTA might accept the mail with its forged fields: it is refused at the end of its
        // header.
        if mail.size > limits::HEADER_BLOCK {
            mail.header = Header::TooLarge;
        } else if !mail.keeps(name.len() + value.len()) {
            mail.header = Header::NoMemory;
        }
        if mail.header == Header::Kept {
            mail.assembly.field(name, value);
        } else {
            // It will be refused, so its octets need no memory.
            mail.assembly = MessageAssembly::default();
            mail.memory.shrink_to(0);
        }
        Ok(None)
    }

    /// The end of the header. Most mails end here: no entry names their author, and nothing is forged.
    async fn end_of_header(&mut self) -> Result<Option<MilterReply>, SessionError> {
        self.mail_in(Told::Header)?.told = Told::Body;
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        let pipeline = Arc::clone(&mail.pipeline);
        let refused = match mail.header {
            Header::Kept => None,
            Header::TooLarge => Some(RefusedFor::Pipeline(Refusal::HeaderTooLarge)),
            Header::NoMemory => Some(RefusedFor::NoMemory),
        };
        if let Some(refused) = refused {
            let answer = refuse(&pipeline, &self.client, mail, refused);
            self.forget();
            return Ok(Some(answer));
        }
        mail.assembly.end_of_header();
        mail.size = mail.assembly.raw().len();
        mail.queue_id.clone_from(&self.queue_id);
        if pipeline.is_candidate(mail.assembly.raw()) {
            return Ok(Some(MilterReply::Continue));
        }
        if pipeline.is_forged(mail.assembly.raw()) {
            mail.body = Body::NotNeeded;
            return Ok(Some(MilterReply::Continue));
        }
        mail.queue_id = self.queue_id.take();
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        match decide(&pipeline, &self.client, &mut mail).await {
            Ok(_) => Ok(Some(MilterReply::Accept)),
            Err(refusal) => Ok(Some(refuse(&pipeline, &self.client, &mail, RefusedFor::Pipeline(refusal)))),
        }
    }

    fn body(&mut self, piece: &[u8]) -> Result<Option<MilterReply>, SessionError> {
        let mail = self.mail_in(Told::Body)?;
        let limit = mail.pipeline.config.inspect_limit;
        mail.size = mail.size.saturating_add(piece.len());
        if mail.body == Body::Kept && (mail.size > limit || !mail.keeps(piece.len())) {
            mail.body = Body::TooLarge;
        }
        if mail.body != Body::Kept {
            return Ok(Some(MilterReply::Skip));
        }
        mail.assembly.body(piece);
        Ok(Some(MilterReply::Continue))
    }

    /// The end of the mail: decides about it; the changes for the MTA, and the reply that accepts it.
    async fn end(&mut self, frame: MtaCommand) -> Result<Vec<MilterReply>, SessionError> {
        if let MtaCommand::EndOfBody(piece) = frame
            && !piece.is_empty()
        {
            self.body(&piece)?;
        }
        self.mail_in(Told::Body)?;
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        mail.queue_id = mail.queue_id.take().or_else(|| self.queue_id.clone());
        self.forget();
        let pipeline = Arc::clone(&mail.pipeline);
        Ok(match decide(&pipeline, &self.client, &mut mail).await {
            Ok(mut changes) => {
                changes.push(MilterReply::Accept);
                changes
            }
            Err(refusal) => vec![refuse(&pipeline, &self.client, &mail, RefusedFor::Pipeline(refusal))],
        })
    }
}

impl OpenTransaction {
    /// Begins a transaction with MAIL.
    fn begin(server: &Server, client: &MtaClient, reverse_path: String) -> Self {
        let pipeline = server.pipeline();
        // A trusted upstream hands over many clients' mails.
        let client = client.address.filter(|client| !pipeline.config.authenticator.trusts(*client));
        let memory = server.memory.share(Protocol::Milter, client, pipeline.config.inspect_limit);
        Self {
            pipeline,
            reverse_path,
            recipients: Vec::new(),
            queue_id: None,
            assembly: MessageAssembly::default(),
            size: 0,
            told: Told::Header,
            header: Header::Kept,
            body: Body::Kept,
            memory,
        }
    }

    /// Takes memory for so many octets more; whether there is any.
    fn keeps(&mut self, octets: usize) -> bool {
        let fields = (self.assembly.count() + 1) * limits::FIELD_OVERHEAD;
        self.memory.grow_to(self.assembly.raw().len() + fields + octets).is_ok()
    }
}

/// Decides about a mail; returns its changes.
///
/// # Errors
/// The mail is to be refused.
async fn decide(pipeline: &Pipeline, client: &MtaClient, mail: &mut OpenTransaction) -> Result<Vec<MilterReply>, Refusal> {
    let watch = Stopwatch::start();
    let id = clock::id();
    let transaction = Transaction {
        id: &id,
        protocol: Protocol::Milter,
        client: Client { peer: Peer::Host(client.address_or_none()), helo: &client.helo },
        envelope: Envelope { reverse_path: &mail.reverse_path, recipients: &mail.recipients },
        data: mail.assembly.raw(),
        held: if mail.body == Body::TooLarge { Held::Header } else { Held::Whole },
        size: mail.size,
        repair: LineRepair::None,
    };
    let ready = pipeline.process(&transaction).await?.commit().await;
    pipeline.strike(FaultPoint::Delivery);
    let changes = mail.assembly.changes(ready.patches());
    let outcome = Outcome {
        delivery: Delivery::LeftToMta.into(),
        next_hop: String::new(),
        reply: String::new(),
        queue_id: mail.queue_id.clone(),
        latency_ms: u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    ready.finish(outcome).await;
    Ok(changes)
}

/// Refuses a mail by the MTA, and writes a record of it. Returns the reply.
fn refuse(pipeline: &Pipeline, client: &MtaClient, mail: &OpenTransaction, refused: RefusedFor) -> MilterReply {
    let (code, text) = match refused {
        RefusedFor::NoMemory => (452, "4.3.1 too many mails at once, send it again"),
        RefusedFor::Pipeline(refusal) => (refusal.code(), refusal.text()),
    };
    let delivery = if code < 500 { Delivery::Deferred } else { Delivery::Refused };
    let reply = format!("{code} {text}");
    let record = RefusalRecord {
        v: record::VERSION,
        time: clock::now(),
        id: clock::id(),
        upstream: client.address,
        from: mail.reverse_path.clone(),
        recipients: mail.recipients.len(),
        size: mail.size,
        delivery: delivery.into(),
        reply: reply.clone(),
    };
    pipeline.refused_mail(record, &mail.recipients, code);
    MilterReply::Refuse(reply)
}

/// The answer to an offer: what is needed of it, with all other steps left out.
fn agree(offer: Negotiation) -> Result<Negotiation, SessionError> {
    let actions = action::ADD_HEADER | action::CHANGE_HEADER | action::CHANGE_BODY;
    if offer.version < VERSION || offer.actions & actions != actions || offer.steps & step::LEADING_SPACE == 0 {
        return Err(SessionError::Negotiation(offer));
    }
    let silent = step::NO_REPLY_CONNECT | step::NO_REPLY_HELO | step::NO_REPLY_MAIL | step::NO_REPLY_RECIPIENT | step::NO_REPLY_HEADER;
    // Steps without a reply must be agreed on, or the MTA and this session would wait for each other.
    if offer.steps & silent != silent || offer.steps & step::SKIP == 0 {
        return Err(SessionError::Negotiation(offer));
    }
    let wanted = silent | step::NO_UNKNOWN | step::NO_DATA | step::SKIP | step::LEADING_SPACE;
    Ok(Negotiation { version: VERSION, actions, steps: offer.steps & wanted })
}

/// The version of the protocol: the first in which white space is kept and steps may have no reply.
const VERSION: u32 = 6;

/// A path in angle brackets, as SMTP has it: of a mail that came by no session Postfix tells it without.
fn bracketed(path: &[u8]) -> String {
    let path = text(path);
    if path.starts_with('<') { path } else { format!("<{path}>") }
}

/// A text of the MTA for log, audit and judging; octets that are not UTF-8 become escapes, so that nothing matches by accident.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
