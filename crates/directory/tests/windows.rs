//! Windows logons at a real domain controller (FD-06, FD-07, L-35): Samba, which refuses simple binds without TLS as Active Directory
//! does where signing is required.

mod support;

use anyhow::{Context, Result, ensure};
use directory::{BindError, Directory, Entry, Options, Protected, QueryError, ResolveError, TypedName};
use domain::settings::{self, BindKind, Preset, QueryBind};
use domain::{Reason, Secret};
use lab::{Pki, Proc, Samba, password_of, wait_until};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::relay::Relay;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Domain {
    samba: Samba,
    dir: TempDir,
}

fn domain() -> Result<Domain> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    Ok(Domain { samba: Samba::start(dir.path(), &pki)?, dir })
}

impl Domain {
    fn settings(&self, url: &str, kind: BindKind, name: &str) -> Result<settings::Directory> {
        let mut settings = support::settings(&[url]);
        settings.preset = Preset::ActiveDirectory;
        settings.base = Samba::BASE.into();
        settings.netbios_domain = Samba::DOMAIN.into();
        settings.page_size = 100;
        settings.timeout_seconds = 30;
        settings.connect_timeout_seconds = 10;
        settings.danger_clear_text = false;
        settings.ca = Some(std::fs::read_to_string(self.samba.ca_file())?);
        settings.query_bind = QueryBind { kind, name: name.into(), password: None };
        settings.authentication_bind.kind = BindKind::Windows;
        Ok(settings)
    }

    /// Queries sealed on `ldap://`, whatever the passwords of people go by.
    fn directory(&self, url: &str) -> Result<Directory> {
        self.directory_as(url, r"LAB\twinlock")
    }

    fn directory_as(&self, url: &str, name: &str) -> Result<Directory> {
        made(self.settings(url, BindKind::Windows, name)?)
    }
}

fn made(settings: settings::Directory) -> Result<Directory> {
    let options = Options { query_connections: 1, ..Options::default() };
    Ok(Directory::new(settings, Some(Secret::from(Samba::QUERY_PASSWORD)), options)?)
}

async fn resolve(directory: &Directory, name: &str) -> Result<Entry, ResolveError> {
    directory.resolve(&TypedName::parse(name, directory.settings())?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_queries_are_sealed_where_there_is_no_tls() -> Result<()> {
    // FD-06, FD-08, L-35
    let domain = domain()?;
    let relay = Relay::start((domain.samba.address(), 389).into()).await?;
    for name in [r"LAB\twinlock", r"lab.test\TWINLOCK", "twinlock@lab.test"] {
        let directory = domain.directory_as(&relay.url, name)?;
        assert_eq!(resolve(&directory, "ann.archer").await?.username, "ann.archer@lab.test", "{name}");
        let found = directory.probe().await.remove(0).outcome.context(name.to_owned())?;
        assert_eq!(found.protected, Protected::Sealed);
        assert!(found.to_string().contains("connected signed and sealed"), "{found}");
        let query = directory::Query::new(Samba::BASE, ldap_wire::Scope::Subtree, directory.user_filter().clone(), &[]);
        let mut reading = directory.read(query);
        let mut count = 0;
        loop {
            match reading.next().await {
                directory::Read::Entry(_) => count += 1,
                directory::Read::Complete => break,
                directory::Read::Incomplete(why) => return Err(why.into()),
            }
        }
        assert!(count > 10, "{count}");
    }
    let seen = relay.seen.lock().expect("not poisoned").clone();
    assert!(seen.windows(7).any(|octets| octets == b"NTLMSSP") && !seen.windows(6).any(|octets| octets == b"archer"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changes_on_the_way_is_not_read() -> Result<()> {
    // L-35
    let domain = domain()?;
    let relay = Relay::start((domain.samba.address(), 389).into()).await?;
    let directory = domain.directory(&relay.url)?;
    resolve(&directory, "ann.archer").await?;
    relay.tampers.store(true, Ordering::Relaxed);
    let error = resolve(&directory, "ben.baker").await.expect_err("a changed octet");
    assert!(matches!(error, ResolveError::Unanswered(QueryError::Lost { .. })), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_domain_does_not_accept_is_said_and_is_no_wrong_password() -> Result<()> {
    let domain = domain()?;
    // A simple bind, which it refuses without TLS.
    let mut settings = domain.settings(&domain.samba.ldap_url(), BindKind::Simple, Samba::QUERY_DN)?;
    settings.danger_clear_text = true;
    let refused = |outcome: Result<_, directory::ProbeError>| outcome.expect_err("refused").to_string();
    let said = refused(made(settings)?.probe().await.remove(0).outcome);
    assert!(said.contains("code 8") && said.contains("\"windows\""), "{said}");
    // An account that is not there, a wrong password.
    let mut directory = domain.directory_as(&domain.samba.ldap_url(), r"LAB\nobody")?;
    let said = refused(directory.probe().await.remove(0).outcome);
    assert!(said.contains("code 49") && said.contains("query_bind.name"), "{said}");
    // Samba takes no logon inside TLS unless told to: nobody's password is wrong by that.
    directory = domain.directory(&domain.samba.ldap_url())?;
    let ann = resolve(&directory, "ann.archer").await?;
    let error = directory.authenticate(&ann, &Secret::from(password_of("ann.archer").as_str())).await;
    let error = error.expect_err("sealing inside TLS, or nothing");
    assert!(matches!(error, BindError::Undecided { code, .. } if code.0 == 8), "{error:?}");
    assert_eq!(error.reason(), Reason::DirectoryError);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_by_its_other_class_and_a_sid_of_before_are_one_account_or_nobody() -> Result<()> {
    // L-20, R-60: MS-ADTS section 5.1.1.1.1, forms 8 to 11
    let domain = domain()?;
    let change = |name: &str, what: &str| format!("dn: {}\nchangetype: modify\n{what}\n", Samba::dn_of(name));
    let put = |name: &str, attribute: &str, value: &str| {
        change(name, &format!("replace: {attribute}\n{attribute}: {value}\n-\n"))
    };
    domain.samba.modify(&put("ann.archer", "servicePrincipalName", "HOST/wiki.lab.test"))?;
    domain.samba.modify(&put("ben.baker", "servicePrincipalName", "http/board.lab.test"))?;
    let directory = domain.directory(&domain.samba.ldap_url())?;
    let who = async |name: &str| match resolve(&directory, name).await {
        Ok(entry) => Ok(entry.username),
        Err(ResolveError::Absent) => Ok("nobody".to_owned()),
        Err(ResolveError::Ambiguous) => Ok("several".to_owned()),
        Err(error) => Err(error),
    };
    let (ann, ben) = ("ann.archer@lab.test", "ben.baker@lab.test");
    for (name, expected) in [
        ("HOST/wiki.lab.test", ann),
        ("HTTP/wiki.lab.test", ann),
        ("cifs/WIKI.lab.test", ann),
        ("HTTP/board.lab.test", ben),
        ("CIFS/board.lab.test", "nobody"),
        ("HOST/board.lab.test", "nobody"),
        ("mssql/wiki.lab.test", "nobody"),
        ("HTTP/wiki", "nobody"),
    ] {
        assert_eq!(who(name).await?, expected, "{name}");
    }
    // What is written out is meant before what only stands for it.
    domain.samba.modify(&put("ben.baker", "servicePrincipalName", "HTTP/wiki.lab.test"))?;
    assert_eq!((who("HTTP/wiki.lab.test").await?, who("cifs/wiki.lab.test").await?), (ben.into(), ann.into()));

    let before = |number: u32| format!("S-1-5-21-1-2-3-{number}");
    let carla = domain.samba.sid_of(&Samba::dn_of("carla.cook"))?;
    domain.samba.migrate("ann.archer", &[&before(1), &before(2)])?;
    domain.samba.migrate("ben.baker", &[&before(2), &before(3), &carla])?;
    for (number, expected) in [(1, ann), (2, "several"), (3, ben), (4, "nobody")] {
        assert_eq!(who(&before(number)).await?, expected, "{number}");
        assert_eq!(who(&format!("<SID={}>", before(number))).await?, expected, "{number}");
    }
    // Whose it is now is meant before whose it was.
    assert_eq!(who(&carla).await?, "carla.cook@lab.test");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_password_is_checked_by_a_logon_inside_tls() -> Result<()> {
    // FD-07, L-33, L-34
    let mut domain = domain()?;
    domain.samba.restart_with(&["--option=ldap server require strong auth=allow_sasl_over_tls"])?;
    domain.samba.lock("carla.cook")?;
    for url in [domain.samba.ldaps_url(), domain.samba.ldap_url()] {
        let directory = domain.directory(&url)?;
        let check = async |name: &str, password: &str| -> Result<Result<(), BindError>> {
            let entry = resolve(&directory, name).await.with_context(|| name.to_owned())?;
            Ok(directory.authenticate(&entry, &Secret::from(password)).await.map(|_| ()))
        };
        for name in ["ann.archer", "jörg.groß", "dol$lar", "with space"] {
            check(name, &password_of(name)).await?.with_context(|| format!("{url} {name}"))?;
        }
        let before = domain.samba.logons_of("ben.baker");
        let wrong = check("ben.baker", "wrong").await?.expect_err("a wrong password");
        assert!(matches!(wrong, BindError::Refused { code, .. } if code.0 == 49), "{wrong:?}");
        assert_eq!(wrong.reason(), Reason::BadPassword);
        assert_eq!(domain.samba.logons_of("ben.baker"), before + 1, "one bind, one try");
        for (name, reason) in [
            ("dora.disabled", Reason::AccountDisabled),
            ("eric.expired", Reason::AccountExpired),
            ("hugo.hours", Reason::LogonRestricted),
            ("max.mustchange", Reason::MustChangePassword),
            ("paula.passwordexpired", Reason::PasswordExpired),
            ("carla.cook", Reason::AccountLocked),
        ] {
            let error = check(name, &password_of(name)).await?.expect_err(name);
            assert_eq!(error.reason(), reason, "{url} {name} {error:?}");
        }
        let empty = check("ann.archer", "").await?.expect_err("empty");
        assert!(matches!(empty, BindError::EmptyPassword));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logon_is_good_for_the_channel_it_was_made_for_and_for_no_other() -> Result<()> {
    // L-35, RFC 5929: Samba 4.17 does not look at it, pyspnego does
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let own = pki.issue("own", &["127.0.0.1"])?;
    let users = dir.path().join("users");
    std::fs::write(&users, "lab.test:ann:Sesame-ann\n")?;
    let port = lab::free_port();
    let mut command = Command::new(lab::program("python")?);
    command.arg(lab::repository().join("tests/lab/data/ntlm_ldap.py")).arg(port.to_string());
    command.args([&own.certificate, &own.key]).env("NTLM_USER_FILE", &users);
    let _server = Proc::spawn("ntlm-ldap", command, &dir.path().join("ntlm-ldap.log"))?;
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("the server", Duration::from_secs(20), || std::net::TcpStream::connect(at).is_ok())?;
    let between = Between::start(at, &pki).await?;
    let mut settings = support::settings(&[&format!("ldaps://{at}")]);
    (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
    (settings.connect_timeout_seconds, settings.timeout_seconds) = (10, 10);
    (settings.danger_clear_text, settings.ca) = (false, Some(std::fs::read_to_string(pki.ca_file())?));
    settings.authentication_bind.kind = BindKind::Windows;
    let ann = Entry { dn: Samba::dn_of("ann"), account: Some("ann".into()), ..support::entry("ann") };
    let check = async |url: &str, password: &str| {
        let mut settings = settings.clone();
        settings.urls = vec![url.to_owned()];
        let directory = Directory::draft(settings, None)?;
        anyhow::Ok(directory.authenticate(&ann, &Secret::from(password)).await.map(|_| ()))
    };
    let direct = format!("ldaps://{at}");
    check(&direct, "Sesame-ann").await?.context("the right password over the right channel")?;
    let wrong = check(&direct, "wrong").await?.expect_err("wrong");
    assert_eq!(wrong.reason(), Reason::BadPassword, "{wrong:?}");
    let passed_on = check(&between.url, "Sesame-ann").await?.expect_err("somebody between us");
    assert!(matches!(passed_on, BindError::Undecided { code, .. } if code.0 == 49), "{passed_on:?}");
    let nameless = Entry { account: None, ..ann.clone() };
    let error = Directory::draft(settings.clone(), None)?.authenticate(&nameless, &support::password()).await;
    assert!(matches!(error, Err(BindError::NoAccount)), "{error:?}");
    Ok(())
}

/// Where the inner test finds the name server, and whose folder holds the settings.
const NAME_SERVER: &str = "TWINLOCK_TEST_NAME_SERVER";
const CA_FILE: &str = "TWINLOCK_TEST_CA_FILE";

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_of_a_domain_are_those_that_its_dns_names() -> Result<()> {
    // FD-03: a real domain and a real name server; the hosts of the domain are known to a process of its own only
    let domain = domain()?;
    let port = lab::free_port();
    let mut command = Command::new(lab::program("dnsmasq")?);
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null"]);
    command.args([
        "--listen-address=127.0.0.1",
        "--user=root",
        "--log-facility=-",
        "--local=/test/",
        &format!("--port={port}"),
    ]);
    for (host, port, priority) in
        [("dc.evil.example", 389, 0), ("dc9.lab.test", 389, 5), (Samba::HOST, 389, 10), ("lab.test", 390, 20)]
    {
        command.arg(format!("--srv-host=_ldap._tcp.dc._msdcs.lab.test,{host},{port},{priority},100"));
    }
    let _name_server = Proc::spawn("dnsmasq", command, &domain.dir.path().join("dnsmasq.log"))?;
    wait_until("dnsmasq", Duration::from_secs(10), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let mut inner = Command::new(std::env::current_exe()?);
    inner.args(["--exact", "--ignored", "--nocapture", "in_a_process_that_knows_the_hosts_of_the_domain"]);
    inner.envs(domain.samba.environment()).env(NAME_SERVER, format!("127.0.0.1:{port}"));
    let output = inner.env(CA_FILE, domain.samba.ca_file()).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs within the_servers_of_a_domain_are_those_that_its_dns_names"]
async fn in_a_process_that_knows_the_hosts_of_the_domain() -> Result<()> {
    let name_servers = vec![std::env::var(NAME_SERVER)?.parse()?];
    for (url, servers) in [
        ("ldaps+srv://lab.test", ["ldaps://dc9.lab.test:636", "ldaps://dc1.lab.test:636", "ldaps://lab.test:636"]),
        ("ldap+srv://LAB.test", ["ldap://dc9.lab.test:389", "ldap://dc1.lab.test:389", "ldap://lab.test:390"]),
    ] {
        let mut settings = support::settings(&[url]);
        (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
        (settings.danger_clear_text, settings.timeout_seconds) = (false, 30);
        settings.ca = Some(std::fs::read_to_string(std::env::var(CA_FILE)?)?);
        settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
        settings.authentication_bind.kind = BindKind::Tls;
        let options = Options { query_connections: 1, name_servers: name_servers.clone(), ..Options::default() };
        let directory = Directory::new(settings, Some(Secret::from(Samba::QUERY_PASSWORD)), options)?;
        let ann = resolve(&directory, "ann.archer").await?;
        let accepted = directory.authenticate(&ann, &Secret::from(password_of("ann.archer").as_str())).await?;
        assert_eq!(accepted.server().to_string(), servers[1], "the first that is there");
        let probed: Vec<String> = directory.probe().await.iter().map(|it| it.server.to_string()).collect();
        assert_eq!(probed, servers, "{url}");
    }
    // Where the DNS is silent, the name of the domain is what is left.
    let mut settings = support::settings(&["ldaps+srv://lab.test"]);
    settings.preset = Preset::ActiveDirectory;
    let nobody = Options { query_connections: 1, name_servers: vec!["127.0.0.1:9".parse()?], ..Options::default() };
    let directory = Directory::new(settings, None, nobody)?;
    let probed = directory.probe().await;
    assert_eq!(probed.len(), 1);
    assert_eq!(probed[0].server.to_string(), "ldaps://lab.test:636");
    Ok(())
}

/// Has a certificate of its own that we trust, and passes on what is inside TLS.
struct Between {
    url: String,
}

impl Between {
    async fn start(to: SocketAddr, pki: &Pki) -> Result<Self> {
        let own = pki.issue("between", &["127.0.0.1"])?;
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let certificates = vec![CertificateDer::from_pem_file(&own.certificate)?];
        let near = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, PrivateKeyDer::from_pem_file(&own.key)?)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.ca_file())?)?;
        let far = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(near)), TlsConnector::from(Arc::new(far)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ldaps://{}", listener.local_addr()?);
        tokio::spawn(async move {
            loop {
                let mut near = acceptor.accept(listener.accept().await?.0).await?;
                let mut far = connector.connect(to.ip().into(), TcpStream::connect(to).await?).await?;
                // Ends with either side.
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
            #[expect(unreachable_code, reason = "names the type of the errors")]
            anyhow::Ok(())
        });
        Ok(Self { url })
    }
}
