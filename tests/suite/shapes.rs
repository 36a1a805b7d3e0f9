//! Shapes against genuine and hostile links: `tests/shapes/*.tsv`.

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

/// A piece of a shape, of a link, and what of the link is literal.
#[derive(Clone, Debug)]
struct Part {
    shape: String,
    link: String,
    literal: bool,
}

fn literal() -> impl Strategy<Value = Part> {
    "[a-zA-Z][a-zA-Z0-9]{2,9}".prop_map(|text| Part { shape: text.clone(), link: text, literal: true })
}

fn token() -> impl Strategy<Value = Part> {
    "[A-Za-z0-9]{20,60}".prop_filter("a token", |text| firstclick::allowlist::unguessable::is_unguessable(text)).prop_map(|text| Part {
        shape: "{token}".into(),
        link: text,
        literal: false,
    })
}

fn hole() -> impl Strategy<Value = Part> {
    let part = |shape: &str, link: String| Part { shape: shape.into(), link, literal: false };
    prop_oneof![
        token(),
        "[A-Za-z0-9]{4,12}".prop_map(move |text| part("{code}", text)),
        "[0-9]{1,18}".prop_map(move |text| part("{id}", text)),
        "[A-Za-z0-9]{1,30}".prop_map(move |text| part("{word}", text)),
        "[A-Za-z]{1,9}%20[a-z]{1,9}".prop_map(move |text| part("{text}", text)),
        Just(part("{email}", "bob%40corp.example".into())),
        Just(part("{tenant}", "corp".into())),
    ]
}

/// One to three parts of a segment or a value, holes set apart by a literal `!`, which no hole takes.
fn piece() -> impl Strategy<Value = Vec<Part>> {
    let edge = || Just(Part { shape: "!".into(), link: "!".into(), literal: true });
    prop_oneof![
        literal().prop_map(|part| vec![part]),
        hole().prop_map(|part| vec![part]),
        (literal(), edge(), hole()).prop_map(|(first, edge, second)| vec![first, edge, second]),
        (hole(), edge(), hole()).prop_map(|(first, edge, second)| vec![first, edge, second]),
        (hole(), edge(), literal()).prop_map(|(first, edge, second)| vec![first, edge, second]),
    ]
}

fn plain(text: &str) -> Part {
    Part { shape: text.into(), link: text.into(), literal: false }
}

fn fixed(text: String) -> Part {
    Part { shape: text.clone(), link: text, literal: true }
}

/// A shape with one token at least, and a link that fits it.
fn shape_and_link() -> impl Strategy<Value = Vec<Part>> {
    let fields = || proptest::collection::vec((piece(), any::<bool>()), 0..4);
    let path = proptest::collection::vec(piece(), 1..5);
    ("[a-z]{3,8}", literal(), path, token(), fields(), proptest::option::of((literal(), token(), fields()))).prop_map(
        |(host, first, path, token, fields, fragment)| {
            let mut parts = vec![plain("https://"), fixed(host), plain("."), fixed("bank".into()), plain(".test/"), first];
            for piece in path {
                parts.push(plain("/"));
                parts.extend(piece);
            }
            parts.extend([plain("/"), token]);
            let queries = |parts: &mut Vec<Part>, fields: Vec<(Vec<Part>, bool)>| {
                for (at, (value, _)) in fields.into_iter().enumerate() {
                    parts.push(plain(if at == 0 { "?" } else { "&" }));
                    parts.push(fixed(format!("key{at}")));
                    parts.push(plain("="));
                    parts.extend(value);
                }
            };
            queries(&mut parts, fields);
            if let Some((name, token, fields)) = fragment {
                parts.extend([plain("#/"), name, plain("/"), token]);
                queries(&mut parts, fields);
            }
            parts
        },
    )
}

fn fits(shape: &str, link: &str) -> bool {
    let rules = rules(shape, "");
    web(link).is_some_and(|link| rules.one_time(&link, &READERS).is_some())
}

proptest! {
    #[test]
    fn a_link_made_from_a_shape_fits_it(parts in shape_and_link()) {
        let shape: String = parts.iter().map(|part| part.shape.as_str()).collect();
        let link: String = parts.iter().map(|part| part.link.as_str()).collect();
        prop_assert!(fits(&shape, &link), "{shape} {link}: {:?}", rules(&shape, "").why_not(&web(&link).unwrap(), &READERS));
    }

    #[test]
    fn one_character_of_host_literal_or_key_makes_it_another(parts in shape_and_link(), at in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), other in "[a-z0-9]") {
        let shape: String = parts.iter().map(|part| part.shape.as_str()).collect();
        let literals: Vec<usize> = parts.iter().enumerate().filter(|(_, part)| part.literal).map(|(at, _)| at).collect();
        let chosen = literals[at.index(literals.len())];
        let mut changed = parts.clone();
        let text = &mut changed[chosen].link;
        let place = place.index(text.len());
        prop_assume!(!text[place..=place].eq_ignore_ascii_case(&other));
        text.replace_range(place..=place, &other);
        let link: String = changed.iter().map(|part| part.link.as_str()).collect();
        prop_assert!(!fits(&shape, &link), "{shape} {link}");
        // A character more, too, where no placeholder takes it.
        prop_assume!(parts[chosen].link != "!");
        let mut longer = parts;
        longer[chosen].link.push_str(&other);
        let link: String = longer.iter().map(|part| part.link.as_str()).collect();
        prop_assert!(!fits(&shape, &link), "{shape} {link}");
    }

    #[test]
    fn reading_is_total(text in any::<String>(), tail in "[ -~\u{a0}-\u{2fff}]{0,300}") {
        let _ = Shape::parse(&text);
        let _ = OtherLink::parse(&tail);
        let _ = Shape::parse(&format!("bank.test/{tail}"));
        let rules = rules("bank.test/reset/{token}?a={text}&b={url}&c={word}-{word}-{token} bank.test/#/{token}/{text}/x", "bank.test");
        for address in [format!("https://bank.test/{tail}"), format!("https://bank.test/reset/x7Kq2mZt9LbVw4Rn?b={tail}"), text] {
            if let Some(link) = web(&address) {
                let _ = (rules.one_time(&link, &READERS), rules.other(&link, &READERS), rules.why_not(&link, &READERS));
            }
        }
    }
}

/// The bound on work holds: the longest links, the worst pieces, many shapes of one host.
#[test]
fn the_worst_links_take_milliseconds() {
    let shape = "bank.test/a/{word}-{word}-{word}-{word}-{word}-{word}-{word}-{token}?next={url}";
    let many: Vec<String> = (0..200).map(|at| format!("{shape}&k{at}={{token}}")).collect();
    let rules = rules(&many.join(" "), "bank.test *.bank.test");
    let dashes = "a-".repeat(4_000);
    let nested = (0..40).fold("https://bank.test/x".to_owned(), |inner, _| format!("https://bank.test/a/x7Kq2mZt9LbVw4Rn?next={inner}"));
    let letters = "aHR0".repeat(2_000);
    let slashes = "/".repeat(8_000);
    let colons = "http:".repeat(1_600);
    let hosts = "a.co/".repeat(1_600);
    let fields: String = (0..2_000).map(|at| format!("&{at}=")).collect();
    for tail in [&dashes, &nested, &letters, &slashes, &colons, &hosts, &fields] {
        for address in
            [format!("https://bank.test/a/{tail}"), format!("https://bank.test/a/x?next={tail}"), format!("https://bank.test/a#{tail}")]
        {
            let Some(link) = web(&address) else { continue };
            let start = std::time::Instant::now();
            for _ in 0..3 {
                let _ = (rules.one_time(&link, &READERS), rules.other(&link, &READERS));
            }
            // Debug builds are some twenty times slower than what is shipped.
            assert!(start.elapsed().as_millis() < 3_000, "{} ms: {}", start.elapsed().as_millis(), &address[..60]);
        }
    }
}
