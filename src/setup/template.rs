//! The scanners that are known, each a file of `config/scanners/`: what it can be told, what it does with a link, how sure that is,
//! and the steps of its recipe with their blanks.

use include_dir::{Dir, include_dir};

use super::{
    blank::{self, Blank, Code, Piece, Run},
    place::Language,
};
use crate::settings::{
    Problems,
    schema::{Document, Section},
};

static SCANNERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/scanners");
/// What is done where a scanner cannot be told.
const GUARD: &str = include_str!("../../config/guard-recipe.toml");

/// A scanner.
#[derive(Clone, Debug)]
pub struct Template {
    /// The name by which `setup` knows it: the file's name.
    pub name: String,
    /// The name by which people know it.
    pub title: String,
    /// Other words that an admin would type.
    pub aliases: Vec<String>,
    /// The day on which its documents were read last, as in `2026-11-25`.
    pub checked: String,
    /// Whether it can be told by header, by address, by a list of URLs.
    pub told: Vec<Claim>,
    /// What it does with a link: before delivery, at click, scripts, posts, presses.
    pub does: Vec<Claim>,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Template {
    /// What is known of it about this key of `told` or `does`.
    #[must_use]
    pub fn claim(&self, key: &str) -> Option<&Claim> {
        self.told.iter().chain(&self.does).find(|claim| claim.key == key)
    }

    /// The best that it can be told by.
    #[must_use]
    pub fn telling(&self) -> Telling {
        let is = |key: &str, answers: &[Is]| self.claim(key).is_some_and(|claim| answers.contains(&claim.is));
        if is("before_delivery", &[Is::No]) && is("at_click", &[Is::No]) {
            return Telling::Needless;
        }
        // What an address spares in part is spam scoring or a sender's mails: it is no way to have links left alone.
        let ways = [("header", Telling::Header), ("address", Telling::Address), ("urls", Telling::Urls)];
        let can =
            |(key, telling): (&str, Telling)| (is(key, &[Is::Yes]) || telling == Telling::Urls && is(key, &[Is::Some])).then_some(telling);
        ways.into_iter().find_map(can).unwrap_or(Telling::Nothing)
    }
}

/// What a scanner can be told to leave alone, the best of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It opens no link: nothing needs to be told.
    Needless,
    /// Mails with our header.
    Header,
    /// Mails from an address only: it would leave all of the hop's mails alone.
    Address,
    /// Links by a list of URLs only, whoever sends them.
    Urls,
    /// Nothing that is known.
    Nothing,
}

impl Telling {
    /// The answer, in a line.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Needless => "opens no link: nothing needs to be told",
            Self::Header => "told by our header",
            Self::Address => "told by address, and by no header that is known: guard",
            Self::Urls => "told by lists of URLs, and by no header that is known: guard",
            Self::Nothing => "can be told nothing that is known: guard",
        }
    }
}

/// A claim about a scanner.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What it is about: the key in the file.
    pub key: &'static str,
    /// Whether it is so.
    pub is: Is,
    /// More about it, in a few words.
    pub note: String,
    /// How sure it is; nothing where nothing is known.
    pub sure: Option<Sure>,
    /// Where it was read.
    pub sources: Vec<String>,
}

/// The claims about what a scanner can be told.
pub const TOLD: [(&str, &str); 3] = [("header", "by header"), ("address", "by address"), ("urls", "by URL")];
/// The claims about what a scanner does with a link.
pub const DOES: [(&str, &str); 5] = [
    ("before_delivery", "opens before delivery"),
    ("at_click", "opens at click"),
    ("runs_scripts", "runs scripts"),
    ("posts", "posts"),
    ("presses", "presses buttons"),
];

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Yes.
    Yes,
    /// Yes, in part or under conditions.
    Some,
    /// No.
    No,
    /// Nobody has said.
    Unknown,
}

impl Is {
    const WORDS: [(&'static str, Self); 4] = [("yes", Self::Yes), ("some", Self::Some), ("no", Self::No), ("unknown", Self::Unknown)];

    /// How a table shows it.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Some => "in part",
            Self::No => "no",
            Self::Unknown => "not known",
        }
    }
}

/// How sure a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sure {
    /// The vendor's current document, or the program's source, says so.
    Documented,
    /// A document of the vendor's that is old, or of which a part was read; or several customers say the same.
    Partly,
    /// A customer's or another vendor's word.
    Customer,
    /// Nobody has confirmed it.
    Unconfirmed,
    /// It is a step on our own side.
    Ours,
}

impl Sure {
    const WORDS: [(&'static str, Self); 5] = [
        ("documented", Self::Documented),
        ("partly", Self::Partly),
        ("customer", Self::Customer),
        ("unconfirmed", Self::Unconfirmed),
        ("ours", Self::Ours),
    ];

    /// The mark, as a recipe shows it.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Partly => "partly documented: an old or partly read document, or several customers",
            Self::Customer => "a customer's word",
            Self::Unconfirmed => "nobody has confirmed this",
            Self::Ours => "firstclick's own",
        }
    }

    /// The mark in a table.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Documented | Self::Ours => "A",
            Self::Partly => "B",
            Self::Customer => "C",
            Self::Unconfirmed => "?",
        }
    }
}

/// A step of a recipe.
#[derive(Clone, Debug)]
pub struct Step {
    /// The part of the recipe.
    pub part: Part,
    /// What to do, or what to look at.
    pub say: Vec<Run>,
    /// What to type or to paste.
    pub code: Option<Code>,
    /// Whether the recipe is whole without it.
    pub is_optional: bool,
    /// How sure it is that this does what it says.
    pub sure: Sure,
    /// Where it was read.
    pub sources: Vec<String>,
}

impl Step {
    /// The blanks in it.
    pub fn blanks(&self) -> impl Iterator<Item = Blank> + '_ {
        let said = self.say.iter().flat_map(|run| match run {
            Run::Words(_) => &[][..],
            Run::Code(pieces) => pieces,
        });
        said.chain(self.code.iter().flat_map(|code| &code.pieces)).filter_map(|piece| match piece {
            Piece::Blank(blank, _) => Some(*blank),
            Piece::Text(_) => None,
        })
    }
}

/// A part of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What to do.
    Do,
    /// What to change where the tokens change.
    Rotate,
    /// How to see that it works.
    Verify,
    /// How to take it back.
    Undo,
    /// Telling it by URLs, which is weaker: whoever sends them.
    Urls,
    /// For the security team.
    Paper,
}

impl Part {
    const WORDS: [(&'static str, Self); 6] = [
        ("do", Self::Do),
        ("rotate", Self::Rotate),
        ("verify", Self::Verify),
        ("undo", Self::Undo),
        ("urls", Self::Urls),
        ("paper", Self::Paper),
    ];
}

/// All scanners, by name. Mistakes of a file are added to `problems`; a test holds that there are none.
#[must_use]
pub fn all(problems: &mut Problems) -> Vec<Template> {
    let files = SCANNERS.files().filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?)));
    let mut templates: Vec<Template> = files.filter_map(|(name, text)| read(name, text, problems)).collect();
    templates.sort_by(|left, right| left.name.cmp(&right.name));
    templates
}

/// The names of all scanners.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SCANNERS.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    names.sort_unstable();
    names
}

/// What is done where a scanner cannot be told: the guard page.
#[must_use]
pub fn guard(problems: &mut Problems) -> Option<Template> {
    read("guard", GUARD, problems)
}

/// Reads a scanner's file.
pub fn read(name: &str, text: &str, problems: &mut Problems) -> Option<Template> {
    let document = Document::parse(&format!("scanners/{name}.toml"), text, problems);
    let mut root = document.root();
    let title = root.string("title", problems);
    let aliases = strings(&mut root, "aliases", problems);
    let checked = root.any("checked").and_then(|found| found.value.as_datetime().map(ToString::to_string));
    if checked.is_none() {
        problems.add(root.place(), "checked", "expected the day on which its documents were read, as in 2026-11-25");
    }
    let mut told = root.section("told", problems);
    let told_claims = TOLD.map(|(key, _)| claim(key, &mut told, problems));
    told.finish(problems);
    let mut does = root.section("does", problems);
    let does_claims = DOES.map(|(key, _)| claim(key, &mut does, problems));
    does.finish(problems);
    let steps = root.sections("steps", problems).into_iter().filter_map(|section| step(section, problems)).collect();
    root.finish(problems);
    Some(Template {
        name: name.to_owned(),
        title: title?.value,
        aliases,
        checked: checked?,
        told: told_claims.into_iter().flatten().collect(),
        does: does_claims.into_iter().flatten().collect(),
        steps,
    })
}

fn strings(section: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems) -> Vec<String> {
    section.strings(key, problems).into_iter().flat_map(|list| list.value).map(|item| item.value).collect()
}

/// Where something was read; a statement that is sure says where.
fn sources(section: &mut Section<'_, '_>, sure: Option<Sure>, problems: &mut Problems) -> Vec<String> {
    let sources = strings(section, "sources", problems);
    if sources.is_empty() && sure.is_some_and(|sure| sure != Sure::Unconfirmed) {
        problems.add(section.place(), "sources", "whatever is sure was read somewhere: name it, or say `unconfirmed`");
    }
    sources
}

fn claim(key: &'static str, above: &mut Section<'_, '_>, problems: &mut Problems) -> Option<Claim> {
    let mut section = above.section(key, problems);
    let is = section.string("is", problems).and_then(|found| found.word(problems, &Is::WORDS));
    let note = section.string("note", problems).map(|found| found.value).unwrap_or_default();
    let sure = section.string("sure", problems).and_then(|found| found.word(problems, &Sure::WORDS));
    let sources = sources(&mut section, sure, problems);
    let place = section.place();
    section.finish(problems);
    let Some(is) = is else {
        problems.add(place, key, "missing; as in { is = \"yes\", sure = \"documented\", sources = [\"https://...\"] }");
        return None;
    };
    if (is == Is::Unknown) == sure.is_some() {
        problems.add(place, key, "what is known says how `sure` it is, and what is not does not");
    }
    Some(Claim { key, is, note, sure, sources })
}

fn step(mut section: Section<'_, '_>, problems: &mut Problems) -> Option<Step> {
    let place = section.place();
    let part = section.string("part", problems).and_then(|found| found.word(problems, &Part::WORDS));
    let say = section.string("say", problems).and_then(|found| {
        let runs = blank::prose(&found.value);
        runs.map_err(|error| problems.add(found.place.clone(), &found.key, error)).ok()
    });
    let language = section.string("language", problems).and_then(|found| found.word(problems, &Language::WORDS));
    let file = section.string("file", problems).map(|found| found.value);
    let code = section.string("code", problems);
    let is_optional = section.flag("optional", problems).is_some_and(|found| found.value);
    let sure = section.string("sure", problems).and_then(|found| found.word(problems, &Sure::WORDS));
    let sources = sources(&mut section, sure, problems);
    section.finish(problems);
    let code = match (code, language) {
        (None, None) => None,
        (Some(found), Some(language)) => {
            let pieces = blank::code(language, &found.value).map_err(|error| problems.add(found.place.clone(), &found.key, error));
            Some(Code { language, file, pieces: pieces.ok()? })
        }
        _ => {
            problems.add(place.clone(), "code", "`code` and `language` go together");
            None
        }
    };
    let (Some(part), Some(say), Some(sure)) = (part, say, sure) else {
        problems.add(place, "steps", "each has part, say, sure and sources; code, with a language, where there is something to type");
        return None;
    };
    Some(Step { part, say, code, is_optional, sure, sources })
}
