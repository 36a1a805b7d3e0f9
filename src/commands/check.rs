//! `check`: the configuration, before it runs.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
};

use super::{Answer, Config, printable};
use crate::{
    audit::{chain, watch::Tallies},
    clock,
    settings::{Advice, Settings, Severity, SourceSpan, sentences},
};

pub(super) fn check(config: &Config) -> anyhow::Result<Answer> {
    let settings = config.load()?;
    let mut advice = settings.warnings.clone();
    advice.extend(settings.advice(clock::now()));
    advice.extend(from_the_audit(&settings));
    advice.sort();
    let mut out = io::stdout().lock();
    for entry in settings.allowlist.entries() {
        for (at, sentence) in sentences(entry).iter().enumerate() {
            let name = if at == 0 { format!("{}: ", entry.name) } else { "    ".to_owned() };
            writeln!(out, "{name}{}", printable(sentence))?;
        }
    }
    for one in advice {
        writeln!(out, "{one}")?;
    }
    Ok(Answer::Yes)
}

/// What the audit says of entries: that no mail matched, once it is old enough to tell, and near misses.
fn from_the_audit(settings: &Settings) -> Vec<Advice> {
    let Some(folder) = settings.audit.as_deref() else { return Vec::new() };
    let files = chain::files(folder).unwrap_or_default();
    let days = files.len().min(LOOKED_AT);
    let mut tallies = Tallies::default();
    for file in files.iter().skip(files.len() - days) {
        let lines = File::open(file).map(|file| BufReader::new(file).split(b'\n'));
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            tallies.add(&serde_json::from_slice(&line).unwrap_or_default());
        }
    }
    let place = SourceSpan::file(folder.display().to_string());
    let advise = |severity, name: &str, says: String| Advice::new(severity, place.clone(), name, says);
    let mut advice = Vec::new();
    for sender in settings.allowlist.entries() {
        let tally = tallies.of(&sender.name);
        if tally.acted == 0 && files.len() >= OLD_ENOUGH {
            let says = format!("no mail of the last {days} days matched this entry; is it still needed, and its domain right?");
            advice.push(advise(Severity::Note, &sender.name, says));
        }
        if let Some((time, why)) = &tally.newest {
            let says = format!("{} near misses in the last {days} days; the newest, {time}: {}", tally.missed(), printable(why));
            advice.push(advise(Severity::Warning, &sender.name, says));
        }
    }
    advice
}

/// Days of audit from which on an entry without a mail is spoken of.
const OLD_ENOUGH: usize = 14;
/// Days that are looked at.
const LOOKED_AT: usize = 60;
