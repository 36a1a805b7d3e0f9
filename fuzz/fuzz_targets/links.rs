#![no_main]
//! The link finder: total over any HTML and any address; a link's printed form never holds its token.
use firstclick::message::{Target, html};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let found = html::read(text);
    for address in &found.addresses {
        if let Some(place) = &address.place {
            assert!(text.get(place.clone()).is_some(), "the place is a stretch of the part");
        }
        if let Target::Web(link) = Target::read(&address.value) {
            // The host is shown; what stands behind it must not be.
            let shown = link.redacted();
            let shown = shown.splitn(4, '/').nth(3).unwrap_or_default();
            for piece in link
                .url()
                .path_segments()
                .into_iter()
                .flatten()
                .filter(|piece| piece.len() >= 24 && piece.bytes().any(|byte| byte.is_ascii_digit()))
            {
                assert!(!shown.contains(piece), "{piece}");
            }
        }
    }
    let _ = Target::read(text);
});
