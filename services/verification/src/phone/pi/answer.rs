//! What the person decided (V-21, V-22): signed by the token's key over the nonce of its own challenge, put into the store once.
//!
//! `value: false` tells the app to drop a challenge; a repeated answer gets the first one's reply.

use super::wire::{self, Answer, Decision};
use super::{PROVIDER, Token, challenge, signer};
use crate::Service;
use crate::budget::Budget;
use crate::phone::refused::audit_refused;
use crate::phone::resolve::{Answered, resolve};
use domain::Reason;
use proto::user_store::{GetPromptsRequest, Prompt};
use proto::verification::PiReply;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

pub async fn answer(service: &Service, answer: Answer<'_>, budget: Budget) -> Result<Option<PiReply>, Status> {
    let Some(token) = signer(service, answer.serial, &answer.signed(), answer.signature, budget).await? else {
        return Ok(None);
    };
    let taken = match prompt_of(service, &token, answer.nonce, budget).await? {
        Some(prompt) => match outcome(&prompt, &token, answer.decision) {
            Ok(outcome) => {
                let answered = Answered {
                    user_id: &token.user_id,
                    device: &token.device,
                    prompt: &prompt,
                    outcome,
                    // The text names the nonce, so the token and the prompt, and the whole decision.
                    digest: Sha256::digest(answer.signed()).to_vec(),
                    pin_handle: String::new(),
                    passkey_count: None,
                };
                resolve(service, answered, budget).await?
            }
            Err(reason) => {
                audit_refused(service, &token.user_id, &token.device.device_id, &prompt, reason, budget).await?;
                Err(reason)
            }
        },
        None => Err(Reason::ChallengeGone),
    };
    service.phones.answered(PROVIDER, taken.as_ref().map_or_else(|reason| reason.code(), |outcome| *outcome));
    Ok(Some(wire::value(json!(taken.is_ok()), json!({}))))
}

/// The prompt of which this very challenge was shown to this token.
async fn prompt_of(service: &Service, token: &Token, nonce: &str, budget: Budget) -> Result<Option<Prompt>, Status> {
    let Some(id) = challenge::prompt_of(nonce) else { return Ok(None) };
    let get = GetPromptsRequest { prompt_ids: vec![id.to_string()], transaction_ids: Vec::new() };
    let commit = service.committer.commit.as_ref();
    let get = service_kit::grpc::idempotent(get);
    let found = budget.ask("get prompts", get, |request| commit.get_prompts(request)).await?;
    Ok(found.prompts.into_iter().find(|prompt| {
        prompt.prompt_id == id.to_string()
            && prompt.user_id == token.user_id
            && prompt.method == "push"
            && challenge::shown(prompt, &token.device.device_id).is_some_and(|shown| shown.nonce == nonce)
    }))
}

/// What the decision makes of the prompt, or why it makes nothing of it.
fn outcome(prompt: &Prompt, token: &Token, decision: Decision<'_>) -> Result<&'static str, Reason> {
    match decision {
        _ if !token.enabled => Err(Reason::Blocked),
        // This app cannot ask for our PIN; it was not offered such a prompt either.
        Decision::Accept { .. } if prompt.pin_asked => Err(Reason::WrongPin),
        Decision::Accept { .. } if prompt.number.is_empty() => Ok("approved"),
        // Without a number nothing was chosen, so nothing is wrong yet.
        Decision::Accept { number: None } => Err(Reason::ChallengeGone),
        Decision::Accept { number: Some(number) } => {
            let right: bool = number.as_bytes().ct_eq(prompt.number.as_bytes()).into();
            Ok(if right { "approved" } else { "wrong_number" })
        }
        Decision::Decline { reason: Some("unknown_trigger") } => Ok("fraud"),
        Decision::Decline { reason: Some("cancelled") } => Ok("cancelled"),
        Decision::Decline { .. } => Ok("denied"),
    }
}
