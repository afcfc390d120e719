//! A store that keeps what it is given and misbehaves on command, settings that can be changed, and a wire that can be cut.
#![allow(dead_code, reason = "each test program uses its part")]

use directory_sync::Deps;
use proto::common::Secret;
use proto::user_store::settings_server::Settings;
use proto::user_store::sync_server::Sync;
use proto::user_store::*;
use serde_json::{Value, json};
use service_kit::bus::{Bus, InProcess, StreamKind, StreamOptions};
use service_kit::{Clock, Process};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// What the leader told the store.
#[derive(Default)]
pub struct Told {
    pub epoch: u64,
    pub holders: Vec<String>,
    pub runs: Vec<Run>,
    /// By object id: the user, and the run that saw it last.
    pub users: BTreeMap<String, (SyncedUser, String)>,
    pub groups: BTreeMap<String, (SyncedGroup, String)>,
    pub containers: BTreeMap<String, SyncedContainer>,
    /// By object id, the newest: how it left.
    pub left: BTreeMap<String, left_object::How>,
    pub pending: Vec<Pending>,
    /// Of the directory, as the store keeps it.
    pub source: GetSourceReply,
    /// How often somebody asked for that: a leader does before each run, and before it decides that there is none.
    pub source_asked: usize,
    /// Calls that were refused because of their epoch.
    pub stale: Vec<&'static str>,
    pub batches: usize,
    pub largest_batch: usize,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub id: String,
    pub epoch: u64,
    pub directory: String,
    pub mode: String,
    pub why: String,
    pub trigger: String,
    pub actor: String,
    pub begun: BeginRunRequest,
    /// Complete, and the error; `None` while it goes on.
    pub finished: Option<(bool, String)>,
    /// Those of some item.
    pub users: Vec<String>,
    pub groups: Vec<String>,
    /// The preview that it was compared with.
    pub looked_at: String,
}

impl Told {
    /// Users whose first item this is.
    pub fn owned(&self, item: &str) -> BTreeSet<String> {
        let first = |user: &SyncedUser| user.items.first().is_some_and(|first| first == item);
        self.users.values().filter(|(user, _)| first(user)).map(|(user, _)| user.username.clone()).collect()
    }

    fn run(&mut self, id: &str) -> &mut Run {
        self.runs.iter_mut().find(|run| run.id == id).expect("a run that began")
    }
}

pub struct FakeStore {
    told: Mutex<Told>,
    /// So many of the next batches are answered with UNAVAILABLE, after they were taken.
    pub batches_unavailable: AtomicUsize,
    /// So many of the next calls to `Lead` and `BeginRun` are answered with INTERNAL.
    pub begins_refused: AtomicUsize,
    /// So many of the next calls to `BeginRun` are answered with UNAVAILABLE.
    pub begins_unavailable: AtomicUsize,
    /// Batches wait for a permit.
    pub gate: Semaphore,
    pub at_gate: AtomicUsize,
    /// So does who asks whom a run has not met.
    pub unseen_gate: Semaphore,
    pub at_unseen_gate: AtomicUsize,
    /// What FinishRun answers to a complete run.
    pub finish: Mutex<FinishRunReply>,
    /// The list that somebody looked at is another one by now.
    pub list_changed: AtomicBool,
}

impl FakeStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::default(),
            batches_unavailable: AtomicUsize::new(0),
            begins_refused: AtomicUsize::new(0),
            begins_unavailable: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            at_gate: AtomicUsize::new(0),
            unseen_gate: Semaphore::new(Semaphore::MAX_PERMITS),
            at_unseen_gate: AtomicUsize::new(0),
            finish: Mutex::default(),
            list_changed: AtomicBool::new(false),
        })
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    pub fn finished(&self) -> Vec<Run> {
        self.told().runs.iter().filter(|run| run.finished.is_some()).cloned().collect()
    }

    fn fenced(&self, call: &'static str, epoch: u64) -> Result<MutexGuard<'_, Told>, Status> {
        let mut told = self.told();
        if told.epoch == epoch {
            return Ok(told);
        }
        told.stale.push(call);
        Err(Status::failed_precondition("stale epoch"))
    }
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[tonic::async_trait]
impl Sync for FakeStore {
    async fn lead(&self, request: Request<LeadRequest>) -> Result<Response<LeadReply>, Status> {
        if take_one(&self.begins_refused) {
            return Err(Status::internal("no"));
        }
        let mut told = self.told();
        told.epoch += 1;
        told.holders.push(request.into_inner().holder);
        Ok(Response::new(LeadReply { epoch: told.epoch }))
    }

    async fn get_source(&self, request: Request<GetSourceRequest>) -> Result<Response<GetSourceReply>, Status> {
        let mut told = self.fenced("GetSource", request.into_inner().epoch)?;
        told.source_asked += 1;
        Ok(Response::new(told.source.clone()))
    }

    async fn begin_run(&self, request: Request<BeginRunRequest>) -> Result<Response<BeginRunReply>, Status> {
        if take_one(&self.begins_refused) {
            return Err(Status::internal("no"));
        }
        if take_one(&self.begins_unavailable) {
            return Err(Status::unavailable("another writes"));
        }
        let begun = request.into_inner();
        let mut told = self.fenced("BeginRun", begun.epoch)?;
        let id = format!("run-{}", told.runs.len());
        let BeginRunRequest { epoch, directory, mode, why, trigger, actor, .. } = begun.clone();
        let (users, groups, finished) = (Vec::new(), Vec::new(), None);
        told.runs.push(Run {
            id: id.clone(),
            epoch,
            directory,
            mode,
            why,
            trigger,
            actor,
            begun,
            finished,
            users,
            groups,
            looked_at: String::new(),
        });
        Ok(Response::new(BeginRunReply { run_id: id }))
    }

    async fn apply_batch(&self, request: Request<ApplyBatchRequest>) -> Result<Response<ApplyBatchReply>, Status> {
        self.at_gate.fetch_add(1, Ordering::SeqCst);
        let _permit = self.gate.acquire().await;
        let batch = request.into_inner();
        let mut told = self.fenced("ApplyBatch", batch.epoch)?;
        told.batches += 1;
        told.largest_batch = told.largest_batch.max(batch.users.len() + batch.groups.len() + batch.containers.len());
        let run_id = batch.run_id;
        let mut reply = ApplyBatchReply::default();
        for user in batch.users {
            let id = user.object_id.clone();
            if user.username.is_empty() {
                reply.problems.push(format!("{id}: has no username"));
                continue;
            }
            if user.items.is_empty() {
                if told.users.contains_key(&id) {
                    told.left.insert(id, left_object::How::Outside);
                }
                continue;
            }
            reply.added += 1;
            told.left.remove(&id);
            told.run(&run_id).users.push(user.username.clone());
            told.users.insert(id, (user, run_id.clone()));
        }
        for group in batch.groups {
            told.run(&run_id).groups.push(group.name.clone());
            told.groups.insert(group.object_id.clone(), (group, run_id.clone()));
        }
        for container in batch.containers {
            told.containers.insert(container.object_id.clone(), container);
        }
        for id in batch.present {
            let Told { users, groups, .. } = &mut *told;
            let seen =
                users.get_mut(&id).map(|(_, run)| run).into_iter().chain(groups.get_mut(&id).map(|(_, run)| run));
            seen.for_each(|run| run.clone_from(&run_id));
        }
        for left in batch.left {
            let known = told.users.contains_key(&left.object_id) || told.groups.contains_key(&left.object_id);
            if known {
                let how = left.how();
                told.left.insert(left.object_id, how);
            }
        }
        told.pending.retain(|pending| !batch.settled.contains(&pending.pending_id));
        if !batch.position.is_empty() {
            told.source.position = batch.position;
        }
        if take_one(&self.batches_unavailable) {
            return Err(Status::unavailable("taken, and the answer is lost"));
        }
        Ok(Response::new(reply))
    }

    async fn list_pending(&self, request: Request<ListPendingRequest>) -> Result<Response<ListPendingReply>, Status> {
        let ListPendingRequest { epoch, limit, .. } = request.into_inner();
        let told = self.fenced("ListPending", epoch)?;
        let pending = told.pending.iter().take(limit as usize).cloned().collect();
        Ok(Response::new(ListPendingReply { pending }))
    }

    async fn list_unseen(&self, request: Request<ListUnseenRequest>) -> Result<Response<ListUnseenReply>, Status> {
        self.at_unseen_gate.fetch_add(1, Ordering::SeqCst);
        let _permit = self.unseen_gate.acquire().await;
        let ListUnseenRequest { epoch, run_id, after, limit } = request.into_inner();
        let told = self.fenced("ListUnseen", epoch)?;
        let users = told.users.iter().map(|(id, (_, run))| (id, run));
        let all: BTreeMap<_, _> = users.chain(told.groups.iter().map(|(id, (_, run))| (id, run))).collect();
        let unseen = all.into_iter().filter(|(id, run)| **run != run_id && **id > after);
        Ok(Response::new(ListUnseenReply {
            object_ids: unseen.map(|(id, _)| id.clone()).take(limit as usize).collect(),
        }))
    }

    async fn finish_run(&self, request: Request<FinishRunRequest>) -> Result<Response<FinishRunReply>, Status> {
        let FinishRunRequest { epoch, run_id, complete, error, position, now_unix_ms, pins, looked_at, .. } =
            request.into_inner();
        let mut told = self.fenced("FinishRun", epoch)?;
        let run = told.run(&run_id);
        assert!(run.finished.is_none(), "a run is finished once");
        run.finished = Some((complete, error));
        run.looked_at.clone_from(&looked_at);
        let begun = run.begun.clone();
        if complete && begun.mode != "preview" {
            told.source.complete_unix_ms = now_unix_ms;
        }
        if begun.mode != "preview" {
            let known = &mut told.source.pins;
            known.retain(|known| !pins.iter().any(|pin| pin.sync_item == known.sync_item));
            known.extend(pins);
        }
        if complete && begun.mode == "full" {
            let source = &mut told.source;
            (source.items_digest, source.mapping_digest) = (begun.items_digest, begun.mapping_digest);
            source.identity = begun.identity;
            (source.position, source.full_unix_ms) = (position, now_unix_ms);
        }
        if complete && !looked_at.is_empty() && self.list_changed.load(Ordering::SeqCst) {
            let incomplete = "the list has changed".to_owned();
            return Ok(Response::new(FinishRunReply { list_changed: true, incomplete, ..FinishRunReply::default() }));
        }
        let reply = if complete { self.finish.lock().expect("no panic").clone() } else { FinishRunReply::default() };
        Ok(Response::new(reply))
    }
}

/// Settings, and one query password of all directories.
pub struct FakeSettings {
    revision: AtomicU64,
    document: Mutex<Value>,
    password: String,
    pub away: Mutex<bool>,
}

impl FakeSettings {
    pub fn new(document: Value, password: &str) -> Arc<Self> {
        let (revision, document) = (AtomicU64::new(1), Mutex::new(document));
        Arc::new(Self { revision, document, password: password.to_owned(), away: Mutex::new(false) })
    }

    /// Changed in the store; nobody is told.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.document.lock().expect("no panic"));
        self.revision.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Settings for FakeSettings {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        if *self.away.lock().expect("no panic") {
            return Err(Status::unavailable("away"));
        }
        let revision = self.revision.load(Ordering::SeqCst);
        let document = self.document.lock().expect("no panic").clone();
        let directories = document["directory"].as_array().into_iter().flatten();
        let secrets: HashMap<_, _> = directories
            .filter_map(|directory| directory["name"].as_str())
            .map(|name| format!("directory.{name}.query_bind.password"))
            .map(|name| (name, Secret { value: self.password.clone().into_bytes() }))
            .collect();
        Ok(Response::new(FetchReply {
            revision,
            unchanged: request.into_inner().known_revision == revision,
            settings_json: document.to_string(),
            secrets,
            ..FetchReply::default()
        }))
    }
    async fn pin_service_account(
        &self,
        _: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        Err(Status::permission_denied("not this part"))
    }
    async fn learn_client(&self, _: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        Err(Status::permission_denied("not this part"))
    }
    async fn key_ring(&self, _: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        Err(Status::permission_denied("not this part"))
    }
}

/// A sync item of the whole directory.
pub fn item(name: &str) -> Value {
    json!({ "name": name, "directory": "corp", "source": { "kind": "domain" } })
}

/// The part under test with its neighbours.
pub struct Lab {
    pub store: Arc<FakeStore>,
    pub settings: Arc<FakeSettings>,
    pub bus: Arc<dyn Bus>,
}

impl Lab {
    pub fn new(document: Value, password: &str) -> Self {
        let bus = Arc::new(InProcess::new());
        Self { store: FakeStore::new(), settings: FakeSettings::new(document, password), bus }
    }

    pub fn deps(&self) -> Deps {
        Deps {
            sync: self.store.clone(),
            settings: self.settings.clone(),
            bus: self.bus.clone(),
            host: directory_sync::host(),
            clock: Clock::system(),
        }
    }

    pub fn start(&self) -> Process {
        let process = Process::detached("directory-sync");
        directory_sync::start(self.deps(), &process);
        process
    }

    /// As user-store does it.
    pub async fn ask_for(&self, only: &str) {
        self.ask(RequestSyncRequest { only: only.into(), ..RequestSyncRequest::default() }).await;
    }

    pub async fn ask(&self, request: RequestSyncRequest) {
        let stream = self.bus.stream(StreamOptions {
            name: proto::subjects::SYNC_STREAM.into(),
            subjects: vec![proto::subjects::SYNC_REQUESTED.into()],
            kind: StreamKind::WorkQueue,
            max_age: Duration::from_secs(3600),
            max_messages: 1_000,
        });
        let payload = bytes::Bytes::from(prost::Message::encode_to_vec(&request));
        // A server that has just begun anew is not there for everybody at once.
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while let Err(error) = stream.publish(proto::subjects::SYNC_REQUESTED, payload.clone()).await {
            assert!(tokio::time::Instant::now() < end, "the bus does not take it: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `count` runs are finished; all of them.
    pub async fn runs(&self, count: usize) -> Vec<Run> {
        until("runs", Duration::from_secs(60), || self.store.finished().len() >= count).await;
        self.store.finished()
    }

    /// Asks for everything and waits for the one run of the one directory.
    pub async fn run_now(&self) -> Run {
        let before = self.store.finished().len();
        self.ask_for("").await;
        self.runs(before + 1).await.pop().expect("it ended")
    }
}

/// Waits for a condition, never for a time.
pub async fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + limit;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "gave up after {limit:?} waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Between the sync and its directory: passes octets on until so many have come from the directory, then cuts the wire.
pub struct Wire {
    pub port: u16,
    /// Octets from the directory that a connection may still carry.
    pub allowed: Arc<AtomicU64>,
    /// Octets from the directory on the connection that carried most.
    pub most: Arc<AtomicU64>,
}

impl Wire {
    pub async fn to(directory: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (allowed, most) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let (limit, seen) = (allowed.clone(), most.clone());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", directory)).await else { continue };
                tokio::spawn(carry(client, server, limit.clone(), seen.clone()));
            }
        });
        Self { port, allowed, most }
    }
}

async fn carry(client: TcpStream, server: TcpStream, allowed: Arc<AtomicU64>, most: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 4096];
    let mut carried = 0;
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        let left = allowed.load(Ordering::SeqCst).saturating_sub(carried);
        let part = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        if to_client.write_all(&buffer[..part]).await.is_err() || part < count {
            break;
        }
        carried += part as u64;
        most.fetch_max(carried, Ordering::SeqCst);
    }
    up.abort();
}
