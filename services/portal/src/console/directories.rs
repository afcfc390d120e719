//! Directories: listed, made, changed, tried before they are saved and afterwards, removed (FD-01 to FD-19, FD-30 to FD-42).
//!
//! ```text
//! edit     the form of a directory: tried as it stands (FD-11), or looked at as a dry run and applied
//! mapping  what its attributes are called (FD-17), in the same way
//! remove   by its name
//! fields   the keys of the settings as fields · form  their texts, and back
//! ```

pub(super) mod edit;
mod fields;
mod form;
pub(super) mod mapping;
pub(super) mod remove;

use super::door::{Administrator, Sent};
use super::draft::Given;
use super::pages::{self, DirectoriesPage, DirectoryShown, Frame, Probed, SavedPage, escaped, show};
use crate::api::{Body, DirectoryDraft, Problem, exported, try_draft};
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use domain::Secret;
use domain::settings::{Directory, Settings};
use http::StatusCode;
use std::sync::Arc;

const LIST: &str = "/console/directories";

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let settings = match exported(&app).await {
        Ok(settings) => settings,
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    };
    let directories = settings.directories.iter().map(|directory| shown(&settings, directory)).collect();
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
    }
}

/// Of a page of a directory: `edit`, `mapping`, `remove`.
fn address(name: &str, page: &str) -> String {
    format!("{LIST}/{}/{page}", escaped(name))
}

fn found(settings: &Settings, name: &str) -> Result<Directory, Problem> {
    settings.directory(name).cloned().ok_or_else(|| Problem::not_found("there is no such directory"))
}

/// How the keys of a directory begin.
fn prefix(name: &str) -> String {
    format!("directory.{name}.")
}

/// S-44: what synchronisation does about it.
fn another_source(before: &Directory, next: &Directory) -> Option<String> {
    let (before, next) = (before.as_synchronised(), next.as_synchronised());
    (before.source_digest() != next.source_digest()).then(|| {
        "Synchronisation reads another source then: its next run is a preview, which only shows what it would do until somebody \
         accepts that."
            .to_owned()
    })
}

/// The passwords of its own accounts, and nobody's.
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

/// What was applied, and what the directory says now. It stays saved, whatever is found (FS-05, S-03).
async fn saved(app: &Arc<App>, sent: &Sent, directory: &Directory, notes: Vec<String>) -> Response {
    let found = tried(app, &sent.by, directory, Passwords::typed(sent), Default::default()).await;
    let (probed, failure) = match found {
        Ok(probed) => (Some(probed), None),
        Err(problem) => (None, Some(problem.sentences().join(" "))),
    };
    let name = directory.name.as_str();
    let page = SavedPage {
        frame: Frame::of(app, &sent.by, format!("{name} is saved")),
        notes,
        probed,
        failure,
        address: address(name, ""),
    };
    show(StatusCode::OK, &page)
}
