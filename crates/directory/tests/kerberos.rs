//! Windows logons of our own account by Kerberos, at a real domain controller (FD-06, FD-08, L-35): Samba, with the KDC that belongs to it.

mod support;

use anyhow::{Context, Result, ensure};
use directory::{Directory, Options, Protected, Read, TypedName};
use domain::Secret;
use domain::settings::{self, BindKind, Preset, QueryBind, WindowsMechanism};
use lab::{Pki, Samba};
use std::path::Path;
use support::Relay;
use tempfile::TempDir;

struct Domain {
    samba: Samba,
    dir: TempDir,
}

/// Whose domain controller may be asked for by its address.
fn domain() -> Result<Domain> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    samba.register_address()?;
    Ok(Domain { samba, dir })
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
    let domain = domain()?;
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
    assert!(domain.samba.tickets_of("twinlock") >= 3, "{}", domain.samba.process().context("runs")?.log());
    assert_eq!(domain.samba.logons_of("twinlock"), 0);
    Ok(())
}
