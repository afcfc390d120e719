//! What providers of calls ask us while a call is on.

use super::{Called, not_found};
use crate::Service;
use proto::verification::CallbackReply;
use tonic::Status;

pub async fn receive(service: &Service, called: Called<'_>) -> Result<CallbackReply, Status> {
    Ok(service.providers.voice.answer(&called).await?.unwrap_or_else(not_found))
}
