//! Every metric the store feeds, and the only place that names one.

use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};
use std::time::Duration;

pub struct Metrics {
    duration: Histogram<f64>,
    conflicts: Counter<u64>,
    audit_records: Counter<u64>,
    users: Gauge<u64>,
    settings_revision: Gauge<u64>,
    client_warnings: Gauge<u64>,
}

/// What is timed. A label: closed set.
#[derive(Clone, Copy)]
pub enum Timed {
    /// A group of commits, from the lock to the durable end.
    Commit,
    /// The facts of one login.
    Facts,
    /// A batch of the sync.
    SyncBatch,
}

/// How many users there are, as the hourly sweep counts them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    pub enrolled: u64,
    pub not_enrolled: u64,
    pub locked: u64,
    /// Disabled, or blocked beside the state.
    pub blocked: u64,
    /// With an open one-time bypass.
    pub bypass: u64,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("twinlock");
        Self {
            duration: meter
                .f64_histogram("twinlock_store_duration_seconds")
                .with_boundaries(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
                .build(),
            conflicts: meter.u64_counter("twinlock_store_conflicts_total").build(),
            audit_records: meter.u64_counter("twinlock_audit_records_total").build(),
            users: meter.u64_gauge("twinlock_users").build(),
            settings_revision: meter.u64_gauge("twinlock_settings_revision").build(),
            client_warnings: meter.u64_gauge("twinlock_client_warnings").build(),
        }
    }

    pub fn took(&self, timed: Timed, time: Duration) {
        self.duration.record(time.as_secs_f64(), &[KeyValue::new("operation", timed.label())]);
    }

    /// A row changed under a transaction.
    pub fn conflict(&self) {
        self.conflicts.add(1, &[KeyValue::new("operation", Timed::Commit.label())]);
    }

    /// Events of attempts, durable now.
    pub fn audited(&self, events: u64) {
        self.audit_records.add(events, &[KeyValue::new("class", "authentication")]);
    }

    pub fn users(&self, users: &Users) {
        for (state, count) in [
            ("enrolled", users.enrolled),
            ("not_enrolled", users.not_enrolled),
            ("locked", users.locked),
            ("blocked", users.blocked),
            ("bypass", users.bypass),
        ] {
            self.users.record(count, &[KeyValue::new("state", state)]);
        }
    }

    /// What of a client an administrator should change.
    pub fn client_warnings(&self, client: &str, warnings: u64) {
        self.client_warnings.record(warnings, &[KeyValue::new("client", client.to_owned())]);
    }

    pub fn settings_revision(&self, revision: u64) {
        self.settings_revision.record(revision, &[]);
    }
}

impl Timed {
    fn label(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Facts => "facts",
            Self::SyncBatch => "sync_batch",
        }
    }
}
