//! What becomes of files that are no longer written to: they are compressed, and removed once their time is over.
//!
//! It has a thread of its own, so that no exemption waits for it. Nothing is lost by a crash: a compressed file is read back
//! before the plain one is removed, and a file is removed only once a `retired` record of it is on disk, by which `verify` knows
//! that the oldest record that is left follows the newest that is gone.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use super::{
    AuditConfig, Handle, chain,
    files::{self, AuditFile, Packing},
    queue,
};
use crate::{
    clock,
    mail::{
        Record,
        record::{self, RetiredRecord},
    },
    regular,
};
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use flate2::{Compression, GzBuilder, bufread::MultiGzDecoder};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// Looks after the files of a folder.
pub(super) struct Keeper {
    folder: PathBuf,
    keep: Option<Duration>,
    compress: bool,
    live: Arc<ArcSwapOption<String>>,
    /// Ends with the audit's last handle.
    queue: Weak<Handle>,
    /// The file that could not be retired, which the log told of.
    told: Option<String>,
}

impl Keeper {
    pub(super) fn new(config: &AuditConfig, live: Arc<ArcSwapOption<String>>, queue: Weak<Handle>) -> Self {
        Self { folder: config.folder.clone(), keep: config.keep, compress: config.compress, live, queue, told: None }
    }

    /// Looks at the files now and every [`PASS`], until the audit ends.
    pub(super) fn run(mut self) {
        loop {
            if let Err(error) = self.pass(clock::now()) {
                tracing::warn!(%error, "audit files could not be compressed or retired; tried again in ten minutes");
            }
            for _ in 0..PASS.as_secs() {
                thread::sleep(STEP);
                if self.has_ended() {
                    return;
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.queue.strong_count() == 0
    }

    /// Compresses all closed files, and retires the oldest where its time is over. One at a time: a clock that is wrong by years
    /// takes no more than six files an hour.
    fn pass(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(live) = self.live.load_full().and_then(|name| AuditFile::at(self.folder.join(name.as_str()))) else { return Ok(()) };
        if self.compress {
            for file in files::list(&self.folder)? {
                if file.packing() == Packing::Plain && file.day() < live.day() && !self.has_ended() {
                    compress(&self.folder, &file)?;
                }
            }
        }
        let Some(keep) = self.keep.and_then(|keep| SignedDuration::try_from(keep).ok()) else { return Ok(()) };
        let files = files::list(&self.folder)?;
        let Some(oldest) = files.first().filter(|oldest| oldest.day() < live.day()) else { return Ok(()) };
        let today = TimeZone::UTC.to_datetime(now.saturating_sub(keep).unwrap_or(now)).date();
        if oldest.day() >= today {
            return Ok(());
        }
        match Range::of(&files)? {
            Ok(range) => self.retire(oldest, range, now),
            Err(why) => {
                if self.told.as_deref() != Some(oldest.name()) {
                    tracing::warn!(file = oldest.name(), why, "an audit file whose time is over is kept");
                    self.told = Some(oldest.name().to_owned());
                }
                Ok(())
            }
        }
    }

    /// Puts on record that a file goes, and removes it.
    fn retire(&self, file: &AuditFile, range: Range, now: Timestamp) -> io::Result<()> {
        let Some(handle) = self.queue.upgrade() else { return Ok(()) };
        let Range { first, last, hash } = range;
        let record = Record::Retired(RetiredRecord { v: record::VERSION, time: now, file: file.name().to_owned(), first, last, hash });
        let (answer, waiter) = queue::answer();
        handle.0.put(Some(&record), 0, Some(answer));
        // The handle must not keep the audit open.
        drop(handle);
        waiter.block().map_err(io::Error::other)?;
        fs::remove_file(file.path())?;
        File::open(&self.folder)?.sync_all()?;
        tracing::info!(file = file.name(), first, last, "an audit file was retired: its time is over");
        Ok(())
    }
}

/// How often files are looked at.
const PASS: Duration = Duration::from_mins(10);
/// How often it is seen that the audit has ended.
const STEP: Duration = Duration::from_secs(1);

/// The records of the oldest file.
struct Range {
    first: u64,
    last: u64,
    hash: String,
}

impl Range {
    /// The range of the first of these files, where it is the oldest whole piece of the chain; else why it is not.
    fn of(files: &[AuditFile]) -> io::Result<Result<Self, &'static str>> {
        let mut files = files.iter();
        let Some(oldest) = files.next() else { return Ok(Err("there is none")) };
        let next = files.next().and_then(AuditFile::first_record);
        let linked_to = next.as_ref().and_then(chain::Linked::linked_to);
        let (mut range, mut linked): (Option<Self>, Option<String>) = (None, None);
        for line in oldest.lines()? {
            let line = line?;
            let Some(n) = chain::number(&line) else { continue };
            if linked_to == Some(n) {
                linked = Some(chain::hash(&line));
            }
            match &mut range {
                None => range = Some(Self { first: n, last: n, hash: chain::hash(&line) }),
                Some(range) if range.last.checked_add(1) == Some(n) => (range.last, range.hash) = (n, chain::hash(&line)),
                Some(_) => return Ok(Err("its records do not follow one another; see `firstclick audit verify`")),
            }
        }
        let Some(range) = range else { return Ok(Err("it has no records with numbers")) };
        // What it is linked to is the last one, or numbers behind that are left out.
        let follows = next.is_some_and(|next| next.link.n > Some(range.last) && Some(next.link.prev) == linked);
        if !follows {
            return Ok(Err("the next file's first record does not follow its last; see `firstclick audit verify`"));
        }
        Ok(Ok(range))
    }
}

/// Writes a file's gzip beside it, reads it back, and removes the plain one.
fn compress(folder: &Path, file: &AuditFile) -> io::Result<()> {
    let (mut oldest, mut newest) = (Timestamp::MAX, Timestamp::MIN);
    for line in file.lines()? {
        if let Some(time) = files::time(&line?) {
            (oldest, newest) = (oldest.min(time), newest.max(time));
        }
    }
    let found = fs::metadata(file.path())?;
    let beside = folder.join(format!("{}.gz.tmp", file.name()));
    let written = pack(file.path(), &beside, &format!("{oldest} {newest}"), &found.permissions());
    let (before, after) = match written.and_then(|()| Ok((digest_of(regular::open(file.path())?)?, digest_of(unpacked(&beside)?)?))) {
        Ok(digests) => digests,
        Err(error) => {
            // What is left of it is no audit file by its name, and is written over the next time.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
    };
    if before != after || fs::metadata(file.path())?.len() != found.len() {
        fs::remove_file(&beside)?;
        return Err(io::Error::other(format!("{} changed while it was compressed", file.name())));
    }
    File::open(&beside)?.set_modified(found.modified()?)?;
    let target = (0..COPIES)
        .map(|number: u32| match number {
            0 => format!("{}.gz", file.name()),
            _ => format!("audit-{}.jsonl.{number}.gz", file.day().strftime("%Y%m%d")),
        })
        .map(|name| folder.join(name))
        // One of a crash is written over, and a damaged one put aside; another file of the same day stays.
        .find(|path| !path.exists() || is_left_of(path, file.path(), &before))
        .ok_or_else(|| io::Error::other("there is no name for it"))?;
    if target.exists() && !unpacked(&target).and_then(digest_of).is_ok_and(|there| there == before) {
        let damaged = folder.join(format!("{}.gz.damaged", file.name()));
        tracing::warn!(file = %damaged.display(), "a gzip beside its audit file was damaged or cut short; it is kept under this name");
        fs::rename(&target, damaged)?;
    }
    fs::rename(&beside, &target)?;
    File::open(folder)?.sync_all()?;
    fs::remove_file(file.path())?;
    File::open(folder)?.sync_all()?;
    tracing::info!(file = file.name(), octets = found.len(), compressed = fs::metadata(&target)?.len(), "an audit file was compressed");
    Ok(())
}

/// Whether a gzip holds this plain file, or as far as it can be read the beginning of it and nothing else: a crash, or a full disk,
/// cut it short.
fn is_left_of(packed: &Path, plain: &Path, digest: &[u8]) -> bool {
    let Ok(there) = unpacked(packed) else { return false };
    let Ok(plain) = regular::open(plain) else { return false };
    let (mut there, mut plain) = (io::BufReader::new(there), io::BufReader::new(plain));
    let (mut ours, mut theirs) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = match there.read(&mut theirs) {
            Ok(0) => return unpacked(packed).and_then(digest_of).is_ok_and(|whole| whole == digest),
            // It ends within, or its check sum is wrong.
            Err(_) => return true,
            Ok(read) => read,
        };
        let same = plain.read_exact(ours.get_mut(..read).unwrap_or_default()).is_ok();
        if !same || ours.get(..read) != theirs.get(..read) {
            return false;
        }
    }
}

/// Writes a gzip to disk, in pieces, so that others that write to it do not wait for all of it.
fn pack(from: &Path, to: &Path, comment: &str, permissions: &Permissions) -> io::Result<()> {
    let mut plain = regular::open(from)?;
    let file = regular::open_with(File::options().create(true).truncate(true).write(true), to)?;
    file.set_permissions(permissions.clone())?;
    let mut packed = GzBuilder::new().comment(comment).write(file, Compression::default());
    loop {
        if io::copy(&mut (&mut plain).take(PIECE), &mut packed)? == 0 {
            break;
        }
        packed.flush()?;
        packed.get_ref().sync_data()?;
    }
    packed.finish()?.sync_all()
}

/// Compressed files of one day that somebody put there, at most.
const COPIES: u32 = 1_000;

/// Octets of a file that are compressed and put on disk at one time.
const PIECE: u64 = 8 << 20;

fn unpacked(path: &Path) -> io::Result<impl Read + use<>> {
    Ok(MultiGzDecoder::new(io::BufReader::new(regular::open(path)?)))
}

fn digest_of(mut from: impl Read) -> io::Result<Vec<u8>> {
    let (mut context, mut block) = (digest::Context::new(&digest::SHA256), vec![0; 64 << 10]);
    loop {
        match from.read(&mut block)? {
            0 => return Ok(context.finish().as_ref().to_vec()),
            read => context.update(block.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;
    use crate::audit::queue::{Batch, Queue};
    use crate::{
        audit::{
            verify::{Report, verify_by},
            writer::Writer,
        },
        edit::tag::Key,
    };

    struct Kept {
        folder: TempDir,
        keys: Vec<Key>,
        writer: Option<Writer>,
    }

    /// Three records on each of these days of November.
    fn kept(days: &[u8]) -> Kept {
        let folder = TempDir::new().unwrap();
        let keys = vec![Key::parse(&BASE64.encode([1; 32])).unwrap()];
        let config = AuditConfig::new(folder.path().into());
        let mut writer = Writer::open(&config, Arc::new(ArcSwap::from_pointee(keys.clone())), at(1)).unwrap();
        for day in days {
            for _ in 0..3 {
                writer.append(at(*day), &[&Record::start(at(*day), false)]).unwrap();
            }
        }
        Kept { folder, keys, writer: Some(writer) }
    }

    fn at(day: u8) -> Timestamp {
        format!("2026-11-{day:02}T12:00:00Z").parse().unwrap()
    }

    impl Kept {
        /// One pass, with a writer that takes what it sends.
        fn pass(&mut self, day: u8, keep: Option<u64>, compress: bool) {
            let queue = Arc::new(Queue::new());
            let (taking, handle) = (Arc::clone(&queue), Arc::new(Handle(queue)));
            let mut writer = self.writer.take().unwrap();
            let keep = keep.map(|days| Duration::from_secs(days * 86_400));
            let config = AuditConfig { keep, compress, ..AuditConfig::new(self.folder.path().into()) };
            let mut keeper = Keeper::new(&config, writer.live(), Arc::downgrade(&handle));
            let writing = thread::spawn(move || {
                let mut batch = Batch::default();
                while taking.take(&mut batch, Duration::from_mins(1)) {
                    writer.append_lines(at(day), batch.records()).unwrap();
                    batch.answer(&Ok(()));
                    taking.done(&mut batch);
                }
                writer
            });
            keeper.pass(at(day)).unwrap();
            drop(handle);
            self.writer = Some(writing.join().unwrap());
        }

        fn names(&self) -> Vec<String> {
            files::list(self.folder.path()).unwrap().iter().map(ToString::to_string).collect()
        }

        fn verify(&self) -> Report {
            verify_by(self.folder.path(), &self.keys).unwrap()
        }
    }

    #[test]
    fn closed_files_are_compressed_and_the_chain_holds() {
        let mut kept = kept(&[1, 2, 3]);
        kept.pass(3, None, true);
        assert_eq!(kept.names(), ["audit-20261101.jsonl.gz", "audit-20261102.jsonl.gz", "audit-20261103.jsonl"]);
        assert_eq!((kept.verify().broken, kept.verify().lines, kept.verify().from_the_start), (None, 9, true));
        let since = Some("2026-11-02T00:00:00Z".parse().unwrap());
        let file = &files::list(kept.folder.path()).unwrap()[0];
        assert!(file.may_hold(None, since) && !file.may_hold(Some(at(9)), None));
        // Another file of the day, which somebody put there.
        fs::copy(kept.folder.path().join("audit-20261101.jsonl.gz"), kept.folder.path().join("audit-20261102.jsonl.gz")).unwrap();
        fs::remove_file(kept.folder.path().join("audit-20261101.jsonl.gz")).unwrap();
        fs::write(kept.folder.path().join("audit-20261102.jsonl"), "{}\n").unwrap();
        kept.pass(3, None, true);
        assert!(kept.names().contains(&"audit-20261102.jsonl.1.gz".to_owned()), "{:?}", kept.names());
    }

    #[test]
    fn a_file_whose_time_is_over_goes_and_verify_knows_what_follows() {
        let mut kept = kept(&[1, 2, 3, 20]);
        kept.pass(20, Some(18), true);
        assert_eq!(kept.names(), ["audit-20261102.jsonl.gz", "audit-20261103.jsonl.gz", "audit-20261120.jsonl"]);
        let report = kept.verify();
        assert_eq!((report.broken, report.from_the_start, report.retired), (None, false, Some(3)));
        kept.pass(20, Some(1), false);
        kept.pass(20, Some(1), false);
        // Never the newest.
        kept.pass(30, Some(1), false);
        assert_eq!(kept.names(), ["audit-20261120.jsonl"]);
        let report = kept.verify();
        assert_eq!((report.broken, report.retired), (None, Some(9)));
        // The end cut off, with the newest record of a retirement.
        let path = kept.folder.path().join("audit-20261120.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.get(..text.rfind("{\"type\":\"retired\"").unwrap()).unwrap()).unwrap();
        let what = kept.verify().broken.unwrap().what;
        assert!(what.starts_with("records 7 to 9, which come before this one, are missing: those up to 6 were retired"), "{what}");
        fs::write(&path, text).unwrap();
        // What was retired does not stand for what somebody else took away.
        let path = kept.folder.path().join("audit-20261120.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
        assert!(kept.verify().broken.unwrap().what.contains("retired"));
    }

    #[test]
    fn what_is_no_whole_piece_of_the_chain_is_kept() {
        let mut kept = kept(&[1, 2, 20]);
        let path = kept.folder.path().join("audit-20261102.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
        kept.pass(20, Some(1), false);
        assert_eq!(kept.names().len(), 3);
    }
}
