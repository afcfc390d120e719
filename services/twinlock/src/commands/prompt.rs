//! `twinlock prompt`: the questions that phones are asked, and what came of them.

use super::user;
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::{ListPromptsRequest, Prompt};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// What is open now; the newest first.
    List {
        /// Only of this user: an id or any form of the name.
        name: Option<String>,
        /// Those that are over too.
        #[arg(long)]
        all: bool,
        #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let Command::List { name, all, limit } = command;
    let user_id = user::id_or_all(&mut connection, name.as_deref()).await?;
    let request = ListPromptsRequest { user_id, open_only: !all, limit };
    let reply = connection.admin.list_prompts(request).await?.into_inner();
    let prompts = reply.prompts.iter().map(record).collect();
    output.list(&["begun", "user", "method", "application", "outcome", "answered_by", "expires"], prompts, None);
    Ok(())
}

/// Never the number: whoever reads it here could tell it to the person who is asked.
fn record(prompt: &Prompt) -> Value {
    json!({
        "id": prompt.prompt_id,
        "begun": time(prompt.begun_unix_ms),
        "expires": time(prompt.expires_unix_ms),
        "user": prompt.username,
        "user_id": prompt.user_id,
        "method": prompt.method,
        "client": prompt.client,
        "application": prompt.application,
        "place": prompt.place,
        "outcome": if prompt.outcome.is_empty() { "open" } else { prompt.outcome.as_str() },
        "answered": time(prompt.answered_unix_ms),
        "answered_by": prompt.answered_by,
        "assurance": prompt.assurance,
        "request": prompt.transaction_id,
    })
}
