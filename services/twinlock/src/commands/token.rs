//! `twinlock token`: hardware tokens, from the maker's file to the person who carries one (FV-07).

use super::{ask_secret, confirmed, import, user, wire};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use domain::{Reason, Secret};
use proto::{
    user_store::{AssignTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenSummary, UnassignTokenRequest},
    verification::{FindTokenRequest, ResyncRequest},
};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Tokens, a page at a time.
    List {
        /// Part of a serial.
        #[arg(default_value = "")]
        search: String,
        #[arg(long, value_parser = ["assigned", "unassigned"])]
        state: Option<String>,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[arg(long, default_value = "")]
        after: String,
    },
    /// One token, by its serial. Its secret is shown to nobody.
    Show { serial: String },
    /// Gives a token to a user. It counts once a code of it was proven.
    Assign {
        serial: String,
        /// An id or any form of the name.
        name: String,
    },
    /// Proves a code of an assigned token, so that it counts. The code is read from stdin.
    Confirm { serial: String },
    /// Takes a token from its user; it can be given to somebody else.
    Unassign {
        serial: String,
        #[arg(long)]
        yes: bool,
    },
    /// Puts a token right whose clock or counter ran away: two codes in a row, a line each on stdin.
    Resync { serial: String },
    /// Removes a token and its secret for good.
    Revoke {
        serial: String,
        #[arg(long)]
        yes: bool,
    },
    /// Which tokens show this code now? The code is read from stdin.
    FindByCode,
    /// Tokens from a file: `twinlock import`.
    Import(import::Import),
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    match command {
        Command::List { search, state, limit, after } => {
            let request = ListTokensRequest { search, state: state.unwrap_or_default(), after, limit };
            let page = connection.admin.list_tokens(request).await?.into_inner();
            let tokens = page.tokens.iter().map(record).collect();
            let columns = ["serial", "kind", "form", "user", "pending", "last_used", "manufacturer", "model"];
            output.list(&columns, tokens, Some(page.next.as_str()).filter(|next| !next.is_empty()));
        }
        Command::Show { serial } => output.record(&record(&find(&mut connection, &serial).await?)),
        Command::Assign { serial, name } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let request = AssignTokenRequest { serial, user_id, actor };
            output.record(&record(&connection.admin.assign_token(request).await?.into_inner()));
        }
        Command::Confirm { serial } => {
            let token = of_somebody(&mut connection, &serial).await?;
            let code = ask_secret("Code the token shows now")?;
            super::factor::confirm(&mut connection, &token.user_id, &token.factor_id, &code).await?;
            output.text("confirmed", &json!({ "serial": token.serial, "confirmed": true }));
        }
        Command::Unassign { serial, yes } => {
            let token = of_somebody(&mut connection, &serial).await?;
            confirmed(&format!("{} can sign in with {serial} no more. Take it away?", token.username), yes)?;
            let request = UnassignTokenRequest { serial, actor };
            output.record(&record(&connection.admin.unassign_token(request).await?.into_inner()));
        }
        Command::Resync { serial } => {
            let token = of_somebody(&mut connection, &serial).await?;
            let codes = [ask_secret("Code the token shows now")?, ask_secret("The next one")?];
            let request = ResyncRequest {
                user_id: token.user_id,
                factor_id: token.factor_id,
                codes: codes.iter().filter_map(wire).collect(),
                actor,
            };
            let reply = connection.enrolment.resync(request).await?.into_inner();
            if !reply.done {
                return Err(Failure::no(Reason::from_code(&reply.reason).sentence()));
            }
            output.text("in step again", &json!({ "serial": serial, "done": true }));
        }
        Command::Revoke { serial, yes } => {
            confirmed(&format!("{serial} and its secret are gone for good. Revoke it?"), yes)?;
            connection.admin.revoke_token(RevokeTokenRequest { serial: serial.clone(), actor }).await?;
            output.text("revoked", &json!({ "serial": serial, "revoked": true }));
        }
        Command::FindByCode => {
            let code: Secret = ask_secret("Code the token shows now")?;
            let request = FindTokenRequest { code: wire(&code), actor };
            let serials = connection.enrolment.find_token(request).await?.into_inner().serials;
            if serials.is_empty() {
                return Err(Failure::no("no token shows this code now"));
            }
            let found = serials.iter().map(|serial| json!({ "serial": serial })).collect();
            output.list(&["serial"], found, None);
        }
        Command::Import(import) => return import::run(import, connection, output).await,
    }
    Ok(())
}

/// The token with exactly this serial.
async fn find(connection: &mut Connection, serial: &str) -> Result<TokenSummary, Failure> {
    let mut after = String::new();
    loop {
        let request = ListTokensRequest { search: serial.into(), state: String::new(), after, limit: 1000 };
        let page = connection.admin.list_tokens(request).await?.into_inner();
        if let Some(found) = page.tokens.into_iter().find(|token| token.serial.eq_ignore_ascii_case(serial)) {
            return Ok(found);
        }
        if page.next.is_empty() {
            return Err(Failure::no(format!("no token has the serial {serial:?}")));
        }
        after = page.next;
    }
}

async fn of_somebody(connection: &mut Connection, serial: &str) -> Result<TokenSummary, Failure> {
    let token = find(connection, serial).await?;
    match token.user_id.is_empty() {
        true => Err(Failure::no(format!("{serial} is nobody's; twinlock token assign {serial} NAME"))),
        false => Ok(token),
    }
}

fn record(token: &TokenSummary) -> Value {
    let form = match token.kind.as_str() {
        "hotp" => format!("{} {} digits", token.algorithm, token.digits),
        _ => format!("{} {} digits {} s", token.algorithm, token.digits, token.period_seconds),
    };
    json!({
        "serial": token.serial,
        "kind": token.kind,
        "form": form,
        "user": token.username,
        "user_id": token.user_id,
        "pending": token.pending,
        "created": time(token.created_unix_ms),
        "last_used": time(token.last_used_unix_ms),
        "manufacturer": token.manufacturer,
        "model": token.model,
        "factor_id": token.factor_id,
    })
}
