//! What holds of every mail: no edit is no change, an insertion changes nothing else, and reading is total.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    clock::Timestamp,
    edit::{
        self, Patch,
        guard_link::{GuardLink, GuardLinkKeys, SealKey},
        rewrite::{self, Swap},
        tag::{Key, Tagger, Token},
    },
    message::{
        Message, MimeEvidence, Target, header,
        unwrap::{Unwrapped, unwrap},
    },
};
use proptest::prelude::*;
use url::form_urlencoded;

fn tagger() -> Tagger {
    Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse("test-token-1234").unwrap()],
        staged: Vec::new(),
        keys: vec![Key::parse(&BASE64.encode([7; 32])).unwrap()],
        authserv_id: "hop.test".into(),
    }
}

/// A header line as mails have it, and as they should not.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z-]{1,12}: [ -~]{0,40}",
        "[A-Za-z-]{1,12}:[ -~]{0,20}\r\n[ \t][ -~]{1,20}",
        Just("X-Firstclick: forged".to_owned()),
        Just("x-FIRSTCLICK : forged\r\n\tfolded".to_owned()),
        Just("X-Firstclick-Signature: v=1; b=x".to_owned()),
        Just("Authentication-Results: hop.test; dkim=pass".to_owned()),
        Just(" odd first".to_owned()),
        Just("no colon".to_owned()),
        "From: [a-z]{1,8} <[a-z]{1,8}@[a-z]{1,8}\\.test>",
    ]
}

fn mail() -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(field(), 0..12), proptest::collection::vec(any::<u8>(), 0..400), any::<bool>()).prop_map(
        |(fields, body, has_blank)| {
            let mut raw: Vec<u8> = fields.iter().flat_map(|field| format!("{field}\r\n").into_bytes()).collect();
            if has_blank {
                raw.extend_from_slice(b"\r\n");
            }
            raw.extend(body);
            raw
        },
    )
}

/// A link as scanners wrap it, each in its way.
fn wrapped(link: &str, how: usize) -> String {
    let encoded: String = form_urlencoded::byte_serialize(link.as_bytes()).collect();
    let base64 = base64::engine::general_purpose::URL_SAFE.encode(link);
    match how {
        0 => format!("https://eur01.safelinks.protection.outlook.com/?url={encoded}&data=05%7C02&reserved=0"),
        1 => format!("https://linkprotect.cudasvc.com/url?a={encoded}&c=E,1,abc,,&typo=1"),
        2 => format!("https://secure-web.cisco.com/1AbC/{encoded}"),
        3 => format!("https://protect.checkpoint.com/v2/r01/___{link}___.YzJ1OmFjbWU6YzpvOjE"),
        4 => format!("https://eu-west-1.protection.sophos.com/?d=acme.example&u={base64}&i=a&t=b"),
        5 => format!("https://urldefense.com/v3/__{link}__;!!HXCxUKc!gS3R_a6o2YLKi40$"),
        6 => format!("https://fm.corp.example/fmlurlsvc/?fewReq=:B:JVs5MjAzOSV1PjEtMyVqZz4z&url={encoded}"),
        7 => format!("https://links.us1.defend.egress.com/Warning?crId=1&Data={base64}"),
        8 => format!("https://k97.r.eu-west-1.awstrack.me/L0/{encoded}/1/0102018f/jwE=151"),
        _ => format!("https://scanmail.trustwave.com/?c=4062&d=abC&u={encoded}"),
    }
}

/// A letter of a link as HTML may spell it.
fn spelled(letter: char, how: u8) -> String {
    match (how % 6, letter) {
        (0, _) => format!("&#{};", u32::from(letter)),
        (1, _) => format!("&#x{:x};", u32::from(letter)),
        (2, _) => format!("&#X{:05X};", u32::from(letter)),
        (3, '/') => "&sol;".to_owned(),
        (4, '=') => "&equals;".to_owned(),
        (_, '&') => "&amp;".to_owned(),
        _ => letter.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_edit_is_no_change(raw in mail()) {
        prop_assert_eq!(edit::apply(&raw, &[]).unwrap(), raw);
    }

    #[test]
    fn an_inserted_header_changes_nothing_else(raw in mail()) {
        let patch = tagger().tag(&Message::read(&raw), "entry", Timestamp::UNIX_EPOCH).unwrap();
        let length = patch.with.len();
        let edited = edit::apply(&raw, &[patch]).unwrap();
        prop_assert_eq!(&edited[length..], &raw[..]);
        // A mail that starts with a folded line has a flaw (header-fold-first) and is never tagged: the line would become
        // a part of our field.
        prop_assert!(tagger().verifies(&Message::read(&edited)) || matches!(raw.first(), Some(b' ' | b'\t')));
    }

    #[test]
    fn what_looks_like_our_voice_goes_and_all_else_stays(raw in mail()) {
        let message = Message::read(&raw);
        let removals = tagger().removals(message.headers());
        let kept = edit::apply(&raw, &removals).unwrap();
        // Byte for byte: what is left is what was there, without the removed stretches.
        let mut expected = Vec::new();
        let mut at = 0;
        for patch in &removals {
            expected.extend_from_slice(&raw[at..patch.at.start]);
            at = patch.at.end;
        }
        expected.extend_from_slice(&raw[at..]);
        prop_assert_eq!(&kept, &expected);
        prop_assert!(tagger().removals(Message::read(&kept).headers()).is_empty());
    }

    #[test]
    fn any_patches_leave_what_they_do_not_name(raw in proptest::collection::vec(any::<u8>(), 0..200), cuts in proptest::collection::vec((0_usize..200, 0_usize..20, ".{0,6}"), 0..6)) {
        let patches: Vec<Patch> = cuts.iter().map(|(start, length, with)| Patch { at: *start..start + length, with: with.clone().into_bytes() }).collect();
        if let Ok(edited) = edit::apply(&raw, &patches) {
            let removed: usize = patches.iter().map(|patch| patch.at.len()).sum();
            let added: usize = patches.iter().map(|patch| patch.with.len()).sum();
            prop_assert_eq!(edited.len() + removed, raw.len() + added);
            let mut named = vec![false; raw.len()];
            for patch in &patches {
                named[patch.at.clone()].iter_mut().for_each(|octet| *octet = true);
            }
            let unnamed: Vec<u8> = raw.iter().zip(&named).filter(|(_, named)| !**named).map(|(octet, _)| *octet).collect();
            // What no patch names is there, in its order.
            let mut rest = edited.iter();
            prop_assert!(unnamed.iter().all(|octet| rest.any(|there| there == octet)));
        }
    }

    #[test]
    fn reading_is_total(raw in mail()) {
        let message = Message::read(&raw);
        let _ = message.author();
        let content = message.content();
        if header::has_bare_line_ending(&raw) {
            prop_assert!(!content.flaws.is_empty(), "what two programs read differently is a flaw");
        }
    }

    #[test]
    fn a_link_is_judged_by_the_host_of_a_browser(text in "(https?:)?[/\\\\]{0,3}([a-z]{1,6}@)?[a-z.\u{ad}\u{3002}]{1,20}(:[0-9]{1,4})?[/?#\\\\]?[ -~]{0,20}") {
        if let Target::Web(link) = Target::read(&text) {
            let browser = url::Url::parse(text.trim()).unwrap();
            let host = link.host().map(|host| host.as_str().to_owned());
            prop_assert!(host.is_none() || browser.host_str().map(str::to_lowercase) == host);
            prop_assert!(browser.username().is_empty(), "{}", text);
        }
    }

    /// However many gateways wrapped a link: what comes out is the link.
    #[test]
    fn what_was_wrapped_is_unwrapped(
        path in "[a-z]{1,8}/[A-Za-z0-9_-]{8,40}",
        query in "(\\?[a-z]{1,5}=[A-Za-z0-9.+%~-]{0,3}(&[a-z]{1,5}=[a-z0-9]{1,9}){0,3})?",
        ways in proptest::collection::vec(0_usize..10, 1..5),
    ) {
        let link = format!("https://login.acme.example/{path}{}", query.replace('%', "%25"));
        let outer = ways.iter().fold(link.clone(), |link, how| wrapped(&link, *how));
        match unwrap(&outer) {
            Unwrapped::Original { link: found, by } => {
                prop_assert_eq!(found, link);
                prop_assert_eq!(by.len(), ways.len());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn unwrapping_is_total(text in "(https?://)?([a-z0-9.]{0,12}|urldefense.com/v3/__|shared.outlook.inky.com/link|link.edgepilot.com/s/|links.us1.defend.egress.com/Warning)[/?]?(t=h.|Base64Url=|u=|url=)?[ -~]{0,60}") {
        if let Unwrapped::Original { link, .. } = unwrap(&text) {
            prop_assert_eq!(unwrap(&link), Unwrapped::NotWrapped);
        }
    }

    /// Whatever is sealed is what opens, to the octet.
    #[test]
    fn what_is_sealed_opens(link in "https://[a-z.]{1,20}/[!-~]{0,200}", entry in "[a-z0-9-]{1,20}", recipient in "[ -~]{0,40}|\\PC{0,20}") {
        let keys = SealKey::parse("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=").into_iter().collect();
        let guard_links = GuardLinkKeys { url: "https://links.corp.example".into(), keys, lifetime: std::time::Duration::from_hours(1) };
        let until = Timestamp::from_second(1_800_000_000).unwrap();
        let sealed = GuardLink { link, mail: "1a20ecd86fca5b1238a".into(), entry, author: "acme.example".into(), recipient, at: Timestamp::UNIX_EPOCH, until };
        let guard = guard_links.seal(&sealed).unwrap();
        prop_assert!(guard.bytes().all(|octet| octet.is_ascii_graphic()) && guard.len() < 600);
        prop_assert_eq!(guard_links.open(guard.rsplit('/').next().unwrap(), Timestamp::UNIX_EPOCH).unwrap().link, sealed);
    }

    /// A one-time link in HTML, however spelled: the new one takes its place, and nothing else has changed.
    #[test]
    fn a_replaced_link_is_the_only_change(
        before in "(<p>[a-z&;# ]{0,20}</p>){0,3}",
        behind in "[a-z ]{0,10}(</a><p>[a-zA-Z0-9;&<> ]{0,30})?",
        token in "[A-Za-z0-9]{20,40}",
        hows in proptest::collection::vec(any::<u8>(), 90),
    ) {
        let link = format!("https://login.acme.com/reset?a=1&key={token}&login=bob");
        let one: String = link.chars().zip(&hows).map(|(letter, how)| spelled(letter, *how)).collect();
        let html = |link: &str| format!("From: a@acme.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n{before}<a href=\"{link}\">{behind}\r\n");
        let raw = html(&one);
        let message = Message::read(raw.as_bytes());
        let content = message.content();
        let to = format!("https://links.test/c/{}", "A".repeat(150));
        let swaps = [Swap::one_time(link.clone(), to.clone(), &link)];
        let edited = rewrite::swap(&message, &content, &swaps).map(|patches| edit::apply(raw.as_bytes(), &patches).unwrap());
        prop_assert_eq!(edited, Ok(html(&to).into_bytes()));
    }
}

/// The deepest that a mail can be nested, in every way that nests, on a thread with the stack that the program gives its own.
#[test]
fn deep_nesting_fits_the_stack() {
    let deep = 20_000;
    let multipart = |depth: usize| {
        let mut mail = "From: a@b.test\r\nMIME-Version: 1.0\r\n".to_owned();
        for level in 0..depth {
            mail.push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{level}\"\r\n\r\n--b{level}\r\n"));
        }
        mail + "Content-Type: text/plain\r\n\r\nx\r\n"
    };
    let html = |body: String| format!("From: a@b.test\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}\r\n");
    let mails = [
        multipart(deep),
        format!("{}{}", "From: a@b.test\r\nMIME-Version: 1.0\r\n", "Content-Type: message/rfc822\r\n\r\n".repeat(deep)),
        html("<div>".repeat(deep)),
        html("<a href=https://b.test/>".repeat(deep)),
        html("<table><tr><td>".repeat(deep)),
        html("<!--[if mso]>".repeat(deep)),
        html("<iframe srcdoc=\"&lt;iframe srcdoc='".repeat(deep)),
        html("<svg><math>".repeat(deep)),
        format!("From: {}a@b.test{}\r\n\r\nx\r\n", "(".repeat(deep), ")".repeat(deep)),
        format!("From: a@b.test\r\n\r\n{}\r\n", "> ".repeat(deep)),
        format!("From: a@b.test\r\n\r\nhttps://b.test/?u={}\r\n", "https%3A%2F%2Fb.test%2F%3Fu%3D".repeat(deep / 10)),
    ];
    let read = move || {
        for mail in &mails {
            let message = Message::read(mail.as_bytes());
            let _ = message.author();
            let _ = message.content();
            let _ = message.content_by(MimeEvidence::Body).unwrapped();
        }
    };
    std::thread::Builder::new().stack_size(firstclick::limits::STACK).spawn(read).unwrap().join().unwrap();
}
