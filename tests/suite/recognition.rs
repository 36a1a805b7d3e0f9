//! How well mails are recognised, over the shared corpus where it is at hand.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, iter,
    path::Path,
};

use firstclick::{
    message::{Content, Domain, Message},
    recognition::{Kind, Recogniser},
};

pub(crate) struct Labelled {
    path: String,
    kind: String,
    language: String,
    product: String,
    link: String,
}

pub(crate) fn labels(root: &Path) -> Option<Vec<Labelled>> {
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
pub(crate) struct Tally {
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

    fn add(&mut self, other: &Self) {
        self.wanted += other.wanted;
        self.found += other.found;
        self.wrong += other.wrong;
        self.kind_right += other.kind_right;
        self.link_right += other.link_right;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} {:>6} {:>6} {:>7.3} {:>9.3} {:>6.3} {:>6.3}",
            self.wanted,
            self.found,
            self.wrong,
            self.recall(),
            self.precision(),
            ratio(self.link_right, self.found),
            ratio(self.kind_right, self.found)
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundreds of mails")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// A mail of the corpus, read once for all the recognisers that are tried on it.
pub(crate) struct Sample {
    row: Labelled,
    content: Content,
    author: Option<Domain>,
}

pub(crate) fn samples() -> Option<Vec<Sample>> {
    samples_in(&crate::hop::shared("corpus/dev")?)
}

pub(crate) fn samples_in(root: &Path) -> Option<Vec<Sample>> {
    let labels = labels(root)?;
    let read = |row: Labelled| {
        let raw = fs::read(root.join(&row.path)).expect(&row.path);
        let message = Message::read(&raw);
        Sample { content: message.content(), author: message.author().ok().map(|author| author.domain), row }
    };
    Some(labels.into_iter().map(read).collect())
}

/// Tries a recogniser on mails; what came out by group, and the mails that came out wrong with their signals.
pub(crate) fn tried<'s>(recogniser: &Recogniser, samples: impl Iterator<Item = &'s Sample>) -> (BTreeMap<String, Tally>, Vec<String>) {
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    let mut misses = Vec::new();
    for Sample { row, content, author } in samples {
        let found = recogniser.recognise(content, author.as_ref());
        let wanted: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| row.kind.split('|').any(|code| kind.code() == code)).collect();
        // The link in each of its spellings: as it is, and as a click counter writes it.
        let spellings: Vec<&str> = row.link.split(' ').collect();
        let is_wanted = |at: &usize| spellings.contains(&content.links[*at].link.expose());
        let places = (0..content.links.len()).filter(is_wanted).count();
        let link_right = places > 0 && found.one_time_links.len() == places && found.one_time_links.iter().all(is_wanted);
        let names =
            ["all".to_owned(), format!("language {}", row.language), format!("product {}", row.product), format!("kind {}", row.kind)];
        for name in names {
            let tally = groups.entry(name).or_default();
            if wanted.is_empty() {
                tally.wrong += usize::from(found.kind.is_some());
            } else {
                tally.wanted += 1;
                tally.found += usize::from(found.kind.is_some());
                tally.kind_right += usize::from(found.kind.is_some_and(|kind| wanted.contains(&kind)));
                tally.link_right += usize::from(found.kind.is_some() && link_right);
            }
        }
        if wanted.is_empty() != found.kind.is_none() || (found.kind.is_some() && !link_right) {
            misses.push(format!(
                "{}: {} in {:?}: found {:?} ({}), links right: {link_right}\n    {}",
                row.path,
                row.kind,
                row.language,
                found.kind,
                found.confidence,
                found.signals.join("\n    ")
            ));
        }
    }
    (groups, misses)
}

#[test]
fn the_corpus_is_recognised() {
    let Some(samples) = samples() else { return };
    let (mut groups, misses) = tried(&Recogniser::built_in().expect("built-in words"), samples.iter());
    println!("{:32} {:>6} {:>6} {:>6} {:>7} {:>9} {:>6} {:>6}", "", "wanted", "found", "wrong", "recall", "precision", "link", "kind");
    for (name, tally) in &groups {
        println!("{name:32} {tally}");
    }
    for miss in &misses {
        println!("{miss}");
    }
    let all = groups.remove("all").expect("the sum");
    assert!(all.recall() >= 0.98, "recall {}", all.recall());
    assert!(all.precision() >= 0.995, "precision {}", all.precision());
    assert!(ratio(all.link_right, all.found) >= 0.99, "links {}", ratio(all.link_right, all.found));
    assert!(ratio(all.kind_right, all.wanted) >= 0.95, "kinds {}", ratio(all.kind_right, all.wanted));
}

/// Figures over a set of one's own, labelled as the corpus is: `RECOGNITION_SET=FOLDER`. The link's cell may hold several
/// spellings with a space between them, the kind's several kinds with a bar.
#[test]
fn a_set_of_ones_own() {
    let Some(root) = std::env::var_os("RECOGNITION_SET") else {
        println!("skipped: needs RECOGNITION_SET=FOLDER");
        return;
    };
    let samples = samples_in(Path::new(&root)).expect("labels.tsv");
    let (groups, misses) = tried(&Recogniser::built_in().expect("built-in words"), samples.iter());
    println!("{:32} {:>6} {:>6} {:>6} {:>7} {:>9} {:>6} {:>6}", "", "wanted", "found", "wrong", "recall", "precision", "link", "kind");
    for (name, tally) in groups.iter().filter(|(name, _)| !name.starts_with("language")) {
        println!("{name:32} {tally}");
    }
    if std::env::var_os("MISSES").is_some() {
        for miss in &misses {
            println!("{miss}");
        }
    }
}

/// The files whose words a mail in this language is read by. Relatives that are the same language in another coat go with
/// it; a language that only resembles it stays, as it would for a language that nobody thought of.
pub(crate) fn files_of(language: &str) -> Vec<String> {
    let stem = language.split('-').next().unwrap_or(language);
    let also: &[&str] = match stem {
        "zh" => &["zh-hans", "zh-hant"],
        "no" | "nb" | "nn" => &["nb", "nn"],
        "sr" => &["sr", "sr-latn"],
        _ => &[],
    };
    iter::once(stem).chain(also.iter().copied()).map(str::to_owned).collect()
}

/// What is recognised in a language whose words are taken away: all mails of the corpus in it, and nothing wrongly.
#[test]
fn a_language_without_words_is_recognised_by_its_links() {
    let Some(samples) = samples() else { return };
    let languages: BTreeSet<Vec<String>> =
        samples.iter().filter(|sample| sample.row.kind != "kind").map(|sample| files_of(&sample.row.language)).collect();
    let mut sum = Tally::default();
    println!(
        "{:32} {:>6} {:>6} {:>6} {:>7} {:>9} {:>6} {:>6}",
        "without", "wanted", "found", "wrong", "recall", "precision", "link", "kind"
    );
    for files in languages {
        let left_out: Vec<&str> = files.iter().map(String::as_str).collect();
        let recogniser = Recogniser::without(&left_out, &[]).expect("built-in words");
        let own = samples.iter().filter(|sample| files_of(&sample.row.language) == files);
        let (groups, misses) = tried(&recogniser, own);
        let tally = &groups["all"];
        println!("{:32} {tally}", files.join(" "));
        if std::env::var_os("MISSES").is_some() {
            for miss in &misses {
                println!("{miss}");
            }
        }
        sum.add(tally);
    }
    println!("{:32} {sum}", "all");
    // A counter with words on it in an unknown language is not taken by the subject alone: that cost two in a hundred.
    assert!(sum.recall() >= 0.73, "recall {}", sum.recall());
    assert!(sum.precision() >= 0.995, "precision {}", sum.precision());
}

/// What is recognised of a product whose own path words are taken away: those that stand in the one-time links of no
/// other product.
#[test]
fn a_product_without_rules_of_its_own_is_recognised() {
    let Some(samples) = samples() else { return };
    let words: Vec<String> = {
        let data: toml::Value = toml::from_str(include_str!("../../config/recognition.toml")).unwrap();
        let lists = data["paths"].as_table().unwrap().values().filter_map(toml::Value::as_array).flatten();
        lists.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let products: BTreeSet<&str> = samples.iter().map(|sample| sample.row.product.as_str()).filter(|name| *name != "product").collect();
    let of = |word: &str| -> BTreeSet<&str> {
        let own = samples.iter().filter(|sample| sample.row.link.to_lowercase().contains(word));
        own.map(|sample| sample.row.product.as_str()).collect()
    };
    let mut sum = Tally::default();
    println!(
        "{:32} {:>6} {:>6} {:>6} {:>7} {:>9} {:>6} {:>6}",
        "without", "wanted", "found", "wrong", "recall", "precision", "link", "kind"
    );
    for product in products {
        let own: Vec<&str> = words.iter().map(String::as_str).filter(|word| of(word).iter().copied().eq(iter::once(product))).collect();
        let recogniser = Recogniser::without(&[], &own).expect("built-in words");
        let (groups, misses) = tried(&recogniser, samples.iter().filter(|sample| sample.row.product == product));
        println!("{product:32} {}  {}", groups["all"], own.join(" "));
        if std::env::var_os("MISSES").is_some() {
            for miss in &misses {
                println!("{miss}");
            }
        }
        sum.add(&groups["all"]);
    }
    println!("{:32} {sum}", "all");
    assert!(sum.recall() >= 0.93, "recall {}", sum.recall());
    assert!(sum.precision() >= 0.995, "precision {}", sum.precision());
}

#[test]
fn no_ordinary_mail_is_taken() {
    let Some(root) = crate::hop::shared("corpus/mime") else { return };
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
