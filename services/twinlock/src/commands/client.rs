//! `twinlock client`: the devices and applications that ask.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line},
};
use clap::Subcommand;
use domain::settings::{Client, Settings};
use proto::user_store::{ExportSettingsRequest, RotateClientSecretRequest};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    List,
    /// One client, as it stands in the settings.
    Show {
        name: String,
    },
    /// A new shared secret for a RADIUS client, shown once. The old one stops working at once.
    RotateSecret {
        name: String,
        /// Take it from this file (`-` = stdin) instead of making one.
        #[arg(long)]
        secret_file: Option<PathBuf>,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List => {
            let settings = settings(&mut connection).await?;
            let clients = settings.clients.iter().map(record).collect();
            output.list(&["name", "protocol", "application", "sources", "target", "appended"], clients, None);
        }
        Command::Show { name } => {
            let settings = settings(&mut connection).await?;
            let client = settings.client(&name).ok_or_else(|| {
                let known: Vec<&str> = settings.clients.iter().map(|client| client.name.as_str()).collect();
                Failure::no(format!("no client is called {name:?}; known: {}", known.join(", ")))
            })?;
            output.record(&record(client));
        }
        Command::RotateSecret { name, secret_file } => {
            let given = secret_file.map(|file| super::secret_from(&file, "shared secret")).transpose()?;
            let shown = given.is_none();
            let request = RotateClientSecretRequest {
                client: name.clone(),
                secret: given.as_ref().and_then(super::wire),
                actor: connection.actor.clone(),
            };
            let reply = connection.admin.rotate_client_secret(request).await?.into_inner();
            let secret = domain::Secret::from(reply.secret.unwrap_or_default());
            let text = if shown { secret.expose_str().unwrap_or_default() } else { "" };
            output.text(text, &json!({ "client": name, "secret": text, "revision": reply.revision }));
        }
    }
    Ok(())
}

async fn settings(connection: &mut Connection) -> Result<Settings, Failure> {
    let reply = connection.admin.export_settings(ExportSettingsRequest {}).await?.into_inner();
    toml::from_str(&reply.document).map_err(|error| Failure::no(format!("the settings cannot be read: {error}")))
}

fn record(client: &Client) -> Value {
    let mut record = serde_json::to_value(client).unwrap_or_else(|error| {
        line(&error.to_string());
        Value::Null
    });
    record["application"] = client.application().into();
    record
}
