//! RSA, as the protocol has it: PKCS#1 v1.5 with SHA-256, signatures in Base32. One key pair of ours for each token.
//!
//! `ring` signs and checks, in constant time; the `rsa` crate makes keys and turns their forms, nothing else (RUSTSEC-2023-0071).

use data_encoding::{BASE32, BASE32_NOPAD, BASE64};
use domain::Secret;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::{DecodePublicKey, EncodePrivateKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts;
use rsa::{PrivateKey, PublicKey};
use service_kit::Shutdown;
use std::sync::{Arc, Mutex};

/// What the app expects; others are not known to work.
pub const BITS: usize = 4096;
const PHONE_BITS_MIN: usize = 2048;
/// Keys made ahead.
const AHEAD: usize = 2;
/// Keys kept that were made elsewhere.
const KEPT_MAX: usize = 16;

/// A phone's key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("it is no RSA key of 2048 bits or more")]
pub struct BadKey;

/// A phone's key, as it sends it: Base64 of a DER SubjectPublicKeyInfo. Returned in one form.
pub fn phone_key(sent: &str) -> Result<String, BadKey> {
    // A form that was not escaped has blanks where the plus signs were.
    let tidy: String = sent.chars().map(|sign| if sign == ' ' { '+' } else { sign }).collect();
    let der = BASE64.decode(tidy.as_bytes()).map_err(|_| BadKey)?;
    let key = PublicKey::from_public_key_der(&der).map_err(|_| BadKey)?;
    if key.size() * 8 < PHONE_BITS_MIN { Err(BadKey) } else { Ok(BASE64.encode(&der)) }
}

/// Did this phone's key sign the text?
pub fn is_signed(phone_key: &str, text: &str, signature: &str) -> bool {
    let der = BASE64.decode(phone_key.as_bytes()).ok();
    let key = der.and_then(|der| PublicKey::from_public_key_der(&der).ok());
    let pkcs1 = key.and_then(|key| key.to_pkcs1_der().ok());
    let signature = BASE32_NOPAD.decode(signature.trim_end_matches('=').as_bytes()).ok();
    pkcs1.zip(signature).is_some_and(|(key, signature)| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.as_bytes()).verify(text.as_bytes(), &signature).is_ok()
    })
}

/// Our key for one token.
pub struct ServerKey {
    pair: RsaKeyPair,
}

/// A key of ours that cannot be read. A fault, or a store that was tampered with.
#[derive(Debug, thiserror::Error)]
#[error("a server key of a token cannot be used")]
pub struct BadServerKey;

impl ServerKey {
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadServerKey> {
        RsaKeyPair::from_pkcs8(der).map(|pair| Self { pair }).map_err(|_| BadServerKey)
    }

    /// Base64 of a DER PKCS#1 RSAPublicKey: the app's other form is not ours.
    pub fn public(&self) -> String {
        BASE64.encode(self.pair.public().as_ref())
    }

    /// Base32 with padding.
    pub fn sign(&self, text: &str) -> Result<String, BadServerKey> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map(|()| BASE32.encode(&signature)).map_err(|_| BadServerKey)
    }
}

/// New keys for tokens, a few of them made ahead: one of 4096 bits takes seconds. Nothing is made before the first is needed, so that a
/// process that enrols nobody makes none.
#[derive(Clone)]
pub struct ServerKeys {
    bits: usize,
    randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
    /// Who owns the tasks that make them.
    shutdown: Shutdown,
    ahead: Arc<Mutex<Ahead>>,
}

#[derive(Default)]
struct Ahead {
    made: Vec<Secret>,
    /// Under way.
    making: usize,
}

/// No key could be made.
#[derive(Debug, thiserror::Error)]
#[error("no RSA key could be made")]
pub struct NoKey;

impl ServerKeys {
    pub fn new(bits: usize, randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>, shutdown: Shutdown) -> Self {
        Self { bits, randomness, shutdown, ahead: Arc::default() }
    }

    /// Keeps a key for the next token, as PKCS#8 in DER.
    pub fn put(&self, key: Secret) {
        let mut ahead = self.ahead.lock().expect("nobody panics while holding the keys");
        if ahead.made.len() < KEPT_MAX {
            ahead.made.push(key);
        }
    }

    /// A key as PKCS#8 in DER: one made ahead, or a new one. The next ones are made meanwhile.
    pub async fn take(&self) -> Result<Secret, NoKey> {
        let made = self.ahead.lock().expect("nobody panics while holding the keys").made.pop();
        let key = match made {
            Some(key) => Ok(key),
            None => self.make().await,
        };
        self.refill();
        key
    }

    fn refill(&self) {
        let mut ahead = self.ahead.lock().expect("nobody panics while holding the keys");
        while ahead.made.len() + ahead.making < AHEAD {
            ahead.making += 1;
            let keys = self.clone();
            self.shutdown.spawn_until_stopping(async move {
                let key = keys.make().await;
                let mut ahead = keys.ahead.lock().expect("nobody panics while holding the keys");
                ahead.making -= 1;
                ahead.made.extend(key.ok());
            });
        }
    }

    async fn make(&self) -> Result<Secret, NoKey> {
        let (bits, randomness) = (self.bits, self.randomness);
        let made = tokio::task::spawn_blocking(move || made(bits, randomness)).await;
        made.unwrap_or(Err(NoKey))
    }
}

fn made(bits: usize, randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>) -> Result<Secret, NoKey> {
    let key = PrivateKey::new(&mut Kernel(randomness), bits).map_err(|_| NoKey)?;
    key.to_pkcs8_der().map(|der| Secret::new(der.as_bytes())).map_err(|_| NoKey)
}

/// The process's randomness, as the `rsa` crate asks for it.
struct Kernel(fn(&mut [u8]) -> Result<(), getrandom::Error>);

impl TryRng for Kernel {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut octets = [0; 4];
        (self.0)(&mut octets)?;
        Ok(u32::from_le_bytes(octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut octets = [0; 8];
        (self.0)(&mut octets)?;
        Ok(u64::from_le_bytes(octets))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Self::Error> {
        (self.0)(octets)
    }
}

impl TryCryptoRng for Kernel {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::Value;

    pub fn vectors() -> Value {
        let text = include_str!("../../../../../tests/vectors/pipush.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    }

    /// PKCS#8 in DER of one of the vectors' test keys.
    pub fn der(vectors: &Value, name: &str) -> Vec<u8> {
        let pem = vectors[name].as_str().expect("a key");
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        BASE64.decode(base64.as_bytes()).expect("Base64")
    }

    #[test]
    fn phones_signatures_are_checked_and_ours_are_the_golden_ones() {
        // Golden vectors: PKCS#1 v1.5 signatures are the same whoever makes them
        let vectors = vectors();
        let phone = phone_key(vectors["enroll_request_form"]["pubkey"].as_str().expect("a key")).expect("good");
        let answers = vectors["answers"].as_object().expect("answers");
        assert_eq!(answers.len(), 7);
        for (name, answer) in answers {
            let text = answer["signed_string"].as_str().expect("a text");
            let signature = answer["signature"].as_str().expect("a signature");
            assert!(is_signed(&phone, text, signature), "{name}");
            assert!(is_signed(&phone, text, signature.trim_end_matches('=')), "{name} without padding");
            assert!(!is_signed(&phone, &format!("{text}x"), signature), "{name}");
        }
        let server = ServerKey::from_pkcs8(&der(&vectors, "server_key_pkcs8_pem")).expect("a key");
        assert_eq!(server.public(), vectors["enroll_response"]["detail"]["public_key"].as_str().expect("a key"));
        for kind in ["standard", "presence"] {
            let sent = &vectors[kind];
            for (text, signature) in
                [("signed_string", "signature"), ("capabilities_signed_string", "capabilities_signature")]
            {
                let ours = server.sign(sent[text].as_str().expect("a text")).expect("signed");
                assert_eq!(ours, sent["challenge"][signature].as_str().expect("a signature"), "{kind} {text}");
            }
        }
    }

    #[test]
    fn what_is_no_key_or_no_signature_is_refused() {
        let vectors = vectors();
        let good = vectors["enroll_request_form"]["pubkey"].as_str().expect("a key");
        assert!(phone_key(&good.replace('+', " ")).is_ok_and(|key| key == good), "a form that was not escaped");
        let pkcs1 = vectors["enroll_response"]["detail"]["public_key"].as_str().expect("a key");
        for bad in ["", "MII", "not base64!", pkcs1, &good[..good.len() - 4]] {
            assert!(phone_key(bad).is_err(), "{bad}");
        }
        let accept = &vectors["answers"]["accept"];
        let (text, signature) =
            (accept["signed_string"].as_str().expect("one"), accept["signature"].as_str().expect("one"));
        for bad in ["", "========", "AAAA", "not base32", &signature[8..], &signature.to_lowercase()] {
            assert!(!is_signed(good, text, bad), "{bad}");
        }
        assert!(!is_signed("", text, signature) && !is_signed(pkcs1, text, signature));
        assert!(ServerKey::from_pkcs8(&[1, 2, 3]).is_err());
    }

    #[tokio::test]
    async fn keys_are_made_ahead_and_each_is_used_once() {
        // Making one is slow. Smaller ones here, for the same reason.
        let keys = ServerKeys::new(2048, getrandom::fill, Shutdown::new());
        let first = keys.take().await.expect("a key");
        assert!(ServerKey::from_pkcs8(first.expose()).expect("ours").sign("text").is_ok());
        let waiting = || keys.ahead.lock().expect("whole").made.len();
        for _ in 0..6_000 {
            if waiting() == AHEAD {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(waiting(), AHEAD);
        let second = keys.take().await.expect("a key");
        assert!(first != second && waiting() == AHEAD - 1);
    }
}
