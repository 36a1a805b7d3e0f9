//! What the judge makes of a mail's header: whom the mail is meant for, what the proof must cover, lists, and which entry it is for.

use super::*;

#[test]
fn whom_it_is_meant_for() {
    assert_each(&[
        ("another address of the reader's company, not straight", &[Reason::Addressees], Trial::send_to_a_list),
        ("somebody else", &[Reason::Addressees], |t| t.set("To", "eve@attack.test")),
        ("no To", &[Reason::Addressees], |t| t.drop("To")),
        ("To is not covered", &[Reason::Addressees], |t| t.uncover("to")),
        ("Cc is not covered", &[Reason::Addressees], |t| {
            t.set("Cc", "bob@corp.example");
            t.uncover("cc");
        }),
        ("two addressees", &[Reason::Addressees], |t| t.set("To", "bob@corp.example, ann@corp.example")),
        ("two addressees, and the entry takes several", ACTS, |t| {
            t.set("To", "bob@corp.example, ann@corp.example");
            t.entry().addressees = Addressees::Several;
        }),
        ("nobody knows the envelope", ACTS, |t| t.recipients.clear()),
        ("several of the company, and all are in To", ACTS, |t| {
            t.set("To", "bob@corp.example, ann@corp.example");
            t.recipients.push("ann@corp.example".into());
            t.entry().addressees = Addressees::Several;
        }),
        ("a stranger in the envelope, and only one address in To", &[Reason::Addressees], |t| {
            t.recipients.push("eve@attack.test".into());
        }),
    ]);
}

#[test]
fn what_straight_delivery_is() {
    const FAILS: &[Reason] = &[Reason::Addressees];
    fn list(trial: &mut Trial, from: &str, result: AuthResult, by: Option<Mechanism>) {
        trial.send_to_a_list();
        trial.spf(from, result, by);
    }
    const BY: Option<Mechanism> = Some(Mechanism::Address);
    assert_each(&[
        ("From's domain", ACTS, |t| list(t, "mail.bank.test", AuthResult::Pass, BY)),
        ("d=", ACTS, |t| {
            list(t, "bank.test", AuthResult::Pass, BY);
            t.signature().domain = Some(domain("bank.test"));
        }),
        ("From's domain, signed by its parent", ACTS, |t| {
            list(t, "mail.bank.test", AuthResult::Pass, BY);
            t.signature().domain = Some(domain("bank.test"));
        }),
        ("relaxed alignment only", FAILS, |t| list(t, "bank.test", AuthResult::Pass, BY)),
        ("a sibling", FAILS, |t| list(t, "bounce.bank.test", AuthResult::Pass, BY)),
        ("the entry's", ACTS, |t| {
            list(t, "x.bounce.test", AuthResult::Pass, BY);
            t.entry().envelope = vec![HostPattern::parse("other.test").unwrap(), HostPattern::parse("*.bounce.test").unwrap()];
        }),
        ("not the entry's", FAILS, |t| {
            list(t, "bounce.test", AuthResult::Pass, BY);
            t.entry().envelope = vec![HostPattern::parse("*.bounce.test").unwrap()];
        }),
        ("softfail", FAILS, |t| list(t, "mail.bank.test", AuthResult::SoftFail, BY)),
        ("neutral", FAILS, |t| list(t, "mail.bank.test", AuthResult::Neutral, BY)),
        ("none", FAILS, |t| list(t, "mail.bank.test", AuthResult::None, BY)),
        ("fail", FAILS, |t| list(t, "mail.bank.test", AuthResult::Fail, BY)),
        ("temperror", FAILS, |t| list(t, "mail.bank.test", AuthResult::TempError, BY)),
        ("by all", FAILS, |t| list(t, "mail.bank.test", AuthResult::Pass, Some(Mechanism::All))),
        ("by ptr", FAILS, |t| list(t, "mail.bank.test", AuthResult::Pass, Some(Mechanism::Ptr))),
        ("by exists", FAILS, |t| list(t, "mail.bank.test", AuthResult::Pass, Some(Mechanism::Exists))),
        ("nobody tells by what", FAILS, |t| list(t, "mail.bank.test", AuthResult::Pass, None)),
        ("no plain domain", FAILS, |t| {
            t.send_to_a_list();
            t.identity.spf = Some(Spf { result: AuthResult::Pass, domain: None, by: BY });
        }),
        ("no client", FAILS, |t| {
            list(t, "mail.bank.test", AuthResult::Pass, BY);
            t.identity.client = None;
        }),
        ("known from Received", ACTS, |t| {
            list(t, "mail.bank.test", AuthResult::Pass, BY);
            t.identity.client.as_mut().unwrap().known_by = KnownBy::Received;
        }),
        ("it does not help where To names a stranger", FAILS, |t| {
            list(t, "mail.bank.test", AuthResult::Pass, BY);
            t.set("To", "eve@attack.test");
        }),
        ("no signed To", ACTS, |t| {
            t.leave_to_unsigned();
            t.spf("mail.bank.test", AuthResult::Pass, BY);
        }),
        ("no signed To, not straight", FAILS, |t| {
            t.leave_to_unsigned();
            t.spf("mail.bank.test", AuthResult::SoftFail, BY);
        }),
        ("no signed To, two recipients", FAILS, |t| {
            t.leave_to_unsigned();
            t.spf("mail.bank.test", AuthResult::Pass, BY);
            t.set("To", "bob@corp.example, ann@corp.example");
            t.entry().addressees = Addressees::Several;
            t.recipients.push("ann@corp.example".into());
        }),
        ("no signed To, and the entry wants one", FAILS, |t| {
            t.uncover("to");
            t.spf("mail.bank.test", AuthResult::Pass, BY);
        }),
    ]);
}

#[test]
fn what_straight_delivery_stands_in_for() {
    for (change, condition) in
        [(Trial::send_to_a_list as Change, Condition::AnotherAddress), (Trial::leave_to_unsigned, Condition::UnsignedTo)]
    {
        let mut trial = Trial::genuine();
        trial.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address));
        change(&mut trial);
        let outcome = trial.judged();
        assert!(outcome.acts(), "{outcome:?}");
        assert_eq!(outcome.decision.condition, Some(condition));
    }
}

#[test]
fn spf_is_asked_where_it_can_help() {
    let cases: [(&str, bool, Change); 18] = [
        ("a list, by the second of two signatures", true, |t| {
            t.send_to_a_list();
            t.identity.dkim.insert(0, signature("bank.test", "from:subject:date:mime-version:content-type:content-transfer-encoding"));
        }),
        ("a list", true, Trial::send_to_a_list),
        ("no signed To", true, Trial::leave_to_unsigned),
        ("a list, and the signature leaves out a MIME field", true, |t| {
            t.send_to_a_list();
            t.uncover("content-type");
        }),
        ("a covered To", false, |_| {}),
        ("a stranger in To", false, |t| t.set("To", "eve@attack.test")),
        ("it was asked, and passed", false, |t| {
            t.send_to_a_list();
            t.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address));
        }),
        ("it was asked, and did not pass", false, |t| {
            t.send_to_a_list();
            t.spf("mail.bank.test", AuthResult::Fail, None);
        }),
        ("nobody knows the client", false, |t| {
            t.send_to_a_list();
            t.identity.client = None;
        }),
        ("too old", false, |t| {
            t.send_to_a_list();
            t.signature().signed_at = Some(0);
        }),
        ("an uncovered field that nothing makes good", false, |t| {
            t.send_to_a_list();
            t.set("Content-Base", "https://attack.test/");
        }),
        ("expired", false, |t| {
            t.send_to_a_list();
            t.entry().expires = Some(Timestamp::UNIX_EPOCH);
        }),
        ("through a list", false, |t| {
            t.send_to_a_list();
            t.set("List-Post", "<mailto:x@bank.test>");
        }),
        ("an entry that does not name the author", false, |t| {
            t.send_to_a_list();
            t.entry().from = vec![address("bank.test")];
        }),
        ("not proven", false, |t| {
            t.send_to_a_list();
            t.identity.dmarc = AuthResult::Fail;
        }),
        ("an address, and SPF is wanted", true, |t| {
            t.entry().require = Require::Address { networks: vec![Network::parse("192.0.2.1").unwrap()], spf: SpfWanted::Required };
        }),
        ("another address, and SPF is wanted", false, |t| {
            t.entry().require = Require::Address { networks: vec![Network::parse("192.0.2.2").unwrap()], spf: SpfWanted::Required };
        }),
        ("an address, SPF is wanted, and the entry has expired", false, |t| {
            t.entry().require = Require::Address { networks: vec![Network::parse("192.0.2.1").unwrap()], spf: SpfWanted::Required };
            t.entry().expires = Some(Timestamp::UNIX_EPOCH);
        }),
    ];
    for (what, wants, change) in cases {
        let mut trial = Trial::genuine();
        change(&mut trial);
        let outcome = trial.judged();
        assert_eq!(outcome.wants_spf, wants, "{what}: {outcome:?}");
        assert!(!wants || !outcome.acts(), "{what}: {outcome:?}");
    }
}

#[test]
fn what_the_proof_must_cover() {
    const FAILS: &[Reason] = &[Reason::Coverage];
    assert_each(&[
        ("MIME-Version is left out", ACTS, |t| t.uncover("mime-version")),
        ("Content-Type is left out", ACTS, |t| t.uncover("content-type")),
        ("Content-Transfer-Encoding is left out", ACTS, |t| t.uncover("content-transfer-encoding")),
        ("Content-Type is left out, and the body does not tell the same", &[Reason::Reading, Reason::Attachments], |t| {
            t.uncover("content-type");
            t.set("Content-Type", "multipart/mixed; boundary=b1");
        }),
        ("Content-Transfer-Encoding is left out, and the body does not tell the same", &[Reason::Reading, Reason::OneTimeLink], |t| {
            t.uncover("content-transfer-encoding");
            t.set("Content-Transfer-Encoding", "base64");
        }),
        ("MIME-Version is left out, and nothing is known of the reader", &[Reason::Addressees, Reason::Coverage], |t| {
            t.uncover("mime-version");
            t.uncover("to");
        }),
        ("Content-Type is left out, and the mail is a stranger's", &[Reason::Addressees, Reason::Coverage], |t| {
            t.uncover("content-type");
            t.set("To", "eve@attack.test");
        }),
        ("Content-Transfer-Encoding is left out, and it was not delivered straight", &[Reason::Addressees, Reason::Coverage], |t| {
            t.uncover("content-transfer-encoding");
            t.send_to_a_list();
            t.spf("mail.bank.test", AuthResult::SoftFail, None);
        }),
        ("there are no MIME fields", ACTS, |t| {
            t.drop("MIME-Version");
            t.drop("Content-Type");
            t.drop("Content-Transfer-Encoding");
        }),
        ("Content-Disposition is not covered", FAILS, |t| t.set("Content-Disposition", "inline")),
        ("Content-Location is not covered", FAILS, |t| t.set("Content-Location", "https://www.bank.test/")),
        ("Content-Base is not covered", FAILS, |t| t.set("Content-Base", "https://www.bank.test/")),
        ("Content-Disposition is covered", ACTS, |t| {
            t.set("Content-Disposition", "inline");
            t.signature().coverage = covering(&format!("{ALL}:content-disposition"));
        }),
    ]);
    for name in ["mime-version", "content-type", "content-transfer-encoding"] {
        let mut trial = Trial::genuine();
        trial.uncover(name);
        assert_eq!(trial.judged().mime, [MimeEvidence::Body], "{name}");
        trial.set("To", "eve@attack.test");
        assert_eq!(trial.judged().mime, [MimeEvidence::Fields], "{name}");
    }
}

#[test]
fn what_comes_through_a_list() {
    const FAILS: &[Reason] = &[Reason::Lists];
    fn allowed(trial: &mut Trial, name: &str, value: &str) {
        trial.set(name, value);
        trial.entry().lists = Lists::Allowed;
    }
    assert_each(&[
        ("List-Post", FAILS, |t| t.set("List-Post", "<mailto:x@bank.test>")),
        ("list-post", FAILS, |t| t.set("list-post", "NO")),
        ("List-Archive", FAILS, |t| t.set("List-Archive", "<https://www.bank.test/>")),
        ("Precedence: list", FAILS, |t| t.set("Precedence", "list")),
        ("Precedence: JUNK", FAILS, |t| t.set("Precedence", "JUNK")),
        ("a second Precedence", FAILS, |t| {
            t.header.push("Precedence: bulk".into());
            t.header.push("Precedence: List".into());
        }),
        ("Precedence: bulk", ACTS, |t| t.set("Precedence", "bulk")),
        ("List-Id", ACTS, |t| t.set("List-Id", "<x.bank.test>")),
        ("List-Unsubscribe", ACTS, |t| t.set("List-Unsubscribe", "<https://www.bank.test/>")),
        ("List-Post, allowed", ACTS, |t| allowed(t, "List-Post", "<mailto:x@bank.test>")),
        ("List-Archive, allowed", ACTS, |t| allowed(t, "List-Archive", "<https://www.bank.test/>")),
        ("Precedence: list, allowed", ACTS, |t| allowed(t, "Precedence", "list")),
    ]);
}

#[test]
fn which_entry_it_is_for() {
    assert_each(&[
        ("a recipient that the entry names", ACTS, |t| t.entry().recipients = vec![address("ann@corp.example"), address("*@corp.example")]),
        ("a recipient that it does not", &[Reason::Recipients], |t| t.entry().recipients = vec![address("ann@corp.example")]),
        ("one of two that it does not", &[Reason::Recipients], |t| {
            t.set("To", "bob@corp.example, ann@corp.example");
            t.entry().addressees = Addressees::Several;
            t.recipients.push("ann@corp.example".into());
            t.entry().recipients = vec![address("bob@corp.example")];
        }),
        // To cannot name what nobody reads, so that check has nobody to hold it against.
        ("an odd recipient", &[Reason::Recipients], |t| t.recipients = vec!["bob@[192.0.2.1]".into()]),
        ("an odd recipient beside the one in To", &[Reason::Recipients], |t| t.recipients.push("postmaster".into())),
        ("a second before its end", ACTS, |t| t.entry().expires = Some(Timestamp::from_second(NOW + 1).unwrap())),
        ("at its end", &[Reason::Expiry], |t| t.entry().expires = Some(Timestamp::from_second(NOW).unwrap())),
        ("long past its end", &[Reason::Expiry], |t| t.entry().expires = Some(Timestamp::UNIX_EPOCH)),
        ("never for this author", &[Reason::Sender], |t| {
            t.entry().never = vec![address("x@mail.bank.test"), address("no-reply@mail.bank.test")];
        }),
        ("never for another", ACTS, |t| t.entry().never = vec![address("x@mail.bank.test")]),
        ("another address of the owner's", &[Reason::Sender], |t| t.entry().from = vec![address("bank.test")]),
    ]);
}

#[test]
fn an_author_that_no_entry_names() {
    let mut trial = Trial::genuine();
    trial.entry().from = vec![address("other.test")];
    let outcome = trial.judged();
    assert_eq!(outcome.failed(), [Reason::Sender]);
    assert_eq!(outcome.decision.verdict.kind().code(), "pass");
    assert!(outcome.decision.recognition.is_some() && outcome.decision.entry.is_none() && !outcome.is_worth_reading);
    let mut trial = Trial::genuine();
    trial.header.push("From: eve@attack.test".into());
    let outcome = trial.judged();
    assert_eq!(outcome.failed(), [Reason::Author]);
    assert_eq!(outcome.decision.verdict.kind().code(), "pass");
}
