//! The chain of records: how a line is linked to the one before it, and where the chain ends.
//!
//! A line is `{<record>,"prev":"<hash>","n":<number>,"mac":"<hash>"}`. `prev` is the SHA-256 of the record before, as it
//! stands in its file, without its line end. `n` counts records from 1 and alone says which comes after which: a file's name
//! is the day by the clock, and clocks step back. `mac`, where there is a key, is HMAC-SHA-256 over the line as it would
//! be without it, by which whoever has the files and not the key can change nothing unseen.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use serde::Deserialize;

use crate::{edit::tag::Key, mail::Record};

/// The value of `prev` in the first line of an audit.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The SHA-256 of a line without its line end, in hexadecimal.
#[must_use]
pub fn hash(line: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, line).as_ref())
}

pub(super) fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key derived for this purpose alone, so that one file of keys may serve two.
pub(super) fn derived(key: &Key) -> Key {
    key.derive("audit-chain")
}

/// The audit files of a folder, by the days in their names. The order of records is that of their numbers alone.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("audit-")
                .and_then(|rest| rest.strip_suffix(".jsonl"))
                .is_some_and(|day| day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// The end of the chain, to which the next record is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// The newest record's number; 0 where there is none, or none has a number.
    n: u64,
    /// The newest record's hash, in hexadecimal.
    hash: String,
}

impl Tip {
    /// Finds the newest record of a folder by its number. A line that a crash cut short gets a line end, so that the next record
    /// has a line of its own; returns whether there was one.
    pub(super) fn find(folder: &Path) -> io::Result<(Self, bool)> {
        let (mut tip, mut torn) = (Self { n: 0, hash: GENESIS.to_owned() }, false);
        let files = files(folder)?;
        for path in &files {
            let end = match FileEnd::read(path) {
                // Older files may have been given to another user.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && Some(path) != files.last() => continue,
                end => end?,
            };
            torn |= end.torn;
            if let Some((n, hash)) = end.newest
                && n >= tip.n
            {
                tip = Self { n, hash };
            }
        }
        Ok((tip, torn))
    }

    /// The line of the next record, with its line end, linked to the chain; the chain then ends with it.
    pub(super) fn link(&mut self, record: &Record, key: Option<&Key>) -> String {
        let n = self.n.saturating_add(1);
        let mut line = record.json();
        line.pop();
        line.push_str(&format!(",\"prev\":\"{}\",\"n\":{n}}}", self.hash));
        if let Some(key) = key {
            let mac = hexadecimal(&derived(key).digest(line.as_bytes()));
            line.pop();
            line.push_str(&format!("{MAC}{mac}\"}}"));
        }
        *self = Self { n, hash: hash(line.as_bytes()) };
        line.push('\n');
        line
    }
}

/// The text between a line and its keyed hash.
const MAC: &str = ",\"mac\":\"";
/// Hexadecimal digits of that hash.
const MAC_DIGITS: usize = 64;

/// The end of a file.
struct FileEnd {
    /// Number (0 where it has none) and hash of its last record.
    newest: Option<(u64, String)>,
    torn: bool,
}

impl FileEnd {
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        for piece in TAILS {
            file.seek(SeekFrom::Start(length.saturating_sub(piece)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            let ends = tail.is_empty() || tail.ends_with(b"\n");
            let mut lines: Vec<&[u8]> = tail.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
            if piece < length {
                // Where the piece begins in a line, that line is not whole.
                lines = lines.into_iter().skip(1).collect();
            }
            let torn = !ends && lines.last().is_some_and(|line| Linked::read(line).is_none());
            let newest = lines.iter().rev().find_map(|line| Linked::read(line).map(|found| (found.link.n.unwrap_or(0), hash(line))));
            if newest.is_none() && piece < length && piece < TAILS[1] {
                continue;
            }
            if !ends {
                OpenOptions::new().append(true).open(path)?.write_all(b"\n")?;
            }
            return Ok(Self { newest, torn });
        }
        Ok(Self { newest: None, torn: false })
    }
}

/// Octets of a file's end that are looked at: most lines are short, and the longest has 1,000 recipients of 320 octets and
/// the rest. A cut line may stand behind it.
const TAILS: [u64; 2] = [64 << 10, 4 << 20];

/// A line as the chain reads it.
pub(super) struct Linked {
    record: Record,
    pub(super) link: Link,
}

/// The keys of a line that place it in the chain.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) prev: String,
    pub(super) n: Option<u64>,
}

impl Linked {
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        Some(Self { link: serde_json::from_slice(line).ok()?, record: Record::read(line)? })
    }

    /// Whether it reports that a line before it was cut short.
    pub(super) const fn closes(&self) -> bool {
        matches!(&self.record, Record::Start(start) if start.torn)
    }

    /// Whether it reports that another program touched a file.
    pub(super) const fn touched(&self) -> bool {
        matches!(&self.record, Record::File(_))
    }
}

/// The number of a record, which orders records; none where the line has none.
#[must_use]
pub fn number(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Link>(line).ok()?.n
}

/// A line without its keyed hash, and that hash; none where it has none.
pub(super) fn keyed(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(MAC_DIGITS)?)?;
    let mut plain = rest.strip_suffix(MAC.as_bytes())?.to_vec();
    plain.push(b'}');
    Some((plain, mac))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;
    use crate::audit::verify::verify_by;

    fn key(letter: u8) -> Key {
        Key::parse(&BASE64.encode([letter; 32])).unwrap()
    }

    fn record(second: i64) -> Record {
        Record::start(jiff::Timestamp::from_second(second).unwrap(), false)
    }

    /// Lines of one chain, so many.
    fn lines(count: i64, key: Option<&Key>) -> Vec<String> {
        let mut tip = Tip { n: 0, hash: GENESIS.to_owned() };
        (0..count).map(|at| tip.link(&record(1_800_000_000 + at), key)).collect()
    }

    /// The chain computed anew over what stands in these lines, as somebody without the key can.
    fn anew(lines: &[String]) -> Vec<String> {
        let (mut prev, mut out) = (GENESIS.to_owned(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            let open = line.split(",\"prev\":").next().unwrap();
            let line = format!("{open},\"prev\":\"{prev}\",\"n\":{}}}", at + 1);
            prev = hash(line.as_bytes());
            out.push(line + "\n");
        }
        out
    }

    fn without(lines: &[String], gone: usize) -> Vec<String> {
        lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| line.clone()).collect()
    }

    /// What is wrong with these files; nothing where all is well.
    fn broken(files: &[(&str, &[String])], keys: &[Key]) -> Option<String> {
        let folder = folder(files);
        verify_by(folder.path(), keys).unwrap().broken.map(|broken| broken.to_string())
    }

    fn folder(files: &[(&str, &[String])]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (day, lines) in files {
            fs::write(folder.path().join(format!("audit-{day}.jsonl")), lines.concat()).unwrap();
        }
        folder
    }

    #[test]
    fn a_record_taken_out_and_the_chain_computed_anew_shows_by_the_key() {
        let keys = [key(1)];
        let all = lines(9, keys.first());
        assert_eq!(broken(&[("20261124", &all)], &keys), None);
        let report = verify_by(folder(&[("20261124", &all)]).path(), &keys).unwrap();
        assert_eq!((report.lines, report.keyed, report.from_the_start), (9, 9, true));
        for gone in 0..8 {
            let cut = without(&all, gone);
            assert!(gone == 0 || broken(&[("20261124", &cut)], &keys).is_some(), "record {gone} taken out, the rest as it was");
            assert!(broken(&[("20261124", &anew(&cut))], &keys).is_some(), "record {gone} taken out, all computed anew");
            // What came before the gap as it was, what came after it computed anew, with and without the old keyed hashes.
            let mut mixed = cut.clone();
            mixed.splice(gone.., anew(&cut).into_iter().skip(gone));
            assert!(broken(&[("20261124", &mixed)], &keys).is_some(), "record {gone} taken out, the end computed anew");
            let mut mixed = anew(&cut);
            mixed.splice(gone.., cut.iter().skip(gone).cloned());
            assert!(gone == 0 || broken(&[("20261124", &mixed)], &keys).is_some(), "record {gone} taken out, the start computed anew");
        }
        // As if the number had never been, which versions before it wrote.
        let old: Vec<String> = anew(&all).iter().map(|line| line.replace(",\"n\":", ",\"m\":")).collect();
        assert!(broken(&[("20261124", &old)], &keys).is_some());
        // With another key.
        assert!(broken(&[("20261124", &lines(9, Some(&key(2))))], &keys).is_some());
        // Without a key in use it cannot be found out; `audit verify` reports that.
        assert_eq!(broken(&[("20261124", &anew(&without(&all, 4)))], &[]), None);
    }

    #[test]
    fn keys_rotate_and_a_key_may_come_late() {
        let mut tip = Tip { n: 0, hash: GENESIS.to_owned() };
        let (old, new) = (key(1), key(2));
        let by = [None, None, Some(&old), Some(&old), Some(&new), Some(&new)];
        let all: Vec<String> = by.iter().map(|key| tip.link(&record(1), *key)).collect();
        assert_eq!(broken(&[("20261124", &all)], &[new.clone(), old.clone()]), None);
        assert!(broken(&[("20261124", &all)], std::slice::from_ref(&new)).is_some(), "the old key is needed for the old lines");
        // What came before the key is held by the first line that has it.
        let mut changed = all.clone();
        changed[0] = changed[0].replace("start", "stort");
        let redone = anew(&changed[..2]);
        changed.splice(..2, redone);
        assert!(broken(&[("20261124", &changed)], &[new.clone(), old.clone()]).is_some());
        // Nothing without it may follow.
        let mut longer = all;
        longer.push(tip.link(&record(2), None));
        assert!(broken(&[("20261124", &longer)], &[new, old]).unwrap().contains("no keyed hash"));
    }

    #[test]
    fn the_order_is_the_number() {
        for key in [None, Some(key(1))] {
            let keys: Vec<Key> = key.iter().cloned().collect();
            let all = lines(9, key.as_ref());
            // The clock stepped back over midnight, and then went on.
            let (before, after) = (&[&all[..3], &all[6..8]].concat(), &[&all[3..6], &all[8..]].concat());
            let files: &[(&str, &[String])] = &[("20261124", before), ("20261125", after)];
            assert_eq!(broken(files, &keys), None);
            let (tip, torn) = Tip::find(folder(files).path()).unwrap();
            assert_eq!((tip.n, tip.hash, torn), (9, hash(all[8].trim_end().as_bytes()), false));
            // Files may be put away from the oldest on, and may be called anything.
            assert_eq!(broken(&[("19700101", &all[5..])], &keys), None);
            assert!(broken(&[("20261124", &all[..3]), ("20261125", &all[4..])], &keys).unwrap().contains("record 4, which"));
            assert!(broken(&[("20261124", &all[..3]), ("20261125", &all[6..])], &keys).unwrap().contains("records 4 to 6, which"));
            assert!(broken(&[("20261124", &all[..3]), ("20261125", &all[2..])], &keys).unwrap().contains("record 3 is there twice"));
            assert!(broken(&[("20261124", &all), ("20261125", &all)], &keys).is_some());
            assert!(broken(&[("20261124", &[&all[..3], &all[2..]].concat())], &keys).unwrap().contains("twice"));
        }
    }

    #[test]
    fn lines_of_before_the_number_go_on_with_it() {
        let old = |record: &Record, prev: &str| format!("{},\"prev\":\"{prev}\"}}\n", record.json().strip_suffix('}').unwrap());
        let first = old(&record(1), GENESIS);
        let second = old(&record(2), &hash(first.trim_end().as_bytes()));
        let dir = folder(&[("20261124", &[first.clone(), second.clone()])]);
        let (mut tip, _) = Tip::find(dir.path()).unwrap();
        let third = tip.link(&record(3), None);
        assert!(third.contains("\"n\":1}"));
        assert_eq!(broken(&[("20261124", &[first.clone(), second.clone()]), ("20261125", std::slice::from_ref(&third))], &[]), None);
        assert!(broken(&[("20261124", std::slice::from_ref(&first)), ("20261125", std::slice::from_ref(&third))], &[]).is_some());
        assert!(broken(&[("20261124", &[second.clone(), first])], &[]).is_some());
        assert!(broken(&[("20261124", &[third]), ("20261125", &[second])], &[]).is_some());
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_closed() {
        for key in [None, Some(key(1))] {
            let keys: Vec<Key> = key.iter().cloned().collect();
            let all = lines(3, key.as_ref());
            for cut in [1, 20, all[2].len() - 2] {
                let dir = folder(&[("20261124", &[all[0].clone(), all[1].clone(), all[2].get(..cut).unwrap().to_owned()])]);
                let (mut tip, torn) = Tip::find(dir.path()).unwrap();
                assert!(torn, "{cut}");
                let start = tip.link(&Record::start(jiff::Timestamp::from_second(9).unwrap(), torn), key.as_ref());
                let path = dir.path().join("audit-20261124.jsonl");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, format!("{text}{start}")).unwrap();
                let report = verify_by(dir.path(), &keys).unwrap();
                assert_eq!((report.broken, report.torn, report.lines), (None, 1, 3), "{cut}");
                // The same line garbled by somebody, and nobody said so.
                fs::write(&path, text).unwrap();
                assert!(verify_by(dir.path(), &keys).unwrap().broken.is_some());
            }
            // Whole but for its end.
            let dir = folder(&[("20261124", &[all[0].clone(), all[1].trim_end().to_owned()])]);
            let (tip, torn) = Tip::find(dir.path()).unwrap();
            assert_eq!((tip.n, torn), (2, false));
        }
    }
}
