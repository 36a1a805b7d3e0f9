//! The built-in catalogue: services known to send one-time links, each a file of `config/senders/`.

use include_dir::{Dir, include_dir};

use super::reading::{Document, Environment, Problems};

static SENDERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/senders");

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name by which allowlist files call it: the file's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Domains of the From address.
    pub from: Vec<String>,
    /// Kinds of mails.
    pub mails: Vec<String>,
    /// Where its one-time links point.
    pub links: Vec<String>,
    /// Where its other links point.
    pub other_links: Vec<String>,
    /// How sure we are.
    pub confidence: Confidence,
    /// What an admin should know.
    pub notes: String,
    /// What the service's own settings can do, so that nothing needs to be exempted.
    pub sender_side: String,
}

/// How an entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// The service says so in public.
    Documented,
    /// Mails were seen.
    Observed,
    /// It follows from the service's public addresses; watch it in observe mode first.
    Assumed,
}

impl Confidence {
    /// The word in the file.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Observed => "observed",
            Self::Assumed => "assumed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Documented, Self::Observed, Self::Assumed].into_iter().find(|known| known.code() == text)
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

fn read(file: &include_dir::File<'_>, problems: &mut Problems) -> Option<Service> {
    let name = file.path().file_stem()?.to_str()?.to_owned();
    let document = Document::parse(&format!("senders/{name}.toml"), file.contents_utf8()?, Environment::None, problems);
    let mut root = document.root();
    let mut list = |key: &'static str| -> Vec<String> {
        root.strings(key, problems).map(|found| found.value.into_iter().map(|item| item.value).collect()).unwrap_or_default()
    };
    let (from, mails, links, other_links) = (list("from"), list("mails"), list("links"), list("other_links"));
    let title = root.string("title", problems)?.value;
    let confidence =
        root.string("confidence", problems)?.parse(problems, "documented, observed or assumed", |text| Confidence::parse(text))?;
    let notes = root.string("notes", problems).map(|found| found.value).unwrap_or_default();
    let sender_side = root.string("sender_side", problems).map(|found| found.value).unwrap_or_default();
    root.finish(problems);
    Some(Service { name, title, from, mails, links, other_links, confidence, notes, sender_side })
}
