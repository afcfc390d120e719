//! Log, traces and metrics of a process: one JSON line per event on stderr, everything by OTLP where a collector is named, and the
//! meters on a page too.

mod json;

use crate::config::{LogFormat, LogSection, TelemetrySection};
use crate::health::Health;
use crate::process::StartError;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::io::IsTerminal;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What carries our telemetry, and would speak about itself for ever.
const CARRIERS: [&str; 7] = ["async_nats", "opentelemetry", "h2", "hyper", "tonic", "tower", "rustls"];
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The providers of the process, kept for the page and for the flush.
pub(crate) struct Telemetry {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    loggers: Option<SdkLoggerProvider>,
    pub(crate) page: prometheus::Registry,
}

impl Telemetry {
    /// Sets up the globals of the process. Called once, inside the runtime.
    pub(crate) fn start(
        name: &'static str,
        log: &LogSection,
        section: &TelemetrySection,
        health: &Health,
    ) -> Result<Self, StartError> {
        let resource = resource(name);
        let collector = Collector::of(section)?;
        let page = prometheus::Registry::new();
        let meters = meters(&resource, &page, collector.as_ref())?;
        let tracers = tracers(&resource, section, collector.as_ref())?;
        let loggers = collector.as_ref().map(|collector| loggers(&resource, collector)).transpose()?;

        let lines: Box<dyn Layer<Registry> + Send + Sync> = match format(log) {
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .event_format(json::Lines { service: name })
                .fmt_fields(json::NoFields)
                .with_writer(std::io::stderr)
                .with_filter(filter(log))
                .boxed(),
            LogFormat::Pretty => tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .with_filter(filter(log))
                .boxed(),
        };
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracers.tracer("twinlock"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // Events are log records; as events of spans they would be sent twice.
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && *metadata.level() <= LevelFilter::INFO && ours(metadata)
            }));
        let records = loggers.as_ref().map(|loggers| {
            OpenTelemetryTracingBridge::new(loggers).with_filter(filter_fn(ours)).with_filter(filter(log))
        });
        let subscriber = Registry::default().with(lines).with(spans).with(records);
        tracing::subscriber::set_global_default(subscriber).map_err(failed)?;

        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        opentelemetry::global::set_tracer_provider(tracers.clone());
        opentelemetry::global::set_meter_provider(meters.clone());
        own_meters(health);
        Ok(Self { tracers, meters, loggers, page })
    }

    /// Sends what is left. Blocks, so it runs beside the runtime; a collector that is away does not hold the exit up for long.
    pub(crate) async fn finish(self) {
        let flush = tokio::task::spawn_blocking(move || {
            let ends: [OTelSdkResult; 3] = [
                self.tracers.shutdown_with_timeout(EXPORT_TIMEOUT),
                self.loggers.map_or(Ok(()), |loggers| loggers.shutdown_with_timeout(EXPORT_TIMEOUT)),
                self.meters.shutdown_with_timeout(EXPORT_TIMEOUT),
            ];
            for error in ends.into_iter().filter_map(Result::err) {
                tracing::warn!(error = %error, "telemetry was not flushed");
            }
        });
        // A failed join means a panic inside the exporter; the process ends all the same.
        let _ = tokio::time::timeout(EXPORT_TIMEOUT * 3, flush).await;
    }
}

/// Where telemetry goes by OTLP.
struct Collector {
    endpoint: String,
    tls: Option<ClientTlsConfig>,
}

impl Collector {
    fn of(section: &TelemetrySection) -> Result<Option<Self>, StartError> {
        let named = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let Some(endpoint) = section.otlp_endpoint.clone().or_else(named) else { return Ok(None) };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let allowed = "http://host:port or https://host:port";
            return Err(StartError::Setting { key: "telemetry.otlp_endpoint", found: endpoint, allowed });
        }
        let authority = match &section.ca_file {
            Some(file) => {
                let pem = std::fs::read(file.path()).map_err(|error| StartError::Telemetry(error.into()))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let tls = endpoint.starts_with("https://").then_some(authority);
        Ok(Some(Self { endpoint, tls }))
    }

    fn on<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> B {
        let builder = builder.with_endpoint(self.endpoint.clone()).with_timeout(EXPORT_TIMEOUT);
        match &self.tls {
            Some(tls) => builder.with_tls_config(tls.clone()),
            None => builder,
        }
    }
}

fn resource(name: &'static str) -> Resource {
    let service = if name == "twinlock" { name.to_owned() } else { format!("twinlock-{name}") };
    let mut instance = [0u8; 8];
    getrandom::fill(&mut instance).expect("the kernel gives random octets");
    Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.namespace", "twinlock"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            // Replicas would write over each other's metrics without it.
            KeyValue::new("service.instance.id", data_encoding::HEXLOWER.encode(&instance)),
        ])
        .build()
}

fn tracers(
    resource: &Resource,
    section: &TelemetrySection,
    collector: Option<&Collector>,
) -> Result<SdkTracerProvider, StartError> {
    // Without a collector spans still have ids: the log shows them, and they travel to parts that do export.
    let root = match (collector, section.traces_kept_per_thousand) {
        (None, _) => Sampler::AlwaysOff,
        (Some(_), None) => Sampler::AlwaysOn,
        (Some(_), Some(kept)) => Sampler::TraceIdRatioBased(f64::from(kept.min(1000)) / 1000.0),
    };
    let builder =
        SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(Sampler::ParentBased(Box::new(root)));
    let Some(collector) = collector else { return Ok(builder.build()) };
    let exporter = collector.on(SpanExporter::builder().with_tonic()).build().map_err(failed)?;
    Ok(builder.with_batch_exporter(exporter).build())
}

fn meters(
    resource: &Resource,
    page: &prometheus::Registry,
    collector: Option<&Collector>,
) -> Result<SdkMeterProvider, StartError> {
    // Names on the page are the names in the code: no unit, no `_total`, no scope is added.
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(page.clone())
        .without_units()
        .without_counter_suffixes()
        .without_target_info()
        .scope_info_enabled(false)
        .build()
        .map_err(failed)?;
    let builder = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(exporter);
    let Some(collector) = collector else { return Ok(builder.build()) };
    let exporter = collector.on(MetricExporter::builder().with_tonic()).build().map_err(failed)?;
    Ok(builder.with_reader(PeriodicReader::builder(exporter).build()).build())
}

fn loggers(resource: &Resource, collector: &Collector) -> Result<SdkLoggerProvider, StartError> {
    let exporter = collector.on(LogExporter::builder().with_tonic()).build().map_err(failed)?;
    Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
}

/// What every process measures about itself.
fn own_meters(health: &Health) {
    let meter = opentelemetry::global::meter("twinlock");
    let version = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
    meter.u64_gauge("twinlock_build_info").build().record(1, &version);
    let health = health.clone();
    meter
        .u64_observable_gauge("twinlock_upstream_up")
        .with_callback(move |gauge| {
            for (kind, name, state) in health.upstreams() {
                gauge.observe(u64::from(state.up), &[KeyValue::new("kind", kind), KeyValue::new("name", name)]);
            }
        })
        .build();
}

fn format(log: &LogSection) -> LogFormat {
    let usual = if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json };
    log.format.unwrap_or(usual)
}

fn filter(log: &LogSection) -> EnvFilter {
    let quiet: String = CARRIERS.iter().map(|carrier| format!("{carrier}=warn,")).collect();
    EnvFilter::builder().parse_lossy(quiet + log.level.as_str())
}

fn ours(metadata: &Metadata<'_>) -> bool {
    !CARRIERS.iter().any(|carrier| metadata.target().starts_with(carrier))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Telemetry(error.into())
}
