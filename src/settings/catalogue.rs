//! The built-in catalogue: services known to send one-time links (`config/senders/`), and self-hosted products whose links have
//! one shape wherever they stand (`config/products/`). Each fact has its source and the day on which it was seen.

use include_dir::{Dir, include_dir};

use super::reading::{Document, Environment, Problems, Section};
use crate::recognition::Kind;

static SENDERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/senders");
static PRODUCTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/products");

/// Which half of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Services that everybody gets mails from.
    Services,
    /// Software that a company runs itself; its shapes hold `{host}`.
    Products,
}

impl Shelf {
    fn folder(self) -> &'static Dir<'static> {
        match self {
            Self::Services => &SENDERS,
            Self::Products => &PRODUCTS,
        }
    }
}

/// One service, or one product.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// The name by which allowlist files call it: the file's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// From addresses; `{tenant}` where strangers own names. Empty for a product.
    pub from: Vec<String>,
    /// From addresses that carry strangers' text.
    pub never: Vec<String>,
    /// Shapes of one-time links.
    pub links: Vec<(Kind, Vec<String>)>,
    /// Where its other links lead.
    pub other_links: Vec<String>,
    /// `d=` besides From's domain and its parents.
    pub signed_by: Vec<String>,
    /// MAIL FROM domains that count as its own.
    pub envelope: Vec<String>,
    /// `straight`, where its signatures cover no To.
    pub reader: Option<String>,
    /// Header fields that its signatures leave out.
    pub leaves_out: Vec<String>,
    /// What an admin has to find out to use it.
    pub tenant_hint: Option<String>,
    /// What a visit does to a link, kind by kind, where it is known.
    pub visit: Vec<(Kind, Visit)>,
    /// What an admin should know.
    pub notes: String,
    /// What the service's own settings can do, so that nothing needs to be exempted.
    pub sender_side: String,
    /// Where the facts come from.
    pub evidence: Vec<Evidence>,
}

/// What a plain visit (GET) does to a one-time link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The link is used up.
    UsesUp,
    /// It carries out at once what the link is for.
    Confirms,
    /// It shows a form; only that form's press counts.
    Form,
}

impl Visit {
    const ALL: [Self; 3] = [Self::UsesUp, Self::Confirms, Self::Form];

    /// The word in the file.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UsesUp => "uses_up",
            Self::Confirms => "confirms",
            Self::Form => "form",
        }
    }

    /// What it means for the reader, in one clause.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::UsesUp => "a visit uses the link up",
            Self::Confirms => "a visit confirms at once",
            Self::Form => "a visit shows a form and uses nothing up",
        }
    }
}

/// One fact.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What was seen.
    pub what: String,
    /// Where.
    pub source: String,
    /// On which day, `2026-11-25`.
    pub seen: String,
    /// How.
    pub how: How,
    /// What it speaks for: `from`, `links`, `signs`, `never`, `envelope`, `other_links`, `visit`.
    pub speaks_for: Vec<String>,
}

/// How a fact is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The service says so in public.
    Documented,
    /// Genuine mails were seen, or programs that read them.
    Observed,
    /// It follows from something else; nothing may rest on it.
    Inferred,
}

impl How {
    const ALL: [Self; 3] = [Self::Documented, Self::Observed, Self::Inferred];

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

impl Service {
    /// Whether the catalogue has evidence for a thing, inferences left out.
    #[must_use]
    pub fn has_evidence_for(&self, what: &str) -> bool {
        self.evidence.iter().any(|one| one.how != How::Inferred && one.speaks_for.iter().any(|known| known == what))
    }

    /// What evidence is missing for it to exempt anybody: From addresses, link shapes, or both. Empty: it is no draft.
    #[must_use]
    pub fn missing(&self, shelf: Shelf) -> Vec<&'static str> {
        let from = shelf == Shelf::Services && (self.from.is_empty() || !self.has_evidence_for("from"));
        let links = self.links.is_empty() || !self.has_evidence_for("links");
        [("from", from), ("links", links)].into_iter().filter(|(_, missing)| *missing).map(|(what, _)| what).collect()
    }

    /// Whether strangers can own names below its hosts.
    #[must_use]
    pub fn wants_tenant(&self) -> bool {
        let shapes = self.links.iter().flat_map(|(_, shapes)| shapes);
        self.from.iter().chain(shapes).chain(&self.other_links).any(|text| text.contains("{tenant}"))
    }
}

/// All of a shelf, by name. What is wrong with a file is noted; a test holds that nothing is.
#[must_use]
pub fn all(shelf: Shelf, problems: &mut Problems) -> Vec<Service> {
    let mut services: Vec<Service> = shelf.folder().files().filter_map(|file| read(file, problems)).collect();
    services.sort_by(|left, right| left.name.cmp(&right.name));
    services
}

/// One service or product.
#[must_use]
pub fn find(shelf: Shelf, name: &str) -> Option<Service> {
    let file = shelf.folder().get_file(format!("{name}.toml"))?;
    read(file, &mut Problems::default())
}

/// The names, for messages.
#[must_use]
pub fn names(shelf: Shelf) -> Vec<&'static str> {
    let mut names: Vec<&str> = shelf.folder().files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    names.sort_unstable();
    names
}

fn read(file: &include_dir::File<'_>, problems: &mut Problems) -> Option<Service> {
    let name = file.path().file_stem()?.to_str()?.to_owned();
    let document = Document::parse(&format!("catalogue/{name}.toml"), file.contents_utf8()?, Environment::None, problems);
    let mut root = document.root();
    let mut service = Service { name, ..Service::default() };
    service.title = root.string("title", problems)?.value;
    service.from = list(&mut root, "from", problems);
    service.never = list(&mut root, "never", problems);
    service.other_links = list(&mut root, "other_links", problems);
    service.signed_by = list(&mut root, "signed_by", problems);
    service.envelope = list(&mut root, "envelope", problems);
    service.reader = text(&mut root, "reader", problems);
    service.tenant_hint = text(&mut root, "tenant_hint", problems);
    service.notes = text(&mut root, "notes", problems).unwrap_or_default();
    service.sender_side = text(&mut root, "sender_side", problems).unwrap_or_default();
    let mut signs = root.section("signs", problems);
    service.leaves_out = list(&mut signs, "leaves_out", problems);
    signs.finish(problems);
    let mut visit = root.section("visit", problems);
    for kind in Kind::ALL {
        let word = visit.string(kind.code(), problems);
        if let Some(word) = word.and_then(|found| found.word(problems, &Visit::ALL.map(|visit| (visit.code(), visit)))) {
            service.visit.push((kind, word));
        }
    }
    visit.finish(problems);
    let mut links = root.section("links", problems);
    for kind in Kind::ALL {
        let shapes = list(&mut links, kind.code(), problems);
        if !shapes.is_empty() {
            service.links.push((kind, shapes));
        }
    }
    links.finish(problems);
    for mut table in root.sections("evidence", problems) {
        let (what, source) = (text(&mut table, "what", problems), text(&mut table, "source", problems));
        let seen = table.any("seen").and_then(|found| found.value.as_datetime().map(ToString::to_string));
        let how = table.string("how", problems).and_then(|found| found.word(problems, &How::ALL.map(|how| (how.code(), how))));
        let speaks_for = list(&mut table, "for", problems);
        let place = table.place();
        table.finish(problems);
        match (what, source, seen, how) {
            (Some(what), Some(source), Some(seen), Some(how)) => {
                service.evidence.push(Evidence { what, source, seen, how, speaks_for });
            }
            _ => problems.add(place, "evidence", "needs what, source, seen (a date) and how"),
        }
    }
    root.finish(problems);
    Some(service)
}

fn list(section: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems) -> Vec<String> {
    section.strings(key, problems).map(|found| found.value.into_iter().map(|item| item.value).collect()).unwrap_or_default()
}

fn text(section: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems) -> Option<String> {
    section.string(key, problems).map(|found| found.value)
}
