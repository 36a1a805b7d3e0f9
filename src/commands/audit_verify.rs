//! `audit verify`: whether the chain of records holds, for people and for programs.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::{Answer, Config, audit::folder, printable};
use crate::{audit::verify as chain_check, cli::Verify, edit::tag::Key, settings::AuditKeys};

/// The keys of the chain: those of a file that was named, or the configuration's. A folder can be read where there is no
/// configuration.
fn keys(config: &Config, named: Option<&Path>) -> anyhow::Result<Vec<Key>> {
    match named {
        Some(file) => Ok(AuditKeys::read(file).map_err(anyhow::Error::msg)?.keys),
        None => Ok(config.load_or_empty()?.audit_keys.keys),
    }
}

pub(super) fn verify(config: &Config, how: &Verify) -> anyhow::Result<Answer> {
    let keys = keys(config, how.key_file.as_deref())?;
    let folder = folder(config, how.directory.clone())?;
    let report = chain_check::verify_by(&folder, &keys).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut out = io::stdout().lock();
    if report.lines == 0 && report.broken.is_none() {
        writeln!(out, "there is no record in {}: nothing was verified", folder.display())?;
        return Ok(Answer::No);
    }
    let start = if report.from_the_start { "from the first line ever" } else { "from the oldest line that is here" };
    let torn = if report.torn == 0 { String::new() } else { format!(", {} cut short by a crash and closed", report.torn) };
    writeln!(out, "{} lines in {} files, {start}{torn}", report.lines, report.files)?;
    if report.touched > 0 {
        writeln!(out, "{} times somebody else touched a file, as records of the type \"file\" say", report.touched)?;
    }
    if let Some(broken) = report.broken {
        writeln!(out, "the chain is broken: {}", printable(&broken.to_string()))?;
        return Ok(Answer::No);
    }
    let (keyed, before) = (report.keyed, report.lines - report.keyed);
    let said = match (keys.is_empty(), keyed, before) {
        (true, 0, _) => "the chain holds, and has no key: whoever can write the files can compute it anew; see [audit] key_file".to_owned(),
        (true, ..) => format!("the chain holds; {keyed} lines have a keyed hash, which nobody checked: there is no key here"),
        (false, _, 0) => "the chain holds, and every line was written with the key".to_owned(),
        (false, ..) => format!("the chain holds; the oldest {before} lines are from before there was a key"),
    };
    writeln!(out, "{said}")?;
    Ok(Answer::Yes)
}
