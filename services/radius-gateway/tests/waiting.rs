//! P-08: what a login holds while it waits for a person, by every allocation of many of them.
//!
//! Not in it: what the call to verification holds, which is a few octets of a table (`waiting-calls`), and what the kernel holds.

#[path = "support/mod.rs"]
mod support;

use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, AppendedFormsReply, AppendedFormsRequest, AwaitRequest, BeginRequest, CancelReply, CancelRequest,
    CompleteRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, ReportReply, ReportRequest,
};
use radius_gateway::{Deps, NAME, Nodes};
use radius_wire::AttributeType;
use service_kit::Sections;
use service_kit::config::{LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;
use tonic::{Request, Response, Status, async_trait};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tables are two thirds full then, as they are on average.
const WAITING: usize = 1_200;
/// Sent at once: a socket's buffer holds more.
const AT_ONCE: usize = 50;
/// An octet tells the requests of one socket apart.
const OF_ONE_SOCKET: usize = 200;
const OCTETS_MAX: usize = 2_600;

#[tokio::test]
async fn a_login_that_waits_for_a_person_holds_little() {
    let (log, telemetry, tls) = (LogSection::default(), TelemetrySection::default(), TlsSection::default());
    let management = ManagementSection { listen: ([127, 0, 0, 1], 0).into() };
    let shutdown = ShutdownSection::default();
    let sections =
        Sections { log: &log, telemetry: &telemetry, tls: &tls, management: &management, shutdown: &shutdown };
    let process = service_kit::start(NAME, sections).await.expect("it starts");
    let world = World::new().await;
    let verification = Arc::<Patient>::default();
    let deps = Deps { verification: verification.clone(), ..world.deps(Nodes::One) };
    let running = radius_gateway::start(section(), deps, &process).await.expect("free ports");
    let gateway = running.addresses().authentication[0];

    let mut asked = 0;
    let mut ask = async |count: usize| {
        let mut nas = None;
        for number in 0..count {
            if number % OF_ONE_SOCKET == 0 {
                nas = Some(Nas::new(PATIENT, gateway, SECRET).await);
            }
            let nas = nas.as_mut().expect("just made");
            let station = format!("station-{asked}");
            let station = attribute(AttributeType::CALLING_STATION_ID, station.as_bytes());
            let question = nas.with(&[user_name("ann"), station], Some(ANN));
            nas.send(&question.octets).await;
            asked += 1;
            if asked % AT_ONCE == 0 {
                until("all are waited for", async || verification.asked.load(Ordering::Relaxed) == asked).await;
            }
        }
        world.directory.forget();
    };
    // V-52: as a domain controller writes it
    world.directory.passwords_changed("134444736000010000");
    // Connections are open then, and tables are there.
    ask(AT_ONCE).await;
    let before = held();
    ask(WAITING).await;
    let each = (held() - before) / WAITING;
    println!("{each} octets for each login that waits");
    assert!(each <= OCTETS_MAX, "{each} octets for each login that waits");
}

/// What is allocated now.
fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Everybody takes their time, and nothing is held for them.
#[derive(Default)]
struct Patient {
    asked: AtomicUsize,
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Outcome>, Status>> + Send + 'a>>;

#[async_trait]
impl Verification for Patient {
    async fn appended_forms(&self, _: Request<AppendedFormsRequest>) -> Result<Response<AppendedFormsReply>, Status> {
        Ok(Response::new(AppendedFormsReply::default()))
    }

    /// Written out: `async fn` would keep the request in its future.
    fn begin<'a, 'b>(&'a self, _: Request<BeginRequest>) -> Answering<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("no code comes before its password here"))
    }

    async fn answer(&self, _: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("nobody is asked for a code here"))
    }

    async fn r#await(&self, _: Request<AwaitRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("await"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Ok(Response::new(CancelReply::default()))
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        Ok(Response::new(ReportReply {}))
    }

    async fn password_changed(
        &self,
        _: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        Ok(Response::new(PasswordChangedReply {}))
    }
}
