//! Reads TOML so that every mistake is found at once and reported with its position.
//!
//! Each key is taken on its own: a wrong one is noted and the next one is read. This reads entries, services and products;
//! firstclick.toml is read by a table of its keys (`layers`).

use std::{fmt, io, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use super::hint::nearest;
use super::syntax;
use crate::{printable::printable, remedy::Remedy};

/// The position of a key or a value in what the admin wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSpan {
    /// The path of the file, or the name of the variable of the environment.
    pub source: String,
    /// Line and column, from 1; none for a whole file and for the environment.
    pub at: Option<(usize, usize)>,
}

impl SourceSpan {
    /// The position of a whole file, without line and column.
    #[must_use]
    pub fn file(source: impl Into<String>) -> Self {
        Self { source: source.into(), at: None }
    }
}

impl SourceSpan {
    /// Whether it is in a file that the configuration is written in; a file that it names, or a variable, is not.
    fn is_in_toml(&self) -> bool {
        Path::new(&self.source).extension().is_some_and(|end| end == "toml")
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}", printable(&self.source)),
            None => f.write_str(&printable(&self.source)),
        }
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The position of the mistake.
    pub place: SourceSpan,
    /// The key, with its sections, as in `smtp.listen`.
    pub key: String,
    /// What was found and what is allowed, in words.
    pub what: String,
    /// The kind of the mistake.
    pub mistake: Mistake,
}

/// The kind of a mistake: a key that is missing because its name is misspelt is one mistake, not two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    /// A wrong value, file or combination.
    Wrong,
    /// An unknown key, and the known key that it probably stands for, with its sections.
    Unknown(Option<String>),
    /// A required key is missing.
    Missing,
    /// What was written may well be right: a file or a folder that it names is not there for now.
    Passing,
    /// Nothing is known of what was written: the file cannot be read.
    Unread(io::ErrorKind, Remedy),
    /// A line that is no TOML.
    Syntax(Spread),
}

/// How far a mistake of syntax reaches: what else is found there may follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spread {
    /// Its line alone was not understood.
    Line,
    /// What comes below it was taken for a part of something else.
    Below,
}

/// Whether a key is this one, or stands below it.
fn is_within(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Problem {
    /// Whether another mistake is there only because of this one.
    fn causes(&self, other: &Self) -> bool {
        // A variable of the environment and a file of keys are other sources than the section that they belong to.
        let same_file = self.place.source == other.place.source || !self.place.is_in_toml();
        let (line, below) = (self.place.at.map(|(line, _)| line), other.place.at.map(|(line, _)| line));
        match (&self.mistake, &other.mistake) {
            (_, Mistake::Syntax(_)) => false,
            (Mistake::Syntax(_), Mistake::Missing) => same_file,
            (Mistake::Syntax(Spread::Line), _) => same_file && line == below,
            (Mistake::Syntax(Spread::Below), _) => same_file && line <= below,
            (Mistake::Unknown(Some(meant)), Mistake::Missing) if is_within(&other.key, meant) => same_file,
            (Mistake::Missing, Mistake::Missing) => same_file && self.key != other.key && is_within(&self.key, &other.key),
            (_, Mistake::Missing) => same_file && is_within(&self.key, &other.key),
            _ => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", printable(&self.key))?;
        }
        // What is to be written has lines of its own.
        let lines: Vec<String> = self.what.split('\n').map(printable).collect();
        f.write_str(&lines.join("\n    "))
    }
}

/// All mistakes of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a mistake.
    pub fn add(&mut self, place: SourceSpan, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { place, key: key.into(), what: what.into(), mistake: Mistake::Wrong });
    }

    /// Adds a required key that is missing. `drop_follow_ups` removes it again where a misspelt key is
    /// the reason.
    pub fn add_missing(&mut self, place: SourceSpan, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { place, key: key.into(), what: what.into(), mistake: Mistake::Missing });
    }

    /// Adds a file or a folder that cannot be used; the remedy says whether that may pass.
    pub(super) fn add_unusable(&mut self, place: SourceSpan, key: impl Into<String>, what: impl Into<String>, remedy: Remedy) {
        let mistake = match remedy {
            Remedy::Wait => Mistake::Passing,
            Remedy::Mend => Mistake::Wrong,
        };
        self.0.push(Problem { place, key: key.into(), what: what.into(), mistake });
    }

    /// Who mends all of this: time, where nothing that was written is wrong.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        let passes = |problem: &Problem| matches!(problem.mistake, Mistake::Passing | Mistake::Unread(_, Remedy::Wait));
        if self.0.iter().all(passes) { Remedy::Wait } else { Remedy::Mend }
    }

    /// A line for all of it: a file that cannot be read has no mistakes that anybody knows of.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        match self.unread() {
            Some(io::ErrorKind::NotFound) => "the configuration is not there",
            Some(io::ErrorKind::PermissionDenied) => "the configuration may not be read by this user",
            Some(_) => "the configuration cannot be read",
            None => "the configuration has mistakes",
        }
    }

    /// Why the file cannot be read, where that is all there is to say.
    #[must_use]
    pub fn unread(&self) -> Option<io::ErrorKind> {
        match self.0.as_slice() {
            [Problem { mistake: Mistake::Unread(why, _), .. }] => Some(*why),
            _ => None,
        }
    }

    /// Notes a key, with its sections, that nobody knows; `near` is the known name in the same section that it resembles.
    pub(super) fn add_unknown(&mut self, place: SourceSpan, key: &str, near: Option<&str>, what: String) {
        let section = key.rsplit_once('.').map(|(section, _)| section);
        let meant = near.map(|near| section.map_or_else(|| near.to_owned(), |section| format!("{section}.{near}")));
        self.0.push(Problem { place, key: key.to_owned(), what, mistake: Mistake::Unknown(meant) });
    }

    /// Notes a key that stands in another place than `meant`, with its sections.
    pub(super) fn add_misplaced(&mut self, place: SourceSpan, key: String, meant: &str, what: String) {
        self.0.push(Problem { place, key, what, mistake: Mistake::Unknown(Some(meant.to_owned())) });
    }

    /// Takes out, from the one with this number on, what is missing only because its name or its section's name is misspelt.
    pub(super) fn drop_follow_ups(&mut self, first: usize) {
        let problems = self.0.split_off(first.min(self.0.len()));
        let follows: Vec<bool> = problems.iter().map(|problem| problems.iter().any(|cause| cause.causes(problem))).collect();
        let mut left: Vec<Problem> =
            problems.into_iter().zip(follows).filter(|(_, follows)| !follows).map(|(problem, _)| problem).collect();
        // As they stand in the file; what is about all of it stays where it is, behind them.
        left.sort_by_key(|problem| problem.place.at.filter(|_| problem.place.is_in_toml()).unwrap_or((usize::MAX, 0)));
        self.0.extend(left);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(_), Some(problem)) = (self.unread(), self.0.first()) {
            return write!(f, "{problem}");
        }
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 mistake"),
            count => write!(f, "{count} mistakes"),
        }
    }
}

impl std::error::Error for Problems {}

/// A value with its position and its key.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The value, as it was read.
    pub value: T,
    /// The position of the value.
    pub place: SourceSpan,
    /// Its key, with its sections, as in `smtp.listen`.
    pub key: String,
}

impl<T> Found<T> {
    /// Reads the value further; what does not parse is noted as what was found and what is allowed.
    pub fn parse<U>(&self, problems: &mut Problems, allowed: &str, parse: impl FnOnce(&T) -> Option<U>) -> Option<U>
    where
        T: fmt::Debug,
    {
        let parsed = parse(&self.value);
        if parsed.is_none() {
            problems.add(self.place.clone(), &self.key, format!("found {:?}, expected {allowed}", self.value));
        }
        parsed
    }
}

impl Found<String> {
    /// Reads one of a few words; another one is noted with the nearest of them.
    pub fn word<U: Copy>(&self, problems: &mut Problems, words: &[(&str, U)]) -> Option<U> {
        let found = words.iter().find(|(word, _)| *word == self.value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = nearest(&self.value, &known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let known: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
            problems.add(self.place.clone(), &self.key, format!("found {:?}, expected {}{near}", self.value, known.join(" or ")));
        }
        found
    }
}

/// One TOML text, parsed as far as it goes.
pub struct Document<'t> {
    name: String,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses a text; every mistake of its syntax is noted.
    pub fn parse(name: &str, text: &'t str, problems: &mut Problems) -> Self {
        Self { name: name.to_owned(), text, root: parse(name, text, problems) }
    }

    /// The section of the top level.
    #[must_use]
    pub fn root(&self) -> Section<'_, 't> {
        let place = SourceSpan::file(&self.name);
        Section { document: self, path: String::new(), table: Some(self.root.get_ref()), place, known: Vec::new(), gone: Vec::new() }
    }

    fn place(&self, span: Range<usize>) -> SourceSpan {
        place(&self.name, self.text, span)
    }
}

/// Whether a value stands in the text, and was not put there by the parser in the place of one that it could not read.
pub(super) fn is_written(value: &Spanned<DeValue<'_>>) -> bool {
    !value.span().is_empty() || value.get_ref().is_table() || value.get_ref().is_array()
}

/// Parses a text as far as it goes; every mistake of its syntax is noted.
pub(super) fn parse<'t>(name: &str, text: &'t str, problems: &mut Problems) -> Spanned<DeTable<'t>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    syntax::explain(name, text, &errors, problems);
    root
}

pub(super) fn place(name: &str, text: &str, span: Range<usize>) -> SourceSpan {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    SourceSpan { source: name.to_owned(), at: Some((line, column)) }
}

/// One table of a document, key by key.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    path: String,
    table: Option<&'d DeTable<'t>>,
    place: SourceSpan,
    known: Vec<&'static str>,
    /// Keys of earlier versions, which no message recommends.
    gone: Vec<&'static str>,
}

impl<'d, 't> Section<'d, 't> {
    /// Where the section stands: its header, or the document where it is the top level or is not there.
    #[must_use]
    pub fn place(&self) -> SourceSpan {
        self.place.clone()
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn lookup(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value).filter(|value| is_written(value))
    }

    /// The section of a table below this one.
    fn below(&self, path: String, table: Option<&'d DeTable<'t>>, place: SourceSpan) -> Self {
        Section { document: self.document, path, table, place, known: Vec::new(), gone: Vec::new() }
    }

    /// Takes a table below this one, as a section.
    #[must_use]
    pub fn section(&mut self, key: &'static str, problems: &mut Problems) -> Self {
        let path = self.full(key);
        let Some(value) = self.lookup(key) else {
            let place = SourceSpan::file(&self.document.name);
            return self.below(path, None, place);
        };
        let (table, place) = (value.get_ref().as_table(), self.document.place(value.span()));
        if table.is_none() {
            problems.add(place.clone(), &path, format!("found {}, expected a table: [{path}]", kind(value.get_ref())));
        }
        self.below(path, table, place)
    }

    /// Takes the tables of an array of tables.
    pub fn sections(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Self> {
        let path = self.full(key);
        let Some(value) = self.lookup(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for item in value.get_ref().as_array().into_iter().flatten() {
            let place = self.document.place(item.span());
            match item.get_ref().as_table() {
                Some(table) => sections.push(self.below(path.clone(), Some(table), place)),
                None => problems.add(place, &path, format!("found {}, expected [[{path}]]", kind(item.get_ref()))),
            }
        }
        if value.get_ref().as_array().is_none() {
            problems.add(self.document.place(value.span()), &path, format!("found {}, expected [[{path}]]", kind(value.get_ref())));
        }
        sections
    }

    /// Refuses a key of an earlier version; the mistake names what to write instead.
    pub(super) fn gone(&mut self, key: &'static str, instead: &str, problems: &mut Problems) {
        self.gone.push(key);
        if let Some((_, value)) = self.table.and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key)) {
            problems.add(self.document.place(value.span()), self.full(key), instead);
        }
    }

    /// Takes a value of any type, for keys that allow several.
    pub fn any(&mut self, key: &'static str) -> Option<Found<&'d DeValue<'t>>> {
        let path = self.full(key);
        let value = self.lookup(key)?;
        Some(Found { value: value.get_ref(), place: self.document.place(value.span()), key: path })
    }

    /// A table that is the value of a key of several types.
    #[must_use]
    pub fn inline(&self, found: &Found<&'d DeValue<'t>>) -> Self {
        self.below(found.key.clone(), found.value.as_table(), found.place.clone())
    }

    /// Takes a string; another type is added to `problems`.
    pub fn string(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<String>> {
        self.take(key, "a string in quotes", problems, |value| value.as_str().map(str::to_owned))
    }

    /// Takes a string of a form that numbers are easily taken for, as `"24h"`; `meant` makes one of a number.
    pub fn string_of(
        &mut self,
        key: &'static str,
        allowed: &str,
        meant: impl Fn(i64) -> String,
        problems: &mut Problems,
    ) -> Option<Found<String>> {
        let path = self.full(key);
        let value = self.lookup(key)?;
        let (place, written) = (self.document.place(value.span()), value.get_ref());
        let Some(text) = written.as_str() else {
            let number = written.as_integer().and_then(|number| number.as_str().parse().ok());
            let hint = number.map_or_else(String::new, |number| format!("; write {:?}", meant(number)));
            problems.add(place, path, format!("found {}, expected {allowed}{hint}", kind(written)));
            return None;
        };
        Some(Found { value: text.to_owned(), place, key: path })
    }

    /// Takes `true` or `false`; another type is added to `problems`.
    pub fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<bool>> {
        self.take(key, "true or false", problems, DeValue::as_bool)
    }

    /// Takes a whole number; another type is added to `problems`.
    pub fn number(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<i64>> {
        self.take(key, "a number", problems, |value| {
            value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
        })
    }

    /// Takes a list of strings; another type is added to `problems`.
    pub fn strings(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<Vec<Found<String>>>> {
        let path = self.full(key);
        let value = self.lookup(key)?;
        let place = self.document.place(value.span());
        let Some(list) = value.get_ref().as_array() else {
            let meant = value.get_ref().as_str().map_or_else(String::new, |text| format!("; write [{text:?}]"));
            let what = format!("found {}, expected a list of strings: [\"...\", \"...\"]{meant}", kind(value.get_ref()));
            problems.add(place, &path, what);
            return None;
        };
        let mut strings = Vec::new();
        for item in list {
            let place = self.document.place(item.span());
            match item.get_ref().as_str() {
                Some(text) => strings.push(Found { value: text.to_owned(), place, key: path.clone() }),
                None => problems.add(place, &path, format!("found {}, expected a string in quotes", kind(item.get_ref()))),
            }
        }
        Some(Found { value: strings, place, key: path })
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        problems: &mut Problems,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<Found<T>> {
        let path = self.full(key);
        let value = self.lookup(key)?;
        let place = self.document.place(value.span());
        let Some(read) = read(value.get_ref()) else {
            problems.add(place, path, format!("found {}, expected {allowed}", kind(value.get_ref())));
            return None;
        };
        Some(Found { value: read, place, key: path })
    }

    /// Adds to `problems` every key that was not taken, with the nearest known spelling. The top level comes last: it knows which
    /// of them stand below a section by mistake.
    pub fn finish(self, problems: &mut Problems) {
        if self.path.is_empty() {
            for problem in problems.0.iter_mut().filter(|problem| problem.place.source == self.document.name) {
                if let (Mistake::Unknown(None), Some((section, key))) = (&problem.mistake, problem.key.rsplit_once('.'))
                    && self.known.contains(&key)
                {
                    problem.what = format!("`{key}` belongs to no section: put it above [{section}]");
                    problem.mistake = Mistake::Unknown(Some(key.to_owned()));
                }
            }
        }
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            let key = name.get_ref();
            if !self.known.iter().chain(&self.gone).any(|known| *known == key.as_ref()) {
                let near = nearest(key, &self.known);
                let spelling = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let what = format!("unknown key, expected {}{spelling}", one_of(&self.known));
                problems.add_unknown(self.document.place(name.span()), &self.full(key), near, what);
            }
        }
    }
}

/// The names of keys, for a message.
pub(super) fn one_of(known: &[&str]) -> String {
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    format!("one of {}", known.join(", "))
}

/// A value as a message shows it.
pub(super) fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Reads a size: `500`, `64KiB`, `1MiB`, `50MiB`, `1GiB`.
#[must_use]
pub fn size(text: &str) -> Option<usize> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// Reads a duration: `500ms`, `5s`, `10m`, `24h`, `7d`.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "ms" => return Some(std::time::Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(std::time::Duration::from_secs)
}
