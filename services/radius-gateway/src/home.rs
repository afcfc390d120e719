//! RADIUS servers that we are a client of: the target that checks passwords a directory cannot (A8, FR-09).
//!
//! A target is an ordered list. A new conversation goes to the first server that is alive; where it gives no answer in time the
//! next one is asked; what carries a server's State goes to that server and no other.

mod connection;
mod port;

pub(crate) use connection::OurSide;
pub(crate) use port::{Envelope, NoAnswer};

use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use connection::TlsWay;
use domain::settings::{self, MessageAuthenticator, StatusCheck, TargetKind, Transport};
use domain::{ObjectName, Reason};
use port::{HomePort, Observer, Peer, Ways, Write};
use proto::user_store::settings_server::Settings as Store;
use proto::user_store::{HomeServerReport, LearnClientRequest};
use radius_wire::{AttributeType, HomeLimits, HomeReply, HomeState, Packet, Port, Secret, choose};
use service_kit::chain;
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::Health;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// All targets of kind `radius`, as the settings name them now.
pub(crate) struct HomeTargets {
    current: ArcSwap<HashMap<ObjectName, Arc<HomeTarget>>>,
    /// Of connections to servers that are asked by TLS.
    our_side: OurSide,
    watch: Arc<Watch>,
}

pub(crate) struct HomeTarget {
    pub(crate) settings: settings::Target,
    servers: Vec<Arc<HomeServer>>,
}

pub(crate) struct HomeServer {
    /// Which server it is; what is sealed for later names it so.
    pub(crate) place: String,
    pub(crate) secret: Arc<Secret>,
    /// What it was made from: the same again is the same server, with all that waits for it.
    made_from: MadeFrom,
    authentication: HomePort,
    accounting: HomePort,
}

#[derive(PartialEq)]
struct MadeFrom {
    server: settings::HomeServer,
    /// Of a server that is asked by UDP.
    secret: Option<domain::Secret>,
    timers: (u32, u32, StatusCheck, u32, u32),
    status_user: String,
}

/// What is asked: whether somebody passes, or that something be recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Authentication,
    Accounting,
}

/// An answer, and whose it is.
pub(crate) struct Answered {
    pub(crate) server: Arc<HomeServer>,
    pub(crate) reply: HomeReply,
}

impl HomeTargets {
    pub(crate) fn new(store: Arc<dyn Store>, our_side: OurSide, metrics: Arc<Metrics>, health: Health) -> Self {
        let watch = Watch { store, metrics, health, lessons: Mutex::default(), told: Mutex::default() };
        Self { current: ArcSwap::default(), our_side, watch: Arc::new(watch) }
    }

    pub(crate) fn named(&self, name: &ObjectName) -> Option<Arc<HomeTarget>> {
        self.current.load().get(name).cloned()
    }

    /// Those of a new revision of the settings. A server that stays as it was keeps what it waits for. `secret_of` gives the
    /// shared secret by its name, `learned` what `message_authenticator = "auto"` came to.
    pub(crate) fn replace(
        &self,
        wanted: &[settings::Target],
        mut secret_of: impl FnMut(&str) -> Option<domain::Secret>,
        learned: &HashMap<String, String>,
    ) {
        let before = self.current.load_full();
        let mut current = HashMap::new();
        for target in wanted.iter().filter(|target| target.kind == TargetKind::Radius) {
            let former = before.get(&target.name);
            let mut servers = Vec::new();
            for server in &target.servers {
                let name = target.secret_name(server);
                let secret = secret_of(&name).filter(|_| server.transport == Transport::Udp);
                if secret.is_none() && server.transport == Transport::Udp {
                    tracing::error!(
                        service = crate::NAME,
                        secret = name,
                        "a home server without a shared secret is not asked"
                    );
                    continue;
                }
                let made_from = MadeFrom::new(target, server, secret);
                let same = former.and_then(|former| former.servers.iter().find(|it| it.made_from == made_from));
                let known = learned.get(&learned_as(target, server)).map(|rule| rule == "yes");
                match same {
                    Some(same) => {
                        self.watch.is_known(same.name(), known);
                        servers.push(same.clone());
                    }
                    None => servers.extend(self.start(target, made_from, known).map(Arc::new)),
                }
            }
            current.insert(target.name.clone(), Arc::new(HomeTarget { settings: target.clone(), servers }));
        }
        self.watch.keep_only(current.values().flat_map(|target| &target.servers));
        self.current.store(Arc::new(current));
    }

    /// How it stands with each of the servers, for people who look.
    pub(crate) fn reports(&self) -> Vec<HomeServerReport> {
        let current = self.current.load();
        let servers = current.values().flat_map(|target| target.servers.iter().map(move |server| (target, server)));
        let mut reports: Vec<_> = servers
            .map(|(target, server)| HomeServerReport {
                target: target.settings.name.to_string(),
                place: server.place.clone(),
                state: word(server.authentication.state()).to_owned(),
                accounting_state: word(server.accounting.state()).to_owned(),
            })
            .collect();
        reports.sort_by(|one, other| (&one.target, &one.place).cmp(&(&other.target, &other.place)));
        reports
    }

    /// What was learned and the store has not taken yet.
    pub(crate) async fn save_lessons(&self) {
        self.watch.save_lessons().await;
    }

    /// None, and a line for the administrator, where a server cannot be asked as its settings say.
    fn start(&self, target: &settings::Target, made_from: MadeFrom, known: Option<bool>) -> Option<HomeServer> {
        let way = match made_from.server.transport {
            Transport::Udp => None,
            Transport::Tls => match TlsWay::new(&made_from.server, &self.our_side) {
                Ok(way) => {
                    if let Err(error) = way.tls() {
                        tracing::error!(service = crate::NAME, server = learned_as(target, &made_from.server), error = %chain(&error), "a home server cannot be asked by TLS before the certificates can be used; they are read again whenever it is wanted");
                    }
                    Some(Arc::new(way))
                }
                Err(error) => {
                    tracing::error!(service = crate::NAME, server = learned_as(target, &made_from.server), error = %chain(&error), "a home server cannot be asked by TLS");
                    return None;
                }
            },
        };
        HomeServer::start(target, made_from, way, known, &self.watch)
    }
}

impl HomeTarget {
    /// Asks one server after the other until one answers. `only`: the place of the server whose State the request carries.
    /// `station`: whom the request is about, by whom servers share the work.
    pub(crate) async fn ask(
        &self,
        about: About,
        write: &Write<'_>,
        only: Option<&str>,
        station: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<Answered, Reason> {
        let bound = only.is_some();
        let weights: Vec<_> = self.servers.iter().map(|server| (server.place.as_str(), server.weight())).collect();
        let order = order_of(station.unwrap_or_default(), &weights);
        let mut tried = Vec::new();
        loop {
            let Some(index) = self.next(about, only, &order, &tried) else {
                return Err(if tried.is_empty() { Reason::TargetError } else { Reason::TargetTimeout });
            };
            let server = self.servers[index].clone();
            let first_try = tried.is_empty();
            tried.push(index);
            let elsewhere = !bound && self.next(about, None, &order, &tried).is_some();
            let error = match server.port(about).ask(write, Ways { bound, first_try, elsewhere }, deadline).await {
                Ok(reply) => return Ok(Answered { server, reply }),
                Err(error) => error,
            };
            tracing::warn!(service = crate::NAME, target = self.settings.name.as_str(), server = server.place, error = %chain(&error), "a home server gave no answer");
            match error {
                NoAnswer::Deadline | NoAnswer::GaveUp => return Err(Reason::TargetTimeout),
                // It is the request that cannot be sent, wherever it goes.
                NoAnswer::Unwritable(_) => return Err(Reason::TargetError),
                NoAnswer::Dead | NoAnswer::Full | NoAnswer::Silent | NoAnswer::Unreachable(_) => {}
            }
        }
    }

    ///
    fn next(&self, about: About, only: Option<&str>, order: &[usize], tried: &[usize]) -> Option<usize> {
        if let Some(place) = only {
            let index = self.servers.iter().position(|server| server.place == place)?;
            return (!tried.contains(&index)).then_some(index);
        }
        // Who was asked already is as good as dead: a zombie may be next then.
        let states: Vec<_> = order
            .iter()
            .map(|index| match tried.contains(index) {
                true => HomeState::Dead,
                false => self.servers[*index].port(about).state(),
            })
            .collect();
        choose(&states, &[]).map(|place| order[place])
    }

    pub(crate) fn server(&self, place: &str) -> Option<&Arc<HomeServer>> {
        self.servers.iter().find(|server| server.place == place)
    }
}

impl HomeServer {
    /// None where the secret is empty.
    fn start(
        target: &settings::Target,
        made_from: MadeFrom,
        tls: Option<Arc<TlsWay>>,
        known: Option<bool>,
        watch: &Arc<Watch>,
    ) -> Option<Self> {
        let MadeFrom { server, secret, .. } = &made_from;
        let secret = Arc::new(match secret {
            Some(secret) => Secret::new(secret.expose())?,
            None => Secret::radsec(),
        });
        let must_sign = match server.message_authenticator {
            MessageAuthenticator::Yes => true,
            MessageAuthenticator::Auto => known == Some(true),
            MessageAuthenticator::No => false,
        };
        let must_sign = Arc::new(AtomicBool::new(must_sign));
        let name = learned_as(target, server);
        match server.message_authenticator {
            MessageAuthenticator::Auto => watch.learn_from(&name, must_sign.clone(), known),
            MessageAuthenticator::Yes | MessageAuthenticator::No => drop(watch.lessons().remove(&name)),
        }
        let peer = |port, status_user| Peer {
            name: name.clone(),
            host: server.address.clone(),
            port,
            tls: tls.clone(),
            secret: secret.clone(),
            must_sign: must_sign.clone(),
            status_user,
        };
        let (observer, limits) = (watch.clone() as Arc<dyn Observer>, limits(target, server));
        let (status_user, of_accounting) = match target.status_check {
            // Accounting asks for nobody, so nobody is refused there.
            StatusCheck::Username => (Some(target.status_user.clone()), radius_wire::StatusCheck::None),
            StatusCheck::StatusServer | StatusCheck::None => (None, limits.status_check),
        };
        let logins = peer(server.authentication_port(), status_user);
        let authentication = HomePort::start(logins, limits, Port::AuthenticationReplies, observer.clone());
        let limits = HomeLimits { status_check: of_accounting, ..limits };
        let reports = peer(server.accounting_port(), None);
        let accounting = HomePort::start(reports, limits, Port::AccountingReplies, observer);
        Some(Self { place: server.place(), secret, authentication, accounting, made_from })
    }

    fn weight(&self) -> u32 {
        self.made_from.server.weight
    }

    fn port(&self, about: About) -> &HomePort {
        match about {
            About::Authentication => &self.authentication,
            About::Accounting => &self.accounting,
        }
    }

    fn name(&self) -> &str {
        &self.authentication.peer().name
    }
}

/// By whom servers share the work: where the person is, or who, where the device does not say where.
pub(crate) fn station<'a>(packet: &Packet<'a>) -> Option<&'a [u8]> {
    packet.first(AttributeType::CALLING_STATION_ID).or_else(|| packet.first(AttributeType::USER_NAME))
}

/// In which order servers, each with its place and weight, are asked about a station: by weighted rendezvous hashing, so that a
/// station begins at the same server at every node, and one that goes leaves everybody else where they were. Those without a weight
/// follow, as they are listed.
fn order_of(station: &[u8], servers: &[(&str, u32)]) -> Vec<usize> {
    let distance = |(place, weight): &(&str, u32)| {
        let digest = Sha256::new().chain_update(place).chain_update([0]).chain_update(station).finalize();
        let octets: [u8; 8] = std::array::from_fn(|at| digest[at]);
        // In (0, 1]: its logarithm is how long an event of this rate is waited for.
        let uniform = (u64::from_be_bytes(octets) as f64 + 1.0) / (u64::MAX as f64 + 1.0);
        -uniform.ln() / f64::from(*weight)
    };
    let mut order: Vec<usize> = (0..servers.len()).collect();
    if servers.iter().any(|(_, weight)| *weight > 0) {
        // The order of equals, as of those that are infinitely far, is kept.
        let far = |index: &usize| if servers[*index].1 == 0 { f64::INFINITY } else { distance(&servers[*index]) };
        order.sort_by(|one, other| far(one).total_cmp(&far(other)));
    }
    order
}

impl MadeFrom {
    fn new(target: &settings::Target, server: &settings::HomeServer, secret: Option<domain::Secret>) -> Self {
        let timers = (
            target.response_window_seconds,
            target.zombie_seconds,
            target.status_check,
            target.check_interval_seconds,
            target.revive_seconds,
        );
        Self { server: server.clone(), secret, timers, status_user: target.status_user.clone() }
    }
}

/// As the store's reports name it.
fn word(state: HomeState) -> &'static str {
    match state {
        HomeState::Alive => "alive",
        HomeState::Zombie => "zombie",
        HomeState::Dead => "dead",
    }
}

/// The name under which it is kept what a server turned out to send.
fn learned_as(target: &settings::Target, server: &settings::HomeServer) -> String {
    format!("target.{}.{}", target.name, server.place())
}

fn limits(target: &settings::Target, server: &settings::HomeServer) -> HomeLimits {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let usual = HomeLimits::default();
    let response_window = seconds(target.response_window_seconds);
    HomeLimits {
        transport: match server.transport {
            Transport::Udp => radius_wire::Transport::Udp,
            Transport::Tls => radius_wire::Transport::Tls,
        },
        response_window,
        first_response_window: usual.first_response_window.min(response_window),
        zombie_period: seconds(target.zombie_seconds),
        status_check: match target.status_check {
            StatusCheck::StatusServer | StatusCheck::Username => radius_wire::StatusCheck::Probes,
            StatusCheck::None => radius_wire::StatusCheck::None,
        },
        check_interval: seconds(target.check_interval_seconds),
        revive_interval: seconds(target.revive_seconds),
        ..usual
    }
}

/// Tells people, charts and the store what becomes of the servers.
struct Watch {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    health: Health,
    /// Of servers whose rule is `auto`.
    lessons: Mutex<HashMap<String, Lesson>>,
    /// When a dropped reply was last told of, by server.
    told: Mutex<HashMap<String, Instant>>,
}

/// What `message_authenticator = auto` has come to so far for a server.
struct Lesson {
    must_sign: Arc<AtomicBool>,
    /// None: it has answered nothing yet that tells.
    signs: Option<bool>,
    saved: bool,
}

impl Lesson {
    /// Whether this is new. Who has signed once signs; who has not may be updated.
    fn learn(&mut self, signs: bool) -> bool {
        let new = self.signs.is_none_or(|known| signs && !known);
        if new {
            (self.signs, self.saved) = (Some(signs), false);
            self.must_sign.store(signs, Ordering::Relaxed);
        }
        new
    }
}

impl Watch {
    fn learn_from(&self, server: &str, must_sign: Arc<AtomicBool>, known: Option<bool>) {
        let mut lessons = self.lessons();
        // What the same server has taught under other timers, and the store does not know yet.
        let unsaved = lessons.remove(server).filter(|former| !former.saved).and_then(|former| former.signs);
        let mut lesson = Lesson { must_sign, signs: known, saved: true };
        if let Some(signs) = unsaved {
            lesson.learn(signs);
        }
        lessons.insert(server.to_owned(), lesson);
    }

    /// What the store knows of it.
    fn is_known(&self, server: &str, signs: Option<bool>) {
        if let (Some(lesson), Some(signs)) = (self.lessons().get_mut(server), signs)
            && lesson.learn(signs)
        {
            lesson.saved = true;
        }
    }

    async fn save_lessons(&self) {
        const LIMIT: Duration = Duration::from_secs(5);
        let unsaved: Vec<(String, bool)> = {
            let lessons = self.lessons();
            let unsaved = lessons.iter().filter(|(_, lesson)| !lesson.saved);
            unsaved.filter_map(|(server, lesson)| Some((server.clone(), lesson.signs?))).collect()
        };
        for (server, signs) in unsaved {
            let request = LearnClientRequest { client: server.clone(), sends_message_authenticator: signs };
            let call = self.store.learn_client(with_deadline(idempotent(request), LIMIT));
            if !matches!(tokio::time::timeout(LIMIT, call).await, Ok(Ok(_))) {
                tracing::warn!(
                    service = crate::NAME,
                    server,
                    "what was learned of a home server could not be saved yet"
                );
                continue;
            }
            if let Some(lesson) = self.lessons().get_mut(&server) {
                lesson.saved = lesson.signs == Some(signs);
            }
        }
    }

    fn lessons(&self) -> MutexGuard<'_, HashMap<String, Lesson>> {
        self.lessons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_only<'a>(&self, servers: impl Iterator<Item = &'a Arc<HomeServer>>) {
        let left: Vec<&str> = servers.map(|server| server.name()).collect();
        self.lessons().retain(|name, _| left.contains(&name.as_str()));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (gone, _) in told.extract_if(|name, _| !left.contains(&name.as_str())) {
            self.health.upstream("target", gone).forget();
        }
    }
}

impl Observer for Watch {
    fn became(&self, server: &str, state: HomeState) {
        let upstream = self.health.upstream("target", server);
        match state {
            HomeState::Alive => {
                upstream.up(Duration::ZERO);
                tracing::info!(service = crate::NAME, server, "a home server answers");
            }
            HomeState::Zombie => {
                upstream.down("it leaves requests unanswered");
                tracing::warn!(
                    service = crate::NAME,
                    server,
                    "a home server leaves requests unanswered: others are asked first"
                );
            }
            HomeState::Dead => {
                upstream.down("it does not answer");
                tracing::warn!(
                    service = crate::NAME,
                    server,
                    "a home server does not answer and is asked nothing more until it does"
                );
            }
        }
    }

    fn admits_anybody(&self, server: &str) {
        self.health.upstream("target", server).down("it does not refuse whom nobody knows");
        self.metrics.upstream_error("target", server, "admits_anybody");
        tracing::error!(
            service = crate::NAME,
            event = "target_admits_anybody",
            server,
            "a home server does not refuse status_user with a password made up just now: does it let in anybody?"
        );
    }

    fn unreachable(&self, server: &str) {
        self.health.upstream("target", server).down("it cannot be reached by TLS");
        self.metrics.upstream_error("target", server, "unreachable");
    }

    fn taught(&self, server: &str, signs: bool) {
        if !self.lessons().get_mut(server).is_some_and(|lesson| lesson.learn(signs)) {
            return;
        }
        match signs {
            true => tracing::info!(
                service = crate::NAME,
                server,
                "the home server sends Message-Authenticator: required from now on"
            ),
            false => tracing::warn!(
                service = crate::NAME,
                server,
                "the home server sends no Message-Authenticator: its answers can be forged (CVE-2024-3596)"
            ),
        }
    }

    fn dropped(&self, server: &str, drop: &'static str) {
        const QUIET: Duration = Duration::from_secs(60);
        self.metrics.upstream_error("target", server, drop);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.get(server).is_some_and(|last| now - *last < QUIET) {
            return;
        }
        told.insert(server.to_owned(), now);
        let hint = match drop {
            "ma_missing" => {
                Some("it sends no Message-Authenticator; update it, or set message_authenticator = \"auto\" for it")
            }
            "not_recorded" => Some(
                "it answers accounting with Error-Cause and records nothing: set accounting of the clients to \"store\" or \"off\"",
            ),
            "ma_bad" | "ra_bad" => Some("the shared secret is probably another one there"),
            _ => None,
        };
        tracing::warn!(
            service = crate::NAME,
            event = "packet_dropped",
            server,
            drop,
            hint,
            "a reply of a home server does not count"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_shared_by_weight_and_stay_where_they_were_when_a_server_goes() {
        //
        let servers = [("10.0.0.1:1812", 3), ("10.0.0.2:1812", 1), ("10.0.0.3:1812", 0), ("10.0.0.4:1812", 0)];
        let stations: Vec<String> =
            (0..4_000).map(|number| format!("02-00-5E-00-{:02X}-{:02X}", number / 256, number % 256)).collect();
        let mut first = [0; 4];
        for station in &stations {
            let order = order_of(station.as_bytes(), &servers);
            first[order[0]] += 1;
            assert_eq!(order[2..], [2, 3], "those without a weight follow, as listed");
            assert_eq!(order, order_of(station.as_bytes(), &servers), "at every node the same");
        }
        assert!((2_850..3_150).contains(&first[0]) && first[0] + first[1] == 4_000, "{first:?}");
        // One more takes from the others, and moves nobody between them.
        let more = [servers[0], servers[1], ("10.0.0.5:1812", 2)];
        for station in &stations {
            let (before, after) = (order_of(station.as_bytes(), &servers)[0], order_of(station.as_bytes(), &more)[0]);
            assert!(after == before || after == 2, "{station}");
        }
        let listed = servers.map(|(place, _)| (place, 0));
        assert_eq!(order_of(b"anybody", &listed), [0, 1, 2, 3]);
    }
}
