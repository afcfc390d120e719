//! This node's copy of the settings, and the keys of our rings: fetched until the store answers, again when the bus says that they
//! changed, and every five seconds in case it did not.

use crate::challenges::{Challenges, Limits};
use crate::clock_check::ClockCheck;
use crate::keys::{DigestKeys, current_first};
use domain::Method;
use domain::settings::{Channel, PolicyRule, Settings, VerificationRules};
use policy::ClientRules;
use proto::permissions::part::VERIFICATION;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::{FetchRequest, KeyRingRequest, settings_server};
use service_kit::Clock;
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
    pub revision: u64,
    pub settings: Settings,
    /// By name, `provider.NAME.secret`: what this part may know.
    pub secrets: HashMap<String, domain::Secret>,
    /// Where people and phones reach the portal, without a slash at the end; empty = no portal ever started.
    pub portal_url: String,
}

/// What holds for one attempt: the client's rules, and the document they stand in.
#[derive(Clone)]
pub struct Rules {
    pub client: ClientRules,
    /// The name people know the application by.
    pub application: String,
    /// Of its conversations.
    pub limits: Limits,
    pub known: Arc<Known>,
}

impl Rules {
    pub fn company(&self) -> &VerificationRules {
        &self.known.settings.verification
    }

    pub fn policies(&self) -> &[PolicyRule] {
        &self.known.settings.policies
    }
}

impl Known {
    /// Somebody can carry this method to a person. Codes and passkeys need nobody.
    pub fn carries(&self, method: Method) -> bool {
        match method {
            Method::Sms => self.settings.carries(Channel::Sms),
            Method::SmsReply => self.settings.sms.replies && self.settings.carries(Channel::Sms),
            Method::Call => self.settings.carries(Channel::Voice),
            Method::Push => self.settings.push.web || self.settings.push.pi,
            Method::Questions => self.settings.verification.questions,
            Method::Code | Method::Recovery | Method::Passkey => true,
        }
    }

    /// What the provider and this part know alone: `secret`, by which it knows us, or `webhook_secret`. `None`: there is none.
    pub fn provider_secret(&self, provider: &domain::settings::Provider, field: &str) -> Option<&domain::Secret> {
        self.secrets.get(&format!("provider.{}.{field}", provider.name)).filter(|secret| !secret.is_empty())
    }

    /// The host people reach the portal at; empty = no portal ever started.
    pub fn portal_host(&self) -> &str {
        let after_scheme = self.portal_url.split_once("://").map_or("", |(_, rest)| rest);
        after_scheme.split(['/', ':']).next().unwrap_or("")
    }

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
    pub fn rules(&self, origin: &crate::attempt::Origin) -> Result<Option<Rules>, Status> {
        use domain::{Protocol, settings::ClientProtocol};
        let known = self.known()?;
        let client = |protocol| {
            let client = known.settings.client(&origin.client).filter(|client| client.protocol == protocol)?;
            // FR-14 is a rule of RADIUS.
            let limits = if client.protocol == ClientProtocol::Radius { Limits::of(client) } else { Limits::default() };
            Some((ClientRules::from(client), client.application().to_owned(), limits))
        };
        let found = match origin.protocol {
            Protocol::Portal => {
                let company = || known.settings.portal.company.clone();
                (origin.client == PORTAL).then(|| (ClientRules::portal(), company(), Limits::default()))
            }
            Protocol::Radius => client(ClientProtocol::Radius),
            Protocol::Ldap => client(ClientProtocol::Ldap),
            Protocol::Api => client(ClientProtocol::Api),
        };
        Ok(found.map(|(client, application, limits)| Rules { client, application, limits, known }))
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

/// What is kept current.
pub struct Kept {
    pub copy: Arc<SettingsCopy>,
    pub challenges: Arc<Challenges>,
    /// The ring "codes".
    pub code_keys: Arc<DigestKeys>,
    /// The ring "remembered".
    pub remember_keys: Arc<DigestKeys>,
    pub clock: Clock,
    pub clock_check: Arc<ClockCheck>,
}

/// Keeps settings and keys current, for ever. May be dropped at any await.
pub async fn keep_current(store: Arc<dyn settings_server::Settings>, bus: Arc<dyn Bus>, kept: Kept, health: Watched) {
    // What is published before the first fetch is in it; a bus that is away leaves the polling.
    let mut changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
    let mut started = false;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        match refresh(store.as_ref(), &kept).await {
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

async fn refresh(store: &dyn settings_server::Settings, kept: &Kept) -> Result<(), Status> {
    let copy = &kept.copy;
    kept.challenges.set_keys(sealing(ring(store, "challenges").await?));
    kept.code_keys.set(ring(store, "codes").await?);
    kept.remember_keys.set(ring(store, "remembered").await?);
    let known_revision = copy.revision();
    let before_ms = kept.clock.now_ms();
    let reply = call(FetchRequest { known_revision }, |request| store.fetch(request)).await?;
    kept.clock_check.heard(reply.now_unix_ms, before_ms, kept.clock.now_ms());
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

/// The current key first. A ring nobody can use is no answer (V-75).
async fn ring(store: &dyn settings_server::Settings, purpose: &str) -> Result<Vec<(u32, domain::Secret)>, Status> {
    let reply = call(KeyRingRequest { purpose: purpose.into() }, |request| store.key_ring(request)).await?;
    current_first(reply).ok_or_else(|| Status::internal(format!("a key ring {purpose} without its current key")))
}

fn sealing(keys: Vec<(u32, domain::Secret)>) -> KeyRing {
    let keys: Vec<Secret> = keys.iter().map(|(_, key)| Secret::new(key.expose().to_vec())).collect();
    KeyRing::new(&keys)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_portals_host_is_read_from_its_address() {
        for (url, host) in [
            ("https://mfa.example.com", "mfa.example.com"),
            ("https://mfa.example.com:8443/portal", "mfa.example.com"),
            ("", ""),
            ("mfa.example.com", ""),
        ] {
            let known =
                Known { revision: 1, settings: Settings::default(), secrets: HashMap::new(), portal_url: url.into() };
            assert_eq!(known.portal_host(), host);
        }
    }
}
