//! What waits for an administrator, when the console opens (FS-07, FS-09), and what weakens security (R-09, FB-04).

use super::clients;
use super::door::Administrator;
use super::pages::{self, Frame, List, OpenClient, Overview, RunShown, show, time};
use crate::api::{KnownClients, Problem, known_clients};
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::State;
use axum::response::Response;
use domain::settings::{Client, Settings};
use http::{Method, StatusCode};
use proto::user_store::{Approval, SyncRun, SyncStatusReply, SyncStatusRequest};
use serde_json::Value;
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
    let weak = match by.may(&Method::GET, clients::LIST) {
        true => match weak(&app).await {
            Ok(found) => found,
            Err(problem) => return pages::refused(&app, Some(&by), &problem),
        },
        false => Weak::default(),
    };
    let page = Overview {
        frame: Frame::of(&app, &by, "Overview"),
        waiting: status.approvals.into_iter().map(list).collect(),
        paused: paused.collect(),
        failed: failed(status.runs),
        open: weak.clients,
        dangers: weak.dangers,
        sees,
    };
    show(StatusCode::OK, &page)
}

/// What weakens security: clients that let people or packets through, and `danger_` keys in use (R-09, X 2.2).
#[derive(Default)]
struct Weak {
    clients: Vec<OpenClient>,
    dangers: Vec<(String, String)>,
}

async fn weak(app: &App) -> Result<Weak, Problem> {
    let KnownClients { snapshot, mut clients, .. } = known_clients(app, "").await?;
    let open = |client: &Client| {
        let name = client.name.as_str();
        let texts = clients.remove(name)?.weaknesses;
        (!texts.is_empty()).then(|| OpenClient { name: name.to_owned(), address: clients::address(name), texts })
    };
    let clients = snapshot.settings.clients.iter().filter_map(open).collect();
    Ok(Weak { clients, dangers: dangers(&snapshot.settings) })
}

/// Each key that is called `danger_...` and on, or whose value is called so, with what the check of the settings says of it.
fn dangers(settings: &Settings) -> Vec<(String, String)> {
    let problems = settings.problems();
    let said = |key: &String| {
        let problem = problems.iter().find(|problem| problem.key == *key);
        problem.map(|problem| problem.text.clone()).unwrap_or_default()
    };
    let mut keys = Vec::new();
    dangers_in("", &serde_json::to_value(settings).unwrap_or_default(), &mut keys);
    keys.sort();
    keys.into_iter().map(|key| (key.clone(), said(&key))).collect()
}

/// As the settings name them: `client.gitlab.tls`.
fn dangers_in(at: &str, value: &Value, found: &mut Vec<String>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Bool(true) if name.starts_with("danger_") => found.push(below(name)),
                    Value::String(word) if word.starts_with("danger_") => found.push(below(name)),
                    value => dangers_in(&below(name), value, found),
                }
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                let name = entry.get("name").and_then(Value::as_str);
                dangers_in(&name.map_or_else(|| at.to_owned(), below), entry, found);
            }
        }
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_danger_that_is_on_is_named_as_the_settings_name_it() {
        // R-09, X 2.2
        let document = "[[directory]]\nname = \"corp\"\nurls = [\"ldap://dc\"]\nbase = \"dc=corp\"\n\
             query_bind = { kind = \"anonymous\" }\ndanger_clear_text = true\n\
             [[client]]\nname = \"gitlab\"\nprotocol = \"ldap\"\nsources = [\"10.0.0.1/32\"]\ntarget = \"corp\"\n\
             tls = \"danger_optional\"\n\
             [[client]]\nname = \"vpn\"\nprotocol = \"radius\"\nsources = [\"10.0.0.2/32\"]\ntarget = \"corp\"\n\
             secret = \"keep\"\nlimit_proxy_state = \"no\"\nmessage_authenticator = \"no\"\n\
             danger_accept_blastradius = true\n";
        let settings: Settings = toml::from_str(document).expect("a document");
        let found = dangers(&settings);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        let wanted = ["client.gitlab.tls", "client.vpn.danger_accept_blastradius", "directory.corp.danger_clear_text"];
        assert_eq!(keys, wanted);
        assert!(found.iter().all(|(_, text)| !text.is_empty()), "{found:?}");
        assert_eq!(dangers(&Settings::default()), []);
    }
}
