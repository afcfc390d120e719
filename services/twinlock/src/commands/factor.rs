//! `twinlock factor`: enrol a second factor for a user, see what there is, take it away. Hardware tokens have a noun of their own.

mod app;
mod device;
mod phone;

use super::{ask_secret, confirmed, user, wire};
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::{Args, Subcommand};
use domain::Secret;
use proto::{user_store::RevokeFactorRequest, verification::ConfirmCodeRequest};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Gives a user a second factor: a code app (prints its otpauth URI and QR code, and waits for one code), a phone that approves
    /// (prints the QR code that activates it, and waits), or a number that is texted or called.
    Enrol(Enrol),
    /// Proves a code of a factor that was enrolled without a terminal. The code is read from stdin.
    Confirm { name: String, factor: String },
    /// Proves a number that was texted: the code is read from stdin.
    ConfirmPhone { name: String, verification: String },
    /// What became of a phone's activation: open, redeemed, active, void. Ends with 0 when it is active.
    Activation {
        name: String,
        device: String,
        /// Wait so long for it, and have the phone prove itself: 90s, 5m.
        #[arg(long, value_name = "TIME", value_parser = super::seconds)]
        wait: Option<u32>,
    },
    /// The factors, devices and passkeys of a user.
    List { name: String },
    /// Takes a factor, a device or a passkey away at once.
    Revoke {
        name: String,
        factor: String,
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Enrol {
    /// An id or any form of the name.
    name: String,
    #[arg(long, default_value = "code", value_parser = ["code", "push", "sms", "call"])]
    method: String,
    /// code: the hash; apps ignore other values than the default.
    #[arg(long, default_value = "SHA1", value_parser = ["SHA1", "SHA256", "SHA512"])]
    algorithm: String,
    #[arg(long, default_value_t = 6)]
    digits: u32,
    #[arg(long, default_value_t = 30)]
    period: u32,
    /// push: our own app on the phone, or the privacyIDEA Authenticator.
    #[arg(long, default_value = "web", value_parser = ["web", "pi"])]
    kind: String,
    /// sms, call: international form, or national with the country of the settings.
    #[arg(long, required_if_eq_any = [("method", "sms"), ("method", "call")])]
    number: Option<String>,
    #[arg(long, default_value = "")]
    extension: String,
    /// sms, call: the second number instead of the first.
    #[arg(long)]
    backup: bool,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Enrol(enrol) => match enrol.method.as_str() {
            "push" => return device::enrol(enrol, connection, output).await,
            "sms" | "call" => return phone::enrol(enrol, connection, output).await,
            _ => return app::enrol(enrol, connection, output).await,
        },
        Command::Confirm { name, factor } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let code = ask_secret("Code")?;
            confirm(&mut connection, &user_id, &factor, &code).await?;
            output.text("enrolled", &json!({ "factor_id": factor, "confirmed": true }));
        }
        Command::ConfirmPhone { name, verification } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let code = ask_secret("Code of the text")?;
            phone::confirm(&mut connection, &user_id, &verification, Some(&code)).await?;
            output.text("confirmed", &json!({ "verification_id": verification, "confirmed": true }));
        }
        Command::Activation { name, device, wait } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            return device::activation(&mut connection, output, &user_id, &device, wait).await;
        }
        Command::List { name } => {
            let found = user::find(&mut connection, &name).await?;
            let detail = user::detail(&found);
            let rows = |field: &str| detail[field].as_array().cloned().unwrap_or_default();
            let devices = rows("devices").into_iter().map(as_factor);
            let factors = rows("factors").into_iter().chain(devices).collect();
            output.list(&["id", "method", "form", "pending", "last_used", "failures", "locked_until"], factors, None);
        }
        Command::Revoke { name, factor, yes } => {
            confirmed(&format!("{name} cannot sign in with {factor} any more. Revoke it?"), yes)?;
            let user_id = user::id_of(&mut connection, &name).await?;
            let request = RevokeFactorRequest { user_id, factor_id: factor, actor: connection.actor.clone() };
            let found = connection.admin.revoke_factor(request).await?.into_inner();
            output.record(&user::detail(&found));
        }
    }
    Ok(())
}

/// A device in the columns of a factor.
fn as_factor(device: Value) -> Value {
    let method = if device["kind"] == "passkey" { "passkey" } else { "push" };
    json!({
        "id": device["id"],
        "method": method,
        "form": format!("{} {}", device["kind"].as_str().unwrap_or_default(), device["name"].as_str().unwrap_or_default()).trim(),
        "pending": device["state"] != "active",
        "last_used": device["last_seen"],
        "failures": null,
        "locked_until": null,
        "state": device["state"],
    })
}

pub async fn confirm(
    connection: &mut Connection,
    user_id: &str,
    factor_id: &str,
    code: &Secret,
) -> Result<(), Failure> {
    let request = ConfirmCodeRequest {
        user_id: user_id.into(),
        factor_id: factor_id.into(),
        code: wire(code),
        actor: connection.actor.clone(),
    };
    let reply = connection.enrolment.confirm_code(request).await?.into_inner();
    if reply.confirmed {
        return Ok(());
    }
    Err(Failure::no(domain::Reason::from_code(&reply.reason).sentence()))
}

/// A QR code of half blocks, dark on light whatever the terminal's colours.
fn terminal_qr(text: &str) -> Result<String, Failure> {
    let code = qrcode::QrCode::new(text).map_err(|error| Failure::no(format!("the URI fits no QR code: {error}")))?;
    Ok(code
        .render::<qrcode::render::unicode::Dense1x2>()
        .dark_color(qrcode::render::unicode::Dense1x2::Light)
        .light_color(qrcode::render::unicode::Dense1x2::Dark)
        .build())
}
