//! Verification and store as a gateway calls them, by gRPC and mutual TLS, with nothing behind them: everybody is asked on
//! the phone, takes the same time, and approves.

use anyhow::Result;
use lab::{Pki, Slapd};
use proto::{
    common::Secret,
    permissions::{self, part},
    user_store::{
        self as store, FetchReply, FetchRequest, Key, KeyRingReply, KeyRingRequest, LearnClientReply,
        LearnClientRequest, PinServiceAccountReply, PinServiceAccountRequest, RecordAccountingReply,
        RecordAccountingRequest, RecordReply, RecordRequest, ReportClientsReply, ReportClientsRequest,
        fail_open_server::FailOpenServer, radius_server::RadiusServer, settings_server::SettingsServer,
    },
    verification::{
        Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, AwaitRequest, BeginRequest, CancelReply,
        CancelRequest, CompleteRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, ReportReply,
        ReportRequest, outcome,
        verification_server::{Verification, VerificationServer},
        waiting_calls_server::WaitingCallsServer,
    },
};
use service_kit::{Clock, Process, config::GrpcSection, grpc};
use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tonic::{Request, Response, Status, async_trait};
use waiting_calls::Answerer;

/// Both of them, served until dropped.
pub struct Doubles {
    pub verification: SocketAddr,
    pub store: SocketAddr,
    pub people: Arc<Phones>,
    process: Process,
}

/// The people and their phones.
pub struct Phones {
    takes_ms: AtomicU64,
    asked: AtomicUsize,
    clock: Clock,
}

impl Doubles {
    pub async fn start(pki: &Pki, settings: &Settings) -> Result<Self> {
        let process = Process::detached("doubles");
        let people =
            Arc::new(Phones { takes_ms: AtomicU64::new(0), asked: AtomicUsize::new(0), clock: Clock::system() });
        let verification = grpc::Server::new(permissions::allowed)
            .add(VerificationServer::from_arc(people.clone()))
            .add(WaitingCallsServer::new(Answerer::new(people.clone(), process.shutdown().clone())))
            .serve(&section(pki, part::VERIFICATION)?, &process)
            .await?;
        let store = grpc::Server::new(permissions::allowed)
            .add(SettingsServer::new(settings.clone()))
            .add(RadiusServer::new(Nobody))
            .add(FailOpenServer::new(Nobody))
            .serve(&section(pki, part::USER_STORE)?, &process)
            .await?;
        Ok(Self { verification, store, people, process })
    }
}

impl Drop for Doubles {
    fn drop(&mut self) {
        self.process.shutdown().begin();
    }
}

impl Phones {
    /// What everybody takes from now on who is asked.
    pub fn take(&self, time: Duration) {
        self.takes_ms.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many have been asked and have not decided.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Somebody is being asked, until they decide or the caller leaves.
struct Asked<'a>(&'a AtomicUsize);

impl<'a> Asked<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Verification for Phones {
    async fn appended_forms(&self, _: Request<AppendedFormsRequest>) -> Result<Response<AppendedFormsReply>, Status> {
        Ok(Response::new(AppendedFormsReply::default()))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let attempt =
            request.into_inner().attempt.ok_or_else(|| Status::invalid_argument("there is no attempt in it"))?;
        {
            let _asked = Asked::new(&self.asked);
            tokio::time::sleep(Duration::from_millis(self.takes_ms.load(Ordering::Relaxed))).await;
        }
        let allow = Allow {
            reason: "user_approved".into(),
            method: "push".into(),
            assurance: "approve_only".into(),
            source: "live".into(),
            client: attempt.client,
            expires_unix_ms: self.clock.now_ms() + 10_000,
            user_id: uuid::Uuid::nil().to_string(),
            ..Allow::default()
        };
        let result = Some(outcome::Result::Allow(allow));
        Ok(Response::new(Outcome { transaction_id: attempt.transaction_id, result }))
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("nobody has a code"))
    }

    async fn answer(&self, _: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("nobody has a code"))
    }

    async fn r#await(&self, _: Request<AwaitRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("no device has a dialogue"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Ok(Response::new(CancelReply { ended: false }))
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

/// One directory, one device.
#[derive(Clone)]
pub struct Settings {
    json: String,
    secrets: HashMap<String, Secret>,
}

impl Settings {
    pub fn new(slapd: &Slapd, device_secret: &str) -> Result<Self> {
        let document = serde_json::json!({
            "directory": [{
                "name": "acme", "preset": "openldap", "urls": [slapd.ldap_url()], "base": lab::COMPANY_BASE,
                "query_bind": { "kind": "tls", "name": Slapd::QUERY_DN, "password": "keep" },
                "ca": fs::read_to_string(slapd.ca_file())?,
            }],
            "client": [{
                "name": "vpn", "protocol": "radius", "sources": ["127.0.0.1/32"], "target": "acme", "secret": "keep",
                "message_authenticator": "yes", "wait_seconds": 110,
            }],
        });
        let secret = |text: &str| Secret { value: text.as_bytes().to_vec() };
        let secrets = HashMap::from([
            ("directory.acme.query_bind.password".to_owned(), secret(Slapd::QUERY_PASSWORD)),
            ("client.vpn.secret".to_owned(), secret(device_secret)),
        ]);
        Ok(Self { json: document.to_string(), secrets })
    }
}

#[async_trait]
impl store::settings_server::Settings for Settings {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        const REVISION: u64 = 1;
        if request.into_inner().known_revision == REVISION {
            return Ok(Response::new(FetchReply { revision: REVISION, unchanged: true, ..FetchReply::default() }));
        }
        Ok(Response::new(FetchReply {
            revision: REVISION,
            settings_json: self.json.clone(),
            secrets: self.secrets.clone(),
            ..FetchReply::default()
        }))
    }

    async fn pin_service_account(
        &self,
        _: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        Err(Status::unimplemented("there is none"))
    }

    async fn learn_client(&self, _: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        Ok(Response::new(LearnClientReply {}))
    }

    async fn key_ring(&self, _: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        let key = Key { id: 1, key: Some(Secret { value: vec![1; 32] }) };
        Ok(Response::new(KeyRingReply { keys: vec![key], current: 1 }))
    }
}

/// Takes what it is told.
struct Nobody;

#[async_trait]
impl store::radius_server::Radius for Nobody {
    async fn report_clients(&self, _: Request<ReportClientsRequest>) -> Result<Response<ReportClientsReply>, Status> {
        Ok(Response::new(ReportClientsReply {}))
    }

    async fn record_accounting(
        &self,
        _: Request<RecordAccountingRequest>,
    ) -> Result<Response<RecordAccountingReply>, Status> {
        Ok(Response::new(RecordAccountingReply {}))
    }
}

#[async_trait]
impl store::fail_open_server::FailOpen for Nobody {
    async fn record(&self, _: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        Ok(Response::new(RecordReply {}))
    }
}

/// `[grpc]` of a part: a new certificate that names it, and any port.
fn section(pki: &Pki, part: &str) -> Result<GrpcSection> {
    Ok(serde_json::from_value(serde_json::json!({
        "listen": "127.0.0.1:0",
        "certificate_file": pki.issue(part, &[&format!("{part}.twinlock.internal"), "localhost", "127.0.0.1"])?.certificate,
        "key_file": pki.ca_file().with_file_name(format!("{part}.key")),
        "ca_file": pki.ca_file(),
    }))?)
}

/// What `twinlock-radius-gateway` is configured with to find them.
pub fn gateway_configuration(doubles: &Doubles, pki: &Pki, management_port: u16, radius_port: u16) -> Result<String> {
    let own = pki.issue(part::RADIUS_GATEWAY, &["radius-gateway.twinlock.internal", "localhost", "127.0.0.1"])?;
    let quoted = |path: &Path| path.display().to_string();
    Ok(format!(
        "version = 1
[log]
level = \"warn\"
[management]
listen = \"127.0.0.1:{management_port}\"
[shutdown]
drain_delay_seconds = 0
drain_timeout_seconds = 5
[grpc]
certificate_file = \"{certificate}\"
key_file = \"{key}\"
ca_file = \"{ca}\"
[endpoints]
user_store = \"https://{store}\"
verification = \"https://{verification}\"
[radius]
listen = [\"127.0.0.1:{radius_port}\"]
accounting_listen = []
# All are of one client here.
in_work_per_client_max = 65536
",
        certificate = quoted(&own.certificate),
        key = quoted(&own.key),
        ca = quoted(&pki.ca_file()),
        store = doubles.store,
        verification = doubles.verification,
    ))
}
