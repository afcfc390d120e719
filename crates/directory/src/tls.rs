//! Whom we trust. Certificate and host name are always verified; there is no switch (FD-03, L-35).

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::sync::Arc;

/// Why the certificates to trust cannot be used. The administrator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    #[error("is no PEM text with at least one certificate")]
    NoCertificate,
    #[error("holds a certificate that cannot be used as an authority")]
    BadCertificate(#[source] rustls::Error),
    #[error("is absent, and this system has no trusted certificates of its own")]
    NoSystemRoots,
    #[error("TLS could not be set up")]
    Provider(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 by ring, whose suites are all forward secret and authenticated.
pub(crate) fn client_config(ca: Option<&str>) -> Result<Arc<ClientConfig>, TrustError> {
    let roots = match ca {
        Some(pem) => private_roots(pem)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn private_roots(pem: &str) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| TrustError::NoCertificate)?).map_err(TrustError::BadCertificate)?;
    }
    if roots.is_empty() { Err(TrustError::NoCertificate) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // A system store may hold certificates that are too old to parse; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(roots) }
}
