//! The documents say what is there: every command in them is one that the program takes, every key one that it knows, every
//! metric one that it shows.

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::Parser as _;
use firstclick::{cli::Cli, settings::keys::KEYS};

use crate::hop::process::Folder;

/// README.md, docs/*.md and what stands in deploy/, each with its text.
fn documents() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "config/firstclick.toml"].map(|name| root.join(name)).into();
    for folder in ["docs", "deploy/systemd", "deploy/postfix", "deploy/sendmail", "deploy/exim", "deploy/rspamd", "deploy/container"] {
        paths.extend(fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        // A comment of the example goes on in the next line.
        let text = if path.ends_with("config/firstclick.toml") { text.replace("\n# ", " ") } else { text };
        (path.strip_prefix(&root).unwrap().display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

/// Whether it is prose.
fn is_page(name: &str) -> bool {
    PathBuf::from(name).extension().is_some_and(|end| end == "md")
}

/// The words of a command line, as a shell splits them; none where it does more than name a program and its arguments.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&' | '>') => break,
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Our commands in a document: lines of code blocks, and what stands between backticks.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut in_block = false;
    // A line goes on behind a backslash.
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let inline: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|_| !in_block).collect();
        for piece in in_block.then_some(line).into_iter().chain(inline) {
            let words: Vec<String> = words(piece.trim_start_matches(['#', '$', ' ']).trim());
            let start = usize::from(words.first().is_some_and(|word| word == "sudo"));
            let is_ours = words.get(start).is_some_and(|word| word == "firstclick" || word.ends_with("/bin/firstclick"));
            let is_prefix = words.len() == start + 3 && words[start + 1] == "--config";
            // Brackets say what may be left out.
            if is_ours && words.len() > start + 1 && !is_prefix && !words.iter().any(|word| word == "COMMAND") {
                found.push(words[start..].iter().map(|word| word.trim_matches(['[', ']']).to_owned()).collect());
            }
        }
    }
    found
}

#[test]
fn every_command_in_the_documents_is_one_that_the_program_takes() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in documents() {
        for words in commands(&text) {
            seen += 1;
            // Words in capitals stand for what the reader puts there.
            let filled = words.iter().map(|word| match word.as_str() {
                word if word == "YOUR.IP" || word == "IP" => "192.0.2.1".to_owned(),
                word => word.to_owned(),
            });
            if let Err(error) = Cli::try_parse_from(filled)
                && !matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion)
            {
                wrong.push(format!("{name}: {}: {}", words.join(" "), error.to_string().lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(seen > 25, "{seen}: {}", wrong.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `[section]` with its keys, in blocks of TOML that are firstclick.toml's.
#[test]
fn every_key_in_the_documents_is_one_that_firstclick_toml_has() {
    let known: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
    let sections: BTreeSet<&str> =
        KEYS.iter().map(firstclick::settings::keys::Key::section).filter(|section| !section.is_empty()).collect();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in documents().into_iter().filter(|(name, _)| name.starts_with("docs/") || name == "README.md") {
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let Ok(table) = block.parse::<toml::Table>() else {
                wrong.push(format!("{name}: no TOML:\n{block}"));
                continue;
            };
            for (section, value) in &table {
                let (true, Some(keys)) = (sections.contains(section.as_str()), value.as_table()) else { continue };
                let mut paths: Vec<String> = Vec::new();
                for (key, value) in keys {
                    match value.as_table() {
                        Some(inner) => paths.extend(inner.keys().map(|inner| format!("{section}.{key}.{inner}"))),
                        None => paths.push(format!("{section}.{key}")),
                    }
                }
                seen += paths.len();
                wrong.extend(paths.iter().filter(|path| !known.contains(path.as_str())).map(|path| format!("{name}: {path}")));
            }
        }
    }
    assert!(seen > 10, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every block of TOML in a document, with the document's name.
fn toml_blocks() -> Vec<(String, String)> {
    let of = |(name, text): (String, String)| {
        let blocks: Vec<_> =
            text.split("```toml\n").skip(1).filter_map(|rest| Some((name.clone(), rest.split("```").next()?.to_owned()))).collect();
        blocks
    };
    documents().into_iter().filter(|(name, _)| is_page(name)).flat_map(of).collect()
}

/// Every block of TOML is taken by `check`: what is of firstclick.toml in the place of those sections, what is an entry as a file of the
/// allowlist. Only files that it names may be missing.
#[test]
fn every_configuration_in_the_documents_is_one_that_check_takes() {
    let base: toml::Table = "mode = \"observe\"\nallow = \"allow.d\"\n[smtp]\nlisten = [\"127.0.0.1:2525\"]\nnext_hop = \"127.0.0.1:2526\"\nhostname = \"hop.test\"\n[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n[audit]\ndirectory = \"audit\"\n".parse().unwrap();
    let sections: BTreeSet<&str> = KEYS.iter().map(|key| key.path.split('.').next().unwrap()).collect();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, block) in toml_blocks() {
        let written: toml::Table = block.parse().unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
        let folder = Folder::new("", "");
        let (mut config, mut entry) = (base.clone(), toml::Table::new());
        for (key, value) in written {
            match (sections.contains(key.as_str()), value, config.get_mut(&key)) {
                (true, toml::Value::Table(new), Some(toml::Value::Table(old))) => old.extend(new),
                (true, value, _) => drop(config.insert(key, value)),
                (false, value, _) => drop(entry.insert(key, value)),
            }
        }
        // Where a piece of an entry stands there, the rest is the least that an entry needs.
        if !entry.is_empty() && !["from", "sender", "product"].iter().any(|key| entry.contains_key(*key)) {
            entry.insert("from".into(), vec!["no-reply@acme.example"].into());
        }
        if !entry.is_empty() && !["sender", "product", "action"].iter().any(|key| entry.contains_key(*key)) {
            entry.insert("action".into(), "tag".into());
        }
        let is_named = entry.contains_key("sender") || entry.contains_key("product") || entry.contains_key("decide_by");
        if !entry.is_empty() && !is_named && !entry.contains_key("links") {
            entry.insert("links".into(), toml::Table::from_iter([("invite".into(), vec!["acme.example/join/{token}"].into())]).into());
        }
        fs::write(folder.path("firstclick.toml"), toml::to_string(&config).unwrap()).unwrap();
        if !entry.is_empty() {
            fs::write(folder.path("allow.d/it.toml"), toml::to_string(&entry).unwrap()).unwrap();
        }
        let (said, complained, _) = folder.command(&["check", "--json"]);
        let answer: serde_json::Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{name}: {error}: {said}{complained}\n{block}"));
        let mistakes = answer["mistakes"].as_array().unwrap().iter().map(|mistake| mistake["text"].as_str().unwrap());
        let real: Vec<&str> = mistakes
            .filter(|text| !["cannot be read", "is not there", "that this system has"].iter().any(|missing| text.contains(missing)))
            .collect();
        if !real.is_empty() {
            wrong.push(format!("{name}: {}\n{block}", real.join("; ")));
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where a document links to: a file, or a heading of one.
fn links(text: &str) -> Vec<String> {
    let mut in_block = false;
    let prose: String = text
        .lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            in_block ^= is_fence;
            !in_block && !is_fence
        })
        .map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("x") + "\n")
        .collect();
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split(')').next()?.to_owned())).collect()
}

/// The names by which headings are linked to, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_lowercase());
    let name = |heading: String| {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    text.lines().filter_map(heading).map(name).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in documents().into_iter().filter(|(name, _)| is_page(name)) {
        for link in links(&text).into_iter().filter(|link| !link.starts_with("http")) {
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let file = if path.is_empty() { root.join(&name) } else { root.join(&name).parent().unwrap().join(path) };
            let is_there = file.exists() && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap()).contains(anchor));
            if !is_there {
                wrong.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(seen > 100, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// docs/SUMMARY.md is the book's table of contents: each page stands in it, once.
#[test]
fn every_document_is_a_chapter_of_the_book() {
    let summary = documents().into_iter().find(|(name, _)| name == "docs/SUMMARY.md").unwrap().1;
    let mut chapters: Vec<String> = links(&summary)
        .into_iter()
        .map(|link| if let Some(above) = link.strip_prefix("../") { above.to_owned() } else { format!("docs/{link}") })
        .collect();
    chapters.sort();
    let pages: Vec<String> =
        documents().into_iter().map(|(name, _)| name).filter(|name| is_page(name) && name != "docs/SUMMARY.md").collect();
    assert_eq!(chapters, pages);
}

/// docs/operations.md has a row for each line of `/readyz`, and none for another.
#[test]
fn every_line_of_readyz_is_documented() {
    let source = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/readiness.rs")).unwrap();
    let codes = source.split("const fn code").nth(1).unwrap().split("const fn means").next().unwrap();
    let codes: BTreeSet<&str> = codes.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() >= 8, "{codes:?}");
    let operations = documents().into_iter().find(|(name, _)| name == "docs/operations.md").unwrap().1;
    let table = operations.split("| line | what it says |").nth(1).unwrap().split("\n\n").next().unwrap();
    let told: BTreeSet<&str> = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(codes, told);
}

/// docs/operations.md has a row for each metric that the source registers, and none for another.
#[test]
fn every_metric_is_documented() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut registered = BTreeSet::new();
    for path in ["src/metrics.rs", "src/commands/run.rs", "src/audit/meters.rs"] {
        let source = fs::read_to_string(root.join(path)).unwrap();
        for call in [".register(", ".reads("] {
            let names = source.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
            registered.extend(names.map(|name| format!("firstclick_{name}")));
        }
    }
    assert!(registered.len() > 20, "{registered:?}");
    let operations = documents().into_iter().find(|(name, _)| name == "docs/operations.md").unwrap().1;
    let mut told = BTreeSet::new();
    for row in operations.lines().filter(|line| line.starts_with("| `firstclick_")) {
        let mut first = String::new();
        for name in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            // `_open` behind `firstclick_sessions_total` is `firstclick_sessions_open`.
            let whole = if name.starts_with('_') { format!("{first}{name}") } else { name.to_owned() };
            let plain = whole.trim_end_matches("_total").trim_end_matches("_info").to_owned();
            if first.is_empty() {
                first.clone_from(&plain);
            }
            told.insert(plain);
        }
    }
    assert_eq!(registered.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "without a row in docs/operations.md");
    assert_eq!(told.difference(&registered).collect::<Vec<_>>(), Vec::<&String>::new(), "rows of metrics that are not there");
}
