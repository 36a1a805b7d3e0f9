//! Shapes against genuine and hostile links: `tests/shapes/*.tsv`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::{collections::BTreeSet, fs, path::Path};

use firstclick::{
    allowlist::{LinkRules, OtherLink, Shape},
    message::{Link, Target},
    recognition::Kind,
};
use proptest::prelude::*;

const READERS: [&str; 1] = ["bob@corp.example"];

fn rows(file: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes").join(file);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn web(address: &str) -> Option<Link> {
    match Target::read(address) {
        Target::Web(link) => Some(link),
        Target::Harmless | Target::Flawed(_) => None,
    }
}

fn rules(shape: &str, others: &str) -> LinkRules {
    let shapes = shape
        .split(' ')
        .filter(|shape| !shape.is_empty())
        .map(|shape| (Kind::PasswordReset, Shape::parse(shape).unwrap_or_else(|error| panic!("{shape}: {error}"))));
    let others = others
        .split(' ')
        .filter(|other| !other.is_empty())
        .map(|other| OtherLink::parse(other).unwrap_or_else(|error| panic!("{other}: {error}")));
    LinkRules::new(shapes.collect(), others.collect(), vec!["corp".into()])
}

#[test]
fn genuine_links_fit_their_shapes() {
    let rows = rows("genuine.tsv");
    assert!(rows.len() >= 100, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let rules = rules(&row[1], row.get(3).map_or("", String::as_str));
        let link = web(&row[2]).unwrap_or_else(|| panic!("{}: no link", row[2]));
        if rules.one_time(&link, &READERS).is_none() {
            wrong.push(format!("{} {}: {:?}", row[0], row[2], rules.why_not(&link, &READERS)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each row: the shapes, the other links, the hostile link, the genuine twin, what is tried. The twin stands, the hostile
/// link does not.
#[test]
fn hostile_links_fit_nothing() {
    let rows = rows("hostile.tsv");
    assert!(rows.len() >= 120, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let rules = rules(&row[0], &row[1]);
        let stands = |address: &str| {
            web(address).is_some_and(|link| rules.one_time(&link, &READERS).is_some() || rules.other(&link, &READERS).is_ok())
        };
        if stands(&row[2]) {
            wrong.push(format!("stands: {} ({})", row[2], row[4]));
        }
        if !row[3].is_empty() && !stands(&row[3]) {
            let link = web(&row[3]);
            let why = link.map(|link| (rules.why_not(&link, &READERS), rules.other(&link, &READERS)));
            wrong.push(format!("the twin does not stand: {} {why:?}", row[3]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    let twins: BTreeSet<&str> = rows.iter().map(|row| row[3].as_str()).collect();
    assert!(twins.len() >= 30, "only {} twins", twins.len());
}
