//! Links replaced in mails, without a hop: all of them in every place and spelling, or none, and nothing else. What is
//! changed is read again by Python's email package and an HTML parser of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

#[path = "edits/made.rs"]
mod made;

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use firstclick::{
    clock::Timestamp,
    edit::{
        self,
        guard_link::{GuardLink, GuardLinkKeys, SealKey},
        rewrite::{self, Swap, SwapError},
    },
    message::Message,
};
use serde_json::json;
use tempfile::TempDir;

const URL: &str = "https://links.corp.example";

fn guard_links() -> GuardLinkKeys {
    let keys = SealKey::parse("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=").into_iter().collect();
    GuardLinkKeys { url: URL.into(), keys, lifetime: Duration::from_hours(24) }
}

/// What the sessions of the project share, beside the repository or where the environment says.
fn shared(path: &str) -> std::path::PathBuf {
    let root = std::env::var_os("FIRSTCLICK_SHARED").map(std::path::PathBuf::from);
    root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(path)
}

/// A guarded mail, and the one-time link behind each sealed link.
struct Guarded {
    mail: Vec<u8>,
    links: BTreeMap<String, String>,
}

/// Guards every link of a mail that is a one-time link.
fn guard(raw: &[u8], is_one_time: impl Fn(&str) -> bool) -> Result<Guarded, SwapError> {
    let message = Message::read(raw);
    let content = message.content().unwrapped();
    let (mut swaps, mut links): (Vec<Swap>, BTreeMap<String, String>) = (Vec::new(), BTreeMap::new());
    for found in content.links.iter().filter(|found| is_one_time(found.link.expose())) {
        if swaps.iter().any(|swap| swap.from == found.written()) {
            continue;
        }
        let sealed = GuardLink {
            link: found.link.expose().to_owned(),
            mail: "1a20ecd86fca5b1238a".into(),
            entry: "acme-hr".into(),
            author: "acme.example".into(),
            recipient: "bob@corp.example".into(),
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            until: Timestamp::from_second(1_800_600_000).unwrap(),
        };
        let to = guard_links().seal(&sealed).unwrap();
        links.insert(to.clone(), sealed.link);
        swaps.push(Swap::one_time(found.written().to_owned(), to, found.link.expose()));
    }
    assert!(!swaps.is_empty(), "no one-time link was found in {}", String::from_utf8_lossy(raw));
    let patches = rewrite::swap(&message, &content, &swaps)?;
    Ok(Guarded { mail: edit::apply(raw, &patches).unwrap(), links })
}

/// Puts back what gateways wrapped.
fn put_back(raw: &[u8]) -> Result<Vec<u8>, SwapError> {
    let message = Message::read(raw);
    let content = message.content().unwrapped();
    let swaps: Vec<Swap> =
        content.links.iter().filter_map(|found| Some(Swap::back(found.wrapped.clone()?, found.link.expose().to_owned()))).collect();
    Ok(edit::apply(raw, &rewrite::swap(&message, &content, &swaps)?).unwrap())
}

/// Every sealed link of a guarded mail opens to its exact original, and each original is sealed; none of the tokens is left.
fn check(name: &str, guarded: &Guarded, tokens: &[&str]) -> usize {
    let now = Timestamp::from_second(1_800_000_100).unwrap();
    let content = Message::read(&guarded.mail).content();
    let mut seen = std::collections::BTreeSet::new();
    for found in &content.links {
        let link = found.link.expose();
        for token in tokens {
            assert!(!link.contains(token), "{name}: {link} is left");
        }
        if let Some(value) = link.strip_prefix(&format!("{URL}/c/")) {
            assert_eq!(guard_links().open(value, now).unwrap().link, guarded.links[link], "{name}");
            seen.insert(link.to_owned());
        }
        assert!(link.len() <= 2_000);
    }
    assert_eq!(seen.len(), guarded.links.len(), "{name}: a sealed link is missing");
    for line in guarded.mail.split(|octet| *octet == b'\n') {
        assert!(line.len() <= 999, "{name}: a line of {}", line.len());
    }
    seen.len()
}

/// Writes a pair of mails for the second reader.
fn keep(folder: &Path, number: usize, before: &[u8], guarded: &Guarded) {
    fs::write(folder.join(format!("{number}.before")), before).unwrap();
    fs::write(folder.join(format!("{number}.after")), &guarded.mail).unwrap();
    let links: Vec<&String> = guarded.links.values().collect();
    fs::write(folder.join(format!("{number}.json")), json!({ "links": links, "url": format!("{URL}/c/") }).to_string()).unwrap();
}

/// What Python reads of the pairs: the same fields, parts, elements, attributes and words, but for the links.
fn read_again(folder: &Path, count: usize) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edits/compare.py");
    let output = Command::new("python3").arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{}", said.trim());
    assert!(said.starts_with(&format!("{count} mails ")), "{said}");
}

/// Mails with one to three one-time links, trackers, one or both parts, every encoding, several charsets and spellings.
#[test]
fn made_mails_are_guarded() {
    const MAILS: usize = 600;
    let folder = TempDir::new().unwrap();
    let (mut links, mut longest, mut not) = (0, 0, Vec::new());
    for number in 0..MAILS {
        let made = made::mail(number);
        let name = format!("made mail {number}");
        match guard(&made.raw, |link| made.tokens.iter().any(|token| link.contains(token))) {
            Ok(guarded) => {
                let tokens: Vec<&str> = made.tokens.iter().map(String::as_str).collect();
                links += check(&name, &guarded, &tokens);
                longest = longest.max(guarded.links.keys().map(String::len).max().unwrap());
                keep(folder.path(), number, &made.raw, &guarded);
            }
            Err(error) => not.push(format!("{name}: {error}\n{}", String::from_utf8_lossy(&made.raw))),
        }
    }
    println!("{} of {MAILS} guarded, {links} links, the longest guard link {longest} characters", MAILS - not.len());
    assert!(not.is_empty(), "{} not guarded, the first: {}", not.len(), not[0]);
    read_again(folder.path(), MAILS);
}

/// Every positive mail of the shared corpus.
#[test]
fn the_corpus_is_guarded() {
    let root = shared("corpus/dev");
    let Ok(table) = fs::read_to_string(root.join("labels.tsv")) else {
        println!("skipped: needs ../shared/corpus/dev");
        return;
    };
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split('\t').collect()).filter(|row: &Vec<&str>| row[0].starts_with("positive")).collect();
    let folder = TempDir::new().unwrap();
    let mut not = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let raw = fs::read(root.join(row[0])).unwrap();
        let tokens = rewrite::tokens(row[5]);
        match guard(&raw, |link| link == row[5] || tokens.iter().any(|token| link.contains(token))) {
            Ok(guarded) => {
                check(row[0], &guarded, &tokens.iter().map(String::as_str).collect::<Vec<_>>());
                keep(folder.path(), number, &raw, &guarded);
            }
            Err(error) => not.push(format!("{}: {error}", row[0])),
        }
    }
    println!("{} of {} guarded", rows.len() - not.len(), rows.len());
    assert!(not.is_empty(), "{not:#?}");
    read_again(folder.path(), rows.len());
}

/// Mails from public reports.
#[test]
fn public_reports_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports");
    let read = |name: &str| firstclick::message::as_sent(fs::read(root.join(name)).unwrap());
    let folder = TempDir::new().unwrap();
    let guarded = ["A06g", "A09g", "A10g", "A37g", "A71g", "A73g"];
    for (number, (name, links)) in guarded.into_iter().zip([1, 1, 1, 2, 2, 2]).enumerate() {
        let raw = read(&format!("{name}.eml"));
        let tokens = ["Xk29LmQz81PwVt7RbYcD", "c1a9d03b7e5f2846a0b9c8d7e6f5a4b3c2d1e0f9"];
        let guarded = guard(&raw, |link| tokens.iter().any(|token| link.contains(token))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(check(name, &guarded, &tokens), links, "{name}");
        keep(folder.path(), number, &raw, &guarded);
    }
    read_again(folder.path(), guarded.len());
    let link = "https://login.acme.test/reset/c1a9d03b7e5f2846a0b9c8d7e6f5a4b3c2d1e0f9";
    for (name, times) in [("A85", 1), ("A94", 2), ("A96", 2)] {
        let after = String::from_utf8(put_back(&read(&format!("{name}.eml"))).unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap();
        assert_eq!(after.matches(link).count(), times, "{name}: {after}");
        for mark in ["urldefense", "safelinks", "$", "[.]", "__"] {
            assert!(!after.contains(mark), "{name}: {mark} is left in {after}");
        }
        // And guarded instead.
        let guarded = guard(&read(&format!("{name}.eml")), |found| found == link).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(name, &guarded, &["c1a9d03b7e5f2846a0b9c8d7e6f5a4b3c2d1e0f9"]);
    }
}
