//! `[audit]`: the folder of the records, and the keys of their chain.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Problems,
    keys::{File, Flag, Folder, Time},
    layers::Layers,
    tag::no_key,
};
use crate::edit::tag::Key;

/// The keys of the audit's chain.
#[derive(Clone, Debug, Default)]
pub struct AuditKeys {
    /// The newest first: it is written with, and all verify. Empty where the chain has no key.
    pub keys: Vec<Key>,
}

impl AuditKeys {
    /// Reads a file of keys as `keygen` writes it, 32 octets in base64 on each line, the newest first.
    ///
    /// # Errors
    /// What is wrong with the file, in words; its contents are never repeated.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = super::files::text(path).map_err(|error| {
            // A file that is closed is no reason for a new key, with which nothing that was written verifies.
            let how = if error.kind() == io::ErrorKind::NotFound { "; `firstclick keygen --out FILE` writes one" } else { "" };
            format!("{} cannot be read: {error}{how}", path.display())
        })?;
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let mut keys = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            keys.push(Key::parse(line).ok_or_else(|| format!("{}:{at}: {}", path.display(), no_key(line)))?);
        }
        if keys.is_empty() {
            return Err(format!("{} holds no key; `firstclick keygen --out FILE` writes one", path.display()));
        }
        Ok(Self { keys })
    }
}

/// What is kept of the audit, and where its head is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditKeeping {
    /// The folder of the head file; none where it is the usual one.
    pub state: Option<PathBuf>,
    /// How long files are kept; none where it is for ever.
    pub keep: Option<Duration>,
    /// Whether closed files are compressed.
    pub compress: bool,
}

/// Compiles the section: the folder, where one is named, the keys, and what is kept.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> (Option<PathBuf>, AuditKeys, AuditKeeping) {
    let directory = file.take(const { Folder::of("audit.directory") }, problems);
    let keys = file.take(const { File::of("audit.key_file") }, problems).map(|found| {
        AuditKeys::read(&found.value).unwrap_or_else(|what| {
            problems.add_unusable(found.place, found.key, what, super::files::remedy_of_all([found.value.as_path()]));
            AuditKeys::default()
        })
    });
    let keeping = AuditKeeping {
        state: file.take(const { Folder::of("audit.state") }, problems).map(|found| found.value),
        keep: file.take(const { Time::of("audit.keep") }, problems).map(|found| found.value),
        compress: file.take(const { Flag::of("audit.compress") }, problems).is_some_and(|found| found.value),
    };
    (directory.map(|found| found.value), keys.unwrap_or_default(), keeping)
}
