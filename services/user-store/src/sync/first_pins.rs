//! First PINs of new users, random and sent by mail, where their sync item says so (FS-31, FV-21).
//!
//! ```text
//! batch: users, who of them is owed a PIN --later--> taken for a while -> drawn, hashed -> hash, mail, no longer owed
//! ```
//!
//! Hashing is no work for a batch: a hundred thousand would hold logins up for half an hour. So the batch says who is owed one, and
//! every node makes some, one after the other. The PIN is known to nobody but the mail, which stands sealed and is wiped when it
//! went out. A process that ends in between leaves the user owed: a PIN that was drawn and not written never was.

use crate::Store;
use crate::commit::secrets::{NewPin, set_random_pin};
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use domain::settings::{InitialPin, Settings};
use std::collections::HashSet;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(30);
/// Made between two looks at who is owed one.
const TAKEN_MAX: usize = 50;
const LOOKED_AT_MAX: u64 = 1_000;
/// Enough to make as many, also beside many logins.
const TAKEN_MS: i64 = 120_000;
/// Whoever cannot be told is looked at again.
const UNTOLD_MS: i64 = 600_000;

pub async fn run(store: Store) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = give(&store).await {
            tracing::warn!(error = %chain(&error), "first PINs could not be made, it is tried again");
        }
    }
}

/// Makes and sends a PIN for everybody who is owed one and can be told. Whoever is disabled or has no address is owed it further, and
/// looked at again in ten minutes.
pub async fn give(store: &Store) -> Result<(), StoreError> {
    while let Some(taken) = take(store).await? {
        for user_id in &taken {
            let new = NewPin { user_id, actor: "sync", must_change: true, mail: Some("initial_pin"), owed: true };
            match set_random_pin(store, new).await {
                Ok(_) => {}
                // A hand was faster, the user is another now, or hashes wait in a long queue: it is due again by itself.
                Err(StoreError::Overtaken | StoreError::Overloaded | StoreError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Some of those who are owed one, for this node alone; `None` = nobody is due.
async fn take(store: &Store) -> Result<Option<Vec<String>>, StoreError> {
    const DUE: &str =
        "SELECT user_id, sync_item, due_ms FROM pins_owed WHERE due_ms <= $1 ORDER BY due_ms, user_id LIMIT $2";
    let now_ms = store.clock().now_ms();
    let mut session = store.database().read().await?;
    let settings = store.rules().current(&mut session).await?;
    if !settings.pin.danger_mail_initial_pin || session.rows(DUE, args![now_ms, 1_i64]).await?.is_empty() {
        return Ok(None);
    }
    drop(session);
    let mut session = store.database().write().await?;
    let due = session.rows(DUE, args![now_ms, LOOKED_AT_MAX]).await?;
    let owed = due.iter().map(|row| row.get("user_id")).collect::<Result<Vec<String>, _>>()?;
    let head = "SELECT user_id FROM users WHERE user_id IN";
    let told =
        session.rows_in(head, owed.iter().map(String::as_str), "AND state = 'enabled' AND mail <> ''", &[]).await?;
    let told = told.iter().map(|row| row.get("user_id")).collect::<Result<HashSet<String>, _>>()?;
    let mut taken = Vec::new();
    for row in due {
        if taken.len() >= TAKEN_MAX {
            break;
        }
        let (user_id, sync_item): (String, String) = (row.get("user_id")?, row.get("sync_item")?);
        if !gives(&settings, &sync_item) {
            session.execute("DELETE FROM pins_owed WHERE user_id = $1", args![&user_id]).await?;
            continue;
        }
        let can_be_told = told.contains(&user_id);
        let due_ms = now_ms + if can_be_told { TAKEN_MS } else { UNTOLD_MS };
        let sql = "UPDATE pins_owed SET due_ms = $1 WHERE user_id = $2 AND due_ms = $3";
        if session.execute(sql, args![due_ms, &user_id, row.get::<i64>("due_ms")?]).await? == 1 && can_be_told {
            taken.push(user_id);
        }
    }
    session.commit().await?;
    Ok(Some(taken))
}

/// Does the item still say so?
fn gives(settings: &Settings, sync_item: &str) -> bool {
    let item = settings.sync_items.iter().find(|item| item.name.as_str() == sync_item);
    item.is_some_and(|item| item.method.initial_pin == InitialPin::Mailed)
}
