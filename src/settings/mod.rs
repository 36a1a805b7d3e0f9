//! The configuration: what the admin wrote, turned into the values that run, or all mistakes with their positions.
//!
//! The configuration is one TOML file with the environment over it, and a folder of allowlist files, one a sender. What
//! was written (`layers`, `schema`) never leaves this module; what runs are [`Settings`] and the
//! [`Allowlist`] inside. A setting is a row of `keys` and the code that takes it.

mod access;
pub mod allow;
mod arc;
mod audit;
pub mod catalogue;
mod certificates;
mod files;
mod folder;
mod grants;
mod guard;
mod hint;
mod identity;
pub mod keys;
mod layers;
pub mod lint;
mod listeners;
mod log;
mod mail;
pub mod migration;
mod milter;
#[cfg(test)]
mod mistake_tests;
mod policy;
mod policy_test;
pub mod products;
mod proposal;
mod readers;
mod recipients;
pub mod reference;
pub mod schema;
mod sentences;
mod smtp;
mod syntax;
#[cfg(test)]
mod table_tests;
mod tag;
pub mod users;
mod wanted;
mod written;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub use self::{
    audit::{AuditKeeping, AuditKeys},
    files::{Ended, Files},
    folder::LeftOut,
    identity::{Identity, Verify},
    layers::WrittenKeys,
    lint::{Advice, Severity},
    policy::{Policy, PolicyChange},
    recipients::{RecipientForm, Recipients},
    schema::{Mistake, Problem, Problems, SourceSpan},
    sentences::sentences,
    tag::Tag,
};
use self::{
    keys::{Folder, List, Text, Word},
    layers::{Environment, Layers},
    schema::Found,
};
use crate::{
    allowlist::{Action, AddressPattern, Allowlist, Entry, Mode},
    identity::{ArcSigner, Network},
    log::Log,
    message::Domain,
    remedy::Remedy,
    smtp::config::Config,
};

/// A whole configuration, ready to run.
#[derive(Debug)]
pub struct Settings {
    /// Whether decisions take effect (`mode`).
    pub mode: Mode,
    /// `[smtp]`: the SMTP server and client; none where there is no such section.
    pub smtp: Option<Config>,
    /// `[milter]`: the milter server; none where there is no such section.
    pub milter: Option<crate::milter::Config>,
    /// `[guard]`: the guard page; none where there is no such section.
    pub guard: Option<crate::http::Config>,
    /// `[arc]`: seals changed mails; none where there is no such section.
    pub arc: Option<ArcSigner>,
    /// `[identity]`: how a sender's identity is looked up.
    pub identity: Identity,
    /// `[tag]`: the tag; none where there is no such section.
    pub tag: Option<Tag>,
    /// `[admin]`: the address of the admin page; none where there is no such section.
    pub admin: Option<SocketAddr>,
    /// `[log]`: where the log goes, and what it holds.
    pub log: Log,
    /// `[mail]`: how digests are sent; none where there is no such section.
    pub mail: Option<crate::digest::Config>,
    /// `[audit]`: the folder of the audit; none where none is named.
    pub audit: Option<PathBuf>,
    /// The keys of the audit's chain.
    pub audit_keys: AuditKeys,
    /// What is kept of the audit, and where its head is.
    pub audit_keeping: AuditKeeping,
    /// How records name readers.
    pub recipients: Recipients,
    /// What identifies this configuration in records.
    pub policy: Policy,
    /// The allowlist, compiled from its folder.
    pub allowlist: Allowlist,
    /// The folder that the allowlist was read from.
    pub allow: Option<PathBuf>,
    /// Where the keys of each entry stand, by its name.
    places: HashMap<String, allow::Places>,
    /// The files of that folder that are left out.
    pub left_out: Vec<LeftOut>,
    /// Advice: what is allowed and yet probably not meant.
    pub warnings: Vec<Advice>,
    /// What was written for each key of firstclick.toml.
    pub written: WrittenKeys,
    /// The files that all of it was read from, as they looked before they were read.
    pub files: Files,
}

impl Settings {
    /// What runs where nobody wrote a configuration: nothing is listed, nothing is exempted.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            mode: Mode::Observe,
            smtp: None,
            milter: None,
            guard: None,
            arc: None,
            identity: Identity::default(),
            tag: None,
            admin: None,
            log: Log::default(),
            mail: None,
            audit: None,
            audit_keys: AuditKeys::default(),
            audit_keeping: AuditKeeping::default(),
            recipients: Recipients::default(),
            policy: Policy::default(),
            allowlist: Allowlist::default(),
            allow: None,
            places: HashMap::new(),
            left_out: Vec::new(),
            warnings: Vec::new(),
            written: WrittenKeys::default(),
            files: Files::default(),
        }
    }

    /// The hop's own domain name, where a section gives it one.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        let smtp = self.smtp.as_ref().map(|smtp| smtp.hostname.as_str());
        let milter = self.milter.as_ref().map(|milter| milter.hostname.as_str());
        // A host that serves the guard page alone has the page's name.
        let guard = self.guard.as_ref().and_then(|guard| guard.guard_links.url.split_once("://")).map(|(_, host)| host);
        smtp.or(milter).or(guard)
    }

    /// Octets of the largest mail that is inspected, by `[smtp]` or `[milter]`.
    #[must_use]
    pub fn inspect_limit(&self) -> Option<usize> {
        self.smtp.as_ref().map(|smtp| smtp.inspect_limit).or_else(|| self.milter.as_ref().map(|milter| milter.inspect_limit))
    }

    /// Reads a configuration file, its allowlist folder and its key files.
    ///
    /// # Errors
    /// Every mistake, each with its position.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_noting(path, &mut Files::default())
    }

    /// As [`Settings::load`]. The files that were named are noted in `files`, also where there are mistakes, so that a watcher
    /// sees when they are corrected.
    ///
    /// # Errors
    /// Every mistake, each with its position.
    pub fn load_noting(path: &Path, files: &mut Files) -> Result<Self, Problems> {
        let (settings, mut problems) = Self::whatever_is_there(path, files);
        if problems.0.is_empty() {
            return Ok(settings);
        }
        // All is said at once, where a person has to look at it anyway.
        if problems.remedy() == Remedy::Mend {
            problems.0.extend(settings.left_out.into_iter().flat_map(|left_out| left_out.problems.0));
        }
        Err(problems)
    }

    /// What a configuration says, and its mistakes; what they are about is left out, and where there are any, nothing may run by it.
    pub fn whatever_is_there(path: &Path, files: &mut Files) -> (Self, Problems) {
        let mut problems = Problems::default();
        files.note(path);
        let Some(text) = read(path, &mut problems) else { return (Self::empty(), problems) };
        let mut settings = Self::compile(path, &text, Environment::process(), &mut problems);
        files.extend(std::mem::take(&mut settings.files));
        settings.files = files.clone();
        settings.policy = Policy::of(path, &settings);
        (settings, problems)
    }

    fn compile(path: &Path, text: &str, environment: Environment, problems: &mut Problems) -> Self {
        let mut settings = Self::empty();
        let mut file = Layers::parse(path, text, environment, problems);
        if let Some(found) = file.take(const { Word::of("mode") }, problems) {
            settings.mode = found.means(problems, &MODES).unwrap_or_default();
        }
        let allow = file.take(const { Folder::of("allow") }, problems);
        let never = file.take(const { List::of("never") }, problems);
        settings.smtp = smtp::compile(&mut file, &mut settings.warnings, problems);
        settings.identity = identity::compile(&mut file, problems);
        if let Some(smtp) = &mut settings.smtp {
            smtp.trusted_upstreams.clone_from(&settings.identity.trusted_upstreams);
        }
        let readers = readers::compile(&mut file, problems);
        settings.milter = milter::compile(&mut file, settings.smtp.as_ref(), &mut settings.warnings, problems);
        settings.guard = guard::compile(&mut file, SENDERS_TO_CHOOSE.map(str::to_owned).to_vec(), &mut settings.warnings, problems);
        settings.arc = arc::compile(&mut file, problems);
        settings.tag = tag::compile(&mut file, &mut settings.warnings, problems);
        (settings.audit, settings.audit_keys, settings.audit_keeping) = audit::compile(&mut file, problems);
        settings.log = log::compile(&mut file, problems);
        settings.recipients = recipients::compile(&mut file, problems);
        if let Some(guard) = &mut settings.guard {
            guard.recipient_keys = settings.recipients.writing().to_vec();
        }
        settings.admin = compile_admin(&mut file, &mut settings.warnings, problems);
        settings.mail = mail::compile(&mut file, problems);
        listeners::check(&settings, |key| file.place(key), problems);
        file.gone(&mut settings.warnings);
        (settings.written, settings.files) = file.finish(problems);
        let never = allow::each(never, problems, "an address, as in \"shares@acme.example\", or a domain", |text| {
            AddressPattern::parse_sender(text).ok()
        });
        let mut entries = Vec::new();
        if let Some(found) = allow {
            // With mistakes in the sections, what an entry lacks may be only misspelt.
            let told = !problems.0.is_empty();
            let (mut files, mut advice) = (std::mem::take(&mut settings.files), std::mem::take(&mut settings.warnings));
            let lacks = |entry: &Entry| settings.lacks(entry).filter(|_| !told);
            let folder = folder::load(&found.value, settings.mode, &mut files, &mut advice, lacks);
            (settings.files, settings.warnings) = (files, advice);
            (entries, settings.places, settings.left_out) = (folder.entries, folder.places, folder.left_out);
            settings.allow = Some(found.value);
        }
        settings.allowlist = Allowlist::new(entries).for_readers(readers).refusing(never);
        settings.leave_own_mails_alone(path);
        settings.check_sections(path, problems);
        problems.drop_follow_ups(0);
        settings
    }

    /// No entry judges mails that say they are from the digest's address.
    fn leave_own_mails_alone(&mut self, path: &Path) {
        let Some(from) = self.mail.as_ref().map(|mail| mail.from.to_string()) else { return };
        if let Some(entry) = self.allowlist.entries().iter().find(|entry| entry.from.iter().any(|pattern| pattern.matches(&from))) {
            let what = format!(
                "the entry {:?} names this address, and exempts none of its mails all the same: let nothing but digests come from it",
                entry.name
            );
            self.warnings.push(Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), "mail.from", what));
        }
        self.allowlist = std::mem::take(&mut self.allowlist).writing_from(&from);
    }

    /// What will be wanted, what is written in vain, and what is open to more than it should be: for `check`, as it looks at the
    /// system beside the configuration.
    #[must_use]
    pub fn outlook(&self, config: &Path, now: Timestamp) -> Vec<Advice> {
        let (place, mut advice) = (SourceSpan::file(config.display().to_string()), Vec::new());
        self.wanted(&place, &mut advice);
        self.nameless(&place, &mut advice);
        self.idle(&place, &mut advice);
        self.too_open(config, &mut advice);
        listeners::advice(self, &place, &mut advice);
        certificates::advice(self, now, &mut advice);
        advice
    }

    /// The key of firstclick.toml that an entry needs and that is not there, and what to do about it.
    fn lacks(&self, entry: &Entry) -> Option<(&'static str, &'static str)> {
        let does = |action| entry.actions.contains(&action);
        if entry.mode != Mode::Enforce {
            None
        } else if does(Action::Guard) && self.guard.is_none() {
            let what = "action = \"guard\" needs [guard] with url, listen and key_file; `firstclick keygen --out FILE` writes the key";
            Some(("guard", what))
        } else if does(Action::Tag) && self.tag.is_none() {
            let what = "mode = \"enforce\" needs [tag] with token_file and key_file; `firstclick keygen` writes both";
            Some(("tag", what))
        } else if self.audit.is_none() {
            Some(("audit.directory", "mode = \"enforce\" needs a folder for the audit: no record, no exemption"))
        } else {
            None
        }
    }

    /// What the sections need of one another.
    fn check_sections(&mut self, path: &Path, problems: &mut Problems) {
        let whole = SourceSpan::file(path.display().to_string());
        let guards = |sender: &Entry| sender.mode == Mode::Enforce && sender.actions.contains(&Action::Guard);
        if self.arc.is_none() && self.allowlist.entries().iter().any(|sender| guards(sender)) {
            let what = "guarded mails lose their sender's signature, and nobody vouches for them: write [arc], or let the next system trust the hop's address";
            self.warnings.push(Advice::new(Severity::Warning, whole.clone(), "arc", what));
        }
        if let (Some(_), Verify::Upstream { .. }) = (&self.arc, &self.identity.verify) {
            problems.add(whole.clone(), "arc", "a seal tells what the hop itself found: it needs verify = \"here\"");
        }
        if let Some(tag) = self.tag.as_ref().filter(|_| self.mode == Mode::Enforce) {
            let empty = [
                ("tag.token_file", tag.tokens.is_empty(), "token; `firstclick keygen --token --out FILE` writes one"),
                ("tag.key_file", tag.keys.is_empty(), "key; `firstclick keygen --out FILE` writes one"),
            ];
            for (key, _, what) in empty.into_iter().filter(|(_, is_empty, _)| *is_empty) {
                problems.add_missing(whole.clone(), key, format!("mode = \"enforce\" needs the file to hold a {what}"));
            }
        }
    }
}

/// Names beside the sender's in `confirm = "choose"`: companies whose mails everybody gets.
const SENDERS_TO_CHOOSE: [&str; 8] =
    ["amazon.com", "apple.com", "dropbox.com", "google.com", "linkedin.com", "microsoft.com", "paypal.com", "zoom.us"];
const MODES: [(&str, Mode); 2] = [(Mode::Observe.code(), Mode::Observe), (Mode::Enforce.code(), Mode::Enforce)];

/// Reads a text file, bounded; what is wrong with it is noted.
fn read(path: &Path, problems: &mut Problems) -> Option<String> {
    match files::text(path) {
        Ok(text) => Some(text),
        Err(error) => {
            let (place, what) = (SourceSpan::file(path.display().to_string()), format!("cannot be read: {error}"));
            let remedy = files::remedy(path, &error);
            // What is no text was written so; all else is the system's word.
            let mistake = if error.kind() == io::ErrorKind::InvalidData { Mistake::Wrong } else { Mistake::Unread(error.kind(), remedy) };
            problems.0.push(Problem { place, key: String::new(), what, mistake });
            None
        }
    }
}

fn addresses(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<SocketAddr> {
    let each = found.into_iter().flat_map(|list| list.value);
    each.filter_map(|item| address(&item, 2525, problems)).collect()
}

fn resolvers(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<SocketAddr> {
    let each = found.into_iter().flat_map(|list| list.value);
    each.filter_map(|item| address(&item, 53, problems)).collect()
}

/// Reads an address to listen at or to ask; `port` is the one that a message recommends where there is none.
fn address(found: &Found<String>, port: u16, problems: &mut Problems) -> Option<SocketAddr> {
    let hint = hint::address(&found.value, port);
    let allowed = format!("ADDRESS:PORT, as in \"127.0.0.1:{port}\" or \"[::1]:{port}\"{hint}");
    found.parse(problems, &allowed, |text| text.parse().ok())
}

fn networks(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<Network> {
    let each = found.into_iter().flat_map(|list| list.value);
    each.filter_map(|item| {
        let allowed = format!("a network, as in \"10.0.0.0/8\" or \"192.0.2.1\"{}", hint::network(&item.value));
        item.parse(problems, &allowed, |text| Network::parse(text))
    })
    .collect()
}

/// Reads the hop's own domain name.
fn host_name(found: &Found<String>, problems: &mut Problems) -> Option<String> {
    let allowed = "a host name, as in \"firstclick.corp.example\"";
    found.parse(problems, allowed, |text| Domain::parse(text).ok().map(|name| name.to_string()))
}

fn compile_admin(file: &mut Layers<'_>, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<SocketAddr> {
    let listen = file.take(const { Text::of("admin.listen") }, problems);
    let Some(found) = listen else {
        if file.has("admin") {
            problems.add_missing(file.place("admin"), "admin.listen", "missing, expected ADDRESS:PORT, as in \"127.0.0.1:9925\"");
        }
        return None;
    };
    let address = address(&found, 9925, problems)?;
    if !address.ip().is_loopback() {
        let what = "the admin page asks nobody who he is; keep this address to your collectors and load balancers by a firewall";
        advice.push(Advice::new(Severity::Warning, found.place, &found.key, what));
    }
    Some(address)
}
