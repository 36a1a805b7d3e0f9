//! The judge, check by check: one genuine mail that is exempted, and changes of one thing each.

mod body;
mod header;
mod union;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    AddressPattern, Allowlist, Decision, Entry, HostPattern, LinkRules, Mode, OtherLink, Reason, Shape, Verdict,
    entry::{Addressees, Attachments, DecideBy, Limit, Lists, Reader, Require, Spf as SpfWanted, Subjects},
    judge::{self, BodyFacts, HeaderFacts},
    reader::{Condition, Readers},
};
use crate::{
    identity::{
        Network,
        proof::{AuthResult, Client, Coverage, Identity, KnownBy, Mechanism, Signature, Source, Spf, Weakness},
    },
    message::{Domain, Message, MimeEvidence},
    recognition::{Kind, Recognised, Recognition},
};

/// 2026-11-24, 10:00 UTC.
const NOW: i64 = 1_795_514_400;
const RESET: &str = "https://login.bank.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
const VISIT: &str = "https://login.bank.test/do/9f7b604d3c2b1a6d0f6b2f9c1e4a7f8b3d5c2a1e";
const ALL: &str = "from:to:cc:subject:date:mime-version:content-type:content-transfer-encoding";

/// A mail, its envelope, what is known of its sender, and the entries: everything that is judged.
struct Trial {
    header: Vec<String>,
    body: String,
    recipients: Vec<String>,
    now: i64,
    identity: Identity,
    words: Recognition,
    readers: Readers,
    entries: Vec<Entry>,
}

/// The result of judging a [`Trial`].
#[derive(Debug)]
struct Outcome {
    decision: Decision,
    wants_spf: bool,
    is_worth_reading: bool,
    mime: Vec<MimeEvidence>,
}

impl Trial {
    /// The genuine one, which is exempted.
    fn genuine() -> Self {
        let header = [
            "From: Bank <no-reply@mail.bank.test>",
            "To: bob@corp.example",
            "Subject: Reset your password",
            "Date: Tue, 24 Nov 2026 09:58:00 +0000",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
        ];
        Self {
            header: header.map(str::to_owned).to_vec(),
            body: format!("Choose a new password:\r\n{RESET}\r\nHelp: https://www.bank.test/help\r\n"),
            recipients: vec!["bob@corp.example".into()],
            now: NOW,
            identity: Identity {
                source: Source::Here,
                dkim: vec![signature("mail.bank.test", ALL)],
                dmarc: AuthResult::Pass,
                client: Some(Client { address: "192.0.2.1".parse().unwrap(), known_by: KnownBy::Connection }),
                ..Identity::default()
            },
            words: Recognition::default(),
            readers: Readers::new([domain("corp.example")]),
            entries: vec![entry()],
        }
    }

    fn entry(&mut self) -> &mut Entry {
        &mut self.entries[0]
    }

    fn signature(&mut self) -> &mut Signature {
        &mut self.identity.dkim[0]
    }

    /// Puts another value into a field, or a new field below the others.
    fn set(&mut self, name: &str, value: &str) {
        self.header.retain(|line| !line.starts_with(&format!("{name}:")));
        self.header.push(format!("{name}: {value}"));
    }

    fn drop(&mut self, name: &str) {
        self.header.retain(|line| !line.starts_with(&format!("{name}:")));
    }

    /// The signature leaves a field out.
    fn uncover(&mut self, name: &str) {
        let Coverage::Fields(names) = &mut self.signature().coverage else { panic!("covers everything") };
        names.retain(|covered| covered != name);
    }

    /// SPF was looked up, with this result.
    fn spf(&mut self, name: &str, result: AuthResult, by: Option<Mechanism>) {
        self.identity.spf = Some(Spf { result, domain: Some(domain(name)), by });
    }

    /// To names a list of the company's, so that straight delivery is needed.
    fn send_to_a_list(&mut self) {
        self.set("To", "everybody@corp.example");
    }

    /// The signature covers no To, and the entry takes straight delivery for it.
    fn leave_to_unsigned(&mut self) {
        self.uncover("to");
        self.entry().reader = Reader::Straight;
    }

    fn judged(&self) -> Outcome {
        self.judged_by(&self.words)
    }

    fn judged_by(&self, words: &dyn Recognised) -> Outcome {
        let raw = format!("{}\r\n\r\n{}", self.header.join("\r\n"), self.body);
        let message = Message::read(raw.as_bytes());
        let author = message.author();
        let now = Timestamp::from_second(self.now).unwrap();
        let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &self.recipients, now };
        let list = Allowlist::new(self.entries.clone()).for_readers(self.readers.clone());
        let candidates = judge::candidates(&list, &facts, &self.identity);
        let wants_spf = candidates.iter().any(judge::Candidate::wants_spf);
        let is_worth_reading = judge::is_worth_reading(&candidates, &self.identity);
        let mime: Vec<_> = candidates.iter().map(judge::Candidate::mime).collect();
        let evidence = if mime.contains(&MimeEvidence::Body) { MimeEvidence::Body } else { MimeEvidence::Fields };
        let content = message.content_by(evidence);
        let body = BodyFacts { content: &content, recognition: words, identity: &self.identity };
        Outcome { decision: judge::decide(candidates, &facts, &body), wants_spf, is_worth_reading, mime }
    }
}

impl Outcome {
    fn acts(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Act(_))
    }

    /// The checks that failed.
    fn failed(&self) -> Vec<Reason> {
        self.decision.findings.iter().filter(|finding| !finding.ok).map(|finding| finding.reason).collect()
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn address(pattern: &str) -> AddressPattern {
    AddressPattern::parse_sender(pattern).unwrap()
}

fn covering(h: &str) -> Coverage {
    Coverage::Fields(h.split(':').map(str::to_owned).collect())
}

/// A signature that verifies, a minute old.
fn signature(signer: &str, h: &str) -> Signature {
    Signature {
        domain: Some(domain(signer)),
        selector: "s1".into(),
        result: AuthResult::Pass,
        weakness: None,
        coverage: covering(h),
        signed_at: Some(NOW - 60),
        aligned: true,
        id: [1; 32],
    }
}

fn links(shapes: &[(Kind, &str)], others: &[&str]) -> LinkRules {
    let shapes = shapes.iter().map(|(kind, shape)| (*kind, Shape::parse(shape).unwrap()));
    let others = others.iter().map(|other| OtherLink::parse(other).unwrap());
    LinkRules::new(shapes.collect(), others.collect(), Vec::new())
}

fn entry() -> Entry {
    Entry {
        name: "bank".into(),
        owner: None,
        from: vec![address("mail.bank.test")],
        never: Vec::new(),
        decide_by: DecideBy::Shapes,
        links: links(
            &[
                (Kind::PasswordReset, "login.bank.test/reset/{token}"),
                (Kind::Action, "login.bank.test/do/{token}"),
                (Kind::PasswordReset, "login.bank.test/unsubscribe/{token}"),
            ],
            &["www.bank.test"],
        ),
        grants: vec![Kind::PasswordReset],
        signed_by: Vec::new(),
        envelope: Vec::new(),
        reader: Reader::Addressed,
        addressees: Addressees::One,
        lists: Lists::Refused,
        require: Require::Dmarc,
        recipients: Vec::new(),
        attachments: Attachments::Refused,
        max_age: Duration::from_hours(24),
        limit: Limit::Unlimited,
        mode: Mode::Enforce,
        actions: Vec::new(),
        expires: None,
    }
}

/// One change of the genuine mail, and the checks that it fails; none where it is still exempted.
/// One thing that is changed.
type Change = fn(&mut Trial);
type Case = (&'static str, &'static [Reason], Change);

fn assert_each(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (what, reasons, change) in cases {
        let mut trial = Trial::genuine();
        change(&mut trial);
        let outcome = trial.judged();
        if outcome.failed() != *reasons || outcome.acts() != reasons.is_empty() {
            let failed: Vec<_> = outcome.decision.findings.iter().filter(|finding| !finding.ok).collect();
            wrong.push(format!("{what}: {} {failed:?}", outcome.decision.verdict.kind().code()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const ACTS: &[Reason] = &[];

#[test]
fn the_genuine_mail_is_exempted() {
    let outcome = Trial::genuine().judged();
    assert!(outcome.acts(), "{:?}", outcome.decision);
    let decision = &outcome.decision;
    assert_eq!(decision.kind, Some(Kind::PasswordReset));
    assert_eq!(decision.one_time_links.len(), 1);
    assert_eq!(decision.signatures, [[1; 32]]);
    assert_eq!(decision.condition, None);
    assert_eq!(decision.entry.as_deref(), Some("bank"));
    assert!(!outcome.wants_spf);
    assert!(outcome.is_worth_reading);
    assert_eq!(outcome.mime, [MimeEvidence::Fields]);
    let checked: Vec<Reason> = decision.findings.iter().map(|finding| finding.reason).collect();
    assert_eq!(
        checked,
        [
            Reason::Author,
            Reason::Sender,
            Reason::Expiry,
            Reason::Lists,
            Reason::Recipients,
            Reason::Identity,
            Reason::Freshness,
            Reason::Addressees,
            Reason::Coverage,
            Reason::Reading,
            Reason::Kind,
            Reason::OneTimeLink,
            Reason::OtherLinks,
            Reason::Attachments,
        ]
    );
}

#[test]
fn who_may_sign() {
    fn by(trial: &mut Trial, signer: &str) {
        trial.signature().domain = Some(domain(signer));
    }
    fn from(trial: &mut Trial, author: &str) {
        trial.set("From", &format!("x@{author}"));
        trial.entry().from = vec![address(author)];
    }
    assert_each(&[
        ("a parent", ACTS, |t| by(t, "bank.test")),
        ("a child", &[Reason::Identity], |t| by(t, "x.mail.bank.test")),
        ("a child that is named", ACTS, |t| {
            by(t, "x.mail.bank.test");
            t.entry().signed_by = vec![domain("x.mail.bank.test")];
        }),
        ("a sibling", &[Reason::Identity], |t| by(t, "mg.bank.test")),
        ("a sibling that is named", ACTS, |t| {
            by(t, "mg.bank.test");
            t.entry().signed_by = vec![domain("other.test"), domain("mg.bank.test")];
        }),
        ("a sibling, and another is named", &[Reason::Identity], |t| {
            by(t, "mg.bank.test");
            t.entry().signed_by = vec![domain("mh.bank.test")];
        }),
        ("a stranger", &[Reason::Identity], |t| by(t, "attack.test")),
        ("a stranger that is named", &[Reason::Identity], |t| {
            by(t, "attack.test");
            t.entry().signed_by = vec![domain("attack.test")];
        }),
        ("a name that only ends like it", &[Reason::Identity], |t| by(t, "ank.test")),
        ("a public suffix", &[Reason::Identity], |t| {
            from(t, "bank.co.uk");
            by(t, "co.uk");
        }),
        ("a private suffix", &[Reason::Identity], |t| {
            from(t, "bank.github.io");
            by(t, "github.io");
        }),
        ("the last label", &[Reason::Identity], |t| by(t, "test")),
        ("a public suffix that is named", &[Reason::Identity], |t| {
            from(t, "bank.co.uk");
            by(t, "co.uk");
            t.entry().signed_by = vec![domain("co.uk")];
        }),
        ("a neighbour under a private suffix, named", &[Reason::Identity], |t| {
            from(t, "bank.github.io");
            by(t, "shop.github.io");
            t.entry().signed_by = vec![domain("shop.github.io")];
        }),
        ("nobody", &[Reason::Identity], |t| t.identity.dkim.clear()),
        ("one without a name", &[Reason::Identity], |t| t.signature().domain = None),
        ("one that does not verify", &[Reason::Identity], |t| t.signature().result = AuthResult::Fail),
        ("one that is weak", &[Reason::Identity], |t| t.signature().weakness = Some(Weakness::BodyLength)),
        ("one that DNS could not tell of", &[Reason::Identity], |t| t.identity.trouble = Some("no answer".into())),
    ]);
}

#[test]
fn what_proves_the_sender() {
    fn at(known_by: KnownBy, spf: SpfWanted, trial: &mut Trial) {
        trial.identity = Identity {
            client: Some(Client { address: "192.0.2.1".parse().unwrap(), known_by }),
            source: Source::Here,
            ..Identity::default()
        };
        trial.entry().require =
            Require::Address { networks: ["198.51.100.7", "192.0.2.0/24"].map(|text| Network::parse(text).unwrap()).to_vec(), spf };
    }
    assert_each(&[
        ("dmarc: none", &[Reason::Identity], |t| t.identity.dmarc = AuthResult::None),
        ("dmarc: fail", &[Reason::Identity], |t| t.identity.dmarc = AuthResult::Fail),
        ("dmarc: temperror", &[Reason::Identity], |t| t.identity.dmarc = AuthResult::TempError),
        ("dmarc: not by DKIM", &[Reason::Identity], |t| t.signature().aligned = false),
        ("dmarc: aligned by another's signature", &[Reason::Identity], |t| {
            t.signature().aligned = false;
            t.identity.dkim.push(signature("attack.test", ALL));
        }),
        ("dkim: without dmarc", ACTS, |t| {
            t.entry().require = Require::Dkim;
            t.identity.dmarc = AuthResult::None;
            t.signature().aligned = false;
        }),
        ("dkim: a stranger's", &[Reason::Identity], |t| {
            t.entry().require = Require::Dkim;
            t.signature().domain = Some(domain("attack.test"));
        }),
        ("dkim: that does not verify", &[Reason::Identity], |t| {
            t.entry().require = Require::Dkim;
            t.signature().result = AuthResult::Neutral;
        }),
        ("ip: by the connection", ACTS, |t| at(KnownBy::Connection, SpfWanted::Ignored, t)),
        ("ip: by XFORWARD", ACTS, |t| at(KnownBy::Announced, SpfWanted::Ignored, t)),
        ("ip: as somebody told", ACTS, |t| at(KnownBy::Told, SpfWanted::Ignored, t)),
        ("ip: from Received", &[Reason::Identity], |t| at(KnownBy::Received, SpfWanted::Ignored, t)),
        ("ip: another", &[Reason::Identity], |t| {
            at(KnownBy::Connection, SpfWanted::Ignored, t);
            t.identity.client = Some(Client { address: "198.51.100.1".parse().unwrap(), known_by: KnownBy::Connection });
        }),
        ("ip: nobody knows it", &[Reason::Identity], |t| {
            at(KnownBy::Connection, SpfWanted::Ignored, t);
            t.identity.client = None;
        }),
        ("ip: a signature is none", &[Reason::Identity], |t| {
            t.entry().require = Require::Address { networks: vec![Network::parse("198.51.100.0/24").unwrap()], spf: SpfWanted::Ignored };
        }),
        ("ip: no field needs cover", ACTS, |t| {
            at(KnownBy::Connection, SpfWanted::Ignored, t);
            t.drop("Date");
        }),
        ("ip and spf: not asked", &[Reason::Identity], |t| at(KnownBy::Connection, SpfWanted::Required, t)),
        ("ip and spf: pass", ACTS, |t| {
            at(KnownBy::Connection, SpfWanted::Required, t);
            t.spf("bank.test", AuthResult::Pass, None);
        }),
        ("ip and spf: softfail", &[Reason::Identity], |t| {
            at(KnownBy::Connection, SpfWanted::Required, t);
            t.spf("bank.test", AuthResult::SoftFail, None);
        }),
        ("ip without spf: softfail", ACTS, |t| {
            at(KnownBy::Connection, SpfWanted::Ignored, t);
            t.spf("bank.test", AuthResult::SoftFail, None);
        }),
    ]);
}

#[test]
fn how_old_a_signature_may_be() {
    const DAY: i64 = 24 * 3_600;
    fn dated(trial: &mut Trial, date: &str) {
        trial.signature().signed_at = None;
        trial.set("Date", date);
    }
    assert_each(&[
        ("just max_age", ACTS, |t| t.signature().signed_at = Some(NOW - DAY)),
        ("a second older", &[Reason::Freshness], |t| t.signature().signed_at = Some(NOW - DAY - 1)),
        ("from 1970", &[Reason::Freshness], |t| t.signature().signed_at = Some(0)),
        ("five minutes ahead", ACTS, |t| t.signature().signed_at = Some(NOW + 300)),
        ("a second more", &[Reason::Freshness], |t| t.signature().signed_at = Some(NOW + 301)),
        ("no time at all", &[Reason::Freshness], |t| t.signature().signed_at = Some(i64::MAX)),
        ("t= is old and Date is new", &[Reason::Freshness], |t| t.signature().signed_at = Some(NOW - 2 * DAY)),
        ("t= is new and Date is old", ACTS, |t| t.set("Date", "Tue, 24 Nov 2020 09:58:00 +0000")),
        ("t= and no Date", ACTS, |t| t.drop("Date")),
        ("a covered Date", ACTS, |t| t.signature().signed_at = None),
        ("a covered Date of just max_age", ACTS, |t| dated(t, "Mon, 23 Nov 2026 10:00:00 +0000")),
        ("a covered Date, a second older", &[Reason::Freshness], |t| dated(t, "Mon, 23 Nov 2026 09:59:59 +0000")),
        ("a covered Date, five minutes ahead", ACTS, |t| dated(t, "Tue, 24 Nov 2026 10:05:00 +0000")),
        ("a covered Date, a second more", &[Reason::Freshness], |t| dated(t, "Tue, 24 Nov 2026 10:05:01 +0000")),
        ("a covered Date of the wrong weekday", ACTS, |t| dated(t, "Mon, 24 Nov 2026 09:58:00 +0000")),
        ("a covered Date that is none", &[Reason::Freshness], |t| dated(t, "yesterday")),
        ("a Date that is not covered", &[Reason::Freshness], |t| {
            t.signature().signed_at = None;
            t.uncover("date");
        }),
        ("a second Date on top", &[Reason::Freshness, Reason::Reading], |t| {
            t.signature().signed_at = None;
            t.header.insert(0, "Date: Tue, 24 Nov 2026 09:59:00 +0000".into());
        }),
        ("no Date", &[Reason::Freshness], |t| {
            t.signature().signed_at = None;
            t.drop("Date");
        }),
        ("the entry wants it newer", &[Reason::Freshness], |t| t.entry().max_age = Duration::from_secs(59)),
        ("the entry wants it as new as it is", ACTS, |t| t.entry().max_age = Duration::from_mins(1)),
        ("the entry takes any age", ACTS, |t| {
            t.entry().max_age = Duration::MAX;
            t.signature().signed_at = Some(0);
        }),
    ]);
}

/// Words that fail the test that asks them.
#[derive(Debug)]
struct Unasked;

impl Recognised for Unasked {
    fn recognition(&self) -> &Recognition {
        panic!("the words were asked")
    }
}

/// Recognition is most of what judging costs: where the shapes of an entry's links exempt a mail nobody asks for it, whatever
/// other links the mail has.
#[test]
fn words_are_not_asked_where_shapes_exempt() {
    let outcome = Trial::genuine().judged_by(&Unasked);
    assert_eq!(outcome.decision.verdict.kind().code(), "act");
    assert!(outcome.decision.recognition.is_none() && outcome.decision.kind == Some(Kind::PasswordReset));
}
