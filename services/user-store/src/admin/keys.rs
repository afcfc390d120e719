//! Data keys: which there are, and a new one (V-30).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{KeyStatusReply, KeyStatusRequest, RotateKeysRequest};
use tonic::Status;

pub async fn key_status(_store: &Store, _request: KeyStatusRequest) -> Result<KeyStatusReply, StoreError> {
    Err(Status::unimplemented("key_status").into())
}

pub async fn rotate_keys(_store: &Store, _request: RotateKeysRequest) -> Result<KeyStatusReply, StoreError> {
    Err(Status::unimplemented("rotate_keys").into())
}
