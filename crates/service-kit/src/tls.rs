//! TLS: certificates from files, watched and swapped as a whole; a broken new file keeps the old one. TLS 1.2 and 1.3, forward secret
//! AEAD suites only, provider ring; the configuration may narrow that for the whole process, and nothing widens it (FU-17).

use crate::config::{InputFile, TlsSection, TlsVersion, suite_name};
use crate::process::StartError;
use crate::secret::SecretFile;
use crate::shutdown::Shutdown;
use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// The label that the lists have by which servers are looked up.
const SERVERS: &str = "server";

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
    #[error("tls.ciphers names no suite of TLS 1.3, and the parts speak no other version with each other")]
    NoSuite(#[source] rustls::Error),
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
    /// What is asked before the certificate of the other side is believed: the revocation lists (CRL, RFC 5280 section 5) of every
    /// authority in its chain, in PEM. Without that of an authority, or with one past its time, nobody of it is believed.
    pub revocation_lists: Option<InputFile>,
    /// A server's: of TLS 1.3 no session is resumed, and it says nothing by itself after the handshake (RFC 8446 section 4.6.1).
    pub without_tickets: bool,
}

/// The server side of TLS. Clones follow the same files.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<Followed<Server>>,
    others: Arc<Mutex<Authorities>>,
}

/// Authorities as PEM text, each of them for itself.
pub type Authorities = Arc<BTreeSet<String>>;

struct Server {
    config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    /// By each of the authorities that count beside the file's.
    others: HashMap<String, Arc<dyn ClientCertVerifier>>,
    lists: Option<RevocationLists>,
    own: Option<OwnCertificate>,
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
        let others = Arc::<Mutex<Authorities>>::default();
        let build = {
            let others = others.clone();
            move || {
                let others = lock(&others).clone();
                server_config(name, &identity, &clients, &others, &options)
            }
        };
        Ok(Self { files: Arc::new(Followed::load(paths, build)?), others })
    }

    /// What the next handshake uses.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.files.current.load().config.clone()
    }

    /// From now on clients of these authorities pass the handshake, beside those of the file. Which of them counts for whom is
    /// decided afterwards: [`Self::still_trusts`], [`Self::still_trusts_by`].
    pub fn trust_also(&self, authorities: &Authorities) {
        // Whoever finds them named already finds them built, too.
        let building = lock(&self.files.building);
        let before = std::mem::replace(&mut *lock(&self.others), authorities.clone());
        if !Arc::ptr_eq(&before, authorities) && before != *authorities {
            report(self.files.rebuild().map(|()| true));
        }
        drop(building);
    }

    /// Whether a client with this chain, its own certificate first, is one of the file's authority now: certificates expire and
    /// authorities change while a connection stays open, and a resumed session asks nobody.
    pub fn still_trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let server = self.files.current.load();
        // One that asks for no certificate verifies none.
        server.clients.offer_client_auth() && verifies(&*server.clients, chain)
    }

    /// The same of one of [`Self::trust_also`], and of no other.
    pub fn still_trusts_by(&self, authority: &str, chain: &[CertificateDer<'_>]) -> bool {
        let server = self.files.current.load();
        server.others.get(authority).is_some_and(|clients| verifies(&**clients, chain))
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
                if let Some(own) = &current.own {
                    own.tell();
                }
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
    files: Arc<Followed<Client>>,
}

struct Client {
    config: Arc<ClientConfig>,
    servers: Arc<WebPkiServerVerifier>,
    own: Option<OwnCertificate>,
}

impl ClientTls {
    pub fn load(trust: Trust, identity: Option<Identity>, options: TlsOptions) -> Result<Self, TlsError> {
        let mut paths = identity.as_ref().map(Identity::paths).unwrap_or_default();
        if let Trust::Authority(authority) = &trust {
            paths.push(authority.path().to_owned());
        }
        paths.extend(options.revocation_lists.as_ref().map(|lists| lists.path().to_owned()));
        let build = move || client_config(&trust, identity.as_ref(), &options);
        Ok(Self { files: Arc::new(Followed::load(paths, build)?) })
    }

    /// What the next handshake uses. Files that have changed are read again.
    pub fn current(&self) -> Arc<ClientConfig> {
        report(self.files.reload_if_changed());
        let current = self.files.current.load();
        if let Some(own) = &current.own {
            own.tell();
        }
        current.config.clone()
    }

    /// Whether a server with this chain, its own certificate first, would be believed now to be the one of this name. Files that have
    /// changed are read again.
    pub fn still_trusts(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        report(self.files.reload_if_changed());
        let servers = self.files.current.load().servers.clone();
        servers.verify_server_cert(own, others, name, &[], UnixTime::now()).is_ok()
    }
}

/// Whether a text is an authority that can be trusted.
pub fn check_authority(pem: &str) -> Result<(), TlsError> {
    roots_of(pem).map(drop)
}

/// Whether a file holds revocation lists.
pub fn check_revocation_lists(file: &InputFile) -> Result<(), TlsError> {
    revocation_lists(SERVERS, file.path()).map(drop)
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

/// Installs as much of ring as the configuration leaves, for all that the process does by TLS. The first one stays.
pub(crate) fn install_narrowed_provider(section: &TlsSection) -> Result<(), StartError> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        let is_listed = section.ciphers.is_empty() || section.ciphers.iter().any(|listed| listed.0 == *suite);
        is_listed && (section.minimum_version == TlsVersion::Tls12 || suite.tls13().is_some())
    });
    if provider.cipher_suites.is_empty() {
        return Err(StartError::Setting {
            key: "tls.minimum_version",
            found: "1.3 and no suite of it in tls.ciphers".to_owned(),
            allowed: "1.2, or tls.ciphers with TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256 or TLS_CHACHA20_POLY1305_SHA256",
        });
    }
    let _ = provider.install_default();
    Ok(())
}

/// Says what is spoken where it is not everything, and what cannot come of it.
pub(crate) fn tell_narrowed(section: &TlsSection) {
    let suites = &provider().cipher_suites;
    if suites.len() == rustls::crypto::ring::ALL_CIPHER_SUITES.len() {
        return;
    }
    let names: Vec<_> = suites.iter().map(suite_name).collect();
    tracing::info!(suites = names.join(", "), "TLS is narrowed");
    let of_tls13 = suites.iter().filter(|suite| suite.tls13().is_some()).count();
    if of_tls13 == 0 {
        tracing::warn!("tls.ciphers names no suite of TLS 1.3: only TLS 1.2 is spoken");
    }
    if of_tls13 == suites.len() && section.minimum_version == TlsVersion::Tls12 {
        tracing::warn!("tls.ciphers names no suite of TLS 1.2: only TLS 1.3 is spoken");
    }
    if section.minimum_version == TlsVersion::Tls13 && section.ciphers.iter().any(|listed| listed.0.tls13().is_none()) {
        tracing::warn!("tls.ciphers names suites of TLS 1.2, which tls.minimum_version leaves out");
    }
}

/// What this process speaks by TLS.
pub fn provider() -> Arc<CryptoProvider> {
    install_provider();
    CryptoProvider::get_default().expect("it is installed").clone()
}

// ---- following files

/// Something made from files, made again when they change.
struct Followed<T> {
    paths: Vec<PathBuf>,
    build: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Vec<Option<Stamp>>>,
    /// One after the other, so that what is built last is what was read last.
    building: Mutex<()>,
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
        Ok(Self { paths, build: Box::new(build), current, seen, building: Mutex::default() })
    }

    fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let _building = lock(&self.building);
        let now = stamps(&self.paths);
        if *self.lock() == now {
            return Ok(false);
        }
        self.rebuild().map(|()| true)
    }

    fn reload(&self) -> Result<(), TlsError> {
        let _building = lock(&self.building);
        self.rebuild()
    }

    /// The caller holds `building`.
    fn rebuild(&self) -> Result<(), TlsError> {
        // Before reading: a file that changes while we read is read again next time.
        *self.lock() = stamps(&self.paths);
        self.current.store(Arc::new((self.build)()?));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Stamp>>> {
        lock(&self.seen)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
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
    others: &Authorities,
    options: &TlsOptions,
) -> Result<Server, TlsError> {
    let lists = options.revocation_lists.as_ref().map(|lists| revocation_lists(name, lists.path())).transpose()?;
    let verifier_of = |roots: RootCertStore| {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        match &lists {
            Some(lists) => builder.with_crls(lists.lists.iter().cloned()).enforce_revocation_expiration(),
            None => builder,
        }
    };
    let mut all = RootCertStore::empty();
    if let ClientAuth::Optional(authority) | ClientAuth::Required(authority) = clients {
        all.extend(roots(authority.path())?.roots);
    }
    let mut others_by_text = HashMap::new();
    // One that cannot be used is nobody's; whoever has it in the settings is told there.
    for text in others.iter() {
        let Ok(roots) = roots_of(text) else { continue };
        all.extend(roots.roots.iter().cloned());
        if let Ok(verifier) = verifier_of(roots).build() {
            others_by_text.insert(text.clone(), verifier);
        }
    }
    let verifier = |authority: &InputFile| Ok::<_, TlsError>(verifier_of(roots(authority.path())?));
    let unusable = |authority: &InputFile, cause| match (cause, &options.revocation_lists) {
        (VerifierBuilderError::InvalidCrl(_), Some(lists)) => no_revocation_list(lists.path()),
        _ => TlsError::Untrustworthy { path: authority.path().to_owned() },
    };
    let (of_file, of_handshake) = match clients {
        ClientAuth::None => (WebPkiClientVerifier::no_client_auth(), WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Required(authority) => {
            let build =
                |verifier: ClientCertVerifierBuilder| verifier.build().map_err(|cause| unusable(authority, cause));
            (build(verifier(authority)?)?, build(verifier_of(all))?)
        }
        ClientAuth::Optional(authority) => {
            let build = |verifier: ClientCertVerifierBuilder| {
                verifier.allow_unauthenticated().build().map_err(|cause| unusable(authority, cause))
            };
            (build(verifier(authority)?)?, build(verifier_of(all))?)
        }
    };
    let (chain, key) = identity.load()?;
    let own = OwnCertificate::of(identity, &chain);
    if let Some(own) = &own {
        record_expiry(name.to_owned(), own.ends);
        own.tell();
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(options.versions())
        .map_err(TlsError::NoSuite)?
        .with_client_cert_verifier(of_handshake)
        .with_single_cert(chain, key)
        .map_err(|cause| identity.mismatch(cause))?;
    config.alpn_protocols = options.alpn.clone();
    if options.without_tickets {
        config.send_tls13_tickets = 0;
    }
    Ok(Server { config: Arc::new(config), clients: of_file, others: others_by_text, lists, own })
}

fn client_config(trust: &Trust, identity: Option<&Identity>, options: &TlsOptions) -> Result<Client, TlsError> {
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
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let servers = match &options.revocation_lists {
        Some(file) => {
            let lists = revocation_lists(SERVERS, file.path())?.lists;
            let verifier = verifier.with_crls(lists).enforce_revocation_expiration();
            verifier.build().map_err(|_| no_revocation_list(file.path()))?
        }
        None => verifier.build().map_err(|_| TlsError::NoRoots)?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(options.versions())
        .map_err(TlsError::NoSuite)?
        .with_webpki_verifier(servers.clone());
    let mut own = None;
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.load()?;
            own = OwnCertificate::of(identity, &chain);
            builder.with_client_auth_cert(chain, key).map_err(|cause| identity.mismatch(cause))?
        }
    };
    if let Some(own) = &own {
        own.tell();
    }
    config.alpn_protocols = options.alpn.clone();
    Ok(Client { config: Arc::new(config), servers, own })
}

fn verifies(clients: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> bool {
    let Some((own, others)) = chain.split_first() else { return false };
    clients.verify_client_cert(own, others, UnixTime::now()).is_ok()
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

/// A certificate that we show.
struct OwnCertificate {
    path: PathBuf,
    /// In Unix seconds.
    ends: i64,
}

impl OwnCertificate {
    fn of(identity: &Identity, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        Some(Self { path: identity.certificate.path().to_owned(), ends: leaf.validity().not_after.timestamp() })
    }

    /// Says that it has ended or soon does, at most once a day, whoever shows it.
    fn tell(&self) {
        static TOLD: Mutex<Told> = Mutex::new(Told(BTreeMap::new()));
        let now = ASN1Time::now().timestamp();
        let path = self.path.display();
        match lock(&TOLD).ends_to_tell(self, now) {
            None => {}
            Some(Ends::Ended) => {
                tracing::error!(%path, "this certificate has expired: whoever looks at it does not speak with us; put a new one in its place")
            }
            Some(Ends::Soon) => {
                let days = (self.ends - now) / DAY_SECONDS;
                tracing::warn!(%path, days, "this certificate expires within days: put a new one in its place")
            }
        }
    }
}

const DAY_SECONDS: i64 = 86_400;

/// What there is to say of a certificate's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Ended,
    Soon,
}

/// By file: the end of the certificate that was last told of, what was told, and when, in Unix seconds. As many as there are files.
struct Told(BTreeMap<PathBuf, (i64, Ends, i64)>);

impl Told {
    /// What is to be told now; from then on it counts as told.
    fn ends_to_tell(&mut self, own: &OwnCertificate, now: i64) -> Option<Ends> {
        const SOON_SECONDS: i64 = 7 * DAY_SECONDS;
        let ends = match own.ends - now {
            ..=0 => Ends::Ended,
            1..=SOON_SECONDS => Ends::Soon,
            _ => return None,
        };
        let before = self.0.get(&own.path).filter(|(end, told, _)| (*end, *told) == (own.ends, ends));
        if before.is_some_and(|(.., at)| now.abs_diff(*at) < DAY_SECONDS.unsigned_abs()) {
            return None;
        }
        self.0.insert(own.path.clone(), (own.ends, ends, now));
        Some(ends)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_our_own_certificate_is_told_a_week_before_and_then_once_a_day() {
        // FL-03
        const END: i64 = 1_790_000_000;
        const DAY: i64 = DAY_SECONDS;
        let own = |path: &str, ends| OwnCertificate { path: path.into(), ends };
        let (ldap, renewed) = (own("ldap.pem", END), own("ldap.pem", END + 90 * DAY));
        let mut told = Told(BTreeMap::new());
        for (now, said) in [
            (END - 8 * DAY, None),
            (END - 7 * DAY, Some(Ends::Soon)),
            (END - 7 * DAY + 10, None),
            (END - 6 * DAY, Some(Ends::Soon)),
            (END - DAY / 2, Some(Ends::Soon)),
            (END - 1, None),
            (END, Some(Ends::Ended)),
            (END + 10, None),
            (END + DAY, Some(Ends::Ended)),
        ] {
            assert_eq!(told.ends_to_tell(&ldap, now), said, "{} s after its end", now - END);
        }
        let now = END + DAY + 10;
        assert_eq!(told.ends_to_tell(&own("portal.pem", END), now), Some(Ends::Ended), "each for itself");
        assert_eq!(told.ends_to_tell(&renewed, now), None);
        assert_eq!(told.ends_to_tell(&renewed, END + 84 * DAY), Some(Ends::Soon), "the new one ends, too");
    }
}
