//! The server side: accept, authenticate, permit, trace.

use super::GrpcError;
use crate::Process;
use crate::config::GrpcSection;
use std::net::SocketAddr;
use std::path::Path;

/// Whether `part` may call `path` (`/package.Service/Method`).
pub type Permitted = fn(part: &str, path: &str) -> bool;

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
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<tonic::body::Body>, Error = std::convert::Infallible>
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
    pub async fn serve(self, _section: &GrpcSection, _process: &Process) -> Result<SocketAddr, GrpcError> {
        let _ = self.permitted;
        todo!()
    }

    /// Serves on a Unix socket that only its owner and group can open, without TLS. The part is `admin`.
    pub async fn serve_unix(self, _path: &Path, _process: &Process) -> Result<(), GrpcError> {
        todo!()
    }
}
