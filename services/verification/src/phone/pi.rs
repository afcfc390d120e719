//! The protocol of the privacyIDEA Authenticator (experience 10.3).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{PiReply, PiRequest};
use tonic::Status;

pub async fn handle(_service: &Service, _request: PiRequest, _budget: Budget) -> Result<PiReply, Status> {
    Err(Status::unimplemented("pi"))
}
