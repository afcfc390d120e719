//! The keys this part seals its short-lived shared state with: the State of challenges and the entries of the map of
//! requests (V-73). Made and rotated by the store; every node has the same, so any node can go on where another began.

use arc_swap::ArcSwap;
use proto::user_store::settings_server::Settings as Store;
use proto::user_store::{Key, KeyRingReply, KeyRingRequest};
use service_kit::Process;
use service_kit::bus::KeyRing as MapKeys;
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::secret::Secret;
use std::sync::Arc;
use std::time::Duration;

const STATE: &str = "radius-state";
const REQUESTS: &str = "requests";
/// A new key is known everywhere long before an old one goes: they overlap by days.
const REFRESH: Duration = Duration::from_secs(60);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Keys {
    store: Arc<dyn Store>,
    state: ArcSwap<radius_wire::KeyRing>,
    requests: ArcSwap<MapKeys>,
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
                Ok((state, requests)) => {
                    let (state, requests) = (ArcSwap::from_pointee(state), ArcSwap::from_pointee(requests));
                    return Arc::new(Self { store, state, requests });
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
                    Ok((state, requests)) => {
                        keys.state.store(Arc::new(state));
                        keys.requests.store(Arc::new(requests));
                    }
                    Err(error) => {
                        tracing::warn!(service = crate::NAME, error = %error, "the keys could not be refreshed")
                    }
                }
            }
        });
    }

    pub(crate) fn state(&self) -> Arc<radius_wire::KeyRing> {
        self.state.load_full()
    }

    pub(crate) fn requests(&self) -> MapKeys {
        self.requests.load().as_ref().clone()
    }
}

async fn fetch(store: &dyn Store) -> Result<(radius_wire::KeyRing, MapKeys), KeysError> {
    let state = ring(store, STATE).await?;
    let requests = ring(store, REQUESTS).await?;
    Ok((state_ring(state).ok_or(KeysError::Unusable(STATE))?, map_ring(requests).ok_or(KeysError::Unusable(REQUESTS))?))
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
