//! One leader among all instances: a lease on the bus chooses it, an epoch from the store fences it (S-60).
//!
//! ```text
//! stand ── lease taken ──> term: Lead -> epoch ──> due, asked for, or told of a change? ──> run that directory ──┐
//!   ^                                                   ^───────────────────────────────────────────────────────┘
//!   └── lease lost (the work is dropped where it stands), deposed by the store, or the process drains
//! ```
//!
//! Runs never overlap: the term is one task, and does one thing after the other (S-00).

use crate::apply::{StoreError, Term};
use crate::follow::{Burst, Follows};
use crate::metrics::Metrics;
use crate::mode::{Asked as Wish, Trigger, What};
use crate::nodes::{Node, TOLD_EVERY};
use crate::run::{Ran, Runner};
use crate::schedule::{self, Schedule};
use crate::settings::{CurrentSettings, Snapshot};
use domain::ObjectName;
use domain::settings::{SyncItem, SyncState};
use prost::Message;
use proto::subjects::{LEASES_MAP, SYNC_LEASE, SYNC_REQUESTED, SYNC_STREAM};
use proto::user_store::RequestSyncRequest;
use proto::user_store::sync_server::Sync as Store;
use service_kit::bus::{Bus, Consumer, Delivery, MapOptions, Stream, StreamKind, StreamOptions};
use service_kit::lease::Lease;
use service_kit::{Clock, Shutdown, chain};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep, sleep_until};

/// A leader that was killed is replaced after this and a little.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// The consumer of requests; all leaders are the same one, one after the other.
const CONSUMER: &str = "directory-sync";
/// A request that a leader took and did not live to serve comes again after this. One that is served for longer is not: the leader
/// asks for no other before it has acknowledged this one.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Requests are forgotten, and their number is bounded, as user-store, which publishes them, says too.
const REQUESTS_MAX_AGE: Duration = Duration::from_secs(3600);
const REQUESTS_MAX: usize = 1_000;
/// Between tries to reach the bus.
const PAUSE: Duration = Duration::from_secs(2);
/// Tries to get an epoch before another instance may have a go.
const LEAD_TRIES: u32 = 5;

/// What an instance needs to lead.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) sync: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) host: String,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<CurrentSettings>,
    pub(crate) metrics: Metrics,
}

impl Candidate {
    /// Stands for leadership until the process drains.
    pub(crate) async fn stand(self, shutdown: Shutdown) {
        let options = MapOptions { ttl: LEASE_TTL, max_entries: 16, max_value_bytes: 1024 };
        let me = instance(&self.host);
        let map = self.bus.map(LEASES_MAP, options);
        let node = Node { host: self.host.clone(), map: Arc::clone(&map) };
        let lease = Lease { map, key: SYNC_LEASE.to_owned(), me: me.clone(), ttl: LEASE_TTL };
        let leading = Arc::new(AtomicBool::new(false));
        let standing_by = node.clone().stand_by(Arc::clone(&self.settings), Arc::clone(&leading));
        let standing = lease.run(shutdown, |_| {
            let term = self.clone().term(me.clone(), node.clone());
            let leading = Leading::of(&leading);
            Box::pin(async move {
                let _leading = leading;
                term.await;
            })
        });
        // Cancel safety: what is told while another leads need not be told to its end.
        tokio::select! { () = standing => {}, () = standing_by => {} }
    }

    /// One term, until it is dropped or the store says that another leader has begun.
    async fn term(self, me: String, node: Node) {
        // No use to lead before it is known what there is to do.
        let mut changes = self.settings.changes();
        let known = changes.wait_for(Option::is_some).await.map(drop);
        let Ok(()) = known else { return };
        if self.gives_way(&node).await {
            return;
        }
        let Some(term) = self.lead(&me).await else { return };
        tracing::info!(event = "sync_leader", service = "directory-sync", holder = me, epoch = term.epoch, "leading");
        let runner = Runner {
            term,
            settings: Arc::clone(&self.settings),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            term_metrics: self.metrics.term(),
            learned: HashMap::new(),
        };
        let mut leader = Leader { runner, schedule: Schedule::default(), follows: Follows::new() };
        let mut request = Requests::new(self.bus.as_ref()).next();
        let mut look = interval(TOLD_EVERY);
        loop {
            let due = self.settings.current().and_then(|it| leader.schedule.due(&it.settings, Instant::now()));
            let (due, directory) = due.unzip();
            // Cancel safety: `request` is not dropped but awaited again; a moment, a changed setting and what is followed are looked
            // at anew.
            let next = tokio::select! {
                asked = &mut request => Next::Asked(asked),
                () = until(due) => Next::Due,
                () = until(leader.follows.due()) => Next::Follow,
                told = leader.follows.next() => Next::Told(told),
                _ = look.tick() => match self.gives_way(&node).await {
                    true => return,
                    false => continue,
                },
                changed = changes.changed() => match changed {
                    Ok(()) => Next::Follow,
                    Err(_) => return, // the process stops
                },
            };
            if !matches!(next, Next::Follow) {
                self.settings.refresh().await;
            }
            let Some(snapshot) = self.settings.current() else { return };
            let result = match next {
                Next::Due => match directory {
                    Some(directory) => leader.run(&directory, &snapshot, &Trigger::Schedule, |_| {}).await.map(drop),
                    None => Ok(()),
                },
                Next::Told(directory) => leader.told(&directory, &snapshot).await,
                Next::Follow => Ok(()),
                Next::Asked(Asked { requests, delivery }) => {
                    let served = leader.serve(&snapshot, delivery).await;
                    request = requests.next();
                    served
                }
            };
            let result = match result {
                Ok(()) => leader.follow(&snapshot).await,
                error => error,
            };
            if result.is_err() {
                return deposed();
            }
        }
    }

    /// FS-11: another host is preferred, and there.
    async fn gives_way(&self, node: &Node) -> bool {
        let Some(snapshot) = self.settings.current() else { return false };
        let gives_way = node.gives_way(&snapshot).await;
        if gives_way {
            tracing::info!(event = "sync_leader", service = "directory-sync", "a preferred host is there and leads");
        }
        gives_way
    }

    /// Gets an epoch. A store that stays away gives others their turn: perhaps they reach it.
    async fn lead(&self, me: &str) -> Option<Term> {
        for _ in 0..LEAD_TRIES {
            match Term::begin(Arc::clone(&self.sync), self.clock.clone(), me).await {
                Ok(term) => return Some(term),
                Err(error) => tracing::warn!(error = %chain(&error), "the store gave no epoch"),
            }
            sleep(PAUSE).await;
        }
        None
    }
}

/// We lead, or are about to, for as long as this lives.
struct Leading(Arc<AtomicBool>);

impl Leading {
    fn of(leading: &Arc<AtomicBool>) -> Self {
        leading.store(true, Ordering::Relaxed);
        Self(Arc::clone(leading))
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

struct Deposed;

fn deposed() {
    tracing::warn!(event = "sync_leader", service = "directory-sync", "another leader has begun, this one stops");
}

/// What a leader does next.
enum Next {
    Asked(Asked),
    Due,
    Told(ObjectName),
    Follow,
}

/// One term of one leader.
struct Leader {
    runner: Runner,
    schedule: Schedule,
    follows: Follows,
}

impl Leader {
    /// Runs one directory. What the store did not take is tried again soon.
    async fn run(
        &mut self,
        directory: &ObjectName,
        snapshot: &Snapshot,
        trigger: &Trigger,
        link: impl Fn(&tracing::Span),
    ) -> Result<Ran, Deposed> {
        self.schedule.started(directory, Instant::now());
        match self.runner.run(directory, snapshot, trigger, link).await {
            Ok(ran) => {
                self.after(directory, &ran);
                Ok(ran)
            }
            Err(StoreError::Deposed) => Err(Deposed),
            Err(StoreError::Refused { .. }) => {
                self.schedule.failed(directory, Instant::now());
                Ok(Ran::Ended { complete: false, again: false, missed: false })
            }
        }
    }

    fn after(&mut self, directory: &ObjectName, ran: &Ran) {
        if matches!(ran, Ran::Ended { again: true, .. }) {
            self.schedule.again(directory, Instant::now());
        }
        if matches!(ran, Ran::Ended { missed: true, .. }) {
            self.schedule.missed(directory, Instant::now());
        }
    }

    /// Reads what a directory told of.
    async fn told(&mut self, name: &ObjectName, snapshot: &Snapshot) -> Result<(), Deposed> {
        let (directory, origin, events) = match self.follows.burst(name).await {
            None => return Ok(()),
            Some(Burst::Run) => {
                let ran = self.run(name, snapshot, &Trigger::Schedule, |_| {}).await?;
                if !matches!(ran, Ran::Ended { complete: true, .. }) {
                    // What is told from now on would hide what was not found.
                    self.follows.stop(name, Instant::now());
                }
                return Ok(());
            }
            Some(Burst::Changes { directory, origin, events }) => (directory, origin, events),
        };
        match self.runner.burst(name, snapshot, &directory, &origin, events).await {
            Ok(ran @ Ran::Ended { complete: true, .. }) => {
                self.after(name, &ran);
                Ok(())
            }
            Ok(_) | Err(StoreError::Refused { .. }) => {
                self.follows.stop(name, Instant::now());
                Ok(())
            }
            Err(StoreError::Deposed) => Err(Deposed),
        }
    }

    /// Follows what can be followed and is not yet, and lets go of what the settings changed.
    async fn follow(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        let directories = schedule::directories(&snapshot.settings);
        let enabled = snapshot.settings.sync.enabled && !snapshot.settings.sync.always_full;
        let settings = Arc::clone(&self.runner.settings);
        self.follows.keep(|name, followed, items_digest| {
            let same = settings.directory(name).is_ok_and(|now| Arc::ptr_eq(&now, followed));
            enabled
                && same
                && directories.contains(name)
                && snapshot.settings.items_digest(name.as_str()) == items_digest
        });
        self.follows.forget(|name| !enabled || !directories.contains(name));
        for name in directories.iter().filter(|_| enabled) {
            let now = Instant::now();
            if !self.follows.wants(name, now) {
                continue;
            }
            // Whatever comes of it, this moment has passed.
            self.follows.tried(name);
            let Ok(directory) = settings.directory(name) else { continue };
            let Some(identity) = self.runner.followed(name, &directory).map(str::to_owned) else { continue };
            let state = match self.runner.term.source(name.as_str()).await {
                Ok(state) => state,
                Err(StoreError::Deposed) => return Err(Deposed),
                Err(StoreError::Refused { .. }) => {
                    self.follows.stop(name, now);
                    continue;
                }
            };
            let position = serde_json::from_slice(&state.position);
            let items_digest = snapshot.settings.items_digest(name.as_str());
            match position {
                // FS-09, S-44: by what was accepted, from the source that was read.
                Ok(position) if state.items_digest == items_digest && state.identity == identity => {
                    self.follows.start(name, directory, items_digest, position);
                }
                // The next run that is asked for gives one.
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs what somebody asked for, on the schedule or off it (FS-01), and says so to the bus when it is done.
    async fn serve(&mut self, snapshot: &Snapshot, delivery: Delivery) -> Result<(), Deposed> {
        let Ok(request) = RequestSyncRequest::decode(delivery.message.payload.clone()) else {
            tracing::warn!("a request on the bus could not be read");
            let _ = delivery.ack().await;
            return Ok(());
        };
        let what = match request.mode.as_str() {
            "preview" => What::Preview,
            "incremental" => What::Changes,
            _ => What::Full,
        };
        let directories = asked_for(snapshot, &request.only, what);
        if directories.is_empty() {
            tracing::info!(
                event = "sync_run",
                service = "directory-sync",
                state = "nothing_to_do",
                "no such item is on"
            );
        }
        let wish = Wish { what, accept_source: request.accept_source, actor: request.actor };
        let trigger = Trigger::Request(wish);
        let mut taken = true;
        for directory in directories {
            if what != What::Preview {
                self.schedule.started(&directory, Instant::now());
            }
            match self.runner.run(&directory, snapshot, &trigger, |span| delivery.message.link(span)).await {
                Ok(ran) => self.after(&directory, &ran),
                // For the one who leads now.
                Err(StoreError::Deposed) => {
                    let _ = delivery.refuse().await;
                    return Err(Deposed);
                }
                Err(StoreError::Refused { .. }) => taken = false,
            }
        }
        // Not acknowledged: it comes again after a while, when the store may be back.
        if taken && let Err(error) = delivery.ack().await {
            // It comes again and is served again: a run too many harms nobody.
            tracing::warn!(error = %chain(&error), "a served request could not be acknowledged");
        }
        Ok(())
    }
}

/// The directories that a request names, by themselves or by an item, and that have an item to read; a preview reads items in
/// preview, too. A directory that is named itself needs none: then it lets go of whom it had (FS-10).
fn asked_for(snapshot: &Snapshot, only: &str, what: What) -> Vec<ObjectName> {
    let settings = &snapshot.settings;
    let mut directories: Vec<ObjectName> = Vec::new();
    let is_read = |state: SyncState| state == SyncState::On || state == SyncState::Preview && what == What::Preview;
    for item in settings.sync_items.iter().filter(|item| is_read(item.state)) {
        let named = only.is_empty() || only == item.name.as_str() || only == item.directory.as_str();
        if named && !directories.contains(&item.directory) {
            directories.push(item.directory.clone());
        }
    }
    let concerns = |item: &SyncItem| {
        item.name.as_str() == only || item.directory.as_str() == only && item.state == SyncState::Preview
    };
    if directories.is_empty() && !settings.sync_items.iter().any(concerns) {
        directories.extend(settings.directory(only).map(|directory| directory.name.clone()));
    }
    directories
}

/// What others asked for, in the order in which they did.
struct Requests {
    stream: Arc<dyn Stream>,
    consumer: Option<Box<dyn Consumer>>,
}

struct Asked {
    requests: Requests,
    delivery: Delivery,
}

impl Requests {
    fn new(bus: &dyn Bus) -> Self {
        let stream = bus.stream(StreamOptions {
            name: SYNC_STREAM.to_owned(),
            subjects: vec![SYNC_REQUESTED.to_owned()],
            kind: StreamKind::WorkQueue,
            max_age: REQUESTS_MAX_AGE,
            max_messages: REQUESTS_MAX,
        });
        Self { stream, consumer: None }
    }

    /// The next request, however long the bus is away. Owns itself, so that it can wait while a run goes on: what the bus has sent
    /// already would be lost for a while with a future that is dropped.
    fn next(mut self) -> Pin<Box<dyn Future<Output = Asked> + Send>> {
        Box::pin(async move {
            loop {
                let consumer = match &mut self.consumer {
                    Some(consumer) => consumer,
                    none => match Arc::clone(&self.stream).consume(CONSUMER, ACK_WAIT).await {
                        Ok(consumer) => none.insert(consumer),
                        Err(error) => {
                            tracing::debug!(error = %chain(&error), "requests cannot be heard");
                            sleep(PAUSE).await;
                            continue;
                        }
                    },
                };
                match consumer.next().await {
                    Ok(delivery) => return Asked { requests: self, delivery },
                    Err(_) => {
                        self.consumer = None;
                        sleep(PAUSE).await;
                    }
                }
            }
        })
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Who we are, for people who look: the host (in Kubernetes the pod) and something that differs between processes of one host.
fn instance(host: &str) -> String {
    let tail = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", &tail[..8])
}
