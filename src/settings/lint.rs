//! What is allowed and yet probably not meant: advice about entries that are too wide, too old or of no use.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{Place, Problem, Settings, catalogue::Service, reading::Found};
use crate::{
    allowlist::{Entry, HostPattern, LinkPattern},
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

/// Looks at the domains of From addresses.
pub(super) fn from(written: &[Found<String>], advice: &mut Vec<Advice>) {
    for found in written {
        let Ok(pattern) = HostPattern::parse(&found.value) else { continue };
        let domain = pattern.domain();
        if domain.registered().is_none() {
            let what = format!(
                "{:?}: {domain} is a public suffix, so strangers can send from below it; name the sender's own domain",
                found.value
            );
            advice.push(Advice::new(Severity::Danger, found.place.clone(), &found.key, what));
        } else if FREE_MAIL.iter().any(|free| domain.as_str() == *free || domain.as_str().ends_with(&format!(".{free}"))) {
            let what = format!("{:?}: everybody can have an address there; an entry cannot tell who writes", found.value);
            advice.push(Advice::new(Severity::Danger, found.place.clone(), &found.key, what));
        }
    }
}

/// Looks at where links may point; `one_time` are the links that must be narrow.
pub(super) fn links(written: &[Found<String>], one_time: OneTime, advice: &mut Vec<Advice>) {
    for found in written {
        let Ok(pattern) = LinkPattern::parse(&found.value) else { continue };
        let domain: &Domain = pattern.host().domain();
        let mut say = |severity, what: &str| {
            advice.push(Advice::new(severity, found.place.clone(), &found.key, format!("{:?}: {what}", found.value)));
        };
        if domain.registered().is_none() {
            say(Severity::Danger, "strangers can have hosts below this public suffix; name the service's own host");
        } else if SHARED_HOSTS.iter().any(|shared| domain.as_str() == *shared || domain.as_str().ends_with(&format!(".{shared}"))) {
            say(Severity::Danger, "everybody can put a page or a redirect on this host; a phish there would be exempted too");
        } else if one_time == OneTime::Yes && pattern.is_whole_host() {
            say(
                Severity::Warning,
                "every page of the host counts as a one-time link, redirects too; name the path, as in \"HOST/reset/*\"",
            );
        }
    }
}

/// Whether links are the one-time ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OneTime {
    /// They are.
    Yes,
    /// They are the others.
    No,
}

/// Whether what is written goes beyond what the catalogue knows of the service.
pub(super) fn wider(service: &Service, from: &[Found<String>], links: &[Found<String>], advice: &mut Vec<Advice>) {
    let domains: Vec<HostPattern> = service.from.iter().filter_map(|text| HostPattern::parse(text).ok()).collect();
    let hosts: Vec<LinkPattern> = service.links.iter().filter_map(|text| LinkPattern::parse(text).ok()).collect();
    let covered = |known: &HostPattern, wanted: &HostPattern| match (known, wanted) {
        (HostPattern::Exact(known), HostPattern::Exact(wanted)) => known == wanted,
        (HostPattern::Below(known), wanted) => {
            wanted.domain().is_below(known) || (matches!(wanted, HostPattern::Below(_)) && wanted.domain() == known)
        }
        (HostPattern::Exact(_), HostPattern::Below(_)) => false,
    };
    let mut say = |found: &Found<String>| {
        let what = format!(
            "{:?} is wider than the catalogue's entry {:?}; `firstclick senders show {}` says what is known",
            found.value, service.name, service.name
        );
        advice.push(Advice::new(Severity::Warning, found.place.clone(), &found.key, what));
    };
    for found in from {
        if HostPattern::parse(&found.value).is_ok_and(|wanted| !domains.iter().any(|known| covered(known, &wanted))) {
            say(found);
        }
    }
    for found in links {
        let beyond = |wanted: &LinkPattern| {
            !hosts.iter().any(|known| covered(known.host(), wanted.host()) && (!wanted.is_whole_host() || known.is_whole_host()))
        };
        if LinkPattern::parse(&found.value).is_ok_and(|wanted| beyond(&wanted)) {
            say(found);
        }
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
fn shadows(before: &Entry, sender: &Entry) -> bool {
    use crate::allowlist::entry::Mails;
    let kinds = match (&before.mails, &sender.mails) {
        (Mails::Kinds(known), Mails::Kinds(wanted)) => wanted.iter().all(|kind| known.contains(kind)),
        _ => false,
    };
    kinds
        && before.recipients.is_empty()
        && sender.from.iter().all(|pattern| before.from.contains(pattern))
        && sender.links.iter().all(|link| before.links.contains(link))
        && before.require == sender.require
}
