//! The allowlist folder: one file a sender, completed from the catalogue, compiled into the allowlist.

use std::{fs, path::Path, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    catalogue::{self, Service, Shelf},
    lint::{self, Advice, Severity},
    parse_mode,
    reading::{self, Document, Environment, Found, Place, Problems, Section},
    trial,
};
use crate::{
    allowlist::{
        Action, AddressPattern, Allowlist, Entry, HostPattern, Mode,
        entry::{Addressees, Attachments, DecideBy, Limit, Lists, Reader, Require, Spf, Subjects},
        placeholder::Placeholder,
        shape::{OtherLink, Shape},
        shape_match::LinkRules,
    },
    identity::Network,
    message::Domain,
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

/// Compiles one allowlist file. `stem` names the entry where the file does not. None where the file has mistakes, or where it rests
/// on a draft of the catalogue that it does not accept; the advice then says so.
pub fn compile(source: &str, stem: &str, text: &str, mode: Mode, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<Entry> {
    let before = problems.0.len();
    let document = Document::parse(source, text, Environment::None, problems);
    let mut root = document.root();
    let whole = root.place();
    gone(&mut root, problems);
    let known = known(&mut root, &whole, problems);
    let name = root.string("name", problems);
    let name = name.map_or_else(
        || {
            known
                .as_ref()
                .filter(|known| known.shelf == Shelf::Services)
                .map_or(Some(stem.to_owned()), |known| Some(known.service.name.clone()))
        },
        |found| found.parse(problems, "1 to 64 letters, digits, hyphens, dots and underscores", |name| is_name(name).then(|| name.clone())),
    );
    let owner = root.string("owner", problems);
    let _reason = root.string("reason", problems);
    if owner.is_none() {
        advice.push(Advice::new(Severity::Note, whole.clone(), "owner", "nobody owns this entry; name who answers for it"));
    }
    let tenants = each(strings(&mut root, "tenant", problems), problems, "a name that is yours, in lower case, as in \"corp\"", |text| {
        is_tenant(text).then(|| text.clone())
    });
    let written = Written::read(&mut root, problems);
    written.lint(known.as_ref(), advice);
    let draft = is_out_as_draft(&mut root, known.as_ref(), &written, owner.is_some(), &whole, advice, problems);
    let parts = written.over(known.as_ref());
    let from = addresses_of(&parts.from, &tenants, &whole, problems);
    let never = addresses_of(&parts.never, &tenants, &whole, problems);
    let shapes = shapes(&parts.links, problems);
    let other_links = other_links(&parts.other_links, problems);
    let wants_tenant =
        shapes.iter().any(|(_, shape)| shape.has(Placeholder::Tenant)) || other_links.iter().any(|link| link.has(Placeholder::Tenant));
    if wants_tenant && tenants.is_empty() {
        problems.add(whole.clone(), "tenant", tenant_missing(known.as_ref()));
    }
    if parts.from.value.is_empty() {
        problems.add(whole.clone(), "from", "missing; which From addresses, as in from = [\"no-reply@acme.example\"]");
    }
    let signed_by = signers(parts.signed_by, &from, problems);
    let envelope = each(Some(parts.envelope), problems, "a domain, as in \"bounce.acme.example\" or \"*.bnc.acme.example\"", |text| {
        HostPattern::parse(text).ok()
    });
    let recipients = each(
        strings(&mut root, "recipients", problems),
        problems,
        "a recipient, as in \"*@corp.example\" or \"bob@corp.example\"",
        |text| AddressPattern::parse(text).ok(),
    );
    let reader = word(&mut root, "reader", &[("addressed", Reader::Addressed), ("straight", Reader::Straight)], problems);
    let reader = reader.unwrap_or_else(|| match known.as_ref().and_then(|known| known.service.reader.as_deref()) {
        Some("straight") => Reader::Straight,
        _ => Reader::Addressed,
    });
    let decide_by = decide_by(&mut root, &shapes, &whole, problems);
    let grants = grants(&mut root, &shapes, &whole, problems);
    let expires = expiry(&mut root, problems);
    let actions = actions(&mut root, known.is_some(), &whole, problems);
    let require = require(&mut root, problems);
    let limit = limit(&mut root, problems);
    let own_mode = root.string("mode", problems);
    let own_mode = own_mode.map_or(Some(mode), |found| found.parse(problems, "\"observe\" or \"enforce\"", |mode| parse_mode(mode)));
    let max_age = root.string("max_age", problems);
    let max_age =
        max_age.map_or(Some(MAX_AGE), |found| found.parse(problems, "a time with its unit, as in \"24h\"", |text| reading::duration(text)));
    let mut flag = |key, problems: &mut Problems| root.flag(key, problems).is_some_and(|found| found.value);
    let attachments = if flag("attachments", problems) { Attachments::Allowed } else { Attachments::Refused };
    let addressees = if flag("several_readers", problems) { Addressees::Several } else { Addressees::One };
    let lists = if flag("lists", problems) { Lists::Allowed } else { Lists::Refused };
    let trials = trial::read(&mut root, problems);
    root.finish(problems);
    if problems.0.len() > before {
        return None;
    }
    let entry = Entry {
        name: name?,
        from,
        never,
        decide_by: decide_by?,
        links: LinkRules::new(shapes, other_links, tenants),
        grants: grants?,
        signed_by,
        envelope,
        reader,
        addressees,
        lists,
        require: require?,
        recipients,
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
        &Entry { expires: None, ..entry.clone() },
        Path::new(source).parent().unwrap_or(Path::new("")),
        Timestamp::UNIX_EPOCH,
        problems,
    );
    (problems.0.len() == before && draft == Draft::Accepted).then_some(entry)
}

/// What the catalogue gives an entry.
pub(super) struct Known {
    pub(super) shelf: Shelf,
    pub(super) service: Service,
}

/// Keys of the first edition, each with what to write instead.
const GONE: [(&str, &str); 3] = [
    (
        "expanded_recipients",
        "gone; [readers] domains and aliases in firstclick.toml say which addresses are the same reader's, several_readers = true takes several in To and Cc, and a list needs straight delivery (docs/allowlist.md, Readers)",
    ),
    (
        "unsigned_content_type",
        "gone; where a signature leaves the MIME fields out, the signed body must tell the same, and nothing needs to be written",
    ),
    ("confidence", "gone; the catalogue's entries have [[evidence]]"),
];

fn gone(root: &mut Section<'_, '_>, problems: &mut Problems) {
    for (key, says) in GONE {
        if let Some(found) = root.any(key) {
            problems.add(found.place, found.key, says);
        }
    }
}

/// The service or product that the file names.
fn known(root: &mut Section<'_, '_>, whole: &Place, problems: &mut Problems) -> Option<Known> {
    let (sender, product) = (root.string("sender", problems), root.string("product", problems));
    let host = root.string("host", problems);
    if let (Some(_), Some(product)) = (&sender, &product) {
        problems.add(product.place.clone(), "product", "`sender` and `product` exclude each other; take one of them out");
        return None;
    }
    if let (None, Some(host)) = (&product, &host) {
        problems.add(host.place.clone(), "host", "it says where a `product` stands, and none is named");
    }
    let (shelf, found) = match (sender, product) {
        (Some(sender), _) => (Shelf::Services, sender),
        (None, Some(product)) => (Shelf::Products, product),
        (None, None) => return None,
    };
    let Some(mut service) = catalogue::find(shelf, &found.value) else {
        let names = catalogue::names(shelf);
        let near = reading::nearest(&found.value, &names).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        let what =
            format!("{:?} is not in the catalogue; {near}`firstclick senders` lists it; without it, write `from` and [links]", found.value);
        problems.add(found.place, found.key, what);
        return None;
    };
    if shelf == Shelf::Products {
        let Some(host) = host else {
            problems.add(whole.clone(), "host", "missing; where your installation stands, as in host = \"sso.corp.example\"");
            return None;
        };
        let host = host.value.trim_end_matches('/').to_owned();
        let filled = |text: &String| text.replace("{host}", &host);
        service.links = service.links.iter().map(|(kind, shapes)| (*kind, shapes.iter().map(filled).collect())).collect();
        service.other_links = service.other_links.iter().map(filled).collect();
    }
    Some(Known { shelf, service })
}

/// What of an entry's lists the file itself says; none: the key is not there.
pub(super) struct Written {
    pub(super) from: Option<List>,
    pub(super) never: Option<List>,
    pub(super) links: Vec<(Kind, List)>,
    pub(super) other_links: Option<List>,
    pub(super) signed_by: Option<List>,
    pub(super) envelope: Option<List>,
}

/// The same, with what the catalogue says where the file is silent.
struct Parts {
    from: List,
    never: List,
    links: Vec<(Kind, List)>,
    other_links: List,
    signed_by: List,
    envelope: List,
}

impl Written {
    fn read(root: &mut Section<'_, '_>, problems: &mut Problems) -> Self {
        Self {
            from: strings(root, "from", problems),
            never: strings(root, "never", problems),
            links: links(root, problems),
            other_links: strings(root, "other_links", problems),
            signed_by: strings(root, "signed_by", problems),
            envelope: strings(root, "envelope", problems),
        }
    }

    fn lint(&self, known: Option<&Known>, advice: &mut Vec<Advice>) {
        lint::written(self, known, advice);
    }

    /// What is written replaces what the catalogue knows, key by key and, of [links], kind by kind.
    fn over(self, known: Option<&Known>) -> Parts {
        let service = known.map(|known| &known.service);
        let list = |written: Option<List>, key: &str, of: fn(&Service) -> &Vec<String>| {
            written.unwrap_or_else(|| built_in(service.map(of).map(Vec::as_slice).unwrap_or_default(), key))
        };
        let mut links = self.links;
        for (kind, shapes) in service.into_iter().flat_map(|service| &service.links) {
            if !links.iter().any(|(written, _)| written == kind) {
                links.push((*kind, built_in(shapes, &format!("links.{}", kind.code()))));
            }
        }
        Parts {
            from: list(self.from, "from", |service| &service.from),
            never: list(self.never, "never", |service| &service.never),
            links,
            other_links: list(self.other_links, "other_links", |service| &service.other_links),
            signed_by: list(self.signed_by, "signed_by", |service| &service.signed_by),
            envelope: list(self.envelope, "envelope", |service| &service.envelope),
        }
    }
}

/// Whether an entry rests on a draft.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Draft {
    /// It does not, or the admin accepts it.
    Accepted,
    /// It exempts nobody.
    Out,
}

/// An entry of the catalogue without evidence exempts nobody until an owner accepts it.
fn is_out_as_draft(
    root: &mut Section<'_, '_>,
    known: Option<&Known>,
    written: &Written,
    is_owned: bool,
    whole: &Place,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Draft {
    let accepts = root.flag("accept_draft", problems);
    let Some(known) = known else { return Draft::Accepted };
    let mut missing = known.service.missing(known.shelf);
    // What the admin wrote is the admin's own word.
    missing.retain(|what| match *what {
        "from" => written.from.is_none(),
        _ => written.links.is_empty(),
    });
    if missing.is_empty() {
        return Draft::Accepted;
    }
    let what = missing.iter().map(|what| if *what == "from" { "From addresses" } else { "link shapes" }).collect::<Vec<_>>().join(" and ");
    match accepts {
        Some(found) if found.value && is_owned => Draft::Accepted,
        Some(found) if found.value => {
            problems.add(found.place, found.key, "a draft needs an `owner` who answers for it");
            Draft::Out
        }
        _ => {
            let says = format!(
                "{:?} is a draft: the catalogue has no evidence for its {what}, so this entry exempts nobody; write them yourself, or accept_draft = true with an owner (`firstclick senders show {}`)",
                known.service.name, known.service.name
            );
            advice.push(Advice::new(Severity::Warning, whole.clone(), "sender", says));
            Draft::Out
        }
    }
}

fn tenant_missing(known: Option<&Known>) -> String {
    let hint = known.and_then(|known| known.service.tenant_hint.as_deref()).map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("missing; strangers can own names there, so tenant = [\"...\"] must say which are yours{hint}")
}

/// The kinds' lists in [links].
fn links(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<(Kind, List)> {
    let Some(found) = root.any("links") else { return Vec::new() };
    if found.value.as_table().is_none() {
        let what = "expected a table of shapes by kind, as in [links] and password_reset = [\"login.acme.example/reset/{token}\"]; what the mail says no longer decides (docs/allowlist.md)";
        problems.add(found.place, found.key, what);
        return Vec::new();
    }
    let mut table = root.inline(&found);
    let mut links = Vec::new();
    for kind in Kind::ALL {
        if let Some(list) = strings(&mut table, kind.code(), problems) {
            links.push((kind, list));
        }
    }
    table.finish(problems);
    links
}

fn addresses_of(list: &List, tenants: &[String], whole: &Place, problems: &mut Problems) -> Vec<AddressPattern> {
    let mut patterns = Vec::new();
    for item in &list.value {
        let texts: Vec<String> = if item.value.contains("{tenant}") {
            if tenants.is_empty() {
                problems.add(whole.clone(), "tenant", tenant_missing(None));
            }
            tenants.iter().map(|tenant| item.value.replace("{tenant}", tenant)).collect()
        } else {
            vec![item.value.clone()]
        };
        for text in texts {
            match AddressPattern::parse_sender(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => problems.add(
                    item.place.clone(),
                    &item.key,
                    format!("found {text:?}: {error}; expected an address, as in \"no-reply@acme.example\", \"*@acme.example\" or \"*@*.acme.example\""),
                ),
            }
        }
    }
    patterns
}

fn shapes(links: &[(Kind, List)], problems: &mut Problems) -> Vec<(Kind, Shape)> {
    let mut shapes = Vec::new();
    for (kind, item) in links.iter().flat_map(|(kind, list)| list.value.iter().map(move |item| (*kind, item))) {
        match Shape::parse(&item.value) {
            Ok(shape) => shapes.push((kind, shape)),
            Err(error) => problems.add(
                item.place.clone(),
                &item.key,
                format!("found {:?}: {error}; expected a shape, as in \"login.acme.example/reset/{{token}}\"", item.value),
            ),
        }
    }
    shapes
}

fn other_links(list: &List, problems: &mut Problems) -> Vec<OtherLink> {
    let mut links = Vec::new();
    for item in &list.value {
        match OtherLink::parse(&item.value) {
            Ok(link) => links.push(link),
            Err(error) => problems.add(
                item.place.clone(),
                &item.key,
                format!("found {:?}: {error}; expected HOST, *.HOST, HOST/PATH or HOST/PATH/*", item.value),
            ),
        }
    }
    links
}

/// A child never vouches for its parent unless it is named; and nobody outside of the organisation vouches at all.
fn signers(list: List, from: &[AddressPattern], problems: &mut Problems) -> Vec<Domain> {
    let mut signers = Vec::new();
    for item in list.value {
        let Some(domain) = item.parse(problems, "a domain, as in \"mg.acme.example\"", |text| Domain::parse(text).ok()) else { continue };
        if from.iter().any(|pattern| pattern.host().domain().is_kin_of(&domain)) {
            signers.push(domain);
        } else {
            problems.add(item.place, item.key, format!("{domain} is of another organisation than `from`, and cannot sign for it"));
        }
    }
    signers
}

fn decide_by(root: &mut Section<'_, '_>, shapes: &[(Kind, Shape)], whole: &Place, problems: &mut Problems) -> Option<DecideBy> {
    let by_words = word(root, "decide_by", &[("shapes", false), ("words", true)], problems).unwrap_or(false);
    let mails = strings(root, "mails", problems);
    let subjects = strings(root, "subject", problems);
    let counters = strings(root, "counters", problems);
    let links_in_mail = root.number("links_in_mail", problems);
    if by_words {
        if let Some(subjects) = subjects {
            problems.add(subjects.place, subjects.key, "`decide_by = \"words\"` and `subject` exclude each other; take one of them out");
        }
        if !shapes.is_empty() {
            problems.add(whole.clone(), "links", "`decide_by = \"words\"` is for entries without shapes; take [links] or it out");
        }
        let known: Vec<&str> = Kind::RECOGNISED.iter().map(|kind| kind.code()).collect();
        let kinds = each(mails, problems, &format!("one of {}", known.join(", ")), |text| {
            Kind::RECOGNISED.into_iter().find(|kind| kind.code() == text)
        });
        return Some(DecideBy::Words(if kinds.is_empty() { Kind::RECOGNISED.to_vec() } else { kinds }));
    }
    if let Some(mails) = mails {
        problems.add(
            mails.place,
            mails.key,
            "what the mail says no longer decides: [links] names the kinds, and `grants` those that are enough; with decide_by = \"words\" it still does",
        );
    }
    let Some(subjects) = subjects else {
        for (key, place) in [("counters", counters.map(|list| list.place)), ("links_in_mail", links_in_mail.map(|found| found.place))] {
            if let Some(place) = place {
                problems.add(place, key, "it belongs to `subject`, and there is none");
            }
        }
        if shapes.is_empty() {
            problems.add(
                whole.clone(),
                "links",
                "missing; what one-time links look like, as in [links] and password_reset = [\"login.acme.example/reset/{token}\"]",
            );
        }
        return Some(DecideBy::Shapes);
    };
    let counters = other_links(&counters.unwrap_or_else(|| built_in(&[], "counters")), problems);
    let links_in_mail = links_in_mail.and_then(|found| {
        found
            .parse(problems, "how many links the mail always has, as in 4", |count| usize::try_from(*count).ok().filter(|count| *count > 0))
    });
    if counters.is_empty() || links_in_mail.is_none() {
        let what =
            "`subject` needs `counters`, the click counters that stand for the links, and `links_in_mail`, how many links the mail has";
        problems.add(subjects.place, subjects.key, what);
        return None;
    }
    Some(DecideBy::Subjects(Subjects {
        texts: subjects.value.into_iter().map(|item| item.value).collect(),
        counters: LinkRules::new(Vec::new(), counters, Vec::new()),
        links_in_mail: links_in_mail?,
    }))
}

/// The kinds that are enough; all that [links] has but `action` where the file says nothing.
fn grants(root: &mut Section<'_, '_>, shapes: &[(Kind, Shape)], whole: &Place, problems: &mut Problems) -> Option<Vec<Kind>> {
    let there = |kind: Kind| shapes.iter().any(|(known, _)| *known == kind);
    let Some(written) = strings(root, "grants", problems) else {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Action && there(*kind)).collect();
        if kinds.is_empty() && !shapes.is_empty() {
            problems.add(
                whole.clone(),
                "grants",
                "nothing grants: [links] has `action` only; grants = [\"action\"] says that it is enough",
            );
            return None;
        }
        return Some(kinds);
    };
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    let mut kinds = Vec::new();
    for item in written.value {
        let kind =
            item.parse(problems, &format!("one of {}", known.join(", ")), |text| Kind::ALL.into_iter().find(|kind| kind.code() == text));
        match kind {
            Some(kind) if there(kind) => kinds.push(kind),
            Some(kind) => problems.add(item.place, item.key, format!("[links] has no shape of {:?}", kind.code())),
            None => {}
        }
    }
    Some(kinds)
}

fn word<U: Copy>(root: &mut Section<'_, '_>, key: &'static str, words: &[(&str, U)], problems: &mut Problems) -> Option<U> {
    root.string(key, problems).and_then(|found| found.word(problems, words))
}

/// A name below a service's domain, or a part of a path: what a link or an address may hold.
fn is_tenant(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_'))
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}

/// How old a DKIM signature may be: reset links live for hours.
const MAX_AGE: Duration = Duration::from_hours(24);
/// Exemptions for one recipient in an hour.
const LIMIT: u32 = 20;

pub(super) type List = Found<Vec<Found<String>>>;

/// A list of strings that is not empty.
fn strings(root: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems) -> Option<List> {
    let found = root.strings(key, problems)?;
    if found.value.is_empty() {
        problems.add(found.place, found.key, "the list is empty; take the key out or write something into it");
        return None;
    }
    Some(found)
}

/// What the catalogue says.
fn built_in(texts: &[String], key: &str) -> List {
    let place = Place::file("catalogue");
    let value = texts.iter().map(|text| Found { value: text.clone(), place: place.clone(), key: key.to_owned() }).collect();
    Found { value, place, key: key.to_owned() }
}

fn each<T>(list: Option<List>, problems: &mut Problems, allowed: &str, parse: impl Fn(&String) -> Option<T>) -> Vec<T> {
    list.into_iter().flat_map(|list| list.value).filter_map(|item| item.parse(problems, allowed, |text| parse(text))).collect()
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
    let networks = each(networks, problems, "a network, as in \"192.0.2.0/24\"", |text| Network::parse(text));
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
