//! `twinlock target`: who checks passwords beside the directories.

use super::client::settings;
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Subcommand;
use domain::settings::{Settings, Target, TargetKind};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Which there are.
    List,
    /// One target, as it stands in the settings, and the clients that ask it.
    Show { name: String },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let settings = settings(&mut connection).await?;
    match command {
        Command::List => {
            let records = settings.targets.iter().map(|target| summary(&settings, target)).collect();
            output.list(&["name", "kind", "directory", "servers", "clients"], records, None);
        }
        Command::Show { name } => {
            let target = settings.target(&name).ok_or_else(|| {
                let known: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
                Failure::no(format!("no target is called {name:?}; known: {}", known.join(", ")))
            })?;
            let mut record = serde_json::to_value(target).unwrap_or_default();
            record["clients"] = clients(&settings, target);
            output.record(&record);
        }
    }
    Ok(())
}

fn summary(settings: &Settings, target: &Target) -> Value {
    json!({
        "name": target.name,
        "kind": match target.kind {
            TargetKind::Radius => "radius",
            TargetKind::WindowsDomain => "windows_domain",
        },
        "directory": target.directory,
        "servers": target.servers.iter().map(|server| server.place()).collect::<Vec<_>>(),
        "clients": clients(settings, target),
    })
}

/// The clients whose passwords it checks.
fn clients(settings: &Settings, target: &Target) -> Value {
    let of = settings.clients.iter().filter(|client| client.target == target.name);
    of.map(|client| client.name.as_str()).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_listed_with_its_servers_and_clients() {
        let settings: Settings = toml::from_str(
            "[[target]]\nname = \"home\"\nkind = \"radius\"\ndirectory = \"corp\"\n\
             [[target.servers]]\naddress = \"2001:db8::5\"\nsecret = \"keep\"\n\
             [[client]]\nname = \"vpn\"\nprotocol = \"radius\"\ntarget = \"home\"\n\
             [[client]]\nname = \"gitlab\"\nprotocol = \"ldap\"\ntarget = \"corp\"\n",
        )
        .expect("a document");
        assert_eq!(
            summary(&settings, &settings.targets[0]),
            json!({
                "name": "home", "kind": "radius", "directory": "corp", "servers": ["[2001:db8::5]:1812"], "clients": ["vpn"],
            })
        );
    }
}
