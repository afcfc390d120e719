//! An activation: a code of 128 random bits, shown once, good for minutes, for one device (V-20).

use super::{COLUMNS, DeviceRow, by_serial};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::places;
use crate::rpc::{StoreError, id};
use crate::sql::args;
use crate::users;
use proto::user_store::{FindActivationReply, FindActivationRequest, OpenActivationReply, OpenActivationRequest};
use subtle::ConstantTimeEq;
use tonic::Status;

const TRIES: i64 = 5;
const LIFE_MS_MAX: i64 = 10 * 60_000;
const HASH_OCTETS: usize = 32;
/// Where a caller names no limit.
const DEVICES_DEFAULT: u32 = 3;
const DEVICES_MAX: u32 = 10;

pub async fn open_activation(store: &Store, request: OpenActivationRequest) -> Result<OpenActivationReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    if request.code_hash.len() != HASH_OCTETS {
        return Err(Status::invalid_argument("code_hash: a SHA-256 has 32 octets").into());
    }
    match request.kind.as_str() {
        "web" if request.serial.is_empty() && request.server_key.is_none() => {}
        "pi" if request.server_key.is_some() => id("serial", &request.serial)?,
        _ => {
            return Err(Status::invalid_argument("kind: web has no serial and key of ours, pi has both").into());
        }
    }
    if request.expires_unix_ms <= now_ms {
        return Err(Status::invalid_argument("expires_unix_ms: is over").into());
    }
    let expires_ms = request.expires_unix_ms.min(now_ms.saturating_add(LIFE_MS_MAX));
    let devices_max = if request.devices_max == 0 { DEVICES_DEFAULT } else { request.devices_max.min(DEVICES_MAX) };
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &request.user_id).await?;
    let held =
        "SELECT COUNT(*) AS held FROM devices WHERE user_id = $1 AND kind <> 'passkey' AND state <> 'activation'";
    let held = session.row(held, args![&request.user_id]).await?;
    if held.map_or(Ok(0), |row| row.unsigned("held"))? >= u64::from(devices_max) {
        return Ok(OpenActivationReply::default());
    }
    if by_serial(&mut session, &request.serial).await?.is_some() {
        return Err(Status::already_exists("a device has this serial").into());
    }
    // The newest alone: an older code that was shown somewhere is void.
    let void = "DELETE FROM devices WHERE user_id = $1 AND kind <> 'passkey' AND state = 'activation'";
    session.execute(void, args![&request.user_id]).await?;
    let device_id = uuid::Uuid::new_v4().to_string();
    let owner = places::owned(&request.user_id, &device_id);
    let server_key = request.server_key.as_ref();
    let server_key =
        server_key.map(|key| store.seal().seal_field(places::server_key(&owner), &key.value)).transpose()?;
    let sql = "INSERT INTO devices (device_id, user_id, kind, name, state, public_key, server_key, subscription, serial, passkey, \
               capabilities, code_hash, code_expires_ms, code_tries_left, ceremony, created_ms, last_seen_ms) \
               VALUES ($1, $2, $3, '', 'activation', '', $4, $5, $6, '', '', $7, $8, $9, '', $10, 0)";
    let arguments = args![
        &device_id,
        &request.user_id,
        &request.kind,
        server_key.unwrap_or_default(),
        Vec::new(),
        &request.serial,
        request.code_hash,
        expires_ms,
        TRIES,
        now_ms,
    ];
    session.execute(sql, arguments).await?;
    let detail = format!("{} {device_id}", request.kind);
    let event = NewEvent::administrative(now_ms, "device.activation", &request.actor, detail);
    audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    session.commit().await?;
    Ok(OpenActivationReply { device_id })
}

pub async fn find_activation(store: &Store, request: FindActivationRequest) -> Result<FindActivationReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let nothing = Ok(FindActivationReply::default());
    let mut session = store.database().read().await?;
    let known = match request.serial.is_empty() {
        true => {
            let sql = format!("SELECT {COLUMNS} FROM devices WHERE code_hash = $1 AND code_expires_ms > $2");
            let rows = session.rows_of(sql, args![request.code_hash.as_slice(), now_ms]).await?;
            rows.first().map(super::device).transpose()?
        }
        false => by_serial(&mut session, &request.serial).await?,
    };
    let Some(known) = known else { return nothing };
    if !is_code(&known, &request.code_hash, now_ms) {
        drop(session);
        // Only what names a device by its serial can be guessed at.
        wrong_code(store, &known).await?;
        return nothing;
    }
    let may_enter = users::may_enter(&mut session, &known.user_id, now_ms).await;
    match may_enter {
        Ok(()) => {}
        Err(StoreError::Refused(_)) => return nothing,
        Err(error) => return Err(error),
    }
    let (user_id, state_json) = (known.user_id.clone(), known.ceremony.clone());
    let redeemed = known.state != "activation";
    let device = Some(known.opened(store.seal())?);
    Ok(FindActivationReply { device, user_id, state_json, redeemed })
}

/// Is this the code of the activation, in time and with tries left? Compared in constant time (V-35).
pub fn is_code(known: &DeviceRow, code_hash: &[u8], now_ms: i64) -> bool {
    let same = bool::from(known.code_hash.ct_eq(code_hash));
    same && code_hash.len() == HASH_OCTETS && known.code_expires_ms > now_ms && known.code_tries_left > 0
}

/// The fifth wrong code voids the activation.
async fn wrong_code(store: &Store, known: &DeviceRow) -> Result<(), StoreError> {
    if known.state != "activation" {
        return Ok(());
    }
    let mut session = store.database().write().await?;
    let sql = "UPDATE devices SET code_tries_left = code_tries_left - 1 WHERE device_id = $1 AND state = 'activation'";
    session.execute(sql, args![&known.device_id]).await?;
    let sql = "DELETE FROM devices WHERE device_id = $1 AND state = 'activation' AND code_tries_left <= 0";
    session.execute(sql, args![&known.device_id]).await?;
    Ok(session.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> DeviceRow {
        DeviceRow {
            device_id: "d".into(),
            user_id: "ann".into(),
            kind: "web".into(),
            name: String::new(),
            state: "activation".into(),
            public_key: String::new(),
            server_key: Vec::new(),
            subscription: Vec::new(),
            serial: String::new(),
            passkey: String::new(),
            capabilities: String::new(),
            code_hash: vec![7; 32],
            code_expires_ms: 1_000,
            code_tries_left: 1,
            ceremony: String::new(),
            last_seen_ms: 0,
        }
    }

    #[test]
    fn a_code_is_right_in_time_with_tries_left_and_no_other_code_is() {
        // V-20
        assert!(is_code(&known(), &[7; 32], 999));
        assert!(!is_code(&known(), &[7; 32], 1_000));
        assert!(!is_code(&known(), &[8; 32], 999));
        assert!(!is_code(&DeviceRow { code_tries_left: 0, ..known() }, &[7; 32], 999));
        assert!(!is_code(&DeviceRow { code_hash: Vec::new(), ..known() }, &[], 999));
    }
}
