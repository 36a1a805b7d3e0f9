#![no_main]
//! The milter's frames, and a mail put together from them: total, and its changes name fields that are there.
use firstclick::{
    edit::tag::Tagger,
    message::Message,
    milter::{
        assembly::MessageAssembly,
        codec::{self, MilterReply, MtaCommand},
    },
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let tagger =
        Tagger { header: "X-Tag".into(), tokens: Vec::new(), staged: Vec::new(), keys: Vec::new(), authserv_id: "hop.test".into() };
    let mut assembly = MessageAssembly::default();
    let mut names: Vec<Vec<u8>> = Vec::new();
    for piece in bytes.split(|byte| *byte == 0xff) {
        match codec::parse(piece) {
            Ok(MtaCommand::Header(name, value)) => {
                assembly.field(&name, &value);
                names.push(name);
            }
            Ok(MtaCommand::Body(piece)) => assembly.body(&piece),
            Ok(MtaCommand::EndOfHeader) => assembly.end_of_header(),
            _ => {}
        }
    }
    let removals = tagger.removals(Message::read(assembly.raw()).headers());
    let mut out = Vec::new();
    for answer in assembly.changes(&removals) {
        if let MilterReply::Delete { name, number } = &answer {
            let there = names.iter().filter(|known| known.eq_ignore_ascii_case(name)).count();
            assert!((1..=there).contains(&usize::try_from(*number).unwrap()));
        }
        answer.write(&mut out);
    }
});
