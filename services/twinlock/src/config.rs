//! The configuration of `twinlock serve`, which the other commands read to find the running process.

#[cfg(test)]
mod documented;

use serde::Deserialize;
use service_kit::{
    config::{BusSection, GrpcSection, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection},
    grpc::Endpoints,
};
use std::path::PathBuf;

#[derive(Debug, Clone, Deserialize)]
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
    #[serde(default)]
    pub admin: AdminSection,
    #[serde(default)]
    pub store: user_store::StoreSection,
    #[serde(default, deserialize_with = "radius_gateway::RadiusSection::deserialize_checked")]
    pub radius: radius_gateway::RadiusSection,
    #[serde(default, deserialize_with = "ldap_gateway::LdapSection::deserialize_checked")]
    pub ldap: ldap_gateway::LdapSection,
    #[serde(default, deserialize_with = "portal::PortalSection::deserialize_checked")]
    pub portal: portal::PortalSection,
}

/// What `health` reads. A container's check runs in the environment of its part, whose sections are none of its own: they are
/// passed over.
#[derive(Debug, Clone, Deserialize)]
pub struct HealthConfig {
    #[serde(default)]
    pub management: ManagementSection,
}

/// `[admin]`: how the command line reaches the running product.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSection {
    /// The local socket of `twinlock serve`. Its owner and mode are the permission.
    pub socket: PathBuf,
    /// The distributed product, by mutual TLS, instead of the socket.
    pub remote: Option<RemoteSection>,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { socket: "/run/twinlock/admin.sock".into(), remote: None }
    }
}

/// `[admin.remote]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSection {
    pub user_store: Endpoints,
    pub verification: Endpoints,
    /// The ldap-gateway, which owns the directory connections.
    pub directory: Endpoints,
    /// The administrator's certificate.
    pub grpc: GrpcSection,
}
