//! One process from start to exit.

use crate::config::{LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection};
use crate::health::Health;
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The sections that `start` reads.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'a> {
    pub log: &'a LogSection,
    pub telemetry: &'a TelemetrySection,
    pub tls: &'a TlsSection,
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
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
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
    telemetry: Mutex<Option<Telemetry>>,
}

/// Starts a process: crypto provider, no core dumps, log, traces, metrics, management page, signals. Called once.
pub async fn start(name: &'static str, sections: Sections<'_>) -> Result<Process, StartError> {
    crate::tls::install_narrowed_provider(sections.tls)?;
    let health = Health::default();
    let telemetry = Telemetry::start(name, sections.log, sections.telemetry, &health)?;
    crate::tls::tell_narrowed(sections.tls);
    keep_memory_private();
    let shutdown = Shutdown::new();
    watch_signals(shutdown.clone()).map_err(StartError::Signals)?;
    let address = sections.management.listen;
    let listen = |cause| StartError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let management = listener.local_addr().map_err(listen)?;
    // Not tracked: the page answers until the process is gone.
    tokio::spawn(
        axum::serve(listener, crate::management::router(health.clone(), telemetry.page.clone())).into_future(),
    );
    tracing::info!(version = env!("CARGO_PKG_VERSION"), management = %management, "process started");
    Ok(Process::with(name, health, shutdown, sections.shutdown.clone(), Some(management), Some(telemetry)))
}

impl Process {
    /// One without telemetry, management page and signals, for tests. Its shutdown does not delay and drains for one second.
    pub fn detached(name: &'static str) -> Self {
        crate::tls::install_provider();
        let quick = ShutdownSection { drain_delay_seconds: 0, drain_timeout_seconds: 1 };
        Self::with(name, Health::default(), Shutdown::new(), quick, None, None)
    }

    fn with(
        name: &'static str,
        health: Health,
        shutdown: Shutdown,
        section: ShutdownSection,
        management: Option<SocketAddr>,
        telemetry: Option<Telemetry>,
    ) -> Self {
        let (leaving, sequence) = ((health.clone(), shutdown.clone()), shutdown.clone());
        tokio::spawn(async move {
            leaving.1.leaving().await;
            leaving.0.leave();
        });
        tokio::spawn(async move { sequence.sequence(&section).await });
        Self { inner: Arc::new(Inner { name, health, shutdown, management, telemetry: Mutex::new(telemetry) }) }
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
        self.inner.shutdown.begin_once();
        self.inner.shutdown.finished().await;
        tracing::info!("process stopped");
        let telemetry = self.inner.telemetry.lock().expect("nobody panics while holding it").take();
        if let Some(telemetry) = telemetry {
            telemetry.finish().await;
        }
    }
}

/// SIGTERM and SIGINT begin the shutdown; the second one skips its waiting.
fn watch_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Without a handler SIGHUP would end the process; what reloads on it listens by itself.
    drop(signal(SignalKind::hangup())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            // Cancel safety: a signal that is not taken here is taken next time.
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            shutdown.begin();
        }
    });
    Ok(())
}

/// Passwords pass through our memory: no core file, no debugger of the same user (V-33).
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(error = %error, "core dumps could not be switched off");
    }
}

/// Ends `main`: 0, 78 for a configuration that cannot be used, else 1, with the error and its causes as one line on stderr.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error:#}");
    let configuration = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<crate::config::ConfigError>() || matches!(cause.downcast_ref(), Some(StartError::Setting { .. }))
    };
    match error.chain().any(configuration) {
        true => ExitCode::from(78),
        false => ExitCode::FAILURE,
    }
}
