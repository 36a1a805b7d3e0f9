//! Which module may use which: data flows downwards, and a module knows only modules below it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module and the modules that it may use, from the top to the ground. Where a module has floors of its own they are listed
/// as `smtp::server`; a module that stands here as a whole may use its own parts in any order.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli", "commands"]),
    (
        "commands",
        &[
            "cli",
            "setup",
            "settings",
            "testbed",
            "digest",
            "tls",
            "smtp::server",
            "smtp::config",
            "milter",
            "http",
            "service",
            "pipeline",
            "allowlist",
            "recognition",
            "edit",
            "link_store",
            "identity",
            "audit",
            "message",
            "readiness",
            "remedy",
            "regular",
            "printable",
            "mail",
            "typed_time",
            "vocabulary",
            "clock",
            "limits",
        ],
    ),
    ("cli", &[]),
    ("setup", &["settings", "allowlist", "edit", "printable", "limits"]),
    (
        "settings",
        &[
            "digest",
            "smtp::config",
            "milter",
            "http",
            "tls",
            "edit",
            "link_store",
            "allowlist",
            "recognition",
            "identity",
            "message",
            "remedy",
            "regular",
            "printable",
            "mail",
            "log",
            "clock",
            "limits",
        ],
    ),
    ("digest", &["audit", "mail", "limits"]),
    ("testbed", &["smtp::client", "smtp::codec", "smtp::config", "message"]),
    (
        "smtp::server",
        &["smtp::client", "smtp::codec", "smtp::config", "service", "pipeline", "edit", "message", "mail", "tls", "clock", "limits"],
    ),
    ("smtp::client", &["smtp::codec", "smtp::config", "metrics", "failures", "mail", "tls", "clock", "limits"]),
    ("smtp::codec", &["smtp::config", "limits"]),
    ("smtp::config", &["mail", "tls", "limits"]),
    ("milter", &["service", "pipeline", "edit", "message", "remedy", "mail", "clock", "limits"]),
    ("http", &["service", "audit", "edit", "link_store", "message", "metrics", "readiness", "mail", "tls", "clock", "limits"]),
    ("service", &["metrics", "mail", "limits"]),
    (
        "pipeline",
        &[
            "allowlist",
            "recognition",
            "edit",
            "link_store",
            "identity",
            "audit",
            "message",
            "metrics",
            "failures",
            "readiness",
            "mail",
            "vocabulary",
            "clock",
            "limits",
        ],
    ),
    ("audit", &["edit", "failures", "remedy", "regular", "message", "mail", "clock", "limits"]),
    ("link_store", &["edit", "clock", "limits"]),
    ("edit", &["identity", "message"]),
    ("allowlist", &["identity", "recognition", "message", "mail", "limits"]),
    ("recognition", &["message", "mail"]),
    ("identity", &["message", "failures", "mail", "clock", "limits"]),
    ("message", &["mail", "limits"]),
    ("metrics", &["failures", "log", "mail"]),
    ("failures", &["readiness", "clock", "limits"]),
    ("readiness", &["printable"]),
    ("remedy", &[]),
    ("regular", &[]),
    ("mail", &["vocabulary", "limits"]),
    ("log", &["printable", "clock", "limits"]),
    ("tls", &[]),
    ("printable", &[]),
    ("vocabulary", &[]),
    ("typed_time", &[]),
    ("clock", &[]),
    ("limits", &[]),
];

/// Modules where the same input must give the same output: nothing here may reach for the world.
const PURE: &[&str] = &[
    "message/",
    "allowlist/",
    "recognition/",
    "edit/",
    "mail/",
    "smtp/codec/",
    "milter/assembly.rs",
    "pipeline/record.rs",
    "setup/",
    "digest/facts.rs",
    "digest/letter.rs",
    "digest/schedule.rs",
    "digest/text.rs",
    "audit/watch.rs",
    "audit/pseudonym.rs",
    "typed_time.rs",
];
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
    text.lines().map(|line| line.get(..comment(line)).unwrap()).collect::<Vec<_>>().join("\n")
}

/// Where a line's comment starts: at `//` outside of a string.
fn comment(line: &str) -> usize {
    let (mut inside, mut before) = (false, ' ');
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if before != '\\' && before != '\'' => inside = !inside,
            '/' if before == '/' && !inside => return at - 1,
            _ => {}
        }
        before = if before == '\\' && letter == '\\' { ' ' } else { letter };
    }
    line.len()
}

/// The modules that a source uses: `crate::module::..` and `crate::{module::{part, ..}, ..}`, as deep as the table goes.
fn used(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for at in code.match_indices("crate::").map(|(at, _)| at).chain(code.match_indices("firstclick::").map(|(at, _)| at)) {
        if code.get(..at).unwrap().ends_with('$') {
            // A macro's own path is used where the macro is.
            continue;
        }
        paths("", code.get(at..).unwrap().split_once("::").unwrap().1, &mut modules);
    }
    modules
}

/// The paths of one use tree, two segments deep.
fn paths(above: &str, tree: &str, into: &mut BTreeSet<String>) {
    let Some(group) = tree.strip_prefix('{') else {
        let segments: Vec<&str> = tree.split("::").take(2).collect();
        let ident = |text: &str| text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>();
        let first = ident(segments[0]);
        if first.is_empty() || first == "self" {
            return;
        }
        if above.is_empty() {
            let rest = tree.get(first.len()..).unwrap();
            match rest.strip_prefix("::") {
                Some(rest) if IN_PARTS.contains(&first.as_str()) => paths(&first, rest, into),
                _ => {
                    into.insert(first);
                }
            }
        } else {
            into.insert(format!("{above}::{first}"));
        }
        return;
    };
    let (mut depth, mut start) = (0_i32, 0);
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths(above, group.get(start..place).unwrap().trim(), into);
                return;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths(above, group.get(start..place).unwrap().trim(), into);
                start = place + 1;
            }
            _ => {}
        }
    }
}

/// Modules whose parts stand in the table by themselves.
const IN_PARTS: &[&str] = &["smtp"];

/// The module of a file, as the table names it.
fn module(path: &Path) -> String {
    let mut names = path.iter().map(|name| name.to_str().unwrap().trim_end_matches(".rs"));
    let first = names.next().unwrap();
    match names.next() {
        Some(part) if IN_PARTS.contains(&first) && part != "mod" => format!("{first}::{part}"),
        _ => first.to_owned(),
    }
}

#[test]
fn a_module_uses_only_modules_below_it_and_the_table_has_no_arrow_too_many() {
    let mut unused: BTreeSet<(&str, &str)> =
        ARROWS.iter().flat_map(|(module, allowed)| allowed.iter().map(|other| (*module, *other))).collect();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let here = module(&path);
        if here == "lib" || IN_PARTS.contains(&here.as_str()) {
            continue;
        }
        let (here, allowed) = ARROWS.iter().find(|(name, _)| *name == here).unwrap_or_else(|| panic!("{here} has no place in the table"));
        for other in used(&code(&text)).into_iter().filter(|other| other != here) {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{}: {here} must not use {other}", path.display()));
            }
            unused.retain(|(from, to)| (*from, *to) != (*here, other.as_str()));
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} arrows were read");
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(unused, BTreeSet::new(), "the code does not use these arrows");
}

#[test]
fn the_arrows_have_no_circle() {
    for (place, (module, allowed)) in ARROWS.iter().enumerate() {
        for other in *allowed {
            let at = ARROWS.iter().position(|(name, _)| name == other).unwrap_or_else(|| panic!("{other} has no place in the table"));
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
