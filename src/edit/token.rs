//! The tokens that the scanner's rule looks for, and the file that holds them.
//!
//! A token a line: the first is written into mails, the others were before it and may still be under way. `next TOKEN` is staged:
//! the rule may learn it, and no mail carries it yet. So a rotation never writes a token that the rule does not know.

use std::fmt;

/// A token. Does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Octets of the longest token: Exchange's rules compare about 100 characters of a header.
const LONGEST: usize = 63;

/// Characters behind `fc` in a token that `keygen` writes: five bits each.
const DRAWN: usize = 32;

/// What they are drawn from: lower-case letters and digits, those aside that people mistake for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Token {
    /// Reads a token: 8 to 63 letters, digits, hyphens and underscores. What a shell would read otherwise, and `=`, with which
    /// keys end, is in none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (8..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        fits.then(|| Self(text.to_owned()))
    }

    /// The token of these random octets: 160 bits as one word for every scanner.
    #[must_use]
    pub fn drawn(random: &[u8; DRAWN]) -> Self {
        let letter = |octet: &u8| ALPHABET.get(usize::from(octet % 32)).copied().map_or('a', char::from);
        Self(format!("fc{}", random.iter().map(letter).collect::<String>()))
    }

    /// The token itself, for the header and for `setup`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether every scanner takes it as one word: Exchange compares whole words, and no case.
    #[must_use]
    pub fn is_one_word(&self) -> bool {
        self.0.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    }

    /// Whether it looks as `keygen` writes them, or wrote them once.
    #[must_use]
    pub fn is_drawn(&self) -> bool {
        self.0.len() >= DRAWN && self.0.starts_with("fc")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A line of a token file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLine {
    /// Nothing, or a comment that starts with `#`.
    Aside(String),
    /// A token that is or was written.
    Known(Token),
    /// `next TOKEN`: a token that is staged.
    Staged(Token),
}

impl TokenLine {
    /// Reads a line; none where it is no line of a token file.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return Some(Self::Aside(text.to_owned()));
        }
        match text.split_once(char::is_whitespace) {
            None => Token::parse(text).map(Self::Known),
            Some(("next", token)) => Token::parse(token.trim()).map(Self::Staged),
            Some(_) => None,
        }
    }
}

/// A token file, line by line, so that comments stay where they are.
#[derive(Clone, Debug, Default)]
pub struct TokenFile(Vec<TokenLine>);

/// Why a token file is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// It is another file.
    #[error("it is no token file, and is left as it is; name another file")]
    Other,
    /// It has a token that the scanner's rule knows.
    #[error(
        "mails carry its token already, and the scanner's rule knows no new one yet; --stage adds one that waits for the rule, --now writes it at once"
    )]
    InUse,
    /// There is nothing to rotate.
    #[error("it holds no token yet; leave --stage out, and the first one is written at once")]
    Empty,
    /// A staged token waits already.
    #[error("a token is staged already; `firstclick setup SCANNER` prints it, --activate makes it the one that is written")]
    Waits,
    /// No token is staged.
    #[error("no token is staged; --stage adds one")]
    NoneStaged,
}

impl TokenFile {
    /// Reads a file that `keygen` is to change.
    ///
    /// # Errors
    /// A line is none of a token file's, or a token is none of `keygen`'s: the file is meant for something else.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let lines = text.lines().map(|line| {
            TokenLine::parse(line).filter(|line| match line {
                TokenLine::Aside(_) => true,
                TokenLine::Known(token) | TokenLine::Staged(token) => token.is_drawn(),
            })
        });
        lines.collect::<Option<Vec<_>>>().map(Self).ok_or(TokenFileError::Other)
    }

    /// The file's text, secrets and all.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |line: &TokenLine| match line {
            TokenLine::Aside(text) => format!("{text}\n"),
            TokenLine::Known(token) => format!("{}\n", token.0),
            TokenLine::Staged(token) => format!("next {}\n", token.0),
        };
        self.0.iter().map(line).collect()
    }

    /// How many tokens were written before the one that is.
    #[must_use]
    pub fn older(&self) -> usize {
        self.0.iter().filter(|line| matches!(line, TokenLine::Known(_))).count().saturating_sub(1)
    }

    /// Writes a first token.
    ///
    /// # Errors
    /// There is one.
    pub fn begin(&mut self, token: Token) -> Result<(), TokenFileError> {
        if self.0.iter().any(|line| !matches!(line, TokenLine::Aside(_))) {
            return Err(TokenFileError::InUse);
        }
        self.0.push(TokenLine::Known(token));
        Ok(())
    }

    /// Writes a token at once, whatever the scanner's rule knows.
    pub fn replace(&mut self, token: Token) {
        let at = self.first().unwrap_or(self.0.len());
        self.0.insert(at, TokenLine::Known(token));
    }

    /// Adds a token that is not written yet.
    ///
    /// # Errors
    /// There is no token, or one is staged.
    pub fn stage(&mut self, token: Token) -> Result<(), TokenFileError> {
        if self.first().is_none() {
            return Err(TokenFileError::Empty);
        }
        if self.staged().is_some() {
            return Err(TokenFileError::Waits);
        }
        self.0.push(TokenLine::Staged(token));
        Ok(())
    }

    /// Makes the staged token the one that is written; the others stay.
    ///
    /// # Errors
    /// No token is staged.
    pub fn activate(&mut self) -> Result<(), TokenFileError> {
        let at = self.staged().ok_or(TokenFileError::NoneStaged)?;
        if let TokenLine::Staged(token) = self.0.remove(at) {
            self.replace(token);
        }
        Ok(())
    }

    /// Takes out every token that was written before the one that is. Returns how many there were.
    pub fn retire(&mut self) -> usize {
        let (first, older) = (self.first(), self.older());
        let mut at = 0;
        self.0.retain(|line| {
            let stays = !matches!(line, TokenLine::Known(_)) || Some(at) == first;
            at += 1;
            stays
        });
        older
    }

    fn first(&self) -> Option<usize> {
        self.0.iter().position(|line| matches!(line, TokenLine::Known(_)))
    }

    fn staged(&self) -> Option<usize> {
        self.0.iter().position(|line| matches!(line, TokenLine::Staged(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u8) -> Token {
        Token::drawn(&[number; DRAWN])
    }

    #[test]
    fn a_rotation_keeps_comments_and_never_writes_a_token_unasked() {
        let mut file = TokenFile::parse("# of the hop\n").unwrap();
        assert_eq!(file.stage(token(1)), Err(TokenFileError::Empty));
        assert_eq!(file.activate(), Err(TokenFileError::NoneStaged));
        file.begin(token(0)).unwrap();
        assert_eq!(file.begin(token(1)), Err(TokenFileError::InUse));
        file.stage(token(1)).unwrap();
        assert_eq!(file.stage(token(2)), Err(TokenFileError::Waits));
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        assert_eq!(file.text(), format!("# of the hop\nfc{a}\nnext fc{b}\n"));
        assert_eq!(file.retire(), 0);
        file.activate().unwrap();
        assert_eq!(file.text(), format!("# of the hop\nfc{b}\nfc{a}\n"));
        file.stage(token(2)).unwrap();
        assert_eq!(file.retire(), 1);
        assert_eq!(file.text(), format!("# of the hop\nfc{b}\nnext fc{}\n", "c".repeat(32)));
        file.replace(token(3));
        assert_eq!(TokenFile::parse(&file.text()).unwrap().older(), 1);
    }

    #[test]
    fn another_file_is_no_token_file() {
        for text in [
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "from = [\"vendor.test\"]\n",
            "mailserver01\n",
            "next\n",
            "old fcaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
            "root:x:0:0:root:/root:/bin/bash\n",
        ] {
            assert_eq!(TokenFile::parse(text).unwrap_err(), TokenFileError::Other, "{text}");
        }
        assert!(TokenFile::parse("fc-uOGQ4bkD-0123456789abcdefABCDEFGHI\n").is_ok(), "as keygen wrote them once");
    }

    #[test]
    fn tokens_are_words_and_do_not_print() {
        assert!(token(7).is_one_word() && token(255).is_one_word() && token(255).expose().len() == 34);
        for text in ["short", "with space", "quo\"te12", "dollar$1", "key12345="] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert!(Token::parse(&"x".repeat(64)).is_none());
        assert!(!Token::parse("Upper-Case_1").unwrap().is_one_word());
        assert_eq!(format!("{:?}", TokenFile::parse(&format!("{}\n", token(1).expose())).unwrap()).matches("bbb").count(), 0);
    }
}
