#![no_main]
//! The editor: what no patch names stays, no forged voice is left, a tag belongs to its mail, and a second look finds
//! nothing to remove but the tag itself.
use firstclick::{
    edit::{
        self,
        tag::{Key, Tagger, Token},
    },
    message::Message,
};

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let tagger = Tagger {
        header: "X-Firstclick".into(),
        tokens: vec![Token::parse("fuzz-token").expect("a token")],
        staged: Vec::new(),
        keys: vec![Key::parse("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").expect("a key")],
        authserv_id: "hop.test".into(),
    };
    let message = Message::read(raw);
    let removals = tagger.removals(message.headers());
    let kept = edit::apply(raw, &removals).expect("header fields do not overlap");
    let removed: usize = removals.iter().map(|patch| patch.at.len()).sum();
    assert_eq!(kept.len() + removed, raw.len());
    if removals.is_empty() {
        assert_eq!(kept, raw);
    }
    // Cutting fields out must not make a new one that is ours.
    let again = Message::read(&kept);
    assert!(tagger.removals(again.headers()).is_empty(), "a forged voice is left: {}", kept.escape_ascii());
    let mut patches = removals;
    patches.extend(tagger.tag(&message, "fuzz", jiff::Timestamp::UNIX_EPOCH));
    let tagged = edit::apply(raw, &patches).expect("a tag goes on top");
    assert!(tagged.ends_with(&kept));
    // What starts with a folded line has a flaw and is never tagged: the line would become a part of our field.
    assert!(tagger.verifies(&Message::read(&tagged)) || matches!(kept.first(), Some(b' ' | b'\t')));
});
