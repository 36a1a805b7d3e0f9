//! The data of one mail: received, decided, sent to the next hop, and recorded. The upstream gets the next hop's reply.

use std::sync::Arc;

use super::{Greeted, Next, OpenTransaction, Session, envelope::announced_size, large::Beginning};
use crate::{
    clock::{self, Stopwatch},
    edit, limits,
    mail::{
        self, Client, Delivery, Envelope, Held, LineRepair, Outcome, Transaction,
        record::{self, RefusalRecord},
    },
    pipeline::{self, Ready, RefusedBy, fault::FaultPoint},
    smtp::{
        codec::{
            data::{DataReader, LineEndings},
            reply::Reply,
            stuffing::Stuffing,
        },
        config::{BareLineEndings, Config, Trace},
        server::{
            Snapshot,
            connection::ConnectionError,
            incoming::{Arrived, Incoming, Refusal},
            received::{self, Body},
        },
    },
};

/// A mail that is decided about.
pub(super) struct Kept<'a> {
    pub(super) id: &'a str,
    /// Its octets; of a large one its header.
    pub(super) data: &'a [u8],
    pub(super) held: Held,
    pub(super) line_endings: LineEndings,
}

impl Session {
    /// DATA: the hop replies 354 itself, and sends DATA to the next hop once the mail is decided.
    pub(super) async fn data(&mut self, greeted: &Greeted, open: &OpenTransaction) -> Result<Next, ConnectionError> {
        if self.connection.has_input() {
            // A client that does not wait for 354 would have its mail taken for commands, were DATA refused (RFC 2920 section 3.1
            // makes DATA the last of a group).
            self.answer(RefusedBy::Hop, &Reply::new(554, "5.5.0 wait for the reply to DATA"));
            return Ok(Next::HangUp);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let config = &snapshot.config;
        self.answer(RefusedBy::Hop, &Reply::new(354, "end with CR LF . CR LF"));
        self.flush().await?;
        let client = self.client_info.counted(config);
        let memory = self.server.memory.share(mail::Protocol::Smtp, client, config.inspect_limit.max(limits::STREAMED));
        let announced = announced_size(&open.mail).unwrap_or_default();
        let mut incoming = Incoming::new(config, announced, memory);
        let arrived = incoming.arrive(&mut self.connection).await?;
        self.idle = 0;
        let id = clock::id();
        // From here on a refusal is a record, and not counted by `answer`.
        let reply = match arrived {
            Err(refusal) => self.refuse_mail(open, &id, incoming.size(), refused_for(refusal, config)),
            // Boxed, so that a session that waits for a command does not hold the memory for it.
            Ok(Arrived::Whole(data)) => {
                let mail = Kept { id: &id, data: &data, held: Held::Whole, line_endings: incoming.line_endings() };
                let reply = Box::pin(self.hand_on(greeted, open, mail)).await;
                self.connection.reuse(data);
                reply
            }
            Ok(Arrived::Beginning { data, body }) => Box::pin(self.stream(greeted, open, &id, Beginning { data, body, incoming })).await?,
        };
        self.client_info.mail = None;
        self.connection.queue(&reply);
        Ok(if reply.code() == 421 { Next::HangUp } else { Next::Go })
    }

    /// Decides about a mail and sends it to the next hop; returns the reply for the upstream.
    async fn hand_on(&mut self, greeted: &Greeted, open: &OpenTransaction, mail: Kept<'_>) -> Reply {
        let Kept { id, data, .. } = mail;
        let watch = Stopwatch::start();
        if let Some(reply) = refusal_of_lines(mail.line_endings, &self.snapshot.config) {
            return self.refuse_mail(open, id, data.len(), reply);
        }
        let ready = match self.decide(greeted, open, mail, data.len()).await {
            Ok(ready) => ready,
            Err(refusal) => return self.refuse_mail(open, id, data.len(), refused_by_bounds(refusal)),
        };
        let (reply, outcome) = match self.pieces(greeted, open, (id, data), &ready, Body::Here) {
            Ok((received, mut pieces)) => {
                pieces.insert(0, &received);
                self.relay.deliver(&pieces, watch).await
            }
            Err(reply) => {
                self.relay.abandon();
                let outcome = Outcome::of_the_hop(Delivery::Deferred, reply.to_string());
                (reply, outcome)
            }
        };
        ready.finish(outcome).await;
        reply
    }

    /// Decides about a mail of which so many octets have come, and puts an exemption on record.
    pub(super) async fn decide(
        &self,
        greeted: &Greeted,
        open: &OpenTransaction,
        mail: Kept<'_>,
        size: usize,
    ) -> Result<Ready, pipeline::Refusal> {
        let forwarded = self.client_info.mail.as_ref();
        let helo = forwarded.and_then(|client| client.helo.as_deref()).or(self.client_info.session.helo.as_deref());
        let transaction = Transaction {
            id: mail.id,
            protocol: mail::Protocol::Smtp,
            client: Client { peer: self.client_info.peer_of_mail(), helo: helo.unwrap_or(&greeted.helo) },
            envelope: Envelope { reverse_path: &open.mail.path, recipients: &open.recipients },
            data: mail.data,
            held: mail.held,
            size,
            repair: repair(mail.line_endings),
        };
        let ready = self.snapshot.pipeline.process(&transaction).await?.commit().await;
        self.snapshot.pipeline.strike(FaultPoint::Delivery);
        Ok(ready)
    }

    /// The hop's own field, and the pieces of an edited mail behind it.
    ///
    /// # Errors
    /// The reply that defers a mail whose edits do not fit.
    pub(super) fn pieces<'p>(
        &self,
        greeted: &Greeted,
        open: &OpenTransaction,
        (id, data): (&str, &'p [u8]),
        ready: &'p Ready,
        body: Body,
    ) -> Result<(Vec<u8>, Vec<&'p [u8]>), Reply> {
        let pieces = edit::pieces(data, ready.patches()).map_err(|error| {
            // Patches are made of header fields, which do not overlap; if they did, a forged tag might stay.
            tracing::error!(id, %error, "the mail cannot be edited");
            Reply::new(451, "4.3.0 the mail cannot be edited")
        })?;
        let Snapshot { config, pipeline, .. } = &*self.snapshot;
        let received = match config.trace {
            Trace::Hidden if !received::hides_a_header(&pieces, body, |block| pipeline.is_forged(block)) => Vec::new(),
            Trace::Hidden | Trace::Written => self.received(greeted, open, id),
        };
        Ok((received, pieces))
    }

    /// Refuses a mail after its data: the next hop has nothing of it, and a [`RefusalRecord`] is written. Returns the reply.
    pub(super) fn refuse_mail(&mut self, open: &OpenTransaction, id: &str, size: usize, reply: Reply) -> Reply {
        self.relay.abandon();
        let delivery = if reply.is_refused() { Delivery::Refused } else { Delivery::Deferred };
        let record = RefusalRecord {
            v: record::VERSION,
            time: clock::now(),
            id: id.to_owned(),
            upstream: Some(self.client_info.peer),
            from: open.mail.path.clone(),
            recipients: open.recipients.len(),
            size,
            delivery: delivery.into(),
            reply: reply.to_string(),
        };
        self.snapshot.pipeline.refused_mail(record, &open.recipients, reply.code());
        reply
    }

    /// The Received field of a mail.
    fn received(&self, greeted: &Greeted, open: &OpenTransaction, id: &str) -> Vec<u8> {
        let config = &self.snapshot.config;
        let with = received::ReceivedWith {
            protocol: greeted.protocol,
            encrypted: self.connection.is_encrypted(),
            utf8: open.mail.parameter("SMTPUTF8").is_some(),
        };
        let helo = self.client_info.session.helo.as_deref().unwrap_or(&greeted.helo);
        let mut received = Vec::new();
        received::received(
            &mut received,
            &config.hostname,
            helo,
            self.client_info.session.name.as_deref(),
            self.client_info.peer,
            with,
            id,
        );
        received
    }
}

/// A saved mail, as sessions would keep it, and whether its line ends were repaired.
///
/// # Errors
/// The reply by which sessions refuse it before it is decided about: for its size or its line ends.
pub fn as_kept(saved: &[u8], config: &Config) -> Result<(Vec<u8>, LineRepair), Reply> {
    let mut stuffing = Stuffing::default();
    stuffing.push(saved);
    stuffing.finish();
    let mut kept = Vec::with_capacity(saved.len());
    let (_, line_endings) = DataReader::new(config.bare_line_endings).read(stuffing.ready(), &mut |octets| kept.extend_from_slice(octets));
    let line_endings = line_endings.unwrap_or(LineEndings::Clean);
    if kept.len() > config.size_limit {
        return Err(refused_for(Refusal::TooLarge, config));
    }
    refusal_of_lines(line_endings, config).map_or(Ok((kept, repair(line_endings))), Err)
}

/// Whether line ends were repaired.
const fn repair(line_endings: LineEndings) -> LineRepair {
    match line_endings {
        LineEndings::Clean => LineRepair::None,
        LineEndings::Bare | LineEndings::FalseEnd => LineRepair::Done,
    }
}

/// The reply that refuses a mail for its line ends.
pub(super) fn refusal_of_lines(line_endings: LineEndings, config: &Config) -> Option<Reply> {
    match line_endings {
        LineEndings::FalseEnd => Some(Reply::new(550, "5.5.2 the mail holds a line that is a lone dot but for NULs")),
        LineEndings::Bare if config.bare_line_endings == BareLineEndings::Reject => {
            Some(Reply::new(550, "5.5.2 the mail holds a CR or an LF that stands alone"))
        }
        LineEndings::Bare | LineEndings::Clean => None,
    }
}

pub(super) fn refused_by_bounds(refusal: pipeline::Refusal) -> Reply {
    Reply::new(refusal.code(), refusal.text())
}

/// The reply that refuses a mail for its size or for memory.
pub(super) fn refused_for(refusal: Refusal, config: &Config) -> Reply {
    match refusal {
        Refusal::TooLarge => Reply::new(552, format!("5.3.4 the mail is larger than {} octets", config.size_limit)),
        Refusal::HeaderTooLarge => refused_by_bounds(pipeline::Refusal::HeaderTooLarge),
        Refusal::MemoryFull => Reply::new(452, "4.3.1 too many mails at once, send it again"),
    }
}
