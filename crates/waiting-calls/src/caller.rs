//! The end at a gateway: one stream to each replica of verification, and a table of who waits on it.

use prost::Message;
use proto::remote::Remote;
use proto::verification::verification_client::VerificationClient;
use proto::verification::verification_server::Verification;
use proto::verification::waiting_calls_client::WaitingCallsClient;
use proto::verification::{
    AnswerRequest, AppendedFormsReply, AppendedFormsRequest, AwaitRequest, BeginRequest, CallsLeave, CancelReply,
    CancelRequest, CompleteRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, ReportReply, ReportRequest,
    WaitingCall, WaitingReply, waiting_call::Call, waiting_reply::Reply,
};
use service_kit::grpc::{Channel, deadline_of, with_deadline};
use service_kit::trace;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use zeroize::Zeroizing;

/// Calls on their way into a stream. Whoever has one beyond it waits until some have left.
const CALLS_QUEUED: usize = 1_024;
/// A stream that could not be opened is tried again after this, beside what goes on.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// A replica that knew no streams is asked again after this: it may have been replaced.
const PAUSE_AFTER_OLDER: Duration = Duration::from_secs(5);
/// A call without a deadline waits so long.
const USUAL: Duration = Duration::from_secs(10);

/// Verification as a gateway calls it over the network.
pub struct Caller {
    channel: Channel,
    /// Each call by itself.
    plain: Remote<VerificationClient<Channel>>,
    ways: Mutex<HashMap<Option<SocketAddr>, Arc<Way>>>,
}

/// To one replica.
#[derive(Default)]
struct Way {
    line: Mutex<Option<Arc<Line>>>,
    rests_until: Mutex<Option<Instant>>,
    /// When it was last seen to be of a version without streams.
    older: AtomicBool,
    opening: tokio::sync::Mutex<()>,
}

/// A stream that is open, and who waits on it.
struct Line {
    calls: mpsc::Sender<WaitingCall>,
    /// The other end takes calls.
    open: AtomicBool,
    next: AtomicU64,
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Heard>>>>,
}

type Heard = Box<Result<Outcome, Status>>;

/// What is asked, until when, and in which trace: as octets, because tens of thousands of them wait.
struct Question {
    octets: Zeroizing<Vec<u8>>,
    until: Instant,
}

/// Where a call can go.
enum To {
    Line(Arc<Line>),
    /// There are only replicas that know no streams.
    Plain,
}

impl Caller {
    pub fn new(channel: Channel) -> Self {
        let plain = Remote::new(VerificationClient::new(channel.clone()));
        Self { channel, plain, ways: Mutex::default() }
    }

    /// What came of it. Where the stream breaks, another replica is asked, once.
    async fn ask(&self, question: Question) -> Result<Response<Outcome>, Status> {
        for _ in 0..2 {
            let line = match Box::pin(self.line()).await? {
                To::Line(line) => line,
                To::Plain => return Box::pin(self.ask_plainly(&question)).await,
            };
            let Some(place) = line.place() else { continue };
            // In steps: what is matched on is kept while its arms wait.
            let call = question.call()?;
            let sending = place.send(call);
            let sent = match sending {
                None => true,
                Some(sending) => sending.await,
            };
            if !sent {
                continue;
            }
            // The other end keeps the time, and a connection that is dead breaks: nothing here has to wake up for that.
            if let Some(heard) = place.heard().await {
                return (*heard).map(Response::new);
            }
        }
        Err(Status::unavailable("the connection to verification broke"))
    }

    async fn ask_plainly(&self, question: &Question) -> Result<Response<Outcome>, Status> {
        let WaitingCall { left_ms, call, .. } = question.call()?;
        let left = Duration::from_millis(left_ms.into());
        match call {
            Some(Call::Begin(request)) => self.plain.begin(again(request, left)).await,
            Some(Call::Complete(request)) => self.plain.complete(again(request, left)).await,
            Some(Call::Answer(request)) => self.plain.answer(again(request, left)).await,
            Some(Call::Await(request)) => self.plain.r#await(again(request, left)).await,
            Some(Call::Leave(_)) | None => Err(Status::internal("no such call is made")),
        }
    }

    /// The stream of a replica, another one's each time.
    async fn line(&self) -> Result<To, Status> {
        let replicas = self.channel.replicas().await;
        let ways = self.ways(&replicas);
        let open = ways.iter().find_map(|way| way.line());
        if let Some(line) = open {
            for (replica, way) in replicas.into_iter().zip(ways).filter(|(_, way)| way.may_be_tried()) {
                // Beside the call; ends by the channel's own time-outs, and there is one a replica at most.
                tokio::spawn(async move { drop(way.open(replica).await) });
            }
            return Ok(To::Line(line));
        }
        let mut failure = None;
        for (replica, way) in replicas.into_iter().zip(ways) {
            match Box::pin(way.open(replica)).await {
                Ok(line) => return Ok(To::Line(line)),
                Err(status) if is_older(&status) => return Ok(To::Plain),
                Err(status) => failure = Some(status),
            }
        }
        Err(failure.unwrap_or_else(|| Status::unavailable("no address of verification is known")))
    }

    /// In the order of the replicas; those of replicas that are gone are forgotten.
    fn ways(&self, replicas: &[Channel]) -> Vec<Arc<Way>> {
        let mut ways = lock(&self.ways);
        if ways.len() > replicas.len() {
            ways.retain(|address, _| replicas.iter().any(|replica| replica.address() == *address));
        }
        replicas.iter().map(|replica| ways.entry(replica.address()).or_default().clone()).collect()
    }
}

/// Whether it is of a version without streams: what its table of who may call what does not list, it refuses before it looks whether
/// there is such a thing. Whoever may call nothing there hears so again.
fn is_older(status: &Status) -> bool {
    matches!(status.code(), Code::Unimplemented | Code::PermissionDenied)
}

/// Every one of them may be sent again: verification answers a repeated question with its first result (V-02).
fn again<M>(message: M, left: Duration) -> Request<M> {
    service_kit::grpc::idempotent(with_deadline(message, left))
}

impl Way {
    fn line(&self) -> Option<Arc<Line>> {
        lock(&self.line).clone().filter(|line| line.open.load(Ordering::Relaxed))
    }

    /// Whether it has no stream, nobody opens one, and none has just failed.
    fn may_be_tried(&self) -> bool {
        self.line().is_none() && self.opening.try_lock().is_ok() && !self.rests()
    }

    fn rests(&self) -> bool {
        lock(&self.rests_until).is_some_and(|until| Instant::now() < until)
    }

    /// The stream, opened if need be. One at a time.
    async fn open(&self, replica: Channel) -> Result<Arc<Line>, Status> {
        // Held while opening, on purpose: who comes meanwhile gets the same stream or the same failure.
        let _one = self.opening.lock().await;
        if let Some(line) = self.line() {
            return Ok(line);
        }
        if self.rests() {
            return Err(match self.older.load(Ordering::Relaxed) {
                true => Status::unimplemented("it was of an older version a moment ago"),
                false => Status::unavailable("it could not be reached a moment ago"),
            });
        }
        let opened = Line::open(replica).await;
        let older = opened.as_ref().is_err_and(is_older);
        self.older.store(older, Ordering::Relaxed);
        let pause = if older { PAUSE_AFTER_OLDER } else { PAUSE_AFTER_FAILURE };
        *lock(&self.rests_until) = opened.is_err().then(|| Instant::now() + pause);
        let line = opened?;
        *lock(&self.line) = Some(line.clone());
        Ok(line)
    }
}

impl Line {
    async fn open(replica: Channel) -> Result<Arc<Self>, Status> {
        let (calls, outgoing) = mpsc::channel(CALLS_QUEUED);
        // On a task of its own: the stream outlives the login that opens it, and is no part of its trace.
        let opening =
            tokio::spawn(async move { WaitingCallsClient::new(replica).open(ReceiverStream::new(outgoing)).await });
        let replies = opening.await.map_err(|_| Status::unavailable("the process stops"))??.into_inner();
        let line = Arc::new(Self {
            calls,
            open: AtomicBool::new(true),
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        // Ends with the stream, which ends with its connection, or when nobody holds the line any more.
        tokio::spawn(hear(Arc::downgrade(&line), replies));
        Ok(line)
    }

    /// An entry in the table; `None`: the stream has ended.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (teller, heard) = oneshot::channel();
        lock(&self.waiting).as_mut()?.insert(number, teller);
        Some(Place { line: self.clone(), number, heard })
    }

    fn take(&self, reply: WaitingReply) {
        let said = match reply.reply {
            Some(Reply::Outcome(outcome)) => Ok(outcome),
            Some(Reply::Refusal(refusal)) => Err(Status::new(Code::from_i32(refusal.code), refusal.message)),
            Some(Reply::Drain(_)) => return self.open.store(false, Ordering::Relaxed),
            // Of a newer version: no answer that could be acted on (V-75).
            None => Err(Status::internal("verification said what this version does not know")),
        };
        let waiter = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&reply.number));
        if let Some(waiter) = waiter {
            // Whoever has left meanwhile hears nothing.
            let _ = waiter.send(Box::new(said));
        }
    }

    /// Nobody hears anything more here.
    fn end(&self) {
        self.open.store(false, Ordering::Relaxed);
        drop(lock(&self.waiting).take());
    }
}

async fn hear(line: Weak<Line>, mut replies: Streaming<WaitingReply>) {
    while let Ok(Some(reply)) = replies.message().await {
        let Some(line) = line.upgrade() else { return };
        line.take(reply);
    }
    if let Some(line) = line.upgrade() {
        line.end();
    }
}

/// Somebody who waits. Dropped before an answer came, it tells the other end that nobody waits any more.
struct Place {
    line: Arc<Line>,
    number: u64,
    heard: oneshot::Receiver<Heard>,
}

impl Place {
    /// What is left to wait for: nothing where the stream has room. Then whether the call is on its way.
    fn send(&self, call: WaitingCall) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>> {
        let call = WaitingCall { number: self.number, ..call };
        match self.line.calls.try_send(call) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(call)) => {
                let calls = self.line.calls.clone();
                Some(Box::pin(async move { calls.send(call).await.is_ok() }))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Some(Box::pin(std::future::ready(false))),
        }
    }

    /// `None`: the stream broke, and nobody knows.
    async fn heard(mut self) -> Option<Heard> {
        (&mut self.heard).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_waiting = lock(&self.line.waiting).as_mut().and_then(|waiting| waiting.remove(&self.number)).is_some();
        if !was_waiting {
            return;
        }
        let leave =
            WaitingCall { number: self.number, call: Some(Call::Leave(CallsLeave {})), ..WaitingCall::default() };
        if let Err(mpsc::error::TrySendError::Full(leave)) = self.line.calls.try_send(leave) {
            let calls = self.line.calls.clone();
            // As many at most as there were calls; ends with the stream.
            tokio::spawn(async move { drop(calls.send(leave).await) });
        }
    }
}

impl Question {
    fn new<M>(request: Request<M>, call: impl FnOnce(M) -> Call) -> Self {
        let left = deadline_of(&request).unwrap_or(USUAL);
        let call = WaitingCall {
            trace: trace::current_headers().into_iter().collect(),
            call: Some(call(request.into_inner())),
            ..WaitingCall::default()
        };
        Self { octets: Zeroizing::new(call.encode_to_vec()), until: Instant::now() + left }
    }

    /// As it is sent now.
    fn call(&self) -> Result<WaitingCall, Status> {
        let call =
            WaitingCall::decode(self.octets.as_slice()).map_err(|_| Status::internal("a call is not readable"))?;
        let left = self.until.saturating_duration_since(Instant::now()).as_millis();
        Ok(WaitingCall { left_ms: left.try_into().unwrap_or(u32::MAX), ..call })
    }
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// The four that may wait are written out: `async fn` would keep the request in its future for as long as it waits.
#[async_trait]
impl Verification for Caller {
    async fn appended_forms(
        &self,
        request: Request<AppendedFormsRequest>,
    ) -> Result<Response<AppendedFormsReply>, Status> {
        self.plain.appended_forms(request).await
    }

    fn begin<'a, 'b>(&'a self, request: Request<BeginRequest>) -> Answering<'b, Outcome>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(Question::new(request, Call::Begin)))
    }

    fn complete<'a, 'b>(&'a self, request: Request<CompleteRequest>) -> Answering<'b, Outcome>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(Question::new(request, Call::Complete)))
    }

    fn answer<'a, 'b>(&'a self, request: Request<AnswerRequest>) -> Answering<'b, Outcome>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(Question::new(request, Call::Answer)))
    }

    fn r#await<'a, 'b>(&'a self, request: Request<AwaitRequest>) -> Answering<'b, Outcome>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(Question::new(request, Call::Await)))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        self.plain.cancel(request).await
    }

    async fn password_changed(
        &self,
        request: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        self.plain.password_changed(request).await
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        self.plain.report(request).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
