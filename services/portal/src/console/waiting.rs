//! Users who would be disabled or removed, and are too many to go unasked: decided by name (FS-07, S-40).

use super::door::{Administrator, Sent};
use super::overview::{list as list_shown, status};
use super::pages::{self, ApprovalPage, Approvals, Frame, Message, escaped, show};
use crate::api::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use proto::user_store::{DecideApprovalRequest, ListApprovalUsersRequest};
use serde::Deserialize;
use service_kit::grpc::idempotent;
use std::sync::Arc;
use tonic::Code;

/// Users on one page.
const PAGE: u32 = 200;

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator) -> Response {
    match status(&app).await {
        Ok(status) => {
            let lists = status.approvals.into_iter().map(list_shown).collect();
            show(StatusCode::OK, &Approvals { frame: Frame::of(&app, &by, "Approvals"), lists })
        }
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Response {
    match approval(&app, &by, id, after, None, "").await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

async fn approval(
    app: &App,
    by: &Administrator,
    id: String,
    after: String,
    failure: Option<String>,
    reason: &str,
) -> Result<ApprovalPage, Problem> {
    let found = status(app).await?.approvals.into_iter().find(|approval| approval.approval_id == id);
    let found = found.ok_or_else(|| {
        Problem::not_found("this list is settled: it was decided, it is too old, or a later run has made another of it")
    })?;
    let request = idempotent(ListApprovalUsersRequest { approval_id: id, after, limit: PAGE });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.list_approval_users(request)).await?;
    Ok(ApprovalPage {
        frame: Frame::of(app, by, format!("Approval needed in {}", found.directory)),
        list: list_shown(found),
        users: reply.users,
        next: Some(reply.next).filter(|next| !next.is_empty()).map(|next| escaped(&next)),
        reason: reason.to_owned(),
        failure,
    })
}

pub(super) async fn decide(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let (approve, usernames) = match sent.text("decision") {
        "all" => (true, Vec::new()),
        "some" => (true, sent.all("user")),
        "none" => (false, Vec::new()),
        _ => return pages::refused(&app, Some(&sent.by), &Problem::syntax("decision: is missing")),
    };
    // To the store no names are all names: nothing chosen must not mean everybody.
    if sent.text("decision") == "some" && usernames.is_empty() {
        return again(&app, &sent, id, "Choose who may go, or say yes or no to all of them.".to_owned()).await;
    }
    let request = DecideApprovalRequest {
        approval_id: id.clone(),
        approve,
        usernames,
        actor: sent.by.caller.actor.clone(),
        now_unix_ms: app.now_ms(),
        reason: sent.text("reason").to_owned(),
    };
    match within(STORE_LIMIT, request, |request| app.deps.admin.decide_approval(request)).await {
        Ok(reply) => {
            let said = match (approve, reply.applied) {
                (false, _) => "All of them stay. Nobody was changed.".to_owned(),
                (true, 1) => "1 user was changed; the others of the list stay as they are.".to_owned(),
                (true, users) => format!("{users} users were changed; the others of the list stay as they are."),
            };
            let page = Message {
                frame: Frame::of(&app, &sent.by, "Decided"),
                sentences: vec![said],
                bad: false,
                way_on: "/console/approvals".to_owned(),
                label: "To the approvals",
            };
            show(StatusCode::OK, &page)
        }
        // S-40, V-82: the role may approve, and not this. S-46: or not without a reason.
        Err(status) if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument) => {
            again(&app, &sent, id, status.message().to_owned()).await
        }
        Err(status) => pages::refused(&app, Some(&sent.by), &Problem::from(status)),
    }
}

async fn again(app: &App, sent: &Sent, id: String, failure: String) -> Response {
    match approval(app, &sent.by, id, String::new(), Some(failure), sent.text("reason")).await {
        Ok(page) => show(StatusCode::UNPROCESSABLE_ENTITY, &page),
        Err(problem) => pages::refused(app, Some(&sent.by), &problem),
    }
}
