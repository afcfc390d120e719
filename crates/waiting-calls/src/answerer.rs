//! The end at verification: takes calls off a stream, lets the port answer them, and drops those whose caller has left.

use proto::verification::verification_server::Verification;
use proto::verification::waiting_calls_server::WaitingCalls;
use proto::verification::{
    CallsDrain, CallsRefusal, Outcome, WaitingCall, WaitingReply, waiting_call::Call, waiting_reply::Reply,
};
use service_kit::{Shutdown, trace};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use tracing::Instrument;

/// A gateway has room for 65,536 logins. What comes above is refused.
const CALLS_MAX: usize = 131_072;
/// Replies that are on their way. Whoever has one beyond it waits until the gateway has read some.
const REPLIES_QUEUED: usize = 1_024;

/// Answers the calls of each stream by a port. Add it to the server beside the port itself.
pub struct Answerer {
    port: Arc<dyn Verification>,
    shutdown: Shutdown,
}

impl Answerer {
    pub fn new(port: Arc<dyn Verification>, shutdown: Shutdown) -> Self {
        Self { port, shutdown }
    }
}

#[async_trait]
impl WaitingCalls for Answerer {
    type OpenStream = ReceiverStream<Result<WaitingReply, Status>>;

    async fn open(&self, request: Request<Streaming<WaitingCall>>) -> Result<Response<Self::OpenStream>, Status> {
        let (replies, outgoing) = mpsc::channel(REPLIES_QUEUED);
        let stream = Stream {
            port: self.port.clone(),
            replies,
            working: JoinSet::new(),
            by_number: HashMap::new(),
            by_task: HashMap::new(),
        };
        self.shutdown.spawn(stream.serve(request.into_inner(), self.shutdown.clone()));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// One stream. Dropped, it drops all calls on it: their caller has gone, or this process ends.
struct Stream {
    port: Arc<dyn Verification>,
    replies: mpsc::Sender<Result<WaitingReply, Status>>,
    working: JoinSet<()>,
    by_number: HashMap<u64, AbortHandle>,
    by_task: HashMap<Id, u64>,
}

impl Stream {
    async fn serve(mut self, mut calls: Streaming<WaitingCall>, shutdown: Shutdown) {
        let mut draining = false;
        while !draining || !self.working.is_empty() {
            // Cancel safety: a call that `message` has not returned stays in the stream, a task that `join_next_with_id` has not
            // returned in the set; the others only wait.
            tokio::select! {
                call = calls.message() => match call {
                    Ok(Some(call)) => self.take(call),
                    // The caller has gone, or the connection broke.
                    Ok(None) | Err(_) => return,
                },
                Some(ended) = self.working.join_next_with_id() => self.ended(ended),
                () = shutdown.draining(), if !draining => {
                    draining = true;
                    // What is sent here until the caller has read this is answered too, or sent elsewhere when the stream ends.
                    self.reply(0, Reply::Drain(CallsDrain {}));
                }
                () = shutdown.stopping() => return,
            }
        }
    }

    fn take(&mut self, call: WaitingCall) {
        let WaitingCall { number, left_ms, trace, call } = call;
        let Some(call) = call else {
            return self.reply(number, refused(Code::Unimplemented, "this version does not know the call"));
        };
        if let Call::Leave(_) = call {
            if let Some(task) = self.by_number.remove(&number) {
                task.abort();
            }
            return;
        }
        if self.by_number.contains_key(&number) {
            return tracing::warn!(number, "a call has the number of another one on its stream and is left unanswered");
        }
        if self.by_number.len() >= CALLS_MAX {
            return self.reply(number, refused(Code::ResourceExhausted, "too many calls on one stream"));
        }
        let method = method(&call);
        let span = tracing::info_span!(
            "grpc.server",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            rpc.system.name = "grpc",
            rpc.method = format!("twinlock.verification.v1.{method}"),
            rpc.response.status_code = tracing::field::Empty,
        );
        trace::adopt_headers(&span, &trace.into_iter().collect());
        let (port, replies) = (self.port.clone(), self.replies.clone());
        let left = Duration::from_millis(left_ms.into());
        let recorded = span.clone();
        let task = self.working.spawn(
            async move {
                let answering = Box::pin(answer(port, call, left));
                let answered =
                    tokio::time::timeout(left, answering).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")));
                let reply = match answered {
                    Ok(outcome) => {
                        recorded.record("rpc.response.status_code", i32::from(Code::Ok));
                        Reply::Outcome(outcome)
                    }
                    Err(status) => {
                        recorded.record("rpc.response.status_code", i32::from(status.code()));
                        recorded.record("otel.status_code", "ERROR");
                        refused(status.code(), status.message())
                    }
                };
                // Fails only when nobody reads any more.
                let _ = replies.send(Ok(WaitingReply { number, reply: Some(reply) })).await;
            }
            .instrument(span),
        );
        self.by_task.insert(task.id(), number);
        self.by_number.insert(number, task);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (task, panicked) = match ended {
            Ok((task, ())) => (task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(number) = self.by_task.remove(&task) else { return };
        self.by_number.remove(&number);
        if panicked {
            self.reply(number, refused(Code::Internal, "the call ended without an answer"));
        }
    }

    /// Beside the loop, which waits for nobody.
    fn reply(&mut self, number: u64, reply: Reply) {
        let replies = self.replies.clone();
        self.working.spawn(async move {
            let _ = replies.send(Ok(WaitingReply { number, reply: Some(reply) })).await;
        });
    }
}

async fn answer(port: Arc<dyn Verification>, call: Call, left: Duration) -> Result<Outcome, Status> {
    let answered = match call {
        Call::Begin(request) => port.begin(within(request, left)).await,
        Call::Complete(request) => port.complete(within(request, left)).await,
        Call::Answer(request) => port.answer(within(request, left)).await,
        Call::Await(request) => port.r#await(within(request, left)).await,
        Call::Leave(_) => Err(Status::internal("nobody waits for a call that is left")),
    };
    answered.map(Response::into_inner)
}

fn within<M>(message: M, left: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

fn method(call: &Call) -> &'static str {
    match call {
        Call::Begin(_) => "Verification/Begin",
        Call::Complete(_) => "Verification/Complete",
        Call::Answer(_) => "Verification/Answer",
        Call::Await(_) => "Verification/Await",
        Call::Leave(_) => "Verification/Leave",
    }
}

fn refused(code: Code, message: &str) -> Reply {
    Reply::Refusal(CallsRefusal { code: code.into(), message: message.to_owned() })
}
