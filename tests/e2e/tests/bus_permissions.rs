//! The bus as `twinlock init --distributed` sets it up, at a real nats-server (V-71, V-72, B-90): each part may do what stands in
//! the table below and nothing else, and does its work with it. The client that tries is not the product's: a few lines of the
//! NATS protocol, so that it can also ask for what ours never would.

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use lab::{Proc, free_port, our_program, program, run, wait_until};
use nkeys::KeyPair;
use proto::{bus_permissions::PARTS, subjects};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use service_kit::{
    Process,
    bus::{self, Bus, BusError, Change, MapOptions, StreamKind, StreamOptions},
    config::{BusSection, BusUrl, InputFile},
    secret::SecretFile,
};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

/// The table, written here once more by hand: subject, who may publish, who may subscribe.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("twinlock.v1.user.changed.4711", &["user-store"], &["ldap-gateway"]),
    (
        "twinlock.v1.settings.changed",
        &["user-store"],
        &["ldap-gateway", "radius-gateway", "verification", "directory-sync", "portal"],
    ),
    ("twinlock.v1.sync.requested", &["user-store"], &[]),
    ("twinlock.v1.auth.event.vpn", &["user-store"], &[]),
    ("$JS.API.STREAM.INFO.TWINLOCK_SYNC", &["user-store", "directory-sync"], &[]),
    ("$JS.API.STREAM.CREATE.TWINLOCK_SYNC", &["user-store", "directory-sync"], &[]),
    ("$JS.API.CONSUMER.INFO.TWINLOCK_SYNC.directory-sync", &["directory-sync"], &[]),
    ("$JS.API.CONSUMER.CREATE.TWINLOCK_SYNC.directory-sync", &["directory-sync"], &[]),
    ("$JS.API.CONSUMER.MSG.NEXT.TWINLOCK_SYNC.directory-sync", &["directory-sync"], &[]),
    ("$JS.ACK.TWINLOCK_SYNC.directory-sync.1.1.1.1.0", &["directory-sync"], &[]),
    ("$JS.API.STREAM.INFO.TWINLOCK_EVENTS", &["user-store"], &[]),
    ("$JS.API.STREAM.CREATE.TWINLOCK_EVENTS", &["user-store"], &[]),
    ("$JS.API.STREAM.INFO.KV_twinlock_challenges", &["verification"], &[]),
    ("$JS.API.STREAM.CREATE.KV_twinlock_challenges", &["verification"], &[]),
    ("$JS.API.STREAM.INFO.KV_twinlock_replies", &["verification"], &[]),
    ("$KV.twinlock_replies.a", &["verification"], &[]),
    ("$JS.API.DIRECT.GET.KV_twinlock_challenges.$KV.twinlock_challenges.a", &["verification"], &[]),
    ("$KV.twinlock_challenges.a", &["verification"], &[]),
    ("$JS.API.STREAM.INFO.KV_twinlock_requests", &["radius-gateway"], &[]),
    ("$JS.API.STREAM.CREATE.KV_twinlock_requests", &["radius-gateway"], &[]),
    ("$JS.API.DIRECT.GET.KV_twinlock_requests.$KV.twinlock_requests.a", &["radius-gateway"], &[]),
    ("$KV.twinlock_requests.a", &["radius-gateway"], &[]),
    ("$JS.API.STREAM.INFO.KV_twinlock_leases", &["directory-sync"], &[]),
    ("$JS.API.STREAM.CREATE.KV_twinlock_leases", &["directory-sync"], &[]),
    ("$JS.API.DIRECT.GET.KV_twinlock_leases.$KV.twinlock_leases.a", &["directory-sync"], &[]),
    ("$JS.API.CONSUMER.CREATE.KV_twinlock_leases", &["directory-sync"], &[]),
    ("$JS.FC.KV_twinlock_leases.a.b", &["directory-sync"], &[]),
    ("$KV.twinlock_leases.directory-sync", &["directory-sync"], &[]),
    ("_INBOX_ldap-gateway.a", &[], &["ldap-gateway"]),
    ("_INBOX_radius-gateway.a", &[], &["radius-gateway"]),
    ("twinlock.v1.challenge.resolved.4711", &["verification"], &["verification"]),
    ("_INBOX_verification.a", &[], &["verification"]),
    ("_INBOX_user-store.a", &[], &["user-store"]),
    ("_INBOX_directory-sync.a", &[], &["directory-sync"]),
    ("_INBOX_portal.a", &[], &["portal"]),
];

/// What nobody may do.
const NEVER: &[&str] = &[
    "twinlock.v1.challenge.resolved",
    "twinlock.v1.challenge.resolved.4711.more",
    "twinlock.v1.user.changed",
    "twinlock.v1.user.changed.4711.more",
    "twinlock.v1.anything",
    "_INBOX.a",
    "$SYS.REQ.SERVER.PING",
    "$SYS.ACCOUNT.$G.CONNECT",
    "$JS.API.INFO",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.TEMPLATE.CREATE.MINE",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
    "$JS.API.ACCOUNT.PURGE.$G",
];
const WILD: &[&str] = &[
    ">",
    "*",
    "twinlock.>",
    "twinlock.v1.>",
    "twinlock.v1.*.changed",
    "_INBOX.>",
    "$SYS.>",
    "$JS.>",
    "$KV.>",
    "$JS.API.>",
];
/// Calls on a stream that no part makes.
const DANGEROUS: &[&str] = &[
    "STREAM.DELETE",
    "STREAM.PURGE",
    "STREAM.UPDATE",
    "STREAM.MSG.GET",
    "STREAM.MSG.DELETE",
    "STREAM.SNAPSHOT",
    "STREAM.RESTORE",
    "STREAM.LEADER.STEPDOWN",
    "STREAM.PEER.REMOVE",
    "CONSUMER.LIST",
    "CONSUMER.NAMES",
];
const STREAMS: &[&str] = &[
    "TWINLOCK_SYNC",
    "TWINLOCK_EVENTS",
    "KV_twinlock_challenges",
    "KV_twinlock_replies",
    "KV_twinlock_requests",
    "KV_twinlock_leases",
];

/// The server with the very files of `init`; only addresses and folders are those of the test.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    _process: Proc,
}

impl Server {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        init(&secrets(dir.path()))?;
        let (port, monitor) = (free_port(), free_port());
        let text = fs::read_to_string(secrets(dir.path()).join("nats/nats.conf"))?
            .replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"))
            .replace("127.0.0.1:8222", &format!("127.0.0.1:{monitor}"))
            .replace("\"/data\"", &format!("{:?}", dir.path().join("data")))
            .replace("/run/secrets/twinlock", &secrets(dir.path()).join("nats").display().to_string());
        let configuration = dir.path().join("nats.conf");
        fs::write(&configuration, text)?;
        let mut command = Command::new(program("nats-server")?);
        command.arg("-c").arg(&configuration);
        let process = Proc::spawn("nats-server", command, &dir.path().join("nats.log"))?;
        wait_until("nats-server to listen", Duration::from_secs(60), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(Self { dir, port, _process: process })
    }

    fn folder(&self, part: &str) -> PathBuf {
        secrets(self.dir.path()).join(part)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default()
    }

    /// As the product connects.
    fn bus(&self, part: &'static str) -> Result<(Arc<dyn Bus>, Process)> {
        let folder = self.folder(part);
        let input = |name: &str| InputFile::new(folder.join(name));
        let secret = |name: &str| SecretFile::new(&folder.join(name).to_string_lossy());
        let section = BusSection {
            url: BusUrl::Nats(vec![format!("tls://127.0.0.1:{}", self.port)]),
            credentials_file: Some(secret("bus.nk")?),
            ca_file: Some(input("ca.crt")?),
            certificate_file: Some(input("tls.crt")?),
            key_file: Some(secret("tls.key")?),
        };
        let process = Process::detached(part);
        Ok((bus::connect(&section, &process)?, process))
    }
}

fn secrets(dir: &Path) -> PathBuf {
    dir.join("secrets")
}

fn init(dir: &Path) -> Result<()> {
    run(Command::new(our_program("twinlock")?).args(["init", "--certificate", "openldap", "--distributed"]).arg(dir))?;
    Ok(())
}

/// A connection of the NATS protocol.
struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// Who somebody claims to be.
struct Identity<'a> {
    /// Whose certificate.
    certificate: Option<&'a Path>,
    seed: Option<String>,
}

impl Client {
    fn connect(server: &Server, identity: &Identity) -> Result<Self> {
        service_kit::tls::install_provider();
        let tcp = TcpStream::connect(("127.0.0.1", server.port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        tcp.set_nodelay(true)?;
        // The greeting comes before TLS. Octet by octet: what follows belongs to the handshake.
        let greeting = first_line(&tcp)?;
        let greeting: serde_json::Value =
            serde_json::from_str(greeting.strip_prefix("INFO ").context("not a greeting")?)?;
        let nonce = greeting["nonce"].as_str().context("a nonce to sign")?;
        let mut hello = serde_json::json!({ "verbose": false, "pedantic": false, "tls_required": true, "headers": true,
            "lang": "test", "version": "1", "protocol": 1, "no_responders": true });
        if let Some(seed) = &identity.seed {
            let key = KeyPair::from_seed(seed)?;
            hello["nkey"] = key.public_key().into();
            hello["sig"] = base64url(&key.sign(nonce.as_bytes())?).into();
        }
        let tls = ClientConnection::new(Arc::new(tls(server, identity)?), ServerName::try_from("127.0.0.1")?)?;
        let mut client = Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) };
        let refusal = client.ask(&format!("CONNECT {hello}\r\n"))?;
        match refusal {
            Some(refusal) => bail!("{refusal}"),
            None => Ok(client),
        }
    }

    /// Sends it and waits for the answer to a PING behind it; what the server refused meanwhile.
    fn ask(&mut self, what: &str) -> Result<Option<String>> {
        let stream = self.stream.get_mut();
        stream.write_all(what.as_bytes())?;
        stream.write_all(b"PING\r\n")?;
        stream.flush()?;
        let mut refusal = None;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return refusal.map(Some).context("the server closed the connection");
            }
            match line.trim_end() {
                "PONG" => return Ok(refusal),
                "PING" => self.stream.get_mut().write_all(b"PONG\r\n")?,
                error if error.starts_with("-ERR") => refusal = Some(error.to_owned()),
                // A greeting, or a message of a subscription and its empty payload.
                _ => {}
            }
        }
    }

    fn may_publish(&mut self, subject: &str) -> Result<bool> {
        self.allowed(&format!("PUB {subject} 0\r\n\r\n"), "Publish")
    }

    fn may_subscribe(&mut self, subject: &str) -> Result<bool> {
        let allowed = self.allowed(&format!("SUB {subject} 1\r\n"), "Subscription")?;
        self.ask("UNSUB 1\r\n")?;
        Ok(allowed)
    }

    fn allowed(&mut self, what: &str, action: &str) -> Result<bool> {
        match self.ask(what)? {
            None => Ok(true),
            Some(error) if error.starts_with(&format!("-ERR 'Permissions Violation for {action}")) => Ok(false),
            Some(error) => bail!("{what}: {error}"),
        }
    }
}

fn first_line(mut tcp: &TcpStream) -> Result<String> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while octet != *b"\n" {
        std::io::Read::read_exact(&mut tcp, &mut octet)?;
        line.extend(octet);
    }
    Ok(String::from_utf8(line)?)
}

fn tls(server: &Server, identity: &Identity) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.folder("ca").join("ca.crt"))?)?;
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Ok(match identity.certificate {
        None => builder.with_no_client_auth(),
        Some(folder) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(folder.join("tls.crt"))?],
            PrivateKeyDer::from_pem_file(folder.join("tls.key"))?,
        )?,
    })
}

fn base64url(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = |at: usize| u32::from(octets.get(at).copied().unwrap_or(0));
    let mut text = String::new();
    for at in (0..octets.len()).step_by(3) {
        let three = bits(at) << 16 | bits(at + 1) << 8 | bits(at + 2);
        let signs = (octets.len() - at).min(3) + 1;
        text.extend((0..signs).map(|sign| char::from(ALPHABET[(three >> (18 - 6 * sign) & 63) as usize])));
    }
    text
}

fn seed(server: &Server, part: &str) -> Result<String> {
    Ok(fs::read_to_string(server.folder(part).join("bus.nk"))?.trim().to_owned())
}

#[test]
fn every_part_may_do_on_the_bus_what_the_table_says_and_nothing_else() -> Result<()> {
    // V-72, B-90: every part against every subject, both ways; refused is everything that is not in the table.
    let server = Server::start()?;
    let mut subjects: BTreeSet<String> = TABLE.iter().map(|(subject, _, _)| (*subject).to_owned()).collect();
    subjects.extend(NEVER.iter().map(|subject| (*subject).to_owned()));
    for stream in STREAMS {
        subjects.extend(DANGEROUS.iter().map(|call| format!("$JS.API.{call}.{stream}")));
        for call in ["CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT"] {
            subjects.insert(format!("$JS.API.CONSUMER.{call}.{stream}.mine"));
        }
    }
    let (mut tried, mut permitted) = (0, 0);
    for part in PARTS {
        let folder = server.folder(part);
        let mut client =
            Client::connect(&server, &Identity { certificate: Some(&folder), seed: Some(seed(&server, part)?) })?;
        for subject in &subjects {
            let row = TABLE.iter().find(|(listed, _, _)| listed == subject);
            let publishes = row.is_some_and(|(_, by, _)| by.contains(&part));
            let hears = row.is_some_and(|(_, _, to)| to.contains(&part));
            assert_eq!(client.may_publish(subject)?, publishes, "{part} publishes {subject}");
            assert_eq!(client.may_subscribe(subject)?, hears, "{part} hears {subject}");
            tried += 2;
            permitted += usize::from(publishes) + usize::from(hears);
        }
        for pattern in WILD {
            assert!(!client.may_subscribe(pattern)?, "{part} hears {pattern}");
        }
    }
    let listed: usize = TABLE.iter().map(|(_, by, to)| by.len() + to.len()).sum();
    assert_eq!(permitted, listed, "of {tried} tries");
    Ok(())
}

#[test]
fn nobody_comes_in_without_a_certificate_of_ours_and_a_key_of_a_part() -> Result<()> {
    // V-71: TLS both ways, no user without a key.
    let server = Server::start()?;
    let portal = server.folder("portal");
    let key = seed(&server, "portal")?;
    assert!(Client::connect(&server, &Identity { certificate: Some(&portal), seed: Some(key.clone()) }).is_ok());
    let unknown = KeyPair::new_user().seed()?;
    for (what, identity) in [
        ("no certificate", Identity { certificate: None, seed: Some(key) }),
        ("no key", Identity { certificate: Some(&portal), seed: None }),
        ("an unknown key", Identity { certificate: Some(&portal), seed: Some(unknown) }),
    ] {
        assert!(Client::connect(&server, &identity).is_err(), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn the_parts_do_their_work_with_what_they_are_granted() -> Result<()> {
    // V-72: the product's own client, each part by its own key.
    let server = Server::start()?;
    let (store, _store) = server.bus("user-store")?;
    let mut listeners = Vec::new();
    for part in ["ldap-gateway", "radius-gateway", "verification", "directory-sync", "portal"] {
        let (bus, process) = server.bus(part)?;
        let subscription = bus.subscribe(subjects::SETTINGS_CHANGED).await?;
        listeners.push((part, bus, process, subscription));
    }
    // A subscription travels before the first answer does.
    let verification = listeners.iter().find(|(part, ..)| *part == "verification").context("it")?.1.clone();
    let radius = listeners.iter().find(|(part, ..)| *part == "radius-gateway").context("it")?.1.clone();
    let sync = listeners.iter().find(|(part, ..)| *part == "directory-sync").context("it")?.1.clone();

    for (bus, name) in [(&verification, subjects::CHALLENGES_MAP), (&radius, subjects::REQUESTS_MAP)] {
        let map = bus.map(name, MapOptions::default());
        let revision = until(|| map.create("a", "1".into())).await?;
        assert_eq!(map.get("a").await?.context("there")?.revision, revision);
        let revision = map.update("a", "2".into(), revision).await?;
        map.delete("a", revision).await?;
        map.create("a", "3".into()).await?;
    }
    let leases = sync.map(subjects::LEASES_MAP, MapOptions::default());
    let revision = until(|| leases.create(subjects::SYNC_LEASE, "me".into())).await?;
    let mut changes = leases.watch(subjects::SYNC_LEASE).await?;
    assert!(matches!(soon(changes.next()).await?, Some(Change::Put(_))));
    leases.delete(subjects::SYNC_LEASE, revision).await?;
    assert!(matches!(soon(changes.next()).await?, Some(Change::Gone)));

    let stream = |name: &str, subject: &str, kind| StreamOptions {
        name: name.into(),
        subjects: vec![subject.into()],
        kind,
        max_age: Duration::from_secs(3600),
        max_messages: 100,
    };
    let asked = stream(subjects::SYNC_STREAM, subjects::SYNC_REQUESTED, StreamKind::WorkQueue);
    let requests = store.stream(asked.clone());
    until(|| requests.publish(subjects::SYNC_REQUESTED, "everybody".into())).await?;
    let mut consumer = sync.stream(asked).consume("directory-sync", Duration::from_secs(30)).await?;
    let delivery = soon(consumer.next()).await??;
    assert_eq!(&delivery.message.payload[..], b"everybody");
    delivery.ack().await?;
    let events = store.stream(stream(subjects::EVENTS_STREAM, subjects::AUTH_EVENTS, StreamKind::Log));
    events.publish(&subjects::auth_event("vpn"), "1".into()).await?;

    store.publish(&subjects::user_changed("4711"), "".into()).await?;
    store.publish(subjects::SETTINGS_CHANGED, "7".into()).await?;
    for (part, _, _, subscription) in &mut listeners {
        let heard = soon(subscription.next()).await?.with_context(|| format!("{part} hears"))?;
        assert_eq!(&heard.payload[..], b"7", "{part}");
    }
    assert!(!server.log().contains("Violation"), "{}", server.log());

    let foreign = radius.map(subjects::CHALLENGES_MAP, MapOptions::default());
    assert!(matches!(foreign.get("a").await, Err(BusError::Unavailable(_))), "another part's map");
    Ok(())
}

#[test]
fn init_changes_nothing_that_is_there_and_makes_what_is_missing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    init(dir.path())?;
    let before = content(dir.path())?;
    for (path, (mode, _)) in &before {
        let name = path.file_name().context("a name")?.to_string_lossy();
        let secret = name.ends_with(".key") || name.ends_with(".nk") || name.contains("password");
        assert_eq!(mode & 0o777, if secret { 0o600 } else { 0o644 }, "{}", path.display());
    }
    init(dir.path())?;
    assert!(before == content(dir.path())?, "a second run");

    let lost = dir.path().join("portal/tls.crt");
    fs::remove_file(&lost)?;
    init(dir.path())?;
    let after = content(dir.path())?;
    let changed: Vec<_> =
        after.iter().filter(|(path, file)| before.get(*path) != Some(file)).map(|(path, _)| path).collect();
    assert_eq!(changed, [&lost]);
    run(Command::new(program("openssl")?).arg("verify").arg("-CAfile").arg(dir.path().join("ca/ca.crt")).arg(&lost))?;
    Ok(())
}

type Content = std::collections::BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn content(dir: &Path) -> Result<Content> {
    let mut found = Content::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(content(&path)?);
        } else {
            found.insert(path.clone(), (fs::metadata(&path)?.mode(), fs::read(&path)?));
        }
    }
    Ok(found)
}

async fn soon<T>(what: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(10), what).await?)
}

/// The connection is made beside the first calls.
async fn until<T, Call: Future<Output = Result<T, BusError>>>(mut call: impl FnMut() -> Call) -> Result<T> {
    let mut tries = 0;
    loop {
        match call().await {
            Err(BusError::Unavailable(_)) if tries < 50 => tries += 1,
            outcome => return Ok(outcome?),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
