//! The settings as one TOML document: exported, and applied as a whole or not at all.

use super::access::Caller;
use super::directories::{DirectoryTested, ONCE_SAVED_AT_ONCE, ONCE_SAVED_LIMIT, tried_once_saved};
use super::extract::{Body, Query, media_type};
use super::factors::secret;
use super::problem::Problem;
use crate::app::{App, STORE_LIMIT, text_of, within};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use domain::Secret;
use domain::settings::Settings;
use futures::{StreamExt, stream};
use http::header::{CONTENT_TYPE, ETAG};
use proto::user_store::{ApplySettingsRequest, ExportSettingsRequest};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Say what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit: without it what weakens security is refused. A dry run says whether anything does (`weaker`).
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSettings {
    /// TOML, as exported. Secrets are written "keep", "generate", or come in `secrets`.
    document: String,
    /// By name, such as `client.vpn.secret`.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    secrets: BTreeMap<String, Given>,
    /// Sync items that the document does not have any longer, each by its name; without it such a document is refused.
    #[serde(default)]
    removed_items: Vec<String>,
}

/// A secret in a map.
#[derive(Deserialize)]
#[serde(transparent)]
struct Given(#[serde(deserialize_with = "secret")] Secret);

#[derive(Serialize, ToSchema)]
pub(super) struct Applied {
    /// The revision in force afterwards.
    revision: u64,
    dry_run: bool,
    /// Added, changed old -> new, removed; one line each.
    changes: Vec<String>,
    warnings: Vec<String>,
    /// Keys that become weaker than they were: a reason is asked for.
    weaker: Vec<String>,
    /// Secrets that were written "generate", shown this once.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    generated: BTreeMap<String, String>,
    /// Sync items that the document does not have any longer, and what becomes of their users at the next run.
    removed_items: Vec<ItemRemoved>,
    /// Of each directory that is new or changed, once it is saved: what it offers, and whether the account may use it.
    directories: BTreeMap<String, DirectoryTested>,
}

#[derive(Serialize, ToSchema)]
struct ItemRemoved {
    sync_item: String,
    users: u64,
    /// Who gets them: the next item each falls under, as of the last run.
    heirs: BTreeMap<String, u64>,
    /// Of no other item: they leave, as the rules of leavers and of approval say.
    leave: u64,
}

/// The settings in force, every secret written "keep"
#[utoipa::path(get, path = "/settings", tag = "settings", responses(
    (status = 200, body = String, content_type = "text/toml", headers(("ETag" = String, description = "The revision"))),
    (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn export(State(app): State<Arc<App>>, _: Caller) -> Result<Response, Problem> {
    let request = idempotent(ExportSettingsRequest {});
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.export_settings(request)).await?;
    let headers = [(CONTENT_TYPE, "text/toml; charset=utf-8".to_owned()), (ETAG, format!("\"{}\"", reply.revision))];
    Ok((headers, reply.document).into_response())
}

/// Apply a document: the whole of it, in one transaction
#[utoipa::path(post, path = "/settings", tag = "settings", params(How),
    request_body(content((NewSettings = "application/json"), (String = "text/toml"))), responses(
    (status = 200, body = Applied), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(how): Query<How>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let new = read(request).await?;
    let request = ApplySettingsRequest {
        document: new.document,
        secrets: new.secrets.into_iter().map(|(name, given)| (name, given.0.into())).collect(),
        dry_run: how.dry_run,
        actor: caller.actor,
        removed_items: new.removed_items,
        reason: how.reason,
        needs_reason: true,
    };
    let applied = request.clone();
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.apply_settings(request)).await?;
    if !reply.errors.is_empty() {
        return Err(Problem::rules("the document is refused; nothing was changed", reply.errors));
    }
    let mut directories = BTreeMap::new();
    if !how.dry_run && !reply.changed_directories.is_empty() {
        // The store has read it.
        let settings: Settings = toml::from_str(&applied.document).unwrap_or_default();
        let settings = settings.with_secrets_kept();
        let end = Instant::now() + ONCE_SAVED_LIMIT;
        let (app, settings, secrets) = (&app, &settings, &applied.secrets);
        let tried = stream::iter(reply.changed_directories).map(|name| async move {
            let left = end.saturating_duration_since(Instant::now());
            let found = tried_once_saved(app, settings, secrets, &name, left).await;
            (name, found)
        });
        directories = tried.buffer_unordered(ONCE_SAVED_AT_ONCE).collect().await;
    }
    let removed = reply.removed_items.into_iter().map(|item| ItemRemoved {
        sync_item: item.sync_item,
        users: item.users,
        heirs: item.heirs.into_iter().map(|heir| (heir.sync_item, heir.users)).collect(),
        leave: item.leave,
    });
    Ok(Json(Applied {
        revision: reply.revision,
        dry_run: how.dry_run,
        changes: reply.changes,
        warnings: reply.warnings,
        weaker: reply.weaker,
        generated: reply.generated.into_iter().map(|(name, secret)| (name, text_of(Some(secret)))).collect(),
        removed_items: removed.collect(),
        directories,
    }))
}

/// The document as it is exported, or JSON that brings secrets along.
async fn read(request: Request) -> Result<NewSettings, Problem> {
    match media_type(&request).as_deref() {
        Some("text/toml" | "application/toml") => {
            let body = Bytes::from_request(request, &()).await?;
            let document = String::from_utf8(body.into()).map_err(|_| Problem::syntax("the body is not UTF-8"))?;
            Ok(NewSettings { document, secrets: BTreeMap::new(), removed_items: Vec::new() })
        }
        Some("application/json") => Body::from_request(request, &()).await.map(|Body(new)| new),
        _ => Err(Problem::media_type("text/toml or application/json")),
    }
}
