//! One JSON line for each thing that happened, without secrets: written and read by the same types.
//!
//! The names of the keys are a contract: log pipelines read them. A code of a later version is read as such, and a record of a
//! type that this version does not know as [`Record::Later`].

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Action, AuthResult, Delivery, Flaw, Kind, Outcome, Reason, VerdictKind};
use crate::vocabulary::{Code, vocabulary};

/// The version of the format; a later one may add keys, codes and types.
pub const VERSION: u8 = 1;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A mail that was decided.
    Mail(Box<MailRecord>),
    /// What became of a mail that was recorded before it left.
    Outcome(OutcomeRecord),
    /// A mail that the hop itself refused after its data.
    Refusal(RefusalRecord),
    /// Commands and connections that the hop itself refused in one minute.
    Refusals(RefusalsRecord),
    /// What somebody did with a guard link.
    Click(ClickRecord),
    /// The writer started.
    Start(StartRecord),
    /// The file that was written to is not as it was left.
    File(FileRecord),
    /// A record of a type that a later version writes.
    #[serde(other)]
    Later,
}

impl Record {
    /// The writer starts; `torn` where the last line of the file was cut short.
    #[must_use]
    pub fn start(time: Timestamp, torn: bool) -> Self {
        Self::Start(StartRecord { v: VERSION, time, version: env!("CARGO_PKG_VERSION").to_owned(), torn })
    }

    /// What became of a mail that was recorded before it left.
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
        // Strings, numbers and lists always serialise.
        serde_json::to_string(self).unwrap_or_else(|_| "{\"type\":\"later\"}".into())
    }

    /// The hop's id of the mail that it belongs to; none where it belongs to none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Mail(mail) => Some(&mail.id),
            Self::Outcome(outcome) => Some(&outcome.id),
            Self::Refusal(refusal) => Some(&refusal.id),
            Self::Click(click) => Some(&click.id),
            Self::Refusals(_) | Self::Start(_) | Self::File(_) | Self::Later => None,
        }
    }

    /// About how many octets it takes in memory and on disk.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match self {
            Self::Mail(mail) => return mail.weight(),
            Self::Outcome(outcome) => outcome.outcome.reply.len(),
            Self::Refusal(refusal) => refusal.from.len() + refusal.reply.len(),
            Self::Click(click) => click.user_agent.len() + click.why.len() + click.link.as_ref().map_or(0, |link| link.link.len() + 96),
            Self::Refusals(_) | Self::Start(_) | Self::File(_) | Self::Later => 0,
        };
        FRAME + texts
    }
}

/// A mail that was decided. Times are UTC with milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MailRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When it was decided.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail; it stands in the trace field too.
    pub id: String,
    /// Who handed it over; none where it came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<IpAddr>,
    /// The client that the upstream speaks for, where it says so (XFORWARD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The name that the upstream, or that client, gave; cut at [`crate::limits::LOGGED_PATH`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub helo: String,
    /// The reverse-path as sent, angle brackets included; cut likewise.
    pub from: String,
    /// The recipients that the next hop took, as sent.
    pub to: Vec<String>,
    /// The Message-ID field.
    #[serde(default)]
    pub message_id: String,
    /// The domain of the one From address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Octets as they came.
    pub size: usize,
    /// What was decided.
    pub decision: Code<VerdictKind>,
    /// Whether the entry only observes: nothing was done.
    pub observed: bool,
    /// What was done or, where it is only observed, would be.
    #[serde(default)]
    pub actions: Vec<Code<Action>>,
    /// The entry whose checks are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The kind of the one-time link, by the entry's shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Code<Kind>>,
    /// What the words of the mail say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognized: Option<Recognized>,
    /// Every one-time link, without its secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_time_links: Vec<RedactedLink>,
    /// What two programs could read differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaws: Vec<Code<Flaw>>,
    /// What was known of the sender, where anybody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityRecord>,
    /// What was checked, in order.
    #[serde(default)]
    pub reasons: Vec<ReasonRecord>,
    /// Header fields removed that only the hop may write.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: usize,
    /// What became of it; none where an [`OutcomeRecord`] says so later.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Octets of keys, codes and numbers in a record.
const FRAME: usize = 1_024;

impl MailRecord {
    /// About how many octets it takes in memory and on disk.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = [&self.helo, &self.from, &self.message_id].map(String::len).iter().sum::<usize>();
        let to: usize = self.to.iter().map(|to| to.len() + 4).sum();
        let reasons: usize = self.reasons.iter().map(|reason| reason.detail.len() + 64).sum();
        let links: usize = self.one_time_links.iter().map(|link| link.link.len() + 96).sum();
        FRAME + texts + to + reasons + links + self.outcome.as_ref().map_or(0, |outcome| outcome.reply.len())
    }

    /// The first check that did not hold.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&ReasonRecord> {
        self.reasons.iter().find(|reason| !reason.ok)
    }
}

/// What the words of a mail say it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognized {
    /// A kind, or `none`.
    pub kind: Code<KindOrNone>,
    /// 0 to 1; 0.5 is the threshold.
    pub confidence: f64,
}

/// A one-time link without its secret: scheme, host and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactedLink {
    /// As it may be shown.
    pub link: String,
    /// A keyed hash of all of it, 16 hexadecimal digits, by which two records can be told to be of the same link; none where
    /// there is neither a guard page nor a tag, and so no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What was known of a mail's sender, as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The domain of the one From address.
    pub from_domain: Option<String>,
    /// SPF: a result of RFC 8601, or `not asked`.
    pub spf: String,
    /// One for each signature.
    pub dkim: Vec<SignatureRecord>,
    /// DMARC.
    pub dmarc: Code<AuthResult>,
    /// ARC.
    pub arc: Code<AuthResult>,
    /// Who found it out: `nobody`, `here`, `upstream` or `sealer`.
    pub source: String,
    /// What kept it from being found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A DKIM signature (RFC 6376) as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRecord {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// Whether it verifies.
    pub result: Code<AuthResult>,
    /// Whether DMARC passes by it.
    pub aligned: bool,
    /// Why it is no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weakness: Option<String>,
}

/// A check and its outcome, as record and `explain` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonRecord {
    /// What was checked.
    pub check: Code<Reason>,
    /// Whether it held.
    pub ok: bool,
    /// What was found, in words; no secret.
    pub detail: String,
    /// The header field that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The proof that covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
}

/// What became of a mail that was recorded before it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail.
    pub id: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A mail that the hop itself refused after its data: nothing was decided, and the next hop has nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail.
    pub id: String,
    /// Who handed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<IpAddr>,
    /// The reverse-path as sent.
    pub from: String,
    /// How many recipients the next hop had taken.
    pub recipients: usize,
    /// Octets as they came.
    pub size: usize,
    /// Deferred (4xx) or refused (5xx).
    pub delivery: Code<Delivery>,
    /// The hop's own reply.
    pub reply: String,
}

/// What the hop itself refused in one minute before any data came, of one client network by one reply code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalsRecord {
    /// [`VERSION`].
    pub v: u8,
    /// The end of the minute.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The reply's code, as in `554 5.7.1`.
    pub code: String,
    /// The clients' network: 24 bits of an IPv4 address, 64 of an IPv6 one; `others` where too many were counted.
    pub network: String,
    /// How many.
    pub count: u64,
}

/// What somebody did with a guard link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The hop's id of the mail.
    pub id: String,
    /// What was done.
    pub what: Code<ClickKind>,
    /// The entry that acted.
    pub entry: String,
    /// The recipient, where there was one alone; empty otherwise.
    pub to: String,
    /// Which of the mail's one-time links it was, as the mail's own record names it; none in records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<RedactedLink>,
    /// Seconds since the mail was decided.
    pub after_s: i64,
    /// Who asked.
    pub address: IpAddr,
    /// The program, as it calls itself; cut at [`crate::limits::LOGGED_PATH`], control characters escaped.
    pub user_agent: String,
    /// Who it probably is.
    pub likely: Code<Visitor>,
    /// Why.
    pub why: String,
}

/// The writer started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The program's version.
    pub version: String,
    /// Whether the last line before it was cut short by a crash.
    pub torn: bool,
}

/// The file that was written to is not as it was left. Records go on in the file where this stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// [`VERSION`].
    pub v: u8,
    /// When that was noticed.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The file's name.
    pub file: String,
    /// What became of it.
    pub what: Code<FileFault>,
}

vocabulary! {
    /// A kind of mail as words tell it.
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
    /// Who opened a guard link, as far as a request tells.
    Visitor {
        Scanner = "scanner", "A program.";
        Person = "person", "A person.";
    }
}

vocabulary! {
    /// What became of an audit file behind the writer's back.
    FileFault {
        Vanished = "vanished", "It is no longer there.";
        Replaced = "replaced", "Another file is in its place.";
        Changed = "changed", "It is longer or shorter than it was left.";
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// RFC 3339 in UTC with milliseconds.
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
