//! PINs and answers set by somebody else.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{ResetPinReply, ResetPinRequest, SetAnswersRequest, UserDetail};
use tonic::Status;

pub async fn reset_pin(_store: &Store, _request: ResetPinRequest) -> Result<ResetPinReply, StoreError> {
    Err(Status::unimplemented("reset_pin").into())
}

pub async fn set_answers(_store: &Store, _request: SetAnswersRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("set_answers").into())
}
