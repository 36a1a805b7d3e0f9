//! `audit tail`: the newest records, and those that come.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::{Form, folder, now, show::Show};
use crate::{
    audit::{
        chain,
        files::{self, AuditFile, Packing},
    },
    cli::Tail,
    commands::{Answer, Config},
    mail::Record,
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
    let newest = newest(&files, tail.lines, &mut known)?;
    for line in &newest {
        if let Some(record) = Record::read(line) {
            show.record(&mut out, line, &record)?;
        }
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

/// The interval at which `tail --follow` reads the files.
const POLL: Duration = Duration::from_millis(250);

fn list(folder: &Path) -> anyhow::Result<Vec<AuditFile>> {
    files::list(folder).with_context(|| format!("{} cannot be read", folder.display()))
}

/// The newest lines of all files, so many.
fn newest(files: &[AuditFile], lines: usize, known: &mut Known) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut newest: Vec<Vec<u8>> = Vec::new();
    for (older, file) in files.iter().rev().enumerate() {
        let cannot = || format!("{} cannot be read", file.path().display());
        let mut these = match file.packing() {
            Packing::Plain => {
                let mut text = Vec::new();
                let length = known.get(file.path()).copied().unwrap_or_default();
                File::open(file.path()).with_context(cannot)?.take(length).read_to_end(&mut text).with_context(cannot)?;
                // The rest of a line that is being written comes with the next look.
                let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                text.truncate(whole);
                known.insert(file.path().to_owned(), u64::try_from(whole)?);
                text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
            }
            Packing::Gzip | Packing::Zstd => file.lines().and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(cannot)?,
        };
        these.append(&mut newest);
        newest = these;
        if older > 0 && newest.len() >= lines {
            break;
        }
    }
    // After a clock stepped back, the newest records may be in an older file: their numbers order them.
    newest.sort_by_key(|line| chain::number(line));
    Ok(newest.split_off(newest.len().saturating_sub(lines)))
}

/// Shows what a file has had since it was read up to `at`.
fn more(path: &Path, at: &mut u64, show: &Show, out: &mut impl Write) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut file = match File::open(path) {
        // It was put away or compressed since the folder was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.with_context(cannot)?,
    };
    if file.metadata().with_context(cannot)?.len() < *at {
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
            show.record(out, whole, &record)?;
        }
    }
    Ok(())
}
