//! Reads the organisation's directories and hands what it read to the store. One instance of many does, at any time.
//!
//! Owns no durable fact and removes nobody: it says what a read found and whether the read was complete; the store decides who has
//! left, guards against mass removal, and refuses the batches of a leader that was replaced (S-40, S-60). In the order of a run:
//!
//! ```text
//! lease      one leader; an epoch from the store
//! leader     a worker for each directory; hands them what was asked for (`requests`)
//! worker     one directory: what is next, the schedule, a request, or a change that it told of
//! run        one directory from begin to finish
//!   prepare  who answers, what it offers
//!   mode     full, incremental or preview, and why
//!   domains  the directory's own, and others that it lists (FD-02); `positions`: where the feed of each continues
//!   source   whom the items hold
//!   full     everything, then by their ids those who were not met (S-43)
//!   changes  what a change feed names, then what that made doubtful (S-01)
//!   objects  reads them: page by page, or by their ids; with a clear end (S-41)
//!   evaluate which filters they fit, as far as that is certain here (S-14)
//!   plan     an entry as the store wants it, or what is wrong with it (S-59)
//!   apply    batches to the store, each under the epoch
//! follow     listens to a directory that tells of changes as they happen (S-34)
//! ```
//!
//! The guard of the replaced product's "approval" is the store's: it alone sees all users in one transaction. So is who is a member
//! of a group. Beside them: `schedule` (when), `nodes` (which host rather than another), `settings` (this node's copy), `metrics`.

mod apply;
mod changes;
mod config;
mod domains;
mod evaluate;
mod follow;
mod full;
mod leader;
mod lease;
mod members;
mod metrics;
mod mode;
mod nodes;
mod objects;
mod plan;
mod positions;
mod prepare;
mod read;
mod requests;
mod run;
mod schedule;
mod settings;
mod source;
mod worker;

pub use config::{Config, EndpointsSection};
pub use nodes::host;

use metrics::Metrics;
use proto::remote::Remote;
use proto::user_store::settings_client::SettingsClient;
use proto::user_store::settings_server::Settings;
use proto::user_store::sync_client::SyncClient;
use proto::user_store::sync_server::Sync;
use service_kit::{Clock, Process, bus::Bus, grpc};
use settings::CurrentSettings;
use std::sync::Arc;

/// What this part needs of others.
#[derive(Clone)]
pub struct Deps {
    pub sync: Arc<dyn Sync>,
    pub settings: Arc<dyn Settings>,
    pub bus: Arc<dyn Bus>,
    /// The name that `sync.preferred_nodes` calls us by: [`host`].
    pub host: String,
    pub clock: Clock,
}

impl Deps {
    /// The store over mutual TLS and the bus of the configuration, for a process that holds this part alone.
    pub fn connect(config: &Config, process: &Process) -> anyhow::Result<Self> {
        let store =
            grpc::Channel::new(proto::permissions::part::USER_STORE, &config.endpoints.user_store, &config.grpc)?;
        Ok(Self {
            sync: Arc::new(Remote::new(SyncClient::new(store.clone()))),
            settings: Arc::new(Remote::new(SettingsClient::new(store))),
            bus: service_kit::bus::connect(&config.bus, process)?,
            host: host(),
            clock: Clock::system(),
        })
    }
}

/// Stands for leadership, and synchronises while it leads, until the process drains.
pub async fn run(deps: Deps, process: &Process) -> anyhow::Result<()> {
    start(deps, process);
    process.shutdown().draining().await;
    process.finish().await;
    Ok(())
}

/// The same as tasks of a process that holds other parts, too.
pub fn start(deps: Deps, process: &Process) {
    let metrics = Metrics::new();
    let ready = process.health().start_condition("directory-sync settings");
    let upstream = process.health().upstream("store", proto::permissions::part::USER_STORE);
    let settings = Arc::new(CurrentSettings::new(deps.settings, metrics.clone(), ready, upstream));
    process.shutdown().spawn_until_stopping(Arc::clone(&settings).keep_current(Arc::clone(&deps.bus)));
    let candidate =
        lease::Candidate { sync: deps.sync, bus: deps.bus, host: deps.host, clock: deps.clock, settings, metrics };
    // A drain waits for it: the lease is given back, so that the next one takes over at once.
    process.shutdown().spawn(candidate.stand(process.shutdown().clone()));
}
