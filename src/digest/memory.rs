//! What was sent, over restarts: a file in a folder, which one program at a time holds.
//!
//! Before a mail is sent it is written down that it may have been; then a crash, or a server that takes it and does not say so,
//! makes no second one on that day. What it told counts as told only once the server has said that it has it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits;

/// What is known of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When a digest was sent last, or may have been; seconds since 1970.
    #[serde(default)]
    tried: Option<i64>,
    /// When a server took one last.
    #[serde(default)]
    taken: Option<i64>,
    /// For each audit, the number of the newest record that was looked at for it.
    #[serde(default)]
    told: BTreeMap<String, u64>,
}

impl Sent {
    /// When a digest was sent last, or may have been.
    #[must_use]
    pub fn tried(&self) -> Option<Timestamp> {
        self.tried.and_then(|second| Timestamp::from_second(second).ok())
    }

    /// When a server took one last.
    #[must_use]
    pub fn taken(&self) -> Option<Timestamp> {
        self.taken.and_then(|second| Timestamp::from_second(second).ok())
    }

    /// The number of the newest record of an audit that was told; 0 where none was.
    #[must_use]
    pub fn told(&self, audit: &str) -> u64 {
        self.told.get(audit).copied().unwrap_or(0)
    }
}

/// Why what was sent cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Another firstclick holds the folder, and sends.
    #[error("another firstclick sends the digests of {0}")]
    Taken(PathBuf),
    /// The folder or its file cannot be read or written.
    #[error("{0}: {1}; without knowing what was sent no digest is sent")]
    Folder(PathBuf, String),
}

/// What was sent to each address, by [`super::key`].
pub type All = BTreeMap<String, Sent>;

/// The memory; the folder is this program's while it lives.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    /// The lock ends with it.
    _lock: File,
    sent: All,
}

impl Memory {
    /// Takes the folder, which is made where it is not there.
    ///
    /// # Errors
    /// Another program has it, or it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, MemoryError> {
        let fail = |error: io::Error| MemoryError::Folder(folder.into(), error.to_string());
        fs::create_dir_all(folder).map_err(fail)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("digest.lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(MemoryError::Taken(folder.into())),
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        Ok(Self { folder: folder.into(), _lock: lock, sent: read(folder)? })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was sent.
    #[must_use]
    pub const fn sent(&self) -> &All {
        &self.sent
    }

    /// Writes down that a digest is about to be sent; returns what stood there before.
    ///
    /// # Errors
    /// It could not be written: then it must not be sent.
    pub fn begin(&mut self, reader: &str, now: Timestamp) -> Result<Sent, MemoryError> {
        let before = self.sent.get(reader).cloned().unwrap_or_default();
        self.sent.insert(reader.to_owned(), Sent { tried: Some(now.as_second()), ..before.clone() });
        self.write().map(|()| before)
    }

    /// Writes down that a server has taken it, with what it told of an audit.
    ///
    /// # Errors
    /// It could not be written: after a restart it would be told again, on another day.
    pub fn taken(&mut self, reader: &str, now: Timestamp, told: Option<(&str, u64)>) -> Result<(), MemoryError> {
        let sent = self.sent.entry(reader.to_owned()).or_default();
        sent.taken = Some(now.as_second());
        if let Some((audit, number)) = told {
            sent.told.insert(audit.to_owned(), number);
        }
        self.write()
    }

    /// Writes down that it was certainly not sent: what stood there before counts.
    ///
    /// # Errors
    /// It could not be written: it is tried again on the next day.
    pub fn not_sent(&mut self, reader: &str, before: Sent) -> Result<(), MemoryError> {
        self.sent.insert(reader.to_owned(), before);
        self.write()
    }

    fn write(&self) -> Result<(), MemoryError> {
        let fail = |error: io::Error| MemoryError::Folder(self.folder.clone(), error.to_string());
        let text = serde_json::to_vec(&self.sent).map_err(|error| fail(error.into()))?;
        let (new, path) = (self.folder.join("sent.json.new"), self.folder.join(FILE));
        let mut file = File::create(&new).map_err(fail)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&new, &path).map_err(fail)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(fail)
    }
}

const FILE: &str = "sent.json";

/// What was sent, without taking the folder; nothing where nothing was.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read(folder: &Path) -> Result<All, MemoryError> {
    let path = folder.join(FILE);
    let fail = |what: String| MemoryError::Folder(path.clone(), what);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(All::new()),
        Err(error) => return Err(fail(error.to_string())),
    };
    let mut text = Vec::new();
    file.take(limits::DIGEST_MEMORY).read_to_end(&mut text).map_err(|error| fail(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| fail(format!("is not what was written ({error}); take the file away")))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_may_have_been_sent_counts_and_what_was_not_taken_is_not_told() {
        let folder = TempDir::new().unwrap();
        let mut memory = Memory::open(folder.path()).unwrap();
        assert!(matches!(Memory::open(folder.path()), Err(MemoryError::Taken(_))));
        let before = memory.begin("it@corp.example", time(100)).unwrap();
        assert_eq!(before, Sent::default());
        drop(memory);
        // The program ended while it sent.
        let mut memory = Memory::open(folder.path()).unwrap();
        let sent = &memory.sent()["it@corp.example"];
        assert_eq!((sent.tried(), sent.taken(), sent.told("here")), (Some(time(100)), None, 0));
        let before = memory.begin("it@corp.example", time(200)).unwrap();
        memory.not_sent("it@corp.example", before).unwrap();
        assert_eq!(read(folder.path()).unwrap()["it@corp.example"].tried(), Some(time(100)));
        memory.begin("it@corp.example", time(300)).unwrap();
        memory.taken("it@corp.example", time(301), Some(("here", 7))).unwrap();
        let sent = read(folder.path()).unwrap().remove("it@corp.example").unwrap();
        assert_eq!((sent.tried(), sent.taken(), sent.told("here"), sent.told("there")), (Some(time(300)), Some(time(301)), 7, 0));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let said = Memory::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("sent.json") && said.contains("take the file away"), "{said}");
    }
}
