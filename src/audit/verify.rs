//! Verifies a chain of records: every line is linked to the one before it and, with keys, written by one of them.

use std::{collections::HashMap, fmt, io, path::Path};

use super::{
    chain::{Checkpoint, GENESIS, Linked, derived, fits, hash, keyed, keyed_before},
    files::{self, Packing},
};
use crate::{
    edit::tag::Key,
    mail::{Record, record::RetiredRecord},
};

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
    /// How often a `file` record leaves numbers out, as the hop was killed and records were missing: what stood behind the head file's
    /// record then, and is not here, cannot be told.
    pub gaps: usize,
    /// Whether the first line of the audit is there; older files may have been put away.
    pub from_the_start: bool,
    /// The number of the newest record that was retired, where the oldest record that is here follows it.
    pub retired: Option<u64>,
    /// Whether the last line has no end: it is being written, or a crash cut it short.
    pub unfinished: bool,
    /// The newest record.
    pub newest: Option<Checkpoint>,
    /// What became of each checkpoint that was asked for.
    pub points: Vec<(Checkpoint, Found)>,
    /// Files that could not be read, and why: what stands in them was not verified.
    pub unreadable: Vec<String>,
    /// The first place where the chain is broken.
    pub broken: Option<Break>,
}

/// What the chain has in the place of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same record: the chain is whole up to it.
    Stands,
    /// Another record, so that this is another chain.
    Differs,
    /// No record: the chain ends before it, or it was taken away.
    Missing,
    /// It was in a file that was retired since, as a record says.
    Retired,
}

impl Found {
    /// The word for it, as `audit verify --json` has it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Stands => "stands",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Verifies the chain from the oldest record on, without a key: `mac` is not checked.
///
/// # Errors
/// A file cannot be read.
pub fn verify(folder: &Path) -> io::Result<Report> {
    verify_by(folder, &[])
}

/// Verifies the chain with keys, of which any may have written a line; where the key changes there must be a `rekey` record.
/// Records from before there was a key are held by the first one that is keyed; none without may follow it, and where there are
/// keys and no such record the chain is broken.
///
/// # Errors
/// A file cannot be read.
pub fn verify_by(folder: &Path, keys: &[Key]) -> io::Result<Report> {
    verify_up_to(folder, keys, &[])
}

/// Verifies the chain as [`verify_by`] does, and whether it holds these checkpoints.
///
/// # Errors
/// A file cannot be read.
pub fn verify_up_to(folder: &Path, keys: &[Key], points: &[Checkpoint]) -> io::Result<Report> {
    let asked: Vec<u64> = points.iter().map(|point| point.n).collect();
    let mut check = read(folder, keys, &asked)?;
    // Which record a gap is linked to is known only once it was read, and that one may stand anywhere before it.
    let gaps: Vec<u64> = check.runs.iter().filter(|run| run.linked_to.saturating_add(1) != run.first).map(|run| run.linked_to).collect();
    if !gaps.is_empty() && check.report.broken.is_none() {
        check = read(folder, keys, &[asked, gaps.clone()].concat())?;
    }
    if check.report.broken.is_none() {
        check.report.gaps = gaps.len();
        check.report.broken = check.joints().err();
        check.report.points = points.iter().map(|point| (point.clone(), check.found(point))).collect();
    }
    Ok(check.report)
}

/// Reads all files, and keeps the hashes of these records. Ends at the first line that is wrong by itself.
fn read(folder: &Path, keys: &[Key], wanted: &[u64]) -> io::Result<Check> {
    let mut check = Check { keys: keys.iter().map(derived).collect(), ..Check::default() };
    check.wanted = wanted.iter().map(|n| (*n, None)).collect();
    let files = files::list(folder)?;
    let newest = files.last();
    for file in &files {
        check.report.files += 1;
        file.name().clone_into(&mut check.file);
        let (mut lines, mut at) = match file.lines() {
            Ok(lines) => (lines, 0),
            Err(error) => {
                check.report.unreadable.push(format!("{file}: {error}"));
                continue;
            }
        };
        while let Some(line) = lines.next() {
            at += 1;
            let checked = match line {
                Ok(line) if Some(file) == newest && !lines.ended() && Linked::read(&line).is_none() => {
                    check.report.unfinished = true;
                    continue;
                }
                Ok(line) => check.line(at, &line),
                Err(error) if file.packing() == Packing::Plain => return Err(error),
                Err(error) => Err(Break { file: check.file.clone(), line: at, what: format!("the compressed file is damaged: {error}") }),
            };
            if let Err(broken) = checked {
                check.report.broken = Some(broken);
                return Ok(check);
            }
        }
    }
    Ok(check)
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Somebody without a key.
    Nobody,
    /// Somebody with a key, of whom nobody knows which: there are no keys to verify with.
    Unknown,
    /// The key in this place of the list.
    Key(usize),
}

/// Records of one file that follow one another, written by one key or none.
#[derive(Debug)]
struct Run {
    file: String,
    /// The number of its first line.
    line: usize,
    by: By,
    /// For a `rekey` record as the first one: the key before it.
    rekeyed: Option<usize>,
    /// Whether the first one reports that another program touched a file.
    touched: bool,
    first: u64,
    /// The number of the record that the first one is linked to: the one before it, unless it leaves numbers out.
    linked_to: u64,
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
    /// The hashes of the records that checkpoints ask for.
    wanted: HashMap<u64, Option<String>>,
    /// What was retired.
    retired: Vec<RetiredRecord>,
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
        let by = match &mac {
            None => By::Nobody,
            Some(_) if self.keys.is_empty() => By::Unknown,
            Some((plain, mac)) => match self.key_of(plain, mac) {
                Some(key) => By::Key(key),
                None => return Err(broken(&self.file, "the line was changed, or written with another key: its keyed hash does not fit")),
            },
        };
        let mut rekeyed = None;
        if let (Record::Rekey(_), Some((plain, _)), By::Key(_)) = (found.record(), &mac, by) {
            rekeyed = keyed_before(plain).and_then(|(plain, mac)| self.key_of(&plain, mac));
            if rekeyed.is_none() {
                return Err(broken(&self.file, "the key changes here, and the keyed hash by the key before fits none of the keys"));
            }
        }
        if let Record::Retired(retired) = found.record() {
            self.retired.push(retired.clone());
        }
        self.closed += usize::from(found.closes());
        self.report.touched += usize::from(found.touched());
        self.report.lines += 1;
        self.report.keyed += usize::from(mac.is_some());
        let (hash, linked_to) = (hash(line), found.linked_to().unwrap_or_default());
        if let Some(wanted) = found.link.n.and_then(|n| self.wanted.get_mut(&n)) {
            *wanted = Some(hash.clone());
        }
        // The first line ever, wherever the chain breaks behind it.
        self.report.from_the_start |= found.link.n == Some(1) && found.link.prev == GENESIS;
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
                    && run.by == by
                    && rekeyed.is_none()
                    && run.last.checked_add(1) == Some(n)
                    && run.hash == found.link.prev =>
            {
                (run.last, run.hash) = (n, hash);
            }
            _ => self.runs.push(Run {
                file: self.file.clone(),
                line: number,
                by,
                rekeyed,
                touched: found.touched(),
                first: n,
                linked_to,
                prev: found.link.prev,
                last: n,
                hash,
            }),
        }
        Ok(())
    }

    /// The key that made this keyed hash. It is the same as before, mostly.
    fn key_of(&self, plain: &[u8], mac: &[u8]) -> Option<usize> {
        let before = match self.runs.last().map(|run| run.by) {
            Some(By::Key(key)) => key,
            _ => 0,
        };
        let known = |key: &usize| self.keys.get(*key).is_some_and(|key| fits(key, plain, mac));
        Some(before).filter(known).or_else(|| (0..self.keys.len()).find(known))
    }

    /// What the chain has in the place of a checkpoint.
    fn found(&self, point: &Checkpoint) -> Found {
        let is_last_of = |retired: &&RetiredRecord| retired.last == point.n;
        match self.wanted.get(&point.n).and_then(Option::as_ref) {
            Some(hash) if *hash == point.hash => Found::Stands,
            Some(_) => Found::Differs,
            None => match self.retired.iter().find(is_last_of) {
                Some(retired) if retired.hash == point.hash => Found::Stands,
                Some(_) => Found::Differs,
                None if self.report.retired.is_some_and(|last| point.n <= last) => Found::Retired,
                None => Found::Missing,
            },
        }
    }

    /// Whether the oldest record that is here follows the newest that was retired, where any was.
    fn follows_the_retired(&self) -> Result<Option<u64>, Break> {
        let Some(first) = self.runs.first() else { return Ok(None) };
        let Some(newest) = self.retired.iter().map(|retired| retired.last).max() else { return Ok(None) };
        let holds = |retired: &&RetiredRecord| retired.first <= first.linked_to && (first.linked_to..first.first).contains(&retired.last);
        match self.retired.iter().find(holds) {
            // Behind the record to which a gap is linked there were others.
            Some(before) if before.hash == first.prev || first.linked_to < before.last => Ok(Some(before.last)),
            Some(_) => Err(first.broken(OTHER_BEFORE)),
            None if first.first > newest => {
                let missing = missing(newest.saturating_add(1), first.linked_to);
                Err(first.broken(format!(
                    "{missing}: those up to {newest} were retired, as a record says, and these were taken away by \
                     somebody else, or the record of their retirement was"
                )))
            }
            // It was not removed after all, or was put back.
            None => Ok(None),
        }
    }

    /// Whether the runs, in the order of their numbers, make one chain.
    fn joints(&mut self) -> Result<(), Break> {
        self.runs.sort_by_key(|run| run.first);
        self.report.newest = self.runs.last().map(|run| Checkpoint { n: run.last, hash: run.hash.clone() });
        if let Some(cut) = self.cut.get(self.closed) {
            return Err(cut.clone());
        }
        self.report.torn = self.cut.len();
        if !self.keys.is_empty() && self.report.lines > 0 && self.runs.last().is_none() {
            return Err(Break { file: self.file.clone(), line: 1, what: NONE_KEYED.to_owned() });
        }
        self.report.retired = self.follows_the_retired()?;
        let Some(first) = self.runs.first() else { return Ok(()) };
        match &self.unnumbered {
            None => {}
            Some(last) if first.first == 1 && first.prev == *last => {}
            Some(_) => return Err(first.broken(OTHER_BEFORE)),
        }
        if first.touched && first.first > 1 {
            let missing = missing(1, first.linked_to);
            return Err(first.broken(format!("{missing}: somebody else took their file away, or emptied it")));
        }
        for (before, run) in self.runs.iter().zip(self.runs.iter().skip(1)) {
            let next = before.last.saturating_add(1);
            if run.first < next {
                return Err(run.broken(format!("record {} is there twice", run.first)));
            }
            if run.linked_to >= next {
                return Err(run.broken(missing(next, run.linked_to)));
            }
            let Some(linked) = self.linked(before, run)? else { continue };
            let rekeyed = run.rekeyed.map(By::Key);
            match (linked.by, run.by) {
                (By::Nobody, _) if rekeyed.is_none() => {}
                (By::Key(_) | By::Unknown, By::Nobody) => {
                    return Err(run.broken("the line has no keyed hash, and lines before it have one"));
                }
                (before, by) if rekeyed.unwrap_or(by) != before => {
                    return Err(run.broken("the key changes here, and there is no `rekey` record by the key before and this one"));
                }
                _ => {}
            }
        }
        let Some(last) = self.runs.last().filter(|last| !self.keys.is_empty() && last.by == By::Nobody) else { return Ok(()) };
        Err(last.broken(NONE_KEYED))
    }

    /// The run with the record that this run is linked to: the one before it. Where numbers are left out others may stand between, and
    /// it may be older than all that is here.
    fn linked<'c>(&'c self, before: &'c Run, run: &Run) -> Result<Option<&'c Run>, Break> {
        let other_before = || run.broken(OTHER_BEFORE);
        if run.linked_to == before.last {
            return if run.prev == before.hash { Ok(Some(before)) } else { Err(other_before()) };
        }
        let Some(linked) = self.runs.iter().find(|other| (other.first..=other.last).contains(&run.linked_to)) else {
            let is_older = self.runs.first().is_some_and(|oldest| run.linked_to < oldest.first);
            return if is_older { Ok(None) } else { Err(run.broken(missing(run.linked_to, run.linked_to))) };
        };
        let hash = self.wanted.get(&run.linked_to).and_then(Option::as_ref);
        if hash == Some(&run.prev) { Ok(Some(linked)) } else { Err(other_before()) }
    }
}

/// Which records are missing before one that is there.
fn missing(first: u64, last: u64) -> String {
    if first == last {
        format!("record {first}, which comes before this one, is missing")
    } else {
        format!("records {first} to {last}, which come before this one, are missing")
    }
}

const NONE_KEYED: &str =
    "there is a key, and no line has a keyed hash: the chain was computed without the key, or nothing was written since there is one";
const OTHER_BEFORE: &str = "the line before this one was changed, removed or put in";

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::audit::chain::Tip;

    fn key(letter: u8) -> Key {
        Key::parse(&BASE64.encode([letter; 32])).unwrap()
    }

    /// Lines of one chain whose key changes halfway, and its checkpoint.
    fn chain(count: usize, second: i64) -> (Vec<String>, Checkpoint) {
        let (old, new) = (key(1), key(2));
        let mut tip = Tip { n: 0, hash: GENESIS.to_owned() };
        let time = |at: usize| Timestamp::from_second(second + i64::try_from(at).unwrap()).unwrap();
        let line = |at: usize| match at.cmp(&(count / 2)) {
            std::cmp::Ordering::Less => tip.next(&Record::start(time(at), false), Some(&old)),
            std::cmp::Ordering::Equal => tip.next_key(time(at), &old, &new),
            std::cmp::Ordering::Greater => tip.next(&Record::start(time(at), false), Some(&new)),
        };
        let lines = (0..count).map(line).collect();
        (lines, tip)
    }

    /// What somebody does to the lines who has the files and no key.
    #[derive(Clone, Debug)]
    enum Harm {
        Cut(usize),
        Swap(usize, usize),
        Change(usize, usize, u8),
        Remove(usize, usize),
        Insert(usize, usize),
        /// Lines of another chain by the same keys, from here on.
        Replay(usize),
        /// A line's end in a line's midst.
        Split(usize, usize),
    }

    impl Harm {
        fn to(&self, lines: &mut Vec<String>, others: &[String]) {
            let count = lines.len();
            match *self {
                Self::Cut(left) => lines.truncate(left % count),
                Self::Swap(one, two) => lines.swap(one % count, two % count),
                Self::Change(line, at, to) => {
                    let mut octets = lines[line % count].clone().into_bytes();
                    let at = at % (octets.len() - 1);
                    octets[at] = to;
                    lines[line % count] = String::from_utf8(octets).unwrap();
                }
                Self::Remove(from, many) => drop(lines.drain(from % count..(from % count + 1 + many % 5).min(count))),
                Self::Insert(at, which) => lines.insert(at % (count + 1), lines[which % count].clone()),
                Self::Replay(from) => {
                    // Lines that were inserted make it longer than the other one.
                    let rest = others.get(from % count..).unwrap_or_default().to_vec();
                    lines.splice(from % count.., rest);
                }
                Self::Split(line, at) => {
                    let at = 1 + at % (lines[line % count].len() - 2);
                    lines[line % count].insert(at, '\n');
                }
            }
        }
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let at = || any::<usize>();
        prop_oneof![
            at().prop_map(Harm::Cut),
            (at(), at()).prop_map(|(one, two)| Harm::Swap(one, two)),
            (at(), at(), 0x20_u8..0x7f).prop_map(|(line, at, to)| Harm::Change(line, at, to)),
            (at(), at()).prop_map(|(from, many)| Harm::Remove(from, many)),
            (at(), at()).prop_map(|(at, which)| Harm::Insert(at, which)),
            at().prop_map(Harm::Replay),
            (at(), at()).prop_map(|(line, at)| Harm::Split(line, at)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_done_to_the_lines_shows_by_a_checkpoint_of_the_end(
            count in 4_usize..20,
            harms in prop::collection::vec(harm(), 1..4),
            files in 1_usize..4,
        ) {
            let (genuine, end) = chain(count, 1_800_000_000);
            let (others, _) = chain(count, 1_900_000_000);
            let mut lines = genuine.clone();
            for harm in harms {
                if !lines.is_empty() {
                    harm.to(&mut lines, &others);
                }
            }
            let folder = TempDir::new().unwrap();
            for (day, piece) in lines.chunks(lines.len().div_ceil(files).max(1)).enumerate() {
                fs::write(folder.path().join(format!("audit-2026112{day}.jsonl")), piece.concat()).unwrap();
            }
            let report = verify_up_to(folder.path(), &[key(2), key(1)], &[end]).unwrap();
            let holds = report.broken.is_none() && report.points.iter().all(|(_, found)| *found == Found::Stands);
            // Whole files taken away from the oldest on, up to the checkpoint, are said and are no break.
            // So is their order in the files: the numbers are the order.
            lines.sort_by_key(|line| genuine.iter().position(|genuine| genuine == line));
            let is_end = !lines.is_empty() && genuine.ends_with(&lines);
            prop_assert_eq!(holds, is_end, "{:?}", report);
            if holds {
                prop_assert_eq!(report.from_the_start, lines.len() == count);
            }
        }
    }
}
