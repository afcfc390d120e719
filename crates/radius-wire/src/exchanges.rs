//! The duplicate cache of one node (A4): every exchange is asked once and answered once.
//!
//! ```text
//!            first copy            answer                 reply kept long enough
//!   (none) ------------> pending ---------> answered -----------------------> (none)
//!                         | copy: silence     | copy: the same octets again
//!                         '- another packet under the same key: orphaned, a new exchange begins
//! ```
//! Only verified requests get in (RFC 5080 section 2.2.2). Full means: what is new is dropped, never what is pending (R-38).

use crate::authenticator::Verified;
use crate::packet::Code;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// All exchanges of this node. `now` is the time since any fixed moment, on a monotonic clock.
pub struct Exchanges {
    limits: ExchangeLimits,
    entries: HashMap<ExchangeKey, Entry>,
    /// When each entry ends, by state; the serial makes equal moments distinct.
    pending: BTreeMap<(Duration, u64), ExchangeKey>,
    answered: BTreeMap<(Duration, u64), ExchangeKey>,
    pending_of_source: HashMap<IpAddr, usize>,
    last_serial: u64,
}

/// What is to be done with a request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// New: work on it, then [`Exchanges::answer`].
    Ask(ExchangeId),
    /// New, under the key of another request that had no answer yet: that one's work is orphaned and is to be ended (R-32).
    Replaced { orphan: ExchangeId, ask: ExchangeId },
    /// A copy of a request still in work: say nothing (R-30).
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
            entries: HashMap::new(),
            pending: BTreeMap::new(),
            answered: BTreeMap::new(),
            pending_of_source: HashMap::new(),
            last_serial: 0,
        }
    }

    pub fn receive(&mut self, key: ExchangeKey, fingerprint: Fingerprint, now: Duration) -> Received {
        let mut orphan = None;
        match self.entries.get(&key) {
            Some(entry) if entry.ends > now && entry.fingerprint == fingerprint => {
                return match &entry.reply {
                    Some(reply) => Received::Resend(reply.clone()),
                    None => Received::StillWaiting(ExchangeId { key, serial: entry.serial }),
                };
            }
            Some(entry) => {
                let (id, was_pending) = (ExchangeId { key, serial: entry.serial }, entry.reply.is_none());
                self.remove(&id.key);
                orphan = was_pending.then_some(id);
            }
            None => {}
        }
        if orphan.is_none() && !self.has_room(&key, now) {
            return Received::Full;
        }
        let ask = self.begin(key, fingerprint, now);
        match orphan {
            Some(orphan) => Received::Replaced { orphan, ask },
            None => Received::Ask(ask),
        }
    }

    /// Keeps the reply for later copies. False where the exchange is gone (replaced, expired or answered before): then
    /// the reply must not be sent.
    #[must_use]
    pub fn answer(&mut self, id: &ExchangeId, reply: impl Into<Arc<[u8]>>, now: Duration) -> bool {
        let Some(entry) =
            self.entries.get_mut(&id.key).filter(|entry| entry.serial == id.serial && entry.reply.is_none())
        else {
            return false;
        };
        self.pending.remove(&(entry.ends, entry.serial));
        entry.reply = Some(reply.into());
        entry.ends = now + self.limits.reply_kept;
        self.answered.insert((entry.ends, entry.serial), id.key);
        self.leave(id.key.source.ip());
        true
    }

    /// Ends an exchange that gets no answer at all. A further copy is new again.
    pub fn forget(&mut self, id: &ExchangeId) {
        if self.entries.get(&id.key).is_some_and(|entry| entry.serial == id.serial && entry.reply.is_none()) {
            self.remove(&id.key);
        }
    }

    /// Removes what has had its time. Returns the exchanges that ended without an answer: their work is to be ended too.
    pub fn expire(&mut self, now: Duration) -> Vec<ExchangeId> {
        while let Some((&(ends, _), &key)) = self.answered.first_key_value()
            && ends <= now
        {
            self.remove(&key);
        }
        let mut unanswered = Vec::new();
        while let Some((&(ends, serial), &key)) = self.pending.first_key_value()
            && ends <= now
        {
            self.remove(&key);
            unanswered.push(ExchangeId { key, serial });
        }
        unanswered
    }

    /// When [`Exchanges::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Duration> {
        let first = |ends: &BTreeMap<(Duration, u64), _>| ends.first_key_value().map(|((ends, _), _)| *ends);
        first(&self.pending).into_iter().chain(first(&self.answered)).min()
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
        let Some((&(ends, _), &oldest)) = self.answered.first_key_value() else { return false };
        let kept_enough = ends.saturating_sub(self.limits.reply_kept) + REPLY_KEPT_MIN <= now;
        if kept_enough || ends <= now {
            self.remove(&oldest);
        }
        kept_enough || ends <= now
    }

    fn begin(&mut self, key: ExchangeKey, fingerprint: Fingerprint, now: Duration) -> ExchangeId {
        self.last_serial += 1;
        let entry = Entry { fingerprint, serial: self.last_serial, ends: now + self.limits.pending_kept, reply: None };
        self.pending.insert((entry.ends, entry.serial), key);
        *self.pending_of_source.entry(key.source.ip()).or_default() += 1;
        self.entries.insert(key, entry);
        ExchangeId { key, serial: self.last_serial }
    }

    fn remove(&mut self, key: &ExchangeKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        if entry.reply.is_some() {
            self.answered.remove(&(entry.ends, entry.serial));
        } else {
            self.pending.remove(&(entry.ends, entry.serial));
            self.leave(key.source.ip());
        }
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
    key: ExchangeKey,
    serial: u64,
}

impl ExchangeId {
    pub fn key(&self) -> &ExchangeKey {
        &self.key
    }
}

struct Entry {
    fingerprint: Fingerprint,
    serial: u64,
    ends: Duration,
    reply: Option<Arc<[u8]>>,
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
        match exchanges.receive(key, fingerprint, at(now)) {
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
            assert_eq!(exchanges.receive(key(1, 1), packet(1), at(second)), Received::StillWaiting(first));
        }
        assert!(exchanges.answer(&first, *b"accept", at(60)));
        for second in 61..=63 {
            assert_eq!(exchanges.receive(key(1, 1), packet(1), at(second)), reply(b"accept"));
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
        let Received::Replaced { orphan, ask: new } = exchanges.receive(key(1, 1), packet(2), at(1)) else {
            panic!("not replaced")
        };
        assert_eq!(orphan, old);
        assert!(!exchanges.answer(&old, *b"accept for the old one", at(2)));
        assert_eq!(exchanges.receive(key(1, 1), packet(2), at(3)), Received::StillWaiting(new));
        assert!(exchanges.answer(&new, *b"reject", at(4)));
        assert_eq!(exchanges.receive(key(1, 1), packet(2), at(5)), reply(b"reject"));
    }

    #[test]
    fn another_authenticator_under_the_same_key_never_gets_the_old_reply() {
        // R-32, for an answered one.
        let mut exchanges = exchanges();
        let old = ask(&mut exchanges, key(1, 1), packet(1), 0);
        assert!(exchanges.answer(&old, *b"accept", at(1)));
        ask(&mut exchanges, key(1, 1), packet(2), 2);
        // And the old packet, coming late, is new as well: its reply is gone.
        assert!(matches!(exchanges.receive(key(1, 1), packet(1), at(3)), Received::Replaced { .. }));
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
        assert_eq!(exchanges.receive(key(1, 1), packet(1), at(89)), reply(b"accept"));
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
        assert_eq!(exchanges.receive(key(1, 1), packet(1), at(62)), reply(b"reject"));
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
        assert_eq!(exchanges.receive(key(5, 1), packet(1), at(1)), Received::Full);
        assert_eq!(exchanges.receive(key(1, 1), packet(1), at(1)), Received::StillWaiting(ids[0]));
        assert!(
            matches!(exchanges.receive(key(2, 1), packet(2), at(1)), Received::Replaced { .. }),
            "it needs no more room"
        );
        // An answer makes room, but only when it was kept as long as RFC 5080 asks for.
        assert!(exchanges.answer(&ids[0], *b"accept", at(2)));
        assert_eq!(exchanges.receive(key(5, 1), packet(1), at(6)), Received::Full);
        ask(&mut exchanges, key(5, 1), packet(1), 7);
        assert_eq!(exchanges.receive(key(3, 1), packet(1), at(8)), Received::StillWaiting(ids[2]));
        assert_eq!((exchanges.pending(), exchanges.len()), (4, 4));
    }

    #[test]
    fn one_source_cannot_take_all_the_room() {
        // R-38: a cap for each source besides the one for all.
        let mut exchanges = exchanges();
        let first = ask(&mut exchanges, key(1, 1), packet(1), 0);
        ask(&mut exchanges, key(1, 2), packet(1), 0);
        ask(&mut exchanges, key(1, 3), packet(1), 0);
        assert_eq!(exchanges.receive(key(1, 4), packet(1), at(0)), Received::Full);
        ask(&mut exchanges, key(2, 1), packet(1), 0);
        exchanges.forget(&first);
        ask(&mut exchanges, key(1, 4), packet(1), 0);
    }

    #[test]
    fn a_thousand_authenticators_under_one_key_take_one_place() {
        // B-30
        let mut exchanges = exchanges();
        let fingerprint =
            |number: u64| Fingerprint { authenticator: u128::from(number).to_be_bytes(), sha256: [0; 32] };
        ask(&mut exchanges, key(1, 1), fingerprint(0), 0);
        for number in 1..1000 {
            assert!(matches!(exchanges.receive(key(1, 1), fingerprint(number), at(0)), Received::Replaced { .. }));
        }
        assert_eq!((exchanges.len(), exchanges.pending.len(), exchanges.pending_of_source.len()), (1, 1, 1));
        exchanges.expire(at(90));
        assert!(
            exchanges.pending.is_empty() && exchanges.answered.is_empty() && exchanges.pending_of_source.is_empty()
        );
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
