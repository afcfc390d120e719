//! What runs did, user by user, kept for 90 days, a week where that is nothing (FS-13), and how the synchronisation stands.

use super::run::{Mode, Run};
use super::{DAY_MS, page, source, unusable};
use crate::Store;
use crate::audit::printable;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use crate::users::small;
use proto::user_store::{
    Approval, FinishRunReply, ItemCount, ListSyncRunsReply, ListSyncRunsRequest, SyncChange, SyncChangesReply,
    SyncChangesRequest, SyncRun, SyncStatusReply,
};
use std::collections::HashMap;
use tonic::Status;

/// Runs shown by the status.
const RUNS_SHOWN: i64 = 50;

/// What a run did to a user, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub username: String,
    /// added, changed, disabled, removed, enabled, parked, problem
    pub what: &'static str,
    pub detail: String,
}

impl Change {
    pub fn new(username: &str, what: &'static str, detail: impl Into<String>) -> Self {
        Self { username: username.into(), what, detail: detail.into() }
    }
}

/// Writes changes behind those the run has.
pub async fn note(session: &mut Session, run_id: &str, changes: Vec<Change>) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let count = changes.len() as u64;
    let problems = changes.iter().filter(|change| change.what == "problem").count() as u64;
    let sql =
        "UPDATE sync_runs SET changes = changes + $1, problems = problems + $2 WHERE run_id = $3 RETURNING changes";
    let row = session.row(sql, args![count, problems, run_id]).await?;
    let last = row.ok_or(StoreError::Broken("the run is missing"))?.unsigned("changes")?;
    let rows = changes.into_iter().zip(last + 1 - count..);
    let rows = rows
        .map(|(it, number)| args![run_id, number, printable(&it.username, 256), it.what, printable(&it.detail, 1024)]);
    let head = "INSERT INTO sync_changes (run_id, number, username, what, detail)";
    session.bulk_each(head, rows, "").await?;
    Ok(())
}

/// A run that followed a directory is added to the one right before it, which did, too: one for every burst would bury the rest. So is
/// one that came to the same incomplete end as the one before it (`cut`: by what the reader says), for a day: what is in the way may be
/// so for long. Such a run has read the same again: its problems are the record's, in place of those before. Returns in whose record it
/// stands now; `None` = in its own.
pub async fn fold(session: &mut Session, run: &Run, cut: bool, now_ms: i64) -> Result<Option<String>, StoreError> {
    const APART_MS: i64 = 60_000;
    const LONG_MS: i64 = 600_000;
    const CHANGES_MAX: i64 = 1_000;
    let sql = "SELECT run_id, mode, cause, state, error, started_ms, finished_ms, changes, problems FROM sync_runs \
               WHERE directory = $1 AND started_ms <= $2 ORDER BY started_ms DESC, run_id DESC LIMIT 2";
    let rows = session.rows(sql, args![&run.directory, run.started_ms]).await?;
    let [own, before] = rows.as_slice() else { return Ok(None) };
    let text = |row: &Row, column: &str| row.get::<String>(column);
    let follows = |row: &Row| Ok::<_, sqlx::Error>(text(row, "cause")? == "follow" && text(row, "state")? == "done");
    let by_itself = |row: &Row| Ok::<_, sqlx::Error>(matches!(text(row, "cause")?.as_str(), "follow" | "schedule"));
    let same = |column: &str| Ok::<_, sqlx::Error>(text(own, column)? == text(before, column)?);
    let soon = run.started_ms - before.get::<i64>("finished_ms")? <= APART_MS;
    let since_ms = now_ms - before.get::<i64>("started_ms")?;
    let is_own = own.get::<String>("run_id")? == run.run_id;
    let goes_on = follows(own)? && follows(before)? && soon && since_ms <= LONG_MS;
    let repeats = cut
        && text(own, "state")? == "incomplete"
        && by_itself(own)?
        && by_itself(before)?
        && same("state")?
        && same("mode")?
        && same("error")?
        && since_ms <= DAY_MS;
    if !(is_own && (goes_on || repeats)) {
        return Ok(None);
    }
    let into: String = before.get("run_id")?;
    let mut changes = before.get::<i64>("changes")? + own.get::<i64>("changes")?;
    let mut problems: i64 = before.get("problems")?;
    let mut again = 0;
    if repeats {
        again = problem_rows(session, &into).await?;
        changes -= again + problem_rows(session, &run.run_id).await?;
        problems = 0;
    }
    if changes > CHANGES_MAX {
        return Ok(None);
    }
    if repeats {
        let sql = "DELETE FROM sync_changes WHERE run_id = $1 AND what = 'problem'";
        session.execute(sql, args![&into]).await?;
        session.execute("DELETE FROM sync_unusable WHERE run_id = $1", args![&into]).await?;
    }
    // Where problems were taken out, the numbers have gaps.
    let sql = "SELECT COALESCE(MAX(number), 0) AS last FROM sync_changes WHERE run_id = $1";
    let row = session.row(sql, args![&into]).await?.ok_or(StoreError::Broken("a maximum has no row"))?;
    let last: i64 = row.get("last")?;
    let sql = "UPDATE sync_changes SET run_id = $1, number = number + $2 WHERE run_id = $3";
    session.execute(sql, args![&into, last, &run.run_id]).await?;
    unusable::fold(session, &run.run_id, &into).await?;
    let sql = "UPDATE sync_runs SET finished_ms = own.finished_ms, added = sync_runs.added + own.added, \
               changed = sync_runs.changed + own.changed, unchanged = sync_runs.unchanged + own.unchanged, \
               disabled = sync_runs.disabled + own.disabled, removed = sync_runs.removed + own.removed, \
               changes = sync_runs.changes - $4 + own.changes, problems = $5 + own.problems, \
               repeats = sync_runs.repeats + $3, folded = own.run_id, folded_disabled = own.disabled, \
               folded_removed = own.removed FROM sync_runs own WHERE sync_runs.run_id = $1 AND own.run_id = $2";
    session.execute(sql, args![&into, &run.run_id, i64::from(repeats), again, problems]).await?;
    session.execute("DELETE FROM sync_runs WHERE run_id = $1", args![&run.run_id]).await?;
    Ok(Some(into))
}

/// How many rows of a run name a problem.
async fn problem_rows(session: &mut Session, run_id: &str) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) AS problems FROM sync_changes WHERE run_id = $1 AND what = 'problem'";
    let row = session.row(sql, args![run_id]).await?.ok_or(StoreError::Broken("a count has no row"))?;
    Ok(row.get("problems")?)
}

/// Of a run that was added to another one, the last that was: its directory, and what its end had come to.
pub async fn folded(session: &mut Session, run_id: &str) -> Result<Option<(String, FinishRunReply)>, StoreError> {
    let sql = "SELECT run_id, directory, folded_disabled, folded_removed FROM sync_runs WHERE folded = $1";
    let Some(row) = session.row(sql, args![run_id]).await?.filter(|_| !run_id.is_empty()) else { return Ok(None) };
    let reply = FinishRunReply {
        run_id: row.get("run_id")?,
        disabled: small(&row, "folded_disabled")?,
        removed: small(&row, "folded_removed")?,
        ..FinishRunReply::default()
    };
    Ok(Some((row.get("directory")?, reply)))
}

/// How many who were out of service a run enabled. As below, before its end has the turn to write.
pub async fn enabled_by(store: &Store, run_id: &str) -> Result<u64, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT COUNT(*) AS users FROM sync_changes WHERE run_id = $1 AND what = 'enabled'";
    let row = session.row(sql, args![run_id]).await?;
    Ok(row.map(|row| row.unsigned("users")).transpose()?.unwrap_or_default())
}

/// By item, how many a full run found. All are looked at, so that is done before its end has the turn to write.
pub async fn found_by_items(store: &Store, run_id: &str) -> Result<Vec<(String, i64)>, StoreError> {
    let mut session = store.database().read().await?;
    let run = Run::look_for(&mut session, run_id).await?;
    if run.is_none_or(|run| run.state != "running" || run.mode != Mode::Full) {
        return Ok(Vec::new());
    }
    // A run is of one directory. Were it named, SQLite would go by it, and sort everybody in memory.
    let sql = "SELECT sync_item, COUNT(*) AS users FROM users WHERE last_run = $1 AND left_how = '' GROUP BY sync_item";
    let rows = session.rows(sql, args![run_id]).await?;
    Ok(rows.iter().map(|row| Ok((row.get("sync_item")?, row.get("users")?))).collect::<Result<_, sqlx::Error>>()?)
}

pub async fn note_items(session: &mut Session, run: &Run, found: Vec<(String, i64)>) -> Result<(), StoreError> {
    let rows = found.into_iter().map(|(item, users)| args![&run.run_id, item, users]).collect();
    session.bulk("INSERT INTO sync_run_items (run_id, sync_item, users)", rows, "").await?;
    Ok(())
}

/// One page of what a run did.
pub async fn changes(store: &Store, request: SyncChangesRequest) -> Result<SyncChangesReply, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT run_id FROM sync_runs WHERE run_id = $1";
    if session.row(sql, args![&request.run_id]).await?.is_none() {
        return Err(Status::not_found("no such run").into());
    }
    let sql = "SELECT number, username, what, detail FROM sync_changes WHERE run_id = $1 AND number > $2 \
               ORDER BY number LIMIT $3";
    let rows = session.rows(sql, args![&request.run_id, request.after, page(request.limit)]).await?;
    let changes = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(SyncChange {
            number: row.unsigned("number")?,
            username: row.get("username")?,
            what: row.get("what")?,
            detail: row.get("detail")?,
        })
    });
    Ok(SyncChangesReply { changes: changes.collect::<Result<_, _>>()? })
}

/// How it stands: counts, never a list of users.
pub async fn status(store: &Store) -> Result<SyncStatusReply, StoreError> {
    let mut session = store.database().read().await?;
    let state = session.row("SELECT epoch, leader FROM sync_state WHERE id = 1", args![]).await?;
    let state = state.ok_or(StoreError::Broken("the sync state is missing"))?;
    let settings = store.rules().current(&mut session).await?;
    Ok(SyncStatusReply {
        epoch: state.unsigned("epoch")?,
        leader: state.get("leader")?,
        sources: source::list(&mut session, &settings).await?,
        runs: runs(&mut session, "", args![RUNS_SHOWN]).await?,
        approvals: approvals(&mut session, store.clock().now_ms()).await?,
    })
}

/// One page of the runs that are kept, the newest first (FS-13).
pub async fn list(store: &Store, request: ListSyncRunsRequest) -> Result<ListSyncRunsReply, StoreError> {
    if request.limit > 1_000 {
        return Err(Status::invalid_argument("limit: allowed are 1 to 1000").into());
    }
    let limit = if request.limit == 0 { 100 } else { request.limit };
    let mut arguments = args![limit + 1];
    let mut conditions = Vec::new();
    for (column, value) in [("directory", &request.directory), ("run_id", &request.run_id)] {
        if !value.is_empty() {
            arguments.push(Arg::from(value));
            conditions.push(format!("{column} = ${}", arguments.len()));
        }
    }
    if request.told_only {
        conditions.push(format!("NOT ({SAYS_NOTHING} AND problems = 0)"));
    }
    if !request.after.is_empty() {
        let (started_ms, run_id) = request.after.split_once('.').unwrap_or_default();
        let started_ms: i64 = started_ms.parse().map_err(|_| Status::invalid_argument("after: is that of no page"))?;
        arguments.extend(args![started_ms, run_id]);
        let last = arguments.len();
        conditions.push(format!("(started_ms, run_id) < (${}, ${last})", last - 1));
    }
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", conditions.join(" AND ")),
    };
    let mut session = store.database().read().await?;
    let mut runs = runs(&mut session, &condition, arguments).await?;
    if let [run] = runs.as_mut_slice()
        && !request.run_id.is_empty()
    {
        run.unusable = unusable::of(&mut session, &run.run_id).await?;
    }
    let more = runs.len() > limit as usize;
    runs.truncate(limit as usize);
    let last = runs.last().filter(|_| more);
    let next = last.map_or_else(String::new, |run| format!("{}.{}", run.started_unix_ms, run.run_id));
    Ok(ListSyncRunsReply { runs, next })
}

/// Of a run that came to its end, changed nobody and found nothing to say.
pub const SAYS_NOTHING: &str =
    "state = 'done' AND added = 0 AND changed = 0 AND disabled = 0 AND removed = 0 AND changes = 0";

/// The newest first; `$1` is how many.
async fn runs(session: &mut Session, condition: &str, arguments: Vec<Arg<'_>>) -> Result<Vec<SyncRun>, StoreError> {
    let sql = format!(
        "SELECT run_id, directory, mode, why, feed, cause, actor, started_ms, finished_ms, state, error, added, changed, unchanged, \
         disabled, removed, parked, parked_why, problems, repeats FROM sync_runs {condition} ORDER BY started_ms DESC, run_id DESC LIMIT $1"
    );
    let mut runs = Vec::new();
    for row in session.rows_of(sql, arguments).await? {
        runs.push(SyncRun {
            run_id: row.get("run_id")?,
            directory: row.get("directory")?,
            mode: row.get("mode")?,
            why: row.get("why")?,
            feed: row.get("feed")?,
            trigger: row.get("cause")?,
            actor: row.get("actor")?,
            started_unix_ms: row.get("started_ms")?,
            finished_unix_ms: row.get("finished_ms")?,
            state: row.get("state")?,
            error: row.get("error")?,
            added: small(&row, "added")?,
            changed: small(&row, "changed")?,
            unchanged: small(&row, "unchanged")?,
            disabled: small(&row, "disabled")?,
            removed: small(&row, "removed")?,
            parked: small(&row, "parked")?,
            parked_why: row.get("parked_why")?,
            items: Vec::new(),
            problems: row.unsigned("problems")?,
            repeats: small(&row, "repeats")?,
            unusable: Vec::new(),
        });
    }
    let head = "SELECT run_id, sync_item, users FROM sync_run_items WHERE run_id IN";
    let mut items: HashMap<String, Vec<ItemCount>> = HashMap::new();
    let ids = runs.iter().map(|run| run.run_id.as_str());
    for row in session.rows_in(head, ids, "ORDER BY sync_item", &[]).await? {
        let count = ItemCount { sync_item: row.get("sync_item")?, users: row.unsigned("users")? };
        items.entry(row.get("run_id")?).or_default().push(count);
    }
    for run in &mut runs {
        run.items = items.remove(&run.run_id).unwrap_or_default();
    }
    Ok(runs)
}

async fn approvals(session: &mut Session, now_ms: i64) -> Result<Vec<Approval>, StoreError> {
    let sql = "SELECT a.approval_id AS approval_id, a.directory AS directory, a.created_ms AS created_ms, \
               a.expires_ms AS expires_ms, a.why AS why, \
               (SELECT COUNT(*) FROM approval_users w WHERE w.approval_id = a.approval_id) AS users \
               FROM approvals a WHERE (a.state = 'open' AND a.expires_ms > $1) OR a.state = 'deciding' \
               ORDER BY a.created_ms";
    let rows = session.rows(sql, args![now_ms]).await?;
    let approvals = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(Approval {
            approval_id: row.get("approval_id")?,
            directory: row.get("directory")?,
            created_unix_ms: row.get("created_ms")?,
            expires_unix_ms: row.get("expires_ms")?,
            users: row.unsigned("users")?,
            why: row.get("why")?,
        })
    });
    Ok(approvals.collect::<Result<_, _>>()?)
}
