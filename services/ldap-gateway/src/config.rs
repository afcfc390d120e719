//! The process configuration of this part. What clients may do stands in the settings document, not here.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};
use service_kit::config::{
    BusSection, GrpcSection, InputFile, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection,
};
use service_kit::grpc::Endpoints;
use service_kit::secret::SecretFile;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Of the program that holds this part alone. A process that holds several embeds [`LdapSection`].
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
    #[serde(default, deserialize_with = "LdapSection::deserialize_checked")]
    pub ldap: LdapSection,
}

/// `[endpoints]`: the parts this one calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsSection {
    pub verification: Endpoints,
    pub user_store: Endpoints,
}

/// `[ldap]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LdapSection {
    /// Where LDAP is spoken, with StartTLS where there is a certificate.
    pub listen: Vec<SocketAddr>,
    /// Where LDAPS is spoken: 636 where there is a certificate, unless this says otherwise.
    pub tls_listen: Option<Vec<SocketAddr>>,
    /// Balancers: only these may say whom they speak for, by PROXY protocol version 2, and they must (FB-10).
    pub proxy_protocol_from: Vec<IpNet>,
    /// The chain in PEM, ours first. New files are taken up while running.
    pub certificate_file: Option<InputFile>,
    pub key_file: Option<SecretFile>,
    /// Who signs the certificates of clients, in PEM. Without it none is asked for, and whoever needs one is closed (FL-22).
    pub client_ca_file: Option<InputFile>,
    /// Connections at once, in all (FL-20).
    pub connections_max: usize,
    /// And of one client.
    pub connections_per_client_max: usize,
    /// And from one address, in IPv6 from one /64, as long as they are not bound; who waits for the second factor is not.
    pub connections_per_source_max: usize,
    /// Binds of one address (IPv6: of one /64) a second, and as many again at once; more are answered with 51 (B5).
    pub binds_per_second_max: u64,
    /// How long a refused bind takes at least, so that the time of none tells who exists or whose password was right, not even of the
    /// first after the start (L-40, L-41).
    pub refusal_ms_min: u32,
    /// New connections a second, of all ports together; more wait in the kernel's queue (L-05).
    pub accepts_per_second_max: u32,
    /// How long a message may take to arrive once its first octet is here (L-04).
    pub read_timeout_seconds: u64,
    /// How long a TLS handshake may take.
    pub handshake_timeout_seconds: u64,
    /// How long a connection without a bind may idle.
    pub unbound_idle_seconds: u64,
    /// And one with.
    pub bound_idle_seconds: u64,
    /// How long a peer may take nothing of what waits for it.
    pub write_stall_seconds: u64,
    /// A directory that outlives the process: there stands who was let in while verification and store were down, until the store
    /// takes it (V-40). Without one nobody is let in then.
    pub spool_dir: Option<PathBuf>,
}

impl Default for LdapSection {
    fn default() -> Self {
        Self {
            listen: everywhere(389),
            tls_listen: None,
            proxy_protocol_from: Vec::new(),
            certificate_file: None,
            key_file: None,
            client_ca_file: None,
            connections_max: 20_000,
            connections_per_client_max: 2_000,
            connections_per_source_max: 200,
            binds_per_second_max: 20_000,
            refusal_ms_min: 500,
            accepts_per_second_max: 5_000,
            read_timeout_seconds: 10,
            handshake_timeout_seconds: 10,
            unbound_idle_seconds: 30,
            bound_idle_seconds: 15 * 60,
            write_stall_seconds: 10,
            spool_dir: None,
        }
    }
}

/// By IPv4 and IPv6 (FL-02).
fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

/// Two keys of `[ldap]` that do not go together. The operator's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLdapSection {
    #[error("ldap.certificate_file and ldap.key_file belong together; one of them is missing")]
    HalfIdentity,
    #[error("ldap.client_ca_file needs ldap.certificate_file and ldap.key_file")]
    AuthorityAlone,
    #[error("ldap.tls_listen needs ldap.certificate_file and ldap.key_file")]
    NoCertificate,
    #[error("ldap.{key}: found 0; allowed is 1 or more")]
    Zero { key: &'static str },
}

impl LdapSection {
    /// For the field of a configuration: what does not go together is refused where it is written.
    pub fn deserialize_checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Self::deserialize(deserializer)?;
        section.check().map(|()| section).map_err(D::Error::custom)
    }

    /// What keys say together, and what no single type can say.
    pub fn check(&self) -> Result<(), BadLdapSection> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(BadLdapSection::HalfIdentity);
        }
        if self.client_ca_file.is_some() && self.certificate_file.is_none() {
            return Err(BadLdapSection::AuthorityAlone);
        }
        if self.tls_listen.as_ref().is_some_and(|listen| !listen.is_empty()) && self.certificate_file.is_none() {
            return Err(BadLdapSection::NoCertificate);
        }
        let counts = [
            ("connections_max", self.connections_max as u64),
            ("connections_per_client_max", self.connections_per_client_max as u64),
            ("connections_per_source_max", self.connections_per_source_max as u64),
            ("binds_per_second_max", self.binds_per_second_max),
            ("refusal_ms_min", self.refusal_ms_min.into()),
            ("accepts_per_second_max", self.accepts_per_second_max.into()),
            ("read_timeout_seconds", self.read_timeout_seconds),
            ("handshake_timeout_seconds", self.handshake_timeout_seconds),
            ("unbound_idle_seconds", self.unbound_idle_seconds),
            ("bound_idle_seconds", self.bound_idle_seconds),
            ("write_stall_seconds", self.write_stall_seconds),
        ];
        match counts.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(BadLdapSection::Zero { key }),
            None => Ok(()),
        }
    }

    pub(crate) fn tls_listen(&self) -> Vec<SocketAddr> {
        let usual = || self.certificate_file.as_ref().map(|_| everywhere(636)).unwrap_or_default();
        self.tls_listen.clone().unwrap_or_else(usual)
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts {
            read: Duration::from_secs(self.read_timeout_seconds),
            handshake: Duration::from_secs(self.handshake_timeout_seconds),
            unbound_idle: Duration::from_secs(self.unbound_idle_seconds),
            bound_idle: Duration::from_secs(self.bound_idle_seconds),
            write_stall: Duration::from_secs(self.write_stall_seconds),
        }
    }
}

/// The clocks of a connection (L-04, L-05).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub read: Duration,
    pub handshake: Duration,
    pub unbound_idle: Duration,
    pub bound_idle: Duration,
    pub write_stall: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_do_not_go_together_are_refused_by_name() {
        let section = LdapSection { tls_listen: Some(vec![([127, 0, 0, 1], 636).into()]), ..Default::default() };
        assert_eq!(section.check(), Err(BadLdapSection::NoCertificate));
        let section = LdapSection { connections_max: 0, ..Default::default() };
        assert_eq!(section.check(), Err(BadLdapSection::Zero { key: "connections_max" }));
        assert_eq!(LdapSection::default().check(), Ok(()));
    }
}
