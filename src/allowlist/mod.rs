//! Judging: facts in, decision out.
//!
//! Pure: no clock, no network, no randomness. [`Allowlist::may_name`] is the hash look-up that every mail passes;
//! [`judge`] is asked only for mails whose author an entry names.

mod carried;
pub mod entry;
pub mod index;
mod mismatch;
pub mod placeholder;
pub mod shape;
mod shape_match;
mod shape_read;
pub mod unguessable;
pub mod verdict;

use std::sync::Arc;

use jiff::Timestamp;

use self::{
    entry::{Addressees, Attachments, DecideBy, Require, Spf},
    index::Index,
};
pub use self::{
    entry::{Entry, HostPattern, Mode},
    placeholder::Placeholder,
    shape::{OtherLink, Shape},
    shape_match::{LinkRules, Stray},
    shape_read::ShapeError,
    verdict::{Action, Decision, Finding, Reason, Verdict},
};
use crate::{
    identity::proof::{AuthResult, Identity, Signature, Source},
    message::{Author, Content, Domain, Flaw, FoundLink},
    recognition::{Kind, Recognition},
};

/// The allowlist, indexed by From address.
#[derive(Debug, Default)]
pub struct Allowlist {
    senders: Vec<Arc<Entry>>,
    index: Index,
}

/// All that a mail is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The one From address, or why there is none.
    pub author: &'a Result<Author, Flaw>,
    /// What the mail says and where it leads.
    pub content: &'a Content,
    /// What the mail is.
    pub recognition: &'a Recognition,
    /// What is known of its sender.
    pub identity: &'a Identity,
    /// The envelope's recipients, without angle brackets; empty where nobody knows them (`explain`).
    pub recipients: &'a [String],
}

impl Allowlist {
    /// Indexes entries. Their order decides which one's checks are shown where none acts.
    #[must_use]
    pub fn new(senders: Vec<Entry>) -> Self {
        let index = Index::new(senders.iter().enumerate().map(|(at, sender)| (at, sender.from.as_slice())));
        Self { senders: senders.into_iter().map(Arc::new).collect(), index }
    }

    /// Whether any entry names this author, or another address of the same owner.
    #[must_use]
    pub fn may_name(&self, author: &Author) -> bool {
        self.index.may_name(author)
    }

    /// The entries that name an address of the same owner.
    fn kin_of<'s>(&'s self, domain: &Domain) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        let numbers: Vec<usize> = self.index.of_same_owner(domain).collect();
        numbers.into_iter().filter_map(|at| self.senders.get(at))
    }

    /// The entries that name this author.
    pub fn naming<'s>(&'s self, author: &Author) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        let address = author.address.clone();
        let named = self.index.naming(author).filter_map(|at| self.senders.get(at));
        named.filter(move |sender| !sender.never.iter().any(|pattern| pattern.matches(&address)))
    }

    /// All entries.
    #[must_use]
    pub fn senders(&self) -> &[Arc<Entry>] {
        &self.senders
    }
}

/// Decides about one mail. The same facts, allowlist and time give the same decision.
#[must_use]
pub fn judge(facts: &Facts<'_>, allowlist: &Allowlist, now: Timestamp) -> Decision {
    let recognition = Some(facts.recognition.clone());
    let author = match facts.author {
        Ok(author) => author,
        Err(flaw) => {
            let findings = vec![Finding::fails(Reason::Author, flaw.says())];
            return Decision { verdict: Verdict::Pass, entry: None, findings, recognition };
        }
    };
    let known = Finding::holds(Reason::Author, format!("From is {}", author.domain));
    let mut shown: Option<Decision> = None;
    let named = allowlist
        .naming(author)
        .map(|sender| (sender, Finding::holds(Reason::Sender, format!("entry {:?} names {}", sender.name, author.domain))));
    // Only where no entry names the domain itself; and then no check can make it act.
    let is_named = allowlist.naming(author).next().is_some();
    let kin = allowlist.kin_of(&author.domain).filter(|_| !is_named).map(|sender| {
        let says = format!(
            "entry {:?} does not name {}, which has the same owner; from = [{:?}] would",
            sender.name,
            author.domain,
            author.domain.as_str()
        );
        (sender, Finding::fails(Reason::Sender, says))
    });
    for (sender, names) in named.chain(kin) {
        let mut findings = vec![known.clone(), names];
        findings.extend(checks(facts, sender, now));
        let verdict = verdict(&findings, sender, facts);
        let decision = Decision { verdict, entry: Some(sender.name.clone()), findings, recognition: recognition.clone() };
        if matches!(decision.verdict, Verdict::Act(_)) {
            return decision;
        }
        let held = |decision: &Decision| decision.findings.iter().filter(|finding| finding.ok).count();
        if shown.as_ref().is_none_or(|other| held(&decision) > held(other)) {
            shown = Some(decision);
        }
    }
    shown.unwrap_or_else(|| {
        let findings = vec![known, Finding::fails(Reason::Sender, format!("no entry names {}", author.domain))];
        Decision { verdict: Verdict::Pass, entry: None, findings, recognition }
    })
}

/// A mail that is proven to be the sender's own, has one reading and is of some kind, yet fails: the admin wants to
/// know before the users do. A mail that is not proven is never a near miss, or a phish could ask to be let in; one that
/// DMARC passes by SPF alone is proven enough to speak of: the sender's DKIM key may be gone.
fn verdict(findings: &[Finding], sender: &Arc<Entry>, facts: &Facts<'_>) -> Verdict {
    let holds = |reason| findings.iter().any(|finding| finding.reason == reason && finding.ok);
    let by_spf = facts.identity.dmarc == AuthResult::Pass && facts.identity.spf == AuthResult::Pass;
    let proven = holds(Reason::Identity) || by_spf;
    if findings.iter().all(|finding| finding.ok) {
        Verdict::Act(Arc::clone(sender))
    } else if proven && holds(Reason::Reading) && facts.recognition.kind.is_some() {
        Verdict::NearMiss(Arc::clone(sender))
    } else {
        Verdict::Pass
    }
}

fn checks(facts: &Facts<'_>, sender: &Entry, now: Timestamp) -> Vec<Finding> {
    let proof = proof(facts.identity, sender, now);
    vec![
        expiry(sender, now),
        reading(facts.content),
        proof.as_ref().map_or_else(|why| Finding::fails(Reason::Identity, why), |(_, how)| Finding::holds(Reason::Identity, how)),
        coverage(facts, sender, proof.as_ref().ok().and_then(|(signature, _)| *signature)),
        kind(facts, sender),
        one_time_link(facts, sender),
        other_links(facts, sender),
        attachments(facts.content, sender),
        recipients(facts, sender),
        addressees(facts, sender),
    ]
}

fn expiry(sender: &Entry, now: Timestamp) -> Finding {
    match (sender.expires, sender.last_day()) {
        (Some(end), Some(day)) if now >= end => Finding::fails(Reason::Expiry, format!("entry {:?} expired on {day}", sender.name)),
        (Some(_), Some(day)) => Finding::holds(Reason::Expiry, format!("until {day}")),
        _ => Finding::holds(Reason::Expiry, "the entry has no end"),
    }
}

fn reading(content: &Content) -> Finding {
    if content.flaws.is_empty() {
        return Finding::holds(Reason::Reading, "one reading");
    }
    let flaws: Vec<String> = content.flaws.iter().map(|flaw| format!("{}: {}", flaw.code(), flaw.says())).collect();
    Finding::fails(Reason::Reading, flaws.join(" "))
}

fn kind(facts: &Facts<'_>, sender: &Entry) -> Finding {
    let found = facts.recognition.kind;
    let name = found.map_or("none", Kind::code);
    match &sender.decide_by {
        DecideBy::Shapes => {
            let readers: Vec<&str> = facts.recipients.iter().map(String::as_str).collect();
            let kinds = facts.content.links.iter().filter_map(|found| sender.links.one_time(&found.link, &readers));
            match kinds.into_iter().find(|kind| sender.grants.contains(kind)) {
                Some(kind) => Finding::holds(Reason::Kind, format!("a link of {}", kind.code())),
                None => Finding::fails(Reason::Kind, "no link fits a shape that the entry grants"),
            }
        }
        DecideBy::Words(kinds) => match found {
            Some(kind) if kinds.contains(&kind) => Finding::holds(Reason::Kind, format!("recognised as {name}")),
            _ => {
                let wanted: Vec<&str> = kinds.iter().map(|kind| kind.code()).collect();
                Finding::fails(Reason::Kind, format!("recognised as {name}; the entry's mails are {}", wanted.join(", ")))
            }
        },
        DecideBy::Subjects(subjects) if subjects.texts.contains(&facts.content.subject_as_shown) => {
            Finding::holds(Reason::Kind, "the subject is one of the entry's")
        }
        DecideBy::Subjects(_) => Finding::fails(Reason::Kind, "the subject is none of the entry's"),
    }
}

/// The links that are the one-time link.
#[must_use]
pub fn one_time_links<'f>(content: &'f Content, recognition: &Recognition, sender: &Entry) -> Vec<&'f FoundLink> {
    let all = &content.links;
    match &sender.decide_by {
        DecideBy::Words(_) => recognition.one_time_links.iter().filter_map(|at| all.get(*at)).collect(),
        DecideBy::Shapes | DecideBy::Subjects(_) => all.iter().filter(|found| sender.links.one_time(&found.link, &[]).is_some()).collect(),
    }
}

fn one_time_link(facts: &Facts<'_>, sender: &Entry) -> Finding {
    let readers: Vec<&str> = facts.recipients.iter().map(String::as_str).collect();
    let shaped = facts.content.links.iter().filter(|found| sender.links.one_time(&found.link, &readers).is_some());
    let found: Vec<&FoundLink> = match &sender.decide_by {
        DecideBy::Shapes => shaped.collect(),
        DecideBy::Words(_) | DecideBy::Subjects(_) => one_time_links(facts.content, facts.recognition, sender),
    };
    match found.first() {
        None => {
            let why = facts.content.links.iter().find_map(|found| sender.links.why_not(&found.link, &[]));
            Finding::fails(Reason::OneTimeLink, why.unwrap_or_else(|| "the mail has no one-time link".into()))
        }
        Some(one) => Finding::holds(Reason::OneTimeLink, one.link.to_string()),
    }
}

fn other_links(facts: &Facts<'_>, sender: &Entry) -> Finding {
    let readers: Vec<&str> = facts.recipients.iter().map(String::as_str).collect();
    for found in &facts.content.links {
        if sender.links.one_time(&found.link, &readers).is_some() {
            continue;
        }
        match sender.links.other(&found.link, &readers) {
            Ok(()) => {}
            Err(Stray::Unlisted) => {
                return Finding::fails(Reason::OtherLinks, format!("{} is not among the entry's other_links", found.link));
            }
            Err(Stray::Carries(what)) => {
                return Finding::fails(Reason::OtherLinks, format!("{} carries {what}", found.link));
            }
        }
    }
    Finding::holds(Reason::OtherLinks, format!("{} links in all", facts.content.links.len()))
}

fn attachments(content: &Content, sender: &Entry) -> Finding {
    match (content.attachments, sender.attachments) {
        (0, _) => Finding::holds(Reason::Attachments, "none"),
        (count, Attachments::Allowed) => Finding::holds(Reason::Attachments, format!("{count}, and the entry allows them")),
        (count, Attachments::Refused) => {
            Finding::fails(Reason::Attachments, format!("{count} that nobody here can look into; attachments = true accepts them"))
        }
    }
}

/// Finds the signature that proves the sender, or says why there is none. Proof by address has no signature.
fn proof<'i>(identity: &'i Identity, sender: &Entry, now: Timestamp) -> Result<(Option<&'i Signature>, String), String> {
    if let Some(trouble) = &identity.trouble {
        return Err(trouble.clone());
    }
    let fresh = |signature: &&Signature| {
        let age = u64::try_from(now.as_second()).unwrap_or(0).saturating_sub(signature.signed_at);
        signature.signed_at == 0 || age <= sender.max_age.as_secs()
    };
    let found = |signature: &'i Signature, how: &str| {
        let domain = signature.domain.as_ref().map(Domain::as_str).unwrap_or_default();
        let said = match &identity.source {
            Source::Sealer(sealer) => format!(", as {sealer} sealed"),
            Source::Nobody | Source::Here | Source::Upstream => String::new(),
        };
        Ok((Some(signature), format!("{how} by the DKIM signature of {domain}{said}")))
    };
    match &sender.require {
        Require::Dmarc => {
            if identity.dmarc != AuthResult::Pass {
                return Err(format!("DMARC is {}; {}", identity.dmarc, describe(identity)));
            }
            let mut aligned = identity.proofs().filter(|signature| signature.aligned).peekable();
            if aligned.peek().is_none() {
                return Err(format!("DMARC passes, but not by an aligned DKIM signature; {}", describe(identity)));
            }
            let signature = aligned.find(fresh).ok_or_else(|| "the DKIM signature is older than the entry's max_age".to_owned())?;
            found(signature, "DMARC passes")
        }
        Require::Dkim => {
            let own = |signature: &&Signature| {
                signature.domain.as_ref().is_some_and(|domain| sender.from.iter().any(|pattern| pattern.host().matches(domain)))
            };
            let signature = identity
                .proofs()
                .filter(own)
                .find(fresh)
                .ok_or_else(|| format!("no signature of the entry's domains; {}", describe(identity)))?;
            found(signature, "proven")
        }
        Require::Address { networks, spf } => {
            let client = identity.client.ok_or("the client's address is not known")?;
            if !networks.iter().any(|network| network.contains(client)) {
                return Err(format!("{client} is not among the entry's addresses"));
            }
            if *spf == Spf::Required && identity.spf != AuthResult::Pass {
                return Err(format!("SPF is {}", identity.spf));
            }
            Ok((None, format!("sent by {client}")))
        }
    }
}

fn describe(identity: &Identity) -> String {
    if identity.dkim.is_empty() {
        return "there is no DKIM signature".into();
    }
    let each = identity.dkim.iter().map(|signature| {
        let domain = signature.domain.as_ref().map_or("?", Domain::as_str);
        let weakness = signature.weakness.map(|weakness| format!(" but {}", weakness.says())).unwrap_or_default();
        format!("DKIM of {domain}: {}{weakness}", signature.result)
    });
    each.collect::<Vec<_>>().join(", ")
}

/// RFC 6376 section 5.4: what a signature leaves out, anybody can change.
fn coverage(_facts: &Facts<'_>, sender: &Entry, signature: Option<&Signature>) -> Finding {
    let Some(signature) = signature else { return Finding::holds(Reason::Coverage, "no signature is relied on") };
    if sender.addressees == Addressees::One && !signature.covers("to") && !signature.covers("cc") {
        return Finding::fails(Reason::Coverage, "the signature covers neither To nor Cc");
    }
    Finding::holds(Reason::Coverage, "author, subject, addressees and MIME fields")
}

fn recipients(facts: &Facts<'_>, sender: &Entry) -> Finding {
    if sender.recipients.is_empty() {
        return Finding::holds(Reason::Recipients, "the entry takes all");
    }
    match facts.recipients.iter().find(|address| !sender.recipients.iter().any(|pattern| pattern.matches(address))) {
        Some(stranger) => Finding::fails(
            Reason::Recipients,
            format!("{stranger:?} is not among the entry's recipients; \"*@{}\" would be", stranger.rsplit('@').next().unwrap_or_default()),
        ),
        None => Finding::holds(Reason::Recipients, format!("{} named by the entry", facts.recipients.len())),
    }
}

fn addressees(facts: &Facts<'_>, _sender: &Entry) -> Finding {
    let known = |address: &&String| facts.content.addressees.iter().any(|addressee| *addressee == address.to_lowercase());
    match facts.recipients.iter().find(|address| !known(address)) {
        Some(stranger) => Finding::fails(Reason::Addressees, format!("{stranger:?} stands neither in To nor in Cc")),
        None if facts.recipients.is_empty() => Finding::holds(Reason::Addressees, "no recipient was given"),
        None => Finding::holds(Reason::Addressees, "all in To or Cc"),
    }
}
