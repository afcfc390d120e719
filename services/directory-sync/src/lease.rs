//! One leader among all instances: a lease on the bus chooses it, an epoch from the store fences it (S-60).
//!
//! ```text
//! stand ── lease taken ──> term: Lead -> epoch ──> due, or asked for? ──> run all items, or the one that was asked for ──┐
//!   ^                                                   ^───────────────────────────────────────────────────────────────┘
//!   └── lease lost (the work is dropped where it stands), deposed by the store, or the process drains
//! ```
//!
//! Runs never overlap: the term is one task, and does one thing after the other (S-00).

use crate::apply::{StoreError, Term};
use crate::metrics::Metrics;
use crate::run::{Runner, Work};
use crate::schedule::Schedule;
use crate::settings::{CurrentSettings, Snapshot};
use domain::settings::SyncState;
use proto::subjects::{LEASES_MAP, SYNC_LEASE, SYNC_REQUESTED, SYNC_STREAM};
use proto::user_store::sync_server::Sync as Store;
use service_kit::bus::{Bus, Consumer, Delivery, MapOptions, Stream, StreamKind, StreamOptions};
use service_kit::lease::Lease;
use service_kit::{Clock, Shutdown, chain};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

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
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<CurrentSettings>,
    pub(crate) metrics: Metrics,
}

impl Candidate {
    /// Stands for leadership until the process drains.
    pub(crate) async fn stand(self, shutdown: Shutdown) {
        let options = MapOptions { ttl: LEASE_TTL, max_entries: 16, max_value_bytes: 1024 };
        let me = instance();
        let lease = Lease {
            map: self.bus.map(LEASES_MAP, options),
            key: SYNC_LEASE.to_owned(),
            me: me.clone(),
            ttl: LEASE_TTL,
        };
        lease.run(shutdown, |_| Box::pin(self.clone().term(me.clone()))).await;
    }

    /// One term, until it is dropped or the store says that another leader has begun.
    async fn term(self, me: String) {
        // No use to lead before it is known what there is to do.
        let mut changes = self.settings.changes();
        let known = changes.wait_for(Option::is_some).await.map(drop);
        let Ok(()) = known else { return };
        let Some(term) = self.lead(&me).await else { return };
        tracing::info!(event = "sync_leader", service = "directory-sync", holder = me, epoch = term.epoch, "leading");
        let mut runner = Runner {
            term,
            settings: Arc::clone(&self.settings),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            term_metrics: self.metrics.term(),
        };
        let mut schedule = Schedule::default();
        let mut request = Requests::new(self.bus.as_ref()).next();
        loop {
            let due = self.settings.current().and_then(|snapshot| schedule.due(&snapshot.settings, Instant::now()));
            // Cancel safety: `request` is not dropped but awaited again; a moment and a changed setting are looked at anew.
            let asked = tokio::select! {
                asked = &mut request => Some(asked),
                () = until(due) => None,
                changed = changes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return, // the process stops
                },
            };
            self.settings.refresh().await;
            let Some(snapshot) = self.settings.current() else { return };
            let Some(Asked { requests, delivery }) = asked else {
                schedule.started(Instant::now());
                match run_all(&mut runner, &snapshot, None).await {
                    Ok(()) => {}
                    Err(StoreError::Deposed) => return deposed(),
                    Err(StoreError::Refused { .. }) => schedule.failed(Instant::now()),
                }
                continue;
            };
            let served = self.serve(&mut runner, &mut schedule, &snapshot, delivery).await;
            if served.is_err() {
                return deposed();
            }
            request = requests.next();
        }
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

    /// Runs what somebody asked for, on the schedule or off it (FS-01), and says so to the bus when it is done.
    async fn serve(
        &self,
        runner: &mut Runner,
        schedule: &mut Schedule,
        snapshot: &Snapshot,
        delivery: Delivery,
    ) -> Result<(), Deposed> {
        let item = std::str::from_utf8(&delivery.message.payload).unwrap_or("?").to_owned();
        let only = (!item.is_empty()).then_some(item.as_str());
        if only.is_none() {
            schedule.started(Instant::now());
        }
        match run_all(runner, snapshot, Some(Wish { only, delivery: &delivery })).await {
            Ok(()) => {
                if let Err(error) = delivery.ack().await {
                    // It comes again and is served again: a run too many harms nobody.
                    tracing::warn!(error = %chain(&error), "a served request could not be acknowledged");
                }
                Ok(())
            }
            // For the one who leads now.
            Err(StoreError::Deposed) => {
                let _ = delivery.refuse().await;
                Err(Deposed)
            }
            // Not acknowledged: it comes again after a while, when the store may be back.
            Err(StoreError::Refused { .. }) => Ok(()),
        }
    }
}

struct Deposed;

fn deposed() {
    tracing::warn!(event = "sync_leader", service = "directory-sync", "another leader has begun, this one stops");
}

/// What somebody asked for.
#[derive(Clone, Copy)]
struct Wish<'a> {
    only: Option<&'a str>,
    delivery: &'a Delivery,
}

/// Runs the items that are on, in the order of the document: the first match owns a user. An item whose run the store did not take
/// does not keep the others from theirs.
async fn run_all(runner: &mut Runner, snapshot: &Snapshot, wish: Option<Wish<'_>>) -> Result<(), StoreError> {
    let mut directories = BTreeSet::new();
    let mut result = Ok(());
    let mut found = false;
    for item in snapshot.settings.sync_items.iter().filter(|item| item.state == SyncState::On) {
        let with_groups = directories.insert(&item.directory);
        if wish.and_then(|wish| wish.only).is_some_and(|only| only != item.name.as_str()) {
            continue;
        }
        found = true;
        let span = run_span(item.name.as_str());
        if let Some(wish) = wish {
            wish.delivery.message.link(&span);
        }
        match runner.run(Work { item, with_groups }, span).await {
            Ok(()) => {}
            Err(StoreError::Deposed) => return Err(StoreError::Deposed),
            Err(error) => result = Err(error),
        }
    }
    if !found {
        tracing::info!(event = "sync_run", service = "directory-sync", state = "nothing_to_do", "no such item is on");
    }
    result
}

fn run_span(item: &str) -> tracing::Span {
    tracing::info_span!(
        parent: None,
        "sync.run",
        otel.kind = "internal",
        otel.status_code = tracing::field::Empty,
        twinlock.sync_item = item,
        twinlock.run_id = tracing::field::Empty,
    )
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
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(64).collect();
    let tail = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", if host.is_empty() { "host" } else { host.as_str() }, &tail[..8])
}
