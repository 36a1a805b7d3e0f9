#![no_main]
//! Replies: the reader is total, any cutting reads the same, what is kept has a bound, and what was read is written so that it
//! is read alike. EHLO's keywords come along.
use firstclick::{
    limits,
    smtp::codec::{
        extensions::Extensions,
        reply::{NoReply, Reply, ReplyReader},
    },
};

/// The first reply, or why there is none, fed line by line in pieces.
fn read(wire: &[u8], cut: usize) -> Result<Option<Reply>, NoReply> {
    let mut reader = ReplyReader::default();
    for piece in wire.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(cut)) {
        if let Some(reply) = reader.take(piece)? {
            return Ok(Some(reply));
        }
    }
    Ok(None)
}

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, wire) = (usize::from(input.0) + 1, input.1);
    let found = read(&wire, wire.len().max(1));
    assert_eq!(read(&wire, cut), found);
    let Ok(Some(reply)) = found else { return };
    assert!((200..600).contains(&reply.code()));
    assert!(reply.text().iter().all(|line| line.len() <= limits::REPLY_LINE && !line.chars().any(char::is_control)));
    let mut out = Vec::new();
    reply.write(&mut out);
    assert_eq!(read(&out, cut), Ok(Some(reply.clone())));
    let extensions = Extensions::read(&reply);
    let announced = Reply::lines(250, std::iter::once("hop.test".to_owned()).chain(extensions.lines()).collect());
    assert_eq!(Extensions::read(&announced), extensions);
    assert!(extensions.covers(extensions) && extensions.covers(extensions.carried(1_000)));
});
