//! How long a refused bind takes, so that its time does not tell whether the user exists (L-41).
//!
//! Where no bind reached the directory, the answer waits as long as a recent real one took. That one had been looked for in every way
//! in which somebody is looked for whom nobody finds, so that its time has room for these questions. Every refusal waits a little random
//! time on top and goes through the same timer, so that the two cannot be told apart by its coarseness either.

use domain::NameForm;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// One pace for each client and each way that a bind can go: what one client sees of its directory says nothing about another's, nor
/// what a DN costs to find about a name, nor the own domain's servers about another domain's.
#[derive(Default)]
pub struct Paces(Mutex<HashMap<(String, Way), Arc<Pace>>>);

/// What the time of a bind depends on, besides its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Way {
    /// How often is asked for a name, and what, depends on its form. `None`: nobody has typed one.
    pub form: Option<NameForm>,
    /// The other domain in use that the name belongs to: its servers are asked, and bound to, beside the client's directory or instead.
    /// One of a list, so that no caller makes up more.
    pub domain: Option<String>,
    /// On a connection to the directory that is open already.
    pub again: bool,
}

impl Paces {
    pub fn of(&self, client: &str, way: Way) -> Arc<Pace> {
        let mut paces = self.0.lock().expect("nobody panics while looking for a pace");
        Arc::clone(paces.entry((client.to_owned(), way)).or_default())
    }
}

/// Recent latencies of real binds. Those of wrong passwords are kept apart: a directory may take its time over a no, and service
/// accounts bind all day.
#[derive(Default)]
pub struct Pace {
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    wrong: Latencies,
    others: Latencies,
}

#[derive(Default)]
struct Latencies {
    kept: Vec<Duration>,
    next: usize,
}

/// Few enough that a busy hour is not answered at the pace of the quiet one before it.
const KEPT: usize = 32;
/// With fewer wrong passwords than these, all binds are what a refusal is paced by.
const FEW: usize = 8;
/// Before the first real bind. About what one takes in a small network.
const UNKNOWN: Duration = Duration::from_millis(2);
const JITTER_MICROS: u64 = 8_000;

/// What the directory said to a real bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    WrongPassword,
    SomethingElse,
}

impl Pace {
    /// A real bind took this long, from the name that was typed to the directory's answer.
    pub fn learn(&self, latency: Duration, said: Said) {
        let mut recent = self.recent.lock().expect("nobody panics while noting a latency");
        match said {
            Said::WrongPassword => recent.wrong.note(latency),
            Said::SomethingElse => recent.others.note(latency),
        }
    }

    /// When a refusal that came after a real bind goes out.
    pub fn after_bind(&self, now: Instant, random: u64) -> Instant {
        now + jitter(random)
    }

    /// When a refusal without a bind goes out, of an attempt that began at `asked`. How often its name was looked up in between, as a
    /// user's and perhaps as a service account's, is within that time.
    pub fn without_bind(&self, asked: Instant, random: u64) -> Instant {
        let recent = self.recent.lock().expect("nobody panics while noting a latency");
        let enough = recent.wrong.kept.len() >= FEW;
        let likely = if enough { &recent.wrong.kept[..] } else { &recent.others.kept[..] };
        // The upper half chooses the sample, the lower half the jitter: independent of each other.
        let sample = (random >> 32).checked_rem(likely.len() as u64).and_then(|place| likely.get(place as usize));
        asked + sample.copied().unwrap_or(UNKNOWN) + jitter(random)
    }
}

impl Latencies {
    fn note(&mut self, latency: Duration) {
        match self.kept.get_mut(self.next) {
            Some(old) => *old = latency,
            None => self.kept.push(latency),
        }
        self.next = (self.next + 1) % KEPT;
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
        let pace = Pace::default();
        let start = Instant::now();
        let waits = |pace: &Pace, random| pace.without_bind(start, random) - start;
        assert_eq!(waits(&pace, 0), UNKNOWN);
        for milliseconds in 0..2 * KEPT as u64 {
            pace.learn(Duration::from_millis(1_000 + milliseconds), Said::SomethingElse);
        }
        for sample in 0..KEPT as u64 {
            let wait = waits(&pace, (sample << 32) | (sample * 7919));
            let oldest = Duration::from_millis(1_000 + KEPT as u64);
            assert!(wait >= oldest && wait < oldest + Duration::from_millis(KEPT as u64 + 8), "{wait:?}");
        }
        // As soon as there are some, those of wrong passwords alone are what counts.
        for _ in 0..FEW {
            pace.learn(Duration::from_millis(50), Said::WrongPassword);
        }
        assert_eq!(waits(&pace, u64::MAX << 32), Duration::from_millis(50));
    }

    #[test]
    fn what_another_domain_takes_paces_nobody_of_this_one() {
        // L-41, FD-02
        let paces = Paces::default();
        let of = |domain: Option<&str>| {
            paces.of("vpn", Way { form: Some(NameForm::Netbios), domain: domain.map(str::to_owned), again: false })
        };
        of(Some("child.corp.example")).learn(Duration::from_secs(3), Said::SomethingElse);
        let start = Instant::now();
        for domain in [None, Some("other.test")] {
            assert_eq!(of(domain).without_bind(start, 0) - start, UNKNOWN, "{domain:?}");
        }
        assert!(Arc::ptr_eq(&of(Some("other.test")), &of(Some("other.test"))));
    }
}
