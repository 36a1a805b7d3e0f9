//! One transaction in, one record out: read, identify, judge, edit, record.
//!
//! Never an error: whatever goes wrong with deciding, the mail is relayed as an ordinary mail, and a [`Reason`] says
//! why. A mail that is no candidate costs a header scan and a hash look-up.

mod edits;
mod quota;
mod reading;
mod replay;

use std::{
    future::Future,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use jiff::Timestamp;

use self::{edits::Edits, quota::Quota, reading::ReadingPool, replay::Replay};
use crate::{
    allowlist::{
        Action, Allowlist, Decision, Entry, Finding, Mode, Reason, Verdict,
        judge::{self, BodyFacts, HeaderFacts},
    },
    audit::{
        Audit, Record,
        record::{Event, Outcome},
    },
    clock,
    edit::{Patch, guard_link::GuardLinkKeys, tag::Tagger},
    identity::{ArcSigner, Arrival, Authenticator, proof::Identity},
    limits,
    link_store::LinkStore,
    message::{Content, Domain, Flaw, Message, MimeEvidence},
    metrics::{Counted, Metrics},
    recognition::Recogniser,
};

/// Decides about every mail, whichever protocol it came by.
pub struct Pipeline {
    /// The allowlist.
    pub allowlist: Arc<Allowlist>,
    /// Tells what a mail is.
    pub recogniser: Arc<Recogniser>,
    /// Tells who sent it.
    pub authenticator: Arc<Authenticator>,
    /// Writes and removes tags; none where the configuration has no tag. Forged tags are removed all the same.
    pub tagger: Tagger,
    /// Remembers; none where the configuration names no folder.
    pub audit: Option<Audit>,
    /// Octets up to which a mail is inspected.
    pub inspect_limit: usize,
    /// Seals guard links; none where the configuration has no guard page.
    guard_links: Option<Arc<GuardLinkKeys>>,
    /// Where guard links are stored; none where each holds what it needs.
    pub links: Option<Arc<LinkStore>>,
    /// Vouches for mails whose body was changed; none where the configuration has no `[arc]`.
    arc_signer: Option<ArcSigner>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    quota: Arc<Quota>,
    replay: Arc<Replay>,
    reading_pool: Arc<ReadingPool>,
}

/// A mail as a client handed it over, before anything is decided.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The hop's id of it.
    pub id: &'a str,
    /// The bytes as they came; of a mail over `inspect_limit` the header block at least.
    pub raw: &'a [u8],
    /// Octets of the whole mail.
    pub size: usize,
    /// Whether its line ends were repaired on the way in.
    pub repair: LineRepair,
    /// Who handed it over, and how.
    pub arrival: Arrival<'a>,
    /// The address that handed it over.
    pub upstream: IpAddr,
    /// The reverse-path as sent, angle brackets included.
    pub reverse_path: &'a str,
    /// The recipients that the next hop took, as sent.
    pub recipients: &'a [String],
}

/// Whether a mail's line ends were repaired on the way in; what is judged is then not what the sender signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRepair {
    /// They were as they should be.
    None,
    /// A CR or an LF stood alone and is CR LF now.
    Done,
}

/// A mail that has been decided.
#[derive(Debug)]
pub struct Decided {
    /// What to change; empty where the mail goes on as it came.
    pub patches: Vec<Patch>,
    /// Trace fields that it came with.
    pub received: usize,
    /// Octets of its header block.
    pub header_size: usize,
    analysis: Analysis,
    time: Timestamp,
    message_id: String,
    author: Option<Domain>,
    mode: Mode,
    removed: usize,
    on_record: bool,
}

/// What examining a mail found out.
#[derive(Debug)]
pub struct Analysis {
    /// What was decided.
    pub decision: Decision,
    /// What the mail says, where anybody looked.
    pub content: Option<Content>,
    /// What is known of its sender, where anybody asked.
    pub identity: Option<Identity>,
    /// What the reading of the body rests on.
    pub mime: MimeEvidence,
}

impl Analysis {
    fn nothing(finding: Finding) -> Self {
        Self { decision: Decision::pass(finding), content: None, identity: None, mime: MimeEvidence::Fields }
    }
}

/// How far a mail is looked into that no entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// Not further than its header: the hop's way.
    Candidates,
    /// All of it, as `explain` does.
    Everything,
}

impl Pipeline {
    /// A pipeline from its parts.
    #[must_use]
    pub fn new(
        allowlist: Allowlist,
        recogniser: Recogniser,
        authenticator: Authenticator,
        tagger: Tagger,
        audit: Option<Audit>,
        inspect_limit: usize,
    ) -> Self {
        Self {
            allowlist: Arc::new(allowlist),
            recogniser: Arc::new(recogniser),
            authenticator: Arc::new(authenticator),
            tagger,
            audit,
            inspect_limit,
            guard_links: None,
            links: None,
            arc_signer: None,
            metrics: Arc::default(),
            quota: Arc::default(),
            replay: Arc::default(),
            reading_pool: Arc::default(),
        }
    }

    /// The same pipeline with a way to seal guard links.
    #[must_use]
    pub fn with_guard(mut self, guard_links: Option<Arc<GuardLinkKeys>>) -> Self {
        self.guard_links = guard_links;
        self
    }

    /// The same pipeline with a folder for guard links, which are short then.
    #[must_use]
    pub fn storing_links(mut self, links: Option<Arc<LinkStore>>) -> Self {
        self.links = links;
        self
    }

    /// The same pipeline with a way to vouch for changed mails.
    #[must_use]
    pub fn with_arc(mut self, arc_signer: Option<ArcSigner>) -> Self {
        self.arc_signer = arc_signer;
        self
    }

    /// The same pipeline with another allowlist, another way to ask who sent a mail, and other tags. What was counted and
    /// recorded goes on.
    #[must_use]
    pub fn reloaded(&self, allowlist: Allowlist, authenticator: Arc<Authenticator>, tagger: Tagger, inspect_limit: usize) -> Self {
        Self {
            allowlist: Arc::new(allowlist),
            authenticator,
            tagger,
            inspect_limit,
            recogniser: Arc::clone(&self.recogniser),
            audit: self.audit.clone(),
            guard_links: self.guard_links.clone(),
            links: self.links.clone(),
            arc_signer: self.arc_signer.clone(),
            metrics: Arc::clone(&self.metrics),
            quota: Arc::clone(&self.quota),
            replay: Arc::clone(&self.replay),
            reading_pool: Arc::clone(&self.reading_pool),
        }
    }

    /// Whether an entry may act on the mail with this header, as far as its author tells.
    #[must_use]
    pub fn is_candidate(&self, head: &[u8]) -> bool {
        Message::read(head).author().is_ok_and(|author| self.allowlist.may_name(&author))
    }

    /// Whether the header holds a field that only the hop itself may write.
    #[must_use]
    pub fn is_forged(&self, head: &[u8]) -> bool {
        !self.tagger.removals(Message::read(head).headers()).is_empty()
    }

    /// Decides about a mail and prepares its edits. An exemption is on record when this returns.
    pub async fn process(&self, mail: &Transaction<'_>) -> Decided {
        let time = clock::now();
        let message = Message::read(mail.raw);
        let headers = message.headers();
        let removals = self.tagger.removals(headers);
        let recipients: Vec<String> = mail.recipients.iter().map(|path| address(path)).collect();
        let mut analysis = if mail.size > self.inspect_limit {
            Analysis::nothing(Finding::fails(Reason::Size, format!("{} octets are more than inspect_limit", mail.size)))
        } else if mail.repair == LineRepair::Done {
            Analysis::nothing(Finding::fails(Reason::Reading, Flaw::BareLineEnding.says()))
        } else {
            self.examine(&message, mail.arrival, &recipients, time, Thoroughness::Candidates).await
        };
        let entry = match &analysis.decision.verdict {
            Verdict::Act(entry) => Some(Arc::clone(entry)),
            Verdict::NearMiss(_) | Verdict::Pass => None,
        };
        let mode = entry.as_ref().map_or(Mode::Observe, |entry| entry.mode);
        let mut decided = Decided {
            received: headers.named("Received").count(),
            header_size: headers.body(),
            time,
            message_id: message.message_id(),
            author: message.author().ok().map(|author| author.domain),
            mode,
            removed: removals.len(),
            on_record: false,
            patches: removals,
            analysis: Analysis::nothing(Finding::holds(Reason::Size, "")),
        };
        if let Some(entry) = entry {
            // What cannot be carried out spends nothing.
            match self.prepare(mail.id, &message, &mut analysis, &entry, &recipients, mail.arrival, time).await {
                None => {}
                Some(edits) => {
                    if let Err(why) = self.replay.note(&entry, &analysis.decision, &recipients, time) {
                        analysis.decision.revoke(Finding::fails(Reason::Replay, why));
                    } else if let Err(why) = self.quota.spend(&entry.name, &recipients, entry.limit, time) {
                        analysis.decision.revoke(Finding::fails(Reason::Limit, why));
                    } else if mode == Mode::Enforce {
                        decided.analysis = analysis;
                        self.exempt(mail, &mut decided, edits).await;
                        return decided;
                    }
                }
            }
        }
        decided.analysis = analysis;
        decided
    }

    /// What the hop would do to a mail, and why; nothing is spent, remembered or recorded. The edits are those that leave the
    /// hop, the seal included.
    pub async fn preview(
        &self,
        id: &str,
        message: &Message<'_>,
        arrival: Arrival<'_>,
        recipients: &[String],
        now: Timestamp,
    ) -> (Analysis, Vec<Patch>) {
        let mut analysis = self.examine(message, arrival, recipients, now, Thoroughness::Everything).await;
        let mut patches = self.tagger.removals(message.headers());
        if let Verdict::Act(entry) = &analysis.decision.verdict {
            let entry = Arc::clone(entry);
            patches.extend(self.prepare(id, message, &mut analysis, &entry, recipients, arrival, now).await.unwrap_or_default().patches);
        }
        (analysis, patches)
    }

    /// The edits of an exemption, the seal included; none are made where the entry only observes. Where one cannot be made the
    /// decision is revoked, and there is nothing.
    #[expect(clippy::too_many_arguments, reason = "one mail's facts, which become one type with the transaction")]
    async fn prepare(
        &self,
        id: &str,
        message: &Message<'_>,
        analysis: &mut Analysis,
        entry: &Entry,
        recipients: &[String],
        arrival: Arrival<'_>,
        now: Timestamp,
    ) -> Option<Edits> {
        if entry.mode == Mode::Observe {
            return Some(Edits::default());
        }
        let made = catch_unwind(AssertUnwindSafe(|| self.edits(id, message, analysis, entry, recipients, now)))
            .unwrap_or_else(|_| Err("editing failed; please report it with the mail".into()));
        let made = match made {
            Ok(edits) => self.arc_signed(message, edits, arrival).await,
            Err(why) => Err(why),
        };
        match made {
            Ok(edits) => Some(edits),
            Err(why) => {
                analysis.decision.revoke(Finding::fails(Reason::Edit, why));
                None
            }
        }
    }

    /// Stores the guard links of an exemption, puts it on record, and only then lets it take effect.
    async fn exempt(&self, mail: &Transaction<'_>, decided: &mut Decided, edits: Edits) {
        let Some(audit) = &self.audit else {
            decided.analysis.decision.revoke(Finding::fails(Reason::Audit, "there is no audit folder"));
            return;
        };
        if let Some(store) = &self.links
            && let Err(error) = store.store(edits.links).await
        {
            tracing::error!(id = mail.id, %error, "exemption withheld");
            decided.analysis.decision.revoke(Finding::fails(Reason::Edit, error.to_string()));
            return;
        }
        decided.analysis.decision.findings.push(Finding::holds(Reason::Audit, "on record"));
        let record = self.record(mail, decided, None);
        match audit.commit(record).await {
            Ok(()) => {
                decided.on_record = true;
                decided.patches.extend(edits.patches);
            }
            Err(error) => {
                self.metrics.audit_failed();
                tracing::error!(id = mail.id, %error, "exemption withheld");
                decided.analysis.decision.findings.pop();
                decided.analysis.decision.revoke(Finding::fails(Reason::Audit, error.to_string()));
            }
        }
    }

    /// Remembers what became of a mail.
    pub async fn finish(&self, mail: &Transaction<'_>, decided: &Decided, outcome: &Outcome) {
        let decision = &decided.analysis.decision;
        let acted = matches!(decision.verdict, Verdict::Act(_));
        tracing::info!(
            id = mail.id,
            from = mail.reverse_path,
            recipients = mail.recipients.len(),
            size = mail.size,
            decision = decision.verdict.code(),
            observed = acted && decided.mode == Mode::Observe,
            entry = decision.entry.as_deref().unwrap_or_default(),
            stopped_by = decision.stopped_by().map(|finding| finding.reason.code()).unwrap_or_default(),
            next_hop = outcome.next_hop,
            reply = outcome.reply,
            queue_id = outcome.queue_id.as_deref().unwrap_or_default(),
            "relayed"
        );
        self.metrics.mail(&Counted {
            decision: decision.verdict.code(),
            observed: acted && decided.mode == Mode::Observe,
            stopped_by: decision.stopped_by().map(|finding| finding.reason.code()),
            entry: decision.entry.as_deref(),
            forged: decided.removed,
            delivery: outcome.delivery.code(),
            latency_ms: outcome.latency_ms,
        });
        let Some(audit) = &self.audit else { return };
        let record =
            if decided.on_record { Record::outcome(clock::now(), mail.id, outcome) } else { self.record(mail, decided, Some(outcome)) };
        audit.note(record).await;
    }

    fn record(&self, mail: &Transaction<'_>, decided: &Decided, outcome: Option<&Outcome>) -> Record {
        let event = Event {
            time: decided.time,
            id: mail.id,
            upstream: Some(mail.upstream),
            client: mail.arrival.peer.forwarded_client(),
            helo: mail.arrival.helo,
            reverse_path: mail.reverse_path,
            recipients: mail.recipients,
            message_id: &decided.message_id,
            author: decided.author.as_ref(),
            size: mail.size,
            decision: &decided.analysis.decision,
            mode: decided.mode,
            identity: decided.analysis.identity.as_ref(),
            content: decided.analysis.content.as_ref(),
            removed: decided.removed,
        };
        let key = self.tagger.keys.first().map(|key| key.derive("audit-link"));
        Record::mail(&event, outcome, key.as_ref())
    }

    /// Finds out all that decides about a mail, and decides: author, entry, the signatures that can speak for the author, and
    /// only for a mail that these prove its body. A panic on the way is caught and is a pass.
    pub async fn examine(
        &self,
        message: &Message<'_>,
        arrival: Arrival<'_>,
        recipients: &[String],
        now: Timestamp,
        how: Thoroughness,
    ) -> Analysis {
        let nothing = Analysis::nothing;
        if message.raw().len() > self.inspect_limit {
            return nothing(Finding::fails(Reason::Size, format!("{} octets are more than inspect_limit", message.raw().len())));
        }
        let author = message.author();
        let listed = author.as_ref().is_ok_and(|author| self.allowlist.may_name(author));
        if !listed && how == Thoroughness::Candidates {
            return nothing(match &author {
                Err(flaw) => Finding::fails(Reason::Author, flaw.says()),
                Ok(author) => Finding::fails(Reason::Sender, format!("no entry names {}", author.address)),
            });
        }
        let headers = message.headers();
        let facts = HeaderFacts { author: &author, headers, recipients, now };
        let signed = headers.named("DKIM-Signature").next().is_some() || headers.named(crate::identity::results::FIELD).next().is_some();
        let signers = author.as_ref().map(|author| self.allowlist.signers(author)).unwrap_or_default();
        // DNS is asked where it may matter: for a listed author, or where there is a signature to look at.
        let mut identity = if listed || signed {
            caught(self.authenticator.identify(message, arrival, &signers))
                .await
                .unwrap_or_else(|| Identity::unknown("looking up the sender failed; please report it with the mail"))
        } else {
            Identity::default()
        };
        let candidates = |identity: &Identity| {
            catch_unwind(AssertUnwindSafe(|| judge::candidates(&self.allowlist, &facts, identity)))
                .map_err(|_| Finding::fails(Reason::Fault, "judging the header failed; please report it with the mail"))
        };
        let mut found = match candidates(&identity) {
            Ok(found) => found,
            Err(fault) => return nothing(fault),
        };
        if found.iter().any(judge::Candidate::wants_spf) {
            identity.spf = caught(self.authenticator.spf(message, arrival)).await;
            found = match candidates(&identity) {
                Ok(found) => found,
                Err(fault) => return nothing(fault),
            };
        }
        if how == Thoroughness::Candidates && !judge::is_worth_reading(&found, &identity) {
            let decision = judge::pass_unread(found, &facts);
            return Analysis { decision, content: None, identity: Some(identity), mime: MimeEvidence::Fields };
        }
        // An entry that unwraps is judged by the originals that it puts back, every other one by what stands in the mail.
        let (unwrapping, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|candidate| candidate.entry.actions.contains(&Action::Unwrap));
        let mut best: Option<Analysis> = None;
        for (group, links) in [(others, Links::AsTheyStand), (unwrapping, Links::Unwrapped)] {
            if group.is_empty() && (links == Links::Unwrapped || best.is_some()) {
                continue;
            }
            let next = self.examine_body(message, &facts, group, links, &identity).await;
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

    /// Reads a mail's body and decides by these entries, off the threads that move mail.
    async fn examine_body(
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
            let permit = self.reading_pool.permit().await?;
            let (raw, recogniser) = (message.raw().to_vec(), Arc::clone(&self.recogniser));
            let (candidates, identity, recipients, now) = (candidates.clone(), identity.clone(), facts.recipients.to_vec(), facts.now);
            let work = move || {
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

/// How the links of a mail are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// As they stand.
    AsTheyStand,
    /// Those that a scanner wrapped by what they hide.
    Unwrapped,
}

/// The address inside a path (RFC 5321 section 4.1.2), without brackets and source route.
#[must_use]
pub fn address(path: &str) -> String {
    let inside = path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(path);
    let routed = inside.strip_prefix('@').and_then(|rest| rest.split_once(':')).map_or(inside, |(_, rest)| rest);
    routed.chars().take(limits::LOGGED_PATH).collect()
}

/// Runs a future to its end; none where it panics.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}
