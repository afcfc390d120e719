//! The duplicate cache of one node (A4): every exchange is asked once and answered once.
//!
//! ```text
//!            first copy            answer                 reply kept long enough
//!   (none) ------------> pending ---------> answered -----------------------> (none)
//!                         | copy: silence     | copy: the same octets again
//!                         '- another packet under the same key: orphaned, a new exchange begins
//! ```
//! Several exchanges may wait for one answer, where the device repeats itself in other words (R-34): they are one work, which
//! has the name of the first of them and is orphaned with the last.
//!
//! Only verified requests get in (RFC 5080 section 2.2.2). Full means: what is new is dropped, never what is pending (R-38).

use crate::authenticator::Verified;
use crate::look_alike::LookAlike;
use crate::packet::Code;
use hashbrown::HashTable;
use sha2::{Digest, Sha256};
use slab::Slab;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// All exchanges of this node. `now` is the time since any fixed moment, on a monotonic clock.
pub struct Exchanges {
    limits: ExchangeLimits,
    /// Each entry and each work once, because tens of thousands of them wait; whatever finds them has their place alone.
    entries: Slab<Entry>,
    works: Slab<Work>,
    by_key: HashTable<usize>,
    /// Works that may be joined or resembled.
    by_likeness: HashTable<usize>,
    hasher: RandomState,
    /// When each entry ends, by state; the place makes equal moments distinct.
    pending: BTreeSet<(Duration, usize)>,
    answered: BTreeSet<(Duration, usize)>,
    pending_of_source: HashMap<IpAddr, usize>,
    last_serial: u64,
}

/// What is to be done with a request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// New: work on it, then [`Exchanges::answer`].
    Ask(ExchangeId),
    /// New, under the key of another request that had no answer yet: the work on that one is orphaned and is to be ended (R-32).
    Replaced { orphan: ExchangeId, ask: ExchangeId },
    /// New to look at, but a look-alike of what is in work: it waits for the same answer (R-34). What stood under its key may be
    /// orphaned by it as by any other.
    Joins { work: ExchangeId, id: ExchangeId, orphan: Option<ExchangeId> },
    /// A copy of a request still in work, which is named: say nothing (R-30).
    StillWaiting(ExchangeId),
    /// A copy of an answered request: send these octets again (R-30).
    Resend(Arc<[u8]>),
    /// No room, in all or for this source: drop it (R-38).
    Full,
}

impl Exchanges {
    pub fn new(limits: ExchangeLimits) -> Self {
        Self {
            limits,
            entries: Slab::new(),
            works: Slab::new(),
            by_key: HashTable::new(),
            by_likeness: HashTable::new(),
            hasher: RandomState::new(),
            pending: BTreeSet::new(),
            answered: BTreeSet::new(),
            pending_of_source: HashMap::new(),
            last_serial: 0,
        }
    }

    pub fn receive(
        &mut self,
        key: ExchangeKey,
        fingerprint: Fingerprint,
        alike: Option<LookAlike>,
        now: Duration,
    ) -> Received {
        let standing = self.place_of(&key);
        let mut in_the_way = None;
        if let Some((place, entry)) = standing.and_then(|place| Some((place, self.entries.get(place)?))) {
            if entry.ends > now && entry.fingerprint == fingerprint {
                return match &entry.reply {
                    Some(reply) => Received::Resend(reply.clone()),
                    None => Received::StillWaiting(self.name_of(place, entry)),
                };
            }
            in_the_way = Some((place, entry.reply.is_none()));
        }
        // Before the room is looked for, so that what is replaced may be what is joined.
        let joined = alike.filter(LookAlike::joins).and_then(|alike| self.in_work(&alike, now));
        if let Some(work) = joined.and_then(|work| self.works.get_mut(work)) {
            work.members += 1;
        }
        let orphan = in_the_way.and_then(|(place, _)| self.remove(place));
        let takes_its_room = matches!(in_the_way, Some((_, true)));
        if !takes_its_room && !self.has_room(&key, now) {
            if let Some(work) = joined {
                self.leave_work(work);
            }
            return Received::Full;
        }
        if let Some((place, work)) = joined.and_then(|place| Some((place, self.works.get(place)?))) {
            let (work, ends) = (work.id, work.ends);
            let id = self.begin(key, fingerprint, Some(place), ends);
            return Received::Joins { work, id, orphan };
        }
        let ends = now + self.limits.pending_kept;
        let ask = self.begin(key, fingerprint, None, ends);
        if let Some(alike) = alike {
            self.stands_for(alike, ask.work);
        }
        match orphan {
            Some(orphan) => Received::Replaced { orphan, ask },
            None => Received::Ask(ask),
        }
    }

    /// Whether something like it is in work, be it that it may join or not: its device repeats itself in new requests (R-37).
    pub fn resembles(&self, alike: &LookAlike, now: Duration) -> bool {
        self.like(alike).and_then(|work| self.works.get(work)).is_some_and(|work| work.ends > now)
    }

    /// Whether anybody still waits for the answer of this work.
    pub fn is_awaited(&self, work: &ExchangeId) -> bool {
        self.works.get(work.work).is_some_and(|found| found.id == *work)
    }

    /// Nobody joins this work any more: its answer is about to go out, or there will be none.
    pub fn finish(&mut self, work: &ExchangeId) {
        if self.is_awaited(work) {
            self.is_joined_no_more(work.work);
        }
    }

    /// Keeps the reply for later copies. False where the exchange is gone (replaced, expired or answered before): then
    /// the reply must not be sent.
    #[must_use]
    pub fn answer(&mut self, id: &ExchangeId, reply: impl Into<Arc<[u8]>>, now: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(id.place).filter(|entry| entry.is_pending_as(id)) else { return false };
        self.pending.remove(&(entry.ends, id.place));
        entry.reply = Some(reply.into());
        entry.ends = now + self.limits.reply_kept;
        let (work, source) = (entry.work, entry.key.source.ip());
        self.answered.insert((entry.ends, id.place));
        self.leave(source);
        self.leave_work(work);
        true
    }

    /// Ends an exchange that gets no answer at all, or none from here. A further copy is new again.
    /// Returns the work, if nobody waits for it any more.
    pub fn forget(&mut self, id: &ExchangeId) -> Option<ExchangeId> {
        self.entries.get(id.place).filter(|entry| entry.is_pending_as(id))?;
        self.remove(id.place)
    }

    /// A connection has closed: its answers are forgotten, and what is in work for it has nobody left to hear the answer
    /// (R-91). Returns the works that nobody waits for any more: they are to be ended.
    pub fn close(&mut self, listener: SocketAddr, source: SocketAddr) -> Vec<ExchangeId> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut unanswered = Vec::new();
        for code in Code::REQUESTS {
            for identifier in 0..=u8::MAX {
                let key = ExchangeKey { listener, transport: Transport::Tls, source, code, identifier };
                unanswered.extend(self.place_of(&key).and_then(|place| self.remove(place)));
            }
        }
        unanswered
    }

    /// Forgets everything. Returns the works, which nobody waits for any more: they are to be ended.
    pub fn clear(&mut self) -> Vec<ExchangeId> {
        let places: Vec<usize> = self.entries.iter().map(|(place, _)| place).collect();
        places.into_iter().filter_map(|place| self.remove(place)).collect()
    }

    /// Removes what has had its time. Returns the works that nobody waits for any more: they are to be ended too.
    pub fn expire(&mut self, now: Duration) -> Vec<ExchangeId> {
        while let Some(&(ends, place)) = self.answered.first()
            && ends <= now
        {
            self.remove(place);
        }
        let mut unanswered = Vec::new();
        while let Some(&(ends, place)) = self.pending.first()
            && ends <= now
        {
            unanswered.extend(self.remove(place));
        }
        unanswered
    }

    /// When [`Exchanges::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.pending.first().into_iter().chain(self.answered.first()).map(|(ends, _)| *ends).min()
    }

    /// Requests in work.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Requests in work and answers kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Answers that were kept at least as long as RFC 5080 asks for make room for what is new; nothing pending ever does.
    fn has_room(&mut self, key: &ExchangeKey, now: Duration) -> bool {
        if self
            .pending_of_source
            .get(&key.source.ip())
            .is_some_and(|pending| *pending >= self.limits.pending_per_source_max)
        {
            return false;
        }
        if self.entries.len() < self.limits.entries_max {
            return true;
        }
        let Some(&(ends, oldest)) = self.answered.first() else { return false };
        let kept_enough = ends.saturating_sub(self.limits.reply_kept) + REPLY_KEPT_MIN <= now;
        if kept_enough || ends <= now {
            self.remove(oldest);
        }
        kept_enough || ends <= now
    }

    fn place_of(&self, key: &ExchangeKey) -> Option<usize> {
        let is_it = |place: &usize| self.entries.get(*place).is_some_and(|entry| entry.key == *key);
        self.by_key.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// The latest work that is like it.
    fn like(&self, alike: &LookAlike) -> Option<usize> {
        let is_it = |work: &usize| self.works.get(*work).is_some_and(|work| work.alike == Some(*alike));
        self.by_likeness.find(self.hasher.hash_one(alike), is_it).copied()
    }

    /// The work that may be joined.
    fn in_work(&self, alike: &LookAlike, now: Duration) -> Option<usize> {
        let found = self.like(alike)?;
        self.works.get(found).filter(|work| work.ends > now && work.members < MEMBERS_MAX).map(|_| found)
    }

    /// A work stands for all that are like it: those before it are as good as over when a device does not name its people.
    fn stands_for(&mut self, alike: LookAlike, work: usize) {
        if let Some(before) = self.like(&alike) {
            self.is_joined_no_more(before);
        }
        if let Some(work) = self.works.get_mut(work) {
            work.alike = Some(alike);
        }
        let (works, hasher) = (&self.works, &self.hasher);
        let likeness = |work: &usize| works.get(*work).and_then(|work| work.alike);
        let rehash = |work: &usize| likeness(work).map_or(0, |alike| hasher.hash_one(alike));
        self.by_likeness.insert_unique(hasher.hash_one(alike), work, rehash);
    }

    fn is_joined_no_more(&mut self, work: usize) {
        let Some(alike) = self.works.get_mut(work).and_then(|work| work.alike.take()) else { return };
        if let Ok(found) = self.by_likeness.find_entry(self.hasher.hash_one(alike), |found| *found == work) {
            found.remove();
        }
    }

    fn name_of(&self, place: usize, entry: &Entry) -> ExchangeId {
        let own = ExchangeId { place, work: entry.work, serial: entry.serial };
        self.works.get(entry.work).map_or(own, |work| work.id)
    }

    /// Of the work at this place, or of one of its own.
    fn begin(&mut self, key: ExchangeKey, fingerprint: Fingerprint, work: Option<usize>, ends: Duration) -> ExchangeId {
        self.last_serial += 1;
        let place = self.entries.vacant_key();
        let work_place = work.unwrap_or_else(|| self.works.vacant_key());
        let id = ExchangeId { place, work: work_place, serial: self.last_serial };
        if work.is_none() {
            self.works.insert(Work { id, alike: None, ends, members: 1 });
        }
        self.entries.insert(Entry { key, fingerprint, serial: id.serial, work: work_place, ends, reply: None });
        self.pending.insert((ends, place));
        *self.pending_of_source.entry(key.source.ip()).or_default() += 1;
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |place: &usize| entries.get(*place).map_or(0, |entry| hasher.hash_one(entry.key));
        self.by_key.insert_unique(hasher.hash_one(key), place, rehash);
        id
    }

    /// Returns the work that nobody waits for any more.
    fn remove(&mut self, place: usize) -> Option<ExchangeId> {
        let entry = self.entries.try_remove(place)?;
        if let Ok(found) = self.by_key.find_entry(self.hasher.hash_one(entry.key), |found| *found == place) {
            found.remove();
        }
        if entry.reply.is_some() {
            self.answered.remove(&(entry.ends, place));
            return None;
        }
        self.pending.remove(&(entry.ends, place));
        self.leave(entry.key.source.ip());
        self.leave_work(entry.work)
    }

    fn leave_work(&mut self, place: usize) -> Option<ExchangeId> {
        let work = self.works.get_mut(place)?;
        work.members -= 1;
        if work.members > 0 {
            return None;
        }
        self.is_joined_no_more(place);
        self.works.try_remove(place).map(|work| work.id)
    }

    fn leave(&mut self, source: IpAddr) {
        if let Some(pending) = self.pending_of_source.get_mut(&source) {
            *pending -= 1;
            if *pending == 0 {
                self.pending_of_source.remove(&source);
            }
        }
    }
}

/// RFC 5080 section 2.2.2.
const REPLY_KEPT_MIN: Duration = Duration::from_secs(5);

/// A device that repeats itself more often than this in new requests is asked anew, and its person is not.
const MEMBERS_MAX: usize = 32;

/// The bounds of the cache.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeLimits {
    /// In work and answered together.
    pub entries_max: usize,
    /// In work for one source address.
    pub pending_per_source_max: usize,
    /// How long a reply is kept: 5 to 30 s (R-31).
    pub reply_kept: Duration,
    /// How long a request may be in work: the longest wait for a person and 30 s (R-31).
    pub pending_kept: Duration,
}

impl Default for ExchangeLimits {
    fn default() -> Self {
        Self {
            entries_max: 262_144,
            pending_per_source_max: 65_536,
            reply_kept: Duration::from_secs(30),
            pending_kept: Duration::from_secs(90),
        }
    }
}

/// What makes two packets the same exchange, before their contents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeKey {
    /// Our address and port that the request came to; the reply leaves from there (R-33).
    pub listener: SocketAddr,
    pub transport: Transport,
    pub source: SocketAddr,
    pub code: Code,
    pub identifier: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Udp,
    /// RadSec. Source and listener are the two ends of the connection.
    Tls,
}

impl ExchangeKey {
    /// An IPv4 address in IPv6 form is the same source as the plain one.
    pub fn new(listener: SocketAddr, transport: Transport, source: SocketAddr, request: &Verified<'_>) -> Self {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        Self { listener, transport, source, code: request.packet().code(), identifier: request.packet().identifier() }
    }

    /// The key for the map that all nodes share: without our own address, in letters and digits only.
    pub fn shared(&self) -> String {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tls => "tls",
        };
        let address = match self.source.ip() {
            IpAddr::V4(address) => format!("{:08x}", address.to_bits()),
            IpAddr::V6(address) => format!("{:032x}", address.to_bits()),
        };
        format!("{transport}-{address}-{}-{}-{}", self.source.port(), self.code as u8, self.identifier)
    }
}

/// What tells a copy from another packet under the same key. The authenticator alone would do for an honest client; the
/// digest keeps one with a poor random generator from being answered for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub authenticator: [u8; 16],
    pub sha256: [u8; 32],
}

impl Fingerprint {
    pub fn of(request: &Verified<'_>) -> Self {
        let packet = request.packet();
        Self { authenticator: *packet.authenticator(), sha256: Sha256::digest(packet.octets()).into() }
    }
}

/// One exchange. A later one under the same key has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    /// Those of its entry and of its work, which others have after it.
    place: usize,
    work: usize,
    serial: u64,
}

impl ExchangeId {
    /// Of no other exchange, before or after it.
    pub fn serial(&self) -> u64 {
        self.serial
    }
}

struct Entry {
    key: ExchangeKey,
    fingerprint: Fingerprint,
    serial: u64,
    /// Where its work is.
    work: usize,
    ends: Duration,
    reply: Option<Arc<[u8]>>,
}

impl Entry {
    fn is_pending_as(&self, id: &ExchangeId) -> bool {
        self.serial == id.serial && self.reply.is_none()
    }
}

/// What one answer is being found for. It has the name of its first exchange.
struct Work {
    id: ExchangeId,
    /// None where nothing joins it any more.
    alike: Option<LookAlike>,
    ends: Duration,
    /// Exchanges that wait for it.
    members: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn exchanges() -> Exchanges {
        Exchanges::new(ExchangeLimits {
            entries_max: 4,
            pending_per_source_max: 3,
            reply_kept: at(30),
            pending_kept: at(90),
        })
    }

    fn key(host: u8, identifier: u8) -> ExchangeKey {
        ExchangeKey {
            listener: ([10, 0, 0, 1], 1812).into(),
            transport: Transport::Udp,
            source: ([192, 0, 2, host], 1645).into(),
            code: Code::AccessRequest,
            identifier,
        }
    }

    fn packet(authenticator: u8) -> Fingerprint {
        Fingerprint { authenticator: [authenticator; 16], sha256: [0; 32] }
    }

    #[track_caller]
    fn ask(exchanges: &mut Exchanges, key: ExchangeKey, fingerprint: Fingerprint, now: u64) -> ExchangeId {
        match exchanges.receive(key, fingerprint, None, at(now)) {
            Received::Ask(id) => id,
            other => panic!("expected to ask, found {other:?}"),
        }
    }

    fn reply(octets: &[u8]) -> Received {
        Received::Resend(octets.into())
    }

    #[test]
    fn a_retransmission_during_the_wait_starts_nothing_and_afterwards_gets_the_same_octets() {
        // R-30. One request, twenty copies while it waits, the answer, three more copies.
        let mut exchanges = exchanges();
        let first = ask(&mut exchanges, key(1, 1), packet(1), 0);
        for second in 1..=20 {
            assert_eq!(exchanges.receive(key(1, 1), packet(1), None, at(second)), Received::StillWaiting(first));
        }
        assert!(exchanges.answer(&first, *b"accept", at(60)));
        for second in 61..=63 {
            assert_eq!(exchanges.receive(key(1, 1), packet(1), None, at(second)), reply(b"accept"));
        }
        assert_eq!((exchanges.pending(), exchanges.len()), (0, 1));
    }

    #[test]
    fn every_part_of_the_key_makes_another_exchange() {
        // A4: our address, transport, source address and port, Code, Identifier.
        let mut exchanges = Exchanges::new(ExchangeLimits::default());
        let first = key(1, 1);
        ask(&mut exchanges, first, packet(1), 0);
        ask(&mut exchanges, ExchangeKey { listener: ([10, 0, 0, 2], 1812).into(), ..first }, packet(1), 0);
        ask(&mut exchanges, ExchangeKey { source: ([192, 0, 2, 2], 1645).into(), ..first }, packet(1), 0);
        ask(&mut exchanges, ExchangeKey { source: ([192, 0, 2, 1], 1646).into(), ..first }, packet(1), 0);
        ask(&mut exchanges, ExchangeKey { code: Code::StatusServer, ..first }, packet(1), 0);
        ask(&mut exchanges, ExchangeKey { identifier: 2, ..first }, packet(1), 0);
        assert_eq!(exchanges.pending(), 6);
    }

    #[test]
    fn another_authenticator_under_the_same_key_replaces_what_is_pending() {
        // R-32: the old transaction is orphaned, its answer is never sent.
        let mut exchanges = exchanges();
        let old = ask(&mut exchanges, key(1, 1), packet(1), 0);
        let Received::Replaced { orphan, ask: new } = exchanges.receive(key(1, 1), packet(2), None, at(1)) else {
            panic!("not replaced")
        };
        assert_eq!(orphan, old);
        assert!(!exchanges.answer(&old, *b"accept for the old one", at(2)));
        assert_eq!(exchanges.receive(key(1, 1), packet(2), None, at(3)), Received::StillWaiting(new));
        assert!(exchanges.answer(&new, *b"reject", at(4)));
        assert_eq!(exchanges.receive(key(1, 1), packet(2), None, at(5)), reply(b"reject"));
    }

    #[test]
    fn another_authenticator_under_the_same_key_never_gets_the_old_reply() {
        // R-32, for an answered one.
        let mut exchanges = exchanges();
        let old = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&old, *b"accept", at(1)));
        ask(&mut exchanges, key(1, 1), packet(2), 2);
        // And the old packet, coming late, is new as well: its reply is gone.
        assert!(matches!(exchanges.receive(key(1, 1), packet(1), None, at(3)), Received::Replaced { .. }));
    }

    #[test]
    fn the_same_authenticator_with_other_contents_is_no_copy() {
        // A device without randomness must not get one person's Accept for another.
        let mut exchanges = exchanges();
        let first = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&first, *b"accept", at(1)));
        ask(&mut exchanges, key(1, 1), Fingerprint { sha256: [1; 32], ..packet(1) }, 2);
    }

    #[test]
    fn a_reply_is_kept_for_its_time_and_counted_from_the_answer() {
        // R-31
        let mut exchanges = exchanges();
        let id = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&id, *b"accept", at(60)));
        assert_eq!(exchanges.next_expiry(), Some(at(90)));
        assert_eq!(exchanges.expire(at(89)), []);
        assert_eq!(exchanges.receive(key(1, 1), packet(1), None, at(89)), reply(b"accept"));
        assert_eq!(exchanges.expire(at(90)), [], "an answered exchange ends in silence");
        assert!(exchanges.is_empty());
        ask(&mut exchanges, key(1, 1), packet(1), 91);
    }

    #[test]
    fn what_is_over_is_over_even_before_anybody_cleans_up() {
        let mut exchanges = exchanges();
        let id = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&id, *b"accept", at(0)));
        ask(&mut exchanges, key(1, 1), packet(1), 30);
        assert_eq!(exchanges.len(), 1);
    }

    #[test]
    fn a_pending_exchange_that_outlives_every_wait_is_given_back() {
        // R-31: at most the wait and 30 s. Whoever works on it is told to stop.
        let mut exchanges = exchanges();
        let id = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert_eq!(exchanges.expire(at(89)), []);
        assert_eq!(exchanges.expire(at(90)), [id]);
        assert!(!exchanges.answer(&id, *b"too late", at(91)));
        assert_eq!((exchanges.pending(), exchanges.len(), exchanges.next_expiry()), (0, 0, None));
    }

    #[test]
    fn an_exchange_is_answered_once() {
        // R-36
        let mut exchanges = exchanges();
        let id = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&id, *b"reject", at(60)));
        assert!(!exchanges.answer(&id, *b"accept", at(61)), "a late approval changes nothing");
        assert_eq!(exchanges.receive(key(1, 1), packet(1), None, at(62)), reply(b"reject"));
    }

    #[test]
    fn a_forgotten_exchange_may_be_asked_again() {
        // R-20: some requests get no answer at all.
        let mut exchanges = exchanges();
        let id = ask(&mut exchanges, key(1, 1), packet(1), 0);
        exchanges.forget(&id);
        assert!(exchanges.is_empty());
        let again = ask(&mut exchanges, key(1, 1), packet(1), 1);
        exchanges.forget(&id);
        assert_eq!(exchanges.pending(), 1, "an old id does not reach the new exchange");
        assert_ne!(id, again);
    }

    #[test]
    fn a_full_cache_drops_what_is_new_and_never_what_is_pending() {
        // R-38
        let mut exchanges = exchanges();
        let ids: Vec<_> = (1..=4).map(|host| ask(&mut exchanges, key(host, 1), packet(1), 0)).collect();
        assert_eq!(exchanges.receive(key(5, 1), packet(1), None, at(1)), Received::Full);
        assert_eq!(exchanges.receive(key(1, 1), packet(1), None, at(1)), Received::StillWaiting(ids[0]));
        assert!(
            matches!(exchanges.receive(key(2, 1), packet(2), None, at(1)), Received::Replaced { .. }),
            "it needs no more room"
        );
        // An answer makes room, but only when it was kept as long as RFC 5080 asks for.
        assert!(exchanges.answer(&ids[0], *b"accept", at(2)));
        assert_eq!(exchanges.receive(key(5, 1), packet(1), None, at(6)), Received::Full);
        ask(&mut exchanges, key(5, 1), packet(1), 7);
        assert_eq!(exchanges.receive(key(3, 1), packet(1), None, at(8)), Received::StillWaiting(ids[2]));
        assert_eq!((exchanges.pending(), exchanges.len()), (4, 4));
    }

    #[test]
    fn one_source_cannot_take_all_the_room() {
        // R-38: a cap for each source besides the one for all.
        let mut exchanges = exchanges();
        let first = ask(&mut exchanges, key(1, 1), packet(1), 0);
        ask(&mut exchanges, key(1, 2), packet(1), 0);
        ask(&mut exchanges, key(1, 3), packet(1), 0);
        assert_eq!(exchanges.receive(key(1, 4), packet(1), None, at(0)), Received::Full);
        ask(&mut exchanges, key(2, 1), packet(1), 0);
        exchanges.forget(&first);
        ask(&mut exchanges, key(1, 4), packet(1), 0);
    }

    fn alike(person: &str, station: bool) -> Option<LookAlike> {
        let secret = crate::Secret::new("xyzzy5461").expect("not empty");
        let name = crate::Attribute { kind: crate::AttributeType::USER_NAME, value: person.as_bytes() };
        let calling = crate::Attribute { kind: crate::AttributeType::CALLING_STATION_ID, value: b"02-00-5e-10" };
        let request = crate::Request {
            code: crate::RequestCode::AccessRequest,
            identifier: 1,
            authenticator: [1; 16],
            attributes: if station { &[name, calling] } else { &[name] },
            password: Some("sesame"),
        };
        let octets = request.write(&secret).expect("it fits");
        let packet = crate::Packet::parse(&octets, crate::Port::Authentication).expect("well formed");
        let verified = crate::verify_request(packet, (&secret).into(), crate::Rules::default()).ok()?;
        LookAlike::of(&verified, "vpn", &[7; 32], false)
    }

    #[test]
    fn a_look_alike_waits_for_the_answer_to_the_first_and_each_gets_its_own() {
        // R-34: another identifier, another port
        let mut exchanges = exchanges();
        let ann = alike("ann", true);
        let Received::Ask(first) = exchanges.receive(key(1, 1), packet(1), ann, at(0)) else { panic!("new") };
        let Received::Joins { work, id: second, orphan: None } = exchanges.receive(key(1, 2), packet(2), ann, at(5))
        else {
            panic!("a look-alike")
        };
        assert_eq!(work, first);
        assert_eq!(exchanges.receive(key(1, 2), packet(2), ann, at(6)), Received::StillWaiting(first), "a copy of it");
        assert!(matches!(exchanges.receive(key(1, 3), packet(3), alike("bob", true), at(6)), Received::Ask(_)));
        assert!(exchanges.answer(&first, *b"accept 1", at(7)));
        assert!(exchanges.is_awaited(&work));
        assert!(exchanges.answer(&second, *b"accept 2", at(7)));
        assert!(!exchanges.is_awaited(&work));
        assert_eq!(exchanges.receive(key(1, 1), packet(1), ann, at(8)), reply(b"accept 1"));
        assert_eq!(exchanges.receive(key(1, 2), packet(2), ann, at(8)), reply(b"accept 2"));
        // R-36: what was answered is over. Whoever asks now asks anew.
        assert!(matches!(exchanges.receive(key(1, 4), packet(4), ann, at(8)), Received::Ask(_)));
    }

    #[test]
    fn without_a_station_nothing_joins_but_the_resemblance_is_seen() {
        // D9, R-37
        let mut exchanges = exchanges();
        let ann = alike("ann", false).expect("comparable");
        assert!(!exchanges.resembles(&ann, at(0)));
        assert!(matches!(exchanges.receive(key(1, 1), packet(1), Some(ann), at(0)), Received::Ask(_)));
        assert!(exchanges.resembles(&ann, at(1)));
        assert!(matches!(exchanges.receive(key(1, 2), packet(2), Some(ann), at(1)), Received::Ask(_)));
        assert!(matches!(exchanges.receive(key(1, 1), packet(3), Some(ann), at(2)), Received::Replaced { .. }));
        assert!(!exchanges.resembles(&ann, at(200)));
    }

    #[test]
    fn a_look_alike_under_the_same_key_takes_the_place_of_the_first_and_the_work_goes_on() {
        // R-32 with R-34: the old packet is never answered, and nobody is asked again
        let mut exchanges = exchanges();
        let ann = alike("ann", true);
        let Received::Ask(first) = exchanges.receive(key(1, 1), packet(1), ann, at(0)) else { panic!("new") };
        let Received::Joins { work, id, orphan } = exchanges.receive(key(1, 1), packet(2), ann, at(1)) else {
            panic!("a look-alike")
        };
        assert_eq!((work, orphan), (first, None));
        assert!(!exchanges.answer(&first, *b"accept for the old one", at(2)));
        assert!(exchanges.is_awaited(&work) && exchanges.answer(&id, *b"accept", at(2)));
    }

    #[test]
    fn a_work_is_orphaned_with_the_last_who_waits_for_it() {
        // R-32: another request under each key, one after the other
        let mut exchanges = exchanges();
        let (ann, bob) = (alike("ann", true), alike("bob", true));
        let Received::Ask(first) = exchanges.receive(key(1, 1), packet(1), ann, at(0)) else { panic!("new") };
        assert!(matches!(exchanges.receive(key(2, 1), packet(2), ann, at(0)), Received::Joins { .. }));
        let Received::Ask(other) = exchanges.receive(key(1, 1), packet(3), bob, at(1)) else {
            panic!("one waits still")
        };
        let joins = exchanges.receive(key(2, 1), packet(4), bob, at(1));
        assert!(
            matches!(joins, Received::Joins { work, orphan, .. } if work == other && orphan == Some(first)),
            "{joins:?}"
        );
        assert!(!exchanges.is_awaited(&first));
    }

    #[test]
    fn a_joined_request_lives_no_longer_than_the_work_and_a_finished_work_is_not_joined() {
        // R-31
        let mut exchanges = exchanges();
        let ann = alike("ann", true);
        let Received::Ask(first) = exchanges.receive(key(1, 1), packet(1), ann, at(0)) else { panic!("new") };
        assert!(matches!(exchanges.receive(key(1, 2), packet(2), ann, at(80)), Received::Joins { .. }));
        assert_eq!(exchanges.expire(at(90)), [first]);
        assert!(exchanges.is_empty());
        let Received::Ask(next) = exchanges.receive(key(1, 1), packet(1), ann, at(91)) else { panic!("new") };
        exchanges.finish(&next);
        assert!(matches!(exchanges.receive(key(1, 2), packet(2), ann, at(92)), Received::Ask(_)));
    }

    #[test]
    fn look_alikes_take_room_like_all_others_and_no_work_has_too_many() {
        // R-38
        let mut exchanges = exchanges();
        let ann = alike("ann", true);
        for identifier in 1..=3 {
            assert_ne!(exchanges.receive(key(1, identifier), packet(identifier), ann, at(0)), Received::Full);
        }
        assert_eq!(exchanges.receive(key(1, 4), packet(4), ann, at(0)), Received::Full);
        let mut exchanges = Exchanges::new(ExchangeLimits::default());
        let joined = (0..100)
            .filter(|number| {
                let received = exchanges.receive(key(1, *number), packet(*number), ann, at(0));
                matches!(received, Received::Joins { .. })
            })
            .count();
        assert_eq!(joined, 100 - 100_usize.div_ceil(MEMBERS_MAX));
        exchanges.expire(at(90));
        assert!(exchanges.works.is_empty() && exchanges.by_likeness.is_empty() && exchanges.is_empty());
    }

    #[test]
    fn a_thousand_authenticators_under_one_key_take_one_place() {
        // B-30
        let mut exchanges = exchanges();
        let fingerprint =
            |number: u64| Fingerprint { authenticator: u128::from(number).to_be_bytes(), sha256: [0; 32] };
        ask(&mut exchanges, key(1, 1), fingerprint(0), 0);
        for number in 1..1000 {
            assert!(matches!(
                exchanges.receive(key(1, 1), fingerprint(number), None, at(0)),
                Received::Replaced { .. }
            ));
        }
        assert_eq!((exchanges.len(), exchanges.pending.len(), exchanges.pending_of_source.len()), (1, 1, 1));
        exchanges.expire(at(90));
        assert!(
            exchanges.pending.is_empty() && exchanges.answered.is_empty() && exchanges.pending_of_source.is_empty()
        );
    }

    #[test]
    fn a_closed_connection_takes_its_exchanges_with_it_and_no_others() {
        // R-91
        let mut exchanges = Exchanges::new(ExchangeLimits::default());
        let tls = |host, code| ExchangeKey { transport: Transport::Tls, code, ..key(host, 255) };
        let pending = ask(&mut exchanges, tls(1, Code::AccessRequest), packet(1), 0);
        let accounting = ask(&mut exchanges, tls(1, Code::AccountingRequest), packet(1), 0);
        let answered = ask(&mut exchanges, tls(1, Code::StatusServer), packet(1), 0);
        assert!(exchanges.answer(&answered, *b"alive", at(0)));
        let others = [key(1, 255), tls(2, Code::AccessRequest)].map(|key| ask(&mut exchanges, key, packet(1), 0));
        let source = "[::ffff:192.0.2.1]:1645".parse().expect("an address");
        let listener = key(1, 255).listener;
        assert_eq!(exchanges.close(listener, source), [pending, accounting]);
        assert_eq!((exchanges.pending(), exchanges.len()), (2, 2));
        assert!(!exchanges.answer(&pending, *b"accept", at(1)));
        assert!(others.iter().all(|other| exchanges.answer(other, *b"accept", at(1))));
        assert_eq!(exchanges.close(listener, source), []);
    }

    #[test]
    fn where_nobody_may_ask_any_more_nothing_is_left() {
        // FR-01
        let mut exchanges = Exchanges::new(ExchangeLimits::default());
        let pending = ask(&mut exchanges, key(1, 1), packet(1), 0);
        let answered = ask(&mut exchanges, key(2, 1), packet(1), 0);
        assert!(exchanges.answer(&answered, *b"accept", at(0)));
        assert_eq!(exchanges.clear(), [pending]);
        assert!(!exchanges.answer(&pending, *b"accept", at(0)) && !exchanges.is_awaited(&pending));
        assert_eq!((exchanges.len(), exchanges.pending(), exchanges.next_expiry()), (0, 0, None));
        ask(&mut exchanges, key(2, 1), packet(1), 0);
    }

    #[test]
    fn the_shared_key_has_no_address_of_ours_and_only_plain_letters() {
        // A4: the same request at another node has the same key there.
        let here = key(1, 200);
        let there = ExchangeKey { listener: ([10, 9, 9, 9], 11812).into(), ..here };
        assert_eq!(here.shared(), "udp-c0000201-1645-1-200");
        assert_eq!(here.shared(), there.shared());
        let v6 = ExchangeKey { source: "[2001:db8::1]:1645".parse().expect("an address"), ..here };
        assert_eq!(v6.shared(), "udp-20010db8000000000000000000000001-1645-1-200");
    }
}
