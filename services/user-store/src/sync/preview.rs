//! A preview (FS-12): it reads and plans like any run, and writes nothing but its history.
//!
//! Its groups stand under a name that no directory can have, and whom it met stands beside the users, not in them. Both go with
//! its end; what it would have done stays for 90 days like any run's.

use super::groups;
use super::guard::{self, Found};
use super::history::{self, Change};
use super::leavers::{self, Action, How};
use super::rows;
use super::run::{End, Run};
use super::users::Plan;
use super::write::{Batch, planned};
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::settings::{Settings, SyncItem};
use proto::user_store::{ApplyBatchReply, ApplyBatchRequest, RequestSyncRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tonic::Status;

/// A run reads them by the id at once, and either takes the name or finds that two have the id (FD-31).
const HELD: &str = "distinguished name, unless another entry has the id as well";

/// The name a preview's groups stand under. No directory's name has a space.
pub fn shadow(run_id: &str) -> String {
    format!("preview {run_id}")
}

/// What a preview keeps only while it runs.
pub async fn forget(session: &mut Session, run_id: &str) -> Result<(), StoreError> {
    session.execute("DELETE FROM user_groups WHERE directory = $1", args![shadow(run_id)]).await?;
    session.execute("DELETE FROM sync_seen WHERE run_id = $1", args![run_id]).await?;
    Ok(())
}

pub async fn apply(
    session: &mut Session,
    batch: &Batch<'_>,
    request: ApplyBatchRequest,
    present: &[String],
    left: &[(String, How)],
) -> Result<ApplyBatchReply, StoreError> {
    groups::write(session, batch, request.groups).await?;
    let (_, plan) = planned(session, batch, request.users).await?;
    let run_id = &batch.run.run_id;
    let reply = ApplyBatchReply {
        added: count(plan.added.len()),
        changed: count(plan.changed.len()),
        unchanged: count(plan.seen.len()),
        problems: plan.problems.iter().map(|it| format!("{}: {}", it.who, it.text)).collect(),
    };
    let doubles = plan.doubled.iter().map(|name| args![run_id, name]).collect();
    let head = "INSERT INTO sync_doubles (run_id, name_key)";
    session.bulk(head, doubles, "ON CONFLICT (run_id, name_key) DO NOTHING").await?;
    seen(session, batch, &plan, present, left).await?;
    let mut changes = rows::changes(&plan);
    let held = plan.seen.iter().filter(|known| plan.held.contains(&known.person.object_id));
    changes.extend(held.map(|known| Change::new(&known.username, "changed", HELD)));
    history::note(session, run_id, changes).await?;
    let sql = "UPDATE sync_runs SET added = added + $1, changed = changed + $2, unchanged = unchanged + $3 \
               WHERE run_id = $4";
    session.execute(sql, args![reply.added, reply.changed, reply.unchanged, run_id]).await?;
    Ok(reply)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whom it met, under which item, and who left.
async fn seen(
    session: &mut Session,
    batch: &Batch<'_>,
    plan: &Plan,
    present: &[String],
    left: &[(String, How)],
) -> Result<(), StoreError> {
    let run_id = &batch.run.run_id;
    let mut met: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    met.extend(present.iter().map(|object_id| (object_id.as_str(), ("", ""))));
    met.extend(left.iter().map(|(object_id, how)| (object_id.as_str(), ("", how.code()))));
    met.extend(plan.seen.iter().map(|it| (it.person.object_id.as_str(), (it.sync_item.as_str(), ""))));
    let rows = plan.added.iter().chain(&plan.changed);
    met.extend(rows.map(|row| (row.person.object_id.as_str(), (row.sync_item.as_str(), ""))));
    met.extend(plan.outside.iter().map(|it| (it.person.object_id.as_str(), ("", How::Outside.code()))));
    let rows = met.into_iter().map(|(object_id, (item, how))| args![run_id, object_id, item, how]).collect();
    let head = "INSERT INTO sync_seen (run_id, object_id, sync_item, left_how)";
    let tail =
        "ON CONFLICT (run_id, object_id) DO UPDATE SET sync_item = excluded.sync_item, left_how = excluded.left_how";
    session.bulk(head, rows, tail).await?;
    Ok(())
}

/// Who would leave, and whether they would wait for approval.
pub async fn finish(session: &mut Session, run: &Run, settings: &Settings, end: &mut End) -> Result<(), StoreError> {
    let sql = "INSERT INTO sync_run_items (run_id, sync_item, users) \
               SELECT run_id, sync_item, COUNT(*) FROM sync_seen WHERE run_id = $1 AND sync_item <> '' \
               GROUP BY run_id, sync_item";
    session.execute(sql, args![&run.run_id]).await?;
    let sql = "SELECT u.username AS username, u.sync_item AS sync_item, u.state AS state, s.left_how AS left_how \
               FROM sync_seen s JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
               WHERE s.run_id = $1 AND s.left_how <> '' AND u.state <> 'removed' ORDER BY u.username_key";
    let (mut changes, mut left) = (Vec::new(), BTreeSet::new());
    for row in session.rows(sql, args![&run.run_id, &run.directory]).await? {
        let (sync_item, left_how): (String, String) = (row.get("sync_item")?, row.get("left_how")?);
        let what = match leavers::action(settings, &sync_item, &left_how, &row.get::<String>("state")?) {
            None | Some(Action::Exempt) => continue,
            Some(Action::Disable) => "disabled",
            Some(Action::Remove) => "removed",
        };
        let text = leavers::why("leave", &left_how, &sync_item);
        changes.push(Change::new(&row.get::<String>("username")?, what, text));
        left.insert(sync_item);
    }
    let sql = "SELECT COUNT(*) AS known FROM users WHERE directory = $1 AND state = 'enabled'";
    let known = session.row(sql, args![&run.directory]).await?;
    let known = known.ok_or(StoreError::Broken("a count has no row"))?.unsigned("known")?;
    let emptied = emptied(session, run, &left).await?;
    let found = Found { users: changes.len() as u64, known, emptied };
    if guard::must_wait(&settings.sync, found) {
        end.reply.parked = count(changes.len());
        changes.iter_mut().for_each(|change| {
            change.detail = format!("would be {} after an approval: {}", change.what, change.detail);
            change.what = "parked";
        });
    } else {
        end.reply.disabled = count(changes.iter().filter(|it| it.what == "disabled").count());
        end.reply.removed = count(changes.iter().filter(|it| it.what == "removed").count());
    }
    end.changes.extend(changes);
    Ok(())
}

/// Octets of the items of a draft: they travel with every batch.
const DRAFT_OCTETS_MAX: usize = 512 << 10;

/// The settings with the items of a directory as somebody would have them (FS-12).
pub fn drafted(settings: Arc<Settings>, directory: &str, draft_items: &[String]) -> Result<Arc<Settings>, Status> {
    if draft_items.is_empty() {
        return Ok(settings);
    }
    if draft_items.iter().map(String::len).sum::<usize>() > DRAFT_OCTETS_MAX {
        return Err(Status::invalid_argument("draft_items: are longer than half a megabyte"));
    }
    let read =
        |text: &String| serde_json::from_str::<SyncItem>(text).ok().filter(|it| it.directory.as_str() == directory);
    let items: Option<Vec<SyncItem>> = draft_items.iter().map(read).collect();
    let items = items.ok_or_else(|| Status::invalid_argument("draft_items: have to be items of the directory"))?;
    let mut settings = Settings::clone(&settings);
    settings.sync_items.retain(|item| item.directory.as_str() != directory);
    settings.sync_items.extend(items);
    Ok(Arc::new(settings))
}

/// Whoever asks for what a list says has looked at one of this directory, by the items there are (FS-09). Whether the directory still
/// says the same is found when it is read.
pub async fn still_holds(
    session: &mut Session,
    settings: &Settings,
    request: RequestSyncRequest,
) -> Result<RequestSyncRequest, StoreError> {
    if request.looked_at.is_empty() {
        return Ok(request);
    }
    if !matches!(request.mode.as_str(), "" | "full") {
        return Err(Status::invalid_argument("looked_at: only a full run writes what a list says").into());
    }
    let looked_at = Run::look_for(session, &request.looked_at).await?;
    let listed = looked_at.filter(|run| run.is_preview() && matches!(run.state.as_str(), "done" | "changed"));
    let run = listed.ok_or_else(|| Status::not_found("looked_at: no preview that ended has this id; look again"))?;
    if !request.only.is_empty() && request.only != run.directory {
        let text = format!("looked_at: is a list of the directory {}", run.directory);
        return Err(Status::invalid_argument(text).into());
    }
    if !run.items_digest.is_empty() && run.items_digest != settings.items_digest(&run.directory) {
        let text = "the sync items were changed since the list was looked at; look again";
        return Err(Status::failed_precondition(text).into());
    }
    Ok(RequestSyncRequest { only: run.directory, ..request })
}

/// How many names of a difference are said.
const NAMES_MAX: u32 = 3;

/// How the list of a preview differs from one that somebody looked at; `None` = they are the same, or nobody looked (FS-09).
pub async fn difference(session: &mut Session, looked_at: &str, run_id: &str) -> Result<Option<String>, StoreError> {
    if looked_at.is_empty() {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for (has, lacks, what) in [(run_id, looked_at, "new"), (looked_at, run_id, "gone")] {
        let only = "FROM (SELECT username, what, detail FROM sync_changes WHERE run_id = $1 \
                    EXCEPT SELECT username, what, detail FROM sync_changes WHERE run_id = $2) d";
        let row = session.rows_of(format!("SELECT COUNT(*) AS changes {only}"), args![has, lacks]).await?.pop();
        let changes = row.ok_or(StoreError::Broken("a count has no row"))?.unsigned("changes")?;
        if changes == 0 {
            continue;
        }
        let sql = format!("SELECT DISTINCT username {only} ORDER BY username LIMIT $3");
        let rows = session.rows_of(sql, args![has, lacks, NAMES_MAX + 1]).await?;
        let mut names = rows.iter().map(|row| row.get("username")).collect::<Result<Vec<String>, _>>()?;
        if names.len() > NAMES_MAX as usize {
            names[NAMES_MAX as usize] = "...".to_owned();
        }
        parts.push(format!("{changes} {what} ({})", names.join(", ")));
    }
    let said = || format!("the list has changed since it was looked at: {}", parts.join(", "));
    Ok((!parts.is_empty()).then(said))
}

/// Is there nobody of one of these items but who left (S-42)? Who was only found to be there is of the item they were of.
async fn emptied(session: &mut Session, run: &Run, items: &BTreeSet<String>) -> Result<bool, StoreError> {
    let sql = "SELECT s.object_id FROM sync_seen s LEFT JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
               WHERE s.run_id = $1 AND s.left_how = '' AND (s.sync_item = $3 OR s.sync_item = '' AND u.sync_item = $3) LIMIT 1";
    for item in items {
        if session.row(sql, args![&run.run_id, &run.directory, item]).await?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}
