//! Click counters of mail services: which link is one, and where it leads, where the link itself says so.
//!
//! Pure. What is opened here tells what a mail is and what a link hides. It grants nothing: whoever runs the counter, and
//! whoever can write a link of its form, chooses where it leads.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::message::{
    Link, Target,
    unwrap::{Unwrapped, unwrap},
};

/// A link of a click counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The service that counts.
    pub service: &'static str,
    /// Where the link leads; none where only the service knows, or where what the link carries does not read.
    pub target: Option<Link>,
}

/// How a counter carries its target.
#[derive(Clone, Copy)]
enum Carrying {
    /// As the path segment behind the known start, percent-encoded, with its scheme.
    Segment,
    /// The same without its scheme, which is https.
    BareSegment,
    /// As the last path segment, in base64.
    LastBase64,
    /// In a query field.
    Field(&'static str),
    /// In a field of JSON, in base64, as the segment behind the known start.
    JsonSegment(&'static str),
    /// In the field `url` of JSON within JSON, in base64, in the query field `p`.
    NestedJson,
    /// Nowhere.
    Nowhere,
}

use Carrying::{BareSegment, Field, JsonSegment, LastBase64, NestedJson, Nowhere, Segment};

/// A counter: its service, its host (`.` in front: the hosts below it; `*`: the customers' own hosts, where path and query
/// are told apart by nobody else), the start of its path, a query field that must be there, and how it carries its target.
const COUNTERS: &[(&str, &str, &str, &str, Carrying)] = &[
    ("Amazon SES", ".awstrack.me", "/L0/", "", Segment),
    ("Amazon SES", ".awstrack.me", "/CL0/", "", Segment),
    ("Amazon SES", "*", "/CL0/http", "", Segment),
    ("Amazon SES", "*", "/L0/http", "", Segment),
    ("Postmark", "click.pstmrk.it", "/3s/", "", BareSegment),
    ("Postmark", "click.pstmrk.it", "/2s/", "", BareSegment),
    ("Postmark", "click.pstmrk.it", "/3/", "", BareSegment),
    ("Postmark", "click.pstmrk.it", "/2/", "", BareSegment),
    ("Mailjet", ".mjt.lu", "/lnk/", "", LastBase64),
    ("Mailjet", "*", "/lnk/A", "", LastBase64),
    ("HubSpot", "t.sidekickopen.com", "/", "t", Field("t")),
    ("HubSpot", "track.hubspot.com", "/", "t", Field("t")),
    ("HubSpot", "*", "/e1t/c/", "t", Field("t")),
    ("HubSpot", "*", "/e2t/c/", "t", Field("t")),
    ("HubSpot", "*", "/e1t/c/", "", Nowhere),
    ("HubSpot", "*", "/e2t/c/", "", Nowhere),
    ("HubSpot", "*", "/e3t/", "", Nowhere),
    ("HubSpot", "*", "/Ctc/", "", Nowhere),
    ("Mandrill", "mandrillapp.com", "/track/click/", "p", NestedJson),
    ("Mandrill", "*", "/track/click/", "p", NestedJson),
    ("Customer.io", ".customeriomail.com", "/e/c/", "", JsonSegment("href")),
    ("Customer.io", "*", "/e/c/eyJ", "", JsonSegment("href")),
    ("Asana", "app.asana.com", "/app/asana/-/log", "dest", Field("dest")),
    ("SendGrid", ".ct.sendgrid.net", "/", "", Nowhere),
    ("SendGrid", "*", "/ls/click", "upn", Nowhere),
    ("SendGrid", "*", "/wf/click", "upn", Nowhere),
    ("SendGrid", "*", "/uni/ls/click", "upn", Nowhere),
    ("Mailgun", "*", "/c/eJ", "", Nowhere),
    ("SparkPost", ".sparkpostmail.com", "/f/a/", "", Nowhere),
    ("SparkPost", ".sparkpostmail1.com", "/f/a/", "", Nowhere),
    ("SparkPost", "*", "/f/a/", "", Nowhere),
    ("Brevo", "*", "/tr/cl/", "", Nowhere),
    ("Brevo", "*", "/mk/cl/", "", Nowhere),
    ("Mailchimp", ".list-manage.com", "/track/click", "u", Nowhere),
    ("Iterable", "*", "/u/click", "_t", Nowhere),
    ("Intercom", ".intercom-clicks.com", "/", "", Nowhere),
    ("Klaviyo", ".klclick.com", "/", "", Nowhere),
    ("Klaviyo", ".klclick1.com", "/", "", Nowhere),
    ("Klaviyo", ".klclick2.com", "/", "", Nowhere),
    ("Klaviyo", ".klclick3.com", "/", "", Nowhere),
    ("Constant Contact", ".rs6.net", "/tn.jsp", "", Nowhere),
    ("Campaign Monitor", ".createsend.com", "/t/", "", Nowhere),
    ("Campaign Monitor", ".cmail19.com", "/t/", "", Nowhere),
    ("Campaign Monitor", ".cmail20.com", "/t/", "", Nowhere),
    ("Elastic Email", "*", "/tracking/click", "d", Nowhere),
    ("Salesforce Marketing Cloud", "*", "/", "qs", Nowhere),
];

/// The counter that a link belongs to; none where it is no counter that is known here.
#[must_use]
pub fn counter(link: &Link) -> Option<Counter> {
    let url = link.url();
    let host = url.host_str()?;
    let (service, .., carrying) = COUNTERS.iter().find(|(_, known, path, field, _)| {
        let same_start = || if *path == "/" && *known == "*" { url.path() == "/" } else { url.path().starts_with(path) };
        let same_host = || match known.as_bytes().first() {
            Some(b'.') => host.ends_with(known),
            Some(b'*') => true,
            _ => host == *known,
        };
        same_start()
            && same_host()
            && (field.is_empty() || url.query_pairs().any(|(name, value)| name == *field && value.len() >= SHORTEST_FIELD))
    })?;
    Some(Counter { service, target: target(url, *carrying).and_then(|target| as_link(&target)) })
}

/// A link once every counter and every scanner that carries its target is undone.
pub(super) struct Opened<'l> {
    /// Where it leads; the link itself where it is no counter's and no scanner's.
    pub(super) target: Cow<'l, Link>,
    /// Whether one is left that does not say where it leads.
    pub(super) opaque: bool,
}

impl<'l> Opened<'l> {
    pub(super) fn of(link: &'l Link) -> Self {
        let mut target = Cow::Borrowed(link);
        for _ in 0..DEEPEST {
            // A scanner in front hides a link as a counter does.
            match unwrap(target.expose()) {
                Unwrapped::Original { link, .. } => match as_link(&link) {
                    Some(next) => target = Cow::Owned(next),
                    None => return Self { target, opaque: false },
                },
                Unwrapped::Opaque { .. } => return Self { target, opaque: true },
                Unwrapped::NotWrapped | Unwrapped::Broken { .. } => {}
            }
            match counter(&target) {
                Some(Counter { target: Some(next), .. }) => target = Cow::Owned(next),
                Some(Counter { target: None, .. }) => return Self { target, opaque: true },
                None => return Self { target, opaque: false },
            }
        }
        Self { target, opaque: true }
    }
}

fn target(url: &Url, carrying: Carrying) -> Option<String> {
    let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let mut segments = url.path_segments()?;
    match carrying {
        Segment => decode(segments.nth(1)?),
        BareSegment => Some(format!("https://{}", decode(segments.nth(1)?)?)),
        LastBase64 => plain(segments.next_back()?),
        Field(name) => field(name),
        JsonSegment(name) => {
            let json: Value = serde_json::from_str(&plain(segments.nth(2)?)?).ok()?;
            json.get(name)?.as_str().map(str::to_owned)
        }
        NestedJson => {
            let outer: Value = serde_json::from_str(&plain(&field("p")?)?).ok()?;
            let inner: Value = serde_json::from_str(outer.get("p")?.as_str()?).ok()?;
            inner.get("url")?.as_str().map(str::to_owned)
        }
        Nowhere => None,
    }
}

fn as_link(address: &str) -> Option<Link> {
    match Target::read(address) {
        Target::Web(link) => Some(link),
        Target::Harmless | Target::Flawed(_) => None,
    }
}

/// Percent-encoding undone once; a plus is a plus outside of a query.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', "%2B").replace('&', "%26");
    form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
}

/// Base64 undone, in either alphabet, with padding or without.
fn plain(text: &str) -> Option<String> {
    let engine = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
    );
    String::from_utf8(engine.decode(text.replace('+', "-").replace('/', "_")).ok()?).ok()
}

/// Characters of the field that makes a link on a customer's own host a counter's: shorter values are pages' own.
const SHORTEST_FIELD: usize = 10;
/// Counters that count each other's links.
const DEEPEST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(address: &str) -> Link {
        as_link(address).unwrap_or_else(|| panic!("{address}"))
    }

    #[test]
    fn what_counters_carry() {
        let base64 = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let target = "https://app.acme.test/reset/a?t=1&u=b%20c";
        let encoded: String = form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let nested = serde_json::json!({"s": "x", "v": 1, "p": serde_json::json!({"u": 7, "url": target}).to_string()});
        for (service, address) in [
            ("Amazon SES", format!("https://abc.r.eu-west-1.awstrack.me/L0/{encoded}/1/0102/x=7")),
            ("Amazon SES", format!("https://links.acme.test/CL0/{encoded}/1/0102/x=7")),
            ("Postmark", format!("https://click.pstmrk.it/3s/{}/N7/AQ/1/x", encoded.trim_start_matches("https%3A%2F%2F"))),
            ("Mailjet", format!("https://0qj5.mjt.lu/lnk/AVwAAD/1/Bk9w/{}", base64(target))),
            ("HubSpot", format!("https://t.sidekickopen.com/e1t/c/5/f18?t={encoded}&u=1")),
            ("Mandrill", format!("https://mandrillapp.com/track/click/30/app.acme.test?p={}", base64(&nested.to_string()))),
            (
                "Customer.io",
                format!("https://e.acme.test/e/c/{}/abc", base64(&serde_json::json!({"href": target, "link_id": 1}).to_string())),
            ),
            ("Asana", format!("https://app.asana.com/app/asana/-/log?se=1&dest={encoded}&hash=1")),
        ] {
            assert_eq!(counter(&link(&address)), Some(Counter { service, target: Some(link(target)) }), "{address}");
            assert_eq!(Opened::of(&link(&address)).target.expose(), target);
        }
    }

    #[test]
    fn what_carries_nothing_and_what_is_none() {
        for address in [
            "https://u1234.ct.sendgrid.net/ls/click?upn=u001.abcdefghijkl",
            "https://url7.acme.test/ls/click?upn=u001.abcdefghijkl",
            "https://email.mg.acme.test/c/eJwVjDEOgzAMAE",
            "https://click.acme.test/?qs=1234567890abcdef",
            "https://mandrillapp.com/track/click/30/app.acme.test?p=abcdefghijklmnop",
            "https://abc.r.eu-west-1.awstrack.me/L0/javascript:alert(1)/1/0102/x=7",
        ] {
            assert_eq!(counter(&link(address)).map(|counter| counter.target), Some(None), "{address}");
        }
        for address in [
            "https://awstrack.me.attack.test/L0/x/1",
            "https://xmandrillapp.com/reset?p=abcdefghijklmnop",
            "https://app.acme.test/reset?t=abcdefghijklmnop",
            "https://app.acme.test/search?qs=abcdefghijklmnop",
        ] {
            assert_eq!(counter(&link(address)), None, "{address}");
        }
        // Counters of counters end.
        let mut deep = "https://app.acme.test/".to_owned();
        for _ in 0..6 {
            let encoded: String = form_urlencoded::byte_serialize(deep.as_bytes()).collect();
            deep = format!("https://t.sidekickopen.com/e1t/c/5/f18?t={encoded}&u=1");
        }
        assert!(Opened::of(&link(&deep)).opaque);
    }

    /// Recognition reads through scanners and counters, in any order; what neither tells stays opaque.
    #[test]
    fn behind_scanners() {
        let target = "https://app.acme.test/reset/a1";
        let encode = |link: &str| form_urlencoded::byte_serialize(link.as_bytes()).collect::<String>();
        let safe = |link: &str| format!("https://eur01.safelinks.protection.outlook.com/?url={}&data=05", encode(link));
        let counted = |link: &str| format!("https://k9.r.eu-west-1.awstrack.me/L0/{}/1/0102/x=7", encode(link));
        for address in
            [safe(target), safe(&counted(target)), counted(&safe(target)), format!("https://urldefense.com/v3/__{target}__;!!x!y$")]
        {
            let link = link(&address);
            let opened = Opened::of(&link);
            assert_eq!((opened.target.expose(), opened.opaque), (target, false), "{address}");
        }
        for address in ["https://protect-us.mimecast.com/s/AbC?domain=acme.test".to_owned(), safe("https://protect-us.mimecast.com/s/AbC")]
        {
            assert!(Opened::of(&link(&address)).opaque, "{address}");
        }
        let broken = link("https://eur01.safelinks.protection.outlook.com/?data=05");
        assert!(!Opened::of(&broken).opaque);
    }
}
