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

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, iter,
    path::Path,
};

use firstclick::{
    message::{Content, Domain, Message},
    recognition::{Kind, Recogniser},
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
struct Sample {
    row: Labelled,
    content: Content,
    author: Option<Domain>,
}

fn samples() -> Option<Vec<Sample>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/dev");
    let Some(labels) = labels(&root) else {
        println!("skipped: needs ../shared/corpus/dev");
        return None;
    };
    let read = |row: Labelled| {
        let raw = fs::read(root.join(&row.path)).expect(&row.path);
        let message = Message::read(&raw);
        Sample { content: message.content(), author: message.author().ok().map(|author| author.domain), row }
    };
    Some(labels.into_iter().map(read).collect())
}

/// Tries a recogniser on mails; what came out by group, and the mails that came out wrong with their signals.
fn tried<'s>(recogniser: &Recogniser, samples: impl Iterator<Item = &'s Sample>) -> (BTreeMap<String, Tally>, Vec<String>) {
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    let mut misses = Vec::new();
    for Sample { row, content, author } in samples {
        let found = recogniser.recognise(content, author.as_ref());
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

/// The files whose words a mail in this language is read by. Relatives that are the same language in another coat go with
/// it; a language that only resembles it stays, as it would for a language that nobody thought of.
fn files_of(language: &str) -> Vec<String> {
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
    assert!(sum.recall() >= 0.75, "recall {}", sum.recall());
    assert!(sum.precision() >= 0.995, "precision {}", sum.precision());
}

/// What is recognised of a product whose own path words are taken away: those that stand in the one-time links of no
/// other product.
#[test]
fn a_product_without_rules_of_its_own_is_recognised() {
    let Some(samples) = samples() else { return };
    let words: Vec<String> = {
        let data: toml::Value = toml::from_str(include_str!("../config/recognition.toml")).unwrap();
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

/// Mails in the shape in which services send theirs: tables, VML buttons, preheaders, pixels, click counters.
#[test]
fn services_templates_are_recognised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let table = fs::read_to_string(root.join("labels.tsv")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut wrong = Vec::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let [name, kind, link] = cells[..] else { panic!("{row}") };
        let raw = fs::read(root.join(format!("{name}.eml"))).expect(name);
        let message = Message::read(&raw);
        let content = message.content();
        let found = recogniser.recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
        let code = found.kind.map_or("none", Kind::code);
        println!("{name:20} {kind:15} {code:15} {}", found.confidence);
        let places = content.links.iter().filter(|found| found.link.expose() == link).count();
        let right = found.one_time_links.len() == places && found.one_time_links.iter().all(|at| content.links[*at].link.expose() == link);
        // Some say two things in one: "welcome, verify your account and choose a password".
        if !kind.split('|').any(|kind| kind == code) || !right || !content.flaws.is_empty() {
            wrong.push(format!("{name}: {code}, link right: {right}, {:?}\n    {}", content.flaws, found.signals.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.lines().count() >= 16);
}

#[derive(serde::Deserialize)]
struct MadeUp {
    group: String,
    subject: String,
    text: String,
    label: String,
    after: String,
}

fn token(seed: usize, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut state = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[usize::try_from(state % LETTERS.len() as u64).unwrap()])
    };
    (0..length).map(|_| next()).collect()
}

impl MadeUp {
    /// The mail as one of several senders would send it, and its link.
    fn in_coat(&self, number: usize, coat: usize) -> (String, String) {
        let mail = self;
        let seed = number * 10 + coat;
        let (org, own) = [("Acme", "acme.test"), ("Nordwind", "nordwind.test"), ("Kite", "kite.test")][coat % 3];
        let (long, short) = (token(seed, 43), token(seed + 7_919, 20));
        let link = match coat {
            0 | 5 => format!("https://app.{own}/d/{long}"),
            1 | 6 => format!("https://click.{own}/ls/click?upn={long}{short}"),
            2 | 7 => format!("https://www.{own}/?utm_source=mail&cid={short}"),
            3 => format!("https://t.mailer.test/c/{long}"),
            4 => format!("https://{own}/n/{short}/{long}"),
            8 => format!("https://app.{own}/view/{long}"),
            _ => format!("https://app.{own}/items/48213#c-{short}"),
        };
        let subject = mail.subject.replace("{org}", org);
        let footer = format!("https://www.{own}/unsubscribe?u={short}");
        let (kind, body) = if coat.is_multiple_of(2) {
            let html = format!(
                "<html><body><p>{}</p><p><a href=\"{link}\">{}</a></p><p>{}</p><p><a href=\"{footer}\">Unsubscribe</a> <a href=\"https://www.{own}/privacy\">Privacy</a></p><img src=\"https://www.{own}/o/{short}.gif\"></body></html>",
                mail.text, mail.label, mail.after
            );
            ("html", html)
        } else {
            ("plain", format!("{}\r\n\r\n{}: {link}\r\n\r\n{}\r\n\r\n--\r\nUnsubscribe: {footer}\r\n", mail.text, mail.label, mail.after))
        };
        let raw = format!(
            "From: {org} <news@{own}>\r\nTo: bob@corp.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n{body}"
        );
        (raw, link)
    }
}

#[derive(serde::Deserialize)]
struct Table {
    mail: Vec<MadeUp>,
}

/// What mails in other words than the corpus has ask for, behind links that say nothing themselves.
#[test]
fn other_wordings_are_recognised() {
    let table: Table = toml::from_str(include_str!("wordings.toml")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let mut wrong = Vec::new();
    for (number, mail) in table.mail.iter().enumerate() {
        let wanted = mail.group.split(' ').nth(1).unwrap();
        // Coats with a token in the link and the sender's own name on it.
        for coat in [0, 1, 4, 5, 6] {
            let (raw, link) = mail.in_coat(number, coat);
            let message = Message::read(raw.as_bytes());
            let content = message.content();
            let found = recogniser.recognise(&content, message.author().ok().map(|author| author.domain).as_ref());
            let right = !found.one_time_links.is_empty() && found.one_time_links.iter().all(|at| content.links[*at].link.expose() == link);
            if found.kind.map_or("none", Kind::code) != wanted || !right {
                wrong.push(format!(
                    "{} {:?} in coat {coat}: {:?}\n    {}",
                    mail.group,
                    mail.subject,
                    found.kind,
                    found.signals.join("\n    ")
                ));
            }
        }
    }
    println!("{} wordings, {} wrong", table.mail.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.mail.len() > 30);
}

/// Newsletters, receipts, tickets, notices and shared things, more than 500: each text in ten coats, with unique links, counted
/// links and the links in every footer.
#[test]
fn made_up_mails_are_not_taken() {
    let table: Table = toml::from_str(include_str!("negatives.toml")).unwrap();
    let recogniser = Recogniser::built_in().expect("built-in words");
    let (mut groups, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    for (number, mail) in table.mail.iter().enumerate() {
        for coat in 0..10 {
            let (raw, _) = mail.in_coat(number, coat);
            let message = Message::read(raw.as_bytes());
            let found = recogniser.recognise(&message.content(), message.author().ok().map(|author| author.domain).as_ref());
            *groups.entry(mail.group.clone()).or_default() += 1;
            if found.kind.is_some() {
                wrong.push(format!("{:?} in coat {coat}: {:?}\n    {}", mail.subject, found.kind, found.signals.join("\n    ")));
            }
        }
    }
    println!("{groups:?}, {} taken", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(groups.values().sum::<usize>() >= 500);
}
