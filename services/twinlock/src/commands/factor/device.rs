//! A phone that approves: the QR code that makes it a device of the user, and the wait until it is one.

use super::super::{now_unix_ms, succeeded, text_of, user};
use super::{Enrol, terminal_qr};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, say, time},
};
use domain::{Method, Reason};
use proto::verification::{DeviceStateReply, DeviceStateRequest, StartDeviceRequest, TryMethodRequest};
use serde_json::json;
use std::time::Duration;

/// How often the state of an activation is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub async fn enrol(enrol: Enrol, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let user_id = user::id_of(&mut connection, &enrol.name).await?;
    let request = StartDeviceRequest { user_id: user_id.clone(), kind: enrol.kind, actor: connection.actor.clone() };
    let reply = connection.enrolment.start_device(request).await?.into_inner();
    if reply.devices_max > 0 {
        return Err(Failure::no(format!(
            "{} has {} phones, as many as push.devices_max allows; remove one: twinlock factor list, twinlock factor remove",
            enrol.name, reply.devices_max
        )));
    }
    if !reply.reason.is_empty() {
        return Err(Failure::no(Reason::from_code(&reply.reason).sentence()));
    }
    let (uri, code) = (text_of(reply.uri), text_of(reply.code));
    let expires = time(reply.expires_unix_ms);
    if output.is_json() {
        let started = json!({ "device_id": reply.device_id, "uri": uri, "code": code, "expires": expires });
        line(&started.to_string());
        let name = enrol.name;
        say(&format!("not in force yet; twinlock factor activation {name} {} --wait 5m", reply.device_id));
        return Ok(());
    }
    line(&terminal_qr(&uri)?);
    line(&uri);
    if !code.is_empty() {
        line(&format!("or type this code there: {code}"));
    }
    say(&format!("waiting for the phone, until {}", expires.as_str().unwrap_or("it is there")));
    let device = wait(&mut connection, &user_id, &reply.device_id, reply.expires_unix_ms).await?;
    line(&format!("active: {}", printable(&device.name)));
    Ok(())
}

/// The state now; with a time to wait, the state in which it ended.
pub async fn activation(
    connection: &mut Connection,
    output: Output,
    user_id: &str,
    device_id: &str,
    wait_seconds: Option<u32>,
) -> Result<(), Failure> {
    let device = match wait_seconds {
        None => state(connection, user_id, device_id).await?,
        Some(seconds) => wait(connection, user_id, device_id, super::super::from_now(seconds)).await?,
    };
    output.text(&device.state, &json!({ "device_id": device_id, "state": device.state, "name": device.name }));
    match device.state.as_str() {
        "active" => Ok(()),
        _ => Err(Failure::no("the phone is no device of this user yet")),
    }
}

/// Until the phone is active. One that has its keys is asked once: it counts when that worked (FV-05).
async fn wait(
    connection: &mut Connection,
    user_id: &str,
    device_id: &str,
    until_unix_ms: i64,
) -> Result<DeviceStateReply, Failure> {
    let mut asked = false;
    loop {
        let device = state(connection, user_id, device_id).await?;
        match device.state.as_str() {
            "active" => return Ok(device),
            "void" => return Err(Failure::no("the activation is void: it was used up, or another one was started")),
            "redeemed" if !asked => {
                asked = true;
                say(&format!("{} has registered and is asked now: approve there", printable(&device.name)));
                let request = TryMethodRequest {
                    user_id: user_id.into(),
                    method: Method::Push.code().into(),
                    device_id: device_id.into(),
                    actor: connection.actor.clone(),
                    to_prove: true,
                };
                let reply = connection.enrolment.try_method(request).await?.into_inner();
                succeeded(&reply.reason)?;
            }
            _ if now_unix_ms() >= until_unix_ms => {
                return Err(Failure::no("the phone did not come in time; nothing was changed"));
            }
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn state(connection: &mut Connection, user_id: &str, device_id: &str) -> Result<DeviceStateReply, Failure> {
    let request = DeviceStateRequest { user_id: user_id.into(), device_id: device_id.into() };
    Ok(connection.enrolment.device_state(request).await?.into_inner())
}
