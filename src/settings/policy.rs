//! What identifies a configuration in force: a hash of all that was written, and one of each entry.
//!
//! The hash is of firstclick.toml, the entries' files and the mails of their tests, the aliases, certificates and other files that
//! are no secret, and of the environment, each with its name. Files of keys and tokens are left out: a hash of a short token could be
//! tried out. A file that is not known to be harmless is taken for a secret.
//!
//! The files are read once more for this. One that has changed since it was compiled is reported as changed by the next look, so that
//! the configuration is read again and gets another record.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

use super::{
    Settings, files,
    keys::{KEYS, Kind},
};
use crate::limits;

/// Keys of files that hold no secret.
const PUBLIC: [&str; 5] = ["readers.aliases", "smtp.certificate", "smtp.next_hop_ca", "guard.certificate", "guard.logo"];

/// The identity of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A SHA-256 of all that was written, in hexadecimal.
    pub hash: String,
    /// The entries in force, each with the first 16 digits of a SHA-256 of what it says.
    pub entries: BTreeMap<String, String>,
    /// Every file that was read, secrets too, with a digest that is kept in memory alone.
    contents: BTreeMap<String, Option<u64>>,
}

/// The entries by which one policy differs from another, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// Entries of the new one alone.
    pub added: Vec<String>,
    /// Entries of both that say something else.
    pub changed: Vec<String>,
    /// Entries of the old one alone.
    pub gone: Vec<String>,
}

impl Policy {
    /// The policy of a configuration that was read from this file.
    pub(super) fn of(path: &Path, settings: &Settings) -> Self {
        let entries: BTreeMap<String, String> = settings
            .allowlist
            .entries()
            .iter()
            .map(|entry| (entry.name.clone(), hexadecimal(&[format!("{entry:?}").as_bytes()]).chars().take(DIGITS).collect()))
            .collect();
        let secrets = secrets(settings);
        let beside = path.parent().unwrap_or(Path::new(""));
        let name = |file: &Path| file.strip_prefix(beside).unwrap_or(file).display().to_string();
        let contents = settings.files.paths().map(|file| (name(file), files::digest(file))).collect();
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for file in settings.files.paths().filter(|file| !secrets.contains(*file)) {
            pieces.push(name(file).into_bytes());
            pieces.push(files::octets(file, limits::SETTINGS_FILE).unwrap_or_default());
        }
        for (key, value) in settings.written.iter() {
            pieces.extend([key.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        }
        for (name, says) in &entries {
            pieces.extend([name.as_bytes().to_vec(), says.as_bytes().to_vec()]);
        }
        Self { hash: hexadecimal(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>()), entries, contents }
    }

    /// The hash as mails' records name it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hash.get(..DIGITS).unwrap_or(&self.hash)
    }

    /// The files that were read with another content than for the policy before, by their names.
    #[must_use]
    pub fn files_since(&self, before: &Self) -> Vec<String> {
        let is_other = |(name, content): &(&String, &Option<u64>)| content.is_some() && before.contents.get(*name) != Some(*content);
        self.contents.iter().filter(is_other).map(|(name, _)| name.clone()).collect()
    }

    /// What has changed since another policy.
    #[must_use]
    pub fn since(&self, before: &Self) -> PolicyChange {
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>();
        let (now, then) = (&self.entries, &before.entries);
        PolicyChange {
            added: names(&mut now.keys().filter(|name| !then.contains_key(*name))),
            changed: names(&mut now.iter().filter(|(name, says)| then.get(*name).is_some_and(|said| said != *says)).map(|(name, _)| name)),
            gone: names(&mut then.keys().filter(|name| !now.contains_key(*name))),
        }
    }
}

/// Digits of a short hash.
const DIGITS: usize = 16;

/// The files of keys and tokens: all that a key of the table names and that is not known to be harmless.
fn secrets(settings: &Settings) -> BTreeSet<PathBuf> {
    let secret = KEYS.iter().filter(|key| key.kind == Kind::File && !PUBLIC.contains(&key.path));
    secret.filter_map(|key| settings.written.written_path(key.path)).collect()
}

/// SHA-256 over length-prefixed pieces, so that no two lists of pieces give the same octets.
fn hexadecimal(pieces: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_be_bytes());
        context.update(piece);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ENTRY: &str = "from = [\"vendor.test\"]\nother_links = [\"www.vendor.test\"]\nrecipients = [\"*@corp.example\"]\naction = \"tag\"\n[links]\npassword_reset = [\"login.vendor.test/reset/{token}\"]\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("allow.d")).unwrap();
        write("allow.d/vendor.toml", ENTRY);
        write("aliases", "");
        write("tag.token", "test-token-1234\n");
        write("tag.key", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        write(
            "firstclick.toml",
            "allow = \"allow.d\"\n[readers]\ndomains = [\"corp.example\"]\naliases = \"aliases\"\n[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n",
        );
        folder
    }

    fn policy(folder: &tempfile::TempDir) -> Policy {
        Settings::load(&folder.path().join("firstclick.toml")).unwrap().policy
    }

    #[test]
    fn every_change_is_another_policy_and_a_secret_is_none() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        let first = policy(&folder);
        assert_eq!((first.hash.len(), first.short().len(), first.entries.len()), (64, 16, 1));
        assert_eq!(policy(&folder), first, "the same is the same");
        let mut seen = vec![first.clone()];
        for (name, text) in [
            ("aliases", "all@corp.example: bob@corp.example\n".to_owned()),
            ("allow.d/vendor.toml", ENTRY.replace("www.", "help.")),
            ("allow.d/vendor.toml", format!("# for HR\n{ENTRY}")),
            ("allow.d/other.toml", ENTRY.replace("vendor.test", "other.test")),
        ] {
            fs::write(path(name), text).unwrap();
            let next = policy(&folder);
            assert!(seen.iter().all(|before| before.hash != next.hash), "{name}");
            seen.push(next);
        }
        let change = seen[2].since(&seen[1]);
        assert_eq!((change.added.len(), change.changed, change.gone.len()), (0, vec!["vendor".to_owned()], 0));
        assert_eq!(seen[3].since(&first), PolicyChange::default(), "a comment changes no entry");
        assert_eq!(seen[4].since(&first).added, ["other"]);
        assert_eq!(first.since(&seen[4]).gone, ["other"]);
        // The secrets.
        let before = policy(&folder);
        fs::write(path("tag.token"), "other-token-1234\n").unwrap();
        fs::write(path("tag.key"), "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=\n").unwrap();
        let after = policy(&folder);
        assert_eq!((&after.hash, &after.entries), (&before.hash, &before.entries));
        assert_eq!(after.files_since(&before), ["tag.key", "tag.token"], "yet it is said that they were taken");
    }

    /// A key that names a file is a secret's until somebody has thought about it.
    #[test]
    fn what_is_public_is_a_file() {
        for name in PUBLIC {
            assert!(KEYS.iter().any(|key| key.path == name && key.kind == Kind::File), "{name}");
        }
    }
}
