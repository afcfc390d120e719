//! Phones that can be asked, and how a phone becomes one (V-20).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    FindActivationReply, FindActivationRequest, GetDeviceReply, GetDeviceRequest, OpenActivationReply,
    OpenActivationRequest, PutDeviceReply, PutDeviceRequest, PutPasskeyReply, PutPasskeyRequest, TouchDeviceReply,
    TouchDeviceRequest,
};
use tonic::Status;

pub async fn open_activation(
    _store: &Store,
    _request: OpenActivationRequest,
) -> Result<OpenActivationReply, StoreError> {
    Err(Status::unimplemented("open_activation").into())
}

pub async fn find_activation(
    _store: &Store,
    _request: FindActivationRequest,
) -> Result<FindActivationReply, StoreError> {
    Err(Status::unimplemented("find_activation").into())
}

pub async fn put_device(_store: &Store, _request: PutDeviceRequest) -> Result<PutDeviceReply, StoreError> {
    Err(Status::unimplemented("put_device").into())
}

pub async fn touch_device(_store: &Store, _request: TouchDeviceRequest) -> Result<TouchDeviceReply, StoreError> {
    Err(Status::unimplemented("touch_device").into())
}

pub async fn get_device(_store: &Store, _request: GetDeviceRequest) -> Result<GetDeviceReply, StoreError> {
    Err(Status::unimplemented("get_device").into())
}

pub async fn put_passkey(_store: &Store, _request: PutPasskeyRequest) -> Result<PutPasskeyReply, StoreError> {
    Err(Status::unimplemented("put_passkey").into())
}
