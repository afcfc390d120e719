//! The sections that every process has. Defaults are the safe values.

use crate::secret::SecretFile;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Absent: `pretty` on a terminal, else `json`.
    pub format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,radius_gateway=debug`.
    pub level: LogLevel,
}

/// A level, or levels by module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Pretty,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySection {
    /// Where traces, metrics and logs go (`http://collector:4317`). Absent: `OTEL_EXPORTER_OTLP_ENDPOINT`, else nowhere.
    pub otlp_endpoint: Option<String>,
    /// Who signs the collector's certificate. Absent: the system's roots.
    pub ca_file: Option<InputFile>,
    /// How many of a thousand traces begun here are kept. Absent: all. A caller's choice is followed.
    pub traces_kept_per_thousand: Option<u16>,
}

/// `[tls]`: of all that this process listens with and connects by (FU-17).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// The suites that are spoken, by their IANA names. Empty: all that there are.
    pub ciphers: Vec<CipherSuite>,
    pub minimum_version: TlsVersion,
}

/// A forward secret AEAD suite of TLS 1.2 or 1.3; there are no others here.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct CipherSuite(pub(crate) rustls::SupportedCipherSuite);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// `[management]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagementSection {
    /// Where `/livez`, `/startupz`, `/readyz`, `/healthz/upstreams` and `/metrics` are served.
    pub listen: SocketAddr,
}

/// `[shutdown]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSection {
    /// Between "not ready" and "accepts nothing new", for load balancers to notice.
    pub drain_delay_seconds: u64,
    /// For what is in work to end.
    pub drain_timeout_seconds: u64,
}

/// `[bus]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusSection {
    /// `in-process`, or `nats://host:4222` (`tls://` to insist on TLS), several separated by commas.
    pub url: BusUrl,
    /// A NATS credentials file (JWT and seed) or an nkey seed.
    pub credentials_file: Option<SecretFile>,
    /// Who signs the server's certificate. Absent: the system's roots.
    pub ca_file: Option<InputFile>,
    pub certificate_file: Option<InputFile>,
    pub key_file: Option<SecretFile>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum BusUrl {
    #[default]
    InProcess,
    Nats(Vec<String>),
}

/// `[grpc]`: who this part is and where it listens. Required where a part speaks gRPC: there is no plaintext mode.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSection {
    /// For parts that only call, it is not used.
    #[serde(default = "grpc_listen")]
    pub listen: SocketAddr,
    /// The chain, ours first. Its DNS name `<part>.twinlock.internal` says which part this is.
    pub certificate_file: InputFile,
    pub key_file: SecretFile,
    /// Who signs the certificates of the other parts.
    pub ca_file: InputFile,
}

/// A file that must be there when the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct InputFile(PathBuf);

impl InputFile {
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, std::io::Error> {
        let path = path.into();
        match std::fs::File::open(&path)?.metadata()?.is_file() {
            true => Ok(Self(path)),
            false => Err(std::io::Error::other("it is not a file")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl LogLevel {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        // A bare word that is no level would be taken for the name of a module.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let known = text.split(',').all(|directive| directive.contains('=') || levels.contains(&directive.trim()));
        match known && tracing_subscriber::EnvFilter::builder().parse(&text).is_ok() {
            true => Ok(Self(text)),
            false => Err(format!("found `{text}`; allowed: {}, or module=level, comma separated", levels.join(", "))),
        }
    }
}

impl TryFrom<String> for CipherSuite {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let all = rustls::crypto::ring::ALL_CIPHER_SUITES;
        match all.iter().find(|suite| suite_name(suite) == name) {
            Some(suite) => Ok(Self(*suite)),
            None => {
                let names: Vec<_> = all.iter().map(suite_name).collect();
                Err(format!("found `{name}`; allowed: {}", names.join(", ")))
            }
        }
    }
}

/// As IANA has it. rustls writes the version into the names of TLS 1.3.
pub(crate) fn suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

impl TryFrom<String> for InputFile {
    type Error = String;
    fn try_from(path: String) -> Result<Self, String> {
        Self::new(&path).map_err(|error| format!("the file {path} cannot be read: {error}"))
    }
}

impl TryFrom<String> for BusUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "in-process" {
            return Ok(Self::InProcess);
        }
        let servers: Vec<String> = text.split(',').map(|server| server.trim().to_owned()).collect();
        match servers.iter().all(|server| server.starts_with("nats://") || server.starts_with("tls://")) {
            true => Ok(Self::Nats(servers)),
            false => Err(format!(
                "found `{text}`; allowed: in-process, or nats://host:port or tls://host:port, comma separated"
            )),
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: None, level: LogLevel("info".to_owned()) }
    }
}

impl Default for ManagementSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for ShutdownSection {
    fn default() -> Self {
        Self { drain_delay_seconds: 5, drain_timeout_seconds: 60 }
    }
}

fn grpc_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7000))
}
