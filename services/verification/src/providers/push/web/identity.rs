//! By what push services know us (VAPID, RFC 8292): one P-256 key, and what is derived from it.

use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::json;
use sha2::Sha256;

/// RFC 8292 section 2 allows 24 hours.
const TOKEN_SECONDS: i64 = 12 * 3600;
/// RFC 8030 section 5.4: a topic has at most 32 signs.
const TOPIC_BYTES: usize = 24;

/// Which octets are a key of the curve.
pub fn is_key(octets: &[u8; 32]) -> bool {
    SigningKey::from_slice(octets).is_ok()
}

pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// # Panics
    /// With octets that are no key: see [`is_key`].
    pub fn new(octets: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_slice(octets).expect("a key that was looked at when it was made or read") }
    }

    pub fn public_key(&self) -> String {
        BASE64URL_NOPAD.encode(&self.key.verifying_key().to_sec1_bytes())
    }

    /// The header for one push service, named by its origin.
    pub fn authorization(&self, origin: &str, contact: &str, now_seconds: i64) -> String {
        let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = part(json!({ "typ": "JWT", "alg": "ES256" }));
        let claims = part(json!({ "aud": origin, "exp": now_seconds + TOKEN_SECONDS, "sub": contact }));
        let signed = format!("{header}.{claims}");
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("vapid t={signed}.{}, k={}", BASE64URL_NOPAD.encode(&signature.to_bytes()), self.public_key())
    }

    /// One name a user, from which nobody learns who it is.
    pub fn topic(&self, user_id: &str) -> String {
        let secret = zeroize::Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        let mut name = [0; TOPIC_BYTES];
        let info = [b"twinlock topic\0", user_id.as_bytes()].concat();
        Hkdf::<Sha256>::new(None, secret.as_ref()).expand(&info, &mut name).expect("fewer octets than HKDF can give");
        BASE64URL_NOPAD.encode(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier;

    #[test]
    fn the_token_names_service_contact_and_end_and_is_signed_by_the_key_beside_it() {
        // RFC 8292 sections 2 and 3
        let identity = Identity::new(&[3; 32]);
        let header = identity.authorization("https://push.example.net", "mailto:ops@example.com", 1_000_000);
        let (token, key) = header.strip_prefix("vapid t=").and_then(|rest| rest.split_once(", k=")).expect("both");
        assert_eq!(key, identity.public_key());
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url");
        let signature = Signature::from_slice(&decode(signature)).expect("r and s");
        identity.key.verifying_key().verify(signed.as_bytes(), &signature).expect("ours");
        let (head, claims) = signed.split_once('.').expect("two parts");
        let read = |part: &str| serde_json::from_slice::<serde_json::Value>(&decode(part)).expect("JSON");
        assert_eq!(read(head)["alg"], "ES256");
        let expected = json!({ "aud": "https://push.example.net", "exp": 1_043_200, "sub": "mailto:ops@example.com" });
        assert_eq!(read(claims), expected);
    }

    #[test]
    fn a_topic_is_one_for_each_user_and_says_nothing() {
        // V-24, RFC 8030 section 5.4
        let identity = Identity::new(&[3; 32]);
        let topic = identity.topic("ann");
        assert_eq!(topic, identity.topic("ann"));
        assert_ne!(topic, identity.topic("bob"));
        assert_ne!(topic, Identity::new(&[4; 32]).topic("ann"));
        assert_eq!(topic.len(), 32);
    }

    #[test]
    fn not_every_octets_are_a_key() {
        assert!(is_key(&[1; 32]));
        assert!(!is_key(&[0; 32]) && !is_key(&[0xff; 32]));
    }
}
