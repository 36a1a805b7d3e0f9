//! `audit tail`: the newest records, and those that come.

use std::{
    collections::HashMap,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{Form, folder, now, show::Show};
use crate::{
    audit::{
        chain,
        files::{self, AuditFile, Packing},
    },
    cli::Tail,
    commands::{Answer, Config, printable},
    limits,
    mail::{Record, counted},
    regular,
};

/// How far each file has been read.
type Known = HashMap<PathBuf, u64>;

pub(super) fn tail(config: &Config, tail: &Tail) -> anyhow::Result<Answer> {
    let folder = folder(config, tail.directory.clone())?;
    let show = Show { form: Form::of(tail.json), zone: now(tail.utc).time_zone().clone() };
    let mut out = io::stdout().lock();
    let files = list(&folder)?;
    // What comes behind is shown by following it, and nothing in between is left out.
    let mut known = Known::new();
    for file in &files {
        known.insert(file.path().to_owned(), file.path().metadata().map(|about| about.len()).unwrap_or_default());
    }
    let (newest, failed) = newest(&files, tail.lines, &mut known);
    for line in &newest {
        if let Some(record) = Record::read(line) {
            show.record(&mut out, line, &record)?;
        }
    }
    for failed in &failed {
        writeln!(io::stderr(), "{} could not be read and was left out", printable(failed))?;
    }
    if !tail.follow && !failed.is_empty() {
        bail!("not all was looked at: {} could not be read", counted(failed.len(), "file"));
    }
    if !tail.follow {
        if newest.is_empty() && tail.lines > 0 {
            writeln!(io::stderr(), "there is no record in {}", folder.display())?;
            return Ok(Answer::No);
        }
        return Ok(Answer::Yes);
    }
    // Whichever file grows: by a clock that steps back, records go on in an older one.
    loop {
        out.flush()?;
        thread::sleep(POLL);
        for file in list(&folder)?.iter().filter(|file| file.packing() == Packing::Plain) {
            more(file.path(), known.entry(file.path().to_owned()).or_default(), &show, &mut out)?;
        }
    }
}

/// Octets of a file that are read in one look; no line is longer.
const MORE: u64 = 2 * limits::AUDIT_LINE;

/// The interval at which `tail --follow` reads the files.
const POLL: Duration = Duration::from_millis(250);

fn list(folder: &Path) -> anyhow::Result<Vec<AuditFile>> {
    files::list(folder).with_context(|| format!("{} cannot be read", folder.display()))
}

/// The newest lines of all files, so many; and files that cannot be read, with why.
fn newest(files: &[AuditFile], lines: usize, known: &mut Known) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut newest, mut failed): (Vec<Vec<u8>>, Vec<String>) = (Vec::new(), Vec::new());
    for (older, file) in files.iter().rev().enumerate() {
        let read = match file.packing() {
            Packing::Plain => end_of(file.path(), lines).map(|(whole, these)| {
                known.insert(file.path().to_owned(), whole);
                these
            }),
            Packing::Gzip | Packing::Zstd => file.lines().and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        match read {
            Ok(mut these) => {
                these.append(&mut newest);
                newest = these;
            }
            Err(error) => failed.push(format!("{}: {error}", file.path().display())),
        }
        if older > 0 && newest.len() >= lines {
            break;
        }
    }
    // After a clock stepped back, the newest records may be in an older file: their numbers order them.
    newest.sort_by_key(|line| chain::number(line));
    (newest.split_off(newest.len().saturating_sub(lines)), failed)
}

/// At least so many lines from a plain file's end, as far as they are in its last [`LAST`] octets; and how far they reach.
fn end_of(path: &Path, lines: usize) -> io::Result<(u64, Vec<Vec<u8>>)> {
    let mut file = regular::open(path)?;
    let mut most = limits::AUDIT_LINE;
    loop {
        let length = file.metadata()?.len();
        let (is_all, mut end) = regular::end(&mut file, most)?;
        let begin = if is_all { 0 } else { memchr::memchr(b'\n', &end).map_or(end.len(), |at| at + 1) };
        // The rest of a line that is being written comes with the next look.
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(begin, |at| at + 1);
        let reaches = length.saturating_sub(most) + whole as u64;
        end.truncate(whole);
        let these: Vec<Vec<u8>> =
            end.split_off(begin.min(whole)).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        if is_all || these.len() >= lines || most >= LAST {
            return Ok((reaches, these));
        }
        most *= 4;
    }
}

/// Octets of a file's end that are held at most: some 200,000 lines.
const LAST: u64 = 64 * limits::AUDIT_LINE;

/// Shows what a file has had since it was read up to `at`.
fn more(path: &Path, at: &mut u64, show: &Show, out: &mut impl Write) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut file = match regular::open(path) {
        // It was put away or compressed since the folder was listed, or something else stands in its place for now.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => return Ok(()),
        file => file.with_context(cannot)?,
    };
    if file.metadata().with_context(cannot)?.len() < *at {
        *at = 0;
    }
    file.seek(SeekFrom::Start(*at))?;
    let mut rest = Vec::new();
    // The rest comes with the next look.
    file.take(MORE).read_to_end(&mut rest)?;
    if rest.len() as u64 == MORE && !rest.contains(&b'\n') {
        // So long a line is no record.
        *at += MORE;
    }
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        // The rest of a line that is being written comes with the next look.
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        *at += u64::try_from(line.len())?;
        if let Some(record) = Record::read(whole) {
            show.record(out, whole, &record)?;
        }
    }
    Ok(())
}
