//! The record of a mail, made from its transaction and its analysis, without secrets.

use jiff::Timestamp;

use super::Analysis;
use crate::{
    allowlist::{Decision, Finding, Verdict},
    edit::tag::Key,
    identity::proof::{Identity, Source, Weakness},
    limits,
    mail::{
        Action, Flaw, Kind, Transaction, VerdictKind,
        record::{IdentityRecord, KindOrNone, MailRecord, ReasonRecord, Recognized, RedactedLink, SignatureRecord, VERSION},
    },
    message::{Domain, Link, Message},
    recognition::Recognition,
    vocabulary::Code,
};

/// The record of a mail about which nothing is decided: it passes.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    message: &Message<'_>,
    author: Option<&Domain>,
    policy: &str,
    time: Timestamp,
) -> MailRecord {
    MailRecord {
        v: VERSION,
        time,
        id: transaction.id.to_owned(),
        upstream: transaction.client.peer.address(),
        client: transaction.client.peer.forwarded_client(),
        helo: cut(transaction.client.helo).to_owned(),
        from: cut(transaction.envelope.reverse_path).to_owned(),
        to: transaction.envelope.recipients.to_vec(),
        recipients_key: String::new(),
        message_id: message.message_id(),
        author: author.map(Domain::to_string),
        size: transaction.size,
        policy: policy.to_owned(),
        decision: VerdictKind::Pass.into(),
        observed: false,
        actions: Vec::new(),
        entry: None,
        kind: None,
        recognized: None,
        one_time_links: Vec::new(),
        flaws: Vec::new(),
        identity: None,
        reasons: Vec::new(),
        removed: 0,
        outcome: None,
    }
}

/// An analysis as the record describes it, so that the analysis itself can be dropped.
pub(super) struct Description {
    decision: VerdictKind,
    observed: bool,
    actions: Vec<Action>,
    entry: Option<String>,
    kind: Option<Kind>,
    recognized: Option<Recognized>,
    one_time_links: Vec<RedactedLink>,
    flaws: Vec<Flaw>,
    identity: Option<IdentityRecord>,
    reasons: Vec<ReasonRecord>,
}

impl Description {
    /// Describes an analysis. With a key each one-time link gets a hash that identifies it.
    pub(super) fn of(analysis: &Analysis, author: Option<&Domain>, key: Option<&Key>) -> Self {
        let Analysis { decision, content, identity, mime: _ } = analysis;
        let mut links: Vec<&Link> = Vec::new();
        for at in decision.links() {
            if let Some(found) = content.as_ref().and_then(|content| content.links.get(*at))
                && !links.contains(&&found.link)
            {
                links.push(&found.link);
            }
        }
        let link = |link: &Link| RedactedLink { link: link.redacted(), hash: key.map(|key| key.fingerprint(link.expose())) };
        let recognized = |found: &Recognition| Recognized { kind: KindOrNone::from(found.kind).into(), confidence: found.confidence };
        Self {
            decision: decision.verdict.kind(),
            observed: decision.is_observed(),
            actions: actions(decision),
            entry: decision.entry.clone(),
            kind: decision.kind,
            recognized: decision.recognition.as_ref().map(recognized),
            one_time_links: links.into_iter().map(link).collect(),
            flaws: content.as_ref().map(|content| content.flaws.iter().collect()).unwrap_or_default(),
            identity: identity.as_ref().map(|identity| identity_record(identity, author)),
            reasons: reasons(decision),
        }
    }

    /// Puts the description into a record.
    pub(super) fn write(self, record: &mut MailRecord) {
        record.decision = self.decision.into();
        record.observed = self.observed;
        record.actions = self.actions.into_iter().map(Code::Known).collect();
        record.entry = self.entry;
        record.kind = self.kind.map(Code::Known);
        record.recognized = self.recognized;
        record.one_time_links = self.one_time_links;
        record.flaws = self.flaws.into_iter().map(Code::Known).collect();
        record.identity = self.identity;
        record.reasons = self.reasons;
    }
}

/// An identity as record and `explain` show it, beside the author that it was asked for.
#[must_use]
pub fn identity_record(identity: &Identity, author: Option<&Domain>) -> IdentityRecord {
    let dkim = identity.dkim.iter().map(|signature| SignatureRecord {
        domain: signature.domain.as_ref().map(Domain::to_string).unwrap_or_default(),
        selector: signature.selector.clone(),
        result: signature.result.into(),
        aligned: signature.aligned,
        weakness: signature.weakness.map(Weakness::says).map(str::to_owned),
    });
    IdentityRecord {
        from_domain: author.map(Domain::to_string),
        spf: identity.spf.as_ref().map_or("not asked", |spf| spf.result.code()).to_owned(),
        dkim: dkim.collect(),
        dmarc: identity.dmarc.into(),
        arc: identity.arc.into(),
        source: match identity.source {
            Source::Nobody => "nobody",
            Source::Here => "here",
            Source::Upstream => "upstream",
            Source::Sealer(_) => "sealer",
            Source::Assumed => "assumed",
        }
        .to_owned(),
        trouble: identity.trouble.clone(),
    }
}

/// The findings of a decision, in the order of the checks.
#[must_use]
pub fn reasons(decision: &Decision) -> Vec<ReasonRecord> {
    decision.findings.iter().map(reason).collect()
}

/// A check and its outcome, as the record has it.
pub(super) fn reason(finding: &Finding) -> ReasonRecord {
    ReasonRecord {
        check: finding.reason.into(),
        ok: finding.ok,
        detail: finding.detail.clone(),
        field: finding.field.map(str::to_owned),
        covered_by: finding.proof.clone(),
    }
}

/// The actions that a decision takes or, where it is only observed, would take.
#[must_use]
pub fn actions(decision: &Decision) -> Vec<Action> {
    match &decision.verdict {
        Verdict::Act(entry) => entry.actions.clone(),
        Verdict::NearMiss(_) | Verdict::Pass => Vec::new(),
    }
}

/// Paths and names, cut to [`limits::LOGGED_PATH`] octets.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::LOGGED_PATH)).unwrap_or_default()
}
