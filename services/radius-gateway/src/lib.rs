//! The RADIUS front end: takes Access-Requests from VPNs, access points and hosts, has the password checked by the client's
//! directory and the second factor by verification, and answers; and sees to it that accounting is kept. Owns the conversations and
//! nothing durable.
//!
//! The files, in the order in which a request passes them:
//!
//! * [`listener`]: sockets, and connections by TLS with [`stream`]; is the packet genuine, and whose is it
//! * [`exchange`]: is it new, a copy, or the same in other words; one task for each
//! * [`credentials`]: what it brings
//! * [`login`]: the order of the two locks, with [`target`] for the first and [`verify`] for the second
//! * [`home`]: RADIUS servers as targets, [`relay`]: what passes through to them, [`affinity`]: what their next round needs
//! * [`windows`]: the Windows domain as a target, by [`winbind`]
//! * [`reply`]: the answer in octets, [`attributes`] and [`reply_rules`]: what it grants, [`question`]: its words
//!
//! An Accounting-Request goes from [`exchange`] to [`accounting`]. Beside them: [`settings`] and [`keys`] as the store has them,
//! [`attempt`] for the log line, [`person_address`], [`challenges`], [`observed`] for what is seen of each client, [`metrics`].

mod accounting;
mod affinity;
mod attempt;
mod attributes;
mod challenges;
pub mod config;
mod credentials;
mod exchange;
mod home;
mod keys;
mod listener;
mod login;
mod metrics;
mod observed;
mod person_address;
mod question;
mod relay;
mod reply;
mod reply_rules;
mod settings;
mod stream;
mod target;
mod verify;
mod winbind;
mod windows;

pub use config::{BadRadiusSection, Config, RadiusSection};
pub use listener::{Addresses, ListenError};

use affinity::Affinity;
use anyhow::Context;
use challenges::Challenges;
use directory::{Directories, Observation, Options, Outcome, WrongPasswords};
use domain::{ObjectName, Reason};
use exchange::{Repeat, SharedRequests, Table};
use fail_open::Presence;
use keys::Keys;
use listener::{Drop, DropLog, Path, Ports, Seats};
use lockout_guard::LockoutGuard;
use login_queue::Queue;
use metrics::{Metrics, PacketCode, PacketOutcome};
use observed::Observed;
use proto::user_store::ReportClientsRequest;
use proto::user_store::fail_open_server::FailOpen as FailOpenPort;
use proto::user_store::password_tries_server::PasswordTries;
use proto::user_store::radius_server::Radius as RadiusStore;
use proto::user_store::settings_server::Settings;
use proto::verification::verification_server::Verification;
use radius_wire::{AttributeType, DropReason, Lesson, LoopTag, Packet};
use service_kit::budget::Budget;
use service_kit::bus::Bus;
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::Health;
use service_kit::tls::check_revocation_lists;
use service_kit::{Clock, Process, Shutdown};
use settings::{Client, CurrentSettings};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Where passwords are counted before a directory is asked that locks accounts (L-56).
    pub password_tries: Arc<dyn PasswordTries>,
    /// Where accounting is kept that nobody else takes (FR-19), and where it tells what it sees of its clients.
    pub store: Arc<dyn RadiusStore>,
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

/// A running gateway. Its tasks belong to the process and end with it.
pub struct Running {
    ports: Arc<Ports>,
}

/// How long the start waits for the store to say whether there is a client.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Opens the ports, if there is a client and they are switched on: one that is taken stops the start then. They are closed while there is none (FR-01).
pub async fn start(config: RadiusSection, deps: Deps, process: &Process) -> anyhow::Result<Running> {
    config.check()?;
    if let Some(lists) = &config.radsec_server_crl_file {
        check_revocation_lists(lists).context("radius.radsec_server_crl_file cannot be used")?;
    }
    let ports = Arc::new(Ports::new(&config)?);
    let from_store = process.health().start_condition("radius settings and keys");
    let listening = process.health().condition("radius listener");
    let mut assembling = Box::pin(assemble(config, deps, process.clone()));
    // FR-02. A store that is not there yet says later whether anybody may come.
    let assembled = tokio::time::timeout(FIRST_LOOK, &mut assembling).await.ok();
    let mut open = None;
    if let Some(gateway) = assembled.as_ref().filter(|gateway| *gateway.settings.has_clients().borrow()) {
        open = Some(ports.open(gateway)?);
    }
    process.shutdown().spawn_until_stopping({
        let ports = ports.clone();
        async move {
            let gateway = match assembled {
                Some(gateway) => gateway,
                None => assembling.await,
            };
            from_store.set_ready(true);
            ports.watch_certificates(&gateway);
            let has_clients = gateway.settings.has_clients();
            let opens = || ports.open(&gateway);
            service_kit::ports::while_wanted(has_clients, |wanted| *wanted, open, opens, listening).await;
        }
    });
    Ok(Running { ports })
}

impl Running {
    pub fn addresses(&self) -> Addresses {
        self.ports.addresses()
    }
}

/// Serves until the process drains; what is in work ends under the process's shutdown.
pub async fn run(config: RadiusSection, deps: Deps, process: &Process) -> anyhow::Result<()> {
    let _running = start(config, deps, process).await?;
    process.shutdown().draining().await;
    Ok(())
}

/// Waits for the store.
async fn assemble(config: RadiusSection, deps: Deps, process: Process) -> Arc<Gateway> {
    let metrics = Arc::new(Metrics::new());
    let directories = Directories::new(Options {
        observer: Some({
            let (metrics, health) = (metrics.clone(), process.health().clone());
            Arc::new(move |observation: &Observation<'_>| observe(&metrics, &health, observation))
        }),
        ..Options::default()
    });
    let settings = CurrentSettings::fetched(
        deps.settings.clone(),
        directories,
        config.ntlm_auth.clone(),
        config.our_side(),
        metrics.clone(),
        process.health().clone(),
    )
    .await;
    settings.follow(deps.bus.clone(), &process);
    let keys = Keys::fetched(deps.settings).await;
    keys.refresh(&process);
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
        queue: Queue::default(),
        seats: Arc::default(),
        budget: Mutex::new(Budget::new(config.packets_per_second_max.get())),
        drops: Mutex::default(),
        observed: Mutex::default(),
        challenges: Challenges::default(),
        affinity: Affinity::new(deps.bus.as_ref(), keys.clone(), deps.clock.clone()),
        wrong_passwords: WrongPasswords::new(random()),
        lockout_guard: LockoutGuard::new(deps.password_tries, process.shutdown().clone()),
        shutdown: process.shutdown().clone(),
        clock: deps.clock,
        config,
        settings,
        keys,
        verifier,
        fail_open,
        store: deps.store,
        requests,
        metrics,
    });
    process.shutdown().spawn_background(stop_work(gateway.clone()));
    process.shutdown().spawn_until_stopping(keep_tidy(gateway.clone()));
    process.shutdown().spawn_until_stopping(hear_other_nodes(gateway.clone()));
    process.shutdown().spawn_until_stopping(report_clients(gateway.clone()));
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
    store: Arc<dyn RadiusStore>,
    exchanges: Table,
    /// Logins of each client that wait for their turn (T-10).
    queue: Queue<ObjectName>,
    /// Absent where this node is alone.
    requests: Option<SharedRequests>,
    challenges: Challenges,
    affinity: Affinity,
    wrong_passwords: WrongPasswords,
    lockout_guard: LockoutGuard,
    budget: Mutex<Budget>,
    seats: Arc<Seats>,
    drops: Mutex<DropLog>,
    observed: Mutex<Observed>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    clock: Clock,
}

impl Gateway {
    /// The Proxy-State of a request of ours to a home server.
    fn loop_mark(&self) -> [u8; LoopTag::OCTETS] {
        self.keys.loop_tag().mark(random())
    }

    /// Whether a request has been here before (B-33).
    fn has_sent(&self, packet: &Packet<'_>) -> bool {
        packet.has(AttributeType::PROXY_STATE) && self.keys.loop_tag().is_on(packet)
    }

    fn now_unix_seconds(&self) -> u64 {
        u64::try_from(self.clock.now_ms() / 1000).unwrap_or_default()
    }

    /// A1 step 3.
    fn within_budget(&self, source: IpAddr) -> bool {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(source, self.started.elapsed())
    }

    /// Whether a login of this client could be decided here, as far as is known and as far as the client wants to know. Silent
    /// before anything else when the process leaves.
    fn is_serving(&self, client: &Client) -> bool {
        let lets_in = || self.fail_open.applies_to(&client.settings).is_ok();
        let decides = || !client.settings.status_reflects_health || self.verifier.is_reachable() || lets_in();
        !self.shutdown.is_leaving() && decides()
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// the client has repeated itself.
    fn note_repeat(&self, client: &Client, repeat: Repeat) {
        self.metrics.retry_interval(client.name(), repeat.gap);
        self.observed().repeats(client.name(), repeat.gap, repeat.waited, self.started.elapsed());
    }

    /// A packet that gets no answer: counted each time, logged now and then.
    fn drop_packet(&self, client: Option<&Client>, octets: &[u8], path: &Path, drop: Drop) {
        let (name, code) = (client.map(Client::name), PacketCode::of(octets));
        self.metrics.packet(name.unwrap_or_default(), code, PacketOutcome::Dropped(drop));
        if let Some(name) = name {
            self.observed().dropped(name, drop.code(), drop == Drop::Packet(DropReason::Blast), self.started.elapsed());
        }
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

/// what is still in work then is refused.
async fn stop_work(gateway: Arc<Gateway>) {
    gateway.shutdown.stopping().await;
    gateway.exchanges.stop();
}

async fn hear_other_nodes(gateway: Arc<Gateway>) {
    if let Some(shared) = &gateway.requests {
        shared.listen().await;
    }
}

/// Once a second: ends what has had its time.
async fn keep_tidy(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        gateway.exchanges.expire();
        gateway.queue.expire(Instant::now());
        gateway.drops.lock().unwrap_or_else(PoisonError::into_inner).forget_old(gateway.started.elapsed());
        for (attempt, step) in gateway.challenges.expire(gateway.clock.now_ms()) {
            tell_of_silence(&gateway, attempt, step);
        }
    }
}

/// Nobody has answered what this node asked. Another node may have had an answer and may have asked again: verification knows, and
/// ends exactly this question, once. Whoever ended it tells.
fn tell_of_silence(gateway: &Arc<Gateway>, attempt: attempt::Attempt, step: u16) {
    let gateway_of_task = gateway.clone();
    gateway.shutdown.spawn(async move {
        let gateway = gateway_of_task;
        let ended = gateway.verifier.end_question(attempt.transaction, step, Reason::NoAnswer).await;
        if ended || gateway.nodes == Nodes::One {
            let ended = attempt::Ended { reason: Reason::NoAnswer, allow: None, reply: "none", duplicates: 0 };
            attempt.end(&ended, &gateway.metrics);
        }
    });
}

/// Every half minute: tells the store what was seen of the clients and of the home servers, if anything is new.
async fn report_clients(gateway: Arc<Gateway>) {
    const EVERY: Duration = Duration::from_secs(30);
    const LIMIT: Duration = Duration::from_secs(5);
    /// The store takes what it was told of a server for older than it is soon after.
    const SERVERS_AGAIN: Duration = Duration::from_secs(600);
    let node = node();
    let (mut servers_told, mut told_at) = (Vec::new(), tokio::time::Instant::now());
    loop {
        tokio::time::sleep(EVERY).await;
        let home_servers = gateway.settings.home_servers();
        let again = !home_servers.is_empty() && told_at.elapsed() > SERVERS_AGAIN;
        if home_servers != servers_told || again {
            gateway.observed().not_told();
        }
        gateway.observed().keep(gateway.settings.current().client_names());
        let Some(clients) = gateway.observed().take_changed(gateway.started.elapsed()) else { continue };
        let request = ReportClientsRequest { node: node.clone(), clients, home_servers: home_servers.clone() };
        let call = gateway.store.report_clients(with_deadline(idempotent(request), LIMIT));
        match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(_)) => (servers_told, told_at) = (home_servers, tokio::time::Instant::now()),
            _ => {
                gateway.observed().not_told();
                tracing::debug!(service = NAME, "what was seen of the clients could not be told yet");
            }
        }
    }
}

fn random<const OCTETS: usize>() -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    getrandom::fill(&mut octets).expect("the kernel gives random octets");
    octets
}

/// Who we are, for people who look: the host (in Kubernetes the pod), and the process, of which a host may have several.
fn node() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(64).collect();
    format!("{}-{}", if host.is_empty() { "host" } else { host.as_str() }, std::process::id())
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
