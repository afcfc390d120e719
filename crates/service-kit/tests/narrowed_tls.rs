//! A process whose TLS is narrowed (FU-17). A program of its own, since the choice is the whole process's.

mod authority;

use authority::Authority;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use service_kit::config::{
    CipherSuite, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection, TlsVersion,
};
use service_kit::tls::{ClientAuth, ClientTls, ServerTls, TlsOptions, Trust};
use service_kit::{Process, Sections, StartError, chain};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "ldap.example.com";

async fn process(tls: &TlsSection) -> Result<Process, StartError> {
    let sections = Sections {
        log: &LogSection::default(),
        telemetry: &TelemetrySection::default(),
        tls,
        management: &ManagementSection { listen: ([127, 0, 0, 1], 0).into() },
        shutdown: &ShutdownSection::default(),
    };
    service_kit::start("probe", sections).await
}

fn suite(name: &str) -> CipherSuite {
    CipherSuite::try_from(name.to_owned()).expect("one of ours")
}

/// Whether the two come to an octet that one sends and the other has.
async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> bool {
    let (near, far) = duplex(65_536);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await.ok()?;
        stream.write_u8(7).await.ok()?;
        stream.shutdown().await.ok()
    });
    let name = ServerName::try_from(NAME).expect("a name");
    let heard = async { TlsConnector::from(client).connect(name, near).await.ok()?.read_u8().await.ok() };
    let heard = heard.await;
    serving.await.expect("no panic");
    heard == Some(7)
}

/// The other side, which speaks this suite and no other.
fn only(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![suite], ..ring::default_provider() })
}

#[tokio::test]
async fn suites_that_were_left_out_are_refused_at_both_ends_and_no_others() {
    const OF_TLS12: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let over_all = TlsSection { minimum_version: TlsVersion::Tls13, ciphers: vec![suite(OF_TLS12)] };
    let error = chain(&process(&over_all).await.err().expect("nothing is left"));
    assert!(
        error.starts_with("tls.minimum_version: 1.3 and no suite of it in tls.ciphers; allowed: 1.2, or "),
        "{error}"
    );

    let left = ["TLS_AES_256_GCM_SHA384", OF_TLS12];
    let section = TlsSection { ciphers: left.map(suite).to_vec(), ..TlsSection::default() };
    let _process = process(&section).await.expect("it starts");
    let authority = Authority::new();
    let identity = authority.issue("ldap", NAME);
    let server = ServerTls::load("ldap", identity, ClientAuth::None, TlsOptions::default()).expect("loads");
    let client = ClientTls::load(Trust::Authority(authority.ca()), None, TlsOptions::default()).expect("loads");

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca().path()).expect("PEM")).expect("an authority");
    let certificate = vec![CertificateDer::from_pem_file(authority.path("ldap.pem")).expect("PEM")];
    let mut met = Vec::new();
    for other in ring::ALL_CIPHER_SUITES {
        let theirs = ClientConfig::builder_with_provider(only(*other)).with_safe_default_protocol_versions();
        let theirs = theirs.expect("it has a version").with_root_certificates(roots.clone()).with_no_client_auth();
        let to_us = meet(server.current(), Arc::new(theirs)).await;
        let key = PrivateKeyDer::from_pem_file(authority.path("ldap.key")).expect("PEM");
        let theirs = ServerConfig::builder_with_provider(only(*other)).with_safe_default_protocol_versions();
        let theirs = theirs.expect("it has a version").with_no_client_auth().with_single_cert(certificate.clone(), key);
        let from_us = meet(Arc::new(theirs.expect("they belong together")), client.current()).await;
        assert_eq!(to_us, from_us, "{other:?}");
        if to_us {
            met.push(other.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1));
        }
    }
    assert_eq!(met, left);
}

#[test]
fn what_is_no_suite_of_ours_is_refused_with_those_that_are() {
    // Not forward secret, no AEAD, withdrawn, and the name that rustls has for one of ours.
    for found in
        ["TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE", "TLS13_AES_128_GCM_SHA256"]
    {
        let error = CipherSuite::try_from(found.to_owned()).expect_err("not one of ours");
        let allowed = "TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, \
                       TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
                       TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
                       TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
        assert_eq!(error, format!("found `{found}`; allowed: {allowed}"));
    }
}
