//! How many exemptions a reader has had in this hour.
//!
//! Each entry has a table of its own: only mails that it exempts are counted in it, so no stranger can fill it. Each replica
//! counts for itself. What is forgotten at a restart errs towards the reader; what cannot be counted, because too many are
//! counted already, errs towards the scanner.

use std::{collections::HashMap, sync::Mutex};

use jiff::Timestamp;

use crate::{allowlist::entry::Limit, limits, message::Mailbox};

/// Counts exemptions by entry and reader.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<String, HashMap<String, Spent>>>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    hour: i64,
    count: u32,
}

impl Quota {
    /// Counts one exemption for each recipient, or none.
    ///
    /// # Errors
    /// Names the recipient whose share is used up.
    pub(super) fn spend(&self, entry: &str, recipients: &[String], limit: Limit, now: Timestamp) -> Result<(), String> {
        let Limit::PerHour(most) = limit else { return Ok(()) };
        let hour = now.as_second() / 3_600;
        let mut tables = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let table = tables.entry(entry.to_owned()).or_default();
        if table.len() + recipients.len() > limits::QUOTA_READERS {
            table.retain(|_, spent| spent.hour == hour);
        }
        if table.len() + recipients.len() > limits::QUOTA_READERS {
            return Err(format!("more than {} readers are counted for this entry in this hour", limits::QUOTA_READERS));
        }
        let readers: Vec<String> = recipients.iter().map(|recipient| reader(recipient)).collect();
        // One mail to many addresses of one reader spends as many.
        let mut wanted: HashMap<&str, u32> = HashMap::new();
        for reader in &readers {
            *wanted.entry(reader).or_default() += 1;
        }
        let spent = |reader: &str| table.get(reader).filter(|spent| spent.hour == hour).map_or(0, |spent| spent.count);
        if let Some((reader, _)) = wanted.iter().find(|(reader, count)| spent(reader).saturating_add(**count) > most) {
            return Err(format!("{reader:?} had {} exemptions by this entry in this hour, and the limit is {most}", spent(reader)));
        }
        for (reader, count) in wanted {
            let spent = table.entry(reader.to_owned()).or_insert(Spent { hour, count: 0 });
            if spent.hour != hour {
                *spent = Spent { hour, count: 0 };
            }
            spent.count = spent.count.saturating_add(count);
        }
        Ok(())
    }
}

/// The one person behind an address and its details: a thousand plus-addresses are one reader.
fn reader(recipient: &str) -> String {
    Mailbox::parse(recipient).map_or_else(|| recipient.to_lowercase(), |mailbox| mailbox.without_detail().to_string())
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
        assert!(quota.spend("bank", &bob, limit, at(0)).is_ok());
        assert!(quota.spend("bank", &to(&["BOB+x@corp.example"]), limit, at(1)).is_ok());
        assert!(quota.spend("bank", &bob, limit, at(2)).is_err());
        assert!(quota.spend("bank", &ann, limit, at(2)).is_ok());
        assert!(quota.spend("shop", &bob, limit, at(2)).is_ok());
        assert!(quota.spend("bank", &bob, Limit::Unlimited, at(2)).is_ok());
        assert!(quota.spend("bank", &bob, limit, at(3_600)).is_ok());
    }

    #[test]
    fn one_mail_to_many_spends_as_many() {
        let quota = Quota::default();
        let limit = Limit::PerHour(2);
        assert!(quota.spend("bank", &to(&["bob+1@corp.example", "bob+2@corp.example", "bob+3@corp.example"]), limit, at(0)).is_err());
        assert!(quota.spend("bank", &to(&["bob+1@corp.example", "bob+2@corp.example"]), limit, at(0)).is_ok());
        assert!(quota.spend("bank", &to(&["bob@corp.example"]), limit, at(0)).is_err());
    }

    #[test]
    fn a_full_table_is_the_entrys_own() {
        let quota = Quota::default();
        let limit = Limit::PerHour(1);
        for number in 0..limits::QUOTA_READERS {
            assert!(quota.spend("bank", &[format!("r{number}@corp.example")], limit, at(0)).is_ok());
        }
        assert!(quota.spend("bank", &to(&["bob@corp.example"]), limit, at(0)).is_err());
        assert!(quota.spend("shop", &to(&["bob@corp.example"]), limit, at(0)).is_ok());
        assert!(quota.spend("bank", &to(&["bob@corp.example"]), limit, at(3_600)).is_ok());
    }
}
