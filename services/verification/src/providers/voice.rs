//! Phone calls: by a TwiML provider or an Asterisk of one's own (FV-02, V-19).
//!
//! ```text
//! call -> state into the prompt's record -> the first provider that takes it -> twiml: it asks us, on any node (answer)
//!                                                                            -> ari: this node drives it
//!         flow          what an event comes to, without a line or a store
//!         conversation  the same in the store, each step once
//!         words         what is said
//! ```
//!
//! A call that nobody could take, or that nobody answered, leaves the prompt as the record says; nothing here lets anybody in.

mod ari;
pub mod client;
mod conversation;
mod flow;
pub mod twiml;
mod words;

use super::fail_over::FailOver;
use super::http::TrustError;
use super::metrics::Metrics;
use super::{Accepted, SendFailure, Shared, Steps, Trial, Tried};
use crate::budget::Budget;
use crate::callback::Called;
use crate::number;
use crate::settings::Known;
use client::Clients;
use conversation::{About, Conversation, Kept, Turn};
use domain::settings::{Adapter, Channel, Provider};
use domain::{Reason, Secret};
use flow::{Call, Line};
use proto::user_store::{NoteMessageRequest, Prompt};
use proto::verification::CallbackReply;
use service_kit::health::{Health, Upstream};
use service_kit::{Process, Shutdown};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Status};
use twiml::address::What;

/// No provider is asked when so little is left.
const LEAST: Duration = Duration::from_millis(100);
/// For all providers together: a person waits.
const DIAL_PATIENCE: Duration = Duration::from_secs(20);

/// What carries calls.
#[derive(Clone)]
pub struct Voice {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    conversation: Conversation,
    clients: Clients,
    memory: FailOver,
    metrics: Metrics,
    shutdown: Shutdown,
    health: Health,
    /// By provider: how it fares, for the health page.
    upstreams: Mutex<HashMap<String, Upstream>>,
}

/// One try to ring one line by one provider.
pub struct Order<'a> {
    known: &'a Arc<Known>,
    provider: &'a Provider,
    /// Empty for a test call.
    prompt_id: String,
    attempt: u32,
    line: &'a Line,
    ring_seconds: u32,
    timeout: Duration,
}

impl Order<'_> {
    fn secret(&self, field: &str) -> Option<&Secret> {
        let name = format!("provider.{}.{field}", self.provider.name);
        self.known.secrets.get(&name).filter(|secret| !secret.is_empty())
    }
}

/// A provider did not take a call.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The administrator's to mend.
    #[error("it is not set up: {0}")]
    Settings(&'static str),
    #[error("it cannot be trusted")]
    Trust(#[source] TrustError),
    /// Nobody answered, or not in time. The next provider may be asked.
    #[error("it could not be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("its events could not be heard: {0}")]
    Events(&'static str),
    #[error("no answer in time")]
    TooSlow,
    #[error("it answered with HTTP status {status}")]
    Refused { status: u16 },
    #[error("its answer makes no sense")]
    Nonsense,
}

impl DialError {
    /// As metrics call it.
    fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Trust(_) => "misconfigured",
            Self::Unreachable(_) | Self::Events(_) => "unreachable",
            Self::TooSlow => "late",
            Self::Refused { .. } | Self::Nonsense => "refused",
        }
    }
}

impl Voice {
    pub fn start(shared: Shared, process: &Process) -> Self {
        Self {
            inner: Arc::new(Inner {
                conversation: Conversation::new(shared.clone()),
                shared,
                clients: Clients::default(),
                memory: FailOver::default(),
                metrics: Metrics::new(),
                shutdown: process.shutdown().clone(),
                health: process.health().clone(),
                upstreams: Mutex::default(),
            }),
        }
    }

    /// Rings for an open prompt. Called again for the same prompt, it rings nobody a second time.
    pub async fn call(&self, prompt: &Prompt, callee: super::Callee<'_>) -> Result<Accepted, SendFailure> {
        let known = self.inner.shared.settings.known().map_err(|_| unavailable())?;
        if let Some(begun) = Call::read(&prompt.state_json).filter(|call| call.attempt > 0) {
            return Ok(Accepted { provider: begun.provider });
        }
        let callee = self.inner.allowed(&known, callee)?;
        let call = Call::new(&callee, known.settings.voice.backup_phone);
        let left = prompt.expires_unix_ms.saturating_sub(self.inner.shared.clock.now_ms());
        let patience = Duration::from_millis(left.max(0).unsigned_abs()).min(DIAL_PATIENCE);
        self.inner.dial(&known, prompt.clone(), call, Instant::now() + patience).await
    }

    /// A call that says that calls work.
    pub async fn test(&self, trial: &Trial<'_>) -> Tried {
        let mut steps = Steps::begin();
        let Ok(known) = self.inner.shared.settings.known() else {
            steps.note("the settings are not here yet");
            return steps.refused();
        };
        let number = match number::dialable(trial.to, &known.settings.verification.country) {
            Ok(number) => number,
            Err(why) => {
                steps.note(why.to_string());
                return steps.refused();
            }
        };
        if let Err(why) = number::allowed(&number, &known.settings) {
            steps.note(format!("the number may not be used: {why}"));
            return steps.refused();
        }
        let line = Line { number, extension: String::new() };
        let named = |provider: &&Provider| trial.provider.is_empty() || provider.name.as_str() == trial.provider;
        for provider in voice_providers(&known).filter(named) {
            let name = provider.name.as_str();
            let order = Order {
                known: &known,
                provider,
                prompt_id: String::new(),
                attempt: 0,
                line: &line,
                ring_seconds: known.settings.voice.ring_seconds,
                timeout: timeout(provider, trial.until),
            };
            match self.inner.ring(&order, ari::Talk::Test { language: trial.language.clone() }).await {
                Ok(call_id) => {
                    steps.note(format!("{name} took the call and calls it {call_id}"));
                    return steps.accepted_by(name.to_owned());
                }
                Err(error) => steps.note(format!("{name} did not take the call: {}", service_kit::chain(&error))),
            }
        }
        steps.note("no provider of calls took it");
        steps.refused()
    }

    /// What a TwiML provider asks. `None`: it is not signed, or about nothing of ours (V-18).
    pub async fn answer(&self, called: &Called<'_>) -> Result<Option<CallbackReply>, Status> {
        let Called { known, provider, request, budget } = *called;
        let Adapter::Twiml { account, .. } = &provider.adapter else { return Ok(None) };
        let url = format!("{}/callback/{}/{}", known.portal_url, provider.name, request.path);
        let (Some(address), Some(form), Some(secret), Some(signature)) = (
            twiml::address::read(&request.path),
            client::read_form(&request.body),
            called.signing_secret(),
            called.header("x-twilio-signature"),
        ) else {
            return Ok(None);
        };
        // The address is part of what is signed, and it is the one we gave.
        let ours = request.method == "POST" && request.url == url;
        if !ours || !twiml::signature::is_right(secret, &url, &form, signature) {
            return Ok(None);
        }
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if field("CallSid").is_empty() || field("AccountSid") != account {
            return Ok(None);
        }
        let about = About {
            prompt_id: address.prompt_id,
            provider: provider.name.as_str(),
            attempt: address.attempt,
            call_id: field("CallSid"),
            step: address.step,
        };
        let event = twiml::event(address.what, &form);
        let Some(turn) = self.inner.conversation.take(about, event, budget).await? else { return Ok(None) };
        let (call, application) = (&turn.call, &turn.prompt.application);
        let reply = match address.what {
            What::Status => crate::callback::heard(),
            _ => {
                let document =
                    twiml::document::of_call(known, address.prompt_id, application, call, &turn.speech, &url);
                CallbackReply { status: 200, content_type: "text/xml".into(), body: document.into_bytes() }
            }
        };
        if let Some(ending) = turn.ring_backup {
            Inner::ring_backup_later(&self.inner, known, turn, ending);
        }
        Ok(Some(reply))
    }
}

impl Inner {
    /// Numbers that may be called at all (V-18); a backup phone that may not is none.
    fn allowed<'c>(&self, known: &Known, callee: super::Callee<'c>) -> Result<super::Callee<'c>, SendFailure> {
        match number::allowed(callee.to, &known.settings) {
            Ok(number::Allowed { voip: true }) => self.metrics.noted(Channel::Voice, "voip"),
            Ok(_) => {}
            Err(why) => {
                self.metrics.noted(Channel::Voice, "not_allowed");
                tracing::warn!(number = %callee.to, why, "this number is not called");
                return Err(SendFailure::NotAllowed { why });
            }
        }
        let backup = callee.backup.filter(|backup| number::allowed(backup.to, &known.settings).is_ok());
        Ok(super::Callee { backup, ..callee })
    }

    /// Rings the call's line by the first provider that takes it.
    async fn dial(
        self: &Arc<Self>,
        known: &Arc<Known>,
        mut prompt: Prompt,
        mut call: Call,
        until: Instant,
    ) -> Result<Accepted, SendFailure> {
        let mut failure = SendFailure::NoProvider;
        let providers: Vec<&Provider> = voice_providers(known).collect();
        for provider in self.memory.order(providers, |provider| provider.name.as_str(), Instant::now()) {
            let name = provider.name.as_str();
            let timeout = timeout(provider, until);
            if timeout < LEAST || !self.conversation.is_open(&prompt) {
                return Err(SendFailure::TooLate);
            }
            let next = call.dialled_by(name);
            prompt = match self.conversation.keep(&prompt, &next, patience()).await {
                Ok(Kept::Now(prompt)) => *prompt,
                Ok(Kept::Moved) => return self.begun_elsewhere(&prompt.prompt_id).await,
                Err(_) => return Err(unavailable()),
            };
            call = next;
            let order = Order {
                known,
                provider,
                prompt_id: prompt.prompt_id.clone(),
                attempt: call.attempt,
                line: call.line(),
                ring_seconds: known.settings.voice.ring_seconds,
                timeout,
            };
            let talk = ari::Talk::Prompt { language: call.language.clone(), application: prompt.application.clone() };
            let rung = self.ring(&order, talk).await;
            self.note(&prompt, &call, &rung).await;
            match rung {
                Ok(call_id) => {
                    // From now on only that call is heard. Where an event of it was first, it said so itself.
                    let mut named = call.clone();
                    named.call_id = call_id;
                    let _ = self.conversation.keep(&prompt, &named, patience()).await;
                    return Ok(Accepted { provider: name.to_owned() });
                }
                Err(error) => {
                    tracing::warn!(
                        provider = name,
                        prompt_id = prompt.prompt_id,
                        error = service_kit::chain(&error),
                        "the provider did not take a call"
                    );
                    failure = SendFailure::Refused { provider: name.to_owned(), reason: Reason::ProviderError };
                }
            }
        }
        Err(failure)
    }

    /// Not waited for: the provider that told us has its own patience.
    fn ring_backup_later(inner: &Arc<Self>, known: &Arc<Known>, turn: Turn, ending: flow::Ending) {
        let (inner, known, shutdown) = (inner.clone(), known.clone(), inner.shutdown.clone());
        shutdown.spawn(async move { inner.ring_backup(&known, &turn, ending).await });
    }

    /// The backup phone of a call whose first line was not answered; where nobody can ring it, the call ends as it would have.
    async fn ring_backup(self: &Arc<Self>, known: &Arc<Known>, turn: &Turn, ending: flow::Ending) {
        let until = Instant::now() + DIAL_PATIENCE;
        let dialled = self.dial(known, turn.prompt.clone(), turn.call.clone(), until).await;
        if let Err(SendFailure::NoProvider | SendFailure::Refused { .. }) = dialled {
            let ended = async {
                let Some(prompt) = self.conversation.find(&turn.prompt.prompt_id, patience()).await? else {
                    return Ok(());
                };
                let Some(call) = Call::read(&prompt.state_json) else { return Ok(()) };
                self.conversation.end(&prompt, &call, ending, patience()).await
            };
            let ended: Result<(), Status> = ended.await;
            if let Err(status) = ended {
                tracing::warn!(
                    prompt_id = turn.prompt.prompt_id,
                    error = status.message(),
                    "a call's end was not kept"
                );
            }
        }
    }

    /// Somebody else moved the record: rang, or ended the prompt.
    async fn begun_elsewhere(&self, prompt_id: &str) -> Result<Accepted, SendFailure> {
        let found = self.conversation.find(prompt_id, patience()).await.map_err(|_| unavailable())?;
        let prompt = found.filter(|prompt| self.conversation.is_open(prompt)).ok_or(SendFailure::TooLate)?;
        let call = Call::read(&prompt.state_json).filter(|call| call.attempt > 0).ok_or(SendFailure::TooLate)?;
        Ok(Accepted { provider: call.provider })
    }

    async fn ring(self: &Arc<Self>, order: &Order<'_>, talk: ari::Talk) -> Result<String, DialError> {
        let begun = Instant::now();
        let rung = match (&order.provider.adapter, talk) {
            (Adapter::Twiml { .. }, ari::Talk::Prompt { .. }) => twiml::dial(&self.clients, order).await,
            (Adapter::Twiml { .. }, ari::Talk::Test { language }) => {
                let said = [flow::Utter::Say(flow::Slot::Test)];
                let document = twiml::document::of_test(order.known, &said, &language);
                twiml::dial_test(&self.clients, order, &document).await
            }
            (Adapter::Ari { .. }, talk) => ari::dial(self, order, talk).await,
            _ => Err(DialError::Settings("the provider carries no calls")),
        };
        let name = order.provider.name.as_str();
        let result = rung.as_ref().map_or_else(DialError::code, |_| "accepted");
        self.metrics.asked(Channel::Voice, name, result, begun.elapsed());
        match &rung {
            Ok(_) => {
                self.memory.worked(name);
                self.upstream(name).up(begun.elapsed());
            }
            Err(error) => {
                self.upstream(name).down(error.to_string());
                if self.memory.failed(name, Instant::now()) {
                    tracing::warn!(provider = name, "the provider is asked last for a while");
                }
            }
        }
        rung
    }

    fn upstream(&self, provider: &str) -> Upstream {
        let mut upstreams = self.upstreams.lock().expect("nobody panics while holding the upstreams");
        upstreams.entry(provider.to_owned()).or_insert_with(|| self.health.upstream("provider", provider)).clone()
    }

    /// For the list of messages; a call goes on without it.
    async fn note(&self, prompt: &Prompt, call: &Call, rung: &Result<String, DialError>) {
        let note = NoteMessageRequest {
            message_id: format!("{}-{}", prompt.prompt_id, call.attempt),
            channel: Channel::Voice.code().into(),
            provider: call.provider.clone(),
            provider_id: rung.as_ref().cloned().unwrap_or_default(),
            user_id: prompt.user_id.clone(),
            transaction_id: prompt.transaction_id.clone(),
            destination: call.line().number.masked(),
            state: if rung.is_ok() { "accepted" } else { "failed" }.into(),
            detail: rung.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            now_unix_ms: self.shared.clock.now_ms(),
        };
        let commit = &self.shared.commit;
        let _ = patience().ask("note message", note, |request| commit.note_message(request)).await;
    }
}

/// In the order of the document (FN-07).
fn voice_providers(known: &Known) -> impl Iterator<Item = &Provider> {
    known.settings.providers.iter().filter(|provider| provider.enabled && provider.channel == Channel::Voice)
}

fn timeout(provider: &Provider, until: Instant) -> Duration {
    let own = Duration::from_secs(u64::from(provider.timeout_seconds));
    own.min(until.saturating_duration_since(Instant::now()))
}

/// For calls to the store that no caller waits for.
fn patience() -> Budget {
    Budget::of(&Request::new(()))
}

fn unavailable() -> SendFailure {
    SendFailure::Refused { provider: String::new(), reason: Reason::StoreUnavailable }
}
