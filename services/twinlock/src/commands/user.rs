//! `twinlock user`: find people, see their state, open and close the door.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, time},
};
use clap::Subcommand;
use proto::user_store::{
    GetUserRequest, InviteRequest, ListUsersRequest, SetUserStateRequest, UnlockUserRequest, UserDetail,
};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Users, a page at a time.
    List {
        /// Part of a name, mail address or phone number.
        #[arg(default_value = "")]
        search: String,
        #[arg(long, value_parser = ["enabled", "disabled", "removed"])]
        state: Option<String>,
        /// Only those without a second factor.
        #[arg(long)]
        not_enrolled: bool,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[arg(long, default_value = "")]
        after: String,
    },
    /// One user: state, names, factors. NAME is an id or any form of the name.
    Show { name: String },
    /// Lets a disabled user in again.
    Enable {
        name: String,
        #[arg(long)]
        reason: String,
    },
    /// Refuses the user everywhere.
    Disable {
        name: String,
        #[arg(long)]
        reason: String,
    },
    /// Opens a throttled or locked second factor again.
    Unlock { name: String },
    /// Makes an invitation code for the first enrolment in the portal.
    Invite {
        name: String,
        #[arg(long, default_value_t = 48)]
        hours: u32,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { search, state, not_enrolled, limit, after } => {
            let enrolment = if not_enrolled { "not_enrolled" } else { "" }.to_owned();
            let request = ListUsersRequest { search, state: state.unwrap_or_default(), enrolment, after, limit };
            let page = connection.admin.list_users(request).await?.into_inner();
            let users = page.users.iter().map(|user| {
                json!({
                    "username": user.username,
                    "name": format!("{} {}", user.first_name, user.last_name).trim(),
                    "mail": user.mail,
                    "state": user.state,
                    "factors": user.factors,
                    "last_success": time(user.last_success_unix_ms),
                    "directory": user.directory,
                    "id": user.user_id,
                })
            });
            let columns = ["username", "name", "mail", "state", "factors", "last_success"];
            output.list(&columns, users.collect(), Some(page.next.as_str()).filter(|next| !next.is_empty()));
        }
        Command::Show { name } => {
            let user = find(&mut connection, &name).await?;
            output.record(&detail(&user));
        }
        Command::Enable { name, reason } => set_state(&mut connection, output, &name, "enabled", reason).await?,
        Command::Disable { name, reason } => set_state(&mut connection, output, &name, "disabled", reason).await?,
        Command::Unlock { name } => {
            let user_id = id_of(&mut connection, &name).await?;
            let request = UnlockUserRequest { user_id, actor: connection.actor.clone() };
            let user = connection.admin.unlock_user(request).await?.into_inner();
            output.record(&detail(&user));
        }
        Command::Invite { name, hours } => {
            let user_id = id_of(&mut connection, &name).await?;
            let request = InviteRequest { user_id, life_hours: hours, actor: connection.actor.clone() };
            let reply = connection.admin.invite(request).await?.into_inner();
            let code = domain::Secret::from(reply.code.unwrap_or_default());
            let code = code.expose_str().unwrap_or_default();
            output.text(code, &json!({ "code": code, "expires": time(reply.expires_unix_ms) }));
        }
    }
    Ok(())
}

pub async fn find(connection: &mut Connection, name: &str) -> Result<UserDetail, Failure> {
    Ok(connection.admin.get_user(GetUserRequest { name: name.into() }).await?.into_inner())
}

pub async fn id_of(connection: &mut Connection, name: &str) -> Result<String, Failure> {
    let user = find(connection, name).await?.user.unwrap_or_default();
    Ok(user.user_id)
}

async fn set_state(
    connection: &mut Connection,
    output: Output,
    name: &str,
    state: &str,
    reason: String,
) -> Result<(), Failure> {
    let found = find(connection, name).await?;
    let request = SetUserStateRequest {
        user_id: found.user.unwrap_or_default().user_id,
        state: state.into(),
        reason,
        actor: connection.actor.clone(),
        expected_revision: found.revision,
    };
    let user = connection.admin.set_user_state(request).await?.into_inner();
    if output.is_json() {
        line(&detail(&user).to_string());
    }
    Ok(())
}

pub fn detail(detail: &UserDetail) -> Value {
    let user = detail.user.clone().unwrap_or_default();
    let factors: Vec<Value> = detail
        .factors
        .iter()
        .map(|factor| {
            json!({
                "id": factor.factor_id,
                "method": factor.method,
                "form": format!("{} {} digits {} s", factor.algorithm, factor.digits, factor.period_seconds),
                "pending": factor.pending,
                "created": time(factor.created_unix_ms),
                "last_used": time(factor.last_used_unix_ms),
                "failures": factor.consecutive_failures,
                "locked_until": time(factor.locked_until_unix_ms),
            })
        })
        .collect();
    let subject = detail.subject.clone().unwrap_or_default();
    json!({
        "id": user.user_id,
        "username": user.username,
        "name": format!("{} {}", user.first_name, user.last_name).trim(),
        "mail": user.mail,
        "phone": detail.phone,
        "state": user.state,
        "state_text": detail.state_text,
        "directory": subject.directory,
        "directory_id": subject.object_id,
        "dn": detail.distinguished_name,
        "names": detail.names,
        "groups": detail.groups,
        "sync_item": detail.sync_item,
        "last_success": time(user.last_success_unix_ms),
        "factors": factors,
    })
}
