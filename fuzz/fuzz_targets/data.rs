#![no_main]
//! The data reader: any cutting reads the same, only CRLF.CRLF ends, and what is kept holds no end of its own.
use firstclick::smtp::{
    config::BareLineEndings,
    server::connection::{DataReader, LineEndings},
};

fn read(bare: BareLineEndings, wire: &[u8], cut: usize) -> (Vec<u8>, Option<LineEndings>, usize) {
    let (mut reader, mut kept, mut waiting, mut total) = (DataReader::new(bare), Vec::new(), Vec::new(), 0);
    for piece in wire.chunks(cut) {
        waiting.extend_from_slice(piece);
        let (used, done) = reader.read(&waiting, &mut |bytes| kept.extend_from_slice(bytes));
        waiting.drain(..used);
        total += used;
        if done {
            return (kept, Some(reader.line_endings()), total);
        }
    }
    (kept, None, total)
}

/// The plain way: where the first true end is.
fn true_end(wire: &[u8]) -> Option<usize> {
    if wire.starts_with(b".\r\n") {
        return Some(3);
    }
    wire.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 5)
}

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, wire) = (usize::from(input.0) + 1, input.1);
    for bare in [BareLineEndings::Reject, BareLineEndings::Normalize] {
        let whole = read(bare, &wire, wire.len().max(1));
        let end = true_end(&wire);
        assert_eq!(whole.1.is_some(), end.is_some(), "the end is where RFC 5321 says");
        if let Some(end) = end {
            assert_eq!(whole.2, end);
            assert_eq!(read(bare, &wire, cut), whole);
            let clean = !firstclick::message::header::has_bare_line_ending(&wire[..end]);
            let body = &wire[..end - 3];
            let is_dot = |line: &[u8]| line.contains(&0) && line.iter().filter(|byte| !matches!(byte, 0 | b'\r')).eq(b".");
            let false_end = body.split(|byte| *byte == b'\n').any(is_dot);
            assert_eq!(whole.1 == Some(LineEndings::Clean), clean && !false_end);
            if bare == BareLineEndings::Normalize || clean {
                assert!(!firstclick::message::header::has_bare_line_ending(&whole.0));
            }
        }
    }
});
