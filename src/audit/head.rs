//! The head file: number and hash of the newest record that is surely on disk, kept outside of the audit's folder.
//!
//! By it the next start sees that the chain's end was cut off, that the folder was emptied, or that an older copy of it was put
//! back. It is replaced whole, after the records that it names are on disk: it may lag behind the chain and never leads it.
//! Whoever can write both folders can put an older head back as well: checkpoints that are kept elsewhere show that.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::constant_time;
use serde::{Deserialize, Serialize};

use super::chain::Checkpoint;
use crate::{
    edit::tag::{Key, hexadecimal},
    regular,
};

/// The name of the head file, where only its folder is named.
pub const NAME: &str = "audit.head";

/// The octets of a head file, at most; it has some 200.
const LONGEST: u64 = 4 << 10;

/// What stands in the file: one line of JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    n: u64,
    hash: String,
    /// The folder of the records: a state folder that is looked into unasked may hold the head of another audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(default)]
    reach: Reach,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

/// How far the chain reaches, by a head file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// To the record that it names, and perhaps further: the writer went on.
    #[default]
    AtLeast,
    /// To the record that it names: the writer ended with it.
    Exactly,
}

/// What a head file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The record that it names.
    pub newest: Checkpoint,
    /// Whether records may stand behind that.
    pub reach: Reach,
    /// The place in the list of the key by which its keyed hash was made; none where there are no keys, or no hash.
    pub by: Option<usize>,
}

/// Why a head file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It cannot be read.
    #[error("the head file {0:?} cannot be read: {1}")]
    Read(PathBuf, io::Error),
    /// It does not hold what the hop writes, or its keyed hash fits no key.
    #[error("the head file {0:?} is damaged, or was written with a key that is not in the key file")]
    Damaged(PathBuf),
}

impl Head {
    /// Reads a head file; none where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no head file of these keys.
    pub fn read(path: &Path, keys: &[Key]) -> Result<Option<Self>, HeadError> {
        let damaged = || HeadError::Damaged(path.into());
        let text = match text(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| HeadError::Read(path.into(), error))?,
        };
        let written: Written = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let newest: Checkpoint = format!("{}:{}", written.n, written.hash).parse().map_err(|_| damaged())?;
        let mut by = None;
        if let Some(mac) = written.mac.filter(|_| !keys.is_empty()) {
            let fits =
                |key: &Key| constant_time::verify_slices_are_equal(mac_of(&newest, written.reach, key).as_bytes(), mac.as_bytes()).is_ok();
            by = Some(keys.iter().position(fits).ok_or_else(damaged)?);
        }
        Ok(Some(Self { newest, reach: written.reach, by }))
    }
}

/// Whether a head file is there and is of the audit in this folder. One that does not say of which it is, as it is damaged or of an
/// earlier version, is taken for this one's where the folder has no head file itself.
#[must_use]
pub fn is_of(path: &Path, folder: &Path) -> bool {
    let Ok(text) = text(path) else { return false };
    match serde_json::from_slice::<Written>(&text).ok().and_then(|written| written.folder) {
        Some(of) => of == named(folder),
        None => !folder.join(NAME).exists(),
    }
}

/// A folder as head files name it.
fn named(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_owned());
    whole.display().to_string()
}

/// The text of a head file; of one that is too long to be one the beginning, which is no JSON.
fn text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    regular::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// The keyed hash of a head, by a key for this purpose alone.
fn mac_of(newest: &Checkpoint, reach: Reach, key: &Key) -> String {
    let purpose = match reach {
        Reach::AtLeast => "audit-head",
        Reach::Exactly => "audit-head-last",
    };
    hexadecimal(&key.derive(purpose).digest(newest.to_string().as_bytes()))
}

/// The writer of a head file.
#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    /// The folder of the records, as it is named in the file.
    folder: String,
    /// What it names, where it was written here.
    written: Option<(Checkpoint, Reach)>,
}

impl HeadFile {
    pub(super) fn at(path: PathBuf, folder: &Path) -> Self {
        Self { path, folder: named(folder), written: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file beside it, which takes its place, empty.
    fn beside(&self) -> io::Result<(PathBuf, File)> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".tmp");
        let file = regular::open_with(File::options().create(true).truncate(true).write(true), Path::new(&beside))?;
        Ok((beside.into(), file))
    }

    /// Whether it can be replaced, as far as that is seen without doing it.
    pub(super) fn try_out(&self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.is_dir()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a folder"));
        }
        self.beside().map(drop)
    }

    /// Names a record, which must be on disk. Returns when the head is.
    pub(super) fn write(&mut self, newest: &Checkpoint, reach: Reach, key: Option<&Key>) -> io::Result<()> {
        let is_written = self.written.as_ref().is_some_and(|(record, before)| record == newest && *before == reach);
        if newest.n == 0 || is_written && self.path.exists() {
            return Ok(());
        }
        let mac = key.map(|key| mac_of(newest, reach, key));
        let folder = Some(self.folder.clone());
        let mut text = serde_json::to_string(&Written { n: newest.n, hash: newest.hash.clone(), folder, reach, mac })?;
        text.push('\n');
        let (beside, mut file) = self.beside()?;
        file.write_all(text.as_bytes())?;
        // Its octets are on disk before its name is; were the name lost in a crash of the machine, the head would lag behind.
        file.sync_data()?;
        fs::rename(&beside, &self.path)?;
        if self.written.is_none()
            && let Some(folder) = self.path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        self.written = Some((newest.clone(), reach));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_a_forged_one_is_not() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(NAME);
        let key = |letter: u8| Key::parse(&BASE64.encode([letter; 32])).unwrap();
        let point = Checkpoint { n: 7, hash: "ab".repeat(32) };
        assert!(Head::read(&path, &[]).unwrap().is_none());
        let mut head = HeadFile::at(path.clone(), folder.path());
        head.write(&point, Reach::AtLeast, None).unwrap();
        assert_eq!(Head::read(&path, &[]).unwrap(), Some(Head { newest: point.clone(), reach: Reach::AtLeast, by: None }));
        assert_eq!(Head::read(&path, &[key(1)]).unwrap(), Some(Head { newest: point.clone(), reach: Reach::AtLeast, by: None }));
        let point = Checkpoint { n: 8, ..point };
        head.write(&point, Reach::Exactly, Some(&key(1))).unwrap();
        assert_eq!(Head::read(&path, &[key(2), key(1)]).unwrap(), Some(Head { newest: point, reach: Reach::Exactly, by: Some(1) }));
        assert!(matches!(Head::read(&path, &[key(2)]), Err(HeadError::Damaged(_))));
        let text = fs::read_to_string(&path).unwrap();
        for forged in
            [text.replace("\"n\":8", "\"n\":7"), text.replace("exactly", "at_least"), "{}".into(), String::new(), "x".repeat(9_000)]
        {
            fs::write(&path, forged).unwrap();
            assert!(matches!(Head::read(&path, &[key(1)]), Err(HeadError::Damaged(_))));
        }
    }

    #[test]
    fn a_head_says_of_which_audit_it_is() {
        let (state, one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = state.path().join(NAME);
        assert!(!is_of(&path, one.path()), "none");
        let point = Checkpoint { n: 7, hash: "ab".repeat(32) };
        HeadFile::at(path.clone(), one.path()).write(&point, Reach::AtLeast, None).unwrap();
        assert!(is_of(&path, one.path()) && is_of(&path, &one.path().join("../").join(one.path())));
        assert!(!is_of(&path, other.path()));
        for unnamed in ["x", "{\"n\":7,\"hash\":\"ab\"}"] {
            fs::write(&path, unnamed).unwrap();
            assert!(is_of(&path, other.path()), "{unnamed}");
        }
        fs::write(other.path().join(NAME), "").unwrap();
        assert!(!is_of(&path, other.path()));
    }
}
