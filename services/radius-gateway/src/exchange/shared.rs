//! Requests in work or answered, on all nodes: an entry of the bus's map for each, so that a copy that lands on another node is
//! known there (R-30, D9). Values are sealed (V-73). Where the bus is away a node goes on with its own duplicates alone.
//!
//! ```text
//!           create              every 2 s                 answer
//! (none) ----------> pending ----------> pending, touched --------> answered, dies with the reply's life
//!                      | a copy elsewhere: silence                    | a copy elsewhere: the same octets
//!                      '- not touched for 6 s: whoever gets the next copy takes over, with the same transaction
//! ```

use crate::keys::Keys;
use bytes::Bytes;
use domain::TransactionId;
use proto::subjects::REQUESTS_MAP;
use radius_wire::Fingerprint;
use service_kit::Clock;
use service_kit::bus::{Bus, BusError, Map, MapOptions, SealedMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often a node says that it still works on a request.
const TOUCH: Duration = Duration::from_secs(2);
/// Whoever has said nothing for this long is gone. Leaves room for clocks that differ by a few seconds; codes need better ones.
const GONE_MS: i64 = 6_000;

pub(crate) struct SharedRequests {
    map: Arc<dyn Map>,
    keys: Arc<Keys>,
    node: Uuid,
    clock: Clock,
}

/// Whose a request is.
pub(crate) enum Claim {
    /// Ours to work on.
    Mine(Lease),
    /// Another node, or another task of this one, works on it.
    Elsewhere,
    /// It was answered with these octets.
    Answered(Vec<u8>),
}

/// The right to work on a request, as long as it is kept.
pub(crate) struct Lease {
    map: Arc<dyn Map>,
    clock: Clock,
    key: String,
    entry: Entry,
    /// Absent while the bus is away: then nobody else knows of the request.
    revision: Option<u64>,
}

/// Why there is nothing left to keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Another node goes on with this attempt: it had not heard from us.
    TakenOver,
    /// The client sent another request under the same key, to another node (R-32).
    Replaced,
}

impl SharedRequests {
    pub(crate) fn new(bus: &dyn Bus, keys: Arc<Keys>, clock: Clock, reply_kept: Duration) -> Self {
        // A reply is at most 4096 octets.
        let options = MapOptions { ttl: reply_kept, max_entries: 1_000_000, max_value_bytes: 8 * 1024 };
        Self { map: bus.map(REQUESTS_MAP, options), keys, node: Uuid::new_v4(), clock }
    }

    pub(crate) async fn claim(&self, key: String, fingerprint: &Fingerprint, transaction: TransactionId) -> Claim {
        let entry = Entry {
            node: self.node,
            transaction,
            fingerprint: *fingerprint,
            touched_unix_ms: self.clock.now_ms(),
            reply: Vec::new(),
        };
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        let mut lease = Lease { map, clock: self.clock.clone(), key, entry, revision: None };
        // Twice, because the entry that was in the way may be gone when it is looked at.
        for _ in 0..2 {
            match lease.map.create(&lease.key, lease.entry.to_octets()).await {
                Ok(revision) => {
                    lease.revision = Some(revision);
                    break;
                }
                Err(BusError::AlreadyExists) => match lease.in_the_way().await {
                    Some(Claim::Mine(taken)) => return Claim::Mine(taken),
                    Some(claim) => return claim,
                    None => continue,
                },
                Err(error) => {
                    tracing::debug!(service = crate::NAME, error = %error, "the bus does not hold a request");
                    break;
                }
            }
        }
        Claim::Mine(lease)
    }
}

impl Lease {
    pub(crate) fn transaction(&self) -> TransactionId {
        self.entry.transaction
    }

    /// Says every now and then that we are still here. Returns only when the request is ours no more. May be dropped at any time:
    /// the revision is set in the step that made it.
    pub(crate) async fn keep(&mut self) -> Lost {
        loop {
            tokio::time::sleep(TOUCH).await;
            self.entry.touched_unix_ms = self.clock.now_ms();
            if let Some(lost) = self.write().await {
                return lost;
            }
        }
    }

    /// Lets the other nodes know the answer. A bus that is away costs them the knowledge, nobody an answer.
    pub(crate) async fn answered(mut self, octets: &[u8]) {
        self.entry.reply = octets.to_vec();
        self.write().await;
    }

    /// No answer will come; a further copy is new.
    pub(crate) async fn release(self) {
        if let Some(revision) = self.revision {
            let _ = self.map.delete(&self.key, revision).await;
        }
    }

    async fn write(&mut self) -> Option<Lost> {
        let octets = self.entry.to_octets();
        let written = match self.revision {
            Some(revision) => self.map.update(&self.key, octets, revision).await,
            None => self.map.create(&self.key, octets).await,
        };
        match written {
            Ok(revision) => self.revision = Some(revision),
            Err(BusError::WrongRevision | BusError::AlreadyExists) => return self.look().await,
            // The bus is away; next time perhaps.
            Err(_) => {}
        }
        None
    }

    /// Somebody has written where we thought to be alone: was it ourselves, in a call that seemed to fail?
    async fn look(&mut self) -> Option<Lost> {
        let Ok(found) = self.map.get(&self.key).await else { return None };
        let Some((other, revision)) = found.and_then(|found| Some((Entry::from_octets(&found.value)?, found.revision)))
        else {
            // It died of age or the map was wiped: it is made anew next time.
            self.revision = None;
            return None;
        };
        if other.node == self.entry.node && other.transaction == self.entry.transaction {
            self.revision = Some(revision);
            return None;
        }
        match (other.transaction == self.entry.transaction, other.fingerprint == self.entry.fingerprint) {
            (true, _) => Some(Lost::TakenOver),
            (false, false) => Some(Lost::Replaced),
            // Two nodes began it while the bus was away. Both are at work already; each answers its own client.
            (false, true) => None,
        }
    }

    /// What the entry in our way means; `None` if it is gone. A value that nobody of ours has sealed is no answer (V-73).
    async fn in_the_way(&mut self) -> Option<Claim> {
        let found = match self.map.get(&self.key).await {
            Ok(found) => found?,
            Err(_) => return Some(Claim::Mine(self.clone_alone())),
        };
        let Some(other) = Entry::from_octets(&found.value) else { return Some(Claim::Mine(self.clone_alone())) };
        let same = other.fingerprint == self.entry.fingerprint;
        if same && !other.reply.is_empty() {
            return Some(Claim::Answered(other.reply));
        }
        let gone = self.entry.touched_unix_ms.saturating_sub(other.touched_unix_ms) >= GONE_MS;
        if same && !gone {
            return Some(Claim::Elsewhere);
        }
        let mut taken = self.clone_alone();
        if same {
            taken.entry.transaction = other.transaction;
        }
        match taken.map.update(&taken.key, taken.entry.to_octets(), found.revision).await {
            Ok(revision) => taken.revision = Some(revision),
            // Another node was faster: it works on it now.
            Err(BusError::WrongRevision) if same => return Some(Claim::Elsewhere),
            Err(BusError::WrongRevision) => return None,
            Err(_) => {}
        }
        Some(Claim::Mine(taken))
    }

    fn clone_alone(&self) -> Self {
        let (map, clock, key) = (self.map.clone(), self.clock.clone(), self.key.clone());
        Self { map, clock, key, entry: self.entry.clone(), revision: None }
    }
}

/// What stands in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    node: Uuid,
    transaction: TransactionId,
    fingerprint: Fingerprint,
    touched_unix_ms: i64,
    /// Empty: still in work.
    reply: Vec<u8>,
}

impl Entry {
    const VERSION: u8 = 1;

    fn to_octets(&self) -> Bytes {
        let parts: [&[u8]; 7] = [
            &[Self::VERSION],
            self.node.as_bytes(),
            self.transaction.0.as_bytes(),
            &self.fingerprint.authenticator,
            &self.fingerprint.sha256,
            &self.touched_unix_ms.to_be_bytes(),
            &self.reply,
        ];
        parts.concat().into()
    }

    /// None for a form that another version writes: it is treated as absent.
    fn from_octets(octets: &[u8]) -> Option<Self> {
        let (&[version], rest) = octets.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let (transaction, rest) = rest.split_first_chunk::<16>()?;
        let (authenticator, rest) = rest.split_first_chunk::<16>()?;
        let (sha256, rest) = rest.split_first_chunk::<32>()?;
        let (touched, reply) = rest.split_first_chunk::<8>()?;
        (version == Self::VERSION).then(|| Self {
            node: Uuid::from_bytes(*node),
            transaction: TransactionId(Uuid::from_bytes(*transaction)),
            fingerprint: Fingerprint { authenticator: *authenticator, sha256: *sha256 },
            touched_unix_ms: i64::from_be_bytes(*touched),
            reply: reply.to_vec(),
        })
    }
}
