//! Links as scanners wrap them, and what they hide.
//!
//! Pure. A wrapper is known by its host, which is compared by labels, so that a look-alike is none. Two scanners stand on
//! their customers' hosts and are known by a form that no other link has (Fortinet's `fewReq`, Mailinblack's `key`): whoever
//! forges it gains nothing, because what is judged is what takes the link's place in the mail. Some vendors carry the
//! original in the link; of others only they know it.

mod hidden;
mod wrappers;

use url::Url;

use self::wrappers::{Hiding, WRAPPERS, Wrapper};

/// What a link turns out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwrapped {
    /// No scanner that is known here wrote it.
    NotWrapped,
    /// What it hides, and who wrapped it, the outermost first.
    Original {
        /// The link. A secret, as every link.
        link: String,
        /// The scanners.
        by: Vec<&'static str>,
    },
    /// Only the vendor knows.
    Opaque {
        /// The scanners, the last of them the one that knows.
        by: Vec<&'static str>,
        /// The original's host, where the link says at least that.
        host: Option<String>,
    },
    /// It has a wrapper's host and nothing readable in it.
    Broken {
        /// The scanners, the last of them the one whose link does not read.
        by: Vec<&'static str>,
    },
}

/// Undoes what scanners did to a link, one after another.
#[must_use]
pub fn unwrap(link: &str) -> Unwrapped {
    let mut by = Vec::new();
    let mut link = link.trim().to_owned();
    while by.len() < DEEPEST {
        let Some((wrapper, url)) = wrapper(&link) else {
            return if by.is_empty() { Unwrapped::NotWrapped } else { Unwrapped::Original { link, by } };
        };
        by.push(wrapper.name);
        match hidden::original(&link, &url, wrapper.hiding) {
            Some(inner) if is_web(&inner) => link = inner,
            None if matches!(wrapper.hiding, Hiding::Nowhere | Hiding::HostOnly | Hiding::FieldOrNowhere(_) | Hiding::OpenField(_)) => {
                return Unwrapped::Opaque { by, host: hidden::host(&url, wrapper.hiding) };
            }
            _ => return Unwrapped::Broken { by },
        }
    }
    Unwrapped::Broken { by }
}

/// The same in words: pairs of a name and a text.
#[must_use]
pub fn told(link: &str) -> Vec<(String, String)> {
    let by_names = |by: &[&str]| ("Wrapped by".to_owned(), by.join(", then "));
    match unwrap(link) {
        Unwrapped::NotWrapped => vec![("Result".into(), "no scanner that is known here wrote this link".into())],
        Unwrapped::Original { link, by } => {
            let host = Url::parse(&link).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
            vec![by_names(&by), ("Original".into(), link), ("Its host".into(), host)]
        }
        Unwrapped::Opaque { by, host } => {
            let mut lines = vec![by_names(&by), ("Result".into(), "the original is not in the link; only the vendor knows it".into())];
            lines.extend(host.map(|host| ("Its host, as the link says".into(), host)));
            lines
        }
        Unwrapped::Broken { by } => vec![by_names(&by), ("Result".into(), "the link is cut or changed: no original can be read".into())],
    }
}

/// Whether a browser would visit it, and where it says: no name in front of the host, nothing that cannot be seen.
fn is_web(link: &str) -> bool {
    let plain = Url::parse(link).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && url.username().is_empty() && url.password().is_none()
    });
    plain && !link.chars().any(|letter| letter.is_control() || letter.is_whitespace())
}

fn wrapper(link: &str) -> Option<(&'static Wrapper, Url)> {
    let url = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty())?;
    let host = url.host_str()?.to_owned();
    let found = WRAPPERS.iter().find(|wrapper| {
        let known = wrapper.host;
        let same = known == "*" || known.strip_prefix('.').map_or(host == known, |_| host.ends_with(known));
        same && url.path().starts_with(wrapper.path) && hidden::has_form(link, &url, wrapper.hiding)
    })?;
    Some((found, url))
}

/// Octets of what a scanner wrote behind its link in a text: Proofpoint v3's `$`, where the link is known without it, and
/// the original's host in brackets, as in `$ [login[.]acme[.]example]`. 0 behind every other link.
#[must_use]
pub fn trailer(link: &str, behind: &[u8]) -> usize {
    if !wrapper(link).is_some_and(|(wrapper, _)| wrapper.hiding == Hiding::Underscores) {
        return 0;
    }
    let mark = usize::from(!link.ends_with('$') && behind.first() == Some(&b'$'));
    if mark == 0 && !link.ends_with('$') {
        return 0;
    }
    let host = link.split_once("/v3/__").and_then(|(_, inner)| {
        let inner = inner.get(..inner.rfind("__;")?)?;
        Url::parse(inner).ok()?.host_str().map(str::to_owned)
    });
    let said = host.map(|host| format!("[{}]", host.replace('.', "[.]")));
    let rest = behind.get(mark..).unwrap_or_default();
    let blank = [&b" "[..], b"\r\n", b"\n"].iter().find(|blank| rest.starts_with(blank)).map_or(0, |blank| blank.len());
    match said {
        Some(said) if blank > 0 && rest.get(blank..).is_some_and(|rest| rest.starts_with(said.as_bytes())) => mark + blank + said.len(),
        _ => mark,
    }
}

/// Scanners that wrapped a link one after another.
const DEEPEST: usize = 6;

#[cfg(test)]
mod tests {
    use url::form_urlencoded;

    use super::*;

    fn original(link: &str) -> Option<String> {
        match unwrap(link) {
            Unwrapped::Original { link, .. } => Some(link),
            _ => None,
        }
    }

    #[test]
    fn what_scanners_write() {
        for (wrapped, link) in [
            (
                "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fa.test%2Freset%3Ft%3D1%26u%3D2&data=05",
                "https://a.test/reset?t=1&u=2",
            ),
            ("https://urldefense.proofpoint.com/v2/url?u=https-3A__a.test_reset-3Ft-3Da-2Db-5Fc&d=x", "https://a.test/reset?t=a-b_c"),
            ("https://urldefense.com/v3/__https://a.test/r?a=**Bx__;w6TDtsO8!!x$", "https://a.test/r?a=äöüx"),
            ("https://secure-web.cisco.com/1abc/https%3A%2F%2Fa.test%2Fr%3Fa%3D1%2B2", "https://a.test/r?a=1+2"),
            ("https://us1-ctp.trendmicro.com/wis/clicktime/v1/query?url=https%3a%2f%2fa.test%2f&umid=x", "https://a.test/"),
        ] {
            assert_eq!(original(wrapped).as_deref(), Some(link), "{wrapped}");
        }
    }

    /// Where a program made one slash of two, the original's own percent-encoding is still its own.
    #[test]
    fn one_slash_is_no_encoding() {
        for wrapped in [
            "https://protect.checkpoint.com/v2/r01/___https:/a.test/r?t=Ab3%2BdEf%3D&x=%252F___.YXAz",
            "https://secure-web.cisco.com/1abc/https%3A%2Fa.test%2Fr%3Ft%3DAb3%252BdEf%253D%26x%3D%25252F",
        ] {
            assert_eq!(original(wrapped).as_deref(), Some("https://a.test/r?t=Ab3%2BdEf%3D&x=%252F"), "{wrapped}");
        }
    }

    #[test]
    fn chains_and_ends() {
        let inner = "https://linkprotect.cudasvc.com/url?a=https%3a%2f%2fa.test%2f&c=E";
        let encoded: String = form_urlencoded::byte_serialize(inner.as_bytes()).collect();
        let chain = format!("https://x.safelinks.protection.outlook.com/?url={encoded}&data=1");
        let by = vec!["Microsoft Safe Links", "Barracuda Link Protection"];
        assert_eq!(unwrap(&chain), Unwrapped::Original { link: "https://a.test/".into(), by });
        assert!(matches!(unwrap("https://protect-us.mimecast.com/s/abc"), Unwrapped::Opaque { .. }));
        // A wrapper of itself, again and again, ends.
        let mut deep = "https://a.test/".to_owned();
        for _ in 0..20 {
            let encoded: String = form_urlencoded::byte_serialize(deep.as_bytes()).collect();
            deep = format!("https://x.safelinks.protection.outlook.com/?url={encoded}");
            if deep.len() > 8_000 {
                break;
            }
        }
        assert!(matches!(unwrap(&deep), Unwrapped::Broken { .. } | Unwrapped::Original { .. }));
    }

    #[test]
    fn look_alikes_and_broken_ones() {
        for link in [
            "https://safelinks.protection.outlook.com.attack.test/?url=https%3A%2F%2Fa.test",
            "https://xsafelinks.protection.outlook.com/?url=https%3A%2F%2Fa.test",
            "https://attack.test/?url=https%3A%2F%2Fx.safelinks.protection.outlook.com",
            "https://x.safelinks.protection.outlook.com@attack.test/?url=https%3A%2F%2Fa.test",
            "not a link",
            "",
        ] {
            assert_eq!(unwrap(link), Unwrapped::NotWrapped, "{link}");
        }
        for link in [
            "https://x.safelinks.protection.outlook.com/?data=1",
            "https://x.safelinks.protection.outlook.com/?url=javascript%3Aalert(1)",
            "https://urldefense.com/v3/__https://a.test/**",
            "https://urldefense.com/v3/__https://a.test/***__;!",
            "https://eu.protection.sophos.com/?u=%%%",
        ] {
            assert!(matches!(unwrap(link), Unwrapped::Broken { .. }), "{link}");
        }
    }
}
