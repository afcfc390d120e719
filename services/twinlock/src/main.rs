//! `twinlock`: the whole product in one process, and the command line of a running one.

mod commands;
mod config;
mod connect;
mod failure;
mod output;
mod serve;

use clap::{CommandFactory, Parser, Subcommand};
use commands::{
    accounting, api_key, audit, check, client, directory, doctor, factor, health, import, init, key, message, prompt,
    remember, settings, sync, target, test_login, test_send, token, user,
};
use config::{Config, HealthConfig};
use connect::Connection;
use domain::Method;
use failure::{Exit, Failure};
use output::{Format, Output, say};
use serde::de::DeserializeOwned;
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
    /// Everything administrators decide, as one document.
    #[command(subcommand)]
    Settings(settings::Command),
    /// People: find them, see their state, open and close the door, help who cannot get in.
    #[command(subcommand)]
    User(user::Command),
    /// Second factors of a user: enrol, see, take away.
    #[command(subcommand)]
    Factor(factor::Command),
    /// Hardware tokens, from the maker's file to the person who carries one.
    #[command(subcommand)]
    Token(token::Command),
    /// Tokens and users out of another system's file.
    Import(import::Import),
    /// The devices and applications that ask.
    #[command(subcommand)]
    Client(client::Command),
    /// Directories: which there are, and whether one serves as it is wanted.
    #[command(subcommand)]
    Directory(directory::Command),
    /// Who checks passwords beside the directories.
    #[command(subcommand)]
    Target(target::Command),
    /// Sessions as the devices told of them.
    #[command(subcommand)]
    Accounting(accounting::Command),
    /// The questions that phones are asked, and what came of them.
    #[command(subcommand, alias = "challenge")]
    Prompt(prompt::Command),
    /// Sign-ins that still count for the next one.
    #[command(subcommand)]
    Remember(remember::Command),
    /// Texts, calls and mails that were sent, and what became of them.
    #[command(subcommand)]
    Message(message::Command),
    /// Synchronisation with the directories: what it would do, what it did, who waits for an approval.
    #[command(subcommand)]
    Sync(sync::Command),
    /// What happened, in the order it was committed.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Keys of the REST API.
    #[command(subcommand)]
    ApiKey(api_key::Command),
    /// The keys that seal secrets in the store.
    #[command(subcommand)]
    Key(key::Command),
    /// Does the real thing once: a login as a device or an application, a text, a call, a mail, a prompt.
    #[command(subcommand)]
    Test(Test),
    /// Says what a running Twinlock still lacks and what somebody has to look at; exit 1 where there is anything
    Doctor,
    /// Asks a running process whether it is ready.
    Health,
    /// Completions for a shell, to be sourced.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
enum Test {
    /// Plays a VPN: sends an Access-Request, answers a challenge.
    Radius(test_login::RadiusTest),
    /// Plays an application: binds, asks who it is.
    Ldap(test_login::LdapTest),
    /// Texts a number, or a user.
    Sms(test_send::SendTest),
    /// Calls a number, or a user.
    Voice(test_send::SendTest),
    /// Sends a mail.
    #[command(alias = "email")]
    Mail(test_send::MailTest),
    /// Asks a user's phone to approve.
    Push(test_send::PushTest),
}

service_kit::allocator!();

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
    let open = || Connection::open(&configuration::<Config>(&arguments)?.admin);
    match arguments.command {
        Command::Serve => Err(Failure::wrong_use("serve is started by main")),
        Command::Init(init) => init::run(init, output),
        Command::Check(ref check) => {
            // What is wrong with the configuration is the answer here, not a wrong use.
            configuration::<Config>(&arguments).map_err(|failure| Failure::no(failure.to_string()))?;
            check::run(check.clone(), open, output).await
        }
        Command::Settings(ref command) => settings::run(command.clone(), open()?, output).await,
        Command::User(ref command) => user::run(command.clone(), open()?, output).await,
        Command::Factor(ref command) => factor::run(command.clone(), open()?, output).await,
        Command::Token(ref command) => token::run(command.clone(), open()?, output).await,
        Command::Import(ref import) => import::run(import.clone(), open()?, output).await,
        Command::Prompt(ref command) => prompt::run(command.clone(), open()?, output).await,
        Command::Remember(ref command) => remember::run(command.clone(), open()?, output).await,
        Command::Message(ref command) => message::run(command.clone(), open()?, output).await,
        Command::Key(ref command) => key::run(command.clone(), open()?, output).await,
        Command::Client(ref command) => client::run(command.clone(), open()?, output).await,
        Command::Directory(ref command) => directory::run(command.clone(), open()?, output).await,
        Command::Target(ref command) => target::run(command.clone(), open()?, output).await,
        Command::Accounting(ref command) => accounting::run(command.clone(), open()?, output).await,
        Command::Sync(ref command) => sync::run(command.clone(), open()?, output).await,
        Command::Audit(ref command) => audit::run(command.clone(), open()?, output).await,
        Command::ApiKey(ref command) => api_key::run(command.clone(), open()?, output).await,
        Command::Test(Test::Radius(test)) => test_login::radius(test, output).await,
        Command::Test(Test::Ldap(test)) => test_login::ldap(test, output).await,
        Command::Test(Test::Sms(ref test)) => test_send::send("sms", Method::Sms, test.clone(), open()?, output).await,
        Command::Test(Test::Voice(ref test)) => {
            test_send::send("voice", Method::Call, test.clone(), open()?, output).await
        }
        Command::Test(Test::Mail(ref test)) => test_send::mail(test.clone(), open()?, output).await,
        Command::Test(Test::Push(ref test)) => test_send::push(test.clone(), open()?, output).await,
        Command::Doctor => {
            let configuration: Config = configuration(&arguments)?;
            let here = configuration.admin.remote.is_none().then_some(configuration.management.listen);
            doctor::run(here, || Connection::open(&configuration.admin), output).await
        }
        Command::Health => health::run(configuration::<HealthConfig>(&arguments)?.management.listen, output).await,
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

fn configuration<T: DeserializeOwned>(arguments: &Arguments) -> Result<T, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn health_passes_over_what_only_other_parts_have() {
        let variable = |name: &str, value: &str| (format!("TWINLOCK_{name}"), value.to_owned());
        let environment = vec![
            variable("GRPC__LISTEN", "0.0.0.0:7000"),
            variable("ENDPOINTS__USER_STORE", "https://user-store:7000"),
            variable("MANAGEMENT__LISTEN", "127.0.0.1:9091"),
        ];
        let sources = Sources { environment, ..Sources::default() };
        let health: HealthConfig = load(&sources).expect("a part's environment");
        assert_eq!(health.management.listen.port(), 9091);
        assert!(load::<Config>(&sources).is_err(), "for every other command they are mistakes");
    }

    /// One row a command, as the page has it.
    fn rows(command: &clap::Command, path: &str, page: &mut String) {
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                rows(command, &path, page);
                continue;
            }
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "{path} says nothing about itself");
            let needed = command.get_positionals().map(|argument| format!(" {argument}")).collect::<String>();
            page.push_str(&format!(
                "| `{}{}` | {} |\n",
                path.trim_start(),
                needed.replace('|', "\\|"),
                about.replace('|', "\\|")
            ));
        }
    }

    #[test]
    fn the_page_names_every_command() {
        let mut page = String::new();
        let arguments = Arguments::command();
        for command in arguments.get_subcommands() {
            let about = command.get_about().map(ToString::to_string);
            assert!(about.is_some(), "{} says nothing about itself", command.get_name());
        }
        rows(&arguments, "", &mut page);
        let written = include_str!("../../../docs/reference/commands.md");
        let found: String =
            written.lines().filter(|line| line.starts_with("| `")).map(|line| format!("{line}\n")).collect();
        assert!(found == page, "the table of docs/reference/commands.md has to be:\n{page}");
    }

    #[test]
    fn what_a_command_needs_and_what_excludes_what() {
        // Noun, then verb; a reason where somebody is let in or kept out; no secret is an argument.
        let understood = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        for line in [
            "twinlock factor enrol ann",
            "twinlock factor enrol ann --digits 8",
            "twinlock factor enrol ann --method push --kind pi",
            "twinlock factor enrol ann --method sms --number +4930901820 --backup",
            "twinlock factor confirm ann 7",
            "twinlock user block ann --reason lost --for 90d --remove-devices --yes",
            "twinlock user exempt ann --client vpn --client gitlab --reason robot",
            "twinlock user exempt ann --all-clients --reason robot --for 7d",
            "twinlock user exempt ann --end --reason done",
            "twinlock user bypass ann --for 5m --reason phone-forgotten --client vpn",
            "twinlock user bypass ann --end",
            "twinlock user bypass ann --end 7",
            "twinlock user code ann --reason phone-forgotten --uses 3",
            "twinlock user edit ann --phone +4930901820 --allowed-methods push,code --language de",
            "twinlock user pin set ann",
            "twinlock user pin require ann --off",
            "twinlock token import --preset pskc tokens.xml --key-file k --dry-run",
            "twinlock import --preset users-csv people.csv --map Mobile=phone --old-disabled exempt",
            "twinlock challenge list ann --all",
            "twinlock remember clear --client vpn",
            "twinlock remember clear --all --yes",
            "twinlock test email --to ann@example.com",
            "twinlock test sms --user ann",
            "twinlock test voice --to +4930901820 --provider pbx",
            "twinlock key rotate",
            "twinlock client rotate-secret vpn",
            "twinlock client rotate-secret vpn --overlap-days 0 --secret-file -",
            "twinlock client observe vpn on",
            "twinlock client observe vpn on --days 90",
            "twinlock client observe vpn off",
            "twinlock target show home",
            "twinlock sync import corp --into hand ann ben",
            "twinlock sync import corp --into robots ann --reason no-phone",
            "twinlock sync import corp --into hand --filter (department=Sales) --below ou=x,dc=corp --dry-run",
            "twinlock sync import corp --into hand --search archer --update --yes --no-run",
            "twinlock sync owner ann",
            "twinlock sync owner ann --directory corp --settings next.toml",
            "twinlock directory test corp --settings next.toml --user ann --password-file -",
            "twinlock accounting list --client vpn --username ann --session s1 --after 7 -n 10",
        ] {
            assert!(understood(line), "{line}: {:?}", Arguments::try_parse_from(line.split(' ')).err());
        }
        for line in [
            "twinlock factor enrol ann --method sms",
            "twinlock factor enrol ann --method smoke",
            "twinlock user block ann",
            "twinlock user block ann --reason lost --for 1d --until-unblocked",
            "twinlock user exempt ann --reason robot",
            "twinlock user exempt ann --end --client vpn --reason done",
            "twinlock user bypass ann --for 5m",
            "twinlock user bypass ann --end --reason done",
            "twinlock user code ann --reason forgotten --uses 11",
            "twinlock user edit ann",
            "twinlock user edit ann --default-method telepathy",
            "twinlock user pin set ann 7391",
            "twinlock import --preset pskc tokens.xml --key-file k --password-file p",
            "twinlock import --preset users-csv people.csv --map Mobile=shoe",
            "twinlock remember clear",
            "twinlock remember clear ann --all",
            "twinlock test sms",
            "twinlock test sms --user ann --to +4930901820",
            "twinlock test push",
            "twinlock client rotate-secret vpn --overlap-days 91",
            "twinlock directory test corp --password-file -",
            "twinlock sync import corp --into hand",
            "twinlock sync import corp ann",
            "twinlock sync import corp --into hand ann --search archer",
            "twinlock sync owner",
            "twinlock client observe vpn",
            "twinlock client observe vpn on --days 91",
            "twinlock client observe vpn on --days 0",
            "twinlock accounting list -n 1001",
        ] {
            assert!(!understood(line), "{line}");
        }
    }
}
