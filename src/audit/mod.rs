//! Remembering: every decision on disk, an exemption before it takes effect.
//!
//! One thread appends to `audit-YYYYMMDD.jsonl` (UTC) and takes whatever waits in one write. Each line carries the
//! SHA-256 of the line before it, across files, so that a removed or changed line shows (see [`chain`]). A line that a
//! crash cut short is closed at the next start and named by the `start` record behind it.

pub mod chain;
pub mod record;
pub mod watch;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

pub use self::record::Record;
use crate::{clock, limits};

/// The handle by which mails are remembered. Cloning it is cheap; the writer ends with the last handle.
#[derive(Clone)]
pub struct Audit {
    folder: Arc<Path>,
    queue: mpsc::Sender<Job>,
}

enum Job {
    /// Nobody waits for it.
    Note(Record),
    /// Somebody waits until it is on disk.
    Commit(Record, oneshot::Sender<Result<(), AuditError>>),
}

/// Why a record is not on disk.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder cannot be used.
    #[error("the audit folder {0:?} cannot be used: {1}; create it and give it to the user that firstclick runs as")]
    Folder(PathBuf, String),
    /// Another process writes there: two writers would break the chain.
    #[error("another firstclick writes to the audit folder {0:?}; give each replica a folder of its own")]
    Taken(PathBuf),
    /// The disk refused the write.
    #[error("the audit record could not be written: {0}")]
    Write(String),
    /// The writer did not come round to it in time, or is gone.
    #[error("the audit did not answer in time")]
    Busy,
}

impl Audit {
    /// Opens a folder and starts its writer.
    ///
    /// # Errors
    /// Where the folder cannot be written, or another process writes there.
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        let mut writer = Writer::open(folder)?;
        writer.append(&[Record::start(clock::now(), writer.torn)]).map_err(|error| AuditError::Folder(folder.into(), error.to_string()))?;
        let (queue, jobs) = mpsc::channel(limits::AUDIT_QUEUE);
        let run = move || run(writer, jobs);
        thread::Builder::new().name("audit".into()).spawn(run).map_err(|error| AuditError::Folder(folder.into(), error.to_string()))?;
        Ok(Self { folder: folder.into(), queue })
    }

    /// Where it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Remembers a mail that is relayed either way. Waits while the queue is full, so that nothing is forgotten.
    pub async fn note(&self, record: Record) {
        if tokio::time::timeout(limits::AUDIT_WAIT, self.queue.send(Job::Note(record))).await.is_err() {
            tracing::error!("the audit disk is too slow: a record was dropped; mails are relayed, exemptions stop");
        }
    }

    /// Remembers what is no mail. Where the queue is more than half full it is dropped: mails come first.
    pub fn note_aside(&self, record: Record) {
        if self.queue.capacity() < limits::AUDIT_QUEUE / 2 || self.queue.try_send(Job::Note(record)).is_err() {
            tracing::warn!("the audit is busy: what was done with a guard link was not put on record");
        }
    }

    /// Remembers a mail and waits until that is on disk.
    ///
    /// # Errors
    /// Where it is not; the mail must then not be exempted.
    pub async fn commit(&self, record: Record) -> Result<(), AuditError> {
        let (sender, done) = oneshot::channel();
        let wait = async {
            self.queue.send(Job::Commit(record, sender)).await.map_err(|_| AuditError::Busy)?;
            done.await.map_err(|_| AuditError::Busy)?
        };
        tokio::time::timeout(limits::AUDIT_WAIT, wait).await.unwrap_or(Err(AuditError::Busy))
    }
}

fn run(mut writer: Writer, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::new();
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut records = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        for job in batch.drain(..) {
            match job {
                Job::Note(record) => records.push(record),
                Job::Commit(record, sender) => {
                    records.push(record);
                    waiting.push(sender);
                }
            }
        }
        let gathers = waiting.is_empty();
        let mut outcome = writer.append(&records);
        if outcome.is_ok() && !waiting.is_empty() {
            outcome = writer.sync();
        }
        if let Err(error) = &outcome {
            tracing::error!(records = records.len(), %error, "audit records could not be written; mails are relayed, exemptions stop");
        }
        for sender in waiting {
            // Whoever waited may have given up.
            let _ = sender.send(outcome.as_ref().copied().map_err(|error| AuditError::Write(error.to_string())));
        }
        if gathers {
            thread::sleep(GATHER);
        }
    }
}

/// Pause after records that nobody waits for, so that under load one write, and one waking of this thread, serves many
/// mails. An exemption waits so long at most.
const GATHER: Duration = Duration::from_millis(1);

/// Records taken in one write.
const BATCH: usize = 256;

/// The file of a day.
struct Day {
    name: String,
    file: File,
    /// Octets that are in it; nobody else writes there.
    length: u64,
}

/// The one who holds the file and the end of the chain.
struct Writer {
    folder: PathBuf,
    /// Held for the life of the writer; the lock goes with it.
    _lock: File,
    open: Option<Day>,
    last: String,
    torn: bool,
}

impl Writer {
    fn open(folder: &Path) -> Result<Self, AuditError> {
        let fail = |error: io::Error| AuditError::Folder(folder.into(), error.to_string());
        std::fs::create_dir_all(folder).map_err(fail)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("audit.lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(AuditError::Taken(folder.into())),
            Err(std::fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        let (last, torn) = match chain::files(folder).map_err(fail)?.last() {
            Some(newest) => end_of(newest).map_err(fail)?,
            None => (chain::GENESIS.to_owned(), false),
        };
        Ok(Self { folder: folder.into(), _lock: lock, open: None, last, torn })
    }

    /// Appends records, all or none.
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let name = format!("audit-{}.jsonl", clock::now().strftime("%Y%m%d"));
        if self.open.as_ref().is_none_or(|day| day.name != name) {
            let file = OpenOptions::new().create(true).append(true).open(self.folder.join(&name))?;
            let length = file.metadata()?.len();
            self.open = Some(Day { name, file, length });
        }
        let Some(day) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let mut text = String::new();
        let mut last = self.last.clone();
        for record in records {
            let line = record.chained(&last);
            last = chain::hash(line.trim_end_matches('\n').as_bytes());
            text.push_str(&line);
        }
        if let Err(error) = day.file.write_all(text.as_bytes()) {
            // A half-written line would break the chain; the disk may be full, but cutting needs no room.
            day.file.set_len(day.length)?;
            return Err(error);
        }
        day.length += text.len() as u64;
        self.last = last;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |day| day.file.sync_data())
    }
}

/// The hash of a file's last line; a line that a crash cut short is closed first.
fn end_of(path: &Path) -> io::Result<(String, bool)> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = !tail.is_empty() && !tail.ends_with(b"\n");
    if torn {
        file.write_all(b"\n")?;
    }
    let line = tail.strip_suffix(b"\n").unwrap_or(&tail).rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((if line.is_empty() { chain::GENESIS.to_owned() } else { chain::hash(line) }, torn))
}

/// Octets of the longest line: 1,000 recipients of 320 octets and the rest.
const LONGEST_LINE: u64 = 1 << 20;
