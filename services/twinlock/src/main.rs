//! `twinlock`: the whole product in one process, and the command line of a running one.

mod commands;
mod config;
mod connect;
mod failure;
mod output;
mod serve;

use clap::{CommandFactory, Parser, Subcommand};
use commands::{api_key, audit, check, client, factor, health, init, settings, sync, test_login, user};
use config::Config;
use connect::Connection;
use failure::{Exit, Failure};
use output::{Format, Output, say};
use service_kit::config::{ConfigError, Sources, load};
use std::{path::PathBuf, process::ExitCode};

/// A second factor in front of VPNs, Linux hosts and applications, by RADIUS and LDAP.
#[derive(Debug, Parser)]
#[command(name = "twinlock", version, about, max_term_width = 100)]
struct Arguments {
    /// The process configuration; default: $TWINLOCK_CONFIG, /etc/twinlock/twinlock.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// One value of it: --set radius.listen=127.0.0.1:1812
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Default: table on a terminal, json elsewhere.
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in this process.
    Serve,
    /// Writes a first configuration, keys and certificates.
    Init(init::Init),
    /// Checks the configuration, and a settings document, without starting.
    Check(check::Check),
    #[command(subcommand)]
    Settings(settings::Command),
    #[command(subcommand)]
    User(user::Command),
    #[command(subcommand)]
    Factor(factor::Command),
    #[command(subcommand)]
    Client(client::Command),
    #[command(subcommand)]
    Sync(sync::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    #[command(subcommand)]
    ApiKey(api_key::Command),
    /// Does a login for real, as a device or an application would.
    #[command(subcommand)]
    Test(test_login::Command),
    /// Asks a running process whether it is ready.
    Health,
    /// Completions for a shell, to be sourced.
    Completions { shell: clap_complete::Shell },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Serve) {
        let served = async { serve::run(&sources(&arguments)?).await };
        return service_kit::exit_code(served.await);
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("twinlock: {failure}"));
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    service_kit::tls::install_provider();
    let output = Output::new(arguments.output);
    let open = || Connection::open(&configuration(&arguments)?.admin);
    match arguments.command {
        Command::Serve => Err(Failure::wrong_use("serve is started by main")),
        Command::Init(init) => init::run(init, output),
        Command::Check(ref check) => {
            // What is wrong with the configuration is the answer here, not a wrong use.
            configuration(&arguments).map_err(|failure| Failure::no(failure.to_string()))?;
            check::run(check.clone(), open, output).await
        }
        Command::Settings(ref command) => settings::run(command.clone(), open()?, output).await,
        Command::User(ref command) => user::run(command.clone(), open()?, output).await,
        Command::Factor(ref command) => factor::run(command.clone(), open()?, output).await,
        Command::Client(ref command) => client::run(command.clone(), open()?, output).await,
        Command::Sync(ref command) => sync::run(command.clone(), open()?, output).await,
        Command::Audit(ref command) => audit::run(command.clone(), open()?, output).await,
        Command::ApiKey(ref command) => api_key::run(command.clone(), open()?, output).await,
        Command::Test(command) => test_login::run(command, output).await,
        Command::Health => health::run(configuration(&arguments)?.management.listen, output).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "twinlock", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn sources(arguments: &Arguments) -> Result<Sources, ConfigError> {
    let mut leftover: Vec<String> = Vec::new();
    if let Some(file) = &arguments.config {
        leftover.extend(["--config".to_owned(), file.display().to_string()]);
    }
    leftover.extend(arguments.set.iter().flat_map(|pair| ["--set".to_owned(), pair.clone()]));
    Sources::from_arguments("twinlock", leftover.into_iter())
}

fn configuration(arguments: &Arguments) -> Result<Config, Failure> {
    sources(arguments)
        .and_then(|sources| load(&sources))
        .map_err(|error| Failure::new(Exit::WrongUse, sentence(&error)))
}

/// An error with its causes, as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
