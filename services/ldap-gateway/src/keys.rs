//! The key that passwords are digested with, where a client remembers logins by them (V-32). Made and rotated by the store; never
//! written or logged. Without it a login is not remembered, and goes on.

use crate::settings::Client;
use domain::settings::RememberKind;
use domain::{DirectoryRef, Secret};
use hmac::{Hmac, KeyInit, Mac};
use proto::user_store::settings_server::Settings as Store;
use proto::user_store::{KeyRingReply, KeyRingRequest};
use service_kit::grpc::{idempotent, with_deadline};
use sha2::Sha256;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

const PASSWORDS: &str = "passwords";
/// A new key is known everywhere long before an old one goes: they overlap by days.
const REFRESH: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The key as this node has it.
#[derive(Default)]
pub struct PasswordKey(RwLock<Option<Secret>>);

impl PasswordKey {
    /// Fetches it, and again now and then. Ends only when it is dropped.
    pub async fn keep_current(self: Arc<Self>, store: Arc<dyn Store>) {
        loop {
            let fetched = fetch(store.as_ref()).await;
            let pause = if fetched.is_some() { REFRESH } else { RETRY };
            match fetched {
                Some(key) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key),
                // The one that stands is kept.
                None => tracing::debug!("logins cannot be remembered by their passwords: the store gives no key"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What stands for a password that was right, where the client remembers logins by it; empty elsewhere.
    pub fn digest(&self, client: &Client, subject: &DirectoryRef, password: &[u8]) -> Vec<u8> {
        let remember = client.settings.remember.as_ref();
        let wanted = remember.is_some_and(|remember| remember.kind == RememberKind::UserSourcePassword);
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(key) if wanted => digest(key, subject, password),
            _ => Vec::new(),
        }
    }
}

async fn fetch(store: &dyn Store) -> Option<Secret> {
    let request = with_deadline(idempotent(KeyRingRequest { purpose: PASSWORDS.to_owned() }), FETCH_LIMIT);
    let reply = tokio::time::timeout(FETCH_LIMIT, store.key_ring(request)).await.ok()?.ok()?;
    current(reply.into_inner())
}

/// The key to seal with, if it is one.
fn current(reply: KeyRingReply) -> Option<Secret> {
    let key = reply.keys.into_iter().find(|key| key.id == reply.current)?.key?;
    let octets: &[u8; 32] = key.value.as_slice().try_into().ok()?;
    Some(Secret::new(octets.to_vec()))
}

/// HMAC-SHA-256 over directory, id and password, each behind its length, so that no two triples read the same.
fn digest(key: &Secret, subject: &DirectoryRef, password: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for field in [subject.directory.as_str().as_bytes(), subject.id.to_string().as_bytes(), password] {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::Secret as WireSecret;
    use proto::user_store::Key;

    #[test]
    fn the_digest_of_a_password_is_that_of_the_radius_gateway() {
        // V-32: the same vector stands there
        let subject = DirectoryRef {
            directory: domain::ObjectName::new("corp").expect("a name"),
            id: format!("entryUUID:{}", uuid::Uuid::from_u128(10)).parse().expect("an id"),
        };
        let digest = digest(&Secret::new(vec![7; 32]), &subject, b"sesame");
        let vector = "d5251d0e72cd1014ce157a00e48cf3999c3319628c6d4fd3a333304fa1eaa0e3";
        assert_eq!(digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), vector);
    }

    #[test]
    fn only_a_whole_key_that_is_the_current_one_is_taken() {
        let reply = |current: u32, keys: &[(u32, usize)]| {
            let key = |(id, length): &(u32, usize)| Key {
                id: *id,
                key: Some(WireSecret { value: vec![u8::try_from(*id).expect("small"); *length] }),
            };
            KeyRingReply { keys: keys.iter().map(key).collect(), current }
        };
        assert_eq!(current(reply(2, &[(1, 32), (2, 32)])), Some(Secret::new(vec![2; 32])));
        for bad in [reply(1, &[]), reply(3, &[(1, 32), (2, 32)]), reply(1, &[(1, 31)]), reply(1, &[(1, 0)])] {
            assert_eq!(current(bad), None);
        }
    }
}
