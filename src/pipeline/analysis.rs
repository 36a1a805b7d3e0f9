//! Analysis of a mail before it is judged: its author, the entries that name it, the signatures that can speak for the author,
//! and, only for a mail that these prove, its body.

use std::{
    cell::LazyCell,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Pipeline, caught, fault, fault::FaultPoint};
use crate::{
    allowlist::{
        Action, Decision, Finding, Reason, Verdict,
        entry::Require,
        judge::{self, BodyFacts, HeaderFacts},
    },
    identity::{self, Arrival, Network, proof::Identity},
    limits,
    mail::{Flaw, Transaction, address},
    message::{Author, Content, Message, MimeEvidence},
};

/// The result of analysing a mail.
#[derive(Debug)]
pub struct Analysis {
    /// The decision, with its findings.
    pub decision: Decision,
    /// Text and links of the mail, where the body was read.
    pub content: Option<Arc<Content>>,
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
    Everything(Proving),
}

/// Where the identity of a mail that is explained comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proving {
    /// It is looked up, as the hop does.
    Looked,
    /// The sender counts as proven, and links that a scanner wrapped count as their originals: for mails that were saved behind
    /// it, whose signature no longer verifies.
    Assumed,
}

/// Which links of a mail are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// The links as they stand in the mail.
    AsTheyStand,
    /// The originals of links that a scanner wrapped, all other links as they stand.
    Unwrapped,
}

/// How a mail's body is read for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    links: Links,
    mime: MimeEvidence,
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
    /// Analyses a mail and judges it: an analysis for each entry that exempts it, those that take effect first, or the one that
    /// says why none does. A panic in one of the steps is caught there, and the mail passes.
    pub(super) async fn analyse(
        &self,
        transaction: &Transaction<'_>,
        message: &Message<'_>,
        author: &Result<Author, Flaw>,
        (recipients, now, how): (&[String], Timestamp, Thoroughness),
    ) -> Vec<Analysis> {
        let listed = author.as_ref().is_ok_and(|author| self.config.allowlist.may_name(author));
        if !listed && how == Thoroughness::Candidates {
            return vec![Analysis::nothing(match author {
                Err(flaw) => Finding::fails(Reason::Author, flaw.says()),
                Ok(author) => Finding::fails(Reason::Sender, format!("no entry names {}", author.address)),
            })];
        }
        let asked = Asked { author, is_listed: listed, recipients, now, how };
        // Most mails end above; the rest is large, and boxed, so that sessions are small.
        Box::pin(self.analyse_candidate(transaction, message, asked)).await
    }

    async fn analyse_candidate(&self, transaction: &Transaction<'_>, message: &Message<'_>, asked: Asked<'_>) -> Vec<Analysis> {
        let Asked { author, is_listed, recipients, now, how } = asked;
        let nothing = |finding| vec![Analysis::nothing(finding)];
        let allowlist = &self.config.allowlist;
        let headers = message.headers();
        let reverse_path = address(transaction.envelope.reverse_path);
        let arrival = Arrival { peer: transaction.client.peer, helo: transaction.client.helo, reverse_path: &reverse_path, at: now };
        let facts = HeaderFacts { author, headers, recipients, now };
        let signed = headers.named("DKIM-Signature").next().is_some() || headers.named(identity::results::FIELD).next().is_some();
        let signers = author.as_ref().map(|author| allowlist.signers(author)).unwrap_or_default();
        // DNS is asked where it may matter: for a listed author, or where a signature may count.
        let is_assumed = how == Thoroughness::Everything(Proving::Assumed);
        let mut identity = if is_assumed {
            Identity::assumed(author.as_ref().ok().map(|author| &author.domain), self.own_host(author.as_ref().ok()), now)
        } else if is_listed || signed {
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
            return vec![Analysis { decision, content: None, identity: Some(identity), mime: MimeEvidence::Fields }];
        }
        let mut all = Vec::new();
        for (reading, group) in groups(found, how) {
            all.extend(self.analyse_body(message, &facts, group, (reading, how), &identity).await);
        }
        let exempts = |analysis: &Analysis| matches!(analysis.decision.verdict, Verdict::Act(_));
        if all.iter().any(exempts) {
            all.retain(exempts);
            all.sort_by_key(|analysis| analysis.decision.is_observed());
            all.truncate(limits::GRANTS);
            return all;
        }
        // The one whose checks held most; of several the first.
        let shown = all.into_iter().reduce(|best, next| if next.decision.held() > best.decision.held() { next } else { best });
        vec![
            shown
                .unwrap_or_else(|| Analysis::nothing(Finding::fails(Reason::Fault, "nothing was decided; please report it with the mail"))),
        ]
    }

    /// A host of an entry that rests on addresses, for a sender that counts as proven.
    fn own_host(&self, author: Option<&Author>) -> Option<IpAddr> {
        self.config.allowlist.naming(author?).find_map(|entry| match &entry.require {
            Require::Address { networks, .. } => networks.first().map(Network::address),
            Require::Dmarc | Require::Dkim => None,
        })
    }

    /// Reads a mail's body in one way and judges it by these entries, on a thread of the reading pool.
    async fn analyse_body(
        &self,
        message: &Message<'_>,
        facts: &HeaderFacts<'_>,
        candidates: Vec<judge::Candidate>,
        (Reading { links, mime }, how): (Reading, Thoroughness),
        identity: &Identity,
    ) -> Vec<Analysis> {
        let judged = async {
            let permit = self.shared.reading_pool.permit().await?;
            let (raw, recogniser, asked) = (message.raw().to_vec(), Arc::clone(&self.shared.recogniser), self.shared.fault);
            let (candidates, identity, recipients, now) = (candidates.clone(), identity.clone(), facts.recipients.to_vec(), facts.now);
            let author = facts.author.clone();
            let work = move || {
                fault::strike(asked, FaultPoint::Body);
                let message = Message::read(&raw);
                let mut content = message.content_by(mime);
                if links == Links::Unwrapped {
                    content = content.unwrapped();
                }
                let words = || recogniser.recognise(&content, author.as_ref().ok().map(|author| &author.domain));
                let recognition = LazyCell::new(words);
                let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &recipients, now };
                let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
                let mut decisions = judge::decide_all(candidates, &facts, &body);
                if how != Thoroughness::Candidates {
                    for decision in &mut decisions {
                        decision.recognition = Some(recognition.clone());
                    }
                }
                (decisions, content)
            };
            permit.run(work).await
        };
        let (decisions, content) = match judged.await {
            Ok((decisions, content)) => (decisions, Some(Arc::new(content))),
            Err(why) => {
                let mut decision = judge::pass_unread(candidates, facts);
                decision.revoke(why);
                (vec![decision], None)
            }
        };
        let analysis = |decision| Analysis { decision, content: content.clone(), identity: Some(identity.clone()), mime };
        decisions.into_iter().map(analysis).collect()
    }
}

/// The entries by how they have the body read. Each is judged by its own way alone, so that none narrows another's: one that unwraps
/// by the originals that it restores, one whose proof leaves the MIME fields open by a reading that does not rest on them. Entries
/// whose proof fails anyway go along with the others. There is one group at least.
fn groups(candidates: Vec<judge::Candidate>, how: Thoroughness) -> Vec<(Reading, Vec<judge::Candidate>)> {
    let bare = |candidate: &judge::Candidate| candidate.mime() == MimeEvidence::Body;
    let proven: Vec<&judge::Candidate> = candidates.iter().filter(|candidate| candidate.is_proven()).collect();
    let any_bare = if proven.is_empty() { candidates.iter().any(bare) } else { proven.iter().all(|candidate| bare(candidate)) };
    let along = if any_bare { MimeEvidence::Body } else { MimeEvidence::Fields };
    let mut groups: Vec<(Reading, Vec<judge::Candidate>)> = Vec::new();
    for candidate in candidates {
        let unwraps = how == Thoroughness::Everything(Proving::Assumed) || candidate.entry.actions.contains(&Action::Unwrap);
        let links = if unwraps { Links::Unwrapped } else { Links::AsTheyStand };
        let reading = Reading { links, mime: if candidate.is_proven() { candidate.mime() } else { along } };
        match groups.iter_mut().find(|(known, _)| *known == reading) {
            Some((_, group)) => group.push(candidate),
            None => groups.push((reading, vec![candidate])),
        }
    }
    if groups.is_empty() {
        groups.push((Reading { links: Links::AsTheyStand, mime: MimeEvidence::Fields }, Vec::new()));
    }
    // Of entries that fail alike those that take the links as they stand are shown.
    groups.sort_by_key(|(reading, _)| reading.links == Links::Unwrapped);
    groups
}
