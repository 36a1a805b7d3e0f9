//! The languages that a recipe is written in, and how a value is written into each.
//!
//! How a value is quoted follows from the place where it goes, and never from who writes a template: a template says *that* a value
//! stands somewhere, as `{{header}}`, and the whole literal with its quotes comes from here. What a language cannot quote is refused.

use crate::printable::printable;

/// The language of a block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Windows `PowerShell`, as Exchange Online is told by.
    PowerShell,
    /// UCL, rspamd's configuration.
    Ucl,
    /// A configuration file of `SpamAssassin`.
    SpamAssassin,
    /// A message filter of Cisco's `AsyncOS`.
    Cisco,
    /// KQL, the language of hunting queries.
    Kql,
    /// A POSIX shell.
    Shell,
    /// Plain lines, one value a line, as a list of a web page takes them.
    Lines,
    /// TOML, our own configuration.
    Toml,
}

impl Language {
    /// The words for them in a template.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("powershell", Self::PowerShell),
        ("ucl", Self::Ucl),
        ("spamassassin", Self::SpamAssassin),
        ("cisco", Self::Cisco),
        ("kql", Self::Kql),
        ("shell", Self::Shell),
        ("lines", Self::Lines),
        ("toml", Self::Toml),
    ];

    /// The word for it, as in `powershell`.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::WORDS.iter().find(|(_, language)| *language == self).map_or("", |(word, _)| word)
    }

    const fn quotes(self) -> &'static [char] {
        match self {
            Self::PowerShell | Self::Shell | Self::Toml => &['\'', '"'],
            Self::Ucl | Self::Cisco | Self::Kql => &['"'],
            Self::SpamAssassin | Self::Lines => &[],
        }
    }

    const fn comment(self) -> Option<&'static str> {
        match self {
            Self::PowerShell | Self::Ucl | Self::SpamAssassin | Self::Shell | Self::Toml => Some("#"),
            Self::Kql => Some("//"),
            Self::Cisco | Self::Lines => None,
        }
    }
}

/// What stands around a place in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between words: a whole literal goes here.
    Word,
    /// Within `/.../` of `SpamAssassin`: an alternative of a regular expression.
    Pattern,
    /// Within quotes or a comment of the template's own: nothing may go here.
    Closed,
}

/// The place behind this code of a template, values in it left out.
#[must_use]
pub fn place_after(language: Language, code: &str) -> Place {
    let (mut open, mut letters) = (None, code.char_indices());
    while let Some((at, letter)) = letters.next() {
        match open {
            Some('\n') if letter == '\n' => open = None,
            Some('/') if letter == '\\' => drop(letters.next()),
            Some(quote) if letter == quote => open = None,
            None if language.quotes().contains(&letter) => open = Some(letter),
            None if language.comment().is_some_and(|mark| code.get(at..).is_some_and(|rest| rest.starts_with(mark))) => open = Some('\n'),
            None if language == Language::SpamAssassin && letter == '/' && code.get(..at).is_some_and(|before| before.ends_with("=~ ")) => {
                open = Some('/');
            }
            Some(_) | None => {}
        }
    }
    match open {
        None => Place::Word,
        Some('/') => Place::Pattern,
        Some(_) => Place::Closed,
    }
}

/// Why a value cannot be written somewhere, as the end of a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The language has no way to write this text, which is not repeated: it may be a token.
    #[error("what it is cannot be written into {0} so that it means itself")]
    Text(&'static str),
    /// The place takes one value, and there are several.
    #[error("there are {0} addresses, and {1} takes one: run `firstclick setup` with one `--hop` for each, and make one of each")]
    Several(usize, &'static str),
}

/// Values as code at a place of this language.
///
/// # Errors
/// [`Unwritable`]: where the language has no way to write one of them, nothing is written.
pub fn written(language: Language, place: Place, values: &[String], is_list: bool) -> Result<String, Unwritable> {
    let refused = Unwritable::Text(language.code());
    if place == Place::Closed || values.iter().any(|value| value.is_empty() || printable(value) != *value) {
        return Err(refused);
    }
    let each = |write: fn(Language, &str) -> Option<String>| -> Result<Vec<String>, Unwritable> {
        values.iter().map(|value| write(language, value).ok_or_else(|| refused.clone())).collect()
    };
    if place == Place::Pattern {
        return Ok(each(|_, value| escaped(value))?.join("|"));
    }
    let literals = each(literal)?;
    Ok(match language {
        Language::Ucl | Language::Toml if is_list => format!("[{}]", literals.join(", ")),
        Language::PowerShell | Language::Kql | Language::Ucl | Language::Toml => literals.join(", "),
        Language::SpamAssassin | Language::Shell => literals.join(" "),
        Language::Lines => literals.join("\n"),
        Language::Cisco if literals.len() > 1 => return Err(Unwritable::Several(literals.len(), "a message filter")),
        Language::Cisco => literals.concat(),
    })
}

/// A text as one literal. It holds no control character.
fn literal(language: Language, text: &str) -> Option<String> {
    match language {
        // PowerShell ends a quoted string at typographic quotes, too; each of them, doubled, stands for itself.
        Language::PowerShell => {
            let is_quote = |letter| matches!(letter, '\'' | '\u{2018}'..='\u{201b}');
            let doubled = text.chars().flat_map(|letter| std::iter::repeat_n(letter, if is_quote(letter) { 2 } else { 1 }));
            Some(format!("'{}'", doubled.collect::<String>()))
        }
        // A `$` with a name behind it is a variable.
        Language::Ucl if text.trim_end_matches('$').contains('$') || text.ends_with("$$") => None,
        Language::Ucl | Language::Kql | Language::Toml => Some(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
        Language::Shell => Some(format!("'{}'", text.replace('\'', "'\\''"))),
        Language::SpamAssassin => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)).then(|| text.to_owned()),
        Language::Cisco => {
            let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte));
            is_plain.then(|| format!("\"{text}\""))
        }
        Language::Lines => (text.trim() == text).then(|| text.to_owned()),
    }
}

/// A text as a regular expression that matches it and nothing else, in every dialect that knows `\xHH`; no letter of it ends a
/// pattern, a string or a line.
#[must_use]
pub fn escaped(text: &str) -> Option<String> {
    let letter = |byte: u8| match byte {
        b'-' | b'_' | b':' => char::from(byte).to_string(),
        b'.' => "\\.".to_owned(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    text.is_ascii().then(|| text.bytes().map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(language: Language, text: &str) -> Result<String, Unwritable> {
        written(language, Place::Word, &[text.to_owned()], false)
    }

    #[test]
    fn quotes_of_each_language() {
        assert_eq!(one(Language::PowerShell, "a'b\u{2019}c$(x)`\"").unwrap(), "'a''b\u{2019}\u{2019}c$(x)`\"'");
        assert_eq!(one(Language::Ucl, "^a\"\\$").unwrap(), "\"^a\\\"\\\\$\"");
        assert!(one(Language::Ucl, "${x}").is_err() && one(Language::Ucl, "a$$").is_err());
        assert_eq!(one(Language::Shell, "a'b").unwrap(), "'a'\\''b'");
        assert!(one(Language::SpamAssassin, "a b").is_err() && one(Language::Cisco, "a\"b").is_err());
        for language in Language::WORDS.map(|(_, language)| language) {
            for text in ["", "a\nb", "a\r", "\u{202e}a", "\u{2028}"] {
                assert!(one(language, text).is_err(), "{language:?} {text:?}");
            }
        }
        let two = ["a.b".to_owned(), "c".to_owned()];
        assert_eq!(written(Language::SpamAssassin, Place::Pattern, &two, true).unwrap(), "a\\.b|c");
        assert_eq!(written(Language::Ucl, Place::Word, &two, true).unwrap(), "[\"a.b\", \"c\"]");
        assert!(matches!(written(Language::Cisco, Place::Word, &two, true), Err(Unwritable::Several(2, _))));
    }

    #[test]
    fn a_place_is_known_by_what_stands_before_it() {
        for (language, code, place) in [
            (Language::PowerShell, "New-X -Name 'a' ", Place::Word),
            (Language::PowerShell, "New-X -Name '", Place::Closed),
            (Language::PowerShell, "New-X -Name \"it's ", Place::Closed),
            (Language::PowerShell, "# see ", Place::Closed),
            (Language::PowerShell, "# see\nNew-X ", Place::Word),
            (Language::SpamAssassin, "header A B =~ /^", Place::Pattern),
            (Language::SpamAssassin, "header A B =~ /^\\/x/\nscore ", Place::Word),
            (Language::Ucl, "a = \"", Place::Closed),
            (Language::Lines, "it's # ", Place::Word),
        ] {
            assert_eq!(place_after(language, code), place, "{code}");
        }
    }
}
