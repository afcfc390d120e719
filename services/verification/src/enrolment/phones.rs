//! A phone number becomes the user's after it was called or texted once.

use crate::Service;
use crate::budget::Budget;
use proto::verification::{ConfirmPhoneRequest, ConfirmReply, StartPhoneReply, StartPhoneRequest};
use tonic::Status;

pub async fn start_phone(
    _service: &Service,
    _request: StartPhoneRequest,
    _budget: Budget,
) -> Result<StartPhoneReply, Status> {
    Err(Status::unimplemented("start_phone"))
}

pub async fn confirm_phone(
    _service: &Service,
    _request: ConfirmPhoneRequest,
    _budget: Budget,
) -> Result<ConfirmReply, Status> {
    Err(Status::unimplemented("confirm_phone"))
}
