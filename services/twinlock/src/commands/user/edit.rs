//! `twinlock user edit`: the fields that are ours. What comes from a directory is changed there.

use super::{detail, find};
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Args;
use domain::Method;
use proto::user_store::EditUserRequest;

#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("field").multiple(true).required(true)))]
pub struct Edit {
    /// An id or any form of the name.
    name: String,
    /// International form, or national with the country of the settings; "" removes it.
    #[arg(long, group = "field")]
    phone: Option<String>,
    #[arg(long, group = "field")]
    phone_extension: Option<String>,
    #[arg(long, group = "field")]
    backup_phone: Option<String>,
    #[arg(long, group = "field")]
    backup_extension: Option<String>,
    #[arg(long, group = "field")]
    mail: Option<String>,
    /// push, call, sms, code ...; "" = as the settings say.
    #[arg(long, group = "field", value_parser = method)]
    default_method: Option<String>,
    /// Replaces the list: push,code; "" = as the settings say.
    #[arg(long, group = "field")]
    allowed_methods: Option<String>,
    /// The four languages of messages, calls and the app at once.
    #[arg(long, group = "field")]
    language: Option<String>,
    #[arg(long, group = "field")]
    language_call: Option<String>,
    #[arg(long, group = "field")]
    language_text: Option<String>,
    #[arg(long, group = "field")]
    language_app: Option<String>,
    #[arg(long, group = "field")]
    language_code: Option<String>,
    /// Of the portal's pages; "" = as the browser asks.
    #[arg(long, group = "field")]
    language_portal: Option<String>,
}

pub async fn run(edit: Edit, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let found = find(connection, &edit.name).await?;
    let allowed_methods = edit.allowed_methods.as_deref().map(methods).transpose().map_err(Failure::wrong_use)?;
    let all = edit.language;
    let request = EditUserRequest {
        user_id: found.user.unwrap_or_default().user_id,
        actor: connection.actor.clone(),
        expected_revision: found.revision,
        phone: edit.phone,
        phone_extension: edit.phone_extension,
        backup_phone: edit.backup_phone,
        backup_extension: edit.backup_extension,
        default_method: edit.default_method,
        set_allowed_methods: allowed_methods.is_some(),
        allowed_methods: allowed_methods.unwrap_or_default(),
        language_call: edit.language_call.or_else(|| all.clone()),
        language_text: edit.language_text.or_else(|| all.clone()),
        language_app: edit.language_app.or_else(|| all.clone()),
        language_code: edit.language_code.or(all),
        language_portal: edit.language_portal,
        pin_required: None,
        mail: edit.mail,
    };
    output.record(&detail(&connection.admin.edit_user(request).await?.into_inner()));
    Ok(())
}

fn methods(text: &str) -> Result<Vec<String>, String> {
    text.split([',', ' ']).filter(|code| !code.is_empty()).map(method).collect()
}

fn method(code: &str) -> Result<String, String> {
    let known = || Method::ALL.iter().map(|method| method.code()).collect::<Vec<_>>().join(", ");
    match code.is_empty() || Method::from_code(code).is_some() {
        true => Ok(code.to_owned()),
        false => Err(format!("there is no method {code:?}; known: {}", known())),
    }
}
