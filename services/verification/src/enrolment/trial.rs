//! A method tried for real: "Prompt me now", and `twinlock test`.

use crate::Service;
use crate::attempt::line;
use crate::budget::{Budget, not_understood};
use crate::facts::{KnownUser, Spoken};
use crate::methods::prompt::{PROMPT, Target, no_randomness, reason_of, target};
use crate::methods::sent::Sending;
use crate::providers::words::own;
use crate::providers::{Callee, SendFailure, Steps, Text, Trial};
use crate::settings::Known;
use crate::texts;
use domain::settings::Channel;
use domain::{Language, Method, Reason};
use proto::user_store::{Prompt, PushDevice, UserPromptsRequest};
use proto::verification::{TestProviderReply, TestProviderRequest, TryMethodReply, TryMethodRequest};
use std::time::Duration;
use tonic::Status;
use uuid::Uuid;

/// Kept back to say what came of it.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Less is not enough for a person to find the phone.
const LEAST: Duration = Duration::from_secs(2);

/// Asks a person as a login would, and says what came of it. Lets nobody in.
pub async fn try_method(
    service: &Service,
    request: TryMethodRequest,
    budget: Budget,
) -> Result<TryMethodReply, Status> {
    let method = Method::from_code(&request.method).ok_or_else(|| Status::invalid_argument("method is not known"))?;
    if !request.device_id.is_empty() && method != Method::Push {
        return Err(Status::invalid_argument("device_id: a device is asked by push alone"));
    }
    let user = service.enabled_user(&request.user_id, budget).await?;
    let known = service.settings.known()?;
    let mut steps = Steps::begin();
    tracing::info!(event = "method_tried", method = method.code(), actor = line(&request.actor, 128));
    let reason = match method {
        Method::Push | Method::Call => {
            let trial =
                Tried { method, device_id: &request.device_id, to_prove: request.to_prove, user: &user, known: &known };
            ask(service, &trial, &mut steps, budget).await?
        }
        Method::Sms => text(service, &user, &known, &mut steps, budget).await?,
        Method::SmsReply | Method::Code | Method::Recovery | Method::Passkey | Method::Questions => {
            steps.note("there is nothing to send for this method");
            Reason::MethodImpossible
        }
    };
    Ok(TryMethodReply { reason: reason.code().into(), steps: steps.refused().steps })
}

struct Tried<'a> {
    method: Method,
    /// Empty = every one.
    device_id: &'a str,
    /// Only as long as the device has not proven itself.
    to_prove: bool,
    user: &'a KnownUser,
    known: &'a Known,
}

async fn ask(service: &Service, trial: &Tried<'_>, steps: &mut Steps, budget: Budget) -> Result<Reason, Status> {
    let Tried { method, device_id, user, known, .. } = trial;
    // A person who is asked already is not asked twice.
    if let Some(prompt) = proving(service, trial, budget).await? {
        return joined(service, trial, prompt, steps, budget).await;
    }
    // The prompt of its activation may have been answered since the caller looked.
    if has_proven_itself(service, trial, budget).await? {
        steps.note("the phone has proven itself meanwhile");
        return Ok(Reason::UserApproved);
    }
    let target = match target(user, *method, known) {
        Ok(target) => target,
        Err(reason) => return Ok(reason),
    };
    let now = service.clock.now_ms();
    let life = budget.less(ANSWER).left().min(PROMPT);
    if life < LEAST {
        return Ok(Reason::NoAnswer);
    }
    let spoken = if *method == Method::Push { Spoken::App } else { Spoken::Call };
    let language = user.language(spoken, known);
    let prompt = Prompt {
        prompt_id: Uuid::new_v4().to_string(),
        transaction_id: Uuid::now_v7().to_string(),
        user_id: user.id.clone(),
        method: method.code().into(),
        client: "portal".into(),
        application: line(&known.settings.portal.company, 64),
        username: user.username.clone(),
        begun_unix_ms: now,
        expires_unix_ms: now.saturating_add(life.as_millis() as i64),
        language: language.as_str().to_owned(),
        device_id: (*device_id).to_owned(),
        ..Prompt::default()
    };
    // Whoever tries it out may leave while the telephone rings. An app rings for nobody: its prompt stays open, for a second try to wait
    // for it, too, and so does the one by which a device proves itself.
    let mut withdrawal = service.withdrawal_of_trial(&prompt.prompt_id);
    if *method != Method::Call || trial.to_prove {
        withdrawal.disarm();
    }
    let prompt = match service.open_prompt(service.limits(prompt, &target, known), budget).await? {
        Ok((prompt, _)) => prompt,
        Err(ending) => {
            withdrawal.disarm();
            // It may have been asked meanwhile.
            if ending.reason == Reason::PromptPending
                && let Some(prompt) = proving(service, trial, budget).await?
            {
                return joined(service, trial, prompt, steps, budget).await;
            }
            steps.note("no prompt may go out now");
            return Ok(ending.reason);
        }
    };
    if has_proven_itself(service, trial, budget).await? {
        steps.note("the phone has proven itself meanwhile");
        // It has not gone out, so that it interrupted nobody (V-23).
        service.committer.resolve(&prompt.prompt_id, "cancelled", budget).await?;
        withdrawal.disarm();
        return Ok(Reason::UserApproved);
    }
    steps.note("the prompt is open");
    let within = budget.less(ANSWER).left();
    let sent = match &target {
        Target::Devices => {
            let devices: Vec<PushDevice> = match device_id.is_empty() {
                true => user.devices_to_ask(known, now),
                false => user.devices.iter().filter(|device| device.device_id == *device_id).cloned().collect(),
            };
            tokio::time::timeout(within, service.carriers.push(&prompt, &devices)).await
        }
        Target::Number { number, extension } => {
            let callee = Callee {
                to: number,
                extension,
                backup: None,
                language: &language,
                pin: false,
                new_pin: false,
                activation: false,
            };
            tokio::time::timeout(within, service.carriers.call(&prompt, callee)).await
        }
    };
    match sent.unwrap_or(Err(SendFailure::TooLate)) {
        Ok(accepted) => steps.note(format!("{} took it", accepted.provider)),
        Err(failure) => {
            steps.note(failure.to_string());
            service.committer.resolve(&prompt.prompt_id, failure.reason().code(), budget).await?;
            withdrawal.disarm();
            return Ok(failure.reason());
        }
    }
    let prompt_id = prompt.prompt_id.clone();
    let over = match service.wait_until_over(prompt, budget.less(ANSWER).left(), budget).await? {
        Some(over) => over,
        None => {
            let over = service.expire(&prompt_id, budget).await?;
            service.fall_silent(&over);
            over
        }
    };
    withdrawal.disarm();
    Ok(answered(trial, &over, steps))
}

/// Waits with the device for the prompt by which it proves itself. It stays open: the phone may take longer than whoever asks here.
async fn joined(
    service: &Service,
    trial: &Tried<'_>,
    prompt: Prompt,
    steps: &mut Steps,
    budget: Budget,
) -> Result<Reason, Status> {
    steps.note("the phone was asked when it was connected");
    let over = service.wait_until_over(prompt, budget.less(ANSWER).left(), budget).await?;
    Ok(over.map_or(Reason::NoAnswer, |over| answered(trial, &over, steps)))
}

/// Has the device that is to prove itself done so, by the prompt of its activation?
async fn has_proven_itself(service: &Service, trial: &Tried<'_>, budget: Budget) -> Result<bool, Status> {
    if !trial.to_prove {
        return Ok(false);
    }
    let user = service.enabled_user(&trial.user.id, budget).await?;
    Ok(user.devices.iter().any(|device| device.device_id == trial.device_id && device.state == "active"))
}

/// The open prompt by which this device is to prove itself.
async fn proving(service: &Service, trial: &Tried<'_>, budget: Budget) -> Result<Option<Prompt>, Status> {
    if trial.device_id.is_empty() {
        return Ok(None);
    }
    let open = UserPromptsRequest {
        user_id: trial.user.id.clone(),
        method: trial.method.code().into(),
        now_unix_ms: service.clock.now_ms(),
    };
    let open = service_kit::grpc::idempotent(open);
    let commit = service.committer.commit.as_ref();
    let found = budget.ask("user prompts", open, |request| commit.user_prompts(request)).await?;
    Ok(found.prompts.into_iter().find(|prompt| prompt.device_id == trial.device_id))
}

/// A device that approves proves itself by that (V-20); nothing is left to do here.
fn answered(trial: &Tried<'_>, over: &Prompt, steps: &mut Steps) -> Reason {
    steps.note(format!("the answer: {}", over.outcome));
    match (over.outcome.as_str(), trial.method) {
        ("approved", Method::Call) => Reason::CallConfirmed,
        ("approved", _) => Reason::UserApproved,
        (outcome, _) => reason_of(outcome),
    }
}

/// The text goes out; whether it arrives, the person knows.
async fn text(
    service: &Service,
    user: &KnownUser,
    known: &Known,
    steps: &mut Steps,
    budget: Budget,
) -> Result<Reason, Status> {
    let Ok(Target::Number { number, .. }) = target(user, Method::Sms, known) else { return Ok(Reason::Unreachable) };
    let code =
        otp::digits(known.settings.sms.digits.clamp(6, 8) as usize, service.randomness).map_err(no_randomness)?;
    let said = code.expose_str().ok_or_else(|| Status::internal(Reason::InternalError.code()))?;
    let transaction = Uuid::now_v7().to_string();
    let life_ms = i64::from(known.settings.sms.life_seconds) * 1000;
    let sending = Sending {
        user_id: &user.id,
        transaction_id: &transaction,
        kind: "sms",
        number: &number,
        extension: "",
        backup: false,
        expires_unix_ms: service.clock.now_ms().saturating_add(life_ms),
    };
    // Counted as any other; its code opens nothing, because no login asks for it.
    let key_id = service.code_keys.current().ok_or_else(|| not_understood("key ring codes"))?;
    let digest = service.code_digest(key_id, &transaction, &user.id, code.expose());
    let digest = digest.ok_or_else(|| not_understood("key ring codes"))?;
    if service.open_sent_code(&sending, digest, budget).await?.is_err() {
        steps.note("no text may go out now");
        return Ok(Reason::RateLimited);
    }
    let language = user.language(Spoken::Text, known);
    let company = &known.settings.portal.company;
    let own = own(&known.settings, "sms-code", &language, company).map(|own| own.text.as_str());
    let text = Text {
        to: &number,
        text: texts::sms_code(&language, said, company, "", own),
        expires_unix_ms: sending.expires_unix_ms,
        user_id: sending.user_id,
        transaction_id: sending.transaction_id,
        reply: false,
    };
    let sent = tokio::time::timeout(budget.less(ANSWER).left(), service.carriers.text(text)).await;
    Ok(match sent.unwrap_or(Err(SendFailure::TooLate)) {
        Ok(accepted) => {
            steps.note(format!("{} took it", accepted.provider));
            Reason::CodeAsked
        }
        Err(failure) => {
            steps.note(failure.to_string());
            failure.reason()
        }
    })
}

/// One message to wherever an administrator says, without a user: caps and outbox do not know of it, the log does.
pub async fn test_provider(
    service: &Service,
    request: TestProviderRequest,
    budget: Budget,
) -> Result<TestProviderReply, Status> {
    let channel = [Channel::Sms, Channel::Voice, Channel::Mail].into_iter().find(|it| it.code() == request.channel);
    let channel = channel.ok_or_else(|| Status::invalid_argument("channel: allowed are sms, voice, mail"))?;
    let known = service.settings.known()?;
    let language = match request.language.as_str() {
        "" => known.settings.verification.language.clone(),
        tag => Language::new(tag).map_err(|error| Status::invalid_argument(format!("language: {error}")))?,
    };
    let trial = Trial { channel, provider: &request.provider, to: &request.to, language, until: budget.until() };
    let tried = service.providers.test(&trial).await;
    tracing::info!(
        channel = channel.code(),
        provider = tried.provider,
        accepted = tried.accepted,
        actor = request.actor,
        "a provider was tried"
    );
    Ok(TestProviderReply { accepted: tried.accepted, provider: tried.provider, steps: tried.steps })
}
