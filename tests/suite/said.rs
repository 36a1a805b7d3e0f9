//! What the program says to people who run it stands in docs/operations.md: every line of its log, every reply of its own.

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is compiled into the service, without tests.
fn sources() -> Vec<(String, String)> {
    let (mut folders, mut files) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() && name != "src/testbed" {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !name.ends_with("_tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((name, text.split("#[cfg(test)]").next().unwrap().to_owned()));
            }
        }
    }
    files
}

/// The strings in a piece of source, as they stand there, and what follows the piece's last parenthesis is left out.
fn strings(arguments: &str) -> Vec<String> {
    let (mut found, mut depth, mut string, mut escaped) = (Vec::new(), 1, None::<String>, false);
    for letter in arguments.chars() {
        match (&mut string, letter) {
            (Some(text), letter) if escaped || !matches!(letter, '"' | '\\') => {
                text.push(letter);
                escaped = false;
            }
            (Some(_), '\\') => escaped = true,
            (Some(_), _) => found.extend(string.take()),
            (None, '"') => string = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// All documents, their words with one blank between them.
fn documents() -> String {
    let texts = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let texts = texts.filter(|path| path.extension().is_some_and(|end| end == "md")).map(|path| fs::read_to_string(path).unwrap());
    texts.collect::<Vec<_>>().join("\n").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_line_of_the_log_is_documented() {
    let documents = documents();
    let (mut seen, mut missing) = (0, Vec::new());
    for (name, text) in sources() {
        for call in ["tracing::error!(", "tracing::warn!(", "tracing::info!("] {
            for arguments in text.split(call).skip(1) {
                let Some(line) = strings(arguments).pop() else { continue };
                let start = line.split(['{', ';', ':']).next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
                // What begins with a value has its words elsewhere: `Failures`, warnings of a reload.
                if start.is_empty() {
                    continue;
                }
                seen += 1;
                let is_told = documents.contains(&format!("`{start}")) || start.len() > 12 && documents.contains(&start);
                if !is_told {
                    missing.push(format!("{name}: {line}"));
                }
            }
        }
    }
    assert!(seen > 60, "{seen}");
    assert!(missing.is_empty(), "no document says what these lines mean:\n{}", missing.join("\n"));
}

#[test]
fn every_reply_of_our_own_is_documented() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows: Vec<&str> = operations.lines().filter_map(|row| row.strip_prefix("| ")?.split(" | ").next()).collect();
    let (mut seen, mut missing) = (0, Vec::new());
    for (name, text) in sources() {
        // Of what breaks the protocol the page says that it leaves it out: 500 to 503, and 554 5.5.1.
        let protocol = ["Reply::new(500", "Reply::new(502", "Reply::new(503", "5.5.1 no valid"];
        if name.ends_with("codec/command.rs") {
            continue;
        }
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//") && !protocol.iter().any(|word| line.contains(word))) {
            for said in strings(line) {
                let mut words = said.split_whitespace().skip_while(|word| word.starts_with('{'));
                let Some(code) =
                    words.next().filter(|code| code.len() >= 5 && code.starts_with(['4', '5']) && code.matches('.').count() == 2)
                else {
                    continue;
                };
                seen += 1;
                let words: Vec<&str> = words.skip_while(|word| word.starts_with('{')).take(2).collect();
                let told = |row: &str| {
                    let after = row.split_once(&format!(" {code}")).filter(|(reply, _)| reply.starts_with(&code[..1]));
                    after.is_some_and(|(_, after)| {
                        after.is_empty() || after.contains(&words.join(" ").trim_end_matches([',', ';']).to_owned())
                    })
                };
                if !rows.iter().any(|row| told(row)) {
                    missing.push(format!("{name}: {said}"));
                }
            }
        }
    }
    assert!(seen > 25, "{seen}");
    assert!(missing.is_empty(), "docs/operations.md has no row for these replies:\n{}", missing.join("\n"));
}

/// `1 days` is none of our words: a count that can be one goes through `counted`. What is listed here never is one.
#[test]
fn a_noun_follows_its_count() {
    const NOUNS: &str = "mails links days entries lines files records hours minutes seconds times octets addresses recipients tokens keys errors \
                         mistakes connections sessions parts words sections conditions rules readers fields headers warnings checkpoints testers \
                         exemptions places points misses notes dangers settings certificates weeks kinds hosts domains letters clicks digests";
    const MANY: [&str; 20] = [
        "a frame of {0} octets",
        "holds {1} guard links",
        "To and Cc hold {} addresses",
        "the envelope has {} recipients",
        "larger than {} octets",
        "larger than {most} octets",
        "more than {} octets",
        "more than {} readers",
        "more than {} files",
        "{count} mistakes",
        "{count} times",
        "{} times",
        "there are {0} addresses",
        "{twice} records are",
        "waiting {left} seconds at most",
        "audit: {} records",
        "are {count}: address",
        "; {retired} of records",
        "{:44} kinds, and",
        "no settings {NAME:?}: links",
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//") && !MANY.iter().any(|many| line.contains(many))) {
            for said in line.split('"').skip(1).step_by(2) {
                let words: Vec<&str> = said.split_whitespace().collect();
                let is_noun =
                    |word: &&&str| NOUNS.split(' ').any(|noun| word.trim_end_matches([',', ';', ':', '.', ')', '\\', 'n']) == noun);
                let follows = |at: usize| words.iter().skip(at + 1).take(2).find(is_noun);
                let ends = |word: &str| word.trim_start_matches('(').starts_with('{') && word.ends_with('}');
                if (0..words.len()).any(|at| ends(words[at]) && follows(at).is_some()) {
                    wrong.push(format!("{name}: {said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not by `counted`:\n{}", wrong.join("\n"));
}
