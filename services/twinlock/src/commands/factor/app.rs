//! A code app: its secret is shown once, and counts once a code of it was proven.

use super::super::{ask_secret, text_of, user};
use super::{Enrol, confirm, terminal_qr};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, say},
};
use proto::verification::StartCodeRequest;
use serde_json::json;
use std::io::IsTerminal;

pub async fn enrol(enrol: Enrol, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let user_id = user::id_of(&mut connection, &enrol.name).await?;
    let request = StartCodeRequest {
        user_id: user_id.clone(),
        algorithm: enrol.algorithm,
        digits: enrol.digits,
        period_seconds: enrol.period,
        issuer: String::new(),
        actor: connection.actor.clone(),
    };
    let reply = connection.enrolment.start_code(request).await?.into_inner();
    let (uri, seed) = (text_of(reply.otpauth_uri), text_of(reply.seed_base32));
    if output.is_json() {
        let started = json!({ "factor_id": reply.factor_id, "otpauth_uri": uri, "seed": seed, "pending": true });
        line(&started.to_string());
    } else {
        line(&terminal_qr(&uri)?);
        line(&uri);
        line(&format!("or type this into the app: {seed}"));
    }
    if std::io::stdin().is_terminal() && !output.is_json() {
        let code = ask_secret("Code the app shows now")?;
        confirm(&mut connection, &user_id, &reply.factor_id, &code).await?;
        line("enrolled");
    } else {
        let name = enrol.name;
        say(&format!("not in force yet; prove one code: twinlock factor confirm {name} {}", reply.factor_id));
    }
    Ok(())
}
