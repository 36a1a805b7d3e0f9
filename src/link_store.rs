//! The folder of stored guard links: `FOLDER/2026-12-02/ID`, one file a link in the folder of the day on which it stops opening.
//!
//! A file holds what a long guard link holds itself: a sealed value, which nobody reads without the key file. It is written to a
//! temporary name, flushed and renamed, and the folders are flushed, before the mail that names it leaves. Days that are over
//! go as a whole. Several machines may share the folder.
//!
//! A disk may hang, so all of this runs on threads of its own, a few at a time, and nobody waits longer than
//! [`limits::LINK_STORE`] for it.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    clock::{self, Timestamp},
    edit::{
        guard_link::{STORED, StoredLink},
        link_id::LinkId,
    },
    limits,
};

/// A folder of stored guard links.
#[derive(Debug)]
pub struct LinkStore {
    folder: PathBuf,
    /// Links that are there, as far as this process knows: counted by each sweep, and its own since.
    kept: Arc<AtomicUsize>,
    most: usize,
    writing: Arc<Semaphore>,
    /// Places of their own, so that readers never wait behind mails, or mails behind readers.
    reading: Arc<Semaphore>,
}

/// Why a guard link cannot be stored or looked up.
#[derive(Debug, thiserror::Error)]
pub enum LinkStoreError {
    /// The folder or a file in it.
    #[error("guard links in {0:?} cannot be used: {1}")]
    Folder(PathBuf, io::Error),
    /// There are as many links as are kept.
    #[error("{0:?} holds {1} guard links, and no more are kept; is the lifetime of guard links longer than it must be?")]
    Full(PathBuf, usize),
    /// The disk does not answer.
    #[error("guard links in {0:?} did not come in time")]
    Busy(PathBuf),
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Days that were removed.
    pub removed: usize,
    /// Links that are still there.
    pub kept: usize,
}

impl LinkStore {
    /// The store in this folder, which is not looked at yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        let places = || Arc::new(Semaphore::new(limits::LINK_STORE_THREADS));
        Self { folder, kept: Arc::default(), most: limits::STORED_LINKS, writing: places(), reading: places() }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores all links of a mail; they are on disk when this returns. What is there already is written once more.
    ///
    /// # Errors
    /// Where one of them is not on disk; the mail must not name them then.
    pub async fn store(&self, links: Vec<StoredLink>) -> Result<(), LinkStoreError> {
        if links.is_empty() {
            return Ok(());
        }
        let there = self.kept.load(Ordering::Relaxed);
        if there.saturating_add(links.len()) > self.most {
            return Err(LinkStoreError::Full(self.folder.clone(), there));
        }
        let (folder, kept) = (self.folder.clone(), Arc::clone(&self.kept));
        self.on_a_thread(&self.writing, move || write(&folder, &links, &kept)).await
    }

    /// What is stored under this name; none where nothing is.
    ///
    /// # Errors
    /// Where the folder cannot be read, so that nobody knows.
    pub async fn find(&self, id: LinkId) -> Result<Option<StoredLink>, LinkStoreError> {
        let folder = self.folder.clone();
        let value = self.on_a_thread(&self.reading, move || read(&folder, id)).await?;
        Ok(value.map(|value| StoredLink { id, value }))
    }

    /// Removes the days that are over since [`limits::STORED_LINKS_EXPIRED`] days, and counts what is left.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a day cannot be removed; the next sweep tries again.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, LinkStoreError> {
        let folder = self.folder.clone();
        // No deadline: nobody waits for it, and there is one at a time.
        let swept = tokio::task::spawn_blocking(move || sweep(&folder, now)).await;
        let swept = swept.map_err(io::Error::other).flatten().map_err(|error| self.failed(error))?;
        self.kept.store(swept.kept, Ordering::Relaxed);
        Ok(swept)
    }

    /// Sweeps now and every [`limits::LINK_STORE_SWEEP`], as long as anybody uses the store.
    pub async fn keep_swept(store: Weak<Self>) {
        while let Some(used) = store.upgrade() {
            match used.sweep(clock::now()).await {
                Ok(Swept { removed, kept }) => tracing::info!(folder = %used.folder.display(), removed, kept, "stored guard links"),
                Err(error) => tracing::warn!(%error, "expired guard links were not removed"),
            }
            drop(used);
            sleep(limits::LINK_STORE_SWEEP).await;
        }
    }

    /// Waits for a place and for the work, together at most [`limits::LINK_STORE`]. Work that takes longer holds its place to
    /// its end.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, LinkStoreError> {
        let done = async {
            let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
            let job = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(place);
                done
            });
            job.await.map_err(io::Error::other)?
        };
        match timeout(limits::LINK_STORE, done).await {
            Ok(done) => done.map_err(|error| self.failed(error)),
            Err(_) => Err(LinkStoreError::Busy(self.folder.clone())),
        }
    }

    fn failed(&self, error: io::Error) -> LinkStoreError {
        LinkStoreError::Folder(self.folder.clone(), error)
    }
}

/// The folder of a day, and what is stored in it under this name.
fn place(folder: &Path, id: LinkId) -> (PathBuf, PathBuf) {
    let day = folder.join(id.day().to_string());
    let file = day.join(id.to_string());
    (day, file)
}

fn write(folder: &Path, links: &[StoredLink], kept: &AtomicUsize) -> io::Result<()> {
    let mut days = BTreeSet::new();
    for link in links {
        let (day, path) = place(folder, link.id);
        // Only the day: a store that is not mounted is not made anew beside its mount.
        match DirBuilder::new().mode(0o700).create(&day) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Mode 0600, and gone where anything fails before the rename.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&day)?;
        file.write_all(link.value.as_bytes())?;
        file.as_file().sync_all()?;
        let is_new = !path.exists();
        file.persist(&path).map_err(|error| error.error)?;
        kept.fetch_add(usize::from(is_new), Ordering::Relaxed);
        days.insert(day);
    }
    // The names must be on disk too: those of the files, and those of days that this or another process made just now.
    for folder in days.iter().map(PathBuf::as_path).chain([folder]) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn read(folder: &Path, id: LinkId) -> io::Result<Option<String>> {
    let file = match File::open(place(folder, id).1) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A folder that is gone holds every link, for all that anybody knows.
            return fs::metadata(folder).map(|_| None);
        }
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    // One octet more than is ever stored: what is longer does not open.
    file.take(STORED as u64 + 1).read_to_end(&mut octets)?;
    Ok(String::from_utf8(octets).ok())
}

fn sweep(folder: &Path, now: Timestamp) -> io::Result<Swept> {
    let today = TimeZone::UTC.to_datetime(now).date();
    let oldest = today.saturating_sub(limits::STORED_LINKS_EXPIRED.days());
    let (mut swept, mut failed) = (Swept { removed: 0, kept: 0 }, Ok(()));
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What is not called like a day is none of ours.
        let Some(day) = entry.file_name().to_str().and_then(|name| name.parse::<Date>().ok().filter(|day| day.to_string() == name)) else {
            continue;
        };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let done = if day < oldest {
            fs::remove_dir_all(entry.path()).map(|()| swept.removed += 1)
        } else {
            fs::read_dir(entry.path()).map(|files| swept.kept += files.count())
        };
        match done {
            // Another machine sweeps too. One day that cannot be removed does not keep the others.
            Err(error) if error.kind() != io::ErrorKind::NotFound => failed = Err(error),
            _ => {}
        }
    }
    failed.map(|()| swept)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;
    use crate::edit::guard_link::{GuardLink, GuardLinkKeys, SealKey};

    const DAY: i64 = 86_400;

    /// What is stored of a link that opens until this second.
    fn link(until: i64, token: &str) -> StoredLink {
        let keys = vec![SealKey::parse(&BASE64.encode([3; 32])).unwrap()];
        let guard_links = GuardLinkKeys { url: "https://links.test".into(), keys, lifetime: Duration::from_hours(1) };
        let sealed = GuardLink {
            link: format!("https://vendor.test/reset/{token}"),
            mail: "1".into(),
            entry: "vendor".into(),
            author: "vendor.test".into(),
            recipient: String::new(),
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::from_second(until).unwrap(),
        };
        guard_links.shorten(&sealed).unwrap().stored
    }

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(number * DAY).unwrap()
    }

    #[tokio::test]
    async fn what_was_stored_is_found_by_another_process() {
        let folder = TempDir::new().unwrap();
        let links = vec![link(100 * DAY, "a"), link(100 * DAY, "b"), link(101 * DAY, "c")];
        let store = LinkStore::new(folder.path().into());
        store.store(links.clone()).await.unwrap();
        store.store(links.clone()).await.expect("the same again is no mistake");
        let other = LinkStore::new(folder.path().into());
        for link in &links {
            assert_eq!(other.find(link.id).await.unwrap().as_ref(), Some(link));
        }
        assert_eq!(other.find(link(100 * DAY, "d").id).await.unwrap(), None);
        assert_eq!(store.sweep(day(100)).await.unwrap(), Swept { removed: 0, kept: 3 });
        let file = folder.path().join("1970-04-11").join(links[0].id.to_string());
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_is_read_to_its_bound() {
        let folder = TempDir::new().unwrap();
        let (store, kept) = (LinkStore::new(folder.path().into()), link(100 * DAY, "a"));
        store.store(vec![kept.clone()]).await.unwrap();
        let file = folder.path().join("1970-04-11").join(kept.id.to_string());
        fs::write(&file, "x".repeat(1 << 20)).unwrap();
        assert!(store.find(kept.id).await.unwrap().unwrap().value.len() <= STORED + 1);
        fs::write(&file, b"\xff").unwrap();
        assert_eq!(store.find(kept.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn days_that_are_over_go_and_nothing_else() {
        let folder = TempDir::new().unwrap();
        let store = LinkStore::new(folder.path().into());
        let links: Vec<StoredLink> = (90..110).map(|number| link(number * DAY + 5, "a")).collect();
        store.store(links.clone()).await.unwrap();
        for other in ["notes", "1970-4-1", "1970-01-01.old"] {
            fs::create_dir(folder.path().join(other)).unwrap();
        }
        fs::write(folder.path().join("1970-01-02"), "a file").unwrap();
        std::os::unix::fs::symlink(folder.path().join("notes"), folder.path().join("1970-01-03")).unwrap();
        // A link that stopped opening a week ago is told from one that never was.
        assert_eq!(store.sweep(day(105)).await.unwrap(), Swept { removed: 8, kept: 12 });
        for (number, link) in (90..).zip(&links) {
            assert_eq!(store.find(link.id).await.unwrap().is_some(), number >= 98, "day {number}");
        }
        for other in ["notes", "1970-4-1", "1970-01-01.old", "1970-01-02", "1970-01-03"] {
            assert!(folder.path().join(other).exists(), "{other}");
        }
    }

    #[tokio::test]
    async fn no_more_links_than_the_most_are_kept() {
        let folder = TempDir::new().unwrap();
        let mut store = LinkStore::new(folder.path().into());
        store.most = 3;
        store.store(vec![link(100 * DAY, "a"), link(100 * DAY, "b")]).await.unwrap();
        let more = || vec![link(150 * DAY, "c"), link(150 * DAY, "d")];
        assert!(matches!(store.store(more()).await, Err(LinkStoreError::Full(_, 2))));
        // Another process counts what is there once it has swept.
        let mut other = LinkStore::new(folder.path().into());
        other.most = 3;
        other.sweep(day(100)).await.unwrap();
        assert!(matches!(other.store(more()).await, Err(LinkStoreError::Full(_, 2))));
        // Room comes back with the days that are over.
        store.sweep(day(140)).await.unwrap();
        store.store(more()).await.unwrap();
    }

    #[tokio::test]
    async fn where_the_folder_is_gone_nothing_is_stored_and_nobody_knows() {
        let folder = TempDir::new().unwrap();
        let store = LinkStore::new(folder.path().join("gone"));
        let link = link(100 * DAY, "a");
        assert!(matches!(store.store(vec![link.clone()]).await, Err(LinkStoreError::Folder(..))));
        assert!(matches!(store.find(link.id).await, Err(LinkStoreError::Folder(..))));
        assert!(matches!(store.sweep(day(1)).await, Err(LinkStoreError::Folder(..))));
        assert!(!folder.path().join("gone").exists());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_disk_that_hangs() {
        let folder = TempDir::new().unwrap();
        let (store, kept) = (LinkStore::new(folder.path().into()), link(100 * DAY, "a"));
        store.store(vec![kept.clone()]).await.unwrap();
        let hung: Vec<_> = (0..limits::LINK_STORE_THREADS).map(|_| Arc::clone(&store.writing).try_acquire_owned().unwrap()).collect();
        assert!(matches!(store.store(vec![link(100 * DAY, "b")]).await, Err(LinkStoreError::Busy(_))));
        assert_eq!(store.find(kept.id).await.unwrap(), Some(kept), "readers do not wait behind mails");
        drop(hung);
        store.store(vec![link(100 * DAY, "b")]).await.unwrap();
    }
}
