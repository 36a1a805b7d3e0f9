//! Verifies a chain of records: every line is linked to the one before it and, with keys, written by one of them.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use aws_lc_rs::constant_time;

use super::chain::{GENESIS, Linked, derived, files, hash, hexadecimal, keyed};
use crate::edit::tag::Key;

/// A place where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct Break {
    /// The name of the file, without its folder.
    pub file: String,
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong, in words.
    pub what: String,
}

/// The result of verifying an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that belong to the chain.
    pub lines: usize,
    /// Of those, how many carry a keyed hash.
    pub keyed: usize,
    /// Files that were read.
    pub files: usize,
    /// Lines that a crash cut short and the next start closed.
    pub torn: usize,
    /// How often another program touched a file, by `file` records.
    pub touched: usize,
    /// Whether the first line of the audit is there; older files may have been put away.
    pub from_the_start: bool,
    /// The first place where the chain is broken.
    pub broken: Option<Break>,
}

/// Verifies the chain from the oldest record on, without a key: `mac` is not checked.
///
/// # Errors
/// A file cannot be read.
pub fn verify(folder: &Path) -> io::Result<Report> {
    verify_by(folder, &[])
}

/// Verifies the chain with keys, of which any may have written a line. Records from before there was a key are held by the first
/// one that is keyed; none without may follow it, and where there are keys and no such record the chain is broken.
///
/// # Errors
/// A file cannot be read.
pub fn verify_by(folder: &Path, keys: &[Key]) -> io::Result<Report> {
    let mut check = Check { keys: keys.iter().map(derived).collect(), ..Check::default() };
    for path in files(folder)? {
        check.report.files += 1;
        check.file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (at, line) in BufReader::new(File::open(&path)?).split(b'\n').enumerate() {
            if let Err(broken) = check.line(at + 1, &line?) {
                check.report.broken = Some(broken);
                return Ok(check.report);
            }
        }
    }
    check.report.broken = check.joints().err();
    Ok(check.report)
}

/// Records of one file that follow one another, keyed all or none.
#[derive(Debug)]
struct Run {
    file: String,
    /// The number of its first line.
    line: usize,
    keyed: bool,
    /// Whether the first one reports that another program touched a file.
    touched: bool,
    first: u64,
    prev: String,
    last: u64,
    hash: String,
}

impl Run {
    fn broken(&self, what: impl Into<String>) -> Break {
        Break { file: self.file.clone(), line: self.line, what: what.into() }
    }
}

/// A verification in progress.
#[derive(Default)]
struct Check {
    keys: Vec<Key>,
    report: Report,
    /// The file that is being read.
    file: String,
    /// The hash of the newest record without a number. Versions before the number wrote those, and files in order.
    unnumbered: Option<String>,
    runs: Vec<Run>,
    /// Lines that are no records, and the hash of the newest one.
    cut: Vec<Break>,
    cut_hash: String,
    /// Records that report such a line.
    closed: usize,
}

impl Check {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), Break> {
        let broken = |file: &str, what: &str| Break { file: file.to_owned(), line: number, what: what.to_owned() };
        let Some(found) = Linked::read(line) else {
            self.cut.push(broken(&self.file, "the line is no record; it was cut short or changed"));
            self.cut_hash = hash(line);
            return Ok(());
        };
        let mac = keyed(line);
        if let Some((plain, mac)) = mac.as_ref().filter(|_| !self.keys.is_empty()) {
            let fits = |key: &Key| constant_time::verify_slices_are_equal(hexadecimal(&key.digest(plain)).as_bytes(), mac).is_ok();
            if !self.keys.iter().any(fits) {
                return Err(broken(&self.file, "the line was changed, or written with another key: its keyed hash does not fit"));
            }
        }
        self.closed += usize::from(found.closes());
        self.report.touched += usize::from(found.touched());
        self.report.lines += 1;
        self.report.keyed += usize::from(mac.is_some());
        let hash = hash(line);
        let Some(n) = found.link.n else {
            if !self.runs.is_empty() {
                return Err(broken(&self.file, "the line has no number, and lines before it have one"));
            }
            match &self.unnumbered {
                None => self.report.from_the_start = found.link.prev == GENESIS,
                Some(last) if *last == found.link.prev || found.closes() && self.cut_hash == found.link.prev => {}
                Some(_) => return Err(broken(&self.file, OTHER_BEFORE)),
            }
            self.unnumbered = Some(hash);
            return Ok(());
        };
        match self.runs.last_mut() {
            Some(run)
                if run.file == self.file
                    && run.keyed == mac.is_some()
                    && run.last.checked_add(1) == Some(n)
                    && run.hash == found.link.prev =>
            {
                (run.last, run.hash) = (n, hash);
            }
            _ => self.runs.push(Run {
                file: self.file.clone(),
                line: number,
                keyed: mac.is_some(),
                touched: found.touched(),
                first: n,
                prev: found.link.prev,
                last: n,
                hash,
            }),
        }
        Ok(())
    }

    /// Whether the runs, in the order of their numbers, make one chain.
    fn joints(&mut self) -> Result<(), Break> {
        if let Some(cut) = self.cut.get(self.closed) {
            return Err(cut.clone());
        }
        self.report.torn = self.cut.len();
        if !self.keys.is_empty() && self.report.lines > 0 && self.runs.last().is_none() {
            return Err(Break { file: self.file.clone(), line: 1, what: NONE_KEYED.to_owned() });
        }
        self.runs.sort_by_key(|run| run.first);
        let Some(first) = self.runs.first() else { return Ok(()) };
        match &self.unnumbered {
            None => self.report.from_the_start = first.first == 1 && first.prev == GENESIS,
            Some(last) if first.first == 1 && first.prev == *last => {}
            Some(_) => return Err(first.broken(OTHER_BEFORE)),
        }
        if first.touched && first.first > 1 {
            return Err(first.broken("the records before this one were in a file that somebody else took away or emptied"));
        }
        for (before, run) in self.runs.iter().zip(self.runs.iter().skip(1)) {
            let next = before.last.saturating_add(1);
            if run.first < next {
                return Err(run.broken(format!("record {} is there twice", run.first)));
            }
            if run.first > next {
                let last = run.first.saturating_sub(1);
                return Err(run.broken(if next == last {
                    format!("record {next}, which comes before this one, is missing")
                } else {
                    format!("records {next} to {last}, which come before this one, are missing")
                }));
            }
            if run.prev != before.hash {
                return Err(run.broken(OTHER_BEFORE));
            }
            if before.keyed && !run.keyed {
                return Err(run.broken("the line has no keyed hash, and lines before it have one"));
            }
        }
        let Some(last) = self.runs.last().filter(|last| !self.keys.is_empty() && !last.keyed) else { return Ok(()) };
        Err(last.broken(NONE_KEYED))
    }
}

const NONE_KEYED: &str =
    "there is a key, and no line has a keyed hash: the chain was computed without the key, or nothing was written since there is one";
const OTHER_BEFORE: &str = "the line before this one was changed, removed or put in";
