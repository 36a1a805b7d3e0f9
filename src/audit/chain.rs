//! The chain of records: how a line is linked to the one before it, and where the chain ends.
//!
//! A line is `{<record>,"prev":"<hash>","n":<number>,"mac":"<hash>"}`. `prev` is the SHA-256 of the record before, as it
//! stands in its file, without its line end. `n` counts records from 1 and alone says which comes after which. `mac`, where
//! there is a key, is HMAC-SHA-256 over the line as it would be without it, by which whoever has the files and not the key can
//! change nothing unseen. Where the key changes stands a `rekey` record with two of them: `mac_old`, by the key before, over the
//! line without both, and `mac`, by the key from there on, over the line with `mac_old`. So nobody who has one of the keys alone
//! can change over anywhere else.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use aws_lc_rs::{constant_time, digest};
use jiff::{Timestamp, civil::Date};
use serde::Deserialize;

use super::files::{self, AuditFile, FileError, Packing};
use crate::{
    edit::tag::{Key, hexadecimal},
    mail::{
        Record,
        record::{Numbers, RekeyRecord},
    },
    regular,
};

/// The value of `prev` in the first line of an audit.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The SHA-256 of a line without its line end, in hexadecimal.
#[must_use]
pub fn hash(line: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, line).as_ref())
}

/// A key derived for this purpose alone, so that one file of keys may serve two.
pub(super) fn derived(key: &Key) -> Key {
    key.derive("audit-chain")
}

/// What a key is called in `rekey` records: 8 hexadecimal digits, from which nobody learns the key.
pub(super) fn name(key: &Key) -> String {
    hexadecimal(&key.derive("audit-key-name").digest(b"")).get(..8).unwrap_or_default().to_owned()
}

/// A record by its number and its hash, written `NUMBER:HASH`: whoever keeps one elsewhere can prove that the chain still holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record's number; 0 where the chain is empty, or has no numbers yet.
    pub n: u64,
    /// The record's hash, in hexadecimal.
    pub hash: String,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.hash)
    }
}

impl FromStr for Checkpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("found {text:?}, expected NUMBER:HASH as the log's `audit checkpoint` lines have it, with 64 hexadecimal digits");
        let (n, hash) = text.split_once(':').ok_or_else(wrong)?;
        let is_hash = hash.len() == MAC_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let n = n.parse().ok().filter(|n| *n > 0 && is_hash).ok_or_else(wrong)?;
        Ok(Self { n, hash: hash.to_ascii_lowercase() })
    }
}

impl Checkpoint {
    /// All checkpoints that stand in a text, as in the lines of a log.
    pub fn all_in(text: &str) -> impl Iterator<Item = Self> {
        text.split(|letter: char| letter != ':' && !letter.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok())
    }
}

/// The plain audit files of a folder, by the days in their names; see [`files::list`], which knows the compressed ones.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let files = files::list(folder)?.into_iter().filter(|file| file.packing() == Packing::Plain);
    Ok(files.map(|file| file.path().to_owned()).collect())
}

/// The end of the chain, to which the next record is linked.
pub(super) type Tip = Checkpoint;

/// The newest record of a folder, and what there is to say of it.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) tip: Tip,
    /// The newest record's line; empty where there is none.
    pub(super) line: Vec<u8>,
    /// The file that it stands in.
    pub(super) file: Option<AuditFile>,
    /// Whether a file ends in a line that was cut short.
    pub(super) torn: bool,
}

impl End {
    /// The newest record of a folder, by its number. Of compressed files only those are read that are as young as the newest
    /// plain one: names never go back.
    pub(super) fn find(folder: &Path) -> io::Result<Self> {
        let mut end = Self { tip: Tip { n: 0, hash: GENESIS.to_owned() }, line: Vec::new(), file: None, torn: false };
        let files = files::list(folder)?;
        let (plain, packed): (Vec<&AuditFile>, Vec<&AuditFile>) = files.iter().partition(|file| file.packing() == Packing::Plain);
        for file in &plain {
            let found = match FileEnd::read(file.path()) {
                // Older files may have been given to another user, or be put away just now.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && Some(file) != plain.last() => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(|error| FileError::of(file.path(), error))?,
            };
            end.torn |= found.torn;
            end.take(found.newest, file);
        }
        for file in packed.iter().rev() {
            if end.file.as_ref().is_some_and(|newest| newest.day() > file.day()) {
                break;
            }
            let mut newest = None;
            for line in file.lines().map_err(|error| FileError::of(file.path(), error))? {
                // What of it cannot be read is for `verify` to say.
                let Ok(line) = line else { break };
                newest = Linked::read(&line).map(|found| (found.link.n.unwrap_or(0), line)).or(newest);
            }
            end.take(newest, file);
        }
        Ok(end)
    }

    fn take(&mut self, newest: Option<(u64, Vec<u8>)>, file: &AuditFile) {
        if let Some((n, line)) = newest
            && n >= self.tip.n
        {
            (self.tip, self.line, self.file) = (Tip { n, hash: hash(&line) }, line, Some(file.clone()));
        }
    }

    /// The day in the name of the newest record's file.
    pub(super) fn day(&self) -> Option<Date> {
        self.file.as_ref().map(AuditFile::day)
    }

    /// Whether the newest record was written with a key.
    pub(super) fn is_keyed(&self) -> bool {
        keyed(&self.line).is_some()
    }

    /// Which of these keys wrote the newest record.
    pub(super) fn key<'k>(&self, keys: &'k [Key]) -> Option<&'k Key> {
        let (plain, mac) = keyed(&self.line)?;
        keys.iter().find(|key| fits(&derived(key), &plain, mac))
    }

    /// The hash of the record with this number, where it is among the last of the newest file.
    pub(super) fn hash_of(&self, n: u64) -> Option<String> {
        let (_, tail) = tail(self.file.as_ref()?.path(), TAILS[1]).ok()?;
        tail.split(|byte| *byte == b'\n').find(|line| number(line) == Some(n)).map(hash)
    }
}

impl Tip {
    /// Writes the line of the next record, with its line end, behind what is there; the chain then ends with it. With the
    /// ([`derived`]) key it has a keyed hash.
    pub(super) fn link(&mut self, text: &mut Vec<u8>, record: &[u8], key: Option<&Key>) {
        self.line(text, record, key.map(|key| (MAC, key)).as_slice());
    }

    /// The line that says that the key changes here, written with both.
    pub(super) fn rekey(&mut self, text: &mut Vec<u8>, time: Timestamp, old: &Key, new: &Key) {
        let record = Record::Rekey(RekeyRecord { v: crate::mail::record::VERSION, time, old: name(old), new: name(new) });
        self.line(text, record.json().as_bytes(), &[(MAC_OLD, &derived(old)), (MAC, &derived(new))]);
    }

    fn line(&mut self, text: &mut Vec<u8>, record: &[u8], keys: &[(&str, &Key)]) {
        let begin = text.len();
        text.extend_from_slice(record);
        text.pop();
        self.n = self.n.saturating_add(1);
        text.extend_from_slice(format!(",\"prev\":\"{}\",\"n\":{}}}", self.hash, self.n).as_bytes());
        for (before, key) in keys {
            let mac = hexadecimal(&key.digest(text.get(begin..).unwrap_or_default()));
            text.pop();
            for piece in [before, mac.as_str(), "\"}"] {
                text.extend_from_slice(piece.as_bytes());
            }
        }
        self.hash = hash(text.get(begin..).unwrap_or_default());
        text.push(b'\n');
    }
}

/// The text between a line and its keyed hash.
const MAC: &str = ",\"mac\":\"";
/// The same, before the hash by the older key.
const MAC_OLD: &str = ",\"mac_old\":\"";
/// Hexadecimal digits of a hash.
const MAC_DIGITS: usize = 64;

/// Whether a keyed hash was made with this (derived) key.
pub(super) fn fits(key: &Key, plain: &[u8], mac: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(hexadecimal(&key.digest(plain)).as_bytes(), mac).is_ok()
}

/// The end of a file.
struct FileEnd {
    /// Number (0 where it has none) and line of its last record.
    newest: Option<(u64, Vec<u8>)>,
    torn: bool,
}

impl FileEnd {
    fn read(path: &Path) -> io::Result<Self> {
        for piece in TAILS {
            let (is_whole, tail) = tail(path, piece)?;
            let ends = tail.is_empty() || tail.ends_with(b"\n");
            let lines: Vec<&[u8]> = tail.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
            let torn = !ends && lines.last().is_some_and(|line| Linked::read(line).is_none());
            let newest = lines.iter().rev().find_map(|line| Linked::read(line).map(|found| (found.link.n.unwrap_or(0), line.to_vec())));
            if newest.is_some() || is_whole {
                return Ok(Self { newest, torn });
            }
        }
        Ok(Self { newest: None, torn: false })
    }
}

/// The last octets of a file, from the start of a line on, and whether they are the whole file.
fn tail(path: &Path, length: u64) -> io::Result<(bool, Vec<u8>)> {
    let (is_whole, mut tail) = regular::end(&mut regular::open(path)?, length)?;
    if is_whole {
        return Ok((true, tail));
    }
    // Where the piece begins in a line, that line is not whole.
    let begin = tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |end| end + 1);
    Ok((false, tail.split_off(begin)))
}

/// Gives a line end to every plain file that lacks one, so that the next record has a line of its own.
pub(super) fn close_torn(folder: &Path) -> io::Result<()> {
    for path in files(folder)? {
        let mut file = match regular::open_with(OpenOptions::new().read(true).append(true), &path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            file => file.map_err(|error| FileError::of(&path, error))?,
        };
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(())
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

    /// The record itself.
    pub(super) const fn record(&self) -> &Record {
        &self.record
    }

    /// The numbers between it and the record that it is linked to, where it says that those are given to no record.
    pub(super) fn skipped(&self) -> Option<Numbers> {
        let Record::File(file) = &self.record else { return None };
        file.skipped.filter(|skipped| 0 < skipped.first && skipped.first <= skipped.last && skipped.last.checked_add(1) == self.link.n)
    }

    /// The number of the record that it is linked to; none where it has no number itself.
    pub(super) fn linked_to(&self) -> Option<u64> {
        Some(self.skipped().map_or(self.link.n?, |skipped| skipped.first).saturating_sub(1))
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

/// The same by the line's end alone, as it is always written.
#[must_use]
pub fn number_at_the_end(line: &[u8]) -> Option<u64> {
    let end = line.get(line.len().saturating_sub(LINK_END)..)?;
    let number = end.get(memchr::memmem::rfind(end, NUMBER)? + NUMBER.len()..)?;
    let digits = number.iter().position(|octet| !octet.is_ascii_digit())?;
    str::from_utf8(number.get(..digits)?).ok()?.parse().ok()
}

/// The text before a record's number. A text of the record cannot hold it: its quotes are escaped.
const NUMBER: &[u8] = b",\"n\":";
/// Octets of a line's end in which its number stands: two keyed hashes at most come behind it.
const LINK_END: usize = 256;

/// A line without its keyed hash, and that hash; none where it has none.
pub(super) fn keyed(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    without(line, MAC)
}

/// The same of what [`keyed`] leaves of a `rekey` record: the line without the hash by the older key, and that.
pub(super) fn keyed_before(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    without(line, MAC_OLD)
}

fn without<'l>(line: &'l [u8], before: &str) -> Option<(Vec<u8>, &'l [u8])> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(MAC_DIGITS)?)?;
    let mut plain = rest.strip_suffix(before.as_bytes())?.to_vec();
    plain.push(b'}');
    Some((plain, mac))
}

#[cfg(test)]
impl Tip {
    /// The line of the next record by this key.
    pub(super) fn next(&mut self, record: &Record, key: Option<&Key>) -> String {
        let mut text = Vec::new();
        self.link(&mut text, record.json().as_bytes(), key.map(derived).as_ref());
        String::from_utf8(text).unwrap()
    }

    pub(super) fn next_key(&mut self, time: Timestamp, old: &Key, new: &Key) -> String {
        let mut text = Vec::new();
        self.rekey(&mut text, time, old, new);
        String::from_utf8(text).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;
    use crate::audit::verify::verify_by;

    fn key(letter: u8) -> Key {
        Key::parse(&BASE64.encode([letter; 32])).unwrap()
    }

    fn record(second: i64) -> Record {
        Record::start(Timestamp::from_second(second).unwrap(), false)
    }

    /// Lines of one chain, so many.
    fn lines(count: i64, key: Option<&Key>) -> Vec<String> {
        let mut tip = Tip { n: 0, hash: GENESIS.to_owned() };
        (0..count).map(|at| tip.next(&record(1_800_000_000 + at), key)).collect()
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
        let mut all: Vec<String> = [None, None, Some(&old), Some(&old)].iter().map(|key| tip.next(&record(1), *key)).collect();
        let before = tip.clone();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        all.push(tip.next_key(at, &old, &new));
        all.extend((0..2).map(|_| tip.next(&record(1), Some(&new))));
        let both = [new.clone(), old.clone()];
        assert_eq!(broken(&[("20261124", &all)], &both), None);
        assert!(broken(&[("20261124", &all)], std::slice::from_ref(&new)).is_some(), "the old key is needed for the old lines");
        // What came before the key is held by the first line that has it.
        let mut changed = all.clone();
        changed[0] = changed[0].replace("start", "stort");
        let redone = anew(&changed[..2]);
        changed.splice(..2, redone);
        assert!(broken(&[("20261124", &changed)], &both).is_some());
        // Whoever has one of the keys alone changes over nowhere: not in silence, and not with a record of his own.
        let mut other = before.clone();
        let silent = [&all[..4], &[other.next(&record(1), Some(&new)), other.next(&record(1), Some(&new))]].concat();
        assert!(broken(&[("20261124", &silent)], &both).unwrap().contains("no `rekey` record"));
        for (old_by, new_by) in [(&new, &new), (&old, &old), (&key(3), &new)] {
            let mut other = before.clone();
            let forged = [&all[..4], &[other.next_key(at, old_by, new_by), other.next(&record(1), Some(&new))]].concat();
            assert!(broken(&[("20261124", &forged)], &both).is_some());
        }
        // Nor can a genuine one be used a second time, further on or further back.
        assert!(broken(&[("20261124", &[&all[..3], &all[4..]].concat())], &both).is_some());
        // Nothing without it may follow.
        let mut longer = all;
        longer.push(tip.next(&record(2), None));
        assert!(broken(&[("20261124", &longer)], &both).unwrap().contains("no keyed hash"));
    }

    #[test]
    fn checkpoints_are_read_from_a_log() {
        let hash = "ab".repeat(32);
        let point = Checkpoint { n: 7, hash: hash.clone() };
        assert_eq!(format!("7:{hash}").parse(), Ok(point.clone()));
        assert!("7:ab".parse::<Checkpoint>().is_err() && format!("0:{hash}").parse::<Checkpoint>().is_err());
        let log =
            format!("2026-11-25T10:00:00Z INFO audit checkpoint checkpoint=\"7:{hash}\"\n{{\"checkpoint\":\"7:{hash}\"}}\n7:{hash}\n8:xy");
        assert_eq!(Checkpoint::all_in(&log).collect::<Vec<_>>(), [point.clone(), point.clone(), point]);
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
            let End { tip, torn, .. } = End::find(folder(files).path()).unwrap();
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
        let mut tip = End::find(dir.path()).unwrap().tip;
        let third = tip.next(&record(3), None);
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
                let End { mut tip, torn, .. } = End::find(dir.path()).unwrap();
                assert!(torn, "{cut}");
                // What a crash or a look in the middle of a write leaves is no break.
                let report = verify_by(dir.path(), &keys).unwrap();
                assert_eq!((report.broken, report.unfinished), (None, true), "{cut}");
                close_torn(dir.path()).unwrap();
                let start = tip.next(&Record::start(Timestamp::from_second(9).unwrap(), torn), key.as_ref());
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
            let End { tip, torn, .. } = End::find(dir.path()).unwrap();
            assert_eq!((tip.n, torn), (2, false));
        }
    }
}
