//! The decision about a mail: its verdict and the findings that led to it.

use std::sync::Arc;

use super::{
    entry::{Entry, Mode},
    evidence::Evidence,
    reader::Condition,
    suggestion::Missing,
};
use crate::{
    identity::proof::Seen,
    mail::{Kind, Reason, VerdictKind},
    recognition::Recognition,
};

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub reason: Reason,
    /// Whether the check held.
    pub ok: bool,
    /// What was found, in words; no secret.
    pub detail: String,
    /// The name of the header field that was looked at, where it was one.
    pub field: Option<&'static str>,
    /// The proof that covers it, for people; none where nothing does, or no proof is needed.
    pub proof: Option<String>,
}

impl Finding {
    /// A check that held, with what was found.
    #[must_use]
    pub fn holds(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, ok: true, detail: detail.into(), field: None, proof: None }
    }

    /// A check that failed, with what was found.
    #[must_use]
    pub fn fails(reason: Reason, detail: impl Into<String>) -> Self {
        Self { ok: false, ..Self::holds(reason, detail) }
    }

    /// The same finding, of a header field.
    #[must_use]
    pub fn seen(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The same finding, with the proof that covers the field, where it does.
    #[must_use]
    pub fn covered(self, evidence: &Evidence<'_>) -> Self {
        let covers = self.field.is_some_and(|field| field == "DKIM-Signature" || matches!(evidence.field(field), Seen::Covered(_)));
        Self { proof: covers.then(|| evidence.by().to_owned()), ..self }
    }
}

/// The verdict about a mail.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// Exempt the mail by this entry.
    Act(Arc<Entry>),
    /// Pass; the mail is proven to be of this entry's sender, and one check or a few failed.
    NearMiss(Arc<Entry>),
    /// Pass: an ordinary mail.
    #[default]
    Pass,
}

impl Verdict {
    /// The verdict's code, without its entry.
    #[must_use]
    pub const fn kind(&self) -> VerdictKind {
        match self {
            Self::Act(_) => VerdictKind::Act,
            Self::NearMiss(_) => VerdictKind::NearMiss,
            Self::Pass => VerdictKind::Pass,
        }
    }

    /// The entry of [`Verdict::Act`] or [`Verdict::NearMiss`].
    #[must_use]
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Act(entry) | Self::NearMiss(entry) => Some(entry),
            Self::Pass => None,
        }
    }
}

/// A verdict with the findings that led to it.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The entry whose checks are listed, where one names the sender.
    pub entry: Option<String>,
    /// The checks, in order.
    pub findings: Vec<Finding>,
    /// What recognition found, where the body was read; none where the shapes of an entry's links exempt the mail, and nobody asked.
    /// For people; it grants only where an entry has `decide_by = "words"`.
    pub recognition: Option<Recognition>,
    /// The kind of the one-time link, by the entry's shapes.
    pub kind: Option<Kind>,
    /// Every one-time link, as indices into the content's links.
    pub one_time_links: Vec<usize>,
    /// What the entry would need for this mail's links.
    pub missing: Missing,
    /// The ids of the signatures that prove the mail, for replay memory.
    pub signatures: Vec<[u8; 32]>,
    /// The condition under which straight delivery stands in for a covered To.
    pub condition: Option<Condition>,
}

impl Decision {
    /// A pass, for one finding.
    #[must_use]
    pub fn pass(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }

    /// Takes back an exemption, for a finding that came up after judging.
    pub fn revoke(&mut self, finding: Finding) {
        self.verdict = Verdict::Pass;
        self.findings.push(finding);
    }

    /// Every one-time link, as indices into the content's links: by the entry or, where no link fits, by recognition.
    #[must_use]
    pub fn links(&self) -> &[usize] {
        match &self.recognition {
            Some(recognition) if self.one_time_links.is_empty() => &recognition.one_time_links,
            _ => &self.one_time_links,
        }
    }

    /// Whether the entry would act, but is in observe mode.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        matches!(&self.verdict, Verdict::Act(entry) if entry.mode == Mode::Observe)
    }

    /// How many checks held, for choosing the decision that is shown.
    #[must_use]
    pub fn held(&self) -> usize {
        self.findings.iter().filter(|finding| finding.ok).count()
    }

    /// The first check that failed.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| !finding.ok)
    }
}
