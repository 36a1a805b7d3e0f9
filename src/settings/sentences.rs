//! An entry in sentences, as `check` prints it: what it exempts, so that an admin reads what was meant.

use jiff::Timestamp;

use crate::{
    allowlist::{
        Entry, Mode,
        entry::{Addressees, Attachments, DecideBy, Limit, Lists, Reader, Require, Spf},
    },
    mail::counted,
    recognition::Kind,
};

/// One sentence for each thing that an entry lets through, the main one first. No secret.
#[must_use]
pub fn sentences(entry: &Entry, now: Timestamp) -> Vec<String> {
    let mut said = vec![main(entry, now)];
    let mut say = |text: String| said.push(text);
    if let DecideBy::Shapes = entry.decide_by {
        for kind in &entry.grants {
            let shapes: Vec<String> = of_kind(entry, *kind).collect();
            say(format!("A link is a one-time link of {} where it looks like {}.", kind.code(), either(&shapes)));
        }
        let along: Vec<String> =
            entry.links.shapes().iter().filter(|(kind, _)| !entry.grants.contains(kind)).map(|(_, shape)| shape.to_string()).collect();
        if !along.is_empty() {
            say(format!("Links like {} are treated along, and grant nothing by themselves.", either(&along)));
        }
    }
    let others: Vec<String> = entry.links.other_links().iter().map(ToString::to_string).collect();
    say(if others.is_empty() {
        "No other link may stand in the mail.".into()
    } else {
        format!("Every other link leads to {}, and carries no address of another place.", either(&others))
    });
    if !entry.links.tenants().is_empty() {
        say(format!("{{tenant}} is {}, and nobody else's.", either(entry.links.tenants())));
    }
    if !entry.never.is_empty() {
        let never: Vec<String> = entry.never.iter().map(ToString::to_string).collect();
        say(format!("Mails of {} are never exempted.", either(&never)));
    }
    if !entry.signed_by.is_empty() {
        let signers: Vec<String> = entry.signed_by.iter().map(ToString::to_string).collect();
        say(format!("{} may sign for these addresses, too.", either(&signers)));
    }
    if !entry.envelope.is_empty() {
        let envelope: Vec<String> = entry.envelope.iter().map(ToString::to_string).collect();
        say(format!("A mail counts as delivered straight from an envelope of {}, too.", either(&envelope)));
    }
    if entry.reader == Reader::Straight {
        say("A mail whose signature covers no To is taken where its sender delivers it straight, for one recipient.".into());
    }
    if entry.addressees == Addressees::Several {
        say("To and Cc may hold several addresses.".into());
    }
    if entry.lists == Lists::Allowed {
        say("It may come through a mailing list.".into());
    }
    if entry.attachments == Attachments::Allowed {
        say("It may have attachments, which nobody here looks into.".into());
    }
    if entry.limit == Limit::Unlimited {
        say("There is no limit to how many a reader gets.".into());
    }
    said
}

fn main(entry: &Entry, now: Timestamp) -> String {
    let from: Vec<String> = entry.from.iter().map(ToString::to_string).collect();
    let proven = match &entry.require {
        Require::Dmarc => "proven by DMARC with DKIM".to_owned(),
        Require::Dkim => "proven by DKIM".to_owned(),
        Require::Address { networks, spf } => {
            let with = if *spf == Spf::Required { " and SPF" } else { "" };
            format!("sent from {}{with}, signed by nobody", counted(networks.len(), "network"))
        }
    };
    let to = if entry.recipients.is_empty() {
        "everybody".to_owned()
    } else {
        either(&entry.recipients.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let which = match &entry.decide_by {
        DecideBy::Shapes => {
            let kinds: Vec<&str> = entry.grants.iter().map(|kind| kind.code()).collect();
            format!("with a one-time link ({})", kinds.join(", "))
        }
        DecideBy::Words(kinds) => {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.code()).collect();
            format!("whose words say {}, with a link of the author's organisation that carries a token,", kinds.join(", "))
        }
        DecideBy::Subjects(subjects) => format!(
            "with the subject {} and {}, all of them counters ({}) or other links,",
            either(&subjects.texts),
            counted(subjects.links_in_mail, "link"),
            either(&subjects.counters.other_links().iter().map(ToString::to_string).collect::<Vec<_>>())
        ),
    };
    let has_ended = entry.expires.is_some_and(|end| end <= now);
    let end = if has_ended { ", when the entry ended" } else { "" };
    let until = entry.last_day().map(|day| format!(" until {day}{end}")).unwrap_or_default();
    let does = match (entry.mode, has_ended) {
        (Mode::Observe, false) => "would be exempted".to_owned(),
        (Mode::Observe, true) => "would have been exempted".to_owned(),
        (Mode::Enforce, _) => {
            let actions: Vec<&str> = entry.actions.iter().map(|action| action.code()).collect();
            format!("{} exempted ({})", if has_ended { "were" } else { "are" }, actions.join(", "))
        }
    };
    format!("Mails from {}, {proven}, to {to}, {which} {does}{until}.", either(&from))
}

fn of_kind(entry: &Entry, kind: Kind) -> impl Iterator<Item = String> + '_ {
    entry.links.shapes().iter().filter(move |(other, _)| *other == kind).map(|(_, shape)| shape.to_string())
}

/// `a`, `a or b`, `a, b or c`, and of very many the first and how many there are.
fn either(texts: &[String]) -> String {
    match texts {
        [] => "nothing".into(),
        [only] => only.clone(),
        _ if texts.len() > SHOWN => {
            let shown: Vec<&str> = texts.iter().take(SHOWN).map(String::as_str).collect();
            format!("{} or one of {} more", shown.join(", "), texts.len() - SHOWN)
        }
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Texts that are shown of a list.
const SHOWN: usize = 12;
