//! What was decided about a mail, and why: closed vocabularies with stable codes.

use std::sync::Arc;

use super::{entry::Entry, evidence::Evidence, reader::Condition};
use crate::{
    identity::proof::Seen,
    recognition::{Kind, Recognition},
    vocabulary::vocabulary,
};

/// What the hop does to an exempted mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Puts the original in the place of each link that an earlier scanner wrapped.
    Unwrap,
    /// Puts a guard link in the one-time link's place.
    Guard,
    /// Adds the token that the scanner's rule looks for.
    Tag,
}

impl Action {
    /// The name in configuration, audit and `explain`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unwrap => "unwrap",
            Self::Guard => "guard",
            Self::Tag => "tag",
        }
    }
}

vocabulary! {
    /// Something that was checked, in the order in which it is.
    Reason {
        Size = "size", "The mail is small enough to be inspected.";
        Author = "author", "The mail has one From address that every reader agrees on.";
        Sender = "sender", "An allowlist entry names the From address.";
        Expiry = "expiry", "The entry has not expired.";
        Lists = "lists", "The mail came through no mailing list.";
        Recipients = "recipients", "Every recipient is one that the entry names.";
        Identity = "identity", "The sender is proven as the entry requires.";
        Freshness = "freshness", "The signature, or the covered Date, is not older than the entry allows.";
        Addressees = "addressees", "The mail is meant for its recipients: the covered To names them, or it was delivered straight.";
        Coverage = "coverage", "The proof covers the fields that decide how the mail is read, or the signed body tells the same.";
        Subject = "subject", "The Subject is covered by the proof.";
        Reading = "reading", "No part of the mail can be read in two ways.";
        Kind = "kind", "The mail is of a kind that the entry grants.";
        OneTimeLink = "one_time_link", "A link fits one of the entry's shapes.";
        OtherLinks = "other_links", "Every other link points where the entry says.";
        Attachments = "attachments", "The mail has no part that cannot be looked into.";
        Replay = "replay", "The same signed mail has not been exempted for another recipient before.";
        Limit = "limit", "The recipient has not had too many exemptions in this hour.";
        Edit = "edit", "The mail can be changed as the entry's actions say.";
        Audit = "audit", "The decision is on record before it takes effect.";
        Busy = "busy", "The sender could be looked up and the mail read within the limits on work at once.";
        Budget = "budget", "The mail was read within its share of processor time.";
        Fault = "fault", "Nothing went wrong while deciding.";
    }
}

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub reason: Reason,
    /// Whether it held.
    pub ok: bool,
    /// What was found, in words; no secret.
    pub detail: String,
    /// The header field that was looked at, where it was one.
    pub field: Option<&'static str>,
    /// The proof that covers it, for people; none where nothing does, or no proof is needed.
    pub proof: Option<String>,
}

impl Finding {
    /// A check that held.
    #[must_use]
    pub fn holds(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, ok: true, detail: detail.into(), field: None, proof: None }
    }

    /// A check that did not.
    #[must_use]
    pub fn fails(reason: Reason, detail: impl Into<String>) -> Self {
        Self { ok: false, ..Self::holds(reason, detail) }
    }

    /// The same, of a header field.
    #[must_use]
    pub fn seen(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The same, with the proof that covers the field, where it does.
    #[must_use]
    pub fn covered(self, evidence: &Evidence<'_>) -> Self {
        let covers = self.field.is_some_and(|field| field == "DKIM-Signature" || matches!(evidence.field(field), Seen::Covered(_)));
        Self { proof: covers.then(|| evidence.by().to_owned()), ..self }
    }
}

/// What to do with a mail.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// Exempt it, as this entry says.
    Act(Arc<Entry>),
    /// Nothing; but it is a proven mail of this entry's sender and fails by little.
    NearMiss(Arc<Entry>),
    /// Nothing.
    #[default]
    Pass,
}

impl Verdict {
    /// The name in audit and `explain`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Act(_) => "act",
            Self::NearMiss(_) => "near_miss",
            Self::Pass => "pass",
        }
    }

    /// The entry that was judged by.
    #[must_use]
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Act(entry) | Self::NearMiss(entry) => Some(entry),
            Self::Pass => None,
        }
    }
}

/// A verdict with all that led to it.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// The entry whose checks are listed, where one names the sender.
    pub entry: Option<String>,
    /// What was checked, in order.
    pub findings: Vec<Finding>,
    /// What the words of the mail say it is, where anybody looked. For people; it grants nothing but where an entry says
    /// `decide_by = "words"`.
    pub recognition: Option<Recognition>,
    /// The kind of the one-time link, by the entry.
    pub kind: Option<Kind>,
    /// Every one-time link, as indices into the content's links.
    pub one_time_links: Vec<usize>,
    /// What replay memory knows the mail by: the hash of each signature that proves it.
    pub signatures: Vec<[u8; 32]>,
    /// What straight delivery stands in for, where it does.
    pub condition: Option<Condition>,
}

impl Decision {
    /// A pass for one reason.
    #[must_use]
    pub fn pass(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }

    /// Takes back an exemption, for a reason that came up after judging.
    pub fn revoke(&mut self, finding: Finding) {
        self.verdict = Verdict::Pass;
        self.findings.push(finding);
    }

    /// Every one-time link, as indices into the content's links: by the entry or, where none fits, as words tell.
    #[must_use]
    pub fn links(&self) -> &[usize] {
        match &self.recognition {
            Some(recognition) if self.one_time_links.is_empty() => &recognition.one_time_links,
            _ => &self.one_time_links,
        }
    }

    /// How many checks held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.findings.iter().filter(|finding| finding.ok).count()
    }

    /// The first check that did not hold.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| !finding.ok)
    }
}
