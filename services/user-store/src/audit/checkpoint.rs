//! Checkpoints: where the chain stood at a moment, signed (V-60).
//!
//! The chain alone shows no event that is taken off its end, and none that was written anew together with all that follow.
//! A checkpoint does, and a copy of it outside the store does so even where the store's own are gone too: each is a log line,
//! `audit_checkpoint`, for whoever collects the logs, and `twinlock audit verify --checkpoints` compares. The key stands sealed
//! in the store, so that somebody with the database alone signs nothing.

use super::lock;
use crate::Store;
use crate::places;
use crate::rpc::{StoreError, chain};
use crate::seal::Seal;
use crate::sql::{Row, Session, args};
use data_encoding::HEXLOWER;
use proto::user_store::AuditCheckpoint;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::time::Duration;
use zeroize::Zeroizing;

/// The sealed fact that holds the seed of the key; the parts cannot ask for it (`commit::notes`).
const FACT: &str = "store.audit_checkpoints";
const SEED_OCTETS: usize = 32;
/// So many events, or so much time with at least one, and there is another checkpoint.
const EVENTS: i64 = 10_000;
const PERIOD_MS: i64 = 5 * 60_000;
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A stop waits so long for the last one.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Signs checkpoints and knows its own again.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// The name of this host.
    writer: String,
}

impl Signer {
    /// Makes the key in an empty store; nodes that do so at once end with the same.
    pub async fn open(session: &mut Session, seal: &Seal) -> Result<Self, StoreError> {
        let mut seed = Zeroizing::new([0_u8; SEED_OCTETS]);
        getrandom::fill(&mut *seed).map_err(|_| StoreError::Broken("the system gives no random numbers"))?;
        let sealed = seal.seal_field(places::fact(FACT), &*seed)?;
        let sql = "INSERT INTO sealed_facts (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        session.execute(sql, args![FACT, sealed]).await?;
        let row = session.row("SELECT sealed FROM sealed_facts WHERE name = $1", args![FACT]).await?;
        let row = row.ok_or(StoreError::Broken("the key of the checkpoints is missing"))?;
        let seed = seal.open_field(places::fact(FACT), &row.get::<Vec<u8>>("sealed")?)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose());
        let pair = pair.map_err(|_| StoreError::Broken("the key of the checkpoints"))?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self { pair, writer: crate::audit::printable(host.trim(), 128) })
    }

    fn sign(&self, sequence: i64, hash: Vec<u8>, at_unix_ms: i64) -> AuditCheckpoint {
        let mut checkpoint = AuditCheckpoint {
            writer: self.writer.clone(),
            sequence: u64::try_from(sequence).unwrap_or(0),
            hash,
            at_unix_ms,
            key: self.pair.public_key().as_ref().to_vec(),
            signature: Vec::new(),
        };
        checkpoint.signature = self.pair.sign(&signed(&checkpoint)).as_ref().to_vec();
        checkpoint
    }

    /// Was it signed by this store, as it stands? The key that is written in it is for others to look at, and proves nothing here.
    pub fn is_ours(&self, checkpoint: &AuditCheckpoint) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        key.verify(&signed(checkpoint), &checkpoint.signature).is_ok()
    }
}

/// What a signature covers.
fn signed(checkpoint: &AuditCheckpoint) -> Vec<u8> {
    let mut text = b"twinlock audit checkpoint 1\0".to_vec();
    for field in [checkpoint.writer.as_bytes(), &checkpoint.hash] {
        text.extend((field.len() as u64).to_be_bytes());
        text.extend(field);
    }
    text.extend(checkpoint.sequence.to_be_bytes());
    text.extend(checkpoint.at_unix_ms.to_be_bytes());
    text
}

/// Makes checkpoints for as long as the process lives. Every node does; one that finds a fresh one makes none.
pub async fn run(store: Store) {
    let since_ms = store.clock().now_ms();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = make(&store, Due::InTime { since_ms }).await {
            tracing::warn!(error = %chain(&error), "no checkpoint of the audit could be made, it is tried again");
        }
    }
}

/// The last one of this process: what came since the one before is not left open.
pub async fn last(store: &Store) {
    match tokio::time::timeout(LAST_WAIT, make(store, Due::Now)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(error = %chain(&error), "no last checkpoint of the audit could be made"),
        Err(_) => tracing::warn!("the database does not answer, no last checkpoint of the audit is made"),
    }
}

#[derive(Clone, Copy)]
pub enum Due {
    /// After so many events, or so much time since the last one and since this process began.
    InTime { since_ms: i64 },
    /// If there is anything new at all.
    Now,
}

/// Signs where the chain stands, if that is due.
pub async fn make(store: &Store, due: Due) -> Result<Option<AuditCheckpoint>, StoreError> {
    let now_ms = store.clock().now_ms();
    if !is_due(&mut store.database().read().await?, due, now_ms).await? {
        return Ok(None);
    }
    let mut session = store.database().write().await?;
    let head = lock(&mut session).await?;
    if !is_due(&mut session, due, now_ms).await? {
        return Ok(None);
    }
    let checkpoint = store.signer().sign(head.sequence, head.hash, now_ms);
    let sql = "INSERT INTO audit_checkpoints (sequence, writer, hash, at_ms, signature) VALUES ($1, $2, $3, $4, $5)";
    let AuditCheckpoint { writer, hash, signature, key, .. } = &checkpoint;
    session.execute(sql, args![head.sequence, writer, hash.as_slice(), now_ms, signature.as_slice()]).await?;
    session.commit().await?;
    // Durable first: a line that went out is never of something that a crash took back.
    tracing::info!(
        event = "audit_checkpoint",
        writer,
        sequence = checkpoint.sequence,
        hash = HEXLOWER.encode(hash),
        at_unix_ms = now_ms,
        key = HEXLOWER.encode(key),
        signature = HEXLOWER.encode(signature),
        "the audit is signed up to this record"
    );
    Ok(Some(checkpoint))
}

async fn is_due(session: &mut Session, due: Due, now_ms: i64) -> Result<bool, StoreError> {
    let sql = "SELECT h.sequence AS sequence, COALESCE((SELECT MAX(c.sequence) FROM audit_checkpoints c), 0) AS before, \
               COALESCE((SELECT MAX(c.at_ms) FROM audit_checkpoints c), 0) AS before_ms FROM audit_head h WHERE h.id = 1";
    let row = session.row(sql, args![]).await?.ok_or(StoreError::Broken("the chain has no end"))?;
    let (sequence, before): (i64, i64) = (row.get("sequence")?, row.get("before")?);
    let before_ms: i64 = row.get("before_ms")?;
    let due = match due {
        Due::Now => true,
        Due::InTime { since_ms } => {
            sequence - before >= EVENTS || now_ms.saturating_sub(before_ms.max(since_ms)) >= PERIOD_MS
        }
    };
    Ok(due && sequence > before)
}

/// Checkpoints after a sequence, in rising order.
pub async fn list(store: &Store, after: u64, limit: u32) -> Result<Vec<AuditCheckpoint>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM audit_checkpoints WHERE sequence > $1 ORDER BY sequence LIMIT $2");
    let rows = store.database().read().await?.rows_of(sql, args![after, limit]).await?;
    Ok(rows.iter().map(|row| checkpoint(row, store.signer())).collect::<Result<_, _>>()?)
}

const COLUMNS: &str = "sequence, writer, hash, at_ms, signature";

fn checkpoint(row: &Row, signer: &Signer) -> Result<AuditCheckpoint, sqlx::Error> {
    Ok(AuditCheckpoint {
        writer: row.get("writer")?,
        sequence: row.unsigned("sequence")?,
        hash: row.get("hash")?,
        at_unix_ms: row.get("at_ms")?,
        key: signer.pair.public_key().as_ref().to_vec(),
        signature: row.get("signature")?,
    })
}
