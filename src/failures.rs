//! Failures of what mails need: DNS, the next hop, the disk of the audit. They are counted, told by `/readyz` while they last,
//! and logged at a rate that does not drown the log: the first at once, then one line a minute; and of what comes and goes no more than
//! a few beginnings a minute.

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;

use crate::{
    clock::{self, Stopwatch},
    limits,
    readiness::{Readiness, Topic},
};

/// What fails, in the words of the log.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// While it fails, as in `DNS does not answer`.
    pub failing: &'static str,
    /// When it has stopped failing, as in `DNS answers again`.
    pub again: &'static str,
}

/// The failures of one thing, since it last worked.
#[derive(Debug)]
pub struct Failures {
    topic: Topic,
    words: Words,
    readiness: Arc<Readiness>,
    /// Whether it failed when it was last tried; read for each success, without the lock.
    is_failing: AtomicBool,
    series: Mutex<Series>,
    worked: Counter,
    failed: Counter,
}

/// A series of failures without a success in between.
#[derive(Debug, Default)]
struct Series {
    since: Option<Timestamp>,
    count: u64,
    /// How many have not been logged.
    unsaid: u64,
    /// When a line of this series was logged, so that its end is told as well.
    said: Option<Stopwatch>,
    /// The beginnings that were logged lately; they stay over series.
    begun: Begun,
}

/// The beginnings of series that were logged since a point of time.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    since: Option<Stopwatch>,
    count: u32,
}

impl Begun {
    /// Whether one more may be logged now; counts it if so.
    fn one_more(&mut self) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= limits::FAILURES_LOGGED) {
            *self = Self { since: Some(Stopwatch::start()), count: 0 };
        }
        self.count += 1;
        self.count <= limits::FAILURES_BEGUN
    }
}

impl Failures {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(topic: Topic, words: Words, readiness: Arc<Readiness>) -> Self {
        Self {
            topic,
            words,
            readiness,
            is_failing: AtomicBool::new(false),
            series: Mutex::default(),
            worked: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// Counts a failure; `error` is why, without a secret.
    pub fn failed(&self, error: &dyn Display) {
        self.failed.inc();
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock, as the end is: or a success between the two would leave it told for good.
        self.is_failing.store(true, Ordering::Relaxed);
        let since = *series.since.get_or_insert_with(clock::now);
        series.count += 1;
        series.unsaid += 1;
        let (count, since) = (series.count, clock::rfc3339(since));
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        self.readiness.say(self.topic, format!("{}, {times} since {since}: {error}", self.words.failing));
        let is_due = match series.said {
            None => series.begun.one_more(),
            Some(said) => said.elapsed() >= limits::FAILURES_LOGGED,
        };
        if is_due {
            tracing::warn!(failures = series.unsaid, %since, %error, "{}", self.words.failing);
            (series.said, series.unsaid) = (Some(Stopwatch::start()), 0);
        }
    }

    /// Counts a success, which ends a series of failures. Cheap where there is none.
    pub fn worked(&self) {
        self.worked.inc();
        self.works();
    }

    /// Ends a series of failures: what was made before works, and nothing new was made.
    pub fn works(&self) {
        if !self.is_failing.load(Ordering::Relaxed) {
            return;
        }
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_failing.swap(false, Ordering::Relaxed) {
            return;
        }
        self.readiness.clear(self.topic);
        if series.said.is_some() {
            let since = series.since.map(clock::rfc3339).unwrap_or_default();
            tracing::info!(failures = series.count, %since, "{}", self.words.again);
        }
        // What nobody was told of is told with the next one.
        *series = Series { begun: series.begun, unsaid: series.unsaid, ..Series::default() };
    }

    /// The counters of successes and failures, for the metrics.
    #[must_use]
    pub fn counters(&self) -> (Counter, Counter) {
        (self.worked.clone(), self.failed.clone())
    }
}

/// What mails need, each with its failures.
#[derive(Clone, Debug)]
pub struct Needs {
    /// DNS, which proves senders.
    pub dns: Arc<Failures>,
    /// The next hops, all together.
    pub next_hop: Arc<Failures>,
    /// The disk of the audit.
    pub audit: Arc<Failures>,
    /// Exemptions that take effect, or are withheld.
    pub exemptions: Arc<Failures>,
}

impl Needs {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(readiness: &Arc<Readiness>) -> Self {
        let new = |topic, failing, again| Arc::new(Failures::new(topic, Words { failing, again }, Arc::clone(readiness)));
        Self {
            dns: new(Topic::Dns, "DNS does not answer", "DNS answers again"),
            next_hop: new(Topic::NextHop, "next hop: cannot be reached", "next hop: can be reached again"),
            audit: new(
                Topic::Audit,
                "audit records cannot be written; mails are relayed, exemptions stop",
                "audit records are written again",
            ),
            exemptions: new(Topic::Exemptions, "exemption withheld", "exemptions take effect again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::Means;

    #[test]
    fn what_fails_is_told_until_it_works() {
        let readiness = Arc::new(Readiness::default());
        let words = Words { failing: "DNS does not answer", again: "DNS answers again" };
        let failures = Failures::new(Topic::Dns, words, Arc::clone(&readiness));
        failures.worked();
        assert_eq!(readiness.look(), (Means::Detail, String::new()));
        failures.failed(&"timed out");
        failures.failed(&"connection refused");
        let (means, lines) = readiness.look();
        assert_eq!(means, Means::Detail);
        assert!(lines.starts_with("dns: DNS does not answer, 2 times since 20") && lines.ends_with(": connection refused\n"), "{lines}");
        failures.worked();
        assert_eq!(readiness.look().1, "");
        let (worked, failed) = failures.counters();
        assert_eq!((worked.get(), failed.get()), (2, 2));
    }
}
