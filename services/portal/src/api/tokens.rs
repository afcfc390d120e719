//! Hardware tokens: listed, given to somebody, put right, found by the code they show. Their secrets come in by import, and never out.

use super::access::Caller;
use super::extract::{Body, Path, Query};
use super::factors::{Proof, secret};
use super::problem::Problem;
use super::users::user_id;
use super::{Page, moment, page_length};
use crate::app::{App, STORE_LIMIT, VERIFICATION_LIMIT, within};
use axum::Json;
use axum::extract::State;
use domain::{Reason, Secret};
use http::StatusCode;
use proto::user_store::{
    AssignTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenSummary, UnassignTokenRequest,
};
use proto::verification::{ConfirmCodeRequest, FindTokenRequest, ResyncRequest};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenFilter {
    /// Part of a serial.
    #[serde(default)]
    search: String,
    state: Option<TokenState>,
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TokenState {
    Assigned,
    Unassigned,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    serial: String,
    /// totp or hotp.
    kind: String,
    algorithm: String,
    digits: u32,
    /// 0 for a token that counts presses.
    period_seconds: u32,
    manufacturer: String,
    model: String,
    /// Whose it is; null = nobody's.
    user_id: Option<String>,
    username: Option<String>,
    /// Assigned, and not yet proven by one code: it does not count.
    pending: bool,
    created: Option<String>,
    last_used: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOwner {
    /// Id, or any form of the name.
    user: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Codes {
    /// Two in a row, as the token shows them; of a token that counts presses up to three.
    #[schema(value_type = Vec<String>)]
    codes: Vec<Code>,
}

/// A code in a list.
#[derive(Deserialize)]
#[serde(transparent)]
struct Code(#[serde(deserialize_with = "secret")] Secret);

#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    /// Those that show the code now.
    serials: Vec<String>,
}

/// Tokens, a page at a time
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(TokenFilter), responses(
    (status = 200, body = Page<Token>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<TokenFilter>,
) -> Result<Json<Page<Token>>, Problem> {
    let request = ListTokensRequest {
        search: filter.search,
        state: match filter.state {
            None => "",
            Some(TokenState::Assigned) => "assigned",
            Some(TokenState::Unassigned) => "unassigned",
        }
        .to_owned(),
        after: filter.after,
        limit: page_length(filter.limit)?,
    };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_tokens(request)).await?;
    let next = Some(reply.next).filter(|next| !next.is_empty());
    Ok(Json(Page { items: reply.tokens.into_iter().map(token).collect(), next }))
}

/// One token
#[utoipa::path(get, path = "/tokens/{serial}", tag = "tokens", params(("serial" = String, Path)), responses(
    (status = 200, body = Token), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(serial): Path<String>,
) -> Result<Json<Token>, Problem> {
    Ok(Json(token(find(&app, &serial).await?)))
}

/// Give a token to a user; it counts once a code of it was proven
#[utoipa::path(put, path = "/tokens/{serial}/user", tag = "tokens", request_body = NewOwner, params(("serial" = String, Path)), responses(
    (status = 200, body = Token), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn assign(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(serial): Path<String>,
    Body(new): Body<NewOwner>,
) -> Result<Json<Token>, Problem> {
    let request = AssignTokenRequest { serial, user_id: user_id(&app, &new.user).await?, actor: caller.actor };
    Ok(Json(token(within(STORE_LIMIT, request, |request| app.deps.admin.assign_token(request)).await?)))
}

/// Take a token from its user
#[utoipa::path(delete, path = "/tokens/{serial}/user", tag = "tokens", params(("serial" = String, Path)), responses(
    (status = 200, body = Token), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn unassign(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(serial): Path<String>,
) -> Result<Json<Token>, Problem> {
    let request = UnassignTokenRequest { serial, actor: caller.actor };
    Ok(Json(token(within(STORE_LIMIT, request, |request| app.deps.admin.unassign_token(request)).await?)))
}

/// Prove a code of an assigned token: from now on it counts
#[utoipa::path(post, path = "/tokens/{serial}/confirm", tag = "tokens", request_body = Proof, params(("serial" = String, Path)), responses(
    (status = 200, body = Token), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(serial): Path<String>,
    Body(proof): Body<Proof>,
) -> Result<Json<Token>, Problem> {
    let found = of_somebody(&app, &serial).await?;
    let request = ConfirmCodeRequest {
        user_id: found.user_id,
        factor_id: found.factor_id,
        code: Some(proof.code.into()),
        actor: caller.actor,
    };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.confirm_code(request)).await?;
    match reply.confirmed {
        true => Ok(Json(token(find(&app, &serial).await?))),
        false => Err(Problem::code_refused(Reason::from_code(&reply.reason))),
    }
}

/// Put a token right whose clock or counter ran away
#[utoipa::path(post, path = "/tokens/{serial}/resync", tag = "tokens", request_body = Codes, params(("serial" = String, Path)), responses(
    (status = 200, body = Token), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn resync(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(serial): Path<String>,
    Body(given): Body<Codes>,
) -> Result<Json<Token>, Problem> {
    if !(2..=3).contains(&given.codes.len()) {
        return Err(Problem::rule(format!("codes: found {}; allowed are 2 or 3", given.codes.len())));
    }
    let found = of_somebody(&app, &serial).await?;
    let request = ResyncRequest {
        user_id: found.user_id,
        factor_id: found.factor_id,
        codes: given.codes.into_iter().map(|code| code.0.into()).collect(),
        actor: caller.actor,
    };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.resync(request)).await?;
    match reply.done {
        true => Ok(Json(token(find(&app, &serial).await?))),
        false => Err(Problem::code_refused(Reason::from_code(&reply.reason))),
    }
}

/// Which tokens show this code now?
#[utoipa::path(post, path = "/tokens/find", tag = "tokens", request_body = Proof, responses(
    (status = 200, body = Found), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn find_by_code(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(proof): Body<Proof>,
) -> Result<Json<Found>, Problem> {
    let request = FindTokenRequest { code: Some(proof.code.into()), actor: caller.actor };
    let reply = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.find_token(request)).await?;
    Ok(Json(Found { serials: reply.serials }))
}

/// Remove a token and its secret for good
#[utoipa::path(delete, path = "/tokens/{serial}", tag = "tokens", params(("serial" = String, Path)), responses(
    (status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(serial): Path<String>,
) -> Result<StatusCode, Problem> {
    let request = RevokeTokenRequest { serial, actor: caller.actor };
    within(STORE_LIMIT, request, |request| app.deps.admin.revoke_token(request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The token with exactly this serial.
async fn find(app: &App, serial: &str) -> Result<TokenSummary, Problem> {
    let mut after = String::new();
    loop {
        let request = ListTokensRequest { search: serial.to_owned(), state: String::new(), after, limit: 1000 };
        let page = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_tokens(request)).await?;
        if let Some(found) = page.tokens.into_iter().find(|token| token.serial.eq_ignore_ascii_case(serial)) {
            return Ok(found);
        }
        if page.next.is_empty() {
            return Err(Problem::not_found("there is no token of this serial"));
        }
        after = page.next;
    }
}

async fn of_somebody(app: &App, serial: &str) -> Result<TokenSummary, Problem> {
    let found = find(app, serial).await?;
    match found.user_id.is_empty() {
        true => Err(Problem::rule("the token is nobody's; assign it first")),
        false => Ok(found),
    }
}

fn token(token: TokenSummary) -> Token {
    let named = |text: String| Some(text).filter(|text| !text.is_empty());
    Token {
        serial: token.serial,
        kind: token.kind,
        algorithm: token.algorithm,
        digits: token.digits,
        period_seconds: token.period_seconds,
        manufacturer: token.manufacturer,
        model: token.model,
        user_id: named(token.user_id),
        username: named(token.username),
        pending: token.pending,
        created: moment(token.created_unix_ms),
        last_used: moment(token.last_used_unix_ms),
    }
}
