//! Users made by hand, who are of no directory until an entry turns out to be theirs (FS-17).
//!
//! They stand with an empty directory, so that no run of any takes them for its own or for gone. Whose entry is whose goes by the name,
//! once: from then on they are known by the id of the entry, as everybody else.

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use crate::users::name_key;

/// The directory of those who have none.
pub const NOWHERE: &str = "";

/// In the place of an entry's id; no entry has one like it.
pub fn object_id(user_id: &str) -> String {
    format!("hand:{user_id}")
}

/// A login was resolved to this entry, which is nobody's here. True: it is somebody's now.
pub async fn found_at_login(
    store: &Store,
    directory: &str,
    object_id: &str,
    username: &str,
) -> Result<bool, StoreError> {
    let key = name_key(username);
    let mut session = store.database().read().await?;
    let sql = "SELECT user_id FROM users WHERE username_key = $1 AND directory || '' = $2 AND state <> 'removed'";
    if key.is_empty() || session.row(sql, args![&key, NOWHERE]).await?.is_none() {
        return Ok(false);
    }
    drop(session);
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let sql = "SELECT user_id, username FROM users WHERE username_key = $1 AND directory || '' = $2 AND state <> 'removed' \
               AND NOT EXISTS (SELECT 1 FROM users o WHERE o.directory = $3 AND o.object_id = $4)";
    let rows = session.rows(sql, args![&key, NOWHERE, directory, object_id]).await?;
    let [row] = rows.as_slice() else { return Ok(false) };
    let (user_id, username): (String, String) = (row.get("user_id")?, row.get("username")?);
    take_over(&mut session, &user_id, directory, object_id, now_ms).await?;
    let event = linked("login", directory, object_id, now_ms).about(&user_id, &username);
    audit::append(&mut session, head, vec![event]).await?;
    session.commit().await?;
    store.teller().user_changed(&user_id);
    Ok(true)
}

/// From here on the user is this entry's. The caller holds the chain's lock.
pub async fn take_over(
    session: &mut Session,
    user_id: &str,
    directory: &str,
    object_id: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE users SET directory = $1, object_id = $2, revision = revision + 1, changed_ms = $3 \
               WHERE user_id = $4 AND directory || '' = $5";
    session.execute(sql, args![directory, object_id, now_ms, user_id, NOWHERE]).await?;
    Ok(())
}

pub fn linked(by: &str, directory: &str, object_id: &str, now_ms: i64) -> NewEvent {
    let detail = format!("made by hand -> {object_id} of {directory}");
    NewEvent::administrative(now_ms, "user.linked", by, detail)
}
