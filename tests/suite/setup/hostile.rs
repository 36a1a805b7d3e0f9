//! Hostile values in recipes: whatever a token, a name or an address is, it stands in a recipe as one value, or the recipe says that it
//! cannot be written. Each language is read by somebody else: `PowerShell` by tree-sitter's grammar, JSON's strings by `serde_json`,
//! patterns by `regex`, a shell's words by the shell, HTML by html5ever, Markdown by pulldown-cmark.

use std::{process::Command, sync::LazyLock};

use firstclick::{
    settings::Problems,
    setup::{
        Facts, Recipe, Shown,
        blank::Blank,
        place::{self, Language, Place},
        render, template,
    },
};
use html5ever::{ParseOpts, tendril::TendrilSink as _};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;
use pulldown_cmark::{Event, Parser, Tag};

/// What breaks out somewhere: quotes of every kind, ends of lines and of comments, what is expanded, markup.
const PIECES: &[&str] = &[
    "'",
    "''",
    "\u{2018}",
    "\u{2019}",
    "\u{201a}",
    "\u{201b}",
    "\"",
    "\u{201c}",
    "\u{201d}",
    "`",
    "``",
    "```",
    "$(calc)",
    "${x}",
    "$",
    "@'",
    "'@",
    "#",
    "<#",
    "#>",
    "|",
    ";",
    "&",
    "&&",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\\",
    "/",
    "*/",
    "//",
    "%",
    "{{header}}",
    "{{",
    "}}",
    "<script>",
    "</code>",
    "</pre>",
    "<!--",
    "-->",
    "&lt;",
    "](x)",
    "![",
    "**",
    "~~~",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{2028}",
    "\u{202e}",
    "\u{200b}",
    "\u{85}",
    "a",
    "B",
    "0",
    "-",
    "_",
    ".",
    ":",
    " ",
    "=",
    "^",
    "+",
    "?",
    "\u{e9}",
    "ＡＢ",
    "-Enabled",
    "$true",
    "TOKEN",
];

/// Scanners with recipes in each language, and one that is answered with guard.
const TICKETS: &[&str] = &["defender", "rspamd", "spamassassin", "cisco", "mimecast"];

fn value() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 1..6).prop_map(|pieces| pieces.concat())
}

fn values() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(value(), 1..4)
}

/// Facts in which every blank stands for these values; the first, where it is no list.
fn facts(values: &[String]) -> Facts {
    Facts::from_values(|blank: Blank| if blank.is_list() { values.to_vec() } else { values[..1].to_vec() })
}

/// As many harmless values.
fn harmless(values: &[String]) -> Vec<String> {
    (0..values.len()).map(|at| format!("value{at}")).collect()
}

fn recipes(facts: &Facts, is_asked: impl Fn(&str) -> bool) -> Vec<Recipe> {
    static ALL: LazyLock<Vec<template::Template>> = LazyLock::new(|| template::all(&mut Problems::default()));
    let asked = ALL.iter().filter(|template| is_asked(&template.name));
    asked.flat_map(|template| [Shown::Recipe, Shown::Paper].map(|shown| Recipe::new(template, facts, shown))).collect()
}

fn blocks(facts: &Facts, language: &str) -> Vec<Option<String>> {
    let steps = recipes(facts, |_| true).into_iter().flat_map(|recipe| recipe.chapters).flat_map(|chapter| chapter.steps);
    let of = |code: &firstclick::setup::Block| (code.language == language).then(|| code.text.clone());
    steps.map(|step| step.code.as_ref().and_then(of)).collect()
}

/// The nodes of a script, each by its kind, and the texts of its single-quoted strings. A typographic quote is a quote to
/// `PowerShell`, and the grammar does not know that: it reads each as `'`.
fn powershell(script: &str) -> (Vec<String>, Vec<String>) {
    let script: String = script.chars().map(|letter| if matches!(letter, '\u{2018}'..='\u{201b}') { '\'' } else { letter }).collect();
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    let tree = parser.parse(&script, None).unwrap();
    let (mut kinds, mut strings, mut open) = (Vec::new(), Vec::new(), vec![tree.root_node()]);
    while let Some(node) = open.pop() {
        assert!(!node.is_error() && !node.is_missing(), "{} in:\n{script}", node.to_sexp());
        kinds.push(node.kind().to_owned());
        if node.kind() == "verbatim_string_characters" {
            strings.push(script[node.byte_range()].to_owned());
        }
        let mut cursor = node.walk();
        open.extend(node.children(&mut cursor));
    }
    (kinds, strings)
}

#[test]
fn every_command_is_powershell() {
    let facts = facts(&harmless(&vec![String::new(); 2]));
    let scripts: Vec<String> = blocks(&facts, "powershell").into_iter().flatten().collect();
    assert!(scripts.len() > 20, "{}", scripts.len());
    for script in &scripts {
        let (_, strings) = powershell(script);
        assert!(!script.contains('"'), "double quotes expand what they hold: {script}");
        assert!(script.contains("value0") == strings.iter().any(|text| text.contains("value")), "a value stands in quotes: {script}");
    }
    // The reading is no idle one: what breaks out is seen.
    let (shape, _) = powershell("Set-X -Name 'a'");
    assert_ne!(powershell("Set-X -Name 'a'; calc 'b'").0, shape);
    assert_ne!(powershell("Set-X -Name 'a\u{2019}; calc \u{2019}b'").0, shape);
    assert_eq!(powershell("Set-X -Name 'a\u{2019}\u{2019}; calc'").0, shape);
}

/// The kinds and texts of HTML's elements.
fn elements(handle: &Handle, into: &mut Vec<String>) {
    if let NodeData::Element { name, attrs, .. } = &handle.data {
        into.push(format!("{} {}", name.local, attrs.borrow().len()));
    }
    if let NodeData::Comment { .. } = &handle.data {
        into.push("comment".into());
    }
    for child in handle.children.borrow().iter() {
        elements(child, into);
    }
}

fn html(recipe: &Recipe) -> Vec<String> {
    let dom = html5ever::parse_document(RcDom::default(), ParseOpts::default()).one(render::html(recipe));
    let mut found = Vec::new();
    elements(&dom.document, &mut found);
    found
}

/// Why steps are left out.
fn reasons(recipe: &Recipe) -> Vec<Option<String>> {
    recipe.chapters.iter().flat_map(|chapter| &chapter.steps).map(|step| step.left_out.clone()).collect()
}

/// The kinds of what Markdown holds, and how often; each piece of code and each link with its text.
fn markdown(recipe: &Recipe) -> Vec<String> {
    let text = render::markdown(recipe);
    let mut found = Vec::new();
    for event in Parser::new(&text) {
        match event {
            Event::Text(_) | Event::SoftBreak | Event::End(_) => {}
            Event::Code(_) => found.push("code".into()),
            Event::Html(html) | Event::InlineHtml(html) => panic!("HTML within Markdown: {html}\n{text}"),
            Event::Start(Tag::Link { dest_url, .. }) => {
                assert!(dest_url.starts_with("https://") && !dest_url.contains('<'), "{dest_url}");
                found.push("link".into());
            }
            Event::Start(Tag::Image { .. }) => panic!("a picture: {text}"),
            Event::Start(tag) => found.push(format!("{tag:?}")),
            other => found.push(format!("{other:?}")),
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A command with hostile values has the parts that it has with harmless ones, or there is none, and the step says so.
    #[test]
    fn nothing_breaks_out_of_powershell(values in values()) {
        let (good, bad) = (blocks(&facts(&harmless(&values)), "powershell"), blocks(&facts(&values), "powershell"));
        let writable = values.iter().all(|value| firstclick::printable::printable(value) == *value);
        for (good, bad) in good.iter().zip(&bad) {
            let (Some(good), Some(bad)) = (good, bad) else {
                prop_assert!(good.is_some() == bad.is_some() || !writable, "what can be quoted is: {values:?}");
                continue;
            };
            let ((shape, _), (now, strings)) = (powershell(good), powershell(bad));
            prop_assert_eq!(&now, &shape, "{}", bad);
            if good != bad {
                let first: String = values[0].chars().map(|letter| if matches!(letter, '\u{2018}'..='\u{201b}') { '\'' } else { letter }).collect();
                let literal = "'".to_owned() + &first.replace('\'', "''") + "'";
                prop_assert!(strings.contains(&literal), "{} is not in {:?}", literal, strings);
            }
        }
    }

    /// What is shown in a ticket has the parts that it has with harmless values.
    #[test]
    fn nothing_breaks_out_of_a_ticket(values in values()) {
        let all = |values: &[String]| recipes(&facts(values), |name| TICKETS.contains(&name));
        for (good, bad) in all(&harmless(&values)).iter().zip(&all(&values)) {
            let (wanted, found) = (html(good), html(bad));
            prop_assert!(found.iter().all(|name| wanted.contains(name)), "{:?}", found);
            let shown = markdown(bad);
            // A step that is left out has a paragraph for that, and no block.
            if reasons(good) == reasons(bad) {
                prop_assert_eq!(found, wanted);
                prop_assert_eq!(shown, markdown(good));
            }
        }
    }

    /// Each language's own reader reads the value, and nothing beside it.
    #[test]
    fn each_language_reads_the_value_back(value in value()) {
        let write = |language, place| place::written(language, place, std::slice::from_ref(&value), false);
        for language in [Language::Ucl, Language::Kql] {
            if let Ok(text) = write(language, Place::Word) {
                prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value.clone());
                prop_assert!(language != Language::Ucl || !value.trim_end_matches('$').contains('$'), "UCL has variables");
            }
        }
        if let Ok(text) = write(Language::Toml, Place::Word) {
            let table: toml::Table = format!("x = {text}").parse().unwrap();
            prop_assert_eq!(table["x"].as_str().unwrap(), &value);
        }
        if let Ok(text) = write(Language::SpamAssassin, Place::Pattern) {
            prop_assert!(!text.contains(['/', '#', '\n', ' ', '|', '(', '"', '\'']), "{}", text);
            let pattern = regex::Regex::new(&format!("^(?:{text})$")).unwrap();
            let longer = value.clone() + "x";
            prop_assert!(pattern.is_match(&value) && !pattern.is_match(&longer));
        }
        for language in [Language::SpamAssassin, Language::Cisco, Language::Lines] {
            if let Ok(text) = write(language, Place::Word) {
                prop_assert_eq!(text.lines().count(), 1);
                prop_assert_eq!(text.trim_matches('"'), value.trim_matches('"'));
                prop_assert!(language == Language::Lines || !value.contains(['"', '\\', '\'']) || language == Language::Cisco);
            }
        }
        for language in Language::WORDS.map(|(_, language)| language) {
            prop_assert!(write(language, Place::Closed).is_err(), "{:?}", language);
        }
    }
}

/// The shell itself reads what is written for it.
#[test]
fn a_shell_reads_the_value_back() {
    for pieces in PIECES.windows(3) {
        let value = pieces.concat();
        let Ok(text) = place::written(Language::Shell, Place::Word, std::slice::from_ref(&value), false) else { continue };
        let said = Command::new("/bin/sh").args(["-c", &format!("printf %s {text}")]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), value, "{text}");
    }
}
