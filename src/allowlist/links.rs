//! The judging of a mail's links: which are one-time links, whether one of them grants, and whether all others are harmless.

use std::collections::HashSet;

use super::{
    entry::{DecideBy, Entry, Subjects},
    judge,
    shape::Shape,
    shape_match::Stray,
    suggestion::{Missing, Remedy, has_secret, listing, naming},
    verdict::Finding,
};
use crate::{
    mail::{Reason, counted},
    message::{Content, Domain, FoundLink, Link},
    recognition::{self, Kind, Recognised},
};

/// The result of judging the links.
#[derive(Debug)]
pub(super) struct Judged {
    /// The kind that a one-time link has; of several, one that grants.
    pub(super) kind: Option<Kind>,
    /// Every one-time link, as indices into [`Content::links`].
    pub(super) one_time: Vec<usize>,
    /// The checks of the links, in order.
    pub(super) findings: Vec<Finding>,
    /// What the entry would need for the others.
    pub(super) missing: Missing,
}

/// Judges the links of a mail by what decides for the entry.
pub(super) fn judge(content: &Content, recognition: &dyn Recognised, entry: &Entry, readers: &[&str], author: Option<&Domain>) -> Judged {
    let mut judged = match &entry.decide_by {
        DecideBy::Shapes => by_shapes(content, recognition, author, entry, readers),
        DecideBy::Words(kinds) => by_words(content, recognition, kinds, author, entry, readers),
        DecideBy::Subjects(subjects) => by_subjects(content, subjects, readers),
    };
    let (finding, missing) = other_links(content, &judged.one_time, recognition, entry, readers);
    judged.findings.push(finding);
    judged.missing = missing;
    judged
}

/// Shapes decide: every link that fits one is a one-time link, and one of them must be of a kind that grants.
fn by_shapes(content: &Content, recognition: &dyn Recognised, author: Option<&Domain>, entry: &Entry, readers: &[&str]) -> Judged {
    let fitting: Vec<(usize, &FoundLink, Kind)> =
        content.links.iter().enumerate().filter_map(|(at, found)| Some((at, found, entry.links.one_time(&found.link, readers)?))).collect();
    let granting = fitting.iter().find(|(_, found, kind)| entry.grants.contains(kind) && !is_unsubscribe(&found.link));
    let kind = granting.or_else(|| fitting.first()).map(|(_, _, kind)| *kind);
    let findings = match (granting, kind) {
        (Some((_, found, kind)), _) => vec![
            Finding::holds(Reason::Kind, format!("{}, by the shape of a link", kind.code())),
            Finding::holds(Reason::OneTimeLink, format!("{} ({})", found.link, places(&fitting))),
        ],
        (None, Some(kind)) => vec![
            Finding::fails(Reason::Kind, format!("{}; the entry grants {}", kind.code(), judge::kinds(&entry.grants))),
            Finding::holds(Reason::OneTimeLink, places(&fitting)),
        ],
        (None, None) => vec![Finding::fails(Reason::OneTimeLink, none_fits(content, recognition, author, entry, readers))],
    };
    Judged { kind, one_time: fitting.iter().map(|(at, ..)| *at).collect(), findings, missing: Missing::default() }
}

/// How many links there are, and in how many places where that is another number.
fn places(fitting: &[(usize, &FoundLink, Kind)]) -> String {
    let different: HashSet<&str> = fitting.iter().map(|(_, found, _)| found.link.expose()).collect();
    if different.len() == fitting.len() {
        return format!("{} in all", fitting.len());
    }
    format!("{} in {}", counted(different.len(), "link"), counted(fitting.len(), "place"))
}

/// Why no link is a one-time link, by the link that comes nearest: one that carries a token before one that does not. Such a
/// one of the sender's own gets a shape to paste.
fn none_fits(content: &Content, recognition: &dyn Recognised, author: Option<&Domain>, entry: &Entry, readers: &[&str]) -> String {
    let is_own = |link: &Link| link.host().is_some_and(|host| author.is_some_and(|author| host == *author || host.is_kin_of(author)));
    let near = content.links.iter().enumerate().filter_map(|(at, found)| {
        let why = entry.links.why_not(&found.link, readers);
        (why.is_some() || is_own(&found.link)).then(|| (at, &found.link, why, has_secret(&found.link)))
    });
    let mut nearest = None;
    for link in near {
        let rank = |link: &(usize, &Link, Option<String>, bool)| (link.3, link.2.is_some());
        if nearest.as_ref().is_none_or(|other| rank(&link) > rank(other)) {
            nearest = Some(link);
        }
    }
    let mut says = "no link fits one of the entry's shapes".to_owned();
    let Some((at, link, why, secret)) = nearest else { return says };
    if why.is_none() && !secret {
        return says;
    }
    says.push_str(&format!("; {link}: {}", why.unwrap_or_else(|| "no shape is of its host".into())));
    if secret {
        let recognised = recognised_as(recognition, at);
        says.push_str(&format!("; if it is the mail's one-time link, {}", naming(link, entry, readers, recognised).says(entry)));
    }
    says
}

/// The kind that words say a link is of.
fn recognised_as(words: &dyn Recognised, at: usize) -> Option<Kind> {
    let recognition = words.recognition();
    recognition.kind.filter(|_| recognition.one_time_links.contains(&at))
}

/// Words decide, for domains that the company trusts as a whole: the recognised one-time links, which must stand on the
/// author's organisation and carry a token.
fn by_words(
    content: &Content,
    recognition: &dyn Recognised,
    kinds: &[Kind],
    author: Option<&Domain>,
    entry: &Entry,
    readers: &[&str],
) -> Judged {
    let recognition = recognition.recognition();
    let one_time = recognition.one_time_links.clone();
    let name = recognition.kind.map_or("none", Kind::code);
    let kind = match recognition.kind {
        Some(kind) if kinds.contains(&kind) => Finding::holds(Reason::Kind, format!("recognised as {name}, by words")),
        _ => Finding::fails(Reason::Kind, format!("recognised as {name}; the entry's mails are {}", judge::kinds(kinds))),
    };
    let links: Vec<&FoundLink> = one_time.iter().filter_map(|at| content.links.get(*at)).collect();
    let is_own = |found: &&&FoundLink| {
        let host = found.link.host();
        host.is_some_and(|host| author.is_some_and(|author| host == *author || host.is_kin_of(author)))
            && found.link.url().scheme() == "https"
            && found.link.url().port().is_none()
            && recognition::has_token(&found.link)
    };
    let carrier = links.iter().find(|found| entry.links.carries(&found.link, readers).is_err());
    let link = match (links.first(), links.iter().find(|found| !is_own(found))) {
        (None, _) => Finding::fails(Reason::OneTimeLink, "the mail has no one-time link"),
        (Some(_), None) if carrier.is_some() => {
            let link = carrier.map(|found| found.link.to_string()).unwrap_or_default();
            Finding::fails(Reason::OneTimeLink, format!("{link} carries an address that is not among other_links"))
        }
        (_, Some(stray)) => Finding::fails(
            Reason::OneTimeLink,
            format!("{} does not stand on the author's organisation by https, or carries no token", stray.link),
        ),
        (Some(first), None) => Finding::holds(Reason::OneTimeLink, first.link.to_string()),
    };
    Judged { kind: recognition.kind, one_time, findings: vec![kind, link], missing: Missing::default() }
}

/// The covered Subject decides, for senders whose links are all click counters: it must be one of the entry's texts, and the
/// mail must have just the number of links that it always has.
fn by_subjects(content: &Content, subjects: &Subjects, readers: &[&str]) -> Judged {
    let shown = content.subject_as_shown.trim();
    let subject = if subjects.texts.iter().any(|text| text == shown) {
        Finding::holds(Reason::Kind, "the Subject is one of the entry's texts")
    } else {
        Finding::fails(Reason::Kind, "the Subject is none of the entry's texts")
    };
    let counters = content.links.iter().enumerate().filter(|(_, found)| subjects.counters.other(&found.link, readers).is_ok());
    let one_time: Vec<usize> = counters.map(|(at, _)| at).collect();
    let link = if content.links.len() != subjects.links_in_mail {
        let says =
            format!("the mail has {}; the entry says links_in_mail = {}", counted(content.links.len(), "link"), subjects.links_in_mail);
        Finding::fails(Reason::OneTimeLink, says)
    } else if one_time.is_empty() {
        Finding::fails(Reason::OneTimeLink, "no link is one of the entry's counters")
    } else {
        Finding::holds(
            Reason::OneTimeLink,
            format!("{} of {}", counted(one_time.len(), "click counter"), counted(content.links.len(), "link")),
        )
    };
    Judged { kind: None, one_time, findings: vec![subject, link], missing: Missing::default() }
}

/// Every link that is no one-time link, all that do not fit at once, and what the entry would need for them.
fn other_links(content: &Content, one_time: &[usize], words: &dyn Recognised, entry: &Entry, readers: &[&str]) -> (Finding, Missing) {
    let others: Vec<(usize, &Link)> =
        content.links.iter().enumerate().filter(|(at, _)| !one_time.contains(at)).map(|(at, found)| (at, &found.link)).collect();
    let stray = |(at, link): &(usize, &'_ Link)| entry.links.other(link, readers).err().map(|stray| (*at, stray));
    let found: Vec<(usize, Stray)> = others.iter().filter_map(stray).collect();
    if found.is_empty() {
        return (Finding::holds(Reason::OtherLinks, format!("{} in all", counted(content.links.len(), "link"))), Missing::default());
    }
    let (mut strays, mut missing): (Vec<String>, Missing) = Default::default();
    let mut named: Vec<&Link> = Vec::new();
    // A link that may be a one-time link: listed, it would leave as it stands.
    let named_by_shape = |at: usize, link: &Link| {
        let recognised = recognised_as(words, at);
        let says = if has_secret(link) {
            Some(", and carries a token, as one-time links do; if it is the sender's own")
        } else {
            recognised.map(|_| "; if it is the mail's one-time link")
        };
        says.map(|what| (what, naming(link, entry, readers, recognised)))
    };
    let mut shapes: Vec<Shape> = entry.links.shapes().iter().map(|(_, shape)| shape.clone()).collect();
    for (at, link) in others {
        if let Some((_, Remedy::Shape(_, text))) = named_by_shape(at, link)
            && let Ok(shape) = Shape::parse(&text)
            && !shapes.contains(&shape)
        {
            shapes.push(shape);
        }
    }
    for (at, stray) in found {
        let Some(link) = content.links.get(at).map(|found| &found.link) else { continue };
        let (says, remedy) = match stray {
            Stray::Unlisted => {
                let (what, remedy) = named_by_shape(at, link)
                    .unwrap_or_else(|| ("; if it is the sender's own and no one-time link", listing(link, &shapes)));
                let what = if matches!(remedy, Remedy::None(_)) { what.split("; if").next().unwrap_or_default() } else { what };
                let between = if matches!(remedy, Remedy::None(_)) { "; " } else { ", " };
                (format!("{link} is not among the entry's other_links{what}{between}{}", remedy.says(entry)), remedy)
            }
            Stray::Carries(what) => {
                let says = format!("carries the address of another site ({what})");
                (format!("{link} {says}"), Remedy::None(format!("it {says}")))
            }
        };
        if !strays.contains(&says) {
            missing.needs(link, remedy);
            strays.push(says);
            named.push(link);
        }
    }
    missing.still_carried(&named, entry, readers);
    if let Some(more) = strays.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        strays.truncate(SHOWN);
        strays.push(format!("and {more} more, which `explain` lists"));
    }
    (Finding::fails(Reason::OtherLinks, strays.join("; ")), missing)
}

/// Whether a link unsubscribes somebody: it is treated along where another link grants, and never grants.
fn is_unsubscribe(link: &Link) -> bool {
    let url = link.url();
    let words = format!("{}?{}", url.path(), url.query().unwrap_or_default()).to_ascii_lowercase();
    ["unsubscri", "optout", "opt-out", "opt_out"].iter().any(|word| words.contains(word))
}

/// Strays that a finding names.
const SHOWN: usize = 10;
