//! Requests in work or answered, on all nodes: an entry of the bus's map for each, so that a copy that lands on another node is
//! known there (R-30, D9). Values are sealed (V-73). Where the bus is away a node goes on with its own duplicates alone.
//!
//! ```text
//!           create              every 2 s                 answer
//! (none) ----------> pending ----------> pending, touched --------> answered, dies with the reply's life
//!                      | a copy elsewhere: silence                    | a copy elsewhere: the same octets
//!                      '- not touched for 6 s: whoever gets the next copy takes over, with the same transaction
//! ```
//!
//! Another request under the same key takes the entry over, and says whose attempt is orphaned by that (R-32); the node at work hears
//! of it by [`notices`](super::notices).
//!
//! What look-alikes have in common is a second key with the same life (R-34): who finds it in work waits for what it is answered with,
//! and writes its own reply from that; who finds nobody touching it goes on with its transaction.
//!
//! Limits. Nobody counts who waits at other nodes: the node at work knows its own waiters, and that a look-alike has the place of its
//! packet. So where that place goes to another request (R-32), it ends the login although a look-alike under another key may still wait
//! at a third node. That one is not refused: it finds the common entry gone, leads, and begins the login anew, so that the person is asked
//! a second time. And a look-alike whose node dies is not missed: what it waited for goes on until its end.

use super::notices::{Notices, Present};
use crate::keys::Keys;
use bytes::Bytes;
use domain::TransactionId;
use proto::subjects::REQUESTS_MAP;
use radius_wire::{Fingerprint, LookAlike};
use service_kit::Clock;
use service_kit::bus::{Bus, BusError, Map, MapOptions, SealedMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How often a node says that it still works on a request.
const TOUCH: Duration = Duration::from_secs(2);
/// Whoever has said nothing for this long is gone. Leaves room for clocks that differ by a few seconds; codes need better ones.
const GONE_MS: i64 = 6_000;
/// What is in work longer than any client waits (FL-09) is nobody's any more, and not gone on with: an old value that was put back in
/// its place would stand for a first lock that is open (V-73).
const IN_WORK_MS_MAX: i64 = super::table::PENDING_KEPT.as_millis() as i64;
/// By when a node that is alive sees that a request of its own was replaced, where the bus is quick: it writes every `TOUCH`. Only then
/// it begins to withdraw what it has asked; what comes later meets verification's one prompt at a time (R-35).
pub(super) const NOTICED: Duration = TOUCH.saturating_add(Duration::from_millis(500));
/// How often a node that waits for another one's answer looks for it.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) struct SharedRequests {
    map: Arc<dyn Map>,
    keys: Arc<Keys>,
    node: Uuid,
    clock: Clock,
    /// The bus did not answer the last request that was claimed.
    away: AtomicBool,
    notices: Notices,
}

/// Whose a request is.
pub(crate) enum Claim {
    /// Ours to work on.
    Mine(Box<Lease>),
    /// Another node works on it, or another task of this one, which is `here`.
    Elsewhere { here: bool },
    /// It was answered with these octets, by another node or `here`.
    Answered { octets: Vec<u8>, here: bool },
}

/// What becomes of a request that looks like another.
pub(super) enum Joined {
    /// Nobody else works on one like it, or nobody does any more.
    Lead(Box<Lease>),
    /// Another node has found the answer.
    Answered(Given),
    /// Nobody has, in time.
    Late,
}

/// An answer of ours, from which the one to a look-alike is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// Of the request that it answers: some attributes are hidden with it.
    pub(super) authenticator: [u8; 16],
    pub(super) octets: Vec<u8>,
}

/// The right to work on a request, as long as it is kept.
pub(crate) struct Lease {
    map: Arc<dyn Map>,
    clock: Clock,
    key: String,
    entry: Entry,
    /// Absent while the bus is away: then nobody else knows of the request.
    revision: Option<u64>,
    taken_over: bool,
    orphan: Option<Orphan>,
}

/// Another node's attempt at what stood under this key before (R-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) transaction: TransactionId,
    /// Look-alikes of it may wait for the same answer: the node at work knows, and ends it or not.
    pub(super) perhaps_awaited: bool,
    /// Until that node has seen that it was replaced, it may begin what was withdrawn before it had begun. None: it is gone.
    pub(super) worker: Option<Worker>,
}

/// The node at work on a request, and what tells that request from others under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) node: Uuid,
    pub(super) request: [u8; 32],
}

/// Why there is nothing left to keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Another node goes on with this attempt: it had not heard from us.
    TakenOver,
    /// The client sent another request under the same key, to another node (R-32).
    Replaced,
    /// So it did, and a look-alike: that one waits for the same answer (R-34).
    Superseded,
}

impl SharedRequests {
    pub(crate) fn new(bus: &dyn Bus, keys: Arc<Keys>, clock: Clock, reply_kept: Duration) -> Self {
        // A reply is at most 4096 octets.
        let options = MapOptions { ttl: reply_kept, max_entries: 1_000_000, max_value_bytes: 8 * 1024 };
        let (map, node) = (bus.map(REQUESTS_MAP, options), Uuid::new_v4());
        let notices = Notices::new(map.clone(), keys.clone(), node);
        Self { map, keys, node, clock, away: AtomicBool::new(false), notices }
    }

    /// For ever: hears from other nodes which requests of this one they have replaced. May be dropped at any await.
    pub(crate) async fn listen(&self) {
        self.notices.listen().await;
    }

    /// Returns when nothing of an orphan is open any more at the node that worked on it (R-32).
    pub(super) async fn closed(&self, orphan: &Orphan, key: &str) {
        if let Some(worker) = orphan.worker {
            self.notices.tell(worker, key).await;
        }
    }

    /// What is held of a request that is ours to work on.
    pub(super) fn hold(&self, packet: Box<Lease>) -> Hold {
        let present = self.present(&packet);
        Hold { packet: Some(packet), present: Some(present), ..Hold::default() }
    }

    fn present(&self, lease: &Lease) -> Box<Present> {
        Box::new(self.notices.enter(&lease.key, lease.entry.fingerprint.sha256))
    }

    /// Lets the node that works on look-alikes know that one of them is waited for no more, because another request has its place: it may
    /// have been the last of them. Returns when it has looked, and what nobody waits for is closed.
    pub(super) async fn left(&self, alike: &LookAlike) {
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        let found = map.get(&alike.shared()).await.ok().flatten();
        let Some(other) = found.and_then(|found| Entry::from_octets(&found.value)) else { return };
        let gone = self.clock.now_ms().saturating_sub(other.touched_unix_ms) >= GONE_MS;
        if other.node != self.node && other.reply.is_empty() && !gone {
            self.notices.tell(Worker { node: other.node, request: *alike.digest() }, &alike.shared()).await;
        }
    }

    /// Whether the bus is away, as far as is known.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(crate) async fn claim(
        &self,
        key: String,
        fingerprint: &Fingerprint,
        alike: Option<&LookAlike>,
        transaction: TransactionId,
    ) -> Claim {
        let alike = alike.map_or([0; 32], |alike| *alike.digest());
        let mut lease = self.lease(key, fingerprint, alike, transaction);
        // Twice, because the entry that was in the way may be gone when it is looked at.
        for _ in 0..2 {
            let created = lease.map.create(&lease.key, lease.entry.to_octets()).await;
            self.away.store(!matches!(created, Ok(_) | Err(BusError::AlreadyExists)), Ordering::Relaxed);
            match created {
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
        Claim::Mine(lease.into())
    }

    /// Waits for the answer to what looks like this, if somebody is at work on it; else whoever asks is. May be dropped at any time:
    /// what it leaves behind then is touched by nobody, and the next one takes it.
    pub(super) async fn join(&self, alike: &LookAlike, transaction: TransactionId, deadline: Instant) -> Joined {
        let common = Fingerprint { authenticator: [0; 16], sha256: *alike.digest() };
        let mut lease = self.lease(alike.shared(), &common, *alike.digest(), transaction);
        let (mut followed, mut has_waited) = (None, false);
        loop {
            let found = match lease.map.get(&lease.key).await {
                Ok(found) => found,
                // What is known to be in work elsewhere is not begun a second time; what is not known is.
                Err(_) if followed.is_none() => return Joined::Lead(lease.into()),
                Err(_) => match Self::looks_again(deadline).await {
                    true => continue,
                    false => return Joined::Late,
                },
            };
            let other = found.map(|found| (Entry::from_octets(&found.value), found.revision));
            let (written, taken_over) = match &other {
                // Of another version, which works for itself.
                Some((None, _)) => return Joined::Lead(lease.into()),
                None => (lease.map.create(&lease.key, lease.entry.to_octets()).await, false),
                Some((Some(other), _)) if !other.reply.is_empty() && followed == Some(other.transaction) => {
                    match Given::from_octets(&other.reply) {
                        Some(given) => return Joined::Answered(given),
                        None => return Joined::Late,
                    }
                }
                Some((Some(other), revision)) => {
                    lease.entry.touched_unix_ms = self.clock.now_ms();
                    let silent_ms = lease.entry.touched_unix_ms.saturating_sub(other.touched_unix_ms);
                    let gone = silent_ms >= GONE_MS;
                    // R-36: what was answered before this one came is over, and no answer to it.
                    let over = !other.reply.is_empty();
                    if !over && !gone {
                        followed = Some(other.transaction);
                        match Self::looks_again(deadline).await {
                            true => continue,
                            false => return Joined::Late,
                        }
                    }
                    // Others may not have looked at it yet.
                    if over && silent_ms < LOOK.as_millis() as i64 && !has_waited {
                        has_waited = true;
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    let goes_on = !over && silent_ms < IN_WORK_MS_MAX;
                    if goes_on {
                        lease.entry.transaction = other.transaction;
                    }
                    (lease.map.update(&lease.key, lease.entry.to_octets(), *revision).await, goes_on)
                }
            };
            match written {
                Ok(revision) => {
                    (lease.revision, lease.taken_over) = (Some(revision), taken_over);
                    return Joined::Lead(lease.into());
                }
                // Somebody was faster: what is it now?
                Err(BusError::AlreadyExists | BusError::WrongRevision) => lease.entry.transaction = transaction,
                Err(error) => {
                    tracing::debug!(service = crate::NAME, error = %error, "the bus does not hold a request");
                    return Joined::Lead(lease.into());
                }
            }
        }
    }

    /// Waits until it is time to look; once more at the very end, because the other one may have had the same time.
    async fn looks_again(deadline: Instant) -> bool {
        let is_time = Instant::now() < deadline;
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
        is_time
    }

    fn lease(&self, key: String, fingerprint: &Fingerprint, alike: [u8; 32], transaction: TransactionId) -> Lease {
        let entry = Entry {
            node: self.node,
            transaction,
            fingerprint: *fingerprint,
            touched_unix_ms: self.clock.now_ms(),
            alike,
            reply: Vec::new(),
        };
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        Lease { map, clock: self.clock.clone(), key, entry, revision: None, taken_over: false, orphan: None }
    }
}

/// What is held while a request is in work: itself, and what it has in common with its look-alikes. Boxed, and its steps too: whoever
/// waits for a person holds it all the while.
#[derive(Default)]
pub(super) struct Hold {
    pub(super) packet: Option<Box<Lease>>,
    pub(super) common: Option<Box<Lease>>,
    /// As long as something of it may be open here.
    pub(super) present: Option<Box<Present>>,
    /// The same for its look-alikes: whoever waits for it at another node says so when that is over.
    common_present: Option<Box<Present>>,
    /// The packet, where a look-alike has its place: as long as one has, it is waited for.
    superseded: Option<Box<Lease>>,
}

impl Hold {
    /// It is worked on for its look-alikes, too.
    pub(super) fn leads(&mut self, shared: &SharedRequests, common: Box<Lease>) {
        self.common_present = Some(shared.present(&common));
        self.common = Some(common);
    }

    /// Says every now and then that we are still here. Returns only when something is ours no more, which is held no longer then. May
    /// be dropped at any time: the revision is set in the step that made it.
    pub(super) async fn keep(&mut self) -> Lost {
        match (&self.packet, &self.common) {
            (None, None) => std::future::pending().await,
            _ => Box::pin(self.touch()).await,
        }
    }

    async fn touch(&mut self) -> Lost {
        loop {
            // Cancel safety: all only wait, and a hint is kept until it is heard.
            let left = tokio::select! {
                () = tokio::time::sleep(TOUCH) => false,
                () = hinted(&self.present) => false,
                () = hinted(&self.common_present) => true,
            };
            if let Some(lost) = self.touch_all().await {
                return lost;
            }
            if left && self.is_left().await {
                return Lost::Replaced;
            }
        }
    }

    /// Whether the look-alike that had the packet's place is gone, too. If not, whoever asked hears that this goes on.
    async fn is_left(&mut self) -> bool {
        if let Some(packet) = &mut self.superseded
            && !Box::pin(packet.is_superseded()).await
        {
            self.superseded = None;
            return true;
        }
        self.common_present = self.common_present.take().map(|present| Box::new(present.renewed()));
        false
    }

    /// Whoever joins a look-alike that is being closed does not find it silent, and goes on with nothing of it. Never returns; may be
    /// dropped at any time.
    pub(super) async fn keep_while_closing(&mut self) {
        loop {
            Box::pin(self.touch_all()).await;
            tokio::time::sleep(TOUCH).await;
        }
    }

    /// Both, also where the first is ours no more. That another node goes on with it is said whatever else is lost: it is told once.
    async fn touch_all(&mut self) -> Option<Lost> {
        let mut first = None;
        for held in [&mut self.packet, &mut self.common] {
            let Some(lease) = held else { continue };
            if let Some(lost) = Box::pin(lease.touch()).await {
                let lease = held.take();
                if lost == Lost::Superseded {
                    self.superseded = lease;
                }
                first = first.filter(|_| lost != Lost::TakenOver).or(Some(lost));
            }
        }
        first
    }

    /// Whether the packet is still ours, asked now. If not, it is held no longer.
    pub(super) async fn lost(&mut self) -> Option<Lost> {
        let lost = Box::pin(self.packet.as_mut()?.touch()).await?;
        self.packet = None;
        Some(lost)
    }

    /// Lets the other nodes know the answer. A bus that is away costs them the knowledge, nobody an answer.
    pub(super) async fn answered(self, given: &Given) {
        if let Some(packet) = self.packet {
            Box::pin(packet.answered(given.octets.clone())).await;
        }
        if let Some(common) = self.common {
            Box::pin(common.answered(given.to_octets())).await;
        }
    }

    /// No answer will come; a further copy is new.
    pub(super) async fn release(self) {
        for lease in self.packet.into_iter().chain(self.common) {
            Box::pin(lease.release()).await;
        }
    }
}

async fn hinted(present: &Option<Box<Present>>) {
    match present {
        Some(present) => present.hint().await,
        None => std::future::pending().await,
    }
}

impl Lease {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn transaction(&self) -> TransactionId {
        self.entry.transaction
    }

    /// Whether another node had begun.
    pub(crate) fn taken_over(&self) -> bool {
        self.taken_over
    }

    pub(super) fn orphan(&self) -> Option<Orphan> {
        self.orphan
    }

    /// What it is worked on as: another one's attempt that was gone on with.
    pub(super) async fn works_on(&mut self, transaction: TransactionId) {
        if self.entry.transaction != transaction {
            self.entry.transaction = transaction;
            self.touch().await;
        }
    }

    async fn touch(&mut self) -> Option<Lost> {
        self.entry.touched_unix_ms = self.clock.now_ms();
        self.write().await
    }

    pub(super) async fn answered(mut self, reply: Vec<u8>) {
        self.entry.reply = reply;
        self.touch().await;
    }

    pub(super) async fn release(self) {
        if let Some(revision) = self.revision {
            let _ = self.map.delete(&self.key, revision).await;
        }
    }

    async fn write(&mut self) -> Option<Lost> {
        // Twice, because what was in the way may be a touch of our own that was dropped before the bus had answered it.
        for _ in 0..2 {
            let octets = self.entry.to_octets();
            let written = match self.revision {
                Some(revision) => self.map.update(&self.key, octets, revision).await,
                None => self.map.create(&self.key, octets).await,
            };
            match written {
                Ok(revision) => {
                    self.revision = Some(revision);
                    return None;
                }
                Err(BusError::WrongRevision | BusError::AlreadyExists) => {
                    if let Some(lost) = self.look().await {
                        return Some(lost);
                    }
                }
                // The bus is away; next time perhaps.
                Err(_) => return None,
            }
        }
        None
    }

    /// Whether a look-alike still has its place. Where the bus does not say, it has.
    async fn is_superseded(&mut self) -> bool {
        match self.map.get(&self.key).await {
            Ok(Some(found)) => Entry::from_octets(&found.value).is_none_or(|other| other.alike == self.entry.alike),
            Ok(None) => false,
            Err(_) => true,
        }
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
        if other.fingerprint != self.entry.fingerprint {
            let alike = other.alike == self.entry.alike && self.entry.alike != [0; 32];
            return Some(if alike { Lost::Superseded } else { Lost::Replaced });
        }
        match (other.transaction == self.entry.transaction, other.node == self.entry.node) {
            (true, true) => {
                self.revision = Some(revision);
                None
            }
            (true, false) => Some(Lost::TakenOver),
            // Two nodes began it while the bus was away. Both are at work already; each answers its own client.
            (false, _) => None,
        }
    }

    /// What the entry in our way means; `None` if it is gone. A value that nobody of ours has sealed is no answer (V-73).
    async fn in_the_way(&mut self) -> Option<Claim> {
        let found = match self.map.get(&self.key).await {
            Ok(found) => found?,
            Err(_) => return Some(Claim::Mine(self.clone_alone().into())),
        };
        let Some(other) = Entry::from_octets(&found.value) else { return Some(Claim::Mine(self.clone_alone().into())) };
        let same = other.fingerprint == self.entry.fingerprint;
        let here = other.node == self.entry.node;
        if same && !other.reply.is_empty() {
            return Some(Claim::Answered { octets: other.reply, here });
        }
        let silent_ms = self.entry.touched_unix_ms.saturating_sub(other.touched_unix_ms);
        let gone = silent_ms >= GONE_MS;
        if same && !gone {
            return Some(Claim::Elsewhere { here });
        }
        let mut taken = self.clone_alone();
        match same {
            true if silent_ms < IN_WORK_MS_MAX => {
                (taken.entry.transaction, taken.taken_over) = (other.transaction, true)
            }
            true => {}
            false => taken.orphan = taken.orphaned(&other, gone),
        }
        match taken.map.update(&taken.key, taken.entry.to_octets(), found.revision).await {
            Ok(revision) => taken.revision = Some(revision),
            // Another node was faster: it works on it now.
            Err(BusError::WrongRevision) if same => return Some(Claim::Elsewhere { here: false }),
            Err(BusError::WrongRevision) => return None,
            Err(_) => {}
        }
        Some(Claim::Mine(taken.into()))
    }

    /// What is in work here is orphaned in the table of this node, which knows who else waits for it.
    fn orphaned(&self, other: &Entry, gone: bool) -> Option<Orphan> {
        const NOBODY: [u8; 32] = [0; 32];
        let superseded = other.alike == self.entry.alike && other.alike != NOBODY;
        if superseded || !other.reply.is_empty() || other.node == self.entry.node {
            return None;
        }
        let worker = (!gone).then_some(Worker { node: other.node, request: other.fingerprint.sha256 });
        let perhaps_awaited = !gone && other.alike != NOBODY;
        Some(Orphan { transaction: other.transaction, perhaps_awaited, worker })
    }

    fn clone_alone(&self) -> Self {
        let (map, clock, key) = (self.map.clone(), self.clock.clone(), self.key.clone());
        Self { map, clock, key, entry: self.entry.clone(), revision: None, taken_over: false, orphan: None }
    }
}

impl Given {
    pub(super) fn to_octets(&self) -> Vec<u8> {
        [&self.authenticator, self.octets.as_slice()].concat()
    }

    fn from_octets(octets: &[u8]) -> Option<Self> {
        let (authenticator, octets) = octets.split_first_chunk()?;
        Some(Self { authenticator: *authenticator, octets: octets.to_vec() })
    }
}

/// What stands in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    node: Uuid,
    transaction: TransactionId,
    fingerprint: Fingerprint,
    touched_unix_ms: i64,
    /// What it has in common with those that may join it; zeros: none may.
    alike: [u8; 32],
    /// Empty: still in work.
    reply: Vec<u8>,
}

impl Entry {
    const VERSION: u8 = 2;

    fn to_octets(&self) -> Bytes {
        let parts: [&[u8]; 8] = [
            &[Self::VERSION],
            self.node.as_bytes(),
            self.transaction.0.as_bytes(),
            &self.fingerprint.authenticator,
            &self.fingerprint.sha256,
            &self.touched_unix_ms.to_be_bytes(),
            &self.alike,
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
        let (touched, rest) = rest.split_first_chunk::<8>()?;
        let (alike, reply) = rest.split_first_chunk::<32>()?;
        (version == Self::VERSION).then(|| Self {
            node: Uuid::from_bytes(*node),
            transaction: TransactionId(Uuid::from_bytes(*transaction)),
            fingerprint: Fingerprint { authenticator: *authenticator, sha256: *sha256 },
            touched_unix_ms: i64::from_be_bytes(*touched),
            alike: *alike,
            reply: reply.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use service_kit::bus::InProcess;

    const MINE: u128 = 1;
    const ANOTHER: u128 = 2;

    /// Of a node, about a request.
    fn entry(node: u128, request: u8) -> Entry {
        Entry {
            node: Uuid::from_u128(node),
            transaction: TransactionId(Uuid::from_u128(7)),
            fingerprint: Fingerprint { authenticator: [request; 16], sha256: [request; 32] },
            touched_unix_ms: 0,
            alike: [0; 32],
            reply: Vec::new(),
        }
    }

    #[test]
    fn an_entry_has_the_form_that_the_build_before_wrote() {
        // T-11, R-30: nodes of two builds share the map while they are exchanged one by one. Another form is another version.
        let entry = Entry { touched_unix_ms: 1_790_000_000_000, alike: [8; 32], reply: vec![2, 9], ..entry(MINE, 7) };
        let (nothing, request, alike) = ("00".repeat(15), "07".repeat(48), "08".repeat(32));
        let written = format!("02{nothing}01{nothing}07{request}000001a0c4506c00{alike}0209");
        let octets = HEXLOWER.decode(written.as_bytes()).expect("hex");
        assert_eq!(HEXLOWER.encode(&entry.to_octets()), written);
        assert_eq!(Entry::from_octets(&octets).map(|read| read.to_octets()), Some(entry.to_octets()));
        assert!(Entry::from_octets(&[&[3], &octets[1..]].concat()).is_none(), "another version's");
    }

    /// What was ours until somebody else wrote there.
    async fn lost_to(map: &Arc<dyn Map>, key: &str, other: Entry) -> Option<Box<Lease>> {
        let mine = entry(MINE, 1);
        let revision = map.create(key, mine.to_octets()).await.expect("new");
        map.update(key, other.to_octets(), revision).await.expect("as it was");
        let (map, clock, key) = (Arc::clone(map), Clock::at(0), key.to_owned());
        let lease = Lease { map, clock, key, entry: mine, revision: Some(revision), taken_over: false, orphan: None };
        Some(Box::new(lease))
    }

    #[tokio::test]
    async fn that_another_node_goes_on_is_told_whatever_else_was_lost_in_the_same_moment() {
        // R-30, R-32, R-34: the second loss is told only now
        let map = InProcess::new().map("requests", MapOptions::default());
        let (replaced, taken_over) = (entry(ANOTHER, 2), entry(ANOTHER, 1));
        for (round, (packet, common, told)) in [
            (replaced.clone(), taken_over.clone(), Lost::TakenOver),
            (taken_over, replaced.clone(), Lost::TakenOver),
            (replaced.clone(), replaced, Lost::Replaced),
        ]
        .into_iter()
        .enumerate()
        {
            let packet = lost_to(&map, &format!("packet{round}"), packet).await;
            let common = lost_to(&map, &format!("common{round}"), common).await;
            let mut hold = Hold { packet, common, ..Hold::default() };
            assert_eq!(hold.touch_all().await, Some(told), "round {round}");
            assert!(hold.packet.is_none() && hold.common.is_none());
        }
    }
}
