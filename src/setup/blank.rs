//! The blanks of a template: `{{header}}` and the others, and the texts that they stand in.

use super::place::{Language, Place, place_after};

/// What a template leaves for the configuration to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blank {
    /// The addresses from which the scanner sees the hop.
    Hops,
    /// The first of them.
    Hop,
    /// Those of them that are public IPv4 addresses, for clouds that take no others.
    PublicIpv4,
    /// The name of the tag's header.
    Header,
    /// All tokens: the one that mails carry, those before it, and the staged one.
    Tokens,
    /// The same for Exchange, where one of them at least is one word.
    Words,
    /// A regular expression that matches each token as a whole, and nothing else.
    TokenPattern,
    /// The hop's own domain name.
    Hostname,
    /// The domain in whose name changed mails are sealed.
    ArcDomain,
    /// Where the guard page stands.
    GuardUrl,
    /// The hosts of the one-time links of entries that tag.
    LinkHosts,
    /// The day on which the first of the entries that tag is over.
    Expires,
    /// Whose exemptions the rule makes: hop, entries and their owners, in one line.
    Comment,
}

impl Blank {
    /// The names of all.
    pub const WORDS: [(&'static str, Self); 13] = [
        ("hops", Self::Hops),
        ("hop", Self::Hop),
        ("public_ipv4", Self::PublicIpv4),
        ("header", Self::Header),
        ("tokens", Self::Tokens),
        ("words", Self::Words),
        ("token_pattern", Self::TokenPattern),
        ("hostname", Self::Hostname),
        ("arc_domain", Self::ArcDomain),
        ("guard_url", Self::GuardUrl),
        ("link_hosts", Self::LinkHosts),
        ("expires", Self::Expires),
        ("comment", Self::Comment),
    ];

    /// Its name, as in `header`.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, blank)| *blank == self).map_or("", |(word, _)| word)
    }

    /// Whether it stands for several values.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Hops | Self::PublicIpv4 | Self::Tokens | Self::Words | Self::LinkHosts)
    }
}

/// A piece of a text of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The template's own words.
    Text(String),
    /// A blank, and the place where it stands.
    Blank(Blank, Place),
}

/// A block of code of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The language, which says how values are written.
    pub language: Language,
    /// The file that it goes into, where it is no command.
    pub file: Option<String>,
    /// The code.
    pub pieces: Vec<Piece>,
}

/// A run of prose: words, or what is shown as code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Words.
    Words(String),
    /// What stood between backticks: code, names, what is typed.
    Code(Vec<Piece>),
}

/// Cuts a text at its blanks.
fn cut(text: &str) -> Result<Vec<Result<&str, Blank>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").ok_or("`{{` is not closed")?;
        let known = Blank::WORDS.iter().find(|(word, _)| *word == name);
        let (_, blank) = known.ok_or_else(|| {
            let words: Vec<&str> = Blank::WORDS.iter().map(|(word, _)| *word).collect();
            format!("{name:?} is no blank; there are {}", words.join(", "))
        })?;
        pieces.extend([Ok(before), Err(*blank)]);
        rest = after;
    }
    pieces.push(Ok(rest));
    pieces.retain(|piece| *piece != Ok(""));
    Ok(pieces)
}

/// Reads a block of code.
///
/// # Errors
/// A blank is unknown, stands in quotes or a comment, or touches what its literal would run into.
pub fn code(language: Language, text: &str) -> Result<Vec<Piece>, String> {
    let cut = cut(text.trim_end())?;
    let (mut pieces, mut before) = (Vec::new(), String::new());
    for (at, piece) in cut.iter().enumerate() {
        match piece {
            Ok(text) => {
                before.push_str(text);
                pieces.push(Piece::Text((*text).to_owned()));
            }
            Err(blank) => {
                let place = place_after(language, &before);
                let next = cut.get(at + 1).map(|next| next.map_or(Some('{'), |text| text.chars().next()));
                let touches = |letter: char| !letter.is_whitespace() && !",;()[]|=".contains(letter);
                if place == Place::Closed {
                    return Err(format!("{blank:?} stands in quotes or in a comment: it brings its own quotes"));
                }
                if place == Place::Word && (before.chars().next_back().is_some_and(touches) || next.flatten().is_some_and(touches)) {
                    return Err(format!("{blank:?} touches what stands beside it"));
                }
                if place == Place::Pattern && !(before.ends_with("(?:") && next == Some(Some(')'))) {
                    return Err(format!("{blank:?} in a pattern is several alternatives: write (?:...) around it"));
                }
                // What it will be is one word, whatever it holds.
                before.push('x');
                pieces.push(Piece::Blank(*blank, place));
            }
        }
    }
    Ok(pieces)
}

/// Reads prose: backticks around code, blanks anywhere.
///
/// # Errors
/// A blank is unknown, or a backtick is not closed.
pub fn prose(text: &str) -> Result<Vec<Run>, String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.matches('`').count() % 2 == 1 {
        return Err("a backtick is not closed".into());
    }
    let mut runs = Vec::new();
    for (at, part) in text.split('`').enumerate() {
        let pieces = cut(part)?.into_iter();
        if at % 2 == 1 {
            let piece = |piece: Result<&str, Blank>| match piece {
                Ok(text) => Piece::Text(text.to_owned()),
                Err(blank) => Piece::Blank(blank, Place::Word),
            };
            runs.push(Run::Code(pieces.map(piece).collect()));
        } else {
            runs.extend(pieces.map(|piece| match piece {
                Ok(text) => Run::Words(text.to_owned()),
                Err(blank) => Run::Code(vec![Piece::Blank(blank, Place::Word)]),
            }));
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_that_would_not_be_a_word_of_its_own_is_refused() {
        for (language, text, says) in [
            (Language::PowerShell, "New-X -Name {{heder}}", "no blank"),
            (Language::PowerShell, "New-X -Name {{header", "not closed"),
            (Language::PowerShell, "New-X -Name '{{header}}'", "quotes"),
            (Language::PowerShell, "New-X -Name x{{header}}", "touches"),
            (Language::PowerShell, "New-X -Name {{header}}{{header}}", "touches"),
            (Language::PowerShell, "New-X # {{header}}", "comment"),
            (Language::SpamAssassin, "header A {{header}}:", "touches"),
            (Language::SpamAssassin, "header A B =~ /^{{tokens}}$/", "(?:...)"),
        ] {
            assert!(code(language, text).is_err_and(|error| error.contains(says)), "{text}");
        }
        assert!(code(Language::SpamAssassin, "header A {{header}} =~ /^(?:{{tokens}})$/").is_ok());
        assert!(code(Language::PowerShell, "@{Add={{link_hosts}}}").is_err(), "a brace must stand apart");
    }
}
