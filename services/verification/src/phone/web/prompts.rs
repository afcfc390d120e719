//! What is open for a device.

use super::{PASSKEY_MS, relying_party};
use crate::Service;
use crate::budget::Budget;
use crate::phone::speaker::authenticate;
use crate::webauthn::{Credential, request_options};
use domain::{Method, Reason};
use proto::user_store::{Prompt, PushDevice, TouchDeviceRequest, UserPromptsRequest};
use proto::verification::{DevicePrompt, OpenPromptsReply, OpenPromptsRequest};
use tonic::Status;

/// A page that polls is noted so often, so that a login knows that it is open. Far below `POLLING_MS` of the carrier.
const NOTE_MS: i64 = 60_000;
/// A user has one open prompt; one more may be ending.
const SHOWN_MAX: usize = 4;

pub async fn open_prompts(
    service: &Service,
    request: OpenPromptsRequest,
    budget: Budget,
) -> Result<OpenPromptsReply, Status> {
    let refused = |reason: Reason| OpenPromptsReply { reason: reason.code().into(), prompts: Vec::new() };
    let speaker = match authenticate(service, request.proof, "prompts", budget).await? {
        Ok(speaker) => speaker,
        Err(reason) => return Ok(refused(reason)),
    };
    let (now, commit) = (service.clock.now_ms(), service.committer.commit.as_ref());
    let device = speaker.device;
    if now - device.last_seen_unix_ms >= NOTE_MS {
        let touch = TouchDeviceRequest {
            user_id: speaker.user_id.clone(),
            device_id: device.device_id.clone(),
            now_unix_ms: now,
            ..TouchDeviceRequest::default()
        };
        budget.ask("touch device", touch, |request| commit.touch_device(request)).await?;
    }
    let open =
        UserPromptsRequest { user_id: speaker.user_id.clone(), method: Method::Push.code().into(), now_unix_ms: now };
    let open = service_kit::grpc::idempotent(open);
    let found = budget.ask("user prompts", open, |request| commit.user_prompts(request)).await?;
    let mine = found.prompts.iter().filter(|prompt| is_for(prompt, &device, &speaker.user_id) && is_open(prompt, now));
    let prompts = mine.take(SHOWN_MAX).map(|prompt| shown(service, prompt, &device)).collect::<Result<_, _>>()?;
    Ok(OpenPromptsReply { reason: String::new(), prompts })
}

/// A device that is not proven yet sees the prompt that is to prove it, and no other.
pub fn is_for(prompt: &Prompt, device: &PushDevice, user_id: &str) -> bool {
    let named = prompt.device_id == device.device_id;
    prompt.user_id == user_id
        && prompt.method == Method::Push.code()
        && (named || (prompt.device_id.is_empty() && device.state == "active"))
}

pub fn is_open(prompt: &Prompt, now_unix_ms: i64) -> bool {
    prompt.outcome.is_empty() && now_unix_ms < prompt.expires_unix_ms
}

fn shown(service: &Service, prompt: &Prompt, device: &PushDevice) -> Result<DevicePrompt, Status> {
    let passkey_json = match Credential::from_json(&device.passkey_json) {
        Some(credential) => request_options(&relying_party(service)?, None, &[credential], PASSKEY_MS),
        None => String::new(),
    };
    Ok(DevicePrompt {
        prompt_id: prompt.prompt_id.clone(),
        application: prompt.application.clone(),
        username: prompt.username.clone(),
        place: prompt.place.clone(),
        begun_unix_ms: prompt.begun_unix_ms,
        expires_unix_ms: prompt.expires_unix_ms,
        number_asked: !prompt.number.is_empty(),
        pin_asked: prompt.pin_asked,
        passkey_json,
        language: prompt.language.clone(),
    })
}
