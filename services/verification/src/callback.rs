//! What providers of messages and calls say to us, handed on by the portal as it came: signature first, each word once (V-18).
//!
//! ```text
//! /callback/<provider>/<what>   the provider's channel names who reads it: sms, voice
//!                               everything else, like every bad signature, is one and the same 404
//! ```

mod sms;
mod voice;

use crate::Service;
use crate::budget::Budget;
use crate::settings::Known;
use domain::settings::{Channel, Provider};
use proto::verification::{CallbackReply, CallbackRequest, callback_server::Callback};
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// One call of a provider that is in the settings and switched on. Nothing of it is proven yet.
#[derive(Clone, Copy)]
pub struct Called<'a> {
    pub known: &'a Arc<Known>,
    pub provider: &'a Provider,
    pub request: &'a CallbackRequest,
    pub budget: Budget,
}

#[async_trait]
impl Callback for Service {
    async fn receive(&self, request: Request<CallbackRequest>) -> Result<Response<CallbackReply>, Status> {
        let budget = Budget::of(&request);
        let request = request.into_inner();
        let known = self.settings.known()?;
        let named = known.settings.providers.iter().find(|provider| provider.name.as_str() == request.provider);
        let Some(provider) = named.filter(|provider| provider.enabled) else { return Ok(Response::new(not_found())) };
        let called = Called { known: &known, provider, request: &request, budget };
        let reply = match provider.channel {
            Channel::Sms => sms::receive(self, called).await?,
            Channel::Voice => voice::receive(self, called).await?,
            Channel::Mail => not_found(),
        };
        Ok(Response::new(reply))
    }
}

impl Called<'_> {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name).map(String::as_str)
    }

    /// What the provider signs with: its own secret for that, or the one it knows us by.
    pub fn signing_secret(&self) -> Option<&domain::Secret> {
        let secret = |field: &str| self.known.provider_secret(self.provider, field);
        secret("webhook_secret").or_else(|| secret("secret"))
    }
}

/// The one answer to whatever is unknown, unsigned or badly signed: who asks learns nothing.
pub fn not_found() -> CallbackReply {
    CallbackReply { status: 404, content_type: "text/plain".into(), body: b"not found\n".to_vec() }
}

/// Heard: now, or when it was said the first time.
pub fn heard() -> CallbackReply {
    CallbackReply { status: 204, ..CallbackReply::default() }
}
