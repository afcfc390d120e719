//! What administrators say about a user: block, exemption, phones, languages, methods.

use super::change::{Change, reason};
use super::edit::{self, Edit};
use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use crate::users::{end_sessions, is_blocked, until_text};
use proto::user_store::{
    BlockUserRequest, EditUserRequest, ExemptUserRequest, KnownUser, KnownUsersReply, KnownUsersRequest,
    UnblockUserRequest, UserDetail,
};
use std::collections::BTreeSet;
use tonic::Status;

const DAY_MS: i64 = 24 * 3_600_000;
/// FV-25: a block that ends, ends within a year.
const BLOCK_MAX_MS: i64 = 365 * DAY_MS;
/// Entries asked for at once.
const KNOWN_MAX: usize = 1_000;
/// Every client, those to come too.
pub(super) const ALL: &str = "*";
const PORTAL: &str = "portal";

/// Which entries of a directory are users here (FS-16).
pub async fn known(store: &Store, request: KnownUsersRequest) -> Result<KnownUsersReply, StoreError> {
    if request.object_ids.len() > KNOWN_MAX {
        return Err(Status::invalid_argument(format!("object_ids: allowed are {KNOWN_MAX}")).into());
    }
    let head = "SELECT object_id, user_id, username, sync_item, state FROM users WHERE object_id IN";
    let ids = request.object_ids.iter().map(String::as_str);
    let directory = [Arg::from(&request.directory)];
    let mut session = store.database().read().await?;
    let rows = session.rows_in(head, ids, "AND directory = $257", &directory).await?;
    let users = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(KnownUser {
            object_id: row.get("object_id")?,
            user_id: row.get("user_id")?,
            username: row.get("username")?,
            sync_item: row.get("sync_item")?,
            state: row.get("state")?,
        })
    });
    Ok(KnownUsersReply { users: users.collect::<Result<_, _>>()? })
}

/// Everything is refused, before any prompt (FV-25).
pub async fn block_user(store: &Store, request: BlockUserRequest) -> Result<UserDetail, StoreError> {
    let reason = reason(&request.reason)?;
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    let now_ms = change.now_ms;
    let until_ms = match request.until_unix_ms {
        0 => match store.rules().current(&mut change.session).await?.verification.block_days {
            0 => -1,
            days => now_ms + i64::from(days) * DAY_MS,
        },
        -1 => -1,
        until_ms if until_ms > now_ms && until_ms <= now_ms + BLOCK_MAX_MS => until_ms,
        _ => return Err(Status::invalid_argument("until: allowed are -1 and times within the next 365 days").into()),
    };
    let before_ms: i64 = change.row.get("blocked_until_ms")?;
    let sql = "UPDATE users SET blocked_until_ms = $1, blocked_since_ms = $2, blocked_by = $3, blocked_text = $4 \
               WHERE user_id = $5";
    let arguments = args![until_ms, now_ms, &change.actor, &reason, &change.user_id];
    change.session.execute(sql, arguments).await?;
    // Whoever waits for an answer hears that there will be none.
    let sql = "UPDATE prompts SET outcome = 'withdrawn', answered_ms = $1, revision = revision + 1 \
               WHERE user_id = $2 AND outcome = ''";
    change.session.execute(sql, args![now_ms, &change.user_id]).await?;
    end_sessions(&mut change.session, &change.user_id).await?;
    change.note("user.blocked", format!("{} -> {} ({reason})", until(before_ms, now_ms), until(until_ms, now_ms)));
    if request.remove_devices {
        let sql = "DELETE FROM devices WHERE user_id = $1";
        let removed = change.session.execute(sql, args![&change.user_id]).await?;
        change.note("factor.revoked", format!("{removed} devices"));
    }
    change.end_remembered();
    let variables = [("reason", reason.as_str()), ("until", &until_text(until_ms))];
    change.mail("blocked", &variables).await?;
    change.mail_administrators("blocked", &variables).await?;
    change.finish().await
}

pub async fn unblock_user(store: &Store, request: UnblockUserRequest) -> Result<UserDetail, StoreError> {
    let reason = reason(&request.reason)?;
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    let before_ms: i64 = change.row.get("blocked_until_ms")?;
    if !is_blocked(before_ms, change.now_ms) {
        return Err(Status::failed_precondition("the user is not blocked").into());
    }
    let sql = "UPDATE users SET blocked_until_ms = 0, blocked_since_ms = $1, blocked_by = $2, blocked_text = $3 \
               WHERE user_id = $4";
    let arguments = args![change.now_ms, &change.actor, &reason, &change.user_id];
    change.session.execute(sql, arguments).await?;
    change.note("user.unblocked", format!("{} -> not blocked ({reason})", until(before_ms, change.now_ms)));
    change.end_remembered();
    change.mail("unblocked", &[("reason", &reason)]).await?;
    change.finish().await
}

fn until(until_ms: i64, now_ms: i64) -> String {
    match is_blocked(until_ms, now_ms) {
        true => format!("blocked until {}", until_text(until_ms)),
        false => "not blocked".into(),
    }
}

/// The second factor is not asked of this user (FV-42).
pub async fn exempt_user(store: &Store, request: ExemptUserRequest) -> Result<UserDetail, StoreError> {
    let ends = request.clients.is_empty();
    let reason = if ends { crate::audit::printable(&request.reason, 256) } else { reason(&request.reason)? };
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    if request.until_unix_ms != 0 && request.until_unix_ms <= change.now_ms {
        return Err(Status::invalid_argument("until: is over already").into());
    }
    let rules = store.rules().current(&mut change.session).await?;
    let clients: BTreeSet<&str> = request.clients.iter().map(String::as_str).collect();
    if let Some(unknown) = clients.iter().find(|name| **name != ALL && **name != PORTAL && rules.client(name).is_none())
    {
        return Err(Status::invalid_argument(format!("clients: {unknown:?} is no client of the settings")).into());
    }
    let clients = match clients.contains(ALL) {
        true => ALL.to_owned(),
        false => clients.into_iter().collect::<Vec<_>>().join(","),
    };
    let until_ms = if ends { 0 } else { request.until_unix_ms };
    let line = exempt(&mut change.session, &change.user_id, &change.row, (&clients, until_ms), &reason).await?;
    change.note("user.exempt", format!("{line} ({reason})"));
    change.finish().await
}

/// Writes an exemption, its clients and its end, over the one in `row`, and returns it in words, old -> new.
pub(super) async fn exempt(
    session: &mut Session,
    user_id: &str,
    row: &Row,
    (clients, until_ms): (&str, i64),
    reason: &str,
) -> Result<String, StoreError> {
    let said = |clients: &str, until_ms: i64| match (clients, until_ms) {
        ("", _) => "not exempt".to_owned(),
        (clients, 0) => format!("exempt at {clients}"),
        (clients, until_ms) => format!("exempt at {clients} until {}", until_text(until_ms)),
    };
    let before = said(&row.get::<String>("exempt_clients")?, row.get("exempt_until_ms")?);
    let sql = "UPDATE users SET exempt_clients = $1, exempt_until_ms = $2, exempt_text = $3 WHERE user_id = $4";
    session.execute(sql, args![clients, until_ms, reason, user_id]).await?;
    Ok(format!("{before} -> {}", said(clients, until_ms)))
}

pub async fn edit_user(store: &Store, request: EditUserRequest) -> Result<UserDetail, StoreError> {
    let (user_id, actor, revision) = (request.user_id.clone(), request.actor.clone(), request.expected_revision);
    let edit = Edit::try_from(request).map_err(Status::invalid_argument)?;
    let mut change = Change::begin(store, &user_id, &actor).await?;
    change.must_be_at(revision)?;
    edit::apply(&mut change, &edit).await?;
    change.finish().await
}
