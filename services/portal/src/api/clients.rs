//! Clients, as the settings in force have them and the gateways see them. They are changed by applying settings.
//! Accounting that was kept of them.

use super::access::Caller;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::{Page, moment, page_length};
use crate::app::{App, STORE_LIMIT, within};
use crate::settings::Snapshot;
use axum::Json;
use axum::extract::State;
use domain::settings;
use proto::user_store::{ClientDetail, HomeServerDetail, ListAccountingRequest, ListClientsRequest, NodeReport};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::collections::{BTreeMap, HashMap};
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
    /// The directory or target that checks its passwords.
    target: String,
    /// When any node saw it last; null = never. RADIUS only, as all below but `warnings`.
    last_seen: Option<String>,
    /// What `message_authenticator = "auto"` has come to: yes, no; null = nothing yet.
    learned_message_authenticator: Option<String>,
    /// Until then the secret before the present one counts too; null = there is none.
    previous_secret_until: Option<String>,
    /// What should be changed, in words; the most important first.
    warnings: Vec<String>,
    /// Those of the warnings that say what it lets through: people without a second factor, packets that somebody may have forged.
    weaknesses: Vec<String>,
    /// What each node has seen; the newest first.
    reports: Vec<Report>,
    /// Every setting of the client, as the settings document names it.
    #[schema(value_type = Object)]
    settings: serde_json::Value,
}

/// What one node saw of a RADIUS client in the last day, and of how it asks in the last week.
#[derive(Serialize, ToSchema)]
pub(super) struct Report {
    node: String,
    /// When the node told it.
    at: Option<String>,
    last_seen: Option<String>,
    /// pap, chap, ms_chap, ms_chap2, eap, arap, none (no credentials), accounting, status_server.
    protocols: Vec<String>,
    /// Requests with and without Message-Authenticator, where it was not demanded.
    signed: u64,
    unsigned: u64,
    unsigned_with_proxy_state: u64,
    /// Between two copies of a request; null = no copy was seen.
    retry_interval_ms: Option<u32>,
    /// How long the client waits for an answer in all; null = not known, as it was not seen to give up.
    waits_ms: Option<u32>,
    /// Its retries come as new requests.
    retries_anew: bool,
    /// Its retries come to other nodes too: how long it waits in all no node sees.
    retries_elsewhere: bool,
    /// Packets without an answer, by the reason they were dropped for.
    dropped: BTreeMap<String, u64>,
}

/// A session as a device told of it.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountingRecord {
    at: Option<String>,
    client: String,
    /// Start, Stop, Interim-Update, or a number.
    status: String,
    session_id: String,
    username: String,
    calling_station: String,
    nas: String,
    framed_address: String,
    session_seconds: u64,
    input_octets: u64,
    output_octets: u64,
    terminate_cause: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountingFilter {
    /// Of this client; of all if absent.
    #[serde(default)]
    client: String,
    /// Of this name, as the device wrote it.
    #[serde(default)]
    username: String,
    #[serde(default)]
    session_id: String,
    /// Records older than the page before: its `next`.
    #[serde(default)]
    after: u64,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
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
    let Known { snapshot, mut clients, .. } = known(&app, "").await?;
    let clients = snapshot.settings.clients.iter().map(|it| client(it, clients.remove(it.name.as_str())));
    Ok(Json(Page { items: clients.collect(), next: None }))
}

/// One client
#[utoipa::path(get, path = "/clients/{name}", tag = "clients", params(("name" = String, Path)), responses(
    (status = 200, body = Client), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Client>, Problem> {
    let Known { snapshot, mut clients, .. } = known(&app, &name).await?;
    let missing = || Problem::not_found("there is no client of this name");
    let found = snapshot.settings.client(&name).ok_or_else(missing)?;
    Ok(Json(client(found, clients.remove(&name))))
}

/// Accounting that was kept, the newest first
#[utoipa::path(get, path = "/accounting", tag = "clients", params(AccountingFilter), responses(
    (status = 200, body = Page<AccountingRecord>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn accounting(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<AccountingFilter>,
) -> Result<Json<Page<AccountingRecord>>, Problem> {
    let request = ListAccountingRequest {
        client: filter.client,
        username: filter.username,
        session_id: filter.session_id,
        before: filter.after,
        limit: page_length(filter.limit)?,
    };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_accounting(request)).await?;
    let items = reply.records.into_iter().map(|record| AccountingRecord {
        at: moment(record.at_unix_ms),
        client: record.client,
        status: record.status,
        session_id: record.session_id,
        username: record.username,
        calling_station: record.calling_station,
        nas: record.nas,
        framed_address: record.framed_address,
        session_seconds: record.session_seconds,
        input_octets: record.input_octets,
        output_octets: record.output_octets,
        terminate_cause: record.terminate_cause,
    });
    Ok(Json(Page { items: items.collect(), next: (reply.next > 0).then(|| reply.next.to_string()) }))
}

/// The settings in force, and what the store knows of one client, or of all and the home servers.
pub(crate) struct Known {
    pub snapshot: Arc<Snapshot>,
    pub clients: HashMap<String, ClientDetail>,
    pub home_servers: Vec<HomeServerDetail>,
}

pub(crate) async fn known(app: &App, name: &str) -> Result<Known, Problem> {
    let snapshot = app.settings.fresh().await?;
    let request = idempotent(ListClientsRequest { name: name.to_owned() });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.list_clients(request)).await?;
    let clients = reply.clients.into_iter().map(|client| (client.name.clone(), client)).collect();
    Ok(Known { snapshot, clients, home_servers: reply.home_servers })
}

fn report(told: NodeReport) -> Report {
    let report = told.report.unwrap_or_default();
    let known = |milliseconds: u32| Some(milliseconds).filter(|milliseconds| *milliseconds > 0);
    Report {
        node: told.node,
        at: moment(told.at_unix_ms),
        last_seen: moment(report.last_seen_unix_ms),
        protocols: report.protocols,
        signed: report.signed,
        unsigned: report.unsigned,
        unsigned_with_proxy_state: report.unsigned_with_proxy_state,
        retry_interval_ms: known(report.retry_interval_ms),
        waits_ms: known(report.waits_ms),
        retries_anew: report.retries_anew,
        retries_elsewhere: report.retries_elsewhere,
        dropped: report.dropped.into_iter().collect(),
    }
}

fn client(client: &settings::Client, known: Option<ClientDetail>) -> Client {
    let known = known.unwrap_or_default();
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
        last_seen: moment(known.last_seen_unix_ms),
        learned_message_authenticator: Some(known.learned_message_authenticator).filter(|text| !text.is_empty()),
        previous_secret_until: moment(known.previous_secret_until_unix_ms),
        warnings: known.warnings,
        weaknesses: known.weaknesses,
        reports: known.reports.into_iter().map(report).collect(),
        settings: all,
    }
}
