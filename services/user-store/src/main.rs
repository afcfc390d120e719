//! Starts the user-store.

use user_store::Config;

service_kit::allocator!();

#[tokio::main]
async fn main() -> std::process::ExitCode {
    service_kit::exit_code(start().await)
}

async fn start() -> anyhow::Result<()> {
    let config: Config = service_kit::config::load(&service_kit::config::Sources::from_process("user-store")?)?;
    let sections = service_kit::Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start("user-store", sections).await?;
    user_store::run(config, &process).await?;
    process.finish().await;
    Ok(())
}
