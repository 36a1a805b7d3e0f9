//! The allowlist folder: one file a sender, completed from the catalogue, compiled into the allowlist.

use std::{fs, path::Path, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use regex::RegexSetBuilder;

use super::{
    catalogue,
    lint::{self, Advice, OneTime, Severity},
    parse_mode,
    reading::{self, Document, Environment, Found, Place, Problems, Section},
    trial,
};
use crate::{
    allowlist::{
        Action, Allowlist, Entry, HostPattern, LinkPattern, Mode,
        entry::{AddressPattern, Addressees, Attachments, Limit, Mails, MimeFields, Require, Spf},
    },
    identity::Network,
    limits,
    recognition::Kind,
};

/// Reads every `*.toml` of a folder, in the order of their names.
pub(super) fn load(folder: &Path, mode: Mode, advice: &mut Vec<Advice>, problems: &mut Problems) -> Allowlist {
    let mut files: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "toml"))
            .collect(),
        Err(error) => {
            problems.add(Place::file(folder.display().to_string()), "allow", format!("cannot be read: {error}"));
            return Allowlist::default();
        }
    };
    files.sort();
    let mut senders: Vec<Entry> = Vec::new();
    for path in files {
        let Some(text) = super::read(&path, problems) else { continue };
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let source = path.display().to_string();
        if let Some(sender) = compile(&source, &name, &text, mode, advice, problems) {
            if senders.iter().any(|other| other.name == sender.name) {
                problems.add(Place::file(source), "name", format!("{:?} is the name of another entry too; give each its own", sender.name));
            }
            senders.push(sender);
        }
    }
    Allowlist::new(senders)
}

/// Compiles one allowlist file. `stem` names the entry where the file does not.
pub fn compile(source: &str, stem: &str, text: &str, mode: Mode, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<Entry> {
    let before = problems.0.len();
    let document = Document::parse(source, text, Environment::None, problems);
    let mut root = document.root();
    let whole = root.place();
    let service = root.string("sender", problems).and_then(|found| {
        let service = catalogue::find(&found.value);
        if service.is_none() {
            let near =
                reading::nearest(&found.value, &catalogue::names()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
            problems.add(
                found.place,
                found.key,
                format!(
                    "{:?} is not in the catalogue; {near}`firstclick senders` lists it; without `sender`, write `from` and `links`",
                    found.value
                ),
            );
        }
        service
    });
    let name = root.string("name", problems);
    let name = name.map_or_else(
        || service.as_ref().map_or(Some(stem.to_owned()), |service| Some(service.name.clone())),
        |found| found.parse(problems, "1 to 64 letters, digits, hyphens, dots and underscores", |name| is_name(name).then(|| name.clone())),
    );
    let owner = root.string("owner", problems);
    let _reason = root.string("reason", problems);
    if owner.is_none() {
        advice.push(Advice::new(Severity::Note, whole.clone(), "owner", "nobody owns this entry; name who answers for it"));
    }
    let mut patterns = Patterns { root: &mut root, problems };
    let from_there = patterns.list("from");
    let links_there = patterns.list("links");
    let others_there = patterns.list("other_links");
    let mails_there = patterns.list("mails");
    let subjects = patterns.list("subject");
    let recipients = patterns.list("recipients");
    let written = |list: &Option<List>| list.as_ref().map(|list| list.value.clone()).unwrap_or_default();
    let (from_written, links_written) = (written(&from_there), written(&links_there));
    lint::from(&from_written, advice);
    lint::links(&links_written, OneTime::Yes, advice);
    lint::links(&written(&others_there), OneTime::No, advice);
    if let Some(service) = &service {
        lint::wider(service, &from_written, &links_written, advice);
    }
    let from = from_there.or_else(|| built_in(service.as_ref().map(|service| &service.from), "from"));
    let links = links_there.or_else(|| built_in(service.as_ref().map(|service| &service.links), "links"));
    let other_links = others_there.or_else(|| built_in(service.as_ref().map(|service| &service.other_links), "other_links"));
    let has_mails = mails_there.is_some();
    let mails = mails_there.or_else(|| built_in(service.as_ref().map(|service| &service.mails), "mails"));
    let mut missing = |key: &str, found: bool| {
        if !found && service.is_none() {
            problems.add(whole.clone(), key, "missing; it must be given where no catalogue entry is named by `sender`");
        }
    };
    missing("from", from.is_some());
    missing("links", links.is_some());
    let from: Vec<HostPattern> =
        each(from, problems, "a domain, as in \"acme.example\" or \"*.acme.example\"", |text| HostPattern::parse(text).ok());
    let links = link_patterns(links, problems);
    let other_links = link_patterns(other_links, problems);
    let recipients = each(recipients, problems, "a recipient, as in \"*@corp.example\" or \"bob@corp.example\"", |text| {
        AddressPattern::parse(text).ok()
    });
    let kinds = Kind::ALL.map(Kind::code).join(", ");
    let kinds = each(mails, problems, &format!("one of {kinds}"), |text| Kind::ALL.into_iter().find(|kind| kind.code() == text));
    let mails = match subjects {
        Some(subjects) if !has_mails => Mails::Subjects(subject_patterns(&subjects, problems)?),
        Some(subjects) => {
            problems.add(subjects.place, "subject", "`mails` and `subject` exclude each other; take one of them out");
            return None;
        }
        None if kinds.is_empty() => Mails::Kinds(Kind::ALL.to_vec()),
        None => Mails::Kinds(kinds),
    };
    let expires = expiry(&mut root, problems);
    let actions = actions(&mut root, service.is_some(), &whole, problems);
    let require = require(&mut root, problems);
    let limit = limit(&mut root, problems);
    let own_mode = root.string("mode", problems);
    let own_mode = own_mode.map_or(Some(mode), |found| found.parse(problems, "\"observe\" or \"enforce\"", |mode| parse_mode(mode)));
    let max_age = root.string("max_age", problems);
    let max_age =
        max_age.map_or(Some(MAX_AGE), |found| found.parse(problems, "a time with its unit, as in \"24h\"", |text| reading::duration(text)));
    let mut flag = |key, problems: &mut Problems| root.flag(key, problems).is_some_and(|found| found.value);
    let mime_fields = if flag("unsigned_content_type", problems) { MimeFields::Unsigned } else { MimeFields::Signed };
    let attachments = if flag("attachments", problems) { Attachments::Allowed } else { Attachments::Refused };
    let addressees = if flag("expanded_recipients", problems) { Addressees::Expanded } else { Addressees::Required };
    let trials = trial::read(&mut root, problems);
    root.finish(problems);
    if problems.0.len() > before {
        return None;
    }
    let sender = Entry {
        name: name?,
        from,
        mails,
        links,
        other_links,
        require: require?,
        recipients,
        addressees,
        mime_fields,
        attachments,
        max_age: max_age?,
        limit: limit?,
        // The whole hop observes: then every entry does.
        mode: if mode == Mode::Observe { Mode::Observe } else { own_mode? },
        actions: actions?,
        expires,
    };
    // An entry that has ended exempts nothing; its mails are tried as if it had not.
    trial::run(
        &trials,
        &Entry { expires: None, ..sender.clone() },
        Path::new(source).parent().unwrap_or(Path::new("")),
        Timestamp::UNIX_EPOCH,
        problems,
    );
    (problems.0.len() == before).then_some(sender)
}

/// How old a DKIM signature may be: reset links live for hours.
const MAX_AGE: Duration = Duration::from_hours(24);
/// Exemptions for one recipient in an hour.
const LIMIT: u32 = 20;

type List = Found<Vec<Found<String>>>;

struct Patterns<'s, 'd, 't, 'p> {
    root: &'s mut Section<'d, 't>,
    problems: &'p mut Problems,
}

impl Patterns<'_, '_, '_, '_> {
    fn list(&mut self, key: &'static str) -> Option<List> {
        let found = self.root.strings(key, self.problems)?;
        if found.value.is_empty() {
            self.problems.add(found.place, found.key, "the list is empty; take the key out or write something into it");
            return None;
        }
        Some(found)
    }
}

fn built_in(texts: Option<&Vec<String>>, key: &str) -> Option<List> {
    let place = Place::file("catalogue");
    let value = texts?.iter().map(|text| Found { value: text.clone(), place: place.clone(), key: key.to_owned() }).collect();
    Some(Found { value, place, key: key.to_owned() })
}

fn each<T>(list: Option<List>, problems: &mut Problems, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
    list.into_iter().flat_map(|list| list.value).filter_map(|item| item.parse(problems, allowed, |text| parse(text))).collect()
}

fn link_patterns(list: Option<List>, problems: &mut Problems) -> Vec<LinkPattern> {
    let mut patterns = Vec::new();
    for item in list.into_iter().flat_map(|list| list.value) {
        match LinkPattern::parse(&item.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => problems.add(
                item.place,
                item.key,
                format!("found {:?}: {error}; expected HOST/PATH, as in \"login.acme.example/reset/*\"", item.value),
            ),
        }
    }
    patterns
}

fn subject_patterns(list: &List, problems: &mut Problems) -> Option<regex::RegexSet> {
    for item in &list.value {
        if let Err(error) = regex::RegexBuilder::new(&item.value).size_limit(limits::PATTERN).build() {
            let last = error.to_string();
            let last = last.lines().last().unwrap_or_default().to_owned();
            problems.add(item.place.clone(), &item.key, format!("found {:?}, expected a regular expression: {last}", item.value));
        }
    }
    RegexSetBuilder::new(list.value.iter().map(|item| &item.value)).size_limit(limits::PATTERN).build().ok()
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// The end of the day that is named, in UTC.
fn expiry(root: &mut Section<'_, '_>, problems: &mut Problems) -> Option<Timestamp> {
    let found = root.any("expires")?;
    let text = found.value.as_datetime().map(ToString::to_string).or_else(|| found.value.as_str().map(str::to_owned)).unwrap_or_default();
    let date: Option<Date> = text.get(..10).and_then(|day| day.parse().ok());
    let end = date.and_then(|date| date.tomorrow().ok()).and_then(|next| TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok());
    if end.is_none() {
        problems.add(found.place, found.key, format!("found {text:?}, expected a date, as in 2027-06-30"));
    }
    end
}

fn actions(root: &mut Section<'_, '_>, in_catalogue: bool, whole: &Place, problems: &mut Problems) -> Option<Vec<Action>> {
    let Some(found) = root.any("action") else {
        if !in_catalogue {
            problems.add(
                whole.clone(),
                "action",
                "missing; it must be given where no catalogue entry is named by `sender`, as in action = \"tag\"",
            );
        }
        return in_catalogue.then(|| vec![Action::Tag]);
    };
    let words: Vec<String> = match (found.value.as_str(), found.value.as_array()) {
        (Some(word), _) => vec![word.to_owned()],
        (None, Some(list)) => list.iter().map(|item| item.get_ref().as_str().unwrap_or("route").to_owned()).collect(),
        (None, None) => vec!["route".into()],
    };
    let mut actions = Vec::new();
    for word in words {
        match word.as_str() {
            "tag" => actions.push(Action::Tag),
            "route" => {
                let what = "\"route\" is not in this version yet, and a milter cannot do it; use \"tag\", and let the scanner's rule or Postfix's milter_header_checks (docs/deployment.md) send the mail another way";
                problems.add(found.place.clone(), &found.key, what);
            }
            "guard" => actions.push(Action::Guard),
            "unwrap" => actions.push(Action::Unwrap),
            _ => problems.add(found.place.clone(), &found.key, format!("found {word:?}, expected \"tag\", \"guard\" or \"unwrap\"")),
        }
    }
    // They run in this order, however they were written.
    actions.sort_unstable();
    actions.dedup();
    (!actions.is_empty()).then_some(actions)
}

fn require(root: &mut Section<'_, '_>, problems: &mut Problems) -> Option<Require> {
    let Some(found) = root.any("require") else { return Some(Require::Dmarc) };
    match found.value.as_str() {
        Some("dmarc") => return Some(Require::Dmarc),
        Some("dkim") => return Some(Require::Dkim),
        _ => {}
    }
    let allowed = "\"dmarc\", \"dkim\" or { ip = [\"192.0.2.0/24\"], spf = true }";
    if found.value.as_table().is_none() {
        problems.add(found.place, found.key, format!("expected {allowed}"));
        return None;
    }
    let mut table = root.inline(&found);
    let networks = table.strings("ip", problems);
    let spf = table.flag("spf", problems);
    table.finish(problems);
    let networks = each(networks, problems, "a network, as in \"192.0.2.0/24\"", Network::parse);
    if networks.is_empty() {
        problems.add(found.place, found.key, format!("no addresses; expected {allowed}"));
        return None;
    }
    Some(Require::Address { networks, spf: if spf.is_none_or(|found| found.value) { Spf::Required } else { Spf::Ignored } })
}

fn limit(root: &mut Section<'_, '_>, problems: &mut Problems) -> Option<Limit> {
    let Some(found) = root.string("limit", problems) else { return Some(Limit::PerHour(LIMIT)) };
    found.parse(problems, "\"unlimited\", or how many in an hour, as in \"20/hour\"", |text| match text.as_str() {
        "unlimited" => Some(Limit::Unlimited),
        _ => text.strip_suffix("/hour").and_then(|count| count.trim().parse().ok()).filter(|count| *count > 0).map(Limit::PerHour),
    })
}
