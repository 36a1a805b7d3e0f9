//! The records of the policy in force: at the start, by each reload, and where a reload was refused.

use crate::{
    allowlist::Mode,
    clock,
    mail::{
        Record,
        record::{PolicyBy, PolicyRecord, PolicyRefusedRecord, VERSION},
    },
    pipeline::Pipeline,
    settings::Policy,
};

/// Puts on record that a policy is in force, and what has changed since the one before.
pub(super) fn in_force(pipeline: &Pipeline, policy: &Policy, before: &Policy, mode: Mode, by: PolicyBy) {
    let change = policy.since(before);
    let mode = mode.code();
    // At a start all of them are new, and a start is what takes them.
    let files = if by == PolicyBy::Reload { policy.files_since(before) } else { Vec::new() };
    let (added, changed, gone) = (&change.added, &change.changed, &change.gone);
    tracing::info!(policy = policy.short(), mode, entries = policy.entries.len(), ?added, ?changed, ?gone, ?files, "policy in force");
    if let Some(audit) = &pipeline.shared.audit {
        audit.append_now(&Record::Policy(PolicyRecord {
            v: VERSION,
            time: clock::now(),
            by: by.into(),
            hash: policy.hash.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: mode.to_owned(),
            entries: policy.entries.clone(),
            added: change.added,
            changed: change.changed,
            gone: change.gone,
            files,
        }));
    }
}

/// Puts on record that a changed configuration was refused, with its first mistake.
pub(super) fn refused(pipeline: &Pipeline, policy: &Policy, mistake: &str) {
    if let Some(audit) = &pipeline.shared.audit {
        audit.append_now(&Record::PolicyRefused(PolicyRefusedRecord {
            v: VERSION,
            time: clock::now(),
            policy: policy.short().to_owned(),
            // An alias that cannot be read is shown as it stands, with its address.
            mistake: pipeline.config.pseudonyms.text(mistake),
        }));
    }
}
