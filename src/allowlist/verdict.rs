//! What was decided about a mail, and why: closed vocabularies with stable codes.

use std::sync::Arc;

use super::entry::Entry;
use crate::{recognition::Recognition, vocabulary::vocabulary};

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
        Sender = "sender", "An allowlist entry names the From address's domain.";
        Expiry = "expiry", "The entry has not expired.";
        Reading = "reading", "No part of the mail can be read in two ways.";
        Identity = "identity", "The sender is proven as the entry requires.";
        Coverage = "coverage", "The signature covers the fields that decide how the mail is read.";
        Kind = "kind", "The mail is one of the kinds that the entry names.";
        OneTimeLink = "one_time_link", "The one-time link points where the entry says.";
        OtherLinks = "other_links", "Every other link points where the entry says.";
        Attachments = "attachments", "The mail has no part that cannot be looked into.";
        Recipients = "recipients", "Every recipient is one that the entry names.";
        Addressees = "addressees", "Every recipient stands in To or Cc, so the mail was meant for them.";
        Replay = "replay", "The same mail has not been exempted for another recipient before.";
        Limit = "limit", "The recipient has not had too many exemptions in this hour.";
        Edit = "edit", "The mail can be changed as the entry's actions say.";
        Audit = "audit", "The decision is on record before it takes effect.";
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
}

impl Finding {
    /// A check that held.
    #[must_use]
    pub fn holds(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, ok: true, detail: detail.into() }
    }

    /// A check that did not.
    #[must_use]
    pub fn fails(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, ok: false, detail: detail.into() }
    }
}

/// What to do with a mail.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Exempt it, as this entry says.
    Act(Arc<Entry>),
    /// Nothing; but it is a proven mail of this entry's sender and fails by little.
    NearMiss(Arc<Entry>),
    /// Nothing.
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
    pub fn sender(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Act(sender) | Self::NearMiss(sender) => Some(sender),
            Self::Pass => None,
        }
    }
}

/// A verdict with all that led to it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// The entry whose checks are listed, where one names the sender.
    pub entry: Option<String>,
    /// What was checked, in order.
    pub findings: Vec<Finding>,
    /// What the mail was recognised as, where anybody looked.
    pub recognition: Option<Recognition>,
}

impl Decision {
    /// A pass for one reason.
    #[must_use]
    pub fn pass(finding: Finding) -> Self {
        Self { verdict: Verdict::Pass, entry: None, findings: vec![finding], recognition: None }
    }

    /// Takes back an exemption, for a reason that came up after judging.
    pub fn revoke(&mut self, finding: Finding) {
        self.verdict = Verdict::Pass;
        self.findings.push(finding);
    }

    /// The first check that did not hold.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| !finding.ok)
    }
}
