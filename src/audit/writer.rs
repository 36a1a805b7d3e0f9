//! The writer: the open file, the end of the chain, and the head file behind it.
//!
//! Names never go back: the file of the newest record is written to until the clock is past the day in its name, however far the
//! clock steps back, over restarts too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    AuditConfig, AuditError,
    chain::{self, End, Tip, derived},
    files::{self, FileError},
    head::{self, Head, HeadFile, Reach},
    meters::Meters,
};
use crate::{
    edit::tag::Key,
    mail::{
        Record,
        record::{self, FileFault, FileRecord, Numbers},
    },
    regular,
    remedy::Remedy,
};

/// The file that is written to.
struct Day {
    name: String,
    file: File,
    /// Octets in it, by what was written here.
    length: u64,
}

impl Day {
    /// Opens or creates the file; a last line without its end gets one.
    fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        let is_new = !path.exists();
        let mut file = regular::open_with(OpenOptions::new().create(true).read(true).append(true), &path)
            .map_err(|error| FileError::of(&path, error))?;
        let mut length = file.metadata()?.len();
        let mut last = [0];
        if length > 0 && file.read_at(&mut last, length - 1)? == 1 && last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
        if is_new {
            // The file's name must be on disk, too, before its records are relied on.
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { name: name.to_owned(), file, length })
    }

    /// What another program did to the file, if anything.
    fn fault(&self, folder: &Path) -> io::Result<Option<FileFault>> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(folder.join(&self.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(FileFault::Vanished)),
            Err(error) => Err(error),
            Ok(there) if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) => Ok(Some(FileFault::Replaced)),
            Ok(there) if there.len() != self.length => Ok(Some(FileFault::Changed)),
            Ok(_) => Ok(None),
        }
    }
}

/// The writer of an audit.
pub(super) struct Writer {
    folder: PathBuf,
    /// Held as long as the writer lives; the lock ends with it.
    _lock: File,
    open: Option<Day>,
    tip: Tip,
    /// The day in the name of the newest record's file.
    day: Option<Date>,
    pub(super) torn: bool,
    /// The newest first: it is written with.
    keys: Arc<ArcSwap<Vec<Key>>>,
    /// The key that the newest record was written with.
    by: Option<Key>,
    head: HeadFile,
    /// The record of a touched file or of a cut end, which is still to be written.
    fault: Option<Record>,
    /// Whether a file was begun, and the head names no record of it yet: were it to go, nobody would miss it.
    pub(super) is_begun: bool,
    /// Whether records were written that the head does not name yet.
    pub(super) is_ahead: bool,
    /// The newest checkpoint that log and metrics were told.
    told: Option<Tip>,
    /// What was written last: its memory is used again.
    text: Vec<u8>,
    /// The name of the file that is written to, for whoever looks after the others.
    live: Arc<ArcSwapOption<String>>,
    pub(super) meters: Meters,
}

impl Writer {
    /// Takes the folder's lock, finds the end of the chain, and holds it against the head file.
    pub(super) fn open(config: &AuditConfig, keys: Arc<ArcSwap<Vec<Key>>>, now: Timestamp) -> Result<Self, AuditError> {
        let folder = &config.folder;
        let fail = |error: io::Error| AuditError::opening(folder, &error);
        // A folder that is not there may be on a share that is not mounted yet, whatever keeps us from making one in its place.
        let absent = |error: io::Error| AuditError::Folder(folder.clone(), error.to_string(), Remedy::Wait);
        fs::create_dir_all(folder).map_err(|error| if folder.exists() { fail(error) } else { absent(error) })?;
        let lock = regular::open_with(OpenOptions::new().create(true).truncate(false).write(true), &folder.join(files::LOCK))
            .map_err(|error| fail(FileError::of(&folder.join(files::LOCK), error)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(AuditError::Taken(folder.clone())),
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        let end = End::find(folder).map_err(fail)?;
        chain::close_torn(folder).map_err(fail)?;
        let by = end.key(&keys.load()).cloned();
        if by.is_none() && end.is_keyed() && !keys.load().is_empty() {
            tracing::error!(
                record = end.tip.n,
                "the newest audit record was written with a key that is not in the key file: `audit verify` will not hold; put the old key below the new one"
            );
        }
        let head = HeadFile::at(config.head.clone().unwrap_or_else(|| folder.join(head::NAME)), folder);
        if let Some(folder) = head.path().parent() {
            fs::create_dir_all(folder).map_err(|error| AuditError::Head(error.to_string(), Remedy::of(&error)))?;
        }
        // Before anything is written to the chain. What passes, as a full disk, withholds exemptions and keeps no mail from going.
        if let Err(error) = head.try_out()
            && Remedy::of(&error) == Remedy::Mend
        {
            return Err(AuditError::Head(format!("{}: {error}", head.path().display()), Remedy::Mend));
        }
        let mut writer = Self {
            folder: folder.clone(),
            _lock: lock,
            open: None,
            tip: end.tip.clone(),
            day: end.day(),
            torn: end.torn,
            keys,
            by,
            head,
            fault: None,
            is_begun: false,
            is_ahead: false,
            told: None,
            text: Vec::new(),
            live: Arc::default(),
            meters: Meters::default(),
        };
        writer.compare(&end, now);
        Ok(writer)
    }

    /// Holds the chain against the head file. Where records are missing, numbers go on after them, and the next record says so.
    fn compare(&mut self, end: &End, now: Timestamp) {
        let keys = self.keys.load_full();
        let head = match Head::read(self.head.path(), &keys) {
            Ok(Some(head)) if head.by.is_none() && end.is_keyed() && !keys.is_empty() => {
                Err(head::HeadError::Damaged(self.head.path().into()))
            }
            head => head,
        };
        let mut skipped = None;
        let (what, missing) = match head {
            Ok(None) if end.tip.n == 0 => return,
            Ok(None) => {
                let head = self.head.path().display();
                tracing::error!(%head, "there is no head file, and there are records: whether the audit's end is whole cannot be told");
                (FileFault::Head, None)
            }
            Ok(Some(Head { newest, reach, by })) => {
                let missing = if newest.n > end.tip.n {
                    Some(Numbers { first: end.tip.n.saturating_add(1), last: newest.n })
                } else {
                    let here = if newest.n == end.tip.n { Some(end.tip.hash.clone()) } else { end.hash_of(newest.n) };
                    here.filter(|hash| *hash != newest.hash).map(|_| Numbers { first: newest.n, last: newest.n })
                };
                let Some(missing) = missing else { return };
                if newest.n >= end.tip.n {
                    // Were the missing records put back, the chain would hold. Behind the head there may have been more of them: their
                    // numbers are given to no other.
                    self.tip = newest;
                    self.by = by.and_then(|by| keys.get(by)).cloned().or_else(|| self.by.take());
                    if reach == Reach::AtLeast {
                        let first = self.tip.n.saturating_add(1);
                        self.tip.n = self.tip.n.saturating_add(GAP);
                        skipped = Some(Numbers { first, last: self.tip.n });
                    }
                }
                (FileFault::Cut, Some(missing))
            }
            Err(error) => {
                tracing::error!(%error, "whether the audit's end is whole cannot be told");
                (FileFault::Head, None)
            }
        };
        let name = end.file.as_ref().map(|file| file.name().to_owned()).unwrap_or_default();
        self.note(now, name, what, (missing, skipped));
    }

    /// Notes a fault for log, metrics and the next record.
    fn note(&mut self, now: Timestamp, file: String, what: FileFault, (missing, skipped): (Option<Numbers>, Option<Numbers>)) {
        self.meters.fault(what);
        let numbers = missing.map(|Numbers { first, last }| format!("{first} to {last}")).unwrap_or_default();
        tracing::error!(
            file,
            what = what.code(),
            missing = numbers,
            "the audit file was touched by somebody else, or records are missing; a record says so, and records go on"
        );
        self.fault = Some(Record::File(FileRecord { v: record::VERSION, time: now, file, what: what.into(), missing, skipped }));
    }

    /// The name of the file that is written to.
    pub(super) fn live(&self) -> Arc<ArcSwapOption<String>> {
        Arc::clone(&self.live)
    }

    /// Appends records, as [`Writer::append_lines`].
    pub(super) fn append(&mut self, now: Timestamp, records: &[&Record]) -> io::Result<()> {
        let records: Vec<String> = records.iter().map(|record| record.json()).collect();
        self.append_lines(now, records.iter().map(String::as_bytes))
    }

    /// Appends records, as JSON, all or none, behind what else there is to say: that a file was touched, that the key has changed.
    pub(super) fn append_lines<'r>(&mut self, now: Timestamp, records: impl Iterator<Item = &'r [u8]>) -> io::Result<()> {
        if let Some(day) = &self.open
            && let Some(what) = day.fault(&self.folder)?
        {
            let name = day.name.clone();
            let left = End::find(&self.folder).ok().map(|end| end.tip.n).filter(|left| *left < self.tip.n);
            let missing = left.map(|left| Numbers { first: left.saturating_add(1), last: self.tip.n });
            self.note(now, name, what, (missing, None));
            self.open = None;
        }
        let keys = self.keys.load_full();
        let rekeyed = self.by.as_ref().zip(keys.first()).filter(|(old, new)| chain::name(old) != chain::name(new));
        let mut records = records.peekable();
        if records.peek().is_none() && self.fault.is_none() && rekeyed.is_none() {
            return Ok(());
        }
        let (mut text, mut tip) = (std::mem::take(&mut self.text), self.tip.clone());
        text.clear();
        let fault = self.fault.take();
        if let Some(fault) = &fault {
            // First, as it says to which record this one is linked; and so by the key of that one.
            let key = keys.first().map(|newest| derived(self.by.as_ref().unwrap_or(newest)));
            tip.link(&mut text, fault.json().as_bytes(), key.as_ref());
        }
        if let Some((old, new)) = rekeyed {
            tip.rekey(&mut text, now, old, new);
            tracing::info!(old = chain::name(old), new = chain::name(new), "the audit's key changes");
        }
        let key = keys.first().map(derived);
        for record in records {
            tip.link(&mut text, record, key.as_ref());
        }
        let written = self.write(now, &text);
        self.text = text;
        match written {
            Ok(()) => {
                self.meters.newest(tip.n);
                (self.tip, self.by, self.is_ahead) = (tip, keys.first().cloned(), true);
            }
            Err(_) => self.fault = fault,
        }
        written
    }

    /// Writes whole lines to the file of the day.
    fn write(&mut self, now: Timestamp, text: &[u8]) -> io::Result<()> {
        let mut day = self.day_of(now)?;
        let written = day.file.write_all(text);
        if written.is_ok() {
            day.length += text.len() as u64;
        } else {
            // A half-written line would break the chain. The disk may be full, but truncating needs no space.
            day.file.set_len(day.length)?;
        }
        self.open = Some(day);
        written
    }

    /// The file of this day, or the one of the newest record, where the clock has stepped back behind it.
    fn day_of(&mut self, now: Timestamp) -> io::Result<Day> {
        let today = TimeZone::UTC.to_datetime(now).date();
        let date = self.day.map_or(today, |newest| newest.max(today));
        let name = format!("audit-{}.jsonl", date.strftime("%Y%m%d"));
        match self.open.take() {
            Some(day) if day.name == name => return Ok(day),
            // The head will name records behind those.
            Some(day) => day.file.sync_data()?,
            None => {}
        }
        if date > today {
            tracing::warn!(file = name, "the clock is behind the newest audit file: records go on in it until the clock is past its day");
        }
        let day = Day::open(&self.folder, &name)?;
        (self.day, self.is_begun) = (Some(date), true);
        self.live.store(Some(Arc::new(name)));
        Ok(day)
    }

    /// Returns once all records are on disk, and the head file names the newest.
    pub(super) fn secure(&mut self) -> io::Result<()> {
        self.secure_as(Reach::AtLeast)
    }

    fn secure_as(&mut self, reach: Reach) -> io::Result<()> {
        if let Some(day) = &self.open {
            day.file.sync_data()?;
        }
        let written = self.head.write(&self.tip, reach, self.keys.load().first());
        let path = self.head.path().display();
        written.map_err(|error| io::Error::new(error.kind(), format!("the head file {path} cannot be written: {error}")))?;
        (self.is_ahead, self.is_begun) = (false, false);
        Ok(())
    }

    /// Whether what was written is found under the file's name.
    pub(super) fn is_in_place(&self) -> io::Result<()> {
        let Some(day) = &self.open else { return Ok(()) };
        day.fault(&self.folder)?.map_or(Ok(()), |what| Err(io::Error::other(format!("{} {} while it was written", day.name, what.code()))))
    }

    /// The last checkpoint, unless it was told already. The head file says that nothing follows.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.told.as_ref() != Some(&self.tip) {
            self.checkpoint()?;
        }
        self.secure_as(Reach::Exactly)
    }

    /// Tells log and metrics the newest record, so that whoever keeps them elsewhere can prove the chain's end.
    pub(super) fn checkpoint(&mut self) -> io::Result<()> {
        self.secure()?;
        if self.tip.n > 0 {
            self.meters.checkpoint(&self.tip);
            self.told = Some(self.tip.clone());
            tracing::info!(number = self.tip.n, hash = self.tip.hash, checkpoint = %self.tip, "audit checkpoint");
        }
        Ok(())
    }
}

/// Numbers that are left out behind the head where the hop was killed and the records from there on are missing: more than can have
/// been written since the head was, which are ten seconds or, where it could not be, a day at ten thousand a second.
const GAP: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;
    use crate::audit::verify::verify_by;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn key(letter: u8) -> Key {
        Key::parse(&BASE64.encode([letter; 32])).unwrap()
    }

    fn writer(folder: &Path, keys: &[Key], now: Timestamp) -> Writer {
        let config = AuditConfig { head: Some(folder.join("state/audit.head")), ..AuditConfig::new(folder.join("audit")) };
        fs::create_dir_all(folder.join("state")).unwrap();
        Writer::open(&config, Arc::new(ArcSwap::from_pointee(keys.to_vec())), now).unwrap()
    }

    /// Opens, writes so many records that are on disk, and closes.
    fn run(folder: &Path, keys: &[Key], now: &str, records: usize) -> String {
        let mut writer = writer(folder, keys, at(now));
        for _ in 0..records {
            writer.append(at(now), &[&Record::start(at(now), false)]).unwrap();
        }
        writer.close().unwrap();
        text(folder)
    }

    fn names(folder: &Path) -> Vec<String> {
        files::list(&folder.join("audit")).unwrap().iter().map(|file| file.name().to_owned()).collect()
    }

    fn text(folder: &Path) -> String {
        files::list(&folder.join("audit")).unwrap().iter().map(|file| fs::read_to_string(file.path()).unwrap()).collect()
    }

    fn broken(folder: &Path, keys: &[Key]) -> Option<String> {
        verify_by(&folder.join("audit"), keys).unwrap().broken.map(|broken| broken.what)
    }

    #[test]
    fn names_never_go_back() {
        let folder = TempDir::new().unwrap();
        let mut one = writer(folder.path(), &[], at("2026-11-24T23:59:00Z"));
        let record = Record::start(at("2026-11-24T00:00:00Z"), false);
        let steps =
            ["2026-11-24T23:59:00Z", "2026-11-25T00:01:00Z", "2026-11-24T23:58:00Z", "1970-01-01T00:00:00Z", "2026-11-25T10:00:00Z"];
        for step in steps {
            one.append(at(step), &[&record]).unwrap();
        }
        assert_eq!(names(folder.path()), ["audit-20261124.jsonl", "audit-20261125.jsonl"]);
        assert_eq!(fs::read_to_string(folder.path().join("audit/audit-20261124.jsonl")).unwrap().lines().count(), 1);
        drop(one);
        // Over a restart, too.
        run(folder.path(), &[], "2026-11-24T12:00:00Z", 1);
        assert_eq!(names(folder.path()), ["audit-20261124.jsonl", "audit-20261125.jsonl"]);
        run(folder.path(), &[], "2026-11-26T12:00:00Z", 1);
        assert_eq!(names(folder.path()).last().map(String::as_str), Some("audit-20261126.jsonl"));
        assert_eq!(broken(folder.path(), &[]), None);
    }

    #[test]
    fn a_cut_end_shows_at_the_start_and_numbers_go_on() {
        for keys in [vec![], vec![key(1)]] {
            let folder = TempDir::new().unwrap();
            let all = run(folder.path(), &keys, "2026-11-24T12:00:00Z", 5);
            let path = folder.path().join("audit/audit-20261124.jsonl");
            let lines: Vec<&str> = all.split_inclusive('\n').collect();
            for left in 0..5 {
                fs::write(&path, lines[..left].concat()).unwrap();
                if left == 0 {
                    fs::remove_file(&path).unwrap();
                }
                let mut next = writer(folder.path(), &keys, at("2026-11-24T13:00:00Z"));
                next.append(at("2026-11-24T13:00:00Z"), &[&Record::start(at("2026-11-24T13:00:00Z"), false)]).unwrap();
                let text = text(folder.path());
                let said = format!("\"what\":\"cut\",\"missing\":{{\"first\":{},\"last\":5}},", left + 1);
                assert!(text.contains(&said) && text.contains("\"n\":6"), "{left}: {text}");
                assert!(broken(folder.path(), &keys).is_some(), "{left}");
                // What was taken away is put back.
                let rest: String = text.split_inclusive('\n').skip(left).collect();
                fs::write(&path, all.clone() + &rest).unwrap();
                assert_eq!(broken(folder.path(), &keys), None, "{left}");
            }
            // The newest record changed, and as a whole another chain.
            let folder = TempDir::new().unwrap();
            let all = run(folder.path(), &[], "2026-11-24T12:00:00Z", 5);
            fs::write(folder.path().join("audit/audit-20261124.jsonl"), all.replace("\"torn\":false", "\"torn\":null")).unwrap();
            fs::write(folder.path().join("audit/audit-20261124.jsonl"), all.replace("12:00:00", "12:00:01")).unwrap();
            assert!(run(folder.path(), &[], "2026-11-24T13:00:00Z", 1).contains("\"missing\":{\"first\":5,\"last\":5}"));
        }
    }

    /// Killed while the head lagged behind, and the file taken away: no number is given twice, so that the file can be put back.
    #[test]
    fn what_a_killed_hop_had_written_behind_the_head_has_its_numbers_to_itself() {
        let now = at("2026-11-24T12:00:00Z");
        for keys in [vec![], vec![key(1)], vec![key(2), key(1)]] {
            for left in [0, 2, 4] {
                let folder = TempDir::new().unwrap();
                let (path, aside) = (folder.path().join("audit/audit-20261124.jsonl"), folder.path().join("audit/audit-20261124.jsonl.1"));
                let mut killed = writer(folder.path(), keys.get(keys.len().saturating_sub(1)..).unwrap_or_default(), now);
                for number in 1..=8 {
                    killed.append(now, &[&Record::start(now, false)]).unwrap();
                    if number == 5 {
                        killed.secure().unwrap();
                    }
                }
                drop(killed);
                let all = text(folder.path());
                let lines: Vec<&str> = all.split_inclusive('\n').collect();
                fs::remove_file(&path).unwrap();
                if left > 0 {
                    fs::write(&path, lines[..left].concat()).unwrap();
                }
                run(folder.path(), &keys, "2026-11-24T13:00:00Z", 2);
                let said = format!(
                    "\"missing\":{{\"first\":{},\"last\":5}},\"skipped\":{{\"first\":6,\"last\":1000000005}},\"prev\":\"{}\",\"n\":1000000006",
                    left + 1,
                    chain::hash(lines[4].trim_end().as_bytes())
                );
                assert!(text(folder.path()).contains(&said), "{said}: {}", text(folder.path()));
                assert!(broken(folder.path(), &keys).unwrap().contains("missing"), "{left}");
                // Put back, whole or as far as the head names it.
                for back in 5..=8 {
                    fs::write(&aside, lines[left..back].concat()).unwrap();
                    let report = verify_by(&folder.path().join("audit"), &keys).unwrap();
                    assert_eq!((report.broken, report.gaps), (None, 1), "{left} {back}");
                }
                // What is missing in its midst is a break, and so is another in the place of the one that the head names.
                // (The oldest may be put away.)
                for gone in left.max(1)..8 {
                    let kept: Vec<&str> = (left..8).filter(|at| *at != gone).map(|at| lines[at]).collect();
                    fs::write(&aside, kept.concat()).unwrap();
                    assert_eq!(broken(folder.path(), &keys).is_some(), gone < 7, "{left} {gone}");
                }
                if keys.is_empty() {
                    let mut tip = Tip {
                        n: left as u64,
                        hash: if left == 0 { chain::GENESIS.into() } else { chain::hash(lines[left - 1].trim_end().as_bytes()) },
                    };
                    let others: String = (left..8).map(|_| tip.next(&Record::start(at("2026-11-24T12:00:01Z"), false), None)).collect();
                    fs::write(&aside, others).unwrap();
                    assert!(broken(folder.path(), &keys).unwrap().contains("changed, removed or put in"));
                }
            }
        }
    }

    #[test]
    fn a_head_that_lags_behind_is_no_alarm_and_one_that_is_gone_or_damaged_is() {
        let keys = [key(1)];
        let folder = TempDir::new().unwrap();
        let head = folder.path().join("state/audit.head");
        run(folder.path(), &keys, "2026-11-24T12:00:00Z", 3);
        let older = fs::read(&head).unwrap();
        run(folder.path(), &keys, "2026-11-24T12:00:00Z", 3);
        fs::write(&head, older).unwrap();
        assert!(!run(folder.path(), &keys, "2026-11-24T12:00:00Z", 1).contains("\"type\":\"file\""));
        // Whoever cuts the end off would take the head away rather than damage it.
        fs::remove_file(&head).unwrap();
        assert_eq!(run(folder.path(), &keys, "2026-11-24T12:00:00Z", 1).matches("\"what\":\"head\"").count(), 1);
        let text = fs::read_to_string(&head).unwrap();
        // Without its keyed hash, so that anybody could write it.
        fs::write(&head, text.split(",\"mac\"").next().unwrap().to_owned() + "}").unwrap();
        assert_eq!(run(folder.path(), &keys, "2026-11-24T12:00:00Z", 1).matches("\"what\":\"head\"").count(), 2);
        assert_eq!(broken(folder.path(), &keys), None);
    }

    #[test]
    fn a_fifo_in_the_place_of_the_file_is_an_error_until_it_is_gone() {
        let folder = TempDir::new().unwrap();
        let now = at("2026-11-24T12:00:00Z");
        let record = Record::start(now, false);
        let mut one = writer(folder.path(), &[], now);
        one.append(now, &[&record]).unwrap();
        let path = folder.path().join("audit/audit-20261124.jsonl");
        let fifo = |path: &Path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        fs::rename(&path, folder.path().join("aside")).unwrap();
        fifo(&path);
        for _ in 0..2 {
            let error = one.append(now, &[&record]).unwrap_err().to_string();
            assert_eq!(error, "audit-20261124.jsonl: it is no regular file");
        }
        fs::rename(folder.path().join("aside"), &path).unwrap();
        one.append(now, &[&record]).unwrap();
        one.secure().unwrap();
        drop(one);
        assert!(text(folder.path()).contains("\"what\":\"replaced\""));
        assert_eq!(broken(folder.path(), &[]), None);
        // At the start.
        fs::rename(&path, folder.path().join("aside")).unwrap();
        let config = AuditConfig { head: Some(folder.path().join("state/audit.head")), ..AuditConfig::new(folder.path().join("audit")) };
        let open = || Writer::open(&config, Arc::default(), now).map(drop);
        for name in ["audit-20261124.jsonl", "audit-20261123.jsonl.gz", "audit.lock"] {
            let path = folder.path().join("audit").join(name);
            let _ = fs::remove_file(&path);
            fifo(&path);
            let error = open().unwrap_err();
            assert!(error.to_string().contains(&format!("{name}: it is no regular file")), "{error}");
            assert_eq!(error.remedy(), Remedy::Mend);
            fs::remove_file(&path).unwrap();
        }
        fs::rename(folder.path().join("aside"), &path).unwrap();
        fs::remove_file(folder.path().join("state/audit.head")).unwrap();
        fs::create_dir(folder.path().join("state/audit.head")).unwrap();
        let before = text(folder.path());
        assert_eq!(open().unwrap_err().remedy(), Remedy::Mend);
        assert_eq!(text(folder.path()), before, "nothing is written to the chain");
    }

    #[test]
    fn a_new_key_makes_a_rekey_record_while_it_runs_and_at_the_start() {
        let folder = TempDir::new().unwrap();
        let now = at("2026-11-24T12:00:00Z");
        run(folder.path(), &[key(1)], "2026-11-24T12:00:00Z", 2);
        let text = run(folder.path(), &[key(2), key(1)], "2026-11-24T12:00:00Z", 1);
        assert_eq!(text.matches("\"type\":\"rekey\"").count(), 1, "{text}");
        let mut writer = writer(folder.path(), &[key(2), key(1)], now);
        let all = [key(3), key(2), key(1)];
        writer.keys.store(Arc::new(all.to_vec()));
        // Without any record to come.
        writer.append(now, &[]).unwrap();
        writer.append(now, &[]).unwrap();
        writer.append(now, &[&Record::start(now, false)]).unwrap();
        writer.secure().unwrap();
        assert_eq!(self::text(folder.path()).matches("\"type\":\"rekey\"").count(), 2);
        assert_eq!(broken(folder.path(), &all), None);
        assert!(broken(folder.path(), &all[..2]).is_some());
    }
}
