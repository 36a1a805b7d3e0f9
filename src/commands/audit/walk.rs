//! Reads the audit files of a span of time, and tells what was looked at: an answer about records says which it rests on.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    audit::{
        chain,
        files::{self, AuditFile},
    },
    clock,
    commands::printable,
    mail::counted,
    typed_time::{TimeSpan, shown},
};

/// The files of an audit, and the span of time that was asked for.
pub(super) struct Walk {
    folder: PathBuf,
    files: Vec<AuditFile>,
    span: TimeSpan,
    /// The span as records write times.
    since: Option<String>,
    until: Option<String>,
    /// What was looked at so far.
    pub(super) looked: Looked,
    seen: Seen,
}

/// The numbers of the records that were taken, as ranges from a first to a last.
#[derive(Debug, Default)]
struct Seen(BTreeMap<u64, u64>);

impl Seen {
    /// Whether a number was not seen before; from now on it was.
    fn is_new(&mut self, number: u64) -> bool {
        match self.0.range_mut(..=number).next_back() {
            Some((_, last)) if number <= *last => return false,
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => drop(self.0.insert(number, number)),
        }
        true
    }
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) files: usize,
    /// Records of the span.
    pub(super) records: usize,
    /// Lines that are no records: cut short by a crash, or somebody's.
    pub(super) unreadable: usize,
    /// Records of the span whose number another one has: a copy of a file, perhaps changed. The first that was read counts.
    pub(super) twice: usize,
    pub(super) oldest: Option<Timestamp>,
    pub(super) newest: Option<Timestamp>,
    /// Files that could not be read, and why.
    pub(super) failed: Vec<String>,
}

/// A line, as far as it must be read to know whether it is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'l> {
    pub(super) text: &'l [u8],
    /// `mail`, `outcome` and the like.
    pub(super) kind: &'l [u8],
    /// The mail's id; empty where it is of no mail.
    pub(super) id: &'l [u8],
    pub(super) place: Place,
}

/// Where a record stands to the span that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Within,
    /// Later than that: it may tell what became of a mail within.
    Behind,
}

impl Walk {
    /// Opens a folder.
    ///
    /// # Errors
    /// It cannot be read, or there is no audit file in it.
    pub(super) fn open(folder: &Path, span: TimeSpan) -> anyhow::Result<Self> {
        let files = files::list(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        if files.is_empty() {
            bail!(
                "there is no audit file in {}, so nothing can be said; see [audit] directory, or name a folder with --directory",
                folder.display()
            );
        }
        let written = |time: Option<Timestamp>| time.map(clock::rfc3339);
        let (since, until) = (written(span.since), written(span.until));
        Ok(Self { folder: folder.to_owned(), files, span, since, until, looked: Looked::default(), seen: Seen::default() })
    }

    /// Reads every file that may hold records of the span, and gives every record that is of it, or younger.
    ///
    /// # Errors
    /// Of `take`. A file that cannot be read is noted in [`Looked`].
    pub(super) fn each(&mut self, mut take: impl FnMut(Line<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let span = self.span;
        let files: Vec<AuditFile> = self.files.iter().filter(|file| file.may_hold(span.since, span.until)).cloned().collect();
        for file in &files {
            self.read(file, &mut take)?;
        }
        Ok(())
    }

    /// Reads the files behind those of the span, up to this time.
    ///
    /// # Errors
    /// As [`Walk::each`].
    pub(super) fn each_behind(&mut self, until: Timestamp, mut take: impl FnMut(Line<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Some(end) = self.span.until else { return Ok(()) };
        let is_behind = |file: &AuditFile| !file.may_hold(self.span.since, self.span.until) && file.may_hold(Some(end), Some(until));
        let files: Vec<AuditFile> = self.files.iter().filter(|file| is_behind(file)).cloned().collect();
        for file in &files {
            self.read(file, &mut take)?;
        }
        Ok(())
    }

    fn read(&mut self, file: &AuditFile, take: &mut impl FnMut(Line<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.looked.files += 1;
        let path = self.folder.join(file.name());
        let failed = |error: &io::Error| format!("{}: {error}", path.display());
        let lines = match file.lines() {
            Ok(lines) => lines,
            Err(error) => {
                self.looked.failed.push(failed(&error));
                return Ok(());
            }
        };
        for line in lines {
            let text = match line {
                Ok(text) => text,
                Err(error) => {
                    self.looked.failed.push(failed(&error));
                    return Ok(());
                }
            };
            if let Some(line) = self.line(&text) {
                take(line)?;
            }
        }
        Ok(())
    }

    /// A line, where it is of the span or younger.
    fn line<'l>(&mut self, text: &'l [u8]) -> Option<Line<'l>> {
        let Some((kind, time, id)) = beginning(text) else {
            self.looked.unreadable += usize::from(!text.is_empty());
            return None;
        };
        if self.since.as_ref().is_some_and(|since| time < since.as_bytes()) {
            return None;
        }
        let place = if self.until.as_ref().is_some_and(|until| until.as_bytes() <= time) { Place::Behind } else { Place::Within };
        if chain::number_at_the_end(text).is_some_and(|number| !self.seen.is_new(number)) {
            self.looked.twice += usize::from(place == Place::Within);
            return None;
        }
        if place == Place::Within {
            self.looked.records += 1;
            let time: Option<Timestamp> = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
            self.looked.oldest = self.looked.oldest.into_iter().chain(time).min();
            self.looked.newest = self.looked.newest.into_iter().chain(time).max();
        }
        Some(Line { text, kind, id, place })
    }

    /// Whether a text stands anywhere in the audit, of whatever time.
    pub(super) fn knows(&self, text: &[u8]) -> bool {
        let finder = memchr::memmem::Finder::new(text);
        self.files.iter().filter_map(|file| file.lines().ok()).flatten().map_while(Result::ok).any(|line| finder.find(&line).is_some())
    }

    /// What to say where no record is of the time that was asked for.
    pub(super) fn nothing(&self) -> Option<&'static str> {
        let is_empty = self.looked.records == 0 && self.looked.failed.is_empty();
        is_empty.then_some("there is no record of that time: the service did not run, or its files are elsewhere")
    }

    /// What an answer rests on, in a sentence.
    pub(super) fn says(&self, zone: &TimeZone) -> String {
        let Looked { files, records, oldest, newest, unreadable, .. } = &self.looked;
        let asked = match (self.span.since, self.span.until) {
            (None, None) => String::new(),
            (since, until) => {
                let of =
                    |word: &str, time: Option<Timestamp>| time.map(|time| format!(" {word} {}", shown(time, zone))).unwrap_or_default();
                format!(", asked for{}{}", of("since", since), of("until", until))
            }
        };
        let spanned = match (oldest, newest) {
            (Some(oldest), Some(newest)) => format!(" of {} to {}", shown(*oldest, zone), shown(*newest, zone)),
            _ => String::new(),
        };
        let unreadable = if *unreadable == 0 { String::new() } else { format!("; {} not readable", counted(*unreadable, "line")) };
        format!("looked at {}{spanned}, in {}{asked}{unreadable}", counted(*records, "record"), counted(*files, "file"))
    }

    /// That records are there twice, where they are.
    pub(super) fn doubt(&self) -> Option<String> {
        let twice = self.looked.twice;
        (twice > 0).then(|| {
            format!(
                "{} of that time there twice, as where a copy of a file lies beside it; of two the first that was read counts, and \
                 `firstclick audit verify` says where",
                if twice == 1 { "1 record is".to_owned() } else { format!("{twice} records are") }
            )
        })
    }

    /// # Errors
    /// Files could not be read: what was found is not all there is.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let failed = &self.looked.failed;
        if failed.is_empty() {
            return Ok(());
        }
        let all = if failed.len() == self.looked.files { "no file could be read" } else { "not all was looked at" };
        bail!("{all}: {} could not be read\n  {}", counted(failed.len(), "file"), printable_lines(failed))
    }
}

fn printable_lines(lines: &[String]) -> String {
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n  ")
}

/// Type, time and mail of a record, from its first octets as they are always written; a record that is written otherwise is read
/// as a whole.
fn beginning(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (kind, rest) = until_quote(line.strip_prefix(b"{\"type\":\"")?)?;
    let at = memchr::memmem::find(rest.get(..32.min(rest.len()))?, b"\"time\":\"")?;
    let (time, rest) = until_quote(rest.get(at + b"\"time\":\"".len()..)?)?;
    let is_time = time.len() == b"2026-11-25T20:17:26.120Z".len() && time.ends_with(b"Z") && line.ends_with(b"}");
    let id = rest.strip_prefix(b",\"id\":\"").and_then(until_quote).map_or(&b""[..], |(id, _)| id);
    is_time.then_some((kind, time, id))
}

fn until_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(memchr::memchr(b'"', text)?)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seen_once() {
        let mut seen = Seen::default();
        let taken: Vec<u64> = [5, 6, 7, 6, 1, 2, 9, 8, 9, 3, 4, 5, 0, 10, 10].into_iter().filter(|number| seen.is_new(*number)).collect();
        assert_eq!(taken, [5, 6, 7, 1, 2, 9, 8, 3, 4, 0, 10]);
    }

    #[test]
    fn a_line_is_known_by_its_beginning() {
        let said = |line: &str| {
            beginning(line.as_bytes()).map(|(kind, time, id)| [kind, time, id].map(|text| String::from_utf8(text.to_vec()).unwrap()))
        };
        let mail = r#"{"type":"mail","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a","from":"<>"}"#;
        assert_eq!(said(mail).unwrap(), ["mail", "2026-11-25T20:17:26.120Z", "1a"]);
        let start = r#"{"type":"start","v":1,"time":"2026-11-25T20:17:26.120Z","version":"1"}"#;
        assert_eq!(said(start).unwrap(), ["start", "2026-11-25T20:17:26.120Z", ""]);
        for line in ["", "x", "{}", "{\"type\":\"mail\"", r#"{"type":"mail","v":1,"time":"x","id":"1"}"#, mail.trim_end_matches('}')] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}
