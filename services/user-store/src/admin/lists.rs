//! What is open or kept: prompts, remembered logins, messages.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    ClearRememberedReply, ClearRememberedRequest, GetPromptsReply, ListMessagesReply, ListMessagesRequest,
    ListPromptsRequest, ListRememberedReply, ListRememberedRequest,
};
use tonic::Status;

pub async fn list_prompts(_store: &Store, _request: ListPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    Err(Status::unimplemented("list_prompts").into())
}

pub async fn list_remembered(
    _store: &Store,
    _request: ListRememberedRequest,
) -> Result<ListRememberedReply, StoreError> {
    Err(Status::unimplemented("list_remembered").into())
}

pub async fn clear_remembered(
    _store: &Store,
    _request: ClearRememberedRequest,
) -> Result<ClearRememberedReply, StoreError> {
    Err(Status::unimplemented("clear_remembered").into())
}

pub async fn list_messages(_store: &Store, _request: ListMessagesRequest) -> Result<ListMessagesReply, StoreError> {
    Err(Status::unimplemented("list_messages").into())
}
