//! The data of one mail: received, decided, sent to the next hop, and recorded. The upstream gets the next hop's reply.

use std::sync::Arc;

use super::{Greeted, Next, OpenTransaction, Session};
use crate::{
    clock::{self, Stopwatch},
    edit,
    mail::{
        self, Client, Delivery, Envelope, LineRepair, Outcome, Transaction,
        record::{self, RefusalRecord},
    },
    pipeline::{self, RefusedBy, fault::FaultPoint},
    smtp::{
        client::outgoing::Outgoing,
        codec::{
            data::{DataReader, LineEndings},
            reply::Reply,
            stuffing::Stuffing,
        },
        config::{BareLineEndings, Config, Trace},
        server::{
            connection::ConnectionError,
            received,
            spool::{Refusal, Spool, SpoolLimits},
        },
    },
};

/// A mail whose data has been received.
struct Kept<'a> {
    id: &'a str,
    spool: Spool,
    line_endings: LineEndings,
    /// Started when the end of data came.
    watch: Stopwatch,
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
        let limits = SpoolLimits { in_memory: config.inspect_limit, most: config.size_limit, temporary: config.temporary.clone() };
        let client = self.client_info.counted(config);
        let mut spool = Spool::new(limits, self.server.memory.share(mail::Protocol::Smtp, client, config.inspect_limit));
        let line_endings = self.connection.data(&mut spool, config.bare_line_endings, &config.deadlines).await?;
        let watch = Stopwatch::start();
        let kept = spool.close().await;
        self.idle = 0;
        let id = clock::id();
        // From here on a refusal is a record, and not counted by `answer`.
        let reply = match refusal_of_data(kept, line_endings, config) {
            Some(reply) => self.refuse_mail(open, &id, spool.size(), reply),
            // Boxed, so that a session that waits for a command does not hold the memory for it.
            None => Box::pin(self.hand_on(greeted, open, Kept { id: &id, spool, line_endings, watch })).await,
        };
        self.client_info.mail = None;
        self.connection.queue(&reply);
        Ok(if reply.code() == 421 { Next::HangUp } else { Next::Go })
    }

    /// Decides about a mail and sends it to the next hop; returns the reply for the upstream.
    async fn hand_on(&mut self, greeted: &Greeted, open: &OpenTransaction, mail: Kept<'_>) -> Reply {
        let Kept { id, mut spool, line_endings, watch } = mail;
        let snapshot = Arc::clone(&self.snapshot);
        let pipeline = &snapshot.pipeline;
        let forwarded = self.client_info.mail.clone();
        let helo = forwarded.as_ref().and_then(|client| client.helo.as_deref()).or(self.client_info.session.helo.as_deref());
        let size = spool.size();
        let (head, file) = spool.parts();
        let transaction = Transaction {
            id,
            protocol: mail::Protocol::Smtp,
            client: Client { peer: self.client_info.peer_of_mail(), helo: helo.unwrap_or(&greeted.helo) },
            envelope: Envelope { reverse_path: &open.mail.path, recipients: &open.recipients },
            data: head,
            size,
            repair: repair(line_endings),
        };
        let ready = match pipeline.process(&transaction).await {
            Ok(decided) => decided.commit().await,
            Err(refusal) => return self.refuse_mail(open, id, size, refused_by_bounds(refusal)),
        };
        pipeline.strike(FaultPoint::Delivery);
        let (reply, outcome) = match edit::pieces(head, ready.patches()) {
            Ok(mut pieces) => {
                let body = if file.is_some() { received::Body::Elsewhere } else { received::Body::Here };
                let received = match snapshot.config.trace {
                    Trace::Hidden if !received::hides_a_header(&pieces, body, |block| pipeline.is_forged(block)) => Vec::new(),
                    Trace::Hidden | Trace::Written => self.received(greeted, open, id),
                };
                pieces.insert(0, &received);
                self.relay.deliver(Outgoing { pieces, file }, watch).await
            }
            // Patches are made of header fields, which do not overlap; if they did, a forged tag might stay.
            Err(error) => {
                tracing::error!(id, %error, "the mail cannot be edited");
                self.relay.abandon();
                let reply = Reply::new(451, "4.3.0 the mail cannot be edited");
                let outcome = Outcome::of_the_hop(Delivery::Deferred, reply.to_string());
                (reply, outcome)
            }
        };
        ready.finish(outcome).await;
        reply
    }

    /// Refuses a mail after its data: the next hop has nothing of it, and a [`RefusalRecord`] is written. Returns the reply.
    fn refuse_mail(&mut self, open: &OpenTransaction, id: &str, size: usize, reply: Reply) -> Reply {
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
    let size = if kept.len() > config.size_limit { Err(Refusal::TooLarge) } else { Ok(()) };
    match refusal_of_data(size, line_endings, config) {
        Some(reply) => Err(reply),
        None => Ok((kept, repair(line_endings))),
    }
}

/// Whether line ends were repaired.
const fn repair(line_endings: LineEndings) -> LineRepair {
    match line_endings {
        LineEndings::Clean => LineRepair::None,
        LineEndings::Bare | LineEndings::FalseEnd => LineRepair::Done,
    }
}

/// The reply that refuses a mail before it is decided about, for its size, its line ends, memory or disk.
fn refusal_of_data(kept: Result<(), Refusal>, line_endings: LineEndings, config: &Config) -> Option<Reply> {
    match (kept, line_endings) {
        (Err(refusal), _) => Some(refused_by_spool(&refusal, config.size_limit)),
        (Ok(()), LineEndings::FalseEnd) => Some(Reply::new(550, "5.5.2 the mail holds a line that is a lone dot but for NULs")),
        (Ok(()), LineEndings::Bare) if config.bare_line_endings == BareLineEndings::Reject => {
            Some(Reply::new(550, "5.5.2 the mail holds a CR or an LF that stands alone"))
        }
        (Ok(()), LineEndings::Bare | LineEndings::Clean) => None,
    }
}

fn refused_by_bounds(refusal: pipeline::Refusal) -> Reply {
    Reply::new(refusal.code(), refusal.text())
}

fn header_too_large() -> Reply {
    refused_by_bounds(pipeline::Refusal::HeaderTooLarge)
}

fn refused_by_spool(refusal: &Refusal, most: usize) -> Reply {
    match refusal {
        Refusal::TooLarge => Reply::new(552, format!("5.3.4 the mail is larger than {most} octets")),
        Refusal::HeaderTooLarge => header_too_large(),
        Refusal::MemoryFull => Reply::new(452, "4.3.1 too many mails at once, send it again"),
        Refusal::Disk(why) => {
            tracing::error!(error = why, "a large mail cannot be kept; is smtp.temporary_directory there, and has it room?");
            Reply::new(452, "4.3.1 no room for a mail of this size, send it again")
        }
    }
}
