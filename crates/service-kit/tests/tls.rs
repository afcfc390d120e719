//! Certificates from files: swapped when they change, kept when the new ones are broken, named when they cannot be used.

mod authority;

use authority::{Authority, write};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use service_kit::tls::{ClientAuth, ClientTls, ServerTls, TlsError, TlsOptions, Trust};
use service_kit::{Process, chain};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const NAME: &str = "ldap.example.com";

fn server(authority: &Authority, clients: ClientAuth) -> ServerTls {
    ServerTls::load("ldap", authority.issue("ldap", NAME), clients, TlsOptions::default()).expect("loads")
}

fn client(authority: &Authority) -> ClientTls {
    ClientTls::load(Trust::Authority(authority.ca()), None, TlsOptions::default()).expect("loads")
}

/// One connection, one octet each way; gives the server's certificate.
async fn greet(server: &ServerTls, client: &ClientTls) -> std::io::Result<Vec<u8>> {
    let (ours, theirs) = duplex(65_536);
    let acceptor = server.acceptor();
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(theirs).await?;
        let octet = stream.read_u8().await?;
        stream.write_u8(octet).await?;
        stream.shutdown().await
    });
    let connector = tokio_rustls::TlsConnector::from(client.current());
    let greeted = async {
        let name = rustls_pki_types::ServerName::try_from(NAME).expect("a name");
        let mut stream: tokio_rustls::client::TlsStream<DuplexStream> = connector.connect(name, ours).await?;
        stream.write_u8(7).await?;
        stream.read_u8().await?;
        Ok(stream.get_ref().1.peer_certificates().expect("a chain")[0].to_vec())
    };
    let greeted = greeted.await;
    serving.await.expect("no panic").and(greeted)
}

#[tokio::test]
async fn a_server_without_tickets_says_nothing_between_the_handshake_and_its_answer() {
    //
    let authority = Authority::new();
    let client = client(&authority);
    let mut tickets = Vec::new();
    for without_tickets in [false, true] {
        let options = TlsOptions { without_tickets, ..TlsOptions::default() };
        let server = ServerTls::load("radsec", authority.issue("radsec", NAME), ClientAuth::None, options);
        let acceptor = server.expect("loads").acceptor();
        let (ours, theirs) = duplex(65_536);
        let serving = tokio::spawn(async move { acceptor.accept(theirs).await?.write_u8(7).await });
        let name = rustls_pki_types::ServerName::try_from(NAME).expect("a name");
        let connector = tokio_rustls::TlsConnector::from(client.current());
        let mut stream = connector.connect(name, ours).await.expect("greeted");
        assert_eq!(stream.read_u8().await.expect("an octet"), 7);
        tickets.push(stream.get_ref().1.tls13_tickets_received());
        serving.await.expect("no panic").expect("written");
    }
    assert_eq!(tickets, [2, 0]);
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_broken_one_keeps_the_old() {
    let authority = Authority::new();
    let (server, client) = (server(&authority, ClientAuth::None), client(&authority));
    let first = greet(&server, &client).await.expect("greeted");

    authority.issue("ldap", NAME);
    server.reload().expect("reloads");
    let second = greet(&server, &client).await.expect("greeted");
    assert_ne!(first, second);

    write(&authority.path("ldap.pem"), "broken");
    let error = server.reload().expect_err("not a certificate");
    assert_eq!(chain(&error), format!("{} is not PEM with a certificate", authority.path("ldap.pem").display()));
    assert_eq!(greet(&server, &client).await.expect("greeted"), second);
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_found_without_being_told() {
    let authority = Authority::new();
    let process = Process::detached("ldap-gateway");
    let (server, client) = (server(&authority, ClientAuth::None), client(&authority));
    server.watch(process.shutdown());
    let first = server.current();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(Arc::ptr_eq(&first, &server.current()), "nothing changed");
    authority.issue("ldap", NAME);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!Arc::ptr_eq(&first, &server.current()));
    greet(&server, &client).await.expect("greeted");
}

/// Everything that is logged, by one test at a time.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while held").extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_our_own_that_has_expired_or_soon_does_is_told_of_once() {
    // FL-03: at load, however many show it, and while it is in use
    let log = Log::default();
    let lines = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let count = |words: &str| {
        let log = log.0.lock().expect("no panic while held");
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(words)).count()
    };
    let (authority, process) = (Authority::new(), Process::detached("ldap-gateway"));
    let until = |days: i64| {
        let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        authority.issue_with("ldap", params)
    };
    let identity = until(20);
    let load = || {
        ServerTls::load("ldap", identity.clone(), ClientAuth::None, TlsOptions::default()).expect("loads");
        let client = ClientTls::load(Trust::Authority(authority.ca()), Some(identity.clone()), TlsOptions::default())
            .expect("loads");
        client.current();
    };
    load();
    assert_eq!(count("this certificate"), 0);
    until(3);
    load();
    load();
    assert_eq!((count("this certificate expires within days"), count("this certificate has expired")), (1, 0));
    let server = ServerTls::load("ldap", identity.clone(), ClientAuth::None, TlsOptions::default()).expect("loads");
    server.watch(process.shutdown());
    until(-1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    load();
    assert_eq!((count("this certificate expires within days"), count("this certificate has expired")), (1, 1));
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let with = |signer: &Authority| {
        let identity = signer.issue("client", "client.example.com");
        ClientTls::load(Trust::Authority(authority.ca()), Some(identity), TlsOptions::default()).expect("loads")
    };
    let required = server(&authority, ClientAuth::Required(authority.ca()));
    greet(&required, &with(&authority)).await.expect("the right authority");
    greet(&required, &client(&authority)).await.expect_err("no certificate");
    greet(&required, &with(&other)).await.expect_err("another authority");
    let optional = server(&authority, ClientAuth::Optional(authority.ca()));
    greet(&optional, &client(&authority)).await.expect("none is needed");
    greet(&optional, &with(&other)).await.expect_err("a wrong one is worse than none");
    greet(&required, &client(&other)).await.expect_err("the client does not trust the server");
}

#[tokio::test]
async fn an_authority_may_be_text_and_what_it_signed_counts_as_long_as_it_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let client = |text: &str| {
        let trust = Trust::AuthorityText(text.to_owned());
        ClientTls::load(trust, Some(authority.issue("client", "client.example.com")), TlsOptions::default())
    };
    let pem = |authority: &Authority| std::fs::read_to_string(authority.ca().path()).expect("it is there");
    let server = server(&authority, ClientAuth::Required(authority.ca()));
    greet(&server, &client(&pem(&authority)).expect("loads")).await.expect("the right authority");
    greet(&server, &client(&pem(&other)).expect("loads")).await.expect_err("another authority");
    assert!(matches!(client("no certificate"), Err(TlsError::UntrustworthyText)));

    let chain = [CertificateDer::from_pem_file(authority.path("client.pem")).expect("PEM")];
    assert!(server.still_trusts(&chain) && !server.still_trusts(&[]));
    write(authority.ca().path(), &pem(&other));
    assert!(server.still_trusts(&chain), "not read yet");
    server.reload().expect("the other authority");
    assert!(!server.still_trusts(&chain));
}

#[tokio::test]
async fn an_authority_beside_the_files_lets_in_its_own_and_is_told_apart() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pem = std::fs::read_to_string(other.ca().path()).expect("it is there");
    let identity = other.issue("client", "client.example.com");
    let chain = [CertificateDer::from_pem_file(other.path("client.pem")).expect("PEM")];
    let theirs = ClientTls::load(Trust::Authority(authority.ca()), Some(identity), TlsOptions::default());
    let (server, theirs) = (server(&authority, ClientAuth::Required(authority.ca())), theirs.expect("loads"));
    greet(&server, &theirs).await.expect_err("nobody has named it");
    assert!(!server.still_trusts_by(&pem, &chain));
    // A text that is no authority takes nothing from the others.
    server.trust_also(&Arc::new([pem.clone(), "no certificate".to_owned()].into()));
    greet(&server, &theirs).await.expect("let in");
    assert!(server.still_trusts_by(&pem, &chain) && !server.still_trusts(&chain));
    assert!(!server.still_trusts_by("no certificate", &chain) && !server.still_trusts_by(&pem, &[]));
    server.reload().expect("reloads");
    greet(&server, &theirs).await.expect("still let in");
    server.trust_also(&Arc::default());
    greet(&server, &theirs).await.expect_err("named no more");
    assert!(!server.still_trusts_by(&pem, &chain));
}

#[tokio::test]
async fn a_server_counts_for_its_name_and_as_long_as_its_authority_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let client = client(&authority);
    authority.issue("ldap", NAME);
    let chain = [CertificateDer::from_pem_file(authority.path("ldap.pem")).expect("PEM")];
    let name = |name: &'static str| rustls_pki_types::ServerName::try_from(name).expect("a name");
    assert!(client.still_trusts(&chain, &name(NAME)) && !client.still_trusts(&[], &name(NAME)));
    assert!(!client.still_trusts(&chain, &name("elsewhere.example.com")));
    write(authority.ca().path(), &std::fs::read_to_string(other.ca().path()).expect("it is there"));
    assert!(!client.still_trusts(&chain, &name(NAME)));
}

#[test]
fn what_cannot_be_used_is_named() {
    let authority = Authority::new();
    let load = |identity| ServerTls::load("ldap", identity, ClientAuth::None, TlsOptions::default());
    let mut mixed = authority.issue("one", NAME);
    mixed.key = authority.issue("two", NAME).key;
    let error = load(mixed).err().expect("they do not belong together");
    let (certificate, key) = (authority.path("one.pem"), authority.path("two.key"));
    let pair = format!("certificate {} and key {} do not belong together", certificate.display(), key.display());
    assert!(chain(&error).starts_with(&pair), "{}", chain(&error));

    let identity = authority.issue("three", NAME);
    write(&authority.path("three.key"), "-----BEGIN NOTHING-----\n");
    let error = load(identity).err().expect("no key");
    assert_eq!(chain(&error), format!("{} is not PEM with a private key", authority.path("three.key").display()));
}
