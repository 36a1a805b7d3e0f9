//! `[audit]`: the folder of the records, and the keys of their chain.

use std::path::{Path, PathBuf};

use super::{
    Problems,
    keys::{File, Folder},
    layers::Layers,
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
        let text = super::files::text(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let mut keys = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong = || format!("{}:{at}: expected 32 octets in base64 on each line, the newest first", path.display());
            keys.push(Key::parse(line).ok_or_else(wrong)?);
        }
        if keys.is_empty() {
            return Err(format!("{} holds no key; `firstclick keygen --out FILE` writes one", path.display()));
        }
        Ok(Self { keys })
    }
}

/// Compiles the section: the folder, where one is named, and the keys.
pub(super) fn compile(file: &mut Layers<'_>, problems: &mut Problems) -> (Option<PathBuf>, AuditKeys) {
    let directory = file.take(const { Folder::of("audit.directory") }, problems);
    let keys = file.take(const { File::of("audit.key_file") }, problems).map(|found| {
        AuditKeys::read(&found.value).unwrap_or_else(|what| {
            problems.add_unusable(found.place, found.key, what, super::files::remedy_of_all([found.value.as_path()]));
            AuditKeys::default()
        })
    });
    (directory.map(|found| found.value), keys.unwrap_or_default())
}
