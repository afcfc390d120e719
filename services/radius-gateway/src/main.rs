//! Starts the RADIUS gateway as a program of its own.

use proto::remote::Remote;
use proto::user_store::fail_open_client::FailOpenClient;
use proto::user_store::password_tries_client::PasswordTriesClient;
use proto::user_store::radius_client::RadiusClient;
use proto::user_store::settings_client::SettingsClient;
use radius_gateway::{Config, Deps, NAME, Nodes};
use service_kit::config::{BusUrl, Sources};
use service_kit::grpc::Channel;
use service_kit::{Clock, Sections, bus, config};
use std::process::ExitCode;
use std::sync::Arc;
use waiting_calls::Caller;

service_kit::allocator!();

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::exit_code(start().await)
}

async fn start() -> anyhow::Result<()> {
    let config: Config = config::load(&Sources::from_process(NAME)?)?;
    let sections = Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start(NAME, sections).await?;
    let verification = Channel::new("verification", &config.endpoints.verification, &config.grpc)?;
    let user_store = Channel::new("user-store", &config.endpoints.user_store, &config.grpc)?;
    let deps = Deps {
        verification: Arc::new(Caller::new(verification)),
        settings: Arc::new(Remote::new(SettingsClient::new(user_store.clone()))),
        fail_open: Arc::new(Remote::new(FailOpenClient::new(user_store.clone()))),
        password_tries: Arc::new(Remote::new(PasswordTriesClient::new(user_store.clone()))),
        store: Arc::new(Remote::new(RadiusClient::new(user_store))),
        bus: bus::connect(&config.bus, &process)?,
        nodes: if config.bus.url == BusUrl::InProcess { Nodes::One } else { Nodes::Many },
        clock: Clock::system(),
    };
    radius_gateway::run(config.radius, deps, &process).await?;
    process.finish().await;
    Ok(())
}
