//! `[audit]`: where records go, and the keys of their chain.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Problems,
    schema::{Found, Section},
};
use crate::edit::tag::Key;

/// The keys of the audit's chain.
#[derive(Clone, Debug, Default)]
pub struct AuditKeys {
    /// The newest first: it is written with, and all verify. Empty where the chain has no key.
    pub keys: Vec<Key>,
    /// The file that they came from.
    pub file: Option<PathBuf>,
}

impl AuditKeys {
    /// Reads a file of keys as `keygen` writes it, 32 octets in base64 on each line, the newest first.
    ///
    /// # Errors
    /// What is wrong with it; what it holds is never repeated.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let mut keys = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong = || format!("{}:{at}: expected 32 octets in base64 on each line, the newest first", path.display());
            keys.push(Key::parse(line).ok_or_else(wrong)?);
        }
        if keys.is_empty() {
            return Err(format!("{} holds no key; `firstclick keygen --out FILE` writes one", path.display()));
        }
        Ok(Self { keys, file: Some(path.to_owned()) })
    }
}

/// Compiles the section: the folder, where one is named, and the keys.
pub(super) fn compile(mut section: Section<'_, '_>, beside: &Path, problems: &mut Problems) -> (Option<PathBuf>, AuditKeys) {
    let directory = section.string("directory", problems);
    let key_file = section.string("key_file", problems);
    section.finish(problems);
    let mut read = |found: Found<String>| {
        AuditKeys::read(&beside.join(&found.value)).unwrap_or_else(|what| {
            let Found { place, key, .. } = found;
            problems.add(place, key, what);
            AuditKeys::default()
        })
    };
    (directory.map(|found| beside.join(found.value)), key_file.map(&mut read).unwrap_or_default())
}
