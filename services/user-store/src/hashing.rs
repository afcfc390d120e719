//! Hashes of what people remember: PINs, recovery and temporary codes, answers (V-31).
//!
//! argon2id with 19 MiB, two passes, one lane; a salt for each record (one for a whole set of recovery codes) and a pepper that
//! never stands in the database. What is hashed names its user and kind, so that a row copied to another user fits nobody. It is
//! work of some milliseconds and much memory: done beside the runtime, a few at a time, and never inside a transaction.

use crate::rpc::StoreError;
use crate::seal;
use argon2::{Algorithm, Argon2, Params, Version};
use domain::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const OCTETS: usize = 32;
/// Computations at a time: 76 MiB at most.
const AT_ONCE: usize = 4;
/// Computations that may wait for their turn; beyond, a call is refused as unavailable.
const WAITING: usize = 256;
pub const SALT_OCTETS: usize = 16;

/// What a secret is good for. The same digits as another kind, or of another user, hash to something else.
#[derive(Clone, Copy)]
pub struct Purpose<'a> {
    pub user_id: &'a str,
    /// `pin` (also of its history), `recovery`, `temporary`, `answer`
    pub kind: &'static str,
    /// The question, for an answer; otherwise empty.
    pub label: &'a str,
}

/// Computes hashes under this store's pepper. Clones share the bound.
#[derive(Clone)]
pub struct Hasher {
    pepper: Arc<Zeroizing<[u8; 32]>>,
    turns: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Hasher {
    pub fn new(store_pepper: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(store_pepper).expect("HMAC takes a key of any length");
        mac.update(b"twinlock hashed secrets 1");
        Self {
            pepper: Arc::new(Zeroizing::new(mac.finalize().into_bytes().into())),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Arc::new(Semaphore::new(WAITING)),
        }
    }

    pub async fn hash(&self, purpose: Purpose<'_>, salt: &[u8], secret: &Secret) -> Result<Vec<u8>, StoreError> {
        let _place = self.queue.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| StoreError::Gone)?;
        let mut text = Zeroizing::new(Vec::with_capacity(256));
        for part in [purpose.user_id, purpose.kind, purpose.label] {
            text.extend((part.len() as u64).to_be_bytes());
            text.extend(part.as_bytes());
        }
        text.extend(secret.expose());
        let (pepper, salt) = (self.pepper.clone(), salt.to_vec());
        // The turn goes along: a caller that leaves does not make room before the memory is free.
        let computed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            compute(&pepper[..], &salt, &text)
        });
        computed.await.map_err(|_| StoreError::Broken("a hash could not be computed"))?
    }
}

fn compute(pepper: &[u8], salt: &[u8], text: &[u8]) -> Result<Vec<u8>, StoreError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(OCTETS)).expect("the parameters are within argon2's bounds");
    let argon2 = Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = vec![0; OCTETS];
    let done = argon2.and_then(|argon2| argon2.hash_password_into(text, salt, &mut hash));
    done.map_err(|_| StoreError::Broken("a hash could not be computed"))?;
    Ok(hash)
}

/// A salt for a new record.
pub fn salt() -> [u8; SALT_OCTETS] {
    seal::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_of_one_secret_one_purpose_one_salt_and_one_pepper() {
        // V-31
        let hasher = Hasher::new(b"pepper of this store");
        let pin = Purpose { user_id: "ann", kind: "pin", label: "" };
        let secret = Secret::from("4711");
        let hash = hasher.hash(pin, &[1; 16], &secret).await.expect("computed");
        assert_eq!(hasher.hash(pin, &[1; 16], &secret).await.expect("computed"), hash);
        for (name, other) in [
            ("secret", hasher.hash(pin, &[1; 16], &Secret::from("4712")).await),
            ("user", hasher.hash(Purpose { user_id: "bob", ..pin }, &[1; 16], &secret).await),
            ("kind", hasher.hash(Purpose { kind: "recovery", ..pin }, &[1; 16], &secret).await),
            ("label", hasher.hash(Purpose { label: "x", ..pin }, &[1; 16], &secret).await),
            ("salt", hasher.hash(pin, &[2; 16], &secret).await),
            ("pepper", Hasher::new(b"another").hash(pin, &[1; 16], &secret).await),
        ] {
            assert_ne!(other.expect("computed"), hash, "{name}");
        }
    }
}
