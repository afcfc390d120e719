//! Text messages: by HTTP, SMPP 3.4, a mail gateway or a program of this host (FV-03, V-17, V-18).
//!
//! ```text
//! send -> number allowed? -> ask: first provider, next provider ... -> carrier of its kind -> accepted
//! SMPP session, callback/sms -> heard -> receipt: noted | a person's text: reply
//! ```
//!
//! One carrier for each provider of the settings, made anew when its part of the settings changes.

mod gateway;
mod gsm;
mod http;
mod inbound;
mod pdu;
mod preset;
mod reply;
mod script;
mod session;
mod smpp;
mod template;
pub mod texts;

pub use inbound::{Heard, State};

use super::ask::{Asking, Attempt, Kind, Noted, Refusal};
use super::mail::smtp::Letters;
use super::{Accepted, SendFailure, Shared, Steps, Text, Trial, Tried};
use crate::number;
use crate::settings::Known;
use async_trait::async_trait;
use domain::settings::{Adapter, Channel, Provider};
use domain::{PhoneNumber, Secret};
use futures::StreamExt;
use gateway::GatewayCarrier;
use http::HttpCarrier;
use proto::user_store::NoteMessageRequest;
use reply::Replies;
use script::ScriptCarrier;
use service_kit::{Process, Shutdown};
use smpp::{Ear, SmppCarrier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Request, Status};

/// How often carriers are compared with the settings: an SMPP session that is not there cannot tell that it is wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What SMPP sessions heard and nobody has worked on yet. Beyond it centres are told to come again.
const HEARD_MAX: usize = 256;
const HEARD_AT_ONCE: usize = 16;
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// A receipt may overtake the note about its message, and the store may be away for a moment.
const RECEIPT_PAUSE: Duration = Duration::from_secs(1);
/// What a trial's text may live.
const TRIAL_LIFE: Duration = Duration::from_secs(300);

/// A text on its way to one provider.
pub struct Outgoing<'a> {
    pub to: &'a PhoneNumber,
    pub text: &'a str,
    /// It is worth nothing afterwards.
    pub life: Duration,
    /// Ties the parts of a long text together.
    pub reference: u8,
    /// Where the provider may report; empty = nowhere.
    pub callback: &'a str,
}

pub struct Sms {
    shared: Shared,
    replies: Arc<Replies>,
    asking: Arc<Asking>,
    carriers: Arc<Carriers>,
}

/// The carriers of this node, by provider.
struct Carriers {
    made: Mutex<HashMap<String, Made>>,
    letters: Arc<Letters>,
    asking: Arc<Asking>,
    ear: Ear,
    shutdown: Shutdown,
}

/// A carrier and what it was made from.
struct Made {
    provider: Provider,
    secret: Secret,
    carrier: Result<Carrier, Refusal>,
}

#[derive(Clone)]
enum Carrier {
    Http(Arc<HttpCarrier>),
    Smpp(Arc<SmppCarrier>),
    Gateway(Arc<GatewayCarrier>),
    Script(Arc<ScriptCarrier>),
}

impl Sms {
    /// Keeps SMPP sessions bound and works on what they hear, as tasks of the process.
    pub fn start(shared: Shared, letters: Arc<Letters>, process: &Process) -> Self {
        let asking = Arc::new(Asking::new(Channel::Sms, shared.clone(), process));
        // The numbering plans are read at their first use, which takes a while: not while a person waits.
        process.shutdown().spawn_background(async {
            let _ = tokio::task::spawn_blocking(number::prepare).await;
        });
        let (ear, mut heard) = mpsc::channel(HEARD_MAX);
        let carriers = Arc::new(Carriers {
            made: Mutex::default(),
            letters,
            asking: asking.clone(),
            ear,
            shutdown: process.shutdown().clone(),
        });
        let (kept, settings) = (carriers.clone(), shared.settings.clone());
        process.shutdown().spawn_until_stopping(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                if let Ok(known) = settings.known() {
                    kept.keep(&known);
                }
            }
        });
        let replies = Arc::new(Replies::new(shared.clone()));
        let listener = replies.clone();
        process.shutdown().spawn_until_stopping(async move {
            let heard = futures::stream::poll_fn(move |context| heard.poll_recv(context));
            heard
                .for_each_concurrent(HEARD_AT_ONCE, |(provider, heard)| {
                    let listener = listener.clone();
                    async move {
                        if let Err(error) = self::heard(&listener, &provider, &heard).await {
                            tracing::warn!(provider, error = error.message(), "what a provider said is lost");
                        }
                    }
                })
                .await;
        });
        Self { shared, replies, asking, carriers }
    }

    /// Works on what a provider said, proven to be it.
    pub async fn heard(&self, provider: &str, said: &Heard) -> Result<(), Status> {
        heard(&self.replies, provider, said).await
    }

    /// Hands a text to the first provider that takes it.
    pub async fn send(&self, text: Text<'_>) -> Result<Accepted, SendFailure> {
        let known = self.shared.settings.known().map_err(|_| SendFailure::NoProvider)?;
        let left = text.expires_unix_ms.saturating_sub(self.shared.clock.now_ms());
        let Ok(left @ 1..) = u64::try_from(left) else {
            self.asking.metrics().noted(Channel::Sms, "too_late");
            return Err(SendFailure::TooLate);
        };
        let noted = Noted {
            user_id: text.user_id.to_owned(),
            transaction_id: text.transaction_id.to_owned(),
            destination: text.to.masked(),
        };
        let life = Duration::from_millis(left);
        let until = Instant::now() + life;
        if text.reply {
            self.replies.expect(text.to, text.transaction_id).await;
        }
        self.carry(&known, "", text.to, &text.text, life, until, &noted, &mut Steps::begin()).await
    }

    /// A test text without a user.
    pub async fn test(&self, trial: &Trial<'_>) -> Tried {
        let mut steps = Steps::begin();
        let Ok(known) = self.shared.settings.known() else {
            steps.note("this node has no settings yet");
            return steps.refused();
        };
        let to = match number::dialable(trial.to, &known.settings.verification.country) {
            Ok(to) => to,
            Err(why) => {
                steps.note(why.to_string());
                return steps.refused();
            }
        };
        let text = texts::trial(&trial.language, &known.settings.portal.company);
        let noted = Noted { destination: to.masked(), ..Noted::default() };
        match self.carry(&known, trial.provider, &to, &text, TRIAL_LIFE, trial.until, &noted, &mut steps).await {
            Ok(accepted) => steps.accepted_by(accepted.provider),
            Err(_) => steps.refused(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the two callers above, and all of it is theirs")]
    async fn carry(
        &self,
        known: &Arc<Known>,
        only: &str,
        to: &PhoneNumber,
        text: &str,
        life: Duration,
        until: Instant,
        noted: &Noted,
        steps: &mut Steps,
    ) -> Result<Accepted, SendFailure> {
        match number::allowed(to, &known.settings) {
            Ok(number::Allowed { voip }) => {
                if voip {
                    self.asking.metrics().noted(Channel::Sms, "voip");
                    tracing::info!(number = %to, "a text goes to a number of Internet telephony");
                }
            }
            Err(why) => {
                steps.note(format!("the number may not be used: {why}"));
                self.asking.metrics().noted(Channel::Sms, "not_allowed");
                tracing::warn!(number = %to, why, "no text goes to this number");
                return Err(SendFailure::NotAllowed { why });
            }
        }
        if let Some(warning) = texts::length_warning(text) {
            steps.note(format!("the text {warning}"));
        }
        let mut reference = [0];
        // Without randomness all parts still carry one reference.
        let _ = (self.shared.randomness)(&mut reference);
        let way = Way { carriers: &self.carriers, known, to, text, life, reference: reference[0] };
        self.asking.ask(&known.settings.providers, only, until, noted, steps, &way).await
    }
}

/// One text, at whichever provider's turn it is.
struct Way<'a> {
    carriers: &'a Carriers,
    known: &'a Arc<Known>,
    to: &'a PhoneNumber,
    text: &'a str,
    life: Duration,
    reference: u8,
}

#[async_trait]
impl Attempt for Way<'_> {
    async fn attempt(&self, provider: &Provider, id: &str, until: Instant) -> Result<String, Refusal> {
        let callback = match self.known.portal_url.as_str() {
            "" => String::new(),
            portal => format!("{portal}/callback/{}/receipt", provider.name),
        };
        let (to, text, life, reference) = (self.to, self.text, self.life, self.reference);
        let outgoing = Outgoing { to, text, life, reference, callback: &callback };
        match self.carriers.carrier(provider, self.known)? {
            Carrier::Http(carrier) => {
                let taken = carrier.send(&outgoing, id).await?;
                if let Some(price) = taken.price {
                    self.carriers.asking.metrics().costs(Channel::Sms, provider.name.as_str(), price);
                }
                Ok(taken.id)
            }
            Carrier::Smpp(carrier) => carrier.send(&outgoing, until).await,
            Carrier::Gateway(carrier) => carrier.send(&outgoing, self.known, id, until).await,
            Carrier::Script(carrier) => carrier.send(&outgoing, id).await,
        }
    }
}

impl Carriers {
    /// Makes what the settings want and is not there, such as SMPP sessions, and drops what they want no more.
    fn keep(&self, known: &Arc<Known>) {
        let providers = &known.settings.providers;
        let wanted = |name: &str| providers.iter().any(|it| it.enabled && it.name.as_str() == name);
        self.made.lock().expect("nobody panics while holding the carriers").retain(|name, _| wanted(name));
        self.asking.keep_only(providers);
        for provider in providers.iter().filter(|it| it.enabled && matches!(it.adapter, Adapter::Smpp { .. })) {
            // A refusal is told when it is asked; here nobody waits for it.
            let _ = self.carrier(provider, known);
        }
    }

    fn carrier(&self, provider: &Provider, known: &Known) -> Result<Carrier, Refusal> {
        let name = provider.name.as_str();
        let secret = known.provider_secret(provider, "secret").cloned().unwrap_or_default();
        let mut made = self.made.lock().expect("nobody panics while holding the carriers");
        match made.get(name) {
            Some(found) if found.provider == *provider && found.secret == secret => found.carrier.clone(),
            _ => {
                let carrier = self.make(provider, &secret);
                if let Err(refusal) = &carrier {
                    tracing::error!(provider = name, error = refusal.detail, "a provider's settings cannot be used");
                    self.asking.upstream(name).down(refusal.detail.clone());
                }
                let fresh = Made { provider: provider.clone(), secret, carrier: carrier.clone() };
                made.insert(name.to_owned(), fresh);
                carrier
            }
        }
    }

    fn make(&self, provider: &Provider, secret: &Secret) -> Result<Carrier, Refusal> {
        Ok(match &provider.adapter {
            Adapter::Http { .. } => Carrier::Http(Arc::new(HttpCarrier::new(provider, secret.clone())?)),
            Adapter::Smpp { .. } => {
                let health = self.asking.upstream(provider.name.as_str());
                let carrier = SmppCarrier::start(provider, secret, self.ear.clone(), health, &self.shutdown)?;
                Carrier::Smpp(Arc::new(carrier))
            }
            Adapter::MailGateway { .. } => {
                Carrier::Gateway(Arc::new(GatewayCarrier::new(provider, self.letters.clone())?))
            }
            Adapter::Script { .. } => Carrier::Script(Arc::new(ScriptCarrier::new(provider)?)),
            _ => return Err(Refusal::new(Kind::Misconfigured, "its adapter carries no texts")),
        })
    }
}

/// Where the store fails, once more: the provider was told that it is taken, or is not heard a second time.
async fn heard(replies: &Replies, provider: &str, heard: &Heard) -> Result<(), Status> {
    if let Err(error) = heard_once(replies, provider, heard).await {
        tracing::debug!(provider, error = error.message(), "what a provider said is worked on once more");
        tokio::time::sleep(RECEIPT_PAUSE).await;
        return heard_once(replies, provider, heard).await;
    }
    Ok(())
}

async fn heard_once(replies: &Replies, provider: &str, heard: &Heard) -> Result<(), Status> {
    match heard {
        Heard::Receipt { provider_id, state } => {
            let shared = replies.shared();
            if !note_receipt(shared, provider, provider_id, *state).await? {
                tokio::time::sleep(RECEIPT_PAUSE).await;
                if !note_receipt(shared, provider, provider_id, *state).await? {
                    tracing::debug!(provider, "a receipt for a message that nobody knows");
                }
            }
            Ok(())
        }
        Heard::Text { from, text } => replies.judge(provider, from, text).await,
    }
}

/// Some centres name a message in hexadecimal when they take it and in decimal in its receipt, or the other way round.
fn spellings(id: &str) -> Vec<String> {
    let mut spellings = vec![id.to_owned()];
    spellings.extend(id.parse::<u64>().ok().into_iter().flat_map(|it| [format!("{it:x}"), format!("{it:X}")]));
    spellings.extend(u64::from_str_radix(id, 16).ok().map(|it| it.to_string()));
    spellings.dedup();
    spellings
}

/// `false`: no message has this name, in whatever spelling.
async fn note_receipt(shared: &Shared, provider: &str, id: &str, state: State) -> Result<bool, Status> {
    for id in spellings(id) {
        if note_receipt_of(shared, provider, &id, state).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn note_receipt_of(shared: &Shared, provider: &str, id: &str, state: State) -> Result<bool, Status> {
    let note = NoteMessageRequest {
        channel: Channel::Sms.code().into(),
        provider: provider.into(),
        provider_id: id.into(),
        state: state.code().into(),
        now_unix_ms: shared.clock.now_ms(),
        ..NoteMessageRequest::default()
    };
    let request = service_kit::grpc::with_deadline(Request::new(note), STORE_PATIENCE);
    let answered = tokio::time::timeout(STORE_PATIENCE, shared.commit.note_message(request)).await;
    let reply = answered.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner();
    Ok(!reply.message_id.is_empty())
}

#[cfg(test)]
#[path = "sms/story.rs"]
mod story;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_looked_for_in_the_spellings_that_centres_mix() {
        assert_eq!(spellings("255"), ["255", "ff", "FF", "597"]);
        assert_eq!(spellings("ff"), ["ff", "255"]);
        assert_eq!(spellings("0c1-77"), ["0c1-77"]);
    }
}
