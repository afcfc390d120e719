//! A preview (FS-12): it reads and plans like any run, and writes nothing but its history.
//!
//! Its groups stand under a name that no directory can have, and whom it met stands beside the users, not in them. Both go with
//! its end; what it would have done stays for 90 days like any run's.

use super::groups;
use super::guard::{self, Found};
use super::history::{self, Change};
use super::leavers::{self, Action, DUE, FREE, How, Marked, OF_AN_ITEM};
use super::rows;
use super::run::{End, Run};
use super::unusable;
use super::users::{Known, Plan};
use super::write::{self, Batch, planned};
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::settings::{Settings, SyncItem};
use proto::user_store::{ApplyBatchReply, ApplyBatchRequest, RequestSyncRequest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
        problems: write::problems(&plan),
    };
    let doubles = plan.doubled.iter().map(|name| args![run_id, name]).collect();
    let head = "INSERT INTO sync_doubles (run_id, name_key)";
    session.bulk(head, doubles, "ON CONFLICT (run_id, name_key) DO NOTHING").await?;
    seen(session, batch, &plan, present, left).await?;
    unusable::note(session, run_id, plan.unusable.len() as u64, &plan.unusable).await?;
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

/// What a preview keeps of somebody it met.
#[derive(Default)]
struct Met<'a> {
    sync_item: &'a str,
    /// '' = they are there.
    left_how: &'a str,
    /// What becomes of their state, before anybody leaves; '' = it stays.
    state: &'a str,
    /// The username of somebody who is to be exempt; '' = nobody.
    exempt: &'a str,
}

/// Whom it met, under which item, who left, and who is to be exempt.
async fn seen(
    session: &mut Session,
    batch: &Batch<'_>,
    plan: &Plan,
    present: &[String],
    left: &[(String, How)],
) -> Result<(), StoreError> {
    let run_id = &batch.run.run_id;
    let states: HashMap<&str, &str> =
        plan.states.iter().map(|(known, next)| (known.user_id.as_str(), next.state)).collect();
    let state = |known: &Known| states.get(known.user_id.as_str()).copied().unwrap_or_default();
    let back: BTreeSet<&str> = plan.back.iter().map(String::as_str).collect();
    let mut met: BTreeMap<&str, Met<'_>> = BTreeMap::new();
    met.extend(present.iter().map(|object_id| (object_id.as_str(), Met::default())));
    let left = left.iter().map(|(object_id, how)| (object_id, Met { left_how: how.code(), ..Met::default() }));
    met.extend(left.map(|(object_id, it)| (object_id.as_str(), it)));
    for known in &plan.seen {
        let waits = !known.exempt_wait.is_empty() && matches!(known.due.as_str(), "leave" | "exempt");
        let it = match known.due == "leave" && !back.contains(known.user_id.as_str()) {
            // Met, and not taken for who they are: that they left stands.
            true => Met { left_how: &known.left_how, ..Met::default() },
            false => {
                Met { sync_item: &known.sync_item, exempt: if waits { &known.username } else { "" }, ..Met::default() }
            }
        };
        met.insert(&known.person.object_id, Met { state: state(known), ..it });
    }
    for row in plan.added.iter().chain(&plan.changed) {
        let due = row.known.as_ref().map_or("", |known| known.due.as_str());
        let waits = !row.exemption.waits.is_empty() && (row.exemption.newly || matches!(due, "leave" | "exempt"));
        let exempt = if waits { row.user.username.as_str() } else { "" };
        let state = row.known.as_ref().map(state).unwrap_or_default();
        met.insert(&row.person.object_id, Met { sync_item: &row.sync_item, left_how: "", state, exempt });
    }
    for known in &plan.outside {
        let object_id = known.person.object_id.as_str();
        let exempt = met.get(object_id).map_or("", |it| it.exempt);
        met.insert(object_id, Met { sync_item: "", left_how: How::Outside.code(), state: state(known), exempt });
    }
    let rows = met.into_iter();
    let rows =
        rows.map(|(object_id, it)| args![run_id, object_id, it.sync_item, it.left_how, it.state, it.exempt]).collect();
    let head = "INSERT INTO sync_seen (run_id, object_id, sync_item, left_how, state, exempt)";
    let tail = "ON CONFLICT (run_id, object_id) DO UPDATE SET sync_item = excluded.sync_item, left_how = excluded.left_how, \
                state = excluded.state, exempt = excluded.exempt";
    session.bulk(head, rows, tail).await?;
    Ok(())
}

/// Somebody of whom the end of a run would decide.
struct Due {
    username: String,
    sync_item: String,
    action: Action,
    why: String,
}

impl Due {
    fn what(&self) -> &'static str {
        match self.action {
            Action::Disable => "disabled",
            Action::Remove => "removed",
            Action::Exempt => "changed",
        }
    }

    fn change(&self, waits: bool) -> Change {
        if !waits {
            return Change::new(&self.username, self.what(), &*self.why);
        }
        let would = if self.action == Action::Exempt { "exempt" } else { self.what() };
        Change::new(&self.username, "parked", format!("would be {would} after an approval: {}", self.why))
    }
}

/// Who would leave or be exempt, with those who waited for that before, and whether they would wait for approval.
pub async fn finish(session: &mut Session, run: &Run, settings: &Settings, end: &mut End) -> Result<(), StoreError> {
    let sql = "INSERT INTO sync_run_items (run_id, sync_item, users) \
               SELECT run_id, sync_item, COUNT(*) FROM sync_seen WHERE run_id = $1 AND sync_item <> '' \
               GROUP BY run_id, sync_item";
    session.execute(sql, args![&run.run_id]).await?;
    let mut due = leavers(session, run, settings).await?;
    due.extend(waiting(session, run, settings).await?);
    due.extend(exempt(session, run).await?);
    due.sort_by(|one, other| one.username.cmp(&other.username));
    let left = due.iter().filter(|it| it.action != Action::Exempt).map(|it| it.sync_item.as_str()).collect();
    let mut found = Found { users: due.len() as u64, ..Found::default() };
    found.emptied = emptied(session, run, &left).await?;
    if guard::share_counts(&settings.sync, found.users) {
        found.known = known(session, run).await?;
    }
    let why = guard::must_wait(&settings.sync, found);
    end.changes.extend(due.iter().map(|it| it.change(why.is_some())));
    match why {
        Some(why) => {
            end.reply.parked = count(due.len());
            end.reply.parked_why = why.to_string();
        }
        None => {
            end.reply.disabled = count(due.iter().filter(|it| it.action == Action::Disable).count());
            end.reply.removed = count(due.iter().filter(|it| it.action == Action::Remove).count());
        }
    }
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

/// Those whom this preview found gone, or of no item.
async fn leavers(session: &mut Session, run: &Run, settings: &Settings) -> Result<Vec<Due>, StoreError> {
    let sql = format!(
        "SELECT u.username AS username, u.sync_item AS sync_item, u.left_how AS left_how, u.left_run AS left_run, u.due AS due, \
         u.state AS state, s.left_how AS said, s.state AS next_state, s.exempt AS exempt \
         FROM sync_seen s JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
         WHERE s.run_id = $1 AND s.left_how <> '' AND u.state <> 'removed' AND u.{OF_AN_ITEM} AND {FREE}"
    );
    let mut due = Vec::new();
    for row in session.rows_of(sql, args![&run.run_id, &run.directory]).await? {
        let Some(how) = How::from_code(&row.get::<String>("said")?) else { continue };
        let (username, sync_item) = (row.get("username")?, row.get("sync_item")?);
        match leavers::would_leave(Marked::of(&row)?, how, run) {
            Some(left_how) => {
                let next: String = row.get("next_state")?;
                let state = if next.is_empty() { row.get("state")? } else { next };
                due.extend(leaver(settings, username, sync_item, &left_how, &state));
            }
            // That was decided before; that a group exempts them is new.
            None if !row.get::<String>("exempt")?.is_empty() => due.push(exempted(username, sync_item)),
            None => {}
        }
    }
    Ok(due)
}

/// Those of whom a run before has to decide still, and whom nobody looks for again: they wait for approval.
async fn waiting(session: &mut Session, run: &Run, settings: &Settings) -> Result<Vec<Due>, StoreError> {
    let sql = format!(
        "SELECT u.username AS username, u.sync_item AS sync_item, u.left_how AS left_how, u.state AS state, u.due AS due \
         FROM users u WHERE u.directory = $2 AND {DUE} AND {FREE} AND u.state || '' <> 'removed' \
         AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.run_id = $1 AND s.object_id = u.object_id)"
    );
    let mut due = Vec::new();
    for row in session.rows_of(sql, args![&run.run_id, &run.directory]).await? {
        let (username, sync_item): (String, String) = (row.get("username")?, row.get("sync_item")?);
        match row.get::<String>("due")?.as_str() {
            "exempt" => due.push(exempted(username, sync_item)),
            _ => {
                let (left_how, state): (String, String) = (row.get("left_how")?, row.get("state")?);
                due.extend(leaver(settings, username, sync_item, &left_how, &state));
            }
        }
    }
    Ok(due)
}

/// Those who are there, and would be exempt (S-46).
async fn exempt(session: &mut Session, run: &Run) -> Result<Vec<Due>, StoreError> {
    let sql = format!(
        "SELECT s.exempt AS username, s.sync_item AS sync_item \
         FROM sync_seen s LEFT JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
         WHERE s.run_id = $1 AND s.exempt <> '' AND s.left_how = '' AND {FREE}"
    );
    let rows = session.rows_of(sql, args![&run.run_id, &run.directory]).await?;
    Ok(rows
        .iter()
        .map(|row| Ok(exempted(row.get("username")?, row.get("sync_item")?)))
        .collect::<Result<_, sqlx::Error>>()?)
}

fn leaver(settings: &Settings, username: String, sync_item: String, left_how: &str, state: &str) -> Option<Due> {
    let action = leavers::action(settings, &sync_item, left_how, state)?;
    Some(Due { why: leavers::why("leave", left_how, &sync_item), username, sync_item, action })
}

fn exempted(username: String, sync_item: String) -> Due {
    Due { why: leavers::why("exempt", "", &sync_item), username, sync_item, action: Action::Exempt }
}

/// Users who are enabled when everybody was read, as the end of a run that writes counts them.
async fn known(session: &mut Session, run: &Run) -> Result<u64, StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM users WHERE directory = $2 AND state = 'enabled') \
               + (SELECT COALESCE(SUM(CASE WHEN s.state = 'enabled' THEN 1 ELSE 0 END \
               - CASE WHEN u.state = 'enabled' THEN 1 ELSE 0 END), 0) \
               FROM sync_seen s JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
               WHERE s.run_id = $1 AND s.state <> '') AS known";
    let row = session.row(sql, args![&run.run_id, &run.directory]).await?;
    Ok(row.ok_or(StoreError::Broken("a count has no row"))?.unsigned("known")?)
}

/// Which of these items have nobody but who left (S-42). Who was only found to be there is of the item they were of.
async fn emptied(session: &mut Session, run: &Run, items: &BTreeSet<&str>) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT s.object_id FROM sync_seen s LEFT JOIN users u ON u.directory = $2 AND u.object_id = s.object_id \
               WHERE s.run_id = $1 AND s.left_how = '' AND (s.sync_item = $3 OR s.sync_item = '' AND u.sync_item = $3) LIMIT 1";
    let mut emptied = Vec::new();
    for item in items {
        if session.row(sql, args![&run.run_id, &run.directory, *item]).await?.is_none() {
            emptied.push((*item).to_owned());
        }
    }
    Ok(emptied)
}
