//! The addresses that a link carries in itself: what an open redirector on its host would follow.
//!
//! Path, query and fragment are searched as they stand and undone from percent-encoding, base64 and hexadecimal. What
//! cannot be read with certainty is [`Carried::Odd`]. Linear in the link's length, with a bound on what is undone.

use std::collections::HashSet;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode_str;

use crate::{limits, message::suffix::suffix};

/// Something that a link carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// An address, with its scheme, to be judged as a link. It is as secret as the link.
    Address(String),
    /// A reference on the link's own host, to be judged as a link there.
    Reference(String),
    /// A form that leads somewhere, or hides something, and is no address that can be judged; for people, no secret.
    Odd(String),
}

/// Schemes that make a program do something, or that lead off the web. `mailto`, `tel` and the like lead to no page.
const SCHEMES: [&str; 30] = [
    "http",
    "https",
    "ftp",
    "ftps",
    "sftp",
    "ws",
    "wss",
    "javascript",
    "vbscript",
    "livescript",
    "data",
    "file",
    "blob",
    "filesystem",
    "about",
    "jar",
    "feed",
    "intent",
    "android-app",
    "view-source",
    "smb",
    "ldap",
    "search",
    "search-ms",
    "ms-appinstaller",
    "ms-word",
    "ms-excel",
    "ms-powerpoint",
    "shell",
    "itms-services",
];

/// Names of query fields whose value is a person's address, in lower case and without `-` and `_`; no redirector has a field of
/// such a name.
const PEOPLE: [&str; 12] = [
    "email",
    "mail",
    "emailaddress",
    "useremail",
    "usermail",
    "login",
    "loginhint",
    "username",
    "user",
    "account",
    "recipient",
    "emailhint",
];

/// Whether what stands behind a `%` or `\` is a UTF-16 escape: `u002e`.
fn is_unicode_escape(behind: &str) -> bool {
    let digits = behind.strip_prefix(['u', 'U']).and_then(|digits| digits.get(..4));
    digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether what stands behind a `[` is an IPv6 address.
fn is_ipv6_literal(behind: &str) -> bool {
    behind.split_once(']').is_some_and(|(inside, _)| inside.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Whether a text starts with a number as some programs read an IPv4 address: `3405803783`, `0xcb007109`.
fn is_number(text: &str) -> bool {
    let run = text.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
    let digits = run.strip_prefix("0x").or_else(|| run.strip_prefix("0X")).unwrap_or(run);
    let is_digit = |digit: u8| if digits.len() < run.len() { digit.is_ascii_hexdigit() } else { digit.is_ascii_digit() };
    digits.len() >= 4 && digits.bytes().all(is_digit)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Whether a text starts with, or holds behind anything that is no letter or digit, a scheme with its colon.
pub(super) fn names_scheme(text: &str) -> bool {
    text.match_indices(':').any(|(at, _)| text.get(at + 1..).is_some_and(|rest| rest.starts_with('/')) || scheme_before(text, at).is_some())
}

/// Whether a text names a host: labels and dots before a public suffix, or an IPv4 address; in any case and any form that
/// IDNA maps to one.
pub(super) fn names_host(text: &str) -> bool {
    hosts(text).next().is_some() || text.split('@').skip(1).any(|behind| host_run(behind).trim_matches(dot).contains(dot))
}

/// The known scheme that ends before the colon at `colon`: its start and its name.
fn scheme_before(text: &str, colon: usize) -> Option<(usize, &str)> {
    let before = text.get(..colon)?;
    let run = before.rsplit(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))).next()?;
    // The longest scheme has 15 letters. `xhttps:` is looked at as `https:`: what stands before may be undone to nothing.
    let known = |tail: &&str| SCHEMES.iter().any(|scheme| tail.eq_ignore_ascii_case(scheme));
    let edge = run.char_indices().rev().take(16).filter_map(|(at, _)| {
        let fresh = at == 0 || !run.get(..at)?.ends_with(|letter: char| letter.is_ascii_alphanumeric());
        let tail = run.get(at..)?;
        let certain = tail.len() >= 9 || tail.to_ascii_lowercase().starts_with("http");
        (fresh || certain).then_some(tail).filter(known)
    });
    let scheme = edge.max_by_key(|tail| tail.len())?;
    Some((colon - scheme.len(), scheme))
}

/// Full stops, and what IDNA maps to one.
const fn dot(letter: char) -> bool {
    matches!(letter, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

/// Whether a character can stand in the name of a host, before IDNA maps or drops it.
fn in_host(letter: char) -> bool {
    letter.is_alphanumeric()
        || matches!(letter, '-' | '_' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
        || dot(letter)
        || (!letter.is_ascii() && !letter.is_whitespace() && !letter.is_control())
}

fn host_run(text: &str) -> &str {
    text.find(|letter| !in_host(letter)).map_or(text, |end| text.get(..end).unwrap_or_default())
}

/// Every host that is named: where it starts, and its name.
fn hosts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let start = at + rest.find(in_host)?;
            let run = host_run(text.get(start..)?);
            at = start + run.len();
            let name = run.trim_matches(|letter| dot(letter) || letter == '-');
            if is_host(name) {
                let skipped = run.len() - run.trim_start_matches(|letter| dot(letter) || letter == '-').len();
                return Some((start + skipped, name));
            }
        }
    })
}

/// Whether a run of host characters is a host that the public suffix list or the IPv4 grammar knows.
fn is_host(name: &str) -> bool {
    if !name.contains(dot) {
        return false;
    }
    let ascii = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        match idna::domain_to_ascii(name) {
            Ok(ascii) => ascii,
            // Letters of other scripts around a dot that make no name: prose, or what a laxer program takes for a host.
            Err(_) => return true,
        }
    };
    let labels = || ascii.split('.');
    let is_ipv4 = labels().count() == 4 && labels().all(|label| label.parse::<u8>().is_ok());
    // A name is one that has all its labels, the last of them at home in the list.
    is_ipv4 || (labels().all(|label| !label.is_empty()) && suffix(&ascii).is_some_and(|suffix| suffix.is_known()))
}

/// Searches the parts of a link. `path` is what of it the entry does not spell out.
pub(super) fn search(path: &str, query: Option<&str>, fragment: Option<&str>, readers: &[&str]) -> Vec<Carried> {
    let mut search = Search { readers, found: Vec::new(), seen: HashSet::new(), left: limits::CARRIED };
    search.undo(path, None, 0, 0);
    for text in [query, fragment].into_iter().flatten() {
        for pair in text.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            search.undo(key, None, 0, 0);
            search.undo(value, Some(key), 0, 0);
            // `=` and `?` may belong to an address that is no field's value at all.
            if pair.contains([':', '?']) {
                search.undo(pair, None, 0, 0);
            }
        }
    }
    search.found
}

/// Layers of percent-encoding that are undone.
const PERCENT: u32 = 3;
/// Layers of base64 and hexadecimal that are undone.
const LAYERS: u32 = 2;
/// Characters of the shortest text that base64 could make an address of (`//a.co`), and that hexadecimal could.
const SHORTEST: usize = 8;

struct Search<'r> {
    readers: &'r [&'r str],
    found: Vec<Carried>,
    /// What was searched, so that the same text is not searched twice.
    seen: HashSet<String>,
    /// Octets that may still be searched.
    left: usize,
}

impl Search<'_> {
    /// Searches a text, then what it is undone to.
    fn undo(&mut self, text: &str, key: Option<&str>, percent: u32, layers: u32) {
        if text.is_empty() || !self.seen.insert(text.to_owned()) {
            return;
        }
        match self.left.checked_sub(text.len()) {
            Some(left) => self.left = left,
            None => return self.odd("more layers than are looked into"),
        }
        self.look(text, key);
        if text.contains('%') {
            match percent_decode_str(text).decode_utf8() {
                Ok(undone) if undone == text => {}
                Ok(_) if percent == PERCENT => self.odd("percent-encoding in more than three layers"),
                Ok(undone) => self.undo(&undone, key, percent + 1, layers),
                Err(_) => self.odd("octets that are no text"),
            }
        }
        if layers < LAYERS {
            self.decode(text, layers);
        }
    }

    /// Undoes base64, in both alphabets and from each of the four places at which it may start, and hexadecimal.
    fn decode(&mut self, text: &str, layers: u32) {
        let in_base64 = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '-' | '_');
        for run in text.split(|letter| !in_base64(letter)).filter(|run| run.len() >= SHORTEST) {
            for offset in 0..4 {
                self.decode_base64(run.get(offset..).unwrap_or_default(), layers);
            }
            for part in run.split(['/', '-', '_', '+']).filter(|part| part.len() >= SHORTEST && part.len() < run.len()) {
                self.decode_base64(part, layers);
            }
            for hexadecimal in run.split(|letter: char| !letter.is_ascii_hexdigit()).filter(|run| run.len() >= SHORTEST) {
                for offset in 0..2 {
                    let digits = hexadecimal.as_bytes().get(offset..).unwrap_or_default();
                    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                    let octets: Vec<u8> = digits.chunks_exact(2).filter_map(pair).collect();
                    self.decoded(&octets, layers);
                }
            }
        }
    }

    fn decode_base64(&mut self, run: &str, layers: u32) {
        let mut plain = run.replace('-', "+").replace('_', "/");
        if plain.len() % 4 == 1 {
            plain.pop();
        }
        if let Ok(octets) = BASE64.decode(plain) {
            self.decoded(&octets, layers);
        }
    }

    /// A token decodes to noise: in noise only what cannot be chance counts. What decodes to text is searched as text.
    fn decoded(&mut self, octets: &[u8], layers: u32) {
        let is_noise = |letter: char| letter.is_control() && !matches!(letter, '\t' | '\r' | '\n');
        if let Some(text) = std::str::from_utf8(octets).ok().filter(|text| !text.contains(is_noise)) {
            return self.undo(text, None, 0, layers + 1);
        }
        // UTF-16, either way round: every other octet is zero.
        let narrow: Vec<u8> = octets.iter().copied().filter(|octet| *octet != 0).collect();
        if narrow.len() < octets.len() && octets.len() - narrow.len() >= octets.len() / 2 {
            return self.decoded(&narrow, layers);
        }
        for run in octets.split(|octet| !(b' '..=b'~').contains(octet)).filter(|run| run.len() >= SHORTEST) {
            let Ok(run) = std::str::from_utf8(run) else { continue };
            let lower = run.to_ascii_lowercase();
            if ["://", "http:", "https:", "javascript:"].iter().any(|sign| lower.contains(sign)) {
                self.undo(run, None, 0, layers + 1);
            }
        }
    }

    /// Searches a text as it stands.
    fn look(&mut self, text: &str, key: Option<&str>) {
        if text.contains('\\') {
            self.odd("a backslash");
        }
        if text.chars().any(char::is_control) {
            self.odd("a control character");
        }
        if text.contains(['\u{ff0f}', '\u{ff3c}', '\u{2044}', '\u{2215}']) {
            self.odd("a sign that some programs take for a slash");
        }
        if text.match_indices(['%', '\\']).any(|(at, _)| is_unicode_escape(text.get(at + 1..).unwrap_or_default())) {
            self.odd("an escape that some programs undo");
        }
        if text.match_indices('[').any(|(at, _)| is_ipv6_literal(text.get(at + 1..).unwrap_or_default())) {
            self.odd("an IPv6 address");
        }
        if text.split('@').skip(1).any(is_number) {
            self.odd("a number where a host would stand");
        }
        if key.is_some() && text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\") {
            self.found.push(Carried::Reference(text.to_owned()));
        }
        let climbs = |segment: &str| matches!(segment.split(';').next(), Some(".." | ".")) && (segment.contains(';') || segment == "..");
        if text.split(['/', '\\']).any(climbs) {
            self.odd("a way up, as in \"/..\"");
        }
        for chunk in text.split(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '<' | '>' | '`' | '{' | '}' | '|' | '^')) {
            // The first one: what stands behind it is a part of it, and is judged with it.
            let first = [self.scheme(chunk), slashes(chunk), self.host(chunk, key, text)].into_iter().flatten().min_by_key(|(at, _)| *at);
            if let Some((_, carried)) = first {
                self.found.push(carried);
            }
        }
    }

    /// The first scheme with its colon.
    #[allow(clippy::unused_self, reason = "beside the other two")]
    fn scheme(&self, chunk: &str) -> Option<(usize, Carried)> {
        chunk.match_indices(':').find_map(|(colon, _)| {
            let rest = chunk.get(colon + 1..)?;
            match scheme_before(chunk, colon) {
                Some((start, scheme)) if scheme.to_ascii_lowercase().starts_with("http") => {
                    let rest = rest.trim_start_matches('/');
                    // `https:` with nothing behind it leads nowhere.
                    (!rest.is_empty()).then(|| (start, Carried::Address(format!("{scheme}://{rest}"))))
                }
                Some((start, scheme)) => Some((start, Carried::Odd(format!("{}:", scheme.to_ascii_lowercase())))),
                None if rest.starts_with("//") => Some((0, Carried::Odd("an unknown scheme".into()))),
                None => None,
            }
        })
    }

    /// The first host that is no part of a person's address.
    fn host(&self, chunk: &str, key: Option<&str>, whole: &str) -> Option<(usize, Carried)> {
        let named = hosts(chunk).find(|(start, name)| !self.is_person(chunk, *start, name, key, whole))?;
        let (start, _) = named;
        Some((start, Carried::Address(format!("https://{}", chunk.get(start..)?))))
    }

    /// Whether a host stands behind the `@` of a mail address: the reader's own, or one that is the whole value of a field
    /// with a name like `email`. A mail address anywhere else may be what a redirector puts behind `https://`.
    fn is_person(&self, chunk: &str, start: usize, name: &str, key: Option<&str>, whole: &str) -> bool {
        let is_local = |letter: char| letter.is_ascii_alphanumeric() || "!#$&'*+-._~".contains(letter);
        let Some(before) = chunk.get(..start).and_then(|before| before.strip_suffix('@')) else {
            // `bob.smith@corp.example`: a local part that reads as a host is a part of the address, too.
            let Some(behind) = chunk.get(start + name.len()..).and_then(|behind| behind.strip_prefix('@')) else { return false };
            let host = host_run(behind);
            let local = chunk.get(..start + name.len()).unwrap_or_default();
            let local = local.rsplit(|letter| !is_local(letter)).next().unwrap_or_default();
            return self.is_known_person(&format!("{local}@{host}"), key, whole);
        };
        let local = before.rsplit(|letter| !is_local(letter)).next().unwrap_or_default();
        self.is_known_person(&format!("{local}@{name}"), key, whole)
    }

    fn is_known_person(&self, address: &str, key: Option<&str>, whole: &str) -> bool {
        let names_people = |key: &str| {
            let key: String = key.chars().filter(|letter| !matches!(letter, '-' | '_')).collect::<String>().to_ascii_lowercase();
            PEOPLE.contains(&key.as_str())
        };
        !address.starts_with('@')
            && (self.readers.iter().any(|reader| is_same_mailbox(reader, address))
                || (whole.eq_ignore_ascii_case(address) && key.is_some_and(names_people)))
    }

    fn odd(&mut self, what: &str) {
        let odd = Carried::Odd(what.to_owned());
        if !self.found.contains(&odd) {
            self.found.push(odd);
        }
    }
}

/// Two addresses of one mailbox, in any case of ASCII letters: other scripts' letters are compared as they are.
pub(super) const fn is_same_mailbox(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// The first `//` that a program would read a host behind: at the start of something, or before a name with a dot.
fn slashes(chunk: &str) -> Option<(usize, Carried)> {
    chunk.match_indices("//").find_map(|(at, _)| {
        let before = chunk.get(..at)?.chars().next_back();
        if before == Some('/') {
            // The middle of a row of slashes, whose start was looked at.
            return None;
        }
        let rest = chunk.get(at..)?.trim_start_matches('/');
        let starts = before.is_none_or(|letter| !(letter.is_alphanumeric() || matches!(letter, '.' | '_' | '~' | '-')));
        let authority = rest.split(['/', '?', '#', '&']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let leads =
            host.contains(|letter| dot(letter) || letter == '[') || (!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()));
        ((starts && !authority.is_empty()) || leads).then(|| (at, Carried::Address(format!("https://{rest}"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried() {
        let found = |query: &str| {
            let mut found = search("", Some(query), None, &["bob@corp.example"]);
            found.dedup();
            found
        };
        let address = |text: &str| vec![Carried::Address(text.into())];
        assert_eq!(found("u=attack.com/a"), address("https://attack.com/a"));
        assert_eq!(found("u=HTTPS:attack.test"), address("HTTPS://attack.test"));
        assert_eq!(found("u=%2F%2Fattack.test"), address("https://attack.test"));
        assert_eq!(found("u=javascript:x"), [Carried::Odd("javascript:".into())]);
        assert_eq!(found("u=bob@corp.example&v=metadata:1&w=12:30:00&email=eve@attack.com"), []);
        assert_eq!(found("u=eve@attack.com"), address("https://attack.com"));
        // Octets that are nothing, in few and in many zeros, end.
        for octets in [&[0xff_u8, 0, 0][..], &[0xff], &[0], &[], &[0xff, 0, 0xfe, 0, 0xfd, 0]] {
            let mut search = Search { readers: &[], found: Vec::new(), seen: HashSet::new(), left: 1_000 };
            search.decoded(octets, 0);
            assert!(search.found.len() <= 1, "{octets:?}");
        }
    }

    #[test]
    fn hosts_in_text() {
        for host in [
            "attack.com",
            "x ATTACK.co.uk!",
            "a@b.test",
            "(203.0.113.7)",
            "attack。com",
            "ａttack.com",
            "at\u{ad}tack.com",
            "..attack.com..",
        ] {
            assert!(names_host(host), "{host}");
        }
        for none in ["", "attack", "index.html", "1.2.3", "5.2.1", "a. com", "Corp, Inc.", "@bob", "e.g. this"] {
            assert!(!names_host(none), "{none}");
        }
    }
}
