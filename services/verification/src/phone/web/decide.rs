//! What the person decided (V-21, V-22).
//!
//! ```text
//! the device's proof -> its prompt -> the signature over the transaction, rebuilt from our record -> number -> PIN
//!   -> the outcome, once, in the store -> told on the bus
//! ```
//!
//! A refusal needs the device key alone, so that it is quick. Nothing that fails here resolves the prompt, but a wrong number.

use super::prompts::{is_for, is_open};
use super::relying_party;
use crate::Service;
use crate::budget::{Budget, known};
use crate::phone::refused::audit_refused;
use crate::phone::speaker::{Speaker, authenticate};
use crate::phone::transaction::{Decision, Transaction};
use crate::webauthn::{Credential, verify_assertion};
use domain::{Assurance, Reason, Secret};
use proto::user_store::{
    CheckSecretRequest, GetPromptsRequest, Prompt, PushDevice, PutDeviceRequest, ResolvePromptRequest, SecretKind,
    SecretResult, TouchDeviceRequest, TryKind,
};
use proto::verification::{DecideReply, DecideRequest};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

const PROVIDER: &str = "web_push";

/// An answer whose signature holds.
struct Answer<'a> {
    decision: Decision,
    number: &'a str,
    pin: Option<Secret>,
    /// What changes of the device: the counter of its passkey, where it counts.
    counted: Option<PushDevice>,
}

pub async fn decide(service: &Service, request: DecideRequest, budget: Budget) -> Result<DecideReply, Status> {
    let reply = decided(service, request, budget).await?;
    let result = match &reply {
        Ok(outcome) => outcome,
        Err(reason) => reason.code(),
    };
    service.phones.answered(PROVIDER, result);
    Ok(match reply {
        Ok(_) => DecideReply { taken: true, reason: String::new() },
        Err(reason) => DecideReply { taken: false, reason: reason.code().into() },
    })
}

/// The outcome that the person chose, or why it was not taken.
async fn decided(
    service: &Service,
    request: DecideRequest,
    budget: Budget,
) -> Result<Result<&'static str, Reason>, Status> {
    let Some(decision) = Decision::from_code(&request.decision) else {
        return Err(Status::invalid_argument("decision: allowed are approve, deny and fraud"));
    };
    let what = format!("decide|{}|{}|{}", request.prompt_id, decision.code(), request.number);
    let speaker = match authenticate(service, request.proof.clone(), &what, budget).await? {
        Ok(speaker) => speaker,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(prompt) = prompt_of(service, &speaker, &request.prompt_id, budget).await? else {
        return Ok(Err(Reason::ChallengeGone));
    };
    let answer = match signed(service, &speaker, &prompt, decision, &request)? {
        Ok(counted) => Answer { decision, number: &request.number, pin: request.pin.map(Secret::from), counted },
        Err(reason) => {
            tracing::warn!(reason = reason.code(), device = speaker.device.device_id, "a phone's answer was not taken");
            audit(service, &speaker, &prompt, reason, budget).await?;
            return Ok(Err(reason));
        }
    };
    resolve(service, &speaker, &prompt, answer, budget).await
}

async fn prompt_of(
    service: &Service,
    speaker: &Speaker,
    prompt_id: &str,
    budget: Budget,
) -> Result<Option<Prompt>, Status> {
    let get = GetPromptsRequest { prompt_ids: vec![prompt_id.to_owned()], transaction_ids: Vec::new() };
    let commit = service.committer.commit.as_ref();
    let found = budget.ask("get prompts", service_kit::grpc::idempotent(get), |request| commit.get_prompts(request));
    let mut prompts = found.await?.prompts.into_iter();
    let ours = |prompt: &Prompt| prompt.prompt_id == prompt_id && is_for(prompt, &speaker.device, &speaker.user_id);
    Ok(prompts.next().filter(ours))
}

/// Is the decision signed by what has to sign it? The device to be kept, where a passkey counts its signatures.
fn signed(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    decision: Decision,
    request: &DecideRequest,
) -> Result<Result<Option<PushDevice>, Reason>, Status> {
    let transaction = Transaction::new(prompt, decision, &request.number);
    let device = &speaker.device;
    let by_device = || match speaker.key.verify(&transaction.canonical(), &request.signature) {
        true => Ok(None),
        false => Err(Reason::ChallengeGone),
    };
    if decision != Decision::Approve {
        return Ok(by_device());
    }
    let without_passkey = service.settings.known()?.settings.push.without_passkey;
    if device.passkey_json.is_empty() {
        return Ok(if without_passkey { by_device() } else { Err(Reason::NoUsableMethod) });
    }
    let Some(credential) = Credential::from_json(&device.passkey_json) else {
        tracing::error!(device = device.device_id, "the passkey of a phone cannot be read");
        return Ok(Err(Reason::InternalError));
    };
    let party = relying_party(service)?;
    // Of a prompt that is over, the same answer may come again with the same count: it changes nothing any more.
    let over = !prompt.outcome.is_empty();
    let credential = if over { credential.uncounted() } else { credential };
    let before = credential.sign_count();
    let verified = verify_assertion(&party, &transaction.digest(), &[credential], &request.assertion_json);
    Ok(match verified {
        Ok(assertion) if over || assertion.credential.sign_count() == before => Ok(None),
        Ok(assertion) => Ok(Some(PushDevice {
            device_id: device.device_id.clone(),
            passkey_json: assertion.credential.to_json(),
            ..PushDevice::default()
        })),
        Err(error) => {
            tracing::warn!(error = %error, device = device.device_id, "a phone's assertion was refused");
            Err(Reason::ChallengeGone)
        }
    })
}

async fn resolve(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    answer: Answer<'_>,
    budget: Budget,
) -> Result<Result<&'static str, Reason>, Status> {
    let now = service.clock.now_ms();
    let open = is_open(prompt, now);
    if !open && prompt.outcome.is_empty() {
        audit(service, speaker, prompt, Reason::ChallengeGone, budget).await?;
        return Ok(Err(Reason::ChallengeGone));
    }
    let right_number = answer.number.as_bytes().ct_eq(prompt.number.as_bytes()).into();
    let outcome = match answer.decision {
        Decision::Approve if prompt.number.is_empty() || right_number => "approved",
        Decision::Approve => "wrong_number",
        Decision::Deny => "denied",
        Decision::Fraud => "fraud",
    };
    let approved = outcome == "approved";
    // What is over cannot be changed by a PIN, so none is tried: the store knows whether this is its answer again.
    let pin_handle = match (approved && open && prompt.pin_asked, &answer.pin) {
        (false, _) => String::new(),
        (true, None) => return Ok(Err(Reason::WrongPin)),
        (true, Some(pin)) => match check_pin(service, speaker, prompt, pin, budget).await? {
            Ok(handle) => handle,
            Err(reason) => return Ok(Err(reason)),
        },
    };
    let assurance = match (approved, prompt.number.is_empty()) {
        (false, _) => Assurance::None,
        (true, true) => Assurance::ApproveOnly,
        (true, false) => Assurance::NumberMatched,
    };
    let resolve = ResolvePromptRequest {
        prompt_id: prompt.prompt_id.clone(),
        outcome: outcome.to_owned(),
        answered_by: speaker.device.name.clone(),
        assurance: if approved { assurance.code().to_owned() } else { String::new() },
        answer_digest: digest(prompt, speaker, &answer),
        block_until_unix_ms: if answer.decision == Decision::Fraud {
            service.settings.known()?.blocked_by_fraud_until(now)
        } else {
            0
        },
        now_unix_ms: now,
        pin_handle,
    };
    let commit = service.committer.commit.as_ref();
    let resolve = service_kit::grpc::idempotent(resolve);
    let resolved = budget.ask("resolve prompt", resolve, |request| commit.resolve_prompt(request)).await?;
    if !resolved.taken {
        audit(service, speaker, prompt, Reason::ChallengeGone, budget).await?;
        return Ok(Err(Reason::ChallengeGone));
    }
    service.phones.tell_resolved(&prompt.prompt_id).await;
    if let Some(device) = answer.counted {
        keep_counter(service, &speaker.user_id, device, budget).await?;
    }
    if approved && speaker.device.state == "pending" {
        let touch = TouchDeviceRequest {
            user_id: speaker.user_id.clone(),
            device_id: speaker.device.device_id.clone(),
            activate: true,
            now_unix_ms: now,
            ..TouchDeviceRequest::default()
        };
        budget.ask("touch device", touch, |request| commit.touch_device(request)).await?;
    }
    tracing::info!(
        outcome,
        prompt = prompt.prompt_id,
        device = speaker.device.device_id,
        request_id = prompt.transaction_id,
        "a phone answered"
    );
    Ok(if outcome == "wrong_number" { Err(Reason::WrongNumber) } else { Ok(outcome) })
}

/// The handle of a PIN that was right. A wrong one counts, and can be typed again while the prompt is open.
async fn check_pin(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    pin: &Secret,
    budget: Budget,
) -> Result<Result<String, Reason>, Status> {
    let check = CheckSecretRequest {
        user_id: speaker.user_id.clone(),
        kind: SecretKind::Pin.into(),
        secret: Some(pin.clone().into()),
        source: speaker.device.device_id.clone(),
        transaction_id: prompt.transaction_id.clone(),
        try_kind: TryKind::AfterPassword.into(),
        now_unix_ms: service.clock.now_ms(),
        ..CheckSecretRequest::default()
    };
    let commit = service.committer.commit.as_ref();
    let checked = budget.ask("check secret", check, |request| commit.check_secret(request)).await?;
    Ok(match known(checked.result, "check secret")? {
        SecretResult::Right => Ok(checked.handle),
        SecretResult::Wrong => Err(Reason::WrongPin),
        SecretResult::Locked => Err(Reason::LockedOut),
        SecretResult::None | SecretResult::Unspecified => Err(Reason::NoUsableMethod),
    })
}

/// One person's one decision on one phone. Signatures differ each time they are made, so they are no part of it.
fn digest(prompt: &Prompt, speaker: &Speaker, answer: &Answer<'_>) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(Transaction::new(prompt, answer.decision, answer.number).digest());
    digest.update(speaker.device.device_id.as_bytes());
    digest.finalize().to_vec()
}

async fn keep_counter(service: &Service, user_id: &str, device: PushDevice, budget: Budget) -> Result<(), Status> {
    let put = PutDeviceRequest {
        user_id: user_id.to_owned(),
        device: Some(device),
        now_unix_ms: service.clock.now_ms(),
        actor: "self".into(),
        ..PutDeviceRequest::default()
    };
    let commit = service.committer.commit.as_ref();
    budget.ask("put device", service_kit::grpc::idempotent(put), |request| commit.put_device(request)).await?;
    Ok(())
}

async fn audit(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    reason: Reason,
    budget: Budget,
) -> Result<(), Status> {
    audit_refused(service, &speaker.user_id, &speaker.device.device_id, prompt, reason, budget).await
}
