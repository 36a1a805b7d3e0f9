//! Judging one mail: facts in, decision out. Pure.
//!
//! Two steps, because most mails need only the first. [`candidates`] asks of each entry that names the author whether the
//! header, seen through a proof, is what the entry wants; nobody reads the body of a mail of which none is proven. [`decide`]
//! then looks at the parts, the links and what the mail is.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Allowlist,
    entry::{Attachments, DecideBy, Entry, Require, Spf as SpfWanted},
    evidence::Evidence,
    header_checks::{bulk, expiry, fresh, mime, recipients_named},
    links,
    reader::{self, Condition, Meant},
    verdict::{Decision, Finding, Verdict},
};
use crate::{
    identity::proof::{AuthResult, Coverage, Identity, KnownBy, Mechanism, Seen, Signature, Source},
    mail::Reason,
    message::{Author, Content, Domain, Flaw, Mailbox, MimeEvidence, header::Headers},
    recognition::{Kind, Recognised},
};

/// The facts of a mail before its body is read.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFacts<'a> {
    /// The one From address, or why there is none.
    pub author: &'a Result<Author, Flaw>,
    /// The header block; checks see it through [`Evidence`].
    pub headers: &'a Headers<'a>,
    /// The envelope's recipients, without angle brackets; empty where nobody knows them (`explain`).
    pub recipients: &'a [String],
    /// The time at which the mail came.
    pub now: Timestamp,
}

/// An entry that may act on a mail, with what its header checks found.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The entry that names the author.
    pub entry: Arc<Entry>,
    findings: Vec<Finding>,
    relied: Relied,
    wants_spf: bool,
    missing: Missing,
}

/// What is missing where a mail is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// A proof that the entry takes.
    Proof,
    /// Nothing but the answer of DNS: a signature speaks for the author, and nobody knows whether it holds.
    Answer,
}

/// The proof that an entry relies on.
#[derive(Clone, Debug, Default)]
struct Relied {
    coverage: Option<Coverage>,
    by: String,
    signatures: Vec<[u8; 32]>,
    condition: Option<Condition>,
    body_speaks: bool,
}

impl Candidate {
    /// Whether the mail is proven to be what the entry wants, by the header.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.findings.iter().all(|finding| finding.ok)
    }

    /// Whether all that is missing is straight delivery, for which SPF has not been looked up yet.
    #[must_use]
    pub const fn wants_spf(&self) -> bool {
        self.wants_spf
    }

    /// What the reading of the body may rest on, by this entry's proof.
    #[must_use]
    pub const fn mime(&self) -> MimeEvidence {
        if self.relied.body_speaks { MimeEvidence::Body } else { MimeEvidence::Fields }
    }

    /// Whether the sender is proven at all, so that the mail may be a near miss.
    fn is_the_senders(&self, identity: &Identity) -> bool {
        let by_spf = identity.dmarc == AuthResult::Pass && identity.spf.as_ref().is_some_and(|spf| spf.result == AuthResult::Pass);
        by_spf || self.findings.iter().any(|finding| finding.reason == Reason::Identity && finding.ok)
    }
}

/// Whether a mail's body is worth reading: an entry's header checks hold, or the mail is proven to be the sender's and may be a
/// near miss.
#[must_use]
pub fn is_worth_reading(candidates: &[Candidate], identity: &Identity) -> bool {
    candidates.iter().any(|candidate| candidate.is_proven() || candidate.is_the_senders(identity))
}

/// The entries that name the author, each with its header checks. Empty where there is none.
#[must_use]
pub fn candidates(list: &Allowlist, facts: &HeaderFacts<'_>, identity: &Identity) -> Vec<Candidate> {
    let Ok(author) = facts.author else { return Vec::new() };
    let named: Vec<_> = list.naming(author).cloned().collect();
    let known = || Finding::holds(Reason::Author, format!("From is {}", author.address)).seen("From");
    if !named.is_empty() {
        let names = |entry: &Entry| {
            if list.refuses(author) {
                return Finding::fails(
                    Reason::Sender,
                    format!("`never` in firstclick.toml names {}: no entry acts for it", author.address),
                );
            }
            if entry.never.iter().any(|pattern| pattern.matches(&author.address)) {
                let says = format!("entry {:?} never acts for {}: it carries strangers' text", entry.name, author.address);
                return Finding::fails(Reason::Sender, says);
            }
            Finding::holds(Reason::Sender, format!("entry {:?} names {}", entry.name, author.address))
        };
        return named
            .into_iter()
            .map(|entry| {
                let findings = vec![known(), names(&entry)];
                examine(list, entry, author, findings, facts, identity)
            })
            .collect();
    }
    // Only where no entry names the address itself; and then no check can make it act.
    list.of_same_owner(&author.domain)
        .cloned()
        .map(|entry| {
            let says = format!(
                "entry {:?} does not name {}, which has the same owner; {} would",
                entry.name,
                author.address,
                from_with(&entry, author)
            );
            examine(list, entry, author, vec![known(), Finding::fails(Reason::Sender, says)], facts, identity)
        })
        .collect()
}

fn examine(
    list: &Allowlist,
    entry: Arc<Entry>,
    author: &Author,
    mut findings: Vec<Finding>,
    facts: &HeaderFacts<'_>,
    identity: &Identity,
) -> Candidate {
    findings.push(expiry(&entry, facts.now));
    findings.push(bulk(&entry, facts.headers));
    let recipients: Option<Vec<Mailbox>> = facts.recipients.iter().map(|address| Mailbox::parse(address)).collect();
    findings.push(recipients_named(facts, &entry));
    let asked = Question { list, entry: &entry, author, facts, identity, recipients: recipients.unwrap_or_default() };
    // Of several proofs the one with which most checks hold is shown; the first with which all hold is relied on.
    let mut best: Option<Proven> = None;
    let mut refusal: Option<Unproven> = None;
    for proof in asked.proofs() {
        match proof {
            Ok(proof) => {
                let proven = asked.checks(&proof);
                let held = |proven: &Proven| (proven.findings.iter().filter(|finding| finding.ok).count(), proven.wants_spf);
                if best.as_ref().is_none_or(|other| held(&proven) > held(other)) {
                    best = Some(proven);
                }
            }
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    let headers_hold = findings.iter().all(|finding| finding.ok);
    if let Some(proven) = best {
        findings.extend(proven.findings);
        return Candidate { entry, findings, relied: proven.relied, wants_spf: headers_hold && proven.wants_spf, missing: Missing::Proof };
    }
    let wants_spf = headers_hold && matches!(refusal, Some(Unproven::SpfNotAsked));
    let missing = match refusal {
        Some(Unproven::NoAnswer(_)) if headers_hold => Missing::Answer,
        _ => Missing::Proof,
    };
    let why = refusal.map_or_else(|| describe(identity), |why| why.to_string());
    findings.push(Finding::fails(Reason::Identity, why));
    Candidate { entry, findings, relied: Relied::default(), wants_spf, missing }
}

/// `from` as it would name the author as well, whole where it is short enough to be shown.
fn from_with(entry: &Entry, author: &Author) -> String {
    let mut from: Vec<String> = entry.from.iter().map(ToString::to_string).collect();
    if from.len() >= FROM_SHOWN {
        return format!("{:?} added to `from`", author.address);
    }
    from.push(author.address.clone());
    format!("from = {from:?}")
}

/// Addresses of `from` that a finding repeats.
const FROM_SHOWN: usize = 20;

/// Why the client's address is not known.
const NO_CLIENT: &str = "the client's address is not known: a trusted upstream handed the mail over, and does not say for whom";

/// One entry and one mail, which are held against each other.
struct Question<'a> {
    list: &'a Allowlist,
    entry: &'a Entry,
    author: &'a Author,
    facts: &'a HeaderFacts<'a>,
    identity: &'a Identity,
    recipients: Vec<Mailbox>,
}

/// Why a proof that the entry requires is missing.
#[derive(Clone, Debug, thiserror::Error)]
enum Unproven {
    #[error("SPF was not asked")]
    SpfNotAsked,
    /// DNS did not answer about a signature that speaks for the author, or about his policy.
    #[error("{0}")]
    NoAnswer(String),
    #[error("{0}")]
    Because(String),
}

impl From<String> for Unproven {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// A proof of the sender: a signature, or the client's address.
enum Proof<'a> {
    Signature(&'a Signature, String),
    Address(String),
}

struct Proven {
    findings: Vec<Finding>,
    relied: Relied,
    wants_spf: bool,
}

impl<'a> Question<'a> {
    /// The proofs that the entry's `require` takes, or why one is none.
    fn proofs(&self) -> Vec<Result<Proof<'a>, Unproven>> {
        if let Some(trouble) = &self.identity.trouble {
            return vec![Err(trouble.clone().into())];
        }
        match &self.entry.require {
            Require::Dmarc => {
                if self.identity.dmarc == AuthResult::TempError && self.may_be_signed() {
                    let says = format!("DNS did not answer, so that DMARC is {}; {}", self.identity.dmarc, describe(self.identity));
                    return vec![Err(Unproven::NoAnswer(says))];
                }
                if self.identity.dmarc != AuthResult::Pass {
                    return vec![Err(format!("DMARC is {}; {}", self.identity.dmarc, describe(self.identity)).into())];
                }
                if !self.identity.proofs().any(|signature| signature.aligned) {
                    return vec![Err(format!("DMARC passes, but not by an aligned DKIM signature; {}", describe(self.identity)).into())];
                }
                self.signatures("DMARC passes by", |signature| signature.aligned)
            }
            Require::Dkim => self.signatures("signed by", |_| true),
            Require::Address { networks, spf } => vec![self.address(networks, *spf)],
        }
    }

    fn signatures(&self, how: &str, counts: impl Fn(&Signature) -> bool) -> Vec<Result<Proof<'a>, Unproven>> {
        let speaking: Vec<_> = self
            .identity
            .proofs()
            .filter(|signature| counts(signature))
            .filter(|signature| {
                signature.domain.as_ref().is_some_and(|signer| speaks_for(signer, &self.author.domain, &self.entry.signed_by))
            })
            .map(|signature| Ok(Proof::Signature(signature, format!("{how} {}", named(signature, &self.identity.source)))))
            .collect();
        if speaking.is_empty() && self.may_be_signed() {
            return vec![Err(Unproven::NoAnswer(format!("DNS did not answer; {}", describe(self.identity))))];
        }
        if speaking.is_empty() {
            return vec![Err(format!("no signature speaks for {}; {}", self.author.domain, describe(self.identity)).into())];
        }
        speaking
    }

    /// Whether a signature that speaks for the author verifies, or would tell if DNS answered.
    fn may_be_signed(&self) -> bool {
        self.identity.dkim.iter().any(|signature| {
            let tells = match signature.result {
                AuthResult::Pass => self.identity.dmarc == AuthResult::TempError,
                result => result == AuthResult::TempError,
            };
            let speaks = |signer: &Domain| speaks_for(signer, &self.author.domain, &self.entry.signed_by);
            tells && signature.domain.as_ref().is_some_and(speaks)
        })
    }

    fn address(&self, networks: &[crate::identity::Network], spf: SpfWanted) -> Result<Proof<'a>, Unproven> {
        let client = self.identity.client.as_ref().ok_or_else(|| {
            format!("{NO_CLIENT}; an entry that rests on an address needs XFORWARD, XCLIENT, PROXY or the connection itself")
        })?;
        if client.known_by == KnownBy::Received {
            return Err(format!(
                "{} is known from a Received field only; an entry that rests on an address needs XFORWARD, XCLIENT, PROXY or the connection itself",
                client.address
            )
            .into());
        }
        if !networks.iter().any(|network| network.contains(client.address)) {
            return Err(format!("{} is not among the entry's addresses", client.address).into());
        }
        if spf == SpfWanted::Required {
            match &self.identity.spf {
                Some(found) if found.result == AuthResult::Pass => {}
                Some(found) => return Err(format!("SPF is {}", found.result).into()),
                None => return Err(Unproven::SpfNotAsked),
            }
        }
        Ok(Proof::Address(format!("sent by {}", client.address)))
    }

    /// The further checks of the header, seen through one proof.
    fn checks(&self, proof: &Proof<'a>) -> Proven {
        let (coverage, by, says, signer) = match proof {
            Proof::Signature(signature, says) => {
                (signature.coverage.clone(), named(signature, &self.identity.source), says.clone(), signature.domain.as_ref())
            }
            Proof::Address(says) => (Coverage::Whole, "the sender's own host".to_owned(), says.clone(), None),
        };
        let evidence = Evidence::new(self.facts.headers, &coverage, &by);
        let mut findings = vec![Finding::holds(Reason::Identity, says).seen("From").covered(&evidence)];
        findings.push(match proof {
            Proof::Signature(signature, _) => fresh(signature, &evidence, self.entry, self.facts.now),
            Proof::Address(_) => Finding::holds(Reason::Freshness, "its own host hands it over now"),
        });
        let meant = reader::meant_for(&evidence, self.entry, &self.recipients, self.list.readers());
        let mut wants_spf = false;
        let mut condition = None;
        let addressed = match meant {
            Meant::Named(says) => Finding::holds(Reason::Addressees, says),
            Meant::Not(why) => Finding::fails(Reason::Addressees, why),
            Meant::IfStraight(needed, says) => {
                condition = Some(needed);
                match self.straight(signer) {
                    Ok(how) => Finding::holds(Reason::Addressees, format!("{says}; {how}")),
                    Err(why) => {
                        wants_spf = self.identity.spf.is_none() && self.identity.client.is_some();
                        Finding::fails(Reason::Addressees, format!("{says}; that takes straight delivery: {why}"))
                    }
                }
            }
        };
        let is_meant = addressed.ok || wants_spf;
        findings.push(addressed.seen("To").covered(&evidence));
        let (mime, body_speaks) = mime(&evidence, is_meant);
        findings.push(mime);
        if let DecideBy::Subjects(subjects) = &self.entry.decide_by {
            findings.push(match evidence.field("Subject") {
                Seen::Covered(_) => Finding::holds(Reason::Subject, "covered").seen("Subject").covered(&evidence),
                Seen::Absent | Seen::Bare(_) => Finding::fails(
                    Reason::Subject,
                    format!("the Subject is not covered by {by}, and {} texts decide", subjects.texts.len()),
                ),
            });
        }
        // SPF can still come; whatever else fails would fail all the same.
        let others_hold = findings.iter().all(|finding| finding.ok || finding.reason == Reason::Addressees);
        let signatures = self.identity.proofs().map(|signature| signature.id).filter(|id| *id != [0; 32]).collect();
        Proven {
            findings,
            relied: Relied { coverage: Some(coverage.clone()), by, signatures, condition, body_speaks },
            wants_spf: wants_spf && others_hold,
        }
    }

    /// Straight delivery: SPF passes for the client by an address, and MAIL FROM's domain is the sender's own. It proves a
    /// customer of the sender's mail provider, no more.
    fn straight(&self, signer: Option<&Domain>) -> Result<String, String> {
        let client = self.identity.client.as_ref().ok_or_else(|| {
            format!(
                "{NO_CLIENT}; straight delivery needs XFORWARD, XCLIENT, PROXY, the connection itself or a Received field that can be read"
            )
        })?;
        let spf = self.identity.spf.as_ref().ok_or("SPF was not asked")?;
        let domain = spf.domain.as_ref().ok_or("MAIL FROM has no plain domain")?;
        if spf.result != AuthResult::Pass {
            return Err(format!("SPF of {domain} is {} for {}", spf.result, client.address));
        }
        match spf.by {
            Some(Mechanism::Address) => {}
            Some(Mechanism::All | Mechanism::Ptr | Mechanism::Exists) => {
                return Err(format!("SPF of {domain} passes by all, ptr or exists, which names no host of the sender's"));
            }
            None => return Err(format!("nobody tells by what SPF of {domain} passes")),
        }
        let own = *domain == self.author.domain || signer == Some(domain) || self.entry.envelope.iter().any(|own| own.matches(domain));
        if !own {
            return Err(format!("MAIL FROM is of {domain}; envelope = [{:?}] accepts that", domain.as_str()));
        }
        Ok(format!("delivered straight by {} ({domain})", client.address))
    }
}

/// Whether a signer speaks for an author: it is the author's domain, a parent of it within its organisation, or named for it. A
/// child never speaks for its parent otherwise.
fn speaks_for(signer: &Domain, author: &Domain, named: &[Domain]) -> bool {
    signer == author || (author.is_below(signer) && author.is_kin_of(signer)) || (named.contains(signer) && signer.is_kin_of(author))
}

fn named(signature: &Signature, source: &Source) -> String {
    let domain = signature.domain.as_ref().map_or("?", Domain::as_str);
    let who = match source {
        Source::Sealer(sealer) => format!(", as {sealer} sealed"),
        Source::Upstream => ", as the upstream says".to_owned(),
        Source::Assumed => ", which is assumed and was not looked at".to_owned(),
        Source::Nobody | Source::Here => String::new(),
    };
    format!("the DKIM signature of {domain}{who}")
}

fn describe(identity: &Identity) -> String {
    if identity.dkim.is_empty() {
        return "there is no DKIM signature".into();
    }
    let each = identity.dkim.iter().map(|signature| {
        let domain = signature.domain.as_ref().map_or("?", Domain::as_str);
        // What passes has a weakness all the same; of what does not, it is the reason.
        let joint = if signature.result == AuthResult::Pass { "but" } else { "because" };
        let weakness = signature.weakness.map(|weakness| format!(" {joint} {}", weakness.says())).unwrap_or_default();
        format!("DKIM of {domain}: {}{weakness}", signature.result)
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The facts of a mail whose body was read.
#[derive(Clone, Copy, Debug)]
pub struct BodyFacts<'a> {
    /// The mail's texts and links.
    pub content: &'a Content,
    /// What the mail is by its words. Entries that decide by the shapes of links do not ask.
    pub recognition: &'a dyn Recognised,
    /// The sender's identity.
    pub identity: &'a Identity,
}

/// Decides about one mail whose body was read. The same facts give the same decision.
#[must_use]
pub fn decide(candidates: Vec<Candidate>, facts: &HeaderFacts<'_>, body: &BodyFacts<'_>) -> Decision {
    decide_all(candidates, facts, body).into_iter().next().unwrap_or_else(|| Decision::pass(unlisted(facts)))
}

/// Every decision by which the mail is exempted, those that take effect first; where there is none, the one whose checks held
/// most. Each entry decides by itself: any of them grants, and none takes away what another one grants.
#[must_use]
pub fn decide_all(candidates: Vec<Candidate>, facts: &HeaderFacts<'_>, body: &BodyFacts<'_>) -> Vec<Decision> {
    let mut acting: Vec<Decision> = Vec::new();
    let mut shown: Option<Decision> = None;
    for candidate in candidates {
        let decision = decide_one(candidate, facts, body);
        if matches!(decision.verdict, Verdict::Act(_)) {
            acting.push(decision);
        } else {
            shown = Some(most_held(shown, decision));
        }
    }
    if acting.is_empty() {
        let mut decision = shown.unwrap_or_else(|| Decision::pass(unlisted(facts)));
        decision.recognition = Some(body.recognition.recognition().clone());
        return vec![decision];
    }
    acting.sort_by_key(Decision::is_observed);
    acting
}

/// The decision about a mail whose body nobody reads: none of the entries' header checks hold. One that fails only because DNS
/// does not answer is a near miss.
#[must_use]
pub fn pass_unread(candidates: Vec<Candidate>, facts: &HeaderFacts<'_>) -> Decision {
    let decisions = candidates.into_iter().map(|candidate| Decision {
        verdict: match candidate.missing {
            // Whether it is the sender's, and worth exempting, nobody knows; but a reader's link may be dead for it.
            Missing::Answer => Verdict::NearMiss(Arc::clone(&candidate.entry)),
            Missing::Proof => Verdict::Pass,
        },
        entry: Some(candidate.entry.name.clone()),
        findings: candidate.findings,
        ..Decision::default()
    });
    let shown = decisions.fold(None, |shown, decision| Some(most_held(shown, decision)));
    shown.unwrap_or_else(|| Decision::pass(unlisted(facts)))
}

fn most_held(shown: Option<Decision>, decision: Decision) -> Decision {
    match shown {
        Some(other) if other.held() >= decision.held() => other,
        _ => decision,
    }
}

fn unlisted(facts: &HeaderFacts<'_>) -> Finding {
    match facts.author {
        Err(flaw) => Finding::fails(Reason::Author, flaw.says()),
        Ok(author) => Finding::fails(Reason::Sender, format!("no entry names {}", author.address)),
    }
}

fn decide_one(candidate: Candidate, facts: &HeaderFacts<'_>, body: &BodyFacts<'_>) -> Decision {
    let entry = Arc::clone(&candidate.entry);
    let is_the_senders = candidate.is_the_senders(body.identity);
    let (relied, missing) = (candidate.relied, candidate.missing);
    let mut findings = candidate.findings;
    findings.push(reading(body.content));
    let evidence = relied.coverage.as_ref().map(|coverage| Evidence::new(facts.headers, coverage, &relied.by));
    let addressees: Vec<String> = evidence.iter().flat_map(|evidence| addressees(evidence)).collect();
    let readers: Vec<&str> = facts.recipients.iter().map(String::as_str).chain(addressees.iter().map(String::as_str)).collect();
    let judged = links::judge(body.content, body.recognition, &entry, &readers, facts.author.as_ref().ok().map(|author| &author.domain));
    findings.extend(judged.findings);
    findings.push(attachments(body.content, &entry));
    let is_read = body.content.flaws.is_empty();
    let verdict = if findings.iter().all(|finding| finding.ok) {
        Verdict::Act(Arc::clone(&entry))
    } else if missing == Missing::Answer {
        Verdict::NearMiss(Arc::clone(&entry))
    } else if is_the_senders && is_read && (judged.kind.is_some() || body.recognition.recognition().kind.is_some()) {
        // A mail that is proven to be the sender's own, has one reading and is of some kind, yet fails: the admin wants to know
        // before the readers do. One that is not proven is never a near miss, or a phish could ask to be let in.
        Verdict::NearMiss(Arc::clone(&entry))
    } else {
        Verdict::Pass
    };
    let asked = !matches!((&verdict, &entry.decide_by), (Verdict::Act(_), DecideBy::Shapes));
    Decision {
        verdict,
        entry: Some(entry.name.clone()),
        findings,
        recognition: asked.then(|| body.recognition.recognition().clone()),
        kind: judged.kind,
        one_time_links: judged.one_time,
        missing: judged.missing,
        signatures: relied.signatures,
        condition: relied.condition,
    }
}

/// The covered addressees, for `{email}`.
fn addressees(evidence: &Evidence<'_>) -> Vec<String> {
    let covered = |name| match evidence.field(name) {
        Seen::Covered(values) => values.iter().filter_map(|value| crate::message::mailbox::list(value).ok()).flatten().collect(),
        Seen::Absent | Seen::Bare(_) => Vec::new(),
    };
    covered("To").iter().chain(&covered("Cc")).map(ToString::to_string).collect()
}

fn reading(content: &Content) -> Finding {
    if content.flaws.is_empty() {
        return Finding::holds(Reason::Reading, "one reading");
    }
    let flaws: Vec<String> = content.flaws.iter().map(|flaw| format!("{}: {}", flaw.code(), flaw.says())).collect();
    Finding::fails(Reason::Reading, flaws.join(" "))
}

fn attachments(content: &Content, entry: &Entry) -> Finding {
    match (content.attachments, entry.attachments) {
        (0, _) => Finding::holds(Reason::Attachments, "none"),
        (count, Attachments::Allowed) => Finding::holds(Reason::Attachments, format!("{count}, and the entry allows them")),
        (count, Attachments::Refused) => {
            Finding::fails(Reason::Attachments, format!("{count} that nobody here can look into; attachments = true accepts them"))
        }
    }
}

/// Kinds by code, for messages: `invite, magic_link`.
#[must_use]
pub fn kinds(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ")
}
