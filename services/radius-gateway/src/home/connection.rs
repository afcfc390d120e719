//! A connection to a home server by TLS: whom we believe it to be, and how long it may take to come about.

use domain::settings;
use rustls_pki_types::{CertificateDer, ServerName};
use service_kit::config::InputFile;
use service_kit::net::keep_alive;
use service_kit::tls::{ClientTls, Identity, TlsError, TlsOptions, Trust};
use std::io;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(super) type Stream = TlsStream<TcpStream>;

/// For name, connection and handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How often the certificate of an open connection is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How a server proves who it is, and we to it.
pub(crate) struct TlsWay {
    authority: Option<String>,
    identity: Identity,
    revocation_lists: Option<InputFile>,
    /// Absent as long as its files cannot be used. Once they could be, it follows them by itself.
    tls: OnceLock<ClientTls>,
    name: ServerName<'static>,
}

/// What we bring to connections: who we are, and what authorities of servers have revoked.
#[derive(Clone, Default)]
pub(crate) struct OurSide {
    pub(crate) identity: Option<Identity>,
    pub(crate) revocation_lists: Option<InputFile>,
}

/// A server cannot be asked by TLS. The operator's to mend where our own certificate is, else the administrator's.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTlsWay {
    #[error("radius.tls_certificate_file and radius.tls_key_file are not set, and servers want to know who asks")]
    NoIdentity,
    #[error("{0} is neither a host name nor an IP address")]
    Name(String),
}

impl TlsWay {
    pub(super) fn new(server: &settings::HomeServer, our_side: &OurSide) -> Result<Self, NoTlsWay> {
        let identity = our_side.identity.clone().ok_or(NoTlsWay::NoIdentity)?;
        let name = server.server_name.as_ref().unwrap_or(&server.address);
        let name = ServerName::try_from(name.clone()).map_err(|_| NoTlsWay::Name(name.clone()))?;
        let authority = server.ca.clone();
        // Nobody has the lists of all authorities of the system.
        let revocation_lists = authority.as_ref().and(our_side.revocation_lists.clone());
        Ok(Self { authority, identity, revocation_lists, tls: OnceLock::new(), name })
    }

    /// What connections are opened with. Where the files cannot be used they are read again the next time.
    pub(super) fn tls(&self) -> Result<&ClientTls, TlsError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let trust = self.authority.clone().map_or(Trust::System, Trust::AuthorityText);
        let options = TlsOptions { revocation_lists: self.revocation_lists.clone(), ..TlsOptions::default() };
        let tls = ClientTls::load(trust, Some(self.identity.clone()), options)?;
        Ok(self.tls.get_or_init(|| tls))
    }

    /// Waits until the certificate that a connection was opened with does not count any more: expired, or revoked.
    pub(super) async fn distrusts(&self, chain: &[CertificateDer<'_>]) {
        while self.trusts(chain) {
            sleep(LOOK_AGAIN).await;
        }
    }

    fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.tls.get().is_some_and(|tls| tls.still_trusts(chain, &self.name))
    }
}

/// What the other side has shown, its own first.
pub(super) fn certificates(stream: &Stream) -> &[CertificateDer<'static>] {
    stream.get_ref().1.peer_certificates().unwrap_or_default()
}

/// A session that goes on (RFC 8446 section 2.2) shows no certificate; that of its first connection may have expired.
fn distrusted() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its certificate does not count any more")
}

/// The name is looked up each time. Of its addresses the first that answers is taken.
pub(super) async fn open(host: &str, port: u16, way: &TlsWay) -> io::Result<Stream> {
    let opening = async {
        let tls = way.tls().map_err(io::Error::other)?;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    keep_alive(&stream);
                    let stream = TlsConnector::from(tls.current()).connect(way.name.clone(), stream).await?;
                    return way.trusts(certificates(&stream)).then_some(stream).ok_or_else(distrusted);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    timeout(CONNECT_LIMIT, opening).await.map_err(late)?
}
