//! The client side: one channel over all replicas of a part.
//!
//! ```text
//! call -> a replica that is connected, in turn -> answer
//!                 | none is                 `-> broke before it left: the next one
//!                 `-> connect to each          `-> broke afterwards: the next one, once, where the caller said idempotent
//! ```
//!
//! Replicas that are not connected are tried beside the calls, so a dead one costs no call its time.

use super::{GrpcError, PART_SUFFIX, method_name};
use crate::config::GrpcSection;
use crate::tls::{ClientTls, Identity, TlsOptions, Trust};
use crate::trace;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tonic::{IntoRequest, Status};
use tracing::Instrument;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that refused is left alone so long.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// How often names are looked up again: replicas come and go.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// A host that vanished without a word is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Where the replicas of a part are: `https://host:port`, several separated by commas; every address a name resolves to is one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoints(Vec<(String, u16)>);

/// A channel to all replicas of one part, or to one of them. Generated clients are `XClient<Channel>`. Clones share the connections.
#[derive(Clone)]
pub struct Channel {
    replicas: Arc<Replicas>,
    only: Option<Arc<Replica>>,
}

impl Channel {
    /// Connects when first used; the certificate at the other end must name `part`.
    pub fn new(part: &'static str, endpoints: &Endpoints, section: &GrpcSection) -> Result<Self, GrpcError> {
        let identity = Identity { certificate: section.certificate_file.clone(), key: section.key_file.clone() };
        let options = TlsOptions { alpn: vec![b"h2".to_vec()], only_tls13: true, ..TlsOptions::default() };
        let tls = ClientTls::load(Trust::Authority(section.ca_file.clone()), Some(identity), options)?;
        let way = Way::Tls { tls, names: endpoints.0.clone() };
        Ok(Self { replicas: Arc::new(Replicas::new(part, way)), only: None })
    }

    /// To the local socket of a running process.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { replicas: Arc::new(Replicas::new("admin", Way::Unix(path.into()))), only: None }
    }

    /// A channel to each replica, beginning with another one each time; none while no address is known.
    pub async fn replicas(&self) -> Vec<Self> {
        let candidates = self.replicas.candidates().await.into_iter();
        candidates.map(|replica| Self { replicas: self.replicas.clone(), only: Some(replica) }).collect()
    }

    /// Of the one replica it leads to, where that has one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.only.as_ref()?.address
    }
}

/// Says that the call may be sent again to another replica when the first one broke off without an answer. Calls that never left are
/// sent again in any case.
pub fn idempotent<T>(request: impl IntoRequest<T>) -> tonic::Request<T> {
    let mut request = request.into_request();
    request.extensions_mut().insert(Idempotent);
    request
}

/// Gives the call at most `left`; the other end knows it too and stops working when it has passed (V-44).
pub fn with_deadline<T>(request: impl IntoRequest<T>, left: Duration) -> tonic::Request<T> {
    let mut request = request.into_request();
    request.set_timeout(left);
    request
}

/// What [`with_deadline`] gave it.
pub fn deadline_of<T>(request: &tonic::Request<T>) -> Option<Duration> {
    read_timeout(request.metadata().get("grpc-timeout")?.to_str().ok()?)
}

#[derive(Clone, Copy)]
struct Idempotent;

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (replicas, only) = (self.replicas.clone(), self.only.clone());
        let path = request.uri().path().to_owned();
        let span = tracing::info_span!(
            "grpc.client",
            otel.name = method_name(&path),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            rpc.system.name = "grpc",
            rpc.method = path.trim_start_matches('/'),
            rpc.response.status_code = tracing::field::Empty,
            server.address = replicas.part,
        );
        trace::inject(&span, request.headers_mut());
        let deadline = request.headers().get("grpc-timeout").and_then(|value| read_timeout(value.to_str().ok()?));
        let request = replicas.uri(&path).map(|uri| {
            *request.uri_mut() = uri;
            Box::new(request)
        });
        let recorded = span.clone();
        Box::pin(
            async move {
                let outcome = match (request, deadline) {
                    (Err(status), _) => Err(status),
                    (Ok(request), Some(left)) => {
                        timeout(left, replicas.call(request, only)).await.unwrap_or_else(|_| Err(passed(left)))
                    }
                    (Ok(request), None) => replicas.call(request, only).await,
                };
                match &outcome {
                    Ok(response) => super::record(&recorded, response),
                    Err(status) => super::record_code(&recorded, status.code()),
                }
                outcome
            }
            .instrument(span),
        )
    }
}

fn passed(left: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} ms", left.as_millis()))
}

/// The form of the header: up to eight digits and a unit.
fn read_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

// ---- the replicas of a part

struct Replicas {
    part: &'static str,
    way: Way,
    known: ArcSwap<Vec<Arc<Replica>>>,
    next: AtomicUsize,
    resolved: tokio::sync::Mutex<Option<Instant>>,
}

enum Way {
    Tls { tls: ClientTls, names: Vec<(String, u16)> },
    Unix(PathBuf),
}

impl Replicas {
    fn new(part: &'static str, way: Way) -> Self {
        let known = match &way {
            Way::Tls { .. } => Vec::new(),
            Way::Unix(_) => vec![Arc::new(Replica::at(None))],
        };
        Self { part, way, known: ArcSwap::from_pointee(known), next: AtomicUsize::new(0), resolved: Default::default() }
    }

    fn uri(&self, path: &str) -> Result<Uri, Status> {
        let scheme = if matches!(self.way, Way::Tls { .. }) { "https" } else { "http" };
        let uri = format!("{scheme}://{}{PART_SUFFIX}{path}", self.part);
        uri.parse().map_err(|_| Status::internal("the method's path is not a path"))
    }

    /// A call may wait for a person, and many do so at once: what it holds while it waits is kept small, so the steps before are boxed.
    async fn call(
        self: &Arc<Self>,
        request: Box<Request<Body>>,
        only: Option<Arc<Replica>>,
    ) -> Result<Response<Body>, Status> {
        let candidates = match only {
            Some(replica) => vec![replica],
            None => self.candidates().await,
        };
        let mut attempt = Box::pin(Attempt::of(request)).await?;
        let mut failure = None;
        for replica in candidates.iter().filter(|replica| replica.may_be_tried()) {
            // Beside the call; ends by its own time-out, and there is one a replica at most.
            tokio::spawn({
                let (replicas, replica) = (self.clone(), replica.clone());
                async move { replica.connect(&replicas).await }
            });
        }
        for replica in &candidates {
            if let Some(sender) = replica.open() {
                match attempt.send(sender).await {
                    Sent::Answered(response) => return Ok(response),
                    Sent::Lost(status) => return Err(status),
                    Sent::Again(status) => failure = Some(status),
                }
            }
        }
        // None was connected, or those that were broke: now the call waits for a connection.
        for replica in &candidates {
            match Box::pin(replica.connect(self)).await {
                Err(status) => failure = Some(status),
                Ok(sender) => match attempt.send(sender).await {
                    Sent::Answered(response) => return Ok(response),
                    Sent::Lost(status) => return Err(status),
                    Sent::Again(status) => failure = Some(status),
                },
            }
        }
        Err(failure.unwrap_or_else(|| Status::unavailable(format!("no address of {} is known", self.part))))
    }

    /// All replicas, beginning with another one each time.
    async fn candidates(self: &Arc<Self>) -> Vec<Arc<Replica>> {
        if self.known.load().is_empty() {
            Box::pin(self.resolve()).await;
        } else if self.is_stale() {
            // Beside the call; ends by its own time-out.
            let replicas = self.clone();
            tokio::spawn(async move { replicas.resolve().await });
        }
        let mut candidates = Vec::clone(&self.known.load());
        if !candidates.is_empty() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % candidates.len();
            candidates.rotate_left(turn);
        }
        candidates
    }

    /// Whether it is time to look the names up and nobody does.
    fn is_stale(&self) -> bool {
        let old = |at: &Option<Instant>| at.is_none_or(|at| at.elapsed() >= RESOLVE_EVERY);
        matches!(self.way, Way::Tls { .. }) && self.resolved.try_lock().is_ok_and(|at| old(&at))
    }

    /// Looks the names up, unless that was just done. A name that does not resolve now keeps its replicas.
    async fn resolve(&self) {
        let Way::Tls { names, .. } = &self.way else { return };
        // Held while looking up, on purpose: who comes meanwhile waits for the same answer.
        let mut resolved = self.resolved.lock().await;
        let pause = if self.known.load().is_empty() { PAUSE_AFTER_FAILURE } else { RESOLVE_EVERY };
        if resolved.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut complete = true;
        for (host, port) in names {
            match timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host.as_str(), *port))).await {
                Ok(Ok(found)) => addresses.extend(found),
                _ => complete = false,
            }
        }
        let known = self.known.load();
        let kept =
            |replica: &Arc<Replica>| !complete || replica.address.is_some_and(|address| addresses.contains(&address));
        let mut replicas: Vec<_> = known.iter().filter(|replica| kept(replica)).cloned().collect();
        addresses.sort();
        addresses.dedup();
        for address in addresses {
            if !replicas.iter().any(|replica| replica.address == Some(address)) {
                replicas.push(Arc::new(Replica::at(Some(address))));
            }
        }
        self.known.store(Arc::new(replicas));
        *resolved = Some(Instant::now());
    }
}

// ---- one replica

struct Replica {
    address: Option<SocketAddr>,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    sender: Option<SendRequest<Body>>,
    failed: Option<(Instant, Status)>,
}

impl Replica {
    fn at(address: Option<SocketAddr>) -> Self {
        Self { address, state: Mutex::default(), connecting: tokio::sync::Mutex::new(()) }
    }

    /// The connection, if there is one that still lives.
    fn open(&self) -> Option<SendRequest<Body>> {
        self.state().sender.clone().filter(|sender| !sender.is_closed())
    }

    /// Whether it is not connected, nobody connects, and it has not just failed.
    fn may_be_tried(&self) -> bool {
        self.open().is_none() && self.connecting.try_lock().is_ok() && self.just_failed().is_none()
    }

    fn just_failed(&self) -> Option<Status> {
        let state = self.state();
        let (at, status) = state.failed.as_ref()?;
        (at.elapsed() < PAUSE_AFTER_FAILURE).then(|| status.clone())
    }

    /// The connection, made if need be. One at a time; a replica that just failed fails again at once.
    async fn connect(&self, replicas: &Replicas) -> Result<SendRequest<Body>, Status> {
        // Held while connecting, on purpose: who comes meanwhile gets the same connection or the same failure.
        let _one = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        if let Some(status) = self.just_failed() {
            return Err(status);
        }
        let opened = timeout(CONNECT_TIMEOUT, self.dial(replicas)).await;
        let opened = opened.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let mut state = self.state();
        match opened {
            Ok(sender) => {
                *state = State { sender: Some(sender.clone()), failed: None };
                Ok(sender)
            }
            Err(error) => {
                let status = Status::unavailable(format!("{} cannot be reached: {error}", replicas.part));
                *state = State { sender: None, failed: Some((Instant::now(), status.clone())) };
                Err(status)
            }
        }
    }

    async fn dial(&self, replicas: &Replicas) -> std::io::Result<SendRequest<Body>> {
        match (&replicas.way, self.address) {
            (Way::Tls { tls, .. }, Some(address)) => {
                let name =
                    ServerName::try_from(format!("{}{PART_SUFFIX}", replicas.part)).map_err(std::io::Error::other)?;
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                open(tokio_rustls::TlsConnector::from(tls.current()).connect(name, stream).await?).await
            }
            (Way::Unix(path), _) => {
                // One that has ended, or was killed, leaves its socket behind.
                let named = |error: std::io::Error| {
                    std::io::Error::new(
                        error.kind(),
                        format!("nobody answers at the socket {}: {error}", path.display()),
                    )
                };
                open(UnixStream::connect(path).await.map_err(named)?).await
            }
            (Way::Tls { .. }, None) => Err(std::io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

async fn open<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> std::io::Result<SendRequest<Body>> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(4 * 1024 * 1024)
        .initial_stream_window_size(256 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    // Ends with its connection, which ends with the last sender. Whoever calls sees why.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

// ---- one call

/// A request on its way, which may need a second one.
struct Attempt {
    request: Option<Box<Request<Body>>>,
    /// To build the request again: only for idempotent calls, and only once.
    copy: Option<Box<Copied>>,
}

struct Copied {
    head: http::request::Parts,
    body: bytes::Bytes,
}

enum Sent {
    Answered(Response<Body>),
    /// It never left, or may leave twice.
    Again(Status),
    /// Nobody knows whether it was done.
    Lost(Status),
}

impl Attempt {
    async fn of(request: Box<Request<Body>>) -> Result<Self, Status> {
        if request.extensions().get::<Idempotent>().is_none() {
            return Ok(Self { request: Some(request), copy: None });
        }
        let (head, body) = request.into_parts();
        // Copied, because it was encoded into a buffer of several KiB that would live as long as the call.
        let body = bytes::Bytes::copy_from_slice(&body.collect().await?.to_bytes());
        let copy = Copied { head: head.clone(), body: body.clone() };
        let request = Request::from_parts(head, Body::new(Full::new(body)));
        Ok(Self { request: Some(request.into()), copy: Some(copy.into()) })
    }

    async fn send(&mut self, mut sender: SendRequest<Body>) -> Sent {
        let Some(request) = self.request.take() else { return Sent::Lost(Status::internal("the request is gone")) };
        let mut error = match sender.try_send_request(*request).await {
            Ok(response) => return Sent::Answered(response.map(Body::new)),
            Err(error) => error,
        };
        let status = Status::unavailable(format!("the connection broke: {}", crate::chain(error.error())));
        self.request = error.take_message().map(Box::new).or_else(|| self.copy.take().map(Copied::again));
        if self.request.is_some() { Sent::Again(status) } else { Sent::Lost(status) }
    }
}

impl Copied {
    fn again(self: Box<Self>) -> Box<Request<Body>> {
        Box::new(Request::from_parts(self.head, Body::new(Full::new(self.body))))
    }
}

impl TryFrom<String> for Endpoints {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let endpoint = |endpoint: &str| {
            let uri: Uri = endpoint.trim().parse().ok()?;
            let bare = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
            bare.then_some((host, uri.port_u16()?))
        };
        let endpoints: Option<Vec<_>> = text.split(',').map(endpoint).collect();
        let wrong = || format!("found `{text}`; allowed: https://host:port, several separated by commas");
        endpoints.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoints, read_timeout};
    use std::time::Duration;

    #[test]
    fn endpoints_are_https_with_a_port_and_nothing_else() {
        let good = Endpoints::try_from("https://a.example:7000, https://[::1]:7001".to_owned()).expect("two");
        assert_eq!(good.0, [("a.example".to_owned(), 7000), ("::1".to_owned(), 7001)]);
        for wrong in ["", "http://a:1", "a:1", "https://a", "https://a:1/x", "https://a:1,", "https://a:99999"] {
            assert!(Endpoints::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_timeout_header_has_digits_and_a_unit() {
        assert_eq!(read_timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "m", "15", "-1S", "1x", "1é"] {
            assert_eq!(read_timeout(wrong), None, "{wrong}");
        }
    }
}
