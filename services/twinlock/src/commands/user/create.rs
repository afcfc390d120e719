//! `twinlock user create`: a user by hand, whom no sync item has yet.

use super::detail;
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Args;
use proto::user_store::{CreateUserRequest, EditUserRequest};

#[derive(Debug, Clone, Args)]
pub struct Create {
    /// As the directory calls them: the first login, or the first run, that finds exactly one entry of this name makes the user its.
    username: String,
    #[arg(long, default_value = "")]
    first_name: String,
    #[arg(long, default_value = "")]
    last_name: String,
    /// International form, or national with the country of the settings.
    #[arg(long)]
    phone: Option<String>,
    #[arg(long, requires = "phone")]
    phone_extension: Option<String>,
    #[arg(long)]
    mail: Option<String>,
}

pub async fn run(new: Create, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let Create { username, first_name, last_name, phone, phone_extension, mail } = new;
    let more = Some(EditUserRequest { phone, phone_extension, mail, ..EditUserRequest::default() });
    let request = CreateUserRequest { username, first_name, last_name, more, actor: connection.actor.clone() };
    output.record(&detail(&connection.admin.create_user(request).await?.into_inner()));
    Ok(())
}
