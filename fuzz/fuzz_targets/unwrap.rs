#![no_main]
//! Scanners' links, and sealed values from anywhere: total, and what comes out of a wrapper is a web link.
use std::{sync::LazyLock, time::Duration};

use firstclick::{
    clock::Timestamp,
    edit::guard_link::{SealKey, GuardLinkKeys},
    message::unwrap::{Unwrapped, unwrap},
};

static KEYS: LazyLock<GuardLinkKeys> = LazyLock::new(|| GuardLinkKeys {
    url: "https://links.test".into(),
    keys: SealKey::parse("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=").into_iter().collect(),
    lifetime: Duration::from_secs(60),
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Unwrapped::Original { link, by } = unwrap(text) {
        assert!(link.to_ascii_lowercase().starts_with("http") && !by.is_empty());
        // Nothing is left to undo.
        assert_eq!(unwrap(&link), Unwrapped::NotWrapped);
    }
    assert!(KEYS.open(text, Timestamp::UNIX_EPOCH).is_err(), "nobody sealed this");
});
