//! Every counter once: what the service did since it started, for the admin page's `/metrics`.
//!
//! Names and labels are a contract (docs/operations.md). A label's values come from closed vocabularies or from the
//! allowlist, never from a mail, so that nobody outside can make this grow.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

/// What was counted.
pub struct Metrics {
    registry: Registry,
    mails: Family<Mail, Counter>,
    stopped: Family<Check, Counter>,
    entries: Family<Entry, Counter>,
    forged: Counter,
    deliveries: Family<Delivery, Counter>,
    seconds: Histogram,
    sessions: Family<Protocol, Counter>,
    open: Family<Protocol, Gauge>,
    audit_failures: Counter,
    clicks: Family<Click, Counter>,
    reloads: Family<Reload, Counter>,
    listed: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mail {
    decision: &'static str,
    observed: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    check: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Entry {
    entry: String,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    delivery: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Click {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

/// A mail that has been dealt with, as it is counted. All texts are codes of closed vocabularies but the entry's name.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// `act`, `pass` or `near_miss`.
    pub decision: &'static str,
    /// Whether it was only observed.
    pub observed: bool,
    /// The check that stopped it, where one did.
    pub stopped_by: Option<&'static str>,
    /// The entry that acted, or nearly did.
    pub entry: Option<&'a str>,
    /// Header fields removed from it that only the hop may write.
    pub forged: usize,
    /// What became of it.
    pub delivery: &'static str,
    /// From the end of its data to the reply, in milliseconds.
    pub latency_ms: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            mails: Family::default(),
            stopped: Family::default(),
            entries: Family::default(),
            forged: Counter::default(),
            deliveries: Family::default(),
            seconds: Histogram::new(SECONDS),
            sessions: Family::default(),
            open: Family::default(),
            audit_failures: Counter::default(),
            clicks: Family::default(),
            reloads: Family::default(),
            listed: Gauge::default(),
        };
        metrics.registry = metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("firstclick");
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("mails", "Mails by decision, and whether the decision was only observed", self.mails.clone());
        registry.register("stopped", "Mails of listed senders and others by the check that let no exemption be", self.stopped.clone());
        registry.register("entry_mails", "Mails on which an entry acted, or nearly did", self.entries.clone());
        registry.register("forged_headers_removed", "Header fields removed that only the hop may write", self.forged.clone());
        registry.register("deliveries", "Mails by what the next hop said", self.deliveries.clone());
        registry.register("mail_seconds", "From the end of a mail's data to the reply", self.seconds.clone());
        registry.register("sessions", "Sessions taken, by protocol", self.sessions.clone());
        registry.register("sessions_open", "Sessions that are open, by protocol", self.open.clone());
        registry.register("audit_failures", "Exemptions withheld because they could not be put on record", self.audit_failures.clone());
        registry.register("guard_clicks", "What was done with guard links", self.clicks.clone());
        registry.register("reloads", "Readings of the configuration, by whether it was taken", self.reloads.clone());
        registry.register("allowlist_entries", "Entries in force", self.listed.clone());
        registry
    }

    /// Counts a mail that has been dealt with.
    pub fn mail(&self, mail: &Counted<'_>) {
        let observed = if mail.observed { "true" } else { "false" };
        self.mails.get_or_create(&Mail { decision: mail.decision, observed }).inc();
        if let Some(check) = mail.stopped_by {
            self.stopped.get_or_create(&Check { check }).inc();
        }
        if let Some(entry) = mail.entry {
            self.entries.get_or_create(&Entry { entry: entry.to_owned(), decision: mail.decision }).inc();
        }
        self.forged.inc_by(mail.forged as u64);
        self.deliveries.get_or_create(&Delivery { delivery: mail.delivery }).inc();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one mail")]
        self.seconds.observe(mail.latency_ms as f64 / 1_000.0);
    }

    /// Counts a session that starts of a protocol, until what is returned is dropped.
    #[must_use]
    pub fn session(&self, protocol: &'static str) -> OpenSession {
        self.sessions.get_or_create(&Protocol { protocol }).inc();
        let open = self.open.get_or_create_owned(&Protocol { protocol });
        open.inc();
        OpenSession(open)
    }

    /// Counts an exemption that could not be put on record.
    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// Counts what was done with a guard link.
    pub fn click(&self, kind: &'static str) {
        self.clicks.get_or_create(&Click { kind }).inc();
    }

    /// Counts a reading of the configuration; `entries` are those in force now, none where it was not taken.
    pub fn reload(&self, entries: Option<usize>) {
        let result = if entries.is_some() { "taken" } else { "refused" };
        self.reloads.get_or_create(&Reload { result }).inc();
        if let Some(entries) = entries {
            self.entries_in_force(entries);
        }
    }

    /// How many entries the allowlist has.
    pub fn entries_in_force(&self, entries: usize) {
        self.listed.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// All of it in the text format of Prometheus and `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail; half a page would be told by its missing end mark.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A session that is counted as open until this is dropped.
#[derive(Debug)]
pub struct OpenSession(Gauge);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Bounds of the histogram in seconds: a hop's own time is below the first, a slow scanner's in the last.
const SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
