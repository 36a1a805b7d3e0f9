//! `migrate`: copies of the configuration's files in this version's format, beside them.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{Answer, Config, keygen, printable};
use crate::settings::migration::{self, Migration};

pub(super) fn migrate(config: &Config) -> anyhow::Result<Answer> {
    let all = migration::of_configuration(config.path()).with_context(|| config.path().display().to_string())?;
    let mut out = io::stdout().lock();
    let mut answer = Answer::Yes;
    for made in &all {
        if show(&mut out, made)? == Answer::No {
            answer = Answer::No;
        }
    }
    if all.iter().all(|made| made.text.is_none() && made.left.is_empty()) {
        writeln!(out, "nothing to convert")?;
    }
    Ok(answer)
}

/// Writes the copy of a file that has something to convert, and says what is different and what is left; no where something is.
fn show(out: &mut impl io::Write, made: &Migration) -> anyhow::Result<Answer> {
    if let Some(text) = &made.text {
        // Who edits a link edits what it points at.
        let file = fs::canonicalize(&made.file).unwrap_or_else(|_| made.file.clone());
        let (name, copy) = (file.display().to_string(), beside(&file));
        if fs::read_to_string(&copy).is_ok_and(|there| there != *text) {
            writeln!(
                out,
                "left to you: {} is there already, and is another one: take it away first",
                printable(&copy.display().to_string())
            )?;
            return Ok(Answer::No);
        }
        if let Err(error) = write_as(&copy, text, &file) {
            writeln!(out, "left to you: {} cannot be written: {error}", printable(&copy.display().to_string()))?;
            return Ok(Answer::No);
        }
        writeln!(out, "--- {}\n+++ {}", printable(&name), printable(&copy.display().to_string()))?;
        for line in made.diff.lines() {
            writeln!(out, "{}", printable(line))?;
        }
        for note in &made.notes {
            writeln!(out, "note: {}", printable(note))?;
        }
        writeln!(out, "Nothing is changed yet. Once you agree: mv {} {}", printable(&copy.display().to_string()), printable(&name))?;
    }
    for left in &made.left {
        writeln!(out, "left to you: {left}")?;
    }
    Ok(if made.left.is_empty() { Answer::Yes } else { Answer::No })
}

/// Writes a copy with the owner, the group and the mode of the file that it is to take the place of.
fn write_as(copy: &Path, text: &str, file: &Path) -> io::Result<()> {
    let about = fs::metadata(file)?;
    keygen::replace(copy, text)?;
    // Only root may give files away; whoever may not has his own.
    let _ = chown(copy, Some(about.uid()), Some(about.gid()));
    fs::set_permissions(copy, about.permissions())
}

/// The copy's name, which no folder of entries takes for an entry.
fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".converted");
    name.into()
}
