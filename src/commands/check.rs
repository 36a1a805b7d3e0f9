//! `check`: the configuration, before it runs.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
};

use serde_json::Value;

use super::{Answer, Config};
use crate::{
    audit::chain,
    clock,
    settings::{Advice, Place, Settings, Severity},
};

pub(super) fn check(config: &Config) -> anyhow::Result<Answer> {
    let settings = config.load()?;
    let mut advice = settings.warnings.clone();
    advice.extend(settings.advice(clock::now()));
    advice.extend(never_matched(&settings));
    advice.sort();
    let mut out = io::stdout().lock();
    for one in advice {
        writeln!(out, "{one}")?;
    }
    Ok(Answer::Yes)
}

/// Entries that no mail of the audit matched, once the audit is old enough to tell.
fn never_matched(settings: &Settings) -> Vec<Advice> {
    let Some(folder) = settings.audit.as_deref() else { return Vec::new() };
    let files = chain::files(folder).unwrap_or_default();
    if files.len() < OLD_ENOUGH {
        return Vec::new();
    }
    let mut matched: HashSet<String> = HashSet::new();
    for file in files.iter().rev().take(LOOKED_AT) {
        matched.extend(entries_in(file).unwrap_or_default());
    }
    let unmatched = settings.policy.senders().iter().filter(|sender| !matched.contains(&sender.name));
    let days = files.len().min(LOOKED_AT);
    let place = Place::file(folder.display().to_string());
    unmatched
        .map(|sender| {
            Advice::new(
                Severity::Note,
                place.clone(),
                &sender.name,
                format!("no mail of the last {days} days matched this entry; is it still needed, and its domain right?"),
            )
        })
        .collect()
}

/// Days of audit from which on an entry without a mail is spoken of.
const OLD_ENOUGH: usize = 14;
/// Days that are looked at.
const LOOKED_AT: usize = 60;

fn entries_in(file: &Path) -> io::Result<HashSet<String>> {
    let mut entries = HashSet::new();
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        let value: Value = serde_json::from_slice(&line?).unwrap_or_default();
        if let Some(entry) =
            value.get("entry").and_then(Value::as_str).filter(|_| value.get("decision").and_then(Value::as_str) == Some("act"))
        {
            entries.insert(entry.to_owned());
        }
    }
    Ok(entries)
}
