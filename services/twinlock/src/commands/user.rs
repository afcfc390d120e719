//! `twinlock user`: find people, see their state, open and close the door, help who cannot get in.

mod create;
mod detail;
mod edit;
mod passes;
mod pin;

pub use detail::detail;

use super::{confirmed, test_send, text_of};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, time},
};
use clap::Subcommand;
use domain::Method;
use proto::{
    user_store::{
        GetUserRequest, InviteRequest, ListUsersRequest, SetAnswersRequest, SetUserStateRequest, UnlockUserRequest,
        UserDetail,
    },
    verification::NewRecoveryCodesRequest,
};
use serde_json::json;

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
        /// Only those with this label, of the directory or the sync item.
        #[arg(long, default_value = "", value_name = "LABEL")]
        user_group: String,
        /// Only those whose username another entry of their directory has, too.
        #[arg(long)]
        sync_problem: bool,
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
    /// Opens a throttled or locked second factor or PIN again.
    Unlock { name: String },
    /// Makes a user by hand; `edit` and the others say the rest.
    Create(create::Create),
    /// Changes phones, languages, methods; what is not named stays as it is.
    Edit(Box<edit::Edit>),
    /// Refuses everything of this user before any prompt, for a time.
    Block(passes::Block),
    /// Lets a blocked user in again.
    Unblock {
        name: String,
        #[arg(long)]
        reason: String,
    },
    /// Never asks this user for a second factor at some clients.
    Exempt(passes::Exempt),
    /// Lets the user in once on the password alone; --end takes it back.
    Bypass(passes::Bypass),
    /// Makes a temporary code that stands for the second factor.
    Code(passes::Code),
    /// The user's PIN.
    #[command(subcommand)]
    Pin(pin::Command),
    /// Makes ten new recovery codes, shown once. The old ones are void.
    Recovery {
        name: String,
        #[arg(long)]
        yes: bool,
    },
    /// Sets the answers to security questions: a line each on stdin, in the order of the questions.
    Answers {
        name: String,
        #[arg(long = "question", required = true)]
        questions: Vec<String>,
    },
    /// Asks the phone of somebody who is calling, to see that it is them.
    Verify {
        name: String,
        #[arg(long, default_value = "push", value_parser = ["push", "sms", "call"])]
        method: String,
    },
    /// Makes an invitation code for the first enrolment in the portal.
    Invite {
        name: String,
        #[arg(long, default_value_t = 48)]
        hours: u32,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { search, state, not_enrolled, user_group, sync_problem, limit, after } => {
            let enrolment = if not_enrolled { "not_enrolled" } else { "" }.to_owned();
            let state = state.unwrap_or_default();
            let request = ListUsersRequest { search, state, enrolment, after, limit, user_group, sync_problem };
            let page = connection.admin.list_users(request).await?.into_inner();
            let users = page.users.iter().map(|user| {
                json!({
                    "username": user.username,
                    "name": format!("{} {}", user.first_name, user.last_name).trim(),
                    "mail": user.mail,
                    "state": user.state,
                    "user_group": user.user_group,
                    "sync_problem": user.sync_problem,
                    "factors": user.factors,
                    "last_success": time(user.last_success_unix_ms),
                    "directory": user.directory,
                    "id": user.user_id,
                })
            });
            let last = if sync_problem { "sync_problem" } else { "last_success" };
            let columns = ["username", "name", "mail", "state", "factors", last];
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
            let code = text_of(reply.code);
            output.text(&code, &json!({ "code": code, "expires": time(reply.expires_unix_ms) }));
        }
        Command::Create(new) => create::run(new, &mut connection, output).await?,
        Command::Edit(edit) => edit::run(*edit, &mut connection, output).await?,
        Command::Block(block) => passes::block(block, &mut connection, output).await?,
        Command::Unblock { name, reason } => passes::unblock(&name, reason, &mut connection, output).await?,
        Command::Exempt(exempt) => passes::exempt(exempt, &mut connection, output).await?,
        Command::Bypass(bypass) => passes::bypass(bypass, &mut connection, output).await?,
        Command::Code(code) => passes::code(code, &mut connection, output).await?,
        Command::Pin(command) => pin::run(command, &mut connection, output).await?,
        Command::Recovery { name, yes } => {
            confirmed(&format!("The recovery codes that {name} has are void then. Make new ones?"), yes)?;
            let user_id = id_of(&mut connection, &name).await?;
            let request = NewRecoveryCodesRequest { user_id, actor: connection.actor.clone() };
            let reply = connection.enrolment.new_recovery_codes(request).await?.into_inner();
            let codes: Vec<String> = reply.codes.into_iter().map(|code| text_of(Some(code))).collect();
            output.text(&codes.join("\n"), &json!({ "codes": codes }));
        }
        Command::Answers { name, questions } => {
            let user_id = id_of(&mut connection, &name).await?;
            let answers = questions.iter().map(|question| super::ask_secret(question));
            let answers = answers.collect::<Result<Vec<_>, _>>()?;
            let request = SetAnswersRequest {
                user_id,
                questions,
                answers: answers.iter().filter_map(super::wire).collect(),
                actor: connection.actor.clone(),
            };
            output.record(&detail(&connection.admin.set_answers(request).await?.into_inner()));
        }
        Command::Verify { name, method } => {
            let method = Method::from_code(&method).ok_or_else(|| Failure::wrong_use("unknown method"))?;
            test_send::attempt(&mut connection, output, &name, method, "").await?;
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

/// The id of somebody; empty, which the store reads as everybody, where nobody is named.
pub async fn id_or_all(connection: &mut Connection, name: Option<&str>) -> Result<String, Failure> {
    match name {
        Some(name) => id_of(connection, name).await,
        None => Ok(String::new()),
    }
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
