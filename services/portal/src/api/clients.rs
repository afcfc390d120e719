//! Clients, as the settings in force have them. They are changed by applying settings.

use super::Page;
use super::access::Caller;
use super::extract::{Path, Query};
use super::problem::Problem;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use domain::settings;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A device or application that asks Twinlock. Its secret can be set, never read.
#[derive(Serialize, ToSchema)]
pub(super) struct Client {
    name: String,
    /// radius, ldap or api.
    protocol: &'static str,
    application: String,
    /// Networks it asks from.
    sources: Vec<String>,
    /// The directory that checks its passwords.
    target: String,
    /// Every setting of the client, as the settings document names it.
    #[schema(value_type = Object)]
    settings: serde_json::Value,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFilter {}

/// All clients, in the order of the settings
#[utoipa::path(get, path = "/clients", tag = "clients", responses(
    (status = 200, body = Page<Client>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(NoFilter {}): Query<NoFilter>,
) -> Result<Json<Page<Client>>, Problem> {
    let snapshot = app.settings.fresh().await?;
    Ok(Json(Page { items: snapshot.settings.clients.iter().map(client).collect(), next: None }))
}

/// One client
#[utoipa::path(get, path = "/clients/{name}", tag = "clients", params(("name" = String, Path)), responses(
    (status = 200, body = Client), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Client>, Problem> {
    let snapshot = app.settings.fresh().await?;
    let found = snapshot.settings.client(&name).map(client);
    found.map(Json).ok_or_else(|| Problem::not_found("there is no client of this name"))
}

fn client(client: &settings::Client) -> Client {
    let mut all = serde_json::to_value(client).unwrap_or_default();
    if let Some(all) = all.as_object_mut() {
        // The store writes "keep" and nothing else; that there is one is no news for a RADIUS client.
        all.remove("secret");
    }
    Client {
        name: client.name.to_string(),
        protocol: match client.protocol {
            settings::ClientProtocol::Radius => "radius",
            settings::ClientProtocol::Ldap => "ldap",
            settings::ClientProtocol::Api => "api",
        },
        application: client.application().to_owned(),
        sources: client.sources.iter().map(ToString::to_string).collect(),
        target: client.target.to_string(),
        settings: all,
    }
}
