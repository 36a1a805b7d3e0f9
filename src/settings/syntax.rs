//! What a mistake in a TOML file's syntax is told as: what to write instead, once for each, with none that only follow from it.

use std::{collections::BTreeSet, ops::Range};

use toml::de::Error;

use super::{
    hint,
    proposal::{self, Proposal},
    schema::{Mistake, Problem, Problems, Spread, place},
};

/// Adds the mistakes that the parser found in a text.
pub(super) fn explain(name: &str, text: &str, errors: &[Error], problems: &mut Problems) {
    let source = Source::new(name, text);
    let mut found: Vec<(Range<usize>, String)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message().lines().collect::<Vec<_>>().join("; "))).collect();
    found.sort_by_key(|(span, _)| span.start);
    if source.ends_lines_with_cr() {
        source.add(0..0, "its lines end with a carriage return alone; save it with line feeds, as text for Unix", Spread::Below, problems);
        return;
    }
    let open = source.unclosed(&found);
    let mut told = BTreeSet::new();
    for (span, message) in found {
        let line = source.line_of(span.start);
        if open.is_some_and(|open| line >= source.line_of(open)) {
            break;
        }
        if message.starts_with("duplicate key") {
            source.twice(span, problems);
        } else if told.insert(line) {
            let (what, spread) = source.reworded(span.start, &message);
            source.add(span, what, spread, problems);
        }
    }
    if let Some(open) = open {
        let line = source.line(source.line_of(open));
        let what = if line.matches('"').count() % 2 == 1 {
            "the text has no end: write \" behind it"
        } else if line.get(line.find('=').unwrap_or_default()..).is_some_and(|value| value.trim_start_matches(['=', ' ']).starts_with('{'))
        {
            "the table has no end: write } behind its last value"
        } else {
            "the list has no end: write ] behind its last value"
        };
        source.add(open..open, what, Spread::Below, problems);
    }
}

/// A text, line by line.
struct Source<'t> {
    name: &'t str,
    text: &'t str,
    lines: Vec<&'t str>,
}

/// The section that a line belongs to: the number of its header's line, and its name.
type Header = (usize, String);

impl<'t> Source<'t> {
    fn new(name: &'t str, text: &'t str) -> Self {
        Self { name, text, lines: text.split('\n').map(|line| line.trim_end_matches('\r')).collect() }
    }

    fn line_of(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or(self.text).matches('\n').count()
    }

    fn line(&self, number: usize) -> &'t str {
        self.lines.get(number).copied().unwrap_or_default()
    }

    fn ends_lines_with_cr(&self) -> bool {
        self.lines.iter().any(|line| line.contains('\r'))
    }

    fn add(&self, span: Range<usize>, what: impl Into<String>, spread: Spread, problems: &mut Problems) {
        let place = place(self.name, self.text, span);
        problems.0.push(Problem { place, key: String::new(), what: what.into(), mistake: Mistake::Syntax(spread) });
    }

    /// Where a list, a table or a text starts that is never closed: what comes below it was taken for a part of it.
    fn unclosed(&self, found: &[(Range<usize>, String)]) -> Option<usize> {
        let ends = found.iter().any(|(_, message)| message.starts_with("unclosed array") || message.starts_with("unclosed inline table"));
        let first = found
            .iter()
            .find(|(_, message)| message.contains("array") || message.contains("key-value pairs") || message.contains("inline table"))?;
        if !ends {
            return None;
        }
        // The line above the first mistake that has a key.
        let at = self.line_of(first.0.start);
        let opens =
            |number: &usize| self.line(*number).split_once('=').is_some_and(|(_, value)| value.trim_start().starts_with(['[', '{']));
        let number = (0..=at).rev().find(opens)?;
        let before: usize = self.text.split('\n').take(number).map(|line| line.len() + 1).sum();
        Some(before + self.line(number).find('=').map_or(0, |at| at + 1) + 1)
    }

    fn header(line: &str) -> Option<String> {
        let (name, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
        Some(name.split('.').map(|part| part.trim().trim_matches(['"', '\''])).collect::<Vec<_>>().join("."))
    }

    fn section_of(&self, number: usize) -> Option<Header> {
        (0..=number).rev().find_map(|number| Some((number, Self::header(self.line(number))?)))
    }

    /// A section or a key that stands there a second time.
    fn twice(&self, span: Range<usize>, problems: &mut Problems) {
        let number = self.line_of(span.start);
        let first_header = |name: &str, before: usize| (0..before).find(|line| Self::header(self.line(*line)).as_deref() == Some(name));
        let mut add = |key: String, what: String| problems.add(place(self.name, self.text, span.clone()), key, what);
        if let Some(name) = Self::header(self.line(number)) {
            let first = first_header(&name, number);
            let at = first.map_or_else(String::new, |first| format!("; it stands in line {} already", first + 1));
            add(name.clone(), format!("the section is there twice{at}: put the keys of both under one [{name}]"));
            return;
        }
        let section = self.section_of(number);
        // A key of a section that is there twice: the section is what is told.
        if section.as_ref().is_some_and(|(line, name)| first_header(name, *line).is_some()) {
            return;
        }
        let key_of = |line: &'t str| line.split_once('=').map(|(key, _)| key.trim().trim_matches(['"', '\'']));
        let Some(key) = key_of(self.line(number)) else {
            add(String::new(), "a key is there twice; take one of the two out".into());
            return;
        };
        let from = section.as_ref().map_or(0, |(line, _)| *line);
        let first = (from..number).find(|line| key_of(self.line(*line)) == Some(key));
        let at = first.map_or_else(String::new, |first| format!("; it stands in line {} already", first + 1));
        let full = section.map_or_else(|| key.to_owned(), |(_, name)| format!("{name}.{key}"));
        add(full, format!("the key is there twice{at}: take one of the two out"));
    }

    /// What to write instead, by what the line looks like; else what the parser says.
    fn reworded(&self, at: usize, message: &str) -> (String, Spread) {
        let line = self.line(self.line_of(at));
        let bare = without_comment(line).trim();
        if let Some(control) = line.chars().find(|letter| letter.is_control() && *letter != '\t') {
            return (format!("a control character (U+{:04X}) stands in the line; take it out", u32::from(control)), Spread::Line);
        }
        if bare.starts_with([';']) || ["//", "--", "/*"].iter().any(|start| bare.starts_with(start)) {
            return ("a comment starts with #".into(), Spread::Line);
        }
        if line.contains(['“', '”', '„', '‘', '’', '«', '»']) {
            return ("typographic quotes; write straight ones: \"...\"".into(), Spread::Line);
        }
        if bare.starts_with('[') && !bare.contains(']') {
            let name = bare.trim_start_matches('[').trim();
            return (format!("the section's name has no end: write [{name}]"), Spread::Below);
        }
        let section = self.section_of(self.line_of(at)).map_or_else(String::new, |(_, name)| format!("{name}."));
        let Some((key, value)) = bare.split_once('=') else { return Self::without_equals(bare, &section) };
        let (key, value) = (key.trim(), value.trim());
        if value.starts_with('=') {
            let value = value.trim_start_matches(['=', ' ', '\t']);
            if value.is_empty() {
                return ("`=` stands there more than once, and no value behind it".into(), Spread::Line);
            }
            let how = Self::line_for(key, value, &section).unwrap_or_else(|| "take one of the two out".into());
            return (format!("`=` stands there twice; {how}"), Spread::Line);
        }
        if message.starts_with("missing comma") {
            return ("write a comma between the values".into(), Spread::Line);
        }
        let what = match value {
            "" => format!("no value stands behind `=`; write {key} = \"...\", or take the line out"),
            _ if value.starts_with(['"', '\'']) => quoted(value, message),
            _ if message.starts_with("invalid date") && hint::date(value).is_none() => {
                format!("found {value}, which is no day of the calendar; expected a date, as in 2027-06-30")
            }
            _ => match proposal::by_name(&format!("{section}{key}"), value) {
                Proposal::Value(meant) => format!("found {value}; write {key} = {meant}"),
                none @ Proposal::NoLine => format!("found {value}{none}"),
                Proposal::Nothing => proposal::expected(&format!("{section}{key}"))
                    .map_or_else(|| message.to_owned(), |expected| format!("found {value}, expected {expected}")),
            },
        };
        (what, Spread::Line)
    }

    /// A line without `=`, which is no section.
    fn without_equals(bare: &str, section: &str) -> (String, Spread) {
        if let Some(name) = bare.strip_suffix([']', ':']) {
            return (format!("a section's name stands in brackets: write [{}]", name.trim()), Spread::Below);
        }
        let pair = bare.split_once(':').or_else(|| bare.split_once(char::is_whitespace));
        let what = pair.map_or_else(
            || format!("found {bare:?}, expected KEY = VALUE, or a [section]"),
            |(key, value)| {
                let (key, value) = (key.trim(), value.trim());
                let how = Self::line_for(key, value, section);
                let expected = || {
                    format!(
                        "write {key} = and behind it {}",
                        proposal::expected(&format!("{section}{key}")).unwrap_or_else(|| "its value".into())
                    )
                };
                format!("`=` is missing: {}", how.unwrap_or_else(expected))
            },
        );
        (what, Spread::Line)
    }

    /// What to do with a key whose value stands behind something else than one `=`, where it is known what was meant.
    fn line_for(key: &str, value: &str, section: &str) -> Option<String> {
        let full = format!("{section}{key}");
        if proposal::is_value(&full, value) {
            return Some(format!("write {key} = {value}"));
        }
        match proposal::by_name(&full, value) {
            Proposal::Value(meant) => Some(format!("write {key} = {meant}")),
            Proposal::NoLine => Some("to have none, take the line out".into()),
            Proposal::Nothing => None,
        }
    }
}

/// What is wrong with a value that starts with a quote.
fn quoted(value: &str, message: &str) -> String {
    let quote = if value.starts_with('\'') { '\'' } else { '"' };
    let rest = value.get(1..).unwrap_or_default();
    match rest.find(quote) {
        None => format!("the text has no end: write {quote} behind it"),
        Some(end) => {
            let behind = rest.get(end + 1..).unwrap_or_default().trim();
            if message.starts_with("unexpected key or value") && !behind.is_empty() {
                format!("found {behind} behind the value; take it out")
            } else if rest.contains('\\') {
                "a backslash in \"...\" must be written twice: \\\\".into()
            } else {
                message.to_owned()
            }
        }
    }
}

/// A line up to its comment.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') => return line.get(..at).unwrap_or(line),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    line
}
