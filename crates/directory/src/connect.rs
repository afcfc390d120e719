//! From a server's name to a stream that may carry a password: TCP, then TLS from the first octet or by StartTLS.

use crate::connection::{Broken, Connection};
use crate::observe::Outcome;
use crate::sealed::SealedStream;
use crate::server::ServerName;
use crate::tls;
use ldap_wire::{ExtendedRequest, ExtendedResponse, Op, ResultCode};
use ntlm::ChannelBinding;
use rustls::{CertificateError, ClientConfig};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A stream of its own to one server, for one client of the LDAP gateway (L-30). Nothing has been sent on it but StartTLS.
pub struct Upstream {
    pub stream: Stream,
    pub server: ServerName,
    /// For the binds on it.
    pub channel: Channel,
}

/// What a bind can be bound to: whoever is between us and the server has another channel.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Absent where the certificate's signature has no hash function that one could take (RFC 5929 section 4.1).
    Tls(Option<ChannelBinding>),
    Clear,
}

impl Upstream {
    /// May it carry what only TLS may carry (L-14)?
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

/// Nobody to talk to. Nothing that matters has been sent: the next server may be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No such name, no route, refused, or closed during the handshake.
    #[error("{server} could not be reached")]
    Unreachable {
        server: ServerName,
        #[source]
        cause: io::Error,
    },
    #[error("{server} did not answer in time")]
    Timeout { server: ServerName },
    /// It answered, but it cannot prove that it is the server of the settings.
    #[error("{server} failed the TLS handshake: {fault}")]
    Tls {
        server: ServerName,
        fault: TlsFault,
        #[source]
        cause: io::Error,
    },
    #[error("{server} refused StartTLS with code {code}")]
    StartTlsRefused { server: ServerName, code: ResultCode },
    /// What listens there does not speak LDAP as RFC 4511 has it.
    #[error("{server} does not speak LDAP")]
    Protocol {
        server: ServerName,
        #[source]
        cause: Broken,
    },
}

/// What is wrong with a server's TLS, as far as an administrator can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("its certificate is signed by nobody we trust")]
    Untrusted,
    #[error("its certificate is none of those that the settings pin")]
    NotPinned,
    #[error("its certificate names another host")]
    NameMismatch,
    #[error("its certificate has expired or is not valid yet")]
    Expired,
    #[error("its certificate is not acceptable")]
    BadCertificate,
    #[error("no common version or suite, or no TLS at all")]
    Handshake,
}

impl ConnectError {
    pub fn server(&self) -> &ServerName {
        match self {
            Self::Unreachable { server, .. }
            | Self::Timeout { server }
            | Self::Tls { server, .. }
            | Self::StartTlsRefused { server, .. }
            | Self::Protocol { server, .. } => server,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable { .. } => Outcome::Unreachable,
            Self::Timeout { .. } => Outcome::Timeout,
            Self::Tls { .. } => Outcome::Tls,
            Self::StartTlsRefused { .. } => Outcome::Directory,
            Self::Protocol { .. } => Outcome::Protocol,
        }
    }
}

/// How a connection is protected.
#[derive(Clone)]
pub(crate) enum Protection {
    Tls(Arc<ClientConfig>),
    /// Only to `ldap://`: with `danger_clear_text`, or for a Windows logon that seals what follows.
    Clear,
}

/// One server, all steps within `limit`. `peer` = which of those that its name leads to; else any of them.
pub(crate) async fn establish(
    server: &ServerName,
    peer: Option<SocketAddr>,
    protection: &Protection,
    limit: Duration,
) -> Result<Connection, ConnectError> {
    match tokio::time::timeout(limit, steps(server, peer, protection)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout { server: server.clone() }),
    }
}

const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

async fn steps(
    server: &ServerName,
    peer: Option<SocketAddr>,
    protection: &Protection,
) -> Result<Connection, ConnectError> {
    let unreachable = |cause| ConnectError::Unreachable { server: server.clone(), cause };
    let tcp = match peer {
        Some(peer) => TcpStream::connect(peer).await,
        None => TcpStream::connect((server.host(), server.port())).await,
    };
    let tcp = tcp.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    // A search that never ends must learn that its server has gone, though it has nothing to send (S-34).
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
    let config = match protection {
        Protection::Clear => return Ok(Connection::new(Stream::Clear(tcp), server.clone())),
        Protection::Tls(config) => Arc::clone(config),
    };
    let tcp = if server.is_ldaps() { tcp } else { start_tls(tcp, server).await? };
    let name = rustls_pki_types::ServerName::try_from(server.host().to_owned())
        .map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(stream) => Ok(Connection::new(Stream::Tls(Box::new(stream)), server.clone())),
        Err(cause) => Err(match tls_fault(&cause) {
            Some(fault) => ConnectError::Tls { server: server.clone(), fault, cause },
            None => unreachable(cause),
        }),
    }
}

/// RFC 4511 section 4.14. Octets that came behind the answer, and so before TLS, were put there by somebody else.
async fn start_tls(tcp: TcpStream, server: &ServerName) -> Result<TcpStream, ConnectError> {
    let broken = |cause| match cause {
        Broken::Io(cause) => ConnectError::Unreachable { server: server.clone(), cause },
        cause => ConnectError::Protocol { server: server.clone(), cause },
    };
    let mut connection = Connection::new(Stream::Clear(tcp), server.clone());
    let id = connection.next_id();
    connection.send(&ExtendedRequest::start_tls().encode(id, &[])).await.map_err(broken)?;
    let answer = connection.receive().await.map_err(broken)?;
    if answer.id() != id || answer.op() != Op::ExtendedResponse {
        return Err(broken(Broken::UnexpectedMessage));
    }
    let response = ExtendedResponse::decode(&answer).map_err(|error| broken(error.into()))?;
    if !response.result.is_success() {
        return Err(ConnectError::StartTlsRefused { server: server.clone(), code: response.result.code });
    }
    match connection.into_stream() {
        Some(Stream::Clear(tcp)) => Ok(tcp),
        _ => Err(broken(Broken::UnexpectedMessage)),
    }
}

/// `None` where the trouble was not TLS but the connection.
fn tls_fault(error: &io::Error) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::Untrusted,
            CertificateError::ApplicationVerificationFailure => TlsFault::NotPinned,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::NameMismatch
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
            _ => TlsFault::BadCertificate,
        },
        _ => TlsFault::Handshake,
    })
}

/// TCP, with or without something around it.
pub enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// By a Windows logon of our own account.
    Sealed(Box<SealedStream>),
}

impl Stream {
    /// Who is at the other end; `None` = nobody any more.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Clear(tcp) => tcp.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Sealed(stream) => stream.peer(),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::Tls(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                Channel::Tls(certificate.and_then(|certificate| tls::end_point(certificate)))
            }
            Self::Clear(_) | Self::Sealed(_) => Channel::Clear,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Sealed(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Sealed(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Sealed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Sealed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn of_several_servers_behind_a_name_the_one_that_is_wanted_is_connected_to() {
        // S-41: what the name leads to by now does not matter.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let peer = listener.local_addr().expect("it is bound");
        let server = ServerName::parse("ldap://elsewhere.invalid").expect("a URL");
        let limit = Duration::from_secs(5);
        let connection = establish(&server, Some(peer), &Protection::Clear, limit).await.expect("connected");
        assert_eq!((connection.peer(), connection.server()), (Some(peer), &server));
        assert!(establish(&server, None, &Protection::Clear, limit).await.is_err(), "nobody has that name");
    }
}
