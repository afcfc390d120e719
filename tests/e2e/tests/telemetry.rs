//! One login of the cluster, as a collector sees it: a tree of spans over three services under one trace id, the log line
//! and the log record that name it, and the metrics that count it.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER;
use e2e::{Answer, Device, Distributed, story};
use lab::{Part, RADIUS_SECRET};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{metric, number_data_point},
    resource::v1::Resource,
    trace::v1::span::SpanKind,
};
use serde_json::Value as Json;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};
use tonic::{Request, Response, Status};

/// A RADIUS client that wants the code behind the password: one call decides.
const STRICT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

const SETTINGS: &str = r#"
[[client]]
name = "strict"
protocol = "radius"
sources = ["127.0.0.6/32"]
target = "acme"
secret = "file:radius.secret"
appended = "required"
"#;

/// Spans and log records are sent in batches, five seconds apart at most.
const PATIENCE: Duration = Duration::from_secs(30);

const RADIUS: &str = "twinlock-radius-gateway";
const VERIFICATION: &str = "twinlock-verification";
const STORE: &str = "twinlock-user-store";

struct World {
    distributed: Distributed,
    collector: Collector,
    /// Of the one login, as its log line says.
    trace: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_can_be_followed_through_every_service() -> Result<()> {
    let (collector, endpoint) = Collector::start().await?;
    let configuration = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
    let distributed = Distributed::start(0, SETTINGS, &configuration)?;
    let mut world = World { distributed, collector, trace: String::new() };
    story!(&mut world;
        a_login_writes_one_log_line_that_names_its_trace,
        the_login_is_one_tree_over_three_services,
        the_log_record_of_the_login_arrives_in_its_trace,
        the_metrics_page_counts_the_login,
        the_collector_gets_the_same_count_before_the_gateway_ends,
    )
}

async fn a_login_writes_one_log_line_that_names_its_trace(world: &mut World) -> Result<()> {
    let ann = world.distributed.command_line().enrol("ann.archer")?;
    let device = Device::new(STRICT, world.distributed.cluster.radius_port(1), RADIUS_SECRET)?;
    let answer = device.login(&ann.uid, &ann.appended(0)?).await?;
    ensure!(answer == Answer::Accept, "{answer:?}");
    // The reply leaves before the line is written.
    let line = until("the line of the attempt", || {
        let log = world.distributed.cluster.log((Part::RadiusGateway, 1));
        let attempts: Vec<Json> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Json| line["event"] == "authentication")
            .collect();
        Ok(<[Json; 1]>::try_from(attempts).ok().map(|[line]| line))
    })
    .await?;
    for (field, value) in [("client", "strict"), ("user", "ann.archer"), ("reason", "valid_code")] {
        ensure!(line[field] == value, "{field} of {line}");
    }
    world.trace = line["trace_id"].as_str().context("no trace_id")?.to_owned();
    ensure!(world.trace.len() == 32 && world.trace != "0".repeat(32), "{}", world.trace);
    Ok(())
}

async fn the_login_is_one_tree_over_three_services(world: &mut World) -> Result<()> {
    const WANTED: [&[(&str, SpanKind, &str)]; 4] = [
        &[("directory.bind", SpanKind::Client, RADIUS)],
        &[BEGIN, ("policy.decide", SpanKind::Internal, VERIFICATION)],
        &[BEGIN, ("Facts/Login", SpanKind::Client, VERIFICATION), ("Facts/Login", SpanKind::Server, STORE)],
        &[BEGIN, ("Commit/TryCode", SpanKind::Client, VERIFICATION), ("Commit/TryCode", SpanKind::Server, STORE)],
    ];
    // Over a stream for many calls, which is no part of the trace: a span of its own for each would be most of what waits in memory.
    const BEGIN: (&str, SpanKind, &str) = ("Verification/Begin", SpanKind::Server, VERIFICATION);

    let tree = until("the whole tree of the login", || {
        let tree = world.collector.tree(&world.trace);
        Ok(Some(tree).filter(|tree| tree.is_whole() && WANTED.iter().all(|path| !tree.at(path).is_empty())))
    })
    .await
    .with_context(|| world.collector.tree(&world.trace).picture())?;
    let picture = tree.picture();
    let root = tree.root().with_context(|| picture.clone())?;
    ensure!((root.name.as_str(), root.kind, root.service.as_str()) == ("radius.request", SpanKind::Server, RADIUS));
    ensure!(root.attributes.get("twinlock.client").is_some_and(|client| client == "strict"), "{picture}");
    for path in WANTED {
        let found = tree.at(path);
        let [span] = found.as_slice() else { bail!("{} of {path:?} in\n{picture}", found.len()) };
        if span.name == "policy.decide" {
            ensure!(span.attributes.get("twinlock.method").is_some_and(|method| method == "code"), "{picture}");
        }
        if span.name == "directory.bind" {
            ensure!(span.attributes.get("server.address").is_some_and(|server| server == "127.0.0.1"), "{picture}");
        }
    }
    // One bind, one decision of each kind: nothing was asked twice, and nothing failed.
    for name in ["directory.bind", "Commit/TryCode"] {
        let kind = SpanKind::Client;
        ensure!(tree.spans.iter().filter(|span| (span.name.as_str(), span.kind) == (name, kind)).count() == 1);
    }
    ensure!(tree.spans.iter().all(|span| !span.failed), "{picture}");
    for span in &tree.spans {
        ensure!(root.start <= span.start && span.end >= span.start, "{} began before the login\n{picture}", span.name);
    }
    Ok(())
}

async fn the_log_record_of_the_login_arrives_in_its_trace(world: &mut World) -> Result<()> {
    let record = until("the log record", || {
        let records = world.collector.records.lock().unwrap_or_else(PoisonError::into_inner);
        let of_login = |record: &&Record| record.attributes.get("event").is_some_and(|event| event == "authentication");
        Ok(records.iter().find(of_login).cloned())
    })
    .await?;
    ensure!(record.trace == world.trace, "{record:?}");
    ensure!(record.service == RADIUS, "{record:?}");
    ensure!(record.attributes.get("reason").is_some_and(|reason| reason == "valid_code"), "{record:?}");
    Ok(())
}

async fn the_metrics_page_counts_the_login(world: &mut World) -> Result<()> {
    // The page is plain HTTP; the client wants to know whose TLS it would use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{}/metrics", world.distributed.cluster.management_url((Part::RadiusGateway, 1)));
    let page = reqwest::get(url).await?.error_for_status()?.text().await?;
    let line = page.lines().find(|line| line.starts_with("twinlock_auth_attempts_total{")).context("no such metric")?;
    let labels =
        ["client=\"strict\"", "protocol=\"radius\"", "method=\"code\"", "result=\"success\"", "reason=\"valid_code\""];
    ensure!(labels.iter().all(|label| line.contains(label)) && line.ends_with("} 1"), "{line}");
    Ok(())
}

async fn the_collector_gets_the_same_count_before_the_gateway_ends(world: &mut World) -> Result<()> {
    // Metrics are sent once a minute, and what is left when a process ends.
    let gateway = world.distributed.cluster.process((Part::RadiusGateway, 1)).context("the gateway")?;
    ensure!(gateway.terminate(Duration::from_secs(20)) == Some(0), "the gateway did not end well");
    let counts = world.collector.counts.lock().unwrap_or_else(PoisonError::into_inner);
    let of_login: Vec<_> = counts
        .iter()
        .filter(|count| count.service == RADIUS && count.metric == "twinlock_auth_attempts_total")
        .collect();
    let last = of_login.last().context("twinlock_auth_attempts_total did not arrive")?;
    ensure!(last.value == 1, "{of_login:?}");
    let labels: Vec<_> = last.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    ensure!(labels.join(" ") == "client=strict method=code protocol=radius reason=valid_code result=success");
    Ok(())
}

/// Waits for something to be there.
async fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    records: Arc<Mutex<Vec<Record>>>,
    counts: Arc<Mutex<Vec<Count>>>,
}

#[derive(Debug, Clone)]
struct Span {
    service: String,
    name: String,
    kind: SpanKind,
    trace: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    start: u64,
    end: u64,
    failed: bool,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Record {
    service: String,
    trace: String,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Count {
    service: String,
    metric: String,
    labels: BTreeMap<String, String>,
    value: i64,
}

impl Collector {
    /// Listens on a free port; with the URL of it.
    async fn start() -> Result<(Self, String)> {
        let collector = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        Ok((collector, url))
    }

    fn tree(&self, trace: &str) -> Tree {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans: Vec<_> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
        spans.sort_by_key(|span| span.start);
        Tree { spans }
    }
}

/// The spans of one trace, in the order in which they began.
struct Tree {
    spans: Vec<Span>,
}

impl Tree {
    /// The one that has no parent.
    fn root(&self) -> Result<&Span> {
        let mut roots = self.spans.iter().filter(|span| span.parent.is_empty());
        let root = roots.next().context("no root")?;
        ensure!(roots.next().is_none(), "more than one root");
        Ok(root)
    }

    /// Whether every parent has arrived.
    fn is_whole(&self) -> bool {
        let known = |id: &[u8]| self.spans.iter().any(|span| span.id == id);
        !self.spans.is_empty() && self.spans.iter().all(|span| span.parent.is_empty() || known(&span.parent))
    }

    fn children<'a>(&'a self, parent: &'a [u8]) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.parent == parent)
    }

    /// What is found when one goes down from the root, step by step.
    fn at(&self, path: &[(&str, SpanKind, &str)]) -> Vec<&Span> {
        let Ok(root) = self.root() else { return Vec::new() };
        path.iter().fold(vec![root], |parents, step| {
            let below = parents.iter().flat_map(|parent| self.children(&parent.id));
            below.filter(|span| (span.name.as_str(), span.kind, span.service.as_str()) == *step).collect()
        })
    }

    fn picture(&self) -> String {
        fn draw(tree: &Tree, parent: &[u8], depth: usize, out: &mut String) {
            for span in tree.children(parent) {
                let (indent, kind) = ("   ".repeat(depth), span.kind.as_str_name());
                out.push_str(&format!("{indent}{} {kind} {} {:?}\n", span.name, span.service, span.attributes));
                draw(tree, &span.id, depth + 1, out);
            }
        }
        let mut out = format!("{} spans:\n", self.spans.len());
        draw(self, &[], 0, &mut out);
        out
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for of_service in request.into_inner().resource_spans {
            let service = service_of(of_service.resource.as_ref());
            for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    service: service.clone(),
                    kind: span.kind(),
                    trace: HEXLOWER.encode(&span.trace_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    // STATUS_CODE_ERROR
                    failed: span.status.is_some_and(|status| status.code == 2),
                    attributes: texts(&span.attributes),
                    name: span.name,
                    id: span.span_id,
                    parent: span.parent_span_id,
                });
            }
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for of_service in request.into_inner().resource_logs {
            let service = service_of(of_service.resource.as_ref());
            for record in of_service.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let (trace, attributes) = (HEXLOWER.encode(&record.trace_id), texts(&record.attributes));
                records.push(Record { service: service.clone(), trace, attributes });
            }
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for of_service in request.into_inner().resource_metrics {
            let service = service_of(of_service.resource.as_ref());
            for metric in of_service.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let Some(metric::Data::Sum(sum)) = metric.data else { continue };
                for point in sum.data_points {
                    let Some(number_data_point::Value::AsInt(value)) = point.value else { continue };
                    let (metric, labels) = (metric.name.clone(), texts(&point.attributes));
                    counts.push(Count { service: service.clone(), metric, labels, value });
                }
            }
        }
        Ok(Response::new(Default::default()))
    }
}

fn service_of(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
    attributes.get("service.name").cloned().unwrap_or_default()
}

fn texts(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair).unwrap_or_default())).collect()
}
