#![no_main]
//! The milter's frames, and a mail put together from them: total, and its changes name fields that are there.
use firstclick::{
    edit::tag::Tagger,
    message::Message,
    milter::{
        frame::{self, Answer, Frame},
        letter::Letter,
    },
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let tagger = Tagger { header: "X-Tag".into(), tokens: Vec::new(), keys: Vec::new(), authserv_id: "hop.test".into() };
    let mut letter = Letter::default();
    let mut names: Vec<Vec<u8>> = Vec::new();
    for piece in bytes.split(|byte| *byte == 0xff) {
        match frame::parse(piece) {
            Ok(Frame::Header(name, value)) => {
                letter.field(&name, &value);
                names.push(name);
            }
            Ok(Frame::Body(piece)) => letter.body(&piece),
            Ok(Frame::EndOfHeader) => letter.end_of_header(),
            _ => {}
        }
    }
    let removals = tagger.removals(Message::read(letter.raw()).headers());
    let mut out = Vec::new();
    for answer in letter.changes(&removals) {
        if let Answer::Delete { name, number } = &answer {
            let there = names.iter().filter(|known| known.eq_ignore_ascii_case(name)).count();
            assert!((1..=there).contains(&usize::try_from(*number).unwrap()));
        }
        answer.write(&mut out);
    }
});
