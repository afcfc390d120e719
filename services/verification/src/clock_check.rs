//! How far this node's clock is from the store's (V-43): shown, warned about, and beyond a bound a reason to compare no code that
//! depends on the time.

use opentelemetry::metrics::Gauge;
use service_kit::health::Upstream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const WARN_MS: i64 = 5_000;
const UNFIT_MS: i64 = 20_000;

/// The last offset that was measured; none yet is none.
pub struct ClockCheck {
    /// Ours less the store's.
    offset_ms: AtomicI64,
    seconds: Gauge<f64>,
    health: Upstream,
}

impl ClockCheck {
    pub fn new(health: Upstream) -> Self {
        let seconds = opentelemetry::global::meter("twinlock").f64_gauge("twinlock_clock_offset_seconds").build();
        Self { offset_ms: AtomicI64::new(0), seconds, health }
    }

    /// The store read its clock while we waited between `before_ms` and `after_ms` of ours. 0 = it did not say.
    pub fn heard(&self, store_ms: i64, before_ms: i64, after_ms: i64) {
        if store_ms == 0 {
            return;
        }
        let offset_ms = offset(store_ms, before_ms, after_ms);
        let before = self.offset_ms.swap(offset_ms, Ordering::Relaxed);
        self.seconds.record(offset_ms as f64 / 1000.0, &[]);
        match offset_ms.abs() {
            ..=WARN_MS => self.health.up(Duration::from_millis(offset_ms.unsigned_abs())),
            away => self.health.down(format!("this node's clock is {} s away from the store's", away / 1000)),
        }
        // Once when it happens, not at every look: the log is for people.
        if offset_ms.abs() > WARN_MS && before.abs() <= WARN_MS {
            tracing::warn!(offset_ms, "this node's clock is away from the store's; check its time service");
        }
        if offset_ms.abs() > UNFIT_MS && before.abs() <= UNFIT_MS {
            tracing::error!(offset_ms, "this node compares no codes by the clock until its time is right");
        }
    }

    /// May codes by the clock be compared here?
    pub fn is_fit(&self) -> bool {
        self.offset_ms.load(Ordering::Relaxed).abs() <= UNFIT_MS
    }
}

/// What the wait may explain is not held against the clock.
fn offset(store_ms: i64, before_ms: i64, after_ms: i64) -> i64 {
    if store_ms < before_ms {
        before_ms - store_ms
    } else if store_ms > after_ms {
        after_ms - store_ms
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_wait_does_not_explain_is_an_offset() {
        // V-43
        for (store, before, after, expected) in [
            (1_000, 1_000, 1_000, 0),
            (1_500, 1_000, 3_000, 0),
            (900, 1_000, 3_000, 100),
            (31_000, 1_000, 3_000, -28_000),
        ] {
            assert_eq!(offset(store, before, after), expected);
        }
    }
}
