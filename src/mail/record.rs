//! The audit's records, one JSON line each, without secrets: written and read by the same types.
//!
//! The names of the keys are a contract: log pipelines read them. A code of a later version is read as such, and a record of a
//! type that this version does not know as [`Record::Later`].

mod events;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::events::{
    FileFault, FileRecord, Numbers, PolicyBy, PolicyRecord, PolicyRefusedRecord, RekeyRecord, RetiredRecord, StartRecord,
};
use super::{Action, AuthResult, Delivery, Flaw, Kind, Outcome, Reason, VerdictKind};
use crate::vocabulary::{Code, vocabulary};

/// The version of the format; a later one may add keys, codes and types.
pub const VERSION: u8 = 1;

/// An event, as one line of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A mail that was decided about.
    Mail(Box<MailRecord>),
    /// The outcome of a mail whose record was written before it left.
    Outcome(OutcomeRecord),
    /// A mail that the hop itself refused after its data.
    Refusal(RefusalRecord),
    /// Commands and connections that were refused in one minute, before any data.
    Refusals(RefusalsRecord),
    /// A reader, or a scanner, opened or used a guard link.
    Click(ClickRecord),
    /// The audit's writer started.
    Start(StartRecord),
    /// The audit file was changed or removed by another program, or the chain was cut.
    File(FileRecord),
    /// The key of the chain changes.
    Rekey(RekeyRecord),
    /// A file whose time is over was removed.
    Retired(RetiredRecord),
    /// A configuration came into force, at a start or by a reload.
    Policy(PolicyRecord),
    /// A changed configuration was refused; the one before stays in force.
    PolicyRefused(PolicyRefusedRecord),
    /// A record of a type that a later version writes.
    #[serde(other)]
    Later,
}

impl Record {
    /// A start of the writer; `torn` where the last line of the file was cut short.
    #[must_use]
    pub fn start(time: Timestamp, torn: bool) -> Self {
        Self::Start(StartRecord { v: VERSION, time, version: env!("CARGO_PKG_VERSION").to_owned(), torn })
    }

    /// The outcome of a mail whose record was written before it left.
    #[must_use]
    pub fn outcome(time: Timestamp, id: String, outcome: Outcome) -> Self {
        Self::Outcome(OutcomeRecord { v: VERSION, time, id, outcome })
    }

    /// Reads a line of an audit file; none where it is no record.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The record as JSON, in one line without its end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut json = Vec::new();
        self.write(&mut json);
        String::from_utf8(json).unwrap_or_default()
    }

    /// Writes the record as [`Record::json`] has it behind what is there.
    pub fn write(&self, json: &mut Vec<u8>) {
        // Strings, numbers and lists always serialise.
        let _ = serde_json::to_writer(json, self);
    }

    /// The hop's id of the mail that it belongs to; none where it belongs to no mail.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Mail(mail) => Some(&mail.id),
            Self::Outcome(outcome) => Some(&outcome.id),
            Self::Refusal(refusal) => Some(&refusal.id),
            Self::Click(click) => Some(&click.id),
            Self::Refusals(_)
            | Self::Start(_)
            | Self::File(_)
            | Self::Rekey(_)
            | Self::Retired(_)
            | Self::Policy(_)
            | Self::PolicyRefused(_)
            | Self::Later => None,
        }
    }

    /// The time of the event; none where this version does not know the type.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Mail(mail) => Some(mail.time),
            Self::Outcome(outcome) => Some(outcome.time),
            Self::Refusal(refusal) => Some(refusal.time),
            Self::Refusals(refusals) => Some(refusals.time),
            Self::Click(click) => Some(click.time),
            Self::Start(start) => Some(start.time),
            Self::File(file) => Some(file.time),
            Self::Rekey(rekey) => Some(rekey.time),
            Self::Retired(retired) => Some(retired.time),
            Self::Policy(policy) => Some(policy.time),
            Self::PolicyRefused(refused) => Some(refused.time),
            Self::Later => None,
        }
    }

    /// Octets in memory and on disk, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match self {
            Self::Mail(mail) => return mail.weight(),
            Self::Outcome(outcome) => outcome.outcome.reply.len(),
            Self::Refusal(refusal) => refusal.from.len() + refusal.reply.len(),
            Self::Click(click) => click.user_agent.len() + click.why.len() + click.link.as_ref().map_or(0, |link| link.link.len() + 96),
            Self::Policy(policy) => {
                let files = policy.files.iter().map(|name| name.len() + 4);
                policy.entries.keys().map(|name| name.len() * 2 + 32).chain(files).sum()
            }
            Self::PolicyRefused(refused) => refused.mistake.len(),
            Self::Refusals(_) | Self::Start(_) | Self::File(_) | Self::Rekey(_) | Self::Retired(_) | Self::Later => 0,
        };
        FRAME + texts
    }
}

/// A mail that was decided about. Times are UTC with milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MailRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the decision.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail, which the hop's Received field has, too.
    pub id: String,
    /// The address of the host that handed it over; none where it came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<IpAddr>,
    /// The address of the client that the upstream named (XFORWARD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The name in EHLO or HELO of the upstream or of that client; cut at [`crate::limits::LOGGED_PATH`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub helo: String,
    /// The reverse-path as received, angle brackets included; cut likewise.
    pub from: String,
    /// The forward-paths that the next hop accepted, as received.
    pub to: Vec<String>,
    /// The name of the key of the pseudonyms in `to`, 8 hexadecimal digits; none where addresses stand there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recipients_key: String,
    /// The value of the Message-ID field; cut likewise.
    #[serde(default)]
    pub message_id: String,
    /// The domain of the one From address; none where there is no such address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Octets of the mail as received; of one that was not received to its end, those that were.
    pub size: usize,
    /// The policy that decided: the first 16 digits of a [`PolicyRecord::hash`]; none in records of earlier builds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// The verdict.
    pub decision: Code<VerdictKind>,
    /// Whether the entry is in observe mode: nothing was done.
    pub observed: bool,
    /// The actions that were taken or, in observe mode, would be.
    #[serde(default)]
    pub actions: Vec<Code<Action>>,
    /// The name of the entry whose checks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The kind of the one-time link, by the entry's shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Code<Kind>>,
    /// What recognition found, where the body was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognized: Option<Recognized>,
    /// Every one-time link, without its secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_time_links: Vec<RedactedLink>,
    /// The flaws: what two programs could read differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaws: Vec<Code<Flaw>>,
    /// The sender's identity, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityRecord>,
    /// The checks, in order.
    #[serde(default)]
    pub reasons: Vec<ReasonRecord>,
    /// How many header fields were removed that only the hop may write.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: usize,
    /// The outcome; none where an [`OutcomeRecord`] follows.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Octets of keys, codes and numbers in a record.
const FRAME: usize = 1_024;

impl MailRecord {
    /// The kind as people are shown it: by the words or, where nobody asked them, of the one-time link.
    #[must_use]
    pub fn shown_kind(&self) -> Option<&str> {
        let by_words = self.recognized.as_ref().map(|found| found.kind.code());
        by_words.or_else(|| self.kind.as_ref().map(Code::code))
    }

    /// Octets in memory and on disk, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = [&self.helo, &self.from, &self.message_id].map(String::len).iter().sum::<usize>();
        let to: usize = self.to.iter().map(|to| to.len() + 4).sum();
        let reasons: usize = self.reasons.iter().map(|reason| reason.detail.len() + 64).sum();
        let links: usize = self.one_time_links.iter().map(|link| link.link.len() + 96).sum();
        FRAME + texts + to + reasons + links + self.outcome.as_ref().map_or(0, |outcome| outcome.reply.len())
    }

    /// The first check that failed.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&ReasonRecord> {
        self.reasons.iter().find(|reason| !reason.ok)
    }
}

/// What recognition found in the words of a mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognized {
    /// The recognised kind, or `none`.
    pub kind: Code<KindOrNone>,
    /// The confidence, 0 to 1; 0.5 is the threshold.
    pub confidence: f64,
}

/// A one-time link without its secret: scheme, host and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactedLink {
    /// Scheme, host and shape, as in `https://acme.example/reset/{token}`.
    pub link: String,
    /// A keyed hash of the whole link, 16 hexadecimal digits: two records with the same hash are of the same link. None where
    /// there is neither a guard page nor a tag, and so no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A mail's identity, as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The domain of the one From address.
    pub from_domain: Option<String>,
    /// SPF (RFC 7208): a result of RFC 8601, or `not asked`.
    pub spf: String,
    /// The DKIM signatures (RFC 6376), topmost first.
    pub dkim: Vec<SignatureRecord>,
    /// The result of DMARC (RFC 9989).
    pub dmarc: Code<AuthResult>,
    /// The result of the ARC chain (RFC 8617).
    pub arc: Code<AuthResult>,
    /// Where the results come from: `nobody`, `here`, `upstream` or `sealer`.
    pub source: String,
    /// Why the identity could not be looked up, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A DKIM signature (RFC 6376) as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRecord {
    /// `d=`, the signing domain.
    pub domain: String,
    /// `s=`, the selector.
    pub selector: String,
    /// The result of verifying it.
    pub result: Code<AuthResult>,
    /// Whether DMARC passes by it: it verifies, and its domain aligns (RFC 9989 section 4.4).
    pub aligned: bool,
    /// Why it is no proof, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weakness: Option<String>,
}

/// A check and its result, as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonRecord {
    /// The check.
    pub check: Code<Reason>,
    /// Whether the check held.
    pub ok: bool,
    /// What was found, in words; no secret.
    pub detail: String,
    /// The name of the header field that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The proof that covers this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
}

/// The outcome of a mail whose record was written before it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the outcome.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail, as in its [`MailRecord`].
    pub id: String,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A mail that the hop itself refused after its data: nothing was decided, and the next hop has nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the refusal.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail.
    pub id: String,
    /// The address of the host that handed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<IpAddr>,
    /// The reverse-path as received.
    pub from: String,
    /// How many recipients the next hop had accepted.
    pub recipients: usize,
    /// Octets of the mail as received.
    pub size: usize,
    /// `deferred` for a 4yz reply, `refused` for a 5yz reply.
    pub delivery: Code<Delivery>,
    /// The hop's own reply, on one line.
    pub reply: String,
}

/// The refusals of one minute before any data, of one client network, with one reply code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalsRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The end of the minute.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The reply code, as in `554`.
    pub code: String,
    /// The clients' network, IPv4 /24 or IPv6 /48; `others` where too many were counted.
    pub network: String,
    /// How many refusals.
    pub count: u64,
}

/// A request for a guard link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickRecord {
    /// The format's version, [`VERSION`].
    pub v: u8,
    /// The time of the request.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail that the link was in.
    pub id: String,
    /// What was done: the page opened, or the button pressed.
    pub what: Code<ClickKind>,
    /// The name of the entry by which the mail was exempted.
    pub entry: String,
    /// The recipient, where the mail had one; empty otherwise.
    pub to: String,
    /// Which of the mail's one-time links it was, as the mail's own record has it; none in records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<RedactedLink>,
    /// Seconds since the mail was decided.
    pub after_s: i64,
    /// The address of the client that sent the request.
    pub address: IpAddr,
    /// The User-Agent field; cut at [`crate::limits::LOGGED_PATH`], control characters escaped.
    pub user_agent: String,
    /// Whether it probably was a person or a program.
    pub likely: Code<Visitor>,
    /// What that guess rests on, in words.
    pub why: String,
}

vocabulary! {
    /// A kind of mail by recognition, or none.
    KindOrNone {
        PasswordReset = "password_reset", "Choose a new password.";
        Invite = "invite", "Set the first password, or join.";
        EmailVerify = "email_verify", "Confirm an address.";
        MagicLink = "magic_link", "Sign in.";
        None = "none", "No mail with a one-time link.";
    }
}

impl From<Option<Kind>> for KindOrNone {
    fn from(kind: Option<Kind>) -> Self {
        match kind {
            Some(Kind::PasswordReset) => Self::PasswordReset,
            Some(Kind::Invite) => Self::Invite,
            Some(Kind::EmailVerify) => Self::EmailVerify,
            Some(Kind::MagicLink) => Self::MagicLink,
            Some(Kind::Action) | None => Self::None,
        }
    }
}

vocabulary! {
    /// What was done with a guard link.
    ClickKind {
        Open = "open", "The page was opened.";
        Press = "press", "The button was pressed: the browser was sent on.";
        WrongAnswer = "wrong_answer", "Another name than the sender's was chosen.";
        Refused = "refused", "Something was posted that did not come from the page.";
    }
}

vocabulary! {
    /// Who probably sent a request for a guard link.
    Visitor {
        Scanner = "scanner", "A program.";
        Person = "person", "A person.";
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Times as RFC 3339 in UTC with milliseconds.
mod time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.3}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = r#"{"type":"mail","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a","upstream":"192.0.2.1","helo":"mx","from":"<a@b.test>","to":["<c@d.test>"],"message_id":"<1@b.test>","author":"b.test","size":812,"decision":"near_miss","observed":false,"actions":[],"entry":"b","recognized":{"kind":"none","confidence":0.25},"flaws":["charset","of-a-later-version"],"reasons":[{"check":"author","ok":true,"detail":"b.test"},{"check":"of_a_later_version","ok":false,"detail":"x"}],"delivery":"accepted","next_hop":"mx:25","reply":"250 ok","latency_ms":3}"#;

    #[test]
    fn what_is_read_is_written_again() {
        let record = Record::read(MAIL.as_bytes()).unwrap();
        assert_eq!(record.json(), MAIL);
        let Record::Mail(mail) = &record else { panic!("{record:?}") };
        assert_eq!(mail.stopped_by().map(|reason| reason.check.code()), Some("of_a_later_version"));
        assert_eq!(mail.outcome.as_ref().map(|outcome| outcome.delivery.known()), Some(Some(Delivery::Accepted)));
        // On record before it left: its outcome comes later.
        let (before, _) = MAIL.split_once(",\"delivery\"").unwrap();
        let Some(Record::Mail(mail)) = Record::read(format!("{before}}}").as_bytes()) else { panic!("{before}") };
        assert_eq!(mail.outcome, None);
    }

    #[test]
    fn what_a_later_version_writes_is_read_as_such() {
        assert_eq!(Record::read(br#"{"type":"canary","v":3,"prev":"x"}"#), Some(Record::Later));
        let chained =
            MAIL.replacen("\"v\":1", "\"v\":2,\"policy\":\"x\"", 1).replace("\"latency_ms\":3", "\"latency_ms\":3,\"prev\":\"0\",\"n\":4");
        assert!(matches!(Record::read(chained.as_bytes()), Some(Record::Mail(_))));
        assert_eq!(Record::read(b"no record"), None);
    }
}
