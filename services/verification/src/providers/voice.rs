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
mod client;
mod conversation;
mod flow;
mod twiml;
mod words;

use super::ask::{Asked, Asking, Attempt, Kind, Noted, Refusal};
use super::http::{self, TrustError};
use super::twilio;
use super::{Accepted, SendFailure, Shared, Steps, Trial, Tried, is_given_up};
use crate::budget::Budget;
use crate::callback::Called;
use crate::number;
use crate::settings::Known;
use async_trait::async_trait;
use bytes::Bytes;
use client::Clients;
use conversation::{About, Conversation, Kept, Turn};
use domain::settings::{Adapter, Channel, Provider};
use domain::{Language, Reason, Secret};
use flow::{Call, Line};
use proto::user_store::Prompt;
use proto::verification::CallbackReply;
use service_kit::{Process, Shutdown};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tracing::Instrument;
use twiml::address::What;

/// No provider is asked when so little is left.
const LEAST: Duration = Duration::from_millis(100);
/// For all providers together: a person waits.
const DIAL_PATIENCE: Duration = Duration::from_secs(20);
/// A call that nobody waits for any more is ended within this.
const HANG_UP: Duration = Duration::from_secs(5);
/// How often the health page is compared with the settings.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What carries calls.
#[derive(Clone)]
pub struct Voice {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    conversation: Conversation,
    clients: Clients,
    asking: Asking,
    shutdown: Shutdown,
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
        self.known.provider_secret(self.provider, field)
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

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        let kind = match &error {
            DialError::Settings(_) | DialError::Trust(_) | DialError::Nonsense => Kind::Misconfigured,
            DialError::Unreachable(_) | DialError::Events(_) => Kind::Unreachable,
            DialError::TooSlow => Kind::Late,
            DialError::Refused { status } => Kind::of_status(*status),
        };
        Self::new(kind, service_kit::chain(&error))
    }
}

impl Voice {
    pub fn start(shared: Shared, process: &Process) -> Self {
        let inner = Arc::new(Inner {
            conversation: Conversation::new(shared.clone()),
            asking: Asking::new(Channel::Voice, shared.clone(), process),
            shared,
            clients: Clients::default(),
            shutdown: process.shutdown().clone(),
        });
        let kept = inner.clone();
        process.shutdown().spawn_until_stopping(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                if let Ok(known) = kept.shared.settings.known() {
                    kept.asking.keep_only(&known.settings.providers);
                }
            }
        });
        Self { inner }
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
        let (inner, prompt, until) = (self.inner.clone(), prompt.clone(), Instant::now() + patience);
        // Not dropped with its caller: that it rings is written before it does, and nobody else would ring then (R-30).
        let dialling = async move { inner.dial(&known, prompt, call, until).await };
        tokio::spawn(dialling.in_current_span()).await.unwrap_or_else(|_| Err(unavailable()))
    }

    /// Ends the call of a prompt that was given up, whoever carries it.
    pub async fn hang_up(&self, prompt: &Prompt) {
        // The node that drives an Asterisk's call hangs up when it hears this.
        let subject = proto::subjects::challenge_resolved(&prompt.prompt_id);
        let _ = self.inner.shared.bus.publish(&subject, Bytes::new()).await;
        // Whoever picked up before the time was over hears that nobody waits any more.
        let may_be_cut = |call: &Call| call.rings() || prompt.outcome == "withdrawn" && call.ending().is_none();
        if let Some(call) = Call::read(&prompt.state_json).filter(may_be_cut)
            && let Ok(known) = self.inner.shared.settings.known()
        {
            self.inner.end_at_provider(&known, &call.provider, &call.call_id).await;
        }
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
        let noted = Noted { destination: number.masked(), ..Noted::default() };
        let line = Line { number, extension: String::new() };
        let call = TestCall { inner: &self.inner, known: &known, line: &line, language: &trial.language };
        let providers = &known.settings.providers;
        let asked = self.inner.asking.ask(providers, trial.provider, trial.until, &noted, &mut steps, &call).await;
        match asked {
            Ok(accepted) => steps.accepted_by(accepted.provider),
            Err(_) => steps.refused(),
        }
    }

    /// What a TwiML provider asks. `None`: it is not signed, or about nothing of ours (V-18).
    pub async fn answer(&self, called: &Called<'_>) -> Result<Option<CallbackReply>, Status> {
        let Called { known, provider, request, budget } = *called;
        let Adapter::Twiml { account, .. } = &provider.adapter else { return Ok(None) };
        let url = format!("{}/callback/{}/{}", known.portal_url, provider.name, request.path);
        let (Some(address), Some(form), Some(secret), Some(signature)) = (
            twiml::address::read(&request.path),
            http::read_form(&request.body),
            called.signing_secret(),
            called.header("x-twilio-signature"),
        ) else {
            return Ok(None);
        };
        // The address is part of what is signed, and it is the one we gave.
        let ours = request.method == "POST" && request.url == url;
        if !ours || !twilio::is_signed(secret, &url, &form, signature) {
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

/// A call that says that calls work, by whichever provider's turn it is.
struct TestCall<'a> {
    inner: &'a Arc<Inner>,
    known: &'a Arc<Known>,
    line: &'a Line,
    language: &'a Language,
}

#[async_trait]
impl Attempt for TestCall<'_> {
    async fn attempt(&self, provider: &Provider, _: &str, until: Instant) -> Result<String, Refusal> {
        let order = Order {
            known: self.known,
            provider,
            prompt_id: String::new(),
            attempt: 0,
            line: self.line,
            ring_seconds: self.known.settings.voice.ring_seconds,
            // Over before the one who asks gives up: what may be ringing nonetheless is hung up.
            timeout: timeout(provider, until - LEAST),
        };
        Ok(self.inner.ring(&order, ari::Talk::Test { language: self.language.clone() }).await?)
    }
}

impl Inner {
    /// Numbers that may be called at all (V-18); a backup phone that may not is none.
    fn allowed<'c>(&self, known: &Known, callee: super::Callee<'c>) -> Result<super::Callee<'c>, SendFailure> {
        match number::allowed(callee.to, &known.settings) {
            Ok(number::Allowed { voip: true }) => self.asking.metrics().noted(Channel::Voice, "voip"),
            Ok(_) => {}
            Err(why) => {
                self.asking.metrics().noted(Channel::Voice, "not_allowed");
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
        for provider in self.asking.in_order(&known.settings.providers, "") {
            let name = provider.name.as_str();
            let timeout = timeout(provider, until);
            if timeout < LEAST || !self.conversation.is_open(&prompt) {
                return Err(SendFailure::TooLate);
            }
            let next = call.dialled_by(name);
            prompt = match self.conversation.keep(&prompt, &next, Budget::usual()).await {
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
            let begun = Instant::now();
            let rung = self.ring(&order, talk).await.map_err(Refusal::from);
            let asked = Asked {
                provider: name,
                message_id: format!("{}-{}", prompt.prompt_id, call.attempt),
                took: begun.elapsed(),
                answered: rung.as_ref().map(String::as_str),
                noted: &noted(&prompt, &call),
            };
            self.asking.asked(asked).await;
            match rung {
                Ok(call_id) => {
                    // From now on only that call is heard. Where an event of it was first, it said so itself.
                    let mut named = call.clone();
                    named.call_id.clone_from(&call_id);
                    let kept = self.conversation.keep(&prompt, &named, Budget::usual()).await;
                    if matches!(kept, Ok(Kept::Moved)) {
                        self.unless_given_up(known, &prompt.prompt_id, name, &call_id).await;
                    }
                    return Ok(Accepted { provider: name.to_owned() });
                }
                Err(_) => {
                    failure = SendFailure::Refused { provider: name.to_owned(), reason: Reason::ProviderError };
                }
            }
        }
        Err(failure)
    }

    /// It was given up while the provider was being asked to ring: whoever did so did not know the call's name yet.
    async fn unless_given_up(&self, known: &Known, prompt_id: &str, provider: &str, call_id: &str) {
        let found = self.conversation.find(prompt_id, Budget::usual()).await;
        if found.is_ok_and(|prompt| prompt.as_ref().is_some_and(is_given_up)) {
            self.end_at_provider(known, provider, call_id).await;
        }
    }

    /// An Asterisk's call is ended by the node that drives it.
    async fn end_at_provider(&self, known: &Known, provider: &str, call_id: &str) {
        let carries = |one: &&Provider| one.name.as_str() == provider && matches!(one.adapter, Adapter::Twiml { .. });
        let Some(provider) = known.settings.providers.iter().find(carries).filter(|_| !call_id.is_empty()) else {
            return;
        };
        let ended = tokio::time::timeout(HANG_UP, twiml::hang_up(&self.clients, known, provider, call_id)).await;
        if let Err(error) = ended.unwrap_or(Err(DialError::TooSlow)) {
            let error = service_kit::chain(&error);
            tracing::warn!(
                provider = provider.name.as_str(),
                error,
                "a call that nobody waits for could not be ended: it rings until its time is over"
            );
        }
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
                let Some(prompt) = self.conversation.find(&turn.prompt.prompt_id, Budget::usual()).await? else {
                    return Ok(());
                };
                let Some(call) = Call::read(&prompt.state_json) else { return Ok(()) };
                self.conversation.end(&prompt, &call, ending, Budget::usual()).await
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
        let found = self.conversation.find(prompt_id, Budget::usual()).await.map_err(|_| unavailable())?;
        let prompt = found.filter(|prompt| self.conversation.is_open(prompt)).ok_or(SendFailure::TooLate)?;
        let call = Call::read(&prompt.state_json).filter(|call| call.attempt > 0).ok_or(SendFailure::TooLate)?;
        Ok(Accepted { provider: call.provider })
    }

    async fn ring(self: &Arc<Self>, order: &Order<'_>, talk: ari::Talk) -> Result<String, DialError> {
        match (&order.provider.adapter, talk) {
            (Adapter::Twiml { .. }, ari::Talk::Prompt { .. }) => twiml::dial(&self.clients, order).await,
            (Adapter::Twiml { .. }, ari::Talk::Test { language }) => {
                let said = [flow::Utter::Say(flow::Slot::Test)];
                let document = twiml::document::of_test(order.known, &said, &language);
                twiml::dial_test(&self.clients, order, &document).await
            }
            (Adapter::Ari { .. }, talk) => ari::dial(self, order, talk).await,
            _ => Err(DialError::Settings("the provider carries no calls")),
        }
    }
}

/// For the list of messages.
fn noted(prompt: &Prompt, call: &Call) -> Noted {
    Noted {
        user_id: prompt.user_id.clone(),
        transaction_id: prompt.transaction_id.clone(),
        destination: call.line().number.masked(),
    }
}

fn timeout(provider: &Provider, until: Instant) -> Duration {
    let own = Duration::from_secs(u64::from(provider.timeout_seconds));
    own.min(until.saturating_duration_since(Instant::now()))
}

fn unavailable() -> SendFailure {
    SendFailure::Refused { provider: String::new(), reason: Reason::StoreUnavailable }
}
