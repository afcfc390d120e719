//! One leader among all instances: a lease on the bus chooses it, an epoch from the store fences it (S-60).
//!
//! ```text
//! stand ── lease taken ──> term: Lead -> epoch ──> leader, a task for each directory ──┐
//!   ^                                                                                  │
//!   └── lease lost (the work is dropped where it stands), deposed by the store, or the process drains
//! ```

use crate::apply::Term;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::nodes::Node;
use crate::settings::CurrentSettings;
use proto::subjects::{LEASES_MAP, SYNC_LEASE};
use proto::user_store::sync_server::Sync as Store;
use service_kit::bus::{Bus, MapOptions};
use service_kit::lease::Lease;
use service_kit::{Clock, Shutdown, chain};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// A leader that was killed is replaced after this and a little.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// Between tries to get an epoch.
const PAUSE: Duration = Duration::from_secs(2);
/// Tries to get an epoch before another instance may have a go.
const LEAD_TRIES: u32 = 5;

/// What an instance needs to lead.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) sync: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) host: String,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<CurrentSettings>,
    pub(crate) metrics: Metrics,
}

impl Candidate {
    /// Stands for leadership until the process drains.
    pub(crate) async fn stand(self, shutdown: Shutdown) {
        let options = MapOptions { ttl: LEASE_TTL, max_entries: 16, max_value_bytes: 1024 };
        let me = instance(&self.host);
        let map = self.bus.map(LEASES_MAP, options);
        let node = Node { host: self.host.clone(), map: Arc::clone(&map) };
        let lease = Lease { map, key: SYNC_LEASE.to_owned(), me: me.clone(), ttl: LEASE_TTL };
        let leading = Arc::new(AtomicBool::new(false));
        let standing_by = node.clone().stand_by(Arc::clone(&self.settings), Arc::clone(&leading));
        let standing = lease.run(shutdown, |_| {
            let term = self.clone().term(me.clone(), node.clone());
            let leading = Leading::of(&leading);
            Box::pin(async move {
                let _leading = leading;
                term.await;
            })
        });
        // Cancel safety: what is told while another leads need not be told to its end.
        tokio::select! { () = standing => {}, () = standing_by => {} }
    }

    /// One term, until it is dropped or the store says that another leader has begun.
    async fn term(self, me: String, node: Node) {
        // No use to lead before it is known what there is to do.
        let mut changes = self.settings.changes();
        let known = changes.wait_for(Option::is_some).await.map(drop);
        let Ok(()) = known else { return };
        if node.gives_way_by(&self.settings).await {
            return;
        }
        let Some(term) = self.lead(&me).await else { return };
        tracing::info!(event = "sync_leader", service = "directory-sync", holder = me, epoch = term.epoch, "leading");
        Leader::new(term, self.bus, self.clock, self.settings, self.metrics).lead(&node).await;
    }

    /// Gets an epoch. A store that stays away gives others their turn: perhaps they reach it.
    async fn lead(&self, me: &str) -> Option<Term> {
        for _ in 0..LEAD_TRIES {
            match Term::begin(Arc::clone(&self.sync), self.clock.clone(), me).await {
                Ok(term) => return Some(term),
                Err(error) => tracing::warn!(error = %chain(&error), "the store gave no epoch"),
            }
            sleep(PAUSE).await;
        }
        None
    }
}

/// We lead, or are about to, for as long as this lives.
struct Leading(Arc<AtomicBool>);

impl Leading {
    fn of(leading: &Arc<AtomicBool>) -> Self {
        leading.store(true, Ordering::Relaxed);
        Self(Arc::clone(leading))
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Who we are, for people who look: the host (in Kubernetes the pod) and something that differs between processes of one host.
fn instance(host: &str) -> String {
    let tail = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", &tail[..8])
}
