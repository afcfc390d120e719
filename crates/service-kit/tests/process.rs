//! A process from outside: what it logs, what its page says, how signals end it. The subject is this test program, started again.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use service_kit::config::{
    self, LogSection, ManagementSection, ShutdownSection, Sources, TelemetrySection, TlsSection,
};
use service_kit::{Sections, trace};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Config {
    log: LogSection,
    telemetry: TelemetrySection,
    tls: TlsSection,
    management: ManagementSection,
    shutdown: ShutdownSection,
}

/// Not a test of its own: what the tests below start.
#[tokio::test]
#[ignore = "started by the other tests"]
async fn the_probe() {
    let sources = Sources { environment: std::env::vars().collect(), ..Sources::default() };
    let config: Config = config::load(&sources).expect("the test gave a good configuration");
    let sections = Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start("probe", sections).await.expect("starts");
    let cause = std::io::Error::other("the cause");
    let error = config::ConfigError::File { path: "x".into(), cause };
    let span = tracing::info_span!("attempt", otel.name = "radius.request", hidden = "not in the line");
    span.in_scope(|| {
        let id = trace::current_trace_id().expect("a span has an id, collector or not");
        assert!(trace::current_headers()["traceparent"].contains(&id));
        tracing::info!(event = "authentication", first.result = "ok", first.ms = 38, result = "success", expected = id);
    });
    drop(span);
    tracing::warn!(error = %service_kit::chain(&error), service = "radius-gateway", "something \"quoted\"\nfailed");
    let meter = opentelemetry::global::meter("twinlock");
    let attempts = meter.u64_counter("twinlock_auth_attempts_total").build();
    attempts.add(3, &[opentelemetry::KeyValue::new("result", "success")]);
    meter.f64_histogram("twinlock_auth_duration_seconds").with_boundaries(vec![0.1, 60.0]).build().record(0.05, &[]);
    process.health().upstream("bus", "nats").down("connection refused");
    process.health().condition("listener").set_ready(true);
    let ready = process.health().condition("keys");
    tracing::info!("waiting");
    process.shutdown().spawn({
        let shutdown = process.shutdown().clone();
        async move {
            shutdown.leaving().await;
            tracing::info!("leaving");
            shutdown.draining().await;
            tracing::info!("draining");
            shutdown.stopping().await;
            tracing::info!("stopping");
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ready.set(true, "two keys");
    process.shutdown().leaving().await;
    process.finish().await;
}

struct Probe {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    seen: Vec<serde_json::Value>,
    address: String,
}

impl Probe {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_probe", "--ignored", "--nocapture", "--test-threads=1"])
            .envs([("TWINLOCK_LOG__FORMAT", "json"), ("TWINLOCK_MANAGEMENT__LISTEN", "127.0.0.1:0")])
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut probe = Self { child, lines, seen: Vec::new(), address: String::new() };
        let started = probe.until("process started").await;
        probe.address = started["management"].as_str().expect("an address").to_owned();
        probe
    }

    /// Ends it with a signal, and waits; the rest of the log is read too.
    async fn end(&mut self) {
        self.signal();
        self.until("process stopped").await;
        let rest = async {
            while let Some(line) = self.lines.next_line().await.expect("read") {
                self.seen.push(serde_json::from_str(&line).expect("every line is one JSON object"));
            }
        };
        timeout(Duration::from_secs(20), rest).await.expect("it ends");
        assert!(self.child.wait().await.expect("waited").success());
    }

    /// Reads the log up to a message.
    async fn until(&mut self, message: &str) -> serde_json::Value {
        let found = async {
            loop {
                let line = self.lines.next_line().await.expect("read").expect("the process is still there");
                let line: serde_json::Value = serde_json::from_str(&line).expect("every line is one JSON object");
                self.seen.push(line.clone());
                if line["message"] == message {
                    return line;
                }
            }
        };
        timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("never logged: {message}"))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answered");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }

    async fn until_status(&self, path: &str, status: u16) -> String {
        let found = async {
            loop {
                match self.get(path).await {
                    (found, body) if found == status => return body,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(Duration::from_secs(10), found).await.unwrap_or_else(|_| panic!("{path} never said {status}"))
    }

    fn signal(&self) {
        let id = self.child.id().expect("running").to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
    }
}

#[tokio::test]
async fn a_log_line_is_one_json_object_with_flat_fields_and_the_trace_id() {
    let mut probe = Probe::start(&[]).await;
    probe.until("waiting").await;
    let attempt = probe.seen.iter().find(|line| line["event"] == "authentication").expect("the attempt was logged");
    let ts = attempt["ts"].as_str().expect("a time");
    assert!(ts.len() == 24 && ts.as_bytes()[10] == b'T' && ts.as_bytes()[19] == b'.' && ts.ends_with('Z'), "{ts}");
    assert_eq!(attempt["level"], "info");
    assert_eq!(attempt["service"], "probe");
    assert_eq!(attempt["first"], serde_json::json!({ "result": "ok", "ms": 38 }));
    assert_eq!(attempt["trace_id"], attempt["expected"]);
    assert!(attempt.get("hidden").is_none() && attempt.get("message").is_none(), "{attempt}");
    let warning = probe.seen.iter().find(|line| line["level"] == "warn").expect("the warning was logged");
    assert_eq!(warning["message"], "something \"quoted\"\nfailed");
    assert_eq!(warning["error"], "the configuration file x cannot be read: the cause");
    assert_eq!(warning["service"], "radius-gateway");
    assert!(warning.get("trace_id").is_none(), "outside of a span");
}

#[tokio::test]
async fn the_page_shows_readiness_upstreams_and_metrics_and_readiness_does_not_depend_on_upstreams() {
    let mut probe = Probe::start(&[]).await;
    probe.until("waiting").await;
    assert_eq!(probe.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(probe.get("/readyz?verbose").await, (503, "[-] keys: not yet\n[+] listener\n".to_owned()));
    assert_eq!(probe.get("/startupz").await.0, 503);
    probe.until_status("/readyz", 200).await;
    assert_eq!(probe.get("/readyz?verbose").await.1, "[+] keys: two keys\n[+] listener\n");
    assert_eq!(probe.get("/startupz").await.0, 200);
    let upstreams: serde_json::Value = serde_json::from_str(&probe.get("/healthz/upstreams").await.1).expect("JSON");
    assert_eq!(upstreams[0]["state"], "down");
    assert_eq!(upstreams[0]["last_error"], "connection refused");
    let metrics = probe.get("/metrics").await.1;
    for line in [
        "twinlock_auth_attempts_total{result=\"success\"} 3",
        "twinlock_auth_duration_seconds_bucket{le=\"0.1\"} 1",
        "twinlock_upstream_up{kind=\"bus\",name=\"nats\"} 0",
        "twinlock_build_info{version=\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("otel_scope"), "{metrics}");
}

#[tokio::test]
async fn a_signal_makes_unready_then_drains_then_stops_and_the_exit_is_clean() {
    let settings = [("TWINLOCK_SHUTDOWN__DRAIN_DELAY_SECONDS", "1"), ("TWINLOCK_SHUTDOWN__DRAIN_TIMEOUT_SECONDS", "1")];
    let mut probe = Probe::start(&settings).await;
    probe.until_status("/readyz", 200).await;
    probe.signal();
    probe.until("leaving").await;
    assert!(probe.until_status("/readyz?verbose", 503).await.contains("shutting down"));
    probe.until("draining").await;
    probe.until("stopping").await;
    probe.until("process stopped").await;
    assert!(probe.child.wait().await.expect("waited").success());
}

#[tokio::test]
async fn a_second_signal_skips_the_waiting() {
    let settings =
        [("TWINLOCK_SHUTDOWN__DRAIN_DELAY_SECONDS", "600"), ("TWINLOCK_SHUTDOWN__DRAIN_TIMEOUT_SECONDS", "600")];
    let mut probe = Probe::start(&settings).await;
    probe.until_status("/readyz", 200).await;
    probe.signal();
    probe.until("leaving").await;
    probe.signal();
    probe.until("process stopped").await;
    assert!(probe.child.wait().await.expect("waited").success());
}

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<ResourceSpans>>>,
    metrics: Arc<Mutex<Vec<ResourceMetrics>>>,
    logs: Arc<Mutex<Vec<ResourceLogs>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans.lock().expect("no panic").extend(request.into_inner().resource_spans);
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().expect("no panic").extend(request.into_inner().resource_metrics);
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().expect("no panic").extend(request.into_inner().resource_logs);
        Ok(Response::new(Default::default()))
    }
}

#[tokio::test]
async fn traces_metrics_and_logs_reach_a_collector_before_the_process_ends() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    let delays = [("TWINLOCK_SHUTDOWN__DRAIN_DELAY_SECONDS", "0"), ("TWINLOCK_SHUTDOWN__DRAIN_TIMEOUT_SECONDS", "1")];
    for named in ["TWINLOCK_TELEMETRY__OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        let mut probe = Probe::start(&[delays[0], delays[1], (named, &endpoint)]).await;
        probe.until_status("/readyz", 200).await;
        probe.end().await;
        let logged = probe.seen.iter().find(|line| line["event"] == "authentication").expect("logged");
        let trace = logged["trace_id"].as_str().expect("a trace id").to_owned();

        let spans = std::mem::take(&mut *collector.spans.lock().expect("no panic"));
        assert!(!spans.is_empty(), "nothing arrived through {named}; the process said {:?}", probe.seen);
        let resource = spans[0].resource.as_ref().expect("a resource").attributes.iter();
        let mut named: Vec<_> = resource.map(|pair| format!("{}={:?}", pair.key, pair.value)).collect();
        named.retain(|pair| pair.contains("twinlock"));
        assert!(
            named.iter().any(|pair| pair.starts_with("service.name=") && pair.contains("twinlock-probe")),
            "{named:?}"
        );
        assert!(named.iter().any(|pair| pair.starts_with("service.namespace=")), "{named:?}");
        let span = spans[0].scope_spans[0].spans.iter().find(|span| span.name == "radius.request").expect("the span");
        assert_eq!(data_encoding::HEXLOWER.encode(&span.trace_id), trace);

        let metrics = std::mem::take(&mut *collector.metrics.lock().expect("no panic"));
        let scopes = metrics.iter().flat_map(|metrics| &metrics.scope_metrics);
        let names: Vec<_> = scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.as_str()).collect();
        assert!(names.contains(&"twinlock_auth_attempts_total"), "{names:?}");

        let logs = std::mem::take(&mut *collector.logs.lock().expect("no panic"));
        let scopes = logs.iter().flat_map(|logs| &logs.scope_logs);
        let mut records = scopes.flat_map(|scope| &scope.log_records);
        let in_trace = records.any(|record| data_encoding::HEXLOWER.encode(&record.trace_id) == trace);
        assert!(in_trace, "the log record of the attempt carries its trace");
    }
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let listen = taken.local_addr().expect("an address");
    let (log, telemetry, tls) = <(LogSection, TelemetrySection, TlsSection)>::default();
    let shutdown = ShutdownSection::default();
    let management = ManagementSection { listen };
    let sections =
        Sections { log: &log, telemetry: &telemetry, tls: &tls, management: &management, shutdown: &shutdown };
    let error = service_kit::start("probe", sections).await.err().expect("the port is taken");
    assert_eq!(
        service_kit::chain(&error),
        format!("the management port {listen} cannot be opened: Address already in use (os error 98)")
    );
}
