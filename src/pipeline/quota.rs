//! The quota: how many exemptions each reader had in this hour (UTC), by entry.
//!
//! Each entry has a table of its own: only mails that it exempts are counted in it, so no other sender can fill it. Each replica
//! counts for itself. A restart begins at nothing, in the reader's favour; where a table is full, the mail passes, in the
//! scanner's favour.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::{allowlist::entry::Limit, limits};

/// The counts, by entry and reader.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<String, HashMap<String, Spent>>>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    hour: i64,
    count: u32,
}

/// What one exemption has taken; given back where the mail was not delivered.
#[derive(Debug)]
pub(super) struct Spending {
    entry: String,
    hour: i64,
    counts: HashMap<String, u32>,
}

impl Quota {
    /// Takes one exemption for each reader, or none at all. A mail to many addresses of one reader takes as many.
    ///
    /// # Errors
    /// Names the reader whose quota is used up.
    pub(super) fn reserve(&self, entry: &str, readers: &[String], limit: Limit, now: Timestamp) -> Result<Spending, String> {
        let hour = now.as_second().div_euclid(3_600);
        let Limit::PerHour(most) = limit else { return Ok(Spending { entry: String::new(), hour, counts: HashMap::new() }) };
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables.entry(entry.to_owned()).or_default();
        if table.len() + readers.len() > limits::QUOTA_READERS {
            table.retain(|_, spent| spent.hour == hour);
        }
        if table.len() + readers.len() > limits::QUOTA_READERS {
            return Err(format!("more than {} readers are counted for this entry in this hour", limits::QUOTA_READERS));
        }
        let mut counts: HashMap<String, u32> = HashMap::new();
        for reader in readers {
            *counts.entry(reader.clone()).or_default() += 1;
        }
        let spent = |reader: &str| table.get(reader).filter(|spent| spent.hour == hour).map_or(0, |spent| spent.count);
        if let Some((reader, _)) = counts.iter().find(|(reader, count)| spent(reader).saturating_add(**count) > most) {
            return Err(format!("this entry exempts {most} for a reader in an hour, and {reader:?} had {} in this one", spent(reader)));
        }
        for (reader, count) in &counts {
            let spent = table.entry(reader.clone()).or_insert(Spent { hour, count: 0 });
            if spent.hour != hour {
                *spent = Spent { hour, count: 0 };
            }
            spent.count = spent.count.saturating_add(*count);
        }
        Ok(Spending { entry: entry.to_owned(), hour, counts })
    }

    /// Gives back what one mail has taken, if its hour is still counted.
    pub(super) fn give_back(&self, spending: Spending) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = tables.get_mut(&spending.entry) else { return };
        for (reader, count) in spending.counts {
            if let Some(spent) = table.get_mut(&reader).filter(|spent| spent.hour == spending.hour) {
                spent.count = spent.count.saturating_sub(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn to(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn so_many_in_an_hour_and_no_more() {
        let quota = Quota::default();
        let (bob, ann) = (to(&["bob@corp.example"]), to(&["ann@corp.example"]));
        let limit = Limit::PerHour(2);
        assert!(quota.reserve("bank", &bob, limit, at(0)).is_ok());
        assert!(quota.reserve("bank", &bob, limit, at(1)).is_ok());
        assert!(quota.reserve("bank", &bob, limit, at(2)).is_err());
        assert!(quota.reserve("bank", &ann, limit, at(2)).is_ok());
        assert!(quota.reserve("shop", &bob, limit, at(2)).is_ok());
        assert!(quota.reserve("bank", &bob, Limit::Unlimited, at(2)).is_ok());
        assert!(quota.reserve("bank", &bob, limit, at(3_600)).is_ok());
    }

    #[test]
    fn one_mail_to_many_addresses_of_one_reader_spends_as_many() {
        let quota = Quota::default();
        let limit = Limit::PerHour(2);
        assert!(quota.reserve("bank", &to(&["bob@corp.example"; 3]), limit, at(0)).is_err());
        assert!(quota.reserve("bank", &to(&["bob@corp.example"; 2]), limit, at(0)).is_ok());
        assert!(quota.reserve("bank", &to(&["bob@corp.example"]), limit, at(0)).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_spent_again() {
        let quota = Quota::default();
        let (bob, limit) = (to(&["bob@corp.example"]), Limit::PerHour(1));
        let spending = quota.reserve("bank", &bob, limit, at(0)).unwrap();
        assert!(quota.reserve("bank", &bob, limit, at(1)).is_err());
        quota.give_back(spending);
        let spending = quota.reserve("bank", &bob, limit, at(2)).unwrap();
        // Given back in the next hour: the new hour's count stays.
        quota.reserve("bank", &bob, limit, at(3_600)).unwrap();
        quota.give_back(spending);
        assert!(quota.reserve("bank", &bob, limit, at(3_601)).is_err());
    }

    #[test]
    fn a_full_table_is_the_entrys_own() {
        let quota = Quota::default();
        let limit = Limit::PerHour(1);
        for number in 0..limits::QUOTA_READERS {
            assert!(quota.reserve("bank", &[format!("r{number}@corp.example")], limit, at(0)).is_ok());
        }
        assert!(quota.reserve("bank", &to(&["bob@corp.example"]), limit, at(0)).is_err());
        assert!(quota.reserve("shop", &to(&["bob@corp.example"]), limit, at(0)).is_ok());
        assert!(quota.reserve("bank", &to(&["bob@corp.example"]), limit, at(3_600)).is_ok());
    }
}
