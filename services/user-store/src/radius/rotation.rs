//! A new shared secret for a client, and the one before it, which counts until the device has the new one too (FR-04, R-71).

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::seal::Place;
use crate::settings::{apply, current_locked, secret_place, store_secret, write};
use crate::sql::{Session, args};
use crate::users::time_text;
use domain::Secret;
use domain::settings::{ClientProtocol, Settings, Transport};
use proto::user_store::{RotateClientSecretReply, RotateClientSecretRequest};
use std::collections::BTreeMap;
use tonic::Status;

const DAY_MS: i64 = 24 * 3_600_000;
const OVERLAP_DAYS_MAX: u32 = 90;

/// Where a former secret is sealed; the owner is the client's name.
pub fn previous_place(client: &str) -> Place<'_> {
    Place { owner: client, record: "client", field: "previous_secret" }
}

/// What it is called beside the others.
pub fn previous_name(client: &str) -> String {
    format!("client.{client}.previous_secret")
}

/// Makes or replaces the shared secret of one client.
pub async fn rotate(store: &Store, request: RotateClientSecretRequest) -> Result<RotateClientSecretReply, StoreError> {
    if request.overlap_days > OVERLAP_DAYS_MAX {
        let found = request.overlap_days;
        let text = format!("overlap_days: found {found}; allowed are 0 to {OVERLAP_DAYS_MAX}");
        return Err(Status::invalid_argument(text).into());
    }
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let now = current_locked(&mut session).await?;
    let client = now.settings.client(&request.client).filter(|client| client.protocol == ClientProtocol::Radius);
    let client = client.ok_or_else(|| Status::not_found("no RADIUS client has this name"))?;
    if client.transport == Transport::Tls {
        return Err(Status::failed_precondition("this client is known by its certificate and has no secret").into());
    }
    let name = format!("client.{}.secret", request.client);
    let secret = request.secret.map_or_else(apply::generate, Secret::from);
    if let Err(error) = apply::good_shared_secret(&name, &secret) {
        return Err(Status::invalid_argument(error).into());
    }
    let until_ms = match request.overlap_days {
        0 => 0,
        days => now_ms + i64::from(days) * DAY_MS,
    };
    let until_ms = keep_previous(store, &mut session, &request.client, &name, until_ms).await?;
    store_secret(store, &mut session, &name, &secret).await?;
    write(&mut session, &now.settings, now.revision).await?;
    let detail = match until_ms {
        0 => format!("{name}: a new secret"),
        until_ms => format!("{name}: a new secret; the one before counts until {}", time_text(until_ms)),
    };
    let event = NewEvent::administrative(now_ms, "settings.secret", &request.actor, detail);
    audit::append(&mut session, head, vec![event]).await?;
    session.commit().await?;
    store.teller().settings_changed(now.revision + 1);
    Ok(RotateClientSecretReply {
        secret: Some(secret.into()),
        revision: now.revision + 1,
        previous_until_unix_ms: until_ms,
    })
}

/// Puts the stored secret aside until then, in the place of one that was put aside before. 0 = none counts; returns what came of it.
async fn keep_previous(
    store: &Store,
    session: &mut Session,
    client: &str,
    name: &str,
    until_ms: i64,
) -> Result<i64, StoreError> {
    session.execute("DELETE FROM previous_secrets WHERE client = $1", args![client]).await?;
    let row = match until_ms {
        0 => None,
        _ => session.row("SELECT sealed FROM secrets WHERE name = $1", args![name]).await?,
    };
    let Some(row) = row else { return Ok(0) };
    let secret = store.seal().open_field(secret_place(name), &row.get::<Vec<u8>>("sealed")?)?;
    let sealed = store.seal().seal_field(previous_place(client), secret.expose())?;
    let sql = "INSERT INTO previous_secrets (client, sealed, until_ms) VALUES ($1, $2, $3)";
    session.execute(sql, args![client, sealed, until_ms]).await?;
    Ok(until_ms)
}

/// Former secrets by client, open, each with its end.
pub async fn previous_secrets(
    store: &Store,
    session: &mut Session,
) -> Result<BTreeMap<String, (Secret, i64)>, StoreError> {
    let mut secrets = BTreeMap::new();
    for row in session.rows("SELECT client, sealed, until_ms FROM previous_secrets", args![]).await? {
        let client: String = row.get("client")?;
        let secret = store.seal().open_field(previous_place(&client), &row.get::<Vec<u8>>("sealed")?)?;
        secrets.insert(client, (secret, row.get("until_ms")?));
    }
    Ok(secrets)
}

/// A document that brings a client's secret means that one alone: who applies it may be answering a theft.
pub async fn end_with_apply(
    session: &mut Session,
    next: &Settings,
    brought: &BTreeMap<String, Secret>,
) -> Result<(), StoreError> {
    for row in session.rows("SELECT client FROM previous_secrets", args![]).await? {
        let client: String = row.get("client")?;
        let has_secret = next.client(&client).is_some_and(|client| client.secret.is_some());
        if !has_secret || brought.contains_key(&format!("client.{client}.secret")) {
            session.execute("DELETE FROM previous_secrets WHERE client = $1", args![client]).await?;
        }
    }
    Ok(())
}
