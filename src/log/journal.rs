//! The journal: a line as one entry, with a priority, and a field for each of its values.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use libsystemd::logging::{Priority, connected_to_journal, journal_send};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::lines::{self, Haste, Lines};
use crate::printable::printable;

/// Whether standard error leads to the journal, as systemd says in `JOURNAL_STREAM`.
pub(super) fn has_standard_error() -> bool {
    connected_to_journal()
}

/// Hands each event over as an entry.
pub(super) struct Journal(pub(super) Arc<Lines>);

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.message.push_str(&line.values);
        // The journal has its own clock, so that nothing is gathered.
        self.0.add(Haste::Now, |octets| {
            let begin = octets.len();
            octets.extend([0; LENGTH]);
            octets.push(
                match *event.metadata().level() {
                    Level::ERROR => Priority::Error,
                    Level::WARN => Priority::Warning,
                    Level::INFO => Priority::Info,
                    Level::DEBUG | Level::TRACE => Priority::Debug,
                }
                .into(),
            );
            for text in [&line.message, "TARGET", event.metadata().target()] {
                put(octets, text);
            }
            octets.extend_from_slice(&line.fields);
            let length = octets.len() - begin - LENGTH;
            if let Some(place) = octets.get_mut(begin..begin + LENGTH) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        });
    }
}

/// Sends entries to the journal. One that it does not take goes to standard error instead.
pub(super) fn send(mut entries: &[u8]) {
    while let Some(mut entry) = take(&mut entries) {
        let Some(priority) = entry.split_off_first() else { continue };
        let mut texts = std::iter::from_fn(|| take(&mut entry).and_then(|text| str::from_utf8(text).ok()));
        let message = texts.next().unwrap_or_default();
        let fields = std::iter::from_fn(|| texts.next().zip(texts.next()));
        let level = [Priority::Error, Priority::Warning, Priority::Info].into_iter().find(|known| u8::from(*known) == *priority);
        let own = [("SYSLOG_IDENTIFIER", "firstclick")];
        if journal_send(level.unwrap_or(Priority::Debug), message, own.into_iter().chain(fields)).is_err() {
            // By the prefix of sd-daemon(3) the priority is kept, should somebody read it.
            lines::write_all(format!("<{priority}>{message}\n").as_bytes());
        }
    }
}

/// Octets of a length.
const LENGTH: usize = size_of::<usize>();

/// Adds a text with its length.
fn put(octets: &mut Vec<u8>, text: &str) {
    octets.extend_from_slice(&text.len().to_le_bytes());
    octets.extend_from_slice(text.as_bytes());
}

/// The next that was added so.
fn take<'o>(octets: &mut &'o [u8]) -> Option<&'o [u8]> {
    let (length, rest) = octets.split_first_chunk()?;
    let (taken, rest) = rest.split_at_checked(usize::from_le_bytes(*length))?;
    *octets = rest;
    Some(taken)
}

/// The message and the values of an event.
#[derive(Default)]
struct Line {
    message: String,
    /// ` name=value` of each, as text has it.
    values: String,
    /// Names and values of the fields, as they are added to an entry.
    fields: Vec<u8>,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str, shown: &str) {
        if field.name() == "message" {
            shown.clone_into(&mut self.message);
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(self.values, " {}={shown}", field.name());
        put(&mut self.fields, &name(field));
        put(&mut self.fields, value);
    }
}

/// The name of an entry's field: upper case, and ours.
fn name(field: &Field) -> String {
    let plain = field.name().trim_start_matches("r#").replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    format!("FIRSTCLICK_{}", plain.to_ascii_uppercase())
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // A line end in the middle would look like another entry's.
        let shown = printable(&text);
        self.add(field, &text, &shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut octets = Vec::new();
        for text in ["one", "", "zwei\n"] {
            put(&mut octets, text);
        }
        let mut rest = octets.as_slice();
        let taken: Vec<&[u8]> = std::iter::from_fn(|| take(&mut rest)).collect();
        assert_eq!(taken, [&b"one"[..], b"", b"zwei\n"]);
        assert_eq!(take(&mut &octets[..9]), None);
    }
}
