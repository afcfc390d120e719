//! The only place that names a metric.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, Histogram};
use proto::user_store::FinishRunReply;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of run durations, in seconds.
const DURATIONS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

/// Clones feed the same meters.
#[derive(Clone)]
pub(crate) struct Metrics {
    leader: Gauge<u64>,
    duration: Histogram<f64>,
    objects: Gauge<u64>,
    last_success: Gauge<u64>,
    waiting_approvals: Gauge<u64>,
    settings_revision: Gauge<u64>,
}

/// What a run did to the objects it read. A label: closed set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Objects {
    Added,
    Changed,
    Unchanged,
    /// Read, and not taken.
    Problem,
    Disabled,
    Removed,
    /// Would be disabled or removed, and wait for approval.
    Parked,
}

impl Objects {
    fn label(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Problem => "problem",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Parked => "parked",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("twinlock");
        let gauge = |name: &'static str| meter.u64_gauge(name).build();
        let metrics = Self {
            leader: gauge("twinlock_sync_leader"),
            duration: meter.f64_histogram("twinlock_sync_duration_seconds").with_boundaries(DURATIONS.into()).build(),
            objects: gauge("twinlock_sync_objects"),
            last_success: gauge("twinlock_sync_last_success_timestamp_seconds"),
            waiting_approvals: gauge("twinlock_sync_waiting_approvals"),
            settings_revision: gauge("twinlock_settings_revision"),
        };
        metrics.leader.record(0, &[]);
        metrics
    }

    /// This instance leads from now on, until the term is dropped.
    pub(crate) fn term(&self) -> Term {
        self.leader.record(1, &[]);
        Term { metrics: self.clone(), waiting: Mutex::default() }
    }

    pub(crate) fn duration(&self, directory: &str, elapsed: Duration) {
        self.duration.record(elapsed.as_secs_f64(), &[label("directory", directory)]);
    }

    pub(crate) fn objects(&self, directory: &str, what: Objects, count: u64) {
        self.objects.record(count, &[label("directory", directory), KeyValue::new("state", what.label())]);
    }

    pub(crate) fn settings_in_force(&self, revision: u64) {
        self.settings_revision.record(revision, &[]);
    }
}

/// One term of leadership as the metrics see it. What only a leader knows is taken back at its end: the next leader says it.
pub(crate) struct Term {
    metrics: Metrics,
    waiting: Mutex<BTreeSet<String>>,
}

impl Term {
    /// A complete run has ended.
    pub(crate) fn succeeded(&self, directory: &str, now_unix_ms: i64, reply: &FinishRunReply) {
        let labels = [label("directory", directory)];
        self.metrics.last_success.record(u64::try_from(now_unix_ms / 1000).unwrap_or(0), &labels);
        let waits = !reply.approval_id.is_empty();
        self.metrics.waiting_approvals.record(u64::from(waits), &labels);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waits {
            waiting.insert(directory.to_owned());
        } else {
            waiting.remove(directory);
        }
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.metrics.leader.record(0, &[]);
        for directory in self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).iter() {
            self.metrics.waiting_approvals.record(0, &[label("directory", directory)]);
        }
    }
}

fn label(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}
