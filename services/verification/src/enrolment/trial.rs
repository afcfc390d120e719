//! A method tried for real: "Prompt me now", and `twinlock test`.

use crate::Service;
use crate::budget::Budget;
use proto::verification::{TestProviderReply, TestProviderRequest, TryMethodReply, TryMethodRequest};
use tonic::Status;

pub async fn try_method(
    _service: &Service,
    _request: TryMethodRequest,
    _budget: Budget,
) -> Result<TryMethodReply, Status> {
    Err(Status::unimplemented("try_method"))
}

pub async fn test_provider(
    _service: &Service,
    _request: TestProviderRequest,
    _budget: Budget,
) -> Result<TestProviderReply, Status> {
    Err(Status::unimplemented("test_provider"))
}
