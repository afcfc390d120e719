//! The walk along the chain, and the checkpoints it has to pass (V-60).

use super::{BEGINNING, COLUMNS, checkpoint, event, link};
use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Database, args};
use crate::users::time_text;
use proto::user_store::AuditCheckpoint;
use std::collections::BTreeMap;

/// Events, or checkpoints, read at once.
const PAGE: u32 = 1000;

/// What a walk along the chain found.
pub struct Verified {
    /// Records that are in order.
    pub good: u64,
    /// The sequence of the first one that is not; 0 = none.
    pub first_bad: u64,
    pub text: String,
    /// Checkpoints the chain agrees with, those that were given along with those of the store.
    pub checkpoints: u64,
    /// The last of them.
    pub last: Option<AuditCheckpoint>,
}

/// A record that should be another, or should be there.
struct Bad {
    sequence: i64,
    text: String,
}

impl Bad {
    fn at(sequence: i64, text: impl Into<String>) -> Self {
        Self { sequence, text: text.into() }
    }
}

/// Walks the whole chain: order, gaps, every record's hash, that its end is where it should be, and that it is the chain that was
/// signed. `given` are checkpoints that somebody kept elsewhere.
pub async fn verify(store: &Store, given: Vec<AuditCheckpoint>) -> Result<Verified, StoreError> {
    // Before the end is read: none of them is later than it.
    let walked = match signed(store, given).await? {
        Err(bad) => Err(bad),
        Ok(checkpoints) => walk(store.database(), &checkpoints).await?.map(|end| (end, checkpoints)),
    };
    Ok(match walked {
        Ok((end, checkpoints)) => Verified {
            good: u64::try_from(end).unwrap_or(0),
            first_bad: 0,
            text: format!("{end} records, whole"),
            checkpoints: checkpoints.len() as u64,
            last: checkpoints.into_iter().max_by_key(|it| it.sequence),
        },
        Err(Bad { sequence, text }) => {
            let first_bad = u64::try_from(sequence).unwrap_or(0).max(1);
            Verified { good: first_bad - 1, first_bad, text, checkpoints: 0, last: None }
        }
    })
}

/// All checkpoints, those of the store and those that were given, if this store signed each of them as it stands.
async fn signed(store: &Store, given: Vec<AuditCheckpoint>) -> Result<Result<Vec<AuditCheckpoint>, Bad>, StoreError> {
    let mut checkpoints = Vec::new();
    let mut after = 0;
    loop {
        let page = checkpoint::list(store, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        match checked(store, page, "of the store").await? {
            Ok(page) => checkpoints.extend(page),
            Err(bad) => return Ok(Err(bad)),
        }
    }
    Ok(checked(store, given, "that was given").await?.map(|given| {
        checkpoints.extend(given);
        checkpoints
    }))
}

/// Signatures are work of their own: done beside the runtime.
async fn checked(
    store: &Store,
    checkpoints: Vec<AuditCheckpoint>,
    whose: &'static str,
) -> Result<Result<Vec<AuditCheckpoint>, Bad>, StoreError> {
    let store = store.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let bad = checkpoints.iter().find(|it| !store.signer().is_ours(it)).map(|it| forged(it, whose));
        bad.map_or(Ok(checkpoints), Err)
    });
    checked.await.map_err(|_| StoreError::Broken("the signatures could not be checked"))
}

fn forged(checkpoint: &AuditCheckpoint, whose: &str) -> Bad {
    let text = format!(
        "the checkpoint {whose} for record {}, {}, was not signed with this store's key, or was altered",
        checkpoint.sequence,
        time_text(checkpoint.at_unix_ms)
    );
    Bad::at(i64::try_from(checkpoint.sequence).unwrap_or(i64::MAX), text)
}

/// The sequence of the last record, if all of them are as they were written.
async fn walk(database: &Database, checkpoints: &[AuditCheckpoint]) -> Result<Result<i64, Bad>, sqlx::Error> {
    let mut signed: BTreeMap<u64, Vec<&AuditCheckpoint>> = BTreeMap::new();
    for checkpoint in checkpoints {
        signed.entry(checkpoint.sequence).or_default().push(checkpoint);
    }
    let mut session = database.read().await?;
    // The end as it was before the walk: what is appended meanwhile is not missed, only not looked at.
    let sql = "SELECT h.sequence AS sequence, h.hash AS hash, (SELECT COALESCE(MIN(a.sequence), 1) FROM audit a) AS first, \
               (SELECT COALESCE(MAX(a.sequence), 0) FROM audit a) AS newest FROM audit_head h WHERE h.id = 1";
    let end = session.row(sql, args![]).await?.ok_or(sqlx::Error::RowNotFound)?;
    let (end_sequence, end_hash): (i64, Vec<u8>) = (end.get("sequence")?, end.get("hash")?);
    let (first, newest): (i64, i64) = (end.get("first")?, end.get("newest")?);
    let (mut sequence, mut hash, mut agreed) = (0_i64, BEGINNING.to_vec(), 0_u64);
    while sequence < end_sequence {
        let sql =
            format!("SELECT {COLUMNS} FROM audit WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT $3");
        let page = session.rows_of(sql, args![sequence, end_sequence, PAGE]).await?;
        if page.is_empty() {
            let text = format!("the chain ends at {sequence}; its last record is {end_sequence}");
            return Ok(Err(Bad::at(sequence + 1, text)));
        }
        for row in &page {
            let found: i64 = row.get("sequence")?;
            if found != sequence + 1 {
                return Ok(Err(Bad::at(sequence + 1, format!("record {} is missing", sequence + 1))));
            }
            let expected = link(&hash, found, &event(row)?, row.get("final")?, &row.get::<Vec<u8>>("request")?);
            if row.get::<Vec<u8>>("hash")? != expected {
                return Ok(Err(Bad::at(found, format!("record {found} was altered, or the one before it"))));
            }
            (sequence, hash) = (found, expected);
            let of_record = u64::try_from(sequence).unwrap_or(0);
            for checkpoint in signed.get(&of_record).into_iter().flatten() {
                if checkpoint.hash != hash {
                    let at = time_text(checkpoint.at_unix_ms);
                    let text = format!(
                        "records {} to {sequence} are not those that were signed on {at}: the chain was written anew",
                        agreed + 1
                    );
                    return Ok(Err(Bad::at(i64::try_from(agreed + 1).unwrap_or(1), text)));
                }
                agreed = of_record;
            }
        }
    }
    if hash != end_hash {
        return Ok(Err(Bad::at(end_sequence, "the end of the chain was altered")));
    }
    if newest > end_sequence || first < 1 {
        let stray = if first < 1 { first } else { newest };
        let text = format!("record {stray} stands outside the chain, which has the records 1 to {end_sequence}");
        return Ok(Err(Bad::at(end_sequence + 1, text)));
    }
    let beyond = signed.range(u64::try_from(end_sequence).unwrap_or(0) + 1..).next_back();
    if let Some((last, checkpoints)) = beyond {
        let at = checkpoints.first().map_or_else(String::new, |it| time_text(it.at_unix_ms));
        let text = format!(
            "records {} to {last} are missing: the chain ends at {end_sequence}, and {last} was signed on {at}",
            end_sequence + 1
        );
        return Ok(Err(Bad::at(end_sequence + 1, text)));
    }
    Ok(Ok(sequence))
}
