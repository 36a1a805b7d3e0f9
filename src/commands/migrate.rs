//! `migrate`: copies of the configuration's files in this version's format, beside them.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{Answer, Config, keygen, printable};
use crate::settings::migration::{self, Migration};

pub(super) fn migrate(config: &Config) -> anyhow::Result<Answer> {
    let all = migration::of_configuration(config.path()).with_context(|| config.path().display().to_string())?;
    let mut out = io::stdout().lock();
    for made in &all {
        show(&mut out, made)?;
    }
    if all.iter().all(|made| made.text.is_none() && made.left.is_empty()) {
        writeln!(out, "nothing to convert")?;
    }
    Ok(if all.iter().any(|made| !made.left.is_empty()) { Answer::No } else { Answer::Yes })
}

/// Writes the copy of a file that has something to convert, and says what is different and what is left.
fn show(out: &mut impl io::Write, made: &Migration) -> anyhow::Result<()> {
    let name = made.file.display().to_string();
    if let Some(text) = &made.text {
        let copy = beside(&made.file);
        keygen::replace(&copy, text).with_context(|| format!("{} cannot be written", copy.display()))?;
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
    Ok(())
}

/// The copy's name, which no folder of entries takes for an entry.
fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".converted");
    name.into()
}
