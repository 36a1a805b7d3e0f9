//! The data of one mail: taken in, decided, handed on, and remembered. The upstream hears what the next hop said.

use std::sync::Arc;

use super::{Greeted, Next, Session, Transaction};
use crate::{
    audit::record::{Delivery, Outcome},
    clock::{self, Stopwatch},
    edit,
    identity::Arrival,
    limits,
    pipeline::{Arriving, LineRepair, Walked, address},
    smtp::{
        holding::{Holding, Refusal, Room},
        next_hop::Outgoing,
        reply::Reply,
        setup::{BareLineEndings, Trace},
        trace,
        wire::{LineEndings, WireError},
    },
};

impl Session {
    /// DATA: 354 is ours, and the next hop's DATA follows once the mail is decided.
    pub(super) async fn data(&mut self, greeted: &Greeted, open: &Transaction) -> Result<Next, WireError> {
        if self.wire.has_input() {
            // Whoever does not wait for 354 would have its mail taken for commands, were DATA refused (RFC 2920
            // section 3.1 makes DATA the last of a group).
            self.wire.queue(&Reply::new(554, "5.5.0 wait for the reply to DATA"));
            return Ok(Next::HangUp);
        }
        let current = Arc::clone(&self.current);
        let setup = &current.setup;
        self.wire.queue(&Reply::new(354, "end with CR LF . CR LF"));
        self.flush().await?;
        let room = Room {
            in_memory: setup.inspect_limit,
            most: setup.size_limit,
            temporary: setup.temporary.clone(),
            memory: self.front.memory.clone(),
        };
        let mut holding = Holding::new(room);
        let endings = self.wire.data(&mut holding, setup.bare_line_endings, &setup.deadlines).await?;
        let watch = Stopwatch::start();
        let kept = holding.close().await;
        let repair = match endings {
            LineEndings::Clean => LineRepair::None,
            LineEndings::Bare | LineEndings::FalseEnd => LineRepair::Done,
        };
        let refused = match kept {
            Err(refusal) => Some(refusal_of_mail(&refusal, setup.size_limit)),
            Ok(()) if endings == LineEndings::FalseEnd => {
                Some(Reply::new(550, "5.5.2 the mail holds a line that is a lone dot but for NULs"))
            }
            Ok(()) if endings == LineEndings::Bare && setup.bare_line_endings == BareLineEndings::Reject => {
                Some(Reply::new(550, "5.5.2 the mail holds a CR or an LF that stands alone"))
            }
            Ok(()) => None,
        };
        self.idle = 0;
        let forwarded = self.origin.mail.clone();
        if let Some(reply) = refused {
            self.onward.give_up();
            self.origin.mail = None;
            tracing::info!(upstream = %self.origin.peer, from = open.mail.path, size = holding.size(), %reply, "refused");
            self.wire.queue(&reply);
            return Ok(Next::Go);
        }
        let id = clock::id();
        let reverse_path = address(&open.mail.path);
        let helo =
            forwarded.as_ref().and_then(|client| client.helo.as_deref()).or(self.origin.session.helo.as_deref()).unwrap_or(&greeted.helo);
        let arrival = Arrival { peer: self.origin.arrival(), helo, reverse_path: &reverse_path };
        let size = holding.size();
        let (head, file) = holding.parts();
        let arriving = Arriving {
            id: &id,
            raw: head,
            size,
            repair,
            arrival,
            upstream: self.origin.peer,
            reverse_path: &open.mail.path,
            recipients: &open.recipients,
        };
        let walked = current.hall.walk(&arriving).await;
        let (reply, outcome) = match refused_by_bounds(&walked) {
            Some(reply) => {
                self.onward.give_up();
                let outcome = Outcome::of_the_hop(Delivery::Refused, reply.to_string());
                (reply, outcome)
            }
            None => match edit::pieces(head, &walked.patches) {
                Ok(mut pieces) => {
                    let body = if file.is_some() { trace::Body::Elsewhere } else { trace::Body::Here };
                    let received = match setup.trace {
                        Trace::Hidden if !trace::hides_a_header(&pieces, body, |block| current.hall.is_forged(block)) => Vec::new(),
                        Trace::Hidden | Trace::Written => self.received(greeted, open, &id),
                    };
                    pieces.insert(0, &received);
                    self.onward.deliver(Outgoing { pieces, file }, watch).await
                }
                // Patches are made of header fields, which do not overlap; were it otherwise, a forged tag might stay.
                Err(error) => {
                    tracing::error!(id, %error, "the mail cannot be edited");
                    self.onward.give_up();
                    let reply = Reply::new(451, "4.3.0 the mail cannot be edited");
                    let outcome = Outcome::of_the_hop(Delivery::Deferred, reply.to_string());
                    (reply, outcome)
                }
            },
        };
        current.hall.remember(&arriving, &walked, &outcome).await;
        self.origin.mail = None;
        self.wire.queue(&reply);
        Ok(if reply.code() == 421 { Next::HangUp } else { Next::Go })
    }

    /// The trace field of a mail.
    fn received(&self, greeted: &Greeted, open: &Transaction, id: &str) -> Vec<u8> {
        let setup = &self.current.setup;
        let with = trace::With {
            protocol: greeted.protocol,
            encrypted: self.wire.is_encrypted(),
            utf8: open.mail.parameter("SMTPUTF8").is_some(),
        };
        let helo = self.origin.session.helo.as_deref().unwrap_or(&greeted.helo);
        let mut received = Vec::new();
        trace::received(&mut received, &setup.hostname, helo, self.origin.session.name.as_deref(), self.origin.peer, with, id);
        received
    }
}

fn refused_by_bounds(walked: &Walked) -> Option<Reply> {
    if walked.received > limits::RECEIVED_FIELDS {
        return Some(Reply::new(554, "5.4.6 the mail is looping: it has too many Received fields"));
    }
    (walked.header_size > limits::HEADER_BLOCK).then(header_too_large)
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
