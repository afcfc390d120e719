//! Who is kept out, and who is let in without the second factor: blocked, exempt, a bypass for once, a temporary code (FV-25 to FV-29).

use super::access::Caller;
use super::extract::{Body, Path};
use super::problem::Problem;
use super::users::{UserWithDetail, shown, user_id};
use super::{moment, unix_ms};
use crate::app::{App, STORE_LIMIT, text_of, within};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::Role;
use domain::role::HELP_DESK_BYPASS_SECONDS_MAX;
use http::StatusCode;
use proto::user_store::{
    BlockUserRequest, EndBypassRequest, ExemptUserRequest, IssueTemporaryCodeRequest, StartBypassRequest,
    UnblockUserRequest,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBlock {
    reason: String,
    /// RFC 3339; as the settings say if absent.
    until: Option<String>,
    /// Until somebody unblocks.
    #[serde(default)]
    until_unblocked: bool,
    /// The phone is lost: its devices are taken away.
    #[serde(default)]
    remove_devices: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Because {
    reason: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewExemption {
    /// By name; "*" = all, also those to come; none = exempt no more.
    clients: Vec<String>,
    /// RFC 3339; until it is ended if absent.
    until: Option<String>,
    reason: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBypass {
    /// 1 to 86400, the help desk to 900; 300 if absent.
    seconds: Option<u32>,
    /// Only at this client.
    #[serde(default)]
    client: String,
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StartedBypass {
    id: String,
    expires: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTemporaryCode {
    /// 1 to 10; 1 if absent.
    uses: Option<u32>,
    /// 300 to 86400; 3600 if absent. The help desk: to 900; 900 if absent.
    seconds: Option<u32>,
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TemporaryCode {
    /// Shown this once. It stands for the second factor, beside the password.
    code: String,
    expires: Option<String>,
}

/// Refuse everything of a user before any prompt, for a time
#[utoipa::path(post, path = "/users/{id}/block", tag = "passes", request_body = NewBlock,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn block(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewBlock>,
) -> Result<Response, Problem> {
    let until_unix_ms = match (new.until_unblocked, &new.until) {
        (true, None) => -1,
        (true, Some(_)) => return Err(Problem::rule("until_unblocked: not together with until")),
        (false, until) => until_or_zero(until.as_deref())?,
    };
    let request = BlockUserRequest {
        user_id: user_id(&app, &id).await?,
        reason: reason(new.reason)?,
        until_unix_ms,
        actor: caller.actor,
        remove_devices: new.remove_devices,
    };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.block_user(request)).await?))
}

/// Let a blocked user in again
#[utoipa::path(post, path = "/users/{id}/unblock", tag = "passes", request_body = Because,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn unblock(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(because): Body<Because>,
) -> Result<Response, Problem> {
    let request =
        UnblockUserRequest { user_id: user_id(&app, &id).await?, reason: reason(because.reason)?, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.unblock_user(request)).await?))
}

/// Never ask a user for a second factor at some clients
#[utoipa::path(put, path = "/users/{id}/exempt", tag = "passes", request_body = NewExemption,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn exempt(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewExemption>,
) -> Result<Response, Problem> {
    let request = ExemptUserRequest {
        user_id: user_id(&app, &id).await?,
        clients: new.clients,
        until_unix_ms: until_or_zero(new.until.as_deref())?,
        reason: reason(new.reason)?,
        actor: caller.actor,
    };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.exempt_user(request)).await?))
}

/// Let a user in once on the password alone
#[utoipa::path(post, path = "/users/{id}/bypass", tag = "passes", request_body = NewBypass,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = StartedBypass), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn start_bypass(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewBypass>,
) -> Result<(StatusCode, Json<StartedBypass>), Problem> {
    let seconds = bounded(caller.role, new.seconds, 1, 300)?;
    let request = StartBypassRequest {
        user_id: user_id(&app, &id).await?,
        seconds,
        client: new.client,
        reason: reason(new.reason)?,
        actor: caller.actor,
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.start_bypass(request)).await?;
    let started = StartedBypass { id: reply.bypass_id, expires: moment(reply.expires_unix_ms) };
    Ok((StatusCode::CREATED, Json(started)))
}

/// Take back a bypass or a temporary code
#[utoipa::path(delete, path = "/users/{id}/bypass/{bypass_id}", tag = "passes",
    params(("id" = String, Path, description = "Id, or any form of the name"), ("bypass_id" = String, Path)), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn end_bypass(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, bypass_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let request = EndBypassRequest { user_id: user_id(&app, &id).await?, bypass_id, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.end_bypass(request)).await?))
}

/// Make a code that stands for a user's second factor for a while
#[utoipa::path(post, path = "/users/{id}/temporary-codes", tag = "passes", request_body = NewTemporaryCode,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 201, body = TemporaryCode), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn temporary_code(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewTemporaryCode>,
) -> Result<(StatusCode, Json<TemporaryCode>), Problem> {
    let uses = match new.uses.unwrap_or(1) {
        uses @ 1..=10 => uses,
        found => return Err(Problem::rule(format!("uses: found {found}; allowed are 1 to 10"))),
    };
    let seconds = bounded(caller.role, new.seconds, 300, 3600)?;
    let request = IssueTemporaryCodeRequest {
        user_id: user_id(&app, &id).await?,
        uses,
        seconds,
        reason: reason(new.reason)?,
        actor: caller.actor,
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.issue_temporary_code(request)).await?;
    let code = TemporaryCode { code: text_of(reply.code), expires: moment(reply.expires_unix_ms) };
    Ok((StatusCode::CREATED, Json(code)))
}

/// How long it may last: what the help desk gives ends sooner.
fn bounded(role: Role, seconds: Option<u32>, least: u32, otherwise: u32) -> Result<u32, Problem> {
    let most = if role == Role::HelpDesk { HELP_DESK_BYPASS_SECONDS_MAX } else { 86_400 };
    match seconds.unwrap_or(otherwise.min(most)) {
        seconds if (least..=most).contains(&seconds) => Ok(seconds),
        found => Err(Problem::rule(format!("seconds: found {found}; allowed are {least} to {most} for this role"))),
    }
}

/// Whoever lets somebody in or keeps somebody out says why.
fn reason(text: String) -> Result<String, Problem> {
    match text.trim().is_empty() {
        true => Err(Problem::rule("reason: it must be given")),
        false => Ok(text),
    }
}

fn until_or_zero(until: Option<&str>) -> Result<i64, Problem> {
    until.map_or(Ok(0), |until| unix_ms("until", until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_desk_gives_fifteen_minutes_and_others_a_day() {
        // FV-28, FV-29
        assert_eq!(bounded(Role::HelpDesk, None, 300, 3600).ok(), Some(900));
        assert_eq!(bounded(Role::HelpDesk, Some(900), 1, 300).ok(), Some(900));
        assert!(bounded(Role::HelpDesk, Some(901), 1, 300).is_err());
        assert_eq!(bounded(Role::UserManager, None, 300, 3600).ok(), Some(3600));
        assert_eq!(bounded(Role::UserManager, Some(86_400), 1, 300).ok(), Some(86_400));
        assert!(bounded(Role::Owner, Some(86_401), 1, 300).is_err());
        assert!(bounded(Role::Owner, Some(299), 300, 3600).is_err());
        assert!(bounded(Role::Owner, Some(0), 1, 300).is_err());
    }
}
