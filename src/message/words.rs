//! Text in the one form in which phrases are looked for.

use unicode_normalization::{UnicodeNormalization, char::decompose_canonical};

/// Text that grows with spaces between its runs, up to a bound.
pub(super) trait Space {
    /// Sets the next run apart by a line break.
    fn part(&mut self);
    /// Adds text while there is room.
    fn push_bounded(&mut self, text: &str, limit: usize);
}

/// Text that can be cut from its end.
pub(super) trait Tail {
    /// The end of the text, at most about `octets` of it, from a character's start.
    fn tail(&self, octets: usize) -> &str;
}

impl Space for String {
    fn part(&mut self) {
        if !self.is_empty() && !self.ends_with('\n') {
            self.push('\n');
        }
    }

    fn push_bounded(&mut self, text: &str, limit: usize) {
        let room = limit.saturating_sub(self.len());
        let mut end = room.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.push_str(text.get(..end).unwrap_or_default());
    }
}

impl Tail for str {
    fn tail(&self, octets: usize) -> &str {
        let mut start = self.len().saturating_sub(octets);
        while !self.is_char_boundary(start) {
            start += 1;
        }
        self.get(start..).unwrap_or_default()
    }
}

/// Text folded for comparison: NFKC, lower case, without accents and vowel points, one form of the letters that Arabic
/// and Persian keyboards write differently, one apostrophe, no invisible characters, single spaces. Capitals and
/// plain-ASCII templates leave accents out, so a word is the same with and without them.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut out = if text.is_ascii() { fold_ascii(text) } else { fold_any(text) };
    if out.ends_with(' ') {
        out.pop();
    }
    out
}

/// The same of a text that is ASCII, as most are, with the blank at its end.
fn fold_ascii(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\t'..=b'\r' | b' ' if out.last().is_none_or(|last| *last == b' ') => {}
            b'\t'..=b'\r' | b' ' => out.push(b' '),
            b'`' => out.push(b'\''),
            _ if byte.is_ascii_control() => {}
            _ => out.push(byte.to_ascii_lowercase()),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The same of any text.
fn fold_any(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let push = |letter: char| {
        if letter.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !is_invisible(letter) {
            match letter {
                '\u{2018}' | '\u{2019}' | '\u{2bc}' | '`' | '\u{b4}' => out.push('\''),
                'a'..='z' | '0'..='9' | ' '..='/' => out.push(letter),
                _ => letter.to_lowercase().for_each(|lower| push_bare(&mut out, lower)),
            }
        }
    };
    text.nfkc().for_each(push);
    out
}

/// Adds a lower-case letter without its marks.
fn push_bare(out: &mut String, letter: char) {
    match letter {
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{64b}'..='\u{652}' | '\u{670}' => {}
        'ı' => out.push('i'),
        'ł' => out.push('l'),
        'đ' => out.push('d'),
        'ø' => out.push('o'),
        'أ' | 'إ' | 'آ' => out.push('ا'),
        'ي' | 'ى' => out.push('ی'),
        'ك' => out.push('ک'),
        'ة' => out.push('ه'),
        // Latin, Greek and Cyrillic are written without their accents too; the marks of other scripts are letters.
        '\u{c0}'..='\u{52f}' | '\u{1e00}'..='\u{1fff}' => decompose_canonical(letter, |part| {
            if !matches!(part, '\u{300}'..='\u{36f}') {
                out.push(part);
            }
        }),
        _ => out.push(letter),
    }
}

fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{640}')
        || letter.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_folded_as_any_text() {
        let all: String = (0..128_u8).map(char::from).collect();
        for text in [all.as_str(), "", " ", "\x0b\x0c A \x1c\t`B`\r\n", "Reset \x00 it"] {
            assert_eq!(fold_ascii(text), fold_any(text), "{text:?}");
        }
    }

    #[test]
    fn folded_text_compares() {
        assert_eq!(fold("  Reset\u{200b} YOUR\r\n pass\u{ad}word "), "reset your password");
        assert_eq!(fold("ﬁnish ＲＥＳＥＴ"), "finish reset");
        assert_eq!(fold("l\u{2019}adresse"), "l'adresse");
        assert_eq!(fold("İSTANBUL"), fold("ıstanbul"));
        assert_eq!(fold("ΕΠΑΝΑΦΟΡΆ Réinitialisé"), fold("Επαναφορά REINITIALISE"));
        assert_eq!(fold("كلمة السِّر"), fold("کلمه السر"));
        assert_eq!(fold("é"), fold("e\u{301}"));
        assert_eq!(fold("パスワード"), fold("ﾊﾟｽﾜｰﾄﾞ"));
    }
}
