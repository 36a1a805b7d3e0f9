//! `audit`: the files read back, for people and for pipelines.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Answer, Config, printable};
use crate::{
    audit::{chain, watch::Tallies},
    cli::{Audit, Find},
    edit::tag::Key,
    settings::AuditKeys,
};

pub(super) fn audit(config: &Config, what: Audit) -> anyhow::Result<Answer> {
    match what {
        Audit::Find(find) => {
            let folder = folder(config, find.directory.clone())?;
            self::find(&folder, &find)
        }
        Audit::Verify { directory, key_file } => {
            let keys = keys(config, key_file)?;
            verify(&folder(config, directory)?, &keys)
        }
        Audit::Report { directory, since } => report(&folder(config, directory)?, since.as_deref()),
        Audit::Tail { directory, lines, follow, json } => {
            let form = if json { Form::Json } else { Form::People };
            tail(&folder(config, directory)?, lines, if follow { Then::Follow } else { Then::End }, form)
        }
    }
}

fn folder(config: &Config, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder);
    }
    match config.load()?.audit {
        Some(folder) => Ok(folder),
        None => bail!("{}: there is no [audit] directory; name one with --directory", config.path().display()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    People,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Follow,
}

/// The keys of the chain: those of a file that was named, or the configuration's. A folder may be looked at where there is
/// no configuration.
fn keys(config: &Config, named: Option<PathBuf>) -> anyhow::Result<Vec<Key>> {
    match named {
        Some(file) => Ok(AuditKeys::read(&file).map_err(anyhow::Error::msg)?.keys),
        None => Ok(config.load_or_empty()?.audit_keys.keys),
    }
}

fn verify(folder: &Path, keys: &[Key]) -> anyhow::Result<Answer> {
    let report = chain::verify_by(folder, keys).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut out = io::stdout().lock();
    if report.lines == 0 && report.broken.is_none() {
        writeln!(out, "there is no record in {}: nothing was verified", folder.display())?;
        return Ok(Answer::No);
    }
    let start = if report.from_the_start { "from the first line ever" } else { "from the oldest line that is here" };
    let torn = if report.torn == 0 { String::new() } else { format!(", {} cut short by a crash and closed", report.torn) };
    writeln!(out, "{} lines in {} files, {start}{torn}", report.lines, report.files)?;
    if report.touched > 0 {
        writeln!(out, "{} times somebody else touched a file, as records of the type \"file\" say", report.touched)?;
    }
    if let Some(broken) = report.broken {
        writeln!(out, "the chain is broken: {}", printable(&broken.to_string()))?;
        return Ok(Answer::No);
    }
    let (keyed, before) = (report.keyed, report.lines - report.keyed);
    let said = match (keys.is_empty(), keyed, before) {
        (true, 0, _) => "the chain holds, and has no key: whoever can write the files can compute it anew; see [audit] key_file".to_owned(),
        (true, ..) => format!("the chain holds; {keyed} lines have a keyed hash, which nobody checked: there is no key here"),
        (false, _, 0) => "the chain holds, and every line was written with the key".to_owned(),
        (false, ..) => format!("the chain holds; the oldest {before} lines are from before there was a key"),
    };
    writeln!(out, "{said}")?;
    Ok(Answer::Yes)
}

fn report(folder: &Path, since: Option<&str>) -> anyhow::Result<Answer> {
    let mut tallies = Tallies::default();
    for path in chain::files(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let Ok(value) = serde_json::from_slice::<Value>(&line?) else { continue };
            if since.is_none_or(|since| text(&value, "time") >= since) {
                tallies.add(&value);
            }
        }
    }
    let mut out = io::stdout().lock();
    let width = tallies.entries().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("entry".len());
    writeln!(out, "{:width$}  {:>8}  {:>9}  {:>8}", "entry", "act", "near_miss", "pass")?;
    for (name, tally) in tallies.entries() {
        writeln!(out, "{name:width$}  {:>8}  {:>9}  {:>8}", tally.acted, tally.missed(), tally.passed)?;
        for (check, count) in &tally.near_misses {
            writeln!(out, "    near_miss by {check}: {count}")?;
        }
        if let Some((time, why)) = &tally.newest {
            writeln!(out, "    the newest, {time}: {}", printable(why))?;
        }
    }
    Ok(Answer::Yes)
}

fn find(folder: &Path, find: &Find) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let form = if find.json { Form::Json } else { Form::People };
    // What belongs to a mail follows it: how it ended, and what was done with its guard link.
    let mut stories: Vec<Story> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for path in chain::files(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let line = line?;
            let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
            match text(&value, "type") {
                "mail" if matches(&value, find) => {
                    by_id.insert(text(&value, "id").to_owned(), stories.len());
                    stories.push(Story { lines: vec![(line, value)], superseded: None });
                }
                "outcome" | "click" => {
                    if let Some(story) = by_id.get(text(&value, "id")).and_then(|at| stories.get_mut(*at)) {
                        story.lines.push((line, value));
                    }
                }
                _ => {}
            }
        }
    }
    // From the newest to the oldest: when the next mail of the same entry and kind came for the same readers.
    let mut next: HashMap<(String, String, String), String> = HashMap::new();
    for story in stories.iter_mut().rev() {
        let Some((_, mail)) = story.lines.first() else { continue };
        let kind = mail.get("recognized").map(|found| text(found, "kind").to_owned()).unwrap_or_default();
        if !kind.is_empty() {
            let key = (text(mail, "entry").to_owned(), kind, mail.get("to").map(Value::to_string).unwrap_or_default());
            story.superseded = next.insert(key, text(mail, "time").to_owned());
        }
    }
    for story in &stories {
        for (line, value) in &story.lines {
            show(&mut out, line, value, form)?;
        }
        if let (Form::People, Some(time)) = (form, &story.superseded) {
            writeln!(out, "    another mail of this kind came at {time}: at most services this link is void since then")?;
        }
    }
    if form == Form::People {
        writeln!(out, "{} mails", stories.len())?;
    }
    Ok(if stories.is_empty() { Answer::No } else { Answer::Yes })
}

/// A mail and what became of it.
struct Story {
    lines: Vec<(Vec<u8>, Value)>,
    /// When the next mail of its kind came for the same reader.
    superseded: Option<String>,
}

fn matches(value: &Value, find: &Find) -> bool {
    let has = |wanted: &Option<String>, texts: &[&str]| {
        wanted.as_ref().is_none_or(|wanted| texts.iter().any(|text| text.to_lowercase().contains(&wanted.to_lowercase())))
    };
    let is = |wanted: &Option<String>, key: &str| wanted.as_ref().is_none_or(|wanted| text(value, key) == wanted);
    let recipients: Vec<&str> = value.get("to").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    is(&find.id, "id")
        && has(&find.to, &recipients)
        && has(&find.from, &[text(value, "from"), text(value, "author")])
        && has(&find.message_id, &[text(value, "message_id")])
        && is(&find.entry, "entry")
        && is(&find.decision, "decision")
        && find.since.as_ref().is_none_or(|since| text(value, "time") >= since.as_str())
}

fn tail(folder: &Path, lines: usize, then: Then, form: Form) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let files = chain::files(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut newest: Vec<Vec<u8>> = Vec::new();
    for (older, path) in files.iter().rev().enumerate() {
        let mut these: Vec<Vec<u8>> = BufReader::new(File::open(path)?).split(b'\n').collect::<Result<_, _>>()?;
        these.append(&mut newest);
        newest = these;
        if older > 0 && newest.len() >= lines {
            break;
        }
    }
    // A clock that stepped back left the newest records in an older file: their numbers tell the order.
    newest.sort_by_key(|line| serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("n").and_then(Value::as_u64)));
    let skip = newest.len().saturating_sub(lines);
    for line in newest.iter().skip(skip) {
        if let Ok(value) = serde_json::from_slice(line) {
            show(&mut out, line, &value, form)?;
        }
    }
    if then == Then::End {
        return Ok(Answer::Yes);
    }
    // Whichever file grows: by a clock that steps back, records go on in an older one.
    let mut known: HashMap<PathBuf, u64> = HashMap::new();
    for path in files {
        let length = path.metadata()?.len();
        known.insert(path, length);
    }
    loop {
        out.flush()?;
        thread::sleep(POLL);
        for path in chain::files(folder)? {
            let at = known.entry(path.clone()).or_default();
            let mut file = File::open(&path)?;
            if file.metadata()?.len() < *at {
                *at = 0;
            }
            file.seek(SeekFrom::Start(*at))?;
            let mut rest = Vec::new();
            file.read_to_end(&mut rest)?;
            for line in rest.split_inclusive(|byte| *byte == b'\n') {
                // The rest of a line that is being written comes with the next look.
                let Some(whole) = line.strip_suffix(b"\n") else { break };
                *at += u64::try_from(line.len())?;
                if let Ok(value) = serde_json::from_slice(whole) {
                    show(&mut out, whole, &value, form)?;
                }
            }
        }
    }
}

/// How often `tail --follow` looks.
const POLL: Duration = Duration::from_millis(250);

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn show(out: &mut impl Write, line: &[u8], value: &Value, form: Form) -> io::Result<()> {
    if form == Form::Json {
        out.write_all(line)?;
        return out.write_all(b"\n");
    }
    let reply = printable(text(value, "reply"));
    let (time, id) = (text(value, "time"), text(value, "id"));
    match text(value, "type") {
        "click" => {
            let what = match text(value, "what") {
                "open" => "opened the guard page",
                "press" => "pressed the button, and went on to the link",
                "wrong_answer" => "chose a wrong sender",
                _ => "posted something that the guard page did not give",
            };
            let after = value.get("after_s").and_then(Value::as_i64).unwrap_or_default();
            writeln!(
                out,
                "    +{after} s {} {what}, from {} ({}; {})",
                text(value, "likely"),
                printable(text(value, "address")),
                printable(text(value, "why")),
                printable(text(value, "user_agent"))
            )?;
        }
        "mail" => {
            let observed = if value.get("observed") == Some(&Value::Bool(true)) { " (observed)" } else { "" };
            let kind = value.get("recognized").map_or("-", |found| text(found, "kind"));
            let entry = if text(value, "entry").is_empty() { "-" } else { text(value, "entry") };
            let to: Vec<&str> = value.get("to").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            writeln!(
                out,
                "{time} {id} {}{observed} entry={entry} kind={kind} from={} to={}",
                text(value, "decision"),
                printable(text(value, "from")),
                printable(&to.join(","))
            )?;
            let stopped = value
                .get("reasons")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|reason| reason.get("ok") == Some(&Value::Bool(false)));
            if let Some(stopped) = stopped {
                writeln!(out, "    {}: {}", text(stopped, "check"), printable(text(stopped, "detail")))?;
            }
            for link in value.get("one_time_links").and_then(Value::as_array).into_iter().flatten() {
                writeln!(out, "    one-time link {}", printable(text(link, "link")))?;
            }
            if !reply.is_empty() {
                writeln!(out, "    next hop: {reply}")?;
            }
        }
        "outcome" => writeln!(out, "{time} {id} {} next hop: {reply}", text(value, "delivery"))?,
        "file" => writeln!(out, "{time} the file {} {}: somebody else touched it", printable(text(value, "file")), text(value, "what"))?,
        "start" => writeln!(out, "{time} firstclick {} started", text(value, "version"))?,
        _ => {}
    }
    Ok(())
}
