#![no_main]
//! The header scanner: total, its ranges cover the block without gap or overlap.
use firstclick::message::{Headers, Message};

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let headers = Headers::read(raw);
    let mut at = 0;
    for field in headers.fields() {
        assert_eq!(field.whole.start, at, "no octet of the block belongs to no field");
        assert!(field.whole.end >= field.whole.start && field.whole.end <= raw.len());
        assert!(field.name.start >= field.whole.start && field.name.end <= field.whole.end);
        assert!(field.value.end <= raw.len());
        at = field.whole.end;
        let _ = headers.unfolded(field);
    }
    assert!(headers.body() >= at && headers.body() <= raw.len());
    let message = Message::read(raw);
    let _ = (message.author(), message.message_id(), headers.content_flaws());
});
