//! What a user knows: PIN, recovery codes, answers. It can be set and made anew, never read; what is made is shown in that answer alone.

use super::access::Caller;
use super::extract::{Body, Path};
use super::factors::secret;
use super::problem::Problem;
use super::users::{UserWithDetail, shown, user_id};
use crate::app::{App, STORE_LIMIT, VERIFICATION_LIMIT, text_of, within};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::Secret;
use http::StatusCode;
use proto::user_store::{ResetPinRequest, SetAnswersRequest};
use proto::verification::NewRecoveryCodesRequest;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPin {
    /// A random one, to be changed at its first use, if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pin: Option<Secret>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ChangedPin {
    /// The random one, shown this once; null where one was given.
    pin: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RecoveryCodes {
    /// Shown this once. The old ones are void.
    codes: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    question: String,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    answer: Secret,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answers {
    /// In the place of all of before.
    answers: Vec<Answered>,
}

/// Give a user a new PIN
#[utoipa::path(post, path = "/users/{id}/pin", tag = "secrets", request_body = NewPin,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = ChangedPin), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reset_pin(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewPin>,
) -> Result<Json<ChangedPin>, Problem> {
    let request =
        ResetPinRequest { user_id: user_id(&app, &id).await?, pin: new.pin.map(Into::into), actor: caller.actor };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.reset_pin(request)).await?;
    if !reply.rule.is_empty() {
        return Err(Problem::rule(reply.rule));
    }
    Ok(Json(ChangedPin { pin: Some(text_of(reply.pin)).filter(|pin| !pin.is_empty()) }))
}

/// Make ten new recovery codes
#[utoipa::path(post, path = "/users/{id}/recovery-codes", tag = "secrets",
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = RecoveryCodes), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn recovery_codes(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<RecoveryCodes>), Problem> {
    let request = NewRecoveryCodesRequest { user_id: user_id(&app, &id).await?, actor: caller.actor };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.new_recovery_codes(request)).await?;
    let codes = reply.codes.into_iter().map(|code| text_of(Some(code))).collect();
    Ok((StatusCode::CREATED, Json(RecoveryCodes { codes })))
}

/// Set the answers to a user's security questions
#[utoipa::path(put, path = "/users/{id}/answers", tag = "secrets", request_body = Answers,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn set_answers(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<Answers>,
) -> Result<Response, Problem> {
    let (questions, answers) =
        new.answers.into_iter().map(|answered| (answered.question, answered.answer.into())).unzip();
    let request = SetAnswersRequest { user_id: user_id(&app, &id).await?, questions, answers, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.set_answers(request)).await?))
}

/// From text straight into what is never printed; absent is absent.
pub(super) fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(Secret::from))
}
