//! A run of one directory, from its beginning to its end.

use super::history::{self, Change};
use super::{approvals, fence, items, leavers, pending, pins, preview, source, states, tell, unusable};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::outbox;
use crate::rpc::{StoreError, bounded};
use crate::sql::{Row, Session, args};
use crate::users::small;
use domain::settings::{Settings, SyncItem, SyncState};
use proto::user_store::{BeginRunReply, BeginRunRequest, FinishRunReply, FinishRunRequest, LeadReply, LeadRequest};
use tonic::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Full,
    Incremental,
    /// Writes nothing but what it would write (FS-12).
    Preview,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "full" => Ok(Self::Full),
            "incremental" => Ok(Self::Incremental),
            "preview" => Ok(Self::Preview),
            _ => Err(Status::invalid_argument(format!("mode: found {text:?}; allowed are full, incremental, preview"))),
        }
    }
}

/// A run as its row has it.
pub struct Run {
    pub run_id: String,
    pub directory: String,
    pub mode: Mode,
    /// schedule, follow, request ...
    pub trigger: String,
    pub state: String,
    pub actor: String,
    pub started_ms: i64,
    pub items_digest: String,
    pub mapping_digest: String,
    pub identity: String,
    pub added: u64,
    pub changed: u64,
    /// Why it is not complete, whatever its end says; empty = nothing is known of that.
    pub error: String,
    pub reply: FinishRunReply,
}

const COLUMNS: &str = "run_id, directory, mode, cause, state, actor, started_ms, items_digest, mapping_digest, identity, added, changed, \
    error, disabled, removed, parked, parked_why, approval_id, problems";

impl Run {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let mode = Mode::parse(&row.get::<String>("mode")?);
        Ok(Self {
            run_id: row.get("run_id")?,
            directory: row.get("directory")?,
            mode: mode.map_err(|_| StoreError::Broken("a run has no mode"))?,
            trigger: row.get("cause")?,
            state: row.get("state")?,
            actor: row.get("actor")?,
            started_ms: row.get("started_ms")?,
            items_digest: row.get("items_digest")?,
            mapping_digest: row.get("mapping_digest")?,
            identity: row.get("identity")?,
            added: row.unsigned("added")?,
            changed: row.unsigned("changed")?,
            error: row.get("error")?,
            reply: FinishRunReply {
                disabled: small(row, "disabled")?,
                removed: small(row, "removed")?,
                parked: small(row, "parked")?,
                parked_why: row.get("parked_why")?,
                approval_id: row.get("approval_id")?,
                problems: row.unsigned("problems")?,
                ..FinishRunReply::default()
            },
        })
    }

    pub async fn look_for(session: &mut Session, run_id: &str) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sync_runs WHERE run_id = $1");
        session.rows_of(sql, args![run_id]).await?.pop().as_ref().map(Self::of).transpose()
    }

    pub async fn find(session: &mut Session, run_id: &str) -> Result<Self, StoreError> {
        Ok(Self::look_for(session, run_id).await?.ok_or_else(|| Status::not_found("no such run"))?)
    }

    pub async fn running(session: &mut Session, run_id: &str) -> Result<Self, StoreError> {
        let run = Self::find(session, run_id).await?;
        match run.state.as_str() {
            "running" => Ok(run),
            state => Err(Status::failed_precondition(format!("the run is {state}")).into()),
        }
    }

    pub fn is_preview(&self) -> bool {
        self.mode == Mode::Preview
    }

    /// What it read is not all there is, and its end will say so (S-41).
    pub async fn is_incomplete(&self, session: &mut Session, why: &str) -> Result<(), StoreError> {
        let sql = "UPDATE sync_runs SET error = $1 WHERE run_id = $2 AND error = ''";
        session.execute(sql, args![why, &self.run_id]).await?;
        Ok(())
    }

    /// Under what name its groups stand: a preview reads its own and leaves those that decide alone.
    pub fn groups_of(&self) -> String {
        match self.mode {
            Mode::Preview => preview::shadow(&self.run_id),
            Mode::Full | Mode::Incremental => self.directory.clone(),
        }
    }
}

pub async fn lead(store: &Store, request: LeadRequest) -> Result<LeadReply, StoreError> {
    let mut session = store.database().write().await?;
    let sql = "UPDATE sync_state SET epoch = epoch + 1, leader = $1 WHERE id = 1 RETURNING epoch";
    let row = session.row(sql, args![bounded(&request.holder, 128)]).await?;
    let epoch = row.ok_or(StoreError::Broken("the sync state is missing"))?.unsigned("epoch")?;
    // Whoever began them is overtaken and can end them no more.
    abandon(&mut session, None).await?;
    session.commit().await?;
    tracing::info!(epoch, holder = %request.holder, "sync leader begins");
    Ok(LeadReply { epoch })
}

pub async fn begin(store: &Store, request: BeginRunRequest) -> Result<BeginRunReply, StoreError> {
    let mode = Mode::parse(&request.mode)?;
    let now_ms = store.at(request.now_unix_ms);
    let mut session = store.database().write().await?;
    fence(&mut session, request.epoch).await?;
    let settings = store.rules().current(&mut session).await?;
    if mode != Mode::Preview && !request.draft_items.is_empty() {
        return Err(Status::invalid_argument("draft_items: only a preview tries what is not applied").into());
    }
    let settings = preview::drafted(settings, &request.directory, &request.draft_items)?;
    // FS-10: whoever asks for it lets go of the users of a directory that has no item any more.
    let in_preview = |it: &SyncItem| it.directory.as_str() == request.directory && it.state == SyncState::Preview;
    let lets_go = matches!(request.trigger.as_str(), "request" | "check")
        && mode != Mode::Incremental
        && settings.directory(&request.directory).is_some()
        && !settings.sync_items.iter().any(in_preview);
    if items(&settings, &request.directory, mode == Mode::Preview).is_empty() && !lets_go {
        let text = format!("the directory {} has no sync item in the settings that is on", request.directory);
        return Err(Status::not_found(text).into());
    }
    abandon(&mut session, Some(&request.directory)).await?;
    let run_id = uuid::Uuid::now_v7().to_string();
    let sql = "INSERT INTO sync_runs (run_id, directory, mode, why, feed, cause, actor, items_digest, identity, started_ms, \
               finished_ms, state, error, added, changed, unchanged, disabled, removed, parked, approval_id, changes, \
               mapping_digest) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 'running', '', 0, 0, 0, 0, 0, 0, '', 0, $11)";
    let arguments = args![
        &run_id,
        &request.directory,
        &request.mode,
        bounded(&request.why, 512),
        bounded(&request.feed, 32),
        bounded(&request.trigger, 32),
        bounded(&request.actor, 128),
        bounded(&request.items_digest, 128),
        bounded(&request.identity, 512),
        now_ms,
        bounded(&request.mapping_digest, 128),
    ];
    session.execute(sql, arguments).await?;
    if mode != Mode::Preview {
        // An administrator may have decided since about those who had them.
        pending::names_became_free(&mut session, &request.directory, &settings).await?;
    }
    source::offered(&mut session, &request.directory, &request.feed, &request.offers).await?;
    source::starts_at(&mut session, &request.directory, &request.base).await?;
    session.commit().await?;
    Ok(BeginRunReply { run_id })
}

/// Runs that nobody ends any more: of a directory, or all.
async fn abandon(session: &mut Session, directory: Option<&str>) -> Result<(), StoreError> {
    let sql = "UPDATE sync_runs SET state = 'abandoned' WHERE state = 'running' AND directory = $1 RETURNING run_id";
    let all = "UPDATE sync_runs SET state = 'abandoned' WHERE state = 'running' RETURNING run_id";
    let rows = match directory {
        Some(directory) => session.rows(sql, args![directory]).await?,
        None => session.rows(all, args![]).await?,
    };
    for row in rows {
        preview::forget(session, &row.get::<String>("run_id")?).await?;
    }
    Ok(())
}

pub async fn finish(store: &Store, request: FinishRunRequest) -> Result<FinishRunReply, StoreError> {
    let (database, store) = (store.database().clone(), store.clone());
    let finished = database.briefly_apart(async move { finish_apart(&store, request).await }).await;
    finished.map_err(|_| StoreError::Broken("the end of a run ended before its time"))?
}

async fn finish_apart(store: &Store, request: FinishRunRequest) -> Result<FinishRunReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let found = if request.complete { history::found_by_items(store, &request.run_id).await? } else { Vec::new() };
    let enabled = history::enabled_by(store, &request.run_id).await?;
    let mut session = store.database().write_direct().await?;
    fence(&mut session, request.epoch).await?;
    let run = match Run::look_for(&mut session, &request.run_id).await? {
        Some(run) if run.state == "running" => run,
        ended => return answer_again(&mut session, ended, &request).await,
    };
    let mut settings = store.rules().current(&mut session).await?;
    if run.is_preview() {
        settings = preview::drafted(settings, &run.directory, &request.draft_items)?;
    } else {
        pins::keep(&mut session, &run, &settings, &request.pins).await?;
    }
    let mut request = request;
    let complete_to_reader = request.complete;
    // FS-09: what it read is by other items than those by which it would be judged.
    let others = !run.items_digest.is_empty() && run.items_digest != settings.items_digest(&run.directory);
    if request.complete && others && !run.is_preview() {
        (request.complete, request.error) = (false, "the sync items were changed while it ran".into());
    }
    if request.complete && !run.error.is_empty() {
        (request.complete, request.error) = (false, run.error.clone());
    }
    let mut end = End { state: "done", ..End::default() };
    if complete_to_reader && !request.complete {
        end.reply.incomplete.clone_from(&request.error);
    }
    match (request.complete, run.mode) {
        // S-41: nobody leaves on the evidence of an incomplete read.
        (false, _) => end.state = "incomplete",
        (true, Mode::Preview) => preview::finish(&mut session, &run, &settings, &mut end).await?,
        (true, _) => {
            history::note_items(&mut session, &run, found).await?;
            complete(&mut session, &run, &settings, now_ms, &mut end).await?;
        }
    }
    let head = audit::lock(&mut session).await?;
    let mut events = Vec::new();
    if request.complete && !run.is_preview() {
        let decided = std::mem::take(&mut end.decided);
        decided.write(&mut session, &run, now_ms, &mut end, &mut events).await?;
        pending::names_became_free(&mut session, &run.directory, &settings).await?;
    }
    if run.is_preview() {
        preview::forget(&mut session, &run.run_id).await?;
    }
    history::note(&mut session, &run.run_id, std::mem::take(&mut end.changes)).await?;
    unusable::note(&mut session, &run.run_id, request.unusable_count, &request.unusable).await?;
    if request.complete && run.is_preview() {
        // FS-09: what somebody looked at is what is written.
        if let Some(difference) = preview::difference(&mut session, &request.looked_at, &run.run_id).await? {
            (end.state, end.reply.list_changed) = ("changed", true);
            (end.reply.incomplete, request.error) = (difference.clone(), difference);
        }
    }
    if request.complete {
        source::complete(&mut session, &run, &request.position).await?;
    }
    let error = bounded(&request.error, 512);
    // Whom it missed is believed to be gone by the same clock (S-43).
    let problems = close(&mut session, &run, &end, &error, store.clock().now_ms()).await?;
    let stands_in = history::fold(&mut session, &run, !complete_to_reader, now_ms).await?;
    let changed_users: Vec<String> = events.iter().map(|it: &NewEvent| it.event.user_id.clone()).collect();
    // A run that found nothing new leaves no event: every five minutes one would bury the rest.
    // Nor does one that came to the same incomplete end as the one before.
    let repeats = !request.complete && stands_in.is_some();
    let told = run.added + run.changed > 0 || end.reply != FinishRunReply::default() || !request.complete && !repeats;
    if told {
        events.push(event(&run, &end, &error, now_ms));
    }
    if !events.is_empty() {
        audit::append(&mut session, head, events).await?;
    }
    end.reply.problems = problems;
    let listed_in = stands_in.clone().unwrap_or_else(|| run.run_id.clone());
    end.reply.run_id = stands_in.unwrap_or_default();
    if request.complete && !run.is_preview() {
        end.reply.pending = pending::any(&mut session, &run.directory).await?;
        end.reply.missed = misses(&mut session, &run).await?;
    }
    if let Some(mail) = tell::alarm(&mut session, &run, &end.reply, &request, now_ms).await? {
        outbox::put_in(&mut session, store.seal(), mail, now_ms).await?;
    }
    if let Some(mail) = states::many_enabled(&run, &listed_in, &settings, enabled) {
        outbox::put_in(&mut session, store.seal(), mail, now_ms).await?;
    }
    session.commit().await?;
    for user_id in changed_users.iter().filter(|user_id| !user_id.is_empty()) {
        store.teller().user_changed(user_id);
    }
    Ok(end.reply)
}

/// Asked again after the answer was lost: the same answer, also where the record of the run stands in another's by now.
async fn answer_again(
    session: &mut Session,
    run: Option<Run>,
    request: &FinishRunRequest,
) -> Result<FinishRunReply, StoreError> {
    let Some(run) = run else {
        let folded = history::folded(session, &request.run_id).await?;
        let (directory, mut reply) = folded.ok_or_else(|| Status::not_found("no such run"))?;
        reply.pending = pending::any(session, &directory).await?;
        return Ok(reply);
    };
    let mut reply = run.reply.clone();
    match run.state.as_str() {
        "abandoned" => return Err(Status::failed_precondition("the run was abandoned").into()),
        "incomplete" if request.complete => reply.incomplete.clone_from(&run.error),
        "changed" => (reply.list_changed, reply.incomplete) = (true, run.error.clone()),
        "incomplete" => {}
        _ if run.is_preview() => {}
        _ => {
            reply.pending = pending::any(session, &run.directory).await?;
            reply.missed = misses(session, &run).await?;
        }
    }
    Ok(reply)
}

/// Is somebody to be looked for once more before the next run is due (S-43): whom this one missed, or, by a full one, whom it looked for
/// too soon? Of whom others missed those have told.
async fn misses(session: &mut Session, run: &Run) -> Result<bool, StoreError> {
    match run.mode {
        Mode::Incremental => source::missed_by(session, run).await,
        Mode::Full => source::missed_before(session, run).await,
        Mode::Preview => Ok(false),
    }
}

/// What a run comes to.
#[derive(Default)]
pub struct End {
    pub state: &'static str,
    pub reply: FinishRunReply,
    pub decided: leavers::Decided,
    pub changes: Vec<Change>,
}

/// Decides about whom the run, or one before it, found gone or newly exempt. Writes no user: that is done under the chain's lock.
async fn complete(
    session: &mut Session,
    run: &Run,
    settings: &Settings,
    now_ms: i64,
    end: &mut End,
) -> Result<(), StoreError> {
    if run.mode == Mode::Full {
        pending::clear(session, run).await?;
    }
    let due = leavers::due(session, run, settings).await?;
    let Some(why) = due.must_wait(session, run, settings).await? else {
        // What waited for approval is settled by this run: gone for good and few, or back.
        approvals::supersede(session, &run.directory).await?;
        end.decided = due.decide();
        return Ok(());
    };
    end.state = "parked";
    end.decided = due.wait();
    end.reply.parked_why = why.to_string();
    let parked = approvals::park(session, run, settings, &due, &end.reply.parked_why, now_ms).await?;
    end.reply.parked = parked.users;
    end.reply.approval_id = parked.approval_id;
    Ok(())
}

/// Returns how many problems there were.
async fn close(session: &mut Session, run: &Run, end: &End, error: &str, end_ms: i64) -> Result<u64, StoreError> {
    let sql = "UPDATE sync_runs SET state = $1, error = $2, finished_ms = $3, disabled = $4, removed = $5, parked = $6, \
               approval_id = $7, parked_why = $8 WHERE run_id = $9 RETURNING problems";
    let reply = &end.reply;
    let arguments = args![
        end.state,
        error,
        end_ms,
        reply.disabled,
        reply.removed,
        reply.parked,
        &reply.approval_id,
        &reply.parked_why,
        &run.run_id
    ];
    let row = session.row(sql, arguments).await?.ok_or(StoreError::Broken("the run is missing"))?;
    Ok(row.unsigned("problems")?)
}

fn event(run: &Run, end: &End, error: &str, now_ms: i64) -> NewEvent {
    let reply = &end.reply;
    let mode = match run.mode {
        Mode::Full => "full",
        Mode::Incremental => "incremental",
        Mode::Preview => "preview",
    };
    let mut detail = format!(
        "{}, {mode}: {}, added {}, changed {}, disabled {}, removed {}, parked {}",
        run.directory, end.state, run.added, run.changed, reply.disabled, reply.removed, reply.parked
    );
    for why in [&reply.parked_why, error].into_iter().filter(|why| !why.is_empty()) {
        detail += &format!(" ({why})");
    }
    NewEvent::administrative(now_ms, "sync.run", "sync", detail)
}
