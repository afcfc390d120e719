//! A process without TLS 1.3. A program of its own, since the choice is the whole process's.

mod authority;

use authority::Authority;
use service_kit::config::{CipherSuite, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection};
use service_kit::tls::{ClientAuth, ServerTls, TlsOptions};
use service_kit::{Sections, chain};

#[tokio::test]
async fn a_part_that_may_not_speak_tls_13_cannot_serve_the_others() {
    // FU-17: between the parts there is nothing else
    let suite = CipherSuite::try_from("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()).expect("one of ours");
    let sections = Sections {
        log: &LogSection::default(),
        telemetry: &TelemetrySection::default(),
        tls: &TlsSection { ciphers: vec![suite], ..TlsSection::default() },
        management: &ManagementSection { listen: ([127, 0, 0, 1], 0).into() },
        shutdown: &ShutdownSection::default(),
    };
    let _process = service_kit::start("probe", sections).await.expect("it starts");
    let authority = Authority::new();
    let load = |only_tls13| {
        let options = TlsOptions { only_tls13, ..TlsOptions::default() };
        ServerTls::load("grpc", authority.issue("grpc", "grpc.example.com"), ClientAuth::None, options)
    };
    assert!(load(false).is_ok(), "others may");
    let error = chain(&load(true).err().expect("it has no version"));
    assert!(error.starts_with("tls.ciphers names no suite of TLS 1.3, and the parts speak no other"), "{error}");
}
