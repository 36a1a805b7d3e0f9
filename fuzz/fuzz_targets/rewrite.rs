#![no_main]
//! A one-time link replaced in any mail: either nothing is changed, or the link alone is, in all its places.
use firstclick::{
    edit::{
        self,
        rewrite::{self, Swap},
    },
    message::Message,
};

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let message = Message::read(raw);
    let content = message.content();
    let Some(first) = content.links.first() else { return };
    let to = format!("https://links.test/c/{}", "A".repeat(300));
    let swaps = [Swap::one_time(first.written().to_owned(), to.clone(), first.link.expose())];
    if let Ok(patches) = rewrite::swap(&message, &content, &swaps) {
        let changed = edit::apply(raw, &patches).expect("patches fit");
        let after = Message::read(&changed).content();
        assert!(after.links.iter().any(|found| found.link.expose() == to));
        assert!(!after.links.iter().any(|found| found.link.expose() == swaps[0].from));
        assert_eq!((after.flaws, after.attachments, after.subject), (content.flaws, content.attachments, content.subject));
    }
});
