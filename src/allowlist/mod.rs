//! Judging: facts in, decision out.
//!
//! Pure: no clock, no network, no randomness. [`Allowlist::may_name`] is the hash look-up that every mail passes;
//! [`judge`] is asked only for mails whose author an entry names.

mod carried;
pub mod entry;
pub mod index;
pub mod links;
pub mod placeholder;
pub mod shape;
mod shape_match;
pub mod unguessable;
pub mod verdict;

use std::{collections::HashMap, iter, sync::Arc};

use jiff::Timestamp;

use self::entry::{Addressees, Attachments, Mails, MimeFields, Require, Spf};
pub use self::{
    entry::{Entry, HostPattern, Mode},
    links::LinkPattern,
    placeholder::Placeholder,
    shape::{OtherLink, Shape, ShapeError},
    shape_match::{LinkRules, Stray},
    verdict::{Action, Decision, Finding, Reason, Verdict},
};
use crate::{
    identity::proof::{AuthResult, Identity, Signature, Source},
    message::{Author, Content, Domain, Flaw, FoundLink},
    recognition::{Kind, Recognition},
};

/// The allowlist, indexed by the domain of the From address.
#[derive(Debug, Default)]
pub struct Allowlist {
    senders: Vec<Arc<Entry>>,
    exact: HashMap<Box<str>, Vec<usize>>,
    below: HashMap<Box<str>, Vec<usize>>,
    /// By the registered domain: whose other names are worth a look, because a sandbox or a new name is a near miss.
    owners: HashMap<Box<str>, Vec<usize>>,
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
        let mut allowlist = Self::default();
        for (at, sender) in senders.iter().enumerate() {
            for pattern in &sender.from {
                let (index, domain) = match pattern {
                    HostPattern::Exact(domain) => (&mut allowlist.exact, domain),
                    HostPattern::Below(domain) => (&mut allowlist.below, domain),
                };
                let by_owner = domain.registered().map(|owner| allowlist.owners.entry(owner.into()).or_default());
                for known in iter::once(index.entry(domain.as_str().into()).or_default()).chain(by_owner) {
                    if !known.contains(&at) {
                        known.push(at);
                    }
                }
            }
        }
        allowlist.senders = senders.into_iter().map(Arc::new).collect();
        allowlist
    }

    /// Whether any entry names this domain, or another one of the same owner.
    #[must_use]
    pub fn may_name(&self, domain: &Domain) -> bool {
        self.kin_of(domain).next().is_some() || self.naming(domain).next().is_some()
    }

    /// The entries that name a domain of the same owner.
    fn kin_of<'s>(&'s self, domain: &'s Domain) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        let known = domain.registered().and_then(|owner| self.owners.get(owner));
        known.into_iter().flatten().filter_map(|at| self.senders.get(*at))
    }

    /// The entries that name this domain.
    pub fn naming<'s>(&'s self, domain: &'s Domain) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        let exact = self.exact.get(domain.as_str()).into_iter().flatten();
        let below = domain.parents().filter_map(|parent| self.below.get(parent)).flatten();
        exact.chain(below).filter_map(|at| self.senders.get(*at))
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
        .naming(&author.domain)
        .map(|sender| (sender, Finding::holds(Reason::Sender, format!("entry {:?} names {}", sender.name, author.domain))));
    // Only where no entry names the domain itself; and then no check can make it act.
    let is_named = allowlist.naming(&author.domain).next().is_some();
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
    match &sender.mails {
        Mails::Kinds(kinds) => match found {
            Some(kind) if kinds.contains(&kind) => Finding::holds(Reason::Kind, format!("recognised as {name}")),
            _ => {
                let wanted: Vec<&str> = kinds.iter().map(|kind| kind.code()).collect();
                Finding::fails(Reason::Kind, format!("recognised as {name}; the entry's mails are {}", wanted.join(", ")))
            }
        },
        Mails::Subjects(patterns) if patterns.is_match(&facts.content.subject_as_shown) => {
            Finding::holds(Reason::Kind, "the subject matches the entry's pattern")
        }
        Mails::Subjects(_) => Finding::fails(Reason::Kind, "the subject matches none of the entry's patterns"),
    }
}

/// The links that are the one-time link: the recognised ones, or, where the entry goes by subject and recognition found
/// none, those that its `links` name.
#[must_use]
pub fn one_time_links<'f>(content: &'f Content, recognition: &Recognition, sender: &Entry) -> Vec<&'f FoundLink> {
    let all = &content.links;
    let recognised: Vec<_> = recognition.one_time_links.iter().filter_map(|at| all.get(*at)).collect();
    if recognised.is_empty() && matches!(sender.mails, Mails::Subjects(_)) {
        return all.iter().filter(|found| sender.links.iter().any(|pattern| pattern.matches(&found.link))).collect();
    }
    recognised
}

fn one_time_link(facts: &Facts<'_>, sender: &Entry) -> Finding {
    let found = one_time_links(facts.content, facts.recognition, sender);
    if found.is_empty() {
        return Finding::fails(Reason::OneTimeLink, "the mail has no one-time link");
    }
    for one in &found {
        match links::judge_one_time(&one.link, &sender.links, &sender.other_links) {
            Ok(()) => {}
            Err(links::Stray::Unlisted) => {
                return Finding::fails(
                    Reason::OneTimeLink,
                    format!("{} is not among the entry's links; {:?} would be", one.link, one.link.pattern()),
                );
            }
            Err(links::Stray::Redirects) => {
                return Finding::fails(Reason::OneTimeLink, format!("{} carries the address of another site", one.link));
            }
        }
    }
    Finding::holds(Reason::OneTimeLink, found.first().map(|one| one.link.to_string()).unwrap_or_default())
}

fn other_links(facts: &Facts<'_>, sender: &Entry) -> Finding {
    for found in &facts.content.links {
        match links::judge_other(&found.link, &sender.links, &sender.other_links) {
            Ok(()) => {}
            Err(links::Stray::Unlisted) => {
                return Finding::fails(Reason::OtherLinks, format!("{} is not among the entry's other_links", found.link));
            }
            Err(links::Stray::Redirects) => {
                return Finding::fails(Reason::OtherLinks, format!("{} carries the address of another site", found.link));
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
                signature.domain.as_ref().is_some_and(|domain| sender.from.iter().any(|pattern| pattern.matches(domain)))
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
fn coverage(facts: &Facts<'_>, sender: &Entry, signature: Option<&Signature>) -> Finding {
    let Some(signature) = signature else { return Finding::holds(Reason::Coverage, "no signature is relied on") };
    let uncovered = |field: &&&str| !signature.covers(&field.to_ascii_lowercase());
    if sender.mime_fields == MimeFields::Signed
        && let Some(field) = facts.content.mime_fields.iter().find(uncovered)
    {
        return Finding::fails(
            Reason::Coverage,
            format!("the signature does not cover {field}; unsigned_content_type = true accepts that"),
        );
    }
    if sender.addressees == Addressees::Required && !signature.covers("to") && !signature.covers("cc") {
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

fn addressees(facts: &Facts<'_>, sender: &Entry) -> Finding {
    if sender.addressees == Addressees::Expanded {
        return Finding::holds(Reason::Addressees, "the entry says that lists expand upstream");
    }
    let known = |address: &&String| facts.content.addressees.iter().any(|addressee| *addressee == address.to_lowercase());
    match facts.recipients.iter().find(|address| !known(address)) {
        Some(stranger) => Finding::fails(
            Reason::Addressees,
            format!("{stranger:?} stands neither in To nor in Cc; expanded_recipients = true accepts that where lists expand upstream"),
        ),
        None if facts.recipients.is_empty() => Finding::holds(Reason::Addressees, "no recipient was given"),
        None => Finding::holds(Reason::Addressees, "all in To or Cc"),
    }
}
