//! Every key of firstclick.toml: its name, type, default, meaning, and whether a change needs a restart.
//!
//! A setting is one row of `table` and the code that takes it: `Layers::take` reads by this table, names of
//! the environment and messages about unknown keys come from it, and so do `config/firstclick.toml` and `docs/reference.md`
//! (`super::reference`). A key that is not in the table, or that the table gives another type, does not compile.

mod table;

use std::time::Duration;

pub use self::table::{GONE, KEYS, SECTIONS};

/// One key of firstclick.toml.
#[derive(Debug)]
pub struct Key {
    /// The name with its sections, as in `smtp.bounds.connections`.
    pub path: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The value where it is left out.
    pub preset: Preset,
    /// What it sets, in a sentence or two.
    pub doc: &'static str,
    /// When a change takes effect.
    pub restart: Restart,
}

/// The type of a key's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string, as in `"mx.corp.example"`.
    Text,
    /// A list of strings; in the environment with commas between them.
    List,
    /// A string, or a list of them.
    TextOrList,
    /// A whole number, from and to.
    Number(i64, i64),
    /// Octets with a unit, as in `"64KiB"`; not 0.
    Size,
    /// A time with its unit, from and to, as in `"500ms"`.
    Time(Duration, Duration),
    /// A boolean, `true` or `false`.
    Flag,
    /// One of these words, as a string.
    Word(&'static [&'static str]),
    /// A file that is read; relative to the folder of firstclick.toml. It is watched for changes.
    File,
    /// A folder; relative to the folder of firstclick.toml.
    Folder,
}

/// The value of a key that is left out. Values are written as in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This default.
    Default(&'static str),
    /// None; the text is an example.
    Unset(&'static str),
    /// None, and the section is not complete without the key; the text is an example.
    Required(&'static str),
}

impl Preset {
    /// The text of the default or of the example, as in TOML.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Default(text) | Self::Unset(text) | Self::Required(text) => text,
        }
    }
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Within seconds, by a reload.
    NotNeeded,
    /// At the next start of the service.
    Needed,
}

/// One section of firstclick.toml.
#[derive(Debug)]
pub struct SectionKeys {
    /// The name, as in `smtp.bounds`; empty for the top level.
    pub path: &'static str,
    /// The purpose of the section, in a sentence or two.
    pub doc: &'static str,
    /// Whether the shipped firstclick.toml has it.
    pub shipped: Shipped,
}

/// How a section is written in the shipped firstclick.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipped {
    /// As a section that is in force.
    InForce,
    /// As a comment, behind `#`.
    Commented,
}

impl Key {
    const fn new(path: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Self {
        Self { path, kind, preset, doc, restart: Restart::NotNeeded }
    }

    /// The same key, whose change takes effect at the next start.
    const fn at_start(self) -> Self {
        Self { restart: Restart::Needed, ..self }
    }

    /// The section, empty for the top level.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The name without its section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// The variable of the environment that lies over it, as in `FIRSTCLICK_SMTP__NEXT_HOP`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.to_uppercase().replace('.', "__"))
    }
}

/// What the names of our variables start with.
pub(super) const PREFIX: &str = "FIRSTCLICK_";

impl Kind {
    /// The values that are allowed, in words, for messages and for the reference.
    #[must_use]
    pub fn expects(self) -> String {
        match self {
            Self::Text => "a string in quotes".into(),
            Self::List => "a list of strings: [\"...\", \"...\"]".into(),
            Self::TextOrList => "a string in quotes or a list of them".into(),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Size => "a size with its unit, as in \"1MiB\"".into(),
            Self::Time(least, most) => format!("a time with its unit, from {:?} to {:?}", time(least), time(most)),
            Self::Flag => "true or false".into(),
            Self::Word(words) => words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or "),
            Self::File => "the name of a file in quotes".into(),
            Self::Folder => "the name of a folder in quotes".into(),
        }
    }
}

/// A time in the largest unit that holds it whole.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        _ if seconds.is_multiple_of(86_400) && seconds > 86_400 => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) && seconds > 60 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

const fn is_same(left: &str, right: &str) -> bool {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while let (Some((one, left_rest)), Some((other, right_rest))) = (left.split_first(), right.split_first()) {
        if *one != *other {
            return false;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.is_empty() && right.is_empty()
}

/// The row of a key. It is called in constants only, so that a key that is not there ends the compilation and never a program.
#[expect(clippy::panic, reason = "in constants only")]
const fn find(path: &str) -> &'static Key {
    let mut keys = KEYS;
    while let Some((key, rest)) = keys.split_first() {
        if is_same(key.path, path) {
            return key;
        }
        keys = rest;
    }
    panic!("this key is not in the table of src/settings/keys.rs")
}

/// Handles by which the code names a key: each is made in a constant, where the table is asked for the key and its type.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident: $kinds:pat,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name(&'static Key);

        impl $name {
            /// The key with this path; where the table has none, or gives it another type, the program does not compile.
            pub(super) const fn of(path: &str) -> Self {
                let key = find(path);
                assert!(matches!(key.kind, $kinds), "the table of src/settings/keys.rs gives this key another type");
                Self(key)
            }

            /// The row of the table.
            pub(super) const fn key(self) -> &'static Key {
                self.0
            }
        }
    )*};
}

handles! {
    /// A key whose value is a string.
    Text: Kind::Text,
    /// A key whose value is one string or more.
    List: Kind::List | Kind::TextOrList,
    /// A key whose value is a whole number.
    Number: Kind::Number(..),
    /// A key whose value is a size, in octets.
    Size: Kind::Size,
    /// A key whose value is a time.
    Time: Kind::Time(..),
    /// A key whose value is `true` or `false`.
    Flag: Kind::Flag,
    /// A key whose value is one of a few words.
    Word: Kind::Word(_),
    /// A key whose value names a file that is read.
    File: Kind::File,
    /// A key whose value names a folder.
    Folder: Kind::Folder,
}

/// The keys of a section, in the order of the table.
pub fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section() == section)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_says_something() {
        let paths: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len(), "no key stands in it twice");
        let sections: Vec<&str> = SECTIONS.iter().map(|section| section.path).collect();
        let mut used: Vec<&str> = KEYS.iter().map(Key::section).collect();
        used.dedup();
        assert_eq!(used, sections, "each section stands in one piece, in the order of SECTIONS");
        for key in KEYS {
            assert!(key.doc.ends_with(['.', ']']) && key.doc.len() > 10, "{}: {:?}", key.path, key.doc);
        }
    }

    #[test]
    fn times_are_told_in_the_unit_that_people_write() {
        let told = [100_u64, 1_000, 60_000, 3_600_000, 86_400_000, 7_776_000_000].map(|time_ms| time(Duration::from_millis(time_ms)));
        assert_eq!(told, ["100ms", "1s", "60s", "1h", "24h", "90d"]);
    }
}
