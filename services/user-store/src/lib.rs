//! Every durable fact of the product, and the only database: users, factors, settings, counters, audit.
//!
//! ```text
//! rpc -> facts                            what a decision needs to know
//!     -> commit (decide, group, throttle) what guards a decision, in one transaction with its audit event
//!     -> settings · sync · portal_data · admin
//!           all of them -> audit (chain) · seal (secrets at rest) · sql (SQLite or PostgreSQL) · tell (bus, after commit)
//! ```
//!
//! One gRPC service for each kind of caller, so that least privilege can be seen. In one process the structs of
//! [`Services`] are the port themselves; [`run`] serves them over mutual TLS.

mod admin;
mod answers;
mod audit;
mod by_hand;
mod commit;
mod config;
mod erase;
mod facts;
mod fail_open;
mod hashing;
mod housekeeping;
mod metrics;
mod outbox;
mod password_tries;
mod pin_rules;
mod places;
mod portal_address;
mod portal_data;
mod radius;
mod rpc;
mod rules;
mod seal;
mod settings;
mod sql;
mod standing;
mod sync;
mod tell;
mod throttle;
mod users;

pub use admin::AdminService;
pub use commit::CommitService;
pub use config::Config;
pub use facts::FactsService;
pub use fail_open::FailOpenService;
pub use outbox::OutboxService;
pub use password_tries::PasswordTriesService;
pub use portal_data::PortalDataService;
pub use radius::RadiusService;
pub use settings::{
    SettingsFor, SettingsService,
    apply::{observed_for_too_long, parse, problems},
};
pub use sql::{OpenError, StoreSection, StoreUrl};
pub use standing::StandingService;
pub use sync::SyncService;
pub use users::named;

use audit::checkpoint::{self, Signer};
use commit::group::{Group, Writer};
use facts::{Reader, Together};
use hashing::Hasher;
use metrics::Metrics;
use proto::user_store::{
    admin_server::AdminServer,
    commit_server::CommitServer,
    facts_server::FactsServer,
    fail_open_server::FailOpenServer,
    outbox_server::OutboxServer,
    password_tries_server::PasswordTriesServer,
    portal_data_server::PortalDataServer,
    radius_server::RadiusServer,
    settings_server::{Settings, SettingsServer},
    standing_server::StandingServer,
    sync_server::SyncServer,
};
use rpc::StoreError;
use rules::Rules;
use seal::Seal;
use service_kit::bus::Bus;
use service_kit::{Clock, Process, Shutdown, grpc};
use sql::Database;
use std::sync::Arc;
use tell::Teller;

/// The longest message of an administrator: a file of 50,000 tokens (FI-01) takes five million octets.
const IMPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest message of the sync leader: a group with all its members.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The open store. Clones are the same one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Database,
    seal: Arc<Seal>,
    hasher: Hasher,
    signer: Signer,
    rules: Arc<Rules>,
    clock: Clock,
    teller: Teller,
    group: Group,
    facts: Together,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens the database, brings its tables to this version, checks the master key, and starts the writer. Several
    /// nodes may do so at once on PostgreSQL.
    pub async fn open(
        section: &StoreSection,
        bus: Arc<dyn Bus>,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> Result<Self, OpenError> {
        let database = Database::open(section).await?;
        let seal = Arc::new(Seal::open(&database, &section.master_key_file, clock.now_ms()).await?);
        let hasher = Hasher::new(seal.pepper());
        let failed = |cause| OpenError::Database { database: "of store.url".into(), cause };
        let mut session = database.write().await.map_err(failed)?;
        audit::begin_chain(&mut session).await.map_err(failed)?;
        let signer = Signer::open(&mut session, &seal).await.map_err(|error| match error {
            StoreError::Database(cause) => failed(cause),
            StoreError::KeysStale(_) => OpenError::Slow,
            error => OpenError::Signer(error.into()),
        })?;
        session.commit().await.map_err(failed)?;
        let teller = Teller::start(bus, shutdown);
        let metrics = Arc::new(Metrics::new());
        let rules = Arc::<Rules>::default();
        let writer = Writer {
            database: database.clone(),
            seal: seal.clone(),
            rules: rules.clone(),
            teller: teller.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let group = Group::start(writer, shutdown);
        let reader = Reader {
            database: database.clone(),
            seal: seal.clone(),
            rules: rules.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let facts = Together::start(reader, shutdown);
        let store =
            Self(Arc::new(Inner { database, seal, hasher, signer, rules, clock, teller, group, facts, metrics }));
        shutdown.spawn_until_stopping(checkpoint::run(store.clone()));
        shutdown.spawn_until_stopping(housekeeping::run(store.clone()));
        shutdown.spawn_until_stopping(seal::reseal::run(store.clone()));
        shutdown.spawn_until_stopping(sync::first_pins::run(store.clone()));
        shutdown.spawn_until_stopping(sync::expiry::run(store.clone()));
        shutdown.spawn_until_stopping(radius::reports::watch(store.clone()));
        Ok(store)
    }

    /// The services of this store.
    pub fn services(&self) -> Services {
        Services {
            settings: Arc::new(SettingsService::new(self.clone())),
            facts: Arc::new(facts::FactsService(self.clone())),
            commit: Arc::new(commit::CommitService(self.clone())),
            sync: Arc::new(sync::SyncService(self.clone())),
            portal_data: Arc::new(portal_data::PortalDataService(self.clone())),
            admin: Arc::new(admin::AdminService(self.clone())),
            outbox: Arc::new(outbox::OutboxService(self.clone())),
            fail_open: Arc::new(fail_open::FailOpenService(self.clone())),
            password_tries: Arc::new(password_tries::PasswordTriesService::new(self.clone())),
            standing: Arc::new(standing::StandingService(self.clone())),
            radius: Arc::new(radius::RadiusService(self.clone())),
        }
    }

    /// Takes away what time has ended; the store does so by itself every hour.
    pub async fn sweep(&self) -> Result<(), tonic::Status> {
        Ok(housekeeping::sweep(self).await?)
    }

    /// Disables users whose account in the directory has expired (FS-26); the store does so by itself every minute.
    pub async fn disable_expired(&self) -> Result<(), tonic::Status> {
        Ok(sync::expiry::disable(self).await?)
    }

    /// Makes the first PINs that are owed to new users (FS-31); the store does so by itself twice a minute.
    pub async fn give_first_pins(&self) -> Result<(), tonic::Status> {
        Ok(sync::first_pins::give(self).await?)
    }

    /// Reads the data keys again and goes on with a rotation; the store does so by itself three times a minute and more.
    pub async fn tend_keys(&self) -> Result<(), tonic::Status> {
        Ok(seal::reseal::tend(self).await?)
    }

    /// Signs where the audit stands, if anything came since the last time; the store does so by itself now and then.
    pub async fn checkpoint(&self) -> Result<Option<proto::user_store::AuditCheckpoint>, tonic::Status> {
        Ok(checkpoint::make(self, checkpoint::Due::Now).await?)
    }

    /// Signs where the audit stands, and ends all connections. What was answered is durable without it.
    pub async fn close(&self) {
        checkpoint::last(self).await;
        self.database().close().await;
    }

    fn database(&self) -> &Database {
        &self.0.database
    }

    fn seal(&self) -> &Seal {
        &self.0.seal
    }

    /// Hashes what people remember (V-31).
    fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// The settings as the store itself goes by them.
    fn rules(&self) -> &Rules {
        &self.0.rules
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn teller(&self) -> &Teller {
        &self.0.teller
    }

    fn group(&self) -> &Group {
        &self.0.group
    }

    fn facts(&self) -> &Together {
        &self.0.facts
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn pepper(&self) -> &[u8] {
        self.seal().pepper()
    }

    /// The time a caller gave, or ours.
    fn at(&self, given_ms: i64) -> i64 {
        if given_ms > 0 { given_ms } else { self.clock().now_ms() }
    }
}

/// One struct for each kind of caller; each implements the generated server trait and is the port itself.
#[derive(Clone)]
pub struct Services {
    pub settings: Arc<SettingsService>,
    pub facts: Arc<FactsService>,
    pub commit: Arc<CommitService>,
    pub sync: Arc<SyncService>,
    pub portal_data: Arc<PortalDataService>,
    pub admin: Arc<AdminService>,
    pub outbox: Arc<OutboxService>,
    pub fail_open: Arc<FailOpenService>,
    pub password_tries: Arc<PasswordTriesService>,
    pub standing: Arc<StandingService>,
    pub radius: Arc<RadiusService>,
}

impl Services {
    /// The settings as this part may see them, for parts in the same process (`proto::permissions::part`).
    pub fn settings_for(&self, part: &'static str) -> Arc<dyn Settings> {
        Arc::new(SettingsFor { part, service: self.settings.clone() })
    }

    /// All of them, behind the table of who may call what.
    pub fn server(&self) -> grpc::Server {
        grpc::Server::new(proto::permissions::allowed)
            .add(SettingsServer::from_arc(self.settings.clone()))
            .add(FactsServer::from_arc(self.facts.clone()))
            .add(CommitServer::from_arc(self.commit.clone()))
            .add(SyncServer::from_arc(self.sync.clone()).max_decoding_message_size(BATCH_BYTES_MAX))
            .add(PortalDataServer::from_arc(self.portal_data.clone()))
            .add(AdminServer::from_arc(self.admin.clone()).max_decoding_message_size(IMPORT_BYTES_MAX))
            .add(OutboxServer::from_arc(self.outbox.clone()))
            .add(FailOpenServer::from_arc(self.fail_open.clone()))
            .add(PasswordTriesServer::from_arc(self.password_tries.clone()))
            .add(StandingServer::from_arc(self.standing.clone()))
            .add(RadiusServer::from_arc(self.radius.clone()))
    }
}

/// Serves the store until the process stops.
pub async fn run(config: Config, process: &Process) -> anyhow::Result<()> {
    let ready = process.health().condition("store");
    let bus = service_kit::bus::connect(&config.bus, process)?;
    let store = Store::open(&config.store, bus, Clock::system(), process.shutdown()).await?;
    let address = store.services().server().serve(&config.grpc, process).await?;
    ready.set_ready(true);
    tracing::info!(%address, "user-store serves");
    process.shutdown().finished().await;
    store.close().await;
    Ok(())
}
