//! This node's copy of the settings, and the keys of the challenge map: fetched until the store answers, again when the bus
//! says that they changed, and every five seconds in case it did not.

use crate::challenges::Challenges;
use domain::settings::Settings;
use policy::ClientRules;
use proto::permissions::part::VERIFICATION;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::{FetchRequest, KeyRingReply, KeyRingRequest, settings_server};
use service_kit::bus::{Bus, KeyRing, Subscription};
use service_kit::grpc::{Peer, with_deadline};
use service_kit::health::{Condition, Upstream};
use service_kit::secret::Secret;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Status};

const POLL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);
const KEY_BYTES: usize = 32;
const DAY_MS: i64 = 86_400_000;

/// The client name of a sign-in to the portal.
const PORTAL: &str = "portal";

/// The settings as this node knows them.
#[derive(Default)]
pub struct SettingsCopy {
    now: RwLock<Option<Arc<Known>>>,
}

/// What the store said last, whole.
pub struct Known {
    revision: u64,
    pub settings: Settings,
    /// By name, `provider.NAME.secret`: what this part may know.
    pub secrets: HashMap<String, domain::Secret>,
    /// Where people and phones reach the portal, without a slash at the end; empty = no portal ever started.
    pub portal_url: String,
}

impl Known {
    /// Until when a report of fraud blocks the user (FV-25, FV-26): -1 = until somebody unblocks, 0 = it does not.
    pub fn blocked_by_fraud_until(&self, now_unix_ms: i64) -> i64 {
        let rules = &self.settings.verification;
        match (rules.fraud_blocks, rules.block_days) {
            (false, _) => 0,
            (true, 0) => -1,
            (true, days) => now_unix_ms + i64::from(days) * DAY_MS,
        }
    }
}

#[cfg(test)]
impl Known {
    /// Settings without a store, for tests of what reads them.
    pub fn of(settings: Settings, portal_url: &str) -> Self {
        Self { revision: 1, settings, secrets: HashMap::new(), portal_url: portal_url.into() }
    }
}

impl SettingsCopy {
    /// The rules of the client that asks; `Ok(None)`: there is no such client.
    pub fn rules(&self, origin: &crate::attempt::Origin) -> Result<Option<ClientRules>, Status> {
        use domain::{Protocol, settings::ClientProtocol};
        let known = self.known()?;
        let client = |protocol| {
            known.settings.client(&origin.client).filter(|client| client.protocol == protocol).map(ClientRules::from)
        };
        Ok(match origin.protocol {
            Protocol::Portal => (origin.client == PORTAL).then(ClientRules::portal),
            Protocol::Radius => client(ClientProtocol::Radius),
            Protocol::Ldap => client(ClientProtocol::Ldap),
            Protocol::Api => None,
        })
    }

    /// The methods a client may use, whatever its protocol.
    pub fn methods(&self, client: &str) -> Result<Vec<domain::Method>, Status> {
        Ok(self.known()?.settings.client(client).map(|client| client.methods.clone()).unwrap_or_default())
    }

    pub fn company(&self) -> Result<String, Status> {
        Ok(self.known()?.settings.portal.company.clone())
    }

    /// `UNAVAILABLE` until the store gave them.
    pub fn known(&self) -> Result<Arc<Known>, Status> {
        self.now
            .read()
            .expect("nobody panics while holding the settings")
            .clone()
            .ok_or_else(|| Status::unavailable(domain::Reason::StoreUnavailable.code()))
    }

    fn revision(&self) -> u64 {
        self.known().map_or(0, |known| known.revision)
    }
}

/// What people see of it on the health page.
pub struct Watched {
    /// The first settings are here.
    pub ready: Condition,
    pub store: Upstream,
}

/// Keeps settings and keys current, for ever. May be dropped at any await.
pub async fn keep_current(
    store: Arc<dyn settings_server::Settings>,
    bus: Arc<dyn Bus>,
    copy: Arc<SettingsCopy>,
    challenges: Arc<Challenges>,
    health: Watched,
) {
    // What is published before the first fetch is in it; a bus that is away leaves the polling.
    let mut changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
    let mut started = false;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        match refresh(store.as_ref(), &copy, &challenges).await {
            Ok(()) => {
                health.ready.set_ready(true);
                health.store.up(begun.elapsed());
                started = true;
                told.clear();
            }
            Err(error) => {
                health.store.down(error.message());
                // Once, not at every try: the log is for people.
                if told != error.message() {
                    error.message().clone_into(&mut told);
                    tracing::warn!(error = told, "the settings could not be fetched");
                }
            }
        }
        if changes.is_none() {
            changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
        }
        let pause = if started { POLL } else { RETRY };
        // Cancel safety: a message that is lost here is one the next fetch has seen.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = next(&mut changes) => {}
        }
    }
}

async fn next(changes: &mut Option<Subscription>) {
    match changes {
        Some(subscription) => {
            if subscription.next().await.is_none() {
                *changes = None;
            }
        }
        None => std::future::pending().await,
    }
}

async fn refresh(
    store: &dyn settings_server::Settings,
    copy: &SettingsCopy,
    challenges: &Challenges,
) -> Result<(), Status> {
    let ring = call(KeyRingRequest { purpose: "challenges".into() }, |request| store.key_ring(request)).await?;
    challenges.set_keys(key_ring(ring).ok_or_else(|| Status::internal("a key ring without its current key"))?);
    let known_revision = copy.revision();
    let reply = call(FetchRequest { known_revision }, |request| store.fetch(request)).await?;
    if reply.unchanged && known_revision != 0 {
        return Ok(());
    }
    let settings: Settings = serde_json::from_str(&reply.settings_json)
        .map_err(|error| Status::internal(format!("settings that cannot be read: {error}")))?;
    tracing::info!(revision = reply.revision, "settings in force");
    let known = Known {
        revision: reply.revision,
        settings,
        secrets: reply.secrets.into_iter().map(|(name, secret)| (name, secret.into())).collect(),
        portal_url: reply.portal_url.trim_end_matches('/').to_owned(),
    };
    *copy.now.write().expect("nobody panics while holding the settings") = Some(Arc::new(known));
    Ok(())
}

async fn call<M, R, F>(message: M, ask: impl FnOnce(Request<M>) -> F) -> Result<R, Status>
where
    F: Future<Output = Result<tonic::Response<R>, Status>>,
{
    let mut request = with_deadline(Request::new(message), PATIENCE);
    // Where the store is in this process, no certificate says who asks.
    request.extensions_mut().insert(Peer { part: VERIFICATION.into(), address: None, uid: None });
    let answer = tokio::time::timeout(PATIENCE, ask(request)).await;
    answer.map_err(|_| Status::deadline_exceeded("no answer in time"))?.map(tonic::Response::into_inner)
}

/// The current key first: it seals, all open. `None`: a ring nobody can use.
fn key_ring(reply: KeyRingReply) -> Option<KeyRing> {
    let (current, others): (Vec<_>, Vec<_>) = reply.keys.into_iter().partition(|key| key.id == reply.current);
    if current.len() != 1 {
        return None;
    }
    let secret = |key: proto::user_store::Key| {
        let key = domain::Secret::from(key.key?);
        (key.len() == KEY_BYTES).then(|| Secret::new(key.expose().to_vec()))
    };
    Some(KeyRing::new(&current.into_iter().chain(others).map(secret).collect::<Option<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::Key;

    #[test]
    fn a_report_of_fraud_blocks_as_the_settings_say() {
        // FV-25, FV-26
        for (rules, until) in [
            (serde_json::json!({}), 1_000 + 90 * DAY_MS),
            (serde_json::json!({ "block_days": 0 }), -1),
            (serde_json::json!({ "block_days": 1 }), 1_000 + DAY_MS),
            (serde_json::json!({ "fraud_blocks": false }), 0),
        ] {
            let settings = serde_json::from_value(serde_json::json!({ "verification": rules }));
            let known = Known::of(settings.expect("valid settings"), "");
            assert_eq!(known.blocked_by_fraud_until(1_000), until);
        }
    }

    #[test]
    fn a_ring_without_its_current_key_or_with_a_short_one_is_refused() {
        // V-75: it must not stop the upkeep either
        let key = |id, length: usize| Key { id, key: Some(domain::Secret::new(vec![7; length]).into()) };
        for (keys, current, good) in [
            (vec![key(1, 32)], 1, true),
            (vec![key(1, 32), key(2, 32)], 1, true),
            (vec![key(1, 32)], 2, false),
            (vec![], 0, false),
            (vec![key(1, 32), key(1, 32)], 1, false),
            (vec![key(1, 31)], 1, false),
            (vec![key(1, 32), key(2, 0)], 1, false),
            (vec![Key { id: 1, key: None }], 1, false),
        ] {
            assert_eq!(key_ring(KeyRingReply { keys, current }).is_some(), good);
        }
    }
}
