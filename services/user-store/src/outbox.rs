//! Mail that has to go out: written in the transaction of its cause, leased by whoever sends it.

use crate::Store;
use proto::user_store::{
    DoneMailReply, DoneMailRequest, PutMailReply, PutMailRequest, TakeMailReply, TakeMailRequest, outbox_server::Outbox,
};
use tonic::{Request, Response, Status};

pub struct OutboxService(pub Store);

#[tonic::async_trait]
impl Outbox for OutboxService {
    async fn put(&self, _: Request<PutMailRequest>) -> Result<Response<PutMailReply>, Status> {
        let _ = &self.0;
        Err(Status::unimplemented("put"))
    }

    async fn take(&self, _: Request<TakeMailRequest>) -> Result<Response<TakeMailReply>, Status> {
        let _ = &self.0;
        Err(Status::unimplemented("take"))
    }

    async fn done(&self, _: Request<DoneMailRequest>) -> Result<Response<DoneMailReply>, Status> {
        let _ = &self.0;
        Err(Status::unimplemented("done"))
    }
}
