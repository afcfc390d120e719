//! What time takes away: who was removed 30 days ago, sessions and invitations that are over, marks nobody asks for any
//! more. Done by every node, an hour apart; doing it twice changes nothing.

use crate::Store;
use crate::metrics::Users;
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use crate::throttle::SOURCE_LIFE_MS;
use crate::users;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3_600_000;
/// A removed user comes back with their factors within this time (S-45).
const GRACE_MS: i64 = 30 * DAY_MS;
/// A code is valid for minutes; its mark is kept well beyond any clock's error.
const SPEND_LIFE_MS: i64 = DAY_MS;
const RUN_LIFE_MS: i64 = 90 * DAY_MS;

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
    let erased = users::erase_removed(&mut session, now_ms - GRACE_MS, now_ms).await?;
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
    Ok(())
}

pub async fn count(store: &Store) -> Result<Users, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT COUNT(CASE WHEN u.state = 'enabled' AND f.factors > 0 THEN 1 END) AS enrolled, \
               COUNT(CASE WHEN u.state = 'enabled' AND f.factors IS NULL THEN 1 END) AS not_enrolled, \
               COUNT(CASE WHEN u.state = 'disabled' THEN 1 END) AS blocked, \
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
    })
}
