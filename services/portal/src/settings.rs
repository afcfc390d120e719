//! This part's copy of the settings: who may enrol, what the company is called, which clients there are.
//!
//! Fetched at the start until the store answers, again when the bus says so, and every 5 s as a safety net.

use crate::app::within;
use crate::metrics::Metrics;
use arc_swap::ArcSwapOption;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::{FetchRequest, settings_server::Settings as SettingsPort};
use service_kit::bus::{Bus, Subscription};
use service_kit::health::Condition;
use service_kit::{Process, grpc};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

const POLL: Duration = Duration::from_secs(5);
/// Before the first answer somebody waits for every moment.
const FIRST_POLL: Duration = Duration::from_millis(250);
const FETCH_LIMIT: Duration = Duration::from_secs(3);

/// Clones are the same copy.
#[derive(Clone)]
pub(crate) struct SettingsCopy {
    port: Arc<dyn SettingsPort>,
    bus: Arc<dyn Bus>,
    current: Arc<ArcSwapOption<Snapshot>>,
    metrics: Metrics,
}

/// The settings of one revision.
pub(crate) struct Snapshot {
    pub revision: u64,
    pub settings: domain::settings::Settings,
}

impl SettingsCopy {
    pub fn new(port: Arc<dyn SettingsPort>, bus: Arc<dyn Bus>, metrics: Metrics) -> Self {
        Self { port, bus, current: Arc::default(), metrics }
    }

    /// `None`: the store has not answered yet.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// The settings as they are now, for who has just changed them and looks.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, Status> {
        self.refresh().await?;
        self.current().ok_or_else(|| Status::unavailable("the settings have not been read yet"))
    }

    /// Keeps the copy current for as long as the process lives.
    pub fn keep(self, process: &Process) {
        let seen = process.health().start_condition("portal settings");
        process.shutdown().spawn_until_stopping(async move { self.keep_current(seen).await });
    }

    async fn keep_current(&self, seen: Condition) {
        let mut changes: Option<Subscription> = None;
        loop {
            if changes.is_none() {
                changes = self.bus.subscribe(SETTINGS_CHANGED).await.ok();
            }
            match self.refresh().await {
                Ok(()) => seen.set_ready(true),
                Err(status) => tracing::warn!(code = ?status.code(), "settings cannot be fetched"),
            }
            let pause = if self.current.load().is_some() { POLL } else { FIRST_POLL };
            // Cancel safety: a message of the bus only says that something changed; the poll finds it too.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                heard = next(&mut changes) => if heard.is_none() { changes = None },
            }
        }
    }

    async fn refresh(&self) -> Result<(), Status> {
        let known_revision = self.current.load().as_ref().map_or(0, |snapshot| snapshot.revision);
        let request = grpc::idempotent(FetchRequest { known_revision });
        let reply = within(FETCH_LIMIT, request, |request| self.port.fetch(request)).await?;
        if reply.unchanged && self.current.load().is_some() {
            return Ok(());
        }
        let settings = serde_json::from_str(&reply.settings_json).map_err(|error| {
            // A newer store may know keys that we do not. What is in force stays in force.
            tracing::error!(revision = reply.revision, %error, "settings of this revision cannot be read");
            Status::internal("the settings cannot be read")
        })?;
        self.metrics.settings_in_force(reply.revision);
        self.current.store(Some(Arc::new(Snapshot { revision: reply.revision, settings })));
        Ok(())
    }
}

async fn next(changes: &mut Option<Subscription>) -> Option<()> {
    match changes {
        Some(changes) => changes.next().await.map(drop),
        None => std::future::pending().await,
    }
}
