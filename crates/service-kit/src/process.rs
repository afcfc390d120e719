//! One process from start to exit.

use crate::config::{LogSection, ManagementSection, ShutdownSection, TelemetrySection};
use crate::health::Health;
use crate::shutdown::Shutdown;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// The sections that `start` reads.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'a> {
    pub log: &'a LogSection,
    pub telemetry: &'a TelemetrySection,
    pub management: &'a ManagementSection,
    pub shutdown: &'a ShutdownSection,
}

/// The process could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("the management port {address} cannot be opened")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("{key}: {found}; allowed: {allowed}")]
    Setting { key: &'static str, found: String, allowed: &'static str },
    #[error("telemetry cannot be set up")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the services of a process share. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    health: Health,
    shutdown: Shutdown,
    management: Option<SocketAddr>,
}

/// Starts a process: crypto provider, no core dumps, log, traces, metrics, management page, signals. Called once.
pub async fn start(_name: &'static str, _sections: Sections<'_>) -> Result<Process, StartError> {
    todo!()
}

impl Process {
    /// One without telemetry, management page and signals, for tests. Its shutdown neither delays nor waits.
    pub fn detached(_name: &'static str) -> Self {
        todo!()
    }

    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// Where the management page is served.
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.inner.management
    }

    /// Begins the shutdown if nobody has, waits until it is over, and flushes telemetry. The last call of a `main`.
    pub async fn finish(&self) {
        todo!()
    }
}

/// Ends `main`: 0, 78 for a configuration that cannot be used, else 1, with the error and its causes as one line on stderr.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error:#}");
    match error.chain().any(|cause| cause.is::<crate::config::ConfigError>()) {
        true => ExitCode::from(78),
        false => ExitCode::FAILURE,
    }
}
