//! Whether a one-time link still stands somewhere after all of them were replaced.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use url::Url;

use super::layer::percent_decoded;
use crate::message::link::is_word;

/// The values that make a link work once, as far as the link alone tells: what stands under a name such as `token`, the last
/// long piece of the path that is no word, and the longest piece of all. A UUID counts only where there is nothing else, and
/// then the last one, because workspaces and people have UUIDs too, and their names stand in other links. Empty for a link
/// whose pieces are all short: such a link is looked for as a whole only.
#[must_use]
pub fn tokens(link: &str) -> Vec<String> {
    let Ok(url) = Url::parse(link) else { return Vec::new() };
    let fields = [url.query(), url.fragment()].into_iter().flatten().flat_map(|query| query.split(['&', '?', '/', ';']));
    let path = url.path().split(['/', ';']).map(|piece| (Standing::Path, piece));
    let pieces = path.chain(fields.map(|field| match field.split_once('=') {
        Some((name, value)) if NAMES.contains(&name.to_ascii_lowercase().as_str()) => (Standing::Named, value),
        Some((_, value)) => (Standing::Field, value),
        None => (Standing::Field, field),
    }));
    let values: Vec<(Standing, String)> = pieces
        .map(|(standing, piece)| {
            let read = percent_decoded(piece.as_bytes()).and_then(|read| String::from_utf8(read).ok());
            (standing, read.unwrap_or_else(|| piece.to_owned()))
        })
        .filter(|(_, value)| value.len() >= SHORTEST && value.is_ascii() && !value.contains(['@', '/', ' ']) && !is_word(value))
        .collect();
    let strong: Vec<&(Standing, String)> = values.iter().filter(|(_, value)| !is_uuid(value)).collect();
    let longest = strong.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let last = strong.iter().rfind(|(standing, value)| *standing == Standing::Path && value.len() >= LONG);
    let named = values.iter().filter(|(standing, _)| *standing == Standing::Named);
    let long = strong.iter().filter(|(_, value)| value.len() == longest).copied();
    let mut found: Vec<String> = named.chain(long).chain(last.copied()).map(|(_, value)| value.clone()).collect();
    if found.is_empty() {
        found.extend(values.last().map(|(_, value)| value.clone()));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Where in a link a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Path,
    /// In the query or the fragment.
    Field,
    /// The same, under a name of [`NAMES`].
    Named,
}

/// Names that services give what works once, in small letters.
const NAMES: [&str; 24] = [
    "token",
    "t",
    "code",
    "c",
    "key",
    "k",
    "hash",
    "h",
    "sig",
    "signature",
    "s",
    "secret",
    "otp",
    "ticket",
    "nonce",
    "jwt",
    "confirmation_token",
    "reset_password_token",
    "invitation_token",
    "invite",
    "activation_key",
    "oobcode",
    "token_hash",
    "magic",
];

fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value
            .bytes()
            .enumerate()
            .all(|(at, octet)| if matches!(at, 8 | 13 | 18 | 23) { octet == b'-' } else { octet.is_ascii_hexdigit() })
}

/// Octets of the shortest value that is told apart from words and numbers: `{token}` of a shape has as many.
const SHORTEST: usize = 8;
/// Octets from which on the last piece of a path counts beside a longer one.
const LONG: usize = 16;
/// How often percent-encoding is undone: a link in a link in a link.
const DEEPEST: usize = 3;

/// The texts that must not be left of the replaced links.
pub(super) struct Bare {
    /// The links as they stood in the mail.
    links: AhoCorasick,
    /// The values in them that work once.
    tokens: AhoCorasick,
}

impl Bare {
    pub(super) fn of<'t>(links: impl Iterator<Item = &'t str>, tokens: impl Iterator<Item = &'t str>) -> Option<Self> {
        let search = |texts: Vec<&str>| AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(texts).ok();
        Some(Self { links: search(links.collect())?, tokens: search(tokens.filter(|token| token.len() >= SHORTEST).collect())? })
    }

    /// Whether a link, or its value in anything that looks like an address, stands in a text as it reads: as it is, or with
    /// its percent-encoding undone once, twice or three times.
    pub(super) fn stands_in(&self, text: &[u8]) -> bool {
        let mut decoded = None;
        for _ in 0..=DEEPEST {
            let text = decoded.as_deref().unwrap_or(text);
            if self.links.is_match(text) || text.split(|octet| is_edge(*octet)).any(|run| is_address(run) && self.tokens.is_match(run)) {
                return true;
            }
            match percent_decoded(text) {
                Some(next) => decoded = Some(next),
                None => return false,
            }
        }
        false
    }
}

fn is_edge(octet: u8) -> bool {
    octet <= b' ' || b"<>\"'`".contains(&octet)
}

/// Whether a run of letters could be opened: it has a scheme, `//`, `www.`, or a name with a path.
fn is_address(run: &[u8]) -> bool {
    memchr::memmem::find(run, b"//").is_some()
        || memchr::memrchr(b'/', run).is_some_and(|slash| memchr::memchr(b'.', run.get(..slash).unwrap_or_default()).is_some())
        || run.len() > 4 && run.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"www."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_link() {
        for (link, values) in [
            ("https://a.test/reset/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3?utm_source=tx", &["c1a9d03b7e5f2846a0b9c8d7e6f5a4b3"][..]),
            ("https://a.test/wp-login.php?action=rp&key=Xk29LmQz81PwVt7RbYcD&login=bob", &["Xk29LmQz81PwVt7RbYcD"]),
            ("https://a.test/r?t=a%2Bb%3D9Zk3bq81mX", &["a+b=9Zk3bq81mX"]),
            ("https://a.test/#/verify/Xk29LmQz81PwVt7RbYcD", &["Xk29LmQz81PwVt7RbYcD"]),
            ("https://a.test/org/short/invite?code=123456", &[]),
            ("https://a.test/help/getting-started", &[]),
            ("https://a.test/t/0198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21/invite/Xk29LmQz81PwVt7RbYcD", &["Xk29LmQz81PwVt7RbYcD"]),
            (
                "https://a.test/t/0198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21/invite/1198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21",
                &["1198c1d2-4f1e-7c3a-9b8d-2f6e5a4c3b21"],
            ),
            ("https://a.test/r?u=Ym9iQGNvcnAuZXhhbXBsZS5jb20&t=c1a9d03b7e5f28", &["Ym9iQGNvcnAuZXhhbXBsZS5jb20", "c1a9d03b7e5f28"]),
            ("https://a.test/r/Ym9iQGNvcnAuZXhhbXBsZS5jb20/c1a9d03b7e5f2846/yes", &["Ym9iQGNvcnAuZXhhbXBsZS5jb20", "c1a9d03b7e5f2846"]),
        ] {
            assert_eq!(tokens(link), values, "{link}");
        }
    }

    #[test]
    fn a_value_in_an_address_is_a_link() {
        let token = "Xk29LmQz81PwVt7RbYcD";
        let bare = Bare::of(std::iter::empty(), std::iter::once(token)).unwrap();
        for text in [
            format!("see https://a.test/r/{token}?utm=1."),
            format!("<a href=\"//a.test/{token}\">"),
            format!("a.test/r/{token}"),
            format!("{{\"url\":\"https:\\/\\/a.test\\/r\\/{token}\"}}"),
            format!("https://t.test/c?u=https%3A%2F%2Fa.test%2Fr%2F{token}"),
            format!("https://t.test/c?u=https%253A%252F%252Fa.test%252Fr%252F{}", token.replace('X', "%2558")),
        ] {
            assert!(bare.stands_in(text.as_bytes()), "{text}");
        }
        for text in [format!("or type this code: {token}"), "https://a.test/r/".to_owned(), String::new()] {
            assert!(!bare.stands_in(text.as_bytes()), "{text}");
        }
    }
}
