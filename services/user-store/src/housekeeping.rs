//! What time takes away: who was removed 30 days ago, sessions and invitations that are over, marks nobody asks for any
//! more. Done by every node, an hour apart; doing it twice changes nothing.

use crate::Store;
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use crate::throttle::SOURCE_LIFE_MS;
use crate::{metrics, users};
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
        match sweep(&store).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "housekeeping failed, it is tried again"),
        }
        metrics::users(&store).await;
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
