//! Parts that call each other: who is let in, who may call what, what travels along, and what happens when a replica dies. The service is
//! a generated one that is at hand.

mod authority;

use authority::Authority;
use opentelemetry::trace::TracerProvider;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use service_kit::config::GrpcSection;
use service_kit::grpc::{Channel, Endpoints, Peer, Server, idempotent, with_deadline};
use service_kit::tls::{ClientTls, TlsOptions, Trust};
use service_kit::{Process, trace};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

/// Says who called and in which trace; may be told to wait.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    gate: Option<Arc<Semaphore>>,
}

#[tonic::async_trait]
impl TraceService for Echo {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("open").forget();
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        let peer = request.extensions().get::<Peer>().expect("every call has a peer");
        let trace = trace::current_trace_id().unwrap_or_default();
        let error_message = format!("{} {:?} {trace}", peer.part, peer.uid);
        Ok(Response::new(ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans: 0, error_message }),
        }))
    }
}

impl Echo {
    fn waiting() -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        (Self { gate: Some(gate.clone()), ..Self::default() }, gate)
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn until_called(&self, times: usize) {
        let called = async {
            while self.calls() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), called).await.expect("called in time");
    }
}

/// `portal` may export; nobody else may do anything.
fn permitted(part: &str, path: &str) -> bool {
    part == "portal" && path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
}

fn everybody(_: &str, _: &str) -> bool {
    true
}

async fn serve(section: &GrpcSection, echo: &Echo, process: &Process) -> SocketAddr {
    let server = Server::new(permitted).add(TraceServiceServer::new(echo.clone()));
    server.serve(section, process).await.expect("served")
}

/// A server on a runtime of its own, so that it can die as `kill -9` lets it die.
struct Replica {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Replica {
    fn start(section: &GrpcSection, echo: &Echo) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
        let address = runtime.block_on(async {
            let process = Process::detached("verification");
            serve(section, echo, &process).await
        });
        Self { runtime, address }
    }

    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn channel(addresses: &[SocketAddr], section: &GrpcSection) -> TraceServiceClient<Channel> {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("https://{address}")).collect();
    let endpoints = Endpoints::try_from(endpoints.join(",")).expect("endpoints");
    TraceServiceClient::new(Channel::new("verification", &endpoints, section).expect("a channel"))
}

fn empty() -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::default()
}

fn said(response: Response<ExportTraceServiceResponse>) -> String {
    response.into_inner().partial_success.expect("said something").error_message
}

fn multi_thread<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("built");
    let outcome = runtime.block_on(runtime.spawn(test)).expect("no panic");
    runtime.shutdown_background();
    outcome
}

#[tokio::test]
async fn a_call_brings_the_part_from_the_certificate_and_the_trace() {
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    // For all threads: one of this thread alone loses its spans to the tests that run beside it.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("the only one");
    let (authority, process, echo) = (Authority::new(), Process::detached("verification"), Echo::default());
    let address = serve(&authority.section("verification"), &echo, &process).await;
    let mut client = channel(&[address], &authority.section("portal"));
    let span = tracing::info_span!("attempt");
    let expected = span.in_scope(trace::current_trace_id).expect("a trace");
    let response = client.export(empty()).instrument(span).await.expect("answered");
    assert_eq!(said(response), format!("portal None {expected}"));
    assert!(process.health().is_ready(), "the listener is bound");
}

#[tokio::test]
async fn only_the_right_part_of_the_right_authority_gets_an_answer() {
    // V-72. A wrong client certificate, none, a server that is another part.
    let (authority, other) = (Authority::new(), Authority::new());
    let (process, echo) = (Process::detached("verification"), Echo::default());
    let address = serve(&authority.section("verification"), &echo, &process).await;

    let mut forged = other.section("portal");
    forged.ca_file = authority.ca();
    let status = channel(&[address], &forged).export(empty()).await.expect_err("another authority signed it");
    assert_eq!(status.code(), Code::Unavailable);

    let mut nameless = authority.section("portal");
    let identity = authority.issue("nameless", "portal.example.com");
    (nameless.certificate_file, nameless.key_file) = (identity.certificate, identity.key);
    let status = channel(&[address], &nameless).export(empty()).await.expect_err("it names no part");
    assert_eq!(status.code(), Code::Unavailable);

    let status = channel(&[address], &other.section("portal")).export(empty()).await.expect_err("not our server");
    assert_eq!(status.code(), Code::Unavailable);

    let impostor = serve(&authority.section("radius-gateway"), &echo, &process).await;
    let status = channel(&[impostor], &authority.section("portal")).export(empty()).await.expect_err("another part");
    assert_eq!(status.code(), Code::Unavailable);

    // Without a certificate. TLS 1.3 tells the client only when it reads.
    let options = TlsOptions { alpn: vec![b"h2".to_vec()], only_tls13: true, ..TlsOptions::default() };
    let tls = ClientTls::load(Trust::Authority(authority.ca()), None, options).expect("loads");
    let name = rustls_pki_types::ServerName::try_from("verification.twinlock.internal").expect("a name");
    let stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let mut stream = tokio_rustls::TlsConnector::from(tls.current()).connect(name, stream).await.expect("so far");
    let refused = stream.read(&mut [0; 1024]).await.expect_err("no certificate");
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
    assert_eq!(echo.calls(), 0, "nothing reached the service");
}

#[tokio::test]
async fn what_the_table_does_not_list_is_refused_before_the_service_and_health_is_for_everybody() {
    let (authority, process, echo) = (Authority::new(), Process::detached("verification"), Echo::default());
    let address = serve(&authority.section("verification"), &echo, &process).await;
    let section = authority.section("radius-gateway");
    let status = channel(&[address], &section).export(empty()).await.expect_err("not in the table");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(echo.calls(), 0);
    let endpoints = Endpoints::try_from(format!("https://{address}")).expect("one");
    let channel = Channel::new("verification", &endpoints, &section).expect("a channel");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("answered").into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn a_deadline_ends_the_call_at_both_ends() {
    // V-44.
    let (authority, process, (echo, _gate)) = (Authority::new(), Process::detached("verification"), Echo::waiting());
    let address = serve(&authority.section("verification"), &echo, &process).await;
    let mut client = channel(&[address], &authority.section("portal"));
    let begun = std::time::Instant::now();
    let status = client.export(with_deadline(empty(), Duration::from_millis(300))).await.expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!((echo.calls(), echo.finished.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn thousands_of_calls_wait_on_one_channel() {
    multi_thread(async {
        let (authority, process, (echo, gate)) = (Authority::new(), Process::detached("verification"), Echo::waiting());
        let address = serve(&authority.section("verification"), &echo, &process).await;
        let client = channel(&[address], &authority.section("portal"));
        let calls: Vec<_> = (0..2_000)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.export(empty()).await.map(said) })
            })
            .collect();
        echo.until_called(2_000).await;
        gate.add_permits(2_000);
        for call in calls {
            call.await.expect("no panic").expect("answered");
        }
    });
}

#[test]
fn when_a_replica_dies_the_others_answer_and_it_serves_again_when_it_is_back() {
    multi_thread(async {
        let authority = Authority::new();
        let mut section = authority.section("verification");
        let (first, second) = (Echo::default(), Echo::default());
        let (one, two) =
            tokio::task::block_in_place(|| (Replica::start(&section, &first), Replica::start(&section, &second)));
        let mut client = channel(&[one.address, two.address], &authority.section("portal"));
        for _ in 0..40 {
            client.export(empty()).await.expect("answered");
        }
        assert!(first.calls() > 10 && second.calls() > 10, "both serve: {} and {}", first.calls(), second.calls());

        section.listen = one.address;
        tokio::task::block_in_place(|| one.kill());
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            client.export(idempotent(empty())).await.expect("the other one answers");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "no call waits for the dead one");

        let before = first.calls();
        let back = tokio::task::block_in_place(|| Replica::start(&section, &first));
        let served = async {
            while first.calls() < before + 10 {
                client.export(empty()).await.expect("answered");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), served).await.expect("the first one serves again");
        tokio::task::block_in_place(|| (back.kill(), two.kill()));
        let status = client.export(idempotent(empty())).await.expect_err("nobody is left");
        assert_eq!(status.code(), Code::Unavailable);
    });
}

#[test]
fn a_call_that_broke_off_is_sent_again_only_where_the_caller_says_idempotent() {
    multi_thread(async {
        for may_repeat in [true, false] {
            let authority = Authority::new();
            let section = authority.section("verification");
            let ((stuck, _gate), other) = (Echo::waiting(), Echo::default());
            let one = tokio::task::block_in_place(|| Replica::start(&section, &stuck));
            let two = tokio::task::block_in_place(|| Replica::start(&section, &other));
            let mut client = channel(&[one.address, two.address], &authority.section("portal"));
            // Calls go round, so one of the first few is stuck at the first replica. One at a time: it is the only one there.
            let call = loop {
                let mut client = client.clone();
                let request = if may_repeat { idempotent(empty()) } else { Request::new(empty()) };
                let call = tokio::spawn(async move { client.export(request).await.map(said) });
                while stuck.calls() == 0 && !call.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if !call.is_finished() {
                    break call;
                }
                call.await.expect("no panic").expect("the other one answers");
            };
            tokio::task::block_in_place(|| one.kill());
            match call.await.expect("no panic") {
                Ok(_) => assert!(may_repeat, "it was sent again unasked"),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    assert!(!may_repeat, "it was not sent again");
                }
            }
            client.export(empty()).await.expect("the other one still answers");
            tokio::task::block_in_place(|| two.kill());
        }
    });
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    let (authority, process, (echo, gate)) = (Authority::new(), Process::detached("verification"), Echo::waiting());
    let address = serve(&authority.section("verification"), &echo, &process).await;
    let client = channel(&[address], &authority.section("portal"));
    let mut calling = client.clone();
    let call = tokio::spawn(async move { calling.export(empty()).await.map(said) });
    echo.until_called(1).await;
    process.shutdown().begin();
    process.shutdown().draining().await;
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("the port closes");
    gate.add_permits(1);
    call.await.expect("no panic").expect("what was in work is answered");
    tokio::time::timeout(Duration::from_secs(5), process.finish()).await.expect("ends");
    client.clone().export(empty()).await.expect_err("gone");
}

#[tokio::test]
async fn the_local_socket_is_for_owner_and_group_and_its_part_is_admin() {
    let (folder, process, echo) =
        (tempfile::tempdir().expect("a folder"), Process::detached("twinlock"), Echo::default());
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that a dead process left"));
    let server = Server::new(everybody).add(TraceServiceServer::new(echo.clone()));
    server.clone().serve_unix(&path, &process).await.expect("served");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
    let mut client = TraceServiceClient::new(Channel::unix(&path));
    let uid = rustix::process::geteuid().as_raw();
    assert!(said(client.export(empty()).await.expect("answered")).starts_with(&format!("admin Some({uid}) ")));
    let error = server.serve_unix(&path, &process).await.expect_err("somebody answers there");
    assert!(service_kit::chain(&error).contains("Address already in use"), "{}", service_kit::chain(&error));
}
