//! Links as scanners wrap them, and what they hide.
//!
//! Pure. A wrapper is known by its host, which is compared by labels, so that a look-alike is none. Some vendors carry the
//! original in the link; of others only they know it.

use base64::{Engine as _, alphabet, engine};
use url::{Url, form_urlencoded};

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
    },
    /// It has a wrapper's host and nothing readable in it.
    Broken {
        /// The scanners, the last of them the one whose link does not read.
        by: Vec<&'static str>,
    },
}

/// How a scanner hides a link.
enum Hiding {
    /// In a query field, percent-encoded.
    Field(&'static str),
    /// In a query field, as base64.
    Base64Field(&'static str),
    /// Proofpoint's second way: `-` for `%`, `_` for `/`.
    Dashes,
    /// Proofpoint's third way: odd letters apart from the link.
    Underscores,
    /// As the last part of the path, percent-encoded.
    LastSegment,
    /// Between `___` and `___` in the path.
    Between,
    /// Nowhere.
    Nowhere,
}

/// A wrapper: its name, its host (`.` in front: the hosts below it), the start of its path, and how it hides.
const WRAPPERS: &[(&str, &str, &str, Hiding)] = &[
    ("Microsoft Safe Links", ".safelinks.protection.outlook.com", "/", Hiding::Field("url")),
    ("Microsoft Safe Links", "safelinks.protection.outlook.com", "/", Hiding::Field("url")),
    ("Microsoft Safe Links", ".safelinks.protection.office365.us", "/", Hiding::Field("url")),
    ("Microsoft Safe Links", "statics.teams.cdn.office.net", "/evergreen-assets/safelinks", Hiding::Field("url")),
    ("Proofpoint URL Defense v1", "urldefense.proofpoint.com", "/v1/url", Hiding::Field("u")),
    ("Proofpoint URL Defense v2", "urldefense.proofpoint.com", "/v2/url", Hiding::Dashes),
    ("Proofpoint URL Defense v3", "urldefense.com", "/v3/__", Hiding::Underscores),
    ("Proofpoint URL Defense v3", "urldefense.us", "/v3/__", Hiding::Underscores),
    ("Proofpoint URL Defense v3", "urldefense.proofpoint.com", "/v3/__", Hiding::Underscores),
    ("Barracuda Link Protection", "linkprotect.cudasvc.com", "/url", Hiding::Field("a")),
    ("Cisco Secure Email", "secure-web.cisco.com", "/", Hiding::LastSegment),
    ("Sophos Email", ".protection.sophos.com", "/", Hiding::Base64Field("u")),
    ("Symantec Click-time", "clicktime.symantec.com", "/", Hiding::Field("u")),
    ("Symantec Click-time", "clicktime.cloud.postoffice.net", "/", Hiding::Field("u")),
    ("Trellix (FireEye)", "protect2.fireeye.com", "/", Hiding::Field("u")),
    ("Trellix (FireEye)", ".protect2.fireeye.com", "/", Hiding::Field("u")),
    ("Trellix (FireEye)", "protect.fireeye.com", "/", Hiding::Field("u")),
    ("Check Point (Avanan)", "url.avanan.click", "/v2/___", Hiding::Between),
    ("Check Point (Avanan)", ".avanan.click", "/v2/___", Hiding::Between),
    ("Check Point (Avanan)", ".checkpoint.com", "/v2/___", Hiding::Between),
    ("Trend Micro", ".trendmicro.com", "/wis/clicktime/", Hiding::Field("url")),
    ("Trend Micro", ".trendmicro.eu", "/wis/clicktime/", Hiding::Field("url")),
    ("Fortinet FortiMail", ".fortimailcloud.com", "/fmlurlsvc/", Hiding::Field("url")),
    ("Mimecast", ".mimecast.com", "/s/", Hiding::Nowhere),
    ("Mimecast", ".mimecastprotect.com", "/s/", Hiding::Nowhere),
    ("McAfee ClickProtect", "cp.mcafee.com", "/d/", Hiding::Nowhere),
    ("Hornetsecurity", "atpscan.global.hornetsecurity.com", "/", Hiding::Nowhere),
    ("EdgePilot", "link.edgepilot.com", "/s/", Hiding::Nowhere),
];

/// Undoes what scanners did to a link, one after another.
#[must_use]
pub fn unwrap(link: &str) -> Unwrapped {
    let mut by = Vec::new();
    let mut link = link.trim().to_owned();
    while by.len() < DEEPEST {
        let Some((name, hiding, url)) = wrapper(&link) else {
            return if by.is_empty() { Unwrapped::NotWrapped } else { Unwrapped::Original { link, by } };
        };
        by.push(name);
        if matches!(hiding, Hiding::Nowhere) {
            return Unwrapped::Opaque { by };
        }
        match hidden(&link, &url, hiding).filter(|inner| is_web(inner)) {
            Some(inner) => link = inner,
            None => return Unwrapped::Broken { by },
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
        Unwrapped::Opaque { by } => {
            vec![by_names(&by), ("Result".into(), "the original is not in the link; only the vendor knows it".into())]
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

fn wrapper(link: &str) -> Option<(&'static str, &'static Hiding, Url)> {
    let url = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?.to_owned();
    let found = WRAPPERS.iter().find(|(_, known, path, _)| {
        let same = known.strip_prefix('.').map_or(host == *known, |_| host.ends_with(known));
        same && url.path().starts_with(path)
    })?;
    Some((found.0, &found.3, url))
}

fn hidden(link: &str, url: &Url, hiding: &Hiding) -> Option<String> {
    let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    match hiding {
        Hiding::Field(name) => field(name),
        Hiding::Base64Field(name) => {
            let engine = engine::GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
            String::from_utf8(engine.decode(field(name)?.replace('+', "-").replace('/', "_")).ok()?).ok()
        }
        Hiding::Dashes => {
            let raw = url.query()?.split('&').find_map(|pair| pair.strip_prefix("u="))?;
            decode(&raw.replace('-', "%").replace('_', "/"))
        }
        Hiding::Underscores => underscores(link),
        Hiding::LastSegment => decode(url.path_segments()?.next_back()?),
        Hiding::Between => {
            let inner = link.split_once("/v2/___")?.1;
            let inner = inner.get(..inner.rfind("___")?)?;
            // Some mail programs make one slash of two.
            let repaired = ["https:/", "http:/"]
                .iter()
                .find_map(|scheme| inner.strip_prefix(scheme).filter(|rest| !rest.starts_with('/')).map(|rest| format!("{scheme}/{rest}")));
            Some(repaired.unwrap_or_else(|| inner.to_owned()))
        }
        Hiding::Nowhere => None,
    }
}

fn decode(text: &str) -> Option<String> {
    // Only `%` is undone: a plus is a plus outside of a query.
    let text = text.replace('+', "%2B");
    form_urlencoded::parse(format!("x={}", text.replace('&', "%26")).as_bytes()).next().map(|(_, value)| value.into_owned())
}

/// Proofpoint v3: `/v3/__LINK__;LETTERS!…`. In the link `*` stands for the next octets of LETTERS (base64), and `**` with a
/// letter for a run of them.
fn underscores(link: &str) -> Option<String> {
    let inner = link.split_once("/v3/__")?.1;
    let (text, rest) = inner.split_at_checked(inner.rfind("__;")?)?;
    let letters = rest.strip_prefix("__;")?.split('!').next()?;
    let engine = engine::GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let letters = String::from_utf8(engine.decode(letters.trim_end_matches('=')).ok()?).ok()?;
    let mut letters = letters.chars();
    let (mut out, mut rest) = (String::new(), text.chars().peekable());
    while let Some(letter) = rest.next() {
        if letter != '*' {
            out.push(letter);
            continue;
        }
        let count = if rest.next_if_eq(&'*').is_some() {
            RUNS.chars().position(|known| Some(known) == rest.peek().copied()).map(|at| at + 2)
        } else {
            Some(1)
        };
        let count = count?;
        if count > 1 {
            rest.next();
        }
        for _ in 0..count {
            out.push(letters.next()?);
        }
    }
    // One slash of two, as above.
    let repaired = ["https:/", "http:/"]
        .iter()
        .find_map(|scheme| out.strip_prefix(scheme).filter(|rest| !rest.starts_with('/')).map(|rest| format!("{scheme}/{rest}")));
    Some(repaired.unwrap_or(out))
}

/// The letters by which Proofpoint counts runs, from 2 on.
const RUNS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENIENT: engine::GeneralPurposeConfig = engine::GeneralPurposeConfig::new()
    .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
/// Scanners that wrapped a link one after another.
const DEEPEST: usize = 6;

#[cfg(test)]
mod tests {
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
