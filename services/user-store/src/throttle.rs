//! How many tries a second factor gets: the arithmetic of V-14, V-15 and L-54, pure. A try is counted before it is
//! evaluated, so that no number of parallel tries gets past it; a success sets the count back.

/// Tries that are free after a success.
const FREE_TRIES: u32 = 5;
const FIRST_DELAY_MS: i64 = 30_000;
const LONGEST_DELAY_MS: i64 = 3_600_000;
/// Consecutive failures after which only an unlock helps (NIST SP 800-63B, 5.2.2).
const FAILURES_MAX: u32 = 100;
/// A place the user succeeded from within this time keeps a reserve while the factor is throttled.
pub const SOURCE_LIFE_MS: i64 = 30 * 24 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;
/// Tries of that reserve an hour.
pub const RESERVE_TRIES: usize = 3;
/// Tries an hour without any proof of the password, over all factors of a user.
pub const UNVERIFIED_TRIES: usize = 20;

/// The count a factor carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Tries since the last success.
    pub failures: u32,
    /// No try before this time, unless from a reserve.
    pub open_ms: i64,
}

/// Whether a try may be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    Granted,
    /// Not before this time; `None`: not before an unlock.
    Refused(Option<i64>),
}

impl Counter {
    /// Counts a try after a right password.
    pub fn reserve(&mut self, now_ms: i64) -> Try {
        if self.is_locked() {
            return Try::Refused(None);
        }
        if now_ms < self.open_ms {
            return Try::Refused(Some(self.open_ms));
        }
        self.count(now_ms);
        Try::Granted
    }

    /// Counts a try that was refused, if the place it comes from is a usual one and has a reserve left (V-15): who locks a
    /// user from elsewhere does not lock out that place.
    pub fn reserve_at(&mut self, last_success_ms: i64, reserve: &mut Window<RESERVE_TRIES>, now_ms: i64) -> bool {
        let usual = now_ms.saturating_sub(last_success_ms) < SOURCE_LIFE_MS;
        let granted = usual && reserve.reserve(now_ms) == Try::Granted;
        if granted {
            self.count(now_ms);
        }
        granted
    }

    fn count(&mut self, now_ms: i64) {
        self.failures = self.failures.saturating_add(1).min(FAILURES_MAX);
        self.open_ms = self.open_ms.max(now_ms.saturating_add(delay_ms(self.failures)));
    }

    pub fn is_locked(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Until when people see the factor as locked; 0 = it is open. A hard lock ends in the year 9999.
    pub fn locked_until_ms(&self, now_ms: i64) -> i64 {
        const NEVER_MS: i64 = 253_402_300_799_000;
        match self.is_locked() {
            true => NEVER_MS,
            false if self.open_ms > now_ms => self.open_ms,
            false => 0,
        }
    }
}

/// The pause after this many tries in a row: none, then 30 s, doubling up to an hour.
fn delay_ms(failures: u32) -> i64 {
    match failures.checked_sub(FREE_TRIES) {
        None => 0,
        Some(doublings) => FIRST_DELAY_MS.saturating_mul(1_i64 << doublings.min(20)).min(LONGEST_DELAY_MS),
    }
}

/// At most `N` tries in any hour: the times of the last `N`, oldest first. Kept as octets in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window<const N: usize>(Vec<i64>);

impl<const N: usize> Window<N> {
    /// Counts a try, if there is room.
    pub fn reserve(&mut self, now_ms: i64) -> Try {
        if let Some(oldest) = self.0.first().filter(|_| self.0.len() >= N) {
            let open_ms = oldest.saturating_add(HOUR_MS);
            if now_ms < open_ms {
                return Try::Refused(Some(open_ms));
            }
            self.0.remove(0);
        }
        self.0.push(now_ms);
        Try::Granted
    }

    /// Octets that are no times read as none.
    pub fn from_octets(octets: &[u8]) -> Self {
        let mut times = times(octets);
        times.truncate(N);
        Self(times)
    }

    pub fn to_octets(&self) -> Vec<u8> {
        self.0.iter().flat_map(|time| time.to_be_bytes()).collect()
    }
}

/// Times of tries as the store keeps them, eight octets each.
pub fn times(octets: &[u8]) -> Vec<i64> {
    octets.chunks_exact(8).map(|time| i64::from_be_bytes(time.try_into().expect("eight octets"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_fifth_try_the_pause_begins_at_half_a_minute_and_doubles_to_an_hour() {
        // V-14
        let minutes = |count: i64| count * 60_000;
        for (failures, pause) in [
            (0, 0),
            (4, 0),
            (5, 30_000),
            (6, minutes(1)),
            (7, minutes(2)),
            (10, minutes(16)),
            (11, minutes(32)),
            (12, minutes(60)),
            (40, minutes(60)),
            (u32::MAX, minutes(60)),
        ] {
            assert_eq!(delay_ms(failures), pause, "{failures} failures");
        }
    }

    #[test]
    fn tries_at_one_moment_never_exceed_the_free_ones() {
        // V-14: counted before evaluated
        let mut counter = Counter::default();
        let granted = (0..200).filter(|_| counter.reserve(1_000) == Try::Granted).count();
        assert_eq!(granted, 5);
        assert_eq!(counter.reserve(1_000), Try::Refused(Some(31_000)));
        assert_eq!(counter.reserve(31_000), Try::Granted);
        assert_eq!(counter.reserve(31_000), Try::Refused(Some(91_000)));
    }

    #[test]
    fn a_hundred_failures_lock_until_somebody_unlocks() {
        // V-14
        let mut counter = Counter::default();
        let mut now_ms = 0;
        let mut granted = 0;
        for _ in 0..1_000 {
            granted += u32::from(counter.reserve(now_ms) == Try::Granted);
            now_ms += LONGEST_DELAY_MS;
        }
        assert_eq!(granted, FAILURES_MAX);
        assert_eq!(counter.reserve(i64::MAX), Try::Refused(None));
        assert!(counter.locked_until_ms(now_ms) > now_ms);
    }

    #[test]
    fn a_usual_place_has_a_reserve_that_counts_no_further_than_the_lock() {
        // V-14, V-15
        let mut counter = Counter { failures: FAILURES_MAX, open_ms: 0 };
        let mut reserve = Window::default();
        assert!(!counter.reserve_at(0, &mut reserve, SOURCE_LIFE_MS), "too long ago");
        let granted = (0..10).filter(|_| counter.reserve_at(0, &mut reserve, 1_000)).count();
        assert_eq!((granted, counter.failures), (RESERVE_TRIES, FAILURES_MAX));
        assert!(counter.is_locked() && counter.open_ms > 1_000);
    }

    #[test]
    fn no_hour_has_more_tries_than_its_window() {
        // L-54, V-15
        let mut window = Window::<UNVERIFIED_TRIES>::default();
        let mut granted = Vec::new();
        for minute in 0..600 {
            let now_ms = minute * 60_000;
            while window.reserve(now_ms) == Try::Granted {
                granted.push(now_ms);
            }
        }
        for start in 0..540 {
            let hour = start * 60_000..start * 60_000 + HOUR_MS;
            let inside = granted.iter().filter(|time| hour.contains(time)).count();
            assert!(inside <= UNVERIFIED_TRIES, "{inside} tries in the hour from minute {start}");
        }
        assert_eq!(granted.len(), 200);
        assert_eq!(Window::<UNVERIFIED_TRIES>::from_octets(&window.to_octets()), window);
    }
}
