//! The log: where its lines go, and in which form.
//!
//! A line goes to the journal with its priority and one field for each value, or to standard error as text or JSON. All forms
//! have the same words and values; text and JSON have the audit's clock, and the journal has its own. Nobody waits for a line to be
//! written: see `lines`.

mod journal;
mod lines;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::{self, Write},
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing::Metadata;

use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use self::lines::{Haste, Lines, Sink};
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
    /// Starts the log of this process, until what is returned is dropped. Once; where a log was started before nothing changes.
    #[must_use = "dropped, it writes the last lines"]
    pub fn start(self) -> Started {
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
        let lines = Lines::start(if to_journal { Sink::Journal } else { Sink::Standard });
        let text = tracing_subscriber::fmt::layer().with_timer(AuditClock).with_writer(Each(Arc::clone(&lines))).with_ansi(false);
        let layer = match self.form {
            _ if to_journal => journal::Journal(Arc::clone(&lines)).boxed(),
            Form::Json => text.json().flatten_event(true).boxed(),
            _ => text.boxed(),
        };
        // Only tests start a second one.
        let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
        log_panics(Arc::clone(&lines));
        if let Some(error) = mistaken {
            tracing::warn!(error, level = self.level.word(), "RUST_LOG cannot be read; the level of [log] counts");
        }
        Started(lines)
    }
}

/// A log that was started. Dropped, it returns once all lines are written; those that come then are written by whoever says them.
#[derive(Debug)]
pub struct Started(Arc<Lines>);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Lines that were dropped since the start, as they came faster than they were read, or could not be written.
#[must_use]
pub fn dropped() -> Counter {
    lines::dropped().clone()
}

/// Has panics told by the log: whoever panics must not wait for a reader of standard error, and its last words must be out should the
/// program not live on.
fn log_panics(lines: Arc<Lines>) {
    panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        let thread = thread::current().name().unwrap_or("unnamed").to_owned();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, %backtrace, "{panic}");
        } else {
            tracing::error!(thread, "{panic}");
        }
        lines.flush(LAST_WORDS);
    }));
}

/// Time for the words of a panic to be written.
const LAST_WORDS: Duration = Duration::from_millis(100);

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

/// Makes the writer of each event.
struct Each(Arc<Lines>);

impl<'a> MakeWriter<'a> for Each {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> OneLine<'a> {
        OneLine(&self.0, Haste::Gathered)
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> OneLine<'a> {
        let is_urgent = *about.level() <= tracing::Level::WARN;
        OneLine(&self.0, if is_urgent { Haste::Now } else { Haste::Gathered })
    }
}

/// Writes each event as one line: the formatter hands over an event at once, with its own line end, and values that are shown as
/// they are may hold line ends of strangers.
struct OneLine<'a>(&'a Lines, Haste);

impl Write for OneLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let is_plain = text.iter().all(|octet| matches!(octet, b' '..=b'~'));
        self.0.add(self.1, |lines| {
            if is_plain {
                lines.extend_from_slice(text);
            } else {
                lines.extend(str::from_utf8(text).map_or_else(|_| text.escape_ascii().to_string(), printable).into_bytes());
            }
            lines.push(b'\n');
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time as the audit writes it.
struct AuditClock;

impl FormatTime for AuditClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", clock::now())
    }
}
