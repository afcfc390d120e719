//! The store's settings service, with the settings of the tests; and a bus that can be taken away.

use async_trait::async_trait;
use bytes::Bytes;
use domain::settings::Settings as Document;
use proto::common::Secret;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::fail_open_server::FailOpen;
use proto::user_store::password_tries_server::PasswordTries;
use proto::user_store::radius_server::Radius;
use proto::user_store::settings_server::Settings;
use proto::user_store::{
    AccountingRecord, AuditEvent, ClientReport, FetchReply, FetchRequest, HomeServerReport, Key, KeyRingReply,
    KeyRingRequest, LearnClientReply, LearnClientRequest, PasswordOutcome, PasswordTry, PinServiceAccountReply,
    PinServiceAccountRequest, RecordAccountingReply, RecordAccountingRequest, RecordReply, RecordRequest,
    ReportClientsReply, ReportClientsRequest, ReservePasswordReply, ReservePasswordRequest, SettlePasswordReply,
    SettlePasswordRequest,
};
use service_kit::bus::{Bus, BusError, Change, Entry, InProcess, Map, MapOptions, Stream, StreamOptions, Subscription};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tonic::{Request, Response, Status};

pub struct FakeStore {
    state: Mutex<State>,
}

struct State {
    revision: u64,
    document: Document,
    secrets: HashMap<String, Vec<u8>>,
    learned: HashMap<String, String>,
    lessons: Vec<(String, bool)>,
    keys: Vec<(u32, [u8; 32])>,
    /// By node, what it told last of its clients.
    reports: HashMap<String, Vec<ClientReport>>,
    home_servers: Vec<HomeServerReport>,
    accounting: Vec<AccountingRecord>,
    previous_until: HashMap<String, i64>,
    away: bool,
}

impl FakeStore {
    pub fn new(document: Document, secrets: HashMap<String, Vec<u8>>) -> Arc<Self> {
        let (learned, lessons) = (HashMap::new(), Vec::new());
        let keys = vec![(1, [1; 32])];
        let (reports, accounting) = (HashMap::new(), Vec::new());
        let state = State {
            revision: 1,
            document,
            secrets,
            learned,
            lessons,
            keys,
            reports,
            home_servers: Vec::new(),
            accounting,
            previous_until: HashMap::new(),
            away: false,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub fn away(&self, away: bool) {
        self.lock().away = away;
    }

    /// What gateways have told of their clients: name, and whether it sends Message-Authenticator.
    pub fn lessons(&self) -> Vec<(String, bool)> {
        self.lock().lessons.clone()
    }

    /// As they were told last.
    pub fn home_servers(&self) -> Vec<HomeServerReport> {
        self.lock().home_servers.clone()
    }

    pub fn reports(&self) -> HashMap<String, Vec<ClientReport>> {
        self.lock().reports.clone()
    }

    pub fn accounting(&self) -> Vec<AccountingRecord> {
        self.lock().accounting.clone()
    }

    /// Gives a client another secret; the one before counts until then.
    pub async fn rotate(&self, bus: &dyn Bus, client: &str, secret: &str, until_unix_ms: i64) {
        {
            let mut state = self.lock();
            let former = state.secrets.insert(format!("client.{client}.secret"), secret.as_bytes().to_vec());
            state.secrets.insert(format!("client.{client}.previous_secret"), former.expect("it had one"));
            state.previous_until.insert(client.to_owned(), until_unix_ms);
        }
        self.change(bus, |_| {}).await;
    }

    /// Changes the settings and tells everybody.
    pub async fn change(&self, bus: &dyn Bus, change: impl FnOnce(&mut Document)) {
        {
            let mut state = self.lock();
            change(&mut state.document);
            state.revision += 1;
        }
        let _ = bus.publish(SETTINGS_CHANGED, Bytes::new()).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    fn there(&self) -> Result<MutexGuard<'_, State>, Status> {
        let state = self.lock();
        if state.away { Err(Status::unavailable("on command")) } else { Ok(state) }
    }
}

#[async_trait]
impl Radius for FakeStore {
    async fn report_clients(
        &self,
        request: Request<ReportClientsRequest>,
    ) -> Result<Response<ReportClientsReply>, Status> {
        let ReportClientsRequest { node, clients, home_servers } = request.into_inner();
        let mut state = self.there()?;
        state.reports.insert(node, clients);
        state.home_servers = home_servers;
        Ok(Response::new(ReportClientsReply {}))
    }

    async fn record_accounting(
        &self,
        request: Request<RecordAccountingRequest>,
    ) -> Result<Response<RecordAccountingReply>, Status> {
        let record = request.into_inner().record.expect("a record");
        self.there()?.accounting.push(record);
        Ok(Response::new(RecordAccountingReply {}))
    }
}

#[async_trait]
impl Settings for FakeStore {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let state = self.there()?;
        let known = request.into_inner().known_revision;
        if known == state.revision {
            return Ok(Response::new(FetchReply { revision: known, unchanged: true, ..FetchReply::default() }));
        }
        let secret = |(name, value): (&String, &Vec<u8>)| (name.clone(), Secret { value: value.clone() });
        Ok(Response::new(FetchReply {
            revision: state.revision,
            unchanged: false,
            settings_json: serde_json::to_string(&state.document).expect("settings are JSON"),
            secrets: state.secrets.iter().map(secret).collect(),
            learned_message_authenticator: state.learned.clone(),
            previous_secret_until_unix_ms: state.previous_until.clone(),
            ..FetchReply::default()
        }))
    }

    async fn pin_service_account(
        &self,
        _: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        Err(Status::permission_denied("not a RADIUS gateway's"))
    }

    async fn learn_client(&self, request: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        let LearnClientRequest { client, sends_message_authenticator } = request.into_inner();
        let mut state = self.there()?;
        state.lessons.push((client.clone(), sends_message_authenticator));
        state.learned.insert(client, if sends_message_authenticator { "yes" } else { "no" }.to_owned());
        state.revision += 1;
        Ok(Response::new(LearnClientReply {}))
    }

    async fn key_ring(&self, request: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        let state = self.there()?;
        assert!(["radius-state", "requests", "passwords"].contains(&request.into_inner().purpose.as_str()));
        let key = |(id, octets): &(u32, [u8; 32])| Key { id: *id, key: Some(Secret { value: octets.to_vec() }) };
        let current = state.keys.last().expect("a key").0;
        Ok(Response::new(KeyRingReply { keys: state.keys.iter().map(key).collect(), current }))
    }
}

/// The bus of the process, which can go away and come back.
#[derive(Clone, Default)]
pub struct FakeBus {
    bus: InProcess,
    away: Arc<AtomicBool>,
    /// What has been written into maps, as an eavesdropper sees it.
    written: Arc<Mutex<Vec<Bytes>>>,
    /// The keys of what was put into maps, as often as it was, until it is deleted.
    put: Arc<Mutex<Vec<String>>>,
    late_ms: Arc<AtomicU64>,
    /// Every map and every key that was ever written there.
    places: Arc<Mutex<Vec<Place>>>,
}

type Place = (Arc<dyn Map>, String);

impl FakeBus {
    /// What its maps still hold.
    pub async fn kept(&self) -> Vec<String> {
        let places = self.places.lock().expect("no panic").clone();
        let mut kept = Vec::new();
        for (map, key) in places {
            if !matches!(map.get(&key).await, Ok(None)) {
                kept.push(key);
            }
        }
        kept
    }

    /// An update is done at once, and its answer comes so much later.
    pub fn answers_after(&self, late: Duration) {
        self.late_ms.store(late.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn written(&self) -> Vec<Bytes> {
        self.written.lock().expect("no panic").clone()
    }

    /// How often something was put under keys that begin so and are still there.
    pub fn put(&self, beginning: &str) -> usize {
        self.put.lock().expect("no panic").iter().filter(|key| key.starts_with(beginning)).count()
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        self.bus.publish(subject, payload).await
    }
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        self.bus.subscribe(pattern).await
    }
    fn stream(&self, options: StreamOptions) -> Arc<dyn Stream> {
        self.bus.stream(options)
    }
    fn map(&self, name: &str, options: MapOptions) -> Arc<dyn Map> {
        let (away, written, late_ms) = (self.away.clone(), self.written.clone(), self.late_ms.clone());
        let (put, places) = (self.put.clone(), self.places.clone());
        Arc::new(FakeMap { map: self.bus.map(name, options), away, written, put, late_ms, places })
    }
}

struct FakeMap {
    map: Arc<dyn Map>,
    away: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<Bytes>>>,
    put: Arc<Mutex<Vec<String>>>,
    late_ms: Arc<AtomicU64>,
    places: Arc<Mutex<Vec<Place>>>,
}

impl FakeMap {
    fn there(&self) -> Result<&Arc<dyn Map>, BusError> {
        if self.away.load(Ordering::SeqCst) { Err(BusError::Unavailable(None)) } else { Ok(&self.map) }
    }

    fn note(&self, key: &str, value: &Bytes) {
        self.written.lock().expect("no panic").push(value.clone());
        self.places.lock().expect("no panic").push((self.map.clone(), key.to_owned()));
    }
}

#[async_trait]
impl Map for FakeMap {
    fn name(&self) -> &str {
        self.map.name()
    }
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        self.there()?.get(key).await
    }
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.note(key, &value);
        self.there()?.create(key, value).await
    }
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        self.note(key, &value);
        let updated = self.there()?.update(key, value, revision).await;
        tokio::time::sleep(Duration::from_millis(self.late_ms.load(Ordering::SeqCst))).await;
        updated
    }
    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.note(key, &value);
        let revision = self.there()?.put(key, value).await?;
        self.put.lock().expect("no panic").push(key.to_owned());
        Ok(revision)
    }
    async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError> {
        self.there()?.delete(key, revision).await?;
        self.put.lock().expect("no panic").retain(|put| put != key);
        Ok(())
    }
    async fn watch(&self, key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError> {
        self.there()?.watch(key).await
    }
}

/// Where logins are told that were let in while verification was down. Every event that came, in order.
#[derive(Default)]
pub struct FakeFailOpen {
    events: Mutex<Vec<AuditEvent>>,
    away: AtomicBool,
}

impl FakeFailOpen {
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn events(&self) -> Vec<AuditEvent> {
        self.events.lock().expect("no panic while held").clone()
    }
}

#[async_trait]
impl FailOpen for FakeFailOpen {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("on command"));
        }
        self.events.lock().expect("no panic while held").push(request.into_inner().event.expect("an event"));
        Ok(Response::new(RecordReply {}))
    }
}

/// The lockout guard's count: what is granted, and what became of it, in order.
#[derive(Default)]
pub struct FakePasswordTries {
    exhausted: AtomicBool,
    settled: Mutex<Vec<PasswordOutcome>>,
}

impl FakePasswordTries {
    pub fn exhausted(&self, exhausted: bool) {
        self.exhausted.store(exhausted, Ordering::SeqCst);
    }

    pub fn settled(&self) -> Vec<PasswordOutcome> {
        self.settled.lock().expect("no panic while held").clone()
    }
}

#[async_trait]
impl PasswordTries for FakePasswordTries {
    async fn reserve(&self, _: Request<ReservePasswordRequest>) -> Result<Response<ReservePasswordReply>, Status> {
        let result = match self.exhausted.load(Ordering::SeqCst) {
            true => PasswordTry::Exhausted,
            false => PasswordTry::Granted,
        };
        Ok(Response::new(ReservePasswordReply { result: result.into(), handle: 7, retry_unix_ms: 0 }))
    }

    async fn settle(&self, request: Request<SettlePasswordRequest>) -> Result<Response<SettlePasswordReply>, Status> {
        self.settled.lock().expect("no panic while held").push(request.into_inner().outcome());
        Ok(Response::new(SettlePasswordReply {}))
    }
}
