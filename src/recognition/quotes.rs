//! The quoted part of a mail: a forwarded mail, or the one that it replies to. It is no evidence of what this mail is.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use serde::Deserialize;

use super::links::last_words;
use crate::message::{FoundLink, words};

/// How mail programs mark what they quote. Folded text, any language.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    /// What stands above a quoted mail, whole.
    above: Vec<String>,
    /// The end of the line that names whom an answer quotes and when he wrote: "On Tue, 24 Nov 2026, Ana <ana@...> wrote:".
    wrote: Vec<String>,
}

pub(super) struct Quotes {
    marks: AhoCorasick,
    /// How many of the marks stand above a quoted mail; the others end a line that names who wrote.
    above: usize,
}

impl Quotes {
    pub(super) fn new(marks: &Marks) -> Result<Self, BuildError> {
        let all = marks.above.iter().chain(&marks.wrote).map(|mark| words::fold(mark));
        Ok(Self { marks: AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(all)?, above: marks.above.len() })
    }

    /// A folded text up to where a quoted mail begins.
    pub(super) fn unquoted<'t>(&self, folded: &'t str) -> &'t str {
        let begins = |found: aho_corasick::Match| {
            if found.pattern().as_usize() < self.above {
                return Some(found.start());
            }
            // Who wrote, and when: an address or the time of day stands in that line.
            let line = last_words(folded.get(..found.start())?, LINE);
            let is_named = line.contains('@')
                || line
                    .as_bytes()
                    .windows(4)
                    .any(|four| matches!(four, [a, b':', c, d] if a.is_ascii_digit() && c.is_ascii_digit() && d.is_ascii_digit()));
            is_named.then(|| found.start().saturating_sub(line.len()))
        };
        let end = self.marks.find_iter(folded).find_map(begins).unwrap_or(folded.len());
        folded.get(..end).unwrap_or(folded)
    }
}

/// Whether a link stands in a quoted part: in a line that begins with `>`, or behind the mark above a quoted mail.
pub(super) fn is_quoted(found: &FoundLink, text: &str, unquoted: &str) -> bool {
    let line = found.before.rsplit('\n').next().unwrap_or_default();
    if line.trim_start().starts_with('>') && found.before.contains('\n') {
        return true;
    }
    if unquoted.len() == text.len() {
        return false;
    }
    // Where it stands is known by the words in front of it.
    let before = words::fold(last_words(found.before.trim_end(), FRONT));
    !before.is_empty() && !unquoted.contains(&before) && text.contains(&before)
}

/// Characters of a line that names who wrote.
const LINE: usize = 120;
/// Characters in front of a link by which its place is found.
const FRONT: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted() {
        let marks = Marks { above: vec!["-----Original Message-----".into()], wrote: vec!["wrote:".into()] };
        let quotes = Quotes::new(&marks).unwrap();
        for (text, rest) in [
            ("is this real? -----original message----- reset your password", "is this real? "),
            ("ana wrote: join us", "ana wrote: join us"),
            ("reset your password", "reset your password"),
        ] {
            assert_eq!(quotes.unquoted(text), rest);
        }
        assert!(quotes.unquoted("see below. on tue, 24 nov 2026 at 10:12, ana <ana@acme.test> wrote: reset your password").len() < 60);
    }
}
