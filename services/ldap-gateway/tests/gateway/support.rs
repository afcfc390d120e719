//! The neighbours of the gateway under test: verification and settings that misbehave on command, clients that speak LDAP.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use domain::settings::{
    self, AppendedForm, AuthenticationBind, BindKind, Client, ClientProtocol, LockoutGuard, Preset, QueryBind,
    SecretSource, ServiceAccount, Settings,
};
use domain::{Method, ObjectName};
use lab::{COMPANY_BASE, Pki, Slapd};
use ldap_gateway::{Deps, Gateway, LdapSection};
use ldap_wire::{
    BindRequest, Control, ExtendedRequest, Filter, Framer, LdapResult, Limits, Message, MessageId, Op, Password, Peer,
    Scope, SearchRequest,
};
use proto::user_store as store;
use proto::verification as wire;
use service_kit::bus::InProcess;
use service_kit::{Clock, Process};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

pub const LIMIT: Duration = Duration::from_secs(10);

// --- verification ----------------------------------------------------------------------------------------------------

/// Decides by a list of codes, each good for one login, and does what it is told to do wrong.
#[derive(Default)]
pub struct FakeVerification {
    state: Mutex<State>,
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    codes: HashMap<String, HashSet<String>>,
    spent: HashSet<String>,
    misbehaviour: Misbehaviour,
    calls: Vec<Call>,
    attempts: Vec<(wire::Attempt, String)>,
    no_code_from: Option<&'static str>,
    denied: HashMap<String, &'static str>,
    takes: Duration,
    allowed_codes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Misbehaviour {
    #[default]
    None,
    Unavailable,
    /// Every call takes so long.
    Slow(Duration),
    /// Answers every call with what no client can read.
    Garbage,
    /// Every Begin ends so, whatever the code.
    Deny(&'static str),
    /// Answers with an Allow that belongs to another transaction, another client, or the past.
    ForeignTransaction,
    ForeignClient,
    Expired,
    /// Nothing in the outcome.
    Empty,
    Ask,
    /// Allows although the password is still to be checked.
    AllowTooEarly,
    /// The first digit of a code decides: 1 yes, 2 no, 3 yes after a moment, 4 no after a moment, 5 never.
    ByCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Forms(String),
    Begin {
        username: String,
        passed: bool,
        code: bool,
        service_account: bool,
        client: String,
    },
    Complete(String),
    Cancel(String),
    Report {
        username: String,
        reason: String,
    },
    /// The id of whose.
    PasswordChanged(String),
}

impl FakeVerification {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The user has a token; these codes of it are good, once each.
    pub fn enrol(&self, username: &str, codes: &[&str]) {
        let codes = codes.iter().map(|code| (*code).to_owned());
        self.state().codes.entry(username.to_owned()).or_default().extend(codes);
    }

    /// Whoever this is, nobody asks them anything.
    pub fn denies(&self, username: &str, reason: &'static str) {
        self.state().denied.insert(username.to_owned(), reason);
    }

    /// Every Begin takes so long.
    pub fn takes(&self, length: Duration) {
        self.state().takes = length;
    }

    /// Who comes from there needs no code.
    pub fn needs_no_code_from(&self, person_ip: &'static str) {
        self.state().no_code_from = Some(person_ip);
    }

    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.state().misbehaviour = misbehaviour;
    }

    /// Calls of Begin wait until `release`.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn release(&self) {
        self.held.send_replace(false);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// Every code for which an Allow was given by `ByCode` since the last time this was asked, as often as it was.
    pub fn take_allowed_codes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().allowed_codes)
    }

    async fn by_code(&self, attempt: &wire::Attempt, code: &str) -> Response<wire::Outcome> {
        use wire::outcome::Result as Out;
        if code.starts_with(['3', '4']) {
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        let result = match code.as_bytes().first() {
            Some(b'1' | b'3') => {
                self.state().allowed_codes.push(code.to_owned());
                Out::Allow(allow(&attempt.client, "valid_code"))
            }
            Some(b'5') => std::future::pending().await,
            _ => Out::Deny(wire::Deny { reason: "wrong_code".into(), ..Default::default() }),
        };
        outcome(&attempt.transaction_id, result)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in here")
    }

    /// What is wrong with every call alike.
    async fn trouble(&self) -> Result<(), Status> {
        let misbehaviour = self.state().misbehaviour.clone();
        match misbehaviour {
            Misbehaviour::Unavailable => Err(Status::unavailable("told to be")),
            Misbehaviour::Garbage => Err(Status::internal("failed to decode Protobuf message")),
            Misbehaviour::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What it was told of every attempt that began, and the method that was wanted.
    pub fn attempts(&self) -> Vec<(wire::Attempt, String)> {
        self.state().attempts.clone()
    }

    fn evaluate(&self, username: &str, code: Option<&str>) -> Result<(), &'static str> {
        let mut state = self.state();
        if let Some(reason) = state.denied.get(username) {
            return Err(reason);
        }
        let Some(codes) = state.codes.get(username) else { return Err("unknown_user") };
        let code = code.ok_or("method_impossible")?;
        if !codes.contains(code) {
            return Err("wrong_code");
        }
        if state.spent.insert(format!("{username}/{code}")) { Ok(()) } else { Err("reused_code") }
    }
}

fn allow(client: &str, reason: &str) -> wire::Allow {
    wire::Allow {
        reason: reason.into(),
        method: if reason == "valid_code" { "code".into() } else { String::new() },
        assurance: if reason == "valid_code" { "code".into() } else { "none".into() },
        source: if reason == "valid_code" { "live".into() } else { "exempt".into() },
        client: client.into(),
        expires_unix_ms: i64::MAX,
        user_id: String::new(),
        ..wire::Allow::default()
    }
}

/// Twinlock's id of a user here. No id has a dot: it is one word of a subject of the bus.
pub fn id_of(username: &str) -> String {
    username.replace('.', "-")
}

fn outcome(transaction_id: &str, result: wire::outcome::Result) -> Response<wire::Outcome> {
    Response::new(wire::Outcome { transaction_id: transaction_id.into(), result: Some(result) })
}

#[async_trait]
impl wire::verification_server::Verification for FakeVerification {
    async fn appended_forms(
        &self,
        request: Request<wire::AppendedFormsRequest>,
    ) -> Result<Response<wire::AppendedFormsReply>, Status> {
        self.trouble().await?;
        let request = request.into_inner();
        if request.subject.is_some_and(|subject| subject.directory != "none") {
            self.state().calls.push(Call::Forms(request.client));
        }
        let code_optional = self.state().no_code_from == Some(request.person_ip.as_str());
        // Everybody has a token of six digits and the app; the fake does not map ids to names.
        Ok(Response::new(wire::AppendedFormsReply {
            code_digits: vec![6],
            keywords: vec!["push".into()],
            code_optional,
            ..Default::default()
        }))
    }

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Result<Response<wire::Outcome>, Status> {
        use wire::outcome::Result as Out;
        let request = request.into_inner();
        let attempt = request.attempt.expect("a gateway sends the attempt");
        let passed = request.primary == i32::from(wire::Primary::Passed);
        let code =
            request.code.map(|code| String::from_utf8(code.value.clone()).expect("codes of these tests are text"));
        self.state().calls.push(Call::Begin {
            username: attempt.username.clone(),
            passed,
            code: code.is_some(),
            service_account: attempt.service_account,
            client: attempt.client.clone(),
        });
        self.state().attempts.push((*attempt.clone(), request.wanted_method));
        self.held.subscribe().wait_for(|held| !held).await.expect("the fake outlives its calls");
        let takes = self.state().takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.trouble().await?;
        let (transaction, client) = (attempt.transaction_id.as_str(), attempt.client.as_str());
        let misbehaviour = self.state().misbehaviour.clone();
        Ok(match misbehaviour {
            Misbehaviour::Deny(reason) => {
                outcome(transaction, Out::Deny(wire::Deny { reason: reason.into(), ..Default::default() }))
            }
            Misbehaviour::ForeignTransaction => {
                outcome("01890000-0000-7000-8000-000000000000", Out::Allow(allow(client, "valid_code")))
            }
            Misbehaviour::ForeignClient => outcome(transaction, Out::Allow(allow("somebody-else", "valid_code"))),
            Misbehaviour::Expired => {
                outcome(transaction, Out::Allow(wire::Allow { expires_unix_ms: 1, ..allow(client, "valid_code") }))
            }
            Misbehaviour::Empty => Response::new(wire::Outcome { transaction_id: transaction.into(), result: None }),
            Misbehaviour::Ask => {
                outcome(transaction, Out::Ask(wire::Ask { method: "code".into(), ..Default::default() }))
            }
            Misbehaviour::AllowTooEarly => outcome(transaction, Out::Allow(allow(client, "valid_code"))),
            Misbehaviour::ByCode if !attempt.service_account => {
                self.by_code(&attempt, code.as_deref().unwrap_or_default()).await
            }
            _ if attempt.service_account => outcome(transaction, Out::Allow(allow(client, "service_account"))),
            _ => match self.evaluate(&attempt.username, code.as_deref()) {
                Err(reason) => {
                    outcome(transaction, Out::Deny(wire::Deny { reason: reason.into(), ..Default::default() }))
                }
                Ok(()) if passed => {
                    let allow = allow(client, "valid_code");
                    outcome(transaction, Out::Allow(wire::Allow { user_id: id_of(&attempt.username), ..allow }))
                }
                Ok(()) => outcome(transaction, Out::CodeAccepted(wire::CodeAccepted {})),
            },
        })
    }

    async fn r#await(&self, _: Request<wire::AwaitRequest>) -> Result<Response<wire::Outcome>, Status> {
        Err(Status::unimplemented("await"))
    }

    async fn complete(&self, request: Request<wire::CompleteRequest>) -> Result<Response<wire::Outcome>, Status> {
        let attempt = request.into_inner().attempt.expect("a gateway sends the attempt");
        self.state().calls.push(Call::Complete(attempt.username.clone()));
        let allow = wire::Allow { user_id: id_of(&attempt.username), ..allow(&attempt.client, "valid_code") };
        Ok(outcome(&attempt.transaction_id, wire::outcome::Result::Allow(allow)))
    }

    async fn answer(&self, _: Request<wire::AnswerRequest>) -> Result<Response<wire::Outcome>, Status> {
        panic!("an LDAP gateway never answers a question")
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Result<Response<wire::CancelReply>, Status> {
        self.state().calls.push(Call::Cancel(request.into_inner().reason));
        Ok(Response::new(wire::CancelReply::default()))
    }

    async fn password_changed(
        &self,
        request: Request<wire::PasswordChangedRequest>,
    ) -> Result<Response<wire::PasswordChangedReply>, Status> {
        let subject = request.into_inner().subject.expect("a gateway says whose");
        self.state().calls.push(Call::PasswordChanged(subject.object_id));
        Ok(Response::new(wire::PasswordChangedReply {}))
    }

    async fn report(&self, request: Request<wire::ReportRequest>) -> Result<Response<wire::ReportReply>, Status> {
        let request = request.into_inner();
        let username = request.attempt.expect("a gateway sends the attempt").username;
        self.state().calls.push(Call::Report { username, reason: request.reason });
        Ok(Response::new(wire::ReportReply {}))
    }
}

// --- settings --------------------------------------------------------------------------------------------------------

/// The store, as far as it holds settings.
pub struct FakeSettings {
    current: Mutex<(u64, Settings)>,
    /// Of the query account of every directory.
    query_password: String,
    pinned: Mutex<Vec<(String, String)>>,
    /// The latest revision that the gateway said it had.
    known: AtomicU64,
}

impl FakeSettings {
    pub fn new(settings: Settings, query_password: &str) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new((1, settings)),
            query_password: query_password.to_owned(),
            pinned: Mutex::default(),
            known: AtomicU64::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> u64 {
        let mut current = self.current.lock().expect("no test panics in here");
        current.0 += 1;
        change(&mut current.1);
        current.0
    }

    /// Client and account of every id that was kept.
    pub fn pinned(&self) -> Vec<(String, String)> {
        self.pinned.lock().expect("no test panics in here").clone()
    }
}

#[async_trait]
impl store::settings_server::Settings for FakeSettings {
    async fn fetch(&self, request: Request<store::FetchRequest>) -> Result<Response<store::FetchReply>, Status> {
        let (revision, settings) = self.current.lock().expect("no test panics in here").clone();
        let known = request.into_inner().known_revision;
        self.known.fetch_max(known, Ordering::SeqCst);
        if known == revision {
            return Ok(Response::new(store::FetchReply { revision, unchanged: true, ..Default::default() }));
        }
        let secret = |(name, value): (String, String)| (name, proto::common::Secret { value: value.into_bytes() });
        let name = |directory: &settings::Directory| format!("directory.{}.query_bind.password", directory.name);
        let queries = settings.directories.iter().map(|it| (name(it), self.query_password.clone()));
        // Every service account that the gateway binds for is GitLab's.
        let accounts = settings.secrets().into_iter().filter(|(name, _)| name.contains(".service_account."));
        let accounts = accounts.map(|(name, _)| (name, Slapd::GITLAB_PASSWORD.to_owned()));
        Ok(Response::new(store::FetchReply {
            revision,
            unchanged: false,
            settings_json: serde_json::to_string(&settings).expect("settings are JSON"),
            secrets: queries.chain(accounts).map(secret).collect(),
            ..Default::default()
        }))
    }

    async fn pin_service_account(
        &self,
        request: Request<store::PinServiceAccountRequest>,
    ) -> Result<Response<store::PinServiceAccountReply>, Status> {
        let request = request.into_inner();
        let id: domain::ObjectId = request.object_id.parse().map_err(|_| Status::invalid_argument("no id"))?;
        self.change(|settings| {
            let clients = settings.clients.iter_mut().filter(|client| client.name.as_str() == request.client);
            let accounts = clients.flat_map(|client| &mut client.service_accounts);
            accounts.filter(|it| it.name == request.name && it.id.is_none()).for_each(|it| it.id = Some(id.clone()));
        });
        self.pinned.lock().expect("no test panics in here").push((request.client, request.name));
        Ok(Response::new(store::PinServiceAccountReply {}))
    }

    async fn learn_client(
        &self,
        _: Request<store::LearnClientRequest>,
    ) -> Result<Response<store::LearnClientReply>, Status> {
        panic!("not for an LDAP gateway")
    }

    async fn key_ring(&self, request: Request<store::KeyRingRequest>) -> Result<Response<store::KeyRingReply>, Status> {
        assert_eq!(request.into_inner().purpose, "passwords");
        let key = Some(proto::common::Secret { value: vec![7; 32] });
        Ok(Response::new(store::KeyRingReply { keys: vec![store::Key { id: 1, key }], current: 1 }))
    }
}

/// The directory of the lab, reached with TLS.
pub fn directory_of(slapd: &Slapd) -> settings::Directory {
    settings::Directory {
        ca: Some(std::fs::read_to_string(slapd.ca_file()).expect("the lab has a CA")),
        ..directory_at(&slapd.ldap_url(), COMPANY_BASE, BindKind::Tls)
    }
}

pub fn directory_at(url: &str, base: &str, kind: BindKind) -> settings::Directory {
    settings::Directory {
        name: ObjectName::new("corp").expect("a name"),
        preset: Preset::OpenLdap,
        urls: vec![url.to_owned()],
        base: base.to_owned(),
        query_bind: QueryBind { kind, name: Slapd::QUERY_DN.into(), password: Some(SecretSource::Keep) },
        authentication_bind: AuthenticationBind { kind },
        ca: None,
        pinned_certificates: None,
        danger_clear_text: kind == BindKind::Simple,
        windows_mechanism: Default::default(),
        connect_timeout_seconds: 3,
        timeout_seconds: 5,
        page_size: 1000,
        user_filter: String::new(),
        group_filter: String::new(),
        container_filter: String::new(),
        feed: None,
        full_every_hours: 24,
        size_limit: 0,
        country: String::new(),
        netbios_domain: "ACME".into(),
        lockout_guard: Some(LockoutGuard { wrong_passwords: 5, window_minutes: 30 }),
        default_domain: String::new(),
        server_order: Default::default(),
        sign_in_by_mail: None,
        strip_domain: false,
        alternate_directories: Vec::new(),
        sync_bind: None,
        trusted_domains: None,
        trusted: Default::default(),
        attribute_scope_queries: true,
        attributes: Default::default(),
    }
}

/// A client at 127.0.0.1 that appends a code after a comma.
pub fn client(name: &str) -> Client {
    let usual = serde_json::json!({ "name": name, "protocol": "ldap", "target": "corp" });
    let usual: Client = serde_json::from_value(usual).expect("a client");
    Client {
        name: ObjectName::new(name).expect("a name"),
        protocol: ClientProtocol::Ldap,
        application: None,
        sources: vec!["127.0.0.1/32".parse().expect("a network")],
        target: ObjectName::new("corp").expect("a name"),
        secret: None,
        message_authenticator: Default::default(),
        limit_proxy_state: Default::default(),
        danger_accept_blastradius: false,
        challenge: Default::default(),
        tls: Default::default(),
        anonymous: Default::default(),
        operations: Default::default(),
        referrals: Default::default(),
        referral_url: String::new(),
        size_limit: 0,
        time_limit_seconds: 0,
        unavailable_code: 52,
        service_accounts: Vec::new(),
        unknown_user: Default::default(),
        not_enrolled: Default::default(),
        methods: Method::ALL.to_vec(),
        appended: settings::Appended::Required,
        appended_form: AppendedForm::Separator { sign: ',' },
        wait_seconds: 10,
        ..usual
    }
}

pub fn service_account(name: &str) -> ServiceAccount {
    ServiceAccount { name: name.into(), id: None, sources: Vec::new(), certificates: Vec::new(), password: None }
}

/// Where logins are told that were let in while verification was down. Every event that came, in order.
#[derive(Default)]
pub struct FakeFailOpen {
    events: Mutex<Vec<store::AuditEvent>>,
    away: AtomicBool,
}

impl FakeFailOpen {
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn events(&self) -> Vec<store::AuditEvent> {
        self.events.lock().expect("no test panics in here").clone()
    }
}

#[async_trait]
impl store::fail_open_server::FailOpen for FakeFailOpen {
    async fn record(&self, request: Request<store::RecordRequest>) -> Result<Response<store::RecordReply>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("told to be"));
        }
        self.events.lock().expect("no test panics in here").push(request.into_inner().event.expect("an event"));
        Ok(Response::new(store::RecordReply {}))
    }
}

/// The lockout guard's count: what is granted, and what became of it, in order.
#[derive(Default)]
pub struct FakePasswordTries {
    reply: Mutex<Option<store::PasswordTry>>,
    away: AtomicBool,
    settled: Mutex<Vec<store::PasswordOutcome>>,
    reserved: Mutex<Vec<store::ReservePasswordRequest>>,
}

impl FakePasswordTries {
    pub fn answers(&self, reply: store::PasswordTry) {
        *self.reply.lock().expect("no test panics in here") = Some(reply);
    }

    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Whose try was asked for last.
    pub fn reserved(&self) -> Option<store::ReservePasswordRequest> {
        self.reserved.lock().expect("no test panics in here").last().cloned()
    }

    pub fn settled(&self) -> Vec<store::PasswordOutcome> {
        self.settled.lock().expect("no test panics in here").clone()
    }
}

#[async_trait]
impl store::password_tries_server::PasswordTries for FakePasswordTries {
    async fn reserve(
        &self,
        request: Request<store::ReservePasswordRequest>,
    ) -> Result<Response<store::ReservePasswordReply>, Status> {
        self.reserved.lock().expect("no test panics in here").push(request.into_inner());
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("told to be"));
        }
        let reply = self.reply.lock().expect("no test panics in here").unwrap_or(store::PasswordTry::Granted);
        Ok(Response::new(store::ReservePasswordReply { result: reply.into(), handle: 7, retry_unix_ms: 0 }))
    }

    async fn settle(
        &self,
        request: Request<store::SettlePasswordRequest>,
    ) -> Result<Response<store::SettlePasswordReply>, Status> {
        self.settled.lock().expect("no test panics in here").push(request.into_inner().outcome());
        Ok(Response::new(store::SettlePasswordReply {}))
    }
}

/// Who of those who are bound may not be any more, and how often that was asked.
#[derive(Default)]
pub struct FakeStanding {
    shut_out: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl FakeStanding {
    pub fn shuts_out(&self, user_id: &str) {
        self.shut_out.lock().expect("no test panics in here").push(user_id.to_owned());
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl store::standing_server::Standing for FakeStanding {
    async fn shut_out(&self, request: Request<store::ShutOutRequest>) -> Result<Response<store::ShutOutReply>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut user_ids = request.into_inner().user_ids;
        let shut_out = self.shut_out.lock().expect("no test panics in here");
        user_ids.retain(|user_id| shut_out.contains(user_id));
        Ok(Response::new(store::ShutOutReply { user_ids }))
    }
}

// --- the gateway under test ------------------------------------------------------------------------------------------

pub struct Lab {
    pub slapd: Slapd,
    pub gateway: Running,
    pub tls: Arc<rustls::ClientConfig>,
    pub pki: Pki,
    _dir: tempfile::TempDir,
}

/// A gateway with its fakes.
pub struct Running {
    pub gateway: Gateway,
    pub process: Process,
    pub verification: Arc<FakeVerification>,
    pub settings: Arc<FakeSettings>,
    pub fail_open: Arc<FakeFailOpen>,
    pub password_tries: Arc<FakePasswordTries>,
    pub standing: Arc<FakeStanding>,
    bus: Arc<InProcess>,
    plain: SocketAddr,
    ldaps: SocketAddr,
}

/// What a test wants otherwise.
pub struct Wanted {
    pub client: Client,
    pub bulk_people: usize,
    pub section: fn(&mut LdapSection),
    /// The client comes when the gateway runs.
    pub late: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { client: client("gitlab"), bulk_people: 0, section: |_| {}, late: false }
    }
}

impl Lab {
    /// A gateway in front of a real slapd with the sample company.
    pub async fn start(wanted: Wanted) -> Result<Self> {
        capture::install();
        service_kit::tls::install_provider();
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let options = lab::SlapdOptions { bulk_people: wanted.bulk_people, ..Default::default() };
        let slapd = Slapd::start(dir.path(), &pki, &options)?;
        let gateway = Running::start(directory_of(&slapd), wanted, &pki).await?;
        Ok(Self { slapd, gateway, tls: trusting(&pki.ca_file())?, pki, _dir: dir })
    }

    /// Over LDAPS.
    pub async fn connect(&self) -> Result<Wire> {
        self.gateway.connect_tls(&self.tls).await
    }

    /// The same client, to the directory itself.
    pub async fn connect_directly(&self) -> Result<Wire> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.slapd.ldaps_port()));
        Wire::tls(TcpStream::connect(address).await?, &self.tls).await
    }

    /// The same, without TLS.
    pub async fn connect_directly_plain(&self) -> Result<Wire> {
        Ok(Wire::plain(TcpStream::connect(("127.0.0.1", self.slapd.ldap_port())).await?))
    }

    /// Bind requests that the directory has seen from anybody but our own query account, whose connections open when they like.
    pub fn client_binds(&self) -> usize {
        let log = self.slapd.log();
        let requests = log.lines().filter(|line| line.contains(" BIND dn=") && line.contains(" method="));
        requests.filter(|line| !line.contains(Slapd::QUERY_DN)).count()
    }

    pub fn person(&self, uid: &str) -> String {
        format!("uid={uid},ou=engineering,ou=people,{COMPANY_BASE}")
    }
}

impl Running {
    pub async fn start(directory: settings::Directory, wanted: Wanted, pki: &Pki) -> Result<Self> {
        capture::install();
        let certificate = pki.issue("gateway", &["127.0.0.1", "localhost"])?;
        let local = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let mut section = LdapSection {
            listen: local.clone(),
            tls_listen: Some(local),
            certificate_file: Some(service_kit::config::InputFile::new(&certificate.certificate)?),
            key_file: Some(service_kit::secret::SecretFile::new(&certificate.key.to_string_lossy())?),
            client_ca_file: Some(service_kit::config::InputFile::new(pki.ca_file())?),
            // Time is looked at as it is, and there are thousands of refusals.
            refusal_ms_min: 1,
            ..Default::default()
        };
        (wanted.section)(&mut section);
        let (first, late) = match wanted.late {
            true => (Vec::new(), vec![wanted.client]),
            false => (vec![wanted.client], Vec::new()),
        };
        let settings = Settings { directories: vec![directory], clients: first, ..Default::default() };
        let settings = FakeSettings::new(settings, Slapd::QUERY_PASSWORD);
        let verification = FakeVerification::new();
        let process = Process::detached("ldap-gateway-test");
        let bus = Arc::new(InProcess::new());
        let fail_open = Arc::new(FakeFailOpen::default());
        let password_tries = Arc::new(FakePasswordTries::default());
        let standing = Arc::new(FakeStanding::default());
        let deps = Deps {
            verification: verification.clone(),
            settings: settings.clone(),
            fail_open: fail_open.clone(),
            password_tries: password_tries.clone(),
            standing: standing.clone(),
            bus: bus.clone(),
            clock: Clock::system(),
        };
        let gateway = Gateway::start(&section, deps, &process).await?;
        until("the gateway to be ready", || process.health().is_ready()).await?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut running = Self {
            gateway,
            process,
            verification,
            settings,
            fail_open,
            password_tries,
            standing,
            bus,
            plain: nowhere,
            ldaps: nowhere,
        };
        if !late.is_empty() {
            anyhow::ensure!(running.gateway.addresses().is_empty(), "a port is open, and nobody may come");
            running.change_settings(|settings| settings.clients = late).await?;
            until("the ports to be open", || !running.gateway.tls_addresses().is_empty()).await?;
        }
        running.plain = *running.gateway.addresses().first().context("a port for LDAP")?;
        running.ldaps = *running.gateway.tls_addresses().first().context("a port for LDAPS")?;
        Ok(running)
    }

    /// Changes the settings, says so on the bus, and waits until they are in force.
    pub async fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let revision = self.settings.change(change);
        let taken_up = async {
            while self.settings.known.load(Ordering::SeqCst) < revision {
                service_kit::bus::Bus::publish(&*self.bus, proto::subjects::SETTINGS_CHANGED, Bytes::new()).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(LIMIT, taken_up).await.context("the new settings are not taken up")?
    }

    /// Says on the bus that something about this user changed.
    pub async fn user_changed(&self, user_id: &str) -> Result<()> {
        let subject = proto::subjects::user_changed(user_id);
        Ok(service_kit::bus::Bus::publish(&*self.bus, &subject, Bytes::new()).await?)
    }

    pub async fn connect_tls(&self, tls: &Arc<rustls::ClientConfig>) -> Result<Wire> {
        Wire::tls(TcpStream::connect(self.ldaps).await?, tls).await
    }

    pub async fn connect_plain(&self) -> Result<Wire> {
        Ok(Wire::plain(TcpStream::connect(self.plain).await?))
    }

    pub async fn connect_plain_from(&self, source: [u8; 4]) -> Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((IpAddr::from(source), 0)))?;
        Ok(Wire::plain(socket.connect(self.plain).await?))
    }

    /// With TLS from the first octet if there is a configuration for it. `abrupt`: whenever it is dropped, the other end sees a reset.
    pub async fn connect_as(&self, tls: Option<&Arc<rustls::ClientConfig>>, abrupt: bool) -> Result<Wire> {
        let stream = TcpStream::connect(if tls.is_some() { self.ldaps } else { self.plain }).await?;
        if abrupt {
            stream.set_zero_linger()?;
        }
        match tls {
            Some(tls) => Wire::tls(stream, tls).await,
            None => Ok(Wire::plain(stream)),
        }
    }

    pub fn plain_url(&self) -> String {
        format!("ldap://{}", self.plain)
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.ldaps)
    }
}

pub fn trusting(ca: &Path) -> Result<Arc<rustls::ClientConfig>> {
    use rustls_pki_types::pem::PemObject;
    service_kit::tls::install_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(ca)?)?;
    Ok(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// The same with a certificate of its own to show.
pub fn showing(ca: &Path, own: &lab::Certificate) -> Result<Arc<rustls::ClientConfig>> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(ca)?)?;
    let chain = vec![rustls_pki_types::CertificateDer::from_pem_file(&own.certificate)?];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&own.key)?;
    Ok(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?))
}

/// Waits for a condition, never for a time.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("gave up waiting for {what}"))
}

// --- a client of the gateway -----------------------------------------------------------------------------------------

trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

/// One connection of a client that sends exactly what it is told to.
pub struct Wire {
    stream: Box<dyn Octets>,
    framer: Framer,
    input: BytesMut,
    last_id: MessageId,
}

impl Wire {
    pub fn plain(stream: TcpStream) -> Self {
        Self::over(Box::new(stream))
    }

    pub async fn tls(stream: TcpStream, tls: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1")?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn Octets>) -> Self {
        let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
        Self { stream, framer, input: BytesMut::new(), last_id: MessageId::UNSOLICITED }
    }

    /// Goes on with TLS.
    pub async fn into_tls(self, tls: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1")?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, self.stream).await?;
        Ok(Self::over(Box::new(stream)))
    }

    pub fn next_id(&mut self) -> MessageId {
        self.last_id = self.last_id.next();
        self.last_id
    }

    pub async fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message; an error at the end of the stream.
    pub async fn receive(&mut self) -> Result<Message> {
        self.next().await?.context("the connection was closed")
    }

    /// The next message, however long it takes.
    pub async fn receive_late(&mut self) -> Result<Message> {
        self.read().await?.context("the connection was closed")
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        tokio::time::timeout(LIMIT, self.read()).await.context("nothing came")?
    }

    async fn read(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.framer.next_message(&mut self.input)? {
                return Ok(Some(message));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// The other end closes without another word.
    pub async fn expect_silent_end(&mut self) -> Result<()> {
        match self.next().await? {
            None => Ok(()),
            Some(message) => anyhow::bail!("{message:?} instead of the end"),
        }
    }

    /// The other end says goodbye with this code, and closes.
    pub async fn expect_notice(&mut self, code: u32) -> Result<()> {
        let notice = self.receive().await?;
        anyhow::ensure!(notice.id() == MessageId::UNSOLICITED, "{notice:?} is no notice");
        anyhow::ensure!(LdapResult::decode(&notice)?.code.0 == code, "{:?}", LdapResult::decode(&notice)?);
        self.expect_silent_end().await
    }

    pub async fn send_bind(&mut self, name: &str, password: &str, controls: &[Control]) -> Result<MessageId> {
        let id = self.next_id();
        let request = BindRequest::simple(name.to_owned(), Password::new(password.as_bytes()));
        self.send(&request.encode(id, controls)).await?;
        Ok(id)
    }

    /// The whole answer to a bind.
    pub async fn bind_answer(&mut self, name: &str, password: &str) -> Result<Message> {
        let id = self.send_bind(name, password, &[]).await?;
        let answer = self.receive().await?;
        anyhow::ensure!(answer.id() == id && answer.op() == Op::BindResponse, "{answer:?}");
        Ok(answer)
    }

    pub async fn bind(&mut self, name: &str, password: &str) -> Result<u32> {
        Ok(LdapResult::decode(&self.bind_answer(name, password).await?)?.code.0)
    }

    pub async fn send_search(&mut self, search: &SearchRequest, controls: &[Control]) -> Result<MessageId> {
        let id = self.next_id();
        self.send(&search.encode(id, controls)).await?;
        Ok(id)
    }

    /// Every message of the answer to a search.
    pub async fn search(&mut self, search: &SearchRequest, controls: &[Control]) -> Result<Vec<Message>> {
        let id = self.send_search(search, controls).await?;
        let mut messages = Vec::new();
        loop {
            let message = self.receive().await?;
            anyhow::ensure!(message.id() == id, "{message:?} does not belong to the search");
            let done = message.op() == Op::SearchResultDone;
            messages.push(message);
            if done {
                return Ok(messages);
            }
        }
    }

    /// The result code of a search, and how many entries came.
    pub async fn search_code(&mut self, base: &str, scope: Scope) -> Result<(u32, usize)> {
        let search = SearchRequest::new(base.to_owned(), scope, &Filter::present("objectClass"), &["1.1"]);
        let messages = self.search(&search, &[]).await?;
        let done = messages.last().context("a search has an end")?;
        Ok((LdapResult::decode(done)?.code.0, messages.len() - 1))
    }

    pub async fn extended(&mut self, request: &ExtendedRequest) -> Result<ldap_wire::ExtendedResponse> {
        let id = self.next_id();
        self.send(&request.encode(id, &[])).await?;
        let answer = self.receive().await?;
        anyhow::ensure!(answer.id() == id, "{answer:?}");
        Ok(ldap_wire::ExtendedResponse::decode(&answer)?)
    }

    /// Whom the directory takes this connection for: `dn:...`, empty for nobody, the code if it was not asked.
    pub async fn who_am_i(&mut self) -> Result<Result<String, u32>> {
        let response = self.extended(&ExtendedRequest::who_am_i()).await?;
        Ok(match response.result.code.0 {
            0 => Ok(String::from_utf8(response.value.unwrap_or_default().to_vec())?),
            code => Err(code),
        })
    }
}

/// The octets of a message under the id 1, so that answers can be compared.
pub fn comparable(message: &Message) -> Bytes {
    message.with_id(MessageId::new(1).expect("an id"))
}

// --- what was logged -------------------------------------------------------------------------------------------------

/// Everything that was logged, by any test of this process, at every level.
pub mod capture {
    use std::io::Write;
    use std::sync::{Mutex, OnceLock};

    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    struct Lines;

    impl Write for Lines {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            LOG.lock().expect("writing does not panic").extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub fn install() {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| {
            let filter = tracing_subscriber::EnvFilter::new("trace,rustls=debug,h2=off,hyper=off");
            let span_events = tracing_subscriber::fmt::format::FmtSpan::FULL;
            let subscriber = tracing_subscriber::fmt()
                .json()
                .with_env_filter(filter)
                .with_span_events(span_events)
                .with_writer(|| Lines)
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one");
        });
    }

    /// Runs what would fill the log for nothing: nothing of it is written.
    pub fn quiet_runtime() -> std::io::Result<tokio::runtime::Runtime> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.enable_all().on_thread_start(|| {
            std::mem::forget(tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default()));
        });
        runtime.build()
    }

    pub fn text() -> String {
        String::from_utf8_lossy(&LOG.lock().expect("writing does not panic")).into_owned()
    }

    /// The lines of attempts at this client.
    pub fn authentications(client: &str) -> Vec<serde_json::Value> {
        let lines = text();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines
            .map(|line| line["fields"].clone())
            .filter(|fields| fields["event"] == "authentication" && fields["client"] == client)
            .collect()
    }
}
