//! A phone number becomes the user's after it was called or texted once. The number is kept with the proof, so that the confirmation
//! cannot name another one.

use crate::Service;
use crate::attempt::line;
use crate::budget::{Budget, not_understood};
use crate::facts::{KnownUser, Spoken};
use crate::methods::prompt::{PROMPT, Target, no_randomness, reason_of};
use crate::methods::sent::Sending;
use crate::number::dialable;
use crate::providers::words::own;
use crate::providers::{Callee, SendFailure, Text};
use crate::texts;
use domain::{Method, PhoneNumber, Reason, Secret};
use proto::user_store::{GetPromptsRequest, Prompt, SentCodeResult, SetPhoneRequest};
use proto::verification::{ConfirmPhoneRequest, ConfirmReply, StartPhoneReply, StartPhoneRequest};
use std::time::Duration;
use tonic::Status;
use uuid::Uuid;

/// What an answered call proves in the place of a code. Nobody can type it: it is no digits.
const BY_CALL: &[u8] = b"call";
const EXTENSION_MAX: usize = 10;
/// Kept back to say what came of a call.
const ANSWER: Duration = Duration::from_millis(1_500);

pub async fn start_phone(
    service: &Service,
    request: StartPhoneRequest,
    budget: Budget,
) -> Result<StartPhoneReply, Status> {
    let refused = |reason: Reason| Ok(StartPhoneReply { reason: reason.code().into(), ..StartPhoneReply::default() });
    let method = match Method::from_code(&request.method) {
        Some(method @ (Method::Sms | Method::Call)) => method,
        _ => return Err(Status::invalid_argument("method: allowed are sms and call")),
    };
    if !is_extension(&request.extension) {
        return Err(Status::invalid_argument("extension: at most 10 of 0-9, *, # and ,"));
    }
    let user = service.enabled_user(&request.user_id, budget).await?;
    let known = service.settings.known()?;
    let number = dialable(&request.number, &known.settings.verification.country)
        .map_err(|error| Status::invalid_argument(format!("number: {error}")))?;
    let transaction = Uuid::now_v7().to_string();
    let life_ms = match method {
        Method::Call => PROMPT.as_millis() as i64,
        _ => i64::from(known.settings.sms.life_seconds) * 1000,
    };
    let expires_unix_ms = service.clock.now_ms().saturating_add(life_ms);
    let digits = known.settings.sms.digits.clamp(6, 8) as usize;
    let code = otp::digits(digits, service.randomness).map_err(no_randomness)?;
    let proof = if method == Method::Call { BY_CALL } else { code.expose() };
    let key_id = service.code_keys.current().ok_or_else(|| not_understood("key ring codes"))?;
    let digest =
        service.code_digest(key_id, &transaction, &user.id, proof).ok_or_else(|| not_understood("key ring codes"))?;
    let sending = Sending {
        user_id: &user.id,
        transaction_id: &transaction,
        kind: "proof",
        number: &number,
        extension: &request.extension,
        backup: request.backup,
        expires_unix_ms,
    };
    if service.open_sent_code(&sending, digest, budget).await?.is_err() {
        return refused(Reason::RateLimited);
    }
    let sent = match method {
        Method::Call => ring(service, &user, &sending, budget).await?,
        _ => text(service, &user, &sending, &code, budget).await,
    };
    match sent {
        Ok(()) => Ok(StartPhoneReply {
            // The key's id travels along: it may be another one when the answer comes.
            verification_id: format!("{key_id}.{transaction}"),
            destination: number.masked(),
            expires_unix_ms,
            reason: String::new(),
        }),
        Err(reason) => refused(reason),
    }
}

async fn text(
    service: &Service,
    user: &KnownUser,
    sending: &Sending<'_>,
    code: &Secret,
    budget: Budget,
) -> Result<(), Reason> {
    let known = service.settings.known().map_err(|_| Reason::StoreUnavailable)?;
    let language = user.language(Spoken::Text, &known);
    let company = &known.settings.portal.company;
    let said = code.expose_str().ok_or(Reason::InternalError)?;
    let own = own(&known.settings, "sms-proof", &language, company).map(|own| own.text.as_str());
    let text = Text {
        to: sending.number,
        text: texts::sms_proof(&language, said, company, own),
        expires_unix_ms: sending.expires_unix_ms,
        user_id: sending.user_id,
        transaction_id: sending.transaction_id,
        reply: false,
    };
    let sent = tokio::time::timeout(budget.less(ANSWER).left(), service.carriers.text(text)).await;
    sent.unwrap_or(Err(SendFailure::TooLate)).map(|_| ()).map_err(|failure| failure.reason())
}

async fn ring(
    service: &Service,
    user: &KnownUser,
    sending: &Sending<'_>,
    budget: Budget,
) -> Result<Result<(), Reason>, Status> {
    let known = service.settings.known()?;
    let language = user.language(Spoken::Call, &known);
    let prompt = Prompt {
        prompt_id: Uuid::new_v4().to_string(),
        transaction_id: sending.transaction_id.to_owned(),
        user_id: user.id.clone(),
        method: Method::Call.code().into(),
        client: "portal".into(),
        application: line(&known.settings.portal.company, 64),
        username: user.username.clone(),
        begun_unix_ms: service.clock.now_ms(),
        expires_unix_ms: sending.expires_unix_ms,
        language: language.as_str().to_owned(),
        ..Prompt::default()
    };
    let target = Target::Number { number: sending.number.clone(), extension: sending.extension.to_owned() };
    let open = service.limits(prompt, &target, &known);
    let prompt = match service.open_prompt(open, budget).await? {
        Ok((prompt, _)) => prompt,
        Err(ending) => return Ok(Err(ending.reason)),
    };
    let callee = Callee {
        to: sending.number,
        extension: sending.extension,
        backup: None,
        language: &language,
        pin: false,
        new_pin: false,
        activation: true,
    };
    let called = tokio::time::timeout(budget.less(ANSWER).left(), service.carriers.call(&prompt, callee)).await;
    match called.unwrap_or(Err(SendFailure::TooLate)) {
        Ok(_) => Ok(Ok(())),
        Err(failure) => {
            service.committer.resolve(&prompt.prompt_id, failure.reason().code(), budget).await?;
            Ok(Err(failure.reason()))
        }
    }
}

pub async fn confirm_phone(
    service: &Service,
    request: ConfirmPhoneRequest,
    budget: Budget,
) -> Result<ConfirmReply, Status> {
    let refused = |reason: Reason| Ok(ConfirmReply { confirmed: false, reason: reason.code().into() });
    let user = service.enabled_user(&request.user_id, budget).await?;
    let id = request
        .verification_id
        .split_once('.')
        .and_then(|(key, transaction)| Some((key.parse::<u32>().ok()?, transaction.parse::<Uuid>().ok()?.to_string())));
    let Some((key_id, transaction)) = id else { return refused(Reason::ChallengeGone) };
    let typed: Secret = request.code.unwrap_or_default().into();
    let proof = match typed.is_empty() {
        true => match call_over(service, &user.id, &transaction, budget).await? {
            Ok(()) => Secret::new(BY_CALL),
            Err(reason) => return refused(reason),
        },
        false => match domain::presented::folded_digits(typed.expose(), 8) {
            Some(code) => code,
            None => return refused(Reason::WrongCode),
        },
    };
    let Some(digest) = service.code_digest(key_id, &transaction, &user.id, proof.expose()) else {
        return refused(Reason::ChallengeGone);
    };
    let (result, proven) = service.check_sent(&transaction, &user.id, digest, super::SOURCE, budget).await?;
    match result {
        SentCodeResult::Right => {}
        SentCodeResult::Wrong => return refused(Reason::WrongCode),
        SentCodeResult::Locked => return refused(Reason::LockedOut),
        SentCodeResult::Gone | SentCodeResult::Unspecified => return refused(Reason::ChallengeGone),
    }
    // What was proven is what was sent to, whatever this request may think.
    let number = PhoneNumber::new(&proven.number).map_err(|_| not_understood("check sent code"))?;
    let phone = SetPhoneRequest {
        user_id: user.id,
        number: number.expose().to_owned(),
        extension: proven.extension,
        backup: proven.backup,
        actor: line(&request.actor, 128),
    };
    let commit = &service.committer.commit;
    budget.ask("set phone", phone, |request| commit.set_phone(request)).await?;
    Ok(ConfirmReply { confirmed: true, reason: String::new() })
}

/// Waits until the call of this proof has ended, or the caller's time has.
async fn call_over(
    service: &Service,
    user_id: &str,
    transaction: &str,
    budget: Budget,
) -> Result<Result<(), Reason>, Status> {
    let request = GetPromptsRequest { transaction_ids: vec![transaction.to_owned()], ..GetPromptsRequest::default() };
    let commit = &service.committer.commit;
    let reply = budget.ask("prompts", request, |request| commit.get_prompts(request)).await?;
    let mine = |prompt: &Prompt| prompt.transaction_id == transaction && prompt.user_id == user_id;
    let Some(prompt) = reply.prompts.into_iter().find(mine) else { return Ok(Err(Reason::ChallengeGone)) };
    let over = service.wait_until_over(prompt, budget.less(ANSWER).left(), budget).await?;
    Ok(match over {
        None => Err(Reason::NoAnswer),
        Some(prompt) if prompt.outcome == "approved" => Ok(()),
        Some(prompt) => Err(reason_of(&prompt.outcome)),
    })
}

/// What a telephone can dial after somebody answered, with pauses.
fn is_extension(text: &str) -> bool {
    text.len() <= EXTENSION_MAX && text.bytes().all(|sign| sign.is_ascii_digit() || b"*#,".contains(&sign))
}
