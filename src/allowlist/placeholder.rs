//! The placeholders of a shape: `{token}`, `{id}`, `{word}` and the others (design section 3).

use std::fmt;

use super::{carried, unguessable};

/// A placeholder of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placeholder {
    /// 8 or more of letters, digits and `-_.~+=@$:` (in a query `/` too, not first), unguessable, no host name, no scheme.
    Token,
    /// 4 to 12 letters or digits.
    Code,
    /// Up to 39 digits, or a UUID.
    Id,
    /// At most 64 letters, digits, `-_`.
    Word,
    /// At most 200 of letters, digits, space and `-_.,:;+=*~@`, no address.
    Text,
    /// The address of the mail's reader.
    Email,
    /// One of the entry's tenants.
    Tenant,
    /// An address, or a reference on the same host, that itself fits the entry.
    Url,
}

/// The part of a link in which a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The name of the host.
    Host,
    /// A segment of the path, or of a fragment's path.
    Segment,
    /// A value in the query, or in a fragment's query.
    Value,
}

/// Characters of the longest `{word}`.
const WORD: usize = 64;
/// Characters of the longest `{text}`.
const TEXT: usize = 200;
/// Digits of the longest `{id}`: 128 bits have 39.
const ID: usize = 39;

impl Placeholder {
    /// Every placeholder, each once.
    pub const ALL: [Self; 8] = [Self::Token, Self::Code, Self::Id, Self::Word, Self::Text, Self::Email, Self::Tenant, Self::Url];

    /// The name between the braces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Code => "code",
            Self::Id => "id",
            Self::Word => "word",
            Self::Text => "text",
            Self::Email => "email",
            Self::Tenant => "tenant",
            Self::Url => "url",
        }
    }

    /// What it stands for, for people.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Token => "a token: 8 or more characters that nobody guesses",
            Self::Code => "a code: 4 to 12 letters or digits",
            Self::Id => "an id: digits, or a UUID",
            Self::Word => "a word: at most 64 letters, digits, - and _",
            Self::Text => "a text without an address, of at most 200 characters",
            Self::Email => "the reader's address",
            Self::Tenant => "one of the entry's tenants",
            Self::Url => "an address that itself fits the entry",
        }
    }

    /// Whether what it stands for is what makes a link a one-time link.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Token | Self::Code)
    }

    /// Whether a character may stand in what it stands for: what the search for its end goes by.
    pub(super) fn takes(self, letter: char, part: Part) -> bool {
        match self {
            Self::Token => letter.is_ascii_alphanumeric() || "-_.~+=@$:".contains(letter) || (letter == '/' && part == Part::Value),
            Self::Code => letter.is_ascii_alphanumeric(),
            Self::Id => letter.is_ascii_hexdigit() || letter == '-',
            Self::Word => letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'),
            Self::Text => letter.is_alphanumeric() || letter == ' ' || "-_.,:;+=*~@".contains(letter),
            Self::Email | Self::Tenant | Self::Url => true,
        }
    }

    /// Whether a text is what the placeholder stands for; `{email}`, `{tenant}` and `{url}` depend on the entry and on the
    /// reader and are judged where these are known. One pass over the text.
    pub(super) fn fits(self, text: &str, part: Part) -> bool {
        text.chars().all(|letter| self.takes(letter, part))
            && match self {
                Self::Token => {
                    !text.starts_with('/')
                        && unguessable::is_unguessable(text)
                        && !carried::names_scheme(text)
                        && !carried::names_host(text)
                }
                Self::Code => (4..=12).contains(&text.len()),
                Self::Id => is_id(text),
                Self::Word => text.len() <= WORD,
                Self::Text => text.chars().count() <= TEXT && !carried::names_scheme(text) && !carried::names_host(text),
                Self::Email | Self::Tenant | Self::Url => false,
            }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

/// Digits, or a UUID as RFC 9562 section 4 writes it.
fn is_id(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return (1..=ID).contains(&text.len());
    }
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_design() {
        use Placeholder::{Code, Id, Text, Token, Word};
        let long = |letter: &str, count| letter.repeat(count);
        for (placeholder, part, text, fits) in [
            (Token, Part::Segment, "x7Kq2mZt9LbVw4Rn".to_owned(), true),
            (Token, Part::Segment, "x7Kq2mZt/9LbVw4Rn".into(), false),
            (Token, Part::Value, "x7Kq2mZt/9LbVw4Rn".into(), true),
            (Token, Part::Value, "/x7Kq2mZt9LbVw4Rn".into(), false),
            (Token, Part::Value, "x7Kq2mZt9LbVw4Rn==".into(), true),
            (Token, Part::Value, "x7Kq2mZt9LbVw4Rn@attack.com".into(), false),
            (Token, Part::Value, "x7kq2mzt9lbvw4rn.attack.com".into(), false),
            (Token, Part::Value, "attack.com:x7Kq2mZt9LbVw4Rn".into(), false),
            (Token, Part::Value, "attack.com/x7Kq2mZt9LbVw4Rn".into(), false),
            (Token, Part::Value, "https:x7Kq2mZt9LbVw4Rn".into(), false),
            (Token, Part::Value, "javascript:x7Kq2mZt9LbVw4Rn".into(), false),
            (Token, Part::Value, "x7Kq2mZt 9LbVw4Rn".into(), false),
            (Token, Part::Value, "x7Kq2mZté9LbVw4Rn".into(), false),
            (Code, Part::Segment, "4839".into(), true),
            (Code, Part::Segment, "K7Q2MZT9LBVW".into(), true),
            (Code, Part::Segment, "483".into(), false),
            (Code, Part::Segment, "K7Q2MZT9LBVW4".into(), false),
            (Code, Part::Segment, "48-39".into(), false),
            (Id, Part::Segment, "0".into(), true),
            (Id, Part::Segment, "f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0".into(), true),
            (Id, Part::Segment, "f30b33b6ef3c-4ce9-a1a4-3afe444db4a00".into(), false),
            (Id, Part::Segment, "abc".into(), false),
            (Id, Part::Segment, String::new(), false),
            (Id, Part::Segment, long("1", 40), false),
            (Word, Part::Segment, "en_US-2".into(), true),
            (Word, Part::Segment, long("a", 64), true),
            (Word, Part::Segment, long("a", 65), false),
            (Word, Part::Segment, "a.b".into(), false),
            (Text, Part::Value, "Müller & Söhne".into(), false),
            (Text, Part::Value, "Müller Söhne, Inc.".into(), true),
            (Text, Part::Value, long("ü", 200), true),
            (Text, Part::Value, long("ü", 201), false),
            (Text, Part::Value, "see attack.com now".into(), false),
            (Text, Part::Value, "see ATTACK。com".into(), false),
            (Text, Part::Value, "ａｔｔａｃｋ.com".into(), false),
            (Text, Part::Value, "203.0.113.7".into(), false),
            (Text, Part::Value, "bob@attack.com".into(), false),
            (Text, Part::Value, "https:attack".into(), false),
        ] {
            assert_eq!(placeholder.fits(&text, part), fits, "{placeholder} {part:?} {text:?}");
        }
    }
}
