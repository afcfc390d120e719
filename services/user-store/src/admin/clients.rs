//! A change of one client by an administrator.

use super::actor;
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::settings::{apply::OBSERVE_DAYS_MAX, current_locked, write};
use crate::users::time_text;
use proto::user_store::{ObserveClientReply, ObserveClientRequest};
use tonic::Status;

const DAY_MS: i64 = 24 * 3_600_000;

/// FB-04: for some days the password decides, and the second factor is only computed.
pub async fn observe(store: &Store, request: ObserveClientRequest) -> Result<ObserveClientReply, StoreError> {
    let actor = actor(&request.actor)?;
    let days = i64::from(request.days);
    if days > OBSERVE_DAYS_MAX {
        let text = format!("days: found {days}; allowed are 1 to {OBSERVE_DAYS_MAX}, and 0 to end it");
        return Err(Status::invalid_argument(text).into());
    }
    let now_ms = store.clock().now_ms();
    let until = (days > 0).then(|| time_text(now_ms + days * DAY_MS));
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let mut now = current_locked(&mut session).await?;
    let client = now.settings.clients.iter_mut().find(|client| client.name.as_str() == request.client);
    let client = client.ok_or_else(|| Status::not_found("no client has this name"))?;
    let before = std::mem::replace(&mut client.observe_until, until.clone());
    let observe_until = until.clone().unwrap_or_default();
    if before == until {
        return Ok(ObserveClientReply { revision: now.revision, observe_until });
    }
    write(&mut session, &now.settings, now.revision).await?;
    let shown = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
    let detail = format!("client.{}.observe_until: {} -> {}", request.client, shown(before), shown(until));
    let event = NewEvent::administrative(now_ms, "settings.observed", &actor, detail);
    audit::append(&mut session, head, vec![event]).await?;
    session.commit().await?;
    store.teller().settings_changed(now.revision + 1);
    Ok(ObserveClientReply { revision: now.revision + 1, observe_until })
}
