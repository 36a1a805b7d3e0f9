//! `audit`: reads the records back, for people and for pipelines.

mod find;
mod reader;
mod report;
mod show;
mod tail;
mod walk;

use std::path::PathBuf;

use anyhow::bail;
use jiff::{ZonedDateTime, tz::TimeZone};

use super::{Answer, Config};
use crate::{cli::Audit, clock};

pub(super) fn audit(config: &Config, what: Audit) -> anyhow::Result<Answer> {
    match what {
        Audit::Find(arguments) => find::find(config, &arguments),
        Audit::Verify(arguments) => super::audit_verify::verify(config, &arguments),
        Audit::Report(arguments) => report::report(config, &arguments),
        Audit::Tail(arguments) => tail::tail(config, &arguments),
    }
}

/// The folder that was named, or the configuration's.
pub(super) fn folder(config: &Config, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder);
    }
    match config.load()?.audit {
        Some(folder) => Ok(folder),
        None => bail!("{}: there is no [audit] directory; name one with --directory", config.path().display()),
    }
}

/// The present time, in the zone in which times are read and printed.
fn now(utc: bool) -> ZonedDateTime {
    let now = clock::local();
    if utc { now.with_time_zone(TimeZone::UTC) } else { now }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    People,
}

impl Form {
    const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::People }
    }
}
