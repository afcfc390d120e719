//! Tells the store where people and phones reach the portal, at the start. Passkeys are bound to that host: another one than before
//! is refused, unless the configuration says that it is wanted.

use crate::Deps;
use crate::app::within;
use crate::config::PublicUrl;
use proto::user_store::{AnnounceRequest, portal_data_server::PortalData};
use service_kit::{Process, grpc};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(3);
/// The store may start after us.
const RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Announcement {
    store: Arc<dyn PortalData>,
    request: AnnounceRequest,
}

/// The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "portal.public_url: found {found}, but passkeys are bound to the host {kept}; set the old address again, or \
     portal.danger_change_rp_id = true, which voids every passkey and every phone that approves with one"
)]
pub(crate) struct OtherHost {
    found: String,
    kept: String,
}

impl Announcement {
    pub fn new(deps: &Deps, public: &PublicUrl, danger_change_rp_id: bool) -> Self {
        let request = AnnounceRequest { public_url: public.origin().to_owned(), danger_change_rp_id };
        Self { store: deps.portal_data.clone(), request }
    }

    /// `false`: the store does not answer yet.
    pub async fn tell(&self) -> Result<bool, OtherHost> {
        let request = grpc::idempotent(self.request.clone());
        match within(LIMIT, request, |request| self.store.announce(request)).await {
            Ok(reply) if reply.accepted => Ok(true),
            Ok(reply) => Err(OtherHost { found: self.request.public_url.clone(), kept: reply.rp_id }),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "the store was not told the portal's address");
                Ok(false)
            }
        }
    }

    /// Until the store has heard it. Not ready before; refused, the process ends.
    pub fn keep_telling(self, process: &Process) {
        let told = process.health().start_condition("portal address");
        let shutdown = process.shutdown().clone();
        process.shutdown().spawn_until_stopping(async move {
            loop {
                match self.tell().await {
                    Ok(true) => return told.set_ready(true),
                    Ok(false) => tokio::time::sleep(RETRY).await,
                    Err(error) => {
                        tracing::error!(error = %error, "the portal cannot be at this address");
                        return shutdown.begin_once();
                    }
                }
            }
        });
    }
}
