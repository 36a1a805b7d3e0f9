//! How many exemptions a recipient has had in this hour.
//!
//! Each replica counts for itself. What is forgotten at a restart errs towards the reader; what cannot be counted,
//! because too many are counted already, errs towards the scanner.

use std::{collections::HashMap, sync::Mutex};

use jiff::Timestamp;

use crate::allowlist::entry::Limit;

/// Counts exemptions by entry and recipient.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<(String, String), Spent>>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    hour: i64,
    count: u32,
}

/// Pairs of entry and recipient that are counted at once: some 20 MiB.
const PAIRS: usize = 100_000;

impl Quota {
    /// Counts one exemption for each recipient, or none and names the recipient whose share is used up.
    pub(super) fn spend(&self, entry: &str, recipients: &[String], limit: Limit, now: Timestamp) -> Result<(), String> {
        let Limit::PerHour(most) = limit else { return Ok(()) };
        let hour = now.as_second() / 3_600;
        let mut spent = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if spent.len() + recipients.len() > PAIRS {
            spent.retain(|_, spent| spent.hour == hour);
        }
        if spent.len() + recipients.len() > PAIRS {
            return Err("too many recipients are counted in this hour".into());
        }
        let key = |recipient: &String| (entry.to_owned(), recipient.to_lowercase());
        let used_up =
            recipients.iter().find(|recipient| spent.get(&key(recipient)).is_some_and(|spent| spent.hour == hour && spent.count >= most));
        if let Some(recipient) = used_up {
            return Err(format!("{recipient:?} had {most} exemptions by this entry in this hour"));
        }
        for recipient in recipients {
            let spent = spent.entry(key(recipient)).or_insert(Spent { hour, count: 0 });
            if spent.hour != hour {
                *spent = Spent { hour, count: 0 };
            }
            spent.count += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_an_hour_and_no_more() {
        let quota = Quota::default();
        let (bob, ann) = (vec!["bob@corp.example".to_owned()], vec!["ann@corp.example".to_owned()]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let limit = Limit::PerHour(2);
        assert!(quota.spend("bank", &bob, limit, at(0)).is_ok());
        assert!(quota.spend("bank", &["BOB@corp.example".to_owned()], limit, at(1)).is_ok());
        assert!(quota.spend("bank", &bob, limit, at(2)).is_err());
        assert!(quota.spend("bank", &ann, limit, at(2)).is_ok());
        assert!(quota.spend("shop", &bob, limit, at(2)).is_ok());
        assert!(quota.spend("bank", &bob, Limit::Unlimited, at(2)).is_ok());
        assert!(quota.spend("bank", &bob, limit, at(3_600)).is_ok());
    }
}
