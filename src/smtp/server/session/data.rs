//! The data of one mail: taken in, decided, handed on, and remembered. The upstream hears what the next hop said.

use std::sync::Arc;

use super::{Greeted, Next, OpenTransaction, Session};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::{self, Stopwatch},
    edit,
    identity::Arrival,
    limits,
    pipeline::{Decided, LineRepair, Transaction, address},
    smtp::{
        client::outgoing::Outgoing,
        codec::reply::Reply,
        config::{BareLineEndings, Trace},
        server::{
            connection::{ConnectionError, LineEndings},
            received,
            spool::{Refusal, Spool, SpoolLimits},
        },
    },
};

impl Session {
    /// DATA: 354 is ours, and the next hop's DATA follows once the mail is decided.
    pub(super) async fn data(&mut self, greeted: &Greeted, open: &OpenTransaction) -> Result<Next, ConnectionError> {
        if self.connection.has_input() {
            // Whoever does not wait for 354 would have its mail taken for commands, were DATA refused (RFC 2920
            // section 3.1 makes DATA the last of a group).
            self.connection.queue(&Reply::new(554, "5.5.0 wait for the reply to DATA"));
            return Ok(Next::HangUp);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let config = &snapshot.config;
        self.connection.queue(&Reply::new(354, "end with CR LF . CR LF"));
        self.flush().await?;
        let limits = SpoolLimits {
            in_memory: config.inspect_limit,
            most: config.size_limit,
            temporary: config.temporary.clone(),
            memory: self.server.memory.clone(),
        };
        let mut spool = Spool::new(limits);
        let endings = self.connection.data(&mut spool, config.bare_line_endings, &config.deadlines).await?;
        let watch = Stopwatch::start();
        let kept = spool.close().await;
        let repair = match endings {
            LineEndings::Clean => LineRepair::None,
            LineEndings::Bare | LineEndings::FalseEnd => LineRepair::Done,
        };
        let refused = match kept {
            Err(refusal) => Some(refusal_of_mail(&refusal, config.size_limit)),
            Ok(()) if endings == LineEndings::FalseEnd => {
                Some(Reply::new(550, "5.5.2 the mail holds a line that is a lone dot but for NULs"))
            }
            Ok(()) if endings == LineEndings::Bare && config.bare_line_endings == BareLineEndings::Reject => {
                Some(Reply::new(550, "5.5.2 the mail holds a CR or an LF that stands alone"))
            }
            Ok(()) => None,
        };
        self.idle = 0;
        let forwarded = self.client_info.mail.clone();
        if let Some(reply) = refused {
            self.relay.give_up();
            self.client_info.mail = None;
            tracing::info!(upstream = %self.client_info.peer, from = open.mail.path, size = spool.size(), %reply, "refused");
            self.connection.queue(&reply);
            return Ok(Next::Go);
        }
        let id = clock::id();
        let reverse_path = address(&open.mail.path);
        let helo = forwarded
            .as_ref()
            .and_then(|client| client.helo.as_deref())
            .or(self.client_info.session.helo.as_deref())
            .unwrap_or(&greeted.helo);
        let arrival = Arrival { peer: self.client_info.arrival(), helo, reverse_path: &reverse_path };
        let size = spool.size();
        let (head, file) = spool.parts();
        let transaction = Transaction {
            id: &id,
            raw: head,
            size,
            repair,
            arrival,
            upstream: self.client_info.peer,
            reverse_path: &open.mail.path,
            recipients: &open.recipients,
        };
        let decided = snapshot.pipeline.process(&transaction).await;
        let (reply, outcome) = match refused_by_bounds(&decided) {
            Some(reply) => {
                self.relay.give_up();
                let outcome = Outcome::of_the_hop(Delivery::Refused, reply.to_string());
                (reply, outcome)
            }
            None => match edit::pieces(head, &decided.patches) {
                Ok(mut pieces) => {
                    let body = if file.is_some() { received::Body::Elsewhere } else { received::Body::Here };
                    let received = match config.trace {
                        Trace::Hidden if !received::hides_a_header(&pieces, body, |block| snapshot.pipeline.is_forged(block)) => Vec::new(),
                        Trace::Hidden | Trace::Written => self.received(greeted, open, &id),
                    };
                    pieces.insert(0, &received);
                    self.relay.deliver(Outgoing { pieces, file }, watch).await
                }
                // Patches are made of header fields, which do not overlap; were it otherwise, a forged tag might stay.
                Err(error) => {
                    tracing::error!(id, %error, "the mail cannot be edited");
                    self.relay.give_up();
                    let reply = Reply::new(451, "4.3.0 the mail cannot be edited");
                    let outcome = Outcome::of_the_hop(Delivery::Deferred, reply.to_string());
                    (reply, outcome)
                }
            },
        };
        snapshot.pipeline.finish(&transaction, &decided, &outcome).await;
        self.client_info.mail = None;
        self.connection.queue(&reply);
        Ok(if reply.code() == 421 { Next::HangUp } else { Next::Go })
    }

    /// The trace field of a mail.
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

fn refused_by_bounds(decided: &Decided) -> Option<Reply> {
    if decided.received > limits::RECEIVED_FIELDS {
        return Some(Reply::new(554, "5.4.6 the mail is looping: it has too many Received fields"));
    }
    (decided.header_size > limits::HEADER_BLOCK).then(header_too_large)
}

fn header_too_large() -> Reply {
    Reply::new(552, "5.3.4 the header is too large")
}

fn refusal_of_mail(refusal: &Refusal, most: usize) -> Reply {
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
