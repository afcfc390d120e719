//! Phones and devices of a user: activated by a code, reached by a text or a call, tried, taken away.

use super::access::Caller;
use super::extract::{Body, Path};
use super::problem::Problem;
use super::secrets::given;
use super::users::{UserWithDetail, find, shown, user_id};
use super::{Page, moment};
use crate::app::{App, PERSON_LIMIT, STORE_LIMIT, VERIFICATION_LIMIT, text_of, within};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason, ResultClass, Secret};
use http::StatusCode;
use proto::user_store::{DeviceSummary, RevokeFactorRequest};
use proto::verification::{
    ConfirmPhoneRequest, DeviceStateRequest, StartDeviceRequest, StartPhoneRequest, TryMethodRequest,
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Device {
    id: String,
    /// web, pi or passkey.
    kind: String,
    name: String,
    state: String,
    created: Option<String>,
    last_seen: Option<String>,
    passkey: bool,
    push: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewActivation {
    kind: Option<DeviceKind>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeviceKind {
    /// Our own app on the phone.
    #[default]
    Web,
    /// The privacyIDEA Authenticator.
    Pi,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StartedActivation {
    device_id: String,
    /// Shown this once: for a QR code.
    uri: String,
    /// The same for typing; empty where the app cannot take one.
    code: String,
    expires: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ActivationState {
    device_id: String,
    /// open, redeemed, active or void.
    state: String,
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPhone {
    method: PhoneMethod,
    /// International form, or national with the country of the settings.
    number: String,
    #[serde(default)]
    extension: String,
    /// The second number instead of the first.
    #[serde(default)]
    backup: bool,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PhoneMethod {
    Sms,
    Call,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StartedPhone {
    verification_id: String,
    /// Masked.
    destination: String,
    expires: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PhoneProof {
    /// Of the text; absent for a call, which answers for itself when it has ended.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    code: Option<Secret>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTry {
    method: TryableMethod,
    /// Only this device.
    #[serde(default)]
    device_id: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TryableMethod {
    Push,
    Sms,
    Call,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Tried {
    /// Did it end in a success?
    accepted: bool,
    reason: &'static str,
    steps: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Step {
    ms: u32,
    what: String,
}

/// The devices and passkeys of a user
#[utoipa::path(get, path = "/users/{id}/devices", tag = "phones",
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = Page<Device>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn devices(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Page<Device>>, Problem> {
    let items = find(&app, &id).await?.devices.into_iter().map(device).collect();
    Ok(Json(Page { items, next: None }))
}

/// Take a device or a passkey away
#[utoipa::path(delete, path = "/users/{id}/devices/{device_id}", tag = "phones",
    params(("id" = String, Path, description = "Id, or any form of the name"), ("device_id" = String, Path)), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke_device(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, device_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let request = RevokeFactorRequest { user_id: user_id(&app, &id).await?, factor_id: device_id, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.revoke_factor(request)).await?))
}

/// Make the code by which a phone becomes a device of the user: once, for a few minutes
#[utoipa::path(post, path = "/users/{id}/activations", tag = "phones", request_body = NewActivation,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = StartedActivation), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn activate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewActivation>,
) -> Result<(StatusCode, Json<StartedActivation>), Problem> {
    let kind = match new.kind.unwrap_or_default() {
        DeviceKind::Web => "web",
        DeviceKind::Pi => "pi",
    };
    let request = StartDeviceRequest { user_id: user_id(&app, &id).await?, kind: kind.to_owned(), actor: caller.actor };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_device(request)).await?;
    started(&reply.reason)?;
    let activation = StartedActivation {
        device_id: reply.device_id,
        uri: text_of(reply.uri),
        code: text_of(reply.code),
        expires: moment(reply.expires_unix_ms),
    };
    Ok((StatusCode::CREATED, Json(activation)))
}

/// What became of an activation
#[utoipa::path(get, path = "/users/{id}/activations/{device_id}", tag = "phones",
    params(("id" = String, Path, description = "Id, or any form of the name"), ("device_id" = String, Path)), responses(
    (status = 200, body = ActivationState), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn activation(
    State(app): State<Arc<App>>,
    _: Caller,
    Path((id, device_id)): Path<(String, String)>,
) -> Result<Json<ActivationState>, Problem> {
    let request = DeviceStateRequest { user_id: user_id(&app, &id).await?, device_id: device_id.clone() };
    let request = idempotent(request);
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.device_state(request)).await?;
    Ok(Json(ActivationState { device_id, state: reply.state, name: reply.name }))
}

/// Text or call a number: once it was reached, it is the user's
#[utoipa::path(post, path = "/users/{id}/phones", tag = "phones", request_body = NewPhone,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = StartedPhone), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn start_phone(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewPhone>,
) -> Result<(StatusCode, Json<StartedPhone>), Problem> {
    let method = match new.method {
        PhoneMethod::Sms => Method::Sms,
        PhoneMethod::Call => Method::Call,
    };
    let request = StartPhoneRequest {
        user_id: user_id(&app, &id).await?,
        method: method.code().to_owned(),
        number: new.number,
        extension: new.extension,
        backup: new.backup,
        actor: caller.actor,
    };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_phone(request)).await?;
    started(&reply.reason)?;
    let phone = StartedPhone {
        verification_id: reply.verification_id,
        destination: reply.destination,
        expires: moment(reply.expires_unix_ms),
    };
    Ok((StatusCode::CREATED, Json(phone)))
}

/// Prove that a number was reached; for a call, wait for its end
#[utoipa::path(post, path = "/users/{id}/phones/{verification_id}/confirm", tag = "phones", request_body = PhoneProof,
    params(("id" = String, Path, description = "Id, or any form of the name"), ("verification_id" = String, Path)), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn confirm_phone(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, verification_id)): Path<(String, String)>,
    Body(proof): Body<PhoneProof>,
) -> Result<Response, Problem> {
    let request = ConfirmPhoneRequest {
        user_id: user_id(&app, &id).await?,
        verification_id,
        code: proof.code.map(Into::into),
        actor: caller.actor,
    };
    let reply = within(PERSON_LIMIT, request, |request| app.deps.enrolment.confirm_phone(request)).await?;
    match reply.confirmed {
        true => Ok(shown(find(&app, &id).await?)),
        false => Err(Problem::code_refused(Reason::from_code(&reply.reason))),
    }
}

/// Ask somebody's phone for real: whether it works, or whether it is them who is calling
#[utoipa::path(post, path = "/users/{id}/try", tag = "phones", request_body = NewTry,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = Tried), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn try_method(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewTry>,
) -> Result<Json<Tried>, Problem> {
    let method = match new.method {
        TryableMethod::Push => Method::Push,
        TryableMethod::Sms => Method::Sms,
        TryableMethod::Call => Method::Call,
    };
    let request = TryMethodRequest {
        user_id: user_id(&app, &id).await?,
        method: method.code().to_owned(),
        device_id: new.device_id,
        actor: caller.actor,
        to_prove: false,
    };
    let reply = within(PERSON_LIMIT, request, |request| app.deps.enrolment.try_method(request)).await?;
    let reason = Reason::from_code(&reply.reason);
    let accepted = reason.class() == ResultClass::Success;
    Ok(Json(Tried { accepted, reason: reason.code(), steps: steps(reply.steps) }))
}

pub(super) fn steps(steps: Vec<proto::verification::Step>) -> Vec<Step> {
    steps.into_iter().map(|step| Step { ms: step.ms, what: step.what }).collect()
}

/// Nothing was begun where there is a reason.
fn started(reason: &str) -> Result<(), Problem> {
    match reason {
        "" => Ok(()),
        reason => Err(Problem::code_refused(Reason::from_code(reason))),
    }
}

pub(super) fn device(device: DeviceSummary) -> Device {
    Device {
        id: device.device_id,
        kind: device.kind,
        name: device.name,
        state: device.state,
        created: moment(device.created_unix_ms),
        last_seen: moment(device.last_seen_unix_ms),
        passkey: device.has_passkey,
        push: device.has_push,
    }
}
