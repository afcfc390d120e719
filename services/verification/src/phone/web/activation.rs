//! A phone becomes a device (V-20): it shows the activation's code, makes its keys and sends their public parts, once. It counts after
//! it approved one prompt, which is opened here.

use super::subscription::checked_subscription;
use super::{PASSKEY_MS, relying_party};
use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::facts::Spoken;
use crate::phone::activation_code;
use crate::phone::device_key::DeviceKey;
use crate::webauthn::{NewPasskey, creation_options, verify_registration};
use domain::{Method, Reason, Secret};
use policy::UserState;
use proto::user_store::{
    FindActivationReply, FindActivationRequest, OpenPromptRequest, Prompt, PromptResult, PushDevice, PutDeviceRequest,
};
use proto::verification::{
    BeginActivationReply, BeginActivationRequest, FinishActivationReply, FinishActivationRequest,
};
use tonic::Status;
use uuid::Uuid;

const NAME_SIGNS_MAX: usize = 64;
/// How long the first prompt is open.
const PROOF_MS: i64 = 120_000;

pub async fn begin_activation(
    service: &Service,
    request: BeginActivationRequest,
    budget: Budget,
) -> Result<BeginActivationReply, Status> {
    let refused = |reason: Reason| BeginActivationReply { reason: reason.code().into(), ..Default::default() };
    let code: Secret = request.code.unwrap_or_default().into();
    let Some((found, device)) = activation(service, &code, budget).await?.filter(|(found, _)| !found.redeemed) else {
        return Ok(refused(Reason::ChallengeGone));
    };
    let user = service.store.user_by_id(&found.user_id, budget).await?;
    let Some(user) = user.filter(|user| user.state == UserState::Enabled) else {
        return Ok(refused(Reason::Blocked));
    };
    let known = service.settings.known()?;
    let company = known.settings.portal.company.clone();
    let party = relying_party(service)?;
    let ceremonies = service.ceremonies(budget).await?;
    let expires = service.clock.now_ms() + i64::from(PASSKEY_MS);
    let purpose = purpose(&device.device_id);
    let challenge = ceremonies.challenge(&purpose, expires, service.random()?);
    let new = NewPasskey {
        party_name: &company,
        handle: &purpose,
        user_name: &user.username,
        challenge: &challenge,
        of_this_device: true,
        exclude: &[],
        timeout_ms: PASSKEY_MS,
    };
    Ok(BeginActivationReply {
        passkey_json: creation_options(&party, &new),
        vapid_public_key: service.providers.push.vapid_public_key(budget).await?,
        pin: user.may_be_asked_pin(&known, service.clock.now_ms()),
        language: user.language(Spoken::App, &known).as_str().to_owned(),
        passkey_required: !known.settings.push.without_passkey,
        device_id: device.device_id,
        account: user.username,
        company,
        ..Default::default()
    })
}

pub async fn finish_activation(
    service: &Service,
    request: FinishActivationRequest,
    budget: Budget,
) -> Result<FinishActivationReply, Status> {
    let refused = |reason: Reason| FinishActivationReply { reason: reason.code().into() };
    let code: Secret = request.code.unwrap_or_default().into();
    let Some((found, device)) = activation(service, &code, budget).await? else {
        return Ok(refused(Reason::ChallengeGone));
    };
    let Some(key) = DeviceKey::from_jwk(&request.device_key_jwk) else {
        return Err(Status::invalid_argument("device_key_jwk: no P-256 public key"));
    };
    if device.device_id != request.device_id {
        return Ok(refused(Reason::ChallengeGone));
    }
    if found.redeemed {
        // The reply was lost on its way; of another phone it is the second use of one code.
        let same = device.public_key == key.to_jwk();
        return Ok(if same { FinishActivationReply::default() } else { refused(Reason::ChallengeGone) });
    }
    let known = service.settings.known()?;
    let passkey_json = match request.credential_json.as_str() {
        "" if known.settings.push.without_passkey => String::new(),
        "" => return Ok(refused(Reason::NoUsableMethod)),
        json => {
            let party = relying_party(service)?;
            let ceremonies = service.ceremonies(budget).await?;
            let (purpose, now) = (purpose(&device.device_id), service.clock.now_ms());
            match verify_registration(&party, json, |challenge| ceremonies.is_ours(challenge, &purpose, now)) {
                Ok(credential) => credential.to_json(),
                Err(error) => {
                    tracing::warn!(error = %error, device = device.device_id, "a phone's passkey was refused");
                    return Ok(refused(Reason::ChallengeGone));
                }
            }
        }
    };
    let name = match line(request.name.trim(), NAME_SIGNS_MAX) {
        name if name.is_empty() => "Phone".to_owned(),
        name => name,
    };
    let device = PushDevice {
        kind: "web".into(),
        name,
        state: "pending".into(),
        public_key: key.to_jwk(),
        subscription: checked_subscription(service, &request.subscription_json)?.map(|json| Secret::from(json).into()),
        passkey_json,
        ..device
    };
    let put = PutDeviceRequest {
        user_id: found.user_id.clone(),
        device: Some(device.clone()),
        code_hash: activation_code::hash(&code).unwrap_or_default(),
        state_json: String::new(),
        now_unix_ms: service.clock.now_ms(),
        actor: "self".into(),
    };
    let commit = service.committer.commit.as_ref();
    let put =
        budget.ask("put device", service_kit::grpc::idempotent(put), |request| commit.put_device(request)).await?;
    if !put.done {
        return Ok(refused(Reason::ChallengeGone));
    }
    tracing::info!(device = device.device_id, user = found.user_id, "a phone was activated");
    ask_for_proof(service, &found.user_id, device, &request.address, budget).await?;
    Ok(FinishActivationReply::default())
}

/// The activation that a code opens, with its device.
async fn activation(
    service: &Service,
    code: &Secret,
    budget: Budget,
) -> Result<Option<(FindActivationReply, PushDevice)>, Status> {
    let Some(code_hash) = activation_code::hash(code) else { return Ok(None) };
    let find = FindActivationRequest { code_hash, serial: String::new(), now_unix_ms: service.clock.now_ms() };
    let commit = service.committer.commit.as_ref();
    let mut found = budget.ask("find activation", find, |request| commit.find_activation(request)).await?;
    let device = found.device.take().filter(|device| device.kind == "web");
    Ok(device.map(|device| (found, device)))
}

/// The first prompt, for this device alone. Where another one is open or the user has to wait, the device stays pending until
/// somebody tries it.
async fn ask_for_proof(
    service: &Service,
    user_id: &str,
    device: PushDevice,
    address: &str,
    budget: Budget,
) -> Result<(), Status> {
    let commit = service.committer.commit.as_ref();
    let user = service.enabled_user(user_id, budget).await?;
    let known = service.settings.known()?;
    let rules = &known.settings.verification;
    let now = service.clock.now_ms();
    let id = |random: [u8; 10]| uuid::Builder::from_unix_timestamp_millis(now.unsigned_abs(), &random).into_uuid();
    let ids: [Uuid; 2] = [id(service.random()?), id(service.random()?)];
    let prompt = Prompt {
        prompt_id: ids[0].to_string(),
        transaction_id: ids[1].to_string(),
        user_id: user_id.to_owned(),
        method: Method::Push.code().into(),
        client: "portal".into(),
        application: known.settings.portal.company.clone(),
        language: user.language(Spoken::App, &known).as_str().to_owned(),
        username: user.username,
        place: line(address, 64),
        device_id: device.device_id.clone(),
        begun_unix_ms: now,
        expires_unix_ms: now + PROOF_MS,
        ..Prompt::default()
    };
    let open = OpenPromptRequest {
        prompt: Some(prompt.clone()),
        cool_down_seconds: rules.cool_down_seconds,
        prompts_per_day: rules.prompts_per_day,
        calls_per_hour: rules.calls_per_hour,
        now_unix_ms: now,
        ..OpenPromptRequest::default()
    };
    let opened = budget.ask("open prompt", open, |request| commit.open_prompt(request)).await?;
    if opened.result == i32::from(PromptResult::Opened) {
        let prompt = opened.prompt.unwrap_or(prompt);
        // The page that was just activated is open, and asks by itself.
        if let Err(error) = service.carriers.push(&prompt, &[device]).await {
            tracing::debug!(error = %error, "the first prompt waits for the page");
        }
    }
    Ok(())
}

fn purpose(device_id: &str) -> String {
    format!("device|{device_id}")
}
