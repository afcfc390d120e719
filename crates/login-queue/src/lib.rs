//! Who is worked on when more logins come than can be worked on (T-10, R-38): so many at once for each client, and the others wait.
//!
//! ```text
//! enter ── a place is free ──────────────────────────────> worked on ── leave, or too long ──> the next one's turn
//!      └── none ──> waits ── its turn ───────────────────────^
//!                        ├── its next copy is overdue ──> late: its client has given up
//!                        └── its client waits hardly longer ──> in vain: it is told so
//! ```
//!
//! Work on a login whose client has gone is lost, and takes the time of one whose client is there: where everybody waits for a little longer
//! than clients do, all are worked on and nobody is let in. So whoever has waited longest is next only while nobody waits long. When
//! somebody does, there are too many for everybody to be served, and whoever was heard of last is next: that one is still there.
//!
//! A device that asks once and waits for a minute is as silent as one that has gone. So only who was seen to repeat itself is late.
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
/// Who has repeated itself, and of whom nothing was heard for so long and for longer than its next copy may take, is not there any more.
const LATE: Duration = Duration::from_secs(5);
/// No device repeats itself sooner: the network has made such a copy.
const REPEATS_MIN: Duration = Duration::from_millis(500);

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
    waiting: BTreeMap<(Instant, u64), Waiting>,
    heard: HashMap<u64, Instant>,
}

#[derive(Debug)]
struct Waiting {
    turn: oneshot::Sender<Turn>,
    until: Instant,
    /// The longest before a copy, once one came.
    gap: Option<Duration>,
}

/// Whether a login may begin.
#[derive(Debug)]
pub enum Entered {
    Now,
    /// An error: it is late, and nobody is there who could be answered.
    Waits(oneshot::Receiver<Turn>),
}

/// What whoever waits is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Comes,
    /// It does not come in time.
    InVain,
}

/// How a client shows that it still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It has sent the same once more, and is to be expected to do so again.
    Copy,
    /// It asks for the same person: a device that repeats itself in new requests, or a person who tries again.
    LookAlike,
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
    /// `login` names it among all of the process; `until` then its client can still be told that it waits in vain. Whoever has entered
    /// leaves.
    pub fn enter(&self, client: &C, login: u64, until: Instant, now: Instant) -> Entered {
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
        line.waiting.insert((now, login), Waiting { turn, until, gap: None });
        Entered::Waits(waits)
    }

    /// Its client is still there.
    pub fn heard(&self, client: &C, login: u64, sign: Sign, now: Instant) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(client) else { return };
        let Some(heard) = line.heard.get_mut(&login) else { return };
        if let Some(mut waiting) = line.waiting.remove(&(*heard, login)) {
            let gap = now.saturating_duration_since(*heard);
            if sign == Sign::Copy && gap >= REPEATS_MIN {
                waiting.gap = waiting.gap.max(Some(gap));
            }
            *heard = now;
            line.waiting.insert((now, login), waiting);
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

    /// To be called about once a second: who is late or waits in vain hears so, and who keeps its place too long has it no more.
    pub fn expire(&self, now: Instant) {
        self.lock().retain(|_, line| {
            line.working.retain(|_, since| now.saturating_duration_since(*since) < PLACE_KEPT);
            for ((_, login), waiting) in line.waiting.extract_if(.., |(heard, _), it| it.is_over(*heard, now)) {
                line.heard.remove(&login);
                if now >= waiting.until {
                    let _ = waiting.turn.send(Turn::InVain);
                }
            }
            line.fill(now);
            !line.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<C, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_over(&self, heard: Instant, now: Instant) -> bool {
        // Each gap may be twice the one before and a tenth more (RFC 5080 section 2.2.1), and packets may be late.
        let overdue = self.gap.map(|gap| LATE.max(gap * 5 / 2 + Duration::from_secs(1)));
        now >= self.until || overdue.is_some_and(|overdue| now.saturating_duration_since(heard) >= overdue)
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
            let Some(((_, login), waiting)) = next else { return };
            self.heard.remove(&login);
            // Whoever has gone meanwhile needs no place.
            if waiting.turn.send(Turn::Comes).is_ok() {
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

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Crowd(HashMap<u64, oneshot::Receiver<Turn>>);

    impl Crowd {
        /// Those whose turn has come since the last look, and those who are late.
        fn told(&mut self) -> (Vec<u64>, Vec<u64>) {
            let [turns, late, in_vain] = self.heard();
            assert_eq!(in_vain, [], "in vain");
            (turns, late)
        }

        /// And those who have waited in vain.
        fn heard(&mut self) -> [Vec<u64>; 3] {
            let mut told = [const { Vec::new() }; 3];
            self.0.retain(|login, waits| {
                let place = match waits.try_recv() {
                    Ok(Turn::Comes) => 0,
                    Err(Closed) => 1,
                    Ok(Turn::InVain) => 2,
                    Err(Empty) => return true,
                };
                told[place].push(*login);
                false
            });
            for logins in &mut told {
                logins.sort_unstable();
            }
            told
        }
    }

    /// Those who work are replaced by others, so that nobody has a place for too long.
    fn busy(queue: &Queue<&'static str>, now: Instant) {
        let mut lines = queue.lock();
        lines.get_mut(CLIENT).expect("somebody waits").working.values_mut().for_each(|since| *since = now);
    }

    /// With as many places as there may be, all taken by logins from 1000 on, and these waiting, one each so many milliseconds.
    fn crowd(start: Instant, waiting: std::ops::Range<u64>, apart_ms: u64) -> (Queue<&'static str>, Crowd) {
        let queue = Queue::default();
        queue.lock().insert(CLIENT, Line { at_once: AT_ONCE, ..Line::default() });
        for login in 0..AT_ONCE as u64 {
            assert!(matches!(queue.enter(&CLIENT, 1000 + login, start + PATIENCE, start), Entered::Now));
        }
        let mut all = HashMap::new();
        for (place, login) in waiting.enumerate() {
            let now = start + Duration::from_millis(apart_ms * place as u64);
            let Entered::Waits(waits) = queue.enter(&CLIENT, login, now + PATIENCE, now) else {
                panic!("{login}: there is no place")
            };
            all.insert(login, waits);
        }
        (queue, Crowd(all))
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
        queue.heard(&CLIENT, 1, Sign::Copy, ms(start, 700));
        queue.leave(&CLIENT, 1001, ms(start, 800));
        assert_eq!(waiting.told(), (vec![1], vec![]));
    }

    #[test]
    fn whoever_was_seen_to_repeat_itself_and_is_silent_is_late_and_has_no_turn() {
        // T-10, R-38: by when each shows that it is there, and when it is late, in milliseconds; none: it waits for its client's whole time
        const COPY: Sign = Sign::Copy;
        for (what, signs, late) in [
            ("a device that asks once", &[][..], None),
            ("each second", &[(1_000, COPY), (2_000, COPY)], Some(7_000)),
            ("each two seconds", &[(2_000, COPY)], Some(8_000)),
            ("each five seconds", &[(5_000, COPY), (10_000, COPY)], Some(23_500)),
            ("twice as long each time", &[(2_000, COPY), (6_000, COPY)], Some(17_000)),
            ("once after half of its time", &[(30_000, COPY)], None),
            ("the network doubles packets", &[(3, COPY)], None),
            ("somebody tries again", &[(4_000, Sign::LookAlike)], None),
            ("in new requests", &[(2_000, Sign::LookAlike), (4_000, Sign::LookAlike)], None),
        ] {
            let start = Instant::now();
            let (queue, mut waiting) = crowd(start, 1..2, 0);
            let mut signs = signs.iter().peekable();
            let mut ended = None;
            for now in (0..=61_000).step_by(500) {
                while let Some((at, sign)) = signs.next_if(|(at, _)| *at <= now) {
                    queue.heard(&CLIENT, 1, *sign, ms(start, *at));
                }
                busy(&queue, ms(start, now));
                queue.expire(ms(start, now));
                match waiting.heard() {
                    [turns, late, in_vain] if !late.is_empty() || !in_vain.is_empty() => {
                        assert_eq!(turns, [], "{what}");
                        ended = Some((now, late.is_empty()));
                        break;
                    }
                    _ => {}
                }
            }
            assert_eq!(ended, Some(late.map_or((60_000, true), |late| (late, false))), "{what}");
            let lines = queue.lock();
            let line = lines.get(CLIENT).expect("others work");
            assert!(line.waiting.is_empty() && line.heard.is_empty(), "{what}");
        }
    }

    #[test]
    fn whoever_asks_once_has_its_turn_when_the_others_are_through() {
        // T-10
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..4, 0);
        busy(&queue, ms(start, 29_000));
        queue.expire(ms(start, 30_000));
        assert_eq!(waiting.told(), (vec![], vec![]));
        for login in 1000..1003 {
            queue.leave(&CLIENT, login, ms(start, 30_000));
        }
        assert_eq!(waiting.told(), (vec![1, 2, 3], vec![]));
    }

    #[test]
    fn a_place_that_is_kept_too_long_is_given_to_somebody_else() {
        let start = Instant::now();
        let (queue, mut waiting) = crowd(start, 1..3, 4_500);
        queue.expire(ms(start, 4_999));
        assert_eq!(waiting.told(), (vec![], vec![]));
        queue.expire(ms(start, 5_000));
        assert_eq!(waiting.told(), (vec![1, 2], vec![]));
        queue.leave(&CLIENT, 1, ms(start, 5_001));
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
        assert!(matches!(queue.enter(&"other", 7, Instant::now() + PATIENCE, Instant::now()), Entered::Now));
    }
}
