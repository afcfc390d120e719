//! A connection to a home server by TLS: whom we believe it to be, and how long it may take to come about.

use domain::settings;
use rustls_pki_types::ServerName;
use service_kit::net::keep_alive;
use service_kit::tls::{ClientTls, Identity, TlsError, TlsOptions, Trust};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(super) type Stream = TlsStream<TcpStream>;

/// For name, connection and handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How a server proves who it is, and we to it.
pub(crate) struct TlsWay {
    tls: ClientTls,
    name: ServerName<'static>,
}

/// A server cannot be asked by TLS. The operator's to mend where our own certificate is, else the administrator's.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTlsWay {
    #[error("radius.tls_certificate_file and radius.tls_key_file are not set, and servers want to know who asks")]
    NoIdentity,
    #[error("{0} is neither a host name nor an IP address")]
    Name(String),
    #[error("its certificates cannot be used")]
    Tls(#[from] TlsError),
}

impl TlsWay {
    pub(super) fn new(server: &settings::HomeServer, identity: Option<Identity>) -> Result<Self, NoTlsWay> {
        let identity = identity.ok_or(NoTlsWay::NoIdentity)?;
        let name = server.server_name.as_ref().unwrap_or(&server.address);
        let name = ServerName::try_from(name.clone()).map_err(|_| NoTlsWay::Name(name.clone()))?;
        let trust = server.ca.clone().map_or(Trust::System, Trust::AuthorityText);
        Ok(Self { tls: ClientTls::load(trust, Some(identity), TlsOptions::default())?, name })
    }
}

/// The name is looked up each time. Of its addresses the first that answers is taken.
pub(super) async fn open(host: &str, port: u16, way: &TlsWay) -> io::Result<Stream> {
    let opening = async {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    keep_alive(&stream);
                    return TlsConnector::from(way.tls.current()).connect(way.name.clone(), stream).await;
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    timeout(CONNECT_LIMIT, opening).await.map_err(late)?
}
