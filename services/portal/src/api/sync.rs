//! Directory synchronisation: how it stands, what runs did, start one, decide what waits.

use super::access::Caller;
use super::extract::{Body, Path, Query};
use super::problem::Problem;
use super::{Page, moment, page_length};
use crate::app::{App, STORE_LIMIT, within};
use axum::Json;
use axum::extract::State;
use domain::settings::Settings;
use http::StatusCode;
use proto::user_store::{
    Approval, ApprovalUser, DecideApprovalRequest, ListApprovalUsersRequest, ListSyncRunsRequest, RequestSyncRequest,
    SourcePin, SyncChange, SyncChangesRequest, SyncRun, SyncSource, SyncStatusRequest,
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Code;
use utoipa::{IntoParams, ToSchema};

#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// The instance that synchronises now.
    leader: String,
    epoch: u64,
    /// The directories that have sync items.
    sources: Vec<Source>,
    /// The newest first.
    runs: Vec<Run>,
    /// Leavers that are too many to go unasked.
    approvals: Vec<Waiting>,
}

#[derive(Serialize, ToSchema)]
struct Source {
    directory: String,
    /// Where its searches start, as the settings say or its servers; empty = no run has found out yet.
    base: String,
    /// How changes are heard of: dirsync, usn_changed, syncrepl, accesslog, changelog, modify_timestamp; empty = every run reads
    /// everything.
    feed: String,
    /// What the directory offers, one sentence a feed.
    offers: Vec<String>,
    /// When the last complete run that read everything began.
    last_full: Option<String>,
    /// When the last complete run of any kind began.
    last_complete: Option<String>,
    /// When the schedule runs it next, at the latest: what it tells of, or what was missed, is read sooner. In the past: at once. null
    /// = no run begins by itself.
    next: Option<String>,
    /// Users of the directory that are not removed.
    users: u64,
    /// Why no run begins by itself, in one sentence; null = they do.
    waits_for: Option<String>,
    /// What sync items name by a DN, known by its id since it was found.
    pins: Vec<PinnedSource>,
}

#[derive(Serialize, ToSchema)]
struct PinnedSource {
    sync_item: String,
    /// container or group.
    kind: String,
    /// As the settings have it; the entry may be called otherwise by now.
    distinguished_name: String,
    object_id: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Run {
    id: String,
    directory: String,
    /// full, incremental or preview.
    mode: String,
    /// Why this mode, in one sentence.
    why: String,
    feed: String,
    /// schedule, request or follow; draft: a preview of sync items that are not applied; check: the preview before a run that was asked for with `looked_at`.
    trigger: String,
    /// Who asked; empty = nobody.
    actor: String,
    started: Option<String>,
    finished: Option<String>,
    /// running, done, incomplete, parked or abandoned; of a preview also changed: the list is another than the one that was looked at,
    /// so nothing was written.
    state: String,
    error: String,
    added: u32,
    changed: u32,
    unchanged: u32,
    disabled: u32,
    removed: u32,
    parked: u32,
    /// Why they wait for approval, or, of a preview, would, in one sentence; null = nobody does.
    parked_why: Option<String>,
    /// Users by sync item.
    items: BTreeMap<String, u64>,
    /// Users that were not taken, and values that could not be used.
    problems: u64,
    /// How often it came to the same incomplete end, one time after the other, beside the first.
    repeats: u32,
}

/// One run, with what it could not use.
#[derive(Serialize, ToSchema)]
pub(super) struct WholeRun {
    #[serde(flatten)]
    run: Run,
    /// The first 100 values that could not be used. Users that were not taken are among the changes.
    unusable: Vec<Unusable>,
}

/// A value of the directory that is as if it were not there.
#[derive(Serialize, ToSchema)]
struct Unusable {
    /// The DN of the entry, or the username.
    entry: String,
    attribute: String,
    /// Such as: is no mail address.
    why: String,
}

#[derive(Serialize, ToSchema)]
struct Waiting {
    id: String,
    directory: String,
    created: Option<String>,
    /// Until then it can be decided; afterwards it is void.
    expires: Option<String>,
    /// How many users wait.
    users: u64,
    /// Why, in one sentence; null = the list is from before this was kept.
    why: Option<String>,
}

/// What a run did to a user; of a preview, what it would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    username: String,
    /// added, changed, disabled, removed, enabled, parked or problem.
    what: String,
    detail: String,
}

/// A user that waits for a decision.
#[derive(Serialize, ToSchema)]
pub(super) struct Leaver {
    username: String,
    distinguished_name: String,
    /// disable, remove or exempt.
    action: String,
    /// One sentence.
    why: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryFilter {
    /// Only of this directory.
    #[serde(default)]
    directory: String,
    /// Only runs that changed somebody, found a problem, or did not come to their end.
    #[serde(default)]
    changed: bool,
    /// Only this run.
    #[serde(default)]
    id: String,
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesFilter {
    /// The `next` of the page before.
    #[serde(default)]
    after: u64,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaversFilter {
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    /// Only this directory; absent: all that have sync items.
    #[serde(default)]
    directory: String,
    /// Only the directory of this sync item.
    #[serde(default)]
    sync_item: String,
    #[serde(default)]
    mode: Mode,
    /// The run writes although account, base, filter or server are others than before: what was read then says nothing about
    /// who is gone now.
    #[serde(default)]
    accept_source: bool,
    /// The id of a preview: its directory is run, and nothing is written where it would list something else now. A new preview (trigger
    /// check, state changed) then says what.
    #[serde(default)]
    looked_at: String,
    /// Of a preview of one directory: a settings document that is not applied, whose sync items it tries.
    #[serde(default)]
    document: String,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Reads everything and writes.
    #[default]
    Full,
    /// Lists what would change and writes nothing.
    Preview,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// False: all of them stay.
    approve: bool,
    /// Only these go, and the others stay; absent: all of them go.
    usernames: Option<Vec<String>>,
    /// Why, for the audit; must be given where somebody would be exempt from the second factor.
    #[serde(default)]
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Decided {
    /// How many users were changed.
    applied: u32,
}

/// Directories, runs and what waits for approval
#[utoipa::path(get, path = "/sync", tag = "sync", responses(
    (status = 200, body = Status), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn status(State(app): State<Arc<App>>, _: Caller) -> Result<Json<Status>, Problem> {
    let request = idempotent(SyncStatusRequest {});
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.sync_status(request)).await?;
    Ok(Json(Status {
        leader: reply.leader,
        epoch: reply.epoch,
        sources: reply.sources.into_iter().map(source).collect(),
        runs: reply.runs.into_iter().map(run_shown).collect(),
        approvals: reply.approvals.into_iter().map(waiting).collect(),
    }))
}

/// The runs, the newest first, a page at a time
///
/// They are kept for 90 days; those that read what changed, and found nothing, for seven.
#[utoipa::path(get, path = "/sync/history", tag = "sync", params(HistoryFilter), responses(
    (status = 200, body = Page<Run>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn history(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<HistoryFilter>,
) -> Result<Json<Page<Run>>, Problem> {
    let request = idempotent(ListSyncRunsRequest {
        directory: filter.directory,
        told_only: filter.changed,
        after: filter.after,
        limit: page_length(filter.limit)?,
        run_id: filter.id,
    });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.list_sync_runs(request)).await?;
    let next = Some(reply.next).filter(|next| !next.is_empty());
    Ok(Json(Page { items: reply.runs.into_iter().map(run_shown).collect(), next }))
}

/// One run
#[utoipa::path(get, path = "/sync/runs/{id}", tag = "sync", params(("id" = String, Path)), responses(
    (status = 200, body = WholeRun), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<WholeRun>, Problem> {
    let request = idempotent(ListSyncRunsRequest { run_id: id, limit: 1, ..ListSyncRunsRequest::default() });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.list_sync_runs(request)).await?;
    let mut run = reply.runs.into_iter().next().ok_or_else(|| Problem::not_found("no such run"))?;
    let unusable = std::mem::take(&mut run.unusable).into_iter();
    let unusable = unusable.map(|it| Unusable { entry: it.entry, attribute: it.attribute, why: it.why }).collect();
    Ok(Json(WholeRun { run: run_shown(run), unusable }))
}

/// What a run did, user by user
#[utoipa::path(get, path = "/sync/runs/{id}/changes", tag = "sync", params(("id" = String, Path), ChangesFilter), responses(
    (status = 200, body = Page<Change>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
    Query(filter): Query<ChangesFilter>,
) -> Result<Json<Page<Change>>, Problem> {
    let limit = page_length(filter.limit)?;
    let request = idempotent(SyncChangesRequest { run_id: id, after: filter.after, limit });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.sync_changes(request)).await?;
    let full = reply.changes.len() == limit as usize;
    let next = reply.changes.last().filter(|_| full).map(|change| change.number.to_string());
    Ok(Json(Page { items: reply.changes.into_iter().map(change).collect(), next }))
}

/// Ask for a run now
///
/// Also what lets runs begin by themselves: the first one, and the first after sync items changed, is asked for.
#[utoipa::path(post, path = "/sync/run", tag = "sync", request_body = NewRun, responses(
    (status = 202, description = "Asked for"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewRun>,
) -> Result<StatusCode, Problem> {
    let request = new.request(caller.actor)?;
    within(STORE_LIMIT, request, |request| app.deps.admin.request_sync(request)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Who waits for a decision
#[utoipa::path(get, path = "/sync/approvals/{id}/users", tag = "sync", params(("id" = String, Path), LeaversFilter), responses(
    (status = 200, body = Page<Leaver>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn approval_users(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
    Query(filter): Query<LeaversFilter>,
) -> Result<Json<Page<Leaver>>, Problem> {
    let limit = page_length(filter.limit)?;
    let request = idempotent(ListApprovalUsersRequest { approval_id: id, after: filter.after, limit });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.list_approval_users(request)).await?;
    let next = Some(reply.next).filter(|next| !next.is_empty());
    Ok(Json(Page { items: reply.users.into_iter().map(leaver).collect(), next }))
}

/// Decide about leavers that wait
///
/// Once a list. Where there are several administrators, nobody approves what came of a run that they asked for themselves. A list of other
/// sync items or another source than those of now, or of which no run has heard of late, is refused with 409: ask for a run first.
#[utoipa::path(post, path = "/sync/approvals/{id}", tag = "sync", request_body = Decision, params(("id" = String, Path)), responses(
    (status = 200, body = Decided), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn decide(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(decision): Body<Decision>,
) -> Result<Json<Decided>, Problem> {
    match (&decision.usernames, decision.approve) {
        // To the store no names are all names: a list that came out empty must not mean everybody.
        (Some(names), true) if names.is_empty() => {
            return Err(Problem::rule("usernames: is empty; name users, or leave it out for all of them"));
        }
        (Some(_), false) => return Err(Problem::rule("usernames: refusing is for all of them; leave it out")),
        _ => {}
    }
    let request = DecideApprovalRequest {
        approval_id: id,
        approve: decision.approve,
        usernames: decision.usernames.unwrap_or_default(),
        reason: decision.reason,
        actor: caller.actor,
        now_unix_ms: app.now_ms(),
    };
    match within(STORE_LIMIT, request, |request| app.deps.admin.decide_approval(request)).await {
        Ok(reply) => Ok(Json(Decided { applied: reply.applied })),
        // S-40, V-82: the key may approve, and not this.
        Err(status) if status.code() == Code::PermissionDenied => Err(Problem::not_this(status.message())),
        Err(status) => Err(status.into()),
    }
}

impl NewRun {
    fn request(self, actor: String) -> Result<RequestSyncRequest, Problem> {
        let only = match (self.directory.as_str(), self.sync_item.as_str()) {
            (directory, "") => directory,
            ("", item) => item,
            _ => return Err(Problem::rule("directory and sync_item: give one of them")),
        };
        if self.mode == Mode::Preview && self.accept_source {
            return Err(Problem::rule("accept_source: a preview writes nothing and accepts nothing"));
        }
        if !self.looked_at.is_empty() && self.mode == Mode::Preview {
            return Err(Problem::rule("looked_at: a preview writes nothing"));
        }
        if !self.looked_at.is_empty() && !self.sync_item.is_empty() {
            return Err(Problem::rule("looked_at: is a list of a directory; leave sync_item out"));
        }
        let draft_items = match (self.document.as_str(), self.mode, self.directory.as_str()) {
            ("", ..) => Vec::new(),
            (_, Mode::Full, _) | (_, Mode::Preview, "") => {
                return Err(Problem::rule("document: goes with a preview of one directory"));
            }
            (document, Mode::Preview, directory) => items_of(document, directory)?,
        };
        let mode = match self.mode {
            Mode::Full => "full",
            Mode::Preview => "preview",
        };
        Ok(RequestSyncRequest {
            only: only.to_owned(),
            mode: mode.to_owned(),
            accept_source: self.accept_source,
            actor,
            looked_at: self.looked_at,
            draft_items,
        })
    }
}

/// The items of a directory in a document, as JSON.
fn items_of(document: &str, directory: &str) -> Result<Vec<String>, Problem> {
    let settings: Settings = toml::from_str(document).map_err(|error| Problem::rule(format!("document: {error}")))?;
    let items = settings.sync_items.iter().filter(|item| item.directory.as_str() == directory);
    let items: Vec<String> = items.filter_map(|item| serde_json::to_string(item).ok()).collect();
    match items.is_empty() {
        true => Err(Problem::rule("document: has no sync item of the directory")),
        false => Ok(items),
    }
}

fn source(source: SyncSource) -> Source {
    Source {
        directory: source.directory,
        base: source.base,
        feed: source.feed,
        offers: source.offers,
        last_full: moment(source.full_unix_ms),
        last_complete: moment(source.complete_unix_ms),
        next: moment(source.next_unix_ms),
        users: source.users,
        waits_for: Some(source.waits_for).filter(|text| !text.is_empty()),
        pins: source.pins.into_iter().map(pin).collect(),
    }
}

fn pin(pin: SourcePin) -> PinnedSource {
    PinnedSource {
        sync_item: pin.sync_item,
        kind: pin.kind,
        distinguished_name: pin.distinguished_name,
        object_id: pin.object_id,
    }
}

fn run_shown(run: SyncRun) -> Run {
    Run {
        id: run.run_id,
        directory: run.directory,
        mode: run.mode,
        why: run.why,
        feed: run.feed,
        trigger: run.trigger,
        actor: run.actor,
        started: moment(run.started_unix_ms),
        finished: moment(run.finished_unix_ms),
        state: run.state,
        error: run.error,
        added: run.added,
        changed: run.changed,
        unchanged: run.unchanged,
        disabled: run.disabled,
        removed: run.removed,
        parked: run.parked,
        parked_why: Some(run.parked_why).filter(|text| !text.is_empty()),
        items: run.items.into_iter().map(|item| (item.sync_item, item.users)).collect(),
        problems: run.problems,
        repeats: run.repeats,
    }
}

fn waiting(approval: Approval) -> Waiting {
    Waiting {
        id: approval.approval_id,
        directory: approval.directory,
        created: moment(approval.created_unix_ms),
        expires: moment(approval.expires_unix_ms),
        users: approval.users,
        why: Some(approval.why).filter(|text| !text.is_empty()),
    }
}

fn change(change: SyncChange) -> Change {
    Change { username: change.username, what: change.what, detail: change.detail }
}

fn leaver(user: ApprovalUser) -> Leaver {
    Leaver { username: user.username, distinguished_name: user.distinguished_name, action: user.action, why: user.why }
}
