//! Containers and groups that items name by a DN: found once, known by their id from then on, so that a rename does no harm (FS-21).
//! Where the settings name another DN, that one is looked for.

use super::run::Run;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::ObjectId;
use domain::settings::Settings;
use proto::user_store::SourcePin;
use std::sync::Arc;

/// Those of the directory that hold: of items that name this very DN and no id.
pub async fn list(session: &mut Session, directory: &str, settings: &Settings) -> Result<Vec<SourcePin>, StoreError> {
    let sql =
        "SELECT sync_item, kind, distinguished_name, object_id FROM sync_pins WHERE directory = $1 ORDER BY sync_item";
    let mut pins = Vec::new();
    for row in session.rows(sql, args![directory]).await? {
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
pub async fn applied(
    session: &mut Session,
    directory: &str,
    settings: Arc<Settings>,
) -> Result<Arc<Settings>, StoreError> {
    let pins = list(session, directory, &settings).await?;
    if pins.is_empty() {
        return Ok(settings);
    }
    let mut settings = Settings::clone(&settings);
    let items = settings.sync_items.iter_mut().filter(|item| item.directory.as_str() == directory);
    items.for_each(|item| proto::pins::apply(&pins, item));
    Ok(Arc::new(settings))
}

/// Keeps what a run found. Of items that are others by now nothing is kept.
pub async fn keep(
    session: &mut Session,
    run: &Run,
    settings: &Settings,
    found: &[SourcePin],
) -> Result<(), StoreError> {
    let items = || settings.sync_items.iter().filter(|item| item.directory.as_str() == run.directory);
    for pin in found {
        let Some(item) = items().find(|item| pin.is_of(item)) else { continue };
        let Ok(object_id) = pin.object_id.parse::<ObjectId>() else { continue };
        let sql = "INSERT INTO sync_pins (directory, sync_item, kind, distinguished_name, object_id) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (directory, sync_item) DO UPDATE SET kind = excluded.kind, \
                   distinguished_name = excluded.distinguished_name, object_id = excluded.object_id";
        let arguments = args![&run.directory, item.name.as_str(), &pin.kind, &item.source.dn, object_id.to_string()];
        session.execute(sql, arguments).await?;
    }
    // Whoever makes an item anew under a name does not mean what it named before.
    for row in session.rows("SELECT sync_item FROM sync_pins WHERE directory = $1", args![&run.directory]).await? {
        let name: String = row.get("sync_item")?;
        if !items().any(|item| item.name.as_str() == name) {
            let sql = "DELETE FROM sync_pins WHERE directory = $1 AND sync_item = $2";
            session.execute(sql, args![&run.directory, name]).await?;
        }
    }
    Ok(())
}
