//! `twinlock key`: the keys that seal secrets in the store.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::{KeyStatusReply, KeyStatusRequest, RotateKeysRequest};
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Which keys there are, and how much each still seals.
    Status,
    /// Makes a new key. What the old ones sealed is sealed anew in the background; logins go on.
    Rotate,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let reply = match command {
        Command::Status => connection.admin.key_status(KeyStatusRequest {}).await?,
        Command::Rotate => {
            let actor = connection.actor.clone();
            connection.admin.rotate_keys(RotateKeysRequest { actor }).await?
        }
    };
    show(output, &reply.into_inner());
    Ok(())
}

fn show(output: Output, reply: &KeyStatusReply) {
    let keys = reply.keys.iter().map(|key| {
        json!({
            "key": key.key_id,
            "created": time(key.created_unix_ms),
            "current": key.current,
            "fields": key.fields,
        })
    });
    output.list(&["key", "created", "current", "fields"], keys.collect(), None);
}
