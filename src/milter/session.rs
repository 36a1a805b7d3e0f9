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
    Door,
    frame::{self, Answer, Frame, FrameError, Terms, action, step},
    letter::Letter,
};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::{self, Stopwatch},
    identity::{Arrival, Peer},
    limits,
    pipeline::{Arriving, Hall, LineRepair, address},
};

/// Why a session ended before the MTA ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// It cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It offers too little.
    #[error("the MTA offers version {0:?}; firstclick needs version 6 with header changes and leading space (Postfix 2.6, Sendmail 8.14)")]
    Terms(Terms),
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
struct Transaction {
    reverse_path: String,
    recipients: Vec<String>,
    queue_id: Option<String>,
    letter: Letter,
    /// Octets of the mail, kept or not.
    size: usize,
    body: Body,
    /// Room in memory that it holds.
    room: Vec<OwnedSemaphorePermit>,
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
    door: &Door,
    mut stop: watch::Receiver<bool>,
) -> Result<(), SessionError> {
    let (input, mut output) = tokio::io::split(stream);
    let mut input = BufReader::with_capacity(16 * 1024, input);
    let mut session = Session { door, client: Client::default(), mail: None, queue_id: None, negotiated: false };
    let mut out = Vec::new();
    loop {
        // Between two mails a stopping hop leaves; the MTA opens another connection for the next one.
        let idle = session.mail.is_none();
        let read = timeout(limits::MILTER_PATIENCE, frame::read(&mut input));
        let frame = tokio::select! {
            read = read => read.map_err(|_| SessionError::Silent)?,
            _ = stop.wait_for(|stop| *stop), if idle => return Ok(()),
        };
        let frame = match frame {
            Err(FrameError::Closed) | Ok(Frame::Quit) => return Ok(()),
            frame => frame?,
        };
        if matches!(frame, Frame::EndOfBody(_)) {
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
                        Answer::Progress.write(&mut out);
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
            if let Some(answer) = session.hear(frame).await? {
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
    door: &'d Door,
    client: Client,
    mail: Option<Box<Transaction>>,
    queue_id: Option<String>,
    negotiated: bool,
}

impl Session<'_> {
    /// Everything but the end of a mail.
    async fn hear(&mut self, frame: Frame) -> Result<Option<Answer>, SessionError> {
        if !self.negotiated && !matches!(frame, Frame::Negotiate(_)) {
            return Err(SessionError::OutOfTurn);
        }
        match frame {
            Frame::Negotiate(offer) => {
                self.negotiated = true;
                return Ok(Some(Answer::Negotiate(agree(offer)?)));
            }
            Frame::Macros(pairs) => {
                if let Some((_, id)) = pairs.into_iter().find(|(name, _)| name == b"i" || name == b"{i}") {
                    self.queue_id = Some(text(&id));
                }
            }
            Frame::Connect(address) => {
                self.client = Client { address, ..Client::default() };
                self.forget();
            }
            Frame::Helo(name) => self.client.helo = text(&name),
            Frame::Mail(path) => {
                self.forget();
                self.mail = Some(Box::new(Transaction { reverse_path: text(&path), ..Transaction::default() }));
            }
            Frame::Recipient(path) => {
                let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
                if mail.recipients.len() < limits::MILTER_RECIPIENTS {
                    mail.recipients.push(text(&path));
                } else {
                    // Not everybody is known whom it goes to, so it is nobody's to exempt.
                    mail.body = Body::TooLarge;
                }
            }
            Frame::Header(name, value) => return self.field(&name, &value),
            Frame::EndOfHeader => return self.end_of_header().await,
            Frame::Body(piece) => return self.body(&piece),
            Frame::Abort => self.forget(),
            Frame::QuitClient => {
                self.forget();
                self.client = Client::default();
            }
            Frame::Other => return Ok(Some(Answer::Continue)),
            Frame::EndOfBody(_) | Frame::Quit => return Err(SessionError::OutOfTurn),
        }
        Ok(None)
    }

    /// What was known of a mail belongs to no other.
    fn forget(&mut self) {
        self.mail = None;
        self.queue_id = None;
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<Option<Answer>, SessionError> {
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        mail.size = mail.size.saturating_add(name.len() + value.len() + 3);
        // Hung up on, an MTA might let the mail go, forged fields and all: it is refused at the end of its header.
        if mail.size <= limits::HEADER_BLOCK {
            mail.letter.field(name, value);
        }
        Ok(None)
    }

    /// Most mails end here: no entry names their author, and nothing is forged.
    async fn end_of_header(&mut self) -> Result<Option<Answer>, SessionError> {
        let hall = self.door.hall();
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        if mail.size > limits::HEADER_BLOCK {
            tracing::info!(from = mail.reverse_path, size = mail.size, "refused: the header is too large");
            self.forget();
            return Ok(Some(Answer::Refuse("552 5.3.4 the header is too large".into())));
        }
        mail.letter.end_of_header();
        mail.size = mail.letter.raw().len();
        mail.queue_id.clone_from(&self.queue_id);
        if hall.is_candidate(mail.letter.raw()) {
            return Ok(Some(Answer::Continue));
        }
        if hall.is_forged(mail.letter.raw()) {
            mail.body = Body::NotNeeded;
            return Ok(Some(Answer::Continue));
        }
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        decide(&hall, &self.client, &mut mail).await;
        Ok(Some(Answer::Accept))
    }

    fn body(&mut self, piece: &[u8]) -> Result<Option<Answer>, SessionError> {
        let limit = self.door.hall().inspect_limit;
        let mail = self.mail.as_mut().ok_or(SessionError::OutOfTurn)?;
        mail.size = mail.size.saturating_add(piece.len());
        if mail.body == Body::Kept && (mail.size > limit || !mail.grow(self.door, piece.len())) {
            mail.body = Body::TooLarge;
        }
        if mail.body != Body::Kept {
            return Ok(Some(Answer::Skip));
        }
        mail.letter.body(piece);
        Ok(Some(Answer::Continue))
    }

    /// The mail is complete: what the MTA has to change, and that it may go.
    async fn end(&mut self, frame: Frame) -> Result<Vec<Answer>, SessionError> {
        if let Frame::EndOfBody(piece) = frame
            && !piece.is_empty()
        {
            self.body(&piece)?;
        }
        let hall = self.door.hall();
        let mut mail = self.mail.take().ok_or(SessionError::OutOfTurn)?;
        mail.queue_id = mail.queue_id.take().or_else(|| self.queue_id.clone());
        let mut answers = decide(&hall, &self.client, &mut mail).await;
        answers.push(Answer::Accept);
        self.forget();
        Ok(answers)
    }
}

impl Transaction {
    /// Takes room in memory for so much more, if there is any.
    fn grow(&mut self, door: &Door, octets: usize) -> bool {
        let steps = u32::try_from(octets.div_ceil(limits::MEMORY_STEP)).unwrap_or(u32::MAX);
        Arc::clone(&door.memory).try_acquire_many_owned(steps).is_ok_and(|room| {
            self.room.push(room);
            true
        })
    }
}

/// Walks the mail through the hall; the changes that it needs.
async fn decide(hall: &Hall, client: &Client, mail: &mut Transaction) -> Vec<Answer> {
    let watch = Stopwatch::start();
    // Somebody at no address (a local program) proves nothing by it.
    let upstream = client.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let reverse_path = address(&mail.reverse_path);
    let id = clock::id();
    let size = if mail.body == Body::TooLarge { mail.size.max(hall.inspect_limit.saturating_add(1)) } else { mail.size };
    let arriving = Arriving {
        id: &id,
        raw: mail.letter.raw(),
        size,
        repair: LineRepair::None,
        arrival: Arrival { peer: Peer::Host(upstream), helo: &client.helo, reverse_path: &reverse_path },
        upstream,
        reverse_path: &mail.reverse_path,
        recipients: &mail.recipients,
    };
    let walked = hall.walk(&arriving).await;
    let changes = mail.letter.changes(&walked.patches);
    let outcome = Outcome {
        delivery: Delivery::LeftToMta,
        next_hop: String::new(),
        reply: String::new(),
        queue_id: mail.queue_id.clone(),
        latency_ms: u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    hall.remember(&arriving, &walked, &outcome).await;
    changes
}

/// Takes of an offer what is needed, and leaves out all that is not.
fn agree(offer: Terms) -> Result<Terms, SessionError> {
    let actions = action::ADD_HEADER | action::CHANGE_HEADER | action::CHANGE_BODY;
    if offer.version < VERSION || offer.actions & actions != actions || offer.steps & step::LEADING_SPACE == 0 {
        return Err(SessionError::Terms(offer));
    }
    let silent = step::NO_REPLY_CONNECT | step::NO_REPLY_HELO | step::NO_REPLY_MAIL | step::NO_REPLY_RECIPIENT | step::NO_REPLY_HEADER;
    // What goes without a reply must be promised to, or the MTA and this session would wait for each other.
    if offer.steps & silent != silent || offer.steps & step::SKIP == 0 {
        return Err(SessionError::Terms(offer));
    }
    let wanted = silent | step::NO_UNKNOWN | step::NO_DATA | step::SKIP | step::LEADING_SPACE;
    Ok(Terms { version: VERSION, actions, steps: offer.steps & wanted })
}

/// The protocol's version: the first in which white space is kept and steps go without replies.
const VERSION: u32 = 6;

/// Text of the MTA for log, audit and judging; octets that are no UTF-8 are written as escapes, so that nothing matches by
/// accident.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
