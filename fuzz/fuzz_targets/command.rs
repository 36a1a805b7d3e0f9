#![no_main]
//! The command reader: total, and what it understood goes on as it came.
use firstclick::smtp::codec::command::Command;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    match Command::parse(line) {
        Ok(Command::Mail(path) | Command::Rcpt(path)) => {
            let text = std::str::from_utf8(line).expect("only UTF-8 is understood");
            assert!(text.contains(&path.path), "the path is a stretch of the line");
            assert!(path.path.starts_with('<') && path.path.ends_with('>'));
            for verb in ["MAIL FROM", "RCPT TO"] {
                let onward = path.line(verb);
                assert!(!onward.contains(['\r', '\n', '\0']), "nothing can be put into the next hop's session");
                match Command::parse(onward.as_bytes()) {
                    Ok(Command::Mail(again) | Command::Rcpt(again)) => assert_eq!(again, path),
                    // `RCPT TO:<>` is none.
                    Err(_) => assert!(verb == "RCPT TO" && path.path == "<>"),
                    Ok(other) => panic!("{other:?}"),
                }
            }
        }
        Ok(Command::Ehlo(name) | Command::Helo(name)) => assert!(!name.contains([' ', '\r', '\n'])),
        _ => {}
    }
});
