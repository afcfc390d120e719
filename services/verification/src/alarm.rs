//! Right password, wrong second factor, again and again: somebody may know the password (experience 4).

use std::collections::HashMap;
use std::sync::Mutex;

/// So many failures within so long are told.
const FAILURES: usize = 3;
const WINDOW_MS: i64 = 600_000;
/// Users watched at once; beyond it those who fail anew are not watched.
const USERS_MAX: usize = 10_000;

/// Failures of late, by user, as this node saw them.
#[derive(Default)]
pub struct Failing {
    lately: Mutex<HashMap<String, Vec<i64>>>,
}

impl Failing {
    /// Notes a failure; `true`: that makes it worth telling, and the count begins anew.
    pub fn note(&self, user_id: &str, now_unix_ms: i64) -> bool {
        let recent = |at: &i64| now_unix_ms - at < WINDOW_MS;
        let mut lately = self.lately.lock().expect("nobody panics while holding the failures");
        if lately.len() >= USERS_MAX && !lately.contains_key(user_id) {
            lately.retain(|_, times| times.last().is_some_and(recent));
            if lately.len() >= USERS_MAX {
                return false;
            }
        }
        let times = lately.entry(user_id.to_owned()).or_default();
        times.retain(recent);
        times.push(now_unix_ms);
        let tell = times.len() >= FAILURES;
        if tell {
            lately.remove(user_id);
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_ten_minutes_is_told_and_the_count_begins_anew() {
        let failing = Failing::default();
        let told: Vec<bool> = [0, 1, 2, 3, 4, 5].iter().map(|at| failing.note("ann", *at)).collect();
        assert_eq!(told, [false, false, true, false, false, true]);
        let slowly: Vec<bool> = (1..10).map(|hour| failing.note("bob", hour * 3_600_000)).collect();
        assert!(slowly.iter().all(|told| !told));
    }

    #[test]
    fn the_number_of_watched_users_is_bounded_and_the_old_ones_make_room() {
        let failing = Failing::default();
        for user in 0..USERS_MAX + 5 {
            failing.note(&user.to_string(), 0);
        }
        assert_eq!(failing.lately.lock().expect("whole").len(), USERS_MAX);
        failing.note("late", WINDOW_MS);
        assert_eq!(failing.lately.lock().expect("whole").len(), 1);
    }
}
