//! How often somebody may try: token buckets by place, name or key. Pure: time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Buckets for at most this many keys. Above it a new key is refused, unless others have been quiet long enough to be forgotten:
/// who floods us with names must not push out the memory of those who are being tried.
const KEYS_MAX: usize = 50_000;
/// Forgetting looks at every key, so not at every call.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// One kind of limit.
pub(crate) struct Limit<K> {
    burst: f64,
    per_second: f64,
    buckets: Mutex<Buckets<K>>,
}

struct Buckets<K> {
    by_key: HashMap<K, Bucket>,
    forgot_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Hash + Eq> Limit<K> {
    /// `burst` tries at once, and one more after every `pause`.
    pub fn new(burst: u32, pause: Duration) -> Self {
        let buckets = Buckets { by_key: HashMap::new(), forgot_at: None };
        Self { burst: burst.into(), per_second: 1.0 / pause.as_secs_f64(), buckets: Mutex::new(buckets) }
    }

    /// Takes a try. False: there is none left.
    pub fn take(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().expect("nobody panics while holding the buckets");
        if buckets.by_key.len() >= KEYS_MAX && !buckets.by_key.contains_key(&key) {
            self.forget_full(&mut buckets, now);
            if buckets.by_key.len() >= KEYS_MAX {
                return false;
            }
        }
        let bucket = buckets.by_key.entry(key).or_insert(Bucket { left: self.burst, at: now });
        *bucket = Bucket { left: self.level(*bucket, now), at: now };
        let granted = bucket.left >= 1.0;
        if granted {
            bucket.left -= 1.0;
        }
        granted
    }

    /// Is there a try left? Takes none.
    pub fn open(&self, key: &K, now: Instant) -> bool {
        let buckets = self.buckets.lock().expect("nobody panics while holding the buckets");
        match buckets.by_key.get(key) {
            Some(bucket) => self.level(*bucket, now) >= 1.0,
            None => true,
        }
    }

    fn level(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    fn forget_full(&self, buckets: &mut Buckets<K>, now: Instant) {
        if buckets.forgot_at.is_some_and(|at| now.saturating_duration_since(at) < FORGET_EVERY) {
            return;
        }
        buckets.forgot_at = Some(now);
        buckets.by_key.retain(|_, bucket| self.level(*bucket, now) < self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_then_one_after_every_pause_and_never_more_than_the_burst() {
        let limit = Limit::new(3, Duration::from_secs(10));
        let start = Instant::now();
        let granted = |at: u64| limit.take("ann", start + Duration::from_secs(at));
        assert_eq!([granted(0), granted(0), granted(0), granted(0)], [true, true, true, false]);
        assert!(!granted(9));
        assert!(granted(10));
        assert!(!granted(11));
        // An hour of quiet saves up no more than a burst.
        assert_eq!([granted(3600), granted(3600), granted(3600), granted(3600)], [true, true, true, false]);
        assert!(limit.take("ben", start), "another name has its own tries");
    }

    #[test]
    fn looking_takes_no_try() {
        let limit = Limit::new(1, Duration::from_secs(10));
        let now = Instant::now();
        assert!(limit.open(&1, now) && limit.open(&1, now));
        assert!(limit.take(1, now));
        assert!(!limit.open(&1, now));
    }

    #[test]
    fn a_flood_of_names_is_refused_and_pushes_nobody_out() {
        let limit = Limit::new(1, Duration::from_secs(60));
        let start = Instant::now();
        for name in 0..KEYS_MAX {
            assert!(limit.take(name, start));
        }
        assert!(!limit.take(KEYS_MAX, start), "no room for a new one");
        assert!(!limit.take(0, start), "the first is still known");
        let later = start + Duration::from_secs(61);
        assert!(limit.take(KEYS_MAX, later), "the quiet ones are forgotten");
    }
}
