//! What the audit's records say of each entry: how often it acted, and how often it missed by little, and why.
//!
//! Pure: records in, counts out. `audit report` prints them, and `check` warns of the near misses, so that the admin learns of a
//! sender's new address, path or key before the readers do.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::mail::{Record, VerdictKind};

/// The counts of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mails that were exempted.
    pub acted: usize,
    /// Mails that would have been, were the entry in force.
    pub observed: usize,
    /// Near misses by the check that failed.
    pub near_misses: BTreeMap<String, usize>,
    /// Other mails of its sender, which passed.
    pub passed: usize,
    /// The newest near miss: its time, and the failed check in words.
    pub newest: Option<(Timestamp, String)>,
}

impl Tally {
    /// Mails that matched the entry in everything, in force or observed.
    #[must_use]
    pub const fn matched(&self) -> usize {
        self.acted + self.observed
    }

    /// Near misses by all checks together.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.near_misses.values().sum()
    }
}

/// Counts of all entries, by name.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    entries: BTreeMap<String, Tally>,
    /// Ids of the mails that were exempted, with their entries: a second record of one says that its exemption was withheld.
    acted: HashMap<String, String>,
    mails: usize,
    unlisted: usize,
}

impl Tallies {
    /// Counts a record; one that is of no mail, or of a mail that no entry names, counts nothing.
    pub fn add(&mut self, record: &Record) {
        let Record::Mail(mail) = record else { return };
        let withheld = self.acted.remove(&mail.id);
        self.mails += usize::from(withheld.is_none());
        if let Some(before) = withheld.and_then(|entry| self.entries.get_mut(&entry)) {
            before.acted = before.acted.saturating_sub(1);
        }
        let Some(entry) = mail.entry.clone().filter(|entry| !entry.is_empty()) else {
            self.unlisted += 1;
            return;
        };
        let tally = self.entries.entry(entry.clone()).or_default();
        match mail.decision.known() {
            Some(VerdictKind::Act) if mail.observed => tally.observed += 1,
            Some(VerdictKind::Act) => {
                tally.acted += 1;
                self.acted.insert(mail.id.clone(), entry);
            }
            Some(VerdictKind::NearMiss) => {
                let failed = mail.stopped_by();
                let check = failed.map_or_else(String::new, |reason| reason.check.to_string());
                let detail = failed.map_or_else(String::new, |reason| reason.detail.clone());
                tally.newest = Some((mail.time, format!("{check}: {detail}")));
                *tally.near_misses.entry(check).or_default() += 1;
            }
            Some(VerdictKind::Pass) | None => tally.passed += 1,
        }
    }

    /// All mails, each counted once.
    #[must_use]
    pub const fn mails(&self) -> usize {
        self.mails
    }

    /// Mails of senders that no entry names.
    #[must_use]
    pub const fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// The entries that any record named, with their counts.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.entries.iter().map(|(name, tally)| (name.as_str(), tally))
    }

    /// The counts of one entry; all 0 where no record named it.
    #[must_use]
    pub fn of(&self, entry: &str) -> Tally {
        self.entries.get(entry).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_entry_and_check() {
        let mut tallies = Tallies::default();
        let mail = |second: u8, entry: &str, decision: &str, reasons: &str| {
            format!(
                r#"{{"type":"mail","v":1,"time":"2026-11-25T00:00:0{second}Z","id":"{second}","from":"<>","to":[],"size":1,"decision":"{decision}","observed":false{entry},"reasons":[{reasons}]}}"#
            )
        };
        let missed = r#"{"check":"author","ok":true,"detail":"x"},{"check":"one_time_link","ok":false,"detail":"y"}"#;
        for line in [
            mail(1, r#","entry":"a""#, "act", ""),
            mail(2, r#","entry":"a""#, "near_miss", missed),
            mail(3, r#","entry":"a""#, "pass", ""),
            mail(4, "", "pass", ""),
            r#"{"type":"outcome","v":1,"time":"2026-11-25T00:00:05Z","id":"x","delivery":"accepted"}"#.to_owned(),
        ] {
            tallies.add(&Record::read(line.as_bytes()).unwrap());
        }
        // Withheld after all: the second record counts.
        for decision in ["act", "pass"] {
            tallies.add(&Record::read(mail(6, r#","entry":"w""#, decision, "").as_bytes()).unwrap());
        }
        let withheld = tallies.of("w");
        assert_eq!((withheld.acted, withheld.passed), (0, 1));
        let tally = tallies.of("a");
        assert_eq!((tally.acted, tally.missed(), tally.passed), (1, 1, 1));
        assert_eq!(tally.newest, Some(("2026-11-25T00:00:02Z".parse().unwrap(), "one_time_link: y".into())));
        assert_eq!(tallies.entries().count(), 2);
    }
}
