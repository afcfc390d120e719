//! A sync item is removed: its name is typed, and who gets its users is said before (FS-10).

use super::door::{Administrator, Sent};
use super::draft::{Draft, Finding, Verdict};
use super::pages::{self, Frame, ItemApplied, Removal, escaped, show};
use crate::api::Problem;
use crate::app::App;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use proto::user_store::{ApplySettingsReply, RemovedItem};
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
    let (directory, reply) = match removed(&app, &sent.by, &name).await {
        Ok(removed) => removed,
        Err(problem) => return pages::refused(&app, Some(&sent.by), &problem),
    };
    let sentences = reply.removed_items.into_iter().map(|item| format!("{name} {}.", item.text)).collect();
    let frame = Frame::of(&app, &sent.by, "The sync item is removed");
    show(StatusCode::OK, &ItemApplied { frame, sentences, directory })
}

async fn removed(app: &App, by: &Administrator, name: &str) -> Result<(String, ApplySettingsReply), Problem> {
    let (directory, draft) = without(app, name).await?;
    Ok((directory, good(draft.apply(app, by).await?)?))
}

/// Who would get its users, as a dry run says.
async fn asked(app: &App, by: &Administrator, name: &str, failure: Option<String>) -> Result<Removal, Problem> {
    let (directory, draft) = without(app, name).await?;
    let reply = good(draft.dry_run(app, by).await?)?;
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

/// The directory of the item, and the settings without it.
async fn without(app: &App, name: &str) -> Result<(String, Draft), Problem> {
    let mut draft = Draft::open(app).await?;
    let items = &mut draft.settings.sync_items;
    let place = items.iter().position(|item| item.name.as_str() == name);
    let place = place.ok_or_else(|| Problem::not_found(format!("there is no sync item {name:?}")))?;
    let directory = items.remove(place).directory.to_string();
    draft.removed_items.push(name.to_owned());
    Ok((directory, draft))
}

/// Somebody who changes the settings meanwhile is first.
fn good(verdict: Verdict) -> Result<ApplySettingsReply, Problem> {
    match verdict {
        Verdict::Good(reply) => Ok(*reply),
        Verdict::Behind => Err(Problem::behind()),
        Verdict::Refused(findings) | Verdict::NoReason(findings) => {
            let sentences = findings.iter().map(Finding::sentence).collect();
            Err(Problem::rules("the document is refused; nothing was changed", sentences))
        }
    }
}

/// Where an item is removed.
pub(super) fn address(name: &str) -> String {
    format!("/console/sync/items/{}/remove", escaped(name))
}
