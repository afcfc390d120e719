//! Who is kept out, and who is let in without the second factor: blocked, exempt, a bypass for once, a temporary code (FV-25 to FV-29).

use super::super::{confirmed, from_now, seconds, text_of};
use super::{detail, find, id_of};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Args;
use proto::user_store::{
    BlockUserRequest, EndBypassRequest, ExemptUserRequest, IssueTemporaryCodeRequest, StartBypassRequest,
    UnblockUserRequest,
};
use serde_json::json;

#[derive(Debug, Clone, Args)]
pub struct Block {
    /// An id or any form of the name.
    name: String,
    #[arg(long)]
    reason: String,
    /// 12h, 90d; default: as the settings say.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u32>,
    /// Until somebody unblocks.
    #[arg(long, conflicts_with = "time")]
    until_unblocked: bool,
    /// The phone is lost: its devices are taken away.
    #[arg(long)]
    remove_devices: bool,
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Exempt {
    /// An id or any form of the name.
    name: String,
    /// At this client; several may be named. They replace those of before.
    #[arg(long = "client", required_unless_present_any = ["all_clients", "end"])]
    clients: Vec<String>,
    /// At every client there is and will be.
    #[arg(long, conflicts_with = "clients")]
    all_clients: bool,
    /// Exempt no more.
    #[arg(long, conflicts_with_all = ["clients", "all_clients", "time"])]
    end: bool,
    #[arg(long)]
    reason: String,
    /// 12h, 7d; default: until it is ended.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct Bypass {
    /// An id or any form of the name.
    name: String,
    /// 5m, 1h; default: 5 minutes.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u32>,
    #[arg(long, required_unless_present = "end")]
    reason: Option<String>,
    /// Only at this client.
    #[arg(long, default_value = "")]
    client: String,
    /// Takes back what is open, or only this one.
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["time", "reason"])]
    end: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Code {
    /// An id or any form of the name.
    name: String,
    #[arg(long)]
    reason: String,
    /// 5m to 24h; default: 1 hour.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u32>,
    /// How often it may be used.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    uses: u32,
}

pub async fn block(block: Block, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    if block.remove_devices {
        confirmed(
            &format!("The devices of {} are gone then, and have to be enrolled anew. Go on?", block.name),
            block.yes,
        )?;
    }
    let request = BlockUserRequest {
        user_id: id_of(connection, &block.name).await?,
        reason: block.reason,
        until_unix_ms: match block.time {
            _ if block.until_unblocked => -1,
            Some(seconds) => from_now(seconds),
            None => 0,
        },
        actor: connection.actor.clone(),
        remove_devices: block.remove_devices,
    };
    output.record(&detail(&connection.admin.block_user(request).await?.into_inner()));
    Ok(())
}

pub async fn unblock(name: &str, reason: String, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let user_id = id_of(connection, name).await?;
    let request = UnblockUserRequest { user_id, reason, actor: connection.actor.clone() };
    output.record(&detail(&connection.admin.unblock_user(request).await?.into_inner()));
    Ok(())
}

pub async fn exempt(exempt: Exempt, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let request = ExemptUserRequest {
        user_id: id_of(connection, &exempt.name).await?,
        clients: if exempt.all_clients { vec!["*".into()] } else { exempt.clients },
        until_unix_ms: exempt.time.map_or(0, from_now),
        reason: exempt.reason,
        actor: connection.actor.clone(),
    };
    output.record(&detail(&connection.admin.exempt_user(request).await?.into_inner()));
    Ok(())
}

pub async fn bypass(bypass: Bypass, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    if let Some(which) = bypass.end {
        return end(&bypass.name, which, connection, output).await;
    }
    let request = StartBypassRequest {
        user_id: id_of(connection, &bypass.name).await?,
        seconds: bypass.time.unwrap_or(0),
        client: bypass.client,
        reason: bypass.reason.unwrap_or_default(),
        actor,
    };
    let reply = connection.admin.start_bypass(request).await?.into_inner();
    let expires = time(reply.expires_unix_ms);
    output.text(
        &format!("the next sign-in until {} needs the password alone", expires.as_str().unwrap_or("it is used")),
        &json!({ "bypass_id": reply.bypass_id, "expires": expires }),
    );
    Ok(())
}

/// The one that is named, or every one that is open.
async fn end(name: &str, which: String, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let found = find(connection, name).await?;
    let user_id = found.user.unwrap_or_default().user_id;
    let open = found.bypasses.into_iter().filter(|open| which.is_empty() || open.bypass_id == which);
    let open: Vec<String> = open.map(|open| open.bypass_id).collect();
    if open.is_empty() {
        return Err(Failure::no(format!("{name} has no such bypass")));
    }
    for bypass_id in &open {
        let request = EndBypassRequest {
            user_id: user_id.clone(),
            bypass_id: bypass_id.clone(),
            actor: connection.actor.clone(),
        };
        connection.admin.end_bypass(request).await?;
    }
    output.text(&format!("{} ended", open.len()), &json!({ "ended": open }));
    Ok(())
}

pub async fn code(code: Code, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let request = IssueTemporaryCodeRequest {
        user_id: id_of(connection, &code.name).await?,
        uses: code.uses,
        seconds: code.time.unwrap_or(0),
        reason: code.reason,
        actor: connection.actor.clone(),
    };
    let reply = connection.admin.issue_temporary_code(request).await?.into_inner();
    let text = text_of(reply.code);
    output.text(&text, &json!({ "code": text, "uses": code.uses, "expires": time(reply.expires_unix_ms) }));
    Ok(())
}
