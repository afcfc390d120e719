//! TLS: certificates from files, watched and swapped as a whole; a broken new file keeps the old one. TLS 1.2 and 1.3, forward secret
//! AEAD suites only, provider ring.

use crate::config::InputFile;
use crate::secret::SecretFile;
use crate::shutdown::Shutdown;
use std::path::PathBuf;
use std::sync::Arc;

/// The files of an identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain in PEM, ours first.
    pub certificate: InputFile,
    pub key: SecretFile,
}

/// A file cannot be used for TLS. The operator's to mend; the file is named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("the file {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the private key cannot be used")]
    Key(#[from] crate::secret::SecretError),
    #[error("{} is not PEM with {expected}", path.display())]
    Malformed { path: PathBuf, expected: &'static str },
    #[error("certificate {} and key {} do not belong together or cannot be used", certificate.display(), key.display())]
    Mismatch {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    #[error("{} holds no certificate that can be trusted", path.display())]
    Untrustworthy { path: PathBuf },
    #[error("the system has no trusted certificates; name a ca_file")]
    NoRoots,
}

/// Whom a server lets in.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    None,
    /// A certificate from this authority is verified when one is sent.
    Optional(InputFile),
    Required(InputFile),
}

/// Whom a client trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The roots of the operating system.
    System,
    /// One private authority.
    Authority(InputFile),
}

/// The server side of TLS. Clones follow the same files.
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<()>,
}

/// What else a server wants.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Application protocols in order of preference, such as `h2`.
    pub alpn: Vec<Vec<u8>>,
    /// TLS 1.3 only.
    pub only_tls13: bool,
}

impl ServerTls {
    /// Loads now. `name` is the label of the expiry metric (`ldap`, `radsec`, `portal`, `grpc`).
    pub fn load(
        _name: &'static str,
        _identity: Identity,
        _clients: ClientAuth,
        _options: ServerOptions,
    ) -> Result<Self, TlsError> {
        todo!()
    }

    /// What the next handshake uses.
    pub fn current(&self) -> Arc<rustls::ServerConfig> {
        let _ = &self.inner;
        todo!()
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current().into()
    }

    /// Reads the files again and swaps, or keeps what there is.
    pub fn reload(&self) -> Result<(), TlsError> {
        todo!()
    }

    /// Reloads on SIGHUP and when the files change, until the process stops.
    pub fn watch(&self, _shutdown: &Shutdown) {
        todo!()
    }
}

/// The client side of TLS. Clones follow the same files.
#[derive(Clone)]
pub struct ClientTls {
    inner: Arc<()>,
}

impl ClientTls {
    pub fn load(_trust: Trust, _identity: Option<Identity>) -> Result<Self, TlsError> {
        todo!()
    }

    /// What the next handshake uses. Files that have changed are read again.
    pub fn current(&self) -> Arc<rustls::ClientConfig> {
        let _ = &self.inner;
        todo!()
    }
}

/// Installs ring as the provider of the process. Harmless when repeated.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
