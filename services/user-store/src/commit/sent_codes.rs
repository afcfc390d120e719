//! Codes that were sent to a phone: bound to one attempt, few tries, the newest alone (V-17, V-18).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    CheckSentCodeReply, CheckSentCodeRequest, OpenSentCodeReply, OpenSentCodeRequest, SetPhoneReply, SetPhoneRequest,
};
use tonic::Status;

pub async fn set_phone(_store: &Store, _request: SetPhoneRequest) -> Result<SetPhoneReply, StoreError> {
    Err(Status::unimplemented("set_phone").into())
}

pub async fn open_sent_code(_store: &Store, _request: OpenSentCodeRequest) -> Result<OpenSentCodeReply, StoreError> {
    Err(Status::unimplemented("open_sent_code").into())
}

pub async fn check_sent_code(_store: &Store, _request: CheckSentCodeRequest) -> Result<CheckSentCodeReply, StoreError> {
    Err(Status::unimplemented("check_sent_code").into())
}
