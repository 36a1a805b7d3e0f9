//! The envelope of one mail: MAIL and RCPT go to the next hop as they come, and its replies to the upstream.

use tokio::time::Instant;

use super::{Greeted, Next, OpenTransaction, Session, State, destination};
use crate::{
    clock::Stopwatch,
    limits,
    pipeline::{RefusedBy, Stage},
    smtp::{
        client::relay::{Group, MailOutcome},
        codec::{
            attributes::Attributes,
            command::{Command, PathCommand},
            extensions::{Extension, Extensions},
            reply::Reply,
        },
        config::Config,
    },
};

impl Session {
    /// MAIL, and the RCPTs that came in the same group. A reload takes effect here: one snapshot handles a mail from MAIL to its
    /// record.
    pub(super) async fn mail(&mut self, mail: PathCommand, greeted: Greeted) -> (State, Next) {
        self.snapshot = self.server.snapshot();
        if let Some(reply) = refused_by_parameter(&mail, &self.snapshot.config) {
            return (State::Greeted(greeted), self.idle(RefusedBy::Hop, &reply));
        }
        let recipients = self.recipients_behind(Vec::new(), self.snapshot.config.bounds.recipients, greeted.announced).await;
        let client = self.client(&greeted);
        let group = Group { client: &client, mail: &mail, recipients: &recipients };
        let watch = Stopwatch::start();
        let outcome = self.relay.begin(destination(&self.server, &self.snapshot), greeted.announced, group).await;
        self.pace(recipients.len(), watch);
        match outcome {
            MailOutcome::Changed => {
                let reply = Reply::new(421, "4.3.2 the next hop's extensions have changed, please say EHLO again");
                self.answer(RefusedBy::Hop, &reply);
                (State::Greeted(greeted), Next::HangUp)
            }
            MailOutcome::Failed(reply) => {
                let next = self.idle(RefusedBy::Hop, &reply);
                self.stage = Stage::Recipient;
                (State::Greeted(greeted), self.idle_each(next, recipients.len(), &reply))
            }
            MailOutcome::Replied { mail: reply, recipients: replies } => {
                self.answer(RefusedBy::NextHop, &reply);
                let refused_mail = if reply.is_accepted() { Next::Go } else { self.idles() };
                self.stage = Stage::Recipient;
                // Guesses in a group count as those one by one do.
                let next = self.answer_each(refused_mail, &replies);
                let state = if reply.is_accepted() {
                    let accepted = recipients.into_iter().zip(&replies).filter(|(_, reply)| reply.is_accepted());
                    let recipients = accepted.map(|(recipient, _)| recipient.path).collect();
                    State::InTransaction(greeted, OpenTransaction { mail, recipients })
                } else {
                    State::Greeted(greeted)
                };
                (state, if reply.code() == 421 { Next::HangUp } else { next })
            }
        }
    }

    /// Adds the RCPTs that have come behind already, where the upstream was offered PIPELINING (RFC 2920): no more than `most` in all,
    /// nor than it may guess.
    async fn recipients_behind(&mut self, mut group: Vec<PathCommand>, most: usize, announced: Extensions) -> Vec<PathCommand> {
        let guesses = self.snapshot.config.bounds.idle_commands.saturating_sub(self.idle) + 1;
        let most = if announced.has(Extension::Pipelining) { most.min(guesses).min(self.group) } else { 0 };
        while group.len() < most {
            let Some(Ok(Command::Rcpt(recipient))) = self.connection.peek().map(Command::parse) else { break };
            // The line has come already, so reading it does not wait.
            if self.connection.line(Instant::now()).await.is_err() {
                break;
            }
            group.push(recipient);
        }
        group
    }

    /// RCPT in an open transaction, and those that have come behind it.
    pub(super) async fn recipients(&mut self, first: PathCommand, greeted: Greeted, mut open: OpenTransaction) -> (State, Next) {
        let room = self.snapshot.config.bounds.recipients.saturating_sub(open.recipients.len());
        if room == 0 {
            let reply = Reply::new(452, "4.5.3 too many recipients, send the rest in another mail");
            return (State::InTransaction(greeted, open), self.idle(RefusedBy::Hop, &reply));
        }
        let recipients = self.recipients_behind(vec![first], room, greeted.announced).await;
        let client = self.client(&greeted);
        let group = Group { client: &client, mail: &open.mail, recipients: &recipients };
        let watch = Stopwatch::start();
        let (replies, lost) = self.relay.recipients(destination(&self.server, &self.snapshot), greeted.announced, group).await;
        self.pace(recipients.len(), watch);
        let unanswered = recipients.len().saturating_sub(replies.len());
        let next = self.answer_each(Next::Go, &replies);
        let accepted = recipients.into_iter().zip(&replies).filter(|(_, reply)| reply.is_accepted());
        open.recipients.extend(accepted.map(|(recipient, _)| recipient.path));
        match lost {
            // What the next hop accepted before is lost with its connection.
            Some(reply) => (State::LostTransaction(greeted), self.idle_each(next, unanswered, &reply)),
            None => (State::InTransaction(greeted, open), next),
        }
    }

    /// Answers recipients with the next hop's replies, up to one that ends the session.
    fn answer_each(&mut self, mut next: Next, replies: &[Reply]) -> Next {
        for reply in replies {
            if matches!(next, Next::HangUp) {
                break;
            }
            next = match reply.code() {
                200..=299 => {
                    self.answer(RefusedBy::NextHop, reply);
                    Next::Go
                }
                421 => {
                    self.answer(RefusedBy::NextHop, reply);
                    Next::HangUp
                }
                _ => self.idle(RefusedBy::NextHop, reply),
            };
        }
        next
    }

    /// Chooses how many go on in the next group, by how long the next hop took for this one.
    fn pace(&mut self, recipients: usize, watch: Stopwatch) {
        if watch.elapsed() >= limits::SLOW_GROUP {
            self.group = (self.group / 2).max(1);
        } else if recipients >= self.group {
            self.group = (self.group * 2).min(limits::RECIPIENTS_AT_ONCE);
        }
    }

    /// Answers as many recipients alike, unless the session ends before.
    fn idle_each(&mut self, mut next: Next, recipients: usize, reply: &Reply) -> Next {
        for _ in 0..recipients {
            if matches!(next, Next::HangUp) {
                break;
            }
            next = self.idle(RefusedBy::Hop, reply);
        }
        next
    }

    /// The client of the next mail, for XFORWARD.
    fn client(&self, greeted: &Greeted) -> Attributes {
        let client = self.client_info.client(&greeted.helo);
        Attributes { protocol: client.protocol.or(Some(greeted.protocol)), ..client }
    }
}

/// The octets that MAIL announces (RFC 1870 section 6).
pub(super) fn announced_size(mail: &PathCommand) -> Option<usize> {
    mail.parameter("SIZE").and_then(|size| size.parse().ok())
}

/// The reply that refuses a MAIL for its parameters.
fn refused_by_parameter(mail: &PathCommand, config: &Config) -> Option<Reply> {
    let most = config.size_limit;
    if announced_size(mail).is_some_and(|size| size > most) {
        return Some(Reply::new(552, format!("5.3.4 the mail is larger than {most} octets")));
    }
    // Lines are what DATA carries, and what the edits read (RFC 3030 section 3).
    if mail.values_of("BODY").any(|body| body.trim_matches('"').eq_ignore_ascii_case("BINARYMIME")) {
        return Some(Reply::new(555, "5.5.4 BINARYMIME is not offered here"));
    }
    // RFC 8689 binds every hop; this one does not promise it, so it must not take the mail.
    mail.parameter("REQUIRETLS").map(|_| Reply::new(555, "5.7.30 REQUIRETLS is not offered here"))
}
