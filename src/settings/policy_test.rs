//! `[[test]]` mails in allowlist files: what the admin expects of a mail, tried by `check` and before a reload.
//!
//! The sender counts as proven, because a mail that was saved months ago cannot be proven again: its signature is old and its key
//! may no longer be published. What is tested is the entry: kinds, links, other links, attachments, one reading.

use std::path::Path;

use jiff::Timestamp;

use super::{
    Problems,
    files::Files,
    lint::{Advice, Severity},
    schema::{Section, SourceSpan},
};
use crate::{
    allowlist::{
        Action, Allowlist, Entry,
        entry::Require,
        judge::{self, BodyFacts, HeaderFacts},
    },
    identity::{Network, proof::Identity},
    limits,
    message::Message,
    recognition::Recogniser,
};

/// One mail and what is expected of it.
#[derive(Debug)]
pub(super) struct PolicyTest {
    place: SourceSpan,
    mail: String,
    expect: &'static str,
}

/// The words for decisions, each with its verdict. An exempted mail may be called by any action.
const WORDS: [(&str, &str); 6] =
    [("act", "act"), ("tag", "act"), ("guard", "act"), ("unwrap", "act"), ("pass", "pass"), ("near_miss", "near_miss")];

/// Reads the `[[test]]` tables of an allowlist file.
pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<PolicyTest> {
    let mut trials = Vec::new();
    for mut table in root.sections("test", problems) {
        let mail = table.string("mail", problems);
        let expect = table.string("expect", problems);
        let place = table.place();
        table.finish(problems);
        let Some(mail) = mail else {
            problems.add_missing(place, "test.mail", "missing, expected the file of a mail, as in \"samples/reset.eml\"");
            continue;
        };
        let Some(expect) = expect else {
            problems.add_missing(mail.place, "test.expect", "missing, expected \"act\", \"pass\" or \"near_miss\"");
            continue;
        };
        if let Some(expect) = expect.word(problems, &WORDS) {
            trials.push(PolicyTest { place: mail.place, mail: mail.value, expect });
        }
    }
    trials
}

/// Tests an entry with its mails, whose files stand beside the allowlist file and are noted in `watched`. A mail with another
/// decision than expected is added to `problems`; one that is not there says nothing about the entry, and is added to `advice`.
pub(super) fn run(
    trials: &[PolicyTest],
    entry: &Entry,
    beside: &Path,
    now: Timestamp,
    watched: &mut Files,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) {
    if trials.is_empty() {
        return;
    }
    let Ok(recogniser) = Recogniser::built_in() else { return };
    let allowlist = Allowlist::new(vec![entry.clone()]);
    for policy_test in trials {
        let path = beside.join(&policy_test.mail);
        watched.note(&path);
        let raw = match super::files::octets(&path, limits::SETTINGS_FILE) {
            Ok(raw) if raw.len() as u64 > limits::SETTINGS_FILE => {
                problems.add(
                    policy_test.place.clone(),
                    "test.mail",
                    format!("{} is larger than {} octets", path.display(), limits::SETTINGS_FILE),
                );
                continue;
            }
            Ok(raw) => crate::message::as_sent(raw),
            Err(error) => {
                let what = format!("{} cannot be read, so it was not tried: {error}", path.display());
                advice.push(Advice::new(Severity::Warning, policy_test.place.clone(), "test.mail", what));
                continue;
            }
        };
        let message = Message::read(&raw);
        let author = message.author();
        let client = match &entry.require {
            Require::Address { networks, .. } => networks.first().map(Network::address),
            Require::Dmarc | Require::Dkim => None,
        };
        let identity = Identity::assumed(author.as_ref().ok().map(|author| &author.domain), client, now);
        let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &[], now };
        let candidates = judge::candidates(&allowlist, &facts, &identity);
        // As the hop does: an entry that unwraps is judged by the originals.
        let content = if entry.actions.contains(&Action::Unwrap) { message.content().unwrapped() } else { message.content() };
        let recognition = recogniser.recognise(&content, author.as_ref().ok().map(|author| &author.domain));
        let body = BodyFacts { content: &content, recognition: &recognition, identity: &identity };
        let decision = judge::decide(candidates, &facts, &body);
        if decision.verdict.kind().code() != policy_test.expect {
            let (expected, found) = (policy_test.expect, decision.verdict.kind().code());
            let why = decision.stopped_by().map(|finding| format!("; {}: {}", finding.reason.code(), finding.detail)).unwrap_or_default();
            problems.add(
                policy_test.place.clone(),
                "test.expect",
                format!("{} gives {found:?}, expected {expected:?}{why}", policy_test.mail),
            );
        }
    }
}
