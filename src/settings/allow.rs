//! One file of the allowlist, completed from the catalogue or from a product, compiled into an entry.

use std::{path::Path, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use toml::de::DeValue;

use super::{
    MODES,
    catalogue::{self, Fact, Service},
    files::Files,
    grants::{decide_by, grants, link_rules, signed_by},
    hint,
    lint::{self, Advice, Severity},
    policy_test::{self, PolicyTest},
    products::{self, Product},
    proposal::{self, Proposal},
    schema::{self, Document, Found, Problems, Section, SourceSpan},
    written::{self, List, TENANT, Written},
};
use crate::allowlist::{
    Action, Entry, HostPattern, Mode,
    entry::{AddressPattern, Addressees, Attachments, DecideBy, Limit, Lists, Reader, Require, Spf},
};

/// The service or the product that an entry is completed from, if any.
enum Known {
    Nothing,
    Service(Box<Service>),
    Product(Box<Product>, String),
}

impl Known {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Service(service) => Some(&service.name),
            Self::Product(product, _) => Some(&product.name),
        }
    }

    fn written(&self) -> Written {
        match self {
            Self::Nothing => Written::default(),
            Self::Service(service) => service.written.clone(),
            Self::Product(product, host) => product.written.clone().with_host(host),
        }
    }

    /// The facts of it that have no evidence.
    fn guessed(&self) -> Vec<Fact> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Service(service) => service.guessed(),
            Self::Product(product, _) => {
                if product.is_draft() {
                    vec![Fact::Links]
                } else {
                    Vec::new()
                }
            }
        }
    }
}

/// Compiles one allowlist file. `stem` names the entry where the file does not. None where there is a mistake, which is added to
/// `problems`, or where the entry is a draft that was not accepted, which is added to `advice`.
pub fn compile(source: &str, stem: &str, text: &str, mode: Mode, advice: &mut Vec<Advice>, problems: &mut Problems) -> Option<Entry> {
    compile_noting(source, stem, text, mode, &mut Files::default(), advice, problems).map(|(entry, _)| entry)
}

/// Where the keys of an entry stand that advice is about; the file, where it has no such key.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) expires: SourceSpan,
    pub(super) action: SourceSpan,
    pub(super) from: SourceSpan,
}

impl Places {
    fn read(root: &mut Section<'_, '_>) -> Self {
        let mut place = |key| root.any(key).map_or_else(|| root.place(), |found| found.place);
        Self { expires: place("expires"), action: place("action"), from: place("from") }
    }
}

/// As [`compile`]; the mails of its tests are noted in `watched`.
pub(super) fn compile_noting(
    source: &str,
    stem: &str,
    text: &str,
    mode: Mode,
    watched: &mut Files,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<(Entry, Places)> {
    let before = problems.0.len();
    let document = Document::parse(source, text, problems);
    let places = Places::read(&mut document.root());
    let entry = entry(document.root(), stem, mode, advice, problems);
    problems.drop_follow_ups(before);
    let (entry, tests) = entry?;
    // An entry that has ended exempts nothing; its mails are tried as if it had not.
    let tried = Entry { expires: None, ..entry.clone() };
    policy_test::run(&tests, &tried, Path::new(source).parent().unwrap_or(Path::new("")), Timestamp::UNIX_EPOCH, watched, advice, problems);
    (problems.0.len() == before).then_some((entry, places))
}

/// The entry of a file, and its tests; none where there is a mistake, or where it is a draft that nobody accepted.
fn entry(
    mut root: Section<'_, '_>,
    stem: &str,
    mode: Mode,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<(Entry, Vec<PolicyTest>)> {
    let before = problems.0.len();
    let whole = root.place();
    let known = known(&mut root, &whole, problems);
    let name = name(&mut root, &known, stem, problems);
    let owner = root.string("owner", problems);
    let _reason = root.string("reason", problems);
    if owner.is_none() {
        advice.push(Advice::new(Severity::Note, whole.clone(), "owner", "nobody owns this entry; name who answers for it"));
    }
    let accepted = root.flag("accept_draft", problems);
    let tenants = tenants(&mut root, problems);
    let own = Written::read(&mut root, problems);
    old_keys(&mut root, problems);
    refuse_never(&own, problems);
    lint::written(&own, advice);
    if let Known::Service(service) = &known {
        lint::wider(service, &own, advice);
    }
    let drafts = drafts(&known, &own);
    let all = own.clone().over(&known.written());
    check_tenants(&known, &tenants, &all, &whole, advice, problems);
    let tenants: Vec<String> = tenants.into_iter().map(|tenant| tenant.value).collect();
    lint::covering(&own, &all, advice);
    let all = all.with_tenants(&tenants);
    let decide_by = decide_by(&mut root, &all, &own, advice, problems);
    check_complete(&known, &all, decide_by.as_ref(), &whole, before, problems);
    let from = each(all.from.clone(), problems, "an address, as in \"no-reply@acme.example\", or a domain", |text| {
        AddressPattern::parse_sender(text).ok()
    });
    let never =
        each(all.never.clone(), problems, "an address, as in \"shares@acme.example\"", |text| AddressPattern::parse_sender(text).ok());
    check_never(&from, &never, &whole, advice);
    let links = link_rules(&all, tenants, problems);
    let grants = grants(&mut root, &all, decide_by.as_ref(), problems);
    let signed_by = signed_by(all.signed_by.clone(), &from, problems);
    let envelope = each(all.envelope.clone(), problems, "a domain, as in \"bounce.acme.example\" or \"*.acme.example\"", |text| {
        HostPattern::parse(text).ok()
    });
    let reader = match &all.reader {
        None => Some(Reader::Addressed),
        Some(found) => found.word(problems, &[("straight", Reader::Straight), ("addressed", Reader::Addressed)]),
    };
    let actions = actions(&mut root, known.name().is_some(), &whole, before, problems);
    let terms = Terms::read(&mut root, mode, problems);
    let tests = policy_test::read(&mut root, problems);
    root.finish(problems);
    let accepts = check_accepted(accepted, owner.as_ref(), &drafts, advice, problems);
    if problems.0.len() > before {
        return None;
    }
    if let Some(draft) = draft_advice(&known, &drafts, accepts, &whole) {
        advice.push(draft);
        if !accepts {
            return None;
        }
    }
    let flag = |found: &Option<Found<bool>>| found.as_ref().is_some_and(|found| found.value);
    let entry = Entry {
        name: name?,
        owner: owner.map(|found| found.value),
        from,
        never,
        decide_by: decide_by?,
        links,
        grants,
        signed_by,
        envelope,
        reader: reader?,
        addressees: if flag(&all.several_readers) { Addressees::Several } else { Addressees::One },
        lists: if flag(&all.lists) { Lists::Allowed } else { Lists::Refused },
        require: terms.require?,
        recipients: terms.recipients,
        attachments: terms.attachments,
        max_age: terms.max_age?,
        limit: terms.limit?,
        mode: terms.mode?,
        actions: actions?,
        expires: terms.expires,
    };
    Some((entry, tests))
}

/// The terms on which an entry exempts, whoever its sender is.
struct Terms {
    require: Option<Require>,
    recipients: Vec<AddressPattern>,
    attachments: Attachments,
    max_age: Option<Duration>,
    limit: Option<Limit>,
    mode: Option<Mode>,
    expires: Option<Timestamp>,
}

impl Terms {
    fn read(root: &mut Section<'_, '_>, hop: Mode, problems: &mut Problems) -> Self {
        let own_mode = root.string("mode", problems);
        let own_mode = own_mode.map_or(Some(hop), |found| found.word(problems, &MODES));
        let max_age = root.string_of("max_age", "a time with its unit, as in \"24h\"", |number| format!("{number}h"), problems);
        let attached = root.flag("attachments", problems).is_some_and(|found| found.value);
        Self {
            require: require(root, problems),
            recipients: list_of_recipients(root, problems),
            attachments: if attached { Attachments::Allowed } else { Attachments::Refused },
            max_age: max_age.map_or(Some(MAX_AGE), |found| {
                let allowed = format!("a time with its unit, as in \"24h\"{}", hint::write(hint::for_time(&found.value, "h")));
                found.parse(problems, &allowed, |text| schema::duration(text))
            }),
            limit: limit(root, problems),
            // The whole hop observes: then every entry does.
            mode: if hop == Mode::Observe { Some(Mode::Observe) } else { own_mode },
            expires: expiry(root, problems),
        }
    }
}

/// The entry's name; `stem` is its file's.
fn name(root: &mut Section<'_, '_>, known: &Known, stem: &str, problems: &mut Problems) -> Option<String> {
    match (root.string("name", problems), known) {
        (Some(found), _) => {
            found.parse(problems, "1 to 64 letters, digits, hyphens, dots and underscores", |name| is_name(name).then(|| name.clone()))
        }
        (None, Known::Service(service)) => Some(service.name.clone()),
        // Of a product there may be several.
        (None, Known::Nothing | Known::Product(..)) => Some(stem.to_owned()),
    }
}

/// What narrows stands in firstclick.toml: a file that is left out must take nothing away but its own exemptions.
fn refuse_never(own: &Written, problems: &mut Problems) {
    if let Some(list) = &own.never {
        let what = "stands in firstclick.toml, above all sections, and counts for every entry: never = [\"shares@acme.example\"]";
        problems.add(list.place.clone(), &list.key, what);
    }
}

/// Senders that are named and excluded at once grant nothing.
fn check_never(from: &[AddressPattern], never: &[AddressPattern], whole: &SourceSpan, advice: &mut Vec<Advice>) {
    for dead in from.iter().filter(|pattern| never.contains(pattern)) {
        let what = format!("{dead} stands in `from` and in `never`, so it grants nothing");
        advice.push(Advice::new(Severity::Warning, whole.clone(), "never", what));
    }
}

/// Whether a draft is accepted, which takes somebody who answers for it.
fn check_accepted(
    accepted: Option<Found<bool>>,
    owner: Option<&Found<String>>,
    drafts: &[Fact],
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> bool {
    let Some(found) = accepted.filter(|found| found.value) else { return false };
    if owner.is_none() {
        problems.add(found.place, found.key, "a draft is accepted by somebody: add owner = \"you@corp.example\"");
    } else if drafts.is_empty() {
        advice.push(Advice::new(Severity::Note, found.place, found.key, "nothing of this entry is a draft; take the line out"));
    }
    true
}

/// Where customers have names of their own below a domain, the entry must give the company's.
fn check_tenants(
    known: &Known,
    tenants: &[Found<String>],
    all: &Written,
    whole: &SourceSpan,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) {
    let asked_for = all.texts().any(|item| item.value.contains(TENANT));
    whole_names(tenants, all, problems);
    if tenants.is_empty() && asked_for {
        let hint = match known {
            Known::Service(service) => service.tenant_hint.clone(),
            Known::Nothing | Known::Product(..) => None,
        };
        let hint = hint.unwrap_or_else(|| "your own name at the service, as in \"corp\"".into());
        let what = format!("missing; strangers have names of their own there, so the entry must name yours: tenant = [\"...\"]: {hint}");
        problems.add_missing(whole.clone(), "tenant", what);
    } else if !tenants.is_empty() && !asked_for {
        advice.push(Advice::new(Severity::Warning, whole.clone(), "tenant", "{tenant} stands nowhere in this entry; take `tenant` out"));
    }
}

/// Without a service or a product, an entry must have all keys itself. A mistake that was found since `before` is not reported
/// twice: without its service, an entry has nothing.
fn check_complete(known: &Known, all: &Written, decide_by: Option<&DecideBy>, whole: &SourceSpan, before: usize, problems: &mut Problems) {
    let said = |keys: &[&str], problems: &Problems| problems.0.iter().skip(before).any(|problem| keys.contains(&problem.key.as_str()));
    if all.from.is_none() && !said(&["sender", "from"], problems) {
        problems.add_missing(whole.clone(), "from", missing("from"));
    }
    if all.links.is_empty()
        && matches!(decide_by, Some(DecideBy::Shapes))
        && !problems.0.iter().skip(before).any(|problem| problem.key.starts_with("links"))
        && !said(&["sender", "product", "host"], problems)
    {
        let what = known.name().map_or_else(
            || missing("[links]"),
            |name| format!("missing; {name:?} is known without shapes (`firstclick senders show {name}` says why): write [links] from a mail of yours"),
        );
        problems.add_missing(whole.clone(), "links", what);
    }
}

/// How old a DKIM signature may be: reset links live for hours.
const MAX_AGE: Duration = Duration::from_hours(24);
/// Exemptions for one recipient in an hour.
const LIMIT: u32 = 20;

fn missing(what: &str) -> String {
    format!("missing; without `sender` (a service: `firstclick senders`) or `product` an entry has {what} of its own")
}

/// `sender`, or `product` with `host`.
fn known(root: &mut Section<'_, '_>, whole: &SourceSpan, problems: &mut Problems) -> Known {
    let sender = root.string("sender", problems);
    let product = root.string("product", problems);
    let host = root.string("host", problems);
    let unknown = |found: &Found<String>, names: &[&str], what: &str, problems: &mut Problems| {
        let near = schema::nearest(&found.value, names).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        problems.add(
            found.place.clone(),
            &found.key,
            format!(
                "{:?} is not {what}; {near}`firstclick senders` lists what there is; without it, write `from` and `[links]`",
                found.value
            ),
        );
    };
    if let (Some(_), Some(product)) = (&sender, &product) {
        problems.add(product.place.clone(), "product", "`sender` and `product` exclude each other; take one of them out");
        return Known::Nothing;
    }
    if let Some(found) = sender {
        if let Some(host) = host {
            problems.add(host.place, "host", "`host` is where a `product` stands; `sender` names a service, which has hosts of its own");
        }
        let service = catalogue::find(&found.value);
        if service.is_none() {
            unknown(&found, &catalogue::names(), "in the catalogue", problems);
        }
        return service.map_or(Known::Nothing, |service| Known::Service(Box::new(service)));
    }
    let Some(found) = product else {
        if let Some(host) = host {
            problems.add(host.place, "host", "`host` is where a `product` stands; name the product, as in product = \"keycloak\"");
        }
        return Known::Nothing;
    };
    let product = products::find(&found.value);
    if product.is_none() {
        unknown(&found, &products::names(), "a product that is known here", problems);
    }
    let host = if let Some(host) = host {
        products::place(&host, problems)
    } else {
        problems.add_missing(whole.clone(), "host", "missing; say where the product stands, as in host = \"sso.corp.example\"");
        None
    };
    match (product, host) {
        (Some(product), Some(host)) => Known::Product(Box::new(product), host),
        _ => Known::Nothing,
    }
}

/// The facts without evidence that the entry would rest on; what the admin writes is the admin's own.
fn drafts(known: &Known, own: &Written) -> Vec<Fact> {
    let written = known.written();
    let is_own = |fact: &Fact| match fact {
        Fact::From => own.from.is_some(),
        Fact::Links => !own.links.is_empty() && written.links.iter().all(|(kind, _)| own.links.iter().any(|(other, _)| other == kind)),
    };
    known.guessed().into_iter().filter(|fact| !is_own(fact)).collect()
}

fn draft_advice(known: &Known, drafts: &[Fact], accepted: bool, whole: &SourceSpan) -> Option<Advice> {
    let name = known.name().filter(|_| !drafts.is_empty())?;
    let keys: Vec<&str> = drafts.iter().map(|fact| fact.key()).collect();
    let keys = keys.join(" and ");
    let what = if accepted {
        format!("{name:?} is a draft: nobody has seen its {keys}; somebody accepted that, so watch what it exempts")
    } else {
        format!(
            "{name:?} is a draft: nobody has seen its {keys}, so it exempts nobody. Write them from a mail of yours, or accept the guess with accept_draft = true and an owner"
        )
    };
    Some(Advice::new(Severity::Warning, whole.clone(), "sender", what))
}

fn tenants(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<Found<String>> {
    let is_tenant = |text: &String| {
        (1..=100).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && text.split('.').all(|label| !label.is_empty())
    };
    let found = written::list(root, "tenant", problems).into_iter().flat_map(|list| list.value);
    let allowed = "your name at the service: letters, digits, hyphens, underscores and dots";
    found.filter_map(|item| item.parse(problems, allowed, |text| is_tenant(text).then(|| item.clone()))).collect()
}

/// The part of a whole name, as `corp.zendesk.com`, or of an address of it or a link to it, that `{tenant}` stands for in a text.
fn part_of(tenant: &str, text: &str) -> Option<String> {
    let (before, behind) = text.split_once(TENANT)?;
    // What stands beside the placeholder in its own host; paths and local parts are none of it.
    let before = before.rsplit(['@', '/']).next().unwrap_or_default();
    let behind = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let part = tenant.strip_prefix(before)?.strip_suffix(behind)?;
    (behind.contains('.') && !part.is_empty()).then(|| part.to_owned())
}

/// A tenant that has the service's domain behind it already: each shape would have it twice.
fn whole_names(tenants: &[Found<String>], all: &Written, problems: &mut Problems) {
    for tenant in tenants {
        if let Some((text, part)) = all.texts().find_map(|item| Some((&item.value, part_of(&tenant.value, &item.value)?))) {
            let what =
                format!("found {:?}, which is a whole name; `{{tenant}}` is the part in {text:?} alone: write {part:?}", tenant.value);
            problems.add(tenant.place.clone(), &tenant.key, what);
        }
    }
}

/// Keys of the first edition, each with what to write instead.
pub(super) const OLD_KEYS: [(&str, &str); 2] = [
    (
        "expanded_recipients",
        "this key is gone; where lists and aliases lead to is said once, in firstclick.toml: [readers] with domains and aliases. For a sender that writes to lists, lists = true",
    ),
    (
        "unsigned_content_type",
        "this key is gone; a signature that leaves MIME fields out is taken where the signed body agrees with them. Take the line out",
    ),
];

fn old_keys(root: &mut Section<'_, '_>, problems: &mut Problems) {
    for (key, instead) in OLD_KEYS {
        root.gone(key, instead, problems);
    }
}

fn list_of_recipients(root: &mut Section<'_, '_>, problems: &mut Problems) -> Vec<AddressPattern> {
    let recipients = written::list(root, "recipients", problems);
    each(recipients, problems, "a recipient, as in \"*@corp.example\" or \"bob@corp.example\"", |text| AddressPattern::parse(text).ok())
}

pub(super) fn each<T>(list: Option<List>, problems: &mut Problems, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
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
    let Some(date) = date else {
        // What is neither a date nor a text says by itself that there is none.
        let written = found.value.as_bool().map_or_else(|| text.clone(), |flag| flag.to_string());
        let meant = match found.value.as_integer() {
            Some(_) => Proposal::Nothing,
            None => proposal::expiry(&written),
        };
        problems.add(found.place, found.key, format!("found {}, expected a date, as in 2027-06-30{meant}", schema::kind(found.value)));
        return None;
    };
    // The last days of the calendar have no next one: then the end is the last moment there is.
    let next = date.tomorrow().ok().and_then(|next| TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok());
    Some(next.unwrap_or(Timestamp::MAX))
}

fn actions(
    root: &mut Section<'_, '_>,
    in_catalogue: bool,
    whole: &SourceSpan,
    before: usize,
    problems: &mut Problems,
) -> Option<Vec<Action>> {
    let Some(found) = root.any("action") else {
        let unknown = problems.0.iter().skip(before).any(|problem| matches!(problem.key.as_str(), "sender" | "product" | "host"));
        if !in_catalogue && !unknown {
            problems.add_missing(
                whole.clone(),
                "action",
                "missing; it must be given where neither `sender` nor `product` is named, as in action = \"tag\"",
            );
        }
        return in_catalogue.then(|| vec![Action::Tag]);
    };
    let words: Vec<&DeValue<'_>> = match found.value.as_array() {
        Some(list) => list.iter().map(toml::Spanned::get_ref).collect(),
        None => vec![found.value],
    };
    let mut actions = Vec::new();
    for word in words {
        match word.as_str().unwrap_or_default() {
            "tag" => actions.push(Action::Tag),
            "route" => {
                let what = "\"route\" is not in this version yet, and a milter cannot do it; use \"tag\", and let the scanner's rule or Postfix's milter_header_checks (docs/deployment.md) send the mail another way";
                problems.add(found.place.clone(), &found.key, what);
            }
            "guard" => actions.push(Action::Guard),
            "unwrap" => actions.push(Action::Unwrap),
            text => {
                let near = schema::nearest(text, &["tag", "guard", "unwrap"]).map(|near| format!("; did you mean {near:?}?"));
                let what = format!("found {}, expected \"tag\", \"guard\" or \"unwrap\"{}", schema::kind(word), near.unwrap_or_default());
                problems.add(found.place.clone(), &found.key, what);
            }
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
        let near = match found.value.as_str() {
            Some(text) if text.eq_ignore_ascii_case("spf") => {
                "; SPF alone proves nobody: name the addresses that the sender sends from, as in { ip = [\"192.0.2.0/24\"], spf = true }"
                    .into()
            }
            Some(text) => schema::nearest(text, &["dmarc", "dkim"]).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default(),
            None => String::new(),
        };
        problems.add(found.place, found.key, format!("found {}, expected {allowed}{near}", schema::kind(found.value)));
        return None;
    }
    let before = problems.0.len();
    let mut table = root.inline(&found);
    let networks = table.strings("ip", problems);
    let spf = table.flag("spf", problems);
    table.finish(problems);
    let networks = super::networks(networks, problems);
    if networks.is_empty() {
        if problems.0.len() == before {
            problems.add(found.place, found.key, format!("no addresses; expected {allowed}"));
        }
        return None;
    }
    Some(Require::Address { networks, spf: if spf.is_none_or(|found| found.value) { Spf::Required } else { Spf::Ignored } })
}

fn limit(root: &mut Section<'_, '_>, problems: &mut Problems) -> Option<Limit> {
    const ALLOWED: &str = "\"unlimited\", or how many in an hour, as in \"20/hour\"";
    let Some(found) = root.string_of("limit", ALLOWED, |number| format!("{number}/hour"), problems) else {
        return Some(Limit::PerHour(LIMIT));
    };
    let allowed = format!("{ALLOWED}{}", hint::write(hint::limit(&found.value)));
    found.parse(problems, &allowed, |text| match text.as_str() {
        "unlimited" => Some(Limit::Unlimited),
        _ => text.strip_suffix("/hour").and_then(|count| count.trim().parse().ok()).filter(|count| *count > 0).map(Limit::PerHour),
    })
}
