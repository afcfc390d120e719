//! Values of the directory that could not be used, and are as if they were not there (FD-36, FD-38, S-57, S-59): all are counted with the
//! run, the first ones kept with it. What is kept says whose and why, never the value.

use crate::audit::printable;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use proto::user_store::UnusableValue;

/// Kept of one run.
pub const KEPT_MAX: i64 = 100;

/// Notes `count` more of a run, the first ones of which are `values`.
pub async fn note(session: &mut Session, run_id: &str, count: u64, values: &[UnusableValue]) -> Result<(), StoreError> {
    if count == 0 {
        return Ok(());
    }
    let sql = "UPDATE sync_runs SET problems = problems + $1 WHERE run_id = $2";
    session.execute(sql, args![count, run_id]).await?;
    let kept = kept(session, run_id).await?;
    let rows = values.iter().zip(kept + 1..=KEPT_MAX).map(|(it, number)| {
        args![run_id, number, printable(&it.entry, 256), printable(&it.attribute, 128), printable(&it.why, 256)]
    });
    let head = "INSERT INTO sync_unusable (run_id, number, entry, attribute, why)";
    session.bulk(head, rows.collect(), "").await?;
    Ok(())
}

async fn kept(session: &mut Session, run_id: &str) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) AS kept FROM sync_unusable WHERE run_id = $1";
    let row = session.row(sql, args![run_id]).await?.ok_or(StoreError::Broken("a count has no row"))?;
    Ok(row.get("kept")?)
}

/// Those that are kept of a run, in their order.
pub async fn of(session: &mut Session, run_id: &str) -> Result<Vec<UnusableValue>, StoreError> {
    let sql = "SELECT entry, attribute, why FROM sync_unusable WHERE run_id = $1 ORDER BY number";
    let rows = session.rows(sql, args![run_id]).await?;
    let value = |row: &crate::sql::Row| {
        Ok::<_, sqlx::Error>(UnusableValue {
            entry: row.get("entry")?,
            attribute: row.get("attribute")?,
            why: row.get("why")?,
        })
    };
    Ok(rows.iter().map(value).collect::<Result<_, _>>()?)
}

/// What a run has kept goes behind what another one has, as far as there is room.
pub async fn fold(session: &mut Session, run_id: &str, into: &str) -> Result<(), StoreError> {
    let kept = kept(session, into).await?;
    let sql = "UPDATE sync_unusable SET run_id = $1, number = number + $2 WHERE run_id = $3 AND number <= $4";
    session.execute(sql, args![into, kept, run_id, KEPT_MAX - kept]).await?;
    Ok(())
}
