//! `[tag]`: the header that the scanner's rule looks for, its tokens and its keys.

use std::{io, path::PathBuf};

use super::{
    Advice, Problems, Severity, SourceSpan,
    keys::{File, Text},
    layers::Layers,
    schema::Found,
};
use crate::edit::{
    tag::{Key, Tagger},
    token::{Token, TokenLine},
};

/// The compiled section `[tag]`.
#[derive(Clone, Debug)]
pub struct Tag {
    /// The name of the tag's header.
    pub header: String,
    /// The tokens, the newest first, which is the one that is written.
    pub tokens: Vec<Token>,
    /// The tokens that no mail carries yet, for the scanner's rule to learn.
    pub staged: Vec<Token>,
    /// The keys of the signature, the newest first, which signs; all verify.
    pub keys: Vec<Key>,
}

impl Tag {
    /// The tagger of a hop with this domain name.
    #[must_use]
    pub fn tagger(&self, hostname: &str) -> Tagger {
        Tagger {
            header: self.header.clone(),
            tokens: self.tokens.clone(),
            staged: self.staged.clone(),
            keys: self.keys.clone(),
            authserv_id: hostname.to_owned(),
        }
    }
}

/// Compiles the section; none where it is not there, or where its header has a mistake.
pub(super) fn compile(file: &mut Layers<'_>, warnings: &mut Vec<Advice>, problems: &mut Problems) -> Option<Tag> {
    let header = file.take(const { Text::of("tag.header") }, problems);
    let token_file = file.take(const { File::of("tag.token_file") }, problems);
    let key_file = file.take(const { File::of("tag.key_file") }, problems);
    if !file.has("tag") {
        return None;
    }
    let place = file.place("tag");
    let is_name = |text: &String| {
        (1..=60).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && text.to_ascii_lowercase().starts_with("x-")
    };
    let allowed = "a header name that starts with X-, of letters, digits and hyphens";
    let header = header.map_or_else(
        || Some("X-Firstclick".to_owned()),
        |found| found.parse(problems, allowed, |text| is_name(text).then(|| text.clone())),
    );
    let secrets = [
        (token_file, "tag.token_file", "`firstclick keygen --token --out FILE` writes one"),
        (key_file, "tag.key_file", "`firstclick keygen --out FILE` writes one"),
    ];
    let [tokens, keys] = secrets.map(|(found, key, how)| lines(found, &place, key, how, problems));
    let (tokens, staged) = sorted(tokens, warnings, problems);
    let keys = parse(keys, "tag.key_file", problems);
    Some(Tag { header: header?, tokens, staged, keys })
}

/// The tokens that are or were written, and those that are staged. What a secret file holds is never repeated in a message.
fn sorted(lines: Vec<(SourceSpan, String)>, warnings: &mut Vec<Advice>, problems: &mut Problems) -> (Vec<Token>, Vec<Token>) {
    let (mut tokens, mut staged) = (Vec::new(), Vec::new());
    for (place, line) in lines {
        let (token, list) = match TokenLine::parse(&line) {
            Some(TokenLine::Known(token)) => (token, &mut tokens),
            Some(TokenLine::Staged(token)) => (token, &mut staged),
            Some(TokenLine::Aside(_)) => continue,
            None if Key::parse(&line).is_some() => {
                problems.add(place, TOKENS, "this is a key, and every mail would carry it; name the file of tokens");
                continue;
            }
            None => {
                let expected = "expected a token of 8 to 63 letters, digits, hyphens and underscores on each line, the newest first, \
                                or `next` and a token that is not to be written yet";
                problems.add(place, TOKENS, expected);
                continue;
            }
        };
        if !token.is_one_word() {
            let what = "Exchange compares whole words and no case, and takes this token as several; rotate to one of lower-case letters \
                        and digits: `firstclick keygen --token --stage --out FILE`";
            warnings.push(Advice::new(Severity::Warning, place, TOKENS, what));
        }
        list.push(token);
    }
    (tokens, staged)
}

/// The key that names the file of tokens.
const TOKENS: &str = "tag.token_file";

/// The lines of a file that are not empty, with their positions.
fn lines(found: Option<Found<PathBuf>>, section: &SourceSpan, key: &str, how: &str, problems: &mut Problems) -> Vec<(SourceSpan, String)> {
    let Some(found) = found else {
        problems.add_missing(section.clone(), key, format!("missing; {how}"));
        return Vec::new();
    };
    let path = found.value;
    let text = super::files::text(&path).unwrap_or_else(|error| {
        // A file that is closed is no reason for a new secret, which would put one that scanners know out of force.
        let how = if error.kind() == io::ErrorKind::NotFound { format!("; {how}") } else { String::new() };
        let what = format!("{} cannot be read: {error}{how}", path.display());
        problems.add_unusable(found.place, found.key, what, super::files::remedy(&path, &error));
        String::new()
    });
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let place = |at: usize| SourceSpan { source: path.display().to_string(), at: Some((at + 1, 1)) };
    numbered.map(|(at, line)| (place(at), line.trim().to_owned())).collect()
}

fn parse(lines: Vec<(SourceSpan, String)>, key: &str, problems: &mut Problems) -> Vec<Key> {
    let mut parsed = Vec::new();
    for (place, line) in lines {
        match Key::parse(&line) {
            Some(one) => parsed.push(one),
            None => problems.add(place, key, no_key(&line)),
        }
    }
    parsed
}

/// What a line of a file of keys is that is no key. It is a secret all the same, and not repeated.
pub(super) fn no_key(line: &str) -> &'static str {
    // No key has these two marks, and none starts as `keygen`'s tokens do but by chance.
    let is_token = |token: &Token| token.is_drawn() || token.expose().contains(['-', '_']);
    match TokenLine::parse(line) {
        Some(TokenLine::Known(token) | TokenLine::Staged(token)) if is_token(&token) => {
            "this is a token, and the file is one of tokens (tag.token_file); name the file of keys: `firstclick keygen --out FILE` writes one"
        }
        _ => "expected 32 octets in base64 on each line, the newest first",
    }
}
