//! Links by the page that a browser would open.
//!
//! A link is judged by the host that a browser would visit (WHATWG URL); one whose host reads differently as written
//! is a [`Flaw`]. A link is also a secret: whoever has it is the reader, so nothing here prints more than its shape.

use std::fmt;

use url::{Host, Url};

use super::{Domain, suffix};
use crate::limits;
use crate::mail::Flaw;

/// A link as a browser would open it. Its `Debug` and `Display` show scheme, host and shape, never the token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Link {
    written: String,
    url: Url,
}

/// An address in a mail, by where it leads.
#[derive(Debug)]
pub enum Target {
    /// An http or https link.
    Web(Link),
    /// Something that leads nowhere outside of the mail or the phone: `#top`, `mailto:`, `tel:`, `cid:`.
    Harmless,
    /// Something that no two programs need to agree on.
    Flawed(Flaw),
}

impl Target {
    /// Reads an address after entities were decoded.
    #[must_use]
    pub fn read(address: &str) -> Self {
        let trimmed = address.trim_matches([' ', '\t', '\r', '\n', '\x0c']);
        // Senders leave the scheme alone where a template had no address.
        let is_bare_scheme = ["http://", "https://"].iter().any(|scheme| trimmed.eq_ignore_ascii_case(scheme));
        if trimmed.is_empty() || trimmed.starts_with('#') || is_bare_scheme {
            return Self::Harmless;
        }
        if trimmed.len() > limits::LINK {
            return Self::Flawed(Flaw::LinkLimit);
        }
        let Ok(url) = Url::parse(trimmed) else {
            return Self::Flawed(Flaw::LinkAmbiguous);
        };
        match url.scheme() {
            "http" | "https" => {}
            "mailto" | "tel" | "sms" | "cid" | "mid" | "callto" | "geo" => return Self::Harmless,
            "javascript" | "data" | "vbscript" | "file" | "blob" => return Self::Flawed(Flaw::HtmlActive),
            _ => return Self::Flawed(Flaw::LinkAmbiguous),
        }
        if !reads_one_way(trimmed, &url) {
            return Self::Flawed(Flaw::LinkAmbiguous);
        }
        Self::Web(Link { written: trimmed.to_owned(), url })
    }
}

/// Whether the authority as written is, but for its case, the authority that a browser visits.
fn reads_one_way(written: &str, url: &Url) -> bool {
    let Some((_, rest)) = written.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    let expected = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    // Trend Micro writes the port that goes without saying.
    let usual = url.port().is_none().then(|| url.port_or_known_default()).flatten();
    (authority.eq_ignore_ascii_case(&expected) || usual.is_some_and(|port| authority.eq_ignore_ascii_case(&format!("{host}:{port}"))))
        && !host.ends_with('.')
        && !host.is_empty()
        && (!host.contains('_') || !suffix::registered(host).unwrap_or(host).contains('_'))
        && !host.starts_with(['-', '_'])
        && !["-.", ".-", ".."].iter().any(|pair| host.contains(pair))
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
        && !written.bytes().any(|byte| byte <= b' ' || byte == b'\\' || byte == 0x7f)
        && url.username().is_empty()
        && url.password().is_none()
}

impl Link {
    /// The link as written in the mail, entities decoded. This is the secret: show it to the mail's reader only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.written
    }

    /// The parsed form. Its path and query are the secret too.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The host, where it is a domain and no address.
    #[must_use]
    pub fn host(&self) -> Option<Domain> {
        match self.url.host()? {
            Host::Domain(name) => Domain::parse(name).ok(),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// A pattern for an allowlist entry that would take this link and its like: host and the path's words, `*` for what is
    /// no word. No part of the secret is in it.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut out = if self.url.scheme() == "http" { "http://".to_owned() } else { String::new() };
        out.push_str(self.url.host_str().unwrap_or_default());
        if let Some(port) = self.url.port() {
            out.push_str(&format!(":{port}"));
        }
        for segment in self.url.path_segments().into_iter().flatten() {
            out.push('/');
            if !is_word(segment) {
                // Text behind a token is replaced as a whole.
                out.push('*');
                break;
            }
            out.push_str(segment);
        }
        out
    }

    /// The link without its secrets: scheme, host, path words that are plain words, and for everything else its
    /// length, as in `https://login.bank.test/reset/{32}?c={88}&lang={5}`.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut out = format!("{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default());
        if let Some(port) = self.url.port() {
            out.push_str(&format!(":{port}"));
        }
        for segment in self.url.path_segments().into_iter().flatten() {
            out.push('/');
            out.push_str(&shape(segment));
        }
        let query = self.url.query().unwrap_or_default();
        for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            out.push(if at == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((name, value)) => out.push_str(&format!("{}={{{}}}", shape(name), value.len())),
                None => out.push_str(&shape(pair)),
            }
        }
        if let Some(fragment) = self.url.fragment() {
            out.push_str(&format!("#{{{}}}", fragment.len()));
        }
        out
    }
}

/// A path segment if it is a plain word (`forgotpassword.jsp`, `reset-password`), else its length. A token of letters
/// only is at least 16 long and has no vowels where words have them, or mixes case.
fn shape(segment: &str) -> String {
    if is_word(segment) { segment.to_owned() } else { format!("{{{}}}", segment.len()) }
}

/// Whether a piece of a link is made of dictionary-like words: one case, short runs, and one short piece with a digit at
/// most, as a version has. A token in groups of three is none.
#[must_use]
pub fn is_word(segment: &str) -> bool {
    let is_plain = |piece: &str| {
        let lower_tail = piece.bytes().skip(1).filter(u8::is_ascii_uppercase).count();
        let vowels = piece.bytes().filter(|byte| b"aeiouyAEIOUY".contains(byte)).count();
        piece.bytes().all(|byte| byte.is_ascii_alphabetic())
            && piece.len() <= 18
            && lower_tail <= 3
            && (vowels * 6 >= piece.len() || piece.len() <= 3)
    };
    let is_version = |piece: &str| piece.len() <= 3 && piece.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let pieces = || segment.split(['-', '_', '.']);
    segment.len() <= 40
        && (segment.is_empty() || pieces().filter(|piece| piece.is_empty()).count() <= 1)
        && pieces().all(|piece| is_plain(piece) || is_version(piece))
        && pieces().filter(|piece| !is_plain(piece)).count() <= 1
        && pieces().filter(|piece| !piece.is_empty() && piece.len() <= 3).count() <= 3
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(address: &str) -> Link {
        match Target::read(address) {
            Target::Web(link) => link,
            other => panic!("{address}: {other:?}"),
        }
    }

    #[test]
    fn host_as_the_browser_sees_it() {
        assert_eq!(web("https://LOGIN.bank.test/a").host().unwrap().as_str(), "login.bank.test");
        assert_eq!(web("https://login.bank.test.attack.test/").host().unwrap().as_str(), "login.bank.test.attack.test");
        for odd in [
            "https://login.bank.test@attack.test/",
            "https:/\\attack.test",
            "//attack.test",
            "https:\\\\login.bank.test/",
            "https:login.bank.test",
            "https://login.bank.test\\.attack.test/",
            "https://login%2ebank.test/",
            "https://ba\u{ad}nk.test/",
            "https://bank。test/",
            "https://bank.test./",
            "ht\ttps://bank.test/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://bank.test,attack.test/",
            "https://bank.test)attack.test/",
            "/reset/abc",
            "http:///",
            "http://?",
            "https:",
            "*|ARCHIVE|*",
        ] {
            assert!(matches!(Target::read(odd), Target::Flawed(Flaw::LinkAmbiguous)), "{odd}");
        }
        for active in ["javascript:alert(1)", "data:text/html,x", " JavaScript:x"] {
            assert!(matches!(Target::read(active), Target::Flawed(Flaw::HtmlActive)), "{active}");
        }
        for harmless in ["#", "", "mailto:a@b", "tel:+1", "cid:logo", "http://", " HTTPS://\n"] {
            assert!(matches!(Target::read(harmless), Target::Harmless), "{harmless}");
        }
        assert!(matches!(Target::read(&format!("https://a.test/{}", "x".repeat(9_000))), Target::Flawed(Flaw::LinkLimit)));
    }

    #[test]
    fn a_pattern_for_its_like() {
        for (address, pattern) in [
            ("https://login.vendor.test/v2/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a/x", "login.vendor.test/v2/reset/*"),
            ("https://a.test:8443/secur/forgotpassword.jsp?r=3CxKdmWmK2eGyDk9d5zIZQ4u", "a.test:8443/secur/forgotpassword.jsp"),
            ("http://a.test/", "http://a.test/"),
        ] {
            assert_eq!(web(address).pattern(), pattern);
        }
    }

    #[test]
    fn a_port_that_goes_without_saying() {
        for (address, host) in [
            ("https://ddec1-0-en-ctp.trendmicro.com:443/wis/clicktime/v1/query?url=x", "ddec1-0-en-ctp.trendmicro.com"),
            ("http://a.test:80/x", "a.test"),
        ] {
            let link = web(address);
            assert_eq!((link.url().host_str(), link.url().port()), (Some(host), None));
        }
        for odd in ["https://a.test:0443/", "https://a.test:/", "https://a.test:443:443/"] {
            assert!(matches!(Target::read(odd), Target::Flawed(_)), "{odd}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let link = web("https://login.salesforce.com/secur/forgotpassword.jsp?r=3CxKdmWmK2eGyDk9d5zIZQ4u&lang=en_US");
        assert_eq!(format!("{link}"), "https://login.salesforce.com/secur/forgotpassword.jsp?r={24}&lang={5}");
        assert_eq!(format!("{link:?}"), format!("Link({link})"));
        for secret in [
            "0123456789abcdef",
            "bcdfghjklmnpqrst",
            "AbCdEfGhIjKlMnOp",
            "skcqvd-6aa17fd14fd5a2eb",
            "a1b-c2d-e3f-g4h-i5j",
            "abc-def-ghi-jkl-mno",
            "ogdvbzxtqwrtplkjhg",
        ] {
            assert!(!web(&format!("https://a.test/reset/{secret}/")).redacted().contains(secret), "{secret}");
        }
    }
}
