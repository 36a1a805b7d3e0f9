//! which module may use which: data flows downwards, and a module knows only modules below it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module and the modules that it may name. `identity`'s and `allowlist`'s types are values; what they do is called by
/// the pipeline alone.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli", "commands"]),
    (
        "commands",
        &[
            "cli",
            "settings",
            "smtp",
            "milter",
            "http",
            "pipeline",
            "message",
            "identity",
            "allowlist",
            "recognition",
            "edit",
            "audit",
            "testbed",
            "tls",
            "link_store",
            "metrics",
            "clock",
            "limits",
        ],
    ),
    ("cli", &[]),
    ("testbed", &["smtp", "message", "clock"]),
    ("settings", &["smtp", "milter", "http", "link_store", "tls", "edit", "allowlist", "recognition", "identity", "message", "limits"]),
    ("http", &["audit", "link_store", "edit", "identity", "message", "metrics", "tls", "clock", "limits"]),
    ("milter", &["pipeline", "identity", "audit", "edit", "message", "clock", "limits"]),
    ("smtp", &["pipeline", "identity", "audit", "edit", "message", "tls", "clock", "limits"]),
    ("pipeline", &["allowlist", "recognition", "link_store", "edit", "identity", "audit", "message", "metrics", "clock", "limits"]),
    ("audit", &["allowlist", "recognition", "edit", "identity", "message", "clock", "limits"]),
    ("link_store", &["edit", "clock", "limits"]),
    ("edit", &["allowlist", "recognition", "identity", "message", "limits"]),
    ("allowlist", &["identity", "recognition", "message", "vocabulary", "limits"]),
    ("recognition", &["message"]),
    ("identity", &["message", "clock", "limits"]),
    ("message", &["vocabulary", "limits"]),
    ("tls", &["limits"]),
    ("metrics", &[]),
    ("vocabulary", &[]),
    ("clock", &[]),
    ("limits", &[]),
];

/// Modules where the same input must give the same output: nothing here may reach for the world.
const PURE: &[&str] = &["message/", "allowlist/", "recognition/", "edit/", "audit/record.rs", "audit/watch.rs"];
const WORLD: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "clock::now",
    "Stopwatch",
    "rand::",
    "tracing::",
    "println!",
    "std::thread",
];

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// A source without its comments and without its unit tests, which may reach for anything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The modules that a source names: `crate::module` and `crate::{module::.., module}`.
fn named(code: &str) -> BTreeSet<String> {
    let ident = |text: &str| text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>();
    let mut modules = BTreeSet::new();
    for at in code.match_indices("crate::").map(|(at, _)| at).chain(code.match_indices("firstclick::").map(|(at, _)| at)) {
        let rest = code.get(at..).unwrap().split_once("::").unwrap().1;
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(ident(rest));
            continue;
        };
        let (mut depth, mut start) = (0_i32, 0);
        for (place, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    modules.insert(ident(group.get(start..place).unwrap()));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    modules.insert(ident(group.get(start..place).unwrap()));
                    start = place + 1;
                }
                _ => {}
            }
        }
    }
    modules.remove("");
    modules
}

#[test]
fn a_room_knows_only_rooms_below_it() {
    let mut seen = 0;
    for (path, text) in sources() {
        let module = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no place in the table"));
        for other in named(&code(&text)).iter().filter(|other| **other != module) {
            assert!(allowed.contains(&other.as_str()), "{}: {module} must not use {other}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} arrows were read");
}

#[test]
fn the_arrows_have_no_circle() {
    for (place, (module, allowed)) in ARROWS.iter().enumerate() {
        for other in *allowed {
            let at = ARROWS.iter().position(|(name, _)| name == other).expect("a module of the table");
            assert!(at > place, "{module} stands below {other}");
        }
    }
}

#[test]
fn judging_reaches_for_nothing_outside() {
    for (path, text) in sources() {
        let path = path.to_str().unwrap().to_owned();
        if PURE.iter().any(|pure| path.starts_with(pure)) {
            let code = code(&text);
            for word in WORLD {
                assert!(!code.contains(word), "src/{path} names {word}");
            }
        }
    }
}
