//! `twinlock message`: texts, calls and mails that were sent, and what became of them. Numbers and addresses are masked.

use super::user;
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::ListMessagesRequest;
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The newest first.
    List {
        /// Only to this user: an id or any form of the name.
        name: Option<String>,
        #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let Command::List { name, limit } = command;
    let user_id = user::id_or_all(&mut connection, name.as_deref()).await?;
    let reply = connection.admin.list_messages(ListMessagesRequest { user_id, limit }).await?.into_inner();
    let messages = reply.messages.iter().map(|message| {
        json!({
            "at": time(message.at_unix_ms),
            "channel": message.channel,
            "provider": message.provider,
            "to": message.destination,
            "state": message.state,
            "detail": message.detail,
            "user_id": message.user_id,
            "id": message.message_id,
        })
    });
    output.list(&["at", "channel", "provider", "to", "state", "detail"], messages.collect(), None);
    Ok(())
}
