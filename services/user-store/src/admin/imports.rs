//! Users from a file (FI-02).

use crate::Store;
use crate::rpc::StoreError;
use proto::user_store::{ImportReply, ImportUsersRequest};
use tonic::Status;

pub async fn import_users(_store: &Store, _request: ImportUsersRequest) -> Result<ImportReply, StoreError> {
    Err(Status::unimplemented("import_users").into())
}
