//! The metrics: counts since the start of the service, for the admin page's `/metrics`.
//!
//! Names and labels are a contract (docs/operations.md). A label's values come from closed vocabularies or from the
//! allowlist, never from a mail, so that nobody outside can make this grow.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use jiff::Timestamp;

use crate::{
    failures::Needs,
    log,
    mail::{
        self, Outcome, Reason, VerdictKind,
        record::{ClickKind, MailRecord},
    },
};

/// The counters, gauges and histograms of the service.
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
    panics: Family<Protocol, Counter>,
    refusals: Family<Refusal, Counter>,
    audit_failures: Counter,
    clicks: Family<Click, Counter>,
    reloads: Family<Reload, Counter>,
    listed: Gauge,
    left_out: Gauge,
    mode: Family<Mode, Gauge>,
    expiries: Family<Expiring, Gauge>,
    certificates: Family<Certificate, Gauge>,
    readings: Mutex<Vec<Reading>>,
    digests: Family<DigestMail, Counter>,
    pooled: Family<PoolEvent, Counter>,
    parked: Gauge,
}

/// What happens to connections to next hops that may wait for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    /// One was parked.
    Parked,
    /// A session took one that waited.
    Reused,
    /// A new one took the place of one that was lost, before a mail.
    Replaced,
    /// One was closed: its time was over, its next hop had closed it, or it stood in the way.
    Closed,
    /// One stayed with its session, because as many waited as may.
    Full,
}

impl Pooled {
    const ALL: [Self; 5] = [Self::Parked, Self::Reused, Self::Replaced, Self::Closed, Self::Full];

    const fn code(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Reused => "reused",
            Self::Replaced => "replaced",
            Self::Closed => "closed",
            Self::Full => "full",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolEvent {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DigestMail {
    result: &'static str,
}

/// A gauge that is read when it is asked for.
struct Reading {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> usize + Send + Sync>,
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
struct Refusal {
    by: &'static str,
    stage: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Click {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Expiring {
    entry: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    key: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::showing(&Needs::new(&Arc::default()), |_| {})
    }
}

impl Metrics {
    /// Metrics that show what failed of what mails need, and those of a module that counts for itself.
    #[must_use]
    pub fn showing(needs: &Needs, more: impl FnOnce(&mut Registry)) -> Self {
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
            panics: Family::default(),
            refusals: Family::default(),
            audit_failures: Counter::default(),
            clicks: Family::default(),
            reloads: Family::default(),
            listed: Gauge::default(),
            mode: Family::default(),
            expiries: Family::default(),
            certificates: Family::default(),
            readings: Mutex::default(),
            digests: Family::default(),
            pooled: Family::default(),
            parked: Gauge::default(),
            left_out: Gauge::default(),
        };
        metrics.registry = metrics.register(needs);
        metrics.begin();
        more(&mut metrics.registry);
        metrics
    }

    /// Creates the series of closed vocabularies at 0, so that the first event is a rise that an alert sees.
    fn begin(&self) {
        for decision in VerdictKind::ALL {
            for observed in ["true", "false"] {
                self.mails.get_or_create(&Mail { decision: decision.code(), observed }).inc_by(0);
            }
        }
        for delivery in mail::Delivery::ALL {
            self.deliveries.get_or_create(&Delivery { delivery: delivery.code() }).inc_by(0);
        }
        for kind in ClickKind::ALL {
            self.clicks.get_or_create(&Click { kind: kind.code() }).inc_by(0);
        }
        for protocol in PROTOCOLS {
            self.panics.get_or_create(&Protocol { protocol }).inc_by(0);
            self.sessions.get_or_create(&Protocol { protocol }).inc_by(0);
            self.open.get_or_create(&Protocol { protocol }).inc_by(0);
        }
        for result in ["taken", "refused"] {
            self.reloads.get_or_create(&Reload { result }).inc_by(0);
        }
        for result in ["taken", "failed"] {
            self.digests.get_or_create(&DigestMail { result }).inc_by(0);
        }
        for event in Pooled::ALL {
            self.pooled.get_or_create(&PoolEvent { event: event.code() }).inc_by(0);
        }
        for check in Reason::ALL {
            self.stopped.get_or_create(&Check { check: check.code() }).inc_by(0);
        }
    }

    fn register(&self, needs: &Needs) -> Registry {
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
        registry.register("panics", "Sessions that ended because the program has a fault, by protocol", self.panics.clone());
        registry.register(
            "refusals",
            "Replies of 4xx and 5xx that are no mail's outcome, by whose they were and where",
            self.refusals.clone(),
        );
        registry.register("audit_failures", "Exemptions withheld because they could not be put on record", self.audit_failures.clone());
        registry.register("guard_clicks", "What was done with guard links", self.clicks.clone());
        registry.register("reloads", "Readings of the configuration, by whether it was taken", self.reloads.clone());
        let ((answered, unanswered), (connected, unreached)) = (needs.dns.counters(), needs.next_hop.counters());
        registry.register("dns_answers", "Look-ups in DNS that were answered, also with no such name", answered);
        registry.register("dns_failures", "Look-ups in DNS without an answer in time, or with one that cannot be used", unanswered);
        registry.register("next_hop_connections", "Sessions with a next hop that began", connected);
        registry.register("next_hop_failures", "Next hops that could not be resolved or reached, or refused the session", unreached);
        registry.register("next_hop_pool", "What happens to connections to next hops that wait for a session", self.pooled.clone());
        registry.register("next_hop_parked", "Connections to next hops that wait for a session", self.parked.clone());
        registry.register("audit_write_failures", "Writes that the audit's disk refused", needs.audit.counters().1);
        registry.register(
            "exemptions_withheld",
            "Exemptions that could not be recorded, or whose links could not be stored",
            needs.exemptions.counters().1,
        );
        registry.register("mode", "1 for the mode in force, 0 for the other", self.mode.clone());
        registry.register("entry_expires_timestamp_seconds", "When an entry ends; of those that do", self.expiries.clone());
        registry.register(
            "certificate_expires_timestamp_seconds",
            "When a certificate ends, by the key that names it",
            self.certificates.clone(),
        );
        registry.register("digests", "Digests by whether the mail server took them", self.digests.clone());
        registry.register("log_lines_dropped", "Log lines that came faster than they were read, or could not be written", log::dropped());
        registry.register("allowlist_entries", "Entries in force", self.listed.clone());
        registry.register("allow_files_broken", "Files of the allowlist that are left out for a mistake", self.left_out.clone());
        registry
    }

    /// Counts a mail with its outcome. Labels are codes of closed vocabularies and the names of entries.
    pub fn mail(&self, mail: &MailRecord, outcome: &Outcome) {
        let decision = mail.decision.known().map_or("", VerdictKind::code);
        let observed = if mail.observed { "true" } else { "false" };
        self.mails.get_or_create(&Mail { decision, observed }).inc();
        if let Some(check) = mail.stopped_by().and_then(|reason| reason.check.known()) {
            self.stopped.get_or_create(&Check { check: check.code() }).inc();
        }
        if let Some(entry) = &mail.entry {
            self.entries.get_or_create(&Entry { entry: entry.clone(), decision }).inc();
        }
        self.forged.inc_by(mail.removed as u64);
        let delivery = outcome.delivery.known().map_or("", mail::Delivery::code);
        self.deliveries.get_or_create(&Delivery { delivery }).inc();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one mail")]
        self.seconds.observe(outcome.latency_ms as f64 / 1_000.0);
    }

    /// Counts a refusal that is no mail's outcome: the hop's own, or the next hop's before any data.
    pub fn refused(&self, by: &'static str, stage: &'static str, code: u16) {
        self.refusals.get_or_create(&Refusal { by, stage, code }).inc();
    }

    /// Counts a session of a protocol, as open until what is returned is dropped.
    #[must_use]
    pub fn session(&self, protocol: &'static str) -> OpenSession {
        self.sessions.get_or_create(&Protocol { protocol }).inc();
        let open = self.open.get_or_create_owned(&Protocol { protocol });
        open.inc();
        OpenSession(open)
    }

    /// Counts a session of a protocol that panicked.
    pub fn panicked(&self, protocol: &'static str) {
        self.panics.get_or_create(&Protocol { protocol }).inc();
    }

    /// Counts what happens to a connection to a next hop.
    pub fn pooled(&self, event: Pooled) {
        self.pooled.get_or_create(&PoolEvent { event: event.code() }).inc();
    }

    /// Counts a connection that waits from now on.
    pub fn parked(&self) {
        self.pooled(Pooled::Parked);
        self.parked.inc();
    }

    /// Counts connections that wait no more.
    pub fn unparked(&self, connections: usize) {
        self.parked.dec_by(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// Counts an exemption that could not be recorded.
    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// Counts what was done with a guard link.
    pub fn click(&self, kind: ClickKind) {
        self.clicks.get_or_create(&Click { kind: kind.code() }).inc();
    }

    /// Counts a reading of the configuration; `entries` is their number now, none where the configuration was not put in force.
    pub fn reload(&self, entries: Option<usize>) {
        let result = if entries.is_some() { "taken" } else { "refused" };
        self.reloads.get_or_create(&Reload { result }).inc();
        if let Some(entries) = entries {
            self.entries_in_force(entries);
        }
    }

    /// Counts a digest that the mail server took.
    pub fn digest_taken(&self) {
        self.digests.get_or_create(&DigestMail { result: "taken" }).inc();
    }

    /// Counts an attempt to send a digest that failed.
    pub fn digest_failed(&self) {
        self.digests.get_or_create(&DigestMail { result: "failed" }).inc();
    }

    /// Exemptions that could not be recorded, since the start.
    #[must_use]
    pub fn exemptions_unrecorded(&self) -> u64 {
        self.audit_failures.get()
    }

    /// Sets the number of entries of the allowlist.
    pub fn entries_in_force(&self, entries: usize) {
        self.listed.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Shows a gauge that is read whenever the metrics are asked for. Each name once.
    pub fn reads(&self, name: &'static str, help: &'static str, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).push(Reading { name, help, read: Box::new(read) });
    }

    /// Shows the mode in force by its name; `other` is the name of the one that is not.
    pub fn mode_is(&self, mode: &'static str, other: &'static str) {
        self.mode.get_or_create(&Mode { mode }).set(1);
        self.mode.get_or_create(&Mode { mode: other }).set(0);
    }

    /// Shows when entries end, in place of those from before.
    pub fn entries_expire(&self, entries: impl Iterator<Item = (String, Timestamp)>) {
        self.expiries.clear();
        for (entry, expires) in entries {
            self.expiries.get_or_create(&Expiring { entry }).set(expires.as_second());
        }
    }

    /// Shows when certificates end, by the keys of firstclick.toml that name them, in place of those from before.
    pub fn certificates_expire(&self, certificates: impl Iterator<Item = (&'static str, Timestamp)>) {
        self.certificates.clear();
        for (key, expires) in certificates {
            self.certificates.get_or_create(&Certificate { key }).set(expires.as_second());
        }
    }

    /// Sets the number of files of the allowlist that are left out.
    pub fn files_left_out(&self, files: usize) {
        self.left_out.set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    /// All metrics in the text format of Prometheus and `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        let mut now = Registry::with_prefix("firstclick");
        for reading in self.readings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from((reading.read)()).unwrap_or(i64::MAX));
            now.register(reading.name, reading.help, gauge);
        }
        let mut out = String::new();
        // Writing to a string cannot fail; half a page would lack its end mark.
        let _ = text::encode_registry(&mut out, &self.registry)
            .and_then(|()| text::encode_registry(&mut out, &now))
            .and_then(|()| text::encode_eof(&mut out));
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

/// The protocols whose sessions are counted, by the names of their listeners.
const PROTOCOLS: [&str; 4] = ["smtp", "milter", "guard", "admin"];

/// Bounds of the histogram in seconds: a hop's own time is below the first, a slow scanner's in the last.
const SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
