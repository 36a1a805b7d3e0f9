//! The log: where its lines go, and in which form.
//!
//! A line goes to the journal with its priority and one field for each value, or to standard error as text or JSON. All forms
//! have the same words and values; text and JSON have the audit's clock, and the journal has its own.

mod journal;

use std::{
    fmt,
    io::{self, Write},
};

use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{clock, printable::printable};

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// To the journal where standard error leads there, as it does under systemd; as text otherwise.
    #[default]
    Auto,
    /// To the journal.
    Journal,
    /// As text, one line each.
    Text,
    /// As JSON, one object a line.
    Json,
}

/// The least severe level whose lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// What somebody must see to.
    Error,
    /// What may need somebody.
    Warn,
    /// One line a mail, and what changes.
    #[default]
    Info,
    /// One line a connection, too.
    Debug,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The form of the lines.
    pub form: Form,
    /// The least severe level; `RUST_LOG` counts instead of it where it is set.
    pub level: Level,
}

impl Log {
    /// Starts the log of this process. Once; where a log was started before nothing changes.
    pub fn start(self) {
        let (filter, mistaken) = match std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.trim().is_empty()) {
            Some(text) => match EnvFilter::try_new(&text) {
                Ok(filter) => (filter, None),
                Err(error) => (EnvFilter::new(self.level.word()), Some(error.to_string())),
            },
            None => (EnvFilter::new(self.level.word()), None),
        };
        let to_journal = match self.form {
            Form::Auto => journal::has_standard_error(),
            Form::Journal => true,
            Form::Text | Form::Json => false,
        };
        let lines = tracing_subscriber::fmt::layer().with_timer(AuditClock).with_writer(|| OneLine(io::stderr())).with_ansi(false);
        let layer = match self.form {
            _ if to_journal => journal::Journal.boxed(),
            Form::Json => lines.json().flatten_event(true).boxed(),
            _ => lines.boxed(),
        };
        // Only tests start a second one.
        let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
        if let Some(error) = mistaken {
            tracing::warn!(error, level = self.level.word(), "RUST_LOG cannot be read; the level of [log] counts");
        }
    }
}

impl Level {
    /// The level as `RUST_LOG` has it.
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Writes each event as one line: the formatter hands over an event at once, with its own line end, and values that are shown as
/// they are may hold line ends of strangers.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = str::from_utf8(text).map_or_else(|_| text.escape_ascii().to_string(), printable);
        self.0.write_all(format!("{text}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The time as the audit writes it.
struct AuditClock;

impl FormatTime for AuditClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", clock::rfc3339(clock::now()))
    }
}
