//! `audit verify`: whether the chain of records holds, and whether its end is proven, for people and for programs.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Answer, Config, audit::folder, audit_head, printable};
use crate::{
    audit::{
        chain::Checkpoint,
        head::{self, Head},
        verify::{Found, Report, verify_up_to},
    },
    cli::Verify,
    edit::tag::Key,
    mail::counted,
    settings::AuditKeys,
};

pub(super) fn verify(config: &Config, how: &Verify) -> anyhow::Result<Answer> {
    let keys = keys(config, how.key_file.as_deref())?;
    // Before the records: the hop may write both while this reads.
    let mut head = head(config, how, &keys)?;
    let folder = folder(config, how.directory.clone())?;
    let mut asked = points(how)?;
    asked.extend(head.iter().filter_map(OfHead::names).map(|(newest, _)| newest.clone()));
    let mut report = verify_up_to(&folder, &keys, &asked).with_context(|| format!("{} cannot be read", folder.display()))?;
    let is_seen = report.points.len() == asked.len();
    if let Some(OfHead { says: Says::Names(_, found), .. }) = &mut head {
        // Where verifying ended at a break there are none.
        *found = report.points.pop().map_or(Found::Missing, |(_, found)| found);
    }
    let told = Told { holds: holds(&report, head.as_ref()), has_keys: !keys.is_empty(), is_seen, folder, report, of_head: head };
    let mut out = io::stdout().lock();
    let text = if how.json { told.json().to_string() + "\n" } else { told.text() };
    out.write_all(text.as_bytes())?;
    let unreadable: Vec<String> = told.report.unreadable.iter().map(|failed| printable(failed)).collect();
    if !unreadable.is_empty() {
        bail!("not all was verified: {} could not be read\n  {}", counted(unreadable.len(), "file"), unreadable.join("\n  "));
    }
    Ok(if told.holds { Answer::Yes } else { Answer::No })
}

/// The keys of the chain: those of a file that was named, or the configuration's. A folder can be read where there is no
/// configuration.
fn keys(config: &Config, named: Option<&Path>) -> anyhow::Result<Vec<Key>> {
    match named {
        Some(file) => Ok(AuditKeys::read(file).map_err(anyhow::Error::msg)?.keys),
        None => Ok(config.load_or_empty()?.audit_keys.keys),
    }
}

/// The checkpoints that were named, and those of a log.
fn points(how: &Verify) -> anyhow::Result<Vec<Checkpoint>> {
    let mut points = Vec::new();
    for at in &how.at {
        points.push(at.parse::<Checkpoint>().map_err(|error| anyhow::anyhow!("--at: {error}"))?);
    }
    if let Some(log) = &how.at_log {
        let mut text = Vec::new();
        if log.as_os_str() == "-" {
            io::stdin().lock().read_to_end(&mut text)?;
        } else {
            text = fs::read(log).with_context(|| format!("{} cannot be read", log.display()))?;
        }
        let before = points.len();
        points.extend(text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).flat_map(Checkpoint::all_in));
        if points.len() == before {
            bail!("{}: no checkpoint stands in it; the hop's log has one each hour, as NUMBER:HASH", log.display());
        }
    }
    points.dedup();
    Ok(points)
}

/// The head file that was named or, where the folder is the configuration's own, the one that goes with it, and what it says.
fn head(config: &Config, how: &Verify, keys: &[Key]) -> anyhow::Result<Option<OfHead>> {
    let path = match (&how.head, &how.directory) {
        (Some(named), _) => named.clone(),
        // A copy has no head, or one that was copied at another time.
        (None, Some(_)) => return Ok(None),
        (None, None) => match audit_head(&config.load()?) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let says = match Head::read(&path, keys) {
        Ok(Some(found)) => Says::Names(found.newest, Found::Missing),
        Ok(None) if how.head.is_some() => bail!("--head: there is no {}", path.display()),
        Ok(None) => Says::Nothing("is not there".to_owned()),
        // Another user may verify the chain all the same.
        Err(head::HeadError::Read(_, error)) if how.head.is_none() => Says::Nothing(format!("cannot be read: {error}")),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(OfHead { path, says }))
}

/// The head file that was looked at.
struct OfHead {
    path: PathBuf,
    says: Says,
}

/// What a head file says.
enum Says {
    /// The newest record, and what the chain has in its place.
    Names(Checkpoint, Found),
    /// Why it says nothing.
    Nothing(String),
}

impl OfHead {
    /// The record that it names, and what the chain has in its place.
    const fn names(&self) -> Option<(&Checkpoint, &Found)> {
        match &self.says {
            Says::Names(newest, found) => Some((newest, found)),
            Says::Nothing(_) => None,
        }
    }
}

fn holds(report: &Report, head: Option<&OfHead>) -> bool {
    let is_there = |found: &Found| matches!(found, Found::Stands | Found::Retired);
    report.broken.is_none()
        && report.unreadable.is_empty()
        && report.lines > 0
        && report.points.iter().all(|(_, found)| is_there(found))
        && (report.points.is_empty() || report.points.iter().any(|(_, found)| *found == Found::Stands))
        && head.and_then(OfHead::names).is_none_or(|(_, found)| *found == Found::Stands)
}

/// What was found.
struct Told {
    holds: bool,
    has_keys: bool,
    /// Whether all was read, and so what the chain has in each place that was asked for.
    is_seen: bool,
    folder: PathBuf,
    report: Report,
    of_head: Option<OfHead>,
}

impl Told {
    /// The newest record that a checkpoint or the head file proves.
    fn proven(&self) -> Option<u64> {
        let standing = |found: &Found| *found == Found::Stands;
        let points = self.report.points.iter().filter(|(_, found)| standing(found)).map(|(point, _)| point.n);
        points.chain(self.named().into_iter().filter(|(_, found)| standing(found)).map(|(head, _)| head.n)).max()
    }

    /// The record that the head file names, and what the chain has in its place.
    fn named(&self) -> Option<(&Checkpoint, &Found)> {
        self.of_head.as_ref().and_then(OfHead::names)
    }

    fn json(&self) -> serde_json::Value {
        let report = &self.report;
        let point = |point: &Checkpoint, found: &Found| json!({ "at": point.to_string(), "found": found.code() });
        json!({
            "holds": self.holds,
            "lines": report.lines,
            "gaps": report.gaps,
            "files": report.files,
            "keyed": report.keyed,
            "keys": self.has_keys,
            "newest": report.newest.as_ref().map(ToString::to_string),
            "from_the_start": report.from_the_start,
            "retired_up_to": report.retired,
            "torn": report.torn,
            "unfinished": report.unfinished,
            "touched": report.touched,
            "unreadable": report.unreadable,
            "broken": report.broken.as_ref().map(|broken| json!({ "file": broken.file, "line": broken.line, "what": broken.what })),
            "proven_up_to": if report.broken.is_none() { self.proven() } else { None },
            "points": report.points.iter().map(|(at, found)| point(at, found)).collect::<Vec<_>>(),
            "head": self.named().filter(|_| self.is_seen).map(|(at, found)| point(at, found)),
            "head_file": self.of_head.as_ref().map(|head| head.path.display().to_string()),
        })
    }

    fn text(&self) -> String {
        let report = &self.report;
        if report.lines == 0 && report.broken.is_none() {
            let lost = self.of_head.as_ref().and_then(|head| Some((head.path.display(), head.names()?.0)));
            let lost = lost.map(|(path, at)| format!("; {path} says that there were {}", at.n)).unwrap_or_default();
            return format!("there is no record in {}: nothing was verified{lost}\n", self.folder.display());
        }
        let start = match report.retired {
            Some(last) => format!("from record {} on, and those before were retired", last.saturating_add(1)),
            None if report.from_the_start => "from the first line ever".to_owned(),
            None => "from the oldest line that is here".to_owned(),
        };
        let torn = if report.torn == 0 { String::new() } else { format!(", {} cut short by a crash and closed", report.torn) };
        let mut text = format!("{} in {}, {start}{torn}\n", counted(report.lines, "line"), counted(report.files, "file"));
        if report.unfinished {
            text.push_str("the last line is not finished: it is being written, or a crash cut it short\n");
        }
        if report.touched > 0 {
            text.push_str(&format!(
                "somebody else touched a file {}, as records of the type \"file\" say\n",
                if report.touched == 1 { "once".to_owned() } else { format!("{} times", report.touched) }
            ));
        }
        if report.gaps > 0 {
            text.push_str(&format!(
                "the hop was killed and records were missing {}: numbers were left out, as records of the type \"file\" say, and what \
                 was written behind the head file's record then and is not here cannot be told\n",
                if report.gaps == 1 { "once".to_owned() } else { format!("{} times", report.gaps) }
            ));
        }
        if let Some(broken) = &report.broken {
            text.push_str(&format!("the chain is broken: {}\n", printable(&broken.to_string())));
            return if self.is_seen { text + &self.lost() } else { text };
        }
        text.push_str(&self.key());
        text.push_str(&self.end());
        text
    }

    /// What holds the chain.
    fn key(&self) -> String {
        let (keyed, before) = (self.report.keyed, self.report.lines - self.report.keyed);
        match (self.has_keys, keyed, before) {
            (false, 0, _) => {
                "the chain holds, and has no key: whoever can write the files can compute it anew; see [audit] key_file\n".to_owned()
            }
            (false, ..) => format!("the chain holds; nobody checked the keyed hash of {}: there is no key here\n", counted(keyed, "line")),
            (true, _, 0) => "the chain holds, and every line was written with the key\n".to_owned(),
            (true, ..) => format!("the chain holds; the oldest {} came before there was a key\n", counted(before, "line")),
        }
    }

    /// What is not there, by checkpoints and by the head file.
    fn lost(&self) -> String {
        let mut text = String::new();
        for (point, found) in &self.report.points {
            match found {
                Found::Stands | Found::Retired => {}
                Found::Differs => {
                    text.push_str(&format!("record {} is another than the checkpoint says: the chain was replaced\n", point.n));
                }
                Found::Missing => {
                    text.push_str(&format!("record {} is missing, and a checkpoint names it: records were cut off\n", point.n));
                }
            }
        }
        let newest = self.report.newest.as_ref().map_or(0, |newest| newest.n);
        let Some(path) = self.of_head.as_ref().map(|head| head.path.display()) else { return text };
        match self.named() {
            None | Some((_, Found::Stands)) => {}
            Some((at, _)) if at.n > newest => {
                text.push_str(&format!("the end is cut off: the newest record here is {newest}, and {path} names {}\n", at.n));
            }
            Some((at, Found::Missing | Found::Retired)) => text.push_str(&format!("record {} is missing, and {path} names it\n", at.n)),
            Some((at, Found::Differs)) => {
                text.push_str(&format!("record {} is another than {path} says: the chain was replaced\n", at.n));
            }
        }
        text
    }

    /// What proves its end.
    fn end(&self) -> String {
        let mut text = self.lost();
        let count = |wanted: Found| self.report.points.iter().filter(|(_, found)| *found == wanted).count();
        let (stand, retired) = (count(Found::Stands), count(Found::Retired));
        if stand + retired > 0 {
            let retired = if retired == 0 { String::new() } else { format!("; {retired} of records that were retired") };
            text.push_str(&format!("checkpoints that stand in the chain: {stand} of {}{retired}\n", self.report.points.len()));
        }
        match &self.of_head {
            Some(OfHead { path, says: Says::Names(..) }) => text.push_str(&format!("the head file is {}\n", path.display())),
            Some(OfHead { path, says: Says::Nothing(why) }) => {
                text.push_str(&format!("the head file {} {why}\n", path.display()));
            }
            None => {}
        }
        let newest = self.report.newest.as_ref().map_or(0, |newest| newest.n);
        let by = if stand > 0 { "checkpoints" } else { "the head file" };
        text.push_str(&match self.proven() {
            _ if !self.holds => "the end is not proven\n".to_owned(),
            Some(proven) if proven == newest => format!("the end is proven by {by}: record {newest} is the newest\n"),
            // The head file lags behind ordinary records, and a checkpoint is of one moment.
            Some(proven) => format!(
                "the end is proven up to record {proven} by {by}. This is the usual state: what came since, up to {newest}, is in the \
                 chain, and a cut of it shows once the next head or a newer checkpoint names it\n"
            ),
            None => {
                format!("the end is not proven: {newest} is the newest record here, and --at NUMBER:HASH or a head file would show a cut\n")
            }
        });
        text
    }
}
