//! The audit: every decision on disk, an exemption before it takes effect.
//!
//! One thread appends to `audit-YYYYMMDD.jsonl` (UTC) and takes whatever waits in one write. Each line carries its number and
//! the SHA-256 of the line before it, across files, and where there is a key a keyed hash, so that a removed or changed line
//! shows (see [`chain`]). A line that a crash cut short is closed at the next start and named by the `start` record behind
//! it. A file that vanished, or that somebody else changed, is noticed with the next record: records go on in a file of the
//! same name, behind a `file` record that says so, and no exemption is committed to a file that is not there.

pub mod chain;
pub mod files;
pub mod verify;
pub mod watch;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::chain::Tip;
use crate::{
    clock,
    edit::tag::Key,
    failures::Failures,
    limits,
    mail::{
        Record,
        record::{self, FileFault, FileRecord},
    },
    remedy::Remedy,
};

/// A handle of the audit's writer. Cloning it is cheap; the writer's thread ends with the last handle.
#[derive(Clone)]
pub struct Audit {
    folder: Arc<Path>,
    queue: mpsc::UnboundedSender<Job>,
    /// The bound on the queue: a permit for each [`STEP`] octets.
    room: Arc<Semaphore>,
    key: Arc<ArcSwapOption<Key>>,
    lost: Counter,
    /// Where failures are told, once that is known.
    failures: Arc<OnceLock<Arc<Failures>>>,
}

/// A record in the queue, with its share of the queue's bound.
struct Job {
    record: Record,
    _share: OwnedSemaphorePermit,
    /// Where to send the result once it is on disk; none for most records.
    waiting: Option<oneshot::Sender<Result<(), AuditError>>>,
}

/// A place in the queue for one record. Dropped, it gives the place back, and nothing is written.
#[must_use]
pub struct Slot {
    record: Record,
    share: OwnedSemaphorePermit,
    queue: mpsc::UnboundedSender<Job>,
}

impl Slot {
    /// Puts the record into the queue, at once. From then on it is written, whether or not the result is waited for.
    pub fn append_durable(self) -> Durable {
        let (sender, done) = oneshot::channel();
        // Where the writer's thread has ended nothing is sent, which [`Durable::done`] returns as an error.
        let _ = self.queue.send(Job { record: self.record, _share: self.share, waiting: Some(sender) });
        Durable(done)
    }
}

/// A record in the queue, which will be on disk. Dropped, the record is written all the same.
#[must_use]
pub struct Durable(oneshot::Receiver<Result<(), AuditError>>);

impl Durable {
    /// Waits until the record is on disk, [`limits::AUDIT_WAIT`] at most. Dropping this future takes nothing back: the record is
    /// in the queue.
    ///
    /// # Errors
    /// [`AuditError::Write`] where it is not on disk, [`AuditError::Busy`] where that is unknown in time: it may still be
    /// written.
    pub async fn done(self) -> Result<(), AuditError> {
        tokio::time::timeout(limits::AUDIT_WAIT, self.0).await.map_err(|_| AuditError::Busy)?.map_err(|_| AuditError::Busy)?
    }
}

/// Why a record is not on disk, or the audit cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder cannot be used.
    #[error("the audit folder {0:?} cannot be used: {1}; create it and give it to the user that firstclick runs as")]
    Folder(PathBuf, String, Remedy),
    /// Another process holds the folder's lock: two writers would break the chain.
    #[error("another firstclick writes to the audit folder {0:?}; give each replica a folder of its own")]
    Taken(PathBuf),
    /// The disk refused the write; the error of the system.
    #[error("the audit record could not be written: {0}")]
    Write(String),
    /// There was no place in the queue in time, or no result, or the writer's thread has ended.
    #[error("the audit did not answer in time")]
    Busy,
}

impl AuditError {
    /// Who mends it.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Folder(_, _, remedy) => *remedy,
            Self::Taken(_) | Self::Write(_) | Self::Busy => Remedy::Wait,
        }
    }
}

impl Audit {
    /// Opens a folder and starts its writer. The chain has no key: no line carries a keyed hash.
    ///
    /// # Errors
    /// [`AuditError::Folder`] and [`AuditError::Taken`].
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        Self::open_keyed(folder, None)
    }

    /// Opens a folder as [`Audit::open`] does, with a key for the chain.
    ///
    /// # Errors
    /// As [`Audit::open`].
    pub fn open_keyed(folder: &Path, key: Option<Key>) -> Result<Self, AuditError> {
        let key = Arc::new(ArcSwapOption::from_pointee(key));
        let mut writer = Writer::open(folder, Arc::clone(&key))?;
        let start = Record::start(clock::now(), writer.torn);
        writer.append(&[&start]).map_err(|error| AuditError::Folder(folder.into(), error.to_string(), Remedy::of(&error)))?;
        let (queue, jobs) = mpsc::unbounded_channel();
        let lost = Counter::default();
        let counted = lost.clone();
        let failures: Arc<OnceLock<Arc<Failures>>> = Arc::default();
        let told = Arc::clone(&failures);
        let run = move || run(writer, jobs, &counted, &told);
        thread::Builder::new()
            .name("audit".into())
            .spawn(run)
            .map_err(|error| AuditError::Folder(folder.into(), error.to_string(), Remedy::of(&error)))?;
        Ok(Self { folder: folder.into(), queue, room: Arc::new(Semaphore::new(limits::AUDIT_QUEUE / STEP)), key, lost, failures })
    }

    /// Tells failures of the disk here from now on.
    pub fn report_to(&self, failures: Arc<Failures>) {
        // Only the first counts; there is one.
        let _ = self.failures.set(failures);
    }

    /// Writes by another key, or none, from the next record on.
    pub fn key_by(&self, key: Option<Key>) {
        self.key.store(key.map(Arc::new));
    }

    /// Counts the records that were lost, because the disk refused them or did not keep up; a metric.
    #[must_use]
    pub fn lost(&self) -> Counter {
        self.lost.clone()
    }

    /// Octets of the records that wait to be written now, roughly.
    #[must_use]
    pub fn waiting(&self) -> usize {
        (limits::AUDIT_QUEUE / STEP).saturating_sub(self.room.available_permits()) * STEP
    }

    /// The folder of the audit's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until the queue has room for so many octets, [`limits::AUDIT_WAIT`] at most, and takes none of it. Cancel-safe.
    ///
    /// # Errors
    /// [`AuditError::Busy`]: no room in time.
    pub async fn wait_for_room(&self, weight: usize) -> Result<(), AuditError> {
        let room = tokio::time::timeout(limits::AUDIT_WAIT, self.room.acquire_many(steps(weight))).await;
        room.ok().and_then(Result::ok).map(drop).ok_or(AuditError::Busy)
    }

    /// Waits for a place in the queue, [`limits::AUDIT_WAIT`] at most. Dropped, it has taken nothing, and the record is not
    /// written.
    ///
    /// # Errors
    /// [`AuditError::Busy`]: no room in time.
    pub async fn slot(&self, record: Record) -> Result<Slot, AuditError> {
        let room = Arc::clone(&self.room).acquire_many_owned(steps(record.weight()));
        let share = tokio::time::timeout(limits::AUDIT_WAIT, room).await.ok().and_then(Result::ok).ok_or(AuditError::Busy)?;
        Ok(Slot { record, share, queue: self.queue.clone() })
    }

    /// Puts a record into the queue without waiting; where there is no room it is dropped, and the log says so.
    pub fn append_now(&self, record: Record) {
        if let Ok(share) = Arc::clone(&self.room).try_acquire_many_owned(steps(record.weight())) {
            let _ = self.queue.send(Job { record, _share: share, waiting: None });
        } else {
            self.lost.inc();
            tracing::error!(id = record.id().unwrap_or_default(), "the audit disk is too slow: a record was dropped");
        }
    }

    /// Puts a record that is no mail's into the queue, without waiting. Where the queue is more than half full it is dropped:
    /// mails come first.
    pub fn append_aside(&self, record: Record) {
        if self.room.available_permits() < limits::AUDIT_QUEUE / STEP / 2 {
            tracing::warn!("the audit is busy: what was done with a guard link was not put on record");
            return;
        }
        self.append_now(record);
    }

    /// Puts a record into the queue and waits until it is on disk. Dropped before it is in the queue, nothing is written; dropped
    /// later, the record is written all the same.
    ///
    /// # Errors
    /// [`AuditError::Write`] and [`AuditError::Busy`]; after the latter it may still be written.
    pub async fn append_durable(&self, record: Record) -> Result<(), AuditError> {
        self.slot(record).await?.append_durable().done().await
    }
}

/// Octets of the queue's bound for one permit.
const STEP: usize = 1024;

/// The permits for a record; one that is larger than the queue takes all of them.
fn steps(weight: usize) -> u32 {
    u32::try_from(weight.div_ceil(STEP).clamp(1, limits::AUDIT_QUEUE / STEP)).unwrap_or(u32::MAX)
}

fn run(mut writer: Writer, mut jobs: mpsc::UnboundedReceiver<Job>, lost: &Counter, failures: &OnceLock<Arc<Failures>>) {
    let mut batch = Vec::new();
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        // Whoever waited too long has passed the mail as an ordinary one, and writes that instead.
        batch.retain(|job: &Job| job.waiting.as_ref().is_none_or(|waiting| !waiting.is_closed()));
        if batch.is_empty() {
            continue;
        }
        let records: Vec<&Record> = batch.iter().map(|job| &job.record).collect();
        let mut outcome = writer.append(&records);
        let somebody_waits = batch.iter().any(|job| job.waiting.is_some());
        if outcome.is_ok() && somebody_waits {
            outcome = writer.sync().and_then(|()| writer.is_in_place());
        }
        if let Err(error) = &outcome {
            lost.inc_by(batch.iter().filter(|job| job.waiting.is_none()).count() as u64);
            if let Some(failures) = failures.get() {
                failures.failed(error);
            }
        } else if let Some(failures) = failures.get() {
            failures.worked();
        }
        for sender in batch.drain(..).filter_map(|job| job.waiting) {
            // The receiver may have been dropped.
            let _ = sender.send(outcome.as_ref().copied().map_err(|error| AuditError::Write(error.to_string())));
        }
        if !somebody_waits {
            thread::sleep(GATHER);
        }
    }
}

/// Pause after records that nobody waits for, so that under load one write, and one waking of this thread, serves many
/// mails. An exemption waits so long at most.
const GATHER: Duration = Duration::from_millis(1);

/// Records taken in one write.
const BATCH: usize = 256;

/// The file of one day (UTC).
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
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
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

/// The writer: the open file and the end of the chain.
struct Writer {
    folder: PathBuf,
    /// Held as long as the writer lives; the lock ends with it.
    _lock: File,
    open: Option<Day>,
    tip: Tip,
    torn: bool,
    key: Arc<ArcSwapOption<Key>>,
    /// The record of a touched file, which is still to be written.
    fault: Option<Record>,
}

impl Writer {
    fn open(folder: &Path, key: Arc<ArcSwapOption<Key>>) -> Result<Self, AuditError> {
        let fail = |error: io::Error| AuditError::Folder(folder.into(), error.to_string(), Remedy::of(&error));
        // A folder that is not there may be on a share that is not mounted yet, whatever keeps us from making one in its place.
        let absent = |error: io::Error| AuditError::Folder(folder.into(), error.to_string(), Remedy::Wait);
        fs::create_dir_all(folder).map_err(|error| if folder.exists() { fail(error) } else { absent(error) })?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("audit.lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(AuditError::Taken(folder.into())),
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        let (tip, torn) = Tip::find(folder).map_err(fail)?;
        Ok(Self { folder: folder.into(), _lock: lock, open: None, tip, torn, key, fault: None })
    }

    /// Appends records, all or none.
    fn append(&mut self, records: &[&Record]) -> io::Result<()> {
        let now = clock::now();
        let name = format!("audit-{}.jsonl", now.strftime("%Y%m%d"));
        if let Some(day) = &self.open
            && let Some(what) = day.fault(&self.folder)?
        {
            tracing::error!(
                file = day.name,
                what = what.code(),
                "the audit file was touched by somebody else; records go on in a file of the same name"
            );
            self.fault = Some(Record::File(FileRecord { v: record::VERSION, time: now, file: day.name.clone(), what: what.into() }));
            self.open = None;
        }
        let day = match self.open.take() {
            Some(day) if day.name == name => day,
            _ => Day::open(&self.folder, &name)?,
        };
        let fault = self.fault.take();
        let written = self.write(day, fault.iter().chain(records.iter().copied()));
        if written.is_err() {
            self.fault = fault;
        }
        written
    }

    fn write<'r>(&mut self, mut day: Day, records: impl Iterator<Item = &'r Record>) -> io::Result<()> {
        let (mut text, mut tip, key) = (String::new(), self.tip.clone(), self.key.load_full());
        for record in records {
            text.push_str(&tip.link(record, key.as_deref()));
        }
        let written = day.file.write_all(text.as_bytes());
        if written.is_ok() {
            day.length += text.len() as u64;
            self.tip = tip;
        } else {
            // A half-written line would break the chain. The disk may be full, but truncating needs no space.
            day.file.set_len(day.length)?;
        }
        self.open = Some(day);
        written
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |day| day.file.sync_data())
    }

    /// Whether what was written is found under the file's name.
    fn is_in_place(&self) -> io::Result<()> {
        let Some(day) = &self.open else { return Ok(()) };
        day.fault(&self.folder)?.map_or(Ok(()), |what| Err(io::Error::other(format!("{} {} while it was written", day.name, what.code()))))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn record() -> Record {
        Record::start(clock::now(), false)
    }

    fn only_file(folder: &Path) -> PathBuf {
        chain::files(folder).unwrap().pop().unwrap()
    }

    /// The file as another program leaves it; whether the next exemption reports it, and whether `verify` does.
    async fn touched(how: impl FnOnce(&Path)) -> (String, Option<String>) {
        let folder = TempDir::new().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for _ in 0..3 {
            audit.append_durable(record()).await.unwrap();
        }
        how(&only_file(folder.path()));
        audit.append_durable(record()).await.unwrap();
        let text = fs::read_to_string(only_file(folder.path())).unwrap();
        (text, verify::verify(folder.path()).unwrap().broken.map(|broken| broken.what))
    }

    #[tokio::test]
    async fn a_file_that_vanishes_is_noticed_before_the_next_exemption() {
        let (text, broken) = touched(|file| fs::remove_file(file).unwrap()).await;
        assert!(text.starts_with("{\"type\":\"file\"") && text.contains("\"what\":\"vanished\""), "{text}");
        assert_eq!(text.lines().count(), 2);
        assert!(broken.is_some() && text.contains("\"n\":5"), "{text}");
        let (text, broken) = touched(|file| {
            fs::remove_file(file).unwrap();
            fs::write(file, "").unwrap();
        })
        .await;
        assert!(text.contains("\"what\":\"replaced\"") && broken.is_some(), "{text}");
        let (text, broken) = touched(|file| File::options().write(true).open(file).unwrap().set_len(700).unwrap()).await;
        assert!(text.contains("\"what\":\"changed\"") && broken.is_some(), "{text}");
        let (text, broken) = touched(|file| File::options().write(true).open(file).unwrap().set_len(0).unwrap()).await;
        assert!(text.contains("\"what\":\"changed\"") && broken.is_some(), "{text}");
        let (text, broken) = touched(|file| File::options().append(true).open(file).unwrap().write_all(b"x").unwrap()).await;
        assert!(text.contains("\nx\n{\"type\":\"file\"") && broken.is_some(), "{text}");
    }

    /// Whoever waited too long has passed the mail as an ordinary one: its exemption must not stand in the audit.
    #[test]
    fn what_nobody_waits_for_any_more_is_not_written() {
        let folder = TempDir::new().unwrap();
        let writer = Writer::open(folder.path(), Arc::default()).unwrap();
        let (queue, jobs) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(10));
        let share = || Arc::clone(&room).try_acquire_owned().unwrap();
        for (number, keeps) in [true, false, true, false].into_iter().enumerate() {
            let (sender, receiver) = oneshot::channel();
            let outcome = Record::outcome(clock::now(), format!("mail-{number}"), crate::mail::Outcome::cancelled());
            queue.send(Job { record: outcome, _share: share(), waiting: Some(sender) }).map_err(drop).unwrap();
            if keeps {
                std::mem::forget(receiver);
            }
        }
        drop(queue);
        run(writer, jobs, &Counter::default(), &OnceLock::new());
        let text = fs::read_to_string(only_file(folder.path())).unwrap();
        let written: Vec<bool> = (0..4).map(|number| text.contains(&format!("mail-{number}"))).collect();
        assert_eq!(written, [true, false, true, false], "{text}");
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_can_be_put_back() {
        let folder = TempDir::new().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.append_durable(record()).await.unwrap();
        let (file, away) = (only_file(folder.path()), folder.path().join("audit-20000101.jsonl"));
        fs::rename(&file, &away).unwrap();
        audit.append_durable(record()).await.unwrap();
        let report = verify::verify(folder.path()).unwrap();
        assert_eq!((report.broken, report.lines, report.from_the_start), (None, 4, true));
        fs::remove_file(&away).unwrap();
        assert!(verify::verify(folder.path()).unwrap().broken.is_some());
    }

    #[tokio::test]
    async fn where_the_folder_is_gone_there_is_no_exemption() {
        let folder = TempDir::new().unwrap();
        let (here, away) = (folder.path().join("audit"), folder.path().join("away"));
        let audit = Audit::open(&here).unwrap();
        audit.append_durable(record()).await.unwrap();
        fs::rename(&here, &away).unwrap();
        assert!(matches!(audit.append_durable(record()).await, Err(AuditError::Write(_))));
        fs::rename(&away, &here).unwrap();
        audit.append_durable(record()).await.unwrap();
        let text = fs::read_to_string(only_file(&here)).unwrap();
        assert!(text.contains("\"type\":\"file\""), "{text}");
        assert_eq!(verify::verify(&here).unwrap().broken, None);
    }
}
