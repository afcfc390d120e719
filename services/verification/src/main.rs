use service_kit::{Sections, config};
use std::process::ExitCode;
use verification::{Config, Deps};

service_kit::allocator!();

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::exit_code(start().await)
}

async fn start() -> anyhow::Result<()> {
    let config: Config = config::load(&config::Sources::from_process("verification")?)?;
    let sections = Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start("verification", sections).await?;
    let deps = Deps::connect(&config, &process)?;
    verification::run(config, deps, &process).await
}
