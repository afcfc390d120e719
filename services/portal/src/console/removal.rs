//! A sync item is removed: its name is typed, and who gets its users is said before (FS-10).

use super::door::{Administrator, Sent};
use super::pages::{self, Frame, Message, Removal, escaped, show};
use crate::api::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::{Path, State};
use axum::response::Response;
use domain::settings::Settings;
use http::StatusCode;
use proto::user_store::{ApplySettingsReply, ApplySettingsRequest, ExportSettingsRequest, RemovedItem};
use service_kit::grpc::idempotent;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator, Path(name): Path<String>) -> Response {
    match asked(&app, &by, &name, None).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

pub(super) async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    if sent.text("name") != name {
        let failure = "This is not its name. Nothing was changed.".to_owned();
        return match asked(&app, &sent.by, &name, Some(failure)).await {
            Ok(page) => show(StatusCode::UNPROCESSABLE_ENTITY, &page),
            Err(problem) => pages::refused(&app, Some(&sent.by), &problem),
        };
    }
    let removed = match without(&app, &name).await {
        Ok((directory, settings)) => {
            apply(&app, &settings, &sent.by, vec![name.clone()], false).await.map(|reply| (directory, reply))
        }
        Err(problem) => Err(problem),
    };
    let (directory, reply) = match removed {
        Ok(removed) => removed,
        Err(problem) => return pages::refused(&app, Some(&sent.by), &problem),
    };
    let mut sentences: Vec<String> =
        reply.removed_items.into_iter().map(|item| format!("{name} {}.", item.text)).collect();
    sentences.push(format!(
        "The sync items of {directory} changed, so that no run begins by itself until somebody has looked at the list of \
         changes and written it."
    ));
    let page = Message {
        frame: Frame::of(&app, &sent.by, "The sync item is removed"),
        sentences,
        bad: false,
        way_on: "/console/sync".to_owned(),
        label: "To synchronisation",
    };
    show(StatusCode::OK, &page)
}

/// Who would get its users, as a dry run says.
async fn asked(app: &App, by: &Administrator, name: &str, failure: Option<String>) -> Result<Removal, Problem> {
    let (directory, settings) = without(app, name).await?;
    let reply = apply(app, &settings, by, vec![name.to_owned()], true).await?;
    let found = reply.removed_items.into_iter().find(|item| item.sync_item == name);
    let RemovedItem { users, heirs, leave, .. } = found.unwrap_or_default();
    Ok(Removal {
        frame: Frame::of(app, by, format!("Remove the sync item {name}?")),
        name: name.to_owned(),
        address: address(name),
        directory,
        users,
        heirs: heirs.into_iter().map(|heir| (heir.sync_item, heir.users)).collect(),
        leave,
        failure,
    })
}

/// The directory of the item, and the settings without it. Somebody who changes them meanwhile is first.
async fn without(app: &App, name: &str) -> Result<(String, Settings), Problem> {
    let request = idempotent(ExportSettingsRequest {});
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.export_settings(request)).await?;
    let mut settings: Settings = toml::from_str(&reply.document).map_err(|error| {
        tracing::error!(%error, "the exported settings cannot be read");
        Problem::from(tonic::Status::internal("the settings cannot be read"))
    })?;
    let item = settings.sync_items.iter().position(|item| item.name.as_str() == name);
    match item {
        Some(place) => {
            let item = settings.sync_items.remove(place);
            Ok((item.directory.to_string(), settings))
        }
        None => Err(Problem::not_found(format!("there is no sync item {name:?}"))),
    }
}

async fn apply(
    app: &App,
    settings: &Settings,
    by: &Administrator,
    removed_items: Vec<String>,
    dry_run: bool,
) -> Result<ApplySettingsReply, Problem> {
    let document = toml::to_string(settings).map_err(|error| {
        tracing::error!(%error, "the settings cannot be written");
        Problem::from(tonic::Status::internal("the settings cannot be written"))
    })?;
    let actor = by.caller.actor.clone();
    let request = ApplySettingsRequest { document, dry_run, actor, removed_items, ..ApplySettingsRequest::default() };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.apply_settings(request)).await?;
    match reply.errors.is_empty() {
        true => Ok(reply),
        false => Err(Problem::rules("the document is refused; nothing was changed", reply.errors)),
    }
}

/// Where an item is removed.
pub(super) fn address(name: &str) -> String {
    format!("/console/sync/items/{}/remove", escaped(name))
}
