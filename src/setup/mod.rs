//! `setup`: the recipe for a scanner, filled in from the configuration.
//!
//! A scanner is a file of `config/scanners/` ([`template`]). Its blanks ([`blank`]) are filled with what the configuration says
//! ([`facts`]); how a value is written follows from where it stands ([`place`]). What comes out is a [`Recipe`], which is shown as
//! text, Markdown, HTML or JSON ([`render`]); the claims of all files make the table of docs/scanners.md ([`table`]).

pub mod blank;
pub mod check;
pub mod facts;
mod hop;
pub mod place;
pub mod render;
pub mod table;
pub mod template;

use serde::Serialize;

use self::{
    blank::{Blank, Code, Piece, Run},
    place::{Place, written},
    template::{Part, Step, Telling, Template},
};
pub use self::{
    facts::{Facts, Secrets},
    hop::hop,
};
use crate::{
    printable::printable,
    settings::{Problems, schema::nearest},
};

/// A recipe, ready to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    /// The name by which `setup` knows the scanner.
    pub scanner: String,
    /// The name by which people know it.
    pub title: String,
    /// The day on which its documents were read last.
    pub checked: String,
    /// What it can be told, and what follows.
    pub verdict: Vec<Span>,
    /// What the configuration lacks for it, a sentence each.
    pub missing: Vec<String>,
    /// Its parts, in their order.
    pub chapters: Vec<Chapter>,
    /// What it can be told, and what it does with a link.
    pub known: Vec<Statement>,
}

/// A part of a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Chapter {
    /// The code of the part: `do`, `rotate`, `verify`, `undo`, `guard`, `urls`, `paper`.
    pub part: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Its steps.
    pub steps: Vec<Filled>,
}

/// A step, filled in.
#[derive(Clone, Debug, Serialize)]
pub struct Filled {
    /// What to do, or to look at.
    pub say: Vec<Span>,
    /// What to type or to paste; none where there is nothing, or where something is missing.
    pub code: Option<Block>,
    /// Why the code, or the whole step, is left out.
    pub left_out: Option<String>,
    /// Whether the recipe is whole without it.
    pub is_optional: bool,
    /// What to know about the values in it.
    pub notes: Vec<String>,
    /// How sure it is, and where it was read.
    #[serde(flatten)]
    pub mark: Mark,
}

/// A run of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Words.
    Words(String),
    /// What is shown as code.
    Code(String),
}

impl Span {
    /// What it says, whichever way it is shown.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Words(text) | Self::Code(text) => text,
        }
    }
}

/// A block of code, filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Its language, as in `powershell`.
    pub language: &'static str,
    /// The file that it goes into, where it is no command.
    pub file: Option<String>,
    /// The code.
    pub text: String,
}

/// How sure a statement is, and where it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// In words.
    pub sure: &'static str,
    /// Pages and files.
    pub sources: Vec<String>,
}

/// A statement about the scanner.
#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// What it is about.
    pub about: &'static str,
    /// Whether it is so, and more about it.
    pub is: String,
    /// How sure it is; nothing where nothing is known.
    #[serde(flatten)]
    pub mark: Option<Mark>,
}

/// What of a scanner is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The recipe.
    Recipe,
    /// The paper for the security team.
    Paper,
}

/// The scanner of this name, or of this other word for it.
///
/// # Errors
/// Nobody knows it; with the nearest name, where one is near.
pub fn find(word: &str) -> Result<Template, String> {
    let (templates, lower) = (template::all(&mut Problems::default()), word.to_lowercase().replace([' ', '_'], "-"));
    let words: Vec<&str> =
        templates.iter().flat_map(|known| std::iter::once(known.name.as_str()).chain(known.aliases.iter().map(String::as_str))).collect();
    let near = nearest(&lower, &words).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
    let found = templates.iter().find(|known| known.name == lower || known.aliases.contains(&lower));
    found.cloned().ok_or_else(|| {
        format!("{word:?} is not known; {near}`firstclick setup` lists the scanners that are, and guard (docs/guard.md) works before any")
    })
}

impl Recipe {
    /// The recipe for a scanner, from what the configuration says.
    #[must_use]
    pub fn new(template: &Template, facts: &Facts, shown: Shown) -> Self {
        let telling = template.telling();
        let is_guarded = shown == Shown::Recipe && matches!(telling, Telling::Address | Telling::Urls | Telling::Nothing);
        let guard = template::guard(&mut Problems::default()).filter(|_| is_guarded);
        let of = |steps: &[Step], part: Part| -> Vec<Filled> {
            steps.iter().filter(|step| step.part == part).map(|step| filled(step, facts)).collect()
        };
        let parts: &[(Part, &str, &str)] = match shown {
            Shown::Recipe => &RECIPE,
            Shown::Paper => &[(Part::Paper, "paper", "For the security team")],
        };
        let mut chapters: Vec<Chapter> = Vec::new();
        if let Some(guard) = &guard {
            chapters.push(Chapter { part: "guard", title: "Guard: the link leads to a page of yours", steps: of(&guard.steps, Part::Do) });
            chapters.push(Chapter { part: "guard_verify", title: "Guard: see that it works", steps: of(&guard.steps, Part::Verify) });
            chapters.push(Chapter { part: "guard_undo", title: "Guard: take it back", steps: of(&guard.steps, Part::Undo) });
        }
        chapters.extend(parts.iter().map(|(part, code, title)| Chapter { part: code, title, steps: of(&template.steps, *part) }));
        chapters.retain(|chapter| !chapter.steps.is_empty());
        let lacking = chapters.iter().flat_map(|chapter| &chapter.steps).filter(|step| !step.is_optional);
        let mut missing: Vec<String> = lacking.filter_map(|step| step.left_out.clone()).collect();
        missing.sort();
        missing.dedup();
        Self {
            scanner: template.name.clone(),
            title: template.title.clone(),
            checked: template.checked.clone(),
            verdict: verdict(telling, shown),
            missing,
            chapters,
            known: if shown == Shown::Recipe { known(template) } else { Vec::new() },
        }
    }

    /// Whether a step that it needs could not be filled in.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }
}

/// The parts of a recipe, in their order, with their codes and headings.
const RECIPE: [(Part, &str, &str); 5] = [
    (Part::Do, "do", "Do"),
    (Part::Verify, "verify", "See that it works"),
    (Part::Undo, "undo", "Take it back"),
    (Part::Urls, "urls", "Weaker: a list of URLs, which counts whoever sends the mail"),
    (Part::Rotate, "rotate", "Where it is set up already, and the token changes"),
];

/// What a scanner can be told, and what follows from it.
fn verdict(telling: Telling, shown: Shown) -> Vec<Span> {
    let text = match (shown, telling) {
        (Shown::Paper, _) => "What is exempted, by which proof, who can undo it, and what a scan of the tenant will say.",
        (_, Telling::Header) => {
            "It can be told by our header: it leaves alone the mails that firstclick proved and tagged, and no other. Whoever has a token \
             and a way around the hop is exempt, too: a token is a secret."
        }
        (_, Telling::Needless) => "It opens no link, so for one-time links nothing needs to be told.",
        (_, Telling::Address) => {
            "It can be told by addresses, and by no header that is known. By the hop's address it would leave alone every mail that comes through the hop, \
             so that is no recipe. A source address of their own for exempted mails, which such a scanner could be told, is not built \
             yet. What works today is the guard page."
        }
        (_, Telling::Urls) => {
            "It can be told by lists of URLs, and by no header that is known: what is on such a list is left alone whoever sends it, a forger too. What works without \
             that is the guard page."
        }
        (_, Telling::Nothing) => {
            "Nothing is known by which it could be told to leave these mails alone and no others. What works today is the guard page."
        }
    };
    vec![Span::Words(text.to_owned())]
}

fn known(template: &Template) -> Vec<Statement> {
    let claims = template::TOLD.iter().chain(&template::DOES).filter_map(|(key, about)| Some((*about, template.claim(key)?)));
    let statement = |(about, claim): (&'static str, &template::Claim)| {
        let note = if claim.note.is_empty() { String::new() } else { format!(": {}", claim.note) };
        let mark = claim.sure.map(|sure| Mark { sure: sure.says(), sources: claim.sources.clone() });
        Statement { about, is: format!("{}{note}", claim.is.says()), mark }
    };
    claims.map(statement).collect()
}

/// A step with its blanks filled in, or without what cannot be.
fn filled(step: &Step, facts: &Facts) -> Filled {
    let values: Vec<_> = step.blanks().map(|blank| facts.get(blank)).collect();
    let mut notes: Vec<String> = Vec::new();
    for note in values.iter().flatten().flat_map(|values| &values.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let mut left_out = values.iter().find_map(|value| value.err()).map(str::to_owned);
    let code = step.code.as_ref().filter(|_| left_out.is_none()).and_then(|code| match block(code, facts) {
        Ok(block) => Some(block),
        Err(why) => {
            left_out = Some(why);
            None
        }
    });
    let mark = Mark { sure: step.sure.says(), sources: step.sources.clone() };
    Filled { say: said(&step.say, facts), code, left_out, is_optional: step.is_optional, notes, mark }
}

/// Prose with its blanks filled in; a blank that stands for nothing is three dots, and the step says why.
fn said(runs: &[Run], facts: &Facts) -> Vec<Span> {
    let value = |blank: Blank| -> Vec<String> {
        facts.get(blank).map_or_else(|_| vec!["...".to_owned()], |values| values.texts.iter().map(|text| printable(text)).collect())
    };
    let mut spans = Vec::new();
    for run in runs {
        match run {
            Run::Words(words) => spans.push(Span::Words(words.clone())),
            // A list between words is one piece of code each.
            Run::Code(pieces) if let [Piece::Blank(blank, _)] = pieces.as_slice() => {
                for (at, text) in value(*blank).into_iter().enumerate() {
                    if at > 0 {
                        spans.push(Span::Words(", ".to_owned()));
                    }
                    spans.push(Span::Code(text));
                }
            }
            Run::Code(pieces) => {
                let text = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Blank(blank, _) => value(*blank).join(" or "),
                });
                spans.push(Span::Code(text.collect()));
            }
        }
    }
    spans
}

fn block(code: &Code, facts: &Facts) -> Result<Block, String> {
    let mut text = String::new();
    for piece in &code.pieces {
        match piece {
            Piece::Text(own) => text.push_str(own),
            Piece::Blank(blank, place) => text.push_str(&literal(code, *blank, *place, facts)?),
        }
    }
    Ok(Block { language: code.language.code(), file: code.file.clone(), text })
}

fn literal(code: &Code, blank: Blank, place: Place, facts: &Facts) -> Result<String, String> {
    let values = facts.get(blank).map_err(str::to_owned)?;
    written(code.language, place, &values.texts, blank.is_list()).map_err(|error| format!("{}: {error}", blank.word()))
}
