//! This part's copy of the settings: who may connect, under which rules, and the directories behind them.
//!
//! ```text
//! Settings.Fetch ── at start, when the bus says so, every 5 s ──> Snapshot ──> listener (who is it?), connection (under which rules?)
//!                                                             └─> service accounts without an id: looked up and pinned (L-22)
//! ```

use crate::certificate::Certificate;
use crate::metrics::Metrics;
use directory::{Directories, Directory, Entry, OtherDomains, ResolveError, TypedName};
use domain::settings::{
    self, BindKind, ClientCertificate, ClientProtocol, PersonAddress, Preset, ServiceAccount, Settings,
};
use domain::{ObjectId, Secret};
use ipnet::IpNet;
use ldap_wire::connection::{Anonymous, Operations};
use ldap_wire::referral::Referrals;
use ldap_wire::{Policy, Style};
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::settings_server::Settings as SettingsPort;
use proto::user_store::{FetchReply, FetchRequest, PinServiceAccountRequest};
use service_kit::bus::{Bus, Message, Subscription};
use service_kit::health::Health;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Request};

/// A lost message of the bus costs this much.
const POLL: Duration = Duration::from_secs(5);
/// How long the store may take to answer.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// At most so often a bind makes us look for service accounts that have no id yet.
const PIN_PAUSE: Duration = Duration::from_secs(1);

/// The copy and what keeps it current. Shared by everything in this part.
pub struct SettingsCopy {
    port: Arc<dyn SettingsPort>,
    start_tls: bool,
    directories: Directories,
    current: watch::Sender<Arc<Snapshot>>,
    last_pin: Mutex<Option<Instant>>,
    /// How often settings were asked for, and which of those answers is in force.
    fetches: AtomicU64,
    taken_up: Mutex<u64>,
    metrics: Metrics,
}

/// One revision of the settings, as far as LDAP clients are concerned.
#[derive(Default)]
pub struct Snapshot {
    pub revision: u64,
    /// Longest prefix first.
    networks: Vec<(IpNet, Arc<Client>)>,
}

/// An LDAP client with everything that a bind of it needs.
pub struct Client {
    pub settings: settings::Client,
    pub policy: Arc<Policy>,
    /// `None` while the settings of its directory cannot be used: every bind is unavailable.
    pub directory: Option<Arc<Directory>>,
    /// What accounts bind with that a certificate logs in, by the account's name.
    passwords: HashMap<String, Secret>,
}

impl Snapshot {
    fn new(revision: u64, mut networks: Vec<(IpNet, Arc<Client>)>) -> Self {
        networks.sort_by_key(|(network, _)| Reverse(network.prefix_len()));
        Self { revision, networks }
    }

    /// The client that asks from this address: the longest prefix wins (FL-04).
    pub fn client(&self, source: IpAddr) -> Option<Arc<Client>> {
        let source = source.to_canonical();
        self.networks.iter().find(|(network, _)| network.contains(&source)).map(|(_, client)| Arc::clone(client))
    }

    /// Any client, for a question that is about none in particular.
    pub fn first_client(&self) -> Option<&Arc<Client>> {
        self.networks.first().map(|(_, client)| client)
    }

    /// Without any, or switched off, nobody may come, and no port is open (FL-01).
    pub fn has_clients(&self) -> bool {
        !self.networks.is_empty()
    }

    fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        let mut seen = std::collections::HashSet::new();
        self.networks.iter().map(|(_, client)| client).filter(move |client| seen.insert(client.name().to_owned()))
    }
}

impl Client {
    pub fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// Is it one of the listed service accounts, at a place where it may come from, and with a certificate of its own where it has
    /// to show one (L-22)? The id decides, never a name.
    pub fn lists(&self, id: &ObjectId, source: IpAddr, shown: Option<&Certificate>) -> bool {
        self.accounts(source, shown).any(|account| account.id.as_ref() == Some(id))
    }

    /// Is one of them called so in the settings, whose id is known? Says nothing of who it is.
    pub fn names(&self, typed: &str, source: IpAddr, shown: Option<&Certificate>) -> bool {
        self.accounts(source, shown).any(|account| account.id.is_some() && account.name.eq_ignore_ascii_case(typed))
    }

    fn accounts(&self, source: IpAddr, shown: Option<&Certificate>) -> impl Iterator<Item = &ServiceAccount> {
        let source = source.to_canonical();
        self.settings.service_accounts.iter().filter(move |account| {
            (account.sources.is_empty() || account.sources.iter().any(|network| network.contains(&source)))
                && (account.certificates.is_empty() || shown.is_some_and(|it| it.is_one_of(&account.certificates)))
        })
    }

    /// The account that a certificate logs in, and what it binds with (L-36). One whose id was not found yet is none.
    pub fn account_of(&self, source: IpAddr, shown: &Certificate) -> Option<(&ServiceAccount, &Secret)> {
        let account = self.accounts(source, Some(shown)).find(|it| it.is_external() && it.id.is_some())?;
        Some((account, self.passwords.get(&account.name)?))
    }

    /// What a connection of this client is asked for; `None` where certificates mean nothing to it.
    pub fn asks_for_certificate(&self) -> Option<ClientCertificate> {
        let required = self.settings.client_certificate == ClientCertificate::Required;
        let of_accounts = || self.settings.service_accounts.iter().any(|account| !account.certificates.is_empty());
        (required || of_accounts()).then_some(self.settings.client_certificate)
    }

    /// May a connection by TLS go on that has shown this (FL-22)?
    pub fn admits(&self, shown: Option<&Certificate>) -> bool {
        let listed = &self.settings.certificates;
        self.settings.client_certificate == ClientCertificate::Off
            || shown.is_some_and(|shown| listed.is_empty() || shown.is_one_of(listed))
    }

    /// The person's own address (V-54): whoever connects, where the rule says so. No other rule has anything to read here, and what
    /// cannot be read is not trusted.
    pub fn person_address(&self, source: IpAddr) -> Option<IpAddr> {
        let address = source.to_canonical();
        (self.settings.person_address == PersonAddress::Peer && !address.is_unspecified()).then_some(address)
    }

    fn unpinned(&self) -> impl Iterator<Item = &ServiceAccount> {
        self.settings.service_accounts.iter().filter(|account| account.id.is_none())
    }

    pub fn has_unpinned(&self) -> bool {
        self.unpinned().next().is_some()
    }

    /// Do connections that were opened under `before` live under the same rules still? What only a bind asks for is asked anew
    /// at each bind.
    pub fn same_rules(&self, before: &Self) -> bool {
        let same_directory = match (&self.directory, &before.directory) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        };
        same_directory && self.policy == before.policy
    }
}

impl SettingsCopy {
    /// `start_tls`: there is a certificate, so StartTLS can be offered.
    pub fn new(
        port: Arc<dyn SettingsPort>,
        start_tls: bool,
        directory_options: directory::Options,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            port,
            start_tls,
            directories: Directories::new(directory_options),
            current: watch::Sender::new(Arc::default()),
            last_pin: Mutex::default(),
            fetches: AtomicU64::default(),
            taken_up: Mutex::default(),
            metrics,
        })
    }

    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells of every later revision.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Wakes whoever awaits the next revision, though there is none.
    pub fn look_again(&self) {
        self.current.send_modify(|_| ());
    }

    /// The directory of this name; the first one of the settings where no name is given.
    pub fn directory(&self, name: &str) -> Option<Arc<Directory>> {
        if name.is_empty() { self.directories.first() } else { self.directories.named(name) }
    }

    /// The one user whom this name means to those who sign in at `home`, and the directory that has them (FD-19).
    pub async fn resolve(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        self.directories.resolve(home, name).await
    }

    /// Whose id this is, among those who have their identity by `home`.
    pub async fn holder(&self, home: &Arc<Directory>, id: &ObjectId) -> Result<(Arc<Directory>, Entry), ResolveError> {
        self.directories.holder(home, id).await
    }

    /// The domains beside that of `home` whose people have their identity by it (FD-02).
    pub async fn other_domains(&self, home: &Arc<Directory>) -> Result<OtherDomains, ResolveError> {
        self.directories.other_domains(home).await
    }

    /// The other domain in use that a name belongs to, as far as it is known.
    pub fn other_domain(&self, home: &Directory, name: &TypedName) -> Option<String> {
        self.directories.other_domain(home, name)
    }

    /// Asks what is left to ask for a name that was found (L-41).
    pub async fn ask_on(&self, home: &Arc<Directory>, name: &TypedName, found: (&Arc<Directory>, &Entry)) {
        self.directories.ask_on(home, name, found).await;
    }

    /// Asks the store for what is newer. False if it did not answer.
    pub async fn refresh(&self) -> bool {
        let known = self.current.borrow().revision;
        self.fetch(known).await
    }

    async fn fetch(&self, known_revision: u64) -> bool {
        let number = self.fetches.fetch_add(1, Ordering::Relaxed);
        let request = service_kit::grpc::idempotent(Request::new(FetchRequest { known_revision }));
        let call = self.port.fetch(service_kit::grpc::with_deadline(request, FETCH_LIMIT));
        match tokio::time::timeout(FETCH_LIMIT, call).await {
            Ok(Ok(reply)) => self.take_up(number, reply.into_inner()),
            Ok(Err(status)) => {
                tracing::warn!(code = ?status.code(), "settings cannot be fetched");
                false
            }
            Err(_) => {
                tracing::warn!("settings cannot be fetched in time");
                false
            }
        }
    }

    /// Several may ask at the same time: what was asked for later is in force already when an earlier answer comes late. Revisions do
    /// not tell, since those of a backup are lower.
    fn take_up(&self, number: u64, mut reply: FetchReply) -> bool {
        if reply.unchanged {
            return true;
        }
        let mut taken_up = self.taken_up.lock().expect("nobody panics while taking up settings");
        if number < *taken_up {
            return true;
        }
        let settings: Settings = match serde_json::from_str(&reply.settings_json) {
            Ok(settings) => settings,
            Err(error) => {
                // A newer store may know keys that we do not. What is in force stays in force.
                tracing::error!(revision = reply.revision, %error, "settings of this revision cannot be read");
                return false;
            }
        };
        let wanted = settings.directories.iter().map(|directory| {
            let password = reply.secrets.remove(&format!("directory.{}.query_bind.password", directory.name));
            (directory.clone(), password.map(Secret::from))
        });
        for refused in self.directories.replace(wanted.collect::<Vec<_>>()) {
            tracing::error!(directory = %refused.name, error = %refused.error, "directory cannot be used");
        }
        let snapshot = Snapshot::new(reply.revision, self.networks(settings, reply.secrets));
        self.metrics.settings_in_force(snapshot.revision);
        tracing::info!(event = "settings_taken_up", revision = snapshot.revision, "settings are in force");
        self.current.send_replace(Arc::new(snapshot));
        *taken_up = number;
        true
    }

    fn networks(
        &self,
        settings: Settings,
        mut secrets: HashMap<String, proto::common::Secret>,
    ) -> Vec<(IpNet, Arc<Client>)> {
        let before: HashMap<String, Arc<Client>> =
            self.current.borrow().clients().map(|client| (client.name().to_owned(), Arc::clone(client))).collect();
        let mut networks = Vec::new();
        let served = |client: &&settings::Client| settings.ldap.enabled && client.protocol == ClientProtocol::Ldap;
        for client in settings.clients.iter().filter(served) {
            let target = settings.directory(client.target.as_str());
            let directory = self.directories.named(client.target.as_str());
            let policy = policy(client, target, &settings, self.start_tls);
            let policy = match before.get(client.name.as_str()) {
                Some(known) if *known.policy == policy => Arc::clone(&known.policy),
                _ => Arc::new(policy),
            };
            let passwords = client.service_accounts.iter().filter_map(|account| {
                let password = secrets.remove(&account.secret_name(&client.name))?;
                Some((account.name.clone(), Secret::from(password)))
            });
            let passwords = passwords.collect();
            let client = Arc::new(Client { settings: client.clone(), policy, directory, passwords });
            networks.extend(client.settings.sources.iter().map(|network| (network.trunc(), Arc::clone(&client))));
        }
        networks
    }

    /// Keeps the copy current, and the ids of service accounts found, for as long as the process lives.
    pub async fn keep_current(self: Arc<Self>, bus: Arc<dyn Bus>) {
        let mut changes: Option<Subscription> = None;
        loop {
            if changes.is_none() {
                changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
            }
            self.refresh().await;
            self.pin_all().await;
            // Cancel safety: a message of the bus only says that something changed; the poll finds it too.
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                heard = next(&mut changes) => if heard.is_none() { changes = None },
            }
        }
    }

    /// Shows how the directories fare, from what happened to them.
    pub async fn watch_directories(self: Arc<Self>, health: Health) {
        let mut shown = HashMap::new();
        loop {
            let all = self.directories.all();
            for directory in all.iter() {
                let state = directory.health();
                let name = state.directory.to_string();
                let upstream = shown.entry(name.clone()).or_insert_with(|| health.upstream("directory", name.clone()));
                if state.is_up() {
                    let round_trip = state.servers.iter().find_map(|server| server.round_trip);
                    upstream.up(round_trip.unwrap_or_default());
                } else {
                    upstream.down(state.last_error().unwrap_or("not connected"));
                }
                self.metrics.upstream_is_up(&name, state.is_up());
            }
            let gone = |name: &String| !all.iter().any(|directory| directory.name().as_str() == name);
            let gone: Vec<String> = shown.keys().filter(|name| gone(name)).cloned().collect();
            for name in gone {
                if let Some(upstream) = shown.remove(&name) {
                    upstream.forget();
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn pin_all(&self) {
        let clients: Vec<_> = self.current.borrow().clients().filter(|it| it.has_unpinned()).cloned().collect();
        let mut pinned = false;
        for client in clients {
            pinned |= self.pin(&client).await;
        }
        if pinned {
            self.fetch(0).await;
        }
    }

    /// A bind found an account that no id of the client lists: perhaps one was created just now. True if the settings may
    /// list more than before.
    pub async fn pin_at_bind(&self, client: &Client) -> bool {
        {
            let mut last = self.last_pin.lock().expect("nobody panics while holding the time");
            let now = Instant::now();
            if last.is_some_and(|last| now.duration_since(last) < PIN_PAUSE) {
                return false;
            }
            *last = Some(now);
        }
        self.pin(client).await && self.fetch(0).await
    }

    /// Looks for the accounts of a client that are listed by name only, and has the store keep their ids (L-22).
    async fn pin(&self, client: &Client) -> bool {
        let Some(directory) = &client.directory else { return false };
        let mut pinned = false;
        for account in client.unpinned() {
            let Ok(name) = TypedName::parse(&account.name, directory.settings()) else {
                tracing::warn!(client = client.name(), "a service account is not written as a name of its directory");
                continue;
            };
            let entry = match directory.resolve_any(&name).await {
                Ok(entry) => entry,
                Err(ResolveError::Ambiguous) => {
                    tracing::warn!(
                        client = client.name(),
                        "several entries have the name of a service account; none is exempt"
                    );
                    continue;
                }
                Err(_) => continue,
            };
            let request = PinServiceAccountRequest {
                client: client.name().to_owned(),
                name: account.name.clone(),
                object_id: entry.subject.id.to_string(),
            };
            let call = self.port.pin_service_account(service_kit::grpc::with_deadline(request, FETCH_LIMIT));
            match call.await.map_err(|status| status.code()) {
                Ok(_) => {
                    tracing::info!(event = "service_account_pinned", client = client.name(), "service account found");
                    pinned = true;
                }
                Err(Code::FailedPrecondition | Code::AlreadyExists) => tracing::warn!(
                    event = "service_account_replaced",
                    client = client.name(),
                    "another entry has the name of a service account now; it is not exempt"
                ),
                Err(code) => tracing::warn!(client = client.name(), ?code, "service account cannot be kept"),
            }
        }
        pinned
    }
}

/// What the bus tells next; `None` when this subscription is over.
pub async fn next(changes: &mut Option<Subscription>) -> Option<Message> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// The rules of a client in the words of the connection's core.
fn policy(
    client: &settings::Client,
    target: Option<&settings::Directory>,
    settings: &Settings,
    start_tls: bool,
) -> Policy {
    let usual = Policy::default();
    let is_refused = |oid: &String| !client.trusted_controls.contains(oid);
    // Whoever signs in by an alternate name is served by another directory (FD-19).
    let others = target.into_iter().flat_map(|target| &target.alternate_directories);
    let others_encrypted = others.filter_map(|name| settings.directory(name.as_str())).all(always_encrypted);
    Policy {
        style: target.map_or(Style::Plain, style),
        start_tls,
        upstream_tls: target.is_some_and(always_encrypted) && others_encrypted,
        danger_allow_cleartext: client.tls == settings::ClientTls::DangerOptional,
        anonymous: match client.anonymous {
            settings::Anonymous::Rootdse => Anonymous::RootDse,
            settings::Anonymous::Refuse => Anonymous::Refuse,
            settings::Anonymous::Forward => Anonymous::Forward,
        },
        operations: match client.operations {
            settings::Operations::All => Operations::All,
            settings::Operations::Read => Operations::Read,
            settings::Operations::Bind => Operations::Bind,
        },
        referrals: match client.referrals {
            settings::Referrals::Drop => Referrals::Drop,
            settings::Referrals::Rewrite => Referrals::Rewrite(client.referral_url.clone()),
            settings::Referrals::Pass => Referrals::Pass,
        },
        size_limit: client.size_limit,
        time_limit_seconds: client.time_limit_seconds,
        sasl_plain: client.sasl_plain,
        keep_server_names: client.keep_server_names,
        extended_operations: usual.extended_operations.into_iter().chain(client.extended_operations.clone()).collect(),
        refused_controls: usual.refused_controls.into_iter().filter(is_refused).collect(),
        sasl_external: client.service_accounts.iter().any(ServiceAccount::is_external),
        tls_first: client.client_certificate == ClientCertificate::Required,
        pending_max: usual.pending_max,
    }
}

fn style(directory: &settings::Directory) -> Style {
    match directory.preset {
        Preset::ActiveDirectory => Style::ActiveDirectory,
        Preset::AdLds | Preset::OpenLdap | Preset::Ds389 | Preset::EDirectory | Preset::Generic => Style::Plain,
    }
}

/// Whichever server is taken: is the connection encrypted, so that it may carry a new password (L-14)?
fn always_encrypted(directory: &settings::Directory) -> bool {
    let ldaps = |url: &String| {
        url.split_once("://").is_some_and(|(scheme, _)| ["ldaps", "ldaps+srv"].contains(&&*scheme.to_lowercase()))
    };
    !directory.danger_clear_text
        || matches!(directory.authentication_bind.kind, BindKind::Tls | BindKind::Windows)
        || directory.urls.iter().all(ldaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Arc<Client> {
        let settings = serde_json::json!({ "name": name, "protocol": "ldap", "target": "corp" });
        let settings = serde_json::from_value(settings).expect("a client");
        Arc::new(Client { settings, policy: Arc::default(), directory: None, passwords: HashMap::new() })
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_in_which_the_networks_are_written() {
        // FL-04
        let networks = [
            ("10.0.0.0/8", "site"),
            ("10.1.0.0/16", "building"),
            ("10.1.2.3/32", "host"),
            ("2001:db8::/32", "site"),
            ("2001:db8:1::/48", "building"),
            ("2001:db8:1::3/128", "host"),
        ];
        let mut written: Vec<_> =
            networks.map(|(network, name)| (network.parse::<IpNet>().expect("a network"), client(name))).into();
        for turn in 0..2 * networks.len() {
            if turn == networks.len() {
                written.reverse();
            }
            written.rotate_left(1);
            let snapshot = Snapshot::new(1, written.clone());
            for (source, expected) in [
                ("10.1.2.3", Some("host")),
                ("10.1.2.4", Some("building")),
                ("10.2.2.3", Some("site")),
                ("11.1.2.3", None),
                ("::ffff:10.1.2.3", Some("host")),
                ("::ffff:10.1.2.4", Some("building")),
                ("2001:db8:1::3", Some("host")),
                ("2001:db8:1::4", Some("building")),
                ("2001:db8:2::3", Some("site")),
                ("2001:db9::3", None),
            ] {
                let found = snapshot.client(source.parse().expect("an address"));
                assert_eq!(found.as_ref().map(|client| client.name()), expected, "{source}, turn {turn}");
            }
        }
    }
}
