//! Entries only add: a set of them exempts what each of them exempts alone, and nothing else. So a file that is left out, whatever
//! was in it, never makes the others exempt more.

use proptest::prelude::*;

use super::*;
use crate::allowlist::Action;

/// A change of the entry, the mail or its proof.
type Change = fn(&mut Trial);

/// Entries that differ from the genuine one by one or two of these.
const ENTRIES: &[Change] = &[
    |_| {},
    |t| t.entry().mode = Mode::Observe,
    |t| t.entry().expires = Some(Timestamp::from_second(NOW - 1).unwrap()),
    |t| t.entry().from = vec![address("no-reply@mail.bank.test")],
    |t| t.entry().from = vec![address("*@*.bank.test")],
    |t| t.entry().from = vec![address("other@mail.bank.test")],
    |t| t.entry().never = vec![address("no-reply@mail.bank.test")],
    |t| t.entry().recipients = vec![AddressPattern::parse("eve@corp.example").unwrap()],
    |t| t.entry().grants = vec![Kind::Invite],
    |t| t.entry().links = links(&[(Kind::PasswordReset, "login.bank.test/other/{token}")], &[]),
    |t| t.entry().links = links(&[(Kind::PasswordReset, "login.bank.test/reset/{token}")], &[]),
    |t| t.entry().limit = Limit::PerHour(1),
    |t| t.entry().reader = Reader::Straight,
    |t| t.entry().lists = Lists::Allowed,
    |t| t.entry().attachments = Attachments::Allowed,
    |t| t.entry().addressees = Addressees::Several,
    |t| t.entry().require = Require::Dkim,
    |t| t.entry().require = Require::Address { networks: vec![Network::parse("192.0.2.0/24").unwrap()], spf: SpfWanted::Ignored },
    |t| t.entry().signed_by = vec![domain("mailer.test")],
    |t| t.entry().max_age = Duration::from_secs(1),
    |t| t.entry().actions = vec![Action::Guard],
    |t| t.entry().actions = vec![Action::Unwrap],
];

/// Mails that differ from the genuine one by some of these.
const MAILS: &[Change] = &[
    |_| {},
    |t| t.set("From", "Bank <other@mail.bank.test>"),
    |t| t.set("From", "Bank <x@bank.test>"),
    |t| t.set("To", "eve@corp.example"),
    |t| t.set("Precedence", "list"),
    |t| t.uncover("to"),
    |t| t.uncover("content-type"),
    |t| t.identity.dmarc = AuthResult::Fail,
    |t| t.signature().domain = Some(domain("mailer.test")),
    |t| t.spf("mail.bank.test", AuthResult::Pass, Some(Mechanism::Address)),
    |t| t.body = format!("{RESET}\r\nhttps://stranger.test/\r\n"),
    |t| t.body = format!("{RESET}\r\n"),
    |t| t.identity.dkim.push(signature("bank.test", "from:to")),
    |t| t.recipients = vec!["bob@corp.example".into(), "eve@corp.example".into()],
];

/// Whether the mail is exempted in effect, each entry having its body read in the way that its own proof allows.
fn is_exempted(trial: &Trial, entries: Vec<Entry>, never: &[AddressPattern]) -> bool {
    let raw = format!("{}\r\n\r\n{}", trial.header.join("\r\n"), trial.body);
    let message = Message::read(raw.as_bytes());
    let author = message.author();
    let now = Timestamp::from_second(trial.now).unwrap();
    let facts = HeaderFacts { author: &author, headers: message.headers(), recipients: &trial.recipients, now };
    let list = Allowlist::new(entries).for_readers(trial.readers.clone()).refusing(never.to_vec());
    let candidates = judge::candidates(&list, &facts, &trial.identity);
    [MimeEvidence::Fields, MimeEvidence::Body].into_iter().any(|mime| {
        let group: Vec<_> = candidates.iter().filter(|candidate| candidate.mime() == mime).cloned().collect();
        let content = message.content_by(mime);
        let body = BodyFacts { content: &content, recognition: &trial.words, identity: &trial.identity };
        let decision = judge::decide(group, &facts, &body);
        matches!(&decision.verdict, Verdict::Act(entry) if entry.mode == Mode::Enforce)
    })
}

fn some_entry(number: usize, changes: &[usize]) -> Entry {
    let mut trial = Trial::genuine();
    for change in changes {
        ENTRIES[*change](&mut trial);
    }
    Entry { name: format!("e{number}"), ..trial.entries.remove(0) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_set_of_entries_exempts_what_each_exempts_alone(
        sets in proptest::collection::vec(proptest::collection::vec(0..ENTRIES.len(), 0..3), 1..6),
        changes in proptest::collection::vec(0..MAILS.len(), 0..3),
    ) {
        let mut trial = Trial::genuine();
        for change in changes {
            MAILS[change](&mut trial);
        }
        let entries: Vec<Entry> = sets.iter().enumerate().map(|(number, changes)| some_entry(number, changes)).collect();
        let alone = entries.iter().any(|entry| is_exempted(&trial, vec![entry.clone()], &[]));
        prop_assert_eq!(is_exempted(&trial, entries.clone(), &[]), alone);
        // So does any part of it: what is left out adds nothing.
        for out in 0..entries.len() {
            let mut rest = entries.clone();
            rest.remove(out);
            prop_assert!(alone || !is_exempted(&trial, rest, &[]));
        }
        // What firstclick.toml says no entry overrides.
        prop_assert!(!is_exempted(&trial, entries, &[address("*@*.bank.test"), address("bank.test")]));
    }
}

#[test]
fn an_entry_that_observes_or_has_ended_hides_no_other() {
    let trial = Trial::genuine();
    for hiding in [1, 2, 3, 6, 7, 9] {
        let narrow = some_entry(0, &[3, hiding]);
        assert!(!is_exempted(&trial, vec![narrow.clone()], &[]) || hiding == 3);
        for entries in [vec![narrow.clone(), some_entry(1, &[])], vec![some_entry(1, &[]), narrow]] {
            assert!(is_exempted(&trial, entries, &[]), "{hiding}");
        }
    }
}
