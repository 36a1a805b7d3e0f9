//! The files that a configuration was read from, and whether they have changed since.
//!
//! A file is noted *before* it is read: whatever happens to it from then on shows at the next look, also while it is read.
//! Looking every few seconds works on every file system, and with every way in which editors, package managers and Kubernetes
//! replace files.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::Hasher as _,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

use super::access;
use crate::{clock, limits, regular, remedy::Remedy};

/// Files and folders, as they looked before they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// None for a file that is not there, or that may not be looked at.
    seen: BTreeMap<PathBuf, Option<Fingerprint>>,
    /// Folders of entries, with the entries that were in them.
    folders: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// The attributes of a file by which a change shows. Links are followed, so that a link that leads elsewhere is another file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last change of the file or of its attributes (`ctime`, which no program can set).
    changed: (i64, i64),
    size: u64,
    /// A digest of its contents, where it had changed so shortly before that the next change may get the same time.
    content: Option<u64>,
}

/// Seconds for which a file counts as just changed: some file systems keep times to two seconds.
const FRESH: i64 = 3;

impl Fingerprint {
    fn of(path: &Path, now: i64) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        let changed = (about.ctime(), about.ctime_nsec());
        let fresh = now.saturating_sub(changed.0).abs() <= FRESH;
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            changed,
            size: about.size(),
            content: if fresh && about.is_file() { digest(path) } else { None },
        })
    }

    /// Whether this is another file than that one, or has changed.
    fn differs(&self, path: &Path, later: &Self) -> bool {
        if (self.device, self.inode, self.changed, self.size) != (later.device, later.inode, later.changed, later.size) {
            return true;
        }
        self.content.is_some_and(|content| later.content.or_else(|| digest(path)) != Some(content))
    }
}

/// The octets of a file, at most `most` of them and one more. What is no regular file, as a FIFO in its place, is an error and
/// never waited for.
///
/// # Errors
/// Of the system; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub(super) fn octets(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = regular::open(path).map_err(|error| access::explained(path, Access::READ_OK, error))?;
    let mut octets = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut octets)?;
    Ok(octets)
}

/// A text file of at most [`limits::SETTINGS_FILE`] octets.
///
/// # Errors
/// As [`octets`]; a larger file, or one that is not UTF-8, is [`io::ErrorKind::InvalidData`].
pub(super) fn text(path: &Path) -> io::Result<String> {
    let octets = octets(path, limits::SETTINGS_FILE)?;
    if octets.len() as u64 > limits::SETTINGS_FILE {
        let what = format!("it is larger than {} octets", limits::SETTINGS_FILE);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    String::from_utf8(octets)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, not_utf8(error.as_bytes(), error.utf8_error().valid_up_to())))
}

/// What a file is that is not UTF-8, and from which line on.
fn not_utf8(octets: &[u8], valid: usize) -> String {
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return "it is UTF-16, as its first two octets say (byte order mark); save it as UTF-8".to_owned();
    }
    let before = octets.get(..valid).unwrap_or_default();
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let octet = octets.get(valid).copied().unwrap_or_default();
    format!("line {line} is not UTF-8 (octet 0x{octet:02x}); save it as UTF-8")
}

/// Who mends it that a file or a folder cannot be used. One that is not there is a slip of the pen where others stand beside it;
/// where its folder is empty or not there itself, something is not mounted yet.
pub(super) fn remedy(path: &Path, error: &io::Error) -> Remedy {
    if error.kind() != io::ErrorKind::NotFound {
        return Remedy::of(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::read_dir(folder) {
        Ok(mut beside) => {
            if beside.next().is_some() {
                Remedy::Mend
            } else {
                Remedy::Wait
            }
        }
        Err(error) => Remedy::of(&error),
    }
}

/// Who mends it that files cannot be used: time, where one of them cannot even be opened for now.
pub(super) fn remedy_of_all<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Remedy {
    let failed = paths.into_iter().find_map(|path| regular::open(path).err().map(|error| remedy(path, &error)));
    failed.unwrap_or(Remedy::Mend)
}

/// A digest of a file's contents, as far as any file of a configuration is read. It is for memory alone: that of a short token could
/// be tried out.
pub(super) fn digest(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let octets = octets(path, limits::SETTINGS_FILE).ok()?;
    hasher.write(&octets);
    Some(hasher.finish())
}

impl Files {
    /// Notes a file that is about to be read. Where it was noted before, the first look stands.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.seen.contains_key(path) {
            self.seen.insert(path.to_owned(), Fingerprint::of(path, now()));
        }
    }

    /// Notes a folder of entries that is about to be read; the entries are noted one by one.
    pub(super) fn note_folder(&mut self, path: &Path) {
        self.folders.insert(path.to_owned(), entries(path));
    }

    /// Takes over what else another reading noted; what both noted stays as it is here.
    pub(super) fn extend(&mut self, other: Self) {
        for (path, seen) in other.seen {
            self.seen.entry(path).or_insert(seen);
        }
        for (path, seen) in other.folders {
            self.folders.entry(path).or_insert(seen);
        }
    }

    /// Whether one of the files has changed since it was noted or last looked at. The new state is kept, so that a change is
    /// reported once.
    pub fn have_changed(&mut self) -> bool {
        let (mut changed, now) = (false, now());
        for (path, seen) in &mut self.seen {
            let later = Fingerprint::of(path, now);
            changed |= match (&*seen, &later) {
                (Some(seen), Some(later)) => seen.differs(path, later),
                (before, after) => before.is_some() != after.is_some(),
            };
            *seen = later;
        }
        for (path, seen) in &mut self.folders {
            let later = entries(path);
            changed |= *seen != later;
            *seen = later;
        }
        changed
    }

    /// Takes over what a later reading noted. Where that reading `ended` early, files that it did not come to are watched as
    /// before.
    pub fn replace(&mut self, later: Self, ended: Ended) {
        let before = std::mem::replace(self, later);
        if ended == Ended::Early {
            self.extend(before);
        }
    }

    /// The paths of all noted files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.seen.keys().map(PathBuf::as_path)
    }
}

/// How a reading of the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end, without a mistake.
    Well,
    /// There were mistakes, and perhaps files that it never came to.
    Early,
}

/// The entries of a folder, `*.toml`; none where it is not there.
pub(super) fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect()
}

/// Seconds since 1970, on the clock that files are dated by.
fn now() -> i64 {
    clock::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("guard.key");
        fs::write(&file, "one").unwrap();
        (folder, file)
    }

    #[test]
    fn a_change_is_told_once() {
        let (folder, file) = folder();
        let mut files = Files::default();
        files.note(&file);
        files.note(&folder.path().join("absent"));
        files.note_folder(folder.path());
        assert!(!files.have_changed());
        // In place, and no longer than before.
        fs::write(&file, "two").unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // By a rename over it.
        fs::write(folder.path().join("new"), "six").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // What was named and not there comes; what was there goes.
        fs::write(folder.path().join("absent"), "").unwrap();
        assert!(files.have_changed());
        fs::remove_file(&file).unwrap();
        assert!(files.have_changed());
        // An entry more.
        fs::write(folder.path().join("vendor.toml"), "").unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
    }

    #[test]
    fn what_is_not_mounted_yet_may_come() {
        let (folder, file) = folder();
        let remedy_of = |path: &Path| remedy(path, &octets(path, 10).unwrap_err());
        assert_eq!(remedy_of(&folder.path().join("tag.key")), Remedy::Mend, "others are there");
        assert_eq!(remedy_of(&folder.path().join("share/tag.key")), Remedy::Wait);
        fs::create_dir(folder.path().join("share")).unwrap();
        assert_eq!(remedy_of(&folder.path().join("share/tag.key")), Remedy::Wait, "a mount point");
        assert_eq!(remedy_of(&file.join("tag.key")), Remedy::Mend);
        assert_eq!(remedy_of(folder.path()), Remedy::Mend, "a folder is no file");
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let (folder, file) = folder();
        let (other, link) = (folder.path().join("other"), folder.path().join("link"));
        fs::write(&other, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut files = Files::default();
        files.note(&link);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(files.have_changed());
    }

    #[test]
    fn a_change_between_the_look_and_the_reading_is_seen_by_the_next_look() {
        let (_folder, file) = folder();
        let mut files = Files::default();
        files.note(&file);
        fs::write(&file, "two").unwrap();
        // Noted again when it is read a second time: the first look stands.
        files.note(&file);
        assert!(files.have_changed());
    }

    #[test]
    fn a_change_within_the_same_tick_of_the_clock_is_seen() {
        let (_folder, file) = folder();
        let before = Fingerprint::of(&file, now()).unwrap();
        fs::write(&file, "two").unwrap();
        let now = Fingerprint::of(&file, now()).unwrap();
        // As on a file system whose clock did not move between the two.
        let same_tick = Fingerprint { changed: before.changed, ..now };
        assert!(before.differs(&file, &same_tick));
        let settled = Fingerprint { content: None, ..same_tick };
        assert!(before.differs(&file, &settled));
    }

    #[test]
    fn a_reading_that_ended_early_forgets_no_file() {
        let (folder, file) = folder();
        let (mut files, mut later) = (Files::default(), Files::default());
        files.note(&file);
        later.note(&folder.path().join("firstclick.toml"));
        files.replace(later.clone(), Ended::Early);
        assert_eq!(files.paths().count(), 2);
        files.replace(later, Ended::Well);
        assert_eq!(files.paths().count(), 1);
    }

    /// Opened, a FIFO would be waited for until somebody writes.
    #[test]
    fn a_fifo_in_a_files_place_is_a_mistake_and_not_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text =
            "[readers]\ndomains = [\"corp.example\"]\naliases = \"aliases\"\n[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n";
        fs::write(path("firstclick.toml"), text).unwrap();
        for name in ["aliases", "tag.token", "tag.key"] {
            for other in ["aliases", "tag.token", "tag.key"] {
                let _ = fs::remove_file(path(other));
            }
            fs::write(path("aliases"), "").unwrap();
            fs::write(path("tag.token"), "test-token-1234\n").unwrap();
            fs::write(path("tag.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
            assert!(super::super::Settings::load(&path("firstclick.toml")).is_ok());
            fs::remove_file(path(name)).unwrap();
            let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
            rustix::fs::mknodat(rustix::fs::CWD, path(name), fifo, mode, 0).unwrap();
            let said = super::super::Settings::load(&path("firstclick.toml")).unwrap_err().to_string();
            assert!(said.contains("it is no regular file"), "{name}: {said}");
        }
    }
}
