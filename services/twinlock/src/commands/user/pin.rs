//! `twinlock user pin`: a PIN is set, never shown again; the person changes a given one at its first use (FV-21).

use super::super::{ask_secret, confirmed, text_of, wire};
use super::{detail, id_of};
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Subcommand;
use proto::user_store::{EditUserRequest, ResetPinRequest};
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes a random PIN, shown once, to be changed at its first use.
    Reset {
        name: String,
        #[arg(long)]
        yes: bool,
    },
    /// Sets the PIN that is read from stdin.
    Set { name: String },
    /// The user has to use a PIN; with --off, no more.
    Require {
        name: String,
        #[arg(long)]
        off: bool,
    },
}

pub async fn run(command: Command, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    match command {
        Command::Reset { name, yes } => {
            confirmed(&format!("The PIN that {name} has is void then. Make a new one?"), yes)?;
            let user_id = id_of(connection, &name).await?;
            let request = ResetPinRequest { user_id, pin: None, actor };
            let pin = text_of(connection.admin.reset_pin(request).await?.into_inner().pin);
            output.text(&pin, &json!({ "pin": pin, "must_change": true }));
        }
        Command::Set { name } => {
            let user_id = id_of(connection, &name).await?;
            let pin = ask_secret("New PIN")?;
            let request = ResetPinRequest { user_id, pin: wire(&pin), actor };
            let reply = connection.admin.reset_pin(request).await?.into_inner();
            if !reply.rule.is_empty() {
                return Err(Failure::no(reply.rule));
            }
            output.text("set", &json!({ "set": true }));
        }
        Command::Require { name, off } => {
            let user_id = id_of(connection, &name).await?;
            let request = EditUserRequest { user_id, actor, pin_required: Some(!off), ..EditUserRequest::default() };
            output.record(&detail(&connection.admin.edit_user(request).await?.into_inner()));
        }
    }
    Ok(())
}
