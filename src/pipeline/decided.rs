//! A decided mail on its way to its record. [`Decided`] and [`Ready`] write the record whatever happens: dropped, because a
//! session was cut or panicked, they write the outcome `unknown, cancelled`.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Shared,
    edits::Edits,
    quota::Spending,
    record::{Description, reason},
    replay::{self, Seen},
};
use crate::{
    allowlist::{Decision, Entry, Finding, Mode, Reason},
    audit::{Announced, Audit, pseudonym::Mask},
    clock,
    edit::Patch,
    mail::{Delivery, Outcome, Record, VerdictKind, record::MailRecord},
    message::Mailbox,
};

/// An exemption that was decided on and prepared, and has not taken effect.
#[derive(Debug)]
pub(super) struct Exemption {
    entry: Arc<Entry>,
    /// The addresses of the envelope's recipients.
    recipients: Vec<String>,
    /// The hashes of the proving signatures, where the mail must not be exempted twice.
    signatures: Option<Vec<[u8; 32]>>,
    pub(super) edits: Edits,
    at: Timestamp,
}

impl Exemption {
    pub(super) fn new(entry: Arc<Entry>, decision: &Decision, recipients: Vec<String>, edits: Edits, at: Timestamp) -> Self {
        Self { entry, recipients, signatures: replay::known_by(decision), edits, at }
    }
}

/// What an exemption has taken of quota and replay memory.
#[derive(Debug, Default)]
struct Reservation {
    spending: Option<Spending>,
    seen: Option<Seen>,
}

/// The record of a mail, written once, at the latest when this is dropped.
struct OpenRecord {
    shared: Arc<Shared>,
    record: Option<Box<MailRecord>>,
    /// The outcome, once it is known.
    outcome: Option<Outcome>,
    reservation: Reservation,
    stands: Stands,
    /// Hides the readers wherever the record goes.
    mask: Mask,
    /// Tells the audit that an exemption may come, until it is in its queue or does not come.
    announced: Option<Announced>,
}

/// Whether the audit holds a record of the mail already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// It holds none.
    Nowhere,
    /// It holds one without an outcome, or one is in its queue; an [`OutcomeRecord`](crate::mail::record::OutcomeRecord) follows.
    WithoutOutcome,
}

impl OpenRecord {
    /// Writes the log line, counts, settles what was reserved; returns the record that is still to be written. None the second
    /// time.
    fn close(&mut self) -> Option<Record> {
        let mut record = self.record.take()?;
        let mut outcome = self.outcome.take().unwrap_or_else(Outcome::cancelled);
        self.mask.mail(&mut record);
        self.mask.outcome(&mut outcome);
        if matches!(outcome.delivery.known(), Some(Delivery::Deferred | Delivery::Refused)) {
            self.give_back();
        }
        log(&record, &outcome);
        self.shared.metrics.mail(&record, &outcome);
        Some(match self.stands {
            Stands::Nowhere => {
                record.outcome = Some(outcome);
                Record::Mail(record)
            }
            Stands::WithoutOutcome => Record::outcome(clock::now(), record.id, outcome),
        })
    }

    /// Gives back quota and replay memory: the mail was not taken, and may come again.
    fn give_back(&mut self) {
        let Reservation { spending, seen } = std::mem::take(&mut self.reservation);
        if let Some(spending) = spending {
            self.shared.quota.give_back(spending);
        }
        if let Some(seen) = seen {
            self.shared.replay.give_back(seen);
        }
    }

    fn revoke(&mut self, finding: &Finding) {
        self.give_back();
        if let Some(record) = &mut self.record {
            record.decision = VerdictKind::Pass.into();
            record.observed = false;
            record.actions.clear();
            record.reasons.push(reason(finding));
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if let Some(record) = self.close()
            && let Some(audit) = &self.shared.audit
        {
            audit.append_now(&record);
        }
    }
}

/// A mail that was decided about. Its exemption takes effect by [`Decided::commit`] alone; dropped, it writes its record.
#[must_use = "a decided mail goes on by `commit`"]
pub struct Decided {
    record: OpenRecord,
    removals: Vec<Patch>,
    exemption: Option<Exemption>,
    /// The exemptions by other entries, with their descriptions, should this one have to be withheld.
    others: VecDeque<(Description, Option<Exemption>)>,
}

impl Decided {
    /// A mail about which nothing is decided: it passes, without its forged fields.
    pub(super) fn begin(shared: Arc<Shared>, mut record: MailRecord, removals: Vec<Patch>, mask: Mask) -> Self {
        record.removed = removals.len();
        let record = OpenRecord {
            shared,
            record: Some(Box::new(record)),
            outcome: None,
            reservation: Reservation::default(),
            stands: Stands::Nowhere,
            mask,
            announced: None,
        };
        Self { record, removals, exemption: None, others: VecDeque::new() }
    }

    /// An exemption may come of it.
    pub(super) fn may_be_exempted(&mut self) {
        self.record.announced = self.record.shared.audit.as_ref().map(Audit::announce);
    }

    /// Decides by the first of these ways; the others stand behind it.
    pub(super) fn decide(&mut self, ways: VecDeque<(Description, Option<Exemption>)>) {
        self.others = ways;
        self.go_by_next();
        if self.exemption.is_none() {
            self.record.announced = None;
        }
    }

    /// Takes the next way; whether there was one.
    fn go_by_next(&mut self) -> bool {
        let Some((description, exemption)) = self.others.pop_front() else { return false };
        if let Some(record) = &mut self.record.record {
            description.write(record);
        }
        self.exemption = exemption;
        true
    }

    pub(super) fn fail(&mut self, finding: &Finding) {
        self.record.revoke(finding);
    }

    /// Makes an exemption take effect: reserves replay memory and quota, stores its guard links, and writes the record to disk,
    /// in this order, before it returns. Where one of them fails and another entry exempts the mail, too, that one's turn comes,
    /// unless the audit failed. Otherwise the mail passes as an ordinary one, and the record says why; there is no error.
    ///
    /// Dropping this future is safe: the record is written with the outcome `unknown, cancelled`, without waiting. A record that
    /// is in the audit's queue stays, and what was reserved stays spent, as the exemption may be on disk.
    pub async fn commit(mut self) -> Ready {
        while let Some(exemption) = self.exemption.take() {
            let Err(finding) = self.exempt(exemption).await else { break };
            self.record.give_back();
            if finding.reason == Reason::Audit || !self.go_by_next() {
                self.record.revoke(&finding);
            }
        }
        self.record.announced = None;
        Ready { record: self.record, patches: self.removals }
    }

    async fn exempt(&mut self, exemption: Exemption) -> Result<(), Finding> {
        let Exemption { entry, recipients, signatures, edits, at } = exemption;
        let shared = Arc::clone(&self.record.shared);
        if let Some(signatures) = signatures {
            let recipients: HashSet<String> = recipients.iter().map(|recipient| recipient.to_lowercase()).collect();
            let seen = shared.replay.reserve(&entry, signatures, &recipients, at);
            self.record.reservation.seen = Some(seen.map_err(|why| Finding::fails(Reason::Replay, why))?);
        }
        let readers: Vec<String> = recipients.iter().map(|recipient| reader(recipient)).collect();
        let spending = shared.quota.reserve(&entry.name, &readers, entry.limit, at);
        self.record.reservation.spending = Some(spending.map_err(|why| Finding::fails(Reason::Limit, why))?);
        if entry.mode == Mode::Observe {
            return Ok(());
        }
        let id = self.record.record.as_ref().map(|record| record.id.clone()).unwrap_or_default();
        if let Some(store) = edits.store {
            store.store(edits.links).await.map_err(|error| {
                shared.needs.exemptions.failed(&format_args!("{id}: {error}"));
                Finding::fails(Reason::Edit, error.to_string())
            })?;
        }
        let Some(audit) = &shared.audit else { return Err(Finding::fails(Reason::Audit, "there is no audit folder")) };
        let withheld = |error: crate::audit::AuditError| {
            shared.metrics.audit_failed();
            shared.needs.exemptions.failed(&format_args!("{id}: {error}"));
            Finding::fails(Reason::Audit, error.to_string())
        };
        let Some(record) = self.record.record.as_deref() else { return Err(Finding::fails(Reason::Fault, "there is no record")) };
        let mut durable = record.clone();
        self.record.mask.mail(&mut durable);
        durable.reasons.push(reason(&Finding::holds(Reason::Audit, "on record")));
        let slot = audit.slot(Record::Mail(Box::new(durable))).await.map_err(&withheld)?;
        let written = slot.append_durable();
        self.record.announced = None;
        // From here on the record may be on disk, so what follows is written as its outcome.
        self.record.stands = Stands::WithoutOutcome;
        if let Err(error) = written.done().await {
            self.record.stands = Stands::Nowhere;
            return Err(withheld(error));
        }
        self.removals.extend(edits.patches);
        shared.needs.exemptions.worked();
        Ok(())
    }
}

/// A mail that can leave: its exemption, where it has one, is on record. Dropped, it writes the outcome `unknown, cancelled`.
#[must_use = "a mail's record says what became of it by `finish`"]
pub struct Ready {
    record: OpenRecord,
    patches: Vec<Patch>,
}

impl Ready {
    /// The edits, as patches of the data; empty where the mail leaves as it came.
    #[must_use]
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// The record of the decision, without an outcome; no reader is hidden in it.
    #[must_use]
    pub fn record(&self) -> Option<&MailRecord> {
        self.record.record.as_deref()
    }

    /// So many octets of the mail have come by now. Its record has the last number, whatever becomes of it.
    pub fn received(&mut self, octets: usize) {
        if let Some(record) = &mut self.record.record {
            record.size = octets;
        }
    }

    /// Records the outcome. Waits, [`limits::AUDIT_WAIT`](crate::limits::AUDIT_WAIT) at most, while the audit's queue is full.
    /// Dropping this future is safe: the record with this outcome is then written if the queue has room, and dropped with a line
    /// in the log if not.
    pub async fn finish(mut self, outcome: Outcome) {
        self.record.outcome = Some(outcome);
        let shared = Arc::clone(&self.record.shared);
        let Some(audit) = &shared.audit else { return };
        let weight = self.record.record.as_ref().map_or(0, |record| record.weight());
        if audit.wait_for_room(weight).await.is_err() {
            tracing::error!("the audit disk is too slow: a record is dropped; mails are relayed, exemptions stop");
        }
        // Dropping `self` writes the record.
    }
}

/// The reader behind an address: its mailbox without a detail, so that all plus-addresses are one reader.
fn reader(recipient: &str) -> String {
    Mailbox::parse(recipient).map_or_else(|| recipient.to_lowercase(), |mailbox| mailbox.without_detail().to_string())
}

/// Logs a mail: the record in one line.
fn log(record: &MailRecord, outcome: &Outcome) {
    tracing::info!(
        id = record.id,
        from = record.from,
        recipients = record.to.len(),
        size = record.size,
        decision = record.decision.code(),
        observed = record.observed,
        entry = record.entry.as_deref().unwrap_or_default(),
        stopped_by = record.stopped_by().map(|reason| reason.check.code()).unwrap_or_default(),
        delivery = outcome.delivery.code(),
        next_hop = outcome.next_hop,
        reply = outcome.reply,
        queue_id = outcome.queue_id.as_deref().unwrap_or_default(),
        "mail"
    );
}
