//! Who is worked on when more logins come than can be worked on (T-10, R-38): so many at once for each client, and the others wait.
//!
//! ```text
//! enter ── a place is free ──────────────────────────────> worked on ── leave, or too long ──> the next one's turn
//!      └── none ──> waits ── its turn ───────────────────────^
//!                        └── nothing heard of it for long ──> late: its client has given up
//! ```
//!
//! Work on a login whose client has gone is lost, and takes the time of one whose client is there: where everybody waits for a little longer
//! than clients do, all are worked on and nobody is let in. So whoever has waited longest is next only while nobody waits long. When
//! somebody does, there are too many for everybody to be served, and whoever was heard of last is next: that one is still there.
//!
//! Knows no protocol and reads no clock.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Logins worked on at once for one client: between these, as many as are through in [`LONG`]. A directory is asked by 128 connections at
/// the most, so more would only wait there instead.
const AT_ONCE_MIN: usize = 32;
const AT_ONCE_MAX: usize = 256;
/// Where one takes longer from its turn on, there are too many at once.
const LONG: Duration = Duration::from_secs(1);
/// Whoever has its place longer waits for somebody else, such as a server that does not answer: others may be worked on meanwhile.
const PLACE_KEPT: Duration = Duration::from_secs(5);
/// While nobody has waited longer they take turns as they came.
const IN_ORDER: Duration = Duration::from_millis(500);
/// Of whom nothing was heard for so long is not there any more: devices repeat themselves, and people try again.
const LATE: Duration = Duration::from_secs(5);

/// The lines of all clients.
#[derive(Debug)]
pub struct Queue<C>(Mutex<HashMap<C, Line>>);

#[derive(Debug)]
struct Line {
    at_once: usize,
    /// When they became fewer.
    fewer: Option<Instant>,
    /// Since when.
    working: HashMap<u64, Instant>,
    /// By when each was last heard of.
    waiting: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    heard: HashMap<u64, Instant>,
}

/// Whether a login may begin.
#[derive(Debug)]
pub enum Entered {
    Now,
    /// Its turn comes, or an error: it is late.
    Waits(oneshot::Receiver<()>),
}

impl Default for Line {
    fn default() -> Self {
        let (working, waiting, heard) = Default::default();
        Self { at_once: AT_ONCE_MIN, fewer: None, working, waiting, heard }
    }
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Eq + Hash + Clone> Queue<C> {
    /// `login` names it among all of the process. Whoever has entered leaves.
    pub fn enter(&self, client: &C, login: u64, now: Instant) -> Entered {
        let mut lines = self.lock();
        let line = match lines.get_mut(client) {
            Some(line) => line,
            None => lines.entry(client.clone()).or_default(),
        };
        if line.working.len() < line.at_once {
            line.working.insert(login, now);
            return Entered::Now;
        }
        let (turn, waits) = oneshot::channel();
        line.heard.insert(login, now);
        line.waiting.insert((now, login), turn);
        Entered::Waits(waits)
    }

    /// Its client has sent a copy: it is still there.
    pub fn heard(&self, client: &C, login: u64, now: Instant) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(client) else { return };
        let Some(heard) = line.heard.get_mut(&login) else { return };
        if let Some(turn) = line.waiting.remove(&(*heard, login)) {
            *heard = now;
            line.waiting.insert((now, login), turn);
        }
    }

    /// It is worked on no more, or waits for a person, or does not wait for its turn any more. Leaving twice is leaving.
    pub fn leave(&self, client: &C, login: u64, now: Instant) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(client) else { return };
        line.forget(login);
        if let Some(since) = line.working.remove(&login) {
            line.learn(since, now);
        }
        line.fill(now);
    }

    /// To be called about once a second: who is late hears so, and who keeps its place too long has it no more.
    pub fn expire(&self, now: Instant) {
        self.lock().retain(|_, line| {
            line.working.retain(|_, since| now.saturating_duration_since(*since) < PLACE_KEPT);
            while let Some(oldest) = line.waiting.first_entry() {
                let (heard, login) = *oldest.key();
                if now.saturating_duration_since(heard) < LATE {
                    break;
                }
                oldest.remove();
                line.heard.remove(&login);
            }
            line.fill(now);
            !line.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<C, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Gives every free place away.
    fn fill(&mut self, now: Instant) {
        while self.working.len() < self.at_once {
            let oldest = self.waiting.first_key_value().map(|((heard, _), _)| now.saturating_duration_since(*heard));
            let next = match oldest {
                Some(waited) if waited > IN_ORDER => self.waiting.pop_last(),
                _ => self.waiting.pop_first(),
            };
            let Some(((_, login), turn)) = next else { return };
            self.heard.remove(&login);
            // Whoever has gone meanwhile needs no place.
            if turn.send(()).is_ok() {
                self.working.insert(login, now);
            }
        }
    }

    /// One is through that had its turn then. A quarter fewer at once if it took too long, though not once more for those that began before
    /// there were fewer; one more if it did not, and others wait.
    fn learn(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) > LONG {
            if self.fewer.is_none_or(|fewer| fewer <= since) {
                self.at_once = (self.at_once - self.at_once / 4).max(AT_ONCE_MIN);
                self.fewer = Some(now);
            }
        } else if !self.waiting.is_empty() {
            self.at_once = (self.at_once + 1).min(AT_ONCE_MAX);
        }
    }

    fn forget(&mut self, login: u64) {
        if let Some(heard) = self.heard.remove(&login) {
            self.waiting.remove(&(heard, login));
        }
    }

    fn is_empty(&self) -> bool {
        self.working.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oneshot::error::TryRecvError::{Closed, Empty};

    const CLIENT: &str = "vpn";
    const AT_ONCE: usize = AT_ONCE_MAX;

    struct Waiting(HashMap<u64, oneshot::Receiver<()>>);

    impl Waiting {
        /// Those whose turn has come since the last look, and those who are late.
        fn told(&mut self) -> (Vec<u64>, Vec<u64>) {
            let (mut turns, mut late) = (Vec::new(), Vec::new());
            self.0.retain(|login, waits| match waits.try_recv() {
                Ok(()) => {
                    turns.push(*login);
                    false
                }
                Err(Closed) => {
                    late.push(*login);
                    false
                }
                Err(Empty) => true,
            });
            turns.sort_unstable();
            late.sort_unstable();
            (turns, late)
        }
    }

    /// With as many places as there may be, all taken by logins from 1000 on, and these waiting, one each so many milliseconds.
    fn crowd(start: Instant, waiting: std::ops::Range<u64>, apart_ms: u64) -> (Queue<&'static str>, Waiting) {
        let queue = Queue::default();
        queue.lock().insert(CLIENT, Line { at_once: AT_ONCE, ..Line::default() });
        for login in 0..AT_ONCE as u64 {
            assert!(matches!(queue.enter(&CLIENT, 1000 + login, start), Entered::Now));
        }
        let mut all = HashMap::new();
        for (place, login) in waiting.enumerate() {
            let now = start + Duration::from_millis(apart_ms * place as u64);
            let Entered::Waits(waits) = queue.enter(&CLIENT, login, now) else { panic!("{login}: there is no place") };
            all.insert(login, waits);
        }
        (queue, Waiting(all))
    }

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn while_nobody_waits_long_they_take_turns_as_they_came() {
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..4, 10);
        queue.leave(&CLIENT, 1000, ms(start, 100));
        assert_eq!(waiting.told(), (vec![1], vec![]));
        queue.leave(&CLIENT, 1000, ms(start, 200));
        assert_eq!(waiting.told(), (vec![], vec![]), "it has left before");
        queue.leave(&CLIENT, 1001, ms(start, 500));
        assert_eq!(waiting.told(), (vec![2], vec![]));
    }

    #[test]
    fn when_somebody_waits_long_whoever_was_heard_of_last_is_next() {
        // T-10
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..5, 200);
        queue.leave(&CLIENT, 1000, ms(start, 601));
        assert_eq!(waiting.told(), (vec![4], vec![]));
        // Its device repeats itself.
        queue.heard(&CLIENT, 1, ms(start, 700));
        queue.leave(&CLIENT, 1001, ms(start, 800));
        assert_eq!(waiting.told(), (vec![1], vec![]));
    }

    #[test]
    fn whoever_is_not_heard_of_for_long_is_late_and_has_no_turn() {
        // T-10
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..4, 0);
        queue.heard(&CLIENT, 2, ms(start, 1_000));
        for login in 1000..1000 + AT_ONCE as u64 {
            // They go on to be worked on.
            queue.leave(&CLIENT, login, start);
        }
        assert_eq!(waiting.told(), (vec![1, 2, 3], vec![]));
        let (queue, mut waiting) = crowd(start, 1..4, 0);
        queue.heard(&CLIENT, 2, ms(start, 1_000));
        // Those who work are replaced, so that nobody has a place for too long.
        let busy =
            queue.lock().get_mut(CLIENT).map(|line| line.working.values_mut().for_each(|it| *it = ms(start, 4_000)));
        assert!(busy.is_some());
        queue.expire(ms(start, 4_999));
        assert_eq!(waiting.told(), (vec![], vec![]));
        queue.expire(ms(start, 5_000));
        assert_eq!(waiting.told(), (vec![], vec![1, 3]));
        queue.expire(ms(start, 6_000));
        assert_eq!(waiting.told(), (vec![], vec![2]));
    }

    #[test]
    fn a_place_that_is_kept_too_long_is_given_to_somebody_else() {
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..3, 4_500);
        queue.expire(ms(start, 4_999));
        assert_eq!(waiting.told(), (vec![], vec![]));
        queue.expire(ms(start, 5_000));
        assert_eq!(waiting.told(), (vec![2], vec![1]));
        queue.leave(&CLIENT, 2, ms(start, 5_001));
        queue.expire(ms(start, 5_002));
        assert!(queue.lock().is_empty(), "nothing is kept of a client that asks nothing");
    }

    #[test]
    fn whoever_goes_while_it_waits_takes_nobodys_turn() {
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..4, 1);
        queue.leave(&CLIENT, 1, ms(start, 10));
        drop(waiting.0.remove(&2));
        drop(waiting.0.remove(&1));
        queue.leave(&CLIENT, 1000, ms(start, 20));
        assert_eq!(waiting.told(), (vec![3], vec![]));
    }

    #[test]
    fn as_many_are_worked_on_at_once_as_are_through_in_a_second() {
        // T-10
        let start = Instant::now();
        let (queue, _waiting) = crowd(start, 1..2, 0);
        let mut lines = queue.lock();
        let line = lines.get_mut(CLIENT).expect("somebody waits");
        line.learn(ms(start, 500), ms(start, 1_501));
        assert_eq!(line.at_once, AT_ONCE_MAX / 4 * 3);
        line.learn(ms(start, 1_500), ms(start, 2_900));
        assert_eq!(line.at_once, AT_ONCE_MAX / 4 * 3, "it began before");
        for second in 2..100 {
            line.learn(ms(start, second * 1_000), ms(start, second * 1_000 + 1_001));
        }
        assert_eq!(line.at_once, AT_ONCE_MIN);
        for _ in 0..1_000 {
            line.learn(start, ms(start, 1_000));
        }
        assert_eq!(line.at_once, AT_ONCE_MAX);
        line.waiting.clear();
        line.at_once = AT_ONCE_MIN;
        line.learn(start, start);
        assert_eq!(line.at_once, AT_ONCE_MIN, "nobody waits");
    }

    #[test]
    fn one_client_keeps_nobody_of_another_waiting() {
        let (queue, _waiting) = crowd(Instant::now(), 1..3, 1);
        assert!(matches!(queue.enter(&"other", 7, Instant::now()), Entered::Now));
    }
}
