//! What time takes away: who was removed 30 days ago, sessions and invitations that are over, marks nobody asks for any
//! more. Done by every node, an hour apart; doing it twice changes nothing.

use crate::Store;
use crate::audit;
use crate::erase;
use crate::metrics::Users;
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use crate::throttle::SOURCE_LIFE_MS;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3_600_000;
/// A removed user comes back with their factors within this time (S-45).
const GRACE_MS: i64 = 30 * DAY_MS;
/// A code is valid for minutes; its mark is kept well beyond any clock's error.
const SPEND_LIFE_MS: i64 = DAY_MS;
const RUN_LIFE_MS: i64 = 90 * DAY_MS;
/// Prompts, messages and mails that went out: for reports, and longer than any limit looks back.
const HISTORY_MS: i64 = 90 * DAY_MS;
/// The longest window messages are counted in is a day.
const COUNT_LIFE_MS: i64 = 2 * DAY_MS;
/// Sent codes and activations are over within minutes; a retry may still ask about one.
const MINUTES_MS: i64 = 3_600_000;

pub async fn run(store: Store) {
    loop {
        if let Err(error) = sweep(&store).await {
            tracing::warn!(error = %chain(&error), "housekeeping failed, it is tried again");
        }
        match count(&store).await {
            Ok(users) => store.metrics().users(&users),
            Err(error) => tracing::warn!(error = %chain(&error), "the users could not be counted"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub async fn sweep(store: &Store) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let erased = erase::removed(&mut session, store.seal(), now_ms - GRACE_MS, now_ms).await?;
    session.commit().await?;
    for user_id in &erased {
        store.teller().user_changed(user_id);
    }
    let mut session = store.database().write().await?;
    session.execute("DELETE FROM sessions WHERE expires_ms < $1", args![now_ms]).await?;
    session.execute("DELETE FROM invitations WHERE expires_ms < $1", args![now_ms]).await?;
    session.execute("DELETE FROM sources WHERE last_success_ms < $1", args![now_ms - SOURCE_LIFE_MS]).await?;
    session.execute("DELETE FROM code_spends WHERE spent_ms < $1", args![now_ms - SPEND_LIFE_MS]).await?;
    session.execute("DELETE FROM sync_runs WHERE started_ms < $1", args![now_ms - RUN_LIFE_MS]).await?;
    session.execute("DELETE FROM approvals WHERE expires_ms < $1", args![now_ms - RUN_LIFE_MS]).await?;
    session.commit().await?;
    sweep_factors(store, now_ms).await
}

/// What second factors leave behind. Each statement is short of its own; one that was swept before finds nothing.
async fn sweep_factors(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let mut session = store.database().write().await?;
    // Proofs and prompts are used up under the chain's lock: no Allow is in the middle of one that goes.
    audit::lock(&mut session).await?;
    for (sql, before_ms) in [
        (
            "UPDATE prompts SET outcome = 'expired', answered_ms = expires_ms, revision = revision + 1 \
             WHERE outcome = '' AND expires_ms <= $1",
            now_ms,
        ),
        ("DELETE FROM prompts WHERE begun_ms < $1", now_ms - HISTORY_MS),
        ("DELETE FROM sent_codes WHERE expires_ms < $1", now_ms - MINUTES_MS),
        ("DELETE FROM secret_proofs WHERE expires_ms < $1", now_ms),
        ("DELETE FROM hashed WHERE kind = 'temporary' AND expires_ms < $1", now_ms),
        ("DELETE FROM bypasses WHERE expires_ms < $1", now_ms),
        ("DELETE FROM remembered WHERE idle_until_ms < $1", now_ms),
        ("DELETE FROM devices WHERE state = 'activation' AND code_expires_ms < $1", now_ms - MINUTES_MS),
        ("DELETE FROM message_counts WHERE window_ms < $1", now_ms - COUNT_LIFE_MS),
        ("DELETE FROM messages WHERE at_ms < $1", now_ms - HISTORY_MS),
        ("DELETE FROM seen WHERE expires_ms < $1", now_ms),
        (
            "UPDATE outbox SET state = 'failed', error = 'past its time' WHERE state = 'waiting' AND expires_ms < $1",
            now_ms,
        ),
        ("DELETE FROM outbox WHERE expires_ms < $1", now_ms - HISTORY_MS),
    ] {
        session.execute(sql, args![before_ms]).await?;
    }
    // A mail that was given up holds links that are secrets.
    session.execute("UPDATE outbox SET sealed = $1 WHERE state = 'failed' AND sealed <> $1", args![Vec::new()]).await?;
    Ok(session.commit().await?)
}

pub async fn count(store: &Store) -> Result<Users, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT COUNT(CASE WHEN u.state = 'enabled' AND f.factors > 0 THEN 1 END) AS enrolled, \
               COUNT(CASE WHEN u.state = 'enabled' AND f.factors IS NULL THEN 1 END) AS not_enrolled, \
               COUNT(CASE WHEN u.state = 'disabled' OR u.blocked_until_ms < 0 OR u.blocked_until_ms > $1 THEN 1 END) AS blocked, \
               COUNT(CASE WHEN u.state = 'enabled' AND EXISTS (SELECT 1 FROM bypasses b WHERE b.user_id = u.user_id \
               AND b.expires_ms > $1) THEN 1 END) AS bypass, \
               COUNT(CASE WHEN u.state = 'enabled' AND f.open_ms > $1 THEN 1 END) AS locked FROM users u \
               LEFT JOIN (SELECT user_id, COUNT(*) AS factors, MAX(open_ms) AS open_ms FROM factors \
               WHERE NOT pending GROUP BY user_id) f ON f.user_id = u.user_id";
    let row = session.row(sql, args![store.clock().now_ms()]).await?;
    let row = row.ok_or(StoreError::Broken("a count has no row"))?;
    Ok(Users {
        enrolled: row.unsigned("enrolled")?,
        not_enrolled: row.unsigned("not_enrolled")?,
        locked: row.unsigned("locked")?,
        blocked: row.unsigned("blocked")?,
        bypass: row.unsigned("bypass")?,
    })
}
