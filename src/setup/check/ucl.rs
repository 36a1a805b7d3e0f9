//! UCL, as `rspamadm configdump` writes it and as the files of `local.d` are written by hand: sections, keys, lists, comments. What
//! would have to be carried out (`.include` and other macros, variables, here-documents) is refused.

use serde_json::{Map, Value};

/// Depth of sections and lists; rspamd's own configuration has some eight.
const DEPTH: usize = 32;

/// Reads a text; a key that stands twice holds a list of both, as UCL has it.
///
/// # Errors
/// The line, and what is not understood in it.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let mut reader = Reader { rest: text, line: 1 };
    let map = reader.section(0, None);
    map.map_err(|why| format!("line {}: {why}", reader.line))
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.rest = self.rest.get(letter.len_utf8()..).unwrap_or_default();
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    /// Goes past blanks and comments; whether a line ended among them.
    fn blanks(&mut self) -> Result<(), String> {
        loop {
            match self.peek() {
                Some(letter) if letter.is_whitespace() => drop(self.next()),
                Some('#') => while self.next().is_some_and(|letter| letter != '\n') {},
                Some('/') if self.rest.starts_with("/*") => {
                    let end = self.rest.get(2..).and_then(|rest| rest.find("*/")).ok_or("a comment has no end")?;
                    // rspamd looks for the end outside of quotes, and of comments within.
                    if self.rest.get(2..end + 2).is_some_and(|inner| inner.contains('"') || inner.contains("/*")) {
                        return Err("a comment with quotes or another comment in it: where it ends is not understood".into());
                    }
                    for _ in 0..self.rest.get(..end + 4).unwrap_or_default().chars().count() {
                        self.next();
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn section(&mut self, depth: usize, end: Option<char>) -> Result<Map<String, Value>, String> {
        if depth > DEPTH {
            return Err("sections lie too deep".into());
        }
        let mut map = Map::new();
        loop {
            self.blanks()?;
            while matches!(self.peek(), Some(';' | ',')) {
                self.next();
                self.blanks()?;
            }
            match self.peek() {
                None if end.is_none() => return Ok(map),
                None => return Err("a section has no end".into()),
                Some(letter) if Some(letter) == end => {
                    self.next();
                    return Ok(map);
                }
                Some('.') => return Err("a macro (`.include` or the like) is not carried out: use `rspamadm configdump`".into()),
                // A text may be in braces as a whole, as JSON is.
                Some('{') if end.is_none() && map.is_empty() => {
                    self.next();
                    let inner = self.section(depth + 1, Some('}'))?;
                    self.blanks()?;
                    return if self.rest.is_empty() { Ok(inner) } else { Err("there is more behind the end".into()) };
                }
                Some(_) => {}
            }
            let (key, value) = self.pair(depth)?;
            match map.get_mut(&key) {
                None => drop(map.insert(key, value)),
                // What stands there several times is marked by a list within a list of one kind only: as UCL does, and no matter.
                Some(Value::Array(items)) => items.push(value),
                Some(one) => *one = Value::Array(vec![one.take(), value]),
            }
        }
    }

    fn pair(&mut self, depth: usize) -> Result<(String, Value), String> {
        let key = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            self.word(|letter| letter.is_alphanumeric() || "-_/.".contains(letter))?
        };
        self.blanks()?;
        if matches!(self.peek(), Some('=' | ':')) {
            self.next();
            self.blanks()?;
            return Ok((key, self.value(depth)?));
        }
        match self.peek() {
            Some('{' | '[') => Ok((key, self.value(depth)?)),
            // `worker "normal" { }` is a section in a section.
            Some('"') => {
                let name = self.quoted()?;
                self.blanks()?;
                if self.peek() != Some('{') {
                    return Ok((key, Value::String(name)));
                }
                Ok((key, Value::Object(Map::from_iter([(name, self.value(depth)?)]))))
            }
            _ => Err("a key without a value".into()),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        match self.peek() {
            Some('{') => {
                self.next();
                Ok(Value::Object(self.section(depth + 1, Some('}'))?))
            }
            Some('[') => self.list(depth + 1),
            Some('"') => Ok(Value::String(self.quoted()?)),
            Some('<') if self.rest.starts_with("<<") => Err("a here-document is not understood".into()),
            Some('\'') => Err("single quotes are not understood".into()),
            Some(_) => {
                let word = self.word(|letter| !letter.is_whitespace() && !";,}]{[\"#".contains(letter))?;
                variable(&word)?;
                // Behind a bare word its line ends.
                let behind = self.rest.trim_start_matches([' ', '\t']).chars().next();
                if behind.is_some_and(|letter| !"\n\r;,}]#".contains(letter)) {
                    return Err("a value of several words is not in quotes".into());
                }
                Ok(match word.as_str() {
                    "true" | "yes" | "on" => Value::Bool(true),
                    "false" | "no" | "off" => Value::Bool(false),
                    "null" => Value::Null,
                    _ => word.parse::<i64>().map_or(Value::String(word), Value::from),
                })
            }
            None => Err("a key without a value".into()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err("lists lie too deep".into());
        }
        self.next();
        let mut items = Vec::new();
        loop {
            self.blanks()?;
            match self.peek() {
                None => return Err("a list has no end".into()),
                Some(']') => {
                    self.next();
                    return Ok(Value::Array(items));
                }
                Some(',' | ';') => drop(self.next()),
                Some(_) => items.push(self.value(depth)?),
            }
        }
    }

    fn word(&mut self, is_in: impl Fn(char) -> bool) -> Result<String, String> {
        let mut word = String::new();
        while let Some(letter) = self.peek().filter(|letter| is_in(*letter)) {
            word.push(letter);
            self.next();
        }
        if word.is_empty() { Err(format!("{:?} is not understood here", self.peek().unwrap_or(' '))) } else { Ok(word) }
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or("a text has no end")? {
                '"' => break,
                '\\' => text.push(match self.next().ok_or("a text has no end")? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    letter @ ('"' | '\\' | '/') => letter,
                    _ => return Err("a text holds an escape that is not understood".into()),
                }),
                letter => text.push(letter),
            }
        }
        variable(&text)?;
        Ok(text)
    }
}

/// `$NAME` and `${NAME}` are filled in by rspamd, and a `$` at the end is itself.
fn variable(text: &str) -> Result<(), String> {
    let is_name = text
        .match_indices('$')
        .any(|(at, _)| text.get(at + 1..).is_some_and(|rest| rest.starts_with(|letter: char| letter == '{' || letter.is_alphabetic())));
    if is_name { Err("a variable is not filled in: use `rspamadm configdump`".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_dump_and_an_admin_write() {
        let text = "# a\nsettings {\n  firstclick {\n    priority = \"high\"; /* b */\n    ip [\n \"192.0.2.25\",\n ]\n    header { X-A = \"^a$\" }\n    n = 5\n y: yes;\n  }\n}\nworker \"normal\" { count = -1; }\nurl = http://x/y;\nsurbl []\nempty {}\n";
        let wanted = json!({"settings": {"firstclick": {"priority": "high", "ip": ["192.0.2.25"], "header": {"X-A": "^a$"}, "n": 5, "y": true}},
            "worker": {"normal": {"count": -1}}, "url": "http://x/y", "surbl": [], "empty": {}});
        assert_eq!(Value::Object(parse(text).unwrap()), wanted);
        assert_eq!(Value::Object(parse(&wanted.to_string()).unwrap()), wanted, "JSON is UCL");
        assert_eq!(parse("a = 1; a = 2;").unwrap()["a"], json!([1, 2]));
    }

    #[test]
    fn what_would_have_to_be_carried_out_is_refused() {
        for text in [
            ".include \"x\"",
            "/* \" */ a = 1; /* \" */",
            "/* /* */ a = 1; */",
            "a { .include(try=true) \"x\" }",
            "a = \"${DBDIR}/x\"",
            "a = $X;",
            "a = <<EOD\nx\nEOD",
            "a = b c;",
            "a = 'b'",
            "a {",
            "a = [",
            "a = \"",
            "a",
            "{} x",
            "a = \"\\x\"",
            &"a {".repeat(100),
            &format!("a = {}", "[".repeat(100)),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
