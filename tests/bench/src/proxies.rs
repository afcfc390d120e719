//! What else stands between a client and a directory: slapd's own proxy, and HAProxy that copies octets. As Debian has them.

use anyhow::{Context, Result};
use lab::{COMPANY_BASE, Pki, Proc, Slapd, free_port, program, wait_until};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

/// Which of both hops is LDAPS; the others are clear text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hops {
    pub client_tls: bool,
    pub directory_tls: bool,
}

impl Hops {
    pub const CLEAR: Self = Self { client_tls: false, directory_tls: false };
}

/// One of them, in front of one slapd.
pub struct Proxy {
    process: Proc,
    address: SocketAddr,
}

impl Proxy {
    pub fn back_ldap(dir: &Path, slapd: &Slapd, pki: &Pki, hops: Hops) -> Result<Self> {
        let (dir, port) = (dir.join("back-ldap"), free_port());
        fs::create_dir_all(&dir)?;
        let tls = pki.issue(&format!("back-ldap-{port}"), &["127.0.0.1", "localhost"])?;
        let (upstream, ca) = (if hops.directory_tls { slapd.ldaps_url() } else { slapd.ldap_url() }, pki.ca_file());
        let file = dir.join("slapd.conf");
        fs::write(
            &file,
            format!(
                "include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_ldap.la
pidfile {dir}/slapd.pid
TLSCACertificateFile {ca}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
sizelimit unlimited
threads 8
database ldap
suffix {COMPANY_BASE}
uri {upstream}
{tls}
",
                dir = dir.display(),
                ca = ca.display(),
                certificate = tls.certificate.display(),
                key = tls.key.display(),
                tls = match hops.directory_tls {
                    true => format!("tls ldaps tls_reqcert=demand tls_cacert={}", ca.display()),
                    false => String::new(),
                },
            ),
        )?;
        let scheme = if hops.client_tls { "ldaps" } else { "ldap" };
        let mut command = Command::new(program("slapd")?);
        command.arg("-f").arg(file).args(["-h", &format!("{scheme}://127.0.0.1:{port}"), "-d", "none"]);
        Self::spawn("back-ldap", command, &dir, port)
    }

    /// It moves octets and does not look at them.
    pub fn haproxy(dir: &Path, slapd: &Slapd, pki: &Pki, hops: Hops) -> Result<Self> {
        let (dir, port) = (dir.join("haproxy"), free_port());
        fs::create_dir_all(&dir)?;
        let tls = pki.issue(&format!("haproxy-{port}"), &["127.0.0.1", "localhost"])?;
        // It wants both in one file.
        let identity = dir.join("identity.pem");
        fs::write(&identity, [fs::read(tls.certificate)?, fs::read(tls.key)?].concat())?;
        let bind = if hops.client_tls { format!("ssl crt {}", identity.display()) } else { String::new() };
        let (upstream, server) = match hops.directory_tls {
            true => (slapd.ldaps_port(), format!("ssl verify required ca-file {}", pki.ca_file().display())),
            false => (slapd.ldap_port(), String::new()),
        };
        let file = dir.join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                "global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen ldap
    bind 127.0.0.1:{port} {bind}
    server slapd 127.0.0.1:{upstream} {server}
"
            ),
        )?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(file);
        Self::spawn("haproxy", command, &dir, port)
    }

    fn spawn(name: &str, command: Command, dir: &Path, port: u16) -> Result<Self> {
        let process = Proc::spawn(name, command, &dir.join("log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until(name, Duration::from_secs(20), || TcpStream::connect(address).is_ok())
            .with_context(|| process.log())?;
        Ok(Self { process, address })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ldap::Connection;
    use lab::SlapdOptions;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_stand_in_front_of_a_directory_that_checks_passwords() -> Result<()> {
        // What they did not carry, they would not pay for.
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
        let mut binds = 0;
        for hops in [Hops::CLEAR, Hops { client_tls: false, directory_tls: true }] {
            let folder = dir.path().join(format!("{}", u8::from(hops.directory_tls)));
            fs::create_dir(&folder)?;
            let proxies =
                [Proxy::back_ldap(&folder, &slapd, &pki, hops)?, Proxy::haproxy(&folder, &slapd, &pki, hops)?];
            for proxy in proxies {
                let mut connection = Connection::open(proxy.address()).await?;
                assert!(!connection.bind(Slapd::GITLAB_DN, "wrong").await?, "{hops:?}");
                assert!(connection.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, "{hops:?}");
                assert_eq!(connection.search(COMPANY_BASE, "ann.archer").await?, 1, "{hops:?}");
                assert_eq!(connection.search(COMPANY_BASE, "nobody").await?, 0, "{hops:?}");
                binds += 2;
            }
        }
        wait_until("the binds", Duration::from_secs(5), || slapd.binds(Slapd::GITLAB_DN) == binds)?;
        Ok(())
    }
}
