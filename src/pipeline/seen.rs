//! Which mails were exempted, and for whom: a genuine mail that somebody sends again, to another victim, is not exempted
//! a second time.
//!
//! Each replica remembers for itself and forgets at a restart; the signed To or Cc is what holds in any case.

use std::{collections::HashMap, sync::Mutex};

use aws_lc_rs::digest;
use jiff::Timestamp;

use crate::message::Message;

/// Mails that were exempted, by the hash of Message-ID and body.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<[u8; 32], Exempted>>);

#[derive(Debug)]
struct Exempted {
    at: i64,
    recipients: Vec<String>,
}

/// Mails that are remembered at once: some 20 MiB.
const MAILS: usize = 100_000;
/// Seconds for which they are: as long as a signature counts by default, twice.
const LIFE: i64 = 48 * 3_600;

impl Seen {
    /// Remembers an exemption, or says that the same mail was exempted for somebody else.
    pub(super) fn note(&self, message: &Message<'_>, recipients: &[String], now: Timestamp) -> Result<(), &'static str> {
        let recipients: Vec<String> = recipients.iter().map(|recipient| recipient.to_lowercase()).collect();
        let (key, now) = (fingerprint(message), now.as_second());
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(before) = seen.get(&key).filter(|before| now - before.at < LIFE) {
            // Sent again to the same people: a reply was lost on the way, or the upstream tries again.
            let same = recipients.iter().all(|recipient| before.recipients.contains(recipient));
            return if same { Ok(()) } else { Err("the same mail was exempted for another recipient already") };
        }
        if seen.len() >= MAILS {
            seen.retain(|_, before| now - before.at < LIFE);
        }
        if seen.len() >= MAILS {
            return Err("too many mails are remembered");
        }
        seen.insert(key, Exempted { at: now, recipients });
        Ok(())
    }
}

fn fingerprint(message: &Message<'_>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&message.headers().first("Message-ID").unwrap_or_default());
    context.update(b"\r\n");
    context.update(message.raw().get(message.headers().body()..).unwrap_or_default());
    let mut key = [0; 32];
    for (octet, from) in key.iter_mut().zip(context.finish().as_ref()) {
        *octet = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn again_for_the_same_people_only() {
        let seen = Seen::default();
        let (one, two) = (Message::read(b"Message-ID: <1@a>\r\n\r\nbody\r\n"), Message::read(b"Message-ID: <2@a>\r\n\r\nbody\r\n"));
        let at = |second| Timestamp::from_second(second).unwrap();
        let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(seen.note(&one, &to(&["bob@corp.example", "ann@corp.example"]), at(0)).is_ok());
        assert!(seen.note(&one, &to(&["BOB@corp.example"]), at(1)).is_ok());
        assert!(seen.note(&one, &to(&["eve@corp.example"]), at(2)).is_err());
        assert!(seen.note(&one, &to(&["bob@corp.example", "eve@corp.example"]), at(2)).is_err());
        assert!(seen.note(&two, &to(&["eve@corp.example"]), at(2)).is_ok());
        assert!(seen.note(&one, &to(&["eve@corp.example"]), at(LIFE)).is_ok());
    }
}
