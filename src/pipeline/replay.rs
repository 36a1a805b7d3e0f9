//! Replay memory: the signatures of exempted mails that could be sent again to another reader.
//!
//! A mail is identified by the hash of its signature, not by its Message-ID, which a signature may leave out. Where the covered
//! To names the reader, sending it again reaches nobody else; where the signature covers no To, it counts once.
//!
//! Each entry has a table of its own, so that no other sender's mails push out its signatures; each replica has its own tables,
//! empty at a start.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    allowlist::{Decision, Entry, reader::Condition},
    limits,
};

/// The signatures of exempted mails, by entry.
#[derive(Debug, Default)]
pub(super) struct Replay(Mutex<HashMap<String, HashMap<[u8; 32], Exempted>>>);

#[derive(Debug)]
struct Exempted {
    until: i64,
    recipients: HashSet<String>,
    /// Exemptions that rest on it: a deferred mail takes back its own only.
    held: u32,
}

/// What one exemption has added; taken out again where the mail was not delivered.
#[derive(Debug)]
pub(super) struct Seen {
    entry: String,
    signatures: Vec<[u8; 32]>,
}

/// The hashes by which a mail counts: where straight delivery stands in for a To that no signature covers. None elsewhere.
pub(super) fn known_by(decision: &Decision) -> Option<Vec<[u8; 32]>> {
    (decision.condition == Some(Condition::UnsignedTo)).then(|| decision.signatures.clone())
}

impl Replay {
    /// Adds the signatures of a mail that is exempted for these recipients, whose addresses are in lower case.
    ///
    /// # Errors
    /// Names the check: the same signature was exempted for other recipients, or the table is full.
    pub(super) fn reserve(
        &self,
        entry: &Entry,
        signatures: Vec<[u8; 32]>,
        recipients: &HashSet<String>,
        now: Timestamp,
    ) -> Result<Seen, &'static str> {
        if signatures.is_empty() {
            return Err("there is no signature to know the mail by");
        }
        let now = now.as_second();
        // Past max_age the signature is refused for its age.
        let life = i64::try_from((entry.max_age + MARGIN).as_secs()).unwrap_or(i64::MAX);
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables.entry(entry.name.clone()).or_default();
        let live = |id: &[u8; 32]| table.get(id).filter(|before| before.until > now);
        // The same mail to the same reader: a reply was lost on the way, or the upstream tries again.
        if signatures.iter().filter_map(live).any(|before| before.recipients != *recipients) {
            return Err("the same signature was exempted for another recipient already");
        }
        if table.len() + signatures.len() > limits::REPLAYS {
            table.retain(|_, before| before.until > now);
        }
        if table.len() + signatures.len() > limits::REPLAYS {
            return Err("too many of the entry's mails are remembered");
        }
        for id in &signatures {
            let known = table.entry(*id).or_insert_with(|| Exempted { until: 0, recipients: HashSet::new(), held: 0 });
            if known.until <= now {
                *known = Exempted { until: 0, recipients: recipients.clone(), held: 0 };
            }
            known.until = now.saturating_add(life);
            known.held = known.held.saturating_add(1);
        }
        Ok(Seen { entry: entry.name.clone(), signatures })
    }

    /// Takes out what one mail has added.
    pub(super) fn give_back(&self, seen: Seen) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = tables.get_mut(&seen.entry) else { return };
        for id in seen.signatures {
            if let Some(known) = table.get_mut(&id) {
                known.held = known.held.saturating_sub(1);
                if known.held == 0 {
                    table.remove(&id);
                }
            }
        }
    }
}

/// The most by which two clocks may differ.
const MARGIN: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::{
        LinkRules, Mode,
        entry::{Addressees, Attachments, DecideBy, Limit, Lists, Reader, Require},
    };

    const DAY: i64 = 24 * 3_600;
    const MARGIN_SECONDS: i64 = 600;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.into(),
            owner: None,
            from: Vec::new(),
            never: Vec::new(),
            decide_by: DecideBy::Shapes,
            links: LinkRules::default(),
            grants: Vec::new(),
            signed_by: Vec::new(),
            envelope: Vec::new(),
            reader: Reader::Straight,
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

    /// A mail whose signatures cover no To.
    fn mail(signatures: &[u8]) -> Decision {
        let signatures = signatures.iter().map(|number| [*number; 32]).collect();
        Decision { condition: Some(Condition::UnsignedTo), signatures, ..Decision::default() }
    }

    fn reserve(
        replay: &Replay,
        entry_name: &str,
        decision: &Decision,
        recipients: &[&str],
        second: i64,
    ) -> Result<Option<Seen>, &'static str> {
        let recipients = recipients.iter().map(|recipient| recipient.to_lowercase()).collect();
        let now = Timestamp::from_second(second).unwrap();
        known_by(decision).map(|signatures| replay.reserve(&entry(entry_name), signatures, &recipients, now)).transpose()
    }

    fn note(replay: &Replay, decision: &Decision, recipient: &str, second: i64) -> bool {
        reserve(replay, "bank", decision, &[recipient], second).is_ok()
    }

    #[test]
    fn once_for_each_signature() {
        let replay = Replay::default();
        assert!(note(&replay, &mail(&[1]), "bob@corp.example", 0));
        assert!(note(&replay, &mail(&[1]), "BOB@corp.example", 1), "tried again for the same reader");
        assert!(!note(&replay, &mail(&[1]), "ann@corp.example", 1));
        assert!(!note(&replay, &mail(&[1]), "bob+x@corp.example", 1));
        assert!(note(&replay, &mail(&[2]), "ann@corp.example", 1), "another mail");
        let both = ["bob@corp.example", "ann@corp.example"];
        assert!(reserve(&replay, "bank", &mail(&[1]), &both, 0).is_err(), "one more reader");
        assert!(note(&replay, &mail(&[1]), "bob@corp.example", 2), "what was refused changed nothing");
    }

    #[test]
    fn any_of_its_signatures_knows_a_mail() {
        let replay = Replay::default();
        assert!(note(&replay, &mail(&[1, 2]), "bob@corp.example", 0));
        for signatures in [&[1][..], &[2], &[3, 2], &[1, 3]] {
            assert!(!note(&replay, &mail(signatures), "ann@corp.example", 0), "{signatures:?}");
        }
        assert!(note(&replay, &mail(&[3]), "ann@corp.example", 0), "what was refused is not remembered");
        assert!(!note(&replay, &mail(&[]), "ann@corp.example", 0), "nothing to know it by");
    }

    #[test]
    fn where_to_is_covered_it_does_not_count() {
        let replay = Replay::default();
        for condition in [None, Some(Condition::AnotherAddress)] {
            let decision = Decision { condition, ..mail(&[1]) };
            assert!(note(&replay, &decision, "bob@corp.example", 0));
            assert!(note(&replay, &decision, "ann@corp.example", 0));
        }
        assert!(note(&replay, &Decision { condition: None, ..mail(&[]) }, "ann@corp.example", 0));
        assert!(note(&replay, &mail(&[1]), "eve@corp.example", 0), "nothing was remembered");
    }

    #[test]
    fn what_is_given_back_is_forgotten_and_no_more() {
        let replay = Replay::default();
        let seen = reserve(&replay, "bank", &mail(&[1]), &["bob@corp.example"], 0).unwrap().unwrap();
        assert!(!note(&replay, &mail(&[1]), "ann@corp.example", 1));
        replay.give_back(seen);
        // The same mail twice, of which one was taken.
        let deferred = reserve(&replay, "bank", &mail(&[1]), &["ann@corp.example"], 2).unwrap().unwrap();
        assert!(note(&replay, &mail(&[1]), "ann@corp.example", 2));
        replay.give_back(deferred);
        assert!(!note(&replay, &mail(&[1]), "bob@corp.example", 3));
    }

    #[test]
    fn as_long_as_a_signature_is_fresh() {
        let replay = Replay::default();
        assert!(note(&replay, &mail(&[1]), "bob@corp.example", 0));
        assert!(!note(&replay, &mail(&[1]), "ann@corp.example", DAY + MARGIN_SECONDS - 1));
        assert!(note(&replay, &mail(&[1]), "ann@corp.example", DAY + MARGIN_SECONDS));
        // A signer's clock may run five minutes ahead, and what was signed then is fresh for a day from then on.
        const { assert!(MARGIN_SECONDS > 5 * 60) };
        assert!(!note(&replay, &mail(&[1]), "bob@corp.example", DAY + MARGIN_SECONDS + 1), "it is ann's now");
    }

    #[test]
    fn each_entry_remembers_for_itself() {
        let replay = Replay::default();
        assert!(note(&replay, &mail(&[1]), "bob@corp.example", 0));
        assert!(reserve(&replay, "shop", &mail(&[1]), &["ann@corp.example"], 0).is_ok());
        assert!(!note(&replay, &mail(&[1]), "ann@corp.example", 0));
    }

    #[test]
    fn a_full_table_forgets_only_what_is_over() {
        let replay = Replay::default();
        let numbered = |number: usize| {
            let mut id = [9; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            Decision { condition: Some(Condition::UnsignedTo), signatures: vec![id], ..Decision::default() }
        };
        for number in 0..limits::REPLAYS {
            assert!(note(&replay, &numbered(number), "bob@corp.example", 0), "{number}");
        }
        assert!(!note(&replay, &mail(&[1]), "bob@corp.example", 1), "full");
        assert!(!note(&replay, &numbered(0), "ann@corp.example", 1), "and nothing was pushed out");
        assert!(reserve(&replay, "shop", &mail(&[1]), &["bob@corp.example"], 0).is_ok());
        assert!(note(&replay, &mail(&[1]), "bob@corp.example", DAY + MARGIN_SECONDS), "all are over");
    }
}
