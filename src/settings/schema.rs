//! Reading TOML so that every mistake is found at once and told with its place.
//!
//! Each key is taken on its own: a wrong one is noted and the next one is read. The environment lies over the file, by
//! the `config` crate: `FIRSTCLICK_SMTP__NEXT_HOP` is `next_hop` in `[smtp]`.

use std::{fmt, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSpan {
    /// A file, or a variable of the environment.
    pub source: String,
    /// Line and column, from 1; none for the environment.
    pub at: Option<(usize, usize)>,
}

impl SourceSpan {
    /// A whole file.
    #[must_use]
    pub fn file(source: impl Into<String>) -> Self {
        Self { source: source.into(), at: None }
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: SourceSpan,
    /// The key, with its sections.
    pub key: String,
    /// What was found and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.what)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.what)
        }
    }
}

/// All mistakes of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes a mistake.
    pub fn add(&mut self, place: SourceSpan, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { place, key: key.into(), what: what.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: SourceSpan,
    /// Its key, with its sections.
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
    layers: config::Config,
    /// The variables that lie over the file.
    variables: Vec<String>,
}

/// What lies over a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The process's variables.
    Process,
    /// Nothing.
    None,
}

impl<'t> Document<'t> {
    /// Parses a text; every mistake of its syntax is noted.
    pub fn parse(name: &str, text: &'t str, environment: Environment, problems: &mut Problems) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = place(name, text, error.span().unwrap_or(0..0));
            problems.add(place, "", error.message().lines().collect::<Vec<_>>().join("; "));
        }
        let mut builder = config::Config::builder();
        if environment == Environment::Process {
            let lists = [
                "smtp.listen",
                "smtp.listen_tls",
                "smtp.next_hop",
                "smtp.accept_from",
                "smtp.proxies",
                "identity.authserv_ids",
                "identity.dns",
                "identity.trusted_upstreams",
            ];
            let mut source =
                config::Environment::with_prefix("FIRSTCLICK").prefix_separator("_").separator("__").try_parsing(true).list_separator(",");
            for list in lists {
                source = source.with_list_parse_key(list);
            }
            builder = builder.add_source(source);
        }
        let layers = builder.build().unwrap_or_else(|error| {
            problems.add(SourceSpan::file("environment"), "", error.to_string());
            config::Config::default()
        });
        let variables = match environment {
            Environment::Process => {
                std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| name.starts_with(PREFIX)).collect()
            }
            Environment::None => Vec::new(),
        };
        Self { name: name.to_owned(), text, root, layers, variables }
    }

    /// The top level.
    #[must_use]
    pub fn root(&self) -> Section<'_, 't> {
        Section { document: self, path: String::new(), table: Some(self.root.get_ref()), known: Vec::new(), used: false }
    }

    fn place(&self, span: Range<usize>) -> SourceSpan {
        place(&self.name, self.text, span)
    }
}

fn place(name: &str, text: &str, span: Range<usize>) -> SourceSpan {
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
    known: Vec<&'static str>,
    used: bool,
}

impl<'d, 't> Section<'d, 't> {
    /// Whether the section stands in the file, or the environment names one of the keys that were asked for.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.table.is_some() || self.used
    }

    /// Where the section stands, or the document.
    #[must_use]
    pub fn place(&self) -> SourceSpan {
        SourceSpan::file(&self.document.name)
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn lookup(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Takes a table below this one.
    #[must_use]
    pub fn section(&mut self, key: &'static str, problems: &mut Problems) -> Self {
        let path = self.full(key);
        let table = self.lookup(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                problems.add(
                    self.document.place(value.span()),
                    &path,
                    format!("found {}, expected a table: [{path}]", kind(value.get_ref())),
                );
            }
            table
        });
        Section { document: self.document, path, table, known: Vec::new(), used: false }
    }

    /// Takes the tables of an array of tables.
    pub fn sections(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Self> {
        let path = self.full(key);
        let Some(value) = self.lookup(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for item in value.get_ref().as_array().into_iter().flatten() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    document: self.document,
                    path: path.clone(),
                    table: Some(table),
                    known: Vec::new(),
                    used: false,
                }),
                None => {
                    problems.add(self.document.place(item.span()), &path, format!("found {}, expected [[{path}]]", kind(item.get_ref())));
                }
            }
        }
        if value.get_ref().as_array().is_none() {
            problems.add(self.document.place(value.span()), &path, format!("found {}, expected [[{path}]]", kind(value.get_ref())));
        }
        sections
    }

    /// Takes a value as it is, for keys that allow several types.
    pub fn any(&mut self, key: &'static str) -> Option<Found<&'d DeValue<'t>>> {
        let path = self.full(key);
        let value = self.lookup(key)?;
        Some(Found { value: value.get_ref(), place: self.document.place(value.span()), key: path })
    }

    /// A table that is the value of a key of several types.
    #[must_use]
    pub fn inline(&self, found: &Found<&'d DeValue<'t>>) -> Self {
        Section { document: self.document, path: found.key.clone(), table: found.value.as_table(), known: Vec::new(), used: false }
    }

    /// Takes a string.
    pub fn string(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<String>> {
        self.take(key, "a string in quotes", problems, |value| value.as_str().map(str::to_owned))
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<bool>> {
        self.take(key, "true or false", problems, DeValue::as_bool)
    }

    /// Takes a whole number.
    pub fn number(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<i64>> {
        self.take(key, "a number", problems, |value| {
            value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
        })
    }

    /// Takes a string, or a list of them.
    pub fn one_or_more(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<Vec<Found<String>>>> {
        let alone = self
            .table
            .and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key))
            .is_some_and(|(_, value)| value.get_ref().is_str());
        let path = self.full(key);
        if !alone || self.document.layers.get::<Vec<String>>(&path).is_ok() {
            return self.strings(key, problems);
        }
        let found = self.string(key, problems)?;
        Some(Found { place: found.place.clone(), key: path, value: vec![found] })
    }

    /// Takes a list of strings.
    pub fn strings(&mut self, key: &'static str, problems: &mut Problems) -> Option<Found<Vec<Found<String>>>> {
        let path = self.full(key);
        if let Some(found) = self.environment::<Vec<String>>(key, problems) {
            self.known.push(key);
            let value = found.value.into_iter().map(|value| Found { value, place: found.place.clone(), key: path.clone() }).collect();
            return Some(Found { value, place: found.place, key: path });
        }
        let value = self.lookup(key)?;
        let place = self.document.place(value.span());
        let Some(list) = value.get_ref().as_array() else {
            problems.add(place, &path, format!("found {}, expected a list of strings: [\"...\", \"...\"]", kind(value.get_ref())));
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

    fn take<T: serde::de::DeserializeOwned>(
        &mut self,
        key: &'static str,
        allowed: &str,
        problems: &mut Problems,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<Found<T>> {
        if let Some(found) = self.environment(key, problems) {
            self.known.push(key);
            return Some(found);
        }
        let path = self.full(key);
        let value = self.lookup(key)?;
        let place = self.document.place(value.span());
        let Some(read) = read(value.get_ref()) else {
            problems.add(place, path, format!("found {}, expected {allowed}", kind(value.get_ref())));
            return None;
        };
        Some(Found { value: read, place, key: path })
    }

    /// What the environment says of a key, where it says anything.
    fn environment<T: serde::de::DeserializeOwned>(&mut self, key: &str, problems: &mut Problems) -> Option<Found<T>> {
        let path = self.full(key);
        let place = SourceSpan::file(format!("FIRSTCLICK_{}", path.to_uppercase().replace('.', "__")));
        match self.document.layers.get::<T>(&path) {
            Ok(value) => {
                self.used = true;
                Some(Found { value, place, key: path })
            }
            Err(config::ConfigError::NotFound(_)) => None,
            Err(error) => {
                problems.add(place, path, error.to_string());
                None
            }
        }
    }

    /// Notes every key that nobody asked for, with the nearest known spelling.
    pub fn finish(self, problems: &mut Problems) {
        let prefix = format!(
            "{PREFIX}{}",
            if self.path.is_empty() { String::new() } else { format!("{}__", self.path.to_uppercase().replace('.', "__")) }
        );
        for variable in &self.document.variables {
            let Some(rest) = variable.strip_prefix(&prefix) else { continue };
            let key = rest.split("__").next().unwrap_or_default().to_lowercase();
            // On the top level a variable without `__` may be somebody else's.
            let ours = rest.contains("__") || !self.path.is_empty();
            if ours && !self.known.iter().any(|known| *known == key) {
                let nearest =
                    nearest(&key, &self.known).map(|near| format!("; did you mean {prefix}{}?", near.to_uppercase())).unwrap_or_default();
                problems.add(
                    SourceSpan::file(variable),
                    self.full(&key),
                    format!("unknown key, expected {}{nearest}", unknown(&self.known)),
                );
            }
        }
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            let key = name.get_ref();
            if !self.known.iter().any(|known| *known == key.as_ref()) {
                let what = unknown(&self.known);
                let nearest = nearest(key, &self.known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                problems.add(self.document.place(name.span()), self.full(key), format!("unknown key, expected {what}{nearest}"));
            }
        }
    }
}

/// What the names of our variables start with.
const PREFIX: &str = "FIRSTCLICK_";

fn unknown(known: &[&str]) -> String {
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    format!("one of {}", known.join(", "))
}

/// The known spelling that is nearest to what was written.
#[must_use]
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(written, known), *known))
        .filter(|(near, _)| *near > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

fn kind(value: &DeValue<'_>) -> String {
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
