//! What changed objects made doubtful and is to be read again. It stays listed until a batch settles it, over runs and leaders.

use super::forest;
use super::look;
use super::members::{Form, form};
use super::page;
use super::rows;
use super::run::Run;
use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Arg, Session, args};
use domain::settings::Settings;
use proto::user_store::{ListPendingReply, ListPendingRequest, Pending, pending::What};
use std::collections::{BTreeMap, BTreeSet};

pub async fn list(store: &Store, request: ListPendingRequest) -> Result<ListPendingReply, StoreError> {
    let mut session = store.database().read().await?;
    look(&mut session, request.epoch).await?;
    let sql = format!(
        "SELECT pending_id, kind, value FROM sync_pending WHERE directory = $1 AND {DOUBTFUL} ORDER BY value, kind LIMIT $2"
    );
    let mut pending = Vec::new();
    for row in session.rows_of(sql, args![&request.directory, page(request.limit)]).await? {
        let value: String = row.get("value")?;
        let what = match row.get::<String>("kind")?.as_str() {
            "object_id" => What::ObjectId(value),
            "below" => What::Below(value),
            "sid" => What::Sid(value),
            _ => What::DistinguishedName(value),
        };
        pending.push(Pending { pending_id: row.get("pending_id")?, what: Some(what) });
    }
    Ok(ListPendingReply { pending })
}

/// Is there anything?
pub async fn any(session: &mut Session, directory: &str) -> Result<bool, StoreError> {
    let sql = format!("SELECT pending_id FROM sync_pending WHERE directory = $1 AND {DOUBTFUL} LIMIT 1");
    Ok(!session.rows_of(sql, args![directory]).await?.is_empty())
}

/// Before the name that an object waits for. Not doubtful as long as somebody else has it (FS-14).
pub const OF_NAME: &str = "name:";
const DOUBTFUL: &str = "kind NOT LIKE 'name:%'";

/// Notes who would have which name if nobody else did.
pub async fn wait_for_names(
    session: &mut Session,
    run: &Run,
    waiting: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let kinds: Vec<(String, &str)> =
        waiting.iter().map(|(object_id, key)| (format!("{OF_NAME}{key}"), object_id.as_str())).collect();
    write(session, run, kinds.iter().map(|(kind, object_id)| (kind.as_str(), *object_id)).collect()).await
}

/// Lists for reading whoever waits alone for a name that nobody has any longer.
pub async fn names_became_free(session: &mut Session, directory: &str, settings: &Settings) -> Result<(), StoreError> {
    let sql = "SELECT kind, value FROM sync_pending WHERE directory = $1 AND kind LIKE 'name:%'";
    let mut waiting: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in session.rows(sql, args![directory]).await? {
        let kind: String = row.get("kind")?;
        let key = kind.strip_prefix(OF_NAME).unwrap_or_default().to_owned();
        waiting.entry(key).or_default().push(row.get("value")?);
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let holders = rows::with_names(session, &[directory], waiting.keys().map(String::as_str)).await?;
    let mut held = forest::names_elsewhere(session, settings, directory, waiting.keys().map(String::as_str)).await?;
    held.extend(holders.into_iter().filter(|it| !it.gives_way(settings)).map(|it| it.username_key));
    for (key, objects) in &waiting {
        let [object_id] = objects.as_slice() else { continue };
        if held.contains(key) {
            continue;
        }
        let sql = "DELETE FROM sync_pending WHERE directory = $1 AND value = $2 AND kind = 'object_id'";
        session.execute(sql, args![directory, object_id]).await?;
        let sql = "UPDATE sync_pending SET kind = 'object_id', pending_id = $1 \
                   WHERE directory = $2 AND value = $3 AND kind = $4";
        let pending_id = uuid::Uuid::now_v7().to_string();
        session.execute(sql, args![pending_id, directory, object_id, format!("{OF_NAME}{key}")]).await?;
    }
    Ok(())
}

/// Who is gone waits for nothing.
pub async fn gone(session: &mut Session, run: &Run, object_ids: &[&str]) -> Result<(), StoreError> {
    let head = "DELETE FROM sync_pending WHERE value IN";
    let tail = "AND directory = $257 AND kind LIKE 'name:%'";
    session.execute_in(head, object_ids.iter().copied(), tail, &[Arg::from(&run.directory)]).await?;
    Ok(())
}

/// Lists objects, each by the form in which it is known. What is listed already gets another id: whoever reads it now cannot
/// settle what came up later.
pub async fn add<'a>(
    session: &mut Session,
    run: &Run,
    keys: impl IntoIterator<Item = &'a str>,
) -> Result<(), StoreError> {
    let kind = |key: &str| match form(key) {
        Form::ObjectId => "object_id",
        Form::Sid => "sid",
        Form::Dn => "dn",
    };
    let rows = keys.into_iter().map(|key| (kind(key), key)).collect();
    write(session, run, rows).await
}

/// Lists everything below these containers.
pub async fn add_below(session: &mut Session, run: &Run, names: &[String]) -> Result<(), StoreError> {
    write(session, run, names.iter().map(|name| ("below", name.as_str())).collect()).await
}

async fn write(session: &mut Session, run: &Run, rows: BTreeSet<(&str, &str)>) -> Result<(), StoreError> {
    let row = |(kind, value)| args![uuid::Uuid::now_v7().to_string(), &run.directory, kind, value, &run.run_id];
    let head = "INSERT INTO sync_pending (pending_id, directory, kind, value, run_id)";
    let tail = "ON CONFLICT (directory, value, kind) DO UPDATE SET pending_id = excluded.pending_id, \
                run_id = excluded.run_id";
    session.bulk(head, rows.into_iter().map(row).collect(), tail).await?;
    Ok(())
}

/// What was read again is listed no longer.
pub async fn settle(session: &mut Session, settled: &[String]) -> Result<(), StoreError> {
    let head = "DELETE FROM sync_pending WHERE pending_id IN";
    session.execute_in(head, settled.iter().map(String::as_str), "", &[]).await?;
    Ok(())
}

/// Users that were just read need not be read again on account of what the store knew before.
pub async fn read<'a>(
    session: &mut Session,
    run: &Run,
    keys: impl IntoIterator<Item = &'a str>,
) -> Result<(), StoreError> {
    let sql = "SELECT pending_id FROM sync_pending WHERE directory = $1 LIMIT 1";
    if session.row(sql, args![&run.directory]).await?.is_none() {
        return Ok(());
    }
    let head = "DELETE FROM sync_pending WHERE value IN";
    let tail = "AND directory = $257 AND kind <> 'below'";
    session.execute_in(head, keys, tail, &[Arg::from(&run.directory)]).await?;
    Ok(())
}

/// A complete full run has read everything that was doubtful when it began.
pub async fn clear(session: &mut Session, run: &Run) -> Result<(), StoreError> {
    let sql = "DELETE FROM sync_pending WHERE directory = $1 AND run_id <> $2";
    session.execute(sql, args![&run.directory, &run.run_id]).await?;
    Ok(())
}
