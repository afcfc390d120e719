//! The RADIUS front end: takes Access-Requests from VPNs, access points and hosts, has the password checked by the client's
//! directory and the second factor by verification, and answers. Owns the conversations and nothing durable.
//!
//! The files, in the order in which a request passes them:
//!
//! * [`listener`]: sockets; is the packet genuine, and whose is it
//! * [`exchange`]: is it new, or a copy; one task for each
//! * [`credentials`]: what it brings
//! * [`login`]: the order of the two locks, with [`target`] for the first and [`verify`] for the second
//! * [`reply`]: the answer in octets, [`question`]: its words
//!
//! Beside them: [`settings`] and [`keys`] as the store has them, [`attempt`] for the log line, [`person_address`], [`challenges`],
//! [`metrics`].

mod attempt;
mod challenges;
pub mod config;
mod credentials;
mod exchange;
mod keys;
mod listener;
mod login;
mod metrics;
mod person_address;
mod question;
mod reply;
mod settings;
mod target;
mod verify;

pub use config::{Config, RadiusSection};
pub use listener::ListenError;

use challenges::Challenges;
use directory::{Directories, Observation, Options, Outcome};
use domain::Reason;
use exchange::{SharedRequests, Table};
use fail_open::Presence;
use keys::Keys;
use listener::{Budget, Drop, DropLog, Path, Socket};
use metrics::{Metrics, PacketCode, PacketOutcome};
use proto::user_store::fail_open_server::FailOpen as FailOpenPort;
use proto::user_store::settings_server::Settings;
use proto::verification::verification_server::Verification;
use radius_wire::Lesson;
use service_kit::bus::Bus;
use service_kit::health::Health;
use service_kit::{Clock, Process, Shutdown};
use settings::{Client, CurrentSettings};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use verify::Verifier;

/// This part, in logs.
pub const NAME: &str = "radius-gateway";

/// What the gateway leans on.
pub struct Deps {
    pub verification: Arc<dyn Verification>,
    /// The store, which answers [`NAME`] with the settings, secrets and keys that a RADIUS gateway may know.
    pub settings: Arc<dyn Settings>,
    /// Where a login is told that was let in while verification was down (V-40).
    pub fail_open: Arc<dyn FailOpenPort>,
    pub bus: Arc<dyn Bus>,
    pub nodes: Nodes,
    pub clock: Clock,
}

/// Whether other RADIUS gateways serve the same clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// This one is alone: its own duplicates are all there are.
    One,
    /// Requests in work stand in the map of the bus, too.
    Many,
}

/// The gateway with its sockets open. Nothing is received yet.
pub struct Bound {
    config: RadiusSection,
    sockets: Vec<Arc<Socket>>,
}

/// Opens the sockets. Apart from [`Bound::run`], so that a port in use stops the start before anything else begins.
pub fn bind(config: RadiusSection) -> Result<Bound, ListenError> {
    let sockets = listener::bind(&config.listen)?;
    Ok(Bound { config, sockets })
}

/// Opens the sockets and serves until the process drains.
pub async fn run(config: RadiusSection, deps: Deps, process: &Process) -> anyhow::Result<()> {
    bind(config)?.run(deps, process).await
}

impl Bound {
    /// The addresses, with the ports that the system chose where none were given.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.bound()).collect()
    }

    /// Waits for the store, then serves. Returns when the process drains; what is in work ends under the process's shutdown.
    pub async fn run(self, deps: Deps, process: &Process) -> anyhow::Result<()> {
        let health = process.health();
        let from_store = health.start_condition("radius settings and keys");
        let listening = health.condition("radius listener");
        let start = start(self.config, deps, process);
        let gateway = tokio::select! {
            gateway = start => gateway,
            () = process.shutdown().draining() => return Ok(()),
        };
        from_store.set_ready(true);
        for socket in &self.sockets {
            process.shutdown().spawn_until_stopping(listener::listen(gateway.clone(), socket.clone()));
            tracing::info!(service = NAME, address = %socket.bound(), "listening for RADIUS");
        }
        listening.set_ready(true);
        process.shutdown().draining().await;
        listening.set(false, "draining");
        Ok(())
    }
}

async fn start(config: RadiusSection, deps: Deps, process: &Process) -> Arc<Gateway> {
    let metrics = Arc::new(Metrics::new());
    let directories = Directories::new(Options {
        observer: Some({
            let (metrics, health) = (metrics.clone(), process.health().clone());
            Arc::new(move |observation: &Observation<'_>| observe(&metrics, &health, observation))
        }),
        ..Options::default()
    });
    let settings =
        CurrentSettings::fetched(deps.settings.clone(), directories, metrics.clone(), process.health().clone()).await;
    settings.follow(deps.bus.clone(), process);
    let keys = Keys::fetched(deps.settings).await;
    keys.refresh(process);
    let upstream = process.health().upstream("verification", "verification");
    let presence = Presence::new();
    let verifier =
        Verifier::new(deps.verification, deps.clock.clone(), process.shutdown().clone(), upstream, presence.clone());
    let fail_open = fail_open::FailOpen::start(
        NAME,
        config.spool_dir.as_deref(),
        presence,
        deps.fail_open,
        deps.clock.clone(),
        process.shutdown(),
    );
    verifier.watch({
        let settings = settings.clone();
        move || settings.current().first_client().map(|client| client.name().to_owned())
    });
    let requests = (deps.nodes == Nodes::Many)
        .then(|| SharedRequests::new(deps.bus.as_ref(), keys.clone(), deps.clock.clone(), config.reply_kept()));
    let gateway = Arc::new(Gateway {
        started: Instant::now(),
        nodes: deps.nodes,
        exchanges: Table::new(config.in_work_max.size(), config.in_work_per_client_max.size(), config.reply_kept()),
        budget: Mutex::new(Budget::new(config.packets_per_second_max.get())),
        drops: Mutex::default(),
        challenges: Challenges::default(),
        shutdown: process.shutdown().clone(),
        clock: deps.clock,
        config,
        settings,
        keys,
        verifier,
        fail_open,
        requests,
        metrics,
    });
    process.shutdown().spawn_until_stopping(keep_tidy(gateway.clone()));
    gateway
}

/// What all of the above share.
pub(crate) struct Gateway {
    started: Instant,
    nodes: Nodes,
    config: RadiusSection,
    settings: Arc<CurrentSettings>,
    keys: Arc<Keys>,
    verifier: Arc<Verifier>,
    fail_open: Arc<fail_open::FailOpen>,
    exchanges: Table,
    /// Absent where this node is alone.
    requests: Option<SharedRequests>,
    challenges: Challenges,
    budget: Mutex<Budget>,
    drops: Mutex<DropLog>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    clock: Clock,
}

impl Gateway {
    fn now_unix_seconds(&self) -> u64 {
        u64::try_from(self.clock.now_ms() / 1000).unwrap_or_default()
    }

    /// A1 step 3.
    fn within_budget(&self, source: IpAddr) -> bool {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(source, self.started.elapsed())
    }

    /// Whether a login of this client could be decided here, as far as is known. Silent before anything else when the process
    /// leaves.
    fn is_serving(&self, client: &Client) -> bool {
        let lets_in = || self.fail_open.applies_to(&client.settings).is_ok();
        !self.shutdown.is_leaving() && (self.verifier.is_reachable() || lets_in())
    }

    /// A packet that gets no answer: counted each time, logged now and then.
    fn drop_packet(&self, client: Option<&Client>, octets: &[u8], path: &Path, drop: Drop) {
        let (name, code) = (client.map(Client::name), PacketCode::of(octets));
        self.metrics.packet(name.unwrap_or_default(), code, PacketOutcome::Dropped(drop));
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packets) = drops.count(name, drop, self.started.elapsed()) {
            tracing::warn!(
                service = NAME,
                event = "packet_dropped",
                drop = drop.code(),
                client = name,
                client_ip = %path.peer.ip().to_canonical(),
                code = code.label(),
                packets,
                hint = drop.hint(),
            );
        }
    }

    /// R-10, beside the login.
    fn learn(self: &Arc<Self>, client: &Arc<Client>, lesson: Lesson, password_accepted: bool) {
        if client.has_to_learn() {
            let (settings, client) = (self.settings.clone(), client.clone());
            self.shutdown.spawn(async move { settings.learn(&client, lesson, password_accepted).await });
        }
    }
}

/// Once a second: ends what has had its time.
async fn keep_tidy(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        gateway.exchanges.expire();
        gateway.drops.lock().unwrap_or_else(PoisonError::into_inner).forget_old(gateway.started.elapsed());
        for attempt in gateway.challenges.expire(gateway.clock.now_ms()) {
            // Where there are other nodes, one of them may have had an answer and may have asked again.
            if gateway.nodes == Nodes::One {
                gateway.verifier.cancel(attempt.transaction, Reason::NoAnswer);
                let ended = attempt::Ended { reason: Reason::NoAnswer, allow: None, reply: "none", duplicates: 0 };
                attempt.end(&ended, &gateway.metrics);
            }
        }
    }
}

fn observe(metrics: &Metrics, health: &Health, observation: &Observation<'_>) {
    let name = observation.directory.as_str();
    let failed = !matches!(observation.outcome, Outcome::Ok | Outcome::Refused);
    metrics.directory(name, observation.elapsed, failed.then_some(observation.outcome));
    let upstream = health.upstream("directory", name);
    match failed {
        true => upstream.down(format!("{}: {}", observation.server, observation.outcome.code())),
        false => upstream.up(observation.elapsed),
    }
}
