//! `twinlock factor`: enrol an authenticator app for a user, see factors, take one away.

use super::{ask_secret, user, wire};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, say},
};
use clap::Subcommand;
use domain::Secret;
use proto::{
    user_store::RevokeFactorRequest,
    verification::{ConfirmCodeRequest, StartCodeRequest},
};
use serde_json::json;
use std::io::IsTerminal;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes a new code factor: prints its otpauth URI and QR code, and waits for one code to prove it.
    Enrol {
        name: String,
        #[arg(long, default_value = "SHA1", value_parser = ["SHA1", "SHA256", "SHA512"])]
        algorithm: String,
        #[arg(long, default_value_t = 6)]
        digits: u32,
        #[arg(long, default_value_t = 30)]
        period: u32,
    },
    /// Proves a code of a factor that was enrolled without a terminal. The code is read from stdin.
    Confirm { name: String, factor: String },
    /// The factors of a user.
    List { name: String },
    /// Takes a factor away at once.
    Revoke { name: String, factor: String },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Enrol { name, algorithm, digits, period } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let request = StartCodeRequest {
                user_id: user_id.clone(),
                algorithm,
                digits,
                period_seconds: period,
                issuer: String::new(),
            };
            let reply = connection.enrolment.start_code(request).await?.into_inner();
            let uri = Secret::from(reply.otpauth_uri.unwrap_or_default());
            let seed = Secret::from(reply.seed_base32.unwrap_or_default());
            let (uri, seed) = (uri.expose_str().unwrap_or_default(), seed.expose_str().unwrap_or_default());
            if output.is_json() {
                line(
                    &json!({ "factor_id": reply.factor_id, "otpauth_uri": uri, "seed": seed, "pending": true })
                        .to_string(),
                );
            } else {
                line(&terminal_qr(uri)?);
                line(uri);
                line(&format!("or type this into the app: {seed}"));
            }
            if std::io::stdin().is_terminal() && !output.is_json() {
                let code = ask_secret("Code the app shows now")?;
                confirm(&mut connection, &user_id, &reply.factor_id, &code).await?;
                line("enrolled");
            } else {
                say(&format!("not in force yet; prove one code: twinlock factor confirm {name} {}", reply.factor_id));
            }
        }
        Command::Confirm { name, factor } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let code = ask_secret("Code")?;
            confirm(&mut connection, &user_id, &factor, &code).await?;
            output.text("enrolled", &json!({ "factor_id": factor, "confirmed": true }));
        }
        Command::List { name } => {
            let found = user::find(&mut connection, &name).await?;
            let factors = user::detail(&found)["factors"].as_array().cloned().unwrap_or_default();
            output.list(&["id", "method", "form", "pending", "last_used", "failures", "locked_until"], factors, None);
        }
        Command::Revoke { name, factor } => {
            let user_id = user::id_of(&mut connection, &name).await?;
            let request = RevokeFactorRequest { user_id, factor_id: factor, actor: connection.actor.clone() };
            let found = connection.admin.revoke_factor(request).await?.into_inner();
            output.record(&user::detail(&found));
        }
    }
    Ok(())
}

async fn confirm(connection: &mut Connection, user_id: &str, factor_id: &str, code: &Secret) -> Result<(), Failure> {
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
