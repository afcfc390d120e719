//! How often an address may ask for something in a second: a token bucket for each, in a table of bounded size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Beyond this many addresses that asked in the last seconds, a new address has to wait.
const SOURCES_MAX: usize = 65_536;

/// The buckets of all addresses.
pub struct Budget {
    per_second: f64,
    buckets: HashMap<IpAddr, Bucket>,
    cleaned: Duration,
}

struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl Budget {
    /// As many again may come at once.
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second as f64, buckets: HashMap::new(), cleaned: Duration::ZERO }
    }

    /// Whether one more is within the budget. `now` is the time since any fixed moment.
    pub fn take(&mut self, source: IpAddr, now: Duration) -> bool {
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&source) && !self.make_room(now) {
            return false;
        }
        let full = self.per_second;
        let bucket = self.buckets.entry(source).or_insert(Bucket { tokens: full, filled: now });
        let gained = now.saturating_sub(bucket.filled).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(full);
        bucket.filled = now;
        let within = bucket.tokens >= 1.0;
        if within {
            bucket.tokens -= 1.0;
        }
        within
    }

    /// Forgets who has a full bucket again, at most once a second: the walk over all must not become the attack.
    fn make_room(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.cleaned) >= Duration::from_secs(1) {
            self.cleaned = now;
            // A bucket fills within a second.
            self.buckets.retain(|_, bucket| now.saturating_sub(bucket.filled) < Duration::from_secs(1));
        }
        self.buckets.len() < SOURCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_flood_from_one_source_is_cut_to_the_budget_and_others_are_untouched() {
        // A1 step 3, CVE-2002-0318
        let mut budget = Budget::new(100);
        let (flood, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let passed = (0..10_000).filter(|packet| budget.take(flood, Duration::from_micros(packet * 100))).count();
        assert!((190..=210).contains(&passed), "one second: {passed}");
        assert!(budget.take(other, Duration::from_secs(1)));
        assert!(budget.take(flood, Duration::from_secs(3)));
    }

    #[test]
    fn a_million_sources_take_no_more_room_than_the_table_has() {
        let mut budget = Budget::new(100);
        for number in 0..1_000_000_u128 {
            budget.take(Ipv6Addr::from_bits(number).into(), Duration::from_millis(number as u64 / 1_000));
        }
        assert!(budget.buckets.len() <= SOURCES_MAX);
        assert!(budget.take(IpAddr::from([192, 0, 2, 1]), Duration::from_secs(5)), "later there is room again");
    }
}
