//! One JSON line for each mail, without secrets.
//!
//! Pure: what is written is a function of what happened. The names of the keys are a contract: log pipelines read them.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    allowlist::{Decision, Finding, Mode, Verdict},
    clock,
    edit::tag::Key,
    identity::proof::{Identity, Source},
    limits,
    message::{Content, Domain, Link},
};

/// What is known of a mail when its fate is decided.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it was decided.
    pub time: Timestamp,
    /// The hop's id of the mail; it stands in the trace header too.
    pub id: &'a str,
    /// Who handed it over; none where it came from a file.
    pub upstream: Option<IpAddr>,
    /// The client that the upstream speaks for, where it says so (XFORWARD).
    pub client: Option<IpAddr>,
    /// The name that the upstream, or that client, gave.
    pub helo: &'a str,
    /// The reverse-path as sent, angle brackets included.
    pub reverse_path: &'a str,
    /// The recipients that the next hop took, as sent.
    pub recipients: &'a [String],
    /// The Message-ID field.
    pub message_id: &'a str,
    /// The domain of the one From address.
    pub author: Option<&'a Domain>,
    /// Octets as they came.
    pub size: usize,
    /// What was decided.
    pub decision: &'a Decision,
    /// Whether it takes effect.
    pub mode: Mode,
    /// What was known of the sender, where anybody asked.
    pub identity: Option<&'a Identity>,
    /// What the mail says, where anybody looked.
    pub content: Option<&'a Content>,
    /// How many forged headers were removed.
    pub removed: usize,
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether the next hop took it, refused it, or nobody knows.
    pub delivery: Delivery,
    /// The next hop as the configuration names it; empty where none was reached.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_hop: String,
    /// The next hop's last reply.
    pub reply: String,
    /// The id under which the next hop queued the mail, where its reply names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<String>,
    /// From the end of the upstream's data to the reply, in milliseconds.
    pub latency_ms: u64,
}

impl Outcome {
    /// The outcome of a mail that the hop itself did not hand on.
    #[must_use]
    pub fn of_the_hop(delivery: Delivery, reply: impl Into<String>) -> Self {
        Self { delivery, next_hop: String::new(), reply: reply.into(), queue_id: None, latency_ms: 0 }
    }
}

/// Whether the next hop has the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It said 250.
    Accepted,
    /// It said 4xx; the upstream tries again.
    Deferred,
    /// It said 5xx.
    Refused,
    /// The milter's MTA has it; what becomes of it stands in the MTA's log, under the queue id.
    LeftToMta,
    /// The connection broke after the mail was sent, so the next hop may have it; the upstream was told to try again.
    Unknown,
}

impl Delivery {
    /// The name in audit and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::LeftToMta => "left_to_mta",
            Self::Unknown => "unknown",
        }
    }
}

/// What somebody did with a guard link.
#[derive(Clone, Copy, Debug)]
pub struct Click<'a> {
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: ClickKind,
    /// The hop's id of the mail.
    pub mail: &'a str,
    /// The entry that acted.
    pub entry: &'a str,
    /// The recipient, where there was one alone.
    pub recipient: &'a str,
    /// Seconds since the mail was decided.
    pub after_s: i64,
    /// Who asked.
    pub address: IpAddr,
    /// The program, as it calls itself.
    pub user_agent: &'a str,
    /// `scanner` or `person`.
    pub likely: &'static str,
    /// Why it is likely.
    pub why: &'a str,
}

/// What was done with a guard link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClickKind {
    /// The page was opened.
    Open,
    /// The button was pressed: the browser was sent on.
    Press,
    /// Another name than the sender's was chosen.
    WrongAnswer,
    /// Something was posted that did not come from the page.
    Refused,
}

impl ClickKind {
    /// The name in audit and log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Press => "press",
            Self::WrongAnswer => "wrong_answer",
            Self::Refused => "refused",
        }
    }
}

/// A record as JSON, without the chain's link, which the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(String);

impl Record {
    /// A mail whose fate is known, or will be told by [`Record::outcome`] where `outcome` is none.
    #[must_use]
    pub fn mail(event: &Event<'_>, outcome: Option<&Outcome>, key: Option<&Key>) -> Self {
        Self::of(&Line::Mail(Box::new(Mail::new(event, outcome, key))))
    }

    /// What became of a mail that was recorded before it left.
    #[must_use]
    pub fn outcome(time: Timestamp, id: &str, outcome: &Outcome) -> Self {
        Self::of(&Line::Outcome { v: VERSION, time: clock::rfc3339(time), id, outcome })
    }

    /// What somebody did with a guard link.
    #[must_use]
    pub fn click(click: &Click<'_>) -> Self {
        let mut user_agent = click.user_agent.escape_debug().to_string();
        user_agent.truncate(user_agent.floor_char_boundary(limits::LOGGED_PATH));
        Self::of(&Line::Click {
            v: VERSION,
            time: clock::rfc3339(click.time),
            id: click.mail,
            what: click.kind,
            entry: click.entry,
            to: click.recipient,
            after_s: click.after_s,
            address: click.address,
            user_agent,
            likely: click.likely,
            why: click.why,
        })
    }

    /// The writer starts; `torn` where the last line of the file was cut short.
    #[must_use]
    pub fn start(time: Timestamp, torn: bool) -> Self {
        Self::of(&Line::Start { v: VERSION, time: clock::rfc3339(time), version: env!("CARGO_PKG_VERSION"), torn })
    }

    /// The file that was written to is not as it was left: `what` became of it. Records go on in the file where this stands.
    #[must_use]
    pub fn file(time: Timestamp, name: &str, what: &'static str) -> Self {
        Self::of(&Line::File { v: VERSION, time: clock::rfc3339(time), file: name, what })
    }

    fn of(line: &Line<'_>) -> Self {
        // A record is strings, numbers and lists, which always serialise.
        Self(serde_json::to_string(line).unwrap_or_else(|_| "{\"type\":\"broken\"}".into()))
    }

    /// The finished line: the record with the hash of the line before it.
    #[must_use]
    pub fn chained(&self, previous: &str) -> String {
        let open = self.0.strip_suffix('}').unwrap_or(&self.0);
        format!("{open},\"prev\":\"{previous}\"}}\n")
    }
}

const VERSION: u8 = 1;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Mail(Box<Mail<'a>>),
    Click {
        v: u8,
        time: String,
        id: &'a str,
        what: ClickKind,
        entry: &'a str,
        to: &'a str,
        after_s: i64,
        address: IpAddr,
        user_agent: String,
        likely: &'a str,
        why: &'a str,
    },
    Outcome {
        v: u8,
        time: String,
        id: &'a str,
        #[serde(flatten)]
        outcome: &'a Outcome,
    },
    Start {
        v: u8,
        time: String,
        version: &'static str,
        torn: bool,
    },
    File {
        v: u8,
        time: String,
        file: &'a str,
        what: &'static str,
    },
}

#[derive(Serialize)]
struct Mail<'a> {
    v: u8,
    time: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    helo: &'a str,
    from: &'a str,
    to: &'a [String],
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    size: usize,
    decision: &'static str,
    observed: bool,
    actions: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a str>,
    /// The kind of the one-time link, by the entry's shapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recognized: Option<Recognized>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    one_time_links: Vec<RedactedLink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flaws: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityView<'a>>,
    reasons: Vec<ReasonView<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    removed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(flatten)]
    outcome: Option<&'a Outcome>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct Recognized {
    kind: &'static str,
    confidence: f64,
}

#[derive(Serialize)]
struct RedactedLink {
    link: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// An identity as audit and `explain` show it.
#[derive(Debug, Serialize)]
pub struct IdentityView<'a> {
    /// The domain of the one From address.
    pub from_domain: Option<&'a str>,
    /// SPF.
    pub spf: &'static str,
    /// One line for each signature.
    pub dkim: Vec<SignatureView<'a>>,
    /// DMARC.
    pub dmarc: &'static str,
    /// ARC.
    pub arc: &'static str,
    /// Who found it out.
    pub source: &'static str,
    /// What kept it from being found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<&'a str>,
}

/// A signature as audit and `explain` show it.
#[derive(Debug, Serialize)]
pub struct SignatureView<'a> {
    /// `d=`.
    pub domain: &'a str,
    /// `s=`.
    pub selector: &'a str,
    /// Whether it verifies.
    pub result: &'static str,
    /// Whether DMARC passes by it.
    pub aligned: bool,
    /// Why it is no proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weakness: Option<&'static str>,
}

impl<'a> IdentityView<'a> {
    /// Shows an identity beside the author that it was asked for.
    #[must_use]
    pub fn new(identity: &'a Identity, author: Option<&'a Domain>) -> Self {
        let dkim = identity.dkim.iter().map(|signature| SignatureView {
            domain: signature.domain.as_ref().map_or("", Domain::as_str),
            selector: &signature.selector,
            result: signature.result.code(),
            aligned: signature.aligned,
            weakness: signature.weakness.map(crate::identity::proof::Weakness::says),
        });
        Self {
            from_domain: author.map(Domain::as_str),
            spf: identity.spf.as_ref().map_or("not asked", |spf| spf.result.code()),
            dkim: dkim.collect(),
            dmarc: identity.dmarc.code(),
            arc: identity.arc.code(),
            source: match identity.source {
                Source::Nobody => "nobody",
                Source::Here => "here",
                Source::Upstream => "upstream",
                Source::Sealer(_) => "sealer",
            },
            trouble: identity.trouble.as_deref(),
        }
    }
}

/// A finding as audit and `explain` show it.
#[derive(Debug, Serialize)]
pub struct ReasonView<'a> {
    /// The reason's code.
    pub check: &'static str,
    /// Whether it held.
    pub ok: bool,
    /// What was found.
    pub detail: &'a str,
    /// The header field that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// The proof that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<&'a str>,
}

/// The findings of a decision, in order.
#[must_use]
pub fn reasons(decision: &Decision) -> Vec<ReasonView<'_>> {
    decision.findings.iter().map(ReasonView::new).collect()
}

impl<'a> ReasonView<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            check: finding.reason.code(),
            ok: finding.ok,
            detail: &finding.detail,
            field: finding.field,
            covered_by: finding.proof.as_deref(),
        }
    }
}

/// The actions that a decision takes or, where it is only observed, would take.
#[must_use]
pub fn actions(decision: &Decision) -> Vec<&'static str> {
    match &decision.verdict {
        Verdict::Act(sender) => sender.actions.iter().map(|action| action.code()).collect(),
        Verdict::NearMiss(_) | Verdict::Pass => Vec::new(),
    }
}

impl<'a> Mail<'a> {
    fn new(event: &Event<'a>, outcome: Option<&'a Outcome>, key: Option<&Key>) -> Self {
        let recognition = event.decision.recognition.as_ref();
        let link = |link: &Link| RedactedLink { link: link.redacted(), hash: key.map(|key| key.fingerprint(link.expose())) };
        let mut links: Vec<&Link> = Vec::new();
        for at in event.decision.links() {
            if let Some(found) = event.content.and_then(|content| content.links.get(*at))
                && !links.contains(&&found.link)
            {
                links.push(&found.link);
            }
        }
        Self {
            v: VERSION,
            time: clock::rfc3339(event.time),
            id: event.id,
            upstream: event.upstream,
            client: event.client,
            helo: cut(event.helo),
            from: cut(event.reverse_path),
            to: event.recipients,
            message_id: event.message_id,
            author: event.author.map(Domain::as_str),
            size: event.size,
            decision: event.decision.verdict.code(),
            observed: matches!(event.decision.verdict, Verdict::Act(_)) && event.mode == Mode::Observe,
            actions: actions(event.decision),
            entry: event.decision.entry.as_deref(),
            kind: event.decision.kind.map(crate::recognition::Kind::code),
            recognized: recognition
                .map(|found| Recognized { kind: found.kind.map_or("none", crate::recognition::Kind::code), confidence: found.confidence }),
            one_time_links: links.into_iter().map(link).collect(),
            flaws: event.content.map(|content| content.flaws.iter().map(crate::message::Flaw::code).collect()).unwrap_or_default(),
            identity: event.identity.map(|identity| IdentityView::new(identity, event.author)),
            reasons: reasons(event.decision),
            removed: event.removed,
            outcome,
        }
    }
}

/// Paths and names are cut to what a log line may hold.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(limits::LOGGED_PATH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
