//! What the audit says of each entry: how often it acted, and how often it failed by little, and why.
//!
//! Pure: lines in, counts out. `audit report` prints them, and `check` speaks of the near misses, so that the admin learns
//! of a sender's new address, path or key before the readers do.

use std::collections::BTreeMap;

use serde_json::Value;

/// The counts of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mails that were exempted, or would have been in observe mode.
    pub acted: usize,
    /// Near misses by the check that failed.
    pub near_misses: BTreeMap<String, usize>,
    /// Other mails of its sender.
    pub passed: usize,
    /// The newest near miss: when, and the failed check in words.
    pub newest: Option<(String, String)>,
}

impl Tally {
    /// Near misses in all.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.near_misses.values().sum()
    }
}

/// Counts of all entries, by name.
#[derive(Clone, Debug, Default)]
pub struct Tallies(BTreeMap<String, Tally>);

impl Tallies {
    /// Counts one line of the audit; what is no record of a mail that an entry was asked for counts nothing.
    pub fn add(&mut self, record: &Value) {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let entry = text(record, "entry");
        if entry.is_empty() || text(record, "type") != "mail" {
            return;
        }
        let tally = self.0.entry(entry).or_default();
        match text(record, "decision").as_str() {
            "act" => tally.acted += 1,
            "near_miss" => {
                let reasons = record.get("reasons").and_then(Value::as_array).into_iter().flatten();
                let failed = reasons.into_iter().find(|reason| reason.get("ok") == Some(&Value::Bool(false)));
                let check = failed.map_or_else(String::new, |reason| text(reason, "check"));
                let detail = failed.map_or_else(String::new, |reason| text(reason, "detail"));
                tally.newest = Some((text(record, "time"), format!("{check}: {detail}")));
                *tally.near_misses.entry(check).or_default() += 1;
            }
            _ => tally.passed += 1,
        }
    }

    /// All entries that any line named.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.0.iter().map(|(name, tally)| (name.as_str(), tally))
    }

    /// One entry; nothing counted where no line named it.
    #[must_use]
    pub fn of(&self, entry: &str) -> Tally {
        self.0.get(entry).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_entry_and_check() {
        let mut tallies = Tallies::default();
        for line in [
            r#"{"type":"mail","entry":"a","decision":"act","time":"1"}"#,
            r#"{"type":"mail","entry":"a","decision":"near_miss","time":"2","reasons":[{"check":"author","ok":true,"detail":"x"},{"check":"one_time_link","ok":false,"detail":"y"}]}"#,
            r#"{"type":"mail","entry":"a","decision":"pass","time":"3"}"#,
            r#"{"type":"outcome","entry":"a","decision":"act"}"#,
            r#"{"type":"mail","decision":"pass"}"#,
            "[]",
        ] {
            tallies.add(&serde_json::from_str(line).unwrap());
        }
        let tally = tallies.of("a");
        assert_eq!((tally.acted, tally.missed(), tally.passed), (1, 1, 1));
        assert_eq!(tally.newest, Some(("2".into(), "one_time_link: y".into())));
        assert_eq!(tallies.entries().count(), 1);
    }
}
