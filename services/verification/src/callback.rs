//! What providers of messages and calls say to us: signature first, each word once (V-18).

use crate::Service;
use proto::verification::{CallbackReply, CallbackRequest, callback_server::Callback};
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl Callback for Service {
    async fn receive(&self, _: Request<CallbackRequest>) -> Result<Response<CallbackReply>, Status> {
        Err(Status::unimplemented("receive"))
    }
}
