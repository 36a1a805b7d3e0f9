#![no_main]
//! The Authentication-Results reader: total, and stricter than what counts as a claim in our name.
use firstclick::identity::results::{Results, claims};

libfuzzer_sys::fuzz_target!(|value: &[u8]| {
    let Ok(text) = std::str::from_utf8(value) else { return };
    if let Ok(results) = Results::parse(text) {
        assert!(!results.authserv_id.is_empty());
        if results.authserv_id == "hop.test" {
            assert!(claims(value, "hop.test"), "what is read as our voice must be removed as our voice");
        }
    }
});
