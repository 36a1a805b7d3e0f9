#![no_main]
//! Command lines and commands: the reader is total, lines are cut alike however they come, and what was understood is written
//! as one line that is understood alike.
use firstclick::smtp::codec::{
    command::Command,
    line::{CommandLine, LineReader},
};

/// Every line of `wire`, fed in pieces, up to one without end.
fn lines(wire: &[u8], cut: usize) -> Vec<CommandLine> {
    let (mut reader, mut waiting, mut lines) = (LineReader::new(), Vec::new(), Vec::new());
    for piece in wire.chunks(cut) {
        waiting.extend_from_slice(piece);
        loop {
            let (used, line) = reader.read(&waiting);
            waiting.drain(..used);
            let Some(line) = line else { break };
            lines.push(line);
            if lines.last() == Some(&CommandLine::Endless) {
                return lines;
            }
        }
    }
    lines
}

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, wire) = (usize::from(input.0) + 1, input.1);
    let whole = lines(&wire, wire.len().max(1));
    assert_eq!(lines(&wire, cut), whole);
    for line in whole.iter().filter_map(|line| if let CommandLine::Whole(line) = line { Some(line) } else { None }) {
        let Ok(command) = Command::parse(line) else { continue };
        if let Command::Mail(path) | Command::Rcpt(path) = &command {
            let text = std::str::from_utf8(line).expect("only UTF-8 is understood");
            assert!(text.contains(&path.path), "the path is a stretch of the line");
            assert!(path.path.starts_with('<') && path.path.ends_with('>'));
        }
        let mut onward = Vec::new();
        command.write(&mut onward);
        let onward = onward.strip_suffix(b"\r\n").expect("a line ends in CRLF");
        assert!(!onward.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "nothing can be put into the next hop's session");
        assert_eq!(Command::parse(onward), Ok(command));
    }
});
