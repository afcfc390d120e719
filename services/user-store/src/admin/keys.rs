//! Data keys: which there are, and a new one (V-30).

use super::actor;
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::seal::{NOTICE_MS, reseal};
use crate::settings;
use crate::sql::args;
use crate::users::small;
use proto::user_store::{KeyStatusReply, KeyStatusRequest, KeySummary, RotateKeysRequest};
use tonic::Status;

/// Each key that is left has fields somebody has to look at; more of them help nobody.
const KEYS_MAX: usize = 8;

pub async fn key_status(store: &Store, _: KeyStatusRequest) -> Result<KeyStatusReply, StoreError> {
    let mut session = store.database().read().await?;
    let fields = reseal::fields(&mut session).await?;
    let (current, _, _) = store.seal().current();
    let mut keys = Vec::new();
    for row in session.rows("SELECT key_id, created_ms FROM data_keys ORDER BY key_id", args![]).await? {
        let key_id = small(&row, "key_id")?;
        keys.push(KeySummary {
            key_id,
            created_unix_ms: row.get("created_ms")?,
            current: key_id == current,
            fields: fields.get(&key_id).copied().unwrap_or(0),
        });
    }
    Ok(KeyStatusReply { keys })
}

/// A new data key, and a new key in every ring: what the parts seal and sign with is changed along with what the store seals.
pub async fn rotate_keys(store: &Store, request: RotateKeysRequest) -> Result<KeyStatusReply, StoreError> {
    let actor = actor(&request.actor)?;
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write_alone().await?;
    let head = audit::lock(&mut session).await?;
    let rows = session.rows("SELECT key_id, created_ms FROM data_keys ORDER BY key_id", args![]).await?;
    let newest = rows.last().ok_or(StoreError::Broken("there is no data key"))?;
    let (newest, created_ms) = (small(newest, "key_id")?, newest.get::<i64>("created_ms")?);
    if now_ms - created_ms < NOTICE_MS {
        let text = "the newest data key is not in use on every node yet; try again in half a minute";
        return Err(Status::failed_precondition(text).into());
    }
    if rows.len() >= KEYS_MAX {
        let text = format!(
            "there are {KEYS_MAX} data keys already; the old ones still seal fields, see the log for those that do not open"
        );
        return Err(Status::failed_precondition(text).into());
    }
    store.seal().add_key(&mut session, newest + 1, now_ms).await?;
    let rings = settings::rotate_rings(store, &mut session, now_ms).await?;
    let detail = format!("data key {newest} -> {}; key rings: {}", newest + 1, rings.join(", "));
    audit::append(&mut session, head, vec![NewEvent::administrative(now_ms, "keys.rotated", &actor, detail)]).await?;
    session.commit().await?;
    store.seal().refresh(store.database(), now_ms).await?;
    key_status(store, KeyStatusRequest {}).await
}
