//! The settings as the store itself goes by them, parsed once a revision.

use crate::rpc::StoreError;
use crate::settings;
use crate::sql::{Session, args};
use domain::settings::Settings;
use std::sync::{Arc, Mutex};

/// The settings of the newest revision asked for.
#[derive(Default)]
pub struct Rules(Mutex<Option<(u64, Arc<Settings>)>>);

impl Rules {
    /// As they stand in this session.
    pub async fn current(&self, session: &mut Session) -> Result<Arc<Settings>, StoreError> {
        let row = session.row("SELECT revision FROM settings WHERE id = 1", args![]).await?;
        let revision = row.ok_or(StoreError::Broken("the settings are missing"))?.unsigned("revision")?;
        if let Some((_, settings)) = self.kept().as_ref().filter(|(known, _)| *known == revision) {
            return Ok(settings.clone());
        }
        let read = settings::current(session).await?;
        let settings = Arc::new(read.settings);
        *self.kept() = Some((read.revision, settings.clone()));
        Ok(settings)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<(u64, Arc<Settings>)>> {
        self.0.lock().expect("nobody panics while holding the settings")
    }
}
