//! What a later round needs of a home server, on whichever node it lands: which server a State belongs to, and the
//! Access-Accept that waits for the second factor, for its next round and for whoever takes over from a node that dies. Sealed in the map `twinlock_affinity`; losing an entry costs a login that has to
//! be begun again, and lets nobody in.

use crate::home::HomeTarget;
use crate::keys::Keys;
use bytes::Bytes;
use domain::{ObjectName, TransactionId};
use proto::subjects::AFFINITY_MAP;
use radius_wire::{HomeReply, Packet, Port, Rule, Sent};
use service_kit::bus::{Bus, Map, MapOptions, SealedMap};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest round (FR-14) and 30 s.
const LIFE: Duration = Duration::from_secs(300).saturating_add(MARGIN);
const MARGIN: Duration = Duration::from_secs(30);
/// What this node holds by itself while the bus is away.
const HELD_MAX: usize = 10_000;
/// A server's name each.
const SESSIONS_MAX: usize = 50_000;

pub(crate) struct Affinity {
    map: Arc<dyn Map>,
    keys: Arc<Keys>,
    /// What the bus did not take.
    held: Held<HELD_MAX>,
    /// Whose State a session has that is longer than what the bus holds: known to this node alone.
    sessions: Held<SESSIONS_MAX>,
    /// The States that this node has passed on.
    passed_on: Held<SESSIONS_MAX>,
}

/// An Access-Accept whose person has not proven the second factor yet, and whose it is.
#[derive(Clone)]
pub(crate) struct Parked {
    pub(crate) place: String,
    pub(crate) reply: HomeReply,
}

impl Affinity {
    pub(crate) fn new(bus: &dyn Bus, keys: Arc<Keys>) -> Self {
        // A reply is at most 4096 octets.
        let options = MapOptions { ttl: LIFE, max_entries: 1_000_000, max_value_bytes: 8 * 1024 };
        Self {
            map: bus.map(AFFINITY_MAP, options),
            keys,
            held: Held::default(),
            sessions: Held::default(),
            passed_on: Held::default(),
        }
    }

    /// The server at `place` has asked who calls themselves `user_name` at this client something, and will know it again by `state`.
    pub(crate) async fn asked(&self, client: &ObjectName, user_name: &[u8], state: &[u8], place: &str) {
        let key = state_key(client, user_name, state);
        self.passed_on.put(key.clone(), LIFE, Bytes::new());
        self.put(key, place.as_bytes().to_vec().into()).await;
    }

    /// The same of who was let in, and is asked again when their session is over (RFC 2865 section 5.24).
    pub(crate) async fn let_in(
        &self,
        client: &ObjectName,
        user_name: &[u8],
        state: &[u8],
        place: &str,
        session: Duration,
    ) {
        self.asked(client, user_name, state, place).await;
        if session + MARGIN > LIFE {
            let place = place.as_bytes().to_vec().into();
            self.sessions.put(state_key(client, user_name, state), session + MARGIN, place);
        }
    }

    /// Whether this node has passed this State on, for who may not wait. Of what another node has, it knows nothing.
    pub(crate) fn has_passed_on(&self, client: &ObjectName, user_name: &[u8], state: &[u8]) -> bool {
        let key = state_key(client, user_name, state);
        self.passed_on.get(&key).is_some() || self.sessions.get(&key).is_some()
    }

    /// Whose State it is; none where nobody asked this name, or let it in, at this client with it.
    pub(crate) async fn asker(&self, client: &ObjectName, user_name: &[u8], state: &[u8]) -> Option<String> {
        let key = state_key(client, user_name, state);
        let place = self.get(&key).await.or_else(|| self.sessions.get(&key))?;
        String::from_utf8(place.to_vec()).ok()
    }

    /// A home server said that this person's password has expired: for a while they may choose another.
    pub(crate) async fn password_expired(&self, client: &ObjectName, user_name: &str) {
        self.put(change_key(client, user_name), Bytes::from_static(b"expired")).await;
    }

    pub(crate) async fn may_change_password(&self, client: &ObjectName, user_name: &str) -> bool {
        self.get(&change_key(client, user_name)).await.is_some()
    }

    pub(crate) async fn park(&self, transaction: TransactionId, parked: &Parked) {
        let sent = parked.reply.sent();
        let place = parked.place.as_bytes();
        let Ok(length) = u16::try_from(place.len()) else { return };
        let octets = [
            &length.to_be_bytes(),
            place,
            &[sent.identifier],
            sent.authenticator.as_slice(),
            parked.reply.packet().octets(),
        ]
        .concat();
        self.put(parked_key(transaction), octets.into()).await;
    }

    /// The Accept of this attempt; none where it was lost, or its server is none of the target any more.
    pub(crate) async fn parked(&self, transaction: TransactionId, target: &HomeTarget) -> Option<Parked> {
        let octets = self.get(&parked_key(transaction)).await?;
        let (length, rest) = octets.split_first_chunk::<2>()?;
        let (place, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let place = std::str::from_utf8(place).ok()?;
        let (&[identifier], rest) = rest.split_first_chunk::<1>()?;
        let (authenticator, reply) = rest.split_first_chunk::<16>()?;
        let packet = Packet::parse(reply, Port::AuthenticationReplies).ok()?;
        let sent = Sent { identifier, authenticator: *authenticator };
        // Whether it was signed was asked when it came; that it is what came, the seal says, and this once more.
        let reply = HomeReply::verify(&packet, sent, &target.server(place)?.secret, Rule::Auto).ok()?;
        Some(Parked { place: place.to_owned(), reply })
    }

    async fn put(&self, key: String, value: Bytes) {
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        if let Err(error) = map.put(&key, value.clone()).await {
            tracing::debug!(service = crate::NAME, error = %error, "the bus does not hold what a later round needs");
            self.held.put(key, LIFE, value);
        }
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        if let Ok(Some(entry)) = map.get(key).await {
            return Some(entry.value);
        }
        self.held.get(key)
    }
}

/// In memory, `MAX` at most: where there is no room the older half goes.
#[derive(Default)]
struct Held<const MAX: usize>(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    younger: HashMap<String, (Instant, Bytes)>,
    older: HashMap<String, (Instant, Bytes)>,
}

impl<const MAX: usize> Held<MAX> {
    fn put(&self, key: String, life: Duration, value: Bytes) {
        let mut held = self.halves();
        if held.younger.len() >= MAX / 2 {
            held.older = std::mem::take(&mut held.younger);
        }
        held.younger.insert(key, (Instant::now() + life, value));
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        let held = self.halves();
        let found = held.younger.get(key).or_else(|| held.older.get(key));
        found.filter(|(ends, _)| *ends > Instant::now()).map(|(_, value)| value.clone())
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_key(client: &ObjectName, user_name: &[u8], state: &[u8]) -> String {
    format!("state.{}", digest(client, &[user_name, state]))
}

fn change_key(client: &ObjectName, user_name: &str) -> String {
    format!("change.{}", digest(client, &[user_name.as_bytes()]))
}

fn parked_key(transaction: TransactionId) -> String {
    format!("accept.{}", transaction.0.simple())
}

/// Each part behind its length, so that no two read the same.
fn digest(client: &ObjectName, parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in std::iter::once(client.as_str().as_bytes()).chain(parts.iter().copied()) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_has_an_end_and_where_there_is_no_room_the_older_half_goes() {
        let held = Held::<10>::default();
        let hold = |range: std::ops::Range<u32>| range.for_each(|n| held.put(n.to_string(), LIFE, Bytes::new()));
        let there = |n: u32| held.get(&n.to_string()).is_some();
        hold(0..10);
        assert!((0..10).all(there));
        hold(10..12);
        assert!(!(0..5).any(there) && (5..12).all(there), "a round in progress stays");
        tokio::time::advance(LIFE).await;
        assert!(!(0..12).any(there));
    }
}
