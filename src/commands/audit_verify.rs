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
    let head = head(config, how, &keys)?;
    let folder = folder(config, how.directory.clone())?;
    let mut asked = points(how)?;
    asked.extend(head.iter().map(|(_, newest)| newest.clone()));
    let mut report = verify_up_to(&folder, &keys, &asked).with_context(|| format!("{} cannot be read", folder.display()))?;
    let of_head = head.and_then(|(path, newest)| Some((path, newest, report.points.pop()?.1)));
    let told = Told { holds: holds(&report, of_head.as_ref()), has_keys: !keys.is_empty(), folder, report, of_head };
    let mut out = io::stdout().lock();
    let text = if how.json { told.json().to_string() + "\n" } else { told.text() };
    out.write_all(text.as_bytes())?;
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
fn head(config: &Config, how: &Verify, keys: &[Key]) -> anyhow::Result<Option<(PathBuf, Checkpoint)>> {
    let path = match (&how.head, &how.directory) {
        (Some(named), _) => named.clone(),
        // A copy has no head, or one that was copied at another time.
        (None, Some(_)) => return Ok(None),
        (None, None) => match audit_head(&config.load()?) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    match Head::read(&path, keys) {
        Ok(found) => Ok(found.map(|found| (path, found.newest))),
        // Another user may verify the chain all the same.
        Err(head::HeadError::Read(..)) if how.head.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The head file, what it says, and what the chain has in that place.
type OfHead = (PathBuf, Checkpoint, Found);

fn holds(report: &Report, head: Option<&OfHead>) -> bool {
    let is_there = |found: &Found| matches!(found, Found::Stands | Found::Retired);
    report.broken.is_none()
        && report.lines > 0
        && report.points.iter().all(|(_, found)| is_there(found))
        && (report.points.is_empty() || report.points.iter().any(|(_, found)| *found == Found::Stands))
        && head.is_none_or(|(.., found)| *found == Found::Stands)
}

/// What was found.
struct Told {
    holds: bool,
    has_keys: bool,
    folder: PathBuf,
    report: Report,
    of_head: Option<OfHead>,
}

impl Told {
    /// The newest record that a checkpoint or the head file proves.
    fn proven(&self) -> Option<u64> {
        let standing = |found: &Found| *found == Found::Stands;
        let points = self.report.points.iter().filter(|(_, found)| standing(found)).map(|(point, _)| point.n);
        points.chain(self.of_head.iter().filter(|(.., found)| standing(found)).map(|(_, head, _)| head.n)).max()
    }

    fn json(&self) -> serde_json::Value {
        let report = &self.report;
        let point = |point: &Checkpoint, found: &Found| json!({ "at": point.to_string(), "found": found.code() });
        json!({
            "holds": self.holds,
            "lines": report.lines,
            "files": report.files,
            "keyed": report.keyed,
            "keys": self.has_keys,
            "newest": report.newest.as_ref().map(ToString::to_string),
            "from_the_start": report.from_the_start,
            "retired_up_to": report.retired,
            "torn": report.torn,
            "unfinished": report.unfinished,
            "touched": report.touched,
            "broken": report.broken.as_ref().map(|broken| json!({ "file": broken.file, "line": broken.line, "what": broken.what })),
            "proven_up_to": if report.broken.is_none() { self.proven() } else { None },
            "points": report.points.iter().map(|(at, found)| point(at, found)).collect::<Vec<_>>(),
            "head": self.of_head.as_ref().map(|(_, at, found)| point(at, found)),
        })
    }

    fn text(&self) -> String {
        let report = &self.report;
        if report.lines == 0 && report.broken.is_none() {
            let lost = self.of_head.as_ref().map(|(path, at, _)| format!("; {} says that there were {}", path.display(), at.n));
            return format!("there is no record in {}: nothing was verified{}\n", self.folder.display(), lost.unwrap_or_default());
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
        if let Some(broken) = &report.broken {
            return text + &format!("the chain is broken: {}\n", printable(&broken.to_string()));
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
            (false, ..) => format!("the chain holds; {keyed} lines have a keyed hash, which nobody checked: there is no key here\n"),
            (true, _, 0) => "the chain holds, and every line was written with the key\n".to_owned(),
            (true, ..) => format!("the chain holds; the oldest {before} lines are from before there was a key\n"),
        }
    }

    /// What proves its end.
    fn end(&self) -> String {
        let mut text = String::new();
        let (mut stand, mut retired) = (0_usize, 0_usize);
        for (point, found) in &self.report.points {
            match found {
                Found::Stands => stand += 1,
                Found::Retired => retired += 1,
                Found::Differs => {
                    text.push_str(&format!("record {} is another than the checkpoint says: the chain was replaced\n", point.n));
                }
                Found::Missing => {
                    text.push_str(&format!("record {} is missing, and a checkpoint names it: records were cut off\n", point.n));
                }
            }
        }
        if stand + retired > 0 {
            let retired = if retired == 0 { String::new() } else { format!(", and {retired} are of records that were retired") };
            text.push_str(&format!("{stand} of {} checkpoints stand in the chain{retired}\n", self.report.points.len()));
        }
        let newest = self.report.newest.as_ref().map_or(0, |newest| newest.n);
        let head = self.of_head.as_ref();
        if let Some((path, at, found)) = head.filter(|(.., found)| *found != Found::Stands) {
            let path = path.display();
            text.push_str(&match found {
                Found::Missing => format!("the end is cut off: the newest record here is {newest}, and {path} names {}\n", at.n),
                _ => format!("record {} is another than {path} says: the chain was replaced\n", at.n),
            });
        }
        let by = if self.report.points.iter().any(|(_, found)| *found == Found::Stands) { "checkpoints" } else { "the head file" };
        text.push_str(&match self.proven() {
            _ if !self.holds => "the end is not proven\n".to_owned(),
            Some(proven) if proven == newest => format!("the end is proven by {by}: record {newest} is the newest\n"),
            Some(proven) => format!("the end is proven up to record {proven} by {by}; nothing proves that {newest} is the newest\n"),
            None => {
                format!("the end is not proven: {newest} is the newest record here, and --at NUMBER:HASH or a head file would show a cut\n")
            }
        });
        text
    }
}
