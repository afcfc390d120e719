//! A phone becomes a device that can be asked (V-20): a code, once, for a few minutes.

mod pi;
mod web;

use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use domain::{Reason, Secret};
use proto::user_store::{GetDeviceRequest, OpenActivationRequest};
use proto::verification::{DeviceStateReply, DeviceStateRequest, StartDeviceReply, StartDeviceRequest};
use tonic::Status;

pub async fn start_device(
    service: &Service,
    request: StartDeviceRequest,
    budget: Budget,
) -> Result<StartDeviceReply, Status> {
    match request.kind.as_str() {
        "web" => web::start(service, request, budget).await,
        "pi" => pi::start(service, request, budget).await,
        _ => Err(Status::invalid_argument("kind: allowed are web and pi")),
    }
}

pub async fn device_state(
    service: &Service,
    request: DeviceStateRequest,
    budget: Budget,
) -> Result<DeviceStateReply, Status> {
    let get = service_kit::grpc::idempotent(GetDeviceRequest { device_id: request.device_id, serial: String::new() });
    let commit = service.committer.commit.as_ref();
    let found = budget.ask("get device", get, |request| commit.get_device(request)).await?;
    // Of somebody else's device nobody hears more than of one that is not there.
    let device = found.device.filter(|_| found.user_id == request.user_id);
    let state = match device.as_ref().map(|device| device.state.as_str()) {
        Some("activation") => "open",
        Some("pending") => "redeemed",
        Some("active") => "active",
        _ => "void",
    };
    Ok(DeviceStateReply { state: state.to_owned(), name: device.map(|device| device.name).unwrap_or_default() })
}

/// What an activation of any kind needs.
struct Activation<'a> {
    kind: &'static str,
    code_hash: Vec<u8>,
    /// pi: the token's serial and our key for it.
    serial: &'a str,
    server_key: Option<Secret>,
}

/// An activation that was opened.
struct Opened {
    device_id: String,
    expires_unix_ms: i64,
}

/// Opens an activation for an enabled user. `Err`: the user has as many devices as allowed.
async fn open_activation(
    service: &Service,
    request: &StartDeviceRequest,
    activation: Activation<'_>,
    budget: Budget,
) -> Result<Result<Opened, StartDeviceReply>, Status> {
    let user = service.enabled_user(&request.user_id, budget).await?;
    let known = service.settings.known()?;
    let rules = &known.settings.push;
    let now = service.clock.now_ms();
    let expires_unix_ms = now + i64::from(rules.activation_minutes) * 60_000;
    let open = OpenActivationRequest {
        user_id: user.id,
        code_hash: activation.code_hash,
        kind: activation.kind.to_owned(),
        serial: activation.serial.to_owned(),
        server_key: activation.server_key.map(Into::into),
        expires_unix_ms,
        devices_max: rules.devices_max,
        actor: line(&request.actor, 128),
        now_unix_ms: now,
    };
    let commit = service.committer.commit.as_ref();
    let opened = budget.ask("open activation", open, |request| commit.open_activation(request)).await?;
    Ok(match opened.device_id {
        // The list of reasons has none of its own for it: the number says which it is.
        device_id if device_id.is_empty() => {
            Err(StartDeviceReply { devices_max: rules.devices_max, ..refused(Reason::NoUsableMethod) })
        }
        device_id => Ok(Opened { device_id, expires_unix_ms }),
    })
}

fn refused(reason: Reason) -> StartDeviceReply {
    StartDeviceReply { reason: reason.code().into(), ..StartDeviceReply::default() }
}
