//! Every metric this part feeds. The attempts themselves are counted by the part the client spoke to.

use domain::Reason;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

pub struct Metrics {
    factor_failed: Counter<u64>,
    lockouts: Counter<u64>,
    bypasses: Counter<u64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("twinlock");
        Self {
            factor_failed: meter.u64_counter("twinlock_password_ok_factor_failed_total").build(),
            lockouts: meter.u64_counter("twinlock_lockouts_total").build(),
            bypasses: meter.u64_counter("twinlock_bypass_total").build(),
        }
    }

    /// The password was right, the code was not. `client` is a name from the settings.
    pub fn factor_failed(&self, client: &str, reason: Reason) {
        self.factor_failed.add(1, &[KeyValue::new("client", client.to_owned())]);
        if reason == Reason::LockedOut {
            self.lockouts.add(1, &[KeyValue::new("kind", "code")]);
        }
    }

    pub fn let_in_by_rule(&self, reason: Reason) {
        self.bypasses.add(1, &[KeyValue::new("reason", reason.code())]);
    }
}
