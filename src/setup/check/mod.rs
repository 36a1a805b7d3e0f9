//! `setup SCANNER --check`: what an admin exported from a scanner, held against what its recipe would have there.
//!
//! Each thing that is judged is a [`Finding`] with the document by which it was judged. What is not understood is
//! [`Verdict::CannotJudge`], never right: what an export holds beyond what is known here might widen what is known.

mod amavis;
mod compare;
mod decoded;
mod exchange;
mod json;
mod perl;
mod rspamd;
mod spamassassin;
mod ucl;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Facts,
    blank::Blank,
    template::{Telling, Template},
};
use crate::limits;

/// A file that an admin exported.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its name, as the admin typed it.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What is said of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is not understood, or not there to be looked at.
    CannotJudge,
    /// It exempts mails, and is none of this configuration's: an alarm.
    NotOurs,
    /// It takes more than the recipe does.
    TooWide,
    /// It is there, and another thing comes first.
    WrongOrder,
    /// The recipe has it, and it is not there, or takes less.
    Missing,
    /// It ends soon.
    Expiring,
    /// It is as the recipe has it.
    Right,
    /// To know; nothing is wrong with it.
    Note,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::CannotJudge => "cannot judge",
            Self::NotOurs => "NOT OURS",
            Self::TooWide => "too wide",
            Self::WrongOrder => "wrong order",
            Self::Missing => "missing",
            Self::Expiring => "about to expire",
            Self::Right => "right",
            Self::Note => "to know",
        }
    }
}

/// What is said of one thing, and by which document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The file, and the object in it.
    pub at: String,
    /// The field that was judged.
    pub field: String,
    /// What is so, in a sentence. It repeats no token.
    pub what: String,
    /// The document that says what the field does.
    pub source: &'static str,
}

/// All that is said of what was exported.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name by which `setup` knows the scanner.
    pub scanner: String,
    /// The name by which people know it.
    pub title: String,
    /// The day on which the documents were read last.
    pub checked: String,
    /// The worst of the verdicts: what the exit code says.
    pub answer: Conclusion,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// What follows from all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// All is as the recipe has it.
    Right,
    /// Something is not.
    Wrong,
    /// Something could not be judged; something else may be wrong, too.
    CannotJudge,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

/// What was made of a field: nothing to say where it is right, or why it cannot be judged.
type Outcome = Result<Vec<(Verdict, String)>, String>;

impl Findings {
    fn add(&mut self, verdict: Verdict, at: &str, field: &str, what: impl Into<String>, source: &'static str) {
        let finding = |verdict, what| Finding { verdict, at: at.to_owned(), field: field.to_owned(), what, source };
        match self.0.len() {
            ..limits::FINDINGS => self.0.push(finding(verdict, what.into())),
            limits::FINDINGS => self.0.push(finding(Verdict::CannotJudge, "from here on nothing more is told: too much was found".into())),
            _ => {}
        }
    }

    fn judged(&mut self, at: &str, field: &str, source: &'static str, outcome: Outcome) {
        match outcome {
            Err(why) => self.add(Verdict::CannotJudge, at, field, why, source),
            Ok(found) if found.is_empty() => self.add(Verdict::Right, at, field, "as the recipe has it", source),
            Ok(found) => found.into_iter().for_each(|(verdict, what)| self.add(verdict, at, field, what, source)),
        }
    }

    /// What the recipe has here; where the configuration lacks it, that is said.
    fn wanted(&mut self, facts: &Facts, blank: Blank, field: &str) -> Option<Vec<String>> {
        match facts.get(blank) {
            Ok(values) => Some(values.texts.clone()),
            Err(lacks) => {
                self.add(Verdict::CannotJudge, "firstclick.toml", field, format!("nothing to compare it with: {lacks}"), OWN);
                None
            }
        }
    }

    fn wanted_one(&mut self, facts: &Facts, blank: Blank, field: &str) -> Option<String> {
        self.wanted(facts, blank, field)?.into_iter().next()
    }
}

/// Our own document.
const OWN: &str = "docs/deployment.md";

/// Holds what was exported against the recipe of this configuration.
///
/// # Errors
/// There is no export of this scanner that can be read.
pub fn report(template: &Template, exports: &[Export], facts: &Facts, now: Timestamp) -> Result<Report, String> {
    let judge = match template.name.as_str() {
        "defender" => exchange::judge,
        "rspamd" => rspamd::judge,
        "spamassassin" => spamassassin::judge,
        "amavis" => amavis::judge,
        name if template.telling() == Telling::Header => {
            return Err(format!("{name} has no export that this version can read: go by what its recipe says under verify"));
        }
        name => return Err(format!("{name} cannot be told by our header, so there is no rule to check; guard asks nothing of it")),
    };
    let mut findings = Findings::default();
    judge(exports, facts, now, &mut findings);
    let mut findings = findings.0;
    findings.sort_by(|left, right| (left.verdict, &left.at).cmp(&(right.verdict, &right.at)));
    let answer = match findings.iter().map(|finding| finding.verdict).min() {
        None | Some(Verdict::CannotJudge | Verdict::Note) => Conclusion::CannotJudge,
        Some(Verdict::Right) => Conclusion::Right,
        Some(_) => Conclusion::Wrong,
    };
    Ok(Report { scanner: template.name.clone(), title: template.title.clone(), checked: template.checked.clone(), answer, findings })
}
