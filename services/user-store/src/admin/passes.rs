//! One-time bypass and temporary code of the help desk (V-53).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    EndBypassRequest, IssueTemporaryCodeReply, IssueTemporaryCodeRequest, StartBypassReply, StartBypassRequest,
    UserDetail,
};
use tonic::Status;

pub async fn start_bypass(_store: &Store, _request: StartBypassRequest) -> Result<StartBypassReply, StoreError> {
    Err(Status::unimplemented("start_bypass").into())
}

pub async fn end_bypass(_store: &Store, _request: EndBypassRequest) -> Result<UserDetail, StoreError> {
    Err(Status::unimplemented("end_bypass").into())
}

pub async fn issue_temporary_code(
    _store: &Store,
    _request: IssueTemporaryCodeRequest,
) -> Result<IssueTemporaryCodeReply, StoreError> {
    Err(Status::unimplemented("issue_temporary_code").into())
}
