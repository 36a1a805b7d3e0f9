//! What is allowed and yet probably not meant: advice about entries that are too wide, too old or of no use.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    Place, Problem, Settings,
    allow::{Known, Written},
    reading::Found,
};
use crate::{
    allowlist::{
        AddressPattern, Entry,
        entry::DecideBy,
        shape::{OtherLink, Shape},
    },
    message::Domain,
};

/// How much an advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A stranger could use the entry.
    Danger,
    /// Something does not do what the admin wants.
    Warning,
    /// Somebody will want to know.
    Note,
}

/// One piece of advice, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// How much it matters.
    pub severity: Severity,
    /// Where, and what to do.
    pub problem: Problem,
}

impl Advice {
    /// A piece of advice.
    #[must_use]
    pub fn new(severity: Severity, place: Place, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, problem: Problem { place, key: key.into(), what: what.into() } }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Danger => "danger",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{word}: {}", self.problem)
    }
}

/// Domains from which everybody may send, proven.
const FREE_MAIL: &[&str] = &[
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "msn.com",
    "yahoo.com",
    "yahoo.co.jp",
    "icloud.com",
    "me.com",
    "aol.com",
    "gmx.de",
    "gmx.net",
    "gmx.com",
    "web.de",
    "t-online.de",
    "mail.ru",
    "yandex.ru",
    "qq.com",
    "163.com",
    "126.com",
    "naver.com",
    "proton.me",
    "protonmail.com",
    "orange.fr",
    "free.fr",
    "laposte.net",
    "libero.it",
    "wp.pl",
    "o2.pl",
    "seznam.cz",
    "uol.com.br",
    "zoho.com",
    "fastmail.com",
    "onmicrosoft.com",
];

/// Hosts where everybody may put a page or a redirect.
const SHARED_HOSTS: &[&str] = &[
    "bit.ly",
    "t.co",
    "tinyurl.com",
    "goo.gl",
    "ow.ly",
    "is.gd",
    "buff.ly",
    "rebrand.ly",
    "lnkd.in",
    "aka.ms",
    "forms.gle",
    "forms.office.com",
    "docs.google.com",
    "drive.google.com",
    "sites.google.com",
    "script.google.com",
    "storage.googleapis.com",
    "s3.amazonaws.com",
    "sharepoint.com",
    "onedrive.live.com",
    "1drv.ms",
    "dropbox.com",
    "notion.site",
    "sendgrid.net",
    "mailchimp.com",
    "list-manage.com",
    "hubspotlinks.com",
    "awstrack.me",
    "mandrillapp.com",
];

/// How long before its end an entry is spoken of.
const SOON: Duration = Duration::from_hours(30 * 24);

/// Looks at what an allowlist file says.
pub(super) fn written(written: &Written, known: Option<&Known>, advice: &mut Vec<Advice>) {
    let _ = known;
    for found in written.from.iter().flat_map(|list| &list.value) {
        from(found, advice);
    }
    for found in written.links.iter().flat_map(|(_, list)| &list.value) {
        if let Ok(shape) = Shape::parse(&found.value) {
            host(found, shape.host(), advice);
        }
    }
    for found in written.other_links.iter().flat_map(|list| &list.value) {
        if let Ok(link) = OtherLink::parse(&found.value) {
            host(found, link.host(), advice);
        }
    }
}

/// Looks at a From address.
fn from(found: &Found<String>, advice: &mut Vec<Advice>) {
    let Ok(pattern) = AddressPattern::parse_sender(&found.value) else { return };
    let domain = pattern.host().domain();
    if domain.registered().is_none() {
        let what =
            format!("{:?}: {domain} is a public suffix, so strangers can send from below it; name the sender's own domain", found.value);
        advice.push(Advice::new(Severity::Danger, found.place.clone(), &found.key, what));
    } else if FREE_MAIL.iter().any(|free| domain.as_str() == *free || domain.as_str().ends_with(&format!(".{free}"))) {
        let what = format!("{:?}: everybody can have an address there; an entry cannot tell who writes", found.value);
        advice.push(Advice::new(Severity::Danger, found.place.clone(), &found.key, what));
    }
}

/// Looks at the host of a link.
fn host(found: &Found<String>, domain: &Domain, advice: &mut Vec<Advice>) {
    let mut say = |severity, what: &str| {
        advice.push(Advice::new(severity, found.place.clone(), &found.key, format!("{:?}: {what}", found.value)));
    };
    if domain.registered().is_none() {
        say(Severity::Danger, "strangers can have hosts below this public suffix; name the service's own host");
    } else if SHARED_HOSTS.iter().any(|shared| domain.as_str() == *shared || domain.as_str().ends_with(&format!(".{shared}"))) {
        say(Severity::Danger, "everybody can put a page or a redirect on this host; a phish there would be exempted too");
    }
}

impl Settings {
    /// Advice that depends on the day, and on entries beside each other.
    #[must_use]
    pub fn advice(&self, now: Timestamp) -> Vec<Advice> {
        let mut advice = Vec::new();
        let folder = Place::file(self.allow.as_ref().map_or_else(|| "allow".into(), |folder| folder.display().to_string()));
        let senders = self.allowlist.entries();
        for (at, sender) in senders.iter().enumerate() {
            let mut say = |severity, what: String| advice.push(Advice::new(severity, folder.clone(), &sender.name, what));
            let day = sender.last_day().unwrap_or_default();
            match sender.expires {
                Some(end) if now >= end => {
                    say(Severity::Warning, format!("expired on {day}; it exempts nothing any more: renew it, or take the file out"));
                }
                Some(end) if end.duration_since(now).unsigned_abs() < SOON => {
                    say(Severity::Note, format!("expires on {day}; renew it, or let it go"));
                }
                Some(_) => {}
                None => say(Severity::Note, "has no end; give it `expires`, so that somebody looks at it again".into()),
            }
            if let Some(before) = senders.get(..at).into_iter().flatten().find(|before| shadows(before, sender)) {
                say(
                    Severity::Warning,
                    format!("is shadowed by {:?}, which takes the same mails with the same links; take one of them out", before.name),
                );
            }
        }
        advice
    }
}

/// Whether an entry leaves another nothing to do.
fn shadows(before: &Entry, entry: &Entry) -> bool {
    before.recipients.is_empty()
        && matches!((&before.decide_by, &entry.decide_by), (DecideBy::Shapes, DecideBy::Shapes))
        && entry.from.iter().all(|pattern| before.from.contains(pattern))
        && entry.links.shapes().iter().all(|shape| before.links.shapes().contains(shape))
        && entry.grants.iter().all(|kind| before.grants.contains(kind))
        && before.require == entry.require
}
