//! Is verification down? Counted, not guessed: time is an argument, and nothing is done here.

use std::time::Duration;

/// Opens after [`Breaker::FAILURES`] failures in a row that lie [`Breaker::LASTING`] apart from first to last (V-40).
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    run: Option<Run>,
}

/// Failures without an answer in between.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Breaker {
    pub const FAILURES: u32 = 10;
    pub const LASTING: Duration = Duration::from_secs(30);
    /// A failure older than this says nothing about now: whoever has been silent since then may be slow, and slow is not down.
    pub const FRESH: Duration = Duration::from_secs(10);

    /// Nobody was there. `now` is the time since any fixed moment.
    pub fn failed(&mut self, now: Duration) {
        let run = self.run.filter(|run| now.saturating_sub(run.last) <= Self::FRESH);
        let run = run.unwrap_or(Run { first: now, last: now, failures: 0 });
        self.run = Some(Run { last: now, failures: run.failures.saturating_add(1), ..run });
    }

    /// Somebody was.
    pub fn answered(&mut self) {
        self.run = None;
    }

    pub fn is_open(&self, now: Duration) -> bool {
        self.run.is_some_and(|run| {
            run.failures >= Self::FAILURES
                && run.last.saturating_sub(run.first) >= Self::LASTING
                && now.saturating_sub(run.last) <= Self::FRESH
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails at these seconds, and looks at the last of them.
    fn after(failures: impl IntoIterator<Item = u64>) -> bool {
        let mut breaker = Breaker::default();
        let mut last = 0;
        for second in failures {
            breaker.failed(at(second));
            last = second;
        }
        breaker.is_open(at(last))
    }

    #[test]
    fn it_opens_after_ten_failures_in_a_row_over_thirty_seconds_and_not_before() {
        // V-40
        assert!(!Breaker::default().is_open(at(1_000)));
        for (failures, open) in [
            ((0..=30).collect::<Vec<_>>(), true),
            // Many, but in too short a time.
            ((0..=29).collect(), false),
            (vec![5; 10_000], false),
            // Long, but too few.
            ((0..9).map(|place| place * 4).collect(), false),
            ((0..10).map(|place| place * 4).collect(), true),
            // Two outages are not one long one.
            ((0..=20).chain(31..=50).collect(), false),
            ((0..=20).chain(30..=50).collect(), true),
        ] {
            assert_eq!(after(failures.iter().copied()), open, "{failures:?}");
        }
    }

    #[test]
    fn one_answer_closes_it_and_the_count_begins_anew() {
        // V-41
        let mut breaker = Breaker::default();
        (0..=40).for_each(|second| breaker.failed(at(second)));
        assert!(breaker.is_open(at(40)));
        breaker.answered();
        assert!(!breaker.is_open(at(40)));
        (41..=70).for_each(|second| breaker.failed(at(second)));
        assert!(!breaker.is_open(at(70)));
        breaker.failed(at(71));
        assert!(breaker.is_open(at(71)));
    }

    #[test]
    fn it_does_not_stay_open_on_old_evidence() {
        // V-41: verification that came back and hangs is slow; nobody says any more that it is gone
        let mut breaker = Breaker::default();
        (0..=40).for_each(|second| breaker.failed(at(second)));
        assert!(breaker.is_open(at(50)) && !breaker.is_open(at(51)));
    }
}
