//! Passkeys for the portal.

use super::by_id;
use crate::Store;
use crate::audit::{self, NewEvent, printable};
use crate::rpc::{StoreError, id};
use crate::sql::args;
use crate::users;
use domain::Method;
use proto::user_store::{PutPasskeyReply, PutPasskeyRequest};
use tonic::Status;

/// Passkeys a user may have.
const PASSKEYS_MAX: u64 = 20;
/// A ceremony is over after this.
const CEREMONY_MS: i64 = 10 * 60_000;
const CREDENTIAL_OCTETS_MAX: usize = 16 * 1024;

/// A ceremony that begins, or the passkey that came of it.
pub async fn put_passkey(store: &Store, request: PutPasskeyRequest) -> Result<PutPasskeyReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let passkey = request.passkey.ok_or_else(|| Status::invalid_argument("passkey is missing"))?;
    if passkey.credential_json.is_empty() || passkey.credential_json.len() > CREDENTIAL_OCTETS_MAX {
        return Err(Status::invalid_argument("passkey.credential_json: 1 octet to 16 KiB").into());
    }
    let name = printable(&passkey.name, 64);
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &request.user_id).await?;
    let known = match passkey.passkey_id.is_empty() {
        true => None,
        false => {
            id("passkey.passkey_id", &passkey.passkey_id)?;
            by_id(&mut session, &passkey.passkey_id).await?
        }
    };
    if known.as_ref().is_some_and(|it| it.kind != "passkey" || it.user_id != request.user_id) {
        return Err(Status::not_found("the user has no such passkey").into());
    }
    let passkey_id = match passkey.passkey_id.is_empty() {
        true => uuid::Uuid::new_v4().to_string(),
        false => passkey.passkey_id,
    };
    if let Some(known) = known.as_ref().filter(|it| it.state == "active") {
        if request.pending {
            return Err(Status::failed_precondition("the passkey is in force already").into());
        }
        return match known.passkey == passkey.credential_json {
            // Asked again.
            true => Ok(PutPasskeyReply { passkey_id }),
            false => Err(Status::failed_precondition("the passkey is in force already").into()),
        };
    }
    // What is displaced by a newer ceremony, or was taken away since, is nowhere.
    if !request.pending && known.as_ref().is_none_or(|it| it.code_expires_ms <= now_ms) {
        return Err(Status::failed_precondition("the ceremony is over").into());
    }
    let held = "SELECT COUNT(*) AS held FROM devices WHERE user_id = $1 AND kind = 'passkey' AND state = 'active'";
    let held = session.row(held, args![&request.user_id]).await?;
    if held.map_or(Ok(0), |row| row.unsigned("held"))? >= PASSKEYS_MAX {
        return Err(Status::failed_precondition(format!("the user has {PASSKEYS_MAX} passkeys already")).into());
    }
    // One ceremony at a time; what comes of one ends it.
    let over = "DELETE FROM devices WHERE user_id = $1 AND kind = 'passkey' AND state = 'activation'";
    session.execute(over, args![&request.user_id]).await?;
    let (state, credential, ceremony, expires_ms) = match request.pending {
        true => ("activation", String::new(), passkey.credential_json, now_ms.saturating_add(CEREMONY_MS)),
        false => ("active", passkey.credential_json, String::new(), 0),
    };
    let sql = "INSERT INTO devices (device_id, user_id, kind, name, state, public_key, server_key, subscription, serial, passkey, \
               capabilities, code_hash, code_expires_ms, code_tries_left, ceremony, created_ms, last_seen_ms) \
               VALUES ($1, $2, 'passkey', $3, $4, '', $5, $5, '', $6, '', $5, $7, 0, $8, $9, $9)";
    let arguments =
        args![&passkey_id, &request.user_id, &name, state, Vec::new(), credential, expires_ms, ceremony, now_ms];
    session.execute(sql, arguments).await?;
    if !request.pending {
        let detail = format!("passkey {name:?} {passkey_id}");
        let event = NewEvent::administrative(now_ms, "passkey.added", &request.actor, detail);
        super::method_added(&mut session, store, &request.user_id, Method::Passkey, now_ms).await?;
        audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    }
    session.commit().await?;
    store.teller().user_changed(&request.user_id);
    Ok(PutPasskeyReply { passkey_id })
}
