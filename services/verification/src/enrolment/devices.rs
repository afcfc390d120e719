//! A phone becomes a device that can be asked (V-20).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{DeviceStateReply, DeviceStateRequest, StartDeviceReply, StartDeviceRequest};
use tonic::Status;

pub async fn start_device(
    _service: &Service,
    _request: StartDeviceRequest,
    _budget: Budget,
) -> Result<StartDeviceReply, Status> {
    Err(Status::unimplemented("start_device"))
}

pub async fn device_state(
    _service: &Service,
    _request: DeviceStateRequest,
    _budget: Budget,
) -> Result<DeviceStateReply, Status> {
    Err(Status::unimplemented("device_state"))
}
