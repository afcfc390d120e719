//! The process configuration of this part. What is read, and when, stands in the settings document, not here.

use serde::Deserialize;
use service_kit::config::{
    BusSection, GrpcSection, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection,
};
use service_kit::grpc::Endpoints;

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
}

/// `[endpoints]`: the parts this one calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsSection {
    pub user_store: Endpoints,
}
