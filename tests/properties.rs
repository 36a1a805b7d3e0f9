//! What holds of every mail: no edit is no change, an insertion changes nothing else, and reading is total.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on panics")]

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firstclick::{
    clock::Timestamp,
    edit::{
        self, Patch,
        tag::{Key, Tagger, Token},
    },
    message::{Message, Target, header},
};
use proptest::prelude::*;

fn tagger() -> Tagger {
    Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse("test-token-1234").unwrap()],
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
}
