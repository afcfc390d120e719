//! Web Push (RFC 8030): wakes the portal's app on the phone. The message holds an opaque id and words that say nothing of the login
//! (V-24), as declarative JSON, which some browsers show without a service worker.

mod encryption;
mod identity;
mod message;
mod subscription;

pub use identity::{Identity, is_key};
pub use subscription::Subscription;

use crate::providers::Shared;
use crate::providers::http::{TrustError, client};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use proto::user_store::{Prompt, PushDevice, TouchDeviceRequest};
use reqwest::{Client, Response, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Request;

/// A page that asked so lately is open, and will find the prompt by itself.
const POLLING_MS: i64 = 90_000;
/// For one device, with every try. The person waits.
const SEND_LIMIT: Duration = Duration::from_secs(8);
const TRIES: u32 = 3;
/// Before the second try; doubled for the next.
const PAUSE: Duration = Duration::from_millis(500);
/// A phone has so long to be found by its push service at most.
const TTL_SECONDS_MAX: i64 = 120;

/// What became of waking one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its push service took the message, or its page is open.
    Told,
    /// There is no way to it: no subscription, or one that is gone.
    NoWay,
    /// Its push service does not do its work, or not for us.
    Failed,
}

/// The way out. One for the process: it keeps connections.
pub struct Sender {
    /// Without trust in anybody nobody can be told.
    http: Result<Client, TrustError>,
}

impl Sender {
    pub fn new() -> Self {
        // Without redirects: the list names hosts, and a redirect could lead to any other.
        Self { http: client("") }
    }

    pub async fn send(&self, shared: &Shared, identity: &Identity, prompt: &Prompt, device: &PushDevice) -> Outcome {
        let now = shared.clock.now_ms();
        let polls = now - device.last_seen_unix_ms < POLLING_MS;
        let unless_polling = |outcome| if polls { Outcome::Told } else { outcome };
        let Ok(known) = shared.settings.known() else { return unless_polling(Outcome::Failed) };
        let Some(kept) = device.subscription.clone() else { return unless_polling(Outcome::NoWay) };
        let kept = domain::Secret::from(kept);
        let subscription = match kept.expose_str().map(|json| Subscription::read(json, &known.settings.push.hosts)) {
            Some(Ok(subscription)) => subscription,
            Some(Err(error)) => {
                tracing::warn!(error = %error, device = device.device_id, "a phone cannot be woken");
                return unless_polling(Outcome::NoWay);
            }
            None => return unless_polling(Outcome::NoWay),
        };
        let until = Instant::now() + SEND_LIMIT.min(millis(prompt.expires_unix_ms - now));
        let message = message::write(shared, &known, prompt);
        let outgoing = Outgoing {
            subscription: &subscription,
            identity,
            message: &message,
            contact: &known.settings.push.contact,
        };
        let outcome = self.try_until(shared, &outgoing, prompt, until).await;
        if outcome == Outcome::NoWay {
            forget_endpoint(shared, prompt, device).await;
        }
        unless_polling(outcome)
    }

    async fn try_until(&self, shared: &Shared, outgoing: &Outgoing<'_>, prompt: &Prompt, until: Instant) -> Outcome {
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let answer = match timeout_at(until, self.post(shared, outgoing, prompt)).await {
                Ok(Some(answer)) => answer,
                // No time is left, or no message could be made.
                Ok(None) | Err(_) => return Outcome::Failed,
            };
            let wait = match answer {
                Ok(response) if response.status().is_success() => return Outcome::Told,
                Ok(response) if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) => {
                    return Outcome::NoWay;
                }
                Ok(response) => {
                    let status = response.status();
                    tracing::warn!(
                        status = status.as_u16(),
                        host = outgoing.subscription.host(),
                        attempt,
                        "a push service did not take a message"
                    );
                    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
                        return Outcome::Failed;
                    }
                    retry_after(&response).unwrap_or(pause)
                }
                Err(error) => {
                    tracing::warn!(error = %error.without_url(), host = outgoing.subscription.host(), attempt, "a push service could not be reached");
                    pause
                }
            };
            pause *= 2;
            // V-25: none after the time is over, and none that would come in just then.
            if attempt == TRIES || Instant::now() + wait >= until {
                return Outcome::Failed;
            }
            sleep_until(Instant::now() + wait).await;
        }
        Outcome::Failed
    }

    /// `None`: there is no randomness for it, or nobody to trust.
    async fn post(
        &self,
        shared: &Shared,
        outgoing: &Outgoing<'_>,
        prompt: &Prompt,
    ) -> Option<Result<Response, reqwest::Error>> {
        let http = self.http.as_ref();
        let http = http.map_err(|error| tracing::error!(error = %error, "no push service can be reached")).ok()?;
        let now = shared.clock.now_ms();
        let ttl = ((prompt.expires_unix_ms - now) / 1000).clamp(0, TTL_SECONDS_MAX);
        let body = encryption::encrypt(outgoing.message, outgoing.subscription.receiver(), shared.randomness);
        let body = body.map_err(|error| tracing::error!(error = %error, "no randomness for a push message")).ok()?;
        let endpoint = outgoing.subscription.endpoint();
        let authorization =
            outgoing.identity.authorization(&outgoing.subscription.origin(), outgoing.contact, now / 1000);
        let request = http
            .post(endpoint.clone())
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("ttl", ttl.to_string())
            .header("urgency", "high")
            // A newer prompt takes the place of an older one that was not delivered.
            .header("topic", outgoing.identity.topic(&prompt.user_id))
            .body(body);
        Some(request.send().await)
    }
}

struct Outgoing<'a> {
    subscription: &'a Subscription,
    identity: &'a Identity,
    message: &'a [u8],
    contact: &'a str,
}

/// The push service says that this subscription is over: the device is not woken any more, until its page subscribes again.
async fn forget_endpoint(shared: &Shared, prompt: &Prompt, device: &PushDevice) {
    let touch = TouchDeviceRequest {
        user_id: prompt.user_id.clone(),
        device_id: device.device_id.clone(),
        endpoint_gone: true,
        // Not a sign of life: as it was.
        now_unix_ms: device.last_seen_unix_ms,
        ..TouchDeviceRequest::default()
    };
    tracing::info!(device = device.device_id, "the push subscription of a phone is over");
    if let Err(status) = shared.commit.touch_device(Request::new(touch)).await {
        tracing::warn!(code = ?status.code(), "a push subscription that is over could not be removed");
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn millis(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}
