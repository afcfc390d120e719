//! `twinlock remember`: sign-ins that still count for the next one (FB-03).

use super::{confirmed, user};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::{ClearRememberedRequest, ListRememberedRequest};
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// What counts now.
    List {
        /// Only of this user: an id or any form of the name.
        name: Option<String>,
    },
    /// Forgets it: the next sign-in needs a second factor again.
    Clear {
        /// Of this user: an id or any form of the name.
        #[arg(required_unless_present_any = ["client", "all"])]
        name: Option<String>,
        /// Only at this client.
        #[arg(long)]
        client: Option<String>,
        /// Of everybody, everywhere.
        #[arg(long, conflicts_with_all = ["name", "client"])]
        all: bool,
        #[arg(long)]
        yes: bool,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { name } => {
            let user_id = user::id_or_all(&mut connection, name.as_deref()).await?;
            let reply = connection.admin.list_remembered(ListRememberedRequest { user_id }).await?.into_inner();
            let items = reply.items.iter().map(|item| {
                json!({
                    "user": item.username,
                    "user_id": item.user_id,
                    "client": item.client,
                    "place": item.place,
                    "created": time(item.created_unix_ms),
                    "expires": time(item.expires_unix_ms),
                })
            });
            output.list(&["user", "client", "place", "created", "expires"], items.collect(), None);
        }
        Command::Clear { name, client, all, yes } => {
            if all {
                confirmed("Everybody has to use a second factor at the next sign-in. Go on?", yes)?;
            }
            let user_id = user::id_or_all(&mut connection, name.as_deref()).await?;
            let client = client.unwrap_or_default();
            let request = ClearRememberedRequest { user_id, client, actor: connection.actor.clone() };
            let cleared = connection.admin.clear_remembered(request).await?.into_inner().cleared;
            output.text(&format!("{cleared} forgotten"), &json!({ "cleared": cleared }));
        }
    }
    Ok(())
}
