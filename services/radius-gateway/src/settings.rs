//! The settings as this node has them: fetched from the store, kept current by the bus and, as a safety net, by asking.
//! A settings document that cannot be read changes nothing: the last good one stays in force.

use crate::credentials::Takes;
use crate::home::{HomeTarget, HomeTargets, OurSide};
use crate::metrics::Metrics;
use crate::question;
use crate::windows::{WindowsTarget, WindowsTargets};
use arc_swap::ArcSwap;
use directory::{Directories, Entry, ResolveError, TypedName};
use domain::settings::{
    Accounting, Challenge, ClientProtocol, MessageAuthenticator, RememberKind, TargetKind, TextOverride, Transport,
};
use domain::{ObjectName, settings};
use ipnet::IpNet;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::settings_server::Settings as Store;
use proto::user_store::{FetchReply, FetchRequest, HomeServerReport, LearnClientRequest};
use radius_wire::{Dictionary, Lesson, Rule, Rules, Secret, Secrets, Verified};
use service_kit::bus::{Bus, Subscription};
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::Health;
use service_kit::tls::{Authorities, check_authority};
use service_kit::{Process, chain};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Asked for this often, whatever the bus says.
const POLL: Duration = Duration::from_secs(5);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The settings, current within seconds. Clones of what it hands out stay as they were.
pub(crate) struct CurrentSettings {
    store: Arc<dyn Store>,
    snapshot: ArcSwap<Snapshot>,
    has_clients: watch::Sender<bool>,
    directories: Directories,
    homes: HomeTargets,
    windows: Arc<WindowsTargets>,
    metrics: Arc<Metrics>,
    health: Health,
}

/// One revision of the settings, as far as this part acts on them.
#[derive(Default)]
pub(crate) struct Snapshot {
    revision: u64,
    clients: Vec<Arc<Client>>,
    sources: Sources,
    /// Of clients that come by TLS: who else gets no handshake.
    tls_sources: Sources,
    /// Clients that come by TLS, by the marks of their certificates.
    certificates: HashMap<String, usize>,
    /// Those of single clients.
    authorities: Authorities,
    texts: Vec<TextOverride>,
    dictionary: Arc<Dictionary>,
}

/// A device that asks by RADIUS.
pub(crate) struct Client {
    pub(crate) settings: settings::Client,
    /// What becomes of its accounting: the rule, or what follows from its target (FR-19).
    pub(crate) accounting: Accounting,
    secret: Secret,
    previous: Option<Previous>,
    learned: Mutex<Learned>,
    noted: Noted,
}

/// The secret before, while devices are moved to the new one.
struct Previous {
    secret: Secret,
    until_unix_ms: i64,
}

/// What was said once about a client and is not said again with every packet.
#[derive(Default)]
struct Noted {
    unnamed_nas: AtomicBool,
    new_secret: AtomicBool,
    former_secret: AtomicBool,
    /// When it was last said that its packets can be forged.
    unprotected_unix_ms: AtomicI64,
}

/// What `message_authenticator = auto` has come to so far; `Auto` is nothing yet.
#[derive(Clone, Copy)]
struct Learned {
    rule: Rule,
    saved: bool,
}

impl Noted {
    /// Whether it was not said in the last minute; now it is.
    fn unprotected_again(&self, now_unix_ms: i64) -> bool {
        const QUIET_MS: u64 = 60_000;
        let said = self.unprotected_unix_ms.load(Ordering::Relaxed);
        let (order, quiet) = (Ordering::Relaxed, now_unix_ms.abs_diff(said) < QUIET_MS);
        !quiet && self.unprotected_unix_ms.compare_exchange(said, now_unix_ms, order, order).is_ok()
    }
}

impl CurrentSettings {
    /// Waits until the store has answered for the first time.
    pub(crate) async fn fetched(
        store: Arc<dyn Store>,
        directories: Directories,
        ntlm_auth: PathBuf,
        our_side: OurSide,
        metrics: Arc<Metrics>,
        health: Health,
    ) -> Arc<Self> {
        let homes = HomeTargets::new(store.clone(), our_side, metrics.clone(), health.clone());
        let windows = Arc::new(WindowsTargets::new(ntlm_auth, health.clone()));
        let (snapshot, has_clients) = (ArcSwap::default(), watch::Sender::default());
        let current = Arc::new(Self { store, snapshot, has_clients, directories, homes, windows, metrics, health });
        let watched = Arc::downgrade(&current);
        Metrics::message_authenticators(move || watched.upgrade().map(|it| it.current().signing()).unwrap_or_default());
        let mut pause = Duration::from_millis(100);
        while let Err(status) = current.fetch(0).await {
            tracing::warn!(service = crate::NAME, code = ?status.code(), "waiting for the store to give the settings");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        current
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether anybody may come, and every later change of that (FR-01).
    pub(crate) fn has_clients(&self) -> watch::Receiver<bool> {
        self.has_clients.subscribe()
    }

    pub(crate) fn directory(&self, name: &ObjectName) -> Option<Arc<directory::Directory>> {
        self.directories.named(name.as_str())
    }

    /// The one user whom this name means to those who sign in at `home`, and the directory that has them (FD-19).
    pub(crate) async fn resolve(
        &self,
        home: &Arc<directory::Directory>,
        name: &TypedName,
    ) -> Result<(Arc<directory::Directory>, Entry), ResolveError> {
        self.directories.resolve(home, name).await
    }

    /// Whether it is proven that nobody has this name in any place where it is looked up.
    pub(crate) async fn has_nobody(
        &self,
        home: &Arc<directory::Directory>,
        name: &TypedName,
    ) -> Result<bool, ResolveError> {
        self.directories.has_nobody(home, name).await
    }

    /// Whose id this is among the people of a directory, and where they are (FD-02).
    pub(crate) async fn holder(
        &self,
        directory: &Arc<directory::Directory>,
        id: &domain::ObjectId,
    ) -> Result<(Arc<directory::Directory>, Entry), ResolveError> {
        self.directories.holder(directory, id).await
    }

    pub(crate) fn windows_target(&self, name: &ObjectName) -> Option<Arc<WindowsTarget>> {
        self.windows.named(name)
    }

    /// What a target of this name can be asked besides a password.
    pub(crate) fn takes(&self, target: &ObjectName) -> Takes {
        match (self.homes.named(target), self.windows.named(target)) {
            (Some(_), _) => Takes::Everything,
            (None, Some(_)) => Takes::MsChap2,
            (None, None) => Takes::Passwords,
        }
    }

    pub(crate) fn home_servers(&self) -> Vec<HomeServerReport> {
        self.homes.reports()
    }

    pub(crate) fn home_target(&self, name: &ObjectName) -> Option<Arc<HomeTarget>> {
        self.homes.named(name)
    }

    /// The attributes by name: those that ship, and the administrator's own.
    pub(crate) fn dictionary(&self) -> Arc<Dictionary> {
        self.current().dictionary.clone()
    }

    /// Fetches again when somebody says that they changed, and now and then.
    pub(crate) fn follow(self: &Arc<Self>, bus: Arc<dyn Bus>, process: &Process) {
        process.shutdown().spawn_until_stopping(self.windows.clone().watch());
        let current = self.clone();
        process.shutdown().spawn_until_stopping(async move {
            let mut changes = None;
            loop {
                if changes.is_none() {
                    changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
                }
                let known = current.current().revision;
                if let Err(status) = current.fetch(known).await {
                    tracing::warn!(service = crate::NAME, code = ?status.code(), "the settings could not be fetched");
                }
                current.save_lessons().await;
                current.homes.save_lessons().await;
                // Cancel safety: a message that is dropped here is made good by the next fetch.
                let _ = tokio::time::timeout(POLL, next(&mut changes)).await;
            }
        });
    }

    /// What a valid packet teaches about a client whose rule is `auto`. In force here at once; in the store, and with
    /// that on every node, as soon as it can be reached.
    pub(crate) async fn learn(&self, client: &Client, lesson: Lesson, password_accepted: bool) {
        let rule = match lesson {
            Lesson::Yes => Rule::Yes,
            Lesson::NoOnceThePasswordIsAccepted if password_accepted => Rule::No,
            Lesson::NoOnceThePasswordIsAccepted | Lesson::Nothing => return,
        };
        if !client.learn(rule) {
            return;
        }
        match rule {
            Rule::Yes => tracing::info!(
                service = crate::NAME,
                client = client.name(),
                "the client sends Message-Authenticator: required from now on"
            ),
            _ => tracing::warn!(
                service = crate::NAME,
                client = client.name(),
                "the client sends no Message-Authenticator: its packets can be forged (CVE-2024-3596)"
            ),
        }
        self.save(client, rule).await;
    }

    /// Lessons that the store has not taken yet.
    async fn save_lessons(&self) {
        for client in &self.current().clients {
            let learned = client.learned();
            if !learned.saved {
                self.save(client, learned.rule).await;
            }
        }
    }

    async fn save(&self, client: &Client, rule: Rule) {
        let request =
            LearnClientRequest { client: client.name().to_owned(), sends_message_authenticator: rule == Rule::Yes };
        let call = self.store.learn_client(with_deadline(idempotent(request), FETCH_LIMIT));
        match tokio::time::timeout(FETCH_LIMIT, call).await {
            Ok(Ok(_)) => client.lock().saved = true,
            _ => tracing::warn!(
                service = crate::NAME,
                client = client.name(),
                "what was learned of a client could not be saved yet"
            ),
        }
    }

    async fn fetch(&self, known_revision: u64) -> Result<(), tonic::Status> {
        let request = with_deadline(idempotent(FetchRequest { known_revision }), FETCH_LIMIT);
        let reply = tokio::time::timeout(FETCH_LIMIT, self.store.fetch(request))
            .await
            .map_err(|_| tonic::Status::deadline_exceeded("the store did not answer"))??
            .into_inner();
        if !reply.unchanged {
            self.take(reply)?;
        }
        Ok(())
    }

    fn take(&self, mut reply: FetchReply) -> Result<(), tonic::Status> {
        let document: settings::Settings = serde_json::from_str(&reply.settings_json).map_err(|error| {
            tracing::error!(service = crate::NAME, revision = reply.revision, error = %error, "the settings cannot be read; the former ones stay in force");
            tonic::Status::internal("unreadable settings")
        })?;
        let wanted = document.directories.iter().map(|directory| {
            let password = reply.secrets.remove(&format!("directory.{}.query_bind.password", directory.name));
            (directory.clone(), password.map(domain::Secret::from))
        });
        let before = self.directories.all();
        for refused in self.directories.replace(wanted.collect::<Vec<_>>()) {
            tracing::error!(service = crate::NAME, directory = %refused.name, error = %chain(&refused), "a directory cannot be used");
        }
        for gone in before.iter().filter(|directory| self.directories.named(directory.name().as_str()).is_none()) {
            self.health.upstream("directory", gone.name().as_str()).forget();
        }
        let FetchReply { secrets, learned_message_authenticator, .. } = &mut reply;
        let secret_of = |name: &str| secrets.remove(name).map(domain::Secret::from);
        self.homes.replace(&document.targets, secret_of, learned_message_authenticator);
        self.windows.replace(&document.targets);
        let snapshot = Snapshot::new(&self.current(), document, &mut reply);
        tracing::info!(
            service = crate::NAME,
            revision = snapshot.revision,
            clients = snapshot.clients.len(),
            "settings in force"
        );
        let names = snapshot.newly_unprotected(&self.current());
        if !names.is_empty() {
            tracing::warn!(
                service = crate::NAME,
                clients = names.join(", "),
                "of these clients packets without Message-Authenticator are taken, with or without Proxy-State: who sits between can forge the answers (CVE-2024-3596)"
            );
        }
        self.metrics.settings_revision(snapshot.revision);
        let has_clients = !snapshot.clients.is_empty();
        self.snapshot.store(Arc::new(snapshot));
        self.has_clients.send_if_modified(|before| std::mem::replace(before, has_clients) != has_clients);
        Ok(())
    }
}

/// Waits for the next message; a subscription that has ended is made anew the next time round.
async fn next(changes: &mut Option<Subscription>) {
    match changes {
        None => std::future::pending().await,
        Some(subscription) => {
            if subscription.next().await.is_none() {
                *changes = None;
                std::future::pending().await
            }
        }
    }
}

impl Snapshot {
    fn new(before: &Self, document: settings::Settings, reply: &mut FetchReply) -> Self {
        let texts = question::own_texts(document.texts);
        let radius_targets: HashSet<ObjectName> = document
            .targets
            .iter()
            .filter(|target| target.kind == TargetKind::Radius)
            .map(|target| target.name.clone())
            .collect();
        let dictionary = dictionary(&document.dictionaries);
        let mut snapshot = Self { revision: reply.revision, texts, dictionary, ..Self::default() };
        let enabled = document.radius.enabled;
        let served = |client: &settings::Client| enabled && client.protocol == ClientProtocol::Radius;
        for settings in document.clients.into_iter().filter(served) {
            let former = before.clients.iter().find(|client| client.settings.name == settings.name);
            let accounting = settings.accounting.unwrap_or(match radius_targets.contains(&settings.target) {
                true => Accounting::Forward,
                false => Accounting::Store,
            });
            match Client::new(settings, accounting, former, reply) {
                Ok(client) => snapshot.clients.push(Arc::new(client)),
                Err(name) => {
                    tracing::error!(service = crate::NAME, client = %name, "a client without a shared secret is not served")
                }
            }
        }
        snapshot.sources = Sources::of(&snapshot.clients, Transport::Udp);
        snapshot.tls_sources = Sources::of(&snapshot.clients, Transport::Tls);
        for (index, client) in snapshot.clients.iter().enumerate().filter(|(_, client)| client.comes_by_tls()) {
            let marks = client.settings.certificates.iter().map(|mark| (mark.to_ascii_lowercase(), index));
            snapshot.certificates.extend(marks);
        }
        snapshot.authorities = Arc::new(authorities(&snapshot.clients));
        snapshot
    }

    /// The client that one of these marks of a certificate stands for; the first that does decides. Its sources only limit
    /// where the certificate counts; `source` must be canonical.
    pub(crate) fn client_of_certificate(&self, marks: &[String], source: IpAddr) -> Option<Arc<Client>> {
        let index = marks.iter().find_map(|mark| self.certificates.get(mark))?;
        let client = self.clients.get(*index)?;
        let counts = client.settings.sources.iter().any(|network| canonical(*network).contains(&source));
        counts.then(|| client.clone())
    }

    /// Whether any client may come by TLS from `source`, which must be canonical (FR-03).
    pub(crate) fn may_come_by_tls(&self, source: IpAddr) -> bool {
        self.tls_sources.find(source).is_some()
    }

    /// Who signs for single clients that come by TLS, instead of who signs for all.
    pub(crate) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Of those that come by UDP, the client with the longest prefix around `source`, which must be canonical: IPv4 in IPv6 form is
    /// IPv4.
    pub(crate) fn client_of(&self, source: IpAddr) -> Option<Arc<Client>> {
        self.sources.find(source).and_then(|index| self.clients.get(index)).cloned()
    }

    /// The administrator's own words for challenges.
    pub(crate) fn texts(&self) -> &[TextOverride] {
        &self.texts
    }

    /// Clients that nothing protects, and that something did in the settings `before`.
    fn newly_unprotected(&self, before: &Self) -> Vec<&str> {
        let unprotected = |snapshot: &'_ Self, name: &str| {
            snapshot.clients.iter().any(|client| client.name() == name && client.is_unprotected())
        };
        self.client_names().filter(|name| unprotected(self, name) && !unprotected(before, name)).collect()
    }

    /// What the rule about Message-Authenticator has come to for those that come by UDP: over TLS nothing depends on it.
    fn signing(&self) -> Vec<(String, Rule)> {
        let by_udp = self.clients.iter().filter(|client| !client.comes_by_tls());
        by_udp.map(|client| (client.name().to_owned(), client.rules().message_authenticator)).collect()
    }

    /// The names of the clients.
    pub(crate) fn client_names(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.name())
    }

    /// Any client, for a question that is about none in particular.
    pub(crate) fn first_client(&self) -> Option<&Client> {
        self.clients.first().map(Arc::as_ref)
    }
}

/// A client whose authority cannot be used is let in by no other.
fn authorities(clients: &[Arc<Client>]) -> BTreeSet<String> {
    let mut authorities = BTreeSet::new();
    for client in clients.iter().filter(|client| client.comes_by_tls()) {
        let Some(authority) = &client.settings.ca else { continue };
        if let Err(error) = check_authority(authority) {
            tracing::error!(service = crate::NAME, client = client.name(), error = %chain(&error), "the authority of a client cannot be used: it is not let in");
        }
        authorities.insert(authority.clone());
    }
    authorities
}

/// A text that cannot be read was refused when it was saved; here it is left out.
fn dictionary(own: &[settings::Dictionary]) -> Arc<Dictionary> {
    let mut all = Dictionary::shipped().clone();
    for dictionary in own {
        match all.with(dictionary.name.as_str(), &dictionary.text) {
            Ok(more) => all = more,
            Err(error) => tracing::error!(service = crate::NAME, error = %error, "a dictionary cannot be read"),
        }
    }
    Arc::new(all)
}

impl Client {
    fn new(
        settings: settings::Client,
        accounting: Accounting,
        former: Option<&Arc<Self>>,
        reply: &mut FetchReply,
    ) -> Result<Self, ObjectName> {
        let mut secret = |name: &str| {
            let secret = reply.secrets.remove(&format!("client.{}.{name}", settings.name)).map(domain::Secret::from);
            secret.and_then(|secret| Secret::new(secret.expose()))
        };
        let (secret, previous) = match settings.transport {
            Transport::Udp => (secret("secret"), secret("previous_secret")),
            Transport::Tls => (Some(Secret::radsec()), None),
        };
        let until = reply.previous_secret_until_unix_ms.get(settings.name.as_str()).copied();
        let previous = previous.zip(until).map(|(secret, until_unix_ms)| Previous { secret, until_unix_ms });
        let Some(secret) = secret else { return Err(settings.name) };
        let in_store = match reply.learned_message_authenticator.get(settings.name.as_str()).map(String::as_str) {
            Some("yes") => Rule::Yes,
            Some("no") => Rule::No,
            _ => Rule::Auto,
        };
        // What this node has learned counts until the store has taken it; what the store had taken and now lacks was reset there.
        let here = former.map(|former| former.learned()).filter(|learned| !learned.saved);
        let learned = match (in_store, here) {
            (Rule::Auto, Some(unsaved)) => unsaved,
            (rule, _) => Learned { rule, saved: true },
        };
        let noted = former.map(|former| former.noted_before(previous.as_ref())).unwrap_or_default();
        Ok(Self { settings, accounting, secret, previous, learned: Mutex::new(learned), noted })
    }

    fn comes_by_tls(&self) -> bool {
        self.settings.transport == Transport::Tls
    }

    /// What need not be said again. A new rotation is another matter.
    fn noted_before(&self, previous: Option<&Previous>) -> Noted {
        let until = |previous: &Previous| previous.until_unix_ms;
        let same_rotation = self.previous.as_ref().map(until) == previous.map(until);
        let in_it = |flag: &AtomicBool| AtomicBool::new(same_rotation && flag.load(Ordering::Relaxed));
        Noted {
            unnamed_nas: AtomicBool::new(self.noted.unnamed_nas.load(Ordering::Relaxed)),
            new_secret: in_it(&self.noted.new_secret),
            former_secret: in_it(&self.noted.former_secret),
            unprotected_unix_ms: AtomicI64::new(self.noted.unprotected_unix_ms.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// What a packet that comes now may be signed with.
    pub(crate) fn secrets(&self, now_unix_ms: i64) -> Secrets<'_> {
        let previous = self.previous.as_ref().filter(|previous| now_unix_ms < previous.until_unix_ms);
        Secrets { current: &self.secret, previous: previous.map(|previous| &previous.secret) }
    }

    /// What a packet may have been signed with that was found genuine before.
    pub(crate) fn all_secrets(&self) -> Secrets<'_> {
        Secrets { current: &self.secret, previous: self.previous.as_ref().map(|previous| &previous.secret) }
    }

    /// Which secret of a rotation proved a packet; `None` where there is no rotation, or no proof.
    pub(crate) fn secret_in_use(&self, request: &Verified<'_>) -> Option<InUse> {
        let previous = self.previous.as_ref()?;
        let proved = request.signed() || request.packet().code() == radius_wire::Code::AccountingRequest;
        let in_use = if request.proved_by(&previous.secret) { InUse::Previous } else { InUse::Current };
        proved.then_some(in_use)
    }

    /// says once each that the device has the new secret, and that it still uses the former one.
    pub(crate) fn note_secret(&self, in_use: InUse) {
        let noted = match in_use {
            InUse::Current => &self.noted.new_secret,
            InUse::Previous => &self.noted.former_secret,
        };
        if noted.swap(true, Ordering::Relaxed) {
            return;
        }
        match in_use {
            InUse::Current => {
                tracing::info!(service = crate::NAME, client = self.name(), "the device uses its new shared secret")
            }
            InUse::Previous => tracing::warn!(
                service = crate::NAME,
                client = self.name(),
                until_unix_ms = self.previous.as_ref().map(|previous| previous.until_unix_ms),
                "the device still uses its former shared secret, which ends soon"
            ),
        }
    }

    /// says now and then that nothing protects this client.
    pub(crate) fn note_unprotected(&self, now_unix_ms: i64) {
        if self.is_unprotected() && self.noted.unprotected_again(now_unix_ms) {
            tracing::warn!(
                service = crate::NAME,
                client = self.name(),
                "a packet without Message-Authenticator is taken, with or without Proxy-State: who sits between can forge the answer (CVE-2024-3596)"
            );
        }
    }

    /// By the rules in force: `auto` may have come to `no`.
    fn is_unprotected(&self) -> bool {
        let Rules { message_authenticator, limit_proxy_state } = self.rules();
        (message_authenticator, limit_proxy_state) == (Rule::No, Rule::No)
    }

    pub(crate) fn can_challenge(&self) -> bool {
        self.settings.challenge == Challenge::Yes
    }

    /// Whether the password is a part of what a login is remembered by (V-32).
    pub(crate) fn remembers_by_password(&self) -> bool {
        self.settings.remember.as_ref().is_some_and(|remember| remember.kind == RememberKind::UserSourcePassword)
    }

    /// The rules of as they are now, with what was learned in the place of `auto`.
    pub(crate) fn rules(&self) -> Rules {
        let message_authenticator = match rule(self.settings.message_authenticator) {
            Rule::Auto => self.learned().rule,
            decided => decided,
        };
        Rules { message_authenticator, limit_proxy_state: rule(self.settings.limit_proxy_state) }
    }

    /// Whether a packet could teach anything still.
    pub(crate) fn has_to_learn(&self) -> bool {
        self.settings.message_authenticator == MessageAuthenticator::Auto && self.learned().rule == Rule::Auto
    }

    /// a device should say which one it is; those that do not are named once.
    pub(crate) fn note_nas(&self, named: bool) {
        if !named && !self.noted.unnamed_nas.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                service = crate::NAME,
                client = self.name(),
                "the device sends none of NAS-IP-Address, NAS-IPv6-Address and NAS-Identifier, of which RFC 2865 wants one"
            );
        }
    }

    /// False where there is nothing left to learn.
    fn learn(&self, rule: Rule) -> bool {
        let mut learned = self.lock();
        let open = self.settings.message_authenticator == MessageAuthenticator::Auto && learned.rule == Rule::Auto;
        if open {
            *learned = Learned { rule, saved: false };
        }
        open
    }

    fn learned(&self) -> Learned {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which secret of a rotation a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    Current,
    Previous,
}

fn rule(setting: MessageAuthenticator) -> Rule {
    match setting {
        MessageAuthenticator::Yes => Rule::Yes,
        MessageAuthenticator::Auto => Rule::Auto,
        MessageAuthenticator::No => Rule::No,
    }
}

/// Which client an address belongs to: a table for each length of prefix that occurs, the longest first.
#[derive(Default)]
struct Sources(Vec<(u8, HashMap<IpNet, usize>)>);

impl Sources {
    fn of(clients: &[Arc<Client>], transport: Transport) -> Self {
        let mut by_length: BTreeMap<u8, HashMap<IpNet, usize>> = BTreeMap::new();
        let comes_so = |client: &Client| client.settings.transport == transport;
        for (index, client) in clients.iter().enumerate().filter(|(_, client)| comes_so(client)) {
            for source in client.settings.sources.iter().copied().map(canonical) {
                by_length.entry(source.prefix_len()).or_default().insert(source, index);
            }
        }
        Self(by_length.into_iter().rev().collect())
    }

    fn find(&self, source: IpAddr) -> Option<usize> {
        self.0.iter().find_map(|(length, networks)| networks.get(&IpNet::new(source, *length).ok()?.trunc()).copied())
    }
}

/// A network of IPv4 addresses in IPv6 form is that of the plain ones (A1 step 2).
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96; // ::ffff:0:0/96, RFC 4291 section 2.5.5.2
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_PREFIX)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(network).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::Secret as WireSecret;

    fn snapshot(before: &Snapshot, clients: &[(&str, &[&str])], learned: &[(&str, &str)]) -> Snapshot {
        let mut reply = FetchReply { revision: before.revision + 1, ..FetchReply::default() };
        reply.learned_message_authenticator =
            learned.iter().map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned())).collect();
        let mut document = settings::Settings::default();
        for (name, sources) in clients {
            let client = serde_json::json!({
                "name": name, "protocol": "radius", "sources": sources, "target": "corp", "message_authenticator": "auto"
            });
            document.clients.push(serde_json::from_value(client).expect("a client"));
            reply.secrets.insert(format!("client.{name}.secret"), WireSecret { value: name.as_bytes().to_vec() });
        }
        Snapshot::new(before, document, &mut reply)
    }

    fn found(snapshot: &Snapshot, source: &str) -> Option<String> {
        let source: IpAddr = source.parse().expect("an address");
        snapshot.client_of(source.to_canonical()).map(|client| client.name().to_owned())
    }

    #[test]
    fn the_longest_prefix_wins_and_mapped_addresses_are_plain_ones() {
        // R-71, A1 step 2
        let snapshot = snapshot(
            &Snapshot::default(),
            &[
                ("wide", &["10.0.0.0/8"]),
                ("one", &["10.1.2.3/32", "2001:db8::1/128"]),
                ("net", &["10.1.0.0/16", "2001:db8::/32"]),
                ("mapped", &["::ffff:192.0.2.0/120"]),
            ],
            &[],
        );
        for (source, client) in [
            ("10.1.2.3", Some("one")),
            ("10.1.2.4", Some("net")),
            ("10.2.0.1", Some("wide")),
            ("11.0.0.1", None),
            ("::ffff:10.1.2.3", Some("one")),
            ("192.0.2.77", Some("mapped")),
            ("2001:db8::1", Some("one")),
            ("2001:db8:1::1", Some("net")),
            ("::1", None),
        ] {
            assert_eq!(found(&snapshot, source).as_deref(), client, "{source}");
        }
    }

    #[test]
    fn what_was_learned_outlives_new_settings_until_the_store_says_otherwise() {
        //
        let clients: [(&str, &[&str]); 1] = [("vpn", &["10.1.2.3/32"])];
        let rule_of = |snapshot: &Snapshot| snapshot.clients[0].rules().message_authenticator;
        let first = snapshot(&Snapshot::default(), &clients, &[]);
        assert_eq!(rule_of(&first), Rule::Auto);
        assert!(first.clients[0].learn(Rule::Yes));
        assert!(!first.clients[0].learn(Rule::No), "the first lesson stands");
        let second = snapshot(&first, &clients, &[]);
        assert_eq!(rule_of(&second), Rule::Yes, "not saved yet, still known");
        let third = snapshot(&second, &clients, &[("vpn", "no")]);
        assert_eq!(rule_of(&third), Rule::No, "the store is right");
        assert_eq!(rule_of(&snapshot(&third, &clients, &[])), Rule::Auto, "reset by an administrator");
    }

    #[test]
    fn a_former_secret_counts_until_its_end_and_only_with_one() {
        // R-71, FR-04
        const UNTIL: i64 = 1_790_000_000_000;
        let client = |secrets: &[&str], until: Option<i64>| {
            let mut reply = FetchReply::default();
            for name in secrets {
                reply.secrets.insert(format!("client.vpn.{name}"), WireSecret { value: name.as_bytes().to_vec() });
            }
            reply.previous_secret_until_unix_ms.extend(until.map(|until| ("vpn".to_owned(), until)));
            let mut document = settings::Settings::default();
            let client =
                serde_json::json!({"name": "vpn", "protocol": "radius", "sources": ["10.0.0.0/8"], "target": "corp"});
            document.clients.push(serde_json::from_value(client).expect("a client"));
            Snapshot::new(&Snapshot::default(), document, &mut reply).clients.pop().expect("it is served")
        };
        let rotating = client(&["secret", "previous_secret"], Some(UNTIL));
        assert!(rotating.secrets(UNTIL - 1).previous.is_some());
        assert!(rotating.secrets(UNTIL).previous.is_none());
        assert!(rotating.all_secrets().previous.is_some(), "what was found genuine stays so");
        assert!(client(&["secret", "previous_secret"], None).secrets(0).previous.is_none());
        assert!(client(&["secret"], Some(UNTIL)).secrets(0).previous.is_none());
    }

    #[test]
    fn a_client_with_neither_protection_is_warned_about_once_a_minute() {
        //
        let noted = Noted::default();
        let minute = |minutes: i64| 1_790_000_000_000 + minutes * 60_000;
        assert!(noted.unprotected_again(minute(0)));
        assert!((0..59).all(|second| !noted.unprotected_again(minute(0) + second * 1_000)));
        assert!(noted.unprotected_again(minute(1)));
        assert!(noted.unprotected_again(minute(-60)), "a clock that was set back does not silence it");
        let nobody = Snapshot::default();
        for (rules, learned, unprotected) in [
            (("no", "no"), None, true),
            (("no", "auto"), None, false),
            (("yes", "no"), None, false),
            (("auto", "no"), None, false),
            (("auto", "no"), Some("yes"), false),
            (("auto", "no"), Some("no"), true),
            (("auto", "auto"), Some("no"), false),
        ] {
            let mut reply = FetchReply::default();
            let learned = learned.map(|rule| ("vpn".to_owned(), rule.to_owned()));
            reply.learned_message_authenticator.extend(learned);
            let mut document = settings::Settings::default();
            let client = serde_json::json!({
                "name": "vpn", "protocol": "radius", "sources": ["10.0.0.0/8"], "target": "corp",
                "message_authenticator": rules.0, "limit_proxy_state": rules.1,
            });
            document.clients.push(serde_json::from_value(client).expect("a client"));
            reply.secrets.insert("client.vpn.secret".into(), WireSecret { value: b"secret".to_vec() });
            let snapshot = Snapshot::new(&Snapshot::default(), document, &mut reply);
            assert_eq!(snapshot.clients[0].is_unprotected(), unprotected, "{rules:?}");
            // With the first settings, and not with each that follow.
            assert_eq!(snapshot.newly_unprotected(&nobody) == ["vpn"], unprotected);
            assert!(snapshot.newly_unprotected(&snapshot).is_empty());
        }
    }

    #[test]
    fn accounting_goes_to_a_radius_target_and_else_into_the_store() {
        // FR-19
        let mut document = settings::Settings::default();
        let target = serde_json::json!({"name": "nps", "kind": "radius", "directory": "corp"});
        document.targets.push(serde_json::from_value(target).expect("a target"));
        let mut reply = FetchReply::default();
        for (name, target, accounting) in
            [("a", "corp", None), ("b", "nps", None), ("c", "nps", Some("off")), ("d", "corp", Some("discard"))]
        {
            let client = serde_json::json!({
                "name": name, "protocol": "radius", "sources": ["10.0.0.0/8"], "target": target, "accounting": accounting,
            });
            document.clients.push(serde_json::from_value(client).expect("a client"));
            reply.secrets.insert(format!("client.{name}.secret"), WireSecret { value: name.as_bytes().to_vec() });
        }
        let snapshot = Snapshot::new(&Snapshot::default(), document, &mut reply);
        let rules: Vec<_> = snapshot.clients.iter().map(|client| client.accounting).collect();
        assert_eq!(rules, [Accounting::Store, Accounting::Forward, Accounting::Off, Accounting::Discard]);
    }

    #[test]
    fn a_client_without_a_secret_is_not_served() {
        let mut reply = FetchReply::default();
        let mut document = settings::Settings::default();
        let client =
            serde_json::json!({"name": "vpn", "protocol": "radius", "sources": ["10.0.0.0/8"], "target": "corp"});
        document.clients.push(serde_json::from_value(client).expect("a client"));
        assert!(Snapshot::new(&Snapshot::default(), document.clone(), &mut reply).clients.is_empty());
        reply.secrets.insert("client.vpn.secret".into(), WireSecret { value: Vec::new() });
        assert!(Snapshot::new(&Snapshot::default(), document, &mut reply).clients.is_empty());
    }
}
