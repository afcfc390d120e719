//! Accounting that was kept. Durable before it is acknowledged: a device throws away what was (RFC 2866 section 2). It is no part
//! of the audit.

use crate::Store;
use crate::commit::group::{Answer, Scene, Step};
use crate::rpc::{StoreError, bounded};
use crate::sql::{Arg, Row, args};
use proto::user_store::{AccountingRecord, ListAccountingReply, ListAccountingRequest, RecordAccountingRequest};
use tonic::Status;

const DAY_MS: i64 = 24 * 3_600_000;
/// Rows that go in one transaction.
const BATCH: u64 = 1000;
/// An attribute has 253 octets.
const TEXT_MAX: usize = 253;

/// A record on its way into a group.
#[derive(Clone)]
pub struct NewRecord {
    record: AccountingRecord,
    now_ms: i64,
}

pub async fn record(store: &Store, request: RecordAccountingRequest) -> Result<(), StoreError> {
    let record = request.record.ok_or_else(|| Status::invalid_argument("record is missing"))?;
    if record.digest.len() != 32 {
        return Err(Status::invalid_argument("record.digest: has 32 octets").into());
    }
    if record.client.is_empty() {
        return Err(Status::invalid_argument("record.client is missing").into());
    }
    let new = NewRecord { record, now_ms: store.clock().now_ms() };
    match store.group().step(Step::RecordAccounting(Box::new(new))).await? {
        Answer::AccountingRecorded => Ok(()),
        _ => Err(StoreError::Broken("an answer of another step")),
    }
}

/// The group holds the chain's lock, so nobody else takes the next number meanwhile.
pub async fn write(scene: &mut Scene<'_>, new: &NewRecord) -> Result<(), StoreError> {
    let NewRecord { record, now_ms } = new;
    let text = |text: &str| Arg::from(bounded(text, TEXT_MAX));
    let sql = "INSERT INTO accounting (id, digest, recorded_ms, at_ms, client, status, session_id, username, calling_station, nas, \
               framed_address, session_seconds, input_octets, output_octets, terminate_cause) \
               SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM accounting \
               WHERE TRUE ON CONFLICT (digest) DO NOTHING";
    let arguments = vec![
        Arg::from(record.digest.as_slice()),
        Arg::from(*now_ms),
        Arg::from(record.at_unix_ms.clamp(0, *now_ms)),
        text(&record.client),
        text(&record.status),
        text(&record.session_id),
        text(&record.username),
        text(&record.calling_station),
        text(&record.nas),
        text(&record.framed_address),
        Arg::from(record.session_seconds),
        Arg::from(record.input_octets),
        Arg::from(record.output_octets),
        text(&record.terminate_cause),
    ];
    scene.session.execute(sql, arguments).await?;
    Ok(())
}

pub async fn list(store: &Store, request: ListAccountingRequest) -> Result<ListAccountingReply, StoreError> {
    let limit = match request.limit {
        0 => 100,
        limit => limit.min(1000),
    };
    let mut sql =
        "SELECT id, digest, at_ms, client, status, session_id, username, calling_station, nas, framed_address, \
                   session_seconds, input_octets, output_octets, terminate_cause FROM accounting WHERE id < $1"
            .to_owned();
    let before = if request.before == 0 { u64::MAX } else { request.before };
    let mut arguments = args![before];
    for (column, wanted) in
        [("client", &request.client), ("username", &request.username), ("session_id", &request.session_id)]
    {
        if !wanted.is_empty() {
            arguments.push(Arg::from(bounded(wanted, TEXT_MAX)));
            sql += &format!(" AND {column} = ${}", arguments.len());
        }
    }
    arguments.push(Arg::from(limit + 1));
    sql += &format!(" ORDER BY id DESC LIMIT ${}", arguments.len());
    let mut rows = store.database().read().await?.rows_of(sql, arguments).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = match rows.last().filter(|_| more) {
        Some(last) => last.unsigned("id")?,
        None => 0,
    };
    Ok(ListAccountingReply { records: rows.iter().map(read).collect::<Result<_, _>>()?, next })
}

fn read(row: &Row) -> Result<AccountingRecord, sqlx::Error> {
    Ok(AccountingRecord {
        client: row.get("client")?,
        at_unix_ms: row.get("at_ms")?,
        digest: row.get("digest")?,
        status: row.get("status")?,
        session_id: row.get("session_id")?,
        username: row.get("username")?,
        calling_station: row.get("calling_station")?,
        nas: row.get("nas")?,
        framed_address: row.get("framed_address")?,
        session_seconds: row.unsigned("session_seconds")?,
        input_octets: row.unsigned("input_octets")?,
        output_octets: row.unsigned("output_octets")?,
        terminate_cause: row.get("terminate_cause")?,
    })
}

/// Takes away what is older than the settings keep. By when it was recorded: a device says of its delay what it likes.
pub async fn sweep(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    loop {
        let mut session = store.database().write().await?;
        let days = store.rules().current(&mut session).await?.radius.accounting_days;
        let over_ms = now_ms - i64::from(days) * DAY_MS;
        let sql = "DELETE FROM accounting WHERE id IN (SELECT id FROM accounting WHERE recorded_ms < $1 LIMIT $2)";
        let gone = session.execute(sql, args![over_ms, BATCH]).await?;
        session.commit().await?;
        if gone < BATCH {
            return Ok(());
        }
    }
}
