//! Accounts that end in their directory (FD-42, FS-26). No directory tells of it when it happens: nothing in the entry changes. So a
//! read keeps when, and the store goes by that: a login is refused from the very moment, and the state follows within a minute,
//! whether the directory can be reached or not. A date that moves is a change, and enables again like any other.

use crate::Store;
use crate::audit;
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use crate::users::StateChange;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);
/// Users of one transaction: logins wait for it.
const AT_ONCE: u32 = 200;
/// What the state of such a user says.
pub const TEXT: &str = "the account has expired in the directory";

/// Is an account over? `expires_ms` 0 = it does not end.
pub fn is_over(expires_ms: i64, now_ms: i64) -> bool {
    expires_ms > 0 && expires_ms <= now_ms
}

pub async fn run(store: Store) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = disable(&store).await {
            tracing::warn!(error = %chain(&error), "users whose account has expired could not be disabled, it is tried again");
        }
    }
}

/// Disables everybody whose account is over. Done by every node; doing it twice changes nothing.
pub async fn disable(store: &Store) -> Result<(), StoreError> {
    // As the index has it: whoever was disabled is not looked at again.
    const OVER: &str = "SELECT user_id, username, state, state_by FROM users WHERE account_expires_ms > 0 \
                        AND account_expires_ms <= $1 AND state = 'enabled' ORDER BY account_expires_ms LIMIT $2";
    let now_ms = store.clock().now_ms();
    loop {
        if store.database().read().await?.rows(OVER, args![now_ms, 1_i64]).await?.is_empty() {
            return Ok(());
        }
        let mut session = store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let (mut events, mut changed) = (Vec::new(), Vec::new());
        for row in session.rows(OVER, args![now_ms, AT_ONCE]).await? {
            let (user_id, username): (String, String) = (row.get("user_id")?, row.get("username")?);
            let change = StateChange {
                user_id: &user_id,
                username: &username,
                from: &row.get::<String>("state")?,
                from_by: &row.get::<String>("state_by")?,
                to: "disabled",
                by: "directory",
                text: TEXT,
            };
            events.extend(change.write(&mut session, now_ms).await?);
            changed.push(user_id);
        }
        audit::append(&mut session, head, events).await?;
        session.commit().await?;
        changed.iter().for_each(|user_id| store.teller().user_changed(user_id));
    }
}
