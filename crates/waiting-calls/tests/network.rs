//! Calls that wait, over mutual TLS: what becomes of them when one end or the other goes.

use lab::Pki;
use proto::permissions::{self, part};
use proto::verification::verification_server::{Verification, VerificationServer};
use proto::verification::waiting_calls_server::WaitingCallsServer;
use proto::verification::{
    Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, Attempt, AwaitRequest, BeginRequest, CancelReply,
    CancelRequest, CompleteRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, ReportReply, ReportRequest,
    outcome,
};
use service_kit::Process;
use service_kit::config::GrpcSection;
use service_kit::grpc::{Channel, Endpoints, Server, deadline_of, with_deadline};
use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, async_trait};
use waiting_calls::{Answerer, Caller};

const SOON: Duration = Duration::from_secs(20);

/// Everybody is asked on the phone, and approves when the gate lets them.
struct People {
    gate: Semaphore,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Transactions that are waited for now.
    waiting: HashSet<String>,
    begun: usize,
    left: usize,
    /// What the last caller had left.
    patience: Option<Duration>,
}

/// Somebody is being asked. Dropped before the answer: the caller has left.
struct Asked<'a> {
    people: &'a People,
    transaction: String,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut seen = self.people.seen();
        seen.waiting.remove(&self.transaction);
        seen.left += usize::from(!self.answered);
    }
}

impl People {
    fn new() -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(0), seen: Mutex::default() })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while holding it")
    }

    /// How many were asked, and how many were left before they had answered.
    fn counted(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.begun, seen.left)
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        until(what, || is_so(&self.seen())).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

#[async_trait]
impl Verification for People {
    async fn appended_forms(&self, _: Request<AppendedFormsRequest>) -> Result<Response<AppendedFormsReply>, Status> {
        Ok(Response::new(AppendedFormsReply { code_digits: vec![6], ..AppendedFormsReply::default() }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let patience = deadline_of(&request);
        let Attempt { transaction_id, client, .. } = *request.into_inner().attempt.expect("an attempt");
        let mut asked = Asked { people: self, transaction: transaction_id.clone(), answered: false };
        {
            let mut seen = self.seen();
            seen.waiting.insert(transaction_id.clone());
            seen.begun += 1;
            seen.patience = patience;
        }
        match client.as_str() {
            "overloaded" => return Err(Status::resource_exhausted("on command")),
            "panics" => panic!("on command"),
            _ => self.gate.acquire().await.expect("open").forget(),
        }
        asked.answered = true;
        let result = Some(outcome::Result::Allow(Allow { client, ..Allow::default() }));
        Ok(Response::new(Outcome { transaction_id, result }))
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        Ok(Response::new(Outcome { transaction_id: "complete".into(), result: None }))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        let answer = request.into_inner().answer.expect("an answer");
        Ok(Response::new(Outcome { transaction_id: String::from_utf8_lossy(&answer.value).into(), result: None }))
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<Outcome>, Status> {
        Ok(Response::new(Outcome { transaction_id: request.into_inner().transaction_id, result: None }))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Ok(Response::new(CancelReply { ended: true }))
    }

    async fn password_changed(
        &self,
        _: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        Ok(Response::new(PasswordChangedReply {}))
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        Ok(Response::new(ReportReply {}))
    }
}

/// Whether a replica knows streams.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    Older,
    Ours,
}

fn before_there_were_streams(part: &str, path: &str) -> bool {
    !path.contains("WaitingCalls") && permissions::allowed(part, path)
}

/// On a runtime of its own, so that it can die as `kill -9` lets it die.
struct Replica {
    runtime: tokio::runtime::Runtime,
    process: Process,
    address: SocketAddr,
}

impl Replica {
    fn start(section: &GrpcSection, people: &Arc<People>, version: Version) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        let process = Process::detached("verification");
        let address = runtime.block_on(async {
            let permitted = if version == Version::Ours { permissions::allowed } else { before_there_were_streams };
            let mut server = Server::new(permitted).add(VerificationServer::from_arc(people.clone()));
            if version == Version::Ours {
                let answerer = Answerer::new(people.clone(), process.shutdown().clone());
                server = server.add(WaitingCallsServer::new(answerer));
            }
            server.serve(section, &process).await.expect("served")
        });
        Self { runtime, process, address }
    }

    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

struct Lab {
    pki: Pki,
    _folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { pki: Pki::new(folder.path()).expect("an authority"), _folder: folder }
    }

    fn section(&self, part: &str) -> GrpcSection {
        let issued = self.pki.issue(part, &[&format!("{part}.twinlock.internal")]).expect("issued");
        let section = serde_json::json!({
            "listen": "127.0.0.1:0",
            "certificate_file": issued.certificate,
            "key_file": issued.key,
            "ca_file": self.pki.ca_file(),
        });
        serde_json::from_value(section).expect("a section")
    }

    fn caller(&self, part: &str, replicas: &[&Replica]) -> Arc<Caller> {
        let endpoints: Vec<String> = replicas.iter().map(|replica| format!("https://{}", replica.address)).collect();
        let endpoints = Endpoints::try_from(endpoints.join(",")).expect("endpoints");
        Arc::new(Caller::new(Channel::new(part::VERIFICATION, &endpoints, &self.section(part)).expect("a channel")))
    }
}

fn begin(transaction: &str, client: &str) -> Request<BeginRequest> {
    let attempt = Attempt { transaction_id: transaction.into(), client: client.into(), ..Attempt::default() };
    with_deadline(BeginRequest { attempt: Some(attempt.into()), ..BeginRequest::default() }, Duration::from_secs(60))
}

type Call = tokio::task::JoinHandle<Result<String, Status>>;

fn calling(caller: &Arc<Caller>, transaction: &str) -> Call {
    let (caller, request) = (caller.clone(), begin(transaction, "vpn"));
    tokio::spawn(async move { caller.begin(request).await.map(|outcome| outcome.into_inner().transaction_id) })
}

fn multi_thread<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("built");
    let outcome = runtime.block_on(runtime.spawn(test)).expect("no panic");
    runtime.shutdown_background();
    outcome
}

#[test]
fn thousands_wait_on_one_stream_and_each_hears_its_own_outcome() {
    // P-08
    multi_thread(async {
        let (lab, people) = (Lab::new(), People::new());
        let section = lab.section(part::VERIFICATION);
        let replica = tokio::task::block_in_place(|| Replica::start(&section, &people, Version::Ours));
        let caller = lab.caller(part::RADIUS_GATEWAY, &[&replica]);
        let calls: Vec<Call> = (0..3_000).map(|number| calling(&caller, &number.to_string())).collect();
        people.until("all wait at once", |seen| seen.waiting.len() == 3_000).await;
        let patience = people.seen().patience.expect("a deadline");
        assert!(patience <= Duration::from_secs(60) && patience > Duration::from_secs(30), "{patience:?}");
        // What waits for nobody is answered meanwhile.
        let looked = with_deadline(AwaitRequest { transaction_id: "look".into(), ..Default::default() }, SOON);
        assert_eq!(caller.r#await(looked).await.expect("answered").into_inner().transaction_id, "look");
        let code = proto::common::Secret { value: b"123456".to_vec() };
        let answer = with_deadline(AnswerRequest { answer: Some(code), ..AnswerRequest::default() }, SOON);
        assert_eq!(caller.answer(answer).await.expect("answered").into_inner().transaction_id, "123456");
        let completed = caller.complete(with_deadline(CompleteRequest::default(), SOON)).await;
        assert_eq!(completed.expect("answered").into_inner().transaction_id, "complete");
        people.gate.add_permits(3_000);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.expect("no panic").expect("answered"), number.to_string());
        }
        assert_eq!(people.counted(), (3_000, 0));
        tokio::task::block_in_place(|| replica.kill());
    });
}

#[test]
fn whoever_stops_waiting_leaves_nobody_asked() {
    // R-32, V-44: the client gave up, or the time is over.
    multi_thread(async {
        let (lab, people) = (Lab::new(), People::new());
        let section = lab.section(part::VERIFICATION);
        let replica = tokio::task::block_in_place(|| Replica::start(&section, &people, Version::Ours));
        let caller = lab.caller(part::RADIUS_GATEWAY, &[&replica]);
        let (leaves, stays) = (calling(&caller, "leaves"), calling(&caller, "stays"));
        people.until("both are asked", |seen| seen.waiting.len() == 2).await;
        leaves.abort();
        people.until("one is not asked any more", |seen| seen.left == 1).await;
        assert!(people.seen().waiting.contains("stays"));

        let hurried = with_deadline(begin("hurried", "vpn").into_inner(), Duration::from_millis(300));
        let status = caller.begin(hurried).await.expect_err("its time is over");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        people.until("nor is that one", |seen| seen.left == 2).await;

        people.gate.add_permits(1);
        assert_eq!(stays.await.expect("no panic").expect("answered"), "stays");
        // The gateway itself is gone.
        let orphan = calling(&caller, "orphan");
        people.until("asked", |seen| seen.waiting.contains("orphan")).await;
        orphan.abort();
        drop(caller);
        people.until("its prompt is withdrawn", |seen| seen.left == 3).await;
        tokio::task::block_in_place(|| replica.kill());
    });
}

#[test]
fn when_a_replica_dies_its_logins_wait_at_another_one() {
    // T-07, V-02
    multi_thread(async {
        let (lab, first, second) = (Lab::new(), People::new(), People::new());
        let section = lab.section(part::VERIFICATION);
        let (one, two) = tokio::task::block_in_place(|| {
            (Replica::start(&section, &first, Version::Ours), Replica::start(&section, &second, Version::Ours))
        });
        let caller = lab.caller(part::RADIUS_GATEWAY, &[&one, &two]);
        let mut calls = vec![calling(&caller, "0")];
        // The streams to both are open once both have been asked.
        let mut number = 0;
        while first.seen().begun == 0 || second.seen().begun == 0 {
            number += 1;
            calls.push(calling(&caller, &number.to_string()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = calls.len();
        let lost = first.seen().begun;
        tokio::task::block_in_place(|| one.kill());
        second.until("all wait at the other one", |seen| seen.waiting.len() == all).await;
        assert!(lost > 0);
        second.gate.add_permits(all);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.expect("no panic").expect("answered"), number.to_string());
        }
        tokio::task::block_in_place(|| two.kill());
        let status = caller.begin(begin("late", "vpn")).await.expect_err("nobody is left");
        assert_eq!(status.code(), Code::Unavailable);
    });
}

#[test]
fn a_replica_that_drains_answers_what_waits_and_gets_nothing_new() {
    multi_thread(async {
        let (lab, first, second) = (Lab::new(), People::new(), People::new());
        let section = lab.section(part::VERIFICATION);
        let one = tokio::task::block_in_place(|| Replica::start(&section, &first, Version::Ours));
        let two = tokio::task::block_in_place(|| Replica::start(&section, &second, Version::Ours));
        let caller = lab.caller(part::RADIUS_GATEWAY, &[&one, &two]);
        let mut calls = Vec::new();
        while first.seen().begun == 0 || second.seen().begun == 0 {
            calls.push(calling(&caller, &calls.len().to_string()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        one.process.shutdown().begin();
        one.process.shutdown().draining().await;
        // Some may come until the gateway has heard.
        let mut before = usize::MAX;
        while first.seen().begun != before {
            before = first.seen().begun;
            for _ in 0..4 {
                calls.push(calling(&caller, &calls.len().to_string()));
            }
            let all = calls.len();
            until("all wait", || first.seen().waiting.len() + second.seen().waiting.len() == all).await;
        }
        first.gate.add_permits(before);
        second.gate.add_permits(calls.len());
        let finished = one.process.clone();
        tokio::time::timeout(SOON, finished.finish()).await.expect("it ends when those are answered");
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.expect("no panic").expect("answered"), number.to_string());
        }
        assert_eq!(first.counted(), (before, 0), "nobody there was asked twice");
        tokio::task::block_in_place(|| (one.kill(), two.kill()));
    });
}

#[test]
fn an_older_replica_gets_calls_of_their_own_and_a_refusal_stays_what_it_is() {
    // Parts of two versions stand beside each other while a new one is rolled out.
    multi_thread(async {
        for version in [Version::Older, Version::Ours] {
            let (lab, people) = (Lab::new(), People::new());
            let section = lab.section(part::VERIFICATION);
            let replica = tokio::task::block_in_place(|| Replica::start(&section, &people, version));
            let caller = lab.caller(part::LDAP_GATEWAY, &[&replica]);
            people.gate.add_permits(2);
            for transaction in ["one", "two"] {
                assert_eq!(calling(&caller, transaction).await.expect("no panic").expect("answered"), transaction);
            }
            let status = caller.begin(begin("three", "overloaded")).await.expect_err("refused");
            assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "on command"));
            let forms = caller.appended_forms(with_deadline(AppendedFormsRequest::default(), SOON)).await;
            assert_eq!(forms.expect("answered").into_inner().code_digits, [6]);
            if version == Version::Ours {
                let status = caller.begin(begin("four", "panics")).await.expect_err("it has no answer");
                assert_eq!(status.code(), Code::Internal, "{status}");
            }
            // Whoever may not call verification may not do so by a stream.
            let stranger = lab.caller(part::DIRECTORY_SYNC, &[&replica]);
            let status = stranger.begin(begin("five", "vpn")).await.expect_err("not in the table");
            assert!(matches!(status.code(), Code::PermissionDenied), "{status}");
            tokio::task::block_in_place(|| replica.kill());
        }
    });
}
