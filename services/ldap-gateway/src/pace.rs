//! How long a refused bind takes, so that its time tells neither whether the user exists (L-41) nor, where no phone rang, whether the
//! password was right (L-40).
//!
//! ```text
//! wrong password        asked ── the directory's no ─────────── ┐
//! right, and a No       asked ── the directory's yes ────────── ┼─ the longer of a no and a yes ─ verification's No ─ a random time
//! nobody was asked      asked ───────────────────────────────── ┘
//! ```
//!
//! Each takes the time of all of it: what did not happen takes as long as it took somebody else a moment ago. A real no has been looked for
//! in every way in which somebody is looked for whom nobody finds, so that its time has room for these questions. All end with the same
//! timer, so that they cannot be told apart by its coarseness either.
//!
//! What is older than five minutes counts only while nothing newer is known: a time of an hour ago is a worse guess than one of now, and a
//! better one than none. Before the first decision of a client nothing is known of what one takes. That no refusal is told before a time
//! of the configuration has passed makes them level then, too, as long as all of it takes no longer.
//!
//! Where "nobody can decide" is told as a No, it takes the time of one as well.

use domain::NameForm;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// One pace for each client and each way that a bind can go: what one client sees of its directory says nothing about another's, nor
/// what a DN costs to find about a name, nor the own domain's servers about another domain's.
#[derive(Default)]
pub struct Paces {
    of_clients: Mutex<HashMap<String, OfClient>>,
    least: Duration,
}

#[derive(Default)]
struct OfClient {
    ways: HashMap<Way, Arc<Pace>>,
    decisions: Arc<Mutex<Recent>>,
}

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
    /// What was typed ends in what somebody could have for a code: verification is asked about it before the bind (L-52).
    pub tail: bool,
}

impl Paces {
    /// No refusal goes out sooner than `least` after the name was typed.
    pub fn new(least: Duration) -> Self {
        Self { least, ..Self::default() }
    }

    pub fn of(&self, client: &str, way: Way) -> Arc<Pace> {
        let mut paces = self.of_clients.lock().expect("nobody panics while looking for a pace");
        let of_client = paces.entry(client.to_owned()).or_default();
        let decisions = &of_client.decisions;
        let pace = || Arc::new(Pace { binds: Mutex::default(), decisions: Arc::clone(decisions), least: self.least });
        Arc::clone(of_client.ways.entry(way).or_insert_with(pace))
    }
}

/// Recent latencies of real binds, and of decisions that nobody's phone rang for, which are the same for all ways.
#[derive(Default)]
pub struct Pace {
    binds: Mutex<Recent>,
    decisions: Arc<Mutex<Recent>>,
    least: Duration,
}

/// By their answer: a directory may take its time over a no, and service accounts bind all day.
#[derive(Default)]
struct Recent {
    no: Latencies,
    yes: Latencies,
}

#[derive(Default)]
struct Latencies {
    kept: Vec<Kept>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Kept {
    latency: Duration,
    noted: Instant,
}

/// Few enough that a busy hour is not answered at the pace of the quiet one before it.
const KEPT: usize = 32;
/// Older ones count only where there is none that is not.
const FRESH: Duration = Duration::from_secs(300);
/// With fewer Nos than these, a Yes is what their time is taken from.
const FEW: usize = 8;
/// Before the first real bind. About what one takes in a small network.
const UNKNOWN: Duration = Duration::from_millis(2);
const JITTER_MICROS: u64 = 8_000;

/// How a real bind or decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A wrong password; a No.
    No,
    /// Whatever else.
    Yes,
}

impl Pace {
    /// A real bind took this long, from the name that was typed to the directory's answer.
    pub fn learn(&self, latency: Duration, now: Instant, said: Said) {
        locked(&self.binds).note(Kept { latency, noted: now }, said);
    }

    /// Verification took this long from there to a decision for which nobody was waited for.
    pub fn learn_decision(&self, latency: Duration, now: Instant, said: Said) {
        locked(&self.decisions).note(Kept { latency, noted: now }, said);
    }

    /// When the refusal of a wrong password goes out that the directory has told now, of an attempt that began at `asked`.
    pub fn after_no(&self, asked: Instant, now: Instant, random: u64) -> Instant {
        let yes = locked(&self.binds).yes.one(random >> 24, now).unwrap_or_default();
        (now.max(asked + yes) + self.decision(random, now)).max(asked + self.least) + jitter(random)
    }

    /// When a No goes out that verification has said now, after the directory had said yes at `accepted`.
    pub fn after_yes(&self, asked: Instant, accepted: Instant, now: Instant, random: u64) -> Instant {
        let no = locked(&self.binds).one_no(random >> 24, now).unwrap_or_default();
        (now + (asked + no).saturating_duration_since(accepted)).max(asked + self.least) + jitter(random)
    }

    /// The same of a decision that could not be had, and that is told as a No. What fails, fails sooner than somebody decides.
    pub fn undecided(&self, asked: Instant, accepted: Instant, now: Instant, random: u64) -> Instant {
        self.after_yes(asked, accepted, now.max(accepted + self.decision(random, now)), random)
    }

    /// When a refusal without a bind goes out, of an attempt that began at `asked`. How often its name was looked up in between, as a
    /// user's and perhaps as a service account's, is within that time.
    pub fn without_bind(&self, asked: Instant, random: u64) -> Instant {
        let bind = {
            let binds = locked(&self.binds);
            binds.one_no(random >> 24, asked).max(binds.yes.one(random >> 36, asked)).unwrap_or(UNKNOWN)
        };
        asked + (bind + self.decision(random, asked)).max(self.least) + jitter(random)
    }

    fn decision(&self, random: u64, now: Instant) -> Duration {
        locked(&self.decisions).one_no(random >> 48, now).unwrap_or_default()
    }
}

impl Recent {
    fn note(&mut self, kept: Kept, said: Said) {
        match said {
            Said::No => self.no.note(kept),
            Said::Yes => self.yes.note(kept),
        }
    }

    fn one_no(&self, random: u64, now: Instant) -> Option<Duration> {
        let few = self.no.kept.len() < FEW && !self.yes.kept.is_empty();
        if few { self.yes.one(random, now) } else { self.no.one(random, now) }
    }
}

impl Latencies {
    fn note(&mut self, kept: Kept) {
        match self.kept.get_mut(self.next) {
            Some(old) => *old = kept,
            None => self.kept.push(kept),
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// One of them, by twelve bits of `random`.
    fn one(&self, random: u64, now: Instant) -> Option<Duration> {
        let is_fresh = |kept: &Kept| now.saturating_duration_since(kept.noted) < FRESH;
        let fresh = self.kept.iter().filter(|&kept| is_fresh(kept)).count();
        let count = if fresh == 0 { self.kept.len() } else { fresh };
        let place = (random & 0xfff).checked_rem(count as u64)?;
        let mut counted = self.kept.iter().filter(|&kept| fresh == 0 || is_fresh(kept));
        counted.nth(place as usize).map(|kept| kept.latency)
    }
}

fn locked(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().expect("nobody panics while noting a latency")
}

/// By 24 bits that nothing else is chosen by.
fn jitter(random: u64) -> Duration {
    Duration::from_micros((random & 0xff_ffff) % JITTER_MICROS)
}

/// Eight random octets. Without a source of randomness the process cannot work at all.
pub fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn many(pace: &Pace, latency: Duration, said: Said) {
        (0..KEPT).for_each(|_| pace.learn(latency, Instant::now(), said));
    }

    #[tokio::test]
    async fn a_refusal_without_a_bind_waits_as_long_as_a_recent_bind_took() {
        // L-41
        let pace = Pace::default();
        let start = Instant::now();
        let waits = |pace: &Pace, random| pace.without_bind(start, random) - start;
        assert_eq!(waits(&pace, 0), UNKNOWN);
        for number in 0..2 * KEPT as u64 {
            pace.learn(millis(1_000 + number), start, Said::Yes);
        }
        for sample in 0..KEPT as u64 {
            let wait = waits(&pace, (sample << 24) | (sample << 36) | (sample * 7919));
            let oldest = millis(1_000 + KEPT as u64);
            assert!(wait >= oldest && wait < oldest + millis(KEPT as u64 + 8), "{wait:?}");
        }
        many(&pace, millis(3_000), Said::No);
        assert_eq!(waits(&pace, 0), millis(3_000));
        many(&pace, millis(50), Said::No);
        assert!(waits(&pace, 0) >= millis(1_000), "as long as a yes takes, where that is longer");
    }

    #[tokio::test]
    async fn every_no_takes_the_longer_bind_and_a_decision() {
        // L-40, L-41: whichever of the two the directory takes longer over
        let start = Instant::now();
        for (no, yes) in [(50, 20), (20, 50)] {
            let pace = Pace::default();
            many(&pace, millis(no), Said::No);
            many(&pace, millis(yes), Said::Yes);
            (0..FEW).for_each(|_| pace.learn_decision(millis(7), start, Said::No));
            pace.learn_decision(millis(900), start, Said::Yes);
            let (refused, accepted) = (start + millis(no), start + millis(yes));
            let denied = accepted + millis(7);
            for random in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
                let expected = start + millis(57) + jitter(random);
                assert_eq!(pace.after_no(start, refused, random), expected);
                assert_eq!(pace.after_yes(start, accepted, denied, random), expected);
                assert_eq!(pace.without_bind(start, random), expected);
            }
        }
    }

    #[tokio::test]
    async fn no_refusal_goes_out_before_its_time_whatever_is_known() {
        // L-40, L-41: from the first bind on, as long as all of it takes no longer
        let start = Instant::now();
        let way = || Way { form: Some(NameForm::Bare), ..Way::default() };
        let paces = Paces::new(millis(100));
        let pace = paces.of("vpn", way());
        for random in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            let expected = start + millis(100) + jitter(random);
            assert_eq!(pace.without_bind(start, random), expected);
            assert_eq!(pace.after_no(start, start + millis(7), random), expected);
            assert_eq!(pace.after_yes(start, start + millis(9), start + millis(95), random), expected);
            assert_eq!(pace.undecided(start, start + millis(9), start + millis(10), random), expected);
        }
        many(&pace, millis(150), Said::No);
        for waits in [
            pace.without_bind(start, 0),
            pace.after_no(start, start + millis(150), 0),
            pace.after_yes(start, start + millis(9), start + millis(9), 0),
            pace.undecided(start, start + millis(9), start + millis(9), 0),
        ] {
            assert_eq!(waits - start, millis(150), "what takes longer takes its time");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_decided_takes_as_long_as_a_decision() {
        // L-40, FL-21: it fails at once, or after the time of one
        let pace = Pace::default();
        let start = Instant::now();
        many(&pace, millis(50), Said::No);
        many(&pace, millis(20), Said::Yes);
        (0..FEW).for_each(|_| pace.learn_decision(millis(7), start, Said::No));
        let accepted = start + millis(20);
        for (failed, told) in [(20, 57), (26, 57), (27, 57), (40, 70)] {
            assert_eq!(pace.undecided(start, accepted, start + millis(failed), 0), start + millis(told), "{failed}");
        }
    }

    #[tokio::test]
    async fn what_was_learnt_long_ago_counts_only_while_nothing_newer_is_known() {
        // L-40, L-41
        let pace = Pace::default();
        let start = Instant::now();
        let later = start + FRESH;
        let waits = |random| pace.after_no(later, later, random) - later;
        (0..FEW).for_each(|_| pace.learn_decision(millis(900), start, Said::No));
        assert_eq!(waits(0), millis(900), "better than none");
        pace.learn_decision(millis(7), later, Said::No);
        for sample in 0..KEPT as u64 {
            assert_eq!(waits(sample << 48), millis(7));
        }
        many(&pace, millis(50), Said::Yes);
        assert!(pace.without_bind(later + FRESH, 0) >= later + FRESH + millis(57), "all are old again");
    }

    #[test]
    fn what_another_domain_takes_paces_nobody_of_this_one() {
        // L-41, FD-02
        let paces = Paces::default();
        let of = |domain: Option<&str>, tail| {
            let (form, domain) = (Some(NameForm::Netbios), domain.map(str::to_owned));
            paces.of("vpn", Way { form, domain, again: false, tail })
        };
        let start = Instant::now();
        of(Some("child.corp.example"), false).learn(Duration::from_secs(3), start, Said::Yes);
        for (domain, tail) in [(None, false), (Some("other.test"), false), (Some("child.corp.example"), true)] {
            assert_eq!(of(domain, tail).without_bind(start, 0) - start, UNKNOWN, "{domain:?}");
        }
        assert!(Arc::ptr_eq(&of(Some("other.test"), false), &of(Some("other.test"), false)));
        // Verification does not care in what words somebody was named.
        of(None, false).learn_decision(millis(9), start, Said::No);
        assert_eq!(of(Some("other.test"), true).without_bind(start, 0) - start, UNKNOWN + millis(9));
        assert_eq!(paces.of("wiki", Way::default()).without_bind(start, 0) - start, UNKNOWN);
    }
}
