//! What changed objects made doubtful and is to be read again. It stays listed until a batch settles it, over runs and leaders.

use super::look;
use super::members::{Form, form};
use super::page;
use super::run::Run;
use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Arg, Session, args};
use proto::user_store::{ListPendingReply, ListPendingRequest, Pending, pending::What};
use std::collections::BTreeSet;

pub async fn list(store: &Store, request: ListPendingRequest) -> Result<ListPendingReply, StoreError> {
    let mut session = store.database().read().await?;
    look(&mut session, request.epoch).await?;
    let sql = "SELECT pending_id, kind, value FROM sync_pending WHERE directory = $1 ORDER BY value, kind LIMIT $2";
    let mut pending = Vec::new();
    for row in session.rows(sql, args![&request.directory, page(request.limit)]).await? {
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
