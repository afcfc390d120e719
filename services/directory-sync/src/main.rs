use directory_sync::{Config, Deps};
use service_kit::{Sections, config};
use std::process::ExitCode;

service_kit::allocator!();

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::exit_code(start().await)
}

async fn start() -> anyhow::Result<()> {
    let config: Config = config::load(&config::Sources::from_process("directory-sync")?)?;
    let sections = Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start("directory-sync", sections).await?;
    let deps = Deps::connect(&config, &process)?;
    directory_sync::run(deps, &process).await
}
