//! Text of strangers in a mail to colleagues: nothing in it is a link, and nothing hides.

/// Text from outside as a mail may show it: control characters, direction marks and what has no width are escaped, and hosts and
/// addresses are written so that no program makes a link of them, as in `hxxps://evil[.]example`. What is too long ends with its last
/// whole statement, and `elsewhere` says where the rest is.
#[must_use]
pub fn defanged(text: &str, elsewhere: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let shown = start(text);
    let mut rest = shown;
    let mut before = ' ';
    while let Some(letter) = rest.chars().next() {
        if let Some(scheme) = web_scheme(rest) {
            out.push_str(if scheme == "https://" { "hxxps://" } else { "hxxp://" });
            rest = rest.get(scheme.len()..).unwrap_or_default();
            before = '/';
            continue;
        }
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        let next = rest.chars().next();
        let goes_on = next.is_some_and(|next| !next.is_whitespace());
        match letter {
            // At the end of a sentence it joins nothing.
            '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}' if goes_on => out.push_str("[.]"),
            ':' if goes_on && !next.is_some_and(|next| next.is_ascii_digit()) => out.push_str("[:]"),
            '@' | '\u{ff20}' => out.push_str("[@]"),
            '/' | '\\' if before == letter => out.push_str(if letter == '/' { "[/]" } else { "[\\]" }),
            _ if is_hidden(letter) => out.extend(letter.escape_unicode()),
            _ => out.push(letter),
        }
        before = letter;
    }
    if shown.len() < text.len() {
        out.push_str(" ...");
        out.push_str(elsewhere);
    }
    out
}

/// Characters of one text of a stranger's that are shown: a link, and the list of ten shapes to write about it.
const LONGEST: usize = 1_100;

/// As much of a text as is shown: all of it, or what stands before the last end of a statement, else of a word, in it.
fn start(text: &str) -> &str {
    let Some((end, _)) = text.char_indices().nth(LONGEST) else { return text };
    let most = text.get(..end).unwrap_or(text);
    ["; ", " "].into_iter().find_map(|end| most.rsplit_once(end)).map_or(most, |(whole, _)| whole)
}

/// The scheme of a web address at the start of a text, in lower case.
fn web_scheme(text: &str) -> Option<&'static str> {
    ["https://", "http://"].into_iter().find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Text of the admin's own, with nothing in it that hides.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_hidden(letter) { out.extend(letter.escape_unicode()) } else { out.push(letter) }
    }
    out
}

/// What a reader does not see, or what changes the order of what he sees.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
                ..='\u{180f}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{3164}'
                    | '\u{fe00}'..='\u{fe0f}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{fff0}'..='\u{fffb}'
                    | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Lines of at most `COLUMNS` characters: the first starts with `first`, the others with `others`. A word that is longer has a line to
/// itself: it may be what somebody is to paste.
#[must_use]
pub fn wrapped(first: &str, others: &str, text: &str) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), first.to_owned());
    let mut is_empty = true;
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(std::mem::replace(&mut line, others.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    if !is_empty || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Characters of a line: programs quote it once more within 78 (RFC 5322 section 2.1.1).
pub(super) const COLUMNS: usize = 74;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_link_and_nothing_hides() {
        for (text, shown) in [
            ("https://evil.example/a?b=c.d leads to evil.example.", "hxxps://evil[.]example/a?b=c[.]d leads to evil[.]example."),
            ("HTTP://192.0.2.1:8080/", "hxxp://192[.]0[.]2[.]1:8080/"),
            ("bob@evil.example", "bob[@]evil[.]example"),
            ("mailto:bob", "mailto[:]bob"),
            ("ftp://x //host \\\\host\\share", "ftp[:]/[/]x /[/]host \\[\\]host\\share"),
            ("evil\u{3002}example", "evil[.]example"),
            ("a\u{202e}b\u{200b}c\r\nSubject: x\u{1b}[31m", "a\\u{202e}b\\u{200b}c\\u{d}\\u{a}Subject: x\\u{1b}[31m"),
            ("<a href=\"https://evil.example\">", "<a href=\"hxxps://evil[.]example\">"),
            ("see 3 mails: one", "see 3 mails: one"),
        ] {
            assert_eq!(defanged(text, ""), shown);
        }
        assert!(defanged(&"a.b".repeat(10_000), "").chars().count() < 2_000);
        let long = format!("a is not listed; {}; c", "b ".repeat(600));
        assert_eq!(defanged(&long, " `explain` shows it"), "a is not listed ... `explain` shows it");
    }

    #[test]
    fn lines_are_short() {
        let text = format!("one two {} three", "x".repeat(200));
        let lines = wrapped("  - ", "    ", &text);
        assert_eq!(lines, ["  - one two".to_owned(), format!("    {}", "x".repeat(200)), "    three".to_owned()]);
        let lines = wrapped("- ", "  ", &"word ".repeat(100));
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        assert_eq!(wrapped("", "", ""), [""]);
    }
}
