//! Every metric this part feeds. Attempts and their results are counted by the part the client spoke to.

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

pub struct Metrics {
    lockouts: Counter<u64>,
    rate_limited: Counter<u64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("twinlock");
        Self {
            lockouts: meter.u64_counter("twinlock_lockouts_total").build(),
            rate_limited: meter.u64_counter("twinlock_rate_limited_total").build(),
        }
    }

    /// A code after the right password was not looked at: the store gave no try (V-14).
    pub fn locked_out(&self) {
        self.lockouts.add(1, &[KeyValue::new("kind", "code")]);
    }

    /// A code before any password was not looked at (L-54).
    pub fn unverified_code_limited(&self) {
        self.rate_limited.add(1, &[KeyValue::new("kind", "unverified_code")]);
    }
}
