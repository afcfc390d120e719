//! Keys of rings that make digests: of codes that were sent, and of logins that are remembered (V-17, V-32).

use domain::Secret;
use hmac::{Hmac, KeyInit, Mac};
use proto::user_store::KeyRingReply;
use sha2::Sha256;
use std::sync::{Arc, RwLock};

/// A ring: the key that makes new digests, and those that made the older ones.
#[derive(Default)]
pub struct DigestKeys {
    now: RwLock<Arc<Vec<(u32, Secret)>>>,
}

impl DigestKeys {
    /// The current key first.
    pub fn set(&self, keys: Vec<(u32, Secret)>) {
        *self.now.write().expect("nobody panics while holding the keys") = Arc::new(keys);
    }

    /// The id of the key to make a digest with; `None` until the store gave one.
    pub fn current(&self) -> Option<u32> {
        self.keys().first().map(|(id, _)| *id)
    }

    /// HMAC-SHA-256 over the fields, each with its length before it, so that no two lists of fields are the same octets. `None`: no
    /// such key.
    pub fn digest(&self, key_id: u32, fields: &[&[u8]]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let (_, key) = keys.iter().find(|(id, _)| *id == key_id)?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        Some(mac.finalize().into_bytes().to_vec())
    }

    fn keys(&self) -> Arc<Vec<(u32, Secret)>> {
        self.now.read().expect("nobody panics while holding the keys").clone()
    }
}

const KEY_BYTES: usize = 32;

/// The current key first: it seals, all open. `None`: a ring nobody can use.
pub fn current_first(reply: KeyRingReply) -> Option<Vec<(u32, Secret)>> {
    let (current, others): (Vec<_>, Vec<_>) = reply.keys.into_iter().partition(|key| key.id == reply.current);
    if current.len() != 1 {
        return None;
    }
    let readable = |key: proto::user_store::Key| {
        let secret = Secret::from(key.key?);
        (secret.len() == KEY_BYTES).then_some((key.id, secret))
    };
    current.into_iter().chain(others).map(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::Key;

    #[test]
    fn a_ring_without_its_current_key_or_with_a_short_one_is_refused() {
        // V-75: it must not stop the upkeep either
        let key = |id, length: usize| Key { id, key: Some(Secret::new(vec![7; length]).into()) };
        for (keys, current, good) in [
            (vec![key(1, 32)], 1, true),
            (vec![key(1, 32), key(2, 32)], 1, true),
            (vec![key(1, 32)], 2, false),
            (vec![], 0, false),
            (vec![key(1, 32), key(1, 32)], 1, false),
            (vec![key(1, 31)], 1, false),
            (vec![key(1, 32), key(2, 0)], 1, false),
            (vec![Key { id: 1, key: None }], 1, false),
        ] {
            assert_eq!(current_first(KeyRingReply { keys, current }).is_some(), good);
        }
    }

    #[test]
    fn no_two_lists_of_fields_have_one_digest() {
        // V-32, B-87: what stands next to each other must not run together, however long it is
        let keys = DigestKeys::default();
        assert!(keys.digest(1, &[b"a"]).is_none() && keys.current().is_none());
        keys.set(vec![(2, Secret::new(vec![2; 32])), (1, Secret::new(vec![1; 32]))]);
        assert_eq!(keys.current(), Some(2));
        let long = [b'u'; 100];
        let lists: &[&[&[u8]]] = &[
            &[b"ab", b"c"],
            &[b"a", b"bc"],
            &[b"abc"],
            &[b"abc", b""],
            &[b"", b"abc"],
            &[&long, b"one"],
            &[&long, b"two"],
        ];
        for (place, list) in lists.iter().enumerate() {
            for other in &lists[..place] {
                assert_ne!(keys.digest(2, list), keys.digest(2, other));
            }
            assert_ne!(keys.digest(2, list), keys.digest(1, list), "another key, another digest");
            assert_eq!(keys.digest(2, list), keys.digest(2, list));
        }
    }
}
