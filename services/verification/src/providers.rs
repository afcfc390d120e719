//! The way to people's devices: who carries a text, a call, a prompt, a mail. Ordered, with fail-over (FN-07); what is late is
//! dropped, not sent.
//!
//! Decides nothing: what a person answered stands in the store, and is read there.

mod ask;
mod connect;
mod fail_over;
pub mod http;
pub mod mail;
mod metrics;
pub mod push;
pub mod sms;
pub mod twilio;
pub mod voice;
pub mod words;

use crate::settings::SettingsCopy;
use async_trait::async_trait;
use domain::settings::Channel;
use domain::{Language, PhoneNumber, Reason};
use proto::user_store::{Prompt, PushDevice, commit_server::Commit, outbox_server::Outbox};
use proto::verification::Step;
use service_kit::bus::Bus;
use service_kit::{Clock, Process};
use std::sync::Arc;
use tokio::time::Instant;

/// A text to one number.
pub struct Text<'a> {
    pub to: &'a PhoneNumber,
    pub text: String,
    /// It is worth nothing after this.
    pub expires_unix_ms: i64,
    pub user_id: &'a str,
    pub transaction_id: &'a str,
    /// An open prompt waits for the person's answer by text (FV-04).
    pub reply: bool,
}

/// Whom a call rings, and how it speaks.
pub struct Callee<'a> {
    pub to: &'a PhoneNumber,
    /// Dialled after somebody answered; empty = none.
    pub extension: &'a str,
    /// Called where nobody answers the first, if the settings say so (FV-14). Never where the call proves a number.
    pub backup: Option<BackupPhone<'a>>,
    pub language: &'a Language,
    /// PIN then #, instead of # alone.
    pub pin: bool,
    /// The PIN has to be changed: asked for when the old one was right (FV-21).
    pub new_pin: bool,
    /// The call proves that the number is the person's, and says so.
    pub activation: bool,
}

/// The user's other phone.
pub struct BackupPhone<'a> {
    pub to: &'a PhoneNumber,
    pub extension: &'a str,
}

/// A provider took it.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub provider: String,
}

/// Nobody took it.
#[derive(Debug, thiserror::Error)]
pub enum SendFailure {
    /// The settings name no provider of this channel.
    #[error("no provider is set")]
    NoProvider,
    /// Every provider was asked; what the last one said.
    #[error("{provider} did not take it")]
    Refused { provider: String, reason: Reason },
    /// Its time was over before anybody took it.
    #[error("it came too late to be sent")]
    TooLate,
    /// Rules forbid this number (V-18).
    #[error("the number may not be used: {why}")]
    NotAllowed { why: &'static str },
}

impl SendFailure {
    /// What it means for the login.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { reason, .. } => *reason,
            Self::NoProvider | Self::NotAllowed { .. } => Reason::Unreachable,
            Self::TooLate => Reason::NoAnswer,
        }
    }
}

/// The way to devices, as the methods use it. The real one is [`Providers`]; tests have one that misbehaves.
#[async_trait]
pub trait Carriers: Send + Sync {
    /// Hands a text to the first provider that takes it.
    async fn text(&self, text: Text<'_>) -> Result<Accepted, SendFailure>;
    /// Begins a call for an open prompt; what comes of it is resolved in the store.
    async fn call(&self, prompt: &Prompt, callee: Callee<'_>) -> Result<Accepted, SendFailure>;
    /// Ends the call of a prompt that was given up. Best effort: one that nobody picks up ends by itself.
    async fn hang_up(&self, prompt: &Prompt);
    /// Tells devices that a prompt is open. `Unreachable` where none can be told or polls.
    async fn push(&self, prompt: &Prompt, devices: &[PushDevice]) -> Result<Accepted, SendFailure>;
}

/// Nobody waits for an answer to it any more, and none was given.
pub fn is_given_up(prompt: &Prompt) -> bool {
    matches!(prompt.outcome.as_str(), "withdrawn" | "expired")
}

/// A message without a user, to see whether a provider works.
pub struct Trial<'a> {
    pub channel: Channel,
    /// Empty = as in a login: the first that takes it.
    pub provider: &'a str,
    /// A number in international form, or a mail address.
    pub to: &'a str,
    pub language: Language,
    pub until: Instant,
}

/// What came of it, step by step, for a person to read.
pub struct Tried {
    pub accepted: bool,
    pub provider: String,
    pub steps: Vec<Step>,
}

/// Notes the steps of a trial with their time since it began.
pub struct Steps {
    begun: Instant,
    steps: Vec<Step>,
}

impl Steps {
    pub fn begin() -> Self {
        Self { begun: Instant::now(), steps: Vec::new() }
    }

    /// No number, address or secret belongs here.
    pub fn note(&mut self, what: impl Into<String>) {
        let ms = self.begun.elapsed().as_millis().try_into().unwrap_or(u32::MAX);
        self.steps.push(Step { ms, what: what.into() });
    }

    pub fn accepted_by(self, provider: String) -> Tried {
        Tried { accepted: true, provider, steps: self.steps }
    }

    pub fn refused(self) -> Tried {
        Tried { accepted: false, provider: String::new(), steps: self.steps }
    }
}

/// What every carrier needs.
#[derive(Clone)]
pub struct Shared {
    pub settings: Arc<SettingsCopy>,
    pub commit: Arc<dyn Commit>,
    pub outbox: Arc<dyn Outbox>,
    pub bus: Arc<dyn Bus>,
    pub clock: Clock,
    pub randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
}

/// The real carriers, as the settings name them.
pub struct Providers {
    pub sms: sms::Sms,
    pub mail: mail::Mail,
    pub voice: voice::Voice,
    pub push: push::Push,
}

impl Providers {
    /// Starts their upkeep, and the mail that waits in the store, as tasks of the process.
    pub fn start(shared: &Shared, process: &Process) -> Arc<Self> {
        let letters = Arc::new(mail::smtp::Letters::new(shared, process));
        Arc::new(Self {
            sms: sms::Sms::start(shared.clone(), letters.clone(), process),
            mail: mail::Mail::start(shared.clone(), letters, process),
            voice: voice::Voice::start(shared.clone(), process),
            push: push::Push::start(shared.clone(), process),
        })
    }
}

impl Providers {
    /// Sends a test message over one channel.
    pub async fn test(&self, trial: &Trial<'_>) -> Tried {
        match trial.channel {
            Channel::Sms => self.sms.test(trial).await,
            Channel::Mail => self.mail.test(trial).await,
            Channel::Voice => self.voice.test(trial).await,
        }
    }
}

#[async_trait]
impl Carriers for Providers {
    async fn text(&self, text: Text<'_>) -> Result<Accepted, SendFailure> {
        self.sms.send(text).await
    }

    async fn call(&self, prompt: &Prompt, callee: Callee<'_>) -> Result<Accepted, SendFailure> {
        self.voice.call(prompt, callee).await
    }

    async fn hang_up(&self, prompt: &Prompt) {
        self.voice.hang_up(prompt).await;
    }

    async fn push(&self, prompt: &Prompt, devices: &[PushDevice]) -> Result<Accepted, SendFailure> {
        self.push.send(prompt, devices).await
    }
}
