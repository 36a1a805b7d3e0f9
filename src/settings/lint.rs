//! What is allowed and yet probably not meant: advice about entries that are too wide, too old or of no use.

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;

use super::{
    Problem, Settings, SourceSpan, Verify,
    allow::Places,
    catalogue::Service,
    schema::{Found, Mistake},
    written::{TENANT, Written},
};
use crate::{
    allowlist::{
        Action, Entry, OtherLink, Placeholder, Shape,
        danger::{self, Tenancy},
        entry::{AddressPattern, DecideBy, HostPattern, Require},
    },
    message::Domain,
};

/// The severity of advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A third party could use the entry to get mails exempted.
    Danger,
    /// Something does not do what the admin wants.
    Warning,
    /// Something that an admin should know.
    Note,
}

/// One piece of advice, with its position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// The severity.
    pub severity: Severity,
    /// The position, what is wrong, and what to do.
    pub problem: Problem,
}

impl Advice {
    /// Advice about a key at this position.
    #[must_use]
    pub fn new(severity: Severity, place: SourceSpan, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, problem: Problem { place, key: key.into(), what: what.into(), mistake: Mistake::Wrong } }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Danger => "danger",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.problem)
    }
}

/// How long before its end an entry is warned of.
const SOON: Duration = Duration::from_hours(30 * 24);

/// Checks the facts about a sender, of an admin's file or of the catalogue.
pub(super) fn written(written: &Written, advice: &mut Vec<Advice>) {
    for found in written.from.iter().flat_map(|list| &list.value) {
        from(found, advice);
    }
    for (_, found) in written.shapes() {
        shape(found, advice);
    }
    for found in written.other_links.iter().flat_map(|list| &list.value) {
        other_link(found, advice);
    }
    let mut say = |found: &Found<bool>, severity, what: &str| {
        if found.value {
            advice.push(Advice::new(severity, found.place.clone(), &found.key, what));
        }
    };
    if let Some(found) = &written.several_readers {
        say(found, Severity::Note, "mails with several addresses in To and Cc are taken: whoever is among them gets the same link");
    }
    if let Some(found) = &written.lists {
        say(found, Severity::Warning, "mails of lists are taken: whoever writes to the list speaks to all its readers");
    }
    if let Some(found) = written.reader.as_ref().filter(|found| found.value == "straight") {
        let what = "a mail that names no reader under its signature is taken where it comes straight from its sender: another customer of the sender's mail provider could send it on";
        advice.push(Advice::new(Severity::Warning, found.place.clone(), &found.key, what));
    }
}

fn say(found: &Found<String>, severity: Severity, what: &str, advice: &mut Vec<Advice>) {
    advice.push(Advice::new(severity, found.place.clone(), &found.key, format!("{:?}: {what}", found.value)));
}

/// Looks at an address of From.
fn from(found: &Found<String>, advice: &mut Vec<Advice>) {
    let Ok(pattern) = AddressPattern::parse_sender(&found.value.replace(TENANT, "tenant")) else { return };
    let tenancy = if found.value.contains(TENANT) { Tenancy::Named } else { Tenancy::Unnamed };
    if let Some(what) = danger::sender(&pattern, tenancy) {
        say(found, Severity::Danger, &what, advice);
    }
}

/// Looks at the shape of a one-time link.
fn shape(found: &Found<String>, advice: &mut Vec<Advice>) {
    // What is no shape, or stands below a public suffix, is a mistake and not advice.
    let Ok(shape) = Shape::parse(&found.value) else { return };
    if let Some(what) = danger::shape(&shape) {
        say(found, Severity::Danger, what, advice);
    }
    if shape.has(Placeholder::Text) {
        say(found, Severity::Note, "{text} takes whatever strangers write, but addresses; {word} or {id} take less", advice);
    }
}

/// Looks at where another link may lead.
fn other_link(found: &Found<String>, advice: &mut Vec<Advice>) {
    let Ok(link) = OtherLink::parse(&found.value) else { return };
    if let Some(what) = danger::other_link(&link) {
        say(found, Severity::Danger, what, advice);
    }
}

/// Looks at other links that cover links like those of a shape, whose one-time links would then leave as they stand.
pub(super) fn covering(own: &Written, all: &Written, advice: &mut Vec<Advice>) {
    let shapes: Vec<Shape> = all.shapes().filter_map(|(_, found)| Shape::parse(&found.value).ok()).collect();
    for found in own.other_links.iter().flat_map(|list| &list.value) {
        let Ok(link) = OtherLink::parse(&found.value) else { continue };
        if let Some(shape) = shapes.iter().find(|shape| link.covers_like(shape)) {
            let what = format!(
                "covers links like those of the shape \"{shape}\": a one-time link that fits no shape would leave bare; name the pages that the mail leads to"
            );
            say(found, Severity::Warning, &what, advice);
        }
    }
}

/// Whether what is written goes beyond what the catalogue knows of the service.
pub(super) fn wider(service: &Service, own: &Written, advice: &mut Vec<Advice>) {
    let tenant = |text: &str| text.replace(TENANT, "tenant");
    let senders: Vec<AddressPattern> = service.from().iter().filter_map(|text| AddressPattern::parse_sender(&tenant(text)).ok()).collect();
    let hosts: Vec<Domain> = service.links().iter().filter_map(|(_, text)| Some(Shape::parse(text).ok()?.host().clone())).collect();
    let known = |wanted: &AddressPattern| {
        let host = |known: &HostPattern| match (known, wanted.host()) {
            (HostPattern::Exact(known), HostPattern::Exact(wanted)) => known == wanted,
            (HostPattern::Below(known), wanted) => {
                wanted.domain().is_below(known) || (matches!(wanted, HostPattern::Below(_)) && wanted.domain() == known)
            }
            (HostPattern::Exact(_), HostPattern::Below(_)) => false,
        };
        senders.iter().any(|known| host(known.host()) && (known.local().is_none() || known.local() == wanted.local()))
    };
    let mut wide = |found: &Found<String>| {
        let what = format!(
            "is wider than the catalogue's entry {:?}; `firstclick senders show {}` says what is known",
            service.name, service.name
        );
        advice.push(Advice::new(Severity::Warning, found.place.clone(), &found.key, format!("{:?} {what}", found.value)));
    };
    for found in own.from.iter().flat_map(|list| &list.value) {
        if AddressPattern::parse_sender(&tenant(&found.value)).is_ok_and(|wanted| !senders.is_empty() && !known(&wanted)) {
            wide(found);
        }
    }
    for (_, found) in own.shapes() {
        let beyond = |shape: Shape| !hosts.is_empty() && !hosts.iter().any(|known| shape.host().is_within(known));
        if Shape::parse(&found.value).is_ok_and(beyond) {
            wide(found);
        }
    }
}

impl Settings {
    /// Advice that depends on the day, and on entries beside each other.
    #[must_use]
    pub fn advice(&self, now: Timestamp) -> Vec<Advice> {
        let mut advice = Vec::new();
        // An entry that stands in no file is a test's.
        let unknown = SourceSpan::file(self.allow.as_ref().map_or_else(|| "allow".into(), |folder| folder.display().to_string()));
        let nowhere = Places { expires: unknown.clone(), action: unknown.clone(), from: unknown };
        let senders = self.allowlist.entries();
        // A shadow names the first address, too: of 100,000 entries few do.
        let mut by_address: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, sender) in senders.iter().enumerate() {
            for pattern in &sender.from {
                by_address.entry(pattern.to_string()).or_default().push(at);
            }
        }
        for (at, sender) in senders.iter().enumerate() {
            let places = self.places.get(&sender.name).unwrap_or(&nowhere);
            let mut say =
                |severity, place: &SourceSpan, what: String| advice.push(Advice::new(severity, place.clone(), &sender.name, what));
            let day = sender.last_day().unwrap_or_default();
            match sender.expires {
                Some(end) if now >= end => {
                    say(
                        Severity::Warning,
                        &places.expires,
                        format!("expired on {day}; it exempts nothing any more: renew it, or take the file out"),
                    );
                }
                Some(end) if end.duration_since(now).unsigned_abs() < SOON => {
                    say(Severity::Note, &places.expires, format!("expires on {day}; renew it, or let it go"));
                }
                Some(_) => {}
                None => say(Severity::Note, &places.expires, "has no end; give it `expires`, so that somebody looks at it again".into()),
            }
            if sender.actions.contains(&Action::Unwrap) && !self.proves_wrapped_mails(sender) {
                say(
                    Severity::Warning,
                    &places.action,
                    "unwraps, and verify = \"here\": the gateway that wrapped a mail broke its signature, so that none verifies here and nothing is exempted. Let the gateway vouch, by identity.verify = \"upstream\" or, where it seals, by identity.arc_sealers".into(),
                );
            }
            let first = sender.from.first().map(ToString::to_string).unwrap_or_default();
            let same = by_address.get(&first).into_iter().flatten().filter(|before| **before < at);
            if let Some(before) = same.filter_map(|before| senders.get(*before)).find(|before| shadows(before, sender)) {
                say(
                    Severity::Warning,
                    &places.from,
                    format!("is shadowed by {:?}, which takes the same mails with the same links; take one of them out", before.name),
                );
            }
        }
        advice
    }
}

impl Settings {
    /// Whether the sender of a mail that a gateway changed can be proven as the entry asks.
    fn proves_wrapped_mails(&self, sender: &Entry) -> bool {
        matches!(sender.require, Require::Address { .. })
            || match &self.identity.verify {
                Verify::Here { arc_sealers, .. } => !arc_sealers.is_empty(),
                Verify::Upstream { .. } => true,
            }
    }
}

/// Whether an entry leaves another nothing to do.
fn shadows(before: &Entry, sender: &Entry) -> bool {
    matches!((&before.decide_by, &sender.decide_by), (DecideBy::Shapes, DecideBy::Shapes))
        && before.recipients.is_empty()
        && sender.from.iter().all(|pattern| before.from.contains(pattern))
        && sender.links.shapes().iter().all(|shape| before.links.shapes().contains(shape))
        && sender.grants.iter().all(|kind| before.grants.contains(kind))
        && before.links.tenants() == sender.links.tenants()
        && before.require == sender.require
}
