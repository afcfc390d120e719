//! The admin console: what administrators look at and decide, as pages. They work without script.
//!
//! ```text
//! key -> session (door) -> permission of the page (TABLE) -> page -> the same functions as the REST API
//! ```
//!
//! Nobody has an account here: whoever holds an API key signs in with it alone, and may what its role may; so it is closed unless
//! `portal.console` opens it (V-84). The key itself is not kept; that
//! it is still in force, and its role, is asked for each page, so that a key that is revoked ends its sessions. The console speaks
//! English.

mod browse;
mod clients;
mod directories;
mod door;
mod draft;
mod form;
mod import;
mod item_form;
mod items;
mod order;
mod overview;
mod owner;
mod pages;
mod removal;
mod runs;
mod schedule;
mod targets;
mod users;
mod waiting;

use crate::app::App;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{any, get, post};
use domain::role::Permission::{self, SettingsClients, SettingsRead, SyncApprove, SyncRun, UsersEdit, UsersRead};
use http::Method;
use std::sync::Arc;

/// The longest form has a bundle of certificates as PEM text, twice: as a CA and pinned.
const FORM_BYTES_MAX: usize = 1024 * 1024;

/// Every page behind the door and the permission it asks for. What is not listed is refused, whoever asks (V-82).
const TABLE: [(&str, &str, Permission); 42] = [
    ("GET", "/console", UsersRead),
    ("POST", "/console/sign-out", UsersRead),
    ("GET", "/console/users", UsersRead),
    ("GET", "/console/users/new", UsersEdit),
    ("POST", "/console/users/new", UsersEdit),
    ("GET", "/console/sync", SyncRun),
    ("POST", "/console/sync/preview", SyncRun),
    ("POST", "/console/sync/write", SyncRun),
    ("GET", "/console/sync/wait", SyncRun),
    ("GET", "/console/sync/runs/{id}", SyncRun),
    ("GET", "/console/sync/items/{name}/remove", SettingsClients),
    ("POST", "/console/sync/items/{name}/remove", SettingsClients),
    ("GET", "/console/sync/items/new", SettingsClients),
    ("POST", "/console/sync/items/new", SettingsClients),
    ("GET", "/console/sync/items/{name}/edit", SettingsClients),
    ("POST", "/console/sync/items/{name}/edit", SettingsClients),
    ("POST", "/console/sync/items/{name}/move", SettingsClients),
    ("GET", "/console/sync/items/{name}/saved", SettingsClients),
    // Whether somebody is in a directory, known here or not.
    ("GET", "/console/sync/owner", SettingsClients),
    ("GET", "/console/sync/schedule", SettingsClients),
    ("POST", "/console/sync/schedule", SettingsClients),
    ("GET", "/console/sync/schedule/saved", SettingsClients),
    ("POST", "/console/sync/probe", SettingsClients),
    ("GET", "/console/approvals", SyncApprove),
    ("GET", "/console/approvals/{id}", SyncApprove),
    ("POST", "/console/approvals/{id}", SyncApprove),
    ("GET", "/console/clients", SettingsRead),
    ("GET", "/console/clients/{name}", SettingsRead),
    ("GET", "/console/targets", SettingsRead),
    ("GET", "/console/directories", SettingsClients),
    ("GET", "/console/directories/new", SettingsClients),
    ("POST", "/console/directories/new", SettingsClients),
    ("GET", "/console/directories/{name}/edit", SettingsClients),
    ("POST", "/console/directories/{name}/edit", SettingsClients),
    ("GET", "/console/directories/{name}/mapping", SettingsClients),
    ("POST", "/console/directories/{name}/mapping", SettingsClients),
    ("GET", "/console/directories/{name}/saved", SettingsClients),
    ("GET", "/console/directories/{name}/remove", SettingsClients),
    ("POST", "/console/directories/{name}/remove", SettingsClients),
    // All people of the organisation, known here or not.
    ("GET", "/console/import", SettingsClients),
    ("POST", "/console/import/look", SettingsClients),
    ("POST", "/console/import", SettingsClients),
];

pub(crate) fn router(app: Arc<App>) -> Router {
    match app.console {
        true => open(app),
        false => closed(app),
    }
}

/// Mails lead to pages of the console, so it says why there is none.
fn closed(app: Arc<App>) -> Router {
    let page = async |State(app): State<Arc<App>>| pages::closed(&app);
    Router::new().route("/console", any(page)).route("/console/{*page}", any(page)).with_state(app)
}

fn open(app: Arc<App>) -> Router {
    Router::new()
        .route("/console", get(overview::page))
        .route("/console/sign-in", get(door::page).post(door::sign_in))
        .route("/console/sign-out", post(door::sign_out))
        .route("/console/users", get(users::list))
        .route("/console/users/new", get(users::form).post(users::create))
        .route("/console/sync", get(runs::page))
        .route("/console/sync/preview", post(runs::preview))
        .route("/console/sync/write", post(runs::write))
        .route("/console/sync/wait", get(runs::wait))
        .route("/console/sync/runs/{id}", get(runs::run))
        .route("/console/sync/items/{name}/remove", get(removal::page).post(removal::remove))
        .route("/console/sync/items/new", get(items::new_page).post(items::create))
        .route("/console/sync/items/{name}/edit", get(items::edit_page).post(items::edit))
        .route("/console/sync/items/{name}/move", post(order::shift))
        .route("/console/sync/items/{name}/saved", get(items::saved_page))
        .route("/console/sync/owner", get(owner::page))
        .route("/console/sync/schedule", get(schedule::page).post(schedule::save))
        .route("/console/sync/schedule/saved", get(schedule::saved))
        .route("/console/sync/probe", post(runs::probe))
        .route("/console/approvals", get(waiting::list))
        .route("/console/approvals/{id}", get(waiting::page).post(waiting::decide))
        .route("/console/clients", get(clients::list))
        .route("/console/clients/{name}", get(clients::page))
        .route("/console/targets", get(targets::list))
        .route("/console/directories", get(directories::list))
        .route("/console/directories/new", get(directories::edit::new).post(directories::edit::create))
        .route("/console/directories/{name}/edit", get(directories::edit::page).post(directories::edit::change))
        .route(
            "/console/directories/{name}/mapping",
            get(directories::mapping::page).post(directories::mapping::change),
        )
        .route("/console/directories/{name}/saved", get(directories::saved_page))
        .route("/console/directories/{name}/remove", get(directories::remove::page).post(directories::remove::remove))
        .route("/console/import", get(import::page).post(import::import))
        .route("/console/import/look", post(import::look))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(app)
}

/// May this page wait for a directory?
pub(crate) fn waits(route: &str) -> bool {
    let places =
        ["/console/directories", "/console/import", "/console/sync/items/new", "/console/sync/items/{name}/edit"];
    places.iter().any(|place| route.starts_with(place))
        || ["/console/sync/probe", "/console/sync/owner"].contains(&route)
}

/// Is this page fetched again by itself, with nobody there? Then it does not count as use of the session.
fn reloads_itself(route: &str) -> bool {
    route == "/console/sync/wait"
}

/// What a page asks for; `None`: there is no such page.
fn permission_of(method: &Method, path: &str) -> Option<Permission> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(listed, route, _)| *listed == method.as_str() && *route == path);
    found.map(|(_, _, permission)| *permission)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Role;

    #[test]
    fn an_application_sees_nothing_and_what_changes_something_is_not_an_auditors() {
        // V-82
        for (method, path, permission) in TABLE {
            assert!(!Role::Application.may(permission), "{method} {path}");
            let changes = method == "POST" && path != "/console/sign-out";
            assert!(!changes || !Role::Auditor.may(permission), "{method} {path}");
        }
        assert!(permission_of(&Method::POST, "/console/users").is_none());
        assert!(permission_of(&Method::HEAD, "/console/users").is_some());
    }
}
