//! What phones say: the web app, and apps that speak the protocol of the privacyIDEA Authenticator. Everything is checked here.
//!
//! Who speaks is a device that the store knows, by a signature of its key (`speaker`). What a person decided is a signature over the
//! transaction (`transaction`); it is put into the store once (V-21), and then told on the bus, for whoever waits.

pub mod activation_code;
mod device_key;
pub mod pi;
mod refused;
mod resolve;
mod speaker;
mod transaction;
mod web;

use crate::Service;
use crate::budget::Budget;
use crate::sealed_key::SealedKey;
use crate::webauthn::Ceremonies;
use bytes::Bytes;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use proto::verification::{
    BeginActivationReply, BeginActivationRequest, ConfirmDeviceCodeReply, ConfirmDeviceCodeRequest, DecideReply,
    DecideRequest, FinishActivationReply, FinishActivationRequest, OpenPromptsReply, OpenPromptsRequest, PiReply,
    PiRequest, UpdateDeviceReply, UpdateDeviceRequest, phone_server::Phone,
};
use service_kit::Shutdown;
use service_kit::bus::Bus;
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// What the answers of phones need beside the store.
pub struct Phones {
    bus: Arc<dyn Bus>,
    /// Proves the challenges of WebAuthn ceremonies.
    ceremonies: SealedKey,
    answers: Counter<u64>,
    pub pi: pi::Pi,
}

impl Phones {
    pub fn new(
        bus: Arc<dyn Bus>,
        randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
        shutdown: Shutdown,
    ) -> Self {
        let answers = global::meter("twinlock").u64_counter("twinlock_phone_answers_total").build();
        Self { bus, ceremonies: SealedKey::new("ceremonies", |_| true), answers, pi: pi::Pi::new(randomness, shutdown) }
    }

    /// An answer to a prompt, and what became of it: an outcome, or why it was not taken.
    pub fn answered(&self, provider: &'static str, result: &'static str) {
        self.answers.add(1, &[KeyValue::new("provider", provider), KeyValue::new("result", result)]);
    }

    /// A prompt has its outcome in the store: whoever waits for it looks there now. Lost, they look a little later.
    pub async fn tell_resolved(&self, prompt_id: &str) {
        if let Err(error) = self.bus.publish(&proto::subjects::challenge_resolved(prompt_id), Bytes::new()).await {
            tracing::debug!(error = %error, "nobody was woken");
        }
    }
}

impl Service {
    /// What makes and knows the challenges of passkeys, on every node the same.
    pub async fn ceremonies(&self, budget: Budget) -> Result<Ceremonies, Status> {
        let commit = self.committer.commit.as_ref();
        Ok(Ceremonies::new(*self.phones.ceremonies.of(commit, self.randomness, budget).await?))
    }

    /// Octets that nobody can guess.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Status> {
        let mut octets = [0; N];
        (self.randomness)(&mut octets).map_err(|error| {
            tracing::error!(error = %error, "no randomness");
            Status::internal(domain::Reason::InternalError.code())
        })?;
        Ok(octets)
    }
}

#[async_trait]
impl Phone for Service {
    async fn pi(&self, request: Request<PiRequest>) -> Result<Response<PiReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(pi::handle(self, request.into_inner(), budget).await?))
    }

    async fn begin_activation(
        &self,
        request: Request<BeginActivationRequest>,
    ) -> Result<Response<BeginActivationReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::begin_activation(self, request.into_inner(), budget).await?))
    }

    async fn finish_activation(
        &self,
        request: Request<FinishActivationRequest>,
    ) -> Result<Response<FinishActivationReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::finish_activation(self, request.into_inner(), budget).await?))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<UpdateDeviceReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::update_device(self, request.into_inner(), budget).await?))
    }

    async fn open_prompts(&self, request: Request<OpenPromptsRequest>) -> Result<Response<OpenPromptsReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::open_prompts(self, request.into_inner(), budget).await?))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::decide(self, request.into_inner(), budget).await?))
    }

    async fn confirm_device_code(
        &self,
        request: Request<ConfirmDeviceCodeRequest>,
    ) -> Result<Response<ConfirmDeviceCodeReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::confirm_code(self, request.into_inner(), budget).await?))
    }
}
