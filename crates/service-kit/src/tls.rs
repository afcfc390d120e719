//! TLS: certificates from files, watched and swapped as a whole; a broken new file keeps the old one. TLS 1.2 and 1.3, forward secret
//! AEAD suites only, provider ring.

use crate::config::InputFile;
use crate::secret::SecretFile;
use crate::shutdown::Shutdown;
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// How often changed files are looked for. Renewal leaves days, not seconds.
const LOOK_EVERY: Duration = Duration::from_secs(10);

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
    #[error("the text of the authority is no PEM with a certificate that can be trusted")]
    UntrustworthyText,
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
    /// The same as PEM text, for what stands in settings.
    AuthorityText(String),
}

/// What both ends may choose.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Application protocols in order of preference, such as `h2`.
    pub alpn: Vec<Vec<u8>>,
    /// TLS 1.3 only.
    pub only_tls13: bool,
    /// What a server asks before it believes the certificate of a client: the revocation lists (CRL, RFC 5280 section 5) of every
    /// authority in its chain, in PEM. Without that of an authority, or with one past its time, nobody of it is let in.
    pub revocation_lists: Option<InputFile>,
}

/// The server side of TLS. Clones follow the same files.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<Followed<Server>>,
}

struct Server {
    config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    lists: Option<RevocationLists>,
}

impl ServerTls {
    /// Loads now. `name` is the label of the expiry metric (`ldap`, `radsec`, `portal`, `grpc`).
    pub fn load(
        name: &'static str,
        identity: Identity,
        clients: ClientAuth,
        options: TlsOptions,
    ) -> Result<Self, TlsError> {
        let mut paths = identity.paths();
        if let ClientAuth::Optional(authority) | ClientAuth::Required(authority) = &clients {
            paths.push(authority.path().to_owned());
        }
        paths.extend(options.revocation_lists.as_ref().map(|lists| lists.path().to_owned()));
        let build = move || server_config(name, &identity, &clients, &options);
        Ok(Self { files: Arc::new(Followed::load(paths, build)?) })
    }

    /// What the next handshake uses.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.files.current.load().config.clone()
    }

    /// Whether a client with this chain, its own certificate first, would be let in now: certificates expire and authorities change
    /// while a connection stays open, and a resumed session asks nobody.
    pub fn still_trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        let now = UnixTime::now();
        let server = self.files.current.load();
        // One that asks for no certificate verifies none.
        server.clients.offer_client_auth() && server.clients.verify_client_cert(own, others, now).is_ok()
    }

    /// An acceptor for the next handshake. Take a new one for each connection.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current().into()
    }

    /// Reads the files again and swaps, or keeps what there is.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.files.reload()
    }

    /// Reloads on SIGHUP and when the files change, until the process stops.
    pub fn watch(&self, shutdown: &Shutdown) {
        let files = self.files.clone();
        shutdown.spawn_until_stopping(async move {
            let mut hangup = signal(SignalKind::hangup()).ok();
            let mut told = false;
            loop {
                // Once for each that ends, not at every look.
                let current = files.current.load_full();
                let over = current.lists.as_ref().filter(|lists| lists.are_over());
                if let Some(lists) = over.filter(|_| !told) {
                    lists.tell();
                }
                told = over.is_some();
                let asked = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                // Cancel safety: both only say that it is time to look.
                tokio::select! {
                    _ = asked => report(files.reload().map(|()| true)),
                    () = tokio::time::sleep(LOOK_EVERY) => report(files.reload_if_changed()),
                }
            }
        });
    }
}

/// The client side of TLS. Clones follow the same files.
#[derive(Clone)]
pub struct ClientTls {
    files: Arc<Followed<ClientConfig>>,
}

impl ClientTls {
    pub fn load(trust: Trust, identity: Option<Identity>, options: TlsOptions) -> Result<Self, TlsError> {
        let mut paths = identity.as_ref().map(Identity::paths).unwrap_or_default();
        if let Trust::Authority(authority) = &trust {
            paths.push(authority.path().to_owned());
        }
        let build = move || client_config(&trust, identity.as_ref(), &options);
        Ok(Self { files: Arc::new(Followed::load(paths, build)?) })
    }

    /// What the next handshake uses. Files that have changed are read again.
    pub fn current(&self) -> Arc<ClientConfig> {
        report(self.files.reload_if_changed());
        self.files.current.load_full()
    }
}

/// What settings may name a certificate by: its fingerprint, and each DNS name in it that stands for one host.
pub fn marks(certificate: &[u8]) -> Vec<String> {
    let mut marks = vec![format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(certificate)))];
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return marks };
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        marks.extend(names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) if !name.contains('*') => Some(format!("dns:{}", name.to_ascii_lowercase())),
            _ => None,
        }));
    }
    marks
}

/// Installs ring as the provider of the process. Harmless when repeated.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

// ---- following files

/// Something made from files, made again when they change.
struct Followed<T> {
    paths: Vec<PathBuf>,
    build: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Vec<Option<Stamp>>>,
}

/// What tells one state of a file from another. The inode is in it because renewal swaps links within one second.
type Stamp = (u64, i64, i64, u64);

impl<T> Followed<T> {
    fn load(
        paths: Vec<PathBuf>,
        build: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let seen = Mutex::new(stamps(&paths));
        let current = ArcSwap::from_pointee(build()?);
        Ok(Self { paths, build: Box::new(build), current, seen })
    }

    fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let now = stamps(&self.paths);
        if *self.lock() == now {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    fn reload(&self) -> Result<(), TlsError> {
        // Before reading: a file that changes while we read is read again next time.
        *self.lock() = stamps(&self.paths);
        self.current.store(Arc::new((self.build)()?));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Stamp>>> {
        self.seen.lock().expect("nobody panics while holding it")
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
    };
    paths.iter().map(stamp).collect()
}

fn report(outcome: Result<bool, TlsError>) {
    match outcome {
        Ok(false) => {}
        Ok(true) => tracing::info!("certificates reloaded"),
        Err(error) => tracing::error!(error = %crate::chain(&error), "certificates not reloaded, the old ones stay"),
    }
}

// ---- from files to configurations

fn server_config(
    name: &'static str,
    identity: &Identity,
    clients: &ClientAuth,
    options: &TlsOptions,
) -> Result<Server, TlsError> {
    let lists = options.revocation_lists.as_ref().map(|lists| revocation_lists(name, lists.path())).transpose()?;
    let verifier = |authority: &InputFile| {
        let roots = Arc::new(roots(authority.path())?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        Ok::<_, TlsError>(match &lists {
            Some(lists) => builder.with_crls(lists.lists.iter().cloned()).enforce_revocation_expiration(),
            None => builder,
        })
    };
    let unusable = |authority: &InputFile, cause| match (cause, &options.revocation_lists) {
        (VerifierBuilderError::InvalidCrl(_), Some(lists)) => no_revocation_list(lists.path()),
        _ => TlsError::Untrustworthy { path: authority.path().to_owned() },
    };
    let clients = match clients {
        ClientAuth::None => Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Required(authority) => verifier(authority)?.build().map_err(|cause| unusable(authority, cause)),
        ClientAuth::Optional(authority) => {
            verifier(authority)?.allow_unauthenticated().build().map_err(|cause| unusable(authority, cause))
        }
    }?;
    let (chain, key) = identity.load()?;
    tell_expiry(name, &chain);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(options.versions())
        .expect("ring knows both versions")
        .with_client_cert_verifier(clients.clone())
        .with_single_cert(chain, key)
        .map_err(|cause| identity.mismatch(cause))?;
    config.alpn_protocols = options.alpn.clone();
    Ok(Server { config: Arc::new(config), clients, lists })
}

fn client_config(trust: &Trust, identity: Option<&Identity>, options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let roots = match trust {
        Trust::Authority(authority) => roots(authority.path())?,
        Trust::AuthorityText(pem) => roots_of(pem)?,
        Trust::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(options.versions())
        .expect("ring knows both versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.load()?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| identity.mismatch(cause))?
        }
    };
    config.alpn_protocols = options.alpn.clone();
    Ok(config)
}

/// ring's suites are all forward secret and AEAD.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates(path)?);
    match usable {
        0 => Err(TlsError::Untrustworthy { path: path.to_owned() }),
        _ => Ok(roots),
    }
}

fn roots_of(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| TlsError::UntrustworthyText)?;
        roots.add(certificate).map_err(|_| TlsError::UntrustworthyText)?;
    }
    if roots.is_empty() { Err(TlsError::UntrustworthyText) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })?;
    let malformed = || TlsError::Malformed { path: path.to_owned(), expected: "a certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| malformed())?;
    if chain.is_empty() { Err(malformed()) } else { Ok(chain) }
}

/// Their expiry is told beside that of certificates: a list past its time keeps everybody out.
fn revocation_lists(name: &'static str, path: &Path) -> Result<RevocationLists, TlsError> {
    let pem = std::fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| no_revocation_list(path))?;
    let (mut of_times, mut first_end) = (Vec::new(), None);
    // The last first, for those that were made within one second.
    for list in lists.into_iter().rev() {
        let (_, read) = x509_parser::parse_x509_crl(&list).map_err(|_| no_revocation_list(path))?;
        first_end = read.next_update().map(|end| end.timestamp()).into_iter().chain(first_end).min();
        of_times.push((read.last_update().timestamp(), list));
    }
    if of_times.is_empty() {
        return Err(no_revocation_list(path));
    }
    // Of two lists of one authority the first is asked, and the newer one has whom the other has, and more.
    of_times.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
    if let Some(end) = first_end {
        record_expiry(format!("{name}_revocation_list"), end);
    }
    Ok(RevocationLists {
        lists: of_times.into_iter().map(|(_, list)| list).collect(),
        path: path.to_owned(),
        first_end,
    })
}

struct RevocationLists {
    lists: Vec<CertificateRevocationListDer<'static>>,
    path: PathBuf,
    /// When one of them ends, in Unix seconds.
    first_end: Option<i64>,
}

impl RevocationLists {
    fn are_over(&self) -> bool {
        self.first_end.is_some_and(|end| end <= ASN1Time::now().timestamp())
    }

    fn tell(&self) {
        tracing::error!(path = %self.path.display(), "a revocation list is past its time: no client of its authority is let in");
    }
}

fn no_revocation_list(path: &Path) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), expected: "a revocation list" }
}

fn tell_expiry(name: &'static str, chain: &[CertificateDer<'_>]) {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| x509_parser::parse_x509_certificate(leaf)) else { return };
    record_expiry(name.to_owned(), leaf.validity().not_after.timestamp());
}

fn record_expiry(certificate: String, unix_seconds: i64) {
    opentelemetry::global::meter("twinlock")
        .i64_gauge("twinlock_certificate_expiry_timestamp_seconds")
        .build()
        .record(unix_seconds, &[opentelemetry::KeyValue::new("certificate", certificate)]);
}

impl Identity {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let malformed = |_| TlsError::Malformed { path: self.key.path().to_owned(), expected: "a private key" };
        let key = PrivateKeyDer::from_pem_slice(self.key.read()?.expose()).map_err(malformed)?;
        Ok((certificates(self.certificate.path())?, key))
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.certificate.path().to_owned(), self.key.path().to_owned()]
    }

    fn mismatch(&self, cause: rustls::Error) -> TlsError {
        let (certificate, key) = (self.certificate.path().to_owned(), self.key.path().to_owned());
        TlsError::Mismatch { certificate, key, cause }
    }
}

impl TlsOptions {
    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        if self.only_tls13 { ONLY_TLS13 } else { ALL_VERSIONS }
    }
}
