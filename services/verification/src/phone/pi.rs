//! The protocol of the privacyIDEA Authenticator, as far as an app speaks it that polls
//! (docs/operating/authenticator-push.md): one address, five requests.
//!
//! ```text
//! enrol         the QR code's credential and the phone's key -> our key for this token
//! poll          what is open for this token, as it was signed when the prompt was opened
//! answer        approve, with the number where one is asked; refuse, cancel, "not me"
//! token change  heard, and of no use to who polls
//! ```
//!
//! What is malformed, unknown or badly signed is one and the same error, so that who asks learns nothing. Compatible with that app;
//! made from the facts of its protocol, and not endorsed by its makers.

mod answer;
pub mod challenge;
mod enrol;
pub mod keys;
mod poll;
mod polls;
mod wire;

pub use enrol::credential_hash;
use keys::ServerKeys;
use polls::Polls;

use crate::Service;
use crate::budget::Budget;
use domain::Secret;
use proto::user_store::{GetDeviceRequest, PushDevice};
use proto::verification::{PiReply, PiRequest};
use service_kit::Shutdown;
use tonic::Status;
use wire::{Said, Unread};

/// The provider's name in metrics and records.
const PROVIDER: &str = "pi_push";

/// What these phones need beside the store.
pub struct Pi {
    pub keys: ServerKeys,
    polls: Polls,
}

impl Pi {
    pub fn new(randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>, shutdown: Shutdown) -> Self {
        Self { keys: ServerKeys::new(keys::BITS, randomness, shutdown), polls: Polls::default() }
    }
}

impl Service {
    /// Keeps a key of ours for a token that will be enrolled: PKCS#8 in DER, made elsewhere.
    pub fn keep_token_key(&self, key: Secret) {
        self.phones.pi.keys.put(key);
    }
}

pub async fn handle(service: &Service, request: PiRequest, budget: Budget) -> Result<PiReply, Status> {
    if !service.settings.known()?.settings.push.pi {
        return Ok(wire::refused());
    }
    let reply = match wire::read(&request) {
        Ok(Said::Enrol(enrol)) => enrol::enrol(service, enrol, budget).await?,
        Ok(Said::Poll(poll)) => poll::poll(service, poll, budget).await?,
        Ok(Said::Answer(answer)) => answer::answer(service, answer, budget).await?,
        Ok(Said::TokenChange(change)) => poll::token_change(service, change, budget).await?,
        // How a phone asks its owner for the network; no attack.
        Err(Unread::Empty) => return Ok(wire::refused()),
        Err(Unread::Malformed) => None,
    };
    Ok(reply.unwrap_or_else(|| {
        service.phones.answered(PROVIDER, "refused");
        wire::refused()
    }))
}

/// Whose token this is.
struct Token {
    device: PushDevice,
    user_id: String,
    /// The user may log in at all.
    enabled: bool,
}

/// The token of a serial, if it signed the text with its key. `None` says nothing more.
async fn signer(
    service: &Service,
    serial: &str,
    text: &str,
    signature: &str,
    budget: Budget,
) -> Result<Option<Token>, Status> {
    let get = GetDeviceRequest { device_id: String::new(), serial: serial.to_owned() };
    let commit = service.committer.commit.as_ref();
    let get = service_kit::grpc::idempotent(get);
    let found = budget.ask("get device", get, |request| commit.get_device(request)).await?;
    let device = found.device.filter(|device| {
        let ready = device.kind == "pi" && matches!(device.state.as_str(), "pending" | "active");
        ready && device.serial == serial && keys::is_signed(&device.public_key, text, signature)
    });
    Ok(device.map(|device| Token { device, user_id: found.user_id, enabled: found.enabled }))
}
