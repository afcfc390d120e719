//! Maps that can be away, wiped, read and overwritten by whoever holds the bus.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use service_kit::bus::{Bus, BusError, Change, Entry, InProcess, Map, MapOptions, Stream, StreamOptions, Subscription};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub struct FakeBus {
    told: InProcess,
    maps: Mutex<HashMap<String, Arc<FakeMap>>>,
    away: Arc<AtomicBool>,
}

struct FakeMap {
    name: String,
    entries: Mutex<HashMap<String, Entry>>,
    revisions: AtomicU64,
    away: Arc<AtomicBool>,
}

impl FakeBus {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { told: InProcess::new(), maps: Mutex::default(), away: Arc::default() })
    }

    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn wipe(&self) {
        for map in self.maps.lock().expect("whole").values() {
            map.entries.lock().expect("whole").clear();
        }
    }

    /// What somebody with full rights on the bus sees, and may write.
    pub fn challenge(&self, key: &str) -> Option<Bytes> {
        self.map_of("twinlock_challenges").entries.lock().expect("whole").get(key).map(|entry| entry.value.clone())
    }

    pub fn forge_challenge(&self, key: &str, value: Bytes) {
        let map = self.map_of("twinlock_challenges");
        let revision = map.next();
        map.entries.lock().expect("whole").insert(key.into(), Entry { value, revision });
    }

    fn map_of(&self, name: &str) -> Arc<FakeMap> {
        let fresh = || {
            Arc::new(FakeMap {
                name: name.into(),
                entries: Mutex::default(),
                revisions: AtomicU64::new(1),
                away: self.away.clone(),
            })
        };
        self.maps.lock().expect("whole").entry(name.into()).or_insert_with(fresh).clone()
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        if self.away.load(Ordering::SeqCst) { Ok(()) } else { self.told.publish(subject, payload).await }
    }
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        self.told.subscribe(pattern).await
    }
    fn stream(&self, _: StreamOptions) -> Arc<dyn Stream> {
        unreachable!("verification uses no stream")
    }
    fn map(&self, name: &str, _: MapOptions) -> Arc<dyn Map> {
        self.map_of(name)
    }
}

impl FakeMap {
    fn next(&self) -> u64 {
        self.revisions.fetch_add(1, Ordering::SeqCst)
    }

    async fn there(&self) -> Result<(), BusError> {
        // Others get a turn between any two operations, as over a network.
        tokio::task::yield_now().await;
        if self.away.load(Ordering::SeqCst) { Err(BusError::Unavailable(None)) } else { Ok(()) }
    }
}

#[async_trait]
impl Map for FakeMap {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        self.there().await?;
        Ok(self.entries.lock().expect("whole").get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.there().await?;
        let mut entries = self.entries.lock().expect("whole");
        if entries.contains_key(key) {
            return Err(BusError::AlreadyExists);
        }
        let revision = self.next();
        entries.insert(key.into(), Entry { value, revision });
        Ok(revision)
    }

    async fn update(&self, key: &str, value: Bytes, expected: u64) -> Result<u64, BusError> {
        self.there().await?;
        let mut entries = self.entries.lock().expect("whole");
        let entry = entries.get_mut(key).filter(|entry| entry.revision == expected).ok_or(BusError::WrongRevision)?;
        *entry = Entry { value, revision: self.next() };
        Ok(entry.revision)
    }

    async fn put(&self, _: &str, _: Bytes) -> Result<u64, BusError> {
        unreachable!("what guards a decision is moved by compare-and-swap")
    }

    async fn delete(&self, _: &str, _: u64) -> Result<(), BusError> {
        unreachable!("conversations are closed, not deleted")
    }

    async fn watch(&self, _: &str) -> Result<BoxStream<'static, Change>, BusError> {
        unreachable!("verification watches no key")
    }
}
