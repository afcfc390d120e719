//! The decision and the second factor: the only part that may say Allow.
//!
//! Owns no durable fact: what guards a decision is in the store, moved before an answer leaves; open challenges are in the
//! bus's map, so that any node takes any round. In the order of a request:
//!
//! ```text
//! rpc        what callers ask, parsed (attempt) and bounded in time (budget)
//! facts      what the store knows about the user
//! decide     policy::decide, with its span
//! login/     the plan carried out: begin, pursue, answer, finish
//! methods/   code: a try is counted, then compared; sent: a text; prompt: the phone is asked, and waited for (waiting)
//! providers  texts, calls, prompts, mail on their way to people; phone and callback: what comes back from there (webauthn: signed)
//! commit     Allow, or the reason why not: in the store before it leaves; outcome: what the caller hears
//! ```
//!
//! Beside them: `challenges` (open rounds), `unanswered` (what nobody goes on with), `enrolment` (a new token, a new number), `settings` and `keys` (this node's copy),
//! `clock_check` (is this node's time good enough?), `alarm` (a password that somebody may know), `metrics`.

mod alarm;
mod attempt;
mod budget;
mod callback;
mod challenges;
mod clock_check;
mod commit;
mod config;
mod decide;
mod enrolment;
mod facts;
mod handed;
mod keys;
mod login;
mod methods;
mod metrics;
mod number;
mod outcome;
mod phone;
mod providers;
mod reply_groups;
mod rpc;
mod sealed_key;
mod settings;
pub mod texts;
mod unanswered;
mod waiting;
mod webauthn;

pub use config::{Config, EndpointsSection};

// Tests inside of the crate share the support of those outside, which calls it by its name.
#[cfg(test)]
extern crate self as verification;
pub use providers::{Accepted, BackupPhone, Callee, Carriers, SendFailure, Text};
use providers::{Providers, Shared};

use challenges::Challenges;
use clock_check::ClockCheck;
use commit::Committer;
use facts::Store;
use handed::Handed;
use keys::DigestKeys;
use metrics::Metrics;
use proto::remote::Remote;
use proto::user_store::{
    commit_client::CommitClient, commit_server::Commit, facts_client::FactsClient, facts_server::Facts,
    outbox_client::OutboxClient, outbox_server::Outbox, settings_client::SettingsClient, settings_server::Settings,
};
use proto::verification::{
    callback_server::CallbackServer, enrolment_server::EnrolmentServer, phone_server::PhoneServer,
    verification_server::VerificationServer, waiting_calls_server::WaitingCallsServer,
};
use service_kit::{Clock, Process, Shutdown, bus::Bus, grpc};
use settings::SettingsCopy;
use std::sync::Arc;
use unanswered::Unanswered;
use waiting::Waiting;
use waiting_calls::Answerer;

/// The longest message a caller may send. An attempt is a few hundred octets.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What this part needs of others.
#[derive(Clone)]
pub struct Deps {
    pub settings: Arc<dyn Settings>,
    pub facts: Arc<dyn Facts>,
    pub commit: Arc<dyn Commit>,
    pub outbox: Arc<dyn Outbox>,
    pub bus: Arc<dyn Bus>,
    pub clock: Clock,
    /// Randomness fit for keys.
    pub randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
}

impl Deps {
    /// The store over mutual TLS and the bus of the configuration, for a process that holds this part alone.
    pub fn connect(config: &Config, process: &Process) -> anyhow::Result<Self> {
        let store =
            grpc::Channel::new(proto::permissions::part::USER_STORE, &config.endpoints.user_store, &config.grpc)?;
        Ok(Self {
            settings: Arc::new(Remote::new(SettingsClient::new(store.clone()))),
            facts: Arc::new(Remote::new(FactsClient::new(store.clone()))),
            commit: Arc::new(Remote::new(CommitClient::new(store.clone()))),
            outbox: Arc::new(Remote::new(OutboxClient::new(store))),
            bus: service_kit::bus::connect(&config.bus, process)?,
            clock: Clock::system(),
            randomness: getrandom::fill,
        })
    }
}

/// Serves over mutual TLS until the process drains.
pub async fn run(config: Config, deps: Deps, process: &Process) -> anyhow::Result<()> {
    let service = Arc::new(Service::start(deps, process));
    let waiting_calls = WaitingCallsServer::new(Answerer::new(service.clone(), process.shutdown().clone()));
    grpc::Server::new(proto::permissions::allowed)
        .add(VerificationServer::from_arc(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add(waiting_calls.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add(EnrolmentServer::from_arc(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add(PhoneServer::from_arc(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add(CallbackServer::from_arc(service).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve(&config.grpc, process)
        .await?;
    process.shutdown().draining().await;
    process.finish().await;
    Ok(())
}

/// The implementation of the generated `Verification` and `Enrolment` traits. Answers `UNAVAILABLE` until the store gave
/// it settings and keys.
pub struct Service {
    settings: Arc<SettingsCopy>,
    providers: Arc<Providers>,
    carriers: Arc<dyn Carriers>,
    store: Store,
    handed: Arc<Handed>,
    committer: Committer,
    outbox: Arc<dyn Outbox>,
    challenges: Arc<Challenges>,
    unanswered: Arc<Unanswered>,
    waiting: Arc<Waiting>,
    /// The ring "codes": digests of codes that were sent.
    code_keys: Arc<DigestKeys>,
    /// The ring "remembered".
    remember_keys: Arc<DigestKeys>,
    clock_check: Arc<ClockCheck>,
    phones: phone::Phones,
    metrics: Metrics,
    clock: Clock,
    shutdown: Shutdown,
    randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
}

impl Service {
    /// The way to people's devices, without a login around it.
    pub fn carriers(&self) -> &Arc<dyn Carriers> {
        &self.carriers
    }

    /// Starts the upkeep of the settings and keys, as tasks of the process.
    pub fn start(deps: Deps, process: &Process) -> Self {
        Self::start_with(deps, None, process)
    }

    /// The same with carriers of one's own in the place of the settings' providers.
    pub fn start_with(deps: Deps, carriers: Option<Arc<dyn Carriers>>, process: &Process) -> Self {
        let challenges = Arc::new(Challenges::new(deps.bus.as_ref()));
        let settings = Arc::new(SettingsCopy::default());
        let clock_check = Arc::new(ClockCheck::new(process.health().upstream("clock", "user-store")));
        let health = settings::Watched {
            ready: process.health().start_condition("verification settings"),
            store: process.health().upstream("store", "user-store"),
        };
        let shared = Shared {
            settings: settings.clone(),
            commit: deps.commit.clone(),
            outbox: deps.outbox.clone(),
            bus: deps.bus.clone(),
            clock: deps.clock.clone(),
            randomness: deps.randomness,
        };
        let providers = Providers::start(&shared, process);
        let phones = phone::Phones::new(deps.bus.clone(), deps.randomness, process.shutdown().clone());
        let kept = settings::Kept {
            copy: settings.clone(),
            challenges: challenges.clone(),
            code_keys: Arc::default(),
            remember_keys: Arc::default(),
            clock: deps.clock.clone(),
            clock_check: clock_check.clone(),
        };
        let (code_keys, remember_keys) = (kept.code_keys.clone(), kept.remember_keys.clone());
        let waiting = Arc::new(Waiting::default());
        let tasks = process.shutdown();
        tasks.spawn_until_stopping(settings::keep_current(deps.settings, deps.bus.clone(), kept, health));
        let awake = waiting::keep_awake(waiting.clone(), deps.commit.clone(), deps.bus, deps.randomness);
        tasks.spawn_until_stopping(awake);
        let handed = Arc::new(Handed::default());
        tasks.spawn_until_stopping(handed.clone().forget());
        let committer = Committer::new(deps.commit, deps.clock.clone());
        let carriers = carriers.unwrap_or_else(|| providers.clone());
        let unanswered = Unanswered::new(committer.clone(), challenges.clone(), carriers.clone(), tasks.clone());
        tasks.spawn_until_stopping(unanswered.clone().watch(deps.clock.clone()));
        Self {
            settings,
            carriers,
            providers,
            store: Store::new(deps.facts),
            handed,
            committer,
            outbox: deps.outbox,
            challenges,
            unanswered,
            waiting,
            code_keys,
            remember_keys,
            clock_check,
            phones,
            metrics: Metrics::new(),
            clock: deps.clock,
            shutdown: tasks.clone(),
            randomness: deps.randomness,
        }
    }
}
