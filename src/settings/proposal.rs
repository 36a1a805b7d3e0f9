//! What to write in the place of something else: a value that the key's reader takes, or no line at all.

use std::fmt;

use toml::de::DeTable;

use super::{
    hint,
    keys::{self, KEYS, Key, Kind},
    layers, schema,
};
use crate::recognition::Kind as MailKind;

/// What to write for a key in the place of something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proposal {
    /// This value, as TOML has it. The key's reader takes it.
    Value(String),
    /// Nothing: the line says what holds without it.
    NoLine,
    /// Nobody can tell.
    Nothing,
}

impl fmt::Display for Proposal {
    /// As the end of a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "; write {value}"),
            Self::NoLine => f.write_str("; to have none, take the line out"),
            Self::Nothing => Ok(()),
        }
    }
}

/// What a text that is written for a key without its quotes, its brackets, or its unit was probably meant as.
pub(super) fn propose(key: &'static Key, text: &str) -> Proposal {
    let text = text.trim();
    let bare = text.trim_matches(['"', '\'']);
    let in_quotes = |meant: Option<String>| meant.and_then(|meant| hint::quoted(&meant));
    let meant = match key.kind {
        Kind::Flag => hint::flag(bare).map(str::to_owned),
        Kind::Word(words) => {
            let known = words.iter().find(|word| word.eq_ignore_ascii_case(bare)).copied();
            known.or_else(|| schema::nearest(bare, words)).and_then(hint::quoted)
        }
        _ if matches!(key.preset, keys::Preset::Unset(_)) && hint::says_none(bare) => return Proposal::NoLine,
        Kind::Number(..) => hint::literal(bare).filter(|meant| !meant.starts_with('"')),
        Kind::Size => in_quotes(hint::size(bare).or_else(|| bare.parse().ok().map(hint::octets)).or_else(|| Some(bare.to_owned()))),
        Kind::Time(least, most) => in_quotes(hint::for_time_within(bare, usual_unit(key), (least, most)).or_else(|| Some(bare.to_owned()))),
        Kind::List => hint::list(text),
        Kind::TextOrList if text.starts_with('[') => hint::list(text),
        Kind::Text | Kind::TextOrList | Kind::File | Kind::Folder => hint::quoted(bare).filter(|_| !bare.starts_with(['[', '{'])),
    };
    meant.filter(|meant| layers::reads(key, meant)).map_or(Proposal::Nothing, Proposal::Value)
}

/// What a text that the key's reader does not take was meant as; itself it was not.
pub(super) fn again(key: &'static Key, text: &str) -> Proposal {
    let bare = text.trim();
    let meant = match key.kind {
        _ if matches!(key.preset, keys::Preset::Unset(_)) && hint::says_none(bare) => return Proposal::NoLine,
        Kind::Size => hint::size(bare).filter(|meant| schema::size(meant).is_some_and(|size| size > 0)),
        Kind::Time(least, most) => hint::for_time_within(bare, usual_unit(key), (least, most)),
        _ => None,
    };
    meant.map_or(Proposal::Nothing, |meant| Proposal::Value(format!("{meant:?}")))
}

/// The unit that the default or the example of a time has.
fn usual_unit(key: &'static Key) -> &'static str {
    key.preset.text().trim_matches('"').trim_start_matches(|letter: char| letter.is_ascii_digit())
}

/// What a text that is written for a key of this name was probably meant as; the name has its sections.
pub(super) fn by_name(full: &str, text: &str) -> Proposal {
    if let Some(key) = KEYS.iter().find(|key| key.path == full) {
        return propose(key, text);
    }
    let meant = match full {
        "expires" => return expiry(text),
        "from" | "other_links" | "signed_by" | "envelope" | "tenant" | "recipients" => hint::list(text),
        _ if full.strip_prefix("links.").is_some_and(|code| MailKind::ALL.iter().any(|kind| kind.code() == code)) => hint::list(text),
        "several_readers" | "lists" | "attachments" | "accept_draft" => hint::flag(text).map(str::to_owned),
        "max_age" => hint::for_time(text, "h")
            .or_else(|| Some(text.to_owned()))
            .filter(|time| schema::duration(time).is_some())
            .and_then(|time| hint::quoted(&time)),
        "limit" => hint::limit(text).and_then(|limit| hint::quoted(&limit)),
        "sender" | "product" | "host" | "owner" | "reason" | "name" | "reader" => hint::quoted(text),
        _ => hint::literal(text),
    };
    meant.map_or(Proposal::Nothing, Proposal::Value)
}

/// Whether a text is a value as it stands, which the key of this name takes where it is one of firstclick.toml.
pub(super) fn is_value(full: &str, text: &str) -> bool {
    match KEYS.iter().find(|key| key.path == full) {
        Some(key) => layers::reads(key, text),
        None => DeTable::parse(&format!("key = {text}")).is_ok(),
    }
}

/// What a key of this name takes, for a message; none where the name is none of firstclick.toml.
pub(super) fn expected(full: &str) -> Option<String> {
    KEYS.iter().find(|key| key.path == full).map(|key| key.kind.expects())
}

/// The end of an entry.
pub(super) fn expiry(text: &str) -> Proposal {
    let bare = text.trim().trim_matches(['"', '\'']);
    match hint::date(bare) {
        Some(date) => Proposal::Value(date),
        None if hint::says_none(bare) => Proposal::NoLine,
        None => Proposal::Nothing,
    }
}
