//! Directories: listed, made, changed, tried before they are saved and afterwards, removed (FD-01 to FD-19, FD-30 to FD-42).
//!
//! ```text
//! edit     the form of a directory: tried as it stands (FD-11), or looked at as a dry run and applied
//! mapping  what its attributes are called (FD-17), in the same way
//! remove   by its name
//! keys     those of the settings · fields   as fields · form  their texts, and back
//! ```

pub(super) mod edit;
mod fields;
mod form;
mod keys;
pub(super) mod mapping;
pub(super) mod remove;

use super::door::{Administrator, Sent};
use super::draft::Given;
use super::pages::{self, DirectoriesPage, DirectoryShown, Frame, Probed, SavedPage, escaped, show};
use crate::api::{Body, DirectoryDraft, ONCE_SAVED_LIMIT, Problem, exported, try_draft};
use crate::app::App;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use domain::Secret;
use domain::settings::{Directory, Settings};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

const LIST: &str = "/console/directories";
/// How long a gateway may take to hear of what was just saved.
const HEARD_TRIES: usize = 8;
const HEARD_PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let settings = match exported(&app).await {
        Ok(settings) => settings,
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    };
    let first = settings.directories.first().map(|directory| directory.name.clone());
    let shown = |directory: &Directory| DirectoryShown {
        is_the_portals: Some(&directory.name) == first.as_ref(),
        ..shown(&settings, directory)
    };
    let directories = settings.directories.iter().map(shown).collect();
    show(StatusCode::OK, &DirectoriesPage { frame: Frame::of(&app, &by, "Directories"), directories })
}

fn shown(settings: &Settings, directory: &Directory) -> DirectoryShown {
    let name = directory.name.as_str();
    DirectoryShown {
        name: name.to_owned(),
        kind: fields::called(directory.preset),
        servers: directory.urls.clone(),
        base: directory.base.clone(),
        items: settings.sync_items.iter().filter(|item| item.directory == directory.name).count(),
        clients: settings.clients.iter().filter(|client| client.target == directory.name).count(),
        address: address(name, ""),
        is_the_portals: false,
    }
}

/// Of its form, in which it can be tried.
pub(super) fn edit_address(name: &str) -> String {
    address(name, "edit")
}

/// Of a page of a directory: `edit`, `mapping`, `remove`.
fn address(name: &str, page: &str) -> String {
    format!("{LIST}/{}/{page}", escaped(name))
}

fn found(settings: &Settings, name: &str) -> Result<Directory, Problem> {
    settings.directory(name).cloned().ok_or_else(|| Problem::not_found("there is no such directory"))
}

/// As a form carries it.
fn revision(settings: &Settings) -> String {
    settings.revision.map(|it| it.to_string()).unwrap_or_default()
}

/// How the keys of a directory begin.
fn prefix(name: &str) -> String {
    format!("directory.{name}.")
}

/// S-44
fn is_another_source(before: &Directory, next: &Directory) -> bool {
    before.as_synchronised().source_digest() != next.as_synchronised().source_digest()
}

/// S-44: what synchronisation does about it.
const ANOTHER_SOURCE: &str = "Synchronisation reads another source then: its next run is a preview, which only shows what it would do \
    until somebody accepts that.";

fn another_source(before: &Directory, next: &Directory) -> Option<String> {
    is_another_source(before, next).then(|| ANOTHER_SOURCE.to_owned())
}

/// The passwords of its own accounts, and nobody's.
#[derive(Default)]
struct Passwords {
    query: Secret,
    sync: Secret,
}

impl Passwords {
    fn typed(sent: &Sent) -> Self {
        let typed = |field| sent.secret(field).cloned().unwrap_or_default();
        Self { query: typed(QUERY_PASSWORD), sync: typed(SYNC_PASSWORD) }
    }
}

const QUERY_PASSWORD: &str = "query_bind.password";
const SYNC_PASSWORD: &str = "sync_bind.password";

fn given(name: &str, field: &str, label: &str) -> Given {
    Given { field: field.to_owned(), name: format!("{}{field}", prefix(name)), label: label.to_owned() }
}

/// FD-11: as it is typed or as it is saved, with the passwords that were typed for it.
async fn tried(
    app: &Arc<App>,
    by: &Administrator,
    directory: &Directory,
    passwords: Passwords,
    person: (String, Secret),
) -> Result<Probed, Problem> {
    let sync_password = if directory.sync_bind.is_some() { passwords.sync } else { Secret::default() };
    let draft = DirectoryDraft {
        directory: serde_json::to_value(directory).unwrap_or_default(),
        query_password: passwords.query,
        sync_password,
        user: person.0,
        password: person.1,
    };
    let found = try_draft(State(app.clone()), by.caller.clone(), Body(draft)).await?;
    Ok(Probed::of(directory.name.as_str(), &found.0))
}

/// To the page that says so; `is_another_source`: synchronisation takes it for one (S-44).
fn saved(name: &str, is_another_source: bool) -> Response {
    let another = if is_another_source { "?another_source=true" } else { "" };
    Redirect::to(&format!("{}{another}", address(name, "saved"))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    #[serde(default)]
    another_source: bool,
}

/// What was applied, and what the directory says now. It stays saved, whatever is found (FS-05, S-03).
pub(super) async fn saved_page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> Response {
    let shown = async {
        let directory = found(&exported(&app).await?, &name)?;
        let (probed, failure) = match tried_once_saved(&app, &by, &directory).await {
            Ok(probed) => (Some(probed), None),
            Err(problem) => (None, Some(problem.sentences().join(" "))),
        };
        let page = SavedPage {
            frame: Frame::of(&app, &by, format!("{name} is saved")),
            note: done.another_source.then_some(ANOTHER_SOURCE),
            probed,
            failure,
            address: address(&name, ""),
        };
        Ok(show(StatusCode::OK, &page))
    };
    shown.await.unwrap_or_else(|problem: Problem| pages::refused(&app, Some(&by), &problem))
}

/// A gateway that has not heard of it yet has no password of it.
async fn tried_once_saved(app: &Arc<App>, by: &Administrator, directory: &Directory) -> Result<Probed, Problem> {
    let heard = async {
        for _ in 0..HEARD_TRIES {
            let found = tried(app, by, directory, Passwords::default(), Default::default()).await;
            if !found.as_ref().is_err_and(|problem| problem.status_code().is_client_error()) {
                return found;
            }
            tokio::time::sleep(HEARD_PAUSE).await;
        }
        tried(app, by, directory, Passwords::default(), Default::default()).await
    };
    let late = "That takes more than a few seconds. \"Try it\" in its form waits for longer.";
    tokio::time::timeout(ONCE_SAVED_LIMIT, heard).await.unwrap_or_else(|_| Err(Problem::rule(late)))
}
