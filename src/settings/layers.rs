//! firstclick.toml with the environment over it, read key by key by the table (`keys`).
//!
//! `FIRSTCLICK_SMTP__NEXT_HOP` is `next_hop` in `[smtp]`; names and types come from the table, the layering from the `config` crate.
//! Each key is taken on its own: a wrong one is noted and the next one is read. Files that a key names are noted before they are
//! read (`files`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Advice, Severity,
    files::Files,
    keys::{self, GONE, KEYS, Key, Kind, PREFIX, Restart, SECTIONS},
    proposal::{self, Proposal},
    schema::{self, Found, Problems, SourceSpan, kind, nearest, one_of},
};

/// Variables that lie over a file: names and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// The variables of the process.
    pub(super) fn process() -> Self {
        let text = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(text.filter(|(name, _)| name.starts_with(PREFIX)).collect())
    }

    /// The names of the variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// One variable with this name and value, for tests.
    #[cfg(test)]
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }
}

/// One value, as the table's kinds have it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    List(Vec<Found<String>>),
    Number(i64),
    Flag(bool),
    Size(usize),
    Time(Duration),
    Word(&'static str),
    /// A file or a folder, relative ones beside firstclick.toml.
    Path(PathBuf),
}

impl Value {
    /// The same text for the same meaning: `"1MiB"` and `"1024KiB"` are one value.
    fn plain(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::List(list) => format!("{:?}", list.iter().map(|item| &item.value).collect::<Vec<_>>()),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Size(octets) => octets.to_string(),
            Self::Time(time) => format!("{time:?}"),
            Self::Word(word) => format!("{word:?}"),
            Self::Path(path) => path.display().to_string(),
        }
    }
}

/// A key of the table, and what reading it gives.
pub(super) trait Handle {
    type Value;
    fn row(self) -> &'static Key;
    fn value(value: Value) -> Option<Self::Value>;
}

macro_rules! values {
    ($($handle:ident: $value:ty = $variant:ident($name:ident) => $made:expr,)*) => {$(
        impl Handle for keys::$handle {
            type Value = $value;

            fn row(self) -> &'static Key {
                self.key()
            }

            fn value(value: Value) -> Option<$value> {
                match value {
                    Value::$variant($name) => $made,
                    _ => None,
                }
            }
        }
    )*};
}

values! {
    Text: String = Text(text) => Some(text),
    List: Vec<Found<String>> = List(list) => Some(list),
    Number: usize = Number(number) => usize::try_from(number).ok(),
    Flag: bool = Flag(flag) => Some(flag),
    Size: usize = Size(octets) => Some(octets),
    Time: Duration = Time(time) => Some(time),
    Word: &'static str = Word(word) => Some(word),
    File: PathBuf = Path(path) => Some(path),
    Folder: PathBuf = Path(path) => Some(path),
}

impl Found<&'static str> {
    /// The value that a word of the table stands for.
    pub(super) fn means<U: Copy>(&self, problems: &mut Problems, words: &[(&str, U)]) -> Option<U> {
        let meaning = words.iter().find(|(word, _)| *word == self.value).map(|(_, meaning)| *meaning);
        if meaning.is_none() {
            problems.add(self.place.clone(), &self.key, format!("{:?} is not in this version yet", self.value));
        }
        meaning
    }
}

/// What was written for each key, for comparing two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenKeys(BTreeMap<&'static str, String>);

impl WrittenKeys {
    /// The value in force for a key: what was written, or its default.
    fn of(&self, key: &'static Key) -> Option<String> {
        self.0.get(key.path).cloned().or_else(|| default_of(key))
    }

    /// What a key of a file or a folder comes to: what was written, or its default.
    pub(super) fn path(&self, key: &'static Key) -> Option<PathBuf> {
        self.of(key).map(PathBuf::from)
    }

    /// The keys that were written, with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The file or folder that was written for a key.
    pub(super) fn written_path(&self, key: &str) -> Option<PathBuf> {
        self.0.get(key).map(PathBuf::from)
    }

    /// The keys of the table that need a restart and have another value there.
    pub fn needing_restart<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = &'static Key> + 'a {
        KEYS.iter().filter(|key| key.restart == Restart::Needed && !self.says_the_same(key, there))
    }

    /// Whether a key of a section was written, or of a section below it.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.0.keys().any(|path| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Whether both have the same value for a key; a default that is written out is the same as one that is left out.
    #[must_use]
    pub fn says_the_same(&self, key: &'static Key, there: &Self) -> bool {
        self.of(key) == there.of(key)
    }
}

fn default_of(key: &'static Key) -> Option<String> {
    let keys::Preset::Default(text) = key.preset else { return None };
    Some(read_alone(key, text)?.plain())
}

/// The value of a key that is this text of TOML; none where it has a mistake.
fn read_alone(key: &'static Key, text: &str) -> Option<Value> {
    let text = format!("key = {text}");
    let table = DeTable::parse(&text).ok()?;
    let (_, value) = table.get_ref().iter().next()?;
    let mut problems = Problems::default();
    let found = from_toml(key, value, &mut |_| SourceSpan::file(""), &mut problems)?;
    let refined = refine(key, found, Path::new(""), &mut problems)?;
    problems.0.is_empty().then_some(refined.value)
}

/// A configuration file with the environment over it.
pub(super) struct Layers<'t> {
    name: String,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    environment: Environment,
    variables: config::Config,
    /// The folder that relative names are beside.
    beside: PathBuf,
    written: WrittenKeys,
    /// The keys that were asked for.
    read: BTreeSet<&'static str>,
    /// The files that were named.
    pub(super) files: Files,
}

impl<'t> Layers<'t> {
    /// Parses a text; every mistake of its syntax is noted.
    pub(super) fn parse(path: &Path, text: &'t str, environment: Environment, problems: &mut Problems) -> Self {
        let name = path.display().to_string();
        let root = schema::parse(&name, text, problems);
        let variables: HashMap<String, String> = environment.0.iter().cloned().collect();
        let source = config::Environment::with_prefix("FIRSTCLICK").prefix_separator("_").separator("__").source(Some(variables));
        let overlay = config::Config::builder().add_source(source).build().unwrap_or_else(|error| {
            problems.add(SourceSpan::file("environment"), "", error.to_string());
            config::Config::default()
        });
        let beside = path.parent().unwrap_or(Path::new("")).to_owned();
        let (written, read, files) = (WrittenKeys::default(), BTreeSet::new(), Files::default());
        Self { name, text, root, environment, variables: overlay, beside, written, read, files }
    }

    /// Takes a key: its value from the environment, else from the file. Mistakes are added to `problems`.
    pub(super) fn take<H: Handle>(&mut self, handle: H, problems: &mut Problems) -> Option<Found<H::Value>> {
        let key = handle.row();
        self.read.insert(key.path);
        let found = if let Ok(text) = self.variables.get::<String>(key.path) {
            from_variable(key, &text, problems)
        } else {
            from_toml(key, self.value(key.path)?, &mut |span| self.span(span), problems)
        };
        let Found { value, place, key: path } = refine(key, found?, &self.beside, problems)?;
        self.written.0.insert(key.path, value.plain());
        if let (Kind::File, Value::Path(file)) = (key.kind, &value) {
            self.files.note(file);
        }
        Some(Found { value: H::value(value)?, place, key: path })
    }

    /// The file that was written for a key; none where it was not taken yet.
    pub(super) fn path_of(&self, key: &str) -> Option<PathBuf> {
        self.written.written_path(key)
    }

    /// Whether a section stands in the file, or the environment names one of its keys.
    pub(super) fn has(&self, section: &str) -> bool {
        self.table(section).is_some() || keys::of_section(section).any(|key| self.variables.get::<String>(key.path).is_ok())
    }

    /// Where a section stands; the file, where the environment alone has it.
    pub(super) fn place(&self, section: &str) -> SourceSpan {
        self.value(section).map_or_else(|| SourceSpan::file(&self.name), |value| self.span(value.span()))
    }

    fn span(&self, span: Range<usize>) -> SourceSpan {
        schema::place(&self.name, self.text, span)
    }

    fn value(&self, path: &str) -> Option<&Spanned<DeValue<'t>>> {
        let (above, name) = path.rsplit_once('.').map_or(("", path), |(above, name)| (above, name));
        let found = self.table(above)?.iter().find(|(known, _)| known.get_ref() == name);
        found.map(|(_, value)| value).filter(|value| schema::is_written(value))
    }

    fn table(&self, section: &str) -> Option<&DeTable<'t>> {
        if section.is_empty() { Some(self.root.get_ref()) } else { self.value(section)?.get_ref().as_table() }
    }

    /// Warns of keys that set nothing any more.
    pub(super) fn gone(&self, advice: &mut Vec<Advice>) {
        for (path, why) in GONE {
            let variable = self.environment.0.iter().map(|(name, _)| name).find(|name| key_of(name).is_some_and(|key| key == *path));
            let place = self.value(path).map(|value| self.span(value.span())).or_else(|| variable.map(SourceSpan::file));
            advice.extend(place.map(|place| Advice::new(Severity::Warning, place, *path, *why)));
        }
    }

    /// Notes every key that the table does not have, with the nearest known spelling; what was written comes back.
    pub(super) fn finish(self, problems: &mut Problems) -> (WrittenKeys, Files) {
        for (variable, _) in &self.environment.0 {
            check_variable(variable, problems);
        }
        self.check_table("", self.root.get_ref(), problems);
        debug_assert!(KEYS.iter().all(|key| self.read.contains(key.path)), "a key of the table is never asked for");
        (self.written, self.files)
    }

    fn check_table(&self, section: &str, table: &DeTable<'t>, problems: &mut Problems) {
        for (name, value) in table {
            let key = name.get_ref();
            let full = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
            if is_known(&full) {
                continue;
            }
            if is_section(&full) {
                if let Some(table) = value.get_ref().as_table() {
                    self.check_table(&full, table, problems);
                } else {
                    let double = value.get_ref().as_array().map_or("", |_| ", in single brackets");
                    let what = format!("found {}, expected a table: [{full}]{double}", kind(value.get_ref()));
                    problems.add(self.span(value.span()), &full, what);
                }
                continue;
            }
            let known = names(section);
            let near = nearest(key, &known);
            let place = self.span(name.span());
            // A name that stands once in the table is misplaced, and no misspelling of another.
            let elsewhere: Vec<&Key> = KEYS.iter().filter(|known| known.name() == key.as_ref()).collect();
            match (if value.get_ref().is_table() { &[] } else { elsewhere.as_slice() }, near) {
                ([one], _) if one.section().is_empty() => {
                    let what = format!("`{key}` belongs to no section: put it above the first one");
                    problems.add_misplaced(place, full, one.path, what);
                }
                ([one], _) => {
                    problems.add_misplaced(place, full, one.path, format!("`{key}` belongs to [{}]: put it there", one.section()));
                }
                (_, Some(near)) => {
                    let what = format!("unknown key, expected {}; did you mean `{near}`?", one_of(&known));
                    problems.add_unknown(place, &full, Some(near), what);
                }
                (_, None) => problems.add_unknown(place, &full, None, format!("unknown key, expected {}", one_of(&known))),
            }
        }
    }
}

/// Adds to `problems` a variable that has our prefix and names no key.
fn check_variable(variable: &str, problems: &mut Problems) {
    let Some(path) = key_of(variable) else { return };
    // On the top level a variable without `__` may be somebody else's.
    if !path.contains('.') || is_known(&path) {
        return;
    }
    // The first part that is not known says what is wrong.
    let (mut above, mut name) = ("", path.as_str());
    for (at, _) in path.match_indices('.') {
        let (section, rest) = (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default());
        if !is_section(section) {
            name = section.rsplit('.').next().unwrap_or_default();
            break;
        }
        (above, name) = (section, rest);
    }
    let known = names(above);
    let full = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    let near = nearest(name, &known);
    let spelling = near.map(|near| {
        let near = if above.is_empty() { near.to_owned() } else { format!("{above}.{near}") };
        format!("; did you mean {PREFIX}{}?", near.to_uppercase().replace('.', "__"))
    });
    let what = format!("unknown key, expected {}{}", one_of(&known), spelling.unwrap_or_default());
    problems.add_unknown(SourceSpan::file(variable), &full, near, what);
}

/// The key that a variable with our prefix stands for.
fn key_of(variable: &str) -> Option<String> {
    Some(variable.strip_prefix(PREFIX)?.to_lowercase().replace("__", "."))
}

/// Whether a key stands in the table, or did in an earlier version.
fn is_known(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path) || GONE.iter().any(|(gone, _)| *gone == path)
}

fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|section| section.path == path)
}

/// The keys and the sections that may stand in a section.
fn names(section: &str) -> Vec<&'static str> {
    let keys = keys::of_section(section).map(Key::name);
    let below = SECTIONS.iter().map(|below| below.path).filter(|below| !below.is_empty());
    let below = below.filter_map(|below| {
        let (above, name) = below.rsplit_once('.').unwrap_or(("", below));
        (above == section).then_some(name)
    });
    keys.chain(below).collect()
}

/// A value of the environment: texts as they are, lists with commas.
fn from_variable(key: &'static Key, text: &str, problems: &mut Problems) -> Option<Found<Value>> {
    let place = SourceSpan::file(key.variable());
    if let Some(plain) = as_in_toml(key, text) {
        let how = if text.trim().starts_with('[') { "commas between the values, no brackets and no quotes" } else { "no quotes" };
        problems.add(place, key.path, format!("found {text}; a variable has {how}: write {}={plain}", key.variable()));
        return None;
    }
    let value = match key.kind {
        Kind::List | Kind::TextOrList => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let found = |item: &str| Found { value: item.to_owned(), place: place.clone(), key: key.path.to_owned() };
            Some(Value::List(items.map(found).collect()))
        }
        Kind::Number(..) => text.trim().parse().ok().map(Value::Number),
        Kind::Flag => text.trim().to_ascii_lowercase().parse().ok().map(Value::Flag),
        _ => Some(Value::Text(text.to_owned())),
    };
    if value.is_none() {
        problems.add(place.clone(), key.path, format!("found {text:?}, expected {}", key.kind.expects()));
    }
    Some(Found { value: value?, place, key: key.path.to_owned() })
}

/// What a variable was meant to hold that is written as in the file, with brackets or in quotes.
fn as_in_toml(key: &'static Key, text: &str) -> Option<String> {
    let text = text.trim();
    let is_list = matches!(key.kind, Kind::List | Kind::TextOrList) && text.starts_with('[') && text.ends_with(']');
    let is_quoted = text.len() > 1 && ['"', '\''].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote));
    // `[::1]:25` ends otherwise, and `[::1]` alone is an address in brackets.
    let is_address = text.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok();
    (is_list && !is_address || is_quoted)
        .then(|| text.trim_matches(['[', ']']).split(',').map(|item| item.trim().trim_matches(['"', '\''])).collect::<Vec<_>>().join(","))
}

/// A value of the file, in the type that its kind is written in.
fn from_toml(
    key: &'static Key,
    written: &Spanned<DeValue<'_>>,
    place: &mut dyn FnMut(Range<usize>) -> SourceSpan,
    problems: &mut Problems,
) -> Option<Found<Value>> {
    let (at, value) = (place(written.span()), written.get_ref());
    let text = |text: &str| Value::Text(text.to_owned());
    let read = match key.kind {
        Kind::List | Kind::TextOrList => match (value.as_array(), value.as_str()) {
            (Some(list), _) => {
                let mut strings = Vec::new();
                for item in list {
                    let at = place(item.span());
                    match item.get_ref().as_str() {
                        Some(text) => strings.push(Found { value: text.to_owned(), place: at, key: key.path.to_owned() }),
                        None => problems.add(at, key.path, format!("found {}, expected a string in quotes", kind(item.get_ref()))),
                    }
                }
                Some(Value::List(strings))
            }
            (None, Some(alone)) if key.kind == Kind::TextOrList => {
                Some(Value::List(vec![Found { value: alone.to_owned(), place: at.clone(), key: key.path.to_owned() }]))
            }
            _ => None,
        },
        Kind::Number(..) => {
            value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()).map(Value::Number)
        }
        Kind::Flag => value.as_bool().map(Value::Flag),
        Kind::Text | Kind::Size | Kind::Time(..) | Kind::Word(_) | Kind::File | Kind::Folder => value.as_str().map(text),
    };
    let Some(value) = read else {
        problems.add(at, key.path, format!("found {}, expected {}{}", kind(value), key.kind.expects(), meant(key, value)));
        return None;
    };
    Some(Found { value, place: at, key: key.path.to_owned() })
}

/// What a value of another type was probably meant as, for a message.
fn meant(key: &'static Key, value: &DeValue<'_>) -> String {
    let number = value.as_integer().map(toml::de::DeInteger::as_str);
    let Some(text) = number.or_else(|| value.as_str()) else { return String::new() };
    match (key.kind, proposal::propose(key, text)) {
        (Kind::Flag | Kind::Number(..), Proposal::Value(meant)) => format!("; write {meant} without quotes"),
        (_, proposal) => proposal.to_string(),
    }
}

/// Whether a key's reader takes this text of TOML.
pub(super) fn reads(key: &'static Key, text: &str) -> bool {
    read_alone(key, text).is_some()
}

/// The value that a text stands for, within the bounds of the table.
fn refine(key: &'static Key, found: Found<Value>, beside: &Path, problems: &mut Problems) -> Option<Found<Value>> {
    let Found { value, place, key: path } = found;
    let refined = match (key.kind, &value) {
        (Kind::Number(least, most), Value::Number(number)) => (least..=most).contains(number).then_some(Value::Number(*number)),
        (Kind::Size, Value::Text(text)) => schema::size(text).filter(|size| *size > 0).map(Value::Size),
        (Kind::Time(least, most), Value::Text(text)) => {
            schema::duration(text).filter(|time| (least..=most).contains(time)).map(Value::Time)
        }
        (Kind::Word(words), Value::Text(text)) => words.iter().find(|word| *word == text).map(|word| Value::Word(word)),
        (Kind::File | Kind::Folder, Value::Text(text)) => Some(Value::Path(beside.join(text))),
        _ => Some(value.clone()),
    };
    if refined.is_none() {
        let near = match (key.kind, &value) {
            (Kind::Word(words), Value::Text(text)) => nearest(text, words).map(|near| format!("; did you mean {near:?}?")),
            (Kind::Time(..) | Kind::Size, Value::Text(text)) => Some(proposal::again(key, text).to_string()),
            _ => None,
        };
        let what = format!("found {}, expected {}{}", value.plain(), key.kind.expects(), near.unwrap_or_default());
        problems.add(place.clone(), &path, what);
    }
    Some(Found { value: refined?, place, key: path })
}
