//! A directory is removed: its name is typed, and what still uses it is said before.

use super::{LIST, address, found};
use crate::api::{Problem, exported};
use crate::app::App;
use crate::console::door::{Administrator, Sent};
use crate::console::draft::{Draft, Finding, Verdict};
use crate::console::pages::{self, DirectoryRemoval, Frame, Message, show};
use axum::extract::{Path, State};
use axum::response::Response;
use domain::settings::Settings;
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
        Verdict::Refused(_) | Verdict::NoReason(_) => {
            Ok(show(StatusCode::UNPROCESSABLE_ENTITY, &asked(app, &sent.by, name, None).await?))
        }
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

/// Does it say that something names the directory?
fn names(finding: &Finding, name: &str) -> bool {
    finding.text.contains(&format!("{name:?}"))
}

/// FD-01: the first one of the settings is the portal's.
fn portal(settings: &Settings, name: &str) -> Option<String> {
    let mut names = settings.directories.iter().map(|directory| directory.name.as_str());
    names.next().filter(|first| *first == name)?;
    Some(match names.next() {
        Some(next) => format!(
            "Everybody signs in to the portal by this directory, the first of the settings. Once it is removed, {next} is the first one, \
             and people of {next} alone sign in."
        ),
        None => "Everybody signs in to the portal by this directory. Once it is removed, nobody does.".to_owned(),
    })
}

/// What uses it, as a dry run says.
async fn asked(
    app: &App,
    by: &Administrator,
    name: &str,
    failure: Option<&'static str>,
) -> Result<DirectoryRemoval, Problem> {
    let portal = portal(&exported(app).await?, name);
    let refused = match without(app, name).await?.dry_run(app, by).await? {
        Verdict::Good(_) => Vec::new(),
        Verdict::Behind => return Err(Problem::behind()),
        Verdict::Refused(findings) | Verdict::NoReason(findings) => findings,
    };
    let (used_by, refusals): (Vec<_>, Vec<_>) = refused.iter().partition(|finding| names(finding, name));
    let sentences = |findings: Vec<&Finding>| findings.into_iter().map(Finding::sentence).collect();
    Ok(DirectoryRemoval {
        frame: Frame::of(app, by, format!("Remove the directory {name}?")),
        name: name.to_owned(),
        address: address(name, "remove"),
        back: LIST,
        used_by: sentences(used_by),
        refusals: sentences(refusals),
        portal,
        failure,
    })
}
