//! gRPC between parts: mutual TLS, the certificate names the part, a table says who may call what, the trace goes along, and a call
//! fails over between replicas.

mod client;
mod server;

pub use client::{Channel, Endpoints, idempotent, with_deadline};
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
