//! Windows logons of our own account by Kerberos, at a real domain controller (FD-06, FD-08, L-35): Samba, with the KDC that belongs to it.

mod support;

use anyhow::{Context, Result, ensure};
use directory::{Directory, FeedKind, Options, Protected, QueryError, Read, ResolveError, TypedName};
use domain::Secret;
use domain::settings::{self, BindKind, Preset, QueryBind, WindowsMechanism};
use lab::{Pki, Samba, WallClock};
use std::path::Path;
use std::sync::atomic::Ordering;
use support::relay::Relay;
use tempfile::TempDir;

struct Domain {
    samba: Samba,
    dir: TempDir,
}

fn domain() -> Result<Domain> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    Ok(Domain { samba: Samba::start(dir.path(), &pki)?, dir })
}

/// Whose domain controller may be asked for by its address.
fn known_by_address() -> Result<Domain> {
    let domain = domain()?;
    domain.samba.register_address()?;
    Ok(domain)
}

impl Domain {
    fn settings(&self, url: &str, name: &str, mechanism: WindowsMechanism) -> Result<settings::Directory> {
        let mut settings = support::settings(&[url]);
        (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
        (settings.page_size, settings.timeout_seconds, settings.connect_timeout_seconds) = (100, 30, 20);
        settings.danger_clear_text = false;
        settings.ca = Some(std::fs::read_to_string(self.samba.ca_file())?);
        settings.query_bind = QueryBind { kind: BindKind::Windows, name: name.into(), password: None };
        settings.windows_mechanism = mechanism;
        Ok(settings)
    }

    fn directory(&self, url: &str, name: &str, mechanism: WindowsMechanism) -> Result<Directory> {
        made(self.settings(url, name, mechanism)?, Some(Samba::QUERY_PASSWORD), "/nowhere")
    }
}

fn made(settings: settings::Directory, password: Option<&str>, keytab: impl AsRef<Path>) -> Result<Directory> {
    let options = Options { query_connections: 1, keytab: keytab.as_ref().to_owned(), ..Options::default() };
    Ok(Directory::new(settings, password.map(Secret::from), options)?)
}

async fn finds_ann(directory: &Directory) -> Result<()> {
    let name = TypedName::parse("ann.archer", directory.settings())?;
    ensure!(directory.resolve(&name).await?.username == "ann.archer@lab.test", "somebody else");
    Ok(())
}

async fn said(directory: &Directory) -> Result<String> {
    Ok(directory.probe().await.remove(0).outcome.err().context("it was accepted")?.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_queries_are_sealed_by_kerberos_where_there_is_no_tls() -> Result<()> {
    // FD-06, FD-08, L-35
    let domain = known_by_address()?;
    // On the address of the domain controller: a ticket is for a name.
    let relay = Relay::start_at((domain.samba.address(), 0).into(), (domain.samba.address(), 389).into()).await?;
    for name in [r"LAB\twinlock", r"lab.test\twinlock", "twinlock@lab.test"] {
        let directory = domain.directory(&relay.url, name, WindowsMechanism::Kerberos)?;
        finds_ann(&directory).await.context(name)?;
        let found = directory.probe().await.remove(0).outcome.context(name.to_owned())?;
        assert_eq!(found.protected, Protected::Sealed);
        let query = directory::Query::new(Samba::BASE, ldap_wire::Scope::Subtree, directory.user_filter().clone(), &[]);
        let mut reading = directory.read(query);
        let mut count = 0;
        loop {
            match reading.next().await {
                Read::Entry(_) => count += 1,
                Read::Complete => break,
                Read::Incomplete(why) => return Err(why.into()),
            }
        }
        assert!(count > 10, "{count}");
    }
    let seen = relay.seen.lock().expect("not poisoned").clone();
    assert!(!seen.windows(7).any(|octets| octets == b"NTLMSSP") && !seen.windows(6).any(|octets| octets == b"archer"));
    let (proofs, logons) = (domain.samba.proofs_of("twinlock"), domain.samba.logons_of("twinlock"));
    assert_eq!((proofs, logons), (3, 0), "each directory asks once, whatever number of connections it has");
    // The feed has a connection of its own.
    domain.samba.allow_replication(Samba::QUERY_DN)?;
    let directory = domain.directory(&relay.url, r"LAB\twinlock", WindowsMechanism::Kerberos)?;
    let offers = directory.probe_feeds().await?;
    assert!(offers.iter().any(|it| it.kind == FeedKind::DirSync && it.usable.is_ok()), "{offers:?}");
    // What somebody changes on the way is not read.
    let directory = domain.directory(&relay.url, r"LAB\twinlock", WindowsMechanism::Negotiate)?;
    finds_ann(&directory).await?;
    relay.tampers.store(true, Ordering::Relaxed);
    let name = TypedName::parse("ben.baker", directory.settings())?;
    let error = directory.resolve(&name).await.expect_err("a changed octet");
    assert!(matches!(error, ResolveError::Unanswered(QueryError::Lost { .. })), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_tls_a_ticket_is_shown_and_nothing_is_sealed_again() -> Result<()> {
    // FD-06, L-35
    let mut domain = known_by_address()?;
    domain.samba.restart_with(&["--option=ldap server require strong auth=allow_sasl_over_tls"])?;
    for url in [domain.samba.ldaps_url(), domain.samba.ldap_url()] {
        let directory = domain.directory(&url, r"LAB\twinlock", WindowsMechanism::Negotiate)?;
        finds_ann(&directory).await?;
        let protected = directory.probe().await.remove(0).outcome?.protected;
        assert_eq!(protected, if url.starts_with("ldaps") { Protected::Tls } else { Protected::Sealed });
    }
    assert_eq!((domain.samba.proofs_of("twinlock"), domain.samba.logons_of("twinlock")), (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_the_keytab_of_the_host_is_used() -> Result<()> {
    // FD-08
    let domain = known_by_address()?;
    let (keytab, old) = (domain.dir.path().join("krb5.keytab"), domain.dir.path().join("old.keytab"));
    domain.samba.export_keytab("twinlock", &keytab)?;
    std::fs::copy(&keytab, &old)?;
    let by =
        |keytab: &Path| made(domain.settings(&domain.samba.ldap_url(), "", WindowsMechanism::Negotiate)?, None, keytab);
    finds_ann(&by(&keytab)?).await?;
    assert_eq!(domain.samba.proofs_of("twinlock"), 1);
    let absent = said(&by(&domain.dir.path().join("absent"))?).await?;
    assert!(absent.contains("/absent\" cannot be read") && absent.contains("No such file"), "{absent}");
    std::fs::write(&keytab, b"\x05\x02")?;
    let empty = said(&by(&keytab)?).await?;
    assert!(empty.contains("it has no key for AES"), "{empty}");
    // Whose password was set anew since.
    let dn = Samba::QUERY_DN;
    domain
        .samba
        .modify(&format!("dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: IgBvAHQAaABlAHIAIgA=\n"))?;
    let stale = said(&by(&old)?).await?;
    assert!(stale.contains("the password or the key is wrong"), "{stale}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_one_try_and_is_not_tried_by_ntlm() -> Result<()> {
    // FD-06, L-34
    let domain = known_by_address()?;
    let settings = domain.settings(&domain.samba.ldap_url(), r"LAB\twinlock", WindowsMechanism::Negotiate)?;
    let directory = made(settings, Some("wrong"), "/nowhere")?;
    let wrong = said(&directory).await?;
    assert!(wrong.contains("the password or the key is wrong") && wrong.contains("query_bind"), "{wrong}");
    assert!(finds_ann(&directory).await.is_err());
    assert_eq!(said(&directory).await?, wrong, "said again, and not asked again");
    assert_eq!((domain.samba.proofs_of("twinlock"), domain.samba.logons_of("twinlock")), (1, 0));
    assert_eq!(domain.samba.wrong_passwords_of(Samba::QUERY_DN)?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_kerberos_cannot_be_ntlm_does_unless_the_settings_insist() -> Result<()> {
    // FD-06
    let mut domain = domain()?;
    let url = domain.samba.ldap_url();
    let insists =
        async |domain: &Domain| said(&domain.directory(&url, r"LAB\twinlock", WindowsMechanism::Kerberos)?).await;
    let by_ntlm = async |domain: &Domain, mechanism| {
        let before = domain.samba.logons_of("twinlock");
        let directory = domain.directory(&url, r"LAB\twinlock", mechanism)?;
        finds_ann(&directory).await?;
        anyhow::Ok(domain.samba.logons_of("twinlock") - before)
    };
    // An address is nothing that a domain has tickets for.
    let unknown = insists(&domain).await?;
    assert!(unknown.contains("the domain knows no such service"), "{unknown}");
    assert_eq!(by_ntlm(&domain, WindowsMechanism::Negotiate).await?, 1);
    let proofs = domain.samba.proofs_of("twinlock");
    assert_eq!(by_ntlm(&domain, WindowsMechanism::Ntlm).await?, 1);
    assert_eq!(domain.samba.proofs_of("twinlock"), proofs, "nothing was asked by Kerberos");
    // The address is somebody else's, whose key the server does not have: it cannot read the ticket.
    let ann = Samba::dn_of("ann.archer");
    let service = format!("servicePrincipalName: ldap/{}\n", domain.samba.address());
    domain.samba.modify(&format!("dn: {ann}\nchangetype: modify\nadd: servicePrincipalName\n{service}"))?;
    let another = insists(&domain).await?;
    assert!(another.contains("did not take its Kerberos ticket, code 49"), "{another}");
    assert_eq!(by_ntlm(&domain, WindowsMechanism::Negotiate).await?, 1);
    domain.samba.modify(&format!("dn: {ann}\nchangetype: modify\ndelete: servicePrincipalName\n{service}"))?;
    // Nobody at port 88.
    domain.samba.register_address()?;
    let early = domain.directory(&url, r"LAB\twinlock", WindowsMechanism::Kerberos)?;
    finds_ann(&early).await?;
    domain.samba.restart_with(&["--option=krb5 port=1088"])?;
    early.probe().await.remove(0).outcome.context("a ticket is kept")?;
    let nobody = insists(&domain).await?;
    assert!(nobody.contains(":88 could not be reached"), "{nobody}");
    assert_eq!(by_ntlm(&domain, WindowsMechanism::Negotiate).await?, 1);
    // An account without a password is none for NTLM.
    let keytab = domain.dir.path().join("krb5.keytab");
    domain.samba.export_keytab("twinlock", &keytab)?;
    let by_keytab = made(domain.settings(&url, "", WindowsMechanism::Negotiate)?, None, &keytab)?;
    let unreachable = said(&by_keytab).await?;
    assert!(unreachable.contains("could not be reached"), "{unreachable}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_are_both_said() -> Result<()> {
    let mut domain = known_by_address()?;
    let clock = WallClock::new(domain.dir.path())?;
    clock.set(20 * 60)?;
    domain.samba.restart_by(&clock)?;
    let directory = domain.directory(&domain.samba.ldap_url(), r"LAB\twinlock", WindowsMechanism::Kerberos)?;
    let differ = said(&directory).await?;
    assert!(differ.contains("the clocks differ: here it is 2"), "{differ}");
    let times: Vec<&str> = differ.split(" UTC").collect();
    assert_eq!(times.len(), 3, "{differ}");
    Ok(())
}
