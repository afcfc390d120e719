//! Maps whose values only their owner can read or write (V-73).
use super::*;
use crate::secret::Secret;

/// The keys of a map's owner. Clones share them.
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<Vec<Secret>>,
}

impl KeyRing {
    /// Keys of 32 octets; the first seals, all open.
    pub fn new(keys: Vec<Secret>) -> Self {
        Self { keys: Arc::new(keys) }
    }

    /// One random key, for a process whose maps nobody else reads.
    pub fn ephemeral() -> Self {
        todo!()
    }
}

/// A map that seals each value to its place: map and key are authenticated with it.
pub struct SealedMap {
    map: Arc<dyn Map>,
    ring: KeyRing,
}

impl SealedMap {
    pub fn new(map: Arc<dyn Map>, ring: KeyRing) -> Arc<dyn Map> {
        Arc::new(Self { map, ring })
    }
}

#[async_trait]
impl Map for SealedMap {
    fn name(&self) -> &str {
        let _ = &self.ring.keys;
        self.map.name()
    }
    async fn get(&self, _key: &str) -> Result<Option<Entry>, BusError> {
        todo!()
    }
    async fn create(&self, _key: &str, _value: Bytes) -> Result<u64, BusError> {
        todo!()
    }
    async fn update(&self, _key: &str, _value: Bytes, _revision: u64) -> Result<u64, BusError> {
        todo!()
    }
    async fn put(&self, _key: &str, _value: Bytes) -> Result<u64, BusError> {
        todo!()
    }
    async fn delete(&self, _key: &str, _revision: u64) -> Result<(), BusError> {
        todo!()
    }
    async fn watch(&self, _key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError> {
        todo!()
    }
}
