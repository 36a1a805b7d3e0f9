//! `check`: the configuration, before it runs.

use std::io::{self, Write as _};

use super::{Answer, Config};

pub(super) fn check(config: &Config) -> anyhow::Result<Answer> {
    let settings = config.load()?;
    let mut out = io::stdout().lock();
    for warning in &settings.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(Answer::Yes)
}
