//! The audit, oldest first. Read only: nothing can change it.

use super::access::Caller;
use super::extract::Query;
use super::problem::Problem;
use super::{Page, moment, page_length};
use crate::app::{App, STORE_LIMIT, within};
use axum::Json;
use axum::extract::State;
use proto::user_store::{AuditEvent, ListAuditRequest};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditFilter {
    /// Events after this sequence: the `next` of the page before.
    #[serde(default)]
    after: u64,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
    /// The newest events instead.
    #[serde(default)]
    newest: bool,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    user_id: String,
    /// Only this attempt.
    #[serde(default)]
    transaction_id: String,
    /// Only about users who have exactly this label now.
    #[serde(default)]
    user_group: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Event {
    sequence: u64,
    at: Option<String>,
    kind: String,
    transaction_id: String,
    client: String,
    protocol: String,
    user_id: String,
    username: String,
    client_ip: String,
    calling_station: String,
    result: String,
    reason: String,
    method: String,
    assurance: String,
    source: String,
    /// Who did it, for administrative events.
    actor: String,
    /// What changed, old and new.
    detail: String,
    /// SHA-256 over the hash before and this record.
    hash: String,
}

/// Audit events, a page at a time
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditFilter), responses(
    (status = 200, body = Page<Event>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<AuditFilter>,
) -> Result<Json<Page<Event>>, Problem> {
    let limit = page_length(filter.limit)?;
    let request = ListAuditRequest {
        after: filter.after,
        limit,
        newest: filter.newest,
        kind: filter.kind,
        client: filter.client,
        user_id: filter.user_id,
        transaction_id: filter.transaction_id,
        user_group: filter.user_group,
    };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_audit(request)).await?;
    let full = reply.events.len() == limit as usize && !filter.newest;
    let next = reply.events.last().filter(|_| full).map(|event| event.sequence.to_string());
    Ok(Json(Page { items: reply.events.into_iter().map(event).collect(), next }))
}

fn event(event: AuditEvent) -> Event {
    Event {
        sequence: event.sequence,
        at: moment(event.at_unix_ms),
        kind: event.kind,
        transaction_id: event.transaction_id,
        client: event.client,
        protocol: event.protocol,
        user_id: event.user_id,
        username: event.username,
        client_ip: event.client_ip,
        calling_station: event.calling_station,
        result: event.result,
        reason: event.reason,
        method: event.method,
        assurance: event.assurance,
        source: event.source,
        actor: event.actor,
        detail: event.detail,
        hash: event.hash,
    }
}
