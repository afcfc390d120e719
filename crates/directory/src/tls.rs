//! Whom we trust. Certificate and host name are always verified; there is no switch (FD-03, L-35).

use ldap_wire::ber::{self, BerError, Reader};
use ntlm::ChannelBinding;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256, Sha384, Sha512};
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

/// Whose word counts for a server's certificate.
pub(crate) enum Trust<'a> {
    System,
    /// These authorities, as PEM text, and no other.
    Ca(&'a str),
    /// Nobody's: the servers have one of these certificates, as PEM text.
    Pinned(&'a str),
}

/// What the process speaks (FU-17); else TLS 1.2 and 1.3 by ring, whose suites are all forward secret and authenticated.
pub(crate) fn client_config(trust: Trust<'_>) -> Result<Arc<ClientConfig>, TrustError> {
    let ring = || Arc::new(rustls::crypto::ring::default_provider());
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(ring);
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Provider)?;
    let config = match trust {
        Trust::System => config.with_root_certificates(system_roots()?),
        Trust::Ca(pem) => config.with_root_certificates(private_roots(pem)?),
        Trust::Pinned(pem) => {
            let pinned = Pinned { certificates: certificates(pem)?, algorithms };
            config.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
        }
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty()).ok_or(TrustError::NoCertificate)
}

fn private_roots(pem: &str) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(TrustError::BadCertificate)?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // A system store may hold certificates that are too old to parse; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(roots) }
}

/// Takes these certificates, octet by octet, and no other, whoever has signed it (FD-03). A pin stands for the chain of signatures and
/// for nothing else: the name and the dates count as in any certificate, and the handshake proves that the server has the key.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.certificates.iter().any(|pinned| pinned == end_entity) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let (begins, ends) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match now {
            _ if now < begins => Err(CertificateError::NotValidYet.into()),
            _ if now > ends => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` of this certificate (RFC 5929 section 4.1): hashed as its signature hashes, but never with MD5 or SHA-1.
/// `None` where the signature has no hash function of its own, such as Ed25519, or one that nobody uses.
pub(crate) fn end_point(certificate: &[u8]) -> Option<ChannelBinding> {
    let hash = match signature_hash(certificate).ok()?? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    };
    Some(ChannelBinding::tls_server_end_point(&hash))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Of `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }` (RFC 5280 section 4.1).
fn signature_hash(certificate: &[u8]) -> Result<Option<Hash>, BerError> {
    const OBJECT_IDENTIFIER: u8 = 0x06;
    /// 1.2.840.113549.1.1
    const PKCS_1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
    /// 1.2.840.10045.4
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];
    /// 2.16.840.1.101.3.4.2
    const SHA_2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
    let mut fields = Reader::new(certificate).expect(ber::SEQUENCE)?.reader();
    fields.expect(ber::SEQUENCE)?;
    let mut algorithm = fields.expect(ber::SEQUENCE)?.reader();
    let id = algorithm.expect(OBJECT_IDENTIFIER)?.content;
    let pss = |mut parameters: Reader<'_>| -> Result<Option<Hash>, BerError> {
        // Without one it is SHA-1 (RFC 4055 section 3.1).
        let Some(hash) = parameters.expect(ber::SEQUENCE)?.reader().optional(0xa0)? else {
            return Ok(Some(Hash::Sha256));
        };
        let id = hash.reader().expect(ber::SEQUENCE)?.reader().expect(OBJECT_IDENTIFIER)?.content;
        Ok(match id.strip_prefix(SHA_2) {
            Some([1]) => Some(Hash::Sha256),
            Some([2]) => Some(Hash::Sha384),
            Some([3]) => Some(Hash::Sha512),
            _ => None,
        })
    };
    Ok(match (id.strip_prefix(PKCS_1), id.strip_prefix(ECDSA)) {
        // MD5 and SHA-1 become SHA-256.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(Hash::Sha256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(Hash::Sha384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(Hash::Sha512),
        (Some([10]), _) => pss(algorithm)?,
        _ => None,
    })
}
