//! `audit report`: what each entry did in a span of time.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    folder, now,
    walk::{Place, Walk},
};
use crate::{
    audit::watch::{Tallies, Tally},
    cli::Report,
    clock,
    commands::{Answer, Config, printable},
    mail::{Record, counted},
    typed_time::{TimeSpan, shown},
};

pub(super) fn report(config: &Config, report: &Report) -> anyhow::Result<Answer> {
    let now = now(report.times.utc);
    let span = TimeSpan::read(report.times.since.as_deref(), report.times.until.as_deref(), &now)?;
    let mut walk = Walk::open(&folder(config, report.directory.clone())?, span)?;
    let mut tallies = Tallies::default();
    walk.each(|line| {
        if line.kind == b"mail"
            && line.place == Place::Within
            && let Some(record) = Record::read(line.text)
        {
            tallies.add(&record);
        }
        Ok(())
    })?;
    let mut out = io::stdout().lock();
    if report.json {
        serde_json::to_writer(&mut out, &Whole::of(&walk, &tallies, span))?;
        writeln!(out)?;
    } else if report.csv {
        table_for_programs(&mut out, &tallies)?;
        if let Some(doubt) = walk.doubt() {
            writeln!(io::stderr(), "{doubt}")?;
        }
    } else {
        table(&mut out, &tallies, now.time_zone())?;
        writeln!(out, "{}", walk.says(now.time_zone()))?;
        if let Some(doubt) = walk.doubt() {
            writeln!(out, "{doubt}")?;
        }
    }
    if let Some(nothing) = walk.nothing() {
        if report.json || report.csv {
            writeln!(io::stderr(), "{nothing}")?;
        } else {
            writeln!(out, "{nothing}")?;
        }
        return Ok(Answer::No);
    }
    walk.finish()?;
    Ok(Answer::Yes)
}

/// The counts of all entries together.
fn total(tallies: &Tallies) -> Tally {
    let mut total = Tally::default();
    for (_, tally) in tallies.entries() {
        total.acted += tally.acted;
        total.observed += tally.observed;
        total.passed += tally.passed;
        for (check, count) in &tally.near_misses {
            *total.near_misses.entry(check.clone()).or_default() += count;
        }
    }
    total
}

fn table(out: &mut impl Write, tallies: &Tallies, zone: &TimeZone) -> io::Result<()> {
    let width = tallies.entries().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("entry".len());
    let total = total(tallies);
    let head = format!("{:width$}  {:>8}  {:>8}  {:>9}  {:>8}", "entry", "act", "observed", "near_miss", "pass");
    writeln!(out, "{head}")?;
    for (name, tally) in tallies.entries() {
        writeln!(out, "{name:width$}  {:>8}  {:>8}  {:>9}  {:>8}", tally.acted, tally.observed, tally.missed(), tally.passed)?;
        for (check, count) in &tally.near_misses {
            writeln!(out, "    near_miss by {check}: {count}")?;
        }
        if let Some((time, why)) = &tally.newest {
            writeln!(out, "    the newest, {}: {}", shown(*time, zone), printable(why))?;
        }
    }
    writeln!(out, "{:width$}  {:>8}  {:>8}  {:>9}  {:>8}", "total", total.acted, total.observed, total.missed(), total.passed)?;
    let mails = tallies.mails();
    writeln!(out, "{}, {} of no entry", counted(mails, "mail"), tallies.unlisted())
}

/// The same for a spreadsheet.
fn table_for_programs(out: &mut impl Write, tallies: &Tallies) -> io::Result<()> {
    writeln!(out, "entry,act,observed,near_miss,pass")?;
    for (name, tally) in tallies.entries() {
        let name = if name.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() };
        writeln!(out, "{name},{},{},{},{}", tally.acted, tally.observed, tally.missed(), tally.passed)?;
    }
    Ok(())
}

/// The report as a whole.
#[derive(Serialize)]
struct Whole<'t> {
    /// The span that was asked for.
    since: Option<String>,
    until: Option<String>,
    /// The span of the records that were there.
    oldest: Option<String>,
    newest: Option<String>,
    files: usize,
    records: usize,
    /// Records that another one has the number of, and that do not count.
    twice: usize,
    mails: usize,
    /// Mails that no entry names.
    unlisted: usize,
    total: Row<'t>,
    entries: Vec<Row<'t>>,
}

#[derive(Serialize)]
struct Row<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'t str>,
    act: usize,
    observed: usize,
    near_miss: usize,
    pass: usize,
    near_misses: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<Newest<'t>>,
}

#[derive(Serialize)]
struct Newest<'t> {
    time: String,
    why: &'t str,
}

impl<'t> Row<'t> {
    fn of(entry: Option<&'t str>, tally: &'t Tally) -> Self {
        Self { newest: tally.newest.as_ref().map(|(time, why)| Newest { time: clock::rfc3339(*time), why }), ..Self::counts(entry, tally) }
    }

    fn counts(entry: Option<&'t str>, tally: &Tally) -> Self {
        Self {
            entry,
            act: tally.acted,
            observed: tally.observed,
            near_miss: tally.missed(),
            pass: tally.passed,
            near_misses: tally.near_misses.clone(),
            newest: None,
        }
    }
}

impl<'t> Whole<'t> {
    fn of(walk: &Walk, tallies: &'t Tallies, span: TimeSpan) -> Self {
        let looked = &walk.looked;
        Self {
            since: span.since.map(clock::rfc3339),
            until: span.until.map(clock::rfc3339),
            oldest: looked.oldest.map(clock::rfc3339),
            newest: looked.newest.map(clock::rfc3339),
            files: looked.files,
            records: looked.records,
            twice: looked.twice,
            mails: tallies.mails(),
            unlisted: tallies.unlisted(),
            total: Row::counts(None, &total(tallies)),
            entries: tallies.entries().map(|(name, tally)| Row::of(Some(name), tally)).collect(),
        }
    }
}
