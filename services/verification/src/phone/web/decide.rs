//! What the person decided (V-21, V-22).
//!
//! ```text
//! the device's proof -> its prompt -> the signature over the transaction, rebuilt from our record -> number -> PIN
//!   -> the outcome, once, in the store -> told on the bus
//! ```
//!
//! A refusal needs the device key alone, so that it is quick. Nothing that fails here resolves the prompt, but a wrong number.

use super::code;
use super::prompts::{is_for, is_open};
use super::relying_party;
use crate::Service;
use crate::budget::{Budget, known};
use crate::phone::refused::audit_refused;
use crate::phone::resolve::{self, Answered};
use crate::phone::speaker::{Speaker, authenticate};
use crate::phone::transaction::{Decision, Transaction};
use crate::webauthn::{Credential, verify_assertion};
use domain::{Reason, Secret};
use proto::user_store::{
    CheckSecretRequest, GetPromptsRequest, PasskeyCount, Prompt, SecretKind, SecretResult, TryKind,
};
use proto::verification::{DecideReply, DecideRequest, StartCodeReply};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

const PROVIDER: &str = "web_push";

/// An answer whose signature holds.
struct Answer<'a> {
    decision: Decision,
    number: &'a str,
    pin: Option<Secret>,
    /// Of the device's passkey, where it counts its signatures.
    counted: Option<PasskeyCount>,
}

pub async fn decide(service: &Service, request: DecideRequest, budget: Budget) -> Result<DecideReply, Status> {
    let reply = decided(service, request, budget).await?;
    let result = match &reply {
        Ok(taken) => taken.outcome,
        Err(reason) => reason.code(),
    };
    service.phones.answered(PROVIDER, result);
    Ok(match reply {
        Ok(Taken { code, .. }) => {
            let StartCodeReply { factor_id, otpauth_uri, .. } = code.unwrap_or_default();
            DecideReply { taken: true, reason: String::new(), otpauth_uri, factor_id }
        }
        Err(reason) => DecideReply { reason: reason.code().into(), ..DecideReply::default() },
    })
}

/// An answer that counts.
struct Taken {
    outcome: &'static str,
    /// Of a device that was just proven.
    code: Option<StartCodeReply>,
}

/// The outcome that the person chose, or why it was not taken.
async fn decided(service: &Service, request: DecideRequest, budget: Budget) -> Result<Result<Taken, Reason>, Status> {
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
    let outcome = match resolve(service, &speaker, &prompt, answer, budget).await? {
        Ok(outcome) => outcome,
        Err(reason) => return Ok(Err(reason)),
    };
    // The approval that proves the device is signed by all that its approvals are signed by: nothing less brings another method.
    // Where that answer was lost, the same approval is heard again.
    let again = prompt.outcome == "approved" && prompt.device_id == speaker.device.device_id;
    let proves = outcome == "approved" && (speaker.device.state == "pending" || again);
    let code = if proves { code::offer(service, &speaker.user_id, budget).await } else { None };
    Ok(Ok(Taken { outcome, code }))
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

/// Is the decision signed by what has to sign it? With the new count, where a passkey counts its signatures.
fn signed(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    decision: Decision,
    request: &DecideRequest,
) -> Result<Result<Option<PasskeyCount>, Reason>, Status> {
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
        Ok(assertion) => Ok(Some(PasskeyCount {
            before_json: device.passkey_json.clone(),
            after_json: assertion.credential.to_json(),
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
    let open = is_open(prompt, service.clock.now_ms());
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
    let answered = Answered {
        user_id: &speaker.user_id,
        device: &speaker.device,
        prompt,
        outcome,
        digest: digest(prompt, speaker, &answer),
        pin_handle,
        passkey_count: answer.counted,
    };
    resolve::resolve(service, answered, budget).await
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

async fn audit(
    service: &Service,
    speaker: &Speaker,
    prompt: &Prompt,
    reason: Reason,
    budget: Budget,
) -> Result<(), Status> {
    audit_refused(service, &speaker.user_id, &speaker.device.device_id, prompt, reason, budget).await
}
