//! What every request of this part shares.

use crate::Deps;
use crate::config::{PublicUrl, Transport};
use crate::limits::Limit;
use crate::metrics::{Limited, Metrics};
use crate::settings::SettingsCopy;
use crate::texts::Texts;
use domain::TransactionId;
use proto::common::Secret;
use service_kit::grpc;
use service_kit::net::one_source;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{IntoRequest, Request, Response, Status};

/// Calls to the store: a few milliseconds, unless it is in trouble.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(5);
/// A bind at a directory, over all of its servers, and one second for the way.
pub(crate) const PASSWORD_LIMIT: Duration = Duration::from_secs(11);
pub(crate) const VERIFICATION_LIMIT: Duration = Duration::from_secs(10);
/// For a person who answers on the phone, or a message that has to arrive; a page that waits longer asks again.
pub(crate) const PERSON_LIMIT: Duration = Duration::from_secs(30);

/// Each one is a bind at a directory that may take its whole time limit.
const SIGN_INS_AT_ONCE_MAX: usize = 512;

pub(crate) struct App {
    pub deps: Deps,
    pub public: PublicUrl,
    /// The nearest hop is a TLS proxy on this host, and says where the connection comes from.
    pub behind_proxy: bool,
    /// The console is open.
    pub console: bool,
    pub settings: SettingsCopy,
    pub metrics: Metrics,
    pub limits: Limits,
}

/// How often one place, name or key may try (V-87).
pub(crate) struct Limits {
    pub sign_ins_at_once: Semaphore,
    sign_ins_of_place: Limit<IpAddr>,
    sign_ins_of_name: Limit<String>,
    forms_of_place: Limit<IpAddr>,
    unknown_keys_of_place: Limit<IpAddr>,
    calls_of_key: Limit<String>,
}

impl App {
    pub fn new(deps: Deps, public: PublicUrl, transport: &Transport, console: bool) -> Arc<Self> {
        let metrics = Metrics::new(&opentelemetry::global::meter("twinlock"));
        let settings = SettingsCopy::new(deps.settings.clone(), deps.bus.clone(), metrics.clone());
        let behind_proxy = matches!(transport, Transport::BehindProxy);
        Arc::new(Self { deps, public, behind_proxy, console, settings, metrics, limits: Limits::new() })
    }

    pub fn now_ms(&self) -> i64 {
        self.deps.clock.now_ms()
    }

    /// The language to answer a request in.
    pub fn texts(&self, headers: &http::HeaderMap) -> &'static Texts {
        let settings = self.settings.current();
        Texts::preferred(headers, settings.as_ref().map(|current| &current.settings.verification.language))
    }

    /// Octets that nobody can guess.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        (self.deps.randomness)(&mut octets).expect("the kernel gives random octets");
        octets
    }

    /// The id of an attempt that begins now; its time can be read from it again ([`begun_ms`]).
    pub fn new_transaction(&self) -> TransactionId {
        let now = u64::try_from(self.now_ms()).unwrap_or_default();
        TransactionId(uuid::Builder::from_unix_timestamp_millis(now, &self.random()).into_uuid())
    }

    /// May this place try to sign in again, under this name?
    pub fn may_sign_in(&self, place: IpAddr, name: &str) -> bool {
        let (now, place) = (Instant::now(), one_source(place));
        if !self.limits.sign_ins_of_place.take(place, now) {
            self.metrics.limited(Limited::SignInsOfPlace);
            return false;
        }
        self.may_try_name(name)
    }

    /// May anybody try a password of this name again?
    pub fn may_try_name(&self, name: &str) -> bool {
        let name = name.chars().take(256).flat_map(char::to_lowercase).collect();
        let granted = self.limits.sign_ins_of_name.take(name, Instant::now());
        if !granted {
            self.metrics.limited(Limited::SignInsOfName);
        }
        granted
    }

    /// May this place send in another code?
    pub fn may_send_code(&self, place: IpAddr) -> bool {
        let granted = self.limits.forms_of_place.take(one_source(place), Instant::now());
        if !granted {
            self.metrics.limited(Limited::FormsOfPlace);
        }
        granted
    }

    /// Has this place tried too many keys that nobody has?
    pub fn may_show_key(&self, place: IpAddr) -> bool {
        let granted = self.limits.unknown_keys_of_place.open(&one_source(place), Instant::now());
        if !granted {
            self.metrics.limited(Limited::UnknownKeysOfPlace);
        }
        granted
    }

    pub fn saw_unknown_key(&self, place: IpAddr) {
        self.limits.unknown_keys_of_place.take(one_source(place), Instant::now());
    }

    /// May the holder of this key call again (FC-04)?
    pub fn may_call(&self, key_name: &str) -> bool {
        let granted = self.limits.calls_of_key.take(key_name.to_owned(), Instant::now());
        if !granted {
            self.metrics.limited(Limited::CallsOfKey);
        }
        granted
    }
}

impl Limits {
    fn new() -> Self {
        Self {
            sign_ins_at_once: Semaphore::new(SIGN_INS_AT_ONCE_MAX),
            // A place may be the whole company behind one address; a name is one person.
            sign_ins_of_place: Limit::new(60, Duration::from_secs(1)),
            sign_ins_of_name: Limit::new(10, Duration::from_secs(30)),
            forms_of_place: Limit::new(60, Duration::from_secs(1)),
            unknown_keys_of_place: Limit::new(20, Duration::from_secs(1)),
            calls_of_key: Limit::new(50, Duration::from_millis(20)),
        }
    }
}

/// When the attempt of this id began.
pub(crate) fn begun_ms(transaction: TransactionId) -> Option<i64> {
    let (seconds, nanoseconds) = transaction.0.get_timestamp()?.to_unix();
    i64::try_from(seconds.checked_mul(1000)? + u64::from(nanoseconds) / 1_000_000).ok()
}

/// A secret that is shown to the one who may have it.
pub(crate) fn text_of(secret: Option<Secret>) -> String {
    domain::Secret::from(secret.unwrap_or_default()).expose_str().unwrap_or_default().to_owned()
}

/// Calls another part with a limit that holds in one process as it does over the network (V-44).
pub(crate) async fn within<T, R, F>(
    limit: Duration,
    request: impl IntoRequest<T>,
    call: impl FnOnce(Request<T>) -> F,
) -> Result<R, Status>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    match tokio::time::timeout(limit, call(grpc::with_deadline(request, limit))).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}
