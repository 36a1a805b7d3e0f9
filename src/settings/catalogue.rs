//! The built-in catalogue: services known to send one-time links, each a file of `config/senders/`.
//!
//! A file says what an allowlist file would, with the evidence for it. `decide_by` and `subject` are no keys of it: nothing
//! of the catalogue is decided by words.

use include_dir::{Dir, include_dir};

use super::{
    Advice, lint,
    schema::{Document, Environment, Found, Problems, Section},
    written::{self, Written},
};
use crate::recognition::Kind;

static SENDERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/senders");

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name by which allowlist files call it: the file's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What is known of its mails, as written.
    pub(super) written: Written,
    /// What `tenant` is, where the entry needs one.
    pub tenant_hint: Option<String>,
    /// MIME and address fields that its signature leaves out.
    pub leaves_out: Vec<String>,
    /// What a visit of a link does, where it is known.
    pub visit: Vec<(Kind, Visit)>,
    /// What an admin should know.
    pub notes: String,
    /// What the service's own settings can do, so that nothing needs to be exempted.
    pub sender_side: String,
    /// What each fact rests on.
    pub evidence: Vec<Evidence>,
}

impl Service {
    /// Addresses in From.
    #[must_use]
    pub fn from(&self) -> Vec<String> {
        texts(self.written.from.as_ref())
    }

    /// Addresses that carry strangers' text.
    #[must_use]
    pub fn never(&self) -> Vec<String> {
        texts(self.written.never.as_ref())
    }

    /// One-time links, as shapes.
    #[must_use]
    pub fn links(&self) -> Vec<(Kind, String)> {
        self.written.shapes().map(|(kind, item)| (kind, item.value.clone())).collect()
    }

    /// Other links.
    #[must_use]
    pub fn other_links(&self) -> Vec<String> {
        texts(self.written.other_links.as_ref())
    }

    /// Whether it asks for `tenant`.
    #[must_use]
    pub fn needs_tenant(&self) -> bool {
        self.written.texts().any(|item| item.value.contains(written::TENANT))
    }

    /// What has no evidence: such an entry exempts nobody unless the admin accepts it.
    #[must_use]
    pub fn guessed(&self) -> Vec<Fact> {
        [Fact::From, Fact::Links].into_iter().filter(|fact| !is_proven(&self.evidence, *fact)).collect()
    }

    /// Whether it is a draft.
    #[must_use]
    pub fn is_draft(&self) -> bool {
        !self.guessed().is_empty()
    }
}

/// A fact without which an entry is a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The address in From.
    From,
    /// The shape of a one-time link.
    Links,
}

impl Fact {
    /// The key that holds it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::Links => "links",
        }
    }
}

/// Where a fact comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was read or seen.
    pub what: String,
    /// Where.
    pub source: String,
    /// When, as a date.
    pub seen: String,
    /// How.
    pub how: How,
    /// The keys that rest on it.
    pub facts: Vec<String>,
}

/// How a fact is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The sender, or the program's source, says so.
    Documented,
    /// A mail or a link was seen.
    Observed,
    /// It follows from something else: no evidence.
    Inferred,
}

impl How {
    /// The word in the file.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Observed => "observed",
            Self::Inferred => "inferred",
        }
    }
}

/// What a plain visit of a link does: what an admin wants to know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// It uses the link up: whoever comes second finds a dead one.
    UsesUp,
    /// It confirms, joins or signs in at once: a scanner does what only the reader should.
    Confirms,
    /// It shows a page with a form or a button.
    Form,
}

impl Visit {
    /// The word in the file.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UsesUp => "uses_up",
            Self::Confirms => "confirms",
            Self::Form => "form",
        }
    }

    /// What it does, for people.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::UsesUp => "a visit uses the link up",
            Self::Confirms => "a visit confirms at once",
            Self::Form => "a visit shows a form",
        }
    }
}

/// All services, by name. What is wrong with a file is noted; the tests hold that nothing is.
#[must_use]
pub fn all(problems: &mut Problems) -> Vec<Service> {
    let mut services: Vec<Service> = SENDERS.files().filter_map(|file| read(file, problems)).collect();
    services.sort_by(|left, right| left.name.cmp(&right.name));
    services
}

/// One service.
#[must_use]
pub fn find(name: &str) -> Option<Service> {
    let file = SENDERS.get_file(format!("{name}.toml"))?;
    read(file, &mut Problems::default())
}

/// The names, for messages.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SENDERS.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    names.sort_unstable();
    names
}

/// What the lint says of the catalogue itself; the tests hold that there is no danger in it.
#[must_use]
pub fn advice(problems: &mut Problems) -> Vec<Advice> {
    let mut advice = Vec::new();
    for service in all(problems) {
        lint::written(&service.written, &mut advice);
    }
    advice
}

fn read(file: &include_dir::File<'_>, problems: &mut Problems) -> Option<Service> {
    let name = file.path().file_stem()?.to_str()?.to_owned();
    let document = Document::parse(&format!("senders/{name}.toml"), file.contents_utf8()?, Environment::None, problems);
    let mut root = document.root();
    let title = root.string("title", problems);
    let written = Written::read(&mut root, problems);
    let tenant_hint = root.string("tenant_hint", problems).map(|found| found.value);
    let mut signs = root.section("signs", problems);
    let leaves_out = texts(signs.strings("leaves_out", problems).as_ref());
    signs.finish(problems);
    let visit = read_visit(&mut root, problems);
    let notes = root.string("notes", problems).map(|found| found.value).unwrap_or_default();
    let sender_side = root.string("sender_side", problems).map(|found| found.value).unwrap_or_default();
    let evidence = read_evidence(&mut root, problems);
    root.finish(problems);
    Some(Service { name, title: title?.value, written, tenant_hint, leaves_out, visit, notes, sender_side, evidence })
}

/// `visit = { password_reset = "uses_up" }`.
pub(super) fn read_visit(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<(Kind, Visit)> {
    let words = [Visit::UsesUp, Visit::Confirms, Visit::Form].map(|visit| (visit.code(), visit));
    let mut table = root.section("visit", problems);
    let mut visits = Vec::new();
    for kind in Kind::ALL {
        if let Some(visit) = table.string(kind.code(), problems).and_then(|found| found.word(problems, &words)) {
            visits.push((kind, visit));
        }
    }
    table.finish(problems);
    visits
}

/// `[[evidence]]`.
pub(super) fn read_evidence(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<Evidence> {
    let words = [How::Documented, How::Observed, How::Inferred].map(|how| (how.code(), how));
    let mut evidence = Vec::new();
    for mut table in root.sections("evidence", problems) {
        let what = table.string("what", problems);
        let source = table.string("source", problems);
        let seen = table.any("seen").map(|found| found.value.as_datetime().map_or_else(String::new, ToString::to_string));
        let how = table.string("how", problems).and_then(|found| found.word(problems, &words));
        let facts = texts(table.strings("for", problems).as_ref());
        let place = table.place();
        table.finish(problems);
        let (Some(what), Some(source), Some(seen), Some(how)) = (what, source, seen.filter(|seen| !seen.is_empty()), how) else {
            problems.add(place, "evidence", "each has what, source, seen (a date), how (documented, observed or inferred) and for");
            continue;
        };
        evidence.push(Evidence { what: what.value, source: source.value, seen, how, facts });
    }
    evidence
}

/// Whether a fact rests on something that was read or seen.
pub(super) fn is_proven(evidence: &[Evidence], fact: Fact) -> bool {
    evidence.iter().any(|one| one.how != How::Inferred && one.facts.iter().any(|known| known == fact.key()))
}

pub(super) fn texts(list: Option<&Found<Vec<Found<String>>>>) -> Vec<String> {
    list.into_iter().flat_map(|list| &list.value).map(|item| item.value.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        allowlist::{OtherLink, Shape, entry::AddressPattern},
        settings::{Severity, products},
    };

    #[test]
    fn every_file_reads() {
        let mut problems = Problems::default();
        let services = all(&mut problems);
        assert_eq!(problems, Problems::default(), "{problems}");
        assert!(services.len() >= 60, "{}", services.len());
        for service in &services {
            let tenant = |text: &str| text.replace(written::TENANT, "corp");
            for text in service.from().iter().chain(&service.never()) {
                assert!(AddressPattern::parse_sender(&tenant(text)).is_ok(), "{}: {text}", service.name);
            }
            for (_, text) in service.links() {
                assert!(Shape::parse(&text).is_ok(), "{}: {text}: {:?}", service.name, Shape::parse(&text));
            }
            for text in service.other_links() {
                assert!(OtherLink::parse(&text).is_ok(), "{}: {text}: {:?}", service.name, OtherLink::parse(&text));
            }
            assert!(!service.needs_tenant() || service.tenant_hint.is_some(), "{}: tenant_hint is missing", service.name);
        }
    }

    #[test]
    fn there_is_no_danger_in_it() {
        let mut advice = advice(&mut Problems::default());
        advice.extend(products::advice(&mut Problems::default()));
        advice.retain(|advice| advice.severity == Severity::Danger);
        assert!(advice.is_empty(), "{}", advice.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}
