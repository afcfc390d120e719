//! `twinlock api-key`: keys of the REST API. A key is shown once; the store keeps its hash.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::{CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest};
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes a key and shows it, once.
    Create {
        name: String,
        #[arg(long, default_value = "auditor", value_parser = ["owner", "admin", "user_manager", "help_desk", "auditor", "application"])]
        role: String,
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
    /// Keys, their roles and when they were last used.
    List,
    /// Makes a key worthless, at once.
    Revoke { name: String },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    match command {
        Command::Create { name, role, days } => {
            let request = CreateApiKeyRequest { name: name.clone(), role: role.clone(), life_days: days, actor };
            let reply = connection.admin.create_api_key(request).await?.into_inner();
            let key = domain::Secret::from(reply.key.unwrap_or_default());
            let key = key.expose_str().unwrap_or_default();
            output
                .text(key, &json!({ "name": name, "role": role, "key": key, "expires": time(reply.expires_unix_ms) }));
        }
        Command::List => {
            let keys = connection.admin.list_api_keys(ListApiKeysRequest {}).await?.into_inner().keys;
            let records = keys.iter().map(|key| {
                json!({
                    "name": key.name, "role": key.role, "created": time(key.created_unix_ms),
                    "expires": time(key.expires_unix_ms), "last_used": time(key.last_used_unix_ms),
                })
            });
            output.list(&["name", "role", "created", "expires", "last_used"], records.collect(), None);
        }
        Command::Revoke { name } => {
            connection.admin.revoke_api_key(RevokeApiKeyRequest { name: name.clone(), actor }).await?;
            output.text("revoked", &json!({ "name": name, "revoked": true }));
        }
    }
    Ok(())
}
