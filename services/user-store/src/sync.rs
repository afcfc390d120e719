//! What the sync leader writes (S-40 to S-42, S-60). The epoch is checked, and its row locked, in the transaction of every
//! write: a leader that was overtaken writes nothing.
//!
//! ```text
//! Lead -> epoch · BeginRun -> run · ApplyBatch* -> users, groups, each marked with the run · FinishRun -> leavers | parked
//! ```
//!
//! A batch is planned on rows read before ([`users`]), then written under the chain's lock, so that logins wait for the
//! writing only. States change only from what was read: a hand that moved meanwhile wins.

mod groups;
pub mod guard;
mod tell;
pub mod users;

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::erase;
use crate::metrics::Timed;
use crate::outbox;
use crate::rpc::{StoreError, bounded};
use crate::seal::Seal;
use crate::settings::{self, Current};
use crate::sql::{Arg, Row as SqlRow, Session, args};
use crate::users::{StateChange, by_machine, name_key, number_shown, small};
use domain::settings::{Leavers, SyncItem, SyncState};
use proto::user_store::{
    ApplyBatchReply, ApplyBatchRequest, BeginRunReply, BeginRunRequest, DecideApprovalReply, DecideApprovalRequest,
    FinishRunReply, FinishRunRequest, LeadReply, LeadRequest, sync_server::Sync,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use tonic::{Request, Response, Status};
use users::{Known, NewPassword, NewState, Plan, Row, Run};

/// Users or groups of one batch.
const BATCH_MAX: usize = 5_000;
/// Problems named in a reply; the rest is counted.
const PROBLEMS_MAX: usize = 200;
const DAY_MS: i64 = 24 * 3_600_000;
/// A parked run waits this long (FS-07).
const APPROVAL_LIFE_MS: i64 = 7 * DAY_MS;

pub struct SyncService(pub Store);

#[tonic::async_trait]
impl Sync for SyncService {
    async fn lead(&self, request: Request<LeadRequest>) -> Result<Response<LeadReply>, Status> {
        Ok(Response::new(self.begin_epoch(request.into_inner()).await?))
    }

    async fn begin_run(&self, request: Request<BeginRunRequest>) -> Result<Response<BeginRunReply>, Status> {
        Ok(Response::new(self.begin(request.into_inner()).await?))
    }

    async fn apply_batch(&self, request: Request<ApplyBatchRequest>) -> Result<Response<ApplyBatchReply>, Status> {
        Ok(Response::new(self.apply(request.into_inner()).await?))
    }

    async fn finish_run(&self, request: Request<FinishRunRequest>) -> Result<Response<FinishRunReply>, Status> {
        Ok(Response::new(self.finish(request.into_inner()).await?))
    }
}

/// A run as its row has it.
struct RunRow {
    run_id: String,
    sync_item: String,
    directory: String,
    state: String,
    reply: FinishRunReply,
}

impl SyncService {
    async fn begin_epoch(&self, request: LeadRequest) -> Result<LeadReply, StoreError> {
        let mut session = self.0.database().write().await?;
        let sql = "UPDATE sync_state SET epoch = epoch + 1, leader = $1 WHERE id = 1 RETURNING epoch";
        let row = session.row(sql, args![bounded(&request.holder, 128)]).await?;
        let epoch = row.ok_or(StoreError::Broken("the sync state is missing"))?.unsigned("epoch")?;
        // Whoever began them is overtaken and can end them no more.
        let sql = "UPDATE sync_runs SET state = 'abandoned' WHERE state = 'running'";
        session.execute(sql, args![]).await?;
        session.commit().await?;
        tracing::info!(epoch, holder = %request.holder, "sync leader begins");
        Ok(LeadReply { epoch })
    }

    async fn begin(&self, request: BeginRunRequest) -> Result<BeginRunReply, StoreError> {
        let mut session = self.0.database().write().await?;
        fence(&mut session, request.epoch).await?;
        let current = settings::current(&mut session).await?;
        let item = active_item(&current, &request.sync_item)?;
        let sql = "UPDATE sync_runs SET state = 'abandoned' WHERE state = 'running' AND sync_item = $1";
        session.execute(sql, args![&request.sync_item]).await?;
        let run_id = uuid::Uuid::now_v7().to_string();
        let sql = "INSERT INTO sync_runs (run_id, sync_item, directory, mode, started_ms, finished_ms, state, error, added, \
                   changed, unchanged, disabled, removed, parked, approval_id) \
                   VALUES ($1, $2, $3, $4, $5, 0, 'running', '', 0, 0, 0, 0, 0, 0, '')";
        let now_ms = self.0.at(request.now_unix_ms);
        let arguments = args![&run_id, &request.sync_item, item.directory.as_str(), bounded(&request.mode, 32), now_ms];
        session.execute(sql, arguments).await?;
        session.commit().await?;
        Ok(BeginRunReply { run_id })
    }

    async fn apply(&self, request: ApplyBatchRequest) -> Result<ApplyBatchReply, StoreError> {
        if request.users.len() > BATCH_MAX || request.groups.len() > BATCH_MAX {
            return Err(Status::invalid_argument(format!("a batch has at most {BATCH_MAX} users or groups")).into());
        }
        let began = Instant::now();
        let now_ms = self.0.at(request.now_unix_ms);
        let mut session = self.0.database().write().await?;
        fence(&mut session, request.epoch).await?;
        let run = running(&mut session, &request.run_id).await?;
        let current = settings::current(&mut session).await?;
        active_item(&current, &run.sync_item)?;
        let plan = plan_users(&mut session, &run, &current, request.users).await?;
        let head = audit::lock(&mut session).await?;
        let (mut reply, mut changed_users, events) =
            write_users(&mut session, self.0.seal(), &run, plan, now_ms).await?;
        changed_users.extend(groups::write(&mut session, &run, &current, request.groups).await?);
        let sql = "UPDATE sync_runs SET added = added + $1, changed = changed + $2, unchanged = unchanged + $3 \
                   WHERE run_id = $4";
        session.execute(sql, args![reply.added, reply.changed, reply.unchanged, &run.run_id]).await?;
        if !events.is_empty() {
            audit::append(&mut session, head, events).await?;
        }
        session.commit().await?;
        self.0.metrics().took(Timed::SyncBatch, began.elapsed());
        for user_id in changed_users {
            self.0.teller().user_changed(&user_id);
        }
        let more = reply.problems.len().saturating_sub(PROBLEMS_MAX);
        reply.problems.truncate(PROBLEMS_MAX);
        if more > 0 {
            reply.problems.push(format!("and {more} more"));
        }
        Ok(reply)
    }

    async fn finish(&self, request: FinishRunRequest) -> Result<FinishRunReply, StoreError> {
        let now_ms = self.0.at(request.now_unix_ms);
        let mut session = self.0.database().write().await?;
        fence(&mut session, request.epoch).await?;
        let head = audit::lock(&mut session).await?;
        let run = any_run(&mut session, &request.run_id).await?;
        if run.state != "running" {
            // Asked again after the answer was lost: the same answer.
            return match run.state.as_str() {
                "abandoned" => Err(Status::failed_precondition("the run was abandoned").into()),
                _ => Ok(run.reply),
            };
        }
        let current = settings::current(&mut session).await?;
        let (mut events, mut changed_users) = (Vec::new(), Vec::new());
        let (state, reply) = match request.complete {
            // S-41: nobody leaves on the evidence of an incomplete read.
            false => ("incomplete", FinishRunReply::default()),
            true => {
                changed_users.extend(groups::leave(&mut session, &run).await?);
                leave(&mut session, &run, &current, now_ms, &mut events).await?
            }
        };
        let sql = "UPDATE sync_runs SET state = $1, error = $2, finished_ms = $3, disabled = $4, removed = $5, parked = $6, \
                   approval_id = $7 WHERE run_id = $8 RETURNING added, changed, unchanged";
        let error = bounded(&request.error, 512);
        let arguments =
            args![state, &error, now_ms, reply.disabled, reply.removed, reply.parked, &reply.approval_id, &run.run_id];
        let counts = session.row(sql, arguments).await?.ok_or(StoreError::Broken("the run is missing"))?;
        changed_users.extend(events.iter().map(|it: &NewEvent| it.event.user_id.clone()));
        let (added, changed) = (counts.unsigned("added")?, counts.unsigned("changed")?);
        // A run that found nothing new leaves no event: every five minutes one would bury the rest.
        if added + changed > 0 || reply != FinishRunReply::default() || !request.complete {
            let mut detail = format!(
                "{}: {state}, added {added}, changed {changed}, disabled {}, removed {}, parked {}",
                run.sync_item, reply.disabled, reply.removed, reply.parked
            );
            if !error.is_empty() {
                detail += &format!(" ({error})");
            }
            events.push(NewEvent::administrative(now_ms, "sync.run", "sync", detail));
        }
        if !events.is_empty() {
            audit::append(&mut session, head, events).await?;
        }
        if let Some(mail) = tell::alarm(&mut session, &run, &reply, &request, now_ms).await? {
            outbox::put_in(&mut session, self.0.seal(), mail, now_ms).await?;
        }
        session.commit().await?;
        for user_id in changed_users {
            self.0.teller().user_changed(&user_id);
        }
        Ok(reply)
    }

    /// An administrator's word on parked leavers, evaluated now: who was seen again since stays (S-40).
    pub async fn decide(&self, request: DecideApprovalRequest) -> Result<DecideApprovalReply, StoreError> {
        let now_ms = self.0.at(request.now_unix_ms);
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let sql =
            "UPDATE approvals SET state = state WHERE approval_id = $1 RETURNING sync_item, action, expires_ms, state";
        let row = session.row(sql, args![&request.approval_id]).await?;
        let row = row.ok_or_else(|| Status::not_found("no such approval"))?;
        if row.get::<String>("state")? != "open" {
            return Err(Status::failed_precondition("this approval was decided before").into());
        }
        if row.get::<i64>("expires_ms")? <= now_ms {
            return Err(Status::failed_precondition("this approval has expired; the next run asks again").into());
        }
        let (sync_item, action): (String, String) = (row.get("sync_item")?, row.get("action")?);
        let mut events = Vec::new();
        if request.approve {
            let chosen: BTreeSet<String> = request.usernames.iter().map(|name| name_key(name)).collect();
            for leaver in waiting(&mut session, &request.approval_id).await? {
                if !chosen.is_empty() && !chosen.contains(&leaver.username_key) {
                    continue;
                }
                events.extend(leave_one(&mut session, &leaver, &action, &sync_item, now_ms).await?);
            }
        }
        let state = if request.approve { "approved" } else { "refused" };
        let sql = "UPDATE approvals SET state = $1 WHERE approval_id = $2";
        session.execute(sql, args![state, &request.approval_id]).await?;
        let applied = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let changed_users: Vec<String> = events.iter().map(|it: &NewEvent| it.event.user_id.clone()).collect();
        let detail = format!("{sync_item}: {state} {}, {applied} users {action}d", request.approval_id);
        events.push(NewEvent::administrative(now_ms, "sync.approval", &request.actor, detail));
        audit::append(&mut session, head, events).await?;
        session.commit().await?;
        for user_id in changed_users {
            self.0.teller().user_changed(&user_id);
        }
        Ok(DecideApprovalReply { applied })
    }
}

/// Refuses a leader that was overtaken, and keeps the epoch as it is until the transaction ends (S-60).
async fn fence(session: &mut Session, epoch: u64) -> Result<(), StoreError> {
    let sql = "UPDATE sync_state SET epoch = epoch WHERE id = 1 RETURNING epoch";
    let row = session.row(sql, args![]).await?.ok_or(StoreError::Broken("the sync state is missing"))?;
    match row.unsigned("epoch")? {
        current if current == epoch && epoch > 0 => Ok(()),
        current => Err(Status::failed_precondition(format!("epoch {epoch} is over; the leader's is {current}")).into()),
    }
}

fn active_item<'a>(current: &'a Current, name: &str) -> Result<&'a SyncItem, StoreError> {
    let item = current.settings.sync_items.iter().find(|item| item.name.as_str() == name);
    item.filter(|item| item.state == SyncState::On)
        .ok_or_else(|| Status::not_found(format!("the sync item {name} is not in the settings, or off")).into())
}

async fn running(session: &mut Session, run_id: &str) -> Result<RunRow, StoreError> {
    let run = any_run(session, run_id).await?;
    match run.state.as_str() {
        "running" => Ok(run),
        state => Err(Status::failed_precondition(format!("the run is {state}")).into()),
    }
}

async fn any_run(session: &mut Session, run_id: &str) -> Result<RunRow, StoreError> {
    let sql =
        "SELECT sync_item, directory, state, disabled, removed, parked, approval_id FROM sync_runs WHERE run_id = $1";
    let row = session.row(sql, args![run_id]).await?.ok_or_else(|| Status::not_found("no such run"))?;
    Ok(RunRow {
        run_id: run_id.into(),
        sync_item: row.get("sync_item")?,
        directory: row.get("directory")?,
        state: row.get("state")?,
        reply: FinishRunReply {
            disabled: small(&row, "disabled")?,
            removed: small(&row, "removed")?,
            parked: small(&row, "parked")?,
            approval_id: row.get("approval_id")?,
        },
    })
}

async fn plan_users(
    session: &mut Session,
    run: &RunRow,
    current: &Current,
    batch: Vec<proto::user_store::SyncedUser>,
) -> Result<Plan, StoreError> {
    const HEAD: &str = "SELECT user_id, directory, object_id, username, username_key, dn_key, mail, phone, own_phone, state, state_by, state_text, sync_item, \
                        first_run, last_run, content, password_changed FROM users WHERE";
    let directory = args![&run.directory];
    let ids: BTreeSet<String> =
        batch.iter().filter_map(|user| Some(user.object_id.parse::<domain::ObjectId>().ok()?.to_string())).collect();
    let names: BTreeSet<String> = batch.iter().map(|user| name_key(&bounded(user.username.trim(), 256))).collect();
    let of_ids = format!("{HEAD} object_id IN");
    let rows = session.rows_in(&of_ids, ids.iter().map(String::as_str), "AND directory = $257", &directory).await?;
    let mut known_users = HashMap::new();
    for row in rows {
        let known = known(&row)?;
        known_users.insert(known.object_id.clone(), known);
    }
    let of_names = format!("{HEAD} username_key IN");
    // The directory is compared here: with it in the condition SQLite would walk all users of the directory.
    let mut holders = Vec::new();
    for row in session.rows_in(&of_names, names.iter().map(String::as_str), "AND state <> 'removed'", &[]).await? {
        if row.get::<String>("directory")? == run.directory {
            holders.push(known(&row)?);
        }
    }
    let head = "SELECT name_key FROM sync_doubles WHERE name_key IN";
    let rows =
        session.rows_in(head, names.iter().map(String::as_str), "AND run_id = $257", &[Arg::from(&run.run_id)]).await?;
    let doubled = rows.iter().map(|row| row.get("name_key")).collect::<Result<_, _>>()?;
    let run = Run { run_id: &run.run_id, sync_item: &run.sync_item, settings: &current.settings };
    Ok(users::plan(&run, batch, known_users, holders, doubled))
}

fn known(row: &SqlRow) -> Result<Known, sqlx::Error> {
    Ok(Known {
        user_id: row.get("user_id")?,
        object_id: row.get("object_id")?,
        username: row.get("username")?,
        username_key: row.get("username_key")?,
        dn_key: row.get("dn_key")?,
        mail: row.get("mail")?,
        phone: row.get("phone")?,
        own_phone: row.get("own_phone")?,
        state: row.get("state")?,
        state_by: row.get("state_by")?,
        state_text: row.get("state_text")?,
        sync_item: row.get("sync_item")?,
        first_run: row.get("first_run")?,
        last_run: row.get("last_run")?,
        content: row.get("content")?,
        password_changed: row.get("password_changed")?,
    })
}

/// Writes a plan. Returns the counts, whose caches must go, and the events.
async fn write_users(
    session: &mut Session,
    seal: &Seal,
    run: &RunRow,
    plan: Plan,
    now_ms: i64,
) -> Result<(ApplyBatchReply, Vec<String>, Vec<NewEvent>), StoreError> {
    let fresh = plan.seen.iter().filter(|known| known.last_run != run.run_id).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let reply = ApplyBatchReply {
        added: count(plan.added.len()),
        changed: count(plan.changed.len()),
        unchanged: count(fresh),
        problems: plan.problems,
    };
    let mut events = Vec::new();
    let doubles = plan.doubled.iter().map(|name| args![&run.run_id, name]).collect();
    let head = "INSERT INTO sync_doubles (run_id, name_key)";
    session.bulk(head, doubles, "ON CONFLICT (run_id, name_key) DO NOTHING").await?;
    for known in &plan.withdrawn {
        // Added by this very run, moments ago, under a name that turned out to be two people's.
        erase::user(session, seal, &known.user_id).await?;
        let event = NewEvent::administrative(now_ms, "user.erased", "sync", "its username is doubled in the directory");
        events.push(event.about(&known.user_id, &known.username));
    }
    tell::of_other_addresses(session, seal, &plan.changed, now_ms).await?;
    write_rows(session, run, &plan.added, &plan.changed, now_ms).await?;
    let seen = plan.seen.iter().filter(|known| known.last_run != run.run_id).map(|known| known.user_id.as_str());
    let seen: Vec<&str> = seen.collect();
    session
        .execute_in("UPDATE users SET last_run = $257 WHERE user_id IN", seen, "", &[Arg::from(&run.run_id)])
        .await?;

    let mut changed_users: Vec<String> = Vec::new();
    for (known, next) in &plan.states {
        events.extend(change_state(session, known, next, now_ms).await?);
        changed_users.push(known.user_id.clone());
    }
    changed_users.extend(write_passwords(session, &plan.passwords).await?);
    let mut moved: Vec<&str> = Vec::new();
    for row in &plan.changed {
        let Some(known) = &row.known else { continue };
        changed_users.push(known.user_id.clone());
        if known.dn_key != row.dn_key || users::other_phone(known, row) {
            moved.push(&known.user_id);
        }
        // S-58: another phone or mail is another authenticator.
        let mut details = Vec::new();
        let shown = |field, value: &str| match field {
            "phone" => number_shown(value),
            _ => format!("{value:?}"),
        };
        for (field, was, is) in [
            ("username", &known.username, &row.user.username),
            ("mail", &known.mail, &row.user.mail),
            ("phone", &known.phone, &row.user.phone),
        ] {
            if was != is {
                details.push(format!("{field}: {} -> {}", shown(field, was), shown(field, is)));
            }
        }
        if !details.is_empty() {
            let event = NewEvent::administrative(now_ms, "user.changed", "sync", details.join(", "));
            events.push(event.about(&known.user_id, &row.user.username));
        }
    }
    raise_epochs(session, &moved).await?;
    Ok((reply, changed_users, events))
}

/// Notes when passwords were changed, and ends what was remembered under the ones before (V-52). Returns whose those were.
async fn write_passwords(session: &mut Session, passwords: &[NewPassword]) -> Result<Vec<String>, StoreError> {
    let rows = passwords.iter().map(|it| args![&it.user_id, &it.changed]).collect();
    let tail = ") UPDATE users SET password_changed = v.password_changed FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, password_changed) AS (", rows, tail).await?;
    let others: Vec<&str> = passwords.iter().filter(|it| it.another).map(|it| it.user_id.as_str()).collect();
    raise_epochs(session, &others).await?;
    Ok(others.into_iter().map(str::to_owned).collect())
}

/// Ends what is remembered of these users (V-52).
async fn raise_epochs(session: &mut Session, user_ids: &[&str]) -> Result<(), StoreError> {
    let head = "UPDATE users SET epoch = epoch + 1 WHERE user_id IN";
    session.execute_in(head, user_ids.iter().copied(), "", &[]).await?;
    Ok(())
}

async fn write_rows(
    session: &mut Session,
    run: &RunRow,
    added: &[Row],
    changed: &[Row],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut names: Vec<Vec<Arg>> = Vec::new();
    let mut rows: Vec<Vec<Arg>> = Vec::new();
    for row in added.iter().chain(changed) {
        let user_id = row.known.as_ref().map_or_else(|| uuid::Uuid::now_v7().to_string(), |it| it.user_id.clone());
        names.extend(row.names.iter().map(|(key, name)| args![&user_id, key, name]));
        let user = &row.user;
        let disabled = row.known.is_none() && user.disabled_in_directory;
        rows.push(args![
            &user_id,
            &run.directory,
            &row.object_id,
            &user.username,
            &row.username_key,
            &user.distinguished_name,
            &row.dn_key,
            &user.first_name,
            &user.last_name,
            &user.mail,
            &user.phone,
            &row.search,
            if disabled { "disabled" } else { "enabled" },
            if disabled { "directory" } else { "" },
            now_ms,
            if disabled { "disabled in the directory" } else { "" },
            &run.sync_item,
            &run.run_id,
            &run.run_id,
            row.content.as_slice(),
            if user.password_changed.is_empty() { users::UNSAID } else { user.password_changed.as_str() },
            1_i64,
            now_ms,
            now_ms,
        ]);
    }
    let head = "INSERT INTO users (user_id, directory, object_id, username, username_key, distinguished_name, dn_key, \
                first_name, last_name, mail, phone, search, state, state_by, state_since_ms, state_text, sync_item, first_run, \
                last_run, content, password_changed, revision, created_ms, changed_ms)";
    // State, first run, creation and the password's time stay as they are: those are changed elsewhere, or never.
    let tail = "ON CONFLICT (directory, object_id) DO UPDATE SET username = excluded.username, \
                username_key = excluded.username_key, distinguished_name = excluded.distinguished_name, \
                dn_key = excluded.dn_key, first_name = excluded.first_name, last_name = excluded.last_name, \
                mail = excluded.mail, phone = excluded.phone, search = excluded.search, sync_item = excluded.sync_item, \
                last_run = excluded.last_run, content = excluded.content, revision = users.revision + 1, \
                changed_ms = excluded.changed_ms";
    session.bulk(head, rows, tail).await?;
    let renamed: Vec<&str> = changed.iter().filter_map(|row| Some(row.known.as_ref()?.user_id.as_str())).collect();
    session.execute_in("DELETE FROM names WHERE user_id IN", renamed, "", &[]).await?;
    session.bulk("INSERT INTO names (user_id, name_key, name)", names, "").await?;
    Ok(())
}

async fn change_state(
    session: &mut Session,
    known: &Known,
    next: &NewState,
    now_ms: i64,
) -> Result<Option<NewEvent>, sqlx::Error> {
    let change = StateChange {
        user_id: &known.user_id,
        username: &known.username,
        from: &known.state,
        from_by: &known.state_by,
        to: next.state,
        by: &next.by,
        text: &next.text,
    };
    change.write(session, now_ms).await
}

/// Somebody the item has and the run did not see.
struct Leaver {
    known: Known,
    username_key: String,
}

/// Finds who left, and disables, removes or parks them. Returns the run's state and counts.
async fn leave(
    session: &mut Session,
    run: &RunRow,
    current: &Current,
    now_ms: i64,
    events: &mut Vec<NewEvent>,
) -> Result<(&'static str, FinishRunReply), StoreError> {
    let action = match active_item(current, &run.sync_item)?.leavers {
        Leavers::Keep => return Ok(("done", FinishRunReply::default())),
        Leavers::Disable => "disable",
        Leavers::Remove => "remove",
    };
    // To disable whoever is disabled already would change nothing.
    let condition = if action == "disable" { "state = 'enabled'" } else { "state <> 'removed'" };
    let sql = format!("{LEAVER} WHERE sync_item = $1 AND last_run <> $2 AND {condition} ORDER BY username_key");
    let rows = session.rows_of(sql, args![&run.sync_item, &run.run_id]).await?;
    let leavers: Vec<Leaver> = rows.iter().map(leaver).collect::<Result<_, _>>()?;
    let sql = "SELECT COUNT(*) AS known, COUNT(CASE WHEN last_run = $2 THEN 1 END) AS seen FROM users \
               WHERE sync_item = $1 AND state <> 'removed' AND NOT (state = 'disabled' AND state_by = 'sync')";
    let counts = session.row(sql, args![&run.sync_item, &run.run_id]).await?;
    let counts = counts.ok_or(StoreError::Broken("a count has no row"))?;
    let sql = "SELECT COUNT(*) AS fresh FROM users WHERE sync_item = $1 AND first_run = $2";
    let fresh = session.row(sql, args![&run.sync_item, &run.run_id]).await?;
    let fresh = fresh.map_or(Ok(0), |row| row.unsigned("fresh"))?;
    let found = guard::Found {
        known: counts.unsigned("known")?.saturating_sub(fresh),
        seen: counts.unsigned("seen")?,
        leavers: leavers.len() as u64,
    };
    if guard::must_wait(&current.settings.sync, found) {
        let approval_id = park(session, &run.sync_item, action, &leavers, now_ms).await?;
        let parked = u32::try_from(leavers.len()).unwrap_or(u32::MAX);
        return Ok(("parked", FinishRunReply { parked, approval_id, ..FinishRunReply::default() }));
    }
    // What waited for approval is settled by this run: gone for good and few, or back.
    let sql = "UPDATE approvals SET state = 'superseded' WHERE sync_item = $1 AND state = 'open'";
    session.execute(sql, args![&run.sync_item]).await?;
    let mut reply = FinishRunReply::default();
    for leaver in &leavers {
        if let Some(event) = leave_one(session, leaver, action, &run.sync_item, now_ms).await? {
            events.push(event);
            match action {
                "disable" => reply.disabled += 1,
                _ => reply.removed += 1,
            }
        }
    }
    Ok(("done", reply))
}

const LEAVER: &str = "SELECT user_id, object_id, username, username_key, dn_key, mail, phone, own_phone, state, state_by, state_text, sync_item, \
    first_run, last_run, content, password_changed FROM users";

fn leaver(row: &SqlRow) -> Result<Leaver, sqlx::Error> {
    Ok(Leaver { known: known(row)?, username_key: row.get("username_key")? })
}

/// Disables or removes one. A hand that had disabled a person is remembered through the removal: they come back disabled.
async fn leave_one(
    session: &mut Session,
    leaver: &Leaver,
    action: &str,
    sync_item: &str,
    now_ms: i64,
) -> Result<Option<NewEvent>, StoreError> {
    let known = &leaver.known;
    let text = format!("no longer in {sync_item}");
    let by_hand = known.state == "disabled" && !by_machine(&known.state_by);
    let next = match action {
        "disable" if known.state != "enabled" => return Ok(None),
        "disable" => NewState { state: "disabled", by: "sync".into(), text },
        _ if by_hand => NewState { state: "removed", by: known.state_by.clone(), text: known.state_text.clone() },
        _ => NewState { state: "removed", by: "sync".into(), text },
    };
    Ok(change_state(session, known, &next, now_ms).await?)
}

/// Lists the leavers for an administrator. One open list an item: a later run brings it up to date.
async fn park(
    session: &mut Session,
    sync_item: &str,
    action: &str,
    leavers: &[Leaver],
    now_ms: i64,
) -> Result<String, StoreError> {
    let sql =
        "SELECT approval_id FROM approvals WHERE sync_item = $1 AND state = 'open' AND action = $2 AND expires_ms > $3";
    let open = session.row(sql, args![sync_item, action, now_ms]).await?;
    let approval_id = match open {
        Some(row) => row.get("approval_id")?,
        None => {
            let sql = "UPDATE approvals SET state = 'superseded' WHERE sync_item = $1 AND state = 'open'";
            session.execute(sql, args![sync_item]).await?;
            let approval_id = uuid::Uuid::now_v7().to_string();
            let sql = "INSERT INTO approvals (approval_id, sync_item, action, created_ms, expires_ms, state) \
                       VALUES ($1, $2, $3, $4, $5, 'open')";
            session.execute(sql, args![&approval_id, sync_item, action, now_ms, now_ms + APPROVAL_LIFE_MS]).await?;
            approval_id
        }
    };
    session.execute("DELETE FROM approval_users WHERE approval_id = $1", args![&approval_id]).await?;
    let rows = leavers.iter().map(|it| args![&approval_id, &it.known.user_id, &it.known.last_run]).collect();
    session.bulk("INSERT INTO approval_users (approval_id, user_id, last_run)", rows, "").await?;
    Ok(approval_id)
}

/// Those of a list whom no run has seen since it was made, and who still belong to the item.
async fn waiting(session: &mut Session, approval_id: &str) -> Result<Vec<Leaver>, StoreError> {
    let sql = "SELECT u.user_id AS user_id, u.object_id AS object_id, u.username AS username, u.username_key AS username_key, \
               u.dn_key AS dn_key, u.mail AS mail, u.phone AS phone, u.own_phone AS own_phone, u.state AS state, u.state_by AS state_by, u.state_text AS state_text, \
               u.sync_item AS sync_item, u.first_run AS first_run, u.last_run AS last_run, u.content AS content, \
               u.password_changed AS password_changed \
               FROM approval_users w JOIN users u ON u.user_id = w.user_id \
               JOIN approvals a ON a.approval_id = w.approval_id \
               WHERE w.approval_id = $1 AND u.last_run = w.last_run AND u.sync_item = a.sync_item AND u.state <> 'removed'";
    let rows = session.rows(sql, args![approval_id]).await?;
    Ok(rows.iter().map(leaver).collect::<Result<_, _>>()?)
}
