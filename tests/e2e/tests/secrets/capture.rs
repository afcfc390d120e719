//! Hears what leaves the product: a collector that keeps all telemetry as octets, and a listener on every subject of the
//! bus.

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::{
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
};
use prost::Message;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status};

/// Octets that grow.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    pub fn octets(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn contains(&self, text: &str) -> bool {
        let octets = self.octets();
        octets.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn add(&self, octets: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(octets);
    }
}

#[derive(Clone, Default)]
pub struct Collector {
    pub traces: Heard,
    pub metrics: Heard,
    pub logs: Heard,
}

impl Collector {
    /// Listens on a free port; with the URL of it.
    pub async fn start() -> Result<(Self, String)> {
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
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.add(&request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.add(&request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.add(&request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

/// A client of the bus that hears every subject, the maps' among them, and every reply.
pub struct Listener {
    pub heard: Heard,
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
}

impl Listener {
    /// `url` is `nats://address:port`, of a server that asks nobody who they are.
    pub async fn start(url: &str) -> Result<Self> {
        let address = url.strip_prefix("nats://").context("a NATS address")?;
        let (mut reader, writer) = TcpStream::connect(address).await?.into_split();
        let (heard, writer) = (Heard::default(), Arc::new(tokio::sync::Mutex::new(writer)));
        writer.lock().await.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n").await?;
        let (ours, answers) = (heard.clone(), writer.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                ours.add(&buffer[..read]);
                // Whoever does not answer a PING is sent away.
                if buffer[..read].windows(6).any(|word| word == b"PING\r\n") {
                    let _ = answers.lock().await.write_all(b"PONG\r\n").await;
                }
            }
        });
        let listener = Self { heard, writer };
        listener.wait_for("PONG").await?;
        Ok(listener)
    }

    pub async fn publish(&self, subject: &str, payload: &str) -> Result<()> {
        let message = format!("PUB {subject} {}\r\n{payload}\r\n", payload.len());
        Ok(self.writer.lock().await.write_all(message.as_bytes()).await?)
    }

    pub async fn wait_for(&self, text: &str) -> Result<()> {
        let heard = timeout(Duration::from_secs(10), async {
            while !self.heard.contains(text) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        ensure!(heard.await.is_ok(), "the bus did not say {text}");
        Ok(())
    }
}
