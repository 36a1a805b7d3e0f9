//! What the judge makes of a mail's links, words and parts, and of several entries.

use super::*;

/// Puts a link into the mail.
fn with(trial: &mut Trial, link: &str) {
    trial.body.push_str(&format!("See\r\n{link}\r\n"));
}

/// The link of the genuine mail gives way to others.
fn only(trial: &mut Trial, links: &[&str]) {
    trial.body = "Hello\r\n".into();
    for link in links {
        with(trial, link);
    }
}

#[test]
fn which_links_grant() {
    const NO_LINK: &[Reason] = &[Reason::OneTimeLink];
    assert_each(&[
        ("no one-time link", NO_LINK, |t| only(t, &["https://www.bank.test/help"])),
        ("no link at all", NO_LINK, |t| only(t, &[])),
        ("a link whose token is a word", &[Reason::OneTimeLink, Reason::OtherLinks], |t| {
            only(t, &["https://login.bank.test/reset/documentation"]);
        }),
        ("of two, one is a stranger's", &[Reason::OtherLinks], |t| with(t, "https://attack.test/")),
        ("one in front is a stranger's", &[Reason::OtherLinks], |t| t.body = format!("https://attack.test/\r\n{}", t.body)),
        ("a link that is not among the others", &[Reason::OtherLinks], |t| with(t, "https://login.bank.test/help")),
        ("another link that carries a stranger's", &[Reason::OtherLinks], |t| with(t, "https://www.bank.test/r?u=https://attack.test/")),
        ("no other link", ACTS, |t| only(t, &[RESET])),
        ("the same twice", ACTS, |t| with(t, RESET)),
        ("an action beside it", ACTS, |t| with(t, VISIT)),
        ("an action in front of it", ACTS, |t| only(t, &[VISIT, RESET])),
        ("an action alone", &[Reason::Kind], |t| only(t, &[VISIT])),
        ("an action alone, granted", ACTS, |t| {
            only(t, &[VISIT]);
            t.entry().grants = vec![Kind::Action];
        }),
        ("nothing is granted", &[Reason::Kind], |t| t.entry().grants.clear()),
        ("another kind is granted", &[Reason::Kind], |t| t.entry().grants = vec![Kind::Invite, Kind::Action]),
    ]);
}

#[test]
fn what_unsubscribes_never_grants() {
    const TOKEN: &str = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
    for word in ["unsubscribe", "Unsubscription", "optout", "opt-out", "opt_out", "OPT-OUT"] {
        for shape in [format!("login.bank.test/{word}/{{token}}"), format!("login.bank.test/x?do={word}&t={{token}}")] {
            let link = format!("https://{}", shape.replace("{token}", TOKEN));
            let mut trial = Trial::genuine();
            only(&mut trial, &[&link]);
            let shapes = [(Kind::PasswordReset, shape.as_str()), (Kind::PasswordReset, "login.bank.test/reset/{token}")];
            trial.entry().links = links(&shapes, &["www.bank.test"]);
            assert_eq!(trial.judged().failed(), [Reason::Kind], "{link}");
            // Beside a link that grants it is one more one-time link.
            with(&mut trial, RESET);
            let outcome = trial.judged();
            assert!(outcome.acts(), "{link}: {outcome:?}");
            assert_eq!(outcome.decision.one_time_links, [0, 1], "{link}");
        }
    }
}

#[test]
fn every_one_time_link_is_one() {
    let mut trial = Trial::genuine();
    only(&mut trial, &["https://www.bank.test/", VISIT, "https://www.bank.test/help", RESET, RESET]);
    let outcome = trial.judged();
    assert!(outcome.acts(), "{outcome:?}");
    assert_eq!(outcome.decision.kind, Some(Kind::PasswordReset), "the kind that grants is told");
    let links = outcome.decision.one_time_links.clone();
    assert!(links.len() >= 2 && links.contains(&1) && links.contains(&3) && !links.contains(&0) && !links.contains(&2), "{links:?}");
    assert_eq!(outcome.decision.links(), links);
}

#[test]
fn the_readers_address_in_a_link() {
    fn to(trial: &mut Trial, who: &str) {
        trial.entry().links = links(&[(Kind::PasswordReset, "login.bank.test/reset/{token}?for={email}")], &["www.bank.test"]);
        trial.body = trial.body.replace(RESET, &format!("{RESET}?for={who}"));
    }
    const FAILS: &[Reason] = &[Reason::OneTimeLink, Reason::OtherLinks];
    assert_each(&[
        ("the recipient", ACTS, |t| to(t, "bob@corp.example")),
        ("somebody else", FAILS, |t| to(t, "eve@attack.test")),
        ("the one in a covered To", ACTS, |t| {
            to(t, "bob@corp.example");
            t.recipients.clear();
        }),
        ("the one in a covered Cc", ACTS, |t| {
            to(t, "ann@corp.example");
            t.set("Cc", "ann@corp.example");
            t.entry().addressees = Addressees::Several;
        }),
        ("a second one in To", ACTS, |t| {
            to(t, "ann@corp.example");
            t.set("To", "bob@corp.example, ann@corp.example");
            t.entry().addressees = Addressees::Several;
        }),
        ("the one in a To that is not covered", &[Reason::Addressees, Reason::OneTimeLink, Reason::OtherLinks], |t| {
            to(t, "ann@corp.example");
            t.set("To", "ann@corp.example");
            t.leave_to_unsigned();
            t.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address));
        }),
    ]);
}

/// `decide_by = "words"`: the mail is recognised as a reset by its first link.
fn by_words(trial: &mut Trial) {
    trial.entry().decide_by = DecideBy::Words(vec![Kind::PasswordReset, Kind::Invite]);
    trial.entry().links = links(&[], &["www.bank.test"]);
    trial.entry().grants.clear();
    trial.words = Recognition { kind: Some(Kind::PasswordReset), one_time_links: vec![0], ..Recognition::default() };
}

#[test]
fn where_words_decide() {
    fn linked(trial: &mut Trial, link: &str) {
        by_words(trial);
        trial.body = trial.body.replace(RESET, link);
    }
    const FAILS: &[Reason] = &[Reason::OneTimeLink];
    assert_each(&[
        ("recognised", ACTS, by_words),
        ("recognised as the other kind", ACTS, |t| {
            by_words(t);
            t.words.kind = Some(Kind::Invite);
        }),
        ("recognised as a kind that is not the entry's", &[Reason::Kind], |t| {
            by_words(t);
            t.words.kind = Some(Kind::MagicLink);
        }),
        ("recognised as nothing", &[Reason::Kind, Reason::OneTimeLink, Reason::OtherLinks], |t| {
            by_words(t);
            t.words = Recognition::default();
        }),
        ("recognised without a link", &[Reason::OneTimeLink, Reason::OtherLinks], |t| {
            by_words(t);
            t.words.one_time_links.clear();
        }),
        ("a link of the author's own host", ACTS, |t| linked(t, "https://mail.bank.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b60")),
        ("a link of a stranger's", FAILS, |t| linked(t, "https://attack.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b60")),
        ("a link by http", FAILS, |t| linked(t, "http://login.bank.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b60")),
        ("a link to a port", FAILS, |t| linked(t, "https://login.bank.test:8443/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b60")),
        ("a link without a token", FAILS, |t| linked(t, "https://login.bank.test/reset/password")),
        ("the second of two is a stranger's", FAILS, |t| {
            by_words(t);
            t.body = format!("{RESET}\r\nor\r\nhttps://attack.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b60\r\n");
            t.words.one_time_links = vec![0, 1];
        }),
        ("a stranger's link beside it", &[Reason::OtherLinks], |t| {
            by_words(t);
            with(t, "https://attack.test/");
        }),
    ]);
}

#[test]
fn words_alone_grant_nothing() {
    let mut trial = Trial::genuine();
    by_words(&mut trial);
    trial.entry().decide_by = DecideBy::Shapes;
    let outcome = trial.judged();
    assert_eq!(outcome.failed(), [Reason::OneTimeLink, Reason::OtherLinks]);
    assert_eq!(outcome.decision.links(), [0], "what words tell is shown");
}

/// The Subject decides: two counters and one other link.
fn by_subject(trial: &mut Trial) {
    trial.body = "Reset:\r\nhttps://click.bank.test/ls/click?upn=abc\r\nor\r\nhttps://click.bank.test/ls/click?upn=def\r\nor\r\nhttps://www.bank.test/help\r\n".into();
    let counters = links(&[], &["click.bank.test/ls/click"]);
    trial.entry().links = links(&[], &["www.bank.test"]);
    trial.entry().grants.clear();
    trial.entry().decide_by =
        DecideBy::Subjects(Subjects { texts: vec!["Sign in".into(), "Reset your password".into()], counters, links_in_mail: 3 });
}

#[test]
fn where_the_subject_decides() {
    fn subjects(trial: &mut Trial, change: fn(&mut Subjects)) {
        by_subject(trial);
        let DecideBy::Subjects(subjects) = &mut trial.entry().decide_by else { panic!("by subject") };
        change(subjects);
    }
    assert_each(&[
        ("the genuine one", ACTS, by_subject),
        ("another subject", &[Reason::Kind], |t| {
            by_subject(t);
            t.set("Subject", "Your statement");
        }),
        ("a subject that begins so", &[Reason::Kind], |t| {
            by_subject(t);
            t.set("Subject", "Reset your password now");
        }),
        ("a subject in other letters", &[Reason::Kind], |t| {
            by_subject(t);
            t.set("Subject", "reset your password");
        }),
        ("a subject that is not covered", &[Reason::Subject], |t| {
            by_subject(t);
            t.uncover("subject");
        }),
        ("no subject", &[Reason::Subject, Reason::Kind], |t| {
            by_subject(t);
            t.drop("Subject");
        }),
        ("a link more", &[Reason::OneTimeLink], |t| {
            by_subject(t);
            with(t, "https://www.bank.test/");
        }),
        ("a counter more", &[Reason::OneTimeLink], |t| {
            by_subject(t);
            with(t, "https://click.bank.test/ls/click?upn=ghi");
        }),
        ("a link less than the entry says", &[Reason::OneTimeLink], |t| subjects(t, |subjects| subjects.links_in_mail = 4)),
        ("no counter among them", &[Reason::OneTimeLink], |t| {
            subjects(t, |subjects| subjects.links_in_mail = 1);
            only(t, &["https://www.bank.test/help"]);
        }),
        ("a stranger's link among as many", &[Reason::OtherLinks], |t| {
            by_subject(t);
            t.body = t.body.replace("www.bank.test", "attack.test");
        }),
        ("a counter that carries a stranger's address", &[Reason::OtherLinks], |t| {
            by_subject(t);
            t.body = t.body.replace("upn=def", "upn=https://attack.test/");
        }),
    ]);
    let mut trial = Trial::genuine();
    by_subject(&mut trial);
    assert_eq!(trial.judged().decision.one_time_links, [0, 1], "the counters are the one-time links");
    // A Subject that nobody signed is no matter where shapes decide.
    let mut trial = Trial::genuine();
    trial.uncover("subject");
    assert!(trial.judged().acts());
}

/// The mail has a document beside its text.
fn with_document(trial: &mut Trial) {
    trial.set("Content-Type", "multipart/mixed; boundary=b1");
    trial.body = format!(
        "--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}--b1\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--b1--\r\n",
        trial.body
    );
}

#[test]
fn what_parts_it_may_have() {
    assert_each(&[
        ("a document", &[Reason::Attachments], with_document),
        ("a document, and the entry takes it", ACTS, |t| {
            with_document(t);
            t.entry().attachments = Attachments::Allowed;
        }),
        ("nothing attached, and the entry would take it", ACTS, |t| t.entry().attachments = Attachments::Allowed),
        ("two readings", &[Reason::Reading], |t| t.body.push_str("bare\nline\r\n")),
    ]);
}

#[test]
fn a_near_miss_is_the_senders_own() {
    let words = |kind| Recognition { kind, one_time_links: vec![0], ..Recognition::default() };
    let cases: [(&str, &str, Change); 15] = [
        ("a stranger's link", "near_miss", |t| with(t, "https://attack.test/")),
        ("too old", "near_miss", |t| t.signature().signed_at = Some(0)),
        ("another address of the owner's", "near_miss", |t| t.entry().from = vec![address("bank.test")]),
        ("expired", "near_miss", |t| t.entry().expires = Some(Timestamp::UNIX_EPOCH)),
        ("no one-time link, by words", "near_miss", |t| only(t, &["https://login.bank.test/x"])),
        ("no one-time link, and no words", "pass", |t| {
            only(t, &["https://login.bank.test/x"]);
            t.words.kind = None;
        }),
        ("a kind that is not granted, and no words", "near_miss", |t| {
            t.entry().grants.clear();
            t.words.kind = None;
        }),
        ("two readings", "pass", |t| t.body.push_str("bare\nline\r\n")),
        ("a stranger's signature", "pass", |t| t.signature().domain = Some(domain("attack.test"))),
        ("no signature", "pass", |t| t.identity.dkim.clear()),
        ("no signature, and DMARC passes by SPF", "near_miss", |t| {
            t.identity.dkim.clear();
            t.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address));
        }),
        ("no signature, and SPF passes for somebody else", "pass", |t| {
            t.identity.dkim.clear();
            t.identity.dmarc = AuthResult::Fail;
            t.spf("attack.test", AuthResult::Pass, Some(Mechanism::Address));
        }),
        ("no signature, and SPF does not pass", "pass", |t| {
            t.identity.dkim.clear();
            t.spf("mail.bank.test", AuthResult::SoftFail, None);
        }),
        ("not meant for the reader", "near_miss", |t| t.set("To", "eve@attack.test")),
        ("all holds", "act", |_| {}),
    ];
    for (what, verdict, change) in cases {
        let mut trial = Trial::genuine();
        trial.words = words(Some(Kind::PasswordReset));
        change(&mut trial);
        let outcome = trial.judged();
        assert_eq!(outcome.decision.verdict.kind().code(), verdict, "{what}: {outcome:?}");
        assert_eq!(outcome.decision.verdict.entry().is_some(), verdict != "pass", "{what}");
        // What is not read cannot be exempted or be a near miss.
        assert!(verdict == "pass" || outcome.is_worth_reading, "{what}");
    }
}

#[test]
fn what_is_read_at_all() {
    let cases: [(&str, bool, Change); 6] = [
        ("proven", true, |_| {}),
        ("the sender's, but too old", true, |t| t.signature().signed_at = Some(0)),
        ("not the sender's", false, |t| t.identity.dkim.clear()),
        ("not the sender's, and expired", false, |t| {
            t.identity.dkim.clear();
            t.entry().expires = Some(Timestamp::UNIX_EPOCH);
        }),
        ("the sender's by SPF", true, |t| {
            t.identity.dkim.clear();
            t.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address));
        }),
        ("nobody's", false, |t| t.entries.clear()),
    ];
    for (what, is_worth_reading, change) in cases {
        let mut trial = Trial::genuine();
        change(&mut trial);
        assert_eq!(trial.judged().is_worth_reading, is_worth_reading, "{what}");
    }
}

#[test]
fn one_of_several_signatures_is_enough() {
    let weak = [
        signature("mail.bank.test", "from"),
        signature("attack.test", ALL),
        Signature { signed_at: Some(0), ..signature("bank.test", ALL) },
        Signature { result: AuthResult::Fail, ..signature("mail.bank.test", ALL) },
    ];
    for other in weak {
        for first in [true, false] {
            let mut trial = Trial::genuine();
            trial.identity.dkim.insert(usize::from(first), other.clone());
            assert!(trial.judged().acts(), "{other:?} {first}");
        }
    }
    // What replay memory knows the mail by: every signature that proves it and has an id.
    let mut trial = Trial::genuine();
    trial.identity.dkim.push(Signature { id: [2; 32], ..signature("bank.test", "from") });
    trial.identity.dkim.push(Signature { id: [0; 32], ..signature("bank.test", ALL) });
    trial.identity.dkim.push(Signature { id: [3; 32], result: AuthResult::Fail, ..signature("bank.test", ALL) });
    assert_eq!(trial.judged().decision.signatures, [[1; 32], [2; 32]]);
    // No field of one helps the other: each alone leaves something out.
    let mut trial = Trial::genuine();
    trial.signature().coverage = covering("from:to:cc:subject");
    trial.signature().signed_at = None;
    trial.identity.dkim.push(signature("bank.test", "from:subject:date"));
    assert!(!trial.judged().acts());
}

#[test]
fn one_of_several_entries_is_enough() {
    let other = |name: &str, change: fn(&mut Entry)| {
        let mut entry = Entry { name: name.into(), ..entry() };
        change(&mut entry);
        entry
    };
    let expired = other("expired", |entry| entry.expires = Some(Timestamp::UNIX_EPOCH));
    let nothing = other("nothing", |entry| {
        entry.expires = Some(Timestamp::UNIX_EPOCH);
        entry.links = LinkRules::default();
    });
    for entries in [[expired.clone(), entry()], [entry(), expired.clone()]] {
        let mut trial = Trial::genuine();
        trial.entries = entries.to_vec();
        let outcome = trial.judged();
        assert!(outcome.acts(), "{outcome:?}");
        assert_eq!(outcome.decision.entry.as_deref(), Some("bank"));
    }
    // Where none acts, the one of which most holds is shown; of equals the first.
    let twin = other("twin", |entry| entry.expires = Some(Timestamp::UNIX_EPOCH));
    for (entries, shown) in [
        ([nothing.clone(), expired.clone()], "expired"),
        ([expired.clone(), nothing], "expired"),
        ([expired.clone(), twin.clone()], "expired"),
        ([twin, expired], "twin"),
    ] {
        let mut trial = Trial::genuine();
        trial.entries = entries.to_vec();
        let outcome = trial.judged();
        assert_eq!(outcome.decision.entry.as_deref(), Some(shown));
        assert_eq!(outcome.decision.verdict.kind().code(), "near_miss");
        assert!(outcome.decision.recognition.is_some());
    }
}

/// The decision about a trial's mail whose body nobody reads.
fn pass_unread(trial: Trial) -> Decision {
    let raw = format!("{}\r\n\r\n", trial.header.join("\r\n"));
    let message = Message::read(raw.as_bytes());
    let author = message.author();
    let now = Timestamp::from_second(NOW).unwrap();
    let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &trial.recipients, now };
    judge::pass_unread(judge::candidates(&Allowlist::new(trial.entries), &facts, &trial.identity), &facts)
}

#[test]
fn a_mail_that_nobody_reads_passes() {
    let mut trial = Trial::genuine();
    trial.identity.dkim.clear();
    trial.entries.push(Entry { name: "expired".into(), expires: Some(Timestamp::UNIX_EPOCH), ..entry() });
    trial.entries.reverse();
    let decision = pass_unread(trial);
    assert_eq!(decision.verdict.kind().code(), "pass");
    assert_eq!(decision.entry.as_deref(), Some("bank"), "the one of which more holds");
    assert_eq!(decision.stopped_by().map(|finding| finding.reason), Some(Reason::Identity));
    // An author whom no entry names.
    let mut trial = Trial::genuine();
    trial.entries.clear();
    let decision = pass_unread(trial);
    assert_eq!(decision.stopped_by().map(|finding| finding.reason), Some(Reason::Sender));
    assert_eq!(decision.held(), 0);
}

/// Where DNS is down, a mail that carries the author's signature is a near miss: its link may be dead for it. One that carries
/// another's, or none, or that fails by more than that, is an ordinary mail.
#[test]
fn what_fails_only_for_dns_is_a_near_miss() {
    let unread = |change: fn(&mut Trial)| {
        let mut trial = Trial::genuine();
        trial.identity.dmarc = AuthResult::TempError;
        trial.signature().result = AuthResult::TempError;
        trial.signature().aligned = false;
        change(&mut trial);
        pass_unread(trial)
    };
    let decision = unread(|_| {});
    assert_eq!(decision.verdict.kind().code(), "near_miss");
    let stopped = decision.stopped_by().unwrap();
    assert!(stopped.reason == Reason::Identity && stopped.detail.contains("DNS did not answer"), "{stopped:?}");
    let others: [fn(&mut Trial); 4] = [
        |t| t.signature().domain = Some(domain("attack.test")),
        |t| t.identity.dkim.clear(),
        |t| t.entry().expires = Some(Timestamp::UNIX_EPOCH),
        |t| t.signature().result = AuthResult::Fail,
    ];
    for (at, change) in others.into_iter().enumerate() {
        assert_eq!(unread(change).verdict.kind().code(), "pass", "{at}");
    }
}

/// What stands in a finding between `write ` and ` under [links]`, pasted as an admin does.
fn pasted(trial: &mut Trial, detail: &str) {
    let toml = detail.split("write ").nth(1).and_then(|rest| rest.split(" under [links]").next()).unwrap_or_else(|| panic!("{detail}"));
    let table: toml::Table = toml.parse().unwrap();
    let mut shapes: Vec<(Kind, String)> = trial.entry().links.shapes().iter().map(|(kind, shape)| (*kind, shape.to_string())).collect();
    for (key, list) in &table {
        let kind = *Kind::ALL.iter().find(|kind| kind.code() == key).unwrap();
        shapes.retain(|(other, _)| *other != kind);
        shapes.extend(list.as_array().unwrap().iter().map(|shape| (kind, shape.as_str().unwrap().to_owned())));
    }
    let shapes: Vec<(Kind, &str)> = shapes.iter().map(|(kind, shape)| (*kind, shape.as_str())).collect();
    trial.entry().links = links(&shapes, &["www.bank.test"]);
}

fn detail(outcome: &Outcome, reason: Reason) -> String {
    outcome.decision.findings.iter().find(|finding| finding.reason == reason && !finding.ok).unwrap().detail.clone()
}

/// A link with a token beside the one-time link: what is offered makes it one more one-time link, never one that leaves bare.
#[test]
fn help_for_a_link_with_a_token_is_a_shape() {
    const TOKEN: &str = "6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a";
    const UUID: &str = "f30b33b6-ef3c-4ce9-a1a4-3afe444db4a0";
    for (link, kind, shape) in [
        (format!("/password/reset/v2/{TOKEN}"), "password_reset", "/password/reset/v2/{token}"),
        (format!("/password/report/{TOKEN}"), "action", "/password/report/{token}"),
        (format!("/reset/{UUID}"), "password_reset", "/reset/{token}"),
        (format!("/users/{UUID}/confirm/{TOKEN}"), "email_verify", "/users/{id}/confirm/{token}"),
        (format!("/join?code={TOKEN}&lang=en&team=4711&utm_source=mail"), "invite", "/join?code={token}&lang={word}&team={id}"),
        (format!("/go?next=https%3A%2F%2Fwww.bank.test%2Fhelp&t={TOKEN}"), "action", "/go?next={url}&t={token}"),
        (format!("/account?for=bob@corp.example&t={TOKEN}"), "action", "/account?for={email}&t={token}"),
        (format!("/app#/verify/{TOKEN}?lang=de"), "email_verify", "/app#/verify/{token}?lang={word}"),
        (format!("/magic-link#token={TOKEN}"), "magic_link", "/magic-link#token={token}"),
        ("/activate?code=482913".to_owned(), "email_verify", "/activate?code={code}"),
        (format!("/unsubscribe/{TOKEN}"), "action", "/unsubscribe/{token}"),
    ] {
        let mut trial = Trial::genuine();
        with(&mut trial, &format!("https://id.bank.test{link}"));
        let outcome = trial.judged();
        assert_eq!(outcome.failed(), [Reason::OtherLinks], "{link}");
        let says = detail(&outcome, Reason::OtherLinks);
        assert!(says.contains(&format!("{kind} = [")) && says.contains(&format!("\"id.bank.test{shape}\"]")), "{link}: {says}");
        assert!(!says.contains("/*") && !says.contains(TOKEN) && !says.contains(UUID), "{says}");
        let before = outcome.decision.one_time_links.len();
        pasted(&mut trial, &says);
        let outcome = trial.judged();
        assert!(outcome.acts(), "{link}: {outcome:?}");
        assert_eq!(outcome.decision.one_time_links.len(), before + 1, "{link} is dealt with, too");
    }
    // Without a token other_links is the place; with what nobody can write a shape for, nothing is offered to paste.
    let offered = |link: &str| {
        let mut trial = Trial::genuine();
        with(&mut trial, link);
        detail(&trial.judged(), Reason::OtherLinks)
    };
    assert!(offered("https://id.bank.test/help/12345?lang=en").ends_with("\"id.bank.test/help/*\" lists it"));
    for link in [format!("https://id.bank.test/go?{TOKEN}"), format!("https://id.bank.test/go?t={TOKEN}&next=https://attack.test/")] {
        let says = offered(&link);
        assert!(says.contains("write a shape for it under [links]") && !says.contains("lists it"), "{says}");
    }
}

/// Where no link fits, the help is a shape, too; for a link of a third party's there is none.
#[test]
fn help_where_no_link_fits_is_a_shape() {
    let mut trial = Trial::genuine();
    only(&mut trial, &["https://www.bank.test/", "https://login.bank.test/v2/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a"]);
    let says = detail(&trial.judged(), Reason::OneTimeLink);
    assert!(
        says.contains("the nearest shape is") && says.contains("if it is the mail's one-time link, write password_reset = ["),
        "{says}"
    );
    pasted(&mut trial, &says);
    assert!(trial.judged().acts());
    let mut trial = Trial::genuine();
    only(&mut trial, &["https://attack.test/reset/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a"]);
    assert_eq!(detail(&trial.judged(), Reason::OneTimeLink), "no link fits one of the entry's shapes");
    // Where words decide there is no [links] to paste into.
    let mut trial = Trial::genuine();
    by_words(&mut trial);
    with(&mut trial, "https://id.bank.test/report/6d0f6b2f9c1e4a7f8b3d5c2a1e9f7b604d3c2b1a");
    let says = detail(&trial.judged(), Reason::OtherLinks);
    assert!(says.contains("[links] in the place of decide_by = \"words\"") && !says.contains("lists it"), "{says}");
}

/// The number beside the link is that of the links that are shown, whatever places they stand in.
#[test]
fn one_time_links_are_counted_once() {
    let twice = format!("<p><a href=\"{RESET}\">Reset</a></p><p><a href=\"{RESET}\">{RESET}</a></p>");
    for (links, html, says) in
        [(vec![RESET], "", "(1 in all)"), (vec![RESET, VISIT], "", "(2 in all)"), (vec![], &twice, "(1 link in 2 places)")]
    {
        let mut trial = Trial::genuine();
        only(&mut trial, &links);
        if !html.is_empty() {
            trial.set("Content-Type", "text/html; charset=utf-8");
            html.clone_into(&mut trial.body);
        }
        let outcome = trial.judged();
        let found = outcome.decision.findings.iter().find(|finding| finding.reason == Reason::OneTimeLink).unwrap();
        assert!(found.detail.ends_with(says), "{}", found.detail);
    }
}
