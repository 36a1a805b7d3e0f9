//! Refusals before any data: counted at once, and recorded once a minute for each reply code and client network, so that clients
//! cannot fill the disk.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{Pipeline, Shared};
use crate::{
    limits,
    mail::{
        Network, Record,
        record::{self, RefusalRecord, RefusalsRecord},
    },
};

/// The stage of a session at which something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the greeting, or instead of it.
    Connection,
    /// At any command other than those below.
    Command,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Recipient,
    /// At DATA, or after the data.
    Data,
}

impl Stage {
    /// The label in metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Command => "command",
            Self::Mail => "mail",
            Self::Recipient => "rcpt",
            Self::Data => "data",
        }
    }
}

/// Who refused: whose reply it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedBy {
    /// The hop, by a reply of its own.
    Hop,
    /// The next hop, by a reply that was relayed.
    NextHop,
}

impl RefusedBy {
    /// The label in metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Hop => "hop",
            Self::NextHop => "next_hop",
        }
    }
}

/// The refusals since the last summary records, by code and network.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(u16, String), u64>>);

impl Refusals {
    /// Counts one refusal. Past [`limits::REFUSED_NETWORKS`] networks in one minute the rest are `others`.
    fn count(&self, code: u16, client: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (code, Network::around(client).to_string());
        if counts.len() >= limits::REFUSED_NETWORKS && !counts.contains_key(&key) {
            "others".clone_into(&mut key.1);
        }
        *counts.entry(key).or_default() += 1;
    }

    /// Takes all counts, as records, and starts again at nothing.
    fn take(&self, now: Timestamp) -> Vec<RefusalsRecord> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut records: Vec<RefusalsRecord> = counts
            .into_iter()
            .map(|((code, network), count)| RefusalsRecord { v: record::VERSION, time: now, code: code.to_string(), network, count })
            .collect();
        records.sort_by(|one, other| (&one.code, &one.network).cmp(&(&other.code, &other.network)));
        records
    }
}

impl Shared {
    /// Counts a refusal before any data, in metrics and for the summary record.
    pub fn refused(&self, by: RefusedBy, stage: Stage, code: u16, client: IpAddr) {
        self.metrics.refused(by.code(), stage.code(), code);
        self.refusals.count(code, client);
    }

    /// Writes the summary records of the minute that is over; called once a minute.
    pub fn summarise_refusals(&self, now: Timestamp) {
        for refusals in self.refusals.take(now) {
            if let Some(audit) = &self.audit {
                audit.append_now(&Record::Refusals(refusals));
            }
        }
    }
}

impl Pipeline {
    /// Writes the record of a mail to these paths that the hop itself refused after its data, and counts it.
    pub fn refused_mail(&self, mut record: RefusalRecord, recipients: &[String], code: u16) {
        self.config.pseudonyms.mask(recipients).refusal(&mut record);
        self.shared.metrics.refused(RefusedBy::Hop.code(), Stage::Data.code(), code);
        tracing::info!(
            id = record.id,
            from = record.from,
            recipients = record.recipients,
            size = record.size,
            delivery = record.delivery.code(),
            reply = record.reply,
            "mail refused"
        );
        if let Some(audit) = &self.shared.audit {
            audit.append_now(&Record::Refusal(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_counted_once_a_minute_and_there_is_an_end_to_them() {
        let refusals = Refusals::default();
        for host in 0..200 {
            refusals.count(554, IpAddr::from([192, 0, 2, host]));
        }
        refusals.count(550, IpAddr::from([192, 0, 2, 1]));
        let said = |records: Vec<RefusalsRecord>| -> Vec<String> {
            records.iter().map(|record| format!("{} {} {}", record.code, record.network, record.count)).collect()
        };
        assert_eq!(said(refusals.take(Timestamp::UNIX_EPOCH)), ["550 192.0.2.0/24 1", "554 192.0.2.0/24 200"]);
        assert!(refusals.take(Timestamp::UNIX_EPOCH).is_empty());
        for number in 0..=u16::MAX {
            let [high, low] = number.to_be_bytes();
            refusals.count(421, IpAddr::from([10, high, low, 1]));
        }
        let records = refusals.take(Timestamp::UNIX_EPOCH);
        assert_eq!(records.len(), limits::REFUSED_NETWORKS + 1);
        assert_eq!(records.iter().map(|record| record.count).sum::<u64>(), 65_536);
        assert!(records.iter().any(|record| record.network == "others"));
    }
}
