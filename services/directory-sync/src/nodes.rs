//! Which hosts lead rather than others (FS-11): a preferred one that stands by says so, and another that leads gives way.
//!
//! Not a second election: the lease alone decides who leads. With no preferred host there, any host does.

use crate::settings::{CurrentSettings, Snapshot};
use bytes::Bytes;
use proto::subjects::SYNC_PREFERRED;
use service_kit::bus::Map;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Told this often by those who are preferred and do not lead; the entry lives three times as long at least.
pub(crate) const TOLD_EVERY: Duration = Duration::from_secs(3);

/// One host as it stands for leadership.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) map: Arc<dyn Map>,
}

impl Node {
    /// It is among those of the settings, or those name nobody.
    pub(crate) fn is_preferred(&self, snapshot: &Snapshot) -> bool {
        let nodes = &snapshot.settings.sync.preferred_nodes;
        nodes.is_empty() || nodes.iter().any(|node| node.eq_ignore_ascii_case(&self.host))
    }

    /// Another host is preferred and would lead (FS-11).
    pub(crate) async fn gives_way_by(&self, settings: &CurrentSettings) -> bool {
        let is_preferred = settings.current().is_none_or(|snapshot| self.is_preferred(&snapshot));
        !is_preferred && matches!(self.map.get(SYNC_PREFERRED).await, Ok(Some(_)))
    }

    /// Says that we would lead, wherever that is preferred and another does.
    pub(crate) async fn stand_by(self, settings: Arc<CurrentSettings>, leading: Arc<AtomicBool>) {
        loop {
            let named = settings.current().is_some_and(|snapshot| {
                !snapshot.settings.sync.preferred_nodes.is_empty() && self.is_preferred(&snapshot)
            });
            if named && !leading.load(Ordering::Relaxed) {
                // One that is lost is told again.
                let _ = self.map.put(SYNC_PREFERRED, Bytes::from(self.host.clone())).await;
            }
            sleep(TOLD_EVERY).await;
        }
    }
}

/// The host's name; in Kubernetes the pod's.
pub fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(64).collect();
    if host.is_empty() { "host".to_owned() } else { host }
}
