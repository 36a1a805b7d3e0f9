//! What stands in the way of the service: `/readyz` and the status line of systemd.
//!
//! A closed list of topics, each with a sentence while there is something to say. The topic alone decides whether mails can be
//! taken all the same: what only takes exemptions away, as one typo in an entry or an audit disk that is full, is a detail,
//! because all replicas have it, and a load balancer would take all of them out.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::printable::printable;

/// What there may be something to say about. A topic that is new is a line here, and its code below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// No next hop is set: no mail can be taken.
    NextHopUnset,
    /// Next hops that do not answer. Mails are refused for now, and it is the upstream that tries again.
    NextHop,
    /// Files of the allowlist that are left out.
    AllowFiles,
    /// There is no entry, so that all mails pass untouched.
    NoEntries,
    /// A reload that was refused: the configuration from before is in force.
    Reload,
    /// What was written and takes effect at the next start.
    Restart,
    /// Records that cannot be written.
    Audit,
    /// Exemptions that are withheld.
    Exemptions,
    /// DNS that does not answer.
    Dns,
    /// Certificates and keys that have ended or are about to.
    Certificates,
}

impl Topic {
    /// The word before the sentence.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NextHopUnset | Self::NextHop => "next_hop",
            Self::AllowFiles => "allow_files",
            Self::NoEntries => "entries",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Audit => "audit",
            Self::Exemptions => "exemptions",
            Self::Dns => "dns",
            Self::Certificates => "certificates",
        }
    }

    /// What it means for mails.
    #[must_use]
    pub const fn means(self) -> Means {
        match self {
            Self::NextHopUnset => Means::NoMails,
            Self::NextHop
            | Self::AllowFiles
            | Self::NoEntries
            | Self::Reload
            | Self::Restart
            | Self::Audit
            | Self::Exemptions
            | Self::Dns
            | Self::Certificates => Means::Detail,
        }
    }
}

/// What a topic means for mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// No mail can be taken: `/readyz` is 503.
    NoMails,
    /// Mails are taken: `/readyz` is 200, and says it.
    Detail,
}

/// What there is to say now.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<Topic, String>>);

impl Readiness {
    /// Says a sentence about a topic, in place of the one from before.
    pub fn say(&self, topic: Topic, sentence: impl Into<String>) {
        self.topics().insert(topic, sentence.into());
    }

    /// There is nothing to say about a topic any more.
    pub fn clear(&self, topic: Topic) {
        self.topics().remove(&topic);
    }

    /// Says a sentence where there is one, and clears the topic where there is none.
    pub fn set(&self, topic: Topic, sentence: Option<String>) {
        match sentence {
            Some(sentence) => self.say(topic, sentence),
            None => self.clear(topic),
        }
    }

    /// What there is to say, topic by topic.
    #[must_use]
    pub fn sentences(&self) -> Vec<(Topic, String)> {
        self.topics().iter().map(|(topic, sentence)| (*topic, sentence.clone())).collect()
    }

    /// Whether mails can be taken, and all that there is to say, a line each.
    #[must_use]
    pub fn look(&self) -> (Means, String) {
        let topics = self.topics();
        let means = if topics.keys().any(|topic| topic.means() == Means::NoMails) { Means::NoMails } else { Means::Detail };
        let mut lines = String::new();
        for (topic, sentence) in topics.iter() {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{}: {}", topic.code(), printable(&sentence.replace(['\r', '\n'], " ")));
        }
        (means, lines)
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Topic, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stops_mails_makes_it_unready() {
        let readiness = Readiness::default();
        assert_eq!(readiness.look(), (Means::Detail, String::new()));
        readiness.say(Topic::AllowFiles, "1 file is left out:\n  one.toml");
        readiness.say(Topic::Audit, "the disk is full");
        assert_eq!(readiness.look(), (Means::Detail, "allow_files: 1 file is left out:   one.toml\naudit: the disk is full\n".into()));
        readiness.say(Topic::AllowFiles, "a\u{1b}[31m\u{202e}.toml");
        assert!(readiness.look().1.starts_with("allow_files: a\\u{1b}[31m\\u{202e}.toml\n"));
        readiness.say(Topic::NextHopUnset, "none is set");
        assert_eq!(readiness.look().0, Means::NoMails);
        readiness.set(Topic::NextHopUnset, None);
        readiness.clear(Topic::Audit);
        readiness.set(Topic::AllowFiles, Some("2 files are left out".into()));
        assert_eq!(readiness.look(), (Means::Detail, "allow_files: 2 files are left out\n".into()));
    }
}
