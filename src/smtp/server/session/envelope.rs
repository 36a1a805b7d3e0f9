//! The envelope of one mail: MAIL and RCPT go to the next hop as they come, and its replies to the upstream.

use tokio::time::Instant;

use super::{Greeted, Next, OpenTransaction, Session, State, destination};
use crate::{
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
        match self.relay.begin(destination(&self.server, &self.snapshot), greeted.announced, group).await {
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
                self.stage = Stage::Recipient;
                for reply in &replies {
                    // Guesses in a group count as those one by one do.
                    self.idle += usize::from(!reply.is_accepted());
                    self.answer(RefusedBy::NextHop, reply);
                }
                let closing = std::iter::once(&reply).chain(&replies).any(|reply| reply.code() == 421);
                let state = if reply.is_accepted() {
                    let accepted = recipients.into_iter().zip(&replies).filter(|(_, reply)| reply.is_accepted());
                    let recipients = accepted.map(|(recipient, _)| recipient.path).collect();
                    State::InTransaction(greeted, OpenTransaction { mail, recipients })
                } else {
                    self.idle += 1;
                    State::Greeted(greeted)
                };
                let over = closing || self.idle > self.snapshot.config.bounds.idle_commands;
                (state, if over { Next::HangUp } else { Next::Go })
            }
        }
    }

    /// Adds the RCPTs that have come behind already, where the upstream was offered PIPELINING (RFC 2920): no more than `most` in all,
    /// nor than it may guess.
    async fn recipients_behind(&mut self, mut group: Vec<PathCommand>, most: usize, announced: Extensions) -> Vec<PathCommand> {
        let guesses = self.snapshot.config.bounds.idle_commands.saturating_sub(self.idle) + 1;
        let most = if announced.has(Extension::Pipelining) { most.min(guesses).min(limits::RECIPIENTS_AT_ONCE) } else { 0 };
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
        let (replies, lost) = self.relay.recipients(destination(&self.server, &self.snapshot), greeted.announced, group).await;
        let unanswered = recipients.len().saturating_sub(replies.len());
        let mut next = Next::Go;
        for (recipient, reply) in recipients.into_iter().zip(&replies) {
            next = match reply.code() {
                200..=299 => {
                    self.answer(RefusedBy::NextHop, reply);
                    open.recipients.push(recipient.path);
                    Next::Go
                }
                421 => {
                    self.answer(RefusedBy::NextHop, reply);
                    Next::HangUp
                }
                _ => self.idle(RefusedBy::NextHop, reply),
            };
            if matches!(next, Next::HangUp) {
                break;
            }
        }
        match lost {
            // What the next hop accepted before is lost with its connection.
            Some(reply) => (State::LostTransaction(greeted), self.idle_each(next, unanswered, &reply)),
            None => (State::InTransaction(greeted, open), next),
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
    if mail.parameter("BODY").is_some_and(|body| body.eq_ignore_ascii_case("BINARYMIME")) {
        return Some(Reply::new(555, "5.5.4 BINARYMIME is not offered here"));
    }
    // RFC 8689 binds every hop; this one does not promise it, so it must not take the mail.
    mail.parameter("REQUIRETLS").map(|_| Reply::new(555, "5.7.30 REQUIRETLS is not offered here"))
}
