//! How well mails are recognised, over the shared corpus where it is at hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on panics"
)]

use std::{collections::BTreeMap, fs, path::Path};

use firstclick::{
    message::Message,
    policy::{Kind, Recogniser},
};

struct Labelled {
    path: String,
    kind: String,
    language: String,
    product: String,
    link: String,
}

fn labels(root: &Path) -> Option<Vec<Labelled>> {
    let table = fs::read_to_string(root.join("labels.tsv")).ok()?;
    let rows = table.lines().skip(1).map(|line| {
        let mut cells = line.split('\t').map(str::to_owned);
        let mut next = || cells.next().unwrap_or_default();
        let (path, kind, language, product, _subject, link) = (next(), next(), next(), next(), next(), next());
        Labelled { path, kind, language, product, link }
    });
    Some(rows.collect())
}

#[derive(Default)]
struct Tally {
    wanted: usize,
    found: usize,
    wrong: usize,
    kind_right: usize,
    link_right: usize,
}

impl Tally {
    fn recall(&self) -> f64 {
        ratio(self.found, self.wanted)
    }

    fn precision(&self) -> f64 {
        ratio(self.found, self.found + self.wrong)
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundreds of mails")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[test]
fn the_corpus_is_recognised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/dev");
    let Some(labels) = labels(&root) else {
        println!("skipped: needs ../shared/corpus/dev");
        return;
    };
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    let mut misses = Vec::new();
    for row in &labels {
        let raw = fs::read(root.join(&row.path)).expect(&row.path);
        let message = Message::read(&raw);
        let content = message.content();
        let author = message.author().ok();
        let found = recogniser.recognise(&content, author.as_ref().map(|author| &author.domain));
        let wanted = Kind::ALL.iter().find(|kind| kind.code() == row.kind);
        let links: Vec<&str> = found.one_time_links.iter().map(|at| content.links[*at].link.expose()).collect();
        let link_right = !links.is_empty() && links.iter().all(|link| *link == row.link);
        let names =
            ["all".to_owned(), format!("language {}", row.language), format!("product {}", row.product), format!("kind {}", row.kind)];
        for name in names {
            let tally = groups.entry(name).or_default();
            match (wanted, found.kind) {
                (Some(kind), seen) => {
                    tally.wanted += 1;
                    tally.found += usize::from(seen.is_some());
                    tally.kind_right += usize::from(seen == Some(*kind));
                    tally.link_right += usize::from(seen.is_some() && link_right);
                }
                (None, seen) => tally.wrong += usize::from(seen.is_some()),
            }
        }
        if wanted.is_some() != found.kind.is_some() || (found.kind.is_some() && !link_right) {
            misses.push(format!(
                "{}: found {:?} ({}), links right: {link_right}\n    {}",
                row.path,
                found.kind,
                found.confidence,
                found.signals.join("\n    ")
            ));
        }
    }
    println!("{:32} {:>6} {:>6} {:>6} {:>7} {:>9} {:>6} {:>6}", "", "wanted", "found", "wrong", "recall", "precision", "link", "kind");
    for (name, tally) in &groups {
        println!(
            "{name:32} {:>6} {:>6} {:>6} {:>7.3} {:>9.3} {:>6.3} {:>6.3}",
            tally.wanted,
            tally.found,
            tally.wrong,
            tally.recall(),
            tally.precision(),
            ratio(tally.link_right, tally.found),
            ratio(tally.kind_right, tally.found)
        );
    }
    for miss in &misses {
        println!("{miss}");
    }
    let all = groups.remove("all").expect("the sum");
    assert!(all.recall() >= 0.90, "recall {}", all.recall());
    assert!(all.precision() >= 0.98, "precision {}", all.precision());
    assert!(ratio(all.link_right, all.found) >= 0.97, "links {}", ratio(all.link_right, all.found));
}

#[test]
fn no_ordinary_mail_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/mime");
    if !root.exists() {
        println!("skipped: needs ../shared/corpus/mime");
        return;
    }
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut seen = 0;
    for folder in ["rfc", "legacy"] {
        for file in fs::read_dir(root.join(folder)).expect("folder").flatten() {
            let raw = fs::read(file.path()).expect("mail");
            let content = Message::read(&raw).content();
            let found = recogniser.recognise(&content, None);
            assert!(found.kind.is_none(), "{}: {found:?}", file.path().display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} mails");
}
