//! Tokens: put right by codes in a row, found by a code (V-12, V-13).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{FindTokenReply, FindTokenRequest, ResyncReply, ResyncRequest};
use tonic::Status;

pub async fn resync(_service: &Service, _request: ResyncRequest, _budget: Budget) -> Result<ResyncReply, Status> {
    Err(Status::unimplemented("resync"))
}

pub async fn find_token(
    _service: &Service,
    _request: FindTokenRequest,
    _budget: Budget,
) -> Result<FindTokenReply, Status> {
    Err(Status::unimplemented("find_token"))
}
