//! The process configuration of this part. Who may enrol stands in the settings document, not here.

use http::Uri;
use serde::{Deserialize, Deserializer, de::Error};
use service_kit::config::{
    BusSection, GrpcSection, InputFile, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection,
};
use service_kit::grpc::Endpoints;
use service_kit::secret::SecretFile;
use service_kit::tls::Identity;
use std::net::SocketAddr;

/// Of the program that holds this part alone. A process that holds several embeds [`PortalSection`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub log: LogSection,
    #[serde(default)]
    pub telemetry: TelemetrySection,
    #[serde(default)]
    pub tls: TlsSection,
    #[serde(default)]
    pub management: ManagementSection,
    #[serde(default)]
    pub shutdown: ShutdownSection,
    #[serde(default)]
    pub bus: BusSection,
    pub grpc: GrpcSection,
    pub endpoints: EndpointsSection,
    #[serde(deserialize_with = "PortalSection::deserialize_checked")]
    pub portal: PortalSection,
}

/// `[endpoints]`: the parts this one calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsSection {
    pub user_store: Endpoints,
    pub verification: Endpoints,
    /// The ldap-gateway, which owns the directory connections.
    pub directory: Endpoints,
}

/// `[portal]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortalSection {
    /// Where HTTPS is spoken. Empty: there is no portal.
    pub listen: Vec<SocketAddr>,
    /// Where phones are answered, and nothing else is: for a port that is reachable from outside. They are answered at `listen` too.
    pub phone_listen: Vec<SocketAddr>,
    /// The chain in PEM, ours first. New files are taken up while running.
    pub certificate_file: Option<InputFile>,
    pub key_file: Option<SecretFile>,
    /// What people type: `https://mfa.example.com`. Forms are taken from pages of this origin only.
    pub public_url: Option<PublicUrl>,
    /// The console for administrators, `/console`: whoever has an API key comes in with it alone, so it is closed unless this opens it.
    pub console: bool,
    /// The host of `public_url` may be another one than before: every passkey, and with it every phone that approves, is void.
    pub danger_change_rp_id: bool,
    /// HTTP instead of HTTPS, for a TLS proxy on this host. It must replace or extend `X-Forwarded-For`.
    pub danger_plain_http: bool,
}

/// Keys of `[portal]` that do not go together. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPortalSection {
    #[error("portal.certificate_file and portal.key_file belong together; one of them is missing")]
    HalfIdentity,
    #[error("portal.listen needs portal.certificate_file and portal.key_file")]
    NoCertificate,
    #[error("portal.phone_listen needs portal.listen: phones are connected from the portal's pages")]
    PhonesAlone,
    #[error("portal.listen needs portal.public_url, such as \"https://mfa.example.com\"")]
    NoPublicUrl,
    #[error("portal.public_url: found {found}; allowed is https")]
    PlainPublicUrl { found: String },
    #[error(
        "portal.listen and portal.phone_listen: found {found} with portal.danger_plain_http; allowed are loopback addresses, behind a TLS proxy"
    )]
    PlainBeyondLoopback { found: SocketAddr },
    #[error("portal.danger_plain_http: true together with portal.certificate_file; allowed is one of them")]
    PlainWithCertificate,
}

/// How connections come in.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Tls(Identity),
    BehindProxy,
}

impl PortalSection {
    /// For the field of a configuration: what does not go together is refused where it is written.
    pub fn deserialize_checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Self::deserialize(deserializer)?;
        section.check().map(|()| section).map_err(D::Error::custom)
    }

    /// What keys say together.
    pub fn check(&self) -> Result<(), BadPortalSection> {
        self.checked().map(drop)
    }

    /// The section as values that go together; `None` where there is no portal.
    pub(crate) fn checked(&self) -> Result<Option<(Transport, PublicUrl)>, BadPortalSection> {
        let identity = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some(Identity { certificate: certificate.clone(), key: key.clone() }),
            (None, None) => None,
            _ => return Err(BadPortalSection::HalfIdentity),
        };
        if self.listen.is_empty() {
            return if self.phone_listen.is_empty() { Ok(None) } else { Err(BadPortalSection::PhonesAlone) };
        }
        let public = self.public_url.clone().ok_or(BadPortalSection::NoPublicUrl)?;
        match (identity, self.danger_plain_http) {
            (Some(_), true) => Err(BadPortalSection::PlainWithCertificate),
            (None, false) => Err(BadPortalSection::NoCertificate),
            (None, true) => {
                match self.listen.iter().chain(&self.phone_listen).find(|address| !address.ip().is_loopback()) {
                    Some(found) => Err(BadPortalSection::PlainBeyondLoopback { found: *found }),
                    None => Ok(Some((Transport::BehindProxy, public))),
                }
            }
            (Some(_), false) if !public.is_https() => Err(BadPortalSection::PlainPublicUrl { found: public.origin }),
            (Some(identity), false) => Ok(Some((Transport::Tls(identity), public))),
        }
    }
}

/// The origin of the portal as browsers write it: scheme, host and, where it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl {
    origin: String,
}

impl PublicUrl {
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("found `{text}`; allowed is an origin without path, such as https://mfa.example.com");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(authority), "/" | "") = (uri.scheme_str(), uri.authority(), uri.path()) else {
            return Err(bad());
        };
        let own_port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(bad()),
        };
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().filter(|port| *port != own_port);
        Ok(Self { origin: port.map_or(format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(json: &str) -> PortalSection {
        serde_json::from_str(json).expect("keys and types are right")
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused_by_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = lab::Pki::new(dir.path()).expect("a CA");
        let files = pki.issue("portal", &["localhost"]).expect("a certificate");
        let tls =
            format!(r#""certificate_file":"{}","key_file":"{}""#, files.certificate.display(), files.key.display());
        let with = |rest: &str| section(&format!("{{{tls},{rest}}}")).check();
        let without = |rest: &str| section(&format!("{{{rest}}}")).check();
        let any = r#""listen":["0.0.0.0:8443"]"#;
        let https = r#""public_url":"https://mfa.example.com""#;
        assert_eq!(without(""), Ok(()), "no portal");
        assert_eq!(with(&format!("{any},{https}")), Ok(()));
        assert_eq!(with(any), Err(BadPortalSection::NoPublicUrl));
        assert_eq!(without(&format!("{any},{https}")), Err(BadPortalSection::NoCertificate));
        assert_eq!(
            with(&format!(r#"{any},"public_url":"http://mfa.example.com""#)),
            Err(BadPortalSection::PlainPublicUrl { found: "http://mfa.example.com".into() })
        );
        assert_eq!(
            with(&format!(r#"{any},{https},"danger_plain_http":true"#)),
            Err(BadPortalSection::PlainWithCertificate)
        );
        let found = "0.0.0.0:8443".parse().expect("an address");
        assert_eq!(
            without(&format!(r#"{any},{https},"danger_plain_http":true"#)),
            Err(BadPortalSection::PlainBeyondLoopback { found })
        );
        let loopback = r#""listen":["127.0.0.1:8080","[::1]:8080"]"#;
        assert_eq!(without(&format!(r#"{loopback},{https},"danger_plain_http":true"#)), Ok(()));
        assert_eq!(without(r#""phone_listen":["127.0.0.1:8081"]"#), Err(BadPortalSection::PhonesAlone));
        let found = "0.0.0.0:8444".parse().expect("an address");
        assert_eq!(
            without(&format!(r#"{loopback},"phone_listen":["0.0.0.0:8444"],{https},"danger_plain_http":true"#)),
            Err(BadPortalSection::PlainBeyondLoopback { found })
        );
        assert_eq!(with(&format!(r#"{any},"phone_listen":["0.0.0.0:8444"],{https}"#)), Ok(()));
        let half = format!(r#"{{"certificate_file":"{}"}}"#, files.certificate.display());
        assert_eq!(section(&half).check(), Err(BadPortalSection::HalfIdentity));
    }

    #[test]
    fn a_public_url_is_an_origin_as_browsers_write_it() {
        let read = |text: &str| PublicUrl::try_from(text.to_owned()).map(|url| url.origin);
        assert_eq!(read("https://MFA.example.com/").as_deref(), Ok("https://mfa.example.com"));
        assert_eq!(read("https://mfa.example.com:443").as_deref(), Ok("https://mfa.example.com"));
        assert_eq!(read("https://localhost:8443").as_deref(), Ok("https://localhost:8443"));
        assert_eq!(read("https://[::1]:8443").as_deref(), Ok("https://[::1]:8443"));
        for bad in ["", "mfa.example.com", "ftp://mfa", "https://a/path", "https://a?b", "https://u@a", "https://"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
