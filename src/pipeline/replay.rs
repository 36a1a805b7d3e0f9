//! Which signed mails were exempted that could be sent again to somebody else.
//!
//! A mail is known by the hash of its signature, not by its Message-ID, which a signature may leave out. Where the covered To
//! names the reader, sending it again reaches nobody else; where the signature covers no To, it counts once.
//!
//! Each entry has a table of its own, so that no stranger's mails push out another entry's; each replica remembers for itself
//! and forgets at a restart.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    allowlist::{Decision, Entry, reader::Condition},
    limits,
};

/// Signatures that were exempted, by entry.
#[derive(Debug, Default)]
pub(super) struct Replay(Mutex<HashMap<String, HashMap<[u8; 32], Exempted>>>);

#[derive(Debug)]
struct Exempted {
    until: i64,
    recipients: HashSet<String>,
}

impl Replay {
    /// Remembers an exemption.
    ///
    /// # Errors
    /// Says that the same signature was exempted for somebody else, where that counts.
    pub(super) fn note(&self, entry: &Entry, decision: &Decision, recipients: &[String], now: Timestamp) -> Result<(), &'static str> {
        if decision.condition != Some(Condition::UnsignedTo) {
            return Ok(());
        }
        if decision.signatures.is_empty() {
            return Err("there is no signature to know the mail by");
        }
        let recipients: HashSet<String> = recipients.iter().map(|recipient| recipient.to_lowercase()).collect();
        let now = now.as_second();
        // Past max_age the signature is refused for its age.
        let life = i64::try_from((entry.max_age + MARGIN).as_secs()).unwrap_or(i64::MAX);
        let mut tables = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let table = tables.entry(entry.name.clone()).or_default();
        let live = |id: &[u8; 32]| table.get(id).filter(|before| before.until > now);
        // Sent again to the same reader: a reply was lost on the way, or the upstream tries again.
        if decision.signatures.iter().filter_map(live).any(|before| before.recipients != recipients) {
            return Err("the same signature was exempted for another recipient already");
        }
        if table.len() + decision.signatures.len() > limits::REPLAYS {
            table.retain(|_, before| before.until > now);
        }
        if table.len() + decision.signatures.len() > limits::REPLAYS {
            return Err("too many of the entry's mails are remembered");
        }
        for id in &decision.signatures {
            table.insert(*id, Exempted { until: now.saturating_add(life), recipients: recipients.clone() });
        }
        Ok(())
    }
}

/// What clocks may differ by.
const MARGIN: Duration = Duration::from_mins(10);
