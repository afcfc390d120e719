//! Users that wait for an administrator, because a run would disable, remove or exempt too many of them (S-40, S-46, FS-07).
//!
//! ```text
//! open -> deciding, some users a transaction -> approved | refused
//!      -> superseded, by a run that found others
//! ```
//!
//! A decision is about the list as it stands, and is evaluated when it is carried out: who was seen again stays. Who is on the
//! list and not approved stays, too, until a full run finds them gone again. A list of which the directory was not asked of late, or
//! that other items or another source made, is not approved: nobody knows who would be on it now.

use super::leavers::{Action, Due, FREE, How, Leaving, why};
use super::run::Run;
use super::{DAY_MS, MINUTE_MS};
use super::{history, page, rows, source};
use crate::Store;
use crate::admin::REASON_CHARACTERS_MAX;
use crate::audit::{self, NewEvent, printable};
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use crate::users::name_key;
use domain::settings::{Directory, Settings};
use domain::{Role, role::Permission};
use proto::user_store::{
    ApprovalUser, DecideApprovalReply, DecideApprovalRequest, ListApprovalUsersReply, ListApprovalUsersRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tonic::Status;

/// Users of one transaction: logins wait for it.
const AT_ONCE: u32 = 1_000;

/// However short the interval is: a run that failed is no reason to ask an administrator to come again.
const UNASKED_MIN_MS: i64 = 10 * MINUTE_MS;

/// What whoever has the host is called by, on its command line.
const HOST: &str = "cli:";

/// How long a decision is waited for; the rest of it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(4);

/// A run that waits.
pub struct Parked {
    pub approval_id: String,
    pub users: u32,
}

/// Lists whom a run would disable, remove or exempt. A list that is the same already stays what it is, with its time.
pub async fn park(
    session: &mut Session,
    run: &Run,
    settings: &Settings,
    due: &Due,
    reason: &str,
    now_ms: i64,
) -> Result<Parked, StoreError> {
    let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
    for kind in &due.kinds {
        if let Some(action) = kind.action {
            *wanted.entry(action.code()).or_default() += kind.users;
        }
    }
    let users = u32::try_from(wanted.values().sum::<u64>()).unwrap_or(u32::MAX);
    if let Some(approval_id) = same(session, run, &wanted, now_ms).await? {
        made_by(session, run, settings, &approval_id, reason).await?;
        return Ok(Parked { approval_id, users });
    }
    let mut authors = authors_before(session, &run.directory).await?;
    if !run.actor.is_empty() {
        authors.retain(|author| *author != run.actor);
        authors.push(run.actor.clone());
    }
    let asked_by = authors.join("\n");
    supersede(session, &run.directory).await?;
    let approval_id = uuid::Uuid::now_v7().to_string();
    let expires_ms = now_ms + i64::from(settings.sync.approval_days) * DAY_MS;
    let sql = "INSERT INTO approvals (approval_id, directory, created_ms, expires_ms, asked_by, state, decision, decided_by, \
               applied) VALUES ($1, $2, $3, $4, $5, 'open', '', '', 0)";
    session.execute(sql, args![&approval_id, &run.directory, now_ms, expires_ms, &asked_by]).await?;
    made_by(session, run, settings, &approval_id, reason).await?;
    for kind in &due.kinds {
        let Some(action) = kind.action else { continue };
        let sql = format!(
            "INSERT INTO approval_users (approval_id, username_key, user_id, action, why, chosen) \
             SELECT $1, u.username_key, u.user_id, $2, $3, FALSE FROM users u WHERE u.directory = $4 AND u.due <> '' \
             AND u.due = $5 AND u.sync_item || '' = $6 AND u.left_how = $7 AND u.state || '' = $8 AND {FREE}"
        );
        let why = why(&kind.due, &kind.left_how, &kind.sync_item);
        let arguments = args![
            &approval_id,
            action.code(),
            why,
            &run.directory,
            &kind.due,
            &kind.sync_item,
            &kind.left_how,
            &kind.state
        ];
        session.execute_of(sql, arguments).await?;
    }
    note(session, run, &approval_id).await?;
    Ok(Parked { approval_id, users })
}

/// Keeps why they wait, and by what the last run came to it.
async fn made_by(
    session: &mut Session,
    run: &Run,
    settings: &Settings,
    approval_id: &str,
    why: &str,
) -> Result<(), StoreError> {
    let source = settings.directory(&run.directory).map(|it| it.source_digest()).unwrap_or_default();
    // What a directory tells of while it is followed is of the source that was accepted before.
    let sql = "UPDATE approvals SET why = $1, items_digest = $2, source_digest = $3, \
               identity = CASE WHEN $4 = '' THEN identity ELSE $4 END WHERE approval_id = $5";
    let arguments = args![why, settings.items_digest(&run.directory), source, &run.identity, approval_id];
    session.execute(sql, arguments).await?;
    Ok(())
}

/// Why a list is not to be approved as it stands, in a sentence with the way out (S-40); `None` = it is of now.
async fn stale(
    session: &mut Session,
    settings: &Settings,
    list: &Row,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let directory: String = list.get("directory")?;
    let text = |column: &str| list.get::<String>(column);
    let (items, sources, identity) = (text("items_digest")?, text("source_digest")?, text("identity")?);
    let is_other = |before: &str, now: &str| !before.is_empty() && before != now;
    let source = settings.directory(&directory).map(|it| it.source_digest()).unwrap_or_default();
    let why = if is_other(&items, &settings.items_digest(&directory)) {
        "the sync items were changed since this list was made".to_owned()
    } else if is_other(&sources, &source) || source::is_another(session, &directory, &identity).await? {
        "this list is of another account, base, filter, id attribute or directory than the one of now".to_owned()
    } else if let Some(minutes) = unasked(session, settings, &directory, now_ms).await? {
        let unread =
            format!("no run has read the directory to its end for {minutes} minutes, so nobody knows who is back");
        unread + &unread_since(session, settings, &directory).await?
    } else {
        return Ok(None);
    };
    Ok(Some(format!("{why}: look again with \"twinlock sync now {directory}\", then decide")))
}

/// For how many minutes no run of the directory ended complete, where that is longer than two intervals, or two such runs, take.
async fn unasked(
    session: &mut Session,
    settings: &Settings,
    directory: &str,
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT started_ms, finished_ms FROM sync_runs WHERE directory = $1 AND mode <> 'preview' \
               AND state IN ('done', 'parked') ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    let (took_ms, ended_ms) = match session.row(sql, args![directory]).await? {
        Some(row) => {
            let ended_ms: i64 = row.get("finished_ms")?;
            (ended_ms.saturating_sub(row.get("started_ms")?), ended_ms)
        }
        None => (0, 0),
    };
    let interval_ms = i64::from(settings.sync.interval_minutes) * MINUTE_MS;
    let allowed_ms = interval_ms.max(took_ms).saturating_mul(2).max(UNASKED_MIN_MS);
    let ago_ms = now_ms.saturating_sub(ended_ms);
    Ok((ago_ms > allowed_ms).then_some(ago_ms / MINUTE_MS))
}

/// What the last run said that was not complete, and what to do where looking again does not help: a domain that is away for good (FD-02).
async fn unread_since(session: &mut Session, settings: &Settings, directory: &str) -> Result<String, StoreError> {
    let sql = "SELECT error FROM sync_runs WHERE directory = $1 AND mode <> 'preview' AND state <> 'running' \
               ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    let error = session.row(sql, args![directory]).await?.map(|row| row.get::<String>("error")).transpose()?;
    let Some(error) = error.filter(|error| !error.is_empty()) else { return Ok(String::new()) };
    let way_out = match settings.directory(directory).is_some_and(Directory::includes_trusted_domains) {
        true => {
            "; another domain that is away for good is left out when its trust is ended, or by a directory for it without sync items"
        }
        false => "",
    };
    Ok(format!(" (the last one: {error}{way_out})"))
}

/// Whose runs the last list of the directory comes from, the last of them last, unless all of it was approved or a run has settled it:
/// what is left of it is found again, and that makes it nobody else's (S-40).
async fn authors_before(session: &mut Session, directory: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT asked_by, state, decision FROM approvals WHERE directory = $1 \
               ORDER BY created_ms DESC, approval_id DESC LIMIT 1";
    let Some(row) = session.row(sql, args![directory]).await? else { return Ok(Vec::new()) };
    let goes_on = match row.get::<String>("state")?.as_str() {
        "open" | "refused" => true,
        "deciding" | "approved" => row.get::<String>("decision")? != "all",
        _ => false,
    };
    let asked_by: String = row.get("asked_by")?;
    Ok(asked_by.lines().filter(|_| goes_on).map(str::to_owned).collect())
}

/// The open list of the directory, if it has just those users.
async fn same(
    session: &mut Session,
    run: &Run,
    wanted: &BTreeMap<&str, u64>,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT approval_id FROM approvals WHERE directory = $1 AND state = 'open' AND expires_ms > $2";
    let Some(row) = session.row(sql, args![&run.directory, now_ms]).await? else { return Ok(None) };
    let approval_id: String = row.get("approval_id")?;
    let sql = "SELECT w.action AS action, COUNT(*) AS listed, \
               COUNT(CASE WHEN u.due = CASE WHEN w.action = 'exempt' THEN 'exempt' ELSE 'leave' END THEN 1 END) AS still \
               FROM approval_users w LEFT JOIN users u ON u.user_id = w.user_id WHERE w.approval_id = $1 GROUP BY w.action";
    let mut listed = BTreeMap::new();
    for row in session.rows(sql, args![&approval_id]).await? {
        if row.unsigned("listed")? != row.unsigned("still")? {
            return Ok(None);
        }
        listed.insert(row.get::<String>("action")?, row.unsigned("listed")?);
    }
    let same = listed.iter().map(|(action, users)| (action.as_str(), *users)).eq(wanted.iter().map(|(a, n)| (*a, *n)));
    Ok(same.then_some(approval_id))
}

/// The history names who waits, once a list.
async fn note(session: &mut Session, run: &Run, approval_id: &str) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) AS users FROM approval_users WHERE approval_id = $1";
    let count = session.row(sql, args![approval_id]).await?.ok_or(StoreError::Broken("a count has no row"))?;
    let sql = "UPDATE sync_runs SET changes = changes + $1 WHERE run_id = $2 RETURNING changes - $1 AS before";
    let row = session.row(sql, args![count.get::<i64>("users")?, &run.run_id]).await?;
    let before: i64 = row.ok_or(StoreError::Broken("the run is missing"))?.get("before")?;
    let sql = "INSERT INTO sync_changes (run_id, number, username, what, detail) \
               SELECT $1, $2 + ROW_NUMBER() OVER (ORDER BY w.username_key, w.user_id), u.username, 'parked', \
               w.action || ': ' || w.why FROM approval_users w JOIN users u ON u.user_id = w.user_id \
               WHERE w.approval_id = $3";
    session.execute(sql, args![&run.run_id, before, approval_id]).await?;
    Ok(())
}

/// What waits of a directory is settled otherwise.
pub async fn supersede(session: &mut Session, directory: &str) -> Result<(), StoreError> {
    let sql = "UPDATE approvals SET state = 'superseded' WHERE directory = $1 AND state = 'open'";
    session.execute(sql, args![directory]).await?;
    Ok(())
}

/// A page of who waits.
pub async fn list(store: &Store, request: ListApprovalUsersRequest) -> Result<ListApprovalUsersReply, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT approval_id FROM approvals WHERE approval_id = $1";
    if session.row(sql, args![&request.approval_id]).await?.is_none() {
        return Err(Status::not_found("no such approval").into());
    }
    let sql = "SELECT u.username AS username, u.distinguished_name AS distinguished_name, w.action AS action, w.why AS why, \
               w.username_key AS username_key, w.user_id AS user_id \
               FROM approval_users w JOIN users u ON u.user_id = w.user_id \
               WHERE w.approval_id = $1 AND (w.username_key, w.user_id) > ($2, $3) ORDER BY w.username_key, w.user_id LIMIT $4";
    let (user_id, key) = request.after.split_once(' ').unwrap_or_default();
    let limit = page(request.limit);
    let mut rows = session.rows(sql, args![&request.approval_id, key, user_id, limit + 1]).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = match rows.last().filter(|_| more) {
        Some(row) => format!("{} {}", row.get::<String>("user_id")?, row.get::<String>("username_key")?),
        None => String::new(),
    };
    let mut users = Vec::new();
    for row in rows {
        users.push(ApprovalUser {
            username: row.get("username")?,
            distinguished_name: row.get("distinguished_name")?,
            action: row.get("action")?,
            why: row.get("why")?,
        });
    }
    Ok(ListApprovalUsersReply { users, next })
}

/// An administrator's word. Asked again after a crash it goes on where it was.
pub async fn decide(store: &Store, request: DecideApprovalRequest) -> Result<DecideApprovalReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    begin(store, &request, now_ms).await?;
    let (store, approval_id) = (store.clone(), request.approval_id);
    // Who asked may not wait for all of it, and may go away. What a stop of the process interrupts, the next sweep goes on with.
    let rest = {
        let (store, approval_id) = (store.clone(), approval_id.clone());
        tokio::spawn(async move { carry_on(&store, &approval_id, now_ms).await })
    };
    match tokio::time::timeout(PATIENCE, rest).await {
        Ok(Ok(applied)) => Ok(DecideApprovalReply { applied: applied? }),
        Ok(Err(_)) => Err(StoreError::Gone),
        Err(_) => Ok(DecideApprovalReply { applied: applied(&store, &approval_id).await? }),
    }
}

/// To how many it was applied so far.
async fn applied(store: &Store, approval_id: &str) -> Result<u32, StoreError> {
    let sql = "SELECT applied FROM approvals WHERE approval_id = $1";
    let row = store.database().read().await?.row(sql, args![approval_id]).await?;
    Ok(crate::users::small(&row.ok_or_else(|| Status::not_found("no such approval"))?, "applied")?)
}

/// Goes on with what was decided and not carried out, because a process ended meanwhile.
pub async fn resume(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let sql = "SELECT approval_id FROM approvals WHERE state = 'deciding'";
    let rows = store.database().read().await?.rows(sql, args![]).await?;
    for row in rows {
        carry_on(store, &row.get::<String>("approval_id")?, now_ms).await?;
    }
    Ok(())
}

async fn begin(store: &Store, request: &DecideApprovalRequest, now_ms: i64) -> Result<(), StoreError> {
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let sql = "UPDATE approvals SET state = state WHERE approval_id = $1 RETURNING expires_ms, state, asked_by, decision, directory, \
         items_digest, source_digest, identity";
    let row = session.row(sql, args![&request.approval_id]).await?;
    let row = row.ok_or_else(|| Status::not_found("no such approval"))?;
    let chosen: BTreeSet<String> = request.usernames.iter().map(|name| name_key(name)).collect();
    let decision = match (request.approve, chosen.is_empty()) {
        (false, _) => "none",
        (true, true) => "all",
        (true, false) => "some",
    };
    match row.get::<String>("state")?.as_str() {
        "open" => {}
        "deciding" if row.get::<String>("decision")? == decision => return Ok(()),
        "superseded" => {
            let text = "a later run has settled this approval; look at the list of now";
            return Err(Status::failed_precondition(text).into());
        }
        _ => return Err(Status::failed_precondition("this approval was decided before").into()),
    }
    if row.get::<i64>("expires_ms")? <= now_ms {
        return Err(Status::failed_precondition("this approval has expired; the next run asks again").into());
    }
    let asked_by: String = row.get("asked_by")?;
    if request.approve && is_own(&mut session, &request.actor, &asked_by, now_ms).await? {
        // S-40, V-82
        let text = "the run, or one before it that found the same, was asked for by the same administrator; another one has to \
                    approve it";
        return Err(Status::permission_denied(text).into());
    }
    if request.approve {
        let settings = store.rules().current(&mut session).await?;
        // By the clock that says when runs ended.
        if let Some(why) = stale(&mut session, &settings, &row, store.clock().now_ms()).await? {
            return Err(Status::failed_precondition(why).into());
        }
    }
    let sql = "UPDATE approvals SET state = 'deciding', decision = $1, decided_by = $2 WHERE approval_id = $3";
    session.execute(sql, args![decision, &request.actor, &request.approval_id]).await?;
    let marks = "UPDATE approval_users SET chosen = TRUE WHERE username_key IN";
    let tail = "AND approval_id = $257";
    let names = chosen.iter().map(String::as_str);
    session.execute_in(marks, names, tail, &[Arg::from(&request.approval_id)]).await?;
    let reason = printable(request.reason.trim(), REASON_CHARACTERS_MAX);
    if reason.is_empty() {
        must_not_exempt(&mut session, &request.approval_id, decision).await?;
    } else {
        let detail = format!("{}: {decision} ({reason})", request.approval_id);
        let event = NewEvent::administrative(now_ms, "sync.approval_reason", &request.actor, detail);
        audit::append(&mut session, head, vec![event]).await?;
    }
    Ok(session.commit().await?)
}

/// S-46: without a reason nobody is let off the second factor.
async fn must_not_exempt(session: &mut Session, approval_id: &str, decision: &str) -> Result<(), StoreError> {
    let whom = match decision {
        "all" => "",
        "some" => "AND chosen",
        _ => return Ok(()),
    };
    let sql =
        format!("SELECT 1 AS one FROM approval_users WHERE approval_id = $1 AND action = 'exempt' {whom} LIMIT 1");
    match session.rows_of(sql, args![approval_id]).await?.is_empty() {
        true => Ok(()),
        false => {
            let text = "reason: is missing; say why these users are to be exempt from the second factor";
            Err(Status::invalid_argument(text).into())
        }
    }
}

/// Is somebody to approve what is their own, with another there who could? Where all who could have asked for a run of it, whoever asked
/// last is the one who may not: it takes two at any rate.
async fn is_own(session: &mut Session, actor: &str, asked_by: &str, now_ms: i64) -> Result<bool, StoreError> {
    let keys = administrators(session, now_ms).await?;
    let authors: Vec<&str> = asked_by.lines().collect();
    let host_is_free = !authors.iter().any(|author| author.starts_with(HOST));
    let somebody_is_free = host_is_free || keys.iter().any(|key| !authors.contains(&key.as_str()));
    let own = match somebody_is_free {
        true => authors.contains(&actor),
        false => authors.last() == Some(&actor),
    };
    Ok(own && !keys.is_empty())
}

/// Those who may approve beside who has the host: API keys, as the audit names them.
async fn administrators(session: &mut Session, now_ms: i64) -> Result<Vec<String>, StoreError> {
    let mut keys = Vec::new();
    for row in session.rows("SELECT name, role FROM api_keys WHERE expires_ms > $1", args![now_ms]).await? {
        let role = Role::from_code(&row.get::<String>("role")?);
        if role.is_some_and(|role| role.may(Permission::SyncApprove)) {
            keys.push(format!("api-key:{}", row.get::<String>("name")?));
        }
    }
    Ok(keys)
}

/// Carries out a decision, some users a transaction, until none is left. Returns how many it was applied to.
async fn carry_on(store: &Store, approval_id: &str, now_ms: i64) -> Result<u32, StoreError> {
    loop {
        let mut session = store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let sql = "UPDATE approvals SET state = state WHERE approval_id = $1 RETURNING directory, state, decision, decided_by, \
                   applied";
        let row = session.row(sql, args![approval_id]).await?.ok_or_else(|| Status::not_found("no such approval"))?;
        let applied = crate::users::small(&row, "applied")?;
        if row.get::<String>("state")? != "deciding" {
            return Ok(applied);
        }
        let step = step(&mut session, approval_id, &row.get::<String>("decision")?, now_ms).await?;
        let mut events = step.events;
        let changed_users: Vec<String> = events.iter().map(|it| it.event.user_id.clone()).collect();
        let total = applied + step.applied;
        if step.last {
            let (decision, by): (String, String) = (row.get("decision")?, row.get("decided_by")?);
            let state = if decision == "none" { "refused" } else { "approved" };
            let detail = format!(
                "{}: {state} {decision} of {approval_id}, applied to {total} users",
                row.get::<String>("directory")?
            );
            events.push(NewEvent::administrative(now_ms, "sync.approval", &by, detail));
            let sql = "UPDATE approvals SET state = $1 WHERE approval_id = $2";
            session.execute(sql, args![state, approval_id]).await?;
        }
        let sql = "UPDATE approvals SET applied = $1 WHERE approval_id = $2";
        session.execute(sql, args![total, approval_id]).await?;
        if !events.is_empty() {
            audit::append(&mut session, head, events).await?;
        }
        session.commit().await?;
        changed_users.iter().for_each(|user_id| store.teller().user_changed(user_id));
        if step.last {
            return Ok(total);
        }
    }
}

struct Step {
    events: Vec<NewEvent>,
    applied: u32,
    last: bool,
}

async fn step(session: &mut Session, approval_id: &str, decision: &str, now_ms: i64) -> Result<Step, StoreError> {
    let sql = format!(
        "SELECT w.action AS action, w.chosen AS chosen, {} FROM approval_users w JOIN users u ON u.user_id = w.user_id \
         WHERE w.approval_id = $1 ORDER BY w.username_key, w.user_id LIMIT $2",
        Leaving::COLUMNS
    );
    let rows = session.rows_of(sql, args![approval_id, AT_ONCE]).await?;
    let last = rows.len() < AT_ONCE as usize;
    let (mut leaving, mut stay, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let user = Leaving::of(row)?;
        all.push(user.user_id.clone());
        let action = Action::from_code(&row.get::<String>("action")?);
        let Some(action) = action.filter(|action| still(&user, *action)) else { continue };
        match decision == "all" || decision == "some" && row.get::<bool>("chosen")? {
            true => leaving.push((user, action)),
            false => stay.push(user.user_id),
        }
    }
    let applied = u32::try_from(leaving.len()).unwrap_or(u32::MAX);
    let carried = rows::carry_out(session, leaving, now_ms).await?;
    let stay = stay.iter().map(String::as_str);
    session.execute_in("UPDATE users SET due = '' WHERE user_id IN", stay, "", &[]).await?;
    let tail = "AND approval_id = $257";
    let done = all.iter().map(String::as_str);
    session.execute_in("DELETE FROM approval_users WHERE user_id IN", done, tail, &[Arg::from(approval_id)]).await?;
    let sql = "SELECT run_id FROM sync_runs WHERE approval_id = $1 ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    if let Some(row) = session.row(sql, args![approval_id]).await? {
        history::note(session, &row.get::<String>("run_id")?, carried.changes).await?;
    }
    Ok(Step { events: carried.events, applied, last })
}

/// Is it still so that this follows? Who was seen again is due for nothing, and whoever is still there is not removed (S-43): the
/// next run decides about them anew.
fn still(user: &Leaving, action: Action) -> bool {
    match action {
        Action::Disable => user.due == "leave" && user.state == "enabled",
        Action::Remove => user.due == "leave" && user.state != "removed" && user.left_how != How::Outside.code(),
        Action::Exempt => user.due == "exempt" && user.state != "removed",
    }
}
