//! Challenges that prove themselves, so that any node can take the answer and nothing is kept in between: what they are for and
//! until when, authenticated.
//!
//! ```text
//! expires (8, ms since 1970) | nonce (16) | HMAC-SHA-256 over expires, nonce and what it is for (32)
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const NONCE_BYTES: usize = 16;
const HEAD_BYTES: usize = 8 + NONCE_BYTES;

pub struct Ceremonies {
    key: [u8; 32],
}

impl Ceremonies {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A challenge for this alone.
    pub fn challenge(&self, purpose: &str, expires_unix_ms: i64, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let head = [&expires_unix_ms.to_be_bytes()[..], &nonce].concat();
        let proof = self.mac(&head, purpose).finalize().into_bytes();
        [&head[..], &proof].concat()
    }

    /// Did we make it for this, and not too long ago?
    pub fn is_ours(&self, challenge: &[u8], purpose: &str, now_unix_ms: i64) -> bool {
        let Some((head, proof)) = challenge.split_at_checked(HEAD_BYTES) else { return false };
        let Some((expires, _)) = head.split_first_chunk::<8>() else { return false };
        self.mac(head, purpose).verify_slice(proof).is_ok() && now_unix_ms <= i64::from_be_bytes(*expires)
    }

    fn mac(&self, head: &[u8], purpose: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        // The head has one length, so no two pairs read alike.
        mac.update(head);
        mac.update(purpose.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_counts_for_its_purpose_in_its_time_and_from_us_alone() {
        let ours = Ceremonies::new([1; 32]);
        let challenge = ours.challenge("device|a", 1000, [7; NONCE_BYTES]);
        assert!(ours.is_ours(&challenge, "device|a", 1000));
        assert!(!ours.is_ours(&challenge, "device|a", 1001), "too late");
        assert!(!ours.is_ours(&challenge, "device|b", 1000), "for another device");
        assert!(!Ceremonies::new([2; 32]).is_ours(&challenge, "device|a", 1000), "of somebody else");
        for place in 0..challenge.len() {
            let mut bent = challenge.clone();
            bent[place] ^= 1;
            assert!(!ours.is_ours(&bent, "device|a", 0), "octet {place}");
            assert!(!ours.is_ours(&challenge[..place], "device|a", 0), "cut at {place}");
        }
        assert!(!ours.is_ours(&[&challenge[..], &[0]].concat(), "device|a", 0));
    }
}
