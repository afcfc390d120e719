//! Passkeys for signing in to the portal (FV-08).

use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::webauthn::{Credential, NewPasskey, RelyingParty, creation_options, verify_registration};
use domain::Reason;
use proto::user_store::{LoginFactsRequest, Passkey, PutPasskeyRequest, login_facts_request::Who};
use proto::verification::{ConfirmPasskeyRequest, ConfirmReply, StartPasskeyReply, StartPasskeyRequest};
use tonic::Status;
use uuid::Uuid;

/// How long a person may take.
const CEREMONY_MS: u32 = 300_000;
const NAME_SIGNS_MAX: usize = 64;

pub async fn start_passkey(
    service: &Service,
    request: StartPasskeyRequest,
    budget: Budget,
) -> Result<StartPasskeyReply, Status> {
    let user = service.enabled_user(&request.user_id, budget).await?;
    let known = service.settings.known()?;
    let party = relying_party(&known.portal_url)?;
    let passkey_id = Uuid::new_v4().to_string();
    let held = held(service, &user.id, budget).await?;
    let purpose = purpose(&user.id, &passkey_id);
    let expires = service.clock.now_ms() + i64::from(CEREMONY_MS);
    let challenge = service.ceremonies(budget).await?.challenge(&purpose, expires, service.random()?);
    let new = NewPasskey {
        party_name: &known.settings.portal.company,
        handle: &purpose,
        user_name: &user.username,
        challenge: &challenge,
        of_this_device: false,
        exclude: &held,
        timeout_ms: CEREMONY_MS,
    };
    let options_json = creation_options(&party, &new);
    let put = PutPasskeyRequest {
        user_id: user.id.clone(),
        // While the ceremony runs, what was asked for stands in its place.
        passkey: Some(Passkey {
            passkey_id: passkey_id.clone(),
            credential_json: options_json.clone(),
            ..Passkey::default()
        }),
        pending: true,
        actor: line(&request.actor, 128),
        now_unix_ms: service.clock.now_ms(),
    };
    let commit = service.committer.commit.as_ref();
    budget.ask("put passkey", put, |request| commit.put_passkey(request)).await?;
    Ok(StartPasskeyReply { options_json, passkey_id })
}

pub async fn confirm_passkey(
    service: &Service,
    request: ConfirmPasskeyRequest,
    budget: Budget,
) -> Result<ConfirmReply, Status> {
    let user = service.enabled_user(&request.user_id, budget).await?;
    let party = relying_party(&service.settings.known()?.portal_url)?;
    let (purpose, now) = (purpose(&user.id, &request.passkey_id), service.clock.now_ms());
    let ceremonies = service.ceremonies(budget).await?;
    let verified =
        verify_registration(&party, &request.credential_json, |challenge| ceremonies.is_ours(challenge, &purpose, now));
    let credential = match verified {
        Ok(credential) => credential,
        Err(error) => {
            tracing::warn!(error = %error, passkey = request.passkey_id, "a passkey was refused");
            return Ok(ConfirmReply { confirmed: false, reason: Reason::ChallengeGone.code().into() });
        }
    };
    let name = match line(request.name.trim(), NAME_SIGNS_MAX) {
        name if name.is_empty() => "Passkey".to_owned(),
        name => name,
    };
    let put = PutPasskeyRequest {
        user_id: user.id,
        passkey: Some(Passkey { passkey_id: request.passkey_id, name, credential_json: credential.to_json() }),
        pending: false,
        actor: line(&request.actor, 128),
        now_unix_ms: now,
    };
    let commit = service.committer.commit.as_ref();
    let put = service_kit::grpc::idempotent(put);
    let kept = budget.ask("put passkey", put, |request| commit.put_passkey(request)).await?;
    let confirmed = !kept.passkey_id.is_empty();
    let reason = if confirmed { "" } else { Reason::ChallengeGone.code() };
    Ok(ConfirmReply { confirmed, reason: reason.to_owned() })
}

/// The passkeys that the user has: an authenticator that holds one makes no second one.
async fn held(service: &Service, user_id: &str, budget: Budget) -> Result<Vec<Credential>, Status> {
    let request = LoginFactsRequest { who: Some(Who::UserId(user_id.to_owned())), ..Default::default() };
    let facts = service.store.login_facts(request, budget).await?;
    Ok(facts.passkeys.iter().filter_map(|passkey| Credential::from_json(&passkey.credential_json)).collect())
}

fn relying_party(portal_url: &str) -> Result<RelyingParty, Status> {
    RelyingParty::of(portal_url).ok_or_else(|| Status::failed_precondition("no portal has told its address yet"))
}

fn purpose(user_id: &str, passkey_id: &str) -> String {
    format!("passkey|{user_id}|{passkey_id}")
}
