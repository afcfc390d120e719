//! Connections and what all requests have in common.
//!
//! ```text
//! accept -> TLS handshake -> HTTP/1.1 or HTTP/2 -> client's address, headers -> panic fence, span, time limit -> page or API
//! ```

mod headers;
mod origin;
mod source;

pub(crate) use origin::same_origin;
pub(crate) use source::ClientAddress;

use crate::app::App;
use crate::config::Transport;
use crate::metrics::{Limited, Metrics};
use crate::{api, callback, console, phone, self_service};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use service_kit::health::Condition;
use service_kit::tls::{ClientAuth, ServerTls, TlsError, TlsOptions};
use service_kit::{Process, Shutdown};
use source::Peer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

/// Connections at once; what comes above is closed.
const CONNECTIONS_MAX: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request, and for the pause between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// For a request as a whole: longer than the longest of what it asks of other parts, [`crate::attempt::Attempt::wait`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// A caller of the API may ask us to wait for a person for so long.
const LONG_REQUEST_TIMEOUT: Duration = Duration::from_secs(70);
const STREAMS_PER_CONNECTION_MAX: u32 = 64;
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The portal cannot listen. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the portal's port {address} cannot be opened")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("the portal's certificate cannot be used")]
    Tls(#[from] TlsError),
}

/// What is served, by path.
pub(crate) struct Routers {
    pub portal: Router,
    /// For phones alone (FM-01): may be reached from outside, where nothing else of the portal is.
    pub phone: Router,
}

impl Routers {
    pub fn new(app: &Arc<App>) -> Self {
        let phone = phone::router(app.clone());
        let portal = Router::new()
            .merge(self_service::router(app.clone()))
            .merge(callback::router(app.clone()))
            .merge(console::router(app.clone()))
            .merge(phone.clone())
            .nest("/api/v1", api::router(app.clone()));
        let phone = phone.merge(self_service::assets(app.clone()));
        Self { portal: in_common(portal, app.clone()), phone: in_common(phone, app.clone()) }
    }
}

fn in_common(router: Router, app: Arc<App>) -> Router {
    router
        .layer(from_fn(observe))
        .layer(CatchPanicLayer::custom(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()))
        .layer(from_fn(headers::secure))
        .layer(from_fn_with_state(app, source::find_client))
}

/// A span and a time limit for each request.
async fn observe(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "portal.request",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = request.method().as_str(),
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        twinlock.request_id = tracing::field::Empty,
    );
    let limit = if api::waits(route) || console::waits(route) { LONG_REQUEST_TIMEOUT } else { REQUEST_TIMEOUT };
    let answered = tokio::time::timeout(limit, next.run(request).instrument(span.clone())).await;
    let response = answered.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// Bound ports that do not serve yet.
pub(crate) struct Listeners {
    name: &'static str,
    bound: Vec<(TcpListener, SocketAddr)>,
    tls: Option<ServerTls>,
    metrics: Metrics,
    ready: Condition,
}

impl Listeners {
    pub async fn bind(
        name: &'static str,
        listen: &[SocketAddr],
        transport: Transport,
        metrics: Metrics,
        process: &Process,
    ) -> Result<Self, ListenError> {
        let ready = process.health().condition(name);
        let tls = match transport {
            Transport::BehindProxy => None,
            Transport::Tls(identity) => {
                let options = TlsOptions { alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()], ..TlsOptions::default() };
                let tls = ServerTls::load("portal", identity, ClientAuth::None, options)?;
                tls.watch(process.shutdown());
                Some(tls)
            }
        };
        if tls.is_none() {
            tracing::warn!(key = "portal.danger_plain_http", "portal speaks HTTP without TLS");
        }
        let mut bound = Vec::new();
        for address in listen.iter().copied() {
            let failed = |cause| ListenError::Listen { address, cause };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            bound.push((listener, address));
        }
        Ok(Self { name, bound, tls, metrics, ready })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(_, address)| *address).collect()
    }

    /// Accepts until the process drains.
    pub fn serve(self, router: Router, process: &Process) {
        let shutdown = process.shutdown();
        let server = Server {
            router,
            tls: self.tls,
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            metrics: self.metrics,
            shutdown: shutdown.clone(),
        };
        for (listener, address) in self.bound {
            tracing::info!(%address, listener = self.name, "portal listens");
            shutdown.spawn(server.clone().accept(listener));
        }
        self.ready.set_ready(true);
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<ServerTls>,
    room: Arc<Semaphore>,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        loop {
            // Cancel safety: a connection that accept has not returned stays in the kernel's queue.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.draining() => return,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors, mostly: turning at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            match self.room.clone().try_acquire_owned() {
                Ok(seat) => drop(self.shutdown.spawn(self.clone().connection(stream, peer, seat))),
                Err(_) => self.metrics.limited(Limited::Connections),
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, _seat: OwnedSemaphorePermit) {
        // Small answers, and each of them is waited for.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.speak(stream, peer).await };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream));
        // Cancel safety: a handshake that is dropped closes its connection.
        let accepted = tokio::select! { accepted = handshake => accepted, () = self.shutdown.draining() => return };
        match accepted {
            Ok(Ok(stream)) => self.speak(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: SocketAddr) {
        let service = self.router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            request.map(axum::body::Body::new)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(HEAD_TIMEOUT)
            .keep_alive_timeout(HEAD_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        // Cancel safety: the connection is pinned and polled on after the drain began; dropping it at the stop closes it.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.draining() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! { ended = connection => ended, () = self.shutdown.stopping() => Ok(()) }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended badly");
        }
    }
}
