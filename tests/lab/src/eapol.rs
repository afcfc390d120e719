//! `eapol_test`: a laptop that logs in by EAP, and the access point it does it through.

use crate::{Certificate, program};
use anyhow::{Context, Result};
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// One login. Blocking, and for a waiting prompt as long as `timeout`: in async tests it goes to `spawn_blocking`.
#[derive(Debug, Clone)]
pub struct Supplicant {
    pub method: Method,
    /// The outer User-Name; without one the inner name is sent.
    pub outer: Option<String>,
    pub identity: String,
    pub password: String,
    /// What the home server's certificate is checked with.
    pub ca_file: PathBuf,
    /// The access point's address is `from`, and the client's of the gateway.
    pub from: Option<String>,
    /// Hexadecimal with colons; it becomes the Calling-Station-Id.
    pub mac: Option<String>,
    /// In how many octets at once it sends what is long.
    pub fragment_octets: Option<u16>,
    /// More attributes, as `-N` takes them: `30:s:ssid`.
    pub attributes: Vec<String>,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum Method {
    PeapMschapv2,
    PeapGtc,
    TtlsPap,
    TtlsChap,
    TtlsMschapv2,
    /// With this certificate and key of the person.
    Tls(PathBuf, PathBuf),
    /// Makes no keys.
    Md5,
}

#[derive(Debug, Clone)]
pub struct EapResult {
    /// Its last word.
    pub success: bool,
    /// The keys of the laptop are those the access point got (R-55).
    pub keys_match: bool,
    /// An EAP-Success came by RADIUS, whether or not it was believed.
    pub eap_success_seen: bool,
    pub eap_failure_seen: bool,
    /// Access-Requests, copies included.
    pub sent: usize,
    pub received: usize,
    /// `Access-Accept`, `Access-Reject`... in order.
    pub replies: Vec<String>,
    /// All it said, packets in hexadecimal included.
    pub output: String,
}

impl Method {
    pub fn tls(certificate: &Certificate) -> Self {
        Self::Tls(certificate.certificate.clone(), certificate.key.clone())
    }

    fn lines(&self) -> String {
        let (outer, inner) = match self {
            Self::PeapMschapv2 => ("PEAP", "auth=MSCHAPV2"),
            Self::PeapGtc => ("PEAP", "auth=GTC"),
            Self::TtlsPap => ("TTLS", "auth=PAP"),
            Self::TtlsChap => ("TTLS", "auth=CHAP"),
            Self::TtlsMschapv2 => ("TTLS", "auth=MSCHAPV2"),
            Self::Tls(certificate, key) => {
                return format!(
                    "eap=TLS\nclient_cert=\"{}\"\nprivate_key=\"{}\"\n",
                    certificate.display(),
                    key.display()
                );
            }
            Self::Md5 => return "eap=MD5\neapol_flags=0\n".into(),
        };
        format!("eap={outer}\nphase2=\"{inner}\"\n")
    }

    fn makes_keys(&self) -> bool {
        !matches!(self, Self::Md5)
    }
}

impl Supplicant {
    pub fn new(method: Method, identity: &str, password: &str, ca_file: &Path) -> Self {
        Self {
            method,
            outer: None,
            identity: identity.into(),
            password: password.into(),
            ca_file: ca_file.into(),
            from: None,
            mac: None,
            fragment_octets: None,
            attributes: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// With this name outside, where everybody can read it.
    pub fn outside(mut self, outer: &str) -> Self {
        self.outer = Some(outer.into());
        self
    }

    pub fn waiting(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Logs in through the RADIUS server at `server`.
    pub fn log_in(&self, server: SocketAddr, secret: &str) -> Result<EapResult> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(self.network().as_bytes())?;
        let mut command = Command::new(program("eapol_test")?);
        if !self.method.makes_keys() {
            command.arg("-n");
        }
        command.arg("-c").arg(file.path()).args(["-r", "0", "-a", &server.ip().to_string()]);
        command.args(["-p", &server.port().to_string(), "-s", secret, "-t", &self.timeout.as_secs().to_string()]);
        for (option, value) in [("-A", &self.from), ("-M", &self.mac)] {
            command.args(value.iter().flat_map(|value| [option, value.as_str()]));
        }
        command.args(self.attributes.iter().flat_map(|attribute| ["-N", attribute.as_str()]));
        let output = command.output().context("starting eapol_test")?;
        Ok(EapResult::read(&String::from_utf8_lossy(&output.stdout)))
    }

    fn network(&self) -> String {
        let keys = if self.method.makes_keys() { "WPA-EAP" } else { "IEEE8021X" };
        let fragment = self.fragment_octets.map_or(String::new(), |octets| format!("fragment_size={octets}\n"));
        let outer = self.outer.as_ref().map_or(String::new(), |outer| format!("anonymous_identity=\"{outer}\"\n"));
        format!(
            "network={{\nssid=\"lab\"\nkey_mgmt={keys}\nidentity=\"{}\"\n{outer}{fragment}password=\"{}\"\nca_cert=\"{}\"\n{}}}\n",
            self.identity,
            self.password,
            self.ca_file.display(),
            self.method.lines()
        )
    }
}

impl EapResult {
    fn read(output: &str) -> Self {
        let count = |text: &str| output.lines().filter(|line| line.contains(text)).count();
        let replies = output
            .lines()
            .filter_map(|line| line.strip_prefix("RADIUS message: code="))
            .filter_map(|line| Some(line.split_once('(')?.1.split_once(')')?.0.to_owned()))
            .filter(|code| code != "Access-Request")
            .collect();
        Self {
            success: output.lines().last() == Some("SUCCESS"),
            keys_match: output.contains("MPPE keys OK: 1  mismatch: 0"),
            eap_success_seen: count("(code=3 id=") > 0,
            eap_failure_seen: count("(code=4 id=") > 0,
            sent: count("Sending RADIUS message to authentication server") + count("Resending RADIUS message"),
            received: count("RADIUS packet matching with station"),
            replies,
            output: output.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Pki,
        freeradius::{FreeRadius, HomeOptions, HomeUser, Treatment},
        password_of,
    };

    #[test]
    fn an_expired_password_is_said_to_be_one() -> Result<()> {
        // R-58
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let users = vec![HomeUser::new("old", "good").treated(Treatment::Expired)];
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { users, ..Default::default() })?;
        let old = Supplicant::new(Method::PeapMschapv2, "old", "good", &pki.ca_file()).waiting(Duration::from_secs(2));
        let result = old.log_in(home.auth_address(), home.secret())?;
        assert!(!result.success && result.output.contains("error 648"), "{}", result.output);
        Ok(())
    }

    #[test]
    fn every_method_logs_in_and_its_accept_names_whoever_is_inside() -> Result<()> {
        // R-50
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions::default())?;
        let certificate = pki.issue("ann", &["ann.archer"])?;
        let ann = |method| Supplicant::new(method, "ann.archer", &password_of("ann.archer"), &pki.ca_file());
        let methods = [
            Method::PeapMschapv2,
            Method::PeapGtc,
            Method::TtlsPap,
            Method::TtlsChap,
            Method::TtlsMschapv2,
            Method::tls(&certificate),
        ];
        for method in methods {
            let name = format!("{method:?}");
            let result = ann(method).outside("somebody").log_in(home.auth_address(), home.secret())?;
            assert!(result.success && result.keys_match && result.eap_success_seen, "{name}: {}", result.output);
            assert_eq!(result.replies.last().map(String::as_str), Some("Access-Accept"), "{name}");
            assert_eq!((result.sent, result.received), (result.replies.len(), result.replies.len()), "{name}");
            let accept = home.answered()?.pop().context("it answered")?;
            assert_eq!(accept.first("User-Name"), Some("ann.archer"), "{name}");
        }
        let md5 = ann(Method::Md5).log_in(home.auth_address(), home.secret())?;
        assert!(md5.success && !md5.keys_match, "{}", md5.output);
        Ok(())
    }

    #[test]
    fn a_home_server_can_keep_the_inner_name_or_name_the_outer_one() -> Result<()> {
        // R-50
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions::default())?;
        for (address, name) in [(home.nameless_address(), None), (home.outer_name_address(), Some("somebody"))] {
            let mut ann =
                Supplicant::new(Method::PeapMschapv2, "ann.archer", &password_of("ann.archer"), &pki.ca_file())
                    .outside("somebody");
            ann.mac = Some("02:00:5e:00:53:07".into());
            ann.attributes = vec!["30:s:lab".into()];
            let result = ann.log_in(address, home.secret())?;
            assert!(result.success, "{}", result.output);
            assert_eq!(home.answered()?.pop().context("it answered")?.first("User-Name"), name);
            let seen = home.seen()?.pop().context("it saw the request")?;
            assert_eq!(seen.first("Calling-Station-Id"), Some("02-00-5E-00-53-07"));
            assert_eq!(seen.first("Called-Station-Id"), Some("lab"));
        }
        let bad = Supplicant::new(Method::PeapMschapv2, "ann.archer", "wrong", &pki.ca_file());
        let bad = bad.waiting(Duration::from_secs(2)).log_in(home.auth_address(), home.secret())?;
        assert!(!bad.success && !bad.eap_success_seen, "{}", bad.output);
        Ok(())
    }
}
