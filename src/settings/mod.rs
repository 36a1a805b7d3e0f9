//! What the admin wrote, turned into what runs, or all mistakes with their places.
//!
//! The configuration is one TOML file with the environment over it, and a folder of allowlist files, one a sender. What
//! was written (`schema`) never leaves this module; what runs are [`Settings`] and the
//! [`Allowlist`] inside.

pub mod allow;
mod arc;
mod audit;
pub mod catalogue;
mod grants;
mod guard;
mod hosts;
pub mod lint;
mod milter;
mod policy_test;
pub mod products;
mod readers;
pub mod schema;
mod sentences;
mod smtp;
mod written;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use self::schema::{Document, Environment, Found, Section};
pub use self::{
    audit::AuditKeys,
    lint::{Advice, Severity},
    schema::{Problem, Problems, SourceSpan},
    sentences::sentences,
};
use crate::{
    allowlist::{Action, Allowlist, Entry, Mode},
    edit::tag::{Key, Tagger, Token},
    identity::{ArcSigner, Network, ResultsAt},
    limits,
    message::Domain,
    smtp::config::Config,
};

/// A whole configuration, ready to run.
#[derive(Debug)]
pub struct Settings {
    /// Whether decisions take effect.
    pub mode: Mode,
    /// The SMTP hop, where there is one.
    pub smtp: Option<Config>,
    /// The milter, where there is one.
    pub milter: Option<crate::milter::Config>,
    /// The guard page, where there is one.
    pub guard: Option<crate::http::Config>,
    /// Who vouches for changed mails, where anybody does.
    pub arc: Option<ArcSigner>,
    /// How senders are proven.
    pub identity: Identity,
    /// The tag, where there is one.
    pub tag: Option<Tag>,
    /// Where the admin page is, where there is one.
    pub admin: Option<SocketAddr>,
    /// Where the audit goes.
    pub audit: Option<PathBuf>,
    /// The keys of its chain.
    pub audit_keys: AuditKeys,
    /// The allowlist.
    pub allowlist: Allowlist,
    /// The file of the readers' aliases.
    pub aliases: Option<PathBuf>,
    /// The folder that the allowlist came from.
    pub allow: Option<PathBuf>,
    /// What is allowed and yet probably not meant.
    pub warnings: Vec<Advice>,
}

/// `[identity]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who finds out.
    pub verify: Verify,
    /// Hosts that may vouch for others.
    pub trusted_upstreams: Vec<Network>,
}

/// Who finds out who sent a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The hop, by DNS.
    Here {
        /// Resolvers; empty for the system's.
        dns: Vec<SocketAddr>,
        /// For all look-ups of one mail.
        deadline: Duration,
        /// Whose ARC seals are believed (RFC 8617).
        arc_sealers: Vec<Domain>,
    },
    /// A trusted upstream, whose Authentication-Results are believed.
    Upstream {
        /// The names in which it speaks.
        authserv_ids: Vec<String>,
        /// Where it writes them.
        results: ResultsAt,
    },
}

/// `[tag]`.
#[derive(Clone, Debug)]
pub struct Tag {
    /// The header's name.
    pub header: String,
    /// The tokens, the newest first.
    pub tokens: Vec<Token>,
    /// The keys, the newest first.
    pub keys: Vec<Key>,
    /// The files that tokens and keys came from.
    pub files: Vec<PathBuf>,
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
            identity: Identity {
                verify: Verify::Here { dns: Vec::new(), deadline: IDENTITY_DEADLINE, arc_sealers: Vec::new() },
                trusted_upstreams: Vec::new(),
            },
            tag: None,
            admin: None,
            audit: None,
            audit_keys: AuditKeys::default(),
            allowlist: Allowlist::default(),
            aliases: None,
            allow: None,
            warnings: Vec::new(),
        }
    }

    /// The hop's own name, where a section gives it one.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        let smtp = self.smtp.as_ref().map(|smtp| smtp.hostname.as_str());
        let milter = self.milter.as_ref().map(|milter| milter.hostname.as_str());
        // A machine that serves the guard page alone is known by the page's name.
        let guard = self.guard.as_ref().and_then(|guard| guard.guard_links.url.split_once("://")).map(|(_, host)| host);
        smtp.or(milter).or(guard)
    }

    /// Octets up to which a mail is inspected.
    #[must_use]
    pub fn inspect_limit(&self) -> Option<usize> {
        self.smtp.as_ref().map(|smtp| smtp.inspect_limit).or_else(|| self.milter.as_ref().map(|milter| milter.inspect_limit))
    }

    /// Reads a configuration file, its allowlist folder and its key files.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let Some(text) = read(path, &mut problems) else { return Err(problems) };
        let settings = Self::compile(path, &text, Environment::Process, &mut problems);
        if problems.0.is_empty() { Ok(settings) } else { Err(problems) }
    }

    fn compile(path: &Path, text: &str, environment: Environment, problems: &mut Problems) -> Self {
        let document = Document::parse(&path.display().to_string(), text, environment, problems);
        let beside = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut root = document.root();
        let mut settings = Self::empty();
        if let Some(mode) = root.string("mode", problems) {
            settings.mode = mode.parse(problems, "\"observe\" or \"enforce\"", |mode| parse_mode(mode)).unwrap_or_default();
        }
        let allow = root.string("allow", problems);
        let smtp = root.section("smtp", problems);
        settings.smtp = smtp::compile(smtp, &beside, &mut settings.warnings, problems);
        let identity = root.section("identity", problems);
        settings.identity = compile_identity(identity, problems);
        if let Some(smtp) = &mut settings.smtp {
            smtp.trusted_upstreams.clone_from(&settings.identity.trusted_upstreams);
        }
        let section = root.section("readers", problems);
        let (readers, aliases) = readers::compile(section, &beside, problems);
        settings.aliases = aliases;
        let section = root.section("milter", problems);
        settings.milter = milter::compile(section, settings.smtp.as_ref(), &mut settings.warnings, problems);
        let section = root.section("guard", problems);
        settings.guard = guard::compile(section, &beside, SENDERS_TO_CHOOSE.map(str::to_owned).to_vec(), &mut settings.warnings, problems);
        let section = root.section("arc", problems);
        settings.arc = arc::compile(section, &beside, problems);
        let tag = root.section("tag", problems);
        settings.tag = compile_tag(tag, &beside, problems);
        let section = root.section("audit", problems);
        (settings.audit, settings.audit_keys) = audit::compile(section, &beside, problems);
        let section = root.section("admin", problems);
        settings.admin = compile_admin(section, &mut settings.warnings, problems);
        root.finish(problems);
        if let Some(allow) = allow {
            let folder = beside.join(&allow.value);
            if folder.is_dir() {
                settings.allowlist = allow::load(&folder, settings.mode, &mut settings.warnings, problems);
                settings.allow = Some(folder);
            } else {
                problems.add(
                    allow.place,
                    allow.key,
                    format!("{} is no folder; create it, with one file for each sender", folder.display()),
                );
            }
        }
        settings.allowlist = settings.allowlist.for_readers(readers);
        let enforcing = |action: Option<Action>| {
            let acts = |sender: &Entry| sender.mode == Mode::Enforce && action.is_none_or(|action| sender.actions.contains(&action));
            settings.mode == Mode::Enforce && settings.allowlist.entries().iter().any(|sender| acts(sender))
        };
        let (enforced, tags, guards) = (enforcing(None), enforcing(Some(Action::Tag)), enforcing(Some(Action::Guard)));
        if guards && settings.guard.is_none() {
            problems.add(
                SourceSpan::file(path.display().to_string()),
                "guard",
                "action = \"guard\" needs [guard] with url, listen and key_file; `firstclick keygen --out FILE` writes the key",
            );
        }
        if guards && settings.arc.is_none() {
            let what = "guarded mails lose their sender's signature, and nobody vouches for them: write [arc], or let the next system trust the hop's address";
            settings.warnings.push(Advice::new(Severity::Warning, SourceSpan::file(path.display().to_string()), "arc", what));
        }
        if let (Some(_), Verify::Upstream { .. }) = (&settings.arc, &settings.identity.verify) {
            problems.add(
                SourceSpan::file(path.display().to_string()),
                "arc",
                "a seal tells what the hop itself found: it needs verify = \"here\"",
            );
        }
        if tags && settings.tag.is_none() {
            problems.add(
                SourceSpan::file(path.display().to_string()),
                "tag",
                "mode = \"enforce\" needs [tag] with token_file and key_file; `firstclick keygen` writes both",
            );
        }
        if enforced && settings.audit.is_none() {
            problems.add(
                SourceSpan::file(path.display().to_string()),
                "audit.directory",
                "mode = \"enforce\" needs a folder for the audit: no record, no exemption",
            );
        }
        settings
    }
}

/// Names beside the sender's in `confirm = "choose"`: companies whose mails everybody gets.
const SENDERS_TO_CHOOSE: [&str; 8] =
    ["amazon.com", "apple.com", "dropbox.com", "google.com", "linkedin.com", "microsoft.com", "paypal.com", "zoom.us"];
const IDENTITY_DEADLINE: Duration = Duration::from_secs(5);

/// `observe` or `enforce`.
fn parse_mode(text: &str) -> Option<Mode> {
    match text {
        "observe" => Some(Mode::Observe),
        "enforce" => Some(Mode::Enforce),
        _ => None,
    }
}

/// Reads a text file, bounded; what is wrong with it is noted.
fn read(path: &Path, problems: &mut Problems) -> Option<String> {
    let place = SourceSpan::file(path.display().to_string());
    match fs::metadata(path) {
        Ok(about) if about.len() > limits::SETTINGS_FILE => {
            problems.add(place, "", format!("the file is larger than {} octets", limits::SETTINGS_FILE));
            return None;
        }
        Ok(_) => {}
        Err(error) => {
            problems.add(place, "", format!("cannot be read: {error}"));
            return None;
        }
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            problems.add(place, "", format!("cannot be read: {error}"));
            None
        }
    }
}

fn addresses(found: Option<Found<Vec<Found<String>>>>, problems: &mut Problems) -> Vec<SocketAddr> {
    let each = found.into_iter().flat_map(|list| list.value);
    each.filter_map(|item| item.parse(problems, "ADDRESS:PORT, as in \"127.0.0.1:2525\" or \"[::1]:2525\"", |text| text.parse().ok()))
        .collect()
}

fn compile_admin(mut section: Section<'_, '_>, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<SocketAddr> {
    let listen = section.string("listen", problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    let Some(found) = listen else {
        problems.add(place, "admin.listen", "missing, expected ADDRESS:PORT, as in \"127.0.0.1:9925\"");
        return None;
    };
    let (place, key) = (found.place.clone(), found.key.clone());
    let address: SocketAddr =
        found.parse(problems, "ADDRESS:PORT, as in \"127.0.0.1:9925\" or \"[::1]:9925\"", |text| text.parse().ok())?;
    if !address.ip().is_loopback() {
        let what = "the admin page asks nobody who he is; keep this address to your collectors and load balancers by a firewall";
        advice.push(Advice::new(Severity::Warning, place, &key, what));
    }
    Some(address)
}

fn compile_identity(mut section: Section<'_, '_>, problems: &mut Problems) -> Identity {
    let verify = section.string("verify", problems);
    let authserv_ids = section.strings("authserv_ids", problems);
    let results = section.string("results", problems);
    let dns = section.strings("dns", problems);
    let deadline = section.string("deadline", problems);
    let trusted = section.strings("trusted_upstreams", problems);
    let arc_sealers = section.strings("arc_sealers", problems);
    let place = section.place();
    section.finish(problems);
    let dns = addresses(dns, problems);
    let deadline = deadline.map_or(Some(IDENTITY_DEADLINE), |found| {
        found.parse(problems, "a time from \"100ms\" to \"60s\"", |text| {
            schema::duration(text).filter(|time| (Duration::from_millis(100)..=Duration::from_mins(1)).contains(time))
        })
    });
    let trusted_upstreams: Vec<Network> = trusted
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| item.parse(problems, "a network, as in \"10.0.0.0/8\" or \"192.0.2.1\"", |text| Network::parse(text)))
        .collect();
    let arc_sealers = arc_sealers
        .into_iter()
        .flat_map(|list| list.value)
        .filter_map(|item| item.parse(problems, "a domain, as in \"list.example\"", |text| Domain::parse(text).ok()))
        .collect();
    let authserv_ids: Vec<String> = authserv_ids.into_iter().flat_map(|list| list.value).map(|item| item.value).collect();
    let results = results.map_or_else(ResultsAt::default, |found| {
        let place = |text: &str| match text {
            "above_received" => Some(ResultsAt::AboveReceived),
            "below_received" => Some(ResultsAt::BelowReceived),
            _ => None,
        };
        found.parse(problems, "\"above_received\" or \"below_received\"", |text| place(text)).unwrap_or_default()
    });
    let words = ["here", "upstream"];
    let word = verify.as_ref().map_or(Some("here"), |found| {
        found.parse(problems, "\"here\" or \"upstream\"", |text| words.iter().find(|word| *word == text).copied())
    });
    if word == Some("upstream") {
        if authserv_ids.is_empty() {
            problems.add(
                place.clone(),
                "identity.authserv_ids",
                "verify = \"upstream\" needs the names in which the upstream writes Authentication-Results",
            );
        }
        if trusted_upstreams.is_empty() {
            problems.add(
                place,
                "identity.trusted_upstreams",
                "verify = \"upstream\" needs the networks of the hosts that may vouch for others",
            );
        }
        return Identity { verify: Verify::Upstream { authserv_ids, results }, trusted_upstreams };
    }
    Identity { verify: Verify::Here { dns, deadline: deadline.unwrap_or(IDENTITY_DEADLINE), arc_sealers }, trusted_upstreams }
}

fn compile_tag(mut section: Section<'_, '_>, beside: &Path, problems: &mut Problems) -> Option<Tag> {
    let header = section.string("header", problems);
    let token_file = section.string("token_file", problems);
    let key_file = section.string("key_file", problems);
    let (there, place) = (section.is_there(), section.place());
    section.finish(problems);
    if !there {
        return None;
    }
    let is_name = |text: &String| {
        (1..=60).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && text.to_ascii_lowercase().starts_with("x-")
    };
    let header = header.map_or_else(
        || Some("X-Firstclick".to_owned()),
        |found| {
            found.parse(problems, "a header name that starts with X-, of letters, digits and hyphens", |text| {
                is_name(text).then(|| text.clone())
            })
        },
    );
    let files = [&token_file, &key_file].into_iter().flatten().map(|found| beside.join(&found.value)).collect();
    let mut lines = |found: Option<Found<String>>, key: &str, how: &str| -> Option<Vec<(SourceSpan, String)>> {
        let Some(found) = found else {
            problems.add(place.clone(), format!("tag.{key}"), format!("missing; {how}"));
            return None;
        };
        let path = beside.join(&found.value);
        match fs::read_to_string(&path) {
            Ok(text) => Some(
                text.lines()
                    .enumerate()
                    .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
                    .map(|(at, line)| (SourceSpan { source: path.display().to_string(), at: Some((at + 1, 1)) }, line.trim().to_owned()))
                    .collect(),
            ),
            Err(error) => {
                problems.add(found.place, found.key, format!("{} cannot be read: {error}; {how}", path.display()));
                None
            }
        }
    };
    let tokens = lines(token_file, "token_file", "`firstclick keygen --token --out FILE` writes one");
    let keys = lines(key_file, "key_file", "`firstclick keygen --out FILE` writes one");
    // What a secret file holds is never repeated in a message.
    let mut secrets = |lines: Option<Vec<(SourceSpan, String)>>, key: &str, expected: &str, fits: &dyn Fn(&str) -> bool| -> Vec<String> {
        let lines = lines.unwrap_or_default();
        for (place, line) in &lines {
            if !fits(line) {
                problems.add(place.clone(), key, format!("expected {expected}"));
            }
        }
        lines.into_iter().map(|(_, line)| line).collect()
    };
    let tokens = secrets(tokens, "tag.token_file", "a token of 8 to 63 visible ASCII characters on each line, the newest first", &|line| {
        Token::parse(line).is_some()
    });
    let keys = secrets(keys, "tag.key_file", "32 octets in base64 on each line, the newest first", &|line| Key::parse(line).is_some());
    Some(Tag {
        header: header?,
        tokens: tokens.iter().filter_map(|line| Token::parse(line)).collect(),
        keys: keys.iter().filter_map(|line| Key::parse(line)).collect(),
        files,
    })
}

impl Tag {
    /// The tagger of a hop with this name.
    #[must_use]
    pub fn tagger(&self, hostname: &str) -> Tagger {
        Tagger { header: self.header.clone(), tokens: self.tokens.clone(), keys: self.keys.clone(), authserv_id: hostname.to_owned() }
    }
}
