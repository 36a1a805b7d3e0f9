#![no_main]
//! Reading a whole mail, and recognising it: total and bounded.
use std::sync::LazyLock;

use firstclick::{limits, message::Message, recognition::Recogniser};

static RECOGNISER: LazyLock<Recogniser> = LazyLock::new(|| Recogniser::built_in().expect("built-in words"));

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let content = Message::read(raw).content();
    assert!(content.links.len() <= limits::LINKS);
    let found = RECOGNISER.recognise(&content, None);
    assert!(found.kind.is_some() || found.one_time_links.is_empty());
    assert!(found.one_time_links.iter().all(|at| *at < content.links.len()));
});
