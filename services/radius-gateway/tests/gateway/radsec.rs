//! RADIUS by TLS, from clients and to servers (R-90, R-91, FB-09): with our own hands where something is to go wrong, and with
//! radsecproxy and FreeRADIUS.

use crate::support::*;
use domain::settings::{Client, Settings, Target};
use lab::freeradius::{FreeRadius, HomeOptions, HomeUser};
use lab::radsecproxy::{Direction, RadsecOptions, RadsecProxy};
use lab::{Certificate, Pki};
use radius_gateway::{Nodes, RadiusSection};
use radius_wire::{AttributeType, Code, Hiding, HidingKey, Packet, Port, Rule, Secret, Sent, verify_reply};
use rustls_pki_types::ServerName;
use service_kit::config::InputFile;
use service_kit::secret::SecretFile;
use service_kit::tls::{ClientAuth, ClientTls, Identity, ServerTls, TlsOptions, Trust};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

const SITE: &str = "site.acme.example";
const PROXY: &str = "radsecproxy.acme.example";
/// Nothing of the gateway takes longer in these tests.
const PATIENCE: Duration = Duration::from_secs(8);

/// A world whose gateway takes RADIUS by TLS from two clients.
struct Lab {
    dir: TempDir,
    pki: Pki,
    world: World,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::new(&dir.path().join("tls")).expect("certificates");
        let world = World::new().await;
        let lab = Self { dir, pki, world };
        lab.change(|document| {
            document.clients.push(by_tls("site", &[&format!("dns:{SITE}")]));
            document.clients.push(by_tls("proxy", &[&format!("dns:{PROXY}")]));
        })
        .await;
        lab
    }

    async fn change(&self, change: impl FnOnce(&mut Settings)) {
        let valid = |document: &mut Settings| {
            change(document);
            let error = |problem: &domain::settings::Problem| problem.severity == domain::settings::Severity::Error;
            let errors: Vec<_> = document.problems().into_iter().filter(error).collect();
            assert!(errors.is_empty(), "{errors:?}");
        };
        self.world.store.change(&self.world.bus, valid).await;
    }

    fn section(&self) -> RadiusSection {
        let own = self.pki.issue("gateway", &["127.0.0.1", "gateway.acme.example"]).expect("a certificate");
        let Identity { certificate, key } = identity(&own);
        RadiusSection {
            radsec_listen: vec![([127, 0, 0, 1], 0).into()],
            radsec_client_ca_file: Some(InputFile::new(self.pki.ca_file()).expect("it is there")),
            tls_certificate_file: Some(certificate),
            tls_key_file: Some(key),
            ..section()
        }
    }

    async fn gateway(&self) -> Node {
        self.world.node(Nodes::One, self.section()).await
    }

    fn certificate(&self, name: &str) -> Certificate {
        self.pki.issue(name, &[name]).expect("a certificate")
    }

    async fn site(&self, node: &Node) -> Site {
        self.connect(node, &self.certificate(SITE)).await.expect("it is let in")
    }

    async fn connect(&self, node: &Node, certificate: &Certificate) -> io::Result<Site> {
        Site::connect(node, &self.pki, Some(certificate), "127.0.0.1").await
    }
}

fn identity(own: &Certificate) -> Identity {
    Identity {
        certificate: InputFile::new(&own.certificate).expect("it is there"),
        key: SecretFile::new(&own.key.display().to_string()).expect("it is there"),
    }
}

fn by_tls(name: &str, certificates: &[&str]) -> Client {
    let client = serde_json::json!({
        "name": name, "protocol": "radius", "target": "corp", "transport": "tls", "certificates": certificates,
        "sources": ["127.0.0.0/24"],
        "wait_seconds": 10,
    });
    serde_json::from_value(client).expect("a client")
}

/// A client of ours, which packs its packets itself.
struct Site {
    stream: TlsStream<TcpStream>,
    nas: Nas,
}

impl Site {
    async fn connect(node: &Node, pki: &Pki, own: Option<&Certificate>, from: &str) -> io::Result<Self> {
        let ca = Trust::Authority(InputFile::new(pki.ca_file()).expect("it is there"));
        let tls = ClientTls::load(ca, own.map(identity), TlsOptions::default()).expect("it loads");
        let address = node.radsec.expect("it takes TLS");
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
        let stream = socket.connect(address).await?;
        let name = ServerName::try_from("gateway.acme.example").expect("a name");
        let stream = TlsConnector::from(tls.current()).connect(name, stream).await?;
        Ok(Self { stream, nas: Nas::new("127.0.0.1", address, "radsec").await })
    }

    async fn send(&mut self, octets: &[u8]) {
        // Who was let go notices here or when it reads.
        let _ = self.stream.write_all(octets).await;
        let _ = self.stream.flush().await;
    }

    async fn ask(&mut self, question: &Question) -> Answer {
        self.send(&question.octets).await;
        self.hear(question).await
    }

    async fn hear(&mut self, question: &Question) -> Answer {
        let octets = timeout(PATIENCE, self.packet()).await.expect("in time").expect("an answer");
        let port = if octets[0] == 5 { Port::AccountingReplies } else { Port::AuthenticationReplies };
        let packet = Packet::parse(&octets, port).expect("a well-formed answer");
        verify_reply(&packet, &question.sent, &Secret::radsec(), Rule::Yes).expect("a genuine answer to this question");
        Answer { octets }
    }

    async fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; 4];
        self.stream.read_exact(&mut octets).await?;
        octets.resize(u16::from_be_bytes([octets[2], octets[3]]).into(), 0);
        self.stream.read_exact(&mut octets[4..]).await?;
        Ok(octets)
    }

    /// Nothing more comes, and it is closed.
    async fn is_closed_within(&mut self, limit: Duration) -> bool {
        let mut octets = [0; 1];
        match timeout(limit, self.stream.read(&mut octets)).await {
            Ok(Ok(0) | Err(_)) => true,
            Ok(Ok(_)) => panic!("an answer with code {}", octets[0]),
            Err(_) => false,
        }
    }

    async fn is_let_in(&mut self) -> bool {
        let status = self.nas.status();
        self.send(&status.octets).await;
        timeout(PATIENCE, self.packet()).await.expect("an answer or an end").is_ok()
    }
}

#[tokio::test]
async fn the_certificate_says_whose_it_is_and_both_kinds_of_request_come_by_one_port() {
    // FB-09
    let lab = Lab::new().await;
    let packed = lab.certificate("packed.elsewhere.example");
    let fingerprint = {
        use rustls_pki_types::{CertificateDer, pem::PemObject};
        use sha2::{Digest, Sha256};
        let der = CertificateDer::from_pem_file(&packed.certificate).expect("PEM");
        data_encoding::HEXUPPER.encode(&Sha256::digest(&der))
    };
    lab.change(|document| document.clients.push(by_tls("packed", &[&format!("sha256:{fingerprint}")]))).await;
    let gateway = lab.gateway().await;
    let mut site = lab.site(&gateway).await;
    let question = site.nas.question("ann", ANN);
    let asked = site.ask(&question).await;
    assert_eq!(asked.code(), Code::AccessChallenge);
    let right = site.nas.answer_to("ann", &asked.state(), CODE);
    assert_eq!(site.ask(&right).await.code(), Code::AccessAccept);
    let mut watchdog = site.nas.status();
    while watchdog.sent.identifier != 0 {
        watchdog = site.nas.status();
    }
    assert_eq!(site.ask(&watchdog).await.code(), Code::AccessAccept);
    let report = site.nas.report(&session());
    assert_eq!(site.ask(&report).await.octets[0], Code::AccountingResponse as u8);
    let records: Vec<_> = lab.world.store.accounting().into_iter().map(|record| record.client).collect();
    assert_eq!(records, ["site"]);
    let mut packed = lab.connect(&gateway, &packed).await.expect("it is let in");
    let question = packed.nas.question("ann", ANN);
    assert_eq!(packed.ask(&question).await.code(), Code::AccessChallenge);
    let clients: Vec<_> = lab.world.verification.attempts().into_iter().map(|(attempt, _)| attempt.client).collect();
    assert_eq!(clients.last().map(String::as_str), Some("packed"));
}

#[tokio::test]
async fn who_has_no_certificate_that_counts_is_let_go() {
    // R-90; B-34, B-35: another authority, expired, a wildcard, none, one that nobody listed, one from another client's address
    let lab = Lab::new().await;
    lab.change(|document| {
        let branch = by_tls("branch", &["dns:branch.acme.example"]);
        document.clients.push(Client { sources: vec!["127.0.3.0/24".parse().expect("a network")], ..branch });
    })
    .await;
    let gateway = lab.gateway().await;
    let other = Pki::new(&lab.dir.path().join("other")).expect("certificates");
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let strange = [
        Some(other.issue("site", &[SITE]).expect("a certificate")),
        Some(lab.pki.issue_until("expired", &[SITE], Some(yesterday)).expect("a certificate")),
        Some(lab.certificate("*.acme.example")),
        Some(lab.certificate("unlisted.acme.example")),
        None,
    ];
    let elsewhere = Some(lab.certificate(SITE));
    let from_here = strange.iter().map(|own| (own, "127.0.0.1"));
    for (own, from) in from_here.chain([(&elsewhere, "127.0.3.1")]) {
        let named = own.as_ref().map(|own| own.certificate.display().to_string());
        match Site::connect(&gateway, &lab.pki, own.as_ref(), from).await {
            Ok(mut site) => {
                let question = site.nas.question("ann", ANN);
                site.send(&question.octets).await;
                assert!(site.is_closed_within(PATIENCE).await, "{named:?}");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{named:?}"),
        }
    }
    assert_eq!(lab.world.directory.binds(), 0);
    // And who comes by TLS is nobody by UDP.
    let mut nas = Nas::new("127.0.0.9", gateway.address, "radsec").await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    nas.hears_nothing().await;
    assert!(lab.site(&gateway).await.is_let_in().await);
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    // R-90, B-35
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let own = lab.certificate(SITE);
    let address = gateway.radsec.expect("it takes TLS");
    let offer = async |version: &str| {
        let output = tokio::process::Command::new("openssl")
            .args(["s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", &address.to_string(), "-cert"])
            .arg(&own.certificate)
            .arg("-key")
            .arg(&own.key)
            .stdin(std::process::Stdio::null())
            .output();
        let output = output.await.expect("openssl is installed");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    for version in ["-tls1", "-tls1_1"] {
        let said = offer(version).await;
        assert!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{version}: {said}");
    }
    let said = offer("-tls1_2").await;
    assert!(said.contains("Cipher    : ECDHE-"), "{said}");
}

#[tokio::test]
async fn after_one_packet_that_is_not_genuine_nothing_on_the_connection_is_believed() {
    // R-91, RFC 6613 section 2.6.4; B-34: valid, then malformed; B-36: as RADIUS/1.1 has them, without a signature
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let with = |change: &dyn Fn(&mut Vec<u8>), question: &Question| {
        let mut octets = question.octets.clone();
        change(&mut octets);
        octets
    };
    let length = |octets: &mut Vec<u8>, length: u16| octets[2..4].copy_from_slice(&length.to_be_bytes());
    let spoils: [(&str, &Spoil<'_>); 8] = [
        ("length 4097", &|octets| length(octets, 4_097)),
        ("length 19", &|octets| length(octets, 19)),
        ("length 0", &|octets| length(octets, 0)),
        ("signature", &|octets| octets[22] ^= 1),
        ("attribute", &|octets| octets[39] = 0),
        ("an answer", &|octets| octets[0] = 2),
        ("unsigned", &|octets| {
            octets.drain(20..38);
            let left = u16::try_from(octets.len()).expect("short");
            length(octets, left);
        }),
        ("accounting", &|octets| octets[0] = 4),
    ];
    for (what, spoil) in spoils {
        let mut site = lab.site(&gateway).await;
        assert!(site.is_let_in().await, "{what}");
        let (bad, good) = (site.nas.question("ann", ANN), site.nas.question("ann", ANN));
        site.send(&[with(spoil, &bad), good.octets].concat()).await;
        assert!(site.is_closed_within(PATIENCE).await, "{what}");
    }
    assert_eq!((lab.world.directory.binds(), lab.world.verification.decisions()), (0, 0));
    // a Code that we do not know is passed over.
    let mut site = lab.site(&gateway).await;
    for code in [40, 43, 52, 255] {
        let strange = with(&|octets| octets[0] = code, &site.nas.question("ann", ANN));
        site.send(&strange).await;
    }
    assert!(site.is_let_in().await);
}

#[tokio::test]
async fn a_closed_connection_ends_the_login_that_waits_there() {
    // with its prompt
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    lab.world.verification.hold(true);
    let (mut site, mut other) = (lab.site(&gateway).await, lab.site(&gateway).await);
    let (question, beside) = (site.nas.question("ann", ANN), other.nas.question("carol", "sesame-carol-77d2"));
    site.send(&question.octets).await;
    until("it waits", async || lab.world.verification.decisions() == 1).await;
    other.send(&beside.octets).await;
    drop(site);
    until("the caller left", async || lab.world.verification.abandoned() == 1).await;
    until("it is cancelled", async || lab.world.verification.cancels() == ["challenge_gone"]).await;
    lab.world.verification.hold(false);
    assert!(!other.hear(&beside).await.octets.is_empty(), "another connection goes on");
    assert_eq!(lab.world.verification.abandoned(), 1);
}

#[tokio::test]
async fn who_lets_us_wait_is_let_go_and_one_address_does_not_take_all_connections() {
    // R-91; B-34: half-open ones, and one octet every five seconds
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let address = gateway.radsec.expect("it takes TLS");
    let mut slow = lab.site(&gateway).await;
    assert!(slow.is_let_in().await);
    let (begun, mut half_open) = (Instant::now(), Vec::new());
    for _ in 0..80 {
        half_open.push(TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    let is_closed = async |stream: &mut TcpStream, limit| match timeout(limit, stream.read(&mut [0; 1])).await {
        Ok(read) => !matches!(read, Ok(1..)),
        Err(_) => false,
    };
    let mut closed = 0;
    for stream in &mut half_open {
        closed += usize::from(is_closed(stream, Duration::from_millis(20)).await);
    }
    assert_eq!(closed, 80 - 63, "64 with the slow one");
    let mut elsewhere =
        Site::connect(&gateway, &lab.pki, Some(&lab.certificate(SITE)), "127.0.0.2").await.expect("room");
    assert!(elsewhere.is_let_in().await);
    let question = slow.nas.question("ann", ANN);
    slow.send(&question.octets[..1]).await;
    let began = Instant::now();
    assert!(!slow.is_closed_within(Duration::from_secs(5)).await);
    slow.send(&question.octets[1..2]).await;
    assert!(slow.is_closed_within(Duration::from_secs(6)).await);
    assert!(began.elapsed() >= Duration::from_millis(9_900), "{:?}", began.elapsed());
    for stream in &mut half_open {
        assert!(is_closed(stream, Duration::from_secs(3)).await);
    }
    assert!(begun.elapsed() < Duration::from_secs(14));
    assert!(lab.site(&gateway).await.is_let_in().await, "there is room again");
    assert!(elsewhere.is_let_in().await, "who says nothing may stay");
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_with_its_client() {
    // R-90, B-35: expired during the session, taken out of the settings
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let soon = SystemTime::now() + Duration::from_secs(4);
    let own = lab.pki.issue_until("soon", &[SITE], Some(soon)).expect("a certificate");
    let mut ending = lab.connect(&gateway, &own).await.expect("it is let in");
    assert!(ending.is_let_in().await);
    let mut gone = lab.connect(&gateway, &lab.certificate(PROXY)).await.expect("it is let in");
    assert!(gone.is_let_in().await);
    let mut stays = lab.site(&gateway).await;
    lab.change(|document| document.clients.retain(|client| client.name.as_str() != "proxy")).await;
    until("new settings are in force", async || {
        let status = gone.nas.status();
        gone.send(&status.octets).await;
        timeout(Duration::from_millis(200), gone.packet()).await.is_ok_and(|packet| packet.is_err())
    })
    .await;
    assert!(ending.is_closed_within(Duration::from_secs(12)).await);
    assert!(stays.is_let_in().await);
}

#[tokio::test]
async fn a_revoked_certificate_opens_nothing_and_what_it_has_opened_is_closed() {
    // the list is read again while running; one that is broken changes nothing, one past its time lets nobody in
    const LOOKED_AT_AGAIN: Duration = Duration::from_secs(25);
    let lab = Lab::new().await;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let (site, proxy) = (lab.certificate(SITE), lab.certificate(PROXY));
    let list = lab.pki.revoke(&[], tomorrow).expect("a list");
    let lists = Some(InputFile::new(&list).expect("it is there"));
    let gateway = lab.world.node(Nodes::One, RadiusSection { radsec_crl_file: lists, ..lab.section() }).await;
    let is_let_in = async |own: &Certificate| match lab.connect(&gateway, own).await {
        Ok(mut site) => site.is_let_in().await,
        Err(_) => false,
    };
    let mut open = lab.connect(&gateway, &site).await.expect("it is let in");
    let mut other = lab.connect(&gateway, &proxy).await.expect("it is let in");
    assert!(open.is_let_in().await && other.is_let_in().await);

    // Appended, as some fetch them: of two lists of one authority the newer one counts.
    let before = std::fs::read_to_string(&list).expect("a list");
    lab.pki.revoke(&[&site], tomorrow).expect("a list");
    let newer = std::fs::read_to_string(&list).expect("a list");
    std::fs::write(&list, before + &newer).expect("written");
    assert!(open.is_closed_within(LOOKED_AT_AGAIN).await);
    assert!(!is_let_in(&site).await && is_let_in(&proxy).await && other.is_let_in().await);

    std::fs::write(&list, "no list at all").expect("written");
    let mut section = lab.section();
    section.radsec_crl_file = Some(InputFile::new(&list).expect("it is there"));
    let started = radius_gateway::start(section, lab.world.deps(Nodes::One), &gateway.process).await;
    let error = format!("{:#}", started.err().expect("it is no list"));
    assert!(error.ends_with(&format!("{} is not PEM with a revocation list", list.display())), "{error}");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!is_let_in(&site).await && is_let_in(&proxy).await, "the list before stays");

    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    lab.pki.revoke(&[], yesterday).expect("a list");
    assert!(other.is_closed_within(LOOKED_AT_AGAIN).await);
    assert!(!is_let_in(&proxy).await);
}

#[tokio::test]
async fn who_is_no_clients_address_gets_no_handshake() {
    // FR-03, R-91: closed at once, and not after the time of a handshake
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let address = gateway.radsec.expect("it takes TLS");
    for (from, is_shaken) in [("127.0.9.9", false), ("127.0.0.9", true)] {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0)).expect("loopback");
        let mut stream = socket.connect(address).await.expect("it listens");
        let ended = timeout(Duration::from_secs(2), stream.read(&mut [0; 1])).await;
        assert_eq!(ended.is_err(), is_shaken, "{from}");
    }
}

fn pem(pki: &Pki) -> String {
    std::fs::read_to_string(pki.ca_file()).expect("the CA")
}

#[tokio::test]
async fn a_certificate_of_one_clients_authority_is_never_another_client() {
    // CVE-2012-4523, CVE-2012-4566
    const BRANCH: &str = "radsec.branch.example";
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let (theirs, others) = (Pki::new(&lab.dir.path().join("theirs")), Pki::new(&lab.dir.path().join("others")));
    let (theirs, others) = (theirs.expect("certificates"), others.expect("certificates"));
    let signed = |pki: &Pki, names: &[&str]| pki.issue("device", names).expect("a certificate");
    let site_of = async |own: &Certificate| Site::connect(&gateway, &lab.pki, Some(own), "127.0.0.1").await;
    let is_let_in = async |own: &Certificate| match site_of(own).await {
        Ok(mut site) => site.is_let_in().await,
        Err(_) => false,
    };
    assert!(!is_let_in(&signed(&theirs, &[BRANCH])).await, "nobody has named that authority");
    let by = |name: &str, mark: &str, authority: &Pki| Client { ca: Some(pem(authority)), ..by_tls(name, &[mark]) };
    lab.change(|document| {
        document.clients.push(by("branch", &format!("dns:{BRANCH}"), &theirs));
        document.clients.push(by("shop", "dns:shop.example", &others));
    })
    .await;
    until("it is in force", async || is_let_in(&signed(&theirs, &[BRANCH])).await).await;
    for (whose, own) in [
        ("of their authority, with the name of a client that names none", signed(&theirs, &[SITE])),
        ("of their authority, with both names", signed(&theirs, &[SITE, BRANCH])),
        ("of their authority, with the name of a client that names another", signed(&theirs, &["shop.example"])),
        ("of another client's authority", signed(&others, &[BRANCH])),
        ("of the authority of all", signed(&lab.pki, &[BRANCH])),
    ] {
        assert!(!is_let_in(&own).await, "{whose}");
    }
    assert!(is_let_in(&signed(&others, &["shop.example"])).await && lab.site(&gateway).await.is_let_in().await);

    // Another authority: who was let in by the one before is let go with the next packet.
    let mut open = site_of(&signed(&theirs, &[BRANCH])).await.expect("it is let in");
    assert!(open.is_let_in().await);
    lab.change(|document| {
        let branch = document.clients.iter_mut().find(|client| client.name.as_str() == "branch").expect("there");
        branch.ca = Some(pem(&others));
    })
    .await;
    until("it is in force", async || is_let_in(&signed(&others, &[BRANCH])).await).await;
    let question = open.nas.question("ann", ANN);
    open.send(&question.octets).await;
    assert!(open.is_closed_within(Duration::from_secs(2)).await);
    assert_eq!(lab.world.directory.binds(), 0);
}

#[tokio::test]
async fn what_a_clients_own_authority_has_revoked_is_refused_too() {
    // a list of each authority; while that of one is missing, nobody of it is let in
    const BRANCH: &str = "radsec.branch.example";
    let lab = Lab::new().await;
    let theirs = Pki::new(&lab.dir.path().join("theirs")).expect("certificates");
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let (list, own) = (lab.dir.path().join("lists.pem"), theirs.issue("branch", &[BRANCH]).expect("a certificate"));
    let of_all = std::fs::read_to_string(lab.pki.revoke(&[], tomorrow).expect("a list")).expect("a list");
    std::fs::write(&list, &of_all).expect("written");
    lab.change(|document| {
        let branch = by_tls("branch", &[&format!("dns:{BRANCH}")]);
        document.clients.push(Client { ca: Some(pem(&theirs)), ..branch });
    })
    .await;
    let lists = Some(InputFile::new(&list).expect("it is there"));
    let gateway = lab.world.node(Nodes::One, RadiusSection { radsec_crl_file: lists, ..lab.section() }).await;
    let let_in = async || {
        let mut site = lab.connect(&gateway, &own).await.ok()?;
        site.is_let_in().await.then_some(site)
    };
    assert!(let_in().await.is_none() && lab.site(&gateway).await.is_let_in().await);
    let write = |revoked: &[&Certificate]| {
        let of_branch = std::fs::read_to_string(theirs.revoke(revoked, tomorrow).expect("a list")).expect("a list");
        std::fs::write(&list, of_all.clone() + &of_branch).expect("written");
    };
    write(&[]);
    let mut open = None;
    for _ in 0..30 {
        open = let_in().await;
        if open.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut open = open.expect("the lists are read again within ten seconds");
    write(&[&own]);
    assert!(open.is_closed_within(Duration::from_secs(25)).await);
    assert!(let_in().await.is_none() && lab.site(&gateway).await.is_let_in().await);
}

#[tokio::test]
async fn a_stopping_gateway_answers_what_is_open_and_lets_nobody_in() {
    //
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let mut site = lab.site(&gateway).await;
    let first = site.nas.question("ann", ANN);
    let state = site.ask(&first).await.state();
    lab.world.verification.misbehave(Some(Fault::Slow(Duration::from_millis(700))));
    let pending = site.nas.question("ann", ANN);
    site.send(&pending.octets).await;
    until("it is at work", async || lab.world.verification.decisions() == 2).await;
    gateway.shutdown.begin();
    gateway.shutdown.draining().await;
    assert!(lab.connect(&gateway, &lab.certificate(SITE)).await.is_err());
    lab.world.verification.misbehave(Some(Fault::Hangs));
    let answer = site.nas.answer_to("ann", &state, CODE);
    site.send(&answer.octets).await;
    assert_eq!(site.hear(&pending).await.code(), Code::AccessChallenge);
    assert_eq!(site.hear(&answer).await.code(), Code::AccessReject, "what does not end in time is refused");
    timeout(Duration::from_secs(4), gateway.process.finish()).await.expect("it stops");
    assert!(site.is_closed_within(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_logs_in_through_radsecproxy() {
    // FB-09: device -UDP-> radsecproxy -TLS-> gateway -> directory
    let lab = Lab::new().await;
    let gateway = lab.gateway().await;
    let next = gateway.radsec.expect("it takes TLS");
    let mut options = RadsecOptions::new(Direction::UdpToTls, next, SECRET);
    options.status_server = true;
    let proxy = RadsecProxy::start(lab.dir.path(), &lab.pki, &options).expect("radsecproxy is installed");
    let mut nas = Nas::new("127.0.0.1", proxy.address(), SECRET).await;
    let question = nas.question("ann", ANN);
    let asked = nas.ask(&question).await;
    assert_eq!(asked.code(), Code::AccessChallenge, "{}", proxy.log());
    let right = nas.answer_to("ann", &asked.state(), CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    assert_eq!(lab.world.directory.binds(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_logs_in_through_radsecproxy_of_another_authority() {
    // everybody's authority is another one; that of the proxy counts once its client names it
    let lab = Lab::new().await;
    let others = Pki::new(&lab.dir.path().join("others")).expect("certificates");
    let authority = Some(InputFile::new(others.ca_file()).expect("it is there"));
    let gateway = lab.world.node(Nodes::One, RadiusSection { radsec_client_ca_file: authority, ..lab.section() }).await;
    let next = gateway.radsec.expect("it takes TLS");
    let options = RadsecOptions::new(Direction::UdpToTls, next, SECRET);
    let mut proxy = RadsecProxy::start(lab.dir.path(), &lab.pki, &options).expect("radsecproxy is installed");
    let mut nas = Nas::new("127.0.0.1", proxy.address(), SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    nas.hears_nothing().await;
    lab.change(|document| {
        let client = document.clients.iter_mut().find(|client| client.name.as_str() == "proxy").expect("there");
        client.ca = Some(pem(&lab.pki));
    })
    .await;
    // It waits ever longer before it tries again.
    proxy.restart().expect("it starts again");
    let question = nas.question("ann", ANN);
    let asked = nas.ask(&question).await;
    assert_eq!(asked.code(), Code::AccessChallenge, "{}", proxy.log());
    assert!(lab.connect(&gateway, &lab.certificate(SITE)).await.expect("it passes").is_closed_within(PATIENCE).await);
}

/// What is done to a packet.
type Spoil<'a> = dyn Fn(&mut Vec<u8>) + 'a;

/// The beginning of one.
fn session() -> [radius_wire::Attribute<'static>; 3] {
    [
        attribute(AttributeType::ACCT_STATUS_TYPE, &[0, 0, 0, 1]),
        attribute(AttributeType::ACCT_SESSION_ID, b"7"),
        user_name("ann"),
    ]
}

// ---- to servers

fn target(server: serde_json::Value) -> Target {
    let target = serde_json::json!({
        "name": "far", "kind": "radius", "directory": "corp", "servers": [server], "response_window_seconds": 5,
    });
    serde_json::from_value(target).expect("a target")
}

fn server(address: SocketAddr, ca: &Path) -> serde_json::Value {
    serde_json::json!({
        "address": address.ip(), "authentication_port": address.port(), "transport": "tls",
        "ca": std::fs::read_to_string(ca).expect("the CA"),
    })
}

/// The client `vpn` is checked by this server.
async fn sends_to(lab: &Lab, server: serde_json::Value) {
    lab.change(|document| {
        document.targets.retain(|target| target.name.as_str() != "far");
        document.targets.push(target(server));
        let client = document.clients.iter_mut().find(|client| client.name.as_str() == "vpn").expect("there");
        client.target = "far".parse().expect("a name");
    })
    .await;
}

fn home(lab: &Lab, pki: &Pki) -> FreeRadius {
    let hidden = format!("Tunnel-Password:1 = \"{}\"", HomeUser::TUNNEL_PASSWORD);
    let options = HomeOptions { users: vec![HomeUser::new("ann", ANN).replies(&[&hidden])], ..HomeOptions::default() };
    FreeRadius::home(lab.dir.path(), pki, &options).expect("FreeRADIUS is installed: tests/lab/install.sh")
}

/// A whole login, and what the server hides for it, as the device reads it.
async fn tunnel_password(nas: &mut Nas) -> String {
    let question = nas.question("ann", ANN);
    let asked = nas.ask(&question).await;
    assert_eq!(asked.code(), Code::AccessChallenge);
    let answer = nas.answer_to("ann", &asked.state(), CODE);
    let accepted = nas.ask(&answer).await;
    assert_eq!(accepted.code(), Code::AccessAccept);
    let secret = Secret::new(SECRET).expect("not empty");
    let key = HidingKey { secret: &secret, authenticator: &answer.sent.authenticator };
    let tagged = accepted.all(AttributeType(69));
    let clear = Hiding::TunnelPassword.reveal(&tagged[0][1..], key).expect("hidden for the device's last request");
    String::from_utf8(clear.to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_accounting_go_to_a_server_by_tls_and_a_new_connection_follows_a_lost_one() {
    // FB-09: FreeRADIUS by TLS, then radsecproxy by TLS before FreeRADIUS by UDP
    let lab = Lab::new().await;
    let mut home = home(&lab, &lab.pki);
    sends_to(&lab, server(home.radsec_address(), &lab.pki.ca_file())).await;
    let gateway = lab.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    for _ in 0..3 {
        let question = nas.question("ann", ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{}", home.log());
    }
    let seen = home.seen().expect("its log");
    assert_eq!(seen.last().map(|packet| packet.port), Some(home.radsec_address().port()));
    assert!(seen.iter().all(|packet| packet.signed() && packet.identifier != 0), "0 is the watchdog's");
    let wrong = nas.question("ann", "wrong password");
    assert_eq!(nas.ask(&wrong).await.code(), Code::AccessReject);
    // by TLS it is hidden with the secret of all such connections.
    assert_eq!(tunnel_password(&mut nas).await, HomeUser::TUNNEL_PASSWORD);
    // FreeRADIUS takes both kinds by one port, and nobody here acknowledges what it has not.
    let mut reporting = Nas::new(VPN, gateway.accounting, SECRET).await;
    let report = reporting.report(&session());
    reporting.send(&report.octets).await;
    reporting.hear_accounting(&report).await;
    home.restart().expect("it starts again");
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{}", home.log());

    let to_udp = RadsecOptions::new(Direction::TlsToUdp, home.auth_address(), home.secret());
    let proxy = RadsecProxy::start(lab.dir.path(), &lab.pki, &to_udp).expect("radsecproxy is installed");
    let mut by_name = server(proxy.address(), &lab.pki.ca_file());
    by_name["address"] = "localhost".into();
    by_name["server_name"] = "radsecproxy.acme.example".into();
    sends_to(&lab, by_name).await;
    let before = home.seen().expect("its log").len();
    until("the other way is taken", async || {
        let question = nas.question("ann", ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{}", proxy.log());
        let seen = home.seen().expect("its log");
        seen.len() > before && seen.last().map(|packet| packet.port) == Some(home.auth_address().port())
    })
    .await;
    lab.world.verification.forget_spent_codes();
    assert_eq!(tunnel_password(&mut nas).await, HomeUser::TUNNEL_PASSWORD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_asked_as_soon_as_our_own_certificate_can_be_used() {
    // a file that was broken when we started is read again, without a change of the settings
    let lab = Lab::new().await;
    let home = home(&lab, &lab.pki);
    sends_to(&lab, server(home.radsec_address(), &lab.pki.ca_file())).await;
    let section = RadiusSection { radsec_listen: Vec::new(), ..lab.section() };
    let file = section.tls_certificate_file.as_ref().expect("there is one").path().to_owned();
    let good = std::fs::read(&file).expect("readable");
    std::fs::write(&file, "no certificate").expect("written");
    let gateway = lab.world.node(Nodes::One, section).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    std::fs::write(&file, good).expect("written");
    until("it is asked", async || {
        let question = nas.question("ann", ANN);
        nas.ask(&question).await.code() == Code::AccessChallenge
    })
    .await;
}

#[tokio::test]
async fn what_a_server_by_tls_has_not_recorded_is_not_acknowledged() {
    // R-86, RFC 6614 section 2.5: an Accounting-Response with Error-Cause 406
    let lab = Lab::new().await;
    let own = lab.pki.issue("recording", &["127.0.0.1"]).expect("a certificate");
    let records = Arc::new(AtomicBool::new(false));
    let address = recording(&own, records.clone()).await;
    sends_to(&lab, server(address, &lab.pki.ca_file())).await;
    let gateway = lab.gateway().await;
    let mut nas = Nas::new(VPN, gateway.accounting, SECRET).await;
    let report = nas.report(&session());
    nas.send(&report.octets).await;
    nas.hears_nothing().await;
    records.store(true, Ordering::SeqCst);
    nas.send(&report.octets).await;
    nas.hear_accounting(&report).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_prove_who_it_is_gets_no_password() {
    // R-90, B-35: another name, another authority, expired
    let lab = Lab::new().await;
    let other = Pki::new(&lab.dir.path().join("other")).expect("certificates");
    let home = home(&lab, &lab.pki);
    let mut misnamed = server(home.radsec_address(), &lab.pki.ca_file());
    misnamed["server_name"] = "elsewhere.acme.example".into();
    for server in [misnamed, server(home.radsec_address(), &other.ca_file())] {
        sends_to(&lab, server).await;
        let gateway = lab.gateway().await;
        let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
        let question = nas.question("ann", ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    }
    assert!(home.seen().expect("its log").is_empty());
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let expired = lab.pki.issue_until("expired", &["127.0.0.1"], Some(yesterday)).expect("a certificate");
    let (address, asked) = forgetful(&expired).await;
    sends_to(&lab, server(address, &lab.pki.ca_file())).await;
    let gateway = lab.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!((nas.ask(&question).await.code(), asked.load(Ordering::SeqCst)), (Code::AccessReject, 0));
    let mut without = lab.section();
    (without.radsec_listen, without.tls_certificate_file, without.tls_key_file) = (Vec::new(), None, None);
    sends_to(&lab, server(home.radsec_address(), &lab.pki.ca_file())).await;
    let gateway = lab.world.node(Nodes::One, without).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "nor is it asked by somebody unnamed");
    assert!(home.seen().expect("its log").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_server_gets_no_password_and_the_connection_to_it_is_closed() {
    // the list is asked for servers whose authority is named; one that cannot be read stops the start
    let lab = Lab::new().await;
    let home = home(&lab, &lab.pki);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let list = lab.pki.revoke(&[], tomorrow).expect("a list");
    let section = || {
        let lists = Some(InputFile::new(&list).expect("it is there"));
        RadiusSection { radsec_server_crl_file: lists, ..lab.section() }
    };
    let to_udp = RadsecOptions::new(Direction::TlsToUdp, home.auth_address(), home.secret());
    let proxy = RadsecProxy::start(lab.dir.path(), &lab.pki, &to_udp).expect("radsecproxy is installed");
    sends_to(&lab, server(proxy.address(), &lab.pki.ca_file())).await;
    let gateway = lab.world.node(Nodes::One, section()).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{}", proxy.log());
    let seen = home.seen().expect("its log").len();

    assert!(connections_to(proxy.address()) > 0, "one stays open");
    lab.pki.revoke(&[proxy.certificate()], tomorrow).expect("a list");
    let ends = Instant::now() + Duration::from_secs(25);
    while connections_to(proxy.address()) > 0 {
        assert!(Instant::now() < ends, "it is still open");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(home.seen().expect("its log").len(), seen);

    std::fs::write(&list, "no list at all").expect("written");
    let started = radius_gateway::start(section(), lab.world.deps(Nodes::One), &gateway.process).await;
    let error = format!("{:#}", started.err().expect("it is no list"));
    assert!(error.starts_with("radius.radsec_server_crl_file cannot be used: "), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_connection_took_along_is_sent_once_more_by_a_new_one() {
    // not on the same connection, and under another authenticator
    let lab = Lab::new().await;
    let own = lab.pki.issue("forgetful", &["127.0.0.1"]).expect("a certificate");
    let (address, asked) = forgetful(&own).await;
    sends_to(&lab, server(address, &lab.pki.ca_file())).await;
    let gateway = lab.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// How many of this host are open.
fn connections_to(address: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let to_it = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|remote| remote.ends_with(&port)) && words.next() == Some(ESTABLISHED)
    };
    table.lines().filter(to_it).count()
}

/// A server by TLS that answers reports, and says whether it does accounting at all.
async fn recording(own: &Certificate, records: Arc<AtomicBool>) -> SocketAddr {
    let tls = ServerTls::load("radsec", identity(own), ClientAuth::None, TlsOptions::default()).expect("it loads");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("loopback");
            let Ok(mut stream) = tls.acceptor().accept(stream).await else { continue };
            let mut octets = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut octets).await {
                let packet = Packet::parse(&octets[..length], Port::Accounting).expect("a report");
                let states: Vec<_> = packet.all(AttributeType::PROXY_STATE).collect();
                let mut attributes: Vec<_> =
                    states.into_iter().map(|state| attribute(AttributeType::PROXY_STATE, state)).collect();
                if !records.load(Ordering::SeqCst) {
                    attributes.push(attribute(AttributeType::ERROR_CAUSE, &[0, 0, 1, 0x96]));
                }
                let sent = Sent { identifier: packet.identifier(), authenticator: *packet.authenticator() };
                let reply = radius_wire::write_reply(5, sent, &attributes, &Secret::radsec(), false).expect("it fits");
                stream.write_all(&reply).await.expect("loopback");
                stream.flush().await.expect("loopback");
            }
        }
    });
    address
}

/// A server by TLS that hangs up when it is asked for the first time, and says yes from then on. And how often it was asked.
async fn forgetful(own: &Certificate) -> (SocketAddr, Arc<AtomicUsize>) {
    let tls = ServerTls::load("radsec", identity(own), ClientAuth::None, TlsOptions::default()).expect("it loads");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("loopback");
            let Ok(mut stream) = tls.acceptor().accept(stream).await else { continue };
            let mut octets = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut octets).await {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    break;
                }
                let packet = parsed(&octets[..length]);
                let states: Vec<_> = packet.all(AttributeType::PROXY_STATE).collect();
                let states: Vec<_> =
                    states.into_iter().map(|state| attribute(AttributeType::PROXY_STATE, state)).collect();
                let sent = Sent { identifier: packet.identifier(), authenticator: *packet.authenticator() };
                let accept = radius_wire::write_reply(2, sent, &states, &Secret::radsec(), true).expect("it fits");
                stream.write_all(&accept).await.expect("loopback");
                stream.flush().await.expect("loopback");
            }
        }
    });
    (address, asked)
}
