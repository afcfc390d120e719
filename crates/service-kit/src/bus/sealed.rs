//! Maps whose values only their owner can read or write (V-73). A value is sealed to its place: put back under another key or in another
//! map it does not open. An old value put back in its own place does open; what must not be undone is in the store.

use super::*;
use crate::secret::Secret;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use futures::StreamExt;

/// The form of a sealed value: this octet, 12 octets of nonce, ciphertext and tag.
const FORM: u8 = 1;
const NONCE_BYTES: usize = 12;

/// The keys of a map's owner. Clones share them.
#[derive(Clone)]
pub struct KeyRing {
    /// The first seals, all open. There are few, so that each may be tried.
    keys: Arc<Vec<Aes256Gcm>>,
}

impl KeyRing {
    /// Keys of 32 octets, as `KeyFile` gives them; the first seals, all open.
    ///
    /// # Panics
    /// Without a key, or with one of another length.
    pub fn new(keys: &[Secret]) -> Self {
        assert!(!keys.is_empty(), "a key ring has a key");
        let cipher = |key: &Secret| Aes256Gcm::new_from_slice(key.expose()).expect("a key has 32 octets");
        Self { keys: Arc::new(keys.iter().map(cipher).collect()) }
    }

    /// One random key, for a process whose maps nobody else reads.
    pub fn ephemeral() -> Self {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).expect("the kernel gives random octets");
        Self::new(&[Secret::new(key)])
    }

    fn seal(&self, place: &[u8], value: &[u8]) -> Bytes {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel gives random octets");
        let payload = Payload { msg: value, aad: place };
        let sealed =
            self.keys[0].encrypt(&Nonce::from(nonce), payload).expect("values are far below the cipher's limit");
        [&[FORM][..], &nonce, &sealed].concat().into()
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Bytes, BusError> {
        let Some((&[FORM], rest)) = sealed.split_first_chunk() else { return Err(BusError::NotOurs) };
        let Some((nonce, sealed)) = rest.split_first_chunk::<NONCE_BYTES>() else { return Err(BusError::NotOurs) };
        let payload = || Payload { msg: sealed, aad: place };
        let opened = self.keys.iter().find_map(|key| key.decrypt(&Nonce::from(*nonce), payload()).ok());
        opened.map(Bytes::from).ok_or(BusError::NotOurs)
    }
}

/// A map that seals each value to its place: map and key are authenticated with it.
pub struct SealedMap {
    map: Arc<dyn Map>,
    ring: KeyRing,
}

impl SealedMap {
    /// Values grow by 29 octets.
    #[allow(clippy::new_ret_no_self, reason = "callers hold maps as trait objects")]
    pub fn new(map: Arc<dyn Map>, ring: KeyRing) -> Arc<dyn Map> {
        Arc::new(Self { map, ring })
    }

    /// Neither a map's name nor a key holds a line end, so no two places read alike.
    fn place(&self, key: &str) -> Vec<u8> {
        format!("{}\n{key}", self.map.name()).into_bytes()
    }
}

#[async_trait]
impl Map for SealedMap {
    fn name(&self) -> &str {
        self.map.name()
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        let Some(entry) = self.map.get(key).await? else { return Ok(None) };
        Ok(Some(Entry { value: self.ring.open(&self.place(key), &entry.value)?, ..entry }))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.map.create(key, self.ring.seal(&self.place(key), &value)).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        self.map.update(key, self.ring.seal(&self.place(key), &value), revision).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.map.put(key, self.ring.seal(&self.place(key), &value)).await
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError> {
        self.map.delete(key, revision).await
    }

    /// What does not open is passed over, as if nobody had written it.
    async fn watch(&self, key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError> {
        let (ring, place) = (self.ring.clone(), self.place(key));
        let open = move |change| {
            std::future::ready(match change {
                Change::Gone => Some(Change::Gone),
                Change::Put(entry) => {
                    let value = ring.open(&place, &entry.value).ok();
                    value.map(|value| Change::Put(Entry { value, revision: entry.revision }))
                }
            })
        };
        Ok(self.map.watch(key).await?.filter_map(open).boxed())
    }
}
