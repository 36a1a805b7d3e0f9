//! Records that are no mail's: of the audit itself, and of the policy in force.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::VERSION;
use super::time;
use crate::vocabulary::{Code, vocabulary};

/// A start of the audit's writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the start.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The version of firstclick, as in `1.2.0`.
    pub version: String,
    /// Whether a crash cut the last line before it short.
    pub torn: bool,
}

/// The audit file was changed or removed by another program, or records at the chain's end are missing. Records go on in the file
/// that holds this record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time at which it was noticed.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The name of the file, without its folder.
    pub file: String,
    /// What was done to it.
    pub what: Code<FileFault>,
    /// The records that are no longer there, by what the folder holds; none where that is not known, or none are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Numbers>,
    /// Numbers that are given to no record from here on: the hop was killed, and records behind the missing ones may have them. This
    /// record is linked to the one before those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Numbers>,
}

/// Records by their numbers, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// The key of the chain changes with this record, which is written with both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RekeyRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the change.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// What the key before is called, 8 hexadecimal digits.
    pub old: String,
    /// What the key from here on is called.
    pub new: String,
}

/// A file of records whose time is over was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of its removal.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The name of the file, without its folder.
    pub file: String,
    /// The number of its first record.
    pub first: u64,
    /// The number of its last record.
    pub last: u64,
    /// The hash of its last record, to which the oldest record that is left is linked.
    pub hash: String,
}

/// A configuration that came into force. Mails name it by the first 16 digits of its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time from which it was in force.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// What put it in force.
    pub by: Code<PolicyBy>,
    /// A SHA-256 of all that was written, without secrets, in hexadecimal.
    pub hash: String,
    /// The version of firstclick, as in `1.2.0`.
    pub version: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// Every entry in force, and the first 16 digits of the hash of what it says.
    pub entries: BTreeMap<String, String>,
    /// Entries that were not in force before; at a start all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Entries that say something else than before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Entries that were in force before, and are not now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Files that a reload read with another content than before, those of tokens and keys too; names alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl PolicyRecord {
    /// The hash as mails' records name it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hash.get(..16).unwrap_or(&self.hash)
    }
}

/// A changed configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRefusedRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time at which it was read.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The policy that stays in force: the first 16 digits of its hash.
    pub policy: String,
    /// The first mistake, in words.
    pub mistake: String,
}

vocabulary! {
    /// What put a configuration in force.
    PolicyBy {
        Start = "start", "The service started.";
        Reload = "reload", "The configuration was read again.";
    }
}

vocabulary! {
    /// What another program did to an audit file.
    FileFault {
        Vanished = "vanished", "It is no longer there.";
        Replaced = "replaced", "Another file is in its place.";
        Changed = "changed", "It is longer or shorter than it was left.";
        Cut = "cut", "The chain ends before the record that the head file names, or holds another in its place.";
        Head = "head", "The head file is damaged, or gone, so that a cut would not show.";
    }
}
