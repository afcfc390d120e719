//! A directory is removed: its name is typed, and what still uses it is said before.

use super::{LIST, address, found};
use crate::api::Problem;
use crate::app::App;
use crate::console::door::{Administrator, Sent};
use crate::console::draft::{Draft, Finding, Verdict};
use crate::console::pages::{self, DirectoryRemoval, Frame, Message, show};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

pub(in crate::console) async fn page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(name): Path<String>,
) -> Response {
    match asked(&app, &by, &name, None).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

pub(in crate::console) async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    let removed = removed(&app, &sent, &name).await;
    removed.unwrap_or_else(|problem| pages::refused(&app, Some(&sent.by), &problem))
}

async fn removed(app: &App, sent: &Sent, name: &str) -> Result<Response, Problem> {
    if sent.text("name") != name {
        let failure = "This is not its name. Nothing was changed.";
        return Ok(show(StatusCode::UNPROCESSABLE_ENTITY, &asked(app, &sent.by, name, Some(failure)).await?));
    }
    match without(app, name).await?.apply(app, &sent.by).await? {
        Verdict::Refused(_) => Ok(show(StatusCode::UNPROCESSABLE_ENTITY, &asked(app, &sent.by, name, None).await?)),
        Verdict::Behind => Err(Problem::behind()),
        Verdict::Good(_) => {
            let page = Message {
                frame: Frame::of(app, &sent.by, "The directory is removed"),
                sentences: vec![format!("{name} is in the settings no longer, nor are the passwords of its accounts.")],
                bad: false,
                way_on: LIST.to_owned(),
                label: "To the directories",
            };
            Ok(show(StatusCode::OK, &page))
        }
    }
}

async fn without(app: &App, name: &str) -> Result<Draft, Problem> {
    let mut draft = Draft::open(app).await?;
    found(&draft.settings, name)?;
    draft.settings.directories.retain(|directory| directory.name.as_str() != name);
    Ok(draft)
}

/// Where it is named: `client.vpn.target`.
fn place(finding: Finding) -> String {
    if finding.key.is_empty() { finding.text } else { finding.key }
}

/// What uses it, as a dry run says.
async fn asked(
    app: &App,
    by: &Administrator,
    name: &str,
    failure: Option<&'static str>,
) -> Result<DirectoryRemoval, Problem> {
    let used_by = match without(app, name).await?.dry_run(app, by).await? {
        Verdict::Good(_) => Vec::new(),
        Verdict::Behind => return Err(Problem::behind()),
        Verdict::Refused(findings) => findings.into_iter().map(place).collect(),
    };
    Ok(DirectoryRemoval {
        frame: Frame::of(app, by, format!("Remove the directory {name}?")),
        name: name.to_owned(),
        address: address(name, "remove"),
        back: LIST,
        used_by,
        failure,
    })
}
