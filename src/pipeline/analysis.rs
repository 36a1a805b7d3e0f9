//! Analysis of a mail before it is judged: its author, the entries that name it, the signatures that can speak for the author,
//! and, only for a mail that these prove, its body.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Pipeline, caught, fault, fault::FaultPoint};
use crate::{
    allowlist::{
        Action, Decision, Finding, Reason, Verdict,
        judge::{self, BodyFacts, HeaderFacts},
    },
    identity::{self, Arrival, proof::Identity},
    mail::{Flaw, Transaction, address},
    message::{Author, Content, Message, MimeEvidence},
};

/// The result of analysing a mail.
#[derive(Debug)]
pub struct Analysis {
    /// The decision, with its findings.
    pub decision: Decision,
    /// Text and links of the mail, where the body was read.
    pub content: Option<Content>,
    /// The sender's identity, where it was asked for.
    pub identity: Option<Identity>,
    /// What the reading of the body rests on: covered MIME fields, or none.
    pub mime: MimeEvidence,
}

impl Analysis {
    /// An analysis that ended at once, for this reason.
    pub(super) fn nothing(finding: Finding) -> Self {
        Self { decision: Decision::pass(finding), content: None, identity: None, mime: MimeEvidence::Fields }
    }
}

/// How far a mail is analysed that no entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thoroughness {
    /// Its header only, as in the service.
    Candidates,
    /// All of it, for `explain`.
    Everything,
}

/// Which links of a mail are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// The links as they stand in the mail.
    AsTheyStand,
    /// The originals of links that a scanner wrapped, all other links as they stand.
    Unwrapped,
}

/// The question that one analysis answers.
#[derive(Clone, Copy)]
struct Asked<'a> {
    author: &'a Result<Author, Flaw>,
    is_listed: bool,
    recipients: &'a [String],
    now: Timestamp,
    how: Thoroughness,
}

impl Pipeline {
    /// Analyses a mail and judges it. A panic in one of the steps is caught there, and the mail passes.
    pub(super) async fn analyse(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
        recipients: &[String],
        now: Timestamp,
        how: Thoroughness,
    ) -> Analysis {
        let author = message.author();
        let listed = author.as_ref().is_ok_and(|author| self.config.allowlist.may_name(author));
        if !listed && how == Thoroughness::Candidates {
            return Analysis::nothing(match &author {
                Err(flaw) => Finding::fails(Reason::Author, flaw.says()),
                Ok(author) => Finding::fails(Reason::Sender, format!("no entry names {}", author.address)),
            });
        }
        let asked = Asked { author: &author, is_listed: listed, recipients, now, how };
        // Most mails end above; the rest is large, and boxed, so that sessions are small.
        Box::pin(self.analyse_candidate(transaction, message, asked)).await
    }

    async fn analyse_candidate(&self, transaction: &Transaction<'_>, message: &Message<'_>, asked: Asked<'_>) -> Analysis {
        let Asked { author, is_listed, recipients, now, how } = asked;
        let nothing = Analysis::nothing;
        let allowlist = &self.config.allowlist;
        let headers = message.headers();
        let reverse_path = address(transaction.envelope.reverse_path);
        let arrival = Arrival { peer: transaction.client.peer, helo: transaction.client.helo, reverse_path: &reverse_path };
        let facts = HeaderFacts { author, headers, recipients, now };
        let signed = headers.named("DKIM-Signature").next().is_some() || headers.named(identity::results::FIELD).next().is_some();
        let signers = author.as_ref().map(|author| allowlist.signers(author)).unwrap_or_default();
        // DNS is asked where it may matter: for a listed author, or where a signature may count.
        let mut identity = if is_listed || signed {
            let identifying = async {
                self.strike(FaultPoint::Identity);
                self.config.authenticator.identify(message, arrival, &signers).await
            };
            caught(identifying).await.unwrap_or_else(|| Identity::unknown("looking up the sender failed; please report it with the mail"))
        } else {
            Identity::default()
        };
        let candidates = |identity: &Identity| {
            catch_unwind(AssertUnwindSafe(|| judge::candidates(allowlist, &facts, identity)))
                .map_err(|_| Finding::fails(Reason::Fault, "judging the header failed; please report it with the mail"))
        };
        let mut found = match candidates(&identity) {
            Ok(found) => found,
            Err(fault) => return nothing(fault),
        };
        if found.iter().any(judge::Candidate::wants_spf) {
            identity.spf = caught(self.config.authenticator.spf(message, arrival)).await;
            found = match candidates(&identity) {
                Ok(found) => found,
                Err(fault) => return nothing(fault),
            };
        }
        if how == Thoroughness::Candidates && !judge::is_worth_reading(&found, &identity) {
            let decision = judge::pass_unread(found, &facts);
            return Analysis { decision, content: None, identity: Some(identity), mime: MimeEvidence::Fields };
        }
        // An entry that unwraps is judged by the originals that it restores, every other one by the links as they stand.
        let (unwrapping, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|candidate| candidate.entry.actions.contains(&Action::Unwrap));
        let mut best: Option<Analysis> = None;
        for (group, links) in [(others, Links::AsTheyStand), (unwrapping, Links::Unwrapped)] {
            if group.is_empty() && (links == Links::Unwrapped || best.is_some()) {
                continue;
            }
            let next = self.analyse_body(message, &facts, group, links, &identity).await;
            if matches!(next.decision.verdict, Verdict::Act(_)) {
                return next;
            }
            best = match best {
                Some(best) if best.decision.held() >= next.decision.held() => Some(best),
                _ => Some(next),
            };
        }
        best.unwrap_or_else(|| nothing(Finding::fails(Reason::Fault, "nothing was decided; please report it with the mail")))
    }

    /// Reads a mail's body and judges it by these entries, on a thread of the reading pool.
    async fn analyse_body(
        &self,
        message: &Message<'_>,
        facts: &HeaderFacts<'_>,
        candidates: Vec<judge::Candidate>,
        links: Links,
        identity: &Identity,
    ) -> Analysis {
        let is_bare = candidates.iter().any(|candidate| candidate.mime() == MimeEvidence::Body);
        let mime = if is_bare { MimeEvidence::Body } else { MimeEvidence::Fields };
        let judged = async {
            let permit = self.shared.reading_pool.permit().await?;
            let (raw, recogniser, asked) = (message.raw().to_vec(), Arc::clone(&self.shared.recogniser), self.shared.fault);
            let (candidates, identity, recipients, now) = (candidates.clone(), identity.clone(), facts.recipients.to_vec(), facts.now);
            let work = move || {
                fault::strike(asked, FaultPoint::Body);
                let message = Message::read(&raw);
                let author = message.author();
                let mut content = message.content_by(mime);
                if links == Links::Unwrapped {
                    content = content.unwrapped();
                }
                let recognition = recogniser.recognise(&content, author.as_ref().ok().map(|author| &author.domain));
                let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &recipients, now };
                let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
                let decision = judge::decide(candidates, &facts, &body);
                (decision, content)
            };
            permit.run(work).await
        };
        let (decision, content) = match judged.await {
            Ok((decision, content)) => (decision, Some(content)),
            Err(why) => {
                let mut decision = judge::pass_unread(candidates, facts);
                decision.revoke(why);
                (decision, None)
            }
        };
        Analysis { decision, content, identity: Some(identity.clone()), mime }
    }
}
