//! strongSwan: a VPN gateway that asks RADIUS, and a client before it. Both are charons on loopback, each at ports of its own; what they
//! make is an IKE_SA without a tunnel in it (RFC 6023), so no network changes. Its AUTH is computed with the key that EAP has left at
//! both ends (RFC 7296 section 2.16): who is let in has the same key as the gateway.

use crate::{Certificate, Pki, Proc, free_port, program, repository, wait_until};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

/// In the gateway's certificate.
const GATEWAY: &str = "vpn.acme.example";

/// Of all that come by IKEv1.
const GROUP_SECRET: &str = "of-the-group-4a1d";

/// In a home server's file of users: TTLS is what it begins with for this person, and what is inside begins as always. Left to
/// choose, the laptop chooses the same inside once more.
pub fn ttls_first(uid: &str) -> String {
    format!("\"{uid}\" FreeRADIUS-Proxied-To !* ANY, EAP-Type := TTLS\n\tFall-Through = Yes\n")
}

/// The same with MS-CHAPv2: xauth-eap takes what the home server begins with, or gives up.
pub fn ms_chap_first(uid: &str) -> String {
    format!("\"{uid}\" EAP-Type := MSCHAPv2\n\tFall-Through = Yes\n")
}

/// How the gateway has its people checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// What they say in EAP goes to the RADIUS server as it is.
    EapRadius,
    /// EAP-GTC ends at the gateway, which asks by PAP.
    EapGtc,
    /// XAuth (IKEv1) ends at the gateway, which asks by PAP.
    XauthRadius,
    /// XAuth ends at the gateway, which says in EAP what it has heard, with a home server that begins so: [`ms_chap_first`].
    XauthEap,
}

/// What the client knows to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    MsChapV2,
    /// MD5 inside TTLS, with a home server that begins so: [`ttls_first`].
    Ttls,
    Gtc,
    /// By IKEv1.
    Xauth,
}

/// The gateway.
pub struct StrongSwan {
    charon: Charon,
    ca_file: PathBuf,
}

/// Somebody's laptop.
pub struct VpnClient {
    charon: Charon,
    gateway_port: u16,
    configuration: &'static str,
}

/// How an attempt of the client ended.
pub struct Attempt {
    pub connected: bool,
    pub output: String,
}

struct Charon {
    dir: PathBuf,
    process: Proc,
    port: u16,
}

impl StrongSwan {
    /// Asks the RADIUS server from 127.0.0.1, with the time-outs of docs/integrations/strongswan.md.
    pub fn start(dir: &Path, pki: &Pki, check: Check, radius: SocketAddr, secret: &str) -> Result<Self> {
        let Certificate { certificate, key } = pki.issue(&format!("strongswan-{check:?}"), &[GATEWAY])?;
        let dir = dir.join(format!("strongswan-{check:?}"));
        let methods = "eap-radius eap-gtc eap-mschapv2 xauth-generic xauth-eap";
        let charon = Charon::start(&dir, methods, radius, secret)?;
        fs::copy(certificate, dir.join("x509/gateway.pem"))?;
        fs::copy(key, dir.join("private/gateway.key"))?;
        let (configuration, check) = match check {
            Check::EapRadius => ("gateway.conf", "eap-radius"),
            Check::EapGtc => ("gateway.conf", "eap-gtc"),
            Check::XauthRadius => ("gateway-xauth.conf", "xauth-radius"),
            Check::XauthEap => ("gateway-xauth.conf", "xauth-eap"),
        };
        charon.load(configuration, &[("check", check)])?;
        Ok(Self { charon, ca_file: pki.ca_file() })
    }

    /// A laptop that connects to it.
    pub fn client(&self, dir: &Path, name: &str, says: Says) -> Result<VpnClient> {
        let (configuration, method) = match says {
            Says::MsChapV2 => ("client.conf", "eap-mschapv2"),
            Says::Ttls => ("client.conf", "eap-ttls eap-md5"),
            Says::Gtc => ("client.conf", "eap-gtc"),
            Says::Xauth => ("client-xauth.conf", "xauth-generic"),
        };
        // It asks no RADIUS server.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let charon = Charon::start(&dir.join(format!("strongswan-client-{name}")), method, nobody, "")?;
        fs::copy(&self.ca_file, charon.dir.join("x509ca/ca.pem"))?;
        Ok(VpnClient { charon, gateway_port: self.charon.port, configuration })
    }

    /// What the gateway has said.
    pub fn log(&self) -> String {
        self.charon.log()
    }
}

impl VpnClient {
    /// Connects, and hangs up where that succeeds. Blocking, for as long as a phone rings.
    pub fn connect(&self, name: &str, password: &str) -> Result<Attempt> {
        let gateway_port = self.gateway_port.to_string();
        let values = [("name", name), ("password", password), ("gateway_port", gateway_port.as_str())];
        self.charon.load(self.configuration, &values)?;
        let output = self.charon.swanctl(&["--initiate", "--ike", "vpn", "--timeout", "80"])?;
        let connected = output.status.success();
        if connected {
            self.charon.said(&["--terminate", "--ike", "vpn"])?;
        }
        Ok(Attempt { connected, output: text(&output) })
    }

    /// What the laptop has said.
    pub fn log(&self) -> String {
        self.charon.log()
    }
}

impl Charon {
    fn start(dir: &Path, methods: &str, radius: SocketAddr, secret: &str) -> Result<Self> {
        for folder in ["x509", "x509ca", "private"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let port = free_port();
        let values = [
            ("unused_port", free_port().to_string()),
            ("methods", methods.to_owned()),
            ("radius_address", radius.ip().to_string()),
            ("radius_port", radius.port().to_string()),
            ("radius_secret", secret.to_owned()),
        ];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        let file = dir.join("strongswan.conf");
        fs::write(&file, filled("charon.conf", dir, port, &values)?)?;
        let mut command = Command::new(program("charon-systemd")?);
        command.env("STRONGSWAN_CONF", &file);
        let process = Proc::spawn("charon-systemd", command, &dir.join("output.log"))?;
        let charon = Self { dir: dir.to_owned(), process, port };
        wait_until("charon to answer", Duration::from_secs(30), || {
            charon.swanctl(&["--stats"]).is_ok_and(|said| said.status.success())
        })
        .with_context(|| charon.log())?;
        Ok(charon)
    }

    fn load(&self, name: &str, values: &[(&str, &str)]) -> Result<()> {
        let file = self.dir.join("swanctl.conf");
        fs::write(&file, filled(name, &self.dir, self.port, values)?)?;
        self.said(&["--load-all", "--clear", "--file", &file.display().to_string()])
    }

    fn said(&self, arguments: &[&str]) -> Result<()> {
        let output = self.swanctl(arguments)?;
        ensure!(output.status.success(), "swanctl {}: {}\n{}", arguments.join(" "), text(&output), self.log());
        Ok(())
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program("swanctl")?);
        command.env("SWANCTL_DIR", &self.dir).args(arguments);
        command.arg("--uri").arg(format!("unix://{}/vici", self.dir.display()));
        command.output().context("swanctl")
    }

    fn log(&self) -> String {
        let own = fs::read(self.dir.join("charon.log")).unwrap_or_default();
        self.process.log() + &String::from_utf8_lossy(&own)
    }
}

/// A file of tests/lab/data/strongswan with its names filled in.
fn filled(name: &str, dir: &Path, port: u16, values: &[(&str, &str)]) -> Result<String> {
    let text = fs::read_to_string(repository().join("tests/lab/data/strongswan").join(name))?;
    let (here, port) = (dir.display().to_string(), port.to_string());
    let usual =
        [("here", here.as_str()), ("port", port.as_str()), ("gateway", GATEWAY), ("group_secret", GROUP_SECRET)];
    let all = usual.iter().chain(values);
    Ok(all.fold(text, |text, (name, value)| text.replace(&format!("@{name}@"), value)))
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned()).concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        freeradius::{FreeRadius, HomeOptions},
        password_of,
    };

    #[test]
    fn it_lets_in_whom_radius_lets_in() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let lines = ttls_first("ben.hale") + &ms_chap_first("emma.irwin");
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { lines, ..Default::default() })?;
        for (check, all) in [
            (Check::EapRadius, [Says::MsChapV2, Says::Ttls].as_slice()),
            (Check::EapGtc, [Says::Gtc].as_slice()),
            (Check::XauthRadius, [Says::Xauth].as_slice()),
            (Check::XauthEap, [Says::Xauth].as_slice()),
        ] {
            let vpn = StrongSwan::start(dir.path(), &pki, check, home.auth_address(), home.secret())?;
            for says in all {
                let client = vpn.client(dir.path(), &format!("{check:?}-{says:?}"), *says)?;
                let uid = match (check, says) {
                    (_, Says::Ttls) => "ben.hale",
                    (Check::XauthEap, _) => "emma.irwin",
                    _ => "ann.archer",
                };
                let right = client.connect(uid, &password_of(uid))?;
                assert!(right.connected, "{says:?}: {}\n{}\n{}", right.output, vpn.log(), home.log());
                let wrong = client.connect(uid, "Nonsense")?;
                assert!(!wrong.connected, "{says:?}: {}", wrong.output);
            }
        }
        Ok(())
    }
}
