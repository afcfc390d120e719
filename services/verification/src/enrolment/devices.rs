//! A phone becomes a device that can be asked (V-20).

mod pi;
mod web;

use crate::Service;
use crate::budget::Budget;
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
    _service: &Service,
    _request: DeviceStateRequest,
    _budget: Budget,
) -> Result<DeviceStateReply, Status> {
    Err(Status::unimplemented("device_state"))
}
