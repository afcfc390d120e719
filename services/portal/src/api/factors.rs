//! Second factors of a user. A seed leaves only in the answer that makes it.

use super::access::Caller;
use super::extract::{Body, Path};
use super::problem::Problem;
use super::users::{UserWithDetail, find, shown, user_id};
use super::{Page, moment};
use crate::app::{App, STORE_LIMIT, VERIFICATION_LIMIT, text_of, within};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::{CodeAlgorithm, CodeForm, Reason, Secret};
use http::StatusCode;
use proto::user_store::{FactorSummary, RevokeFactorRequest};
use proto::verification::{ConfirmCodeRequest, StartCodeRequest};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Factor {
    id: String,
    /// code.
    method: String,
    /// totp or hotp.
    kind: String,
    /// Of a hardware token.
    serial: String,
    algorithm: String,
    digits: u32,
    period_seconds: u32,
    /// Not proven yet: it does not count.
    pending: bool,
    created: Option<String>,
    last_used: Option<String>,
    consecutive_failures: u32,
    locked_until: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFactor {
    /// SHA1, SHA256 or SHA512; SHA1 if absent, since apps ignore other values.
    algorithm: Option<String>,
    /// 6, 7 or 8; 6 if absent.
    digits: Option<u32>,
    /// 30 or 60; 30 if absent.
    period_seconds: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StartedFactor {
    id: String,
    /// Shown this once: `otpauth://totp/...`, for a QR code.
    otpauth_uri: String,
    /// The same seed in Base32, for typing.
    secret: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    /// A code that the app or the token shows now.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    pub code: Secret,
}

/// The second factors of a user
#[utoipa::path(get, path = "/users/{id}/factors", tag = "factors", params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = Page<Factor>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Page<Factor>>, Problem> {
    let items = find(&app, &id).await?.factors.into_iter().map(factor).collect();
    Ok(Json(Page { items, next: None }))
}

/// Start an authenticator app: a secret that counts once a code of it was proven
#[utoipa::path(post, path = "/users/{id}/factors", tag = "factors", request_body = NewFactor,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = StartedFactor), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewFactor>,
) -> Result<(StatusCode, Json<StartedFactor>), Problem> {
    let algorithm = match new.algorithm.as_deref() {
        None => CodeAlgorithm::Sha1,
        Some(code) => CodeAlgorithm::from_code(code)
            .ok_or_else(|| Problem::rule("algorithm: allowed are SHA1, SHA256, SHA512"))?,
    };
    let form = CodeForm::new(algorithm, new.digits.unwrap_or(6), new.period_seconds.unwrap_or(30));
    let form = form.map_err(|error| Problem::rule(error.to_string()))?;
    let request = StartCodeRequest {
        user_id: user_id(&app, &id).await?,
        algorithm: form.algorithm().code().to_owned(),
        digits: form.digits().into(),
        period_seconds: form.period_seconds() as u32,
        issuer: String::new(),
        actor: caller.actor.clone(),
    };
    tracing::info!(event = "enrolment", service = "portal", actor = caller.actor, result = "started", "enrolment");
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_code(request)).await?;
    let started = StartedFactor {
        id: reply.factor_id,
        otpauth_uri: text_of(reply.otpauth_uri),
        secret: text_of(reply.seed_base32),
    };
    Ok((StatusCode::CREATED, Json(started)))
}

/// Prove one code: from now on the factor counts
#[utoipa::path(post, path = "/users/{id}/factors/{factor_id}/confirm", tag = "factors", request_body = Proof,
    params(("id" = String, Path, description = "Id, or any form of the name"), ("factor_id" = String, Path)), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, factor_id)): Path<(String, String)>,
    Body(proof): Body<Proof>,
) -> Result<Response, Problem> {
    let request = ConfirmCodeRequest {
        user_id: user_id(&app, &id).await?,
        factor_id,
        code: Some(proof.code.into()),
        actor: caller.actor,
    };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.confirm_code(request)).await?;
    match reply.confirmed {
        true => Ok(shown(find(&app, &id).await?)),
        false => Err(Problem::code_refused(Reason::from_code(&reply.reason))),
    }
}

/// Take a factor away
#[utoipa::path(delete, path = "/users/{id}/factors/{factor_id}", tag = "factors",
    params(("id" = String, Path, description = "Id, or any form of the name"), ("factor_id" = String, Path)), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, factor_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let request = RevokeFactorRequest { user_id: user_id(&app, &id).await?, factor_id, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.revoke_factor(request)).await?))
}

pub(super) fn factor(factor: FactorSummary) -> Factor {
    Factor {
        id: factor.factor_id,
        method: factor.method,
        kind: factor.kind,
        serial: factor.serial,
        algorithm: factor.algorithm,
        digits: factor.digits,
        period_seconds: factor.period_seconds,
        pending: factor.pending,
        created: moment(factor.created_unix_ms),
        last_used: moment(factor.last_used_unix_ms),
        consecutive_failures: factor.consecutive_failures,
        locked_until: moment(factor.locked_until_unix_ms),
    }
}

/// From text straight into what is never printed.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::from)
}
