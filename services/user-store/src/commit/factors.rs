//! Tokens after their enrolment: put right by codes in a row, found by a code.

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{ListSeedsReply, ListSeedsRequest, ResyncFactorReply, ResyncFactorRequest};
use tonic::Status;

pub async fn resync_factor(_store: &Store, _request: ResyncFactorRequest) -> Result<ResyncFactorReply, StoreError> {
    Err(Status::unimplemented("resync_factor").into())
}

pub async fn list_seeds(_store: &Store, _request: ListSeedsRequest) -> Result<ListSeedsReply, StoreError> {
    Err(Status::unimplemented("list_seeds").into())
}
