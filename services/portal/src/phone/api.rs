//! JSON of the phone's pages: read, bounded, handed on to verification, and its answer handed back. Nothing is decided here.

use super::Phones;
use crate::app::{VERIFICATION_LIMIT, within};
use crate::http::{ClientAddress, same_origin};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::{Reason, Secret};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use proto::verification::{
    BeginActivationRequest, ConfirmDeviceCodeRequest, DecideRequest, DevicePrompt, DeviceProof,
    FinishActivationRequest, OpenPromptsRequest, UpdateDeviceRequest,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize)]
pub(super) struct Begin {
    code: String,
}

#[derive(Deserialize)]
pub(super) struct Finish {
    code: String,
    device_id: String,
    name: String,
    /// JWK
    device_key: serde_json::Value,
    /// `RegistrationResponseJSON`, or null.
    credential: serde_json::Value,
    /// `PushSubscriptionJSON`, or null.
    subscription: serde_json::Value,
}

#[derive(Deserialize)]
struct Proof {
    device_id: String,
    timestamp: String,
    signature: String,
}

#[derive(Deserialize)]
pub(super) struct Device {
    proof: Proof,
    /// As text: the proof covers its octets.
    subscription: String,
}

#[derive(Deserialize)]
pub(super) struct Prompts {
    proof: Proof,
}

#[derive(Deserialize)]
pub(super) struct Decide {
    proof: Proof,
    prompt_id: String,
    decision: String,
    number: String,
    pin: String,
    /// `AuthenticationResponseJSON`, or null.
    assertion: serde_json::Value,
    signature: String,
}

#[derive(Deserialize)]
pub(super) struct Code {
    proof: Proof,
    factor_id: String,
    code: String,
}

/// A prompt as the page shows it. What its script signs is made from these very values.
#[derive(Serialize)]
struct Shown {
    id: String,
    application: String,
    username: String,
    place: String,
    begun: i64,
    expires: i64,
    number_asked: bool,
    pin_asked: bool,
    passkey: Option<serde_json::Value>,
    language: String,
}

pub(super) async fn begin(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let begin: Begin = match read(&phones, &headers, &body) {
        Ok(begin) => begin,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_activate(from) {
        return too_many();
    }
    let request = BeginActivationRequest { code: Some(Secret::from(begin.code).into()), address: from.to_string() };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.begin_activation(request)).await {
        Ok(reply) => Json(json!({
            "reason": reply.reason,
            "device_id": reply.device_id,
            "account": reply.account,
            "company": reply.company,
            "passkey": parsed(&reply.passkey_json),
            "vapid_public_key": reply.vapid_public_key,
            "passkey_required": reply.passkey_required,
            "pin": reply.pin,
            "language": reply.language,
        }))
        .into_response(),
        Err(status) => unavailable(&status),
    }
}

pub(super) async fn finish(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let finish: Finish = match read(&phones, &headers, &body) {
        Ok(finish) => finish,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_activate(from) {
        return too_many();
    }
    let request = FinishActivationRequest {
        code: Some(Secret::from(finish.code).into()),
        device_id: finish.device_id,
        name: finish.name,
        device_key_jwk: written(&finish.device_key),
        credential_json: written(&finish.credential),
        subscription_json: written(&finish.subscription),
        address: from.to_string(),
    };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.finish_activation(request)).await {
        Ok(reply) => reason(&reply.reason),
        Err(status) => unavailable(&status),
    }
}

pub(super) async fn device(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let device: Device = match read(&phones, &headers, &body) {
        Ok(device) => device,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_call(from, &device.proof.device_id) {
        return too_many();
    }
    let request = UpdateDeviceRequest { proof: Some(device.proof.into()), subscription_json: device.subscription };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.update_device(request)).await {
        Ok(reply) => reason(&reply.reason),
        Err(status) => unavailable(&status),
    }
}

pub(super) async fn prompts(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let prompts: Prompts = match read(&phones, &headers, &body) {
        Ok(prompts) => prompts,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_call(from, &prompts.proof.device_id) {
        return too_many();
    }
    let request = OpenPromptsRequest { proof: Some(prompts.proof.into()) };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.open_prompts(request)).await {
        Ok(reply) => {
            let shown: Vec<Shown> = reply.prompts.into_iter().map(Shown::from).collect();
            Json(json!({ "reason": reply.reason, "prompts": shown })).into_response()
        }
        Err(status) => unavailable(&status),
    }
}

pub(super) async fn decide(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let decide: Decide = match read(&phones, &headers, &body) {
        Ok(decide) => decide,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_call(from, &decide.proof.device_id) {
        return too_many();
    }
    let pin = Secret::from(decide.pin);
    let request = DecideRequest {
        proof: Some(decide.proof.into()),
        prompt_id: decide.prompt_id,
        decision: decide.decision,
        number: decide.number,
        pin: (!pin.is_empty()).then(|| pin.into()),
        assertion_json: written(&decide.assertion),
        signature: decide.signature,
    };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.decide(request)).await {
        Ok(reply) => {
            // Shown to the page once; it keeps what it makes of it where no script can take it out.
            let seed = Secret::from(reply.otpauth_uri.unwrap_or_default());
            let code = (!seed.is_empty())
                .then(|| json!({ "factor_id": reply.factor_id, "uri": seed.expose_str().unwrap_or_default() }));
            let body = json!({ "taken": reply.taken, "reason": reply.reason, "code": code });
            ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Err(status) => unavailable(&status),
    }
}

pub(super) async fn code(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let code: Code = match read(&phones, &headers, &body) {
        Ok(code) => code,
        Err(refused) => return refused.into_response(),
    };
    if !phones.may_call(from, &code.proof.device_id) {
        return too_many();
    }
    let request = ConfirmDeviceCodeRequest {
        proof: Some(code.proof.into()),
        factor_id: code.factor_id,
        code: Some(Secret::from(code.code).into()),
    };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.confirm_device_code(request)).await {
        Ok(reply) => reason(&reply.reason),
        Err(status) => unavailable(&status),
    }
}

impl From<Proof> for DeviceProof {
    fn from(proof: Proof) -> Self {
        Self { device_id: proof.device_id, timestamp: proof.timestamp, signature: proof.signature }
    }
}

impl From<DevicePrompt> for Shown {
    fn from(prompt: DevicePrompt) -> Self {
        Self {
            id: prompt.prompt_id,
            application: prompt.application,
            username: prompt.username,
            place: prompt.place,
            begun: prompt.begun_unix_ms,
            expires: prompt.expires_unix_ms,
            number_asked: prompt.number_asked,
            pin_asked: prompt.pin_asked,
            passkey: parsed(&prompt.passkey_json),
            language: prompt.language,
        }
    }
}

/// From our own pages only (V-81): what other sites make a browser send is not looked at.
fn read<T: DeserializeOwned>(phones: &Phones, headers: &HeaderMap, body: &[u8]) -> Result<T, StatusCode> {
    if !same_origin(headers, &phones.app.public) {
        return Err(StatusCode::FORBIDDEN);
    }
    serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)
}

fn parsed(json: &str) -> Option<serde_json::Value> {
    serde_json::from_str(json).ok()
}

/// Empty for null.
fn written(value: &serde_json::Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

fn reason(code: &str) -> Response {
    Json(json!({ "reason": code })).into_response()
}

fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, Json(json!({ "reason": Reason::RateLimited.code() }))).into_response()
}

/// What another part said is in the log, not on the phone.
fn unavailable(status: &tonic::Status) -> Response {
    tracing::warn!(code = ?status.code(), "a phone could not be answered");
    let (status, reason) = match status.code() {
        tonic::Code::InvalidArgument => (StatusCode::BAD_REQUEST, Reason::InternalError),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Reason::VerificationUnavailable),
    };
    (status, Json(json!({ "reason": reason.code() }))).into_response()
}
