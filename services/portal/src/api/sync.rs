//! Directory synchronisation: how it stands, start it, decide what waits.

use super::access::Caller;
use super::extract::{Body, Path};
use super::moment;
use super::problem::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use proto::user_store::{Approval, DecideApprovalRequest, RequestSyncRequest, SyncRun, SyncStatusRequest};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// The instance that synchronises now.
    leader: String,
    epoch: u64,
    runs: Vec<Run>,
    /// Leavers that are too many to go unasked.
    approvals: Vec<Waiting>,
}

#[derive(Serialize, ToSchema)]
struct Run {
    id: String,
    sync_item: String,
    mode: String,
    started: Option<String>,
    finished: Option<String>,
    /// running, done, incomplete, parked or abandoned.
    state: String,
    error: String,
    added: u32,
    changed: u32,
    unchanged: u32,
    disabled: u32,
    removed: u32,
    parked: u32,
}

#[derive(Serialize, ToSchema)]
struct Waiting {
    id: String,
    sync_item: String,
    created: Option<String>,
    expires: Option<String>,
    usernames: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    /// Absent: every item.
    #[serde(default)]
    sync_item: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// False: they stay.
    approve: bool,
    /// Only these; absent: all of them.
    #[serde(default)]
    usernames: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Decided {
    /// How many users were changed.
    applied: u32,
}

/// Runs and what waits for approval
#[utoipa::path(get, path = "/sync", tag = "sync", responses(
    (status = 200, body = Status), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn status(State(app): State<Arc<App>>, _: Caller) -> Result<Json<Status>, Problem> {
    let request = idempotent(SyncStatusRequest {});
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.sync_status(request)).await?;
    Ok(Json(Status {
        leader: reply.leader,
        epoch: reply.epoch,
        runs: reply.runs.into_iter().map(shown).collect(),
        approvals: reply.approvals.into_iter().map(waiting).collect(),
    }))
}

/// Ask for a run now
#[utoipa::path(post, path = "/sync/run", tag = "sync", request_body = NewRun, responses(
    (status = 202, description = "Asked for"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewRun>,
) -> Result<StatusCode, Problem> {
    let request = RequestSyncRequest { sync_item: new.sync_item, actor: caller.actor };
    within(STORE_LIMIT, request, |request| app.deps.admin.request_sync(request)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Decide about leavers that wait
#[utoipa::path(post, path = "/sync/approvals/{id}", tag = "sync", request_body = Decision, params(("id" = String, Path)), responses(
    (status = 200, body = Decided), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn decide(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(decision): Body<Decision>,
) -> Result<Json<Decided>, Problem> {
    let request = DecideApprovalRequest {
        approval_id: id,
        approve: decision.approve,
        usernames: decision.usernames,
        actor: caller.actor,
        now_unix_ms: app.now_ms(),
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.decide_approval(request)).await?;
    Ok(Json(Decided { applied: reply.applied }))
}

fn shown(run: SyncRun) -> Run {
    Run {
        id: run.run_id,
        sync_item: run.sync_item,
        mode: run.mode,
        started: moment(run.started_unix_ms),
        finished: moment(run.finished_unix_ms),
        state: run.state,
        error: run.error,
        added: run.added,
        changed: run.changed,
        unchanged: run.unchanged,
        disabled: run.disabled,
        removed: run.removed,
        parked: run.parked,
    }
}

fn waiting(approval: Approval) -> Waiting {
    Waiting {
        id: approval.approval_id,
        sync_item: approval.sync_item,
        created: moment(approval.created_unix_ms),
        expires: moment(approval.expires_unix_ms),
        usernames: approval.usernames,
    }
}
