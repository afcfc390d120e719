//! What a later round needs of a home server, on whichever node it lands: which server a State belongs to, and the
//! Access-Accept that waits for the second factor, for its next round and for whoever takes over from a node that dies. Sealed in the map `twinlock_affinity`; losing an entry costs a login that has to
//! be begun again, and lets nobody in.

use crate::home::HomeTarget;
use crate::keys::Keys;
use bytes::Bytes;
use domain::{ObjectName, TransactionId};
use proto::subjects::AFFINITY_MAP;
use radius_wire::{HomeReply, Packet, Port, Rule, Sent};
use service_kit::Clock;
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
    clock: Clock,
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
    /// Where it was kept last; none where it was not.
    pub(crate) stored: Option<Stored>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// In the map; none while the bus is away.
    revision: Option<u64>,
    issued_unix_ms: i64,
}

/// Who a kept Accept is for. It opens the first lock, so that it counts for nobody else: who can write to the bus could put an old one
/// back in its place (V-73).
#[derive(Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) client: &'a ObjectName,
    /// The name as it was typed, which a device repeats in every packet of a conversation (RFC 2865 section 4.4).
    pub(crate) typed: &'a str,
    /// The request that it was granted to; none for a later round, which is bound to the conversation by its State.
    pub(crate) request: Option<&'a [u8; 32]>,
}

impl Parked {
    pub(crate) fn new(place: String, reply: HomeReply) -> Self {
        Self { place, reply, stored: None }
    }
}

impl Affinity {
    pub(crate) fn new(bus: &dyn Bus, keys: Arc<Keys>, clock: Clock) -> Self {
        // A reply is at most 4096 octets.
        let options = MapOptions { ttl: LIFE, max_entries: 1_000_000, max_value_bytes: 8 * 1024 };
        Self {
            map: bus.map(AFFINITY_MAP, options),
            keys,
            clock,
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
        let place = self.get(&key).await.map(|(place, _)| place).or_else(|| self.sessions.get(&key))?;
        String::from_utf8(place.to_vec()).ok()
    }

    /// A home server said that this person's password has expired: for a while they may choose another.
    pub(crate) async fn password_expired(&self, client: &ObjectName, user_name: &str) {
        self.put(change_key(client, user_name), Bytes::from_static(b"expired")).await;
    }

    pub(crate) async fn may_change_password(&self, client: &ObjectName, user_name: &str) -> bool {
        self.get(&change_key(client, user_name)).await.is_some()
    }

    /// Keeps an Accept as long as the longest round. What was kept just now stays as it is.
    pub(crate) async fn park(&self, transaction: TransactionId, whose: &Whose<'_>, parked: &Parked) -> Option<Stored> {
        let now_unix_ms = self.clock.now_ms();
        let is_new = |stored: &Stored| now_unix_ms - stored.issued_unix_ms < MARGIN.as_millis() as i64;
        if let Some(stored) = parked.stored.filter(is_new) {
            return Some(stored);
        }
        let sent = *parked.reply.sent();
        let accept =
            Accept { issued_unix_ms: now_unix_ms, place: &parked.place, sent, octets: parked.reply.packet().octets() };
        let revision = self.put(parked_key(transaction), accept.to_octets(whose)?).await;
        Some(Stored { revision, issued_unix_ms: now_unix_ms })
    }

    /// The Accept of this attempt; none where it was lost, is another's or too old, or its server is none of the target any more.
    pub(crate) async fn parked(
        &self,
        transaction: TransactionId,
        whose: &Whose<'_>,
        target: &HomeTarget,
    ) -> Option<Parked> {
        let (octets, revision) = self.get(&parked_key(transaction)).await?;
        let accept = Accept::from_octets(&octets, whose, self.clock.now_ms())?;
        let packet = Packet::parse(accept.octets, Port::AuthenticationReplies).ok()?;
        // Whether it was signed was asked when it came; that it is what came, the seal says, and this once more.
        let secret = &target.server(accept.place)?.secret;
        let reply = HomeReply::verify(&packet, accept.sent, secret, Rule::Auto).ok()?;
        let stored = Some(Stored { revision, issued_unix_ms: accept.issued_unix_ms });
        Some(Parked { place: accept.place.to_owned(), reply, stored })
    }

    /// The attempt is over: nobody goes on with what was granted.
    pub(crate) async fn unpark(&self, transaction: TransactionId, parked: &Parked) {
        let Some(stored) = parked.stored else { return };
        let key = parked_key(transaction);
        self.held.remove(&key);
        if let Some(revision) = stored.revision {
            // What is left there ends with its time.
            let _ = self.map.delete(&key, revision).await;
        }
    }

    async fn put(&self, key: String, value: Bytes) -> Option<u64> {
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        match map.put(&key, value.clone()).await {
            Ok(revision) => Some(revision),
            Err(error) => {
                tracing::debug!(service = crate::NAME, error = %error, "the bus does not hold what a later round needs");
                self.held.put(key, LIFE, value);
                None
            }
        }
    }

    async fn get(&self, key: &str) -> Option<(Bytes, Option<u64>)> {
        let map = SealedMap::new(self.map.clone(), self.keys.requests());
        if let Ok(Some(entry)) = map.get(key).await {
            return Some((entry.value, Some(entry.revision)));
        }
        self.held.get(key).map(|value| (value, None))
    }
}

/// A kept Accept as it stands in the map.
#[derive(Debug, PartialEq, Eq)]
struct Accept<'a> {
    issued_unix_ms: i64,
    place: &'a str,
    sent: Sent,
    octets: &'a [u8],
}

impl<'a> Accept<'a> {
    const FORM: u8 = 1;

    /// None for a place that is too long to be one.
    fn to_octets(&self, whose: &Whose<'_>) -> Option<Bytes> {
        let length = u16::try_from(self.place.len()).ok()?;
        let parts: [&[u8]; 9] = [
            &[Self::FORM],
            &self.issued_unix_ms.to_be_bytes(),
            &whose.digest(),
            whose.request.unwrap_or(&[0; 32]),
            &length.to_be_bytes(),
            self.place.as_bytes(),
            &[self.sent.identifier],
            &self.sent.authenticator,
            self.octets,
        ];
        Some(parts.concat().into())
    }

    /// None for what another version wrote, what is somebody else's, and what has had its time by the clocks of both nodes.
    fn from_octets(octets: &'a [u8], whose: &Whose<'_>, now_unix_ms: i64) -> Option<Self> {
        let (&[form], rest) = octets.split_first_chunk()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let (request, rest) = rest.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (place, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (&[identifier], rest) = rest.split_first_chunk::<1>()?;
        let (authenticator, octets) = rest.split_first_chunk::<16>()?;
        let issued_unix_ms = i64::from_be_bytes(*issued);
        let theirs = *digest == whose.digest() && whose.request.is_none_or(|wanted| wanted == request);
        let in_time = u128::from(now_unix_ms.abs_diff(issued_unix_ms)) < LIFE.as_millis();
        (form == Self::FORM && theirs && in_time).then_some(())?;
        let place = std::str::from_utf8(place).ok()?;
        Some(Self { issued_unix_ms, place, sent: Sent { identifier, authenticator: *authenticator }, octets })
    }
}

impl Whose<'_> {
    fn digest(&self) -> [u8; 32] {
        digest(self.client, &[self.typed.as_bytes()])
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

    fn remove(&self, key: &str) {
        let mut held = self.halves();
        held.younger.remove(key);
        held.older.remove(key);
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_key(client: &ObjectName, user_name: &[u8], state: &[u8]) -> String {
    format!("state.{}", hex(&digest(client, &[user_name, state])))
}

fn change_key(client: &ObjectName, user_name: &str) -> String {
    format!("change.{}", hex(&digest(client, &[user_name.as_bytes()])))
}

fn parked_key(transaction: TransactionId) -> String {
    format!("accept.{}", transaction.0.simple())
}

/// Each part behind its length, so that no two read the same.
fn digest(client: &ObjectName, parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in std::iter::once(client.as_str().as_bytes()).chain(parts.iter().copied()) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
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

    #[test]
    fn an_accept_that_waits_is_for_its_client_name_and_request_and_has_an_end() {
        // V-73
        const NOW: i64 = 1_790_000_000_000;
        let (vpn, wifi): (ObjectName, ObjectName) = ("vpn".parse().expect("a name"), "wifi".parse().expect("a name"));
        let whose = Whose { client: &vpn, typed: "ann", request: Some(&[7; 32]) };
        let sent = Sent { identifier: 9, authenticator: [3; 16] };
        let accept = Accept { issued_unix_ms: NOW, place: "10.0.0.5:1812", sent, octets: b"octets" };
        let octets = accept.to_octets(&whose).expect("a place");
        let read = |whose: Whose<'_>, now: i64| Accept::from_octets(&octets, &whose, now);
        let life = i64::try_from(LIFE.as_millis()).expect("minutes");
        for now in [NOW, NOW + life - 1, NOW - 5_000] {
            assert_eq!(read(whose, now).as_ref(), Some(&accept), "{now}");
        }
        assert_eq!(read(Whose { request: None, ..whose }, NOW), Some(accept), "a later round");
        for other in [
            Whose { client: &wifi, ..whose },
            Whose { typed: "bob", ..whose },
            Whose { request: Some(&[8; 32]), ..whose },
            Whose { client: &wifi, request: None, ..whose },
            Whose { typed: "bob", request: None, ..whose },
        ] {
            assert_eq!(read(other, NOW), None);
        }
        assert_eq!(read(whose, NOW + life), None);
        let whole = octets.len() - b"octets".len();
        assert!((0..whole).all(|length| Accept::from_octets(&octets[..length], &whose, NOW).is_none()), "cut off");
        // T-11: nodes of two builds share the map while they are exchanged one by one. Another form is another version.
        let (request, signed) = ("07".repeat(32), "03".repeat(16));
        let theirs = "9552ce4f3017f70615890061da5137c80b73338578696ee0b0bb90733900d9e8";
        let written =
            format!("01000001a0c4506c00{theirs}{request}000d31302e302e302e353a3138313209{signed}6f6374657473");
        assert_eq!(hex(&octets), written);
        let other_form = [&[2], &octets[1..]].concat();
        assert_eq!(Accept::from_octets(&other_form, &whose, NOW), None);
    }
}
