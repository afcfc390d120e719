//! Small facts of verification that must survive: what was seen before, its own keys, what providers reported.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{
    GetSealedReply, GetSealedRequest, NoteMessageReply, NoteMessageRequest, PutSealedReply, PutSealedRequest,
    SeeOnceReply, SeeOnceRequest,
};
use tonic::Status;

pub async fn see_once(_store: &Store, _request: SeeOnceRequest) -> Result<SeeOnceReply, StoreError> {
    Err(Status::unimplemented("see_once").into())
}

pub async fn get_sealed(_store: &Store, _request: GetSealedRequest) -> Result<GetSealedReply, StoreError> {
    Err(Status::unimplemented("get_sealed").into())
}

pub async fn put_sealed(_store: &Store, _request: PutSealedRequest) -> Result<PutSealedReply, StoreError> {
    Err(Status::unimplemented("put_sealed").into())
}

pub async fn note_message(_store: &Store, _request: NoteMessageRequest) -> Result<NoteMessageReply, StoreError> {
    Err(Status::unimplemented("note_message").into())
}
