//! radsecproxy: RADIUS by UDP on one side, by TLS on the other (RFC 6614).

use crate::{Certificate, Pki, Proc, free_port, freeradius::RADSEC_SECRET, program, wait_until};
use anyhow::{Context, Result};
use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What it listens with, and what it sends on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A device that knows no TLS, before a server that takes nothing else.
    UdpToTls,
    /// A site that sends by TLS, before a server that knows none.
    TlsToUdp,
}

#[derive(Debug, Clone)]
pub struct RadsecOptions {
    pub name: String,
    pub direction: Direction,
    /// Where everything goes.
    pub next: SocketAddr,
    /// Of the side that is UDP.
    pub udp_secret: String,
    /// Asks the next server by Status-Server whether it lives.
    pub status_server: bool,
    /// How often a request is sent on, and the seconds between.
    pub retries: (u32, u32),
}

impl RadsecOptions {
    pub fn new(direction: Direction, next: SocketAddr, udp_secret: &str) -> Self {
        let name = match direction {
            Direction::UdpToTls => "out",
            Direction::TlsToUdp => "in",
        };
        Self {
            name: name.into(),
            direction,
            next,
            udp_secret: udp_secret.into(),
            status_server: false,
            retries: (2, 5),
        }
    }
}

pub struct RadsecProxy {
    dir: PathBuf,
    process: Option<Proc>,
    address: SocketAddr,
    own: Certificate,
    options: RadsecOptions,
}

impl RadsecProxy {
    /// With a certificate of `pki` for both sides of TLS, which is what the other end must trust.
    pub fn start(dir: &Path, pki: &Pki, options: &RadsecOptions) -> Result<Self> {
        let dir = dir.join(format!("radsecproxy-{}", options.name));
        fs::create_dir_all(&dir)?;
        let address = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        let own = pki.issue(&format!("radsecproxy-{}", address.port()), &["127.0.0.1", "radsecproxy.acme.example"])?;
        fs::write(dir.join("radsecproxy.conf"), configuration(&dir, address, &pki.ca_file(), &own, options))?;
        let mut proxy = Self { dir, process: None, address, own, options: options.clone() };
        proxy.restart()?;
        Ok(proxy)
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(program("radsecproxy")?);
        command.args(["-f", "-c"]).arg(self.dir.join("radsecproxy.conf"));
        command.arg("-i").arg(self.dir.join("radsecproxy.pid"));
        self.process = Some(Proc::spawn("radsecproxy", command, &self.dir.join("output.log"))?);
        let (address, direction) = (self.address, self.options.direction);
        wait_until("radsecproxy to listen", Duration::from_secs(60), || match direction {
            Direction::UdpToTls => UdpSocket::bind(address).is_err(),
            Direction::TlsToUdp => TcpStream::connect(address).is_ok(),
        })
        .with_context(|| self.log())
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Where it listens, by UDP or by TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows on both sides.
    pub fn certificate(&self) -> &Certificate {
        &self.own
    }

    pub fn options(&self) -> &RadsecOptions {
        &self.options
    }

    pub fn log(&self) -> String {
        let read = |file| String::from_utf8_lossy(&fs::read(self.dir.join(file)).unwrap_or_default()).into_owned();
        read("output.log") + &read("radsecproxy.log")
    }
}

fn configuration(
    dir: &Path,
    address: SocketAddr,
    ca_file: &Path,
    own: &Certificate,
    options: &RadsecOptions,
) -> String {
    let (listen, from, to, from_secret, to_secret) = match options.direction {
        Direction::UdpToTls => ("ListenUDP", "udp", "tls", options.udp_secret.as_str(), RADSEC_SECRET),
        Direction::TlsToUdp => ("ListenTLS", "tls", "udp", RADSEC_SECRET, options.udp_secret.as_str()),
    };
    // Names are not what this one is for: whoever has a certificate of the lab may talk.
    let unnamed = "\tcertificateNameCheck off\n";
    let (of_client, of_server) = match options.direction {
        Direction::UdpToTls => ("", unnamed),
        Direction::TlsToUdp => (unnamed, ""),
    };
    let (count, seconds) = options.retries;
    let retries = match options.direction {
        Direction::UdpToTls => String::new(),
        Direction::TlsToUdp => format!("\tretryCount {count}\n\tretryInterval {seconds}\n"),
    };
    format!(
        "{listen} {address}\nLogLevel 2\nLogDestination file://{dir}/radsecproxy.log\ntls default {{\n\tCACertificateFile \
         {ca}\n\tCertificateFile {certificate}\n\tCertificateKeyFile {key}\n}}\nclient lab {{\n\thost 127.0.0.0/8\n\ttype \
         {from}\n\tsecret {from_secret}\n{of_client}}}\nserver next {{\n\thost {host}\n\tport {port}\n\ttype {to}\n\tsecret \
         {to_secret}\n{of_server}{retries}\tstatusServer {status}\n}}\nrealm * {{\n\tserver next\n\taccountingServer \
         next\n}}\n",
        dir = dir.display(),
        ca = ca_file.display(),
        certificate = own.certificate.display(),
        key = own.key.display(),
        host = options.next.ip(),
        port = options.next.port(),
        status = if options.status_server { "on" } else { "off" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        freeradius::{FreeRadius, HomeOptions},
        nas::{Nas, Profile, Verdict},
        password_of,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_goes_to_tls_and_comes_back_from_it() -> Result<()> {
        // NAS -UDP-> out -TLS-> in -UDP-> home server, and NAS -UDP-> out -TLS-> home server.
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions::default())?;
        let to_udp = RadsecOptions::new(Direction::TlsToUdp, home.auth_address(), home.secret());
        let inward = RadsecProxy::start(dir.path(), &pki, &to_udp)?;
        for (name, next, port) in [
            ("far", inward.address(), home.auth_address().port()),
            ("near", home.radsec_address(), home.radsec_address().port()),
        ] {
            let to_tls = RadsecOptions { name: name.into(), ..RadsecOptions::new(Direction::UdpToTls, next, "one") };
            let outward = RadsecProxy::start(dir.path(), &pki, &to_tls)?;
            let nas = Nas::new(Profile::fortigate(), &[outward.address()], "one")?;
            let outcome = nas.login("ann.archer", &password_of("ann.archer"), &[]).await?;
            assert_eq!(outcome.verdict, Verdict::Accept, "{}{}", outward.log(), inward.log());
            assert_eq!(home.seen()?.last().map(|packet| packet.port), Some(port));
        }
        Ok(())
    }
}
