//! One connection of an MTA: one client after another, one mail after another, each judged by itself alone.
//!
//! After the header the MTA is told whether it needs to send the body at all. While the sender's identity is looked up it
//! is told that somebody is still at it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{OwnedSemaphorePermit, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Server,
    assembly::MessageAssembly,
    codec::{self, CodecError, MilterReply, MtaCommand, Negotiation, action, step},
};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::{self, Stopwatch},
    identity::{Arrival, Peer},
    limits,
    pipeline::{LineRepair, Pipeline, Transaction, address},
};

/// Why a session ended before the MTA ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// It cannot be read.
    #[error(transparent)]
    MtaCommand(#[from] CodecError),
    /// It offers too little.
    #[error("the MTA offers version {0:?}; firstclick needs version 6 with header changes and leading space (Postfix 2.6, Sendmail 8.14)")]
    Negotiation(Negotiation),
    /// A frame came where it may not.
    #[error("a frame out of turn")]
    OutOfTurn,
    /// It cannot be written to.
    #[error("the MTA takes no answer: {0}")]
    Write(#[from] std::io::Error),
    /// It says nothing.
    #[error("the MTA was silent for too long")]
    Silent,
}

/// What is known of the client that the MTA speaks with.
#[derive(Default)]
struct Client {
    address: Option<IpAddr>,
    helo: String,
}

/// A mail on its way in.
#[derive(Default)]
struct OpenTransaction {
    reverse_path: String,
    recipients: Vec<String>,
    queue_id: Option<String>,
    assembly: MessageAssembly,
    /// Octets of the mail, kept or not.
    size: usize,
    body: Body,
    /// Its share of the memory budget.
    memory: Vec<OwnedSemaphorePermit>,
}

/// What is done with a mail's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    /// It is kept.
    #[default]
    Kept,
    /// No entry names the author; only the header is to be changed.
    NotNeeded,
    /// It is larger than `inspect_limit`, or there is no memory for it now.
    TooLarge,
}

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    server: &Server,
    mut stop: watch::Receiver<bool>,
) -> Result<(), SessionError> {
    let (input, mut output) = tokio::io::split(stream);
    let mut input = BufReader::with_capacity(16 * 1024, input);
    let mut session = Session { server, client: Client::default(), mail: None, queue_id: None, negotiated: false };
    let mut out = Vec::new();
    loop {
        // Between two mails a stopping hop leaves; the MTA opens another connection for the next one.
        let idle = session.mail.is_none();
        let read = timeout(limits::MILTER_PATIENCE, codec::read(&mut input));
        let frame = tokio::select! {
            read = read => read.map_err(|_| SessionError::Silent)?,
            _ = stop.wait_for(|stop| *stop), if idle => return Ok(()),
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
    client: Client,
    mail: Option<Box<OpenTransaction>>,
    queue_id: Option<String>,
    negotiated: bool,
}

impl Session<'_> {
    /// Everything but the end of a mail.
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
                self.client = Client { address, ..Client::default() };
                self.forget();
            }
            MtaCommand::Helo(name) => self.client.helo = text(&name),
            MtaCommand::Mail(path) => {
                self.forget();
                self.mail = Some(Box::new(OpenTransaction { reverse_path: text(&path), ..OpenTransaction::default() }));
            }
            MtaCommand::Recipient(path) => {
                let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
                if mail.recipients.len() < limits::MILTER_RECIPIENTS {
                    mail.recipients.push(text(&path));
                } else {
                    // Not everybody is known whom it goes to, so it is nobody's to exempt.
                    mail.body = Body::TooLarge;
                }
            }
            MtaCommand::Header(name, value) => return self.field(&name, &value),
            MtaCommand::EndOfHeader => return self.end_of_header().await,
            MtaCommand::Body(piece) => return self.body(&piece),
            MtaCommand::Abort => self.forget(),
            MtaCommand::QuitClient => {
                self.forget();
                self.client = Client::default();
            }
            MtaCommand::Other => return Ok(Some(MilterReply::Continue)),
            MtaCommand::EndOfBody(_) | MtaCommand::Quit => return Err(SessionError::OutOfTurn),
        }
        Ok(None)
    }

    /// What was known of a mail belongs to no other.
    fn forget(&mut self) {
        self.mail = None;
        self.queue_id = None;
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<Option<MilterReply>, SessionError> {
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        mail.size = mail.size.saturating_add(name.len() + value.len() + 3);
        // Hung up on, an MTA might let the mail go, forged fields and all: it is refused at the end of its header.
        if mail.size <= limits::HEADER_BLOCK {
            mail.assembly.field(name, value);
        }
        Ok(None)
    }

    /// Most mails end here: no entry names their author, and nothing is forged.
    async fn end_of_header(&mut self) -> Result<Option<MilterReply>, SessionError> {
        let pipeline = self.server.pipeline();
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        if mail.size > limits::HEADER_BLOCK {
            tracing::info!(from = mail.reverse_path, size = mail.size, "refused: the header is too large");
            self.forget();
            return Ok(Some(MilterReply::Refuse("552 5.3.4 the header is too large".into())));
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
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        decide(&pipeline, &self.client, &mut mail).await;
        Ok(Some(MilterReply::Accept))
    }

    fn body(&mut self, piece: &[u8]) -> Result<Option<MilterReply>, SessionError> {
        let limit = self.server.pipeline().inspect_limit;
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        mail.size = mail.size.saturating_add(piece.len());
        if mail.body == Body::Kept && (mail.size > limit || !mail.grow(self.server, piece.len())) {
            mail.body = Body::TooLarge;
        }
        if mail.body != Body::Kept {
            return Ok(Some(MilterReply::Skip));
        }
        mail.assembly.body(piece);
        Ok(Some(MilterReply::Continue))
    }

    /// The mail is complete: what the MTA has to change, and that it may go.
    async fn end(&mut self, frame: MtaCommand) -> Result<Vec<MilterReply>, SessionError> {
        if let MtaCommand::EndOfBody(piece) = frame
            && !piece.is_empty()
        {
            self.body(&piece)?;
        }
        let pipeline = self.server.pipeline();
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        mail.queue_id = mail.queue_id.take().or_else(|| self.queue_id.clone());
        let mut answers = decide(&pipeline, &self.client, &mut mail).await;
        answers.push(MilterReply::Accept);
        self.forget();
        Ok(answers)
    }
}

impl OpenTransaction {
    /// Takes so much more of the memory budget, if that much is left.
    fn grow(&mut self, server: &Server, octets: usize) -> bool {
        let steps = u32::try_from(octets.div_ceil(limits::MEMORY_STEP)).unwrap_or(u32::MAX);
        Arc::clone(&server.memory).try_acquire_many_owned(steps).is_ok_and(|permit| {
            self.memory.push(permit);
            true
        })
    }
}

/// Decides about a mail; the changes that it needs.
async fn decide(pipeline: &Pipeline, client: &Client, mail: &mut OpenTransaction) -> Vec<MilterReply> {
    let watch = Stopwatch::start();
    // Somebody at no address (a local program) proves nothing by it.
    let upstream = client.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let reverse_path = address(&mail.reverse_path);
    let id = clock::id();
    let size = if mail.body == Body::TooLarge { mail.size.max(pipeline.inspect_limit.saturating_add(1)) } else { mail.size };
    let transaction = Transaction {
        id: &id,
        raw: mail.assembly.raw(),
        size,
        repair: LineRepair::None,
        arrival: Arrival { peer: Peer::Host(upstream), helo: &client.helo, reverse_path: &reverse_path },
        upstream,
        reverse_path: &mail.reverse_path,
        recipients: &mail.recipients,
    };
    let decided = pipeline.process(&transaction).await;
    let changes = mail.assembly.changes(&decided.patches);
    let outcome = Outcome {
        delivery: Delivery::LeftToMta,
        next_hop: String::new(),
        reply: String::new(),
        queue_id: mail.queue_id.clone(),
        latency_ms: u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    pipeline.finish(&transaction, &decided, &outcome).await;
    changes
}

/// Takes of an offer what is needed, and leaves out all that is not.
fn agree(offer: Negotiation) -> Result<Negotiation, SessionError> {
    let actions = action::ADD_HEADER | action::CHANGE_HEADER | action::CHANGE_BODY;
    if offer.version < VERSION || offer.actions & actions != actions || offer.steps & step::LEADING_SPACE == 0 {
        return Err(SessionError::Negotiation(offer));
    }
    let silent = step::NO_REPLY_CONNECT | step::NO_REPLY_HELO | step::NO_REPLY_MAIL | step::NO_REPLY_RECIPIENT | step::NO_REPLY_HEADER;
    // What goes without a reply must be promised to, or the MTA and this session would wait for each other.
    if offer.steps & silent != silent || offer.steps & step::SKIP == 0 {
        return Err(SessionError::Negotiation(offer));
    }
    let wanted = silent | step::NO_UNKNOWN | step::NO_DATA | step::SKIP | step::LEADING_SPACE;
    Ok(Negotiation { version: VERSION, actions, steps: offer.steps & wanted })
}

/// The protocol's version: the first in which white space is kept and steps go without replies.
const VERSION: u32 = 6;

/// Text of the MTA for log, audit and judging; octets that are no UTF-8 are written as escapes, so that nothing matches by
/// accident.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
