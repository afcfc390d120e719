//! LDAP in front of the organisation's directory, with a second lock behind the first.
//!
//! Clients keep speaking LDAP as they did. A bind becomes one immutable directory id, one bind with the resolved DN, and one
//! decision of verification; only a decisive Allow opens the connection for what the client wants to do, as the person it is.
//! Everything after that passes through as it came. Owns nothing durable.
//!
//! A connection passes through the files in this order:
//!
//! * [`listener`]: sockets, who may connect, limits, TLS
//! * [`connection`]: drives the core of ldap-wire; reads, writes, clocks, drain
//! * [`bind`]: one attempt, name to decision: who is it, where does the password end, one bind
//! * [`verify`]: the port to verification; the only place where an Allow comes into being
//! * [`forward`]: the upstream connection and the gate in front of it
//! * [`reply`]: how a bind that fails is answered
//!
//! Beside them: [`certificate`] (TLS, and who shows what), [`attempt`] (one log line and one report for each), [`pace`] (time tells nothing), [`bound`] (who is bound, and may not be any more), [`duplex`] (a stream of
//! messages with bounded buffers), [`limits`], [`settings`], [`keys`], [`metrics`]; [`password_check`] and [`directories`] (the gRPC
//! services of this part).

mod attempt;
mod bind;
mod bound;
mod certificate;
mod config;
mod connection;
mod directories;
mod duplex;
mod forward;
mod keys;
mod limits;
mod listener;
mod metrics;
mod pace;
mod password_check;
mod reply;
mod settings;
mod verify;

pub use config::{BadLdapSection, Config, EndpointsSection, LdapSection};
pub use directories::DirectoryQuestions;
pub use listener::ListenError;
pub use password_check::PasswordChecks;

use bound::Bound;
use certificate::Tls;
use config::Timeouts;
use directory::{Observation, Operation, Outcome, WrongPasswords};
use fail_open::Presence;
use ipnet::IpNet;
use keys::PasswordKey;
use limits::Limits;
use listener::{Listener, Refusals, Turnstile};
use lockout_guard::LockoutGuard;
use metrics::Metrics;
use pace::Paces;
use proto::directory::directories_server::DirectoriesServer;
use proto::directory::password_check_server::PasswordCheckServer;
use proto::permissions::part;
use proto::remote::Remote;
use proto::user_store::fail_open_client::FailOpenClient;
use proto::user_store::fail_open_server::FailOpen as FailOpenPort;
use proto::user_store::password_tries_client::PasswordTriesClient;
use proto::user_store::password_tries_server::PasswordTries;
use proto::user_store::settings_client::SettingsClient;
use proto::user_store::settings_server::Settings;
use proto::user_store::standing_client::StandingClient;
use proto::user_store::standing_server::Standing;
use proto::verification::verification_server::Verification;
use service_kit::budget::Budget;
use service_kit::bus::{self, Bus};
use service_kit::net::one_source;
use service_kit::{Clock, Process, Shutdown, grpc, ports};
use settings::{SettingsCopy, Snapshot};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use verify::Verifier;
use waiting_calls::Caller;

/// What this part needs of the others.
pub struct Deps {
    pub verification: Arc<dyn Verification>,
    pub settings: Arc<dyn Settings>,
    /// Where a login is told that was let in while verification was down (V-40).
    pub fail_open: Arc<dyn FailOpenPort>,
    /// Where passwords are counted before a directory is asked that locks accounts (L-56).
    pub password_tries: Arc<dyn PasswordTries>,
    /// Who is asked whether somebody who is bound may still be (S-22).
    pub standing: Arc<dyn Standing>,
    pub bus: Arc<dyn Bus>,
    pub clock: Clock,
}

impl Deps {
    /// The other parts over mutual TLS, as the configuration of the distributed product names them.
    pub fn connect(config: &Config, process: &Process) -> anyhow::Result<Self> {
        let endpoints = &config.endpoints;
        let verification = grpc::Channel::new(part::VERIFICATION, &endpoints.verification, &config.grpc)?;
        let user_store = grpc::Channel::new(part::USER_STORE, &endpoints.user_store, &config.grpc)?;
        Ok(Self {
            verification: Arc::new(Caller::new(verification)),
            settings: Arc::new(Remote::new(SettingsClient::new(user_store.clone()))),
            fail_open: Arc::new(Remote::new(FailOpenClient::new(user_store.clone()))),
            password_tries: Arc::new(Remote::new(PasswordTriesClient::new(user_store.clone()))),
            standing: Arc::new(Remote::new(StandingClient::new(user_store))),
            bus: bus::connect(&config.bus, process)?,
            clock: Clock::system(),
        })
    }
}

/// The whole part as a program of its own: the gateway, and its gRPC services. Returns when the process drains.
pub async fn run(config: Config, deps: Deps, process: &Process) -> anyhow::Result<()> {
    let gateway = Gateway::start(&config.ldap, deps, process).await?;
    let password_check = PasswordCheckServer::from_arc(gateway.password_check());
    let directories = DirectoriesServer::from_arc(gateway.directories());
    let server = grpc::Server::new(proto::permissions::allowed).add(password_check).add(directories);
    server.serve(&config.grpc, process).await?;
    process.shutdown().draining().await;
    Ok(())
}

/// A running gateway. Its tasks belong to the process and end with it.
pub struct Gateway {
    shared: Arc<Shared>,
    ports: Arc<Ports>,
}

/// What the configuration says, and what is open of it.
struct Ports {
    listen: Vec<SocketAddr>,
    tls_listen: Vec<SocketAddr>,
    open: Mutex<OpenPorts>,
}

#[derive(Clone, Default)]
struct OpenPorts {
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
}

impl Ports {
    fn new(section: &LdapSection) -> Self {
        Self { listen: section.listen.clone(), tls_listen: section.tls_listen(), open: Mutex::default() }
    }

    /// All or none.
    fn open(&self, shared: &Arc<Shared>) -> Result<ports::Open, ListenError> {
        let plain = Listener::bind("listen", &self.listen, false)?;
        let tls = Listener::bind("tls_listen", &self.tls_listen, true)?;
        let addresses = |listeners: &[Listener]| listeners.iter().filter_map(Listener::address).collect();
        *self.opened() = OpenPorts { addresses: addresses(&plain), tls_addresses: addresses(&tls) };
        Ok(plain.into_iter().chain(tls).map(|listener| listener.accept(Arc::clone(shared))).collect())
    }

    fn opened(&self) -> MutexGuard<'_, OpenPorts> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Opens the ports, if there is a client and they are switched on: one that is taken stops the start then. They are closed while there is none (FL-01).
    pub async fn start(section: &LdapSection, deps: Deps, process: &Process) -> anyhow::Result<Self> {
        section.check()?;
        let metrics = Metrics::new(&opentelemetry::global::meter("twinlock"));
        let tls = Tls::load(section)?;
        if let Some(tls) = &tls {
            tls.watch(process.shutdown());
        }
        let directory_options =
            directory::Options { observer: Some(observer(metrics.clone())), ..directory::Options::default() };
        let passwords = Arc::new(PasswordKey::default());
        drop(process.shutdown().spawn_until_stopping(Arc::clone(&passwords).keep_current(Arc::clone(&deps.settings))));
        let settings = SettingsCopy::new(deps.settings, tls.is_some(), directory_options, metrics.clone());
        let bound = Arc::new(Bound::default());
        let wakes = {
            let settings = Arc::clone(&settings);
            move || settings.look_again()
        };
        let watch = Arc::clone(&bound).watch(deps.standing, Arc::clone(&deps.bus), wakes);
        drop(process.shutdown().spawn_until_stopping(watch));
        let presence = Presence::new();
        let fail_open = fail_open::FailOpen::start(
            part::LDAP_GATEWAY,
            section.spool_dir.as_deref(),
            Arc::clone(&presence),
            deps.fail_open,
            deps.clock.clone(),
            process.shutdown(),
        );
        let verifier = Verifier::new(deps.verification, deps.clock, process.health(), presence);
        verifier.watch(process.shutdown(), {
            let settings = Arc::clone(&settings);
            move || settings.current().first_client().map(|client| client.name().to_owned())
        });
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let shared = Arc::new(Shared {
            verifier,
            fail_open,
            passwords,
            settings: Arc::clone(&settings),
            bound,
            metrics,
            limits: Limits::new(
                section.connections_max,
                section.connections_per_client_max,
                section.connections_per_source_max,
            ),
            refusals: Refusals::new(),
            started: Instant::now(),
            binds: Mutex::new(Budget::new(section.binds_per_second_max)),
            paces: Paces::new(Duration::from_millis(section.refusal_ms_min.into())),
            wrong: WrongPasswords::new(key),
            lockout_guard: LockoutGuard::new(deps.password_tries, process.shutdown().clone()),
            reports: Arc::new(Semaphore::new(REPORTS_MAX)),
            timeouts: section.timeouts(),
            turnstile: Turnstile::new(section.accepts_per_second_max),
            balancers: section.proxy_protocol_from.clone(),
            tls,
            shutdown: process.shutdown().clone(),
        });
        let gateway = Self { ports: Arc::new(Ports::new(section)), shared };
        // FL-02. A store that is not there yet says later whether anybody may come.
        let settings_are_there = matches!(tokio::time::timeout(FIRST_LOOK, settings.refresh()).await, Ok(true));
        let wanted = settings_are_there && settings.current().has_clients();
        let open = wanted.then(|| gateway.ports.open(&gateway.shared)).transpose()?;
        gateway.serve(open, deps.bus, process);
        Ok(gateway)
    }

    fn serve(&self, open: Option<ports::Open>, bus: Arc<dyn Bus>, process: &Process) {
        let shutdown = process.shutdown();
        let started = process.health().start_condition("settings");
        let ready = process.health().condition("ldap listener");
        let (shared, ports) = (Arc::clone(&self.shared), Arc::clone(&self.ports));
        // Thousands of connections listen for one thing instead of three.
        drop(shutdown.spawn_background({
            let shared = Arc::clone(&self.shared);
            async move {
                shared.shutdown.draining().await;
                shared.settings.look_again();
                shared.shutdown.stopping().await;
                shared.settings.look_again();
            }
        }));
        let health = process.health().clone();
        drop(shutdown.spawn_until_stopping(async move {
            let settings = Arc::clone(&shared.settings);
            while !settings.refresh().await {
                tokio::time::sleep(SETTINGS_RETRY).await;
            }
            started.set_ready(true);
            let opens = {
                let shared = Arc::clone(&shared);
                move || ports.open(&shared)
            };
            let wanted = |settings: &Arc<Snapshot>| settings.has_clients();
            let ports = ports::while_wanted(settings.changes(), wanted, open, opens, ready);
            drop(shared.shutdown.spawn_until_stopping(ports));
            let directories = Arc::clone(&settings).watch_directories(health);
            drop(shared.shutdown.spawn_until_stopping(directories));
            settings.keep_current(bus).await;
        }));
    }

    /// A gRPC service of this part; in one process it is called directly.
    pub fn password_check(&self) -> Arc<PasswordChecks> {
        Arc::new(PasswordChecks::new(Arc::clone(&self.shared.settings), self.shared.lockout_guard.clone()))
    }

    /// A gRPC service of this part; in one process it is called directly.
    pub fn directories(&self) -> Arc<DirectoryQuestions> {
        Arc::new(DirectoryQuestions::new(Arc::clone(&self.shared.settings), self.shared.lockout_guard.clone()))
    }

    /// Where LDAP is spoken, or was last, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.opened().addresses.clone()
    }

    /// Where LDAPS is spoken, or was last, in the order of the configuration.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.ports.opened().tls_addresses.clone()
    }
}

const SETTINGS_RETRY: Duration = Duration::from_millis(250);
/// How long the start waits for the store to say whether there is a client.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Attempts that wait to be reported for the audit; more are said in the log only.
const REPORTS_MAX: usize = 512;

/// What all connections share.
pub(crate) struct Shared {
    pub settings: Arc<SettingsCopy>,
    pub bound: Arc<Bound>,
    pub verifier: Verifier,
    pub fail_open: Arc<fail_open::FailOpen>,
    pub passwords: Arc<PasswordKey>,
    pub metrics: Metrics,
    pub limits: Arc<Limits>,
    pub refusals: Refusals,
    started: Instant,
    binds: Mutex<Budget>,
    pub paces: Paces,
    pub wrong: WrongPasswords,
    pub lockout_guard: LockoutGuard,
    pub reports: Arc<Semaphore>,
    pub timeouts: Timeouts,
    pub turnstile: Turnstile,
    pub balancers: Vec<IpNet>,
    pub tls: Option<Tls>,
    pub shutdown: Shutdown,
}

impl Shared {
    /// May this address, in IPv6 its /64, bind once more now (B5)?
    pub fn may_bind(&self, source: IpAddr) -> bool {
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).take(one_source(source), self.started.elapsed())
    }
}

/// Binds on connections of our own are measured where they are made.
fn observer(metrics: Metrics) -> directory::Observer {
    Arc::new(move |observation: &Observation<'_>| {
        let directory = observation.directory.as_str();
        match observation.outcome {
            Outcome::Ok | Outcome::Refused if observation.operation != Operation::Connect => {
                metrics.upstream_answered(directory, observation.elapsed);
            }
            Outcome::Ok | Outcome::Refused => {}
            failed => metrics.upstream_failed(directory, failed.code()),
        }
    })
}
