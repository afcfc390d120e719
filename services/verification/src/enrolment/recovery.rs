//! Recovery codes (FV-09).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{NewRecoveryCodesReply, NewRecoveryCodesRequest};
use tonic::Status;

pub async fn new_recovery_codes(
    _service: &Service,
    _request: NewRecoveryCodesRequest,
    _budget: Budget,
) -> Result<NewRecoveryCodesReply, Status> {
    Err(Status::unimplemented("new_recovery_codes"))
}
