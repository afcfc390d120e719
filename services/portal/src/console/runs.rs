//! Synchronisation: how it stands, and "Synchronise now": what would change is shown first, then written when asked for (FS-09).
//!
//! ```text
//! preview -> wait -> run (a preview: what would change) -> write -> wait -> run (what changed)
//! ```

use super::door::{Administrator, Sent};
use super::overview::{shown, status, why};
use super::pages::{
    self, Frame, ItemShown, Offer, Probed, RunPage, SourceShown, Sync, Wait, Waiting, escaped, show, time,
};
use super::{items, order, removal};
use crate::api::{Caller, Problem};
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use domain::settings::{SourceKind, SyncState};
use http::{Method, StatusCode};
use proto::user_store::{ListSyncRunsRequest, RequestSyncRequest, SyncChangesRequest, SyncRun, SyncStatusReply};
use serde::Deserialize;
use service_kit::grpc::idempotent;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Changes on one page.
const PAGE: u32 = 100;
/// For how long a page asks by itself whether a run has ended: not as long as an unused session lasts.
const WAIT_MS: i64 = 10 * 60_000;

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator) -> Response {
    match overview(&app, &by, None).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

/// FS-05, S-03: which feed a directory will be followed by, and why not by another.
pub(super) async fn probe(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let directory = sent.text("directory").to_owned();
    let found = match crate::api::tried(&app, &directory).await {
        Ok(tried) => tried,
        Err(problem) => return pages::refused(&app, Some(&sent.by), &problem),
    };
    let probed = Probed::of(&directory, &found);
    match overview(&app, &sent.by, Some(probed)).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&sent.by), &problem),
    }
}

async fn overview(app: &App, by: &Administrator, probed: Option<Probed>) -> Result<Sync, Problem> {
    let status = status(app).await?;
    let settings = app.settings.fresh().await?;
    // Of each item, the newest run that counted it.
    let mut counted = BTreeMap::new();
    for run in status.runs.iter().filter(|run| run.mode == "full") {
        for item in &run.items {
            counted.entry(item.sync_item.clone()).or_insert(item.users);
        }
    }
    let all = &settings.settings.sync_items;
    let beside = |item, up| order::next(all, item, up).map(|it| it.name.to_string());
    let items = all.iter().map(|item| ItemShown {
        name: item.name.to_string(),
        directory: item.directory.to_string(),
        state: match item.state {
            SyncState::On => "on",
            SyncState::Off => "off",
            SyncState::Preview => "preview",
        },
        source: match item.source.kind {
            SourceKind::Domain => "the whole directory",
            SourceKind::Users => "chosen users",
            SourceKind::Container => "a container",
            SourceKind::Group => "a group",
        },
        users: counted.get(item.name.as_str()).copied(),
        editing: items::edit_address(item.name.as_str()),
        moving: order::address(item.name.as_str()),
        above: beside(item, true),
        below: beside(item, false),
        removal: removal::address(item.name.as_str()),
    });
    Ok(Sync {
        frame: Frame::of(app, by, "Synchronisation"),
        items: items.collect(),
        may_change: by.may(&Method::POST, "/console/sync/items/{name}/edit"),
        may_ask: by.may(&Method::GET, "/console/sync/owner"),
        sources: sources(&status),
        leader: status.leader,
        runs: status.runs.into_iter().take(20).map(shown).collect(),
        probed,
    })
}

fn sources(status: &SyncStatusReply) -> Vec<SourceShown> {
    let shown = status.sources.iter().map(|source| {
        let last = status.runs.iter().find(|run| run.directory == source.directory && run.mode != "preview");
        SourceShown {
            directory: source.directory.clone(),
            base: source.base.clone(),
            feed: source.feed.clone(),
            why: last.map(|run| run.why.clone()).unwrap_or_default(),
            offers: source.offers.clone(),
            users: source.users,
            last_full: time(source.full_unix_ms),
            last_complete: time(source.complete_unix_ms),
            next: time(source.next_unix_ms),
            waits_for: why(&source.waits_for).to_owned(),
        }
    });
    shown.collect()
}

pub(super) async fn preview(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let request = preview_of(&sent.by.caller, sent.text("directory"));
    asked(&app, &sent, ask_for(&app, request).await)
}

/// Only what somebody looked at is written: the list of the page with the button.
pub(super) async fn write(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let looked_at = sent.text("looked_at").to_owned();
    if looked_at.is_empty() {
        let problem = Problem::rule("looked_at: is missing; look at what would change first");
        return pages::refused(&app, Some(&sent.by), &problem);
    }
    let request = RequestSyncRequest {
        only: sent.text("directory").to_owned(),
        mode: "full".to_owned(),
        accept_source: sent.text("accept_source") == "yes",
        actor: sent.by.caller.actor.clone(),
        looked_at,
        ..RequestSyncRequest::default()
    };
    asked(&app, &sent, ask_for(&app, request).await)
}

fn asked(app: &App, sent: &Sent, wait: Result<String, Problem>) -> Response {
    match wait {
        Ok(wait) => Redirect::to(&wait).into_response(),
        Err(problem) => pages::refused(app, Some(&sent.by), &problem),
    }
}

/// What a run of a directory would change now.
pub(super) fn preview_of(caller: &Caller, directory: &str) -> RequestSyncRequest {
    RequestSyncRequest {
        only: directory.to_owned(),
        mode: "preview".to_owned(),
        actor: caller.actor.clone(),
        ..RequestSyncRequest::default()
    }
}

/// Asks for a run, and says where to wait for it. The leader takes requests from a queue and names no run beforehand: it is one of the
/// directory that was asked for and began after all that were there. They are known by their time, for a run may be gone by the next
/// look: what followed a directory is added to the run before it.
pub(super) async fn ask_for(app: &App, request: RequestSyncRequest) -> Result<String, Problem> {
    let settings = app.settings.fresh().await?;
    if settings.settings.directory(&request.only).is_none() {
        return Err(Problem::not_found("there is no such directory"));
    }
    let since = status(app).await?.runs.iter().map(|run| run.started_unix_ms).max().unwrap_or_default();
    let (directory, mode) = (request.only.clone(), request.mode.clone());
    within(STORE_LIMIT, request, |request| app.deps.admin.request_sync(request)).await?;
    Ok(Awaited { directory, mode, since, asked_at: app.now_ms() }.address())
}

#[derive(Deserialize)]
pub(super) struct Awaited {
    directory: String,
    mode: String,
    /// When the newest run began that was there before, in Unix milliseconds by the clock of synchronisation.
    since: i64,
    /// When it was asked for, in Unix milliseconds by ours.
    asked_at: i64,
}

pub(super) async fn wait(State(app): State<Arc<App>>, by: Administrator, Query(awaited): Query<Awaited>) -> Response {
    let status = match status(&app).await {
        Ok(status) => status,
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    };
    if let Some(run) = awaited.ended(&status.runs) {
        let to = format!("/console/sync/runs/{}?asked={}", escaped(&run.run_id), escaped(&awaited.mode));
        return Redirect::to(&to).into_response();
    }
    let begun = awaited.newest(&status.runs).is_some();
    let (title, state) = match (app.now_ms().saturating_sub(awaited.asked_at) < WAIT_MS, begun) {
        (true, _) => ("Reading the directory", Waiting::On),
        (false, true) => ("Still reading the directory", Waiting::Long),
        (false, false) => ("The run has not begun", Waiting::NotBegun),
    };
    let page = Wait {
        frame: Frame::of(&app, &by, title),
        here: awaited.address(),
        preview: awaited.mode == "preview",
        directory: awaited.directory,
        state,
    };
    show(StatusCode::OK, &page)
}

impl Awaited {
    fn address(&self) -> String {
        let (directory, mode) = (escaped(&self.directory), escaped(&self.mode));
        let Self { since, asked_at, .. } = self;
        format!("/console/sync/wait?directory={directory}&mode={mode}&since={since}&asked_at={asked_at}")
    }

    /// The newest first.
    fn newest<'a>(&self, runs: &'a [SyncRun]) -> Option<&'a SyncRun> {
        let mut new = runs.iter().filter(|run| run.started_unix_ms > self.since);
        new.find(|run| run.directory == self.directory && run.is_asked_for())
    }

    fn ended<'a>(&self, runs: &'a [SyncRun]) -> Option<&'a SyncRun> {
        self.newest(runs).filter(|run| run.has_ended())
    }
}

#[derive(Deserialize)]
pub(super) struct Looked {
    /// The last change of the page before.
    #[serde(default)]
    after: u64,
    /// What was asked for, where somebody waited for this run.
    #[serde(default)]
    asked: String,
}

pub(super) async fn run(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(id): Path<String>,
    Query(looked): Query<Looked>,
) -> Response {
    match run_page(&app, &by, id, &looked).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

async fn run_page(app: &App, by: &Administrator, id: String, looked: &Looked) -> Result<RunPage, Problem> {
    let request = idempotent(SyncChangesRequest { run_id: id.clone(), after: looked.after, limit: PAGE });
    let changes = within(STORE_LIMIT, request, |request| app.deps.admin.sync_changes(request)).await?.changes;
    let request = idempotent(ListSyncRunsRequest { run_id: id.clone(), ..ListSyncRunsRequest::default() });
    let run = within(STORE_LIMIT, request, |request| app.deps.admin.list_sync_runs(request)).await?.runs.pop();
    let runs = status(app).await?.runs;
    let title = match &run {
        Some(run) if run.mode == "preview" => format!("What would change in {}", run.directory),
        Some(run) => format!("What changed in {}", run.directory),
        None => "What changed".to_owned(),
    };
    let next = changes.last().filter(|_| changes.len() == PAGE as usize).map(|change| change.number);
    let offer = run.as_ref().map_or(Offer::Nothing, |run| offer(run, &runs, &looked.asked));
    let frame = Frame::of(app, by, title);
    Ok(RunPage {
        frame,
        id,
        run: run.map(shown),
        changes,
        next,
        asked: looked.asked.clone(),
        first: looked.after == 0,
        offer,
    })
}

/// Nothing is offered on a list that is not the last one of its directory.
fn offer(run: &SyncRun, runs: &[SyncRun], asked: &str) -> Offer {
    let newest = runs.iter().find(|other| other.directory == run.directory && other.state != "running");
    match (run.mode.as_str(), run.state.as_str()) {
        _ if newest.is_none_or(|newest| newest.run_id != run.run_id) => Offer::Nothing,
        // It is of items that are not applied.
        _ if run.trigger == "draft" => Offer::Nothing,
        // FS-09: this is the list as it is now.
        ("preview", "changed") => Offer::Write,
        // S-44: it should have written.
        ("preview", "done" | "parked") if asked == "full" || run.trigger != "request" => Offer::Accept,
        ("preview", "done" | "parked") => Offer::Write,
        (_, "parked") => Offer::Approvals,
        _ => Offer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, mode: &str, state: &str) -> SyncRun {
        SyncRun {
            run_id: id.into(),
            directory: "corp".into(),
            mode: mode.into(),
            state: state.into(),
            trigger: "request".into(),
            // Ids here are in the order of time.
            started_unix_ms: id.parse().expect("a number"),
            ..SyncRun::default()
        }
    }

    #[test]
    fn one_waits_for_the_run_that_came_after_and_was_asked_for() {
        // FS-09
        let awaited = |since| Awaited { directory: "corp".into(), mode: "preview".into(), since, asked_at: 0 };
        let by_itself = SyncRun { trigger: "schedule".into(), ..run("3", "full", "done") };
        let elsewhere = SyncRun { directory: "second".into(), ..run("4", "preview", "done") };
        let runs = [elsewhere, by_itself, run("2", "preview", "done"), run("1", "full", "done")];
        assert_eq!(awaited(1).ended(&runs).map(|run| run.run_id.as_str()), Some("2"));
        assert_eq!(awaited(2).ended(&runs), None, "whether the newest one then is still there or not");
        assert_eq!(awaited(1).ended(&[run("2", "preview", "running"), run("1", "full", "done")]), None);
        let check = |state: &str| SyncRun { trigger: "check".into(), ..run("5", "preview", state) };
        assert_eq!(awaited(4).ended(&[check("done")]), None, "the same list: it is written now");
        assert_eq!(awaited(4).ended(&[check("changed")]), Some(&check("changed")));
    }

    #[test]
    fn only_the_last_list_can_be_written() {
        // FS-09, S-44
        let (list, before) = (run("2", "preview", "done"), run("1", "full", "done"));
        let by_itself = SyncRun { trigger: "schedule".into(), ..run("3", "preview", "done") };
        assert!(offer(&list, &[list.clone(), before.clone()], "preview") == Offer::Write);
        assert!(offer(&list, &[list.clone(), before.clone()], "full") == Offer::Accept);
        assert!(offer(&list, &[by_itself.clone(), list.clone()], "preview") == Offer::Nothing);
        assert!(offer(&by_itself, &[by_itself.clone(), list], "") == Offer::Accept);
        assert!(offer(&before, std::slice::from_ref(&before), "full") == Offer::Nothing);
        let changed = SyncRun { trigger: "check".into(), ..run("4", "preview", "changed") };
        assert!(offer(&changed, std::slice::from_ref(&changed), "full") == Offer::Write, "as it is now");
        let draft = SyncRun { trigger: "draft".into(), ..run("4", "preview", "done") };
        assert!(offer(&draft, std::slice::from_ref(&draft), "preview") == Offer::Nothing, "it is not applied");
        let parked = run("5", "full", "parked");
        assert!(offer(&parked, std::slice::from_ref(&parked), "full") == Offer::Approvals);
    }
}
