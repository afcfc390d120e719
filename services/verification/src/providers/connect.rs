//! A connection to a provider that speaks something else than HTTP: TCP, with TLS over it where it is wanted.

use super::http::{TrustError, trust};
use rustls::pki_types::ServerName;
use std::io::ErrorKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The stream, whatever is under it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    #[error("no connection: {0}")]
    NoConnection(ErrorKind),
    #[error("its host has no name for TLS")]
    NoName,
    #[error(transparent)]
    Trust(TrustError),
    #[error("no trust in its certificate")]
    NoTls,
}

/// `ca`: with TLS, and an authority as for [`trust`]. Time is the caller's.
pub async fn connect(host: &str, port: u16, ca: Option<&str>) -> Result<Box<dyn Stream>, ConnectFailure> {
    let connected = TcpStream::connect((host, port)).await;
    let stream = connected.map_err(|error| ConnectFailure::NoConnection(error.kind()))?;
    // What is said is short, and waited for.
    let _ = stream.set_nodelay(true);
    let Some(ca) = ca else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectFailure::NoName)?;
    let connector = tokio_rustls::TlsConnector::from(trust(ca).map_err(ConnectFailure::Trust)?);
    let stream = connector.connect(name, stream).await.map_err(|_| ConnectFailure::NoTls)?;
    Ok(Box::new(stream))
}
