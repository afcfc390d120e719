//! The duplicate cache of one node (protocol.md A4): every exchange is asked once and answered once.
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
