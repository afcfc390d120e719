//! `twinlock target`: who checks passwords beside the directories.

use super::client::settings;
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, time},
};
use clap::Subcommand;
use domain::settings::{Settings, Target, TargetKind};
use portal::told;
use proto::user_store::{HomeServerDetail, HomeServerSeen, ListClientsRequest};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Which there are.
    List,
    /// One target: its settings, the clients that ask it, how each node finds its servers, what they taught, and what should be changed.
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
            let known = connection.admin.list_clients(ListClientsRequest::default()).await?.into_inner().home_servers;
            let known: Vec<_> = known.into_iter().filter(|server| server.target == target.name.as_str()).collect();
            if output.is_json() {
                record["seen"] = known.iter().map(seen).collect::<Vec<_>>().into();
            }
            output.record(&record);
            if !output.is_json() {
                known.iter().flat_map(lines).for_each(|text| line(&printable(&text)));
            }
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

/// What is known of a server beside its settings.
fn seen(server: &HomeServerDetail) -> Value {
    let at_nodes = server.seen.iter().map(|seen| {
        json!({
            "node": seen.node, "at": time(seen.at_unix_ms), "state": seen.state, "accounting_state": seen.accounting_state,
        })
    });
    json!({
        "server": server.place,
        "nodes": at_nodes.collect::<Vec<_>>(),
        "learned_message_authenticator":
            Some(&server.learned_message_authenticator).filter(|learned| !learned.is_empty()),
        "warnings": server.warnings,
    })
}

/// The same for people.
fn lines(server: &HomeServerDetail) -> Vec<String> {
    let place = &server.place;
    let state = |seen: &HomeServerSeen| format!("server {place}, node {}: {}", seen.node, told::of_home_server(seen));
    let mut lines: Vec<_> = server.seen.iter().map(state).collect();
    if !server.learned_message_authenticator.is_empty() {
        lines.push(format!(
            "server {}: message_authenticator learnt: {}",
            server.place, server.learned_message_authenticator
        ));
    }
    lines.extend(server.warnings.iter().map(|text| format!("warning: server {}: {text}", server.place)));
    lines
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
    fn what_a_server_taught_is_shown_with_its_warnings() {
        //
        let server = HomeServerDetail {
            target: "nps".into(),
            place: "10.0.0.5:1812".into(),
            learned_message_authenticator: "no".into(),
            warnings: vec!["answers without".into()],
            seen: vec![HomeServerSeen {
                node: "gw-1".into(),
                at_unix_ms: 1_795_176_000_000,
                state: "alive".into(),
                accounting_state: "alive".into(),
            }],
        };
        let at_nodes =
            json!([{ "node": "gw-1", "at": "2026-11-20T12:00:00Z", "state": "alive", "accounting_state": "alive" }]);
        assert_eq!(seen(&server)["nodes"], at_nodes);
        assert_eq!(
            lines(&server),
            [
                "server 10.0.0.5:1812, node gw-1: alive",
                "server 10.0.0.5:1812: message_authenticator learnt: no",
                "warning: server 10.0.0.5:1812: answers without"
            ]
        );
        assert_eq!(seen(&server)["learned_message_authenticator"], "no");
        let quiet = HomeServerDetail { place: "10.0.0.6:1812".into(), ..HomeServerDetail::default() };
        assert_eq!(lines(&quiet), [""; 0]);
        assert_eq!(seen(&quiet)["learned_message_authenticator"], Value::Null);
    }

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
