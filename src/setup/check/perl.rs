//! The part of Perl that a configuration needs: assignments of literals to names that are spelled out, as amavis has them. A statement
//! is read token by token, as perl itself would, and ends where something is not known: what may stand is listed, so nothing hides.

/// A statement all of which is understood.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    /// The line in which it begins.
    pub(super) line: usize,
    /// What it says, without blanks and comments.
    pub(super) tokens: Vec<&'a str>,
}

/// What is more than an assignment of literals.
#[derive(Debug)]
pub(super) struct Opaque<'a> {
    /// Its line.
    pub(super) line: usize,
    /// The word or sign that is not known.
    pub(super) word: &'a str,
}

/// What amavis' own files call: it makes a list of patterns, and reads texts of notices.
const CALLS: [&str; 2] = ["new_RE", "read_l10n_templates"];

/// Whole pieces that are more than literals, and change nothing: those of Debian's own files.
const KNOWN: [&str; 5] = [
    "use strict",
    "chomp($mydomain = `head -n 1 /etc/mailname`)",
    "chomp($myhostname = `hostname --fqdn`)",
    "sub {chdir('/opt/AVP') or die \"Can't chdir to AVP: $!\"}",
    "sub {chdir($TEMPBASE) or die \"Can't chdir back to $TEMPBASE $!\"}",
];

/// Words that take what follows as a text, whatever it is.
const QUOTES: [&str; 9] = ["q", "qq", "qw", "qr", "qx", "m", "s", "y", "tr"];

/// All statements of a file. Behind one that is not understood, the next that begins a line is read.
pub(super) fn statements(text: &str) -> Vec<Result<Statement<'_>, Opaque<'_>>> {
    let mut reader = Reader { text, rest: text, line: 1 };
    let mut all = Vec::new();
    loop {
        match reader.statement() {
            Ok(statement) if statement.tokens.is_empty() && reader.rest.is_empty() => return all,
            Ok(statement) if statement.tokens.is_empty() => {}
            Ok(statement) => all.push(Ok(statement)),
            Err(opaque) => {
                all.push(Err(opaque));
                reader.take(reader.rest.find(";\n").map_or(reader.rest.len(), |at| at + 2));
            }
        }
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A value, or the end of a list.
    Term,
    /// What joins values, or ends the statement.
    Operator,
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a str {
        let (token, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.line += token.matches('\n').count();
        self.rest = rest;
        token
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let blanks = span(self.rest, |letter| matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0c'));
            let comment = if self.rest.starts_with('#') { self.rest.find('\n').unwrap_or(self.rest.len()) } else { 0 };
            if blanks + comment == 0 {
                return;
            }
            self.take(blanks + comment);
        }
    }

    /// One statement with its end; an empty one where none is left.
    fn statement(&mut self) -> Result<Statement<'a>, Opaque<'a>> {
        self.skip_blanks_and_comments();
        let mut statement = Statement { line: self.line, tokens: Vec::new() };
        let (mut next, mut closers) = (Next::Term, Vec::new());
        loop {
            self.skip_blanks_and_comments();
            let ends = closers.is_empty() && (next == Next::Operator || statement.tokens.is_empty());
            if ends && (self.rest.is_empty() || self.rest.starts_with(';')) {
                self.take(1);
                return Ok(statement);
            }
            let last = statement.tokens.last().copied();
            let begins_line = self.text.get(..self.text.len() - self.rest.len()).is_some_and(|before| before.ends_with('\n'));
            let read = match next {
                Next::Term => term(self.rest, last),
                Next::Operator => operator(self.rest).filter(|len| *len != 1 || !begins_line || !self.rest.starts_with('=')),
            };
            let closes = closers.last().is_some_and(|closer| self.rest.starts_with(*closer));
            let is_list = next == Next::Operator || matches!(last, Some("(" | "[" | "{" | "," | "=>"));
            let len = read.or_else(|| (closes && is_list).then_some(1));
            let Some(len) = len else {
                let word = span(self.rest, is_word).max(self.rest.chars().next().map_or(0, char::len_utf8));
                return Err(Opaque { line: self.line, word: self.rest.get(..word).unwrap_or_default() });
            };
            let token = self.take(len);
            next = match token {
                "(" | "[" | "{" => {
                    closers.push(if token == "(" {
                        ')'
                    } else if token == "[" {
                        ']'
                    } else {
                        '}'
                    });
                    Next::Term
                }
                ")" | "]" | "}" => {
                    closers.pop();
                    Next::Operator
                }
                "\\" => Next::Term,
                call if CALLS.contains(&call) => Next::Term,
                _ if next == Next::Operator => Next::Term,
                _ => Next::Operator,
            };
            statement.tokens.push(token);
        }
    }
}

fn span(text: &str, is_in: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !is_in(letter)).unwrap_or(text.len())
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The length of a name: `'` and `::` would make it another package's.
fn name(text: &str) -> Option<usize> {
    let len = span(text, is_word);
    let rest = text.get(len..)?;
    let is_name = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    (is_name && !rest.starts_with('\'') && !rest.starts_with("::")).then_some(len)
}

/// The length of what joins two values.
fn operator(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [b'=', b'>', ..] | [b'.', b'.', ..] => Some(2),
        [b'=', b'=' | b'~', ..] => None,
        [b'=' | b',' | b'.' | b'+' | b'-' | b'*', ..] => Some(1),
        _ => None,
    }
}

/// The length of a value, of what begins a list, or of the sign or call before one.
fn term(text: &str, last: Option<&str>) -> Option<usize> {
    if let Some(known) = KNOWN.iter().find(|known| text.starts_with(**known)) {
        return Some(known.len());
    }
    match text.chars().next()? {
        // Where a statement begins it would be a block.
        '[' | '{' => last.filter(|last| !CALLS.contains(last)).map(|_| 1),
        '\\' if text.starts_with("\\&") => Some(2 + name(text.get(2..)?)?),
        '(' | '\\' => Some(1),
        '$' => element(text),
        '@' | '%' => Some(1 + name(text.get(1..)?)?),
        '-' | '0'..='9' => number(text),
        '\'' => quoted(text, false).map(|(len, _)| len),
        '"' => quoted(text, false).filter(|(_, inner)| is_plain(inner, false)).map(|(len, _)| len),
        _ => word(text),
    }
    .filter(|_| last.is_none_or(|last| !CALLS.contains(&last)) || text.starts_with('('))
}

/// A number without an exponent.
fn number(text: &str) -> Option<usize> {
    let digits = |from: usize| Some(span(text.get(from..)?, |letter| letter.is_ascii_digit() || letter == '_'));
    let sign = usize::from(text.starts_with('-'));
    let whole = sign + digits(sign).filter(|len| *len > 0)?;
    let part = if text.get(whole..)?.starts_with('.') { digits(whole + 1)? } else { 0 };
    let len = if part > 0 { whole + 1 + part } else { whole };
    (!text.get(len..)?.starts_with(is_word)).then_some(len)
}

/// `$name`, and elements of a hash by a word or a text: `$name{'text'}`.
fn element(text: &str) -> Option<usize> {
    let mut len = 1 + name(text.get(1..)?)?;
    while let Some(inner) = text.get(len..)?.strip_prefix('{') {
        let key = if inner.starts_with('\'') { quoted(inner, false)?.0 } else { span(inner, is_word) };
        if key == 0 || !inner.get(key..)?.starts_with('}') {
            return None;
        }
        len += key + 2;
    }
    Some(len)
}

/// A word that is a text, as `=>` follows; one of amavis' constants or calls; words or a pattern in quotes.
fn word(text: &str) -> Option<usize> {
    let (word, rest) = text.split_at_checked(span(text, is_word))?;
    let behind = rest.trim_start_matches([' ', '\t']);
    let to_behind = text.len() - behind.len();
    match word {
        "qw" if behind.starts_with(['(', '[', '/']) => Some(to_behind + quoted(behind, false)?.0),
        "qr" => {
            let (pattern, inner) = quoted(rest, true)?;
            let is_safe = rest.starts_with('\'') || is_plain(inner, true);
            let runs_code = ["(?{", "(??{", "(?p{", "(*{"].iter().any(|code| inner.contains(code));
            let flags = span(rest.get(pattern..)?, |letter| "imsx".contains(letter));
            let ends = !rest.get(pattern + flags..)?.starts_with(is_word);
            (is_safe && !runs_code && ends).then_some(word.len() + pattern + flags)
        }
        _ if QUOTES.contains(&word) || word.starts_with('_') => None,
        _ if behind.starts_with("=>") || word == "undef" || word.starts_with("D_") || word.starts_with("CC_") => name(text),
        _ if CALLS.contains(&word) && behind.starts_with('(') => name(text),
        _ => None,
    }
}

/// The length of a text with its quotes, and what is between them. Brackets within brackets are counted only by perl.
fn quoted(text: &str, is_pattern: bool) -> Option<(usize, &str)> {
    let open = text.chars().next()?;
    let close = match open {
        '"' | '\'' | '/' => open,
        '(' => ')',
        '[' => ']',
        '{' if is_pattern => '}',
        _ => return None,
    };
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            _ if letter == close => return Some((at + 1, text.get(1..at)?)),
            _ if letter == open => return None,
            _ => {}
        }
    }
    None
}

/// Whether a text in which perl looks for variables has whole ones at most: an index or a key could be code.
fn is_plain(inner: &str, is_pattern: bool) -> bool {
    let mut letters = inner.char_indices();
    while let Some((at, letter)) = letters.next() {
        let behind = inner.get(at + 1..).unwrap_or_default();
        let is_text = match letter {
            '\\' => letters.next().is_some(),
            '$' if is_pattern && (behind.is_empty() || behind.starts_with([')', '|', ' ', '\n'])) => true,
            '@' if !behind.starts_with(|letter: char| letter.is_ascii_alphanumeric() || "_{$:+-".contains(letter)) => true,
            '$' | '@' => name(behind).is_some_and(|len| !behind.get(len..).unwrap_or_default().starts_with(['[', '{', '-'])),
            _ => true,
        };
        if !is_text {
            return false;
        }
    }
    true
}
