//! The journal: a line as one entry, with a priority, and a field for each of its values.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};

use libsystemd::logging::{Priority, connected_to_journal, journal_send};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::printable::printable;

/// Whether standard error leads to the journal, as systemd says in `JOURNAL_STREAM`.
pub(super) fn has_standard_error() -> bool {
    connected_to_journal()
}

/// Sends each event to the journal. One that the journal does not take goes to standard error instead.
pub(super) struct Journal;

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let message = format!("{}{}", line.message, line.values);
        let priority = match *event.metadata().level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Info,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        };
        let own = [("SYSLOG_IDENTIFIER", "firstclick"), ("TARGET", event.metadata().target())];
        let fields = own.into_iter().chain(line.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if journal_send(priority, &message, fields).is_err() {
            // By the prefix of sd-daemon(3) the priority is kept, should somebody read it.
            let _ = writeln!(io::stderr().lock(), "<{}>{message}", u8::from(priority));
        }
    }
}

/// The message and the values of an event.
#[derive(Default)]
struct Line {
    message: String,
    /// ` name=value` of each, as text has it.
    values: String,
    fields: Vec<(String, String)>,
}

impl Line {
    fn add(&mut self, field: &Field, value: String, shown: &str) {
        if field.name() == "message" {
            shown.clone_into(&mut self.message);
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(self.values, " {}={shown}", field.name());
        self.fields.push((name(field), value));
    }
}

/// The name of an entry's field: upper case, and ours.
fn name(field: &Field) -> String {
    let plain = field.name().trim_start_matches("r#").replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    format!("FIRSTCLICK_{}", plain.to_ascii_uppercase())
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // A line end in the middle would look like another entry's.
        let shown = printable(&text);
        self.add(field, text, &shown);
    }
}
