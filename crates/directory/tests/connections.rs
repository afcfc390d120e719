//! Making a connection: TLS and StartTLS against servers that cannot prove who they are.

mod support;

use anyhow::{Context, Result};
use bytes::Bytes;
use directory::{ConnectError, Directory, Options, ServerState, TlsFault};
use domain::settings::{self, BindKind};
use ldap_wire::{ExtendedResponse, LdapResult, Message, Op, ResultCode};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use support::{Do, Fake, alice, settings};
use tokio::net::TcpListener;

/// A directory that insists on TLS and trusts `pki`.
fn with_tls(urls: &[&str], pki: &lab::Pki) -> Result<Directory> {
    let mut settings = settings(urls);
    settings.danger_clear_text = false;
    settings.authentication_bind = settings::AuthenticationBind { kind: BindKind::Tls };
    settings.ca = Some(std::fs::read_to_string(pki.ca_file())?);
    Ok(Directory::new(settings, None, Options::default())?)
}

fn fault(error: &ConnectError) -> Option<TlsFault> {
    match error {
        ConnectError::Tls { fault, .. } => Some(*fault),
        _ => None,
    }
}

/// Speaks TLS with a certificate for `name`, and no LDAP.
async fn tls_server(pki: &lab::Pki, name: &str) -> Result<String> {
    let files = pki.issue(&format!("server-{name}"), &[name])?;
    tls_server_with(&files.certificate, &files.key, rustls::ALL_VERSIONS).await
}

type Versions = &'static [&'static rustls::SupportedProtocolVersion];

static TLS12: Versions = &[&rustls::version::TLS12];

/// The same with this certificate and this key, be they each other's or not.
async fn tls_server_with(certificate: &Path, key: &Path, versions: Versions) -> Result<String> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(PrivateKeyDer::from_pem_file(key)?)?;
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await?;
    let url = format!("ldaps://{}", listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let _stream = acceptor.accept(stream).await;
                std::future::pending::<()>().await;
            });
        }
    });
    Ok(url)
}

#[tokio::test]
async fn a_certificate_must_name_the_server_and_be_signed_by_somebody_we_trust() -> Result<()> {
    // L-35, FD-03: there is no switch for it.
    let dir = tempfile::tempdir()?;
    let (ours, theirs) = (lab::Pki::new(&dir.path().join("ours"))?, lab::Pki::new(&dir.path().join("theirs"))?);
    let right = tls_server(&ours, "127.0.0.1").await?;
    let misnamed = tls_server(&ours, "dc1.corp.example").await?;
    let foreign = tls_server(&theirs, "127.0.0.1").await?;
    assert!(with_tls(&[&right], &ours)?.connect().await?.is_encrypted());
    for (url, expected) in [(&misnamed, TlsFault::NameMismatch), (&foreign, TlsFault::Untrusted)] {
        let error = with_tls(&[url], &ours)?.connect().await.err().context("refused")?;
        assert_eq!(fault(&error), Some(expected), "{error:?}");
    }
    // The next server is asked, as for any other failure to connect.
    assert_eq!(with_tls(&[&misnamed, &right], &ours)?.connect().await?.server.to_string(), right);
    let probed = with_tls(&[&misnamed], &ours)?.probe().await;
    let sentence = probed[0].outcome.as_ref().err().context("refused")?.to_string();
    assert!(sentence.starts_with("The certificate does not name 127.0.0.1"), "{sentence}");
    Ok(())
}

#[tokio::test]
async fn a_pinned_certificate_is_taken_and_no_other() -> Result<()> {
    // FD-03. A pin takes the place of the signatures, and of nothing else.
    let dir = tempfile::tempdir()?;
    let pki = lab::Pki::new(&dir.path().join("ours"))?;
    let issued = pki.issue("issued", &["127.0.0.1"])?;
    let sibling = pki.issue("sibling", &["127.0.0.1"])?;
    let alone = pki.self_signed("alone", &["127.0.0.1"])?;
    let misnamed = pki.issue("misnamed", &["dc1.corp.example"])?;
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let expired = pki.issue_until("expired", &["127.0.0.1"], Some(yesterday))?;
    let result = async |shown: (&Path, &Path), pinned: &[&Path], versions| -> Result<Option<TlsFault>> {
        let url = tls_server_with(shown.0, shown.1, versions).await?;
        let mut settings = settings(&[&url]);
        settings.danger_clear_text = false;
        settings.authentication_bind.kind = BindKind::Tls;
        let pem = pinned.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
        settings.pinned_certificates = Some(pem.concat());
        match Directory::new(settings, None, Options::default())?.connect().await {
            Ok(stream) => {
                assert!(stream.is_encrypted());
                Ok(None)
            }
            Err(error) => Ok(Some(fault(&error).with_context(|| format!("{error:?}"))?)),
        }
    };
    let pair = |files: &lab::Certificate| (files.certificate.clone(), files.key.clone());
    let ca = pki.ca_file();
    for (shown, pinned, expected) in [
        (pair(&issued), vec![&issued.certificate], None),
        (pair(&alone), vec![&alone.certificate], None),
        (pair(&issued), vec![&alone.certificate, &issued.certificate], None),
        (pair(&sibling), vec![&issued.certificate], Some(TlsFault::NotPinned)),
        (pair(&alone), vec![&issued.certificate], Some(TlsFault::NotPinned)),
        (pair(&issued), vec![&ca], Some(TlsFault::NotPinned)),
        (pair(&misnamed), vec![&misnamed.certificate], Some(TlsFault::NameMismatch)),
        (pair(&expired), vec![&expired.certificate], Some(TlsFault::Expired)),
        // What everybody can see of it is not enough.
        ((issued.certificate.clone(), sibling.key.clone()), vec![&issued.certificate], Some(TlsFault::Untrusted)),
    ] {
        let pinned: Vec<&Path> = pinned.into_iter().map(|file| file.as_path()).collect();
        // Who has the key is proven by another message in each of them.
        for versions in [rustls::ALL_VERSIONS, TLS12] {
            let found = result((&shown.0, &shown.1), &pinned, versions).await?;
            assert_eq!(found, expected, "{:?} with {pinned:?} pinned, {versions:?}", shown.0);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_pinned_is_a_certificate() {
    // FD-03
    for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n"] {
        let mut settings = settings(&["ldaps://127.0.0.1"]);
        settings.danger_clear_text = false;
        settings.authentication_bind.kind = BindKind::Tls;
        settings.pinned_certificates = Some(pem.into());
        let error = Directory::new(settings, None, Options::default()).err().expect("refused");
        assert!(error.to_string().starts_with("pinned_certificates: "), "{error}");
    }
}

fn start_tls_response(message: &Message, code: u32) -> Bytes {
    ExtendedResponse::of(LdapResult::of(ResultCode(code))).encode(message.id(), &[])
}

#[tokio::test]
async fn octets_glued_behind_the_starttls_answer_are_refused() -> Result<()> {
    // RFC 4511 section 4.14: whatever comes before TLS was put there by somebody else.
    let dir = tempfile::tempdir()?;
    let pki = lab::Pki::new(dir.path())?;
    let injecting = Fake::start(|message, _| {
        let forged =
            ldap_wire::BindResponse { result: LdapResult::of(ResultCode::SUCCESS), server_sasl_credentials: None };
        let id = message.id().next();
        vec![Do::Send([start_tls_response(message, 0), forged.encode(id, &[])].concat().into()), Do::Hang]
    })
    .await;
    let error = with_tls(&[&injecting.url], &pki)?.connect().await.err().context("refused")?;
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn without_starttls_nothing_is_sent_in_clear_text() -> Result<()> {
    // L-35
    let dir = tempfile::tempdir()?;
    let pki = lab::Pki::new(dir.path())?;
    for (what, answer) in [("refused", Some(2)), ("unavailable", Some(52)), ("not understood", None)] {
        let server = Fake::start(move |message, _| match (message.op(), answer) {
            (Op::ExtendedRequest, Some(code)) => vec![Do::Send(start_tls_response(message, code))],
            (Op::ExtendedRequest, None) => vec![Do::Send(Bytes::from_static(b"220 hello\r\n"))],
            _ => alice(message),
        })
        .await;
        let directory = with_tls(&[&server.url], &pki)?;
        let error = directory.connect().await.err().context("refused")?;
        assert!(
            matches!(error, ConnectError::StartTlsRefused { .. } | ConnectError::Protocol { .. }),
            "{what}: {error:?}"
        );
        directory.authenticate(&support::entry("alice"), &support::password()).await.expect_err("no TLS");
        assert_eq!((server.count(Op::BindRequest), server.count(Op::SearchRequest)), (0, 0), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_connect_timeout_and_is_set_aside() -> Result<()> {
    // FD-04. It accepts and is silent: in the TLS handshake, and after StartTLS.
    let dir = tempfile::tempdir()?;
    let pki = lab::Pki::new(dir.path())?;
    let silent = Fake::start(|_, _| vec![Do::Hang]).await;
    let good = tls_server(&pki, "127.0.0.1").await?;
    for url in [silent.url.clone(), silent.url.replace("ldap:", "ldaps:")] {
        let directory = with_tls(&[&url, &good], &pki)?;
        let started = Instant::now();
        assert_eq!(directory.connect().await?.server.to_string(), good);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(900), "{url}: {took:?}");
        // Once it has failed the other is asked first: nobody waits again.
        let started = Instant::now();
        for _ in 0..5 {
            assert_eq!(directory.connect().await?.server.to_string(), good);
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{url}: {:?}", started.elapsed());
        let state = directory.health().servers.into_iter().next().context("the first")?;
        assert!(matches!(state.state, ServerState::Failing | ServerState::SetAside), "{state:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_reported_as_failed_is_asked_after_the_others() -> Result<()> {
    // L-34: what the LDAP gateway does after 51 or 52 on its own upstream.
    let (one, two) = (Fake::start(|message, _| alice(message)).await, Fake::start(|message, _| alice(message)).await);
    let directory = support::directory(&[&one.url, &two.url]);
    let first = directory.connect().await?;
    assert_eq!(first.server.to_string(), one.url);
    assert!(!directory.has_alternative(&first.server));
    directory.failed(&first.server, &"result code 52");
    assert!(directory.has_alternative(&first.server));
    assert_eq!(directory.connect().await?.server.to_string(), two.url);
    let alone = support::directory(&[&one.url]);
    alone.failed(&first.server, &"result code 52");
    assert!(!alone.has_alternative(&first.server));
    Ok(())
}

/// Where our end of it is, which tells one connection from another.
fn end(upstream: &directory::Upstream) -> Result<std::net::SocketAddr> {
    match &upstream.stream {
        directory::Stream::Clear(tcp) => Ok(tcp.local_addr()?),
        directory::Stream::Tls(_) | directory::Stream::Sealed(_) => anyhow::bail!("in clear text here"),
    }
}

#[tokio::test]
async fn in_a_storm_connections_are_there_before_they_are_asked_for_and_each_is_given_away_once() -> Result<()> {
    // L-30, L-32: fresh ones only, and nobody shares one.
    let server = Fake::start(|message, _| alice(message)).await;
    let directory = support::directory(&[&server.url]);
    support::eventually("the query connection", async || directory.health().query_connections == 1).await;
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(directory.connect().await?);
    }
    support::eventually("those asked for", async || server.connections() == 1 + taken.len()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.connections(), 1 + taken.len(), "none is opened ahead while few are asked for");
    for _ in 0..40 {
        taken.push(directory.connect().await?);
    }
    support::eventually("those ahead", async || server.connections() == 1 + taken.len() + 16).await;
    // They are taken, and others opened in their place.
    for _ in 0..16 {
        taken.push(directory.connect().await?);
    }
    support::eventually("others in their place", async || server.connections() == 1 + taken.len() + 16).await;
    let mut ends: Vec<_> = taken.iter().map(end).collect::<Result<_>>()?;
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), taken.len());
    assert_eq!((server.count(Op::BindRequest), server.count(Op::ExtendedRequest)), (0, 0), "nothing was sent on any");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_the_server_has_ended_is_not_given_away() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await?;
    let directory = support::directory(&[&format!("ldap://{}", listener.local_addr()?)]);
    let (accepted, mut all) = tokio::sync::mpsc::unbounded_channel();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if accepted.send(stream).is_err() {
                return;
            }
        }
    });
    let mut streams = Vec::new();
    for _ in 0..20 {
        directory.connect().await?;
    }
    // Those of the questions, those that were asked for, and those ahead.
    while streams.len() < 20 + 16 {
        streams.push(tokio::time::timeout(Duration::from_secs(10), all.recv()).await?.context("it accepts")?);
    }
    drop(streams);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..4 {
        let mut upstream = directory.connect().await?;
        let mut octet = [0];
        let read = tokio::io::AsyncReadExt::read(&mut upstream.stream, &mut octet);
        let silent = tokio::time::timeout(Duration::from_millis(50), read).await;
        assert!(silent.is_err(), "one that has ended: {silent:?}");
    }
    accepting.abort();
    Ok(())
}
