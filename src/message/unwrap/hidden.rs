//! Finding the original in a scanner's link, by each way of hiding.

use base64::{Engine as _, alphabet, engine};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::wrappers::Hiding;
use crate::limits;

/// What a link hides, if it reads.
pub(super) fn original(link: &str, url: &Url, hiding: Hiding) -> Option<String> {
    let found = match hiding {
        Hiding::Field(name) | Hiding::FieldOrNowhere(name) => field(url, name),
        Hiding::OpenField(name) => {
            let raw = raw_field(url, name)?;
            let found = if raw.contains("://") { Some(raw.replace("%26", "&")) } else { decoded(raw) };
            found.map(|found| url.fragment().map_or_else(|| found.clone(), |fragment| format!("{found}#{fragment}")))
        }
        Hiding::Base64Field(name) => text(base64(&field(url, name)?)?),
        Hiding::Dashes => decoded(&raw_field(url, "u")?.replace('-', "%").replace('_', "/")),
        Hiding::Underscores => underscores(link),
        Hiding::LastSegment => decoded(url.path_segments()?.next_back()?),
        Hiding::SecondSegment => decoded(url.path_segments()?.nth(1)?),
        Hiding::Between => {
            let inner = link.get(between(link)?..)?;
            Some(inner.get(..inner.rfind("___")?)?.to_owned())
        }
        Hiding::Forti => field(url, "url").filter(|_| is_forti(url)),
        Hiding::JsonKey => from_json(&base64(&field(url, "key")?)?),
        Hiding::Deflated => match raw_field(url, "Base64Url") {
            Some(value) => text(inflated(&base64(value)?)?),
            None => text(base64(&field(url, "Data")?)?),
        },
        Hiding::DeflatedJson => from_json(&inflated(&base64(field(url, "t")?.split('.').nth(1)?)?)?),
        Hiding::Nowhere | Hiding::HostOnly => None,
    }?;
    // Some scanners encode twice.
    let mut found = two_slashes(found);
    for _ in 0..ENCODED_AGAIN {
        if found.contains("://") || !found.contains('%') {
            break;
        }
        found = two_slashes(decoded(&found)?);
    }
    Some(found)
}

/// Whether a link on a host that nobody knows is a scanner's all the same, by a form that no other link has.
pub(super) fn has_form(link: &str, url: &Url, hiding: Hiding) -> bool {
    match hiding {
        Hiding::Forti => is_forti(url),
        Hiding::JsonKey => original(link, url, hiding).is_some(),
        Hiding::Between => between(link).is_some(),
        _ => true,
    }
}

/// The host of the original, where a link says no more than that.
pub(super) fn host(url: &Url, hiding: Hiding) -> Option<String> {
    field(url, "domain").filter(|host| hiding == Hiding::HostOnly && url::Host::parse(host).is_ok())
}

/// Fortinet's own mark: what it knows of the mail, in a coding of its own.
fn is_forti(url: &Url) -> bool {
    raw_field(url, "fewReq").is_some_and(|mark| mark.starts_with(":B:") && mark.len() > 16)
}

fn raw_field<'u>(url: &'u Url, name: &str) -> Option<&'u str> {
    url.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn field(url: &Url, name: &str) -> Option<String> {
    decoded(raw_field(url, name)?)
}

/// Undoes percent-encoding. Only `%` is undone: scanners write a plus for a plus.
fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', "%2B");
    form_urlencoded::parse(format!("x={}", text.replace('&', "%26")).as_bytes()).next().map(|(_, value)| value.into_owned())
}

/// Some mail programs make one slash of two.
fn two_slashes(link: String) -> String {
    let mended = ["https:/", "http:/"]
        .iter()
        .find_map(|scheme| link.strip_prefix(scheme).filter(|rest| !rest.starts_with('/')).map(|rest| format!("{scheme}/{rest}")));
    mended.unwrap_or(link)
}

/// Base64 of either alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: engine::GeneralPurposeConfig = engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = engine::GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let text = text.replace("%3D", "=").replace("%3d", "=").replace('+', "-").replace('/', "_");
    engine.decode(text.trim_end_matches('=')).ok()
}

/// zlib (RFC 1950), up to the longest link and some JSON around it.
fn inflated(octets: &[u8]) -> Option<Vec<u8>> {
    decompress_to_vec_zlib_with_limit(octets, 2 * limits::LINK).ok()
}

fn text(octets: Vec<u8>) -> Option<String> {
    String::from_utf8(octets).ok()
}

fn from_json(octets: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Hidden {
        url: String,
    }
    serde_json::from_slice::<Hidden>(octets).ok().map(|hidden| hidden.url)
}

/// Where the original begins: behind `/v2/___`, or behind a release, as in `/v2/r01/___`.
fn between(link: &str) -> Option<usize> {
    let start = link.find("/v2/")? + "/v2/".len();
    let rest = link.get(start..)?;
    let release = rest.strip_prefix('r').map_or(0, |rest| {
        let digits = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with('/')) { digits + 2 } else { 0 }
    });
    rest.get(release..)?.starts_with("___").then_some(start + release + 3)
}

/// Proofpoint v3: `/v3/__LINK__;LETTERS!…`. In the link `*` stands for the next of LETTERS (base64), and `**` with a
/// letter for a run of them.
fn underscores(link: &str) -> Option<String> {
    let inner = link.split_once("/v3/__")?.1;
    let (text, rest) = inner.split_at_checked(inner.rfind("__;")?)?;
    let letters = String::from_utf8(base64(rest.strip_prefix("__;")?.split('!').next()?)?).ok()?;
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
    Some(out)
}

/// The letters by which Proofpoint counts runs, from 2 on.
const RUNS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// How often percent-encoding is undone after the first time.
const ENCODED_AGAIN: usize = 2;
