//! What providers of calls ask us while a call is on.

use super::{Called, not_found};
use crate::Service;
use proto::verification::CallbackReply;
use tonic::Status;

pub async fn receive(_service: &Service, _called: Called<'_>) -> Result<CallbackReply, Status> {
    Ok(not_found())
}
