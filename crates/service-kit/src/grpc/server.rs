//! The server side: accept, authenticate, permit, trace.

use super::{GrpcError, PART_SUFFIX, method_name};
use crate::config::GrpcSection;
use crate::tls::{ClientAuth, Identity, ServerTls, TlsOptions};
use crate::{Process, Shutdown, trace};
use futures::future::BoxFuture;
use http::{Request, Response};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tracing::Instrument;

/// Whether `part` may call `path` (`/package.Service/Method`).
pub type Permitted = fn(part: &str, path: &str) -> bool;

/// Handshakes at once; what comes above is closed, and the caller tries again.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Each waiting login is a call that waits, and a gateway has room for 65,536 and still has to ask whether we are there. Only
/// authenticated parts get this far.
const CALLS_PER_CONNECTION_MAX: u32 = 131_072;

/// Who calls: in the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From the certificate; `admin` on the local socket.
    pub part: String,
    pub address: Option<SocketAddr>,
    /// The user at the other end of the local socket.
    pub uid: Option<u32>,
}

/// A set of services, served over mutual TLS, the local socket or both.
#[derive(Clone)]
pub struct Server {
    routes: tonic::service::Routes,
    permitted: Permitted,
}

impl Server {
    /// `permitted` is the table of who may call what; what it does not allow is refused.
    pub fn new(permitted: Permitted) -> Self {
        Self { routes: tonic::service::Routes::default(), permitted }
    }

    /// Adds a generated `XServer::new(implementation)`.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "a service is not a number")]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Error = Infallible>
            + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self
    }

    /// Binds and serves until the process drains. Returns the bound address.
    pub async fn serve(self, section: &GrpcSection, process: &Process) -> Result<SocketAddr, GrpcError> {
        let identity = Identity { certificate: section.certificate_file.clone(), key: section.key_file.clone() };
        let options = TlsOptions { alpn: vec![b"h2".to_vec()], only_tls13: true, ..TlsOptions::default() };
        let tls = ServerTls::load("grpc", identity, ClientAuth::Required(section.ca_file.clone()), options)?;
        let listen = |cause| GrpcError::Listen { address: section.listen, cause };
        let listener = TcpListener::bind(section.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        tls.watch(process.shutdown());
        let (connections, incoming) = mpsc::channel(HANDSHAKES_MAX);
        process.shutdown().spawn(accept(listener, tls, connections, process.shutdown().clone()));
        self.run(incoming, process);
        process.health().condition("grpc listener").set_ready(true);
        Ok(address)
    }

    /// Serves on a Unix socket that only its owner and group can open, without TLS. The part is `admin`.
    pub async fn serve_unix(self, path: &Path, process: &Process) -> Result<(), GrpcError> {
        let failed = |cause| GrpcError::Socket { path: path.to_owned(), cause };
        // A socket nobody answers on was left by a process that is gone.
        if path.exists() && UnixStream::connect(path).await.is_err() {
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let (connections, incoming) = mpsc::channel(HANDSHAKES_MAX);
        process.shutdown().spawn(accept_local(listener, connections, process.shutdown().clone()));
        self.run(incoming, process);
        Ok(())
    }

    fn run(self, incoming: mpsc::Receiver<std::io::Result<Connection>>, process: &Process) {
        let (reporter, health) = tonic_health::server::health_reporter();
        let routes = self.routes.add_service(health);
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
            .initial_connection_window_size(4 * 1024 * 1024)
            .initial_stream_window_size(256 * 1024)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            // Callers give up by the thousand when a phone provider is slow; that is no attack.
            .http2_max_pending_accept_reset_streams(Some(CALLS_PER_CONNECTION_MAX as usize))
            .layer(GateLayer { permitted: self.permitted })
            .add_routes(routes);
        let shutdown = process.shutdown().clone();
        process.shutdown().spawn(async move {
            let draining = async {
                shutdown.draining().await;
                reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            };
            let served = server.serve_with_incoming_shutdown(ReceiverStream::new(incoming), draining);
            // Cancel safety: dropping the server closes what is left, which is what stopping means.
            tokio::select! {
                outcome = served => if let Err(error) = outcome {
                    tracing::error!(error = %crate::chain(&error), "gRPC server ended");
                },
                () = shutdown.stopping() => {}
            }
        });
    }
}

// ---- connections

type Connections = mpsc::Sender<std::io::Result<Connection>>;

async fn accept(listener: TcpListener, tls: ServerTls, connections: Connections, shutdown: Shutdown) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        // Cancel safety: a connection that accept has not returned stays in the kernel's queue.
        let accepted = tokio::select! { accepted = listener.accept() => accepted, () = shutdown.draining() => return };
        let Ok((stream, address)) = accepted else {
            // Out of file descriptors, mostly: turning at once would only burn the processor.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
        let (acceptor, connections) = (tls.acceptor(), connections.clone());
        // Ends by its own time-out.
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(acceptor, stream, address)).await {
                // A closed channel means that we drain.
                Ok(Ok(connection)) => drop(connections.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::warn!(peer = %address, error = %error, "gRPC connection refused"),
                Err(_) => tracing::warn!(peer = %address, "gRPC handshake took too long"),
            }
        });
    }
}

async fn handshake(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> std::io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let part = stream.get_ref().1.peer_certificates().and_then(|chain| part_of(chain.first()?));
    let part = part.ok_or_else(|| std::io::Error::other("the certificate names no part, or several"))?;
    Ok(Connection { stream: Box::pin(stream), peer: Peer { part, address: Some(address), uid: None } })
}

async fn accept_local(listener: UnixListener, connections: Connections, shutdown: Shutdown) {
    loop {
        // Cancel safety: as above.
        let accepted = tokio::select! { accepted = listener.accept() => accepted, () = shutdown.draining() => return };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(user) = stream.peer_cred() else { continue };
        tracing::info!(uid = user.uid(), "admin socket opened");
        let peer = Peer { part: "admin".to_owned(), address: None, uid: Some(user.uid()) };
        drop(connections.send(Ok(Connection { stream: Box::pin(stream), peer })).await);
    }
}

/// The part that a certificate names: the first label of its one DNS name under our suffix.
fn part_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??.value;
    let mut parts = names.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => name.strip_suffix(PART_SUFFIX),
        _ => None,
    });
    let part = parts.next().filter(|part| !part.is_empty() && !part.contains(['.', '*']))?;
    parts.next().is_none().then(|| part.to_owned())
}

/// A connection and who is at its other end.
struct Connection {
    stream: Pin<Box<dyn Stream>>,
    peer: Peer,
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<std::io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, octets)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

// ---- calls

/// Opens the span of a call under the caller's, and refuses what the table does not list.
#[derive(Clone)]
struct GateLayer {
    permitted: Permitted,
}

impl<S> tower::Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, permitted: self.permitted }
    }
}

#[derive(Clone)]
struct Gate<S> {
    inner: S,
    permitted: Permitted,
}

impl<S, B> tower::Service<Request<B>> for Gate<S>
where
    S: tower::Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let span = tracing::info_span!(
            "grpc.server",
            otel.name = method_name(path),
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            rpc.system.name = "grpc",
            rpc.method = path.trim_start_matches('/'),
            rpc.response.status_code = tracing::field::Empty,
        );
        trace::adopt(&span, request.headers());
        let peer = request.extensions().get::<Peer>();
        let permitted =
            peer.is_some_and(|peer| path.starts_with("/grpc.health.v1.Health/") || (self.permitted)(&peer.part, path));
        if !permitted {
            let part = peer.map_or("", |peer| &peer.part);
            span.in_scope(|| tracing::warn!(part, method = path, "gRPC call not permitted"));
            let refused = Status::permission_denied("this part may not call this method").into_http();
            super::record(&span, &refused);
            return Box::pin(std::future::ready(Ok(refused)));
        }
        let call = self.inner.call(request).instrument(span.clone());
        Box::pin(async move {
            let response = call.await?;
            super::record(&span, &response);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::part_of;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        rcgen::CertificateParams::new(names).expect("names").self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn the_part_is_the_one_dns_name_under_the_suffix() {
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["portal.twinlock.internal"], Some("portal")),
            (&["portal.example.com", "radius-gateway.twinlock.internal", "10.0.0.1"], Some("radius-gateway")),
            (&["portal.twinlock.internal", "user-store.twinlock.internal"], None),
            (&["user-store.portal.twinlock.internal"], None),
            (&["*.twinlock.internal"], None),
            (&["portal.twinlock.internal.example.com"], None),
            (&["portal.example.com"], None),
            (&[], None),
        ];
        for (names, part) in cases {
            assert_eq!(part_of(&certificate(names)).as_deref(), part, "for {names:?}");
        }
        assert_eq!(part_of(b"not a certificate"), None);
    }
}
