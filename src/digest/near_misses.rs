//! Near misses in the audit: mails that an entry's sender proved and that were not exempted, by little.
//!
//! Only records behind the one that was told last are counted, by their numbers: a clock that steps changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use jiff::Timestamp;
use memchr::memmem;

use crate::{
    audit::{
        chain,
        files::{self, Packing},
    },
    limits,
    mail::{Record, VerdictKind, record::MailRecord},
};

/// Near misses of one entry by one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many.
    pub count: u64,
    /// When the newest was decided.
    pub newest: Timestamp,
    /// What the newest says, with what would help.
    pub detail: String,
}

/// Near misses of the entries of one reader of digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NearMisses {
    /// By entry, and by the check that failed.
    pub entries: BTreeMap<String, BTreeMap<String, Missed>>,
}

impl NearMisses {
    fn add(&mut self, mail: &MailRecord) {
        let (Some(entry), Some(failed)) = (&mail.entry, mail.stopped_by()) else { return };
        let checks = self.entries.entry(entry.clone()).or_default();
        let missed =
            checks.entry(failed.check.to_string()).or_insert_with(|| Missed { count: 0, newest: mail.time, detail: String::new() });
        missed.count += 1;
        missed.newest = mail.time;
        missed.detail.clone_from(&failed.detail);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.entries.values().flat_map(BTreeMap::values).map(|missed| missed.count).sum()
    }
}

/// Who asks: the entries that are his, and from where on.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The names of the entries.
    pub entries: Vec<String>,
    /// The number of the newest record that he was told of; 0 where there was none.
    pub told: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// For each who asked.
    pub of: Vec<NearMisses>,
    /// The number of the newest record.
    pub through: u64,
}

/// Reads an audit, back to `since`.
///
/// # Errors
/// The folder, or a file in it, cannot be read.
pub fn read(folder: &Path, asked: &[Asked], since: Timestamp) -> io::Result<Found> {
    let mut found = Found { of: vec![NearMisses::default(); asked.len()], through: 0 };
    let mut by_entry: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, one) in asked.iter().enumerate() {
        for entry in &one.entries {
            by_entry.entry(entry).or_default().push(at);
        }
    }
    let newest = newest(folder)?;
    for line in lines(folder, since)? {
        let line = line?;
        if memmem::find(&line, NEAR_MISS.as_bytes()).is_none() {
            continue;
        }
        let (Some(number), Some(Record::Mail(mail))) = (chain::number(&line), Record::read(&line)) else { continue };
        // A file may be read that holds older ones.
        if mail.decision.known() != Some(VerdictKind::NearMiss) || mail.time < since {
            continue;
        }
        for at in mail.entry.as_deref().and_then(|entry| by_entry.get(entry)).into_iter().flatten() {
            let told = asked.get(*at).map_or(0, |one| one.told);
            // An audit that was begun anew counts from 1 again; what came while this reads is told the next time.
            if number <= newest
                && (number > told || told > newest)
                && let Some(misses) = found.of.get_mut(*at)
            {
                misses.add(&mail);
            }
        }
    }
    found.through = newest;
    Ok(found)
}

/// As the key stands in a line.
const NEAR_MISS: &str = "\"decision\":\"near_miss\"";

/// The lines of the files that can hold records of that time or later.
fn lines(folder: &Path, since: Timestamp) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let files = files::list(folder)?.into_iter().filter(move |file| file.may_hold(Some(since), None));
    Ok(files.flat_map(|file| match file.lines() {
        Ok(lines) => Box::new(lines) as Box<dyn Iterator<Item = io::Result<Vec<u8>>>>,
        Err(error) => Box::new(std::iter::once(Err(error))),
    }))
}

/// The number of the newest record; 0 where there is none.
fn newest(folder: &Path) -> io::Result<u64> {
    let mut newest = 0;
    // The live file is a plain one; where it has no record yet, the one before may be packed.
    for file in files::list(folder)?.into_iter().rev().take(2) {
        if file.packing() != Packing::Plain {
            newest = file.lines()?.map_while(Result::ok).filter_map(|line| chain::number(&line)).last().unwrap_or(0).max(newest);
            continue;
        }
        let mut file = File::open(file.path())?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(limits::DIGEST_TAIL)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let number = tail.rsplit(|byte| *byte == b'\n').find_map(chain::number);
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn line(number: u64, entry: &str, decision: &str, detail: &str) -> String {
        format!(
            r#"{{"type":"mail","v":1,"time":"2026-11-25T00:00:0{}Z","id":"{number}","from":"<>","to":[],"size":1,"decision":"{decision}","observed":false,"entry":"{entry}","reasons":[{{"check":"author","ok":true,"detail":"x"}},{{"check":"other_links","ok":false,"detail":"{detail}"}}],"prev":"","n":{number}}}"#,
            number % 10
        ) + "\n"
    }

    #[test]
    fn each_hears_of_his_own_from_where_he_stopped() {
        let folder = TempDir::new().unwrap();
        let all = [
            line(1, "one", "near_miss", "first"),
            line(2, "two", "near_miss", "second"),
            line(3, "one", "act", "none"),
            line(4, "one", "near_miss", "fourth"),
            "no record\n".to_owned(),
        ];
        fs::write(folder.path().join("audit-20261125.jsonl"), all.concat()).unwrap();
        let asks = |entries: &[&str], told| Asked { entries: entries.iter().map(ToString::to_string).collect(), told };
        let since: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let found = read(folder.path(), &[asks(&["one"], 0), asks(&["one", "two"], 1), asks(&["one"], 4)], since).unwrap();
        let counts: Vec<u64> = found.of.iter().map(NearMisses::count).collect();
        assert_eq!((found.through, counts), (4, vec![2, 2, 0]));
        let newest = &found.of[0].entries["one"]["other_links"];
        assert_eq!((newest.count, newest.detail.as_str()), (2, "fourth"));
        // Begun anew: its numbers are below what was told.
        assert_eq!(read(folder.path(), &[asks(&["one"], 900)], since).unwrap().of[0].count(), 2);
        // Too old.
        let later: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        assert_eq!(read(folder.path(), &[asks(&["one"], 0)], later).unwrap().of[0].count(), 0);
        assert!(read(&folder.path().join("none"), &[], since).is_err());
    }
}
