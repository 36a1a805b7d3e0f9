//! What was decided about a mail, and why: closed vocabularies with stable codes.

use std::sync::Arc;

use super::{
    entry::{Entry, Mode},
    evidence::Evidence,
    reader::Condition,
};
use crate::{
    identity::proof::Seen,
    mail::{Kind, Reason, VerdictKind},
    recognition::Recognition,
};

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
    /// Which it is, without its entry.
    #[must_use]
    pub const fn kind(&self) -> VerdictKind {
        match self {
            Self::Act(_) => VerdictKind::Act,
            Self::NearMiss(_) => VerdictKind::NearMiss,
            Self::Pass => VerdictKind::Pass,
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

    /// Whether it would act, but by an entry that only observes.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        matches!(&self.verdict, Verdict::Act(entry) if entry.mode == Mode::Observe)
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
