//! A number that is texted or called. It becomes the user's once it was reached.

use super::super::{ask_secret, user, wire};
use super::Enrol;
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, say, time},
};
use domain::{Reason, Secret};
use proto::verification::{ConfirmPhoneRequest, StartPhoneRequest};
use serde_json::json;
use std::io::IsTerminal;

pub async fn enrol(enrol: Enrol, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let user_id = user::id_of(&mut connection, &enrol.name).await?;
    let called = enrol.method == "call";
    let request = StartPhoneRequest {
        user_id: user_id.clone(),
        method: enrol.method,
        number: enrol.number.unwrap_or_default(),
        extension: enrol.extension,
        backup: enrol.backup,
        actor: connection.actor.clone(),
    };
    let reply = connection.enrolment.start_phone(request).await?.into_inner();
    if !reply.reason.is_empty() {
        return Err(Failure::no(Reason::from_code(&reply.reason).sentence()));
    }
    let verification = reply.verification_id;
    if called {
        say(&format!("calling {}: answer, and do what the voice says", reply.destination));
        confirm(&mut connection, &user_id, &verification, None).await?;
    } else if std::io::stdin().is_terminal() && !output.is_json() {
        line(&format!("a code was sent to {}", reply.destination));
        let code = ask_secret("Code of the text")?;
        confirm(&mut connection, &user_id, &verification, Some(&code)).await?;
    } else {
        let started = json!({
            "verification_id": verification, "destination": reply.destination,
            "expires": time(reply.expires_unix_ms), "confirmed": false,
        });
        output.text(&format!("a code was sent to {}", reply.destination), &started);
        say(&format!("not in force yet; prove it: twinlock factor confirm-phone {} {verification}", enrol.name));
        return Ok(());
    }
    output.text("confirmed", &json!({ "verification_id": verification, "confirmed": true }));
    Ok(())
}

/// The code of the text; none for a call, which answers for itself when it has ended.
pub async fn confirm(
    connection: &mut Connection,
    user_id: &str,
    verification_id: &str,
    code: Option<&Secret>,
) -> Result<(), Failure> {
    let request = ConfirmPhoneRequest {
        user_id: user_id.into(),
        verification_id: verification_id.into(),
        code: code.and_then(wire),
        actor: connection.actor.clone(),
    };
    let reply = connection.enrolment.confirm_phone(request).await?.into_inner();
    match reply.confirmed {
        true => Ok(()),
        false => Err(Failure::no(Reason::from_code(&reply.reason).sentence())),
    }
}
