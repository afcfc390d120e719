//! In which order providers are asked (FN-07): that of the document, with those last that failed a moment ago.
//!
//! ```text
//! working --3 failures within 10 s--> resting 30 s (asked last) --> working
//! ```
//!
//! Pure: time is an argument. A resting provider is still asked when nobody else takes the message: this only orders.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

const FAILURES: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_secs(30);

/// What is remembered about the providers of one channel. Bounded by their number in the settings.
#[derive(Default)]
pub struct FailOver {
    lately: Mutex<HashMap<String, Memory>>,
}

#[derive(Default)]
struct Memory {
    failed: VecDeque<Instant>,
    rests_until: Option<Instant>,
}

impl FailOver {
    /// The same providers in the order in which they are to be asked. Others are forgotten.
    pub fn order<T>(&self, mut providers: Vec<T>, name: impl Fn(&T) -> &str, now: Instant) -> Vec<T> {
        let mut lately = self.lately.lock().expect("nobody panics while holding the memory");
        lately.retain(|known, _| providers.iter().any(|provider| name(provider) == known));
        let rests = |provider: &T| lately.get(name(provider)).is_some_and(|memory| memory.rests(now));
        // Stable: among equals the document's order holds.
        providers.sort_by_key(rests);
        providers
    }

    pub fn worked(&self, name: &str) {
        self.lately.lock().expect("nobody panics while holding the memory").remove(name);
    }

    /// `true`: it rests from now on, which is worth a line in the log.
    pub fn failed(&self, name: &str, now: Instant) -> bool {
        let mut lately = self.lately.lock().expect("nobody panics while holding the memory");
        let memory = lately.entry(name.to_owned()).or_default();
        memory.failed.push_back(now);
        while memory.failed.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            memory.failed.pop_front();
        }
        if memory.failed.len() < FAILURES {
            return false;
        }
        memory.failed.clear();
        let rested = memory.rests(now);
        memory.rests_until = Some(now + REST);
        !rested
    }
}

impl Memory {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(memory: &FailOver, now: Instant) -> String {
        memory.order(vec!["a", "b", "c"], |name| name, now).concat()
    }

    #[test]
    fn three_failures_in_ten_seconds_put_a_provider_last_for_thirty() {
        let (memory, start) = (FailOver::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(order(&memory, at(0)), "abc");
        assert_eq!([memory.failed("a", at(0)), memory.failed("a", at(5))], [false, false]);
        assert_eq!(order(&memory, at(5)), "abc");
        assert!(memory.failed("a", at(9)));
        assert_eq!(order(&memory, at(9)), "bca");
        assert_eq!(order(&memory, at(38)), "bca");
        assert_eq!(order(&memory, at(39)), "abc");
    }

    #[test]
    fn slow_failures_and_a_success_between_them_do_not_count() {
        let (memory, start) = (FailOver::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(![0, 6, 12, 18].into_iter().any(|when| memory.failed("a", at(when))));
        memory.failed("b", at(0));
        memory.failed("b", at(1));
        memory.worked("b");
        assert!(!memory.failed("b", at(2)));
        assert_eq!(order(&memory, at(18)), "abc");
    }

    #[test]
    fn when_all_rest_the_order_is_that_of_the_document_and_strangers_are_forgotten() {
        let (memory, now) = (FailOver::default(), Instant::now());
        for name in ["c", "a", "b", "gone"] {
            for _ in 0..FAILURES {
                memory.failed(name, now);
            }
        }
        assert_eq!(order(&memory, now), "abc");
        assert_eq!(memory.lately.lock().expect("whole").len(), 3);
    }
}
