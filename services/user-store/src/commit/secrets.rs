//! What is kept as a hash: PINs, recovery codes, temporary codes, answers (V-31).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    CheckSecretReply, CheckSecretRequest, SetPinReply, SetPinRequest, StoreRecoveryCodesReply,
    StoreRecoveryCodesRequest,
};
use tonic::Status;

pub async fn check_secret(_store: &Store, _request: CheckSecretRequest) -> Result<CheckSecretReply, StoreError> {
    Err(Status::unimplemented("check_secret").into())
}

pub async fn set_pin(_store: &Store, _request: SetPinRequest) -> Result<SetPinReply, StoreError> {
    Err(Status::unimplemented("set_pin").into())
}

pub async fn new_recovery_codes(
    _store: &Store,
    _request: StoreRecoveryCodesRequest,
) -> Result<StoreRecoveryCodesReply, StoreError> {
    Err(Status::unimplemented("new_recovery_codes").into())
}
