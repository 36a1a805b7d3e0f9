#![no_main]
//! A mail's data: any cutting reads the same, only CRLF.CRLF ends, what is kept holds no end of its own, what is stuffed is read
//! back, and what is passed on while it comes in is read as it came.
use firstclick::smtp::{
    codec::{
        data::{DataReader, END, LineEndings},
        passage::Passage,
        stuffing::Stuffing,
    },
    config::BareLineEndings,
};

fn read(bare: BareLineEndings, wire: &[u8], cut: usize) -> (Vec<u8>, Option<LineEndings>, usize) {
    let (mut reader, mut kept, mut waiting, mut total) = (DataReader::new(bare), Vec::new(), Vec::new(), 0);
    for piece in wire.chunks(cut) {
        waiting.extend_from_slice(piece);
        let (used, end) = reader.read(&waiting, &mut |bytes| kept.extend_from_slice(bytes));
        waiting.drain(..used);
        total += used;
        if end.is_some() {
            return (kept, end, total);
        }
    }
    (kept, None, total)
}

/// What the next hop reads of data that is passed on, and the line ends of what came.
fn passed_on(bare: BareLineEndings, wire: &[u8], cut: usize) -> (Vec<u8>, Option<LineEndings>) {
    let (mut passage, mut onward, mut waiting) = (Passage::new(bare), Vec::new(), Vec::new());
    for piece in wire.chunks(cut) {
        waiting.extend_from_slice(piece);
        loop {
            let (taken, end) = passage.next(&waiting);
            onward.extend(passage.block(&waiting).concat());
            waiting.drain(..taken);
            if end.is_some() {
                onward.extend_from_slice(END);
                let (kept, ended, taken) = read(BareLineEndings::Reject, &onward, onward.len());
                assert!(ended.is_some() && taken == onward.len(), "one end and no other");
                assert_eq!(kept.len(), passage.size());
                return (kept, end);
            }
            if taken == 0 {
                break;
            }
        }
    }
    (Vec::new(), None)
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
            let passed = passed_on(bare, &wire, cut);
            assert_eq!(passed.1, whole.1);
            if bare == BareLineEndings::Normalize || clean {
                assert_eq!(passed.0, whole.0);
                assert!(!firstclick::message::header::has_bare_line_ending(&whole.0));
                let mut stuffing = Stuffing::default();
                whole.0.chunks(cut).for_each(|piece| stuffing.push(piece));
                stuffing.finish();
                let again = read(BareLineEndings::Reject, stuffing.ready(), cut);
                assert_eq!((&again.0, again.2), (&whole.0, stuffing.ready().len()));
            }
        }
    }
});
