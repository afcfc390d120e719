//! How every process of the product starts, talks and stops. Owns configuration, telemetry, health, TLS, gRPC servers and
//! clients, the bus and the order of a shutdown. Names nothing of the business and imports nothing of ours.
//!
//! ```no_run
//! use service_kit::{config, bus, grpc, Process, Sections};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]                       // no flatten: it would switch the strictness off
//! struct Config {
//!     #[serde(default)] log: config::LogSection,
//!     #[serde(default)] telemetry: config::TelemetrySection,
//!     #[serde(default)] management: config::ManagementSection,
//!     #[serde(default)] shutdown: config::ShutdownSection,
//!     #[serde(default)] bus: config::BusSection,
//!     grpc: config::GrpcSection,                      // required: there is no plaintext mode
//!     endpoints: Endpoints,
//! }
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Endpoints { verification: grpc::Endpoints }  // "https://a:7001,https://b:7001"
//!
//! # mod generated { pub struct Client<T>(T); impl<T> Client<T> { pub fn new(t: T) -> Self { Self(t) } } }
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode { service_kit::exit_code(start().await) }
//!
//! async fn start() -> anyhow::Result<()> {
//!     let config: Config = config::load(&config::Sources::from_process("radius-gateway")?)?;
//!     let process = service_kit::start("radius-gateway", Sections {
//!         log: &config.log, telemetry: &config.telemetry, tls: &config.tls, management: &config.management,
//!         shutdown: &config.shutdown,
//!     }).await?;
//!     let bus = bus::connect(&config.bus, &process)?; // never waits: the bus may come later
//!     let channel = grpc::Channel::new("verification", &config.endpoints.verification, &config.grpc)?;
//!     let client = generated::Client::new(channel);   // XClient<grpc::Channel>
//!     let ready = process.health().condition("radius listener");
//!     // ... bind, then
//!     ready.set_ready(true);
//!     process.shutdown().spawn(async { /* a connection: `finish` waits for it, up to the drain time-out */ });
//!     process.shutdown().draining().await;            // SIGTERM: accept nothing new
//!     process.finish().await;                         // waits, refuses what is left, flushes telemetry
//!     Ok(())
//! }
//! ```
//!
//! A log line is a `tracing` event: constant text, values as fields. A field named `event` gives the line its name, and a dot in
//! a field's name nests it (`first.result` becomes `"first":{"result":...}`). `service` as a field replaces the process name,
//! for the processes that hold several services. A meter is `opentelemetry::global::meter("twinlock")`; names appear on
//! `/metrics` exactly as they are written.

pub mod budget;
pub mod bus;
pub mod clock;
pub mod config;
pub mod grpc;
pub mod health;
pub mod lease;
mod management;
pub mod net;
pub mod ports;
mod process;
pub mod proxy_protocol;
pub mod secret;
pub mod shutdown;
mod telemetry;
pub mod tls;
pub mod trace;

pub use clock::Clock;
pub use process::{Process, Sections, StartError, exit_code, start};
pub use shutdown::Shutdown;

/// An error with its causes as one sentence: `error = %service_kit::chain(&error)`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[doc(hidden)]
pub use mimalloc::MiMalloc;

/// The allocator of a program, once in its main file. A login is hundreds of small allocations on one thread that another one frees:
/// with the allocator of glibc they were a sixth of its CPU.
#[macro_export]
macro_rules! allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::MiMalloc = $crate::MiMalloc;
    };
}
