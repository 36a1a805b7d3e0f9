//! Reading the audit back: its files in order, and whether the chain of hashes holds.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

/// What stands in `prev` of the first line ever.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The SHA-256 of a line without its line end, in hexadecimal.
#[must_use]
pub fn hash(line: &[u8]) -> String {
    digest::digest(&digest::SHA256, line).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The audit files of a folder, oldest first.
///
/// # Errors
/// Where the folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("audit-")
                .and_then(|rest| rest.strip_suffix(".jsonl"))
                .is_some_and(|day| day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// A place where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct Break {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, for people.
    pub what: &'static str,
}

/// What a whole audit looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that belong to the chain.
    pub lines: usize,
    /// Files.
    pub files: usize,
    /// Lines that a crash cut short and the next start closed.
    pub torn: usize,
    /// Whether the first line ever is there; older files may have been put away.
    pub from_the_start: bool,
    /// The first place where the chain is broken.
    pub broken: Option<Break>,
}

/// Checks the chain from the oldest line that is there.
///
/// # Errors
/// Where a file cannot be read.
pub fn verify(folder: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    let mut previous: Option<String> = None;
    let mut pending_torn: Option<Break> = None;
    for path in files(folder)? {
        report.files += 1;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (at, line) in BufReader::new(File::open(&path)?).split(b'\n').enumerate() {
            let line = line?;
            let broken = |what| Break { file: name.clone(), line: at + 1, what };
            let value: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
            let text = |key: &str| value.as_ref().and_then(|value| value.get(key)).and_then(serde_json::Value::as_str);
            if let Some(torn) = pending_torn.take() {
                let says_so = text("type") == Some("start")
                    && value.as_ref().and_then(|value| value.get("torn")) == Some(&serde_json::Value::Bool(true));
                if !says_so {
                    report.broken = Some(torn);
                    return Ok(report);
                }
                report.torn += 1;
            }
            let Some(prev) = text("prev") else {
                pending_torn = Some(broken("the line is no record; it was cut short or changed"));
                previous = Some(hash(&line));
                continue;
            };
            match &previous {
                None => report.from_the_start = prev == GENESIS,
                Some(expected) if prev != expected => {
                    report.broken = Some(broken("the line before this one was changed, removed or put in"));
                    return Ok(report);
                }
                Some(_) => {}
            }
            previous = Some(hash(&line));
            report.lines += 1;
        }
    }
    report.broken = pending_torn;
    Ok(report)
}
