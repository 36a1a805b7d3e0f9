//! Text from outside, as a terminal and a line of a log may show it: names of files, words of mails, what a server answered.

/// The text with control characters and marks of direction escaped, so that it is one line and looks like what it is.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let is_mark = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if letter.is_control() || is_mark { letter.escape_default().collect::<Vec<_>>() } else { vec![letter] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_hides_nothing() {
        assert_eq!(printable("zurück\n\t\u{1b}[31m\u{202e}x\u{85}"), "zurück\\n\\t\\u{1b}[31m\\u{202e}x\\u{85}");
    }
}
