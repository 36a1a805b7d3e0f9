//! What the metrics say of the audit.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::chain::Checkpoint;
use crate::mail::record::FileFault;

/// Counters and gauges of an audit. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    lost: Counter,
    faults: Family<Fault, Counter>,
    commits: Counter,
    records: Gauge,
    checkpoint: Family<Point, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fault {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Point {
    hash: String,
}

impl Meters {
    /// Adds them to the page of the metrics.
    pub fn register(&self, registry: &mut Registry) {
        // At 0, so that the first fault is a rise that an alert sees.
        for what in FileFault::ALL {
            self.faults.get_or_create(&Fault { what: what.code() }).inc_by(0);
        }
        registry.register("audit_records_lost", "Records that the audit disk refused or did not keep up with", self.lost.clone());
        registry.register(
            "audit_faults",
            "Audit files that somebody else touched, and ends of the chain that are missing",
            self.faults.clone(),
        );
        registry.register(
            "audit_commits",
            "How often the disk was waited for, by one exemption or by several at once",
            self.commits.clone(),
        );
        registry.register("audit_records", "The number of the newest record", self.records.clone());
        registry.register("audit_checkpoint", "The number of the record of the newest checkpoint, and its hash", self.checkpoint.clone());
    }

    /// Records that were lost since the start.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        self.lost.get()
    }

    /// How often the disk was waited for by those who wait for their record, since the start.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.get()
    }

    pub(super) fn committed(&self) {
        self.commits.inc();
    }

    pub(super) fn lost(&self, records: usize) {
        self.lost.inc_by(records as u64);
    }

    pub(super) fn fault(&self, what: FileFault) {
        self.faults.get_or_create(&Fault { what: what.code() }).inc();
    }

    pub(super) fn newest(&self, n: u64) {
        self.records.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    pub(super) fn checkpoint(&self, point: &Checkpoint) {
        self.checkpoint.clear();
        self.checkpoint.get_or_create(&Point { hash: point.hash.clone() }).set(i64::try_from(point.n).unwrap_or(i64::MAX));
    }
}
