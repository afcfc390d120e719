//! The keys this part seals its short-lived shared state with: the State of challenges and the entries of the map of
//! requests (V-73); and what passwords are digested with, where a client remembers logins by them (V-32). Made and rotated by the store; every node has the same, so any node can go on where another began.

use crate::settings::Client;
use arc_swap::{ArcSwap, ArcSwapOption};
use domain::DirectoryRef;
use hmac::{Hmac, KeyInit, Mac};
use proto::user_store::settings_server::Settings as Store;
use proto::user_store::{Key, KeyRingReply, KeyRingRequest};
use radius_wire::LoopTag;
use service_kit::Process;
use service_kit::bus::KeyRing as MapKeys;
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::secret::Secret;
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;

const STATE: &str = "radius-state";
const REQUESTS: &str = "requests";
const PASSWORDS: &str = "passwords";
/// A new key is known everywhere long before an old one goes: they overlap by days.
const REFRESH: Duration = Duration::from_secs(60);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Keys {
    store: Arc<dyn Store>,
    state: ArcSwap<radius_wire::KeyRing>,
    requests: ArcSwap<MapKeys>,
    /// Made of the key that seals requests; one of before is recognised no more once that key is replaced.
    loop_tag: ArcSwap<LoopTag>,
    /// What look-alikes are digested with; it follows from the ring of the requests.
    look_alikes: ArcSwap<Secret>,
    /// Absent until the store gave it: a login is not remembered then, and goes on.
    passwords: ArcSwapOption<Secret>,
}

/// The store did not give a ring that can be used.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error("the store did not answer: {0:?}")]
    Store(tonic::Code),
    #[error("the ring `{0}` holds no key of 32 octets to seal with")]
    Unusable(&'static str),
}

impl Keys {
    /// Waits until the store has given both rings.
    pub(crate) async fn fetched(store: Arc<dyn Store>) -> Arc<Self> {
        let mut pause = Duration::from_millis(100);
        loop {
            match fetch(store.as_ref()).await {
                Ok(Rings { state, requests, look_alikes, loop_tag }) => {
                    let keys = Arc::new(Self {
                        store,
                        state: ArcSwap::from_pointee(state),
                        requests: ArcSwap::from_pointee(requests),
                        look_alikes: ArcSwap::from_pointee(look_alikes),
                        loop_tag: ArcSwap::from_pointee(loop_tag),
                        passwords: ArcSwapOption::empty(),
                    });
                    keys.fetch_passwords().await;
                    return keys;
                }
                Err(error) => {
                    tracing::warn!(service = crate::NAME, error = %error, "waiting for the store to give the keys")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    pub(crate) fn refresh(self: &Arc<Self>, process: &Process) {
        let keys = self.clone();
        process.shutdown().spawn_until_stopping(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                match fetch(keys.store.as_ref()).await {
                    Ok(Rings { state, requests, look_alikes, loop_tag }) => {
                        keys.state.store(Arc::new(state));
                        keys.requests.store(Arc::new(requests));
                        keys.look_alikes.store(Arc::new(look_alikes));
                        keys.loop_tag.store(Arc::new(loop_tag));
                    }
                    Err(error) => {
                        tracing::warn!(service = crate::NAME, error = %error, "the keys could not be refreshed")
                    }
                }
                keys.fetch_passwords().await;
            }
        });
    }

    /// The one that stands is kept where the store gives none.
    async fn fetch_passwords(&self) {
        let ring = ring(self.store.as_ref(), PASSWORDS).await;
        match ring.and_then(|ring| password_key(ring).ok_or(KeysError::Unusable(PASSWORDS))) {
            Ok(key) => self.passwords.store(Some(Arc::new(key))),
            Err(error) => {
                tracing::warn!(service = crate::NAME, error = %error, "logins cannot be remembered by their passwords")
            }
        }
    }

    pub(crate) fn state(&self) -> Arc<radius_wire::KeyRing> {
        self.state.load_full()
    }

    pub(crate) fn loop_tag(&self) -> Arc<LoopTag> {
        self.loop_tag.load_full()
    }

    pub(crate) fn requests(&self) -> MapKeys {
        self.requests.load().as_ref().clone()
    }

    /// What look-alikes are digested with, the same on every node.
    pub(crate) fn look_alikes(&self) -> [u8; 32] {
        self.look_alikes.load().expose().try_into().expect("it was made with 32 octets")
    }

    /// What stands for a password that was right, where the client remembers logins by it; empty elsewhere.
    pub(crate) fn password_digest(&self, client: &Client, subject: &DirectoryRef, password: &[u8]) -> Vec<u8> {
        match self.passwords.load().as_ref() {
            Some(key) if client.remembers_by_password() => password_digest(key, subject, password),
            _ => Vec::new(),
        }
    }
}

/// V-32: HMAC-SHA-256 over directory, id and password, each behind its length, so that no two triples read the same.
fn password_digest(key: &Secret, subject: &DirectoryRef, password: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for field in [subject.directory.as_str().as_bytes(), subject.id.to_string().as_bytes(), password] {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().to_vec()
}

struct Rings {
    state: radius_wire::KeyRing,
    requests: MapKeys,
    look_alikes: Secret,
    loop_tag: LoopTag,
}

async fn fetch(store: &dyn Store) -> Result<Rings, KeysError> {
    let state = state_ring(ring(store, STATE).await?).ok_or(KeysError::Unusable(STATE))?;
    let requests = ring(store, REQUESTS).await?;
    let look_alikes = look_alike_key(requests.clone()).ok_or(KeysError::Unusable(REQUESTS))?;
    let loop_tag = loop_tag(requests.clone()).ok_or(KeysError::Unusable(REQUESTS))?;
    let requests = map_ring(requests).ok_or(KeysError::Unusable(REQUESTS))?;
    Ok(Rings { state, requests, look_alikes, loop_tag })
}

fn loop_tag(reply: KeyRingReply) -> Option<LoopTag> {
    let (current, _) = sorted(reply)?;
    let mac = Hmac::<Sha256>::new_from_slice(octets(&current)?).expect("HMAC takes a key of any length");
    Some(LoopTag::new(&mac.chain_update("loop tag").finalize().into_bytes().into()))
}

async fn ring(store: &dyn Store, purpose: &str) -> Result<KeyRingReply, KeysError> {
    let request = with_deadline(idempotent(KeyRingRequest { purpose: purpose.to_owned() }), FETCH_LIMIT);
    match tokio::time::timeout(FETCH_LIMIT, store.key_ring(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(KeysError::Store(status.code())),
        Err(_) => Err(KeysError::Store(tonic::Code::DeadlineExceeded)),
    }
}

fn state_ring(reply: KeyRingReply) -> Option<radius_wire::KeyRing> {
    let (current, others) = sorted(reply)?;
    let ring = radius_wire::KeyRing::new(current.id, octets(&current)?);
    others.iter().try_fold(ring, |ring, key| Some(ring.also_opening(key.id, octets(key)?)))
}

fn map_ring(reply: KeyRingReply) -> Option<MapKeys> {
    let (current, others) = sorted(reply)?;
    let keys = std::iter::once(&current).chain(&others).map(|key| Some(Secret::new(octets(key)?.to_vec())));
    Some(MapKeys::new(&keys.collect::<Option<Vec<_>>>()?))
}

fn password_key(reply: KeyRingReply) -> Option<Secret> {
    let (current, _) = sorted(reply)?;
    Some(Secret::new(octets(&current)?.to_vec()))
}

/// A key of its own, because the ring's seals already.
fn look_alike_key(reply: KeyRingReply) -> Option<Secret> {
    let (current, _) = sorted(reply)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(octets(&current)?).expect("HMAC takes a key of any length");
    mac.update(b"twinlock look-alikes");
    Some(Secret::new(mac.finalize().into_bytes().to_vec()))
}

/// The key that seals, and the others.
fn sorted(reply: KeyRingReply) -> Option<(Key, Vec<Key>)> {
    let (mut current, others): (Vec<_>, Vec<_>) = reply.keys.into_iter().partition(|key| key.id == reply.current);
    Some((current.pop()?, others))
}

fn octets(key: &Key) -> Option<&[u8; 32]> {
    key.key.as_ref()?.value.as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::Secret as WireSecret;
    use radius_wire::State;

    fn reply(current: u32, keys: &[(u32, &[u8])]) -> KeyRingReply {
        let key = |(id, octets): &(u32, &[u8])| Key { id: *id, key: Some(WireSecret { value: octets.to_vec() }) };
        KeyRingReply { keys: keys.iter().map(key).collect(), current }
    }

    #[test]
    fn a_rotated_key_still_opens_and_the_new_one_seals() {
        // after key rotation the old key id is valid until its States have expired
        let state = State { transaction: [1; 16], user: [2; 16], step: 1, expires_unix_seconds: 100 };
        let old = state_ring(reply(1, &[(1, &[1; 32])])).expect("a ring");
        let new = state_ring(reply(2, &[(1, &[1; 32]), (2, &[2; 32])])).expect("a ring");
        let sealed = old.seal(&state, b"vpn", [0; 12]);
        assert_eq!(new.open(&sealed, b"vpn", 99), Ok(state));
        let sealed = new.seal(&state, b"vpn", [0; 12]);
        assert!(old.open(&sealed, b"vpn", 99).is_err(), "a node that lacks the new key refuses");
    }

    #[test]
    fn the_digest_of_a_password_is_bound_to_its_person_and_cannot_be_shifted_between_fields() {
        // V-32, B-87. The LDAP gateway has the same vector: both digest alike.
        let subject = |directory: &str, id: u128| DirectoryRef {
            directory: domain::ObjectName::new(directory).expect("a name"),
            id: format!("entryUUID:{}", uuid::Uuid::from_u128(id)).parse().expect("an id"),
        };
        let key = Secret::new(vec![7; 32]);
        let digest = password_digest(&key, &subject("corp", 10), b"sesame");
        assert_eq!(digest, password_digest(&key, &subject("corp", 10), b"sesame"));
        let vector = "d5251d0e72cd1014ce157a00e48cf3999c3319628c6d4fd3a333304fa1eaa0e3";
        assert_eq!(digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), vector);
        let long = "x".repeat(4_096);
        let others = [
            password_digest(&Secret::new(vec![8; 32]), &subject("corp", 10), b"sesame"),
            password_digest(&key, &subject("corp2", 10), b"sesame"),
            password_digest(&key, &subject("corp", 11), b"sesame"),
            password_digest(&key, &subject("corp", 10), b"sesame\0"),
            password_digest(&key, &subject("corp", 10), b""),
            password_digest(&key, &subject("corp", 10), long.as_bytes()),
            password_digest(&key, &subject("corp", 10), format!("{long}y").as_bytes()),
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(*other, digest, "case {place}");
            assert_eq!(others.iter().filter(|it| *it == other).count(), 1, "case {place}");
        }
        for bad in [reply(1, &[]), reply(2, &[(1, &[1; 32])]), reply(1, &[(1, &[1; 31])])] {
            assert!(password_key(bad).is_none(), "no digest without a whole key");
        }
        let rotated = password_key(reply(2, &[(1, &[1; 32]), (2, &[2; 32])])).expect("a key");
        assert_eq!(rotated.expose(), [2; 32]);
    }

    #[test]
    fn a_ring_without_its_sealing_key_or_with_a_short_one_is_refused() {
        for bad in [
            reply(1, &[]),
            reply(2, &[(1, &[1; 32])]),
            reply(1, &[(1, &[1; 31])]),
            reply(1, &[(1, &[1; 32]), (2, &[])]),
        ] {
            assert!(state_ring(bad.clone()).is_none() && map_ring(bad).is_none());
        }
    }
}
