//! Containers and groups that items name by a DN: found once, known by their id from then on, so that a rename does no harm (FS-21).
//! Where the settings name another DN, that one is looked for.

use super::run::Run;
use super::source;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::ObjectId;
use domain::settings::Settings;
use proto::user_store::SourcePin;
use std::sync::Arc;

/// Those of the directory that hold: of items that name this very DN and no id, found in this source.
pub async fn list(
    session: &mut Session,
    directory: &str,
    identity: &str,
    settings: &Settings,
) -> Result<Vec<SourcePin>, StoreError> {
    let sql = "SELECT sync_item, kind, distinguished_name, object_id FROM sync_pins \
               WHERE directory = $1 AND identity = $2 ORDER BY sync_item";
    let mut pins = Vec::new();
    for row in session.rows(sql, args![directory, identity]).await? {
        let pin = SourcePin {
            sync_item: row.get("sync_item")?,
            kind: row.get("kind")?,
            distinguished_name: row.get("distinguished_name")?,
            object_id: row.get("object_id")?,
        };
        if settings.sync_items.iter().any(|item| item.directory.as_str() == directory && pin.is_of(item)) {
            pins.push(pin);
        }
    }
    Ok(pins)
}

/// The settings with these items named by their ids.
pub async fn applied(session: &mut Session, run: &Run, settings: Arc<Settings>) -> Result<Arc<Settings>, StoreError> {
    let directory = run.directory.as_str();
    let identity = source_of(session, run).await?;
    let pins = list(session, directory, &identity, &settings).await?;
    if pins.is_empty() {
        return Ok(settings);
    }
    let mut settings = Settings::clone(&settings);
    let items = settings.sync_items.iter_mut().filter(|item| item.directory.as_str() == directory);
    items.for_each(|item| proto::pins::apply(&pins, item));
    Ok(Arc::new(settings))
}

/// The source that a run reads. What is told while it is followed comes from the one that was accepted.
async fn source_of(session: &mut Session, run: &Run) -> Result<String, StoreError> {
    match run.identity.as_str() {
        "" => source::identity(session, &run.directory).await,
        identity => Ok(identity.to_owned()),
    }
}

/// Forgets what items named that the settings have no more: whoever makes one anew under a name does not mean what it named before.
pub async fn forget(session: &mut Session, settings: &Settings) -> Result<(), StoreError> {
    for row in session.rows("SELECT directory, sync_item FROM sync_pins", args![]).await? {
        let (directory, name): (String, String) = (row.get("directory")?, row.get("sync_item")?);
        let mut items = settings.sync_items.iter();
        if !items.any(|item| item.directory.as_str() == directory && item.name.as_str() == name) {
            let sql = "DELETE FROM sync_pins WHERE directory = $1 AND sync_item = $2";
            session.execute(sql, args![directory, name]).await?;
        }
    }
    Ok(())
}

/// Keeps what a run found. Of items that are others by now nothing is kept.
pub async fn keep(
    session: &mut Session,
    run: &Run,
    settings: &Settings,
    found: &[SourcePin],
) -> Result<(), StoreError> {
    if found.is_empty() {
        return Ok(());
    }
    let identity = source_of(session, run).await?;
    let items = || settings.sync_items.iter().filter(|item| item.directory.as_str() == run.directory);
    for pin in found {
        let Some(item) = items().find(|item| pin.is_of(item)) else { continue };
        let Ok(object_id) = pin.object_id.parse::<ObjectId>() else { continue };
        let sql = "INSERT INTO sync_pins (directory, sync_item, kind, distinguished_name, object_id, identity) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (directory, sync_item) DO UPDATE SET kind = excluded.kind, \
                   distinguished_name = excluded.distinguished_name, object_id = excluded.object_id, \
                   identity = excluded.identity";
        let (name, dn) = (item.name.as_str(), &item.source.dn);
        let arguments = args![&run.directory, name, &pin.kind, dn, object_id.to_string(), &identity];
        session.execute(sql, arguments).await?;
    }
    Ok(())
}
