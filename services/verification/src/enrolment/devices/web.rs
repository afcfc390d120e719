//! An activation of the portal's own app.

use crate::Service;
use crate::budget::Budget;
use proto::verification::{StartDeviceReply, StartDeviceRequest};
use tonic::Status;

pub async fn start(
    _service: &Service,
    _request: StartDeviceRequest,
    _budget: Budget,
) -> Result<StartDeviceReply, Status> {
    Err(Status::unimplemented("start_device"))
}
