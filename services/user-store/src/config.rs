//! The configuration of the user-store process.

use crate::sql::StoreSection;
use serde::Deserialize;
use service_kit::config::{
    BusSection, GrpcSection, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection,
};

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
    pub store: StoreSection,
}
