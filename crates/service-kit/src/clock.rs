//! The wall clock. The one place that reads it for anything a decision depends on; time-outs are measured with
//! `tokio::time::Instant`, which never steps (V-43).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, from the system or, in a test, from whoever holds the clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    set: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now_ms` until it is moved. Clones move together.
    pub fn at(now_ms: i64) -> Self {
        Self { set: Some(Arc::new(AtomicI64::new(now_ms))) }
    }

    pub fn now_ms(&self) -> i64 {
        match &self.set {
            Some(set) => set.load(Ordering::SeqCst),
            // A clock before 1970 is broken; zero makes everything look not yet valid, which refuses.
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        }
    }

    /// Moves a clock made with `at` by `by_ms`, which may be negative. The system's clock does not move.
    pub fn advance(&self, by_ms: i64) {
        if let Some(set) = &self.set {
            set.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn clones_of_a_set_clock_move_together_and_the_system_clock_does_not_move() {
        let clock = Clock::at(1_000);
        clock.clone().advance(-250);
        assert_eq!(clock.now_ms(), 750);
        let system = Clock::system();
        let before = system.now_ms();
        system.advance(-86_400_000);
        assert!(system.now_ms() >= before && before > 1_700_000_000_000);
    }
}
