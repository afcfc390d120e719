//! The event of a login that a gateway let in while verification was down (V-40): the one thing a gateway may write.

use crate::Store;
use crate::commit::{self, decide::Recorded};
use crate::rpc::id;
use domain::{Reason, ResultClass, Source};
use proto::user_store::{RecordReply, RecordRequest, fail_open_server::FailOpen};
use tonic::{Request, Response, Status};

pub struct FailOpenService(pub Store);

#[tonic::async_trait]
impl FailOpen for FailOpenService {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        let RecordRequest { event, let_in_before } = request.into_inner();
        let event = event.ok_or_else(|| Status::invalid_argument("event is missing"))?;
        id("event.transaction_id", &event.transaction_id)?;
        let told = [&event.kind, &event.result, &event.reason, &event.source].map(String::as_str);
        let passed = ["authentication", ResultClass::Bypass.code(), Reason::FailOpen.code(), Source::FailOpen.code()];
        if told != passed || !event.method.is_empty() || !event.actor.is_empty() {
            return Err(Status::invalid_argument(
                "event: a gateway tells of logins it let in while verification was down",
            ));
        }
        // Sent again it is the same one: an attempt has one last word.
        let event = Some(commit::clean(&self.0, event));
        match commit::record(&self.0, RecordRequest { event, let_in_before }).await? {
            Recorded::Recorded => Ok(Response::new(RecordReply {})),
            // Verification decided, and its answer was lost on the way: its word counts.
            Recorded::Otherwise => Err(Status::already_exists("this attempt ended otherwise before")),
        }
    }
}
