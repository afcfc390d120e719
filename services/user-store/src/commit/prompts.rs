//! Open questions to a person's phone: one a user, limited, answered once (V-21, V-23).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    GetPromptsReply, GetPromptsRequest, OpenPromptReply, OpenPromptRequest, ResolvePromptReply, ResolvePromptRequest,
    UpdatePromptReply, UpdatePromptRequest, UserPromptsRequest,
};
use tonic::Status;

pub async fn open_prompt(_store: &Store, _request: OpenPromptRequest) -> Result<OpenPromptReply, StoreError> {
    Err(Status::unimplemented("open_prompt").into())
}

pub async fn resolve_prompt(_store: &Store, _request: ResolvePromptRequest) -> Result<ResolvePromptReply, StoreError> {
    Err(Status::unimplemented("resolve_prompt").into())
}

pub async fn get_prompts(_store: &Store, _request: GetPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    Err(Status::unimplemented("get_prompts").into())
}

pub async fn user_prompts(_store: &Store, _request: UserPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    Err(Status::unimplemented("user_prompts").into())
}

pub async fn update_prompt(_store: &Store, _request: UpdatePromptRequest) -> Result<UpdatePromptReply, StoreError> {
    Err(Status::unimplemented("update_prompt").into())
}
