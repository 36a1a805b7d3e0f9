//! Where the links of an exempted mail may point.

use std::fmt;

use url::Url;

use super::entry::HostPattern;
use crate::message::{DomainError, Link, Target};

/// `[SCHEME://]HOST[:PORT][/PATH][?QUERY]`, where HOST may start with `*.` and `*` in path and query stands for any
/// characters. Without a scheme https is meant; without a path any path; without a query any query that carries no
/// address of another site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPattern {
    scheme: Scheme,
    host: HostPattern,
    port: Option<u16>,
    path: Option<String>,
    query: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

/// Why a text is no [`LinkPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkPatternError {
    /// The host is missing or no domain.
    #[error("the host is not a domain name, or a domain name behind \"*.\"")]
    Host,
    /// The port is no number.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// The scheme is neither http nor https.
    #[error("the scheme must be https (the default) or http")]
    Scheme,
}

impl From<DomainError> for LinkPatternError {
    fn from(_: DomainError) -> Self {
        Self::Host
    }
}

impl LinkPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, LinkPatternError> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) => return Err(LinkPatternError::Scheme),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query.to_owned())));
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(format!("/{path}"))));
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or(LinkPatternError::Port)).transpose()?;
        Ok(Self { scheme, host: HostPattern::parse(host)?, port, path, query })
    }

    /// Whether a link matches.
    #[must_use]
    pub fn matches(&self, link: &Link) -> bool {
        let url = link.url();
        self.matches_place(link) && self.query.as_ref().is_none_or(|query| glob(query, url.query().unwrap_or_default()))
    }

    fn matches_place(&self, link: &Link) -> bool {
        let url = link.url();
        let scheme = match self.scheme {
            Scheme::Https => url.scheme() == "https",
            Scheme::Http => url.scheme() == "http",
        };
        scheme
            && url.port() == self.port
            && link.host().is_some_and(|host| self.host.matches(&host))
            && self.path.as_ref().is_none_or(|path| glob(path, url.path()))
    }

    /// The same pattern for links that only need to be harmless: http counts where https is meant.
    fn matches_either_scheme(&self, link: &Link) -> bool {
        self.matches(link) || (self.scheme == Scheme::Https && Self { scheme: Scheme::Http, ..self.clone() }.matches(link))
    }

    /// The hosts.
    #[must_use]
    pub const fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Whether any path of the hosts matches.
    #[must_use]
    pub fn is_whole_host(&self) -> bool {
        self.path
            .as_ref()
            .is_none_or(|path| path.strip_prefix('/').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte == b'*')))
    }
}

impl fmt::Display for LinkPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme == Scheme::Http {
            f.write_str("http://")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path.as_deref().unwrap_or_default())?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// Why a link is not where it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    /// No pattern matches.
    Unlisted,
    /// A pattern matches, but the link carries the address of another site.
    Redirects,
}

/// Judges the one-time link.
pub(super) fn judge_one_time(link: &Link, links: &[LinkPattern], others: &[LinkPattern]) -> Result<(), Stray> {
    let pattern = links.iter().find(|pattern| pattern.matches(link)).ok_or(Stray::Unlisted)?;
    judge_carried(link, pattern, links, others)
}

/// Judges any other link: it may be where the one-time link may be, too.
pub(super) fn judge_other(link: &Link, links: &[LinkPattern], others: &[LinkPattern]) -> Result<(), Stray> {
    let listed =
        others.iter().find(|pattern| pattern.matches_either_scheme(link)).or_else(|| links.iter().find(|pattern| pattern.matches(link)));
    judge_carried(link, listed.ok_or(Stray::Unlisted)?, links, others)
}

/// An allowed host that redirects: an address inside the link must itself be allowed, unless the pattern spells out
/// the query that holds it.
fn judge_carried(link: &Link, pattern: &LinkPattern, links: &[LinkPattern], others: &[LinkPattern]) -> Result<(), Stray> {
    let url = link.url();
    let spelled_out = pattern.query.is_some();
    let fragment = url.fragment().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned()).filter(|_| !spelled_out);
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    for piece in query.chain(fragment).chain(path) {
        for address in carried(&piece) {
            let allowed = match Target::read(&address) {
                Target::Web(inner) => links.iter().chain(others).any(|pattern| pattern.host.matches_host_of(&inner)),
                Target::Harmless => true,
                Target::Flawed(_) => false,
            };
            if !allowed {
                return Err(Stray::Redirects);
            }
        }
    }
    Ok(())
}

impl HostPattern {
    fn matches_host_of(&self, link: &Link) -> bool {
        link.host().is_some_and(|host| self.matches(&host))
    }
}

/// The addresses that a piece of a link holds, percent-encoding undone up to twice.
fn carried(piece: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut text = piece.to_owned();
    for _ in 0..3 {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = lower.find("http:").or_else(|| lower.find("https:")) {
            found.push(text.get(at..).unwrap_or_default().to_owned());
        } else if text.starts_with("//") || text.starts_with("\\\\") || text.starts_with("/\\") {
            found.push(format!("https:{text}"));
        }
        let Ok(decoded) = Url::parse(&format!("x:?v={text}")) else { break };
        let Some((_, next)) = decoded.query_pairs().next() else { break };
        if next == text {
            break;
        }
        text = next.into_owned();
    }
    found
}

/// Matches text against a pattern in which `*` stands for any characters. Linear in the text for each star.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(address: &str) -> Link {
        let Target::Web(link) = Target::read(address) else { panic!("{address}") };
        link
    }

    fn patterns(texts: &[&str]) -> Vec<LinkPattern> {
        texts.iter().map(|text| LinkPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn path_globs_decide() {
        let links = patterns(&["login.bank.test/reset/*", "*.my.bank.test/secur/forgot.jsp"]);
        let one = |address| judge_one_time(&link(address), &links, &[]);
        assert_eq!(one("https://login.bank.test/reset/abc?lang=en"), Ok(()));
        assert_eq!(one("https://corp--uat.my.bank.test/secur/forgot.jsp?c=1"), Ok(()));
        for stray in [
            "https://login.bank.test/redirect?u=x",
            "http://login.bank.test/reset/abc",
            "https://login.bank.test:8443/reset/abc",
            "https://login.bank.test.attack.test/reset/abc",
            "https://xlogin.bank.test/reset/abc",
            "https://my.bank.test/secur/forgot.jsp",
            "https://login.bank.test/resets",
            "https://login.bank.test/x/../redirect",
        ] {
            assert_eq!(one(stray), Err(Stray::Unlisted), "{stray}");
        }
    }

    #[test]
    fn an_address_inside_must_be_allowed() {
        let links = patterns(&["login.bank.test/reset/*"]);
        let others = patterns(&["*.bank.test"]);
        let one = |address| judge_one_time(&link(address), &links, &others);
        assert_eq!(one("https://login.bank.test/reset/a?next=https%3A%2F%2Fapp.bank.test%2F"), Ok(()));
        for stray in [
            "https://login.bank.test/reset/a?u=https://attack.test",
            "https://login.bank.test/reset/a?next=//attack.test",
            "https://login.bank.test/reset/a#https://attack.test",
            "https://login.bank.test/reset/a?u=https%253A%252F%252Fattack.test",
            "https://login.bank.test/reset/https:%2F%2Fattack.test",
            "https://login.bank.test/reset/a?u=%5C%5Cattack.test",
        ] {
            assert_eq!(one(stray), Err(Stray::Redirects), "{stray}");
        }
        assert_eq!(judge_other(&link("http://www.bank.test/"), &links, &others), Ok(()));
        assert_eq!(judge_other(&link("http://www.attack.test/"), &links, &others), Err(Stray::Unlisted));
        let spelled = patterns(&["login.bank.test/reset/*?u=*"]);
        assert_eq!(judge_one_time(&link("https://login.bank.test/reset/a?u=https://attack.test"), &spelled, &[]), Ok(()));
    }

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/a", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("*", "", true),
            ("/*/x", "/a/b/x", true),
            ("/*/x/*", "/a/x", false),
            ("/a*a", "/a", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
