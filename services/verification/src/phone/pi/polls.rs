//! How often one token may ask: every three seconds, and once more, because phones' timers are not exact. Pure: time is an argument.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

const EVERY: Duration = Duration::from_secs(3);
/// Tokens that are looked at in the app at the same time. At the bound those that have been quiet are forgotten; if there are none, a token
/// that is new is not limited: others' polls must not shut it out.
const TOKENS_MAX: usize = 20_000;

/// When each token may ask again without using up what it has left.
#[derive(Default)]
pub struct Polls {
    due: Mutex<HashMap<String, Instant>>,
}

impl Polls {
    pub fn take(&self, serial: &str, now: Instant) -> bool {
        let mut due = self.due.lock().expect("nobody panics while holding the polls");
        if due.len() >= TOKENS_MAX && !due.contains_key(serial) {
            due.retain(|_, at| *at > now);
            if due.len() >= TOKENS_MAX {
                return true;
            }
        }
        let at = due.entry(serial.to_owned()).or_insert(now);
        // One poll may come early.
        if *at > now + EVERY {
            return false;
        }
        *at = (*at).max(now) + EVERY;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_ask_every_three_seconds_give_or_take() {
        // Polls come every 3 s per token
        let (polls, start) = (Polls::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (round, jitter) in [0, 200, -300, 100, -900, 0, 400].into_iter().enumerate() {
            assert!(polls.take("a", at((10_000 + round as i64 * 3_000 + jitter) as u64)), "{round}");
        }
        assert!(polls.take("b", at(50_000)) && polls.take("b", at(50_010)));
        assert!(!polls.take("b", at(50_020)), "another token has its own");
        assert!(polls.take("c", at(50_020)));
        let flood = (0..3_000).filter(|round| polls.take("d", at(100_000 + round * 10))).count();
        assert!((10..=12).contains(&flood), "30 s of asking all the time: {flood}");
    }

    #[test]
    fn the_memory_is_bounded_and_shuts_nobody_out() {
        let (polls, now) = (Polls::default(), Instant::now());
        for token in 0..TOKENS_MAX + 10 {
            assert!(polls.take(&token.to_string(), now));
        }
        assert_eq!(polls.due.lock().expect("whole").len(), TOKENS_MAX);
        assert!(polls.take("late", now + EVERY * 2));
        assert!(polls.due.lock().expect("whole").len() < 10, "the quiet ones are forgotten");
    }
}
