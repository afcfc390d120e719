//! Phones that can be asked, and how a phone becomes one (V-20).
//!
//! ```text
//! activation --code, in time--> pending --first approval--> active
//!     (one a user and kind; few tries; minutes)
//! ```
//!
//! Passkeys of the portal stand in the same table: `activation` while their ceremony runs, `active` afterwards. What a device's
//! keys are is never changed: another key is another device.

mod activation;
mod passkeys;

pub use activation::{find_activation, open_activation};
pub use passkeys::put_passkey;

use crate::Store;
use crate::audit::{self, NewEvent, printable};
use crate::outbox::{self, NewMail};
use crate::places;
use crate::rpc::{StoreError, id};
use crate::seal::Seal;
use crate::sql::{Row, Session, args};
use crate::users;
use domain::Method;
use proto::common::Secret;
use proto::user_store::{
    GetDeviceReply, GetDeviceRequest, Passkey, PushDevice, PutDeviceReply, PutDeviceRequest, TouchDeviceReply,
    TouchDeviceRequest,
};
use tonic::Status;

/// That a device was seen is noted this often at most.
const SEEN_NOTED_MS: i64 = 60_000;
const TEXT_OCTETS_MAX: usize = 16 * 1024;

const COLUMNS: &str = "device_id, user_id, kind, name, state, public_key, server_key, subscription, serial, passkey, \
    capabilities, code_hash, code_expires_ms, code_tries_left, ceremony, last_seen_ms";

/// A row, its secrets sealed.
#[derive(Clone)]
pub struct DeviceRow {
    pub device_id: String,
    pub user_id: String,
    /// `web`, `pi`, `passkey`
    pub kind: String,
    pub name: String,
    /// `activation`, `pending`, `active`
    pub state: String,
    pub public_key: String,
    pub server_key: Vec<u8>,
    pub subscription: Vec<u8>,
    pub serial: String,
    pub passkey: String,
    pub capabilities: String,
    pub code_hash: Vec<u8>,
    pub code_expires_ms: i64,
    pub code_tries_left: i64,
    pub ceremony: String,
    pub last_seen_ms: i64,
}

/// Devices and passkeys of these users that may be used: what is still being enrolled is not among them.
pub async fn of_users<'a>(
    session: &mut Session,
    user_ids: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<DeviceRow>, StoreError> {
    let head = format!("SELECT {COLUMNS} FROM devices WHERE user_id IN");
    let tail = "AND state <> 'activation' ORDER BY created_ms, device_id";
    let rows = session.rows_in(&head, user_ids, tail, &[]).await?;
    Ok(rows.iter().map(device).collect::<Result<_, _>>()?)
}

async fn by_id(session: &mut Session, device_id: &str) -> Result<Option<DeviceRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM devices WHERE device_id = $1");
    Ok(read(session, sql, device_id).await?.pop())
}

async fn by_serial(session: &mut Session, serial: &str) -> Result<Option<DeviceRow>, StoreError> {
    if serial.is_empty() {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM devices WHERE serial = $1");
    Ok(read(session, sql, serial).await?.pop())
}

async fn read(session: &mut Session, sql: String, key: &str) -> Result<Vec<DeviceRow>, StoreError> {
    let rows = session.rows_of(sql, args![key]).await?;
    Ok(rows.iter().map(device).collect::<Result<_, _>>()?)
}

fn device(row: &Row) -> Result<DeviceRow, sqlx::Error> {
    Ok(DeviceRow {
        device_id: row.get("device_id")?,
        user_id: row.get("user_id")?,
        kind: row.get("kind")?,
        name: row.get("name")?,
        state: row.get("state")?,
        public_key: row.get("public_key")?,
        server_key: row.get("server_key")?,
        subscription: row.get("subscription")?,
        serial: row.get("serial")?,
        passkey: row.get("passkey")?,
        capabilities: row.get("capabilities")?,
        code_hash: row.get("code_hash")?,
        code_expires_ms: row.get("code_expires_ms")?,
        code_tries_left: row.get("code_tries_left")?,
        ceremony: row.get("ceremony")?,
        last_seen_ms: row.get("last_seen_ms")?,
    })
}

impl DeviceRow {
    /// With its secrets, for those who ask it.
    pub fn opened(self, seal: &Seal) -> Result<PushDevice, StoreError> {
        let owner = places::owned(&self.user_id, &self.device_id);
        let open = |place, field: &[u8]| -> Result<Option<Secret>, StoreError> {
            match field.is_empty() {
                true => Ok(None),
                false => Ok(Some(seal.open_field(place, field)?.into())),
            }
        };
        Ok(PushDevice {
            server_key: open(places::server_key(&owner), &self.server_key)?,
            subscription: open(places::subscription(&owner), &self.subscription)?,
            device_id: self.device_id,
            kind: self.kind,
            name: self.name,
            // While a passkey's ceremony runs, that is what there is of it.
            passkey_json: if self.state == "activation" && self.passkey.is_empty() {
                self.ceremony
            } else {
                self.passkey
            },
            state: self.state,
            public_key: self.public_key,
            serial: self.serial,
            last_seen_unix_ms: self.last_seen_ms,
            capabilities: self.capabilities,
        })
    }

    pub fn passkey(self) -> Passkey {
        Passkey { passkey_id: self.device_id, name: self.name, credential_json: self.passkey }
    }
}

/// The keys of a device whose code was right; or another name, endpoint or passkey of one that is there.
pub async fn put_device(store: &Store, request: PutDeviceRequest) -> Result<PutDeviceReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let device = request.device.ok_or_else(|| Status::invalid_argument("device is missing"))?;
    id("device.device_id", &device.device_id)?;
    let long = [&device.public_key, &device.passkey_json, &device.capabilities, &request.state_json]
        .iter()
        .any(|text| text.len() > TEXT_OCTETS_MAX);
    if long || device.subscription.as_ref().is_some_and(|it| it.value.len() > TEXT_OCTETS_MAX) {
        return Err(Status::invalid_argument("device: a field has more than 16 KiB").into());
    }
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &request.user_id).await?;
    let refused = Ok(PutDeviceReply { done: false });
    let known = by_id(&mut session, &device.device_id).await?.filter(|it| it.user_id == request.user_id);
    let Some(known) = known.filter(|it| it.kind != "passkey") else { return refused };
    let spends = !request.code_hash.is_empty();
    let activates = spends && known.state == "activation";
    match (spends, known.state.as_str()) {
        // V-20: in time, and with the very code.
        (true, "activation") => {
            let right = activation::is_code(&known, &request.code_hash, now_ms);
            if !right || device.public_key.is_empty() {
                return refused;
            }
        }
        // The same request again, its answer lost.
        (true, _)
            if known.public_key == device.public_key && activation::is_code(&known, &request.code_hash, now_ms) => {}
        (true, _) => return refused,
        // Nothing but the ceremony is kept of a device that has no keys yet.
        (false, "activation") => {
            let sql = "UPDATE devices SET ceremony = $1 WHERE device_id = $2 AND state = 'activation' AND code_expires_ms > $3";
            let kept = session.execute(sql, args![&request.state_json, &device.device_id, now_ms]).await? == 1;
            session.commit().await?;
            return Ok(PutDeviceReply { done: kept });
        }
        (false, _) if !device.public_key.is_empty() && device.public_key != known.public_key => return refused,
        (false, _) => {}
    }
    let owner = places::owned(&request.user_id, &device.device_id);
    let or = |new: &str, known: String| if new.is_empty() { known } else { new.to_owned() };
    let subscription = match &device.subscription {
        Some(new) if new.value.is_empty() => Vec::new(),
        Some(new) => store.seal().seal_field(places::subscription(&owner), &new.value)?,
        None => known.subscription,
    };
    let sql = "UPDATE devices SET state = $1, name = $2, public_key = $3, subscription = $4, passkey = $5, capabilities = $6, \
               ceremony = $7, last_seen_ms = $8 WHERE device_id = $9";
    let name = or(&printable(&device.name, 64), known.name);
    let arguments = args![
        if activates { "pending" } else { known.state.as_str() },
        &name,
        or(&device.public_key, known.public_key),
        subscription,
        or(&device.passkey_json, known.passkey),
        or(&device.capabilities, known.capabilities),
        &request.state_json,
        now_ms,
        &device.device_id,
    ];
    session.execute(sql, arguments).await?;
    if activates {
        let detail = format!("{} {name:?} {}, not yet proven", known.kind, device.device_id);
        let event = NewEvent::administrative(now_ms, "device.added", &request.actor, detail);
        audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    }
    session.commit().await?;
    store.teller().user_changed(&request.user_id);
    Ok(PutDeviceReply { done: true })
}

/// It was seen; it approved its first prompt; its endpoint is gone.
pub async fn touch_device(store: &Store, request: TouchDeviceRequest) -> Result<TouchDeviceReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let mut session = store.database().read().await?;
    let known = by_id(&mut session, &request.device_id).await?.filter(|it| it.user_id == request.user_id);
    drop(session);
    let Some(known) = known.filter(|it| it.kind != "passkey" && it.state != "activation") else {
        return Ok(TouchDeviceReply { done: false });
    };
    if request.activate && known.state == "pending" {
        return activate(store, &known, now_ms).await;
    }
    if request.endpoint_gone || now_ms.saturating_sub(known.last_seen_ms) >= SEEN_NOTED_MS {
        let mut session = store.database().write().await?;
        let sql = match request.endpoint_gone {
            true => "UPDATE devices SET subscription = $1 WHERE device_id = $2 AND subscription = $3",
            false => "UPDATE devices SET last_seen_ms = $1 WHERE device_id = $2 AND last_seen_ms < $1",
        };
        let arguments = match request.endpoint_gone {
            // The one that was told about: a new one may have come meanwhile.
            true => args![Vec::new(), &request.device_id, known.subscription],
            false => args![now_ms, &request.device_id],
        };
        session.execute(sql, arguments).await?;
        session.commit().await?;
        store.teller().user_changed(&request.user_id);
    }
    Ok(TouchDeviceReply { done: true })
}

async fn activate(store: &Store, known: &DeviceRow, now_ms: i64) -> Result<TouchDeviceReply, StoreError> {
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &known.user_id).await?;
    let sql = "UPDATE devices SET state = 'active', last_seen_ms = $1 WHERE device_id = $2 AND state = 'pending'";
    if session.execute(sql, args![now_ms, &known.device_id]).await? != 1 {
        return Ok(TouchDeviceReply { done: true });
    }
    let detail = format!("{} {:?} {}", known.kind, known.name, known.device_id);
    let event = NewEvent::administrative(now_ms, "device.activated", "self", detail);
    method_added(&mut session, store, &known.user_id, Method::Push, now_ms).await?;
    audit::append(&mut session, head, vec![event.about(&known.user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&known.user_id);
    Ok(TouchDeviceReply { done: true })
}

/// A method more: remembered logins end (V-52), and the person is told. Beside the first of all nothing stays that was begun with the
/// password alone (V-86).
pub async fn method_added(
    session: &mut Session,
    store: &Store,
    user_id: &str,
    method: Method,
    now_ms: i64,
) -> Result<(), StoreError> {
    session.execute("UPDATE users SET epoch = epoch + 1 WHERE user_id = $1", args![user_id]).await?;
    let sql = "SELECT (SELECT COUNT(*) FROM factors WHERE user_id = $1 AND pending = $2) \
               + (SELECT COUNT(*) FROM devices WHERE user_id = $1 AND state = 'active') AS methods";
    let row = session.row(sql, args![user_id, false]).await?.ok_or(StoreError::Broken("a count has no row"))?;
    if row.get::<i64>("methods")? == 1 {
        session.execute("DELETE FROM devices WHERE user_id = $1 AND state <> 'active'", args![user_id]).await?;
    }
    if let Some(mail) = NewMail::to_user(session, "method_added", user_id).await? {
        outbox::put_in(session, store.seal(), mail.with("method", method.code()), now_ms).await?;
    }
    Ok(())
}

pub async fn get_device(store: &Store, request: GetDeviceRequest) -> Result<GetDeviceReply, StoreError> {
    let mut session = store.database().read().await?;
    let known = match request.device_id.is_empty() {
        false => by_id(&mut session, &request.device_id).await?,
        true => by_serial(&mut session, &request.serial).await?,
    };
    let Some(known) = known else { return Ok(GetDeviceReply::default()) };
    let user_id = known.user_id.clone();
    let sql = "SELECT username, state, blocked_until_ms FROM users WHERE user_id = $1";
    let row = session.row(sql, args![&user_id]).await?;
    let row = row.ok_or(StoreError::Broken("a device without its user"))?;
    let blocked = users::is_blocked(row.get("blocked_until_ms")?, store.clock().now_ms());
    Ok(GetDeviceReply {
        device: Some(known.opened(store.seal())?),
        user_id,
        username: row.get("username")?,
        enabled: row.get::<String>("state")? == "enabled" && !blocked,
    })
}
