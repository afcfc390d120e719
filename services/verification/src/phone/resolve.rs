//! What a device decided becomes the outcome of its prompt: once, in the store, then told to whoever waits (V-21). The same for every
//! kind of device; what it takes to be heard is checked before.

use super::refused::audit_refused;
use crate::Service;
use crate::budget::Budget;
use domain::{Assurance, Reason};
use proto::user_store::{PasskeyCount, Prompt, PushDevice, ResolvePromptRequest, TouchDeviceRequest};
use tonic::Status;

/// An answer that was found good, and what it makes of the prompt.
pub struct Answered<'a> {
    pub user_id: &'a str,
    pub device: &'a PushDevice,
    pub prompt: &'a Prompt,
    pub outcome: &'static str,
    /// One person's one decision on one device: the same again is the same answer.
    pub digest: Vec<u8>,
    pub pin_handle: String,
    /// Of the device's passkey, where it counts its signatures.
    pub passkey_count: Option<PasskeyCount>,
}

/// The outcome, or why it was not taken. A device that was not proven yet is by its first approval (V-20).
pub async fn resolve(
    service: &Service,
    answered: Answered<'_>,
    budget: Budget,
) -> Result<Result<&'static str, Reason>, Status> {
    let Answered { user_id, device, prompt, outcome, .. } = answered;
    let now = service.clock.now_ms();
    let assurance = match (outcome, prompt.number.is_empty()) {
        ("approved", true) => Assurance::ApproveOnly.code(),
        ("approved", false) => Assurance::NumberMatched.code(),
        _ => "",
    };
    let fraud = outcome == "fraud";
    let resolve = ResolvePromptRequest {
        prompt_id: prompt.prompt_id.clone(),
        outcome: outcome.to_owned(),
        answered_by: device.name.clone(),
        assurance: assurance.to_owned(),
        answer_digest: answered.digest,
        block_until_unix_ms: if fraud { service.settings.known()?.blocked_by_fraud_until(now) } else { 0 },
        now_unix_ms: now,
        pin_handle: answered.pin_handle,
        device_id: device.device_id.clone(),
        passkey_count: answered.passkey_count,
    };
    let commit = service.committer.commit.as_ref();
    let resolve = service_kit::grpc::idempotent(resolve);
    let resolved = budget.ask("resolve prompt", resolve, |request| commit.resolve_prompt(request)).await?;
    if !resolved.taken {
        audit_refused(service, user_id, &device.device_id, prompt, Reason::ChallengeGone, budget).await?;
        return Ok(Err(Reason::ChallengeGone));
    }
    if outcome == "approved" && device.state == "pending" {
        let touch = TouchDeviceRequest {
            user_id: user_id.to_owned(),
            device_id: device.device_id.clone(),
            activate: true,
            now_unix_ms: now,
            ..TouchDeviceRequest::default()
        };
        budget.ask("touch device", touch, |request| commit.touch_device(request)).await?;
    }
    // Last: whoever waits looks at the device next.
    service.phones.tell_resolved(&prompt.prompt_id).await;
    tracing::info!(
        outcome,
        prompt = prompt.prompt_id,
        device = device.device_id,
        request_id = prompt.transaction_id,
        "a phone answered"
    );
    Ok(if outcome == "wrong_number" { Err(Reason::WrongNumber) } else { Ok(outcome) })
}
