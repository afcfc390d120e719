//! How long a refused bind takes, so that its time does not tell whether the user exists (L-41).
//!
//! Where no bind reached the directory, the answer waits as long as a recent real one took. Every refusal waits a little random
//! time on top and goes through the same timer, so that the two cannot be told apart by its coarseness either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// One pace for each client, on fresh connections to the directory and on those that are bound on again: what one client sees of
/// its directory says nothing about another's.
#[derive(Default)]
pub struct Paces(Mutex<HashMap<(String, bool), Arc<Pace>>>);

impl Paces {
    pub fn of(&self, client: &str, again: bool) -> Arc<Pace> {
        let mut paces = self.0.lock().expect("nobody panics while looking for a pace");
        Arc::clone(paces.entry((client.to_owned(), again)).or_insert_with(|| Arc::new(Pace::new())))
    }
}

/// Recent latencies of real binds.
pub struct Pace {
    recent: Mutex<Recent>,
}

struct Recent {
    latencies: Vec<Duration>,
    next: usize,
}

const KEPT: usize = 512;
/// Before the first real bind. About what one takes in a small network.
const UNKNOWN: Duration = Duration::from_millis(2);
const JITTER_MICROS: u64 = 8_000;

impl Pace {
    pub fn new() -> Self {
        Self { recent: Mutex::new(Recent { latencies: Vec::new(), next: 0 }) }
    }

    /// A real bind took this long, from the name that was typed to the directory's answer.
    pub fn learn(&self, latency: Duration) {
        let mut recent = self.recent.lock().expect("nobody panics while noting a latency");
        let place = recent.next;
        match recent.latencies.get_mut(place) {
            Some(old) => *old = latency,
            None => recent.latencies.push(latency),
        }
        recent.next = (place + 1) % KEPT;
    }

    /// When a refusal that came after a real bind goes out.
    pub fn after_bind(&self, now: Instant, random: u64) -> Instant {
        now + jitter(random)
    }

    /// When a refusal without a bind goes out, of an attempt that began at `asked`. How often its name was looked up in between, as a
    /// user's and perhaps as a service account's, is within that time.
    pub fn without_bind(&self, asked: Instant, random: u64) -> Instant {
        let recent = self.recent.lock().expect("nobody panics while noting a latency");
        let count = recent.latencies.len() as u64;
        // The upper half chooses the sample, the lower half the jitter: independent of each other.
        let sample = (random >> 32).checked_rem(count).and_then(|place| recent.latencies.get(place as usize));
        asked + sample.copied().unwrap_or(UNKNOWN) + jitter(random)
    }
}

fn jitter(random: u64) -> Duration {
    Duration::from_micros((random & 0xffff_ffff) % JITTER_MICROS)
}

/// Eight random octets. Without a source of randomness the process cannot work at all.
pub fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_without_a_bind_waits_as_long_as_a_recent_bind_took() {
        // L-41
        let pace = Pace::new();
        let start = Instant::now();
        let waits = |pace: &Pace, random| pace.without_bind(start, random) - start;
        assert_eq!(waits(&pace, 0), UNKNOWN);
        for milliseconds in 0..2 * KEPT as u64 {
            pace.learn(Duration::from_millis(1_000 + milliseconds));
        }
        for sample in 0..KEPT as u64 {
            let wait = waits(&pace, (sample << 32) | (sample * 7919));
            let oldest = Duration::from_millis(1_000 + KEPT as u64);
            assert!(wait >= oldest && wait < oldest + Duration::from_millis(KEPT as u64 + 8), "{wait:?}");
        }
    }
}
