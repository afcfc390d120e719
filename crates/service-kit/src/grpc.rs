//! gRPC between parts: mutual TLS, the certificate names the part, a table says who may call what, the trace goes along, and a call
//! fails over between replicas.

mod client;
mod server;

pub use client::{Channel, Endpoints, deadline_of, idempotent, with_deadline};
pub use server::{Peer, Permitted, Server};

use std::net::SocketAddr;
use std::path::PathBuf;

/// The names of parts end so: `verification.twinlock.internal`.
pub const PART_SUFFIX: &str = ".twinlock.internal";

/// A gRPC server or client could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    #[error("the gRPC port {address} cannot be opened")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("the socket {} cannot be opened", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the certificates for gRPC cannot be used")]
    Tls(#[from] crate::tls::TlsError),
}

/// `Verification/Begin` of `/twinlock.verification.v1.Verification/Begin`.
fn method_name(path: &str) -> &str {
    let method = path.trim_start_matches('/');
    let service = method.split('/').next().unwrap_or_default();
    &method[service.rfind('.').map_or(0, |dot| dot + 1)..]
}

/// Writes the outcome of a call into its span. What ends well says so in trailers, which nobody waits for here.
fn record(span: &tracing::Span, response: &http::Response<tonic::body::Body>) {
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        record_code(span, status.code());
    }
}

fn record_code(span: &tracing::Span, code: tonic::Code) {
    span.record("rpc.response.status_code", i32::from(code));
    if code != tonic::Code::Ok {
        span.record("otel.status_code", "ERROR");
    }
}
