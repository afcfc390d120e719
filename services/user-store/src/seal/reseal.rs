//! Data keys in use: which field is sealed by which key, sealing anew what an old key sealed, and taking away a key that seals
//! nothing any more (V-30).
//!
//! ```text
//! rotate: new key --30 s: every node has read it--> it seals --background--> old fields sealed anew --60 s, none left--> old key gone
//! ```
//!
//! Each field is changed by compare-and-swap on its old value, some dozens in a transaction that holds the chain's lock, so that
//! it waits in the same queue as logins and deadlocks with none. A field that does not open is left for an operator, and keeps
//! its key.

use super::{CANARY_PLACE, KeysStale, NOTICE_MS, Place, Seal, prefix};
use crate::audit::{self, NewEvent};
use crate::radius::rotation;
use crate::rpc::{StoreError, chain};
use crate::sql::{Arg, Row, Session, args};
use crate::{Store, places, portal_data, settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the keys are read again: three times within the notice of a new one.
const EVERY: Duration = Duration::from_millis(NOTICE_MS.unsigned_abs() / 3);
/// Fields sealed anew in one transaction.
const BATCH: i64 = 50;
/// A key that seals nothing goes when transactions that still used it are over for sure.
const SETTLE_MS: i64 = 60_000;

/// A column of sealed fields.
struct Column {
    table: &'static str,
    sealed: &'static str,
    /// What names a row, unique and ordered.
    key: &'static str,
    owner: Owner,
    place: fn(&str) -> Place<'_>,
}

/// How the owner of a field is found in its row.
enum Owner {
    /// The key itself.
    Key,
    /// The key is octets; the owner is their hexadecimal form.
    HexKey,
    /// The user, and the key.
    UserAndKey,
}

/// Every sealed column of the store.
const COLUMNS: [Column; 11] = [
    Column { table: "canary", sealed: "sealed", key: "CAST(id AS TEXT)", owner: Owner::Key, place: |_| CANARY_PLACE },
    Column {
        table: "key_rings",
        sealed: "sealed",
        key: "purpose || '/' || key_id",
        owner: Owner::Key,
        place: settings::ring_place,
    },
    Column { table: "secrets", sealed: "sealed", key: "name", owner: Owner::Key, place: settings::secret_place },
    Column {
        table: "previous_secrets",
        sealed: "sealed",
        key: "client",
        owner: Owner::Key,
        place: rotation::previous_place,
    },
    Column { table: "factors", sealed: "seed", key: "factor_id", owner: Owner::UserAndKey, place: places::seed },
    Column {
        table: "devices",
        sealed: "server_key",
        key: "device_id",
        owner: Owner::UserAndKey,
        place: places::server_key,
    },
    Column {
        table: "devices",
        sealed: "subscription",
        key: "device_id",
        owner: Owner::UserAndKey,
        place: places::subscription,
    },
    Column {
        table: "sent_codes",
        sealed: "number",
        key: "transaction_id",
        owner: Owner::UserAndKey,
        place: places::number,
    },
    Column { table: "sealed_facts", sealed: "sealed", key: "name", owner: Owner::Key, place: places::fact },
    Column { table: "outbox", sealed: "sealed", key: "mail_id", owner: Owner::Key, place: places::mail },
    Column {
        table: "sessions",
        sealed: "sealed",
        key: "id_hash",
        owner: Owner::HexKey,
        place: portal_data::session_place,
    },
];

impl Column {
    /// The row's key, and who owns its field.
    fn of(&self, row: &Row) -> Result<(Arg<'static>, String), sqlx::Error> {
        if matches!(self.owner, Owner::HexKey) {
            let key: Vec<u8> = row.get("row_key")?;
            let owner = data_encoding::HEXLOWER.encode(&key);
            return Ok((Arg::from(key), owner));
        }
        let key: String = row.get("row_key")?;
        let owner = match self.owner {
            Owner::UserAndKey => places::owned(&row.get::<String>("user_id")?, &key),
            Owner::Key | Owner::HexKey => key.clone(),
        };
        Ok((Arg::from(key), owner))
    }

    fn first(&self) -> Arg<'static> {
        if matches!(self.owner, Owner::HexKey) { Arg::from(Vec::new()) } else { Arg::from("") }
    }

    /// Fields after this key that another data key sealed.
    fn query(&self) -> String {
        let Self { table, sealed, key, owner, .. } = self;
        let user = if matches!(owner, Owner::UserAndKey) { ", user_id" } else { "" };
        format!(
            "SELECT {key} AS row_key, {sealed} AS sealed{user} FROM {table} WHERE length({sealed}) > 0 \
             AND substr({sealed}, 1, 5) <> $1 AND {key} > $2 ORDER BY {key} LIMIT $3"
        )
    }
}

/// Looks after the keys for as long as the store is open. They are read again beside what a rotation has to do, however long that
/// takes: a node that has not read them in time seals nothing.
pub async fn run(store: Store) {
    tokio::join!(keep_reading(&store), keep_rotating(&store));
}

async fn keep_reading(store: &Store) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = store.seal().reading_wanted() => {}
        }
        if let Err(error) = read(store).await {
            tracing::warn!(error = %chain(&error), "the data keys could not be read again, it is tried again");
        }
    }
}

async fn keep_rotating(store: &Store) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = rotate(store).await {
            tracing::warn!(error = %chain(&error), "a rotation of the data keys could not go on, it is tried again");
        }
    }
}

/// Reads the keys again, and goes on with what a rotation has begun.
pub async fn tend(store: &Store) -> Result<(), StoreError> {
    read(store).await?;
    rotate(store).await
}

async fn read(store: &Store) -> Result<(), StoreError> {
    store.seal().refresh(store.database(), store.clock().now_ms()).await
}

async fn rotate(store: &Store) -> Result<(), StoreError> {
    let (_, _, keys) = store.seal().current();
    if keys < 2 {
        return Ok(());
    }
    for column in &COLUMNS {
        seal_anew(store, column).await?;
    }
    remove_unused(store).await
}

async fn seal_anew(store: &Store, column: &Column) -> Result<(), StoreError> {
    let mut after = column.first();
    loop {
        let (current, _, _) = store.seal().current();
        let mut session = store.database().read().await?;
        let arguments = args![prefix(current).to_vec()];
        let arguments = arguments.into_iter().chain([after, Arg::from(BATCH)]).collect();
        let rows = session.rows_of(column.query(), arguments).await?;
        drop(session);
        let Some(last) = rows.last() else { return Ok(()) };
        after = column.of(last)?.0;
        let mut anew = Vec::new();
        for row in &rows {
            let (key, owner) = column.of(row)?;
            let old: Vec<u8> = row.get("sealed")?;
            match sealed_anew(store.seal(), (column.place)(&owner), &old)? {
                Some(new) => anew.push((key, old, new)),
                None => tracing::error!(table = column.table, "a sealed field does not open and keeps its data key"),
            }
        }
        if anew.is_empty() {
            continue;
        }
        let mut session = store.database().write().await?;
        audit::lock(&mut session).await?;
        for (key, old, new) in anew {
            let Column { table, sealed, key: name, .. } = column;
            let sql = format!("UPDATE {table} SET {sealed} = $1 WHERE {name} = $2 AND {sealed} = $3");
            // Changed meanwhile: the new value is sealed by the current key already, or found next time.
            session.execute_of(sql, vec![Arg::from(new), key, Arg::from(old)]).await?;
        }
        session.commit().await?;
        tokio::task::yield_now().await;
    }
}

/// `None`: it does not open.
fn sealed_anew(seal: &Seal, place: Place<'_>, old: &[u8]) -> Result<Option<Vec<u8>>, KeysStale> {
    let clear = seal.open_field(place, old).ok();
    clear.map(|clear| seal.seal_field(place, clear.expose())).transpose()
}

/// Takes away keys that are not current any more and seal nothing.
async fn remove_unused(store: &Store) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    let (current, created_ms, _) = store.seal().current();
    if now_ms - created_ms < NOTICE_MS + SETTLE_MS {
        return Ok(());
    }
    // Every sealed field is counted, which takes its time: logins wait for it only where a key is about to go.
    if unused(&mut store.database().read().await?, current).await?.is_empty() {
        return Ok(());
    }
    let mut session = store.database().write_alone().await?;
    let head = audit::lock(&mut session).await?;
    let mut events = Vec::new();
    for key_id in unused(&mut session, current).await? {
        session.execute("DELETE FROM data_keys WHERE key_id = $1", args![key_id]).await?;
        let detail = format!("data key {key_id}: it seals nothing any more");
        events.push(NewEvent::administrative(now_ms, "keys.removed", "user-store", detail));
    }
    if events.is_empty() {
        return Ok(());
    }
    audit::append(&mut session, head, events).await?;
    session.commit().await?;
    read(store).await
}

/// Keys before the current one that seal nothing.
async fn unused(session: &mut Session, current: u32) -> Result<Vec<u32>, StoreError> {
    let fields = fields(session).await?;
    let mut unused = Vec::new();
    for row in session.rows("SELECT key_id FROM data_keys WHERE key_id < $1", args![current]).await? {
        let key_id = crate::users::small(&row, "key_id")?;
        if fields.get(&key_id).copied().unwrap_or(0) == 0 {
            unused.push(key_id);
        }
    }
    Ok(unused)
}

/// Fields by the data key that seals them.
pub async fn fields(session: &mut Session) -> Result<BTreeMap<u32, u64>, StoreError> {
    let mut fields = BTreeMap::new();
    for Column { table, sealed, .. } in &COLUMNS {
        let sql = format!(
            "SELECT substr({sealed}, 1, 5) AS prefix, COUNT(*) AS fields FROM {table} WHERE length({sealed}) > 0 \
             GROUP BY substr({sealed}, 1, 5)"
        );
        for row in session.rows_of(sql, args![]).await? {
            let prefix: Vec<u8> = row.get("prefix")?;
            let key_id = prefix.get(1..).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
            *fields.entry(key_id.unwrap_or(0)).or_default() += row.unsigned("fields")?;
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreSection;
    use service_kit::{Clock, Shutdown, bus::InProcess};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_rotation_that_takes_long_keeps_nothing_from_being_sealed() {
        // V-30: rotate under load -> no failed login. Each fifty fields take two seconds.
        let folder = tempfile::tempdir().expect("a folder for the store");
        let url = format!("sqlite:{}", folder.path().join("twinlock.db").display());
        let key = folder.path().join("master.key").display().to_string();
        let section = StoreSection::new(&url, &key).expect("a valid section");
        let clock = Clock::at(0);
        let store = Store::open(&section, Arc::new(InProcess::new()), clock.clone(), &Shutdown::new()).await;
        let store = store.expect("the store opens");
        let (seal, database) = (store.seal(), store.database());
        let mut session = database.write().await.expect("the writer is free");
        let rows = (0..50 * BATCH).map(|number| {
            let id = format!("mail-{number:05}");
            let sealed = seal.seal_field(places::mail(&id), b"content").expect("just read");
            args![id.clone(), id, "locked", "", sealed, 0_i64, 0_i64, 86_400_000_i64, "waiting", ""]
        });
        let rows: Vec<Vec<Arg>> = rows.collect();
        let head =
            "INSERT INTO outbox (mail_id, once_key, kind, user_id, sealed, tries, due_ms, expires_ms, state, error)";
        session.bulk(head, rows, "").await.expect("written");
        seal.add_key(&mut session, 2, 0).await.expect("added");
        session.commit().await.expect("durable");
        clock.advance(NOTICE_MS);
        for seconds in std::iter::once(10).chain([2; 16]) {
            // The rotation waits for the only writer.
            let held = database.write().await.expect("the writer is free");
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            tokio::time::resume();
            seal.seal_field(CANARY_PLACE, b"content").expect("the keys are read all along");
            drop(held);
        }
        let fields = fields(&mut database.read().await.expect("free")).await.expect("counted");
        assert!(fields.contains_key(&1) && fields.contains_key(&2), "it is under way: {fields:?}");
    }
}
