//! The stock of hardware tokens: import, assignment, end.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    AssignTokenRequest, ImportReply, ImportTokensRequest, ListTokensReply, ListTokensRequest, RevokeTokenReply,
    RevokeTokenRequest, TokenSummary, UnassignTokenRequest,
};
use tonic::Status;

pub async fn list_tokens(_store: &Store, _request: ListTokensRequest) -> Result<ListTokensReply, StoreError> {
    Err(Status::unimplemented("list_tokens").into())
}

pub async fn import_tokens(_store: &Store, _request: ImportTokensRequest) -> Result<ImportReply, StoreError> {
    Err(Status::unimplemented("import_tokens").into())
}

pub async fn assign_token(_store: &Store, _request: AssignTokenRequest) -> Result<TokenSummary, StoreError> {
    Err(Status::unimplemented("assign_token").into())
}

pub async fn unassign_token(_store: &Store, _request: UnassignTokenRequest) -> Result<TokenSummary, StoreError> {
    Err(Status::unimplemented("unassign_token").into())
}

pub async fn revoke_token(_store: &Store, _request: RevokeTokenRequest) -> Result<RevokeTokenReply, StoreError> {
    Err(Status::unimplemented("revoke_token").into())
}
