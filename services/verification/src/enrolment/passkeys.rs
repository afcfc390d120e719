//! Passkeys for signing in to the portal (FV-08).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{ConfirmPasskeyRequest, ConfirmReply, StartPasskeyReply, StartPasskeyRequest};
use tonic::Status;

pub async fn start_passkey(
    _service: &Service,
    _request: StartPasskeyRequest,
    _budget: Budget,
) -> Result<StartPasskeyReply, Status> {
    Err(Status::unimplemented("start_passkey"))
}

pub async fn confirm_passkey(
    _service: &Service,
    _request: ConfirmPasskeyRequest,
    _budget: Budget,
) -> Result<ConfirmReply, Status> {
    Err(Status::unimplemented("confirm_passkey"))
}
