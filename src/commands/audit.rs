//! `audit`: reads the records back, for people and for pipelines.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::{Answer, Config, printable};
use crate::{
    audit::{chain, watch::Tallies},
    cli::{Audit, Find},
    clock,
    mail::{
        Record,
        record::{
            ClickKind, ClickRecord, FileRecord, MailRecord, Numbers, OutcomeRecord, RefusalRecord, RefusalsRecord, RekeyRecord,
            RetiredRecord, StartRecord,
        },
    },
};

pub(super) fn audit(config: &Config, what: Audit) -> anyhow::Result<Answer> {
    match what {
        Audit::Find(find) => {
            let folder = folder(config, find.directory.clone())?;
            self::find(&folder, &find)
        }
        Audit::Verify(verify) => super::audit_verify::verify(config, &verify),
        Audit::Report { directory, since } => report(&folder(config, directory)?, since.as_deref()),
        Audit::Tail { directory, lines, follow, json } => {
            let form = if json { Form::Json } else { Form::People };
            tail(&folder(config, directory)?, lines, if follow { Then::Follow } else { Then::End }, form)
        }
    }
}

pub(super) fn folder(config: &Config, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
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

fn report(folder: &Path, since: Option<&str>) -> anyhow::Result<Answer> {
    let mut tallies = Tallies::default();
    for path in chain::files(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let Some(record) = Record::read(&line?) else { continue };
            if since.is_none_or(|since| matches!(&record, Record::Mail(mail) if is_since(mail, since))) {
                tallies.add(&record);
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
            writeln!(out, "    the newest, {time:.3}: {}", printable(why))?;
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
            match Record::read(&line) {
                // A mail whose exemption was withheld after its record was on its way to the disk has a second one, which counts.
                Some(Record::Mail(mail)) => match by_id.get(&mail.id).copied() {
                    Some(at) => {
                        if let Some(story) = stories.get_mut(at) {
                            (story.mail, story.line) = (mail, line);
                        }
                    }
                    None if matches(&mail, find) => {
                        by_id.insert(mail.id.clone(), stories.len());
                        stories.push(Story { mail, line, later: Vec::new(), superseded: None });
                    }
                    None => {}
                },
                Some(record @ (Record::Outcome(_) | Record::Click(_))) => {
                    let at = record.id().and_then(|id| by_id.get(id));
                    if let Some(story) = at.and_then(|at| stories.get_mut(*at)) {
                        story.later.push((line, record));
                    }
                }
                _ => {}
            }
        }
    }
    stories.retain(|story| matches(&story.mail, find));
    // From the newest to the oldest: when the next mail of the same entry and kind came for the same readers.
    let mut next: HashMap<(Option<String>, String, Vec<String>), Timestamp> = HashMap::new();
    for story in stories.iter_mut().rev() {
        let mail = &story.mail;
        if let Some(found) = &mail.recognized {
            let key = (mail.entry.clone(), found.kind.to_string(), mail.to.clone());
            story.superseded = next.insert(key, mail.time);
        }
    }
    for story in &stories {
        show_mail(&mut out, &story.line, &story.mail, form)?;
        for (line, record) in &story.later {
            show(&mut out, line, record, form)?;
        }
        if let (Form::People, Some(time)) = (form, &story.superseded) {
            writeln!(out, "    another mail of this kind came at {time:.3}: at most services this link is void since then")?;
        }
    }
    if form == Form::People {
        writeln!(out, "{} mails", stories.len())?;
    }
    Ok(if stories.is_empty() { Answer::No } else { Answer::Yes })
}

/// A mail with its outcome and its clicks.
struct Story {
    mail: Box<MailRecord>,
    line: Vec<u8>,
    later: Vec<(Vec<u8>, Record)>,
    /// The time at which the next mail of its kind came for the same reader.
    superseded: Option<Timestamp>,
}

fn is_since(mail: &MailRecord, since: &str) -> bool {
    clock::rfc3339(mail.time).as_str() >= since
}

fn matches(mail: &MailRecord, find: &Find) -> bool {
    let has = |wanted: &Option<String>, texts: &[&str]| {
        wanted.as_ref().is_none_or(|wanted| texts.iter().any(|text| text.to_lowercase().contains(&wanted.to_lowercase())))
    };
    let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| text == wanted);
    let recipients: Vec<&str> = mail.to.iter().map(String::as_str).collect();
    is(&find.id, &mail.id)
        && has(&find.to, &recipients)
        && has(&find.from, &[&mail.from, mail.author.as_deref().unwrap_or_default()])
        && has(&find.message_id, &[&mail.message_id])
        && is(&find.entry, mail.entry.as_deref().unwrap_or_default())
        && is(&find.decision, mail.decision.code())
        && find.since.as_ref().is_none_or(|since| is_since(mail, since))
}

fn tail(folder: &Path, lines: usize, then: Then, form: Form) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let files = chain::files(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    // How far each file has been read: what comes behind is shown by following it, and nothing in between is left out.
    let mut known: HashMap<PathBuf, u64> = HashMap::new();
    for path in &files {
        known.insert(path.clone(), path.metadata()?.len());
    }
    let mut newest: Vec<Vec<u8>> = Vec::new();
    for (older, path) in files.iter().rev().enumerate() {
        let mut text = Vec::new();
        File::open(path)?.take(known.get(path).copied().unwrap_or_default()).read_to_end(&mut text)?;
        // The rest of a line that is being written comes with the next look.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        known.insert(path.clone(), u64::try_from(whole)?);
        let mut these: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        these.append(&mut newest);
        newest = these;
        if older > 0 && newest.len() >= lines {
            break;
        }
    }
    // After a clock stepped back, the newest records are in an older file: their numbers order them.
    newest.sort_by_key(|line| chain::number(line));
    let skip = newest.len().saturating_sub(lines);
    for line in newest.iter().skip(skip) {
        if let Some(record) = Record::read(line) {
            show(&mut out, line, &record, form)?;
        }
    }
    if then == Then::End {
        return Ok(Answer::Yes);
    }
    // Whichever file grows: by a clock that steps back, records go on in an older one.
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
                if let Some(record) = Record::read(whole) {
                    show(&mut out, whole, &record, form)?;
                }
            }
        }
    }
}

/// The interval at which `tail --follow` reads the files.
const POLL: Duration = Duration::from_millis(250);

fn show(out: &mut impl Write, line: &[u8], record: &Record, form: Form) -> io::Result<()> {
    if form == Form::Json {
        out.write_all(line)?;
        return out.write_all(b"\n");
    }
    match record {
        Record::Mail(mail) => show_mail(out, line, mail, form),
        Record::Outcome(OutcomeRecord { time, id, outcome, .. }) => {
            writeln!(out, "{time:.3} {id} {} next hop: {}", outcome.delivery, printable(&outcome.reply))
        }
        Record::Refusal(refusal) => {
            let RefusalRecord { time, id, delivery, from, size, reply, .. } = refusal;
            writeln!(out, "{time:.3} {id} {delivery} by the hop itself: {} from={} size={size}", printable(reply), printable(from))
        }
        Record::Refusals(RefusalsRecord { time, code, network, count, .. }) => {
            writeln!(out, "{time:.3} {count} refusals within a minute: {code} to {network}")
        }
        Record::Click(click) => {
            let what = match click.what.known() {
                Some(ClickKind::Open) => "opened the guard page of",
                Some(ClickKind::Press) => "pressed the button, and went on to",
                Some(ClickKind::WrongAnswer) => "chose a wrong sender on the page of",
                Some(ClickKind::Refused) => "posted something that the guard page did not give, for",
                None => click.what.code(),
            };
            let ClickRecord { after_s, likely, address, why, user_agent, .. } = click;
            let link = click.link.as_ref().map_or_else(|| "the link".to_owned(), |link| printable(&link.link));
            writeln!(out, "    +{after_s} s {likely} {what} {link}, from {address} ({}; {})", printable(why), printable(user_agent))
        }
        Record::File(FileRecord { time, file, what, missing, .. }) => {
            let missing = missing.map(|Numbers { first, last }| format!("; records {first} to {last} are missing")).unwrap_or_default();
            writeln!(out, "{time:.3} the file {} {what}: somebody else touched it{missing}", printable(file))
        }
        Record::Rekey(RekeyRecord { time, old, new, .. }) => writeln!(out, "{time:.3} the audit's key changed from {old} to {new}"),
        Record::Retired(RetiredRecord { time, file, first, last, .. }) => {
            writeln!(out, "{time:.3} the file {} was retired: records {first} to {last}", printable(file))
        }
        Record::Start(StartRecord { time, version, .. }) => writeln!(out, "{time:.3} firstclick {} started", printable(version)),
        Record::Later => Ok(()),
    }
}

fn show_mail(out: &mut impl Write, line: &[u8], mail: &MailRecord, form: Form) -> io::Result<()> {
    if form == Form::Json {
        out.write_all(line)?;
        return out.write_all(b"\n");
    }
    let observed = if mail.observed { " (observed)" } else { "" };
    let kind = mail.recognized.as_ref().map_or("-", |found| found.kind.code());
    let entry = mail.entry.as_deref().unwrap_or("-");
    let MailRecord { time, id, decision, from, to, .. } = mail;
    let to = to.join(",");
    writeln!(out, "{time:.3} {id} {decision}{observed} entry={entry} kind={kind} from={} to={}", printable(from), printable(&to))?;
    if let Some(stopped) = mail.stopped_by() {
        writeln!(out, "    {}: {}", stopped.check, printable(&stopped.detail))?;
    }
    for link in &mail.one_time_links {
        writeln!(out, "    one-time link {}", printable(&link.link))?;
    }
    match &mail.outcome {
        Some(outcome) if !outcome.reply.is_empty() => writeln!(out, "    next hop: {}", printable(&outcome.reply)),
        _ => Ok(()),
    }
}
