//! The only place that names a metric of this part. Labels are closed sets.

use domain::{Method, Protocol, Reason, ResultClass};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use std::time::Duration;

/// What this part counts and measures. Clones feed the same instruments.
#[derive(Clone)]
pub(crate) struct Metrics {
    attempts: Counter<u64>,
    duration: Histogram<f64>,
    factor_failed: Counter<u64>,
    limited: Counter<u64>,
    settings_revision: Gauge<u64>,
}

/// The name of this part among the clients.
pub(crate) const CLIENT: &str = "portal";

/// Seconds, from 5 ms to 60 s.
const DURATION_BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What was refused for coming too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    Connections,
    SignInsAtOnce,
    SignInsOfPlace,
    SignInsOfName,
    FormsOfPlace,
    UnknownKeysOfPlace,
    CallsOfKey,
    CallbacksOfPlace,
}

/// A finished attempt as the metrics see it.
pub(crate) struct Ended<'a> {
    pub client: &'a str,
    pub protocol: Protocol,
    pub reason: Reason,
    pub method: Option<Method>,
    pub password_was_right: bool,
    pub first: Option<Duration>,
    pub total: Duration,
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        Self {
            attempts: meter.u64_counter("twinlock_auth_attempts_total").build(),
            duration: meter
                .f64_histogram("twinlock_auth_duration_seconds")
                .with_boundaries(DURATION_BUCKETS.to_vec())
                .build(),
            factor_failed: meter.u64_counter("twinlock_password_ok_factor_failed_total").build(),
            limited: meter.u64_counter("twinlock_rate_limited_total").build(),
            settings_revision: meter.u64_gauge("twinlock_settings_revision").build(),
        }
    }

    pub fn attempt_ended(&self, ended: &Ended<'_>) {
        let client = || KeyValue::new("client", ended.client.to_owned());
        let class = ended.reason.class();
        let labels = [
            client(),
            KeyValue::new("protocol", ended.protocol.code()),
            KeyValue::new("method", ended.method.map_or("", Method::code)),
            KeyValue::new("result", class.code()),
            KeyValue::new("reason", ended.reason.code()),
        ];
        self.attempts.add(1, &labels);
        let phases = [("first", ended.first), ("total", Some(ended.total))];
        for (phase, length) in phases.into_iter().filter_map(|(phase, length)| Some((phase, length?))) {
            let labels = [client(), KeyValue::new("phase", phase), KeyValue::new("result", class.code())];
            self.duration.record(length.as_secs_f64(), &labels);
        }
        if ended.password_was_right && matches!(class, ResultClass::Failed | ResultClass::Denied) {
            self.factor_failed.add(1, &[client()]);
        }
    }

    pub fn limited(&self, what: Limited) {
        self.limited.add(1, &[KeyValue::new("kind", what.code())]);
    }

    pub fn settings_in_force(&self, revision: u64) {
        self.settings_revision.record(revision, &[]);
    }
}

impl Limited {
    fn code(self) -> &'static str {
        match self {
            Self::Connections => "portal_connections",
            Self::SignInsAtOnce => "portal_sign_ins_at_once",
            Self::SignInsOfPlace => "portal_sign_ins_per_source",
            Self::SignInsOfName => "portal_sign_ins_per_name",
            Self::FormsOfPlace => "portal_forms_per_source",
            Self::UnknownKeysOfPlace => "api_unknown_keys_per_source",
            Self::CallsOfKey => "api_calls_per_key",
            Self::CallbacksOfPlace => "callbacks_per_source",
        }
    }
}
