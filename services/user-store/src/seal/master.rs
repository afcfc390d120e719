//! The keys of the master key file: they wrap the data keys and nothing else.

use super::{NONCE_OCTETS, cipher, random};
use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The master keys of the file: the first wraps, all unwrap.
pub struct Master(Vec<MasterKey>);

struct MasterKey {
    id: String,
    cipher: Aes256Gcm,
}

impl Master {
    pub fn read(keys: Vec<service_kit::secret::Secret>) -> Self {
        let keys = keys.iter().map(|key| {
            // A name for the key that tells nothing about it: the digest of a random key cannot be searched.
            let digest = Sha256::new().chain_update(b"twinlock master key id").chain_update(key.expose()).finalize();
            let octets: [u8; 32] = key.expose().try_into().expect("the file's keys have 32 octets");
            let octets = Zeroizing::new(octets);
            MasterKey { id: data_encoding::HEXLOWER.encode(&digest[..8]), cipher: cipher(&octets) }
        });
        Self(keys.collect())
    }

    fn current(&self) -> &MasterKey {
        self.0.first().expect("a key file holds at least one key")
    }

    pub fn current_id(&self) -> &str {
        &self.current().id
    }

    pub fn wrap(&self, key_id: u32, key: &[u8; 32]) -> Vec<u8> {
        let nonce = random::<NONCE_OCTETS>();
        let payload = Payload { msg: key, aad: &wrapped_place(key_id) };
        let sealed = self.current().cipher.encrypt(&Nonce::from(nonce), payload).expect("a key is short");
        [nonce.as_slice(), &sealed].concat()
    }

    pub fn unwrap(&self, key_id: u32, wrapped: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, sealed) = wrapped.split_at_checked(NONCE_OCTETS)?;
        let nonce: [u8; NONCE_OCTETS] = nonce.try_into().ok()?;
        self.0.iter().find_map(|master| {
            let payload = Payload { msg: sealed, aad: &wrapped_place(key_id) };
            let key = Zeroizing::new(master.cipher.decrypt(&Nonce::from(nonce), payload).ok()?);
            Some(Zeroizing::new(<[u8; 32]>::try_from(key.as_slice()).ok()?))
        })
    }
}

fn wrapped_place(key_id: u32) -> Vec<u8> {
    [b"twinlock data key".as_slice(), &key_id.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_is_unwrapped_by_any_key_of_the_file_and_under_its_own_number_only() {
        let old = Master(vec![MasterKey { id: "old".into(), cipher: cipher(&[1; 32]) }]);
        let wrapped = old.wrap(1, &[5; 32]);
        let new = MasterKey { id: "new".into(), cipher: cipher(&[2; 32]) };
        let both = Master(vec![new, MasterKey { id: "old".into(), cipher: cipher(&[1; 32]) }]);
        assert_eq!(both.unwrap(1, &wrapped).as_deref(), Some(&[5; 32]));
        assert_eq!(both.unwrap(2, &wrapped).as_deref(), None);
        assert_eq!(
            Master(vec![MasterKey { id: "x".into(), cipher: cipher(&[3; 32]) }]).unwrap(1, &wrapped).as_deref(),
            None
        );
    }
}
