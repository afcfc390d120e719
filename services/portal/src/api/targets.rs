//! Who checks passwords beside the directories: targets, as the settings in force have them and the gateways find them.

use super::access::Caller;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::{Page, clients, moment};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use domain::settings::{self, Settings, TargetKind};
use proto::user_store::HomeServerDetail;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Who checks the passwords of RADIUS clients that a directory cannot check.
#[derive(Serialize, ToSchema)]
pub(super) struct Target {
    name: String,
    /// radius, windows_domain.
    kind: &'static str,
    /// Where the people it accepts are looked up.
    directory: String,
    /// The clients whose passwords it checks.
    clients: Vec<String>,
    /// RADIUS: in the order of the settings.
    servers: Vec<Server>,
    /// Every setting of the target, as the settings document names it.
    #[schema(value_type = Object)]
    settings: serde_json::Value,
}

/// A RADIUS server that Twinlock is a client of.
#[derive(Serialize, ToSchema)]
pub(super) struct Server {
    /// Its address and port.
    server: String,
    /// What `message_authenticator = "auto"` has come to: yes, no; null = nothing yet.
    learned_message_authenticator: Option<String>,
    /// What should be changed, in words.
    warnings: Vec<String>,
    /// How each node finds it, told within the last half hour; the newest first.
    seen: Vec<Seen>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Seen {
    node: String,
    /// When the node told it.
    at: Option<String>,
    /// alive, zombie (it leaves requests unanswered), dead (it is only asked whether it is back).
    state: String,
    /// The same of its accounting port.
    accounting_state: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFilter {}

/// All targets, in the order of the settings
#[utoipa::path(get, path = "/targets", tag = "clients", responses(
    (status = 200, body = Page<Target>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(NoFilter {}): Query<NoFilter>,
) -> Result<Json<Page<Target>>, Problem> {
    let clients::Known { snapshot, home_servers, .. } = clients::known(&app, "").await?;
    let settings = &snapshot.settings;
    let items = settings.targets.iter().map(|it| target(settings, it, &home_servers)).collect();
    Ok(Json(Page { items, next: None }))
}

/// One target
#[utoipa::path(get, path = "/targets/{name}", tag = "clients", params(("name" = String, Path)), responses(
    (status = 200, body = Target), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Target>, Problem> {
    let clients::Known { snapshot, home_servers, .. } = clients::known(&app, "").await?;
    let found = snapshot.settings.target(&name);
    let found = found.ok_or_else(|| Problem::not_found("there is no target of this name"))?;
    Ok(Json(target(&snapshot.settings, found, &home_servers)))
}

fn target(settings: &Settings, target: &settings::Target, known: &[HomeServerDetail]) -> Target {
    let mut all = serde_json::to_value(target).unwrap_or_default();
    for server in all["servers"].as_array_mut().into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        // The store writes "keep" and nothing else.
        server.remove("secret");
    }
    let clients = settings.clients.iter().filter(|client| client.target == target.name);
    let servers = known.iter().filter(|server| server.target == target.name.as_str());
    Target {
        name: target.name.to_string(),
        kind: match target.kind {
            TargetKind::Radius => "radius",
            TargetKind::WindowsDomain => "windows_domain",
        },
        directory: target.directory.to_string(),
        clients: clients.map(|client| client.name.to_string()).collect(),
        servers: servers.map(server).collect(),
        settings: all,
    }
}

fn server(known: &HomeServerDetail) -> Server {
    let learned = &known.learned_message_authenticator;
    let seen = known.seen.iter().map(|seen| Seen {
        node: seen.node.clone(),
        at: moment(seen.at_unix_ms),
        state: seen.state.clone(),
        accounting_state: seen.accounting_state.clone(),
    });
    Server {
        server: known.place.clone(),
        learned_message_authenticator: Some(learned.clone()).filter(|text| !text.is_empty()),
        warnings: known.warnings.clone(),
        seen: seen.collect(),
    }
}
