//! The audit: every decision on disk, an exemption before it takes effect.
//!
//! One thread appends to `audit-YYYYMMDD.jsonl` (UTC) and takes whatever waits in one write (see `queue`). Each line carries its number and
//! the SHA-256 of the line before it, across files, and where there is a key a keyed hash, so that a removed or changed line
//! shows (see [`chain`]). The [`head`] file names the newest record, so that a cut end shows; every hour log and metrics do, too.
//! A line that a crash cut short is closed at the next start and named by the `start` record behind
//! it. A file that vanished, or that somebody else changed, is noticed at once: records go on in a file of the
//! same name, behind a `file` record that says so, and no exemption is committed to a file that is not there.

pub mod chain;
pub mod files;
pub mod head;
mod keep;
pub mod meters;
pub mod pseudonym;
mod queue;
pub mod verify;
pub mod watch;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::OwnedSemaphorePermit;

use self::{
    keep::Keeper,
    meters::Meters,
    queue::{Batch, Queue, STEP, Waiter, steps},
    writer::Writer,
};
use crate::{
    clock::{self, Stopwatch},
    edit::tag::Key,
    failures::Failures,
    limits,
    mail::Record,
    remedy::Remedy,
};

/// Where an audit is, and how it is kept.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The folder of its files.
    pub folder: PathBuf,
    /// The keys of its chain, the newest first: it is written with. Without any, no line carries a keyed hash.
    pub keys: Vec<Key>,
    /// The head file; without it, one in the folder itself.
    pub head: Option<PathBuf>,
    /// How long files are kept; without it, for ever.
    pub keep: Option<Duration>,
    /// Whether files are compressed once they are no longer written to.
    pub compress: bool,
}

impl AuditConfig {
    /// A folder, with nothing else said.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, keys: Vec::new(), head: None, keep: None, compress: false }
    }
}

/// A handle of the audit's writer. Cloning it is cheap; the writer's thread ends with the last handle.
#[derive(Clone)]
pub struct Audit {
    folder: Arc<Path>,
    queue: Arc<Handle>,
    keys: Arc<ArcSwap<Vec<Key>>>,
    meters: Meters,
    /// Where failures are told, once that is known.
    failures: Arc<OnceLock<Arc<Failures>>>,
}

/// The queue of a writer, which is closed with the last of its handles.
struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Says that an exemption is being decided on: those that are committed meanwhile wait for it, two milliseconds at most, to share
/// what the disk costs. It ends when this is dropped.
#[must_use]
pub struct Announced(Arc<Handle>);

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.0.came();
    }
}

/// A place in the queue for one record. Dropped, it gives the place back, and nothing is written.
#[must_use]
pub struct Slot {
    record: Record,
    share: OwnedSemaphorePermit,
    queue: Arc<Handle>,
}

impl Slot {
    /// Puts the record into the queue, at once. From then on it is written, whether or not the result is waited for.
    pub fn append_durable(self) -> Durable {
        let (answer, waiter) = queue::answer();
        let steps = self.share.num_permits();
        self.share.forget();
        self.queue.0.put(Some(&self.record), steps, Some(answer));
        Durable(waiter)
    }
}

/// A record in the queue, which will be on disk. Dropped, the record is written all the same.
#[must_use]
pub struct Durable(Waiter);

impl Durable {
    /// Waits until the record is on disk, [`limits::AUDIT_WAIT`] at most. Dropping this future takes nothing back: the record is
    /// in the queue, and is written.
    ///
    /// # Errors
    /// [`AuditError::Write`] where it is not on disk, [`AuditError::Busy`] where that is unknown in time: then it is taken back,
    /// and written only where the disk has it in hand.
    pub async fn done(self) -> Result<(), AuditError> {
        self.0.wait(limits::AUDIT_WAIT).await
    }
}

/// Why a record is not on disk, or the audit cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder cannot be used.
    #[error("the audit folder {0:?} cannot be used: {1}; create it and give it to the user that firstclick runs as")]
    Folder(PathBuf, String, Remedy),
    /// A file of it cannot be used.
    #[error("the audit's file {path}: {what}; the user that firstclick runs as must be able to read and write it", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why, in words.
        what: String,
        /// Who mends it.
        remedy: Remedy,
    },
    /// The head file cannot be written.
    #[error(
        "the audit's head file cannot be used: {0}; give its folder to the user that firstclick runs as, or name another by [audit] state"
    )]
    Head(String, Remedy),
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
    /// By an error of the system, which may be about one file of the folder.
    fn opening(folder: &Path, error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<files::FileError>()) {
            Some(of) => Self::File { path: of.path.clone(), what: of.error.to_string(), remedy: Remedy::of(&of.error) },
            None => Self::Folder(folder.to_owned(), error.to_string(), Remedy::of(error)),
        }
    }

    /// Who mends it.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Folder(_, _, remedy) | Self::File { remedy, .. } | Self::Head(_, remedy) => *remedy,
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
        Self::open_with(&AuditConfig::new(folder.to_owned()))
    }

    /// Opens an audit and starts its writer.
    ///
    /// # Errors
    /// [`AuditError::Folder`], [`AuditError::Head`] and [`AuditError::Taken`].
    pub fn open_with(config: &AuditConfig) -> Result<Self, AuditError> {
        let folder: Arc<Path> = config.folder.as_path().into();
        let fail = |error: io::Error| AuditError::opening(&config.folder, &error);
        let keys = Arc::new(ArcSwap::from_pointee(config.keys.clone()));
        let mut writer = Writer::open(config, Arc::clone(&keys), clock::now())?;
        let start = Record::start(clock::now(), writer.torn);
        writer.append(clock::now(), &[&start]).map_err(fail)?;
        if let Err(error) = writer.checkpoint() {
            // As while it runs: tried again, and mails go on as ordinary ones.
            tracing::error!(%error, "no exemption is committed until the audit's head file can be written");
        }
        let queue = Arc::new(Queue::new());
        let (meters, live) = (writer.meters.clone(), writer.live());
        let failures: Arc<OnceLock<Arc<Failures>>> = Arc::default();
        let told = Arc::clone(&failures);
        let taking = Arc::clone(&queue);
        thread::Builder::new().name("audit".into()).spawn(move || run(writer, &taking, &told)).map_err(fail)?;
        let queue = Arc::new(Handle(queue));
        if config.keep.is_some() || config.compress {
            let keeper = Keeper::new(config, live, Arc::downgrade(&queue));
            thread::Builder::new().name("audit-keep".into()).spawn(move || keeper.run()).map_err(fail)?;
        }
        Ok(Self { folder, queue, keys, meters, failures })
    }

    /// Tells failures of the disk here from now on.
    pub fn report_to(&self, failures: Arc<Failures>) {
        // Only the first counts; there is one.
        let _ = self.failures.set(failures);
    }

    /// Writes by the first of these keys, or by none, from now on. Where it is another one, a `rekey` record says so.
    pub fn key_by(&self, keys: Vec<Key>) {
        self.keys.store(Arc::new(keys));
    }

    /// What the metrics say of it.
    #[must_use]
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Returns once the queue is empty, all records are on disk and a last checkpoint is in the log;
    /// [`limits::AUDIT_WAIT`] at most for each of both.
    ///
    /// # Errors
    /// [`AuditError::Busy`] and [`AuditError::Write`].
    pub async fn settle(&self) -> Result<(), AuditError> {
        self.wait_for_room(limits::AUDIT_QUEUE).await?;
        let (answer, waiter) = queue::answer();
        self.queue.0.put(None, 0, Some(answer));
        Durable(waiter).done().await
    }

    /// Octets of the records that wait to be written now, roughly.
    #[must_use]
    pub fn waiting(&self) -> usize {
        (limits::AUDIT_QUEUE / STEP).saturating_sub(self.queue.0.room.available_permits()) * STEP
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
        let (room, steps) = (&self.queue.0.room, steps(weight));
        if room.available_permits() >= steps as usize {
            return Ok(());
        }
        let room = tokio::time::timeout(limits::AUDIT_WAIT, room.acquire_many(steps)).await;
        room.ok().and_then(Result::ok).map(drop).ok_or(AuditError::Busy)
    }

    /// Says that an exemption is being decided on, until the result is dropped.
    pub fn announce(&self) -> Announced {
        self.queue.0.announce();
        Announced(Arc::clone(&self.queue))
    }

    /// Waits for a place in the queue, [`limits::AUDIT_WAIT`] at most. Dropped, it has taken nothing, and the record is not
    /// written.
    ///
    /// # Errors
    /// [`AuditError::Busy`]: no room in time.
    pub async fn slot(&self, record: Record) -> Result<Slot, AuditError> {
        let (room, steps) = (|| Arc::clone(&self.queue.0.room), steps(record.weight()));
        let share = if let Ok(share) = room().try_acquire_many_owned(steps) {
            share
        } else {
            let waiting = tokio::time::timeout(limits::AUDIT_WAIT, room().acquire_many_owned(steps));
            waiting.await.ok().and_then(Result::ok).ok_or(AuditError::Busy)?
        };
        Ok(Slot { record, share, queue: Arc::clone(&self.queue) })
    }

    /// Puts a record into the queue without waiting; where there is no room it is dropped, and the log says so.
    pub fn append_now(&self, record: &Record) {
        let queue = &self.queue.0;
        if let Ok(share) = queue.room.try_acquire_many(steps(record.weight())) {
            let steps = share.num_permits();
            share.forget();
            queue.put(Some(record), steps, None);
        } else {
            self.meters.lost(1);
            tracing::error!(id = record.id().unwrap_or_default(), "the audit disk is too slow: a record was dropped");
        }
    }

    /// Puts a record that is no mail's into the queue, without waiting. Where the queue is more than half full it is dropped:
    /// mails come first.
    pub fn append_aside(&self, record: &Record) {
        if self.queue.0.room.available_permits() < limits::AUDIT_QUEUE / STEP / 2 {
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

/// Writes what comes until all handles are dropped. Between records, and at least once in [`TICK`], it looks after the rest.
fn run(mut writer: Writer, queue: &Queue, failures: &OnceLock<Arc<Failures>>) {
    let _end = End(queue);
    let (mut batch, mut watch) = (Batch::default(), Watch::start());
    while queue.take(&mut batch, TICK) {
        if !batch.is_empty() {
            batch.leave_out_withdrawn();
            take(&mut writer, &mut batch, failures.get());
            queue.done(&mut batch);
        }
        watch.look(&mut writer, failures.get());
    }
    if let Err(error) = writer.close() {
        tracing::error!(%error, "the audit's last checkpoint could not be made");
    }
}

/// However the writer's thread ends, nobody waits for it in vain.
struct End<'q>(&'q Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Writes what was taken from the queue, and tells whoever waits.
fn take(writer: &mut Writer, batch: &mut Batch, failures: Option<&Arc<Failures>>) {
    let mut outcome = writer.append_lines(clock::now(), batch.records());
    if outcome.is_err() {
        writer.meters.lost(batch.unawaited());
    }
    if outcome.is_ok() && batch.awaited > 0 {
        writer.meters.committed();
        outcome = writer.secure().and_then(|()| writer.is_in_place());
    }
    if outcome.is_ok() && batch.asks_to_settle() {
        outcome = writer.close();
    }
    if outcome.is_ok() && writer.is_begun {
        // Where this fails it is tried again, and is told then.
        let _ = writer.secure();
    }
    if let Err(error) = &outcome {
        if let Some(failures) = failures {
            failures.failed(error);
        }
    } else if let Some(failures) = failures {
        failures.worked();
    }
    batch.answer(&outcome.map_err(|error| AuditError::Write(error.to_string())));
}

/// When the writer last did what is done from time to time.
struct Watch {
    looked: Stopwatch,
    secured: Stopwatch,
    checkpoint: Stopwatch,
}

impl Watch {
    fn start() -> Self {
        let now = Stopwatch::start();
        Self { looked: now, secured: now, checkpoint: now }
    }

    /// Whether the file is still there and the key still the same; the head, and the checkpoint.
    fn look(&mut self, writer: &mut Writer, failures: Option<&Arc<Failures>>) {
        if self.looked.elapsed() < TICK {
            return;
        }
        self.looked = Stopwatch::start();
        let mut looked = writer.append(clock::now(), &[]);
        if looked.is_ok() && self.checkpoint.elapsed() >= CHECKPOINT {
            self.checkpoint = Stopwatch::start();
            looked = writer.checkpoint();
        }
        if looked.is_ok() && writer.is_ahead && self.secured.elapsed() >= SECURED {
            self.secured = Stopwatch::start();
            looked = writer.secure();
        }
        if let (Err(error), Some(failures)) = (&looked, failures) {
            failures.failed(error);
        }
    }
}

/// How often a silent writer looks at its file, its key and its head.
const TICK: Duration = Duration::from_secs(1);
/// How often ordinary records are made sure of and the head names them: a cut within this time shows by its length alone.
const SECURED: Duration = Duration::from_secs(10);
/// How often log and metrics are told the newest record.
const CHECKPOINT: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
    };

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

    /// Whoever waited too long has passed the mail as an ordinary one: its exemption must not stand in the audit. Whoever was cut
    /// while he waited has not, and writes an outcome: its record must.
    #[tokio::test]
    async fn a_record_is_left_out_where_it_was_withdrawn_and_nowhere_else() {
        let folder = TempDir::new().unwrap();
        let writer = Writer::open(&AuditConfig::new(folder.path().into()), Arc::default(), clock::now()).unwrap();
        let queue = Queue::new();
        let permits = queue.room.available_permits();
        let mut waiters: Vec<Waiter> = (0..3)
            .map(|number| {
                let (answer, waiter) = queue::answer();
                let outcome = Record::outcome(clock::now(), format!("mail-{number}"), crate::mail::Outcome::cancelled());
                queue.room.try_acquire().unwrap().forget();
                queue.put(Some(&outcome), 1, Some(answer));
                waiter
            })
            .collect();
        drop(waiters.pop());
        let (late, waits) = (waiters.pop().unwrap(), waiters.pop().unwrap());
        assert!(matches!(late.wait(Duration::ZERO).await, Err(AuditError::Busy)));
        queue.close();
        run(writer, &queue, &OnceLock::new());
        waits.wait(Duration::from_secs(1)).await.unwrap();
        let text = fs::read_to_string(only_file(folder.path())).unwrap();
        let written: Vec<bool> = (0..3).map(|number| text.contains(&format!("mail-{number}"))).collect();
        assert_eq!(written, [true, false, true], "{text}");
        assert_eq!(queue.room.available_permits(), permits);
    }

    /// Those who come at once share what the disk costs, and each is on disk when it is told so. One by itself waits for nobody.
    #[tokio::test(flavor = "multi_thread")]
    async fn exemptions_that_come_at_once_share_a_commit() {
        let folder = TempDir::new().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for _ in 0..3 {
            audit.append_durable(record()).await.unwrap();
        }
        assert_eq!(audit.meters().commits(), 3, "one by one");
        let announced: Vec<Announced> = (0..50).map(|_| audit.announce()).collect();
        let appended = announced.into_iter().map(|announced| {
            let audit = audit.clone();
            async move {
                let written = audit.slot(record()).await.unwrap().append_durable();
                drop(announced);
                written.done().await
            }
        });
        for outcome in futures_util::future::join_all(appended).await {
            outcome.unwrap();
        }
        let commits = audit.meters().commits() - 3;
        assert!(commits <= 5, "{commits} for 50");
        assert_eq!(fs::read_to_string(only_file(folder.path())).unwrap().lines().count(), 54);
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
