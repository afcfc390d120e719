//! Asking providers one after the other until one takes a message (FN-07).
//!
//! ```text
//! order (fail_over) -> attempt, within its own time limit and the message's -> note, count, health -> accepted
//!                         ^-- refused, late or away: the next; all were asked and one was only busy: once more, a second later
//! ```

use super::fail_over::FailOver;
use super::metrics::Metrics;
use super::{Accepted, SendFailure, Shared, Steps};
use async_trait::async_trait;
use domain::Reason;
use domain::settings::{Channel, Provider};
use proto::user_store::NoteMessageRequest;
use service_kit::health::{Health, Upstream};
use service_kit::{Process, Shutdown};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Request;
use uuid::Uuid;

/// With less than this left a provider is not asked: it could not answer in time.
const LEFT_MIN: Duration = Duration::from_millis(100);
/// How long one that is busy gets before it is asked again, ...
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// ... and how often all are asked.
const ROUNDS_MAX: usize = 3;
/// The store notes a message; that must not hold up the person.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);

/// One provider did not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// What it said, in a few words: a status, never a number, address or text of a message.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It said no to this message, for good.
    Refused,
    /// It cannot now; a moment later it may.
    Busy,
    /// It could not be reached, or hung up.
    Unreachable,
    /// It did not answer in time; whether it took the message is not known.
    Late,
    /// The settings do not fit it. The administrator's to mend.
    Misconfigured,
}

impl Kind {
    pub fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// An HTTP status that is no success.
    pub fn of_status(status: u16) -> Self {
        match status {
            // It does not know us, wants money, or is elsewhere: about the settings and the account, not about the message.
            300..=399 | 401..=405 | 407 => Self::Misconfigured,
            429 | 500..=599 => Self::Busy,
            _ => Self::Refused,
        }
    }
}

impl Refusal {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// One message on its way, as a provider's adapter hands it over. The answer is what the provider calls it; empty = nothing.
#[async_trait]
pub trait Attempt: Send + Sync {
    async fn attempt(&self, provider: &Provider, id: &str, until: Instant) -> Result<String, Refusal>;
}

/// What came of asking one provider.
pub struct Asked<'a> {
    pub provider: &'a str,
    /// Ours, unique.
    pub message_id: String,
    pub took: Duration,
    /// What the provider calls it.
    pub answered: Result<&'a str, &'a Refusal>,
    pub noted: &'a Noted,
}

/// What the store notes about a message beside its provider.
#[derive(Clone, Default)]
pub struct Noted {
    pub user_id: String,
    pub transaction_id: String,
    /// Masked.
    pub destination: String,
}

/// The providers of one channel, as this node knows them.
pub struct Asking {
    channel: Channel,
    shared: Shared,
    memory: FailOver,
    metrics: Metrics,
    upstreams: Mutex<HashMap<String, Upstream>>,
    health: Health,
    shutdown: Shutdown,
}

impl Asking {
    pub fn new(channel: Channel, shared: Shared, process: &Process) -> Self {
        Self {
            channel,
            shared,
            memory: FailOver::default(),
            metrics: Metrics::new(),
            upstreams: Mutex::default(),
            health: process.health().clone(),
            shutdown: process.shutdown().clone(),
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How a provider fares that has a life of its own, such as a session.
    pub fn upstream(&self, name: &str) -> Upstream {
        let mut upstreams = self.upstreams.lock().expect("nobody panics while holding the upstreams");
        upstreams.entry(name.to_owned()).or_insert_with(|| self.health.upstream("provider", name)).clone()
    }

    /// Providers that left the settings leave the health page too.
    pub fn keep_only(&self, providers: &[Provider]) {
        let mut upstreams = self.upstreams.lock().expect("nobody panics while holding the upstreams");
        let gone: Vec<String> = upstreams
            .keys()
            .filter(|known| !providers.iter().any(|it| self.carries(it) && it.name.as_str() == *known))
            .cloned()
            .collect();
        for name in gone {
            if let Some(upstream) = upstreams.remove(&name) {
                upstream.forget();
            }
        }
    }

    fn carries(&self, provider: &Provider) -> bool {
        provider.enabled && provider.channel == self.channel
    }

    /// Those of its channel, as they are to be asked now. `only` names one; empty = all.
    pub fn in_order<'p>(&self, providers: &'p [Provider], only: &str) -> Vec<&'p Provider> {
        let wanted = |it: &&Provider| self.carries(it) && (only.is_empty() || it.name.as_str() == only);
        self.memory.order(providers.iter().filter(wanted).collect(), |it| it.name.as_str(), Instant::now())
    }

    /// Asks until one takes it. `only` names one provider; empty = as the settings order them.
    pub async fn ask(
        &self,
        providers: &[Provider],
        only: &str,
        until: Instant,
        noted: &Noted,
        steps: &mut Steps,
        attempt: &dyn Attempt,
    ) -> Result<Accepted, SendFailure> {
        if self.in_order(providers, only).is_empty() {
            steps.note("the settings name no such provider");
            return Err(SendFailure::NoProvider);
        }
        let mut refused_by = None;
        for round in 0..ROUNDS_MAX {
            let mut busy = false;
            for provider in self.in_order(providers, only) {
                if until.saturating_duration_since(Instant::now()) < LEFT_MIN {
                    return Err(self.too_late(refused_by, steps));
                }
                match self.one(provider, until, noted, steps, attempt).await {
                    Ok(accepted) => return Ok(accepted),
                    Err(kind) => {
                        busy |= kind == Kind::Busy;
                        refused_by = Some(provider.name.to_string());
                    }
                }
            }
            let again = Instant::now() + BUSY_PAUSE;
            if !busy || round + 1 == ROUNDS_MAX || again + LEFT_MIN > until {
                break;
            }
            tokio::time::sleep_until(again).await;
        }
        let provider = refused_by.unwrap_or_default();
        Err(SendFailure::Refused { provider, reason: Reason::ProviderError })
    }

    fn too_late(&self, refused_by: Option<String>, steps: &mut Steps) -> SendFailure {
        steps.note("no time is left");
        self.metrics.noted(self.channel, "too_late");
        match refused_by {
            Some(provider) => SendFailure::Refused { provider, reason: Reason::ProviderError },
            None => SendFailure::TooLate,
        }
    }

    async fn one(
        &self,
        provider: &Provider,
        until: Instant,
        noted: &Noted,
        steps: &mut Steps,
        attempt: &dyn Attempt,
    ) -> Result<Accepted, Kind> {
        let (name, id) = (provider.name.as_str(), Uuid::new_v4().simple().to_string());
        let begun = Instant::now();
        let limit = until.min(begun + Duration::from_secs(provider.timeout_seconds.clamp(1, 30).into()));
        let answered = tokio::time::timeout_at(limit, attempt.attempt(provider, &id, limit)).await;
        let answered = answered.unwrap_or_else(|_| Err(Refusal::new(Kind::Late, "no answer in time")));
        let asked = Asked {
            provider: name,
            message_id: id,
            took: begun.elapsed(),
            answered: answered.as_ref().map(String::as_str),
            noted,
        };
        match asked.answered {
            Ok(_) => steps.note(format!("{name} took it")),
            Err(refusal) => steps.note(format!("{name} did not take it: {}", refusal.detail)),
        }
        self.asked(asked).await;
        answered.map(|_| Accepted { provider: name.to_owned() }).map_err(|refusal| refusal.kind)
    }

    /// Counts it, remembers how the provider fares, and notes the message.
    pub async fn asked(&self, asked: Asked<'_>) {
        let Asked { provider: name, message_id, took, answered, noted } = asked;
        let channel = self.channel.code();
        let result = answered.map_or_else(|refusal| refusal.kind.code(), |_| "accepted");
        self.metrics.asked(self.channel, name, result, took);
        let (state, provider_id, detail) = match answered {
            Ok(provider_id) => {
                self.upstream(name).up(took);
                self.memory.worked(name);
                ("accepted", provider_id, "")
            }
            Err(refusal) => {
                let detail = refusal.detail.as_str();
                tracing::warn!(channel, provider = name, result, detail, "a provider did not take a message");
                if refusal.kind != Kind::Refused {
                    self.down(name, detail);
                }
                ("failed", "", detail)
            }
        };
        let note = NoteMessageRequest {
            message_id,
            channel: channel.into(),
            provider: name.into(),
            provider_id: provider_id.into(),
            user_id: noted.user_id.clone(),
            transaction_id: noted.transaction_id.clone(),
            destination: noted.destination.clone(),
            state: state.into(),
            detail: detail.into(),
            now_unix_ms: self.shared.clock.now_ms(),
        };
        self.note(note).await;
    }

    /// It does not do its work. What it refuses is about the message, and says that it does.
    fn down(&self, name: &str, detail: &str) {
        self.upstream(name).down(detail);
        if self.memory.failed(name, Instant::now()) {
            let channel = self.channel.code();
            tracing::warn!(channel, provider = name, "a provider fails again and again and is asked last for a while");
        }
    }

    /// In a task of its own: a caller that goes away takes the note with it otherwise, and the receipt finds nothing.
    async fn note(&self, note: NoteMessageRequest) {
        let commit = self.shared.commit.clone();
        let task = self.shutdown.spawn(async move {
            let request = service_kit::grpc::with_deadline(Request::new(note), NOTE_PATIENCE);
            match tokio::time::timeout(NOTE_PATIENCE, commit.note_message(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = error.message(), "a message could not be noted"),
                Err(_) => tracing::warn!(error = "no answer in time", "a message could not be noted"),
            }
        });
        let _ = task.await;
    }
}
