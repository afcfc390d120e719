//! `twinlock client`: the devices and applications that ask.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, say, time},
};
use clap::{Subcommand, ValueEnum};
use domain::settings::Settings;
use portal::told;
use proto::user_store::{
    ClientDetail, ExportSettingsRequest, ListClientsRequest, NodeReport, ObserveClientRequest,
    RotateClientSecretRequest,
};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// All of them, with what should be changed.
    List,
    /// One client: its settings, what the nodes see of it, and what should be changed.
    Show { name: String },
    /// A new shared secret for a RADIUS client, shown once. The one before counts for some days more, so that the device can be
    /// changed meanwhile.
    RotateSecret {
        name: String,
        /// Take it from this file (`-` = stdin) instead of making one.
        #[arg(long)]
        secret_file: Option<PathBuf>,
        /// For so many days the one before counts too, 1-90; 0 = it is void at once.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=90))]
        overlap_days: u32,
    },
    /// Observed only, the password alone decides, and what the second factor would have done is logged. Nobody is asked.
    Observe {
        name: String,
        switch: Switch,
        /// It ends by itself after so many days, 1-90.
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=90))]
        days: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List => {
            let clients = connection.admin.list_clients(ListClientsRequest::default()).await?.into_inner().clients;
            let columns = ["name", "protocol", "application", "sources", "target", "last_seen", "warnings"];
            let records = clients.iter().map(|client| match output.is_json() {
                true => record(client),
                // A table has no room for sentences.
                false => {
                    let mut record = record(client);
                    record["warnings"] = match client.warnings.len() {
                        0 => Value::Null,
                        count => count.into(),
                    };
                    record
                }
            });
            output.list(&columns, records.collect(), None);
        }
        Command::Show { name } => show(&mut connection, output, name).await?,
        Command::RotateSecret { name, secret_file, overlap_days } => {
            let given = secret_file.map(|file| super::secret_from(&file, "shared secret")).transpose()?;
            let shown = given.is_none();
            let request = RotateClientSecretRequest {
                client: name.clone(),
                secret: given.as_ref().and_then(super::wire),
                actor: connection.actor.clone(),
                overlap_days,
            };
            let reply = connection.admin.rotate_client_secret(request).await?.into_inner();
            let secret = domain::Secret::from(reply.secret.unwrap_or_default());
            let text = if shown { secret.expose_str().unwrap_or_default() } else { "" };
            let previous_until = time(reply.previous_until_unix_ms);
            match &previous_until {
                Value::String(until) => say(&format!("the secret before counts until {until}")),
                _ => say("the secret before is void"),
            }
            output.text(
                text,
                &json!({ "client": name, "secret": text, "revision": reply.revision, "previous_until": previous_until }),
            );
        }
        Command::Observe { name, switch, days } => {
            let days = if switch == Switch::On { days } else { 0 };
            let request = ObserveClientRequest { client: name.clone(), days, actor: connection.actor.clone() };
            let reply = connection.admin.observe_client(request).await?.into_inner();
            let until = Some(reply.observe_until).filter(|until| !until.is_empty());
            let text = match &until {
                Some(until) => format!("{name}: until {until} the password alone lets people in; nobody is asked"),
                None => format!("{name}: the second factor is asked for"),
            };
            output.text(&text, &json!({ "client": name, "observe_until": until, "revision": reply.revision }));
        }
    }
    Ok(())
}

async fn show(connection: &mut Connection, output: Output, name: String) -> Result<(), Failure> {
    let settings = settings(connection).await?;
    let client = settings.client(&name).ok_or_else(|| {
        let known: Vec<&str> = settings.clients.iter().map(|client| client.name.as_str()).collect();
        Failure::no(format!("no client is called {name:?}; known: {}", known.join(", ")))
    })?;
    let mut written = serde_json::to_value(client).unwrap_or_default();
    written["application"] = client.application().into();
    let detail = connection.admin.list_clients(ListClientsRequest { name }).await?.into_inner().clients.pop();
    let detail = detail.ok_or_else(|| Failure::no("the client is gone"))?;
    if output.is_json() {
        merge(&mut written, seen(&detail));
        output.record(&written);
        return Ok(());
    }
    output.record(&written);
    for text in lines(&detail) {
        line(&printable(&text));
    }
    Ok(())
}

pub async fn settings(connection: &mut Connection) -> Result<Settings, Failure> {
    let reply = connection.admin.export_settings(ExportSettingsRequest {}).await?.into_inner();
    toml::from_str(&reply.document).map_err(|error| Failure::no(format!("the settings cannot be read: {error}")))
}

fn merge(record: &mut Value, more: Value) {
    if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
        record.extend(more);
    }
}

fn record(client: &ClientDetail) -> Value {
    let mut record = json!({
        "name": client.name,
        "protocol": client.protocol,
        "application": client.application,
        "sources": client.sources,
        "target": client.target,
    });
    merge(&mut record, seen(client));
    record
}

/// What is known of a client beside its settings.
fn seen(client: &ClientDetail) -> Value {
    let reports = client.reports.iter().map(|node| {
        let NodeReport { node, at_unix_ms, report } = node;
        let report = report.clone().unwrap_or_default();
        json!({
            "node": node,
            "at": time(*at_unix_ms),
            "last_seen": time(report.last_seen_unix_ms),
            "protocols": report.protocols,
            "signed": report.signed,
            "unsigned": report.unsigned,
            "unsigned_with_proxy_state": report.unsigned_with_proxy_state,
            "retry_interval_ms": known(report.retry_interval_ms),
            "waits_ms": known(report.waits_ms),
            "retries_anew": report.retries_anew,
            "retries_elsewhere": report.retries_elsewhere,
            "dropped": report.dropped,
        })
    });
    json!({
        "last_seen": time(client.last_seen_unix_ms),
        "learned_message_authenticator":
            Some(&client.learned_message_authenticator).filter(|learned| !learned.is_empty()),
        "previous_secret_until": time(client.previous_secret_until_unix_ms),
        "warnings": client.warnings,
        "weaknesses": client.weaknesses,
        "reports": reports.collect::<Vec<_>>(),
    })
}

fn known(milliseconds: u32) -> Option<u32> {
    Some(milliseconds).filter(|milliseconds| *milliseconds > 0)
}

/// What is known of a client, for people: a line a fact, the warnings last.
fn lines(client: &ClientDetail) -> Vec<String> {
    let mut lines = vec![String::new()];
    if client.protocol == "radius" {
        lines.push(match time(client.last_seen_unix_ms) {
            Value::String(at) => format!("last seen {at}"),
            _ => "never seen".to_owned(),
        });
        if !client.learned_message_authenticator.is_empty() {
            lines.push(format!("message_authenticator learnt: {}", client.learned_message_authenticator));
        }
        if let Value::String(until) = time(client.previous_secret_until_unix_ms) {
            lines.push(format!("the secret before counts until {until}"));
        }
        for node in &client.reports {
            let report = node.report.clone().unwrap_or_default();
            lines.push(format!("node {}:", node.node));
            lines.extend(told::of_client(&report).into_iter().map(|text| format!("  {text}")));
        }
    }
    match client.warnings.as_slice() {
        [] => lines.push("nothing needs to be changed".to_owned()),
        warnings => lines.extend(warnings.iter().map(|text| format!("warning: {text}"))),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::ClientReport;

    #[test]
    fn what_is_known_of_a_client_is_told_in_lines() {
        //
        let report = ClientReport {
            protocols: vec!["pap".into()],
            signed: 7,
            unsigned: 1,
            retry_interval_ms: 5_040,
            waits_ms: 15_120,
            retries_elsewhere: true,
            dropped: [("ma_bad".to_owned(), 2), ("len".to_owned(), 1)].into(),
            ..ClientReport::default()
        };
        let client = ClientDetail {
            protocol: "radius".into(),
            last_seen_unix_ms: 1_795_176_000_000,
            learned_message_authenticator: "yes".into(),
            previous_secret_until_unix_ms: 1_795_262_400_000,
            reports: vec![NodeReport { node: "a".into(), at_unix_ms: 1, report: Some(report) }],
            warnings: vec!["gives up".into()],
            ..ClientDetail::default()
        };
        assert_eq!(
            lines(&client),
            [
                "",
                "last seen 2026-11-20T12:00:00Z",
                "message_authenticator learnt: yes",
                "the secret before counts until 2026-11-21T12:00:00Z",
                "node a:",
                "  sends pap",
                "  requests with Message-Authenticator 7, without 1",
                "  tries again after 5.0 s, with the same request",
                "  tries again at other nodes too",
                "  waits 15.1 s for an answer",
                "  packets without an answer: len 1, ma_bad 2",
                "warning: gives up",
            ]
        );
        let unseen = ClientDetail { protocol: "radius".into(), ..ClientDetail::default() };
        assert_eq!(lines(&unseen), ["", "never seen", "nothing needs to be changed"]);
        let ldap = ClientDetail { protocol: "ldap".into(), ..ClientDetail::default() };
        assert_eq!(lines(&ldap), ["", "nothing needs to be changed"]);
        assert_eq!(seen(&client)["reports"][0]["dropped"], json!({ "len": 1, "ma_bad": 2 }));
        assert_eq!(seen(&unseen)["last_seen"], Value::Null);
    }
}
