//! What administrators say about a user: block, exemption, phones, languages, methods.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{BlockUserRequest, EditUserRequest, ExemptUserRequest, UnblockUserRequest, UserDetail};
use tonic::Status;

pub async fn block_user(_store: &Store, _request: BlockUserRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("block_user").into())
}

pub async fn unblock_user(_store: &Store, _request: UnblockUserRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("unblock_user").into())
}

pub async fn exempt_user(_store: &Store, _request: ExemptUserRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("exempt_user").into())
}

pub async fn edit_user(_store: &Store, _request: EditUserRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("edit_user").into())
}
