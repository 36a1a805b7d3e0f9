#![no_main]
//! All that strangers write for `identity` to read: tag lists, key, SPF and DMARC records, Received, ARC sets.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| firstclick::identity::read_anything(bytes));
