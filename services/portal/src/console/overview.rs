//! What waits for an administrator, when the console opens (FS-07, FS-09).

use super::door::Administrator;
use super::pages::{self, Frame, List, Overview, RunShown, show, time};
use crate::api::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode};
use proto::user_store::{Approval, SyncRun, SyncStatusReply, SyncStatusRequest};
use service_kit::grpc::idempotent;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let sees = by.may(&Method::GET, "/console/sync");
    let status = match sees {
        true => match status(&app).await {
            Ok(status) => status,
            Err(problem) => return pages::refused(&app, Some(&by), &problem),
        },
        false => SyncStatusReply::default(),
    };
    let paused = status.sources.iter().filter(|source| !source.waits_for.is_empty());
    let paused = paused.map(|source| (source.directory.clone(), why(&source.waits_for).to_owned()));
    let page = Overview {
        frame: Frame::of(&app, &by, "Overview"),
        waiting: status.approvals.into_iter().map(list).collect(),
        paused: paused.collect(),
        failed: failed(status.runs),
        sees,
    };
    show(StatusCode::OK, &page)
}

pub(super) async fn status(app: &App) -> Result<SyncStatusReply, Problem> {
    let request = idempotent(SyncStatusRequest {});
    Ok(within(STORE_LIMIT, request, |request| app.deps.admin.sync_status(request)).await?)
}

pub(super) fn list(approval: Approval) -> List {
    List {
        id: approval.approval_id,
        directory: approval.directory,
        users: approval.users,
        why: approval.why,
        created: time(approval.created_unix_ms),
        expires: time(approval.expires_unix_ms),
    }
}

/// The reason alone: what follows are commands, and the console has buttons.
pub(super) fn why(waits_for: &str) -> &str {
    waits_for.split(": ").next().unwrap_or_default()
}

pub(super) fn shown(run: SyncRun) -> RunShown {
    RunShown { started: time(run.started_unix_ms), run }
}

/// The last run of each directory that wrote or should have, where it was not complete. The newest run comes first.
fn failed(runs: Vec<SyncRun>) -> Vec<RunShown> {
    let mut seen = BTreeSet::new();
    let last = runs.into_iter().filter(|run| run.state != "running" && run.mode != "preview");
    let last = last.filter(|run| seen.insert(run.directory.clone()));
    last.filter(|run| run.state == "incomplete").map(shown).collect()
}
