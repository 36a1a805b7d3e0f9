//! What of an allowlist file says which mails are exempted: kinds, shapes, words, subjects, signers.

use super::{
    Advice, Problems, Severity,
    schema::{Found, Section},
    written::{self, List, Written},
};
use crate::{
    allowlist::{
        LinkRules, OtherLink, Shape,
        entry::{AddressPattern, DecideBy, Subjects},
    },
    limits,
    message::Domain,
    recognition::Kind,
};

/// What grants.
pub(super) fn decide_by(
    root: &mut Section<'_, '_>,
    all: &Written,
    own: &Written,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<DecideBy> {
    let by = root.string("decide_by", problems);
    let mails = written::list(root, "mails", problems);
    let subject = written::list(root, "subject", problems);
    let counters = written::list(root, "counters", problems);
    let count = root.number("links_in_mail", problems);
    if let Some(found) = &by
        && found.value != "words"
    {
        let near = if found.value == "subject" { "; for subjects write subject = [\"...\"] alone" } else { "" };
        problems.add(
            found.place.clone(),
            &found.key,
            format!("found {:?}, expected \"words\"; without it the shapes of [links] decide{near}", found.value),
        );
        return None;
    }
    match (by, subject) {
        (Some(by), Some(_)) => {
            problems.add(by.place, "decide_by", "`decide_by` and `subject` exclude each other; take one of them out");
            None
        }
        (Some(by), None) => {
            if let Some((_, list)) = own.links.first() {
                problems.add(
                    list.place.clone(),
                    &list.key,
                    "[links] and decide_by = \"words\" exclude each other: shapes decide, or words do",
                );
            } else if !all.links.is_empty() {
                problems.add(by.place.clone(), &by.key, "the shapes of this sender are known; take the line out, and they decide");
            }
            advice.push(Advice::new(
                Severity::Warning,
                by.place,
                by.key,
                "words decide: whoever gets text of their own into a mail of these addresses decides, too. For domains of your own, or that you trust as a whole",
            ));
            let mails = written::kinds(mails, &Kind::RECOGNISED, problems);
            Some(DecideBy::Words(if mails.is_empty() { Kind::RECOGNISED.to_vec() } else { mails }))
        }
        (None, Some(subject)) => {
            unused(mails.as_ref(), "`mails` goes with decide_by = \"words\"; subjects say which mails are meant", problems);
            by_subject(&subject, counters, count, advice, problems)
        }
        (None, None) => {
            unused(
                mails.as_ref(),
                "this key goes with decide_by = \"words\" alone; [links] names the kinds, and `grants` chooses among them",
                problems,
            );
            unused(counters.as_ref(), "`counters` goes with `subject`; where shapes decide, name the links that the mail shows", problems);
            if let Some(count) = count {
                problems.add(count.place, count.key, "`links_in_mail` goes with `subject`");
            }
            Some(DecideBy::Shapes)
        }
    }
}

fn unused(list: Option<&List>, what: &str, problems: &mut Problems) {
    if let Some(list) = list {
        problems.add(list.place.clone(), &list.key, what);
    }
}

fn by_subject(
    subject: &List,
    counters: Option<List>,
    count: Option<Found<i64>>,
    advice: &mut Vec<Advice>,
    problems: &mut Problems,
) -> Option<DecideBy> {
    advice.push(Advice::new(
        Severity::Warning,
        subject.place.clone(),
        &subject.key,
        "subjects decide: nobody sees where the counters lead, and a form that puts strangers' words into a subject would be taken",
    ));
    for item in subject.value.iter().filter(|item| item.value.trim() != item.value || item.value.is_empty()) {
        problems.add(item.place.clone(), &item.key, "the whole subject, without space around it");
    }
    let Some(counters) = counters else {
        problems.add(
            subject.place.clone(),
            "counters",
            "missing; name the sender's click counters, as in counters = [\"click.acme.example/ls/click\"]",
        );
        return None;
    };
    let counters = other_links(Some(&counters), problems);
    let Some(count) = count else {
        problems.add(subject.place.clone(), "links_in_mail", "missing; say how many links such a mail has, so that nobody can add one");
        return None;
    };
    let links_in_mail = count.parse(problems, "how many links such a mail has, from 1 to 200", |count| {
        usize::try_from(*count).ok().filter(|count| (1..=limits::LINKS).contains(count))
    })?;
    Some(DecideBy::Subjects(Subjects {
        texts: subject.value.iter().map(|item| item.value.clone()).collect(),
        counters: LinkRules::new(Vec::new(), counters, Vec::new()),
        links_in_mail,
    }))
}

/// Which kinds are exempted.
pub(super) fn grants(root: &mut Section<'_, '_>, all: &Written, decide_by: Option<&DecideBy>, problems: &mut Problems) -> Vec<Kind> {
    let list = written::list(root, "grants", problems);
    let named: Vec<Kind> = all.links.iter().map(|(kind, _)| *kind).collect();
    match (list, decide_by) {
        (Some(list), Some(DecideBy::Words(_) | DecideBy::Subjects(_))) => {
            problems.add(list.place, list.key, "`grants` chooses among the kinds of [links]; `mails` does where words decide");
            Vec::new()
        }
        (Some(list), _) => {
            for item in &list.value {
                if written::kind(&item.value).is_some_and(|kind| !named.contains(&kind)) {
                    problems.add(
                        item.place.clone(),
                        &item.key,
                        format!("[links] has no shape of {:?}, so nothing of it can be granted", item.value),
                    );
                }
            }
            written::kinds(Some(list), &Kind::ALL, problems)
        }
        (None, Some(DecideBy::Words(kinds))) => kinds.clone(),
        (None, _) => named.into_iter().filter(|kind| *kind != Kind::Action).collect(),
    }
}

pub(super) fn link_rules(all: &Written, tenants: Vec<String>, problems: &mut Problems) -> LinkRules {
    let mut shapes = Vec::new();
    for (kind, item) in all.shapes() {
        match Shape::parse(&item.value) {
            Ok(shape) => shapes.push((kind, shape)),
            Err(error) => problems.add(item.place.clone(), &item.key, format!("{:?}: {error}", item.value)),
        }
    }
    LinkRules::new(shapes, other_links(all.other_links.as_ref(), problems), tenants)
}

fn other_links(list: Option<&List>, problems: &mut Problems) -> Vec<OtherLink> {
    let mut links = Vec::new();
    for item in list.into_iter().flat_map(|list| &list.value) {
        match OtherLink::parse(&item.value) {
            Ok(link) => links.push(link),
            Err(error) => problems.add(item.place.clone(), &item.key, format!("{:?}: {error}", item.value)),
        }
    }
    links
}

/// Domains that may sign: of the author's organisation, or a stranger could name one.
pub(super) fn signed_by(list: Option<List>, from: &[AddressPattern], problems: &mut Problems) -> Vec<Domain> {
    let mut domains = Vec::new();
    for item in list.into_iter().flat_map(|list| list.value) {
        let Some(domain) = item.parse(problems, "a domain, as in \"mg.acme.example\"", |text| Domain::parse(text).ok()) else { continue };
        if from.iter().any(|pattern| pattern.host().domain().is_kin_of(&domain)) {
            domains.push(domain);
        } else {
            problems.add(
                item.place,
                item.key,
                format!("{domain} is not of the organisation that `from` names; nobody else signs for an author"),
            );
        }
    }
    domains
}
