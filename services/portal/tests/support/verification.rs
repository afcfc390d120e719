//! Verification, faked: one code is right, three tries a challenge, and it says something else on command.

use super::{FakeStore, NOW_MS};
use domain::Secret;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::verification_server::Verification;
use proto::verification::{
    Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, Ask, AwaitRequest, BeginRequest, CancelReply,
    CancelRequest, CompleteRequest, ConfirmCodeReply, ConfirmCodeRequest, ConfirmPhoneRequest, ConfirmReply, Deny,
    DeviceStateReply, DeviceStateRequest, FindTokenReply, FindTokenRequest, NewRecoveryCodesReply,
    NewRecoveryCodesRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, ReportReply, ReportRequest,
    ResyncReply, ResyncRequest, StartCodeReply, StartCodeRequest, StartDeviceReply, StartDeviceRequest,
    StartPhoneReply, StartPhoneRequest, Step, TestProviderReply, TestProviderRequest, TryMethodReply, TryMethodRequest,
    outcome,
};
use service_kit::Clock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status};

pub const RIGHT_CODE: &str = "918273";
pub const SEED: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// An attempt as verification was told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenAttempt {
    pub username: String,
    pub client: String,
    pub protocol: String,
    pub client_ip: String,
    pub can_challenge: bool,
    pub person_ip: String,
    pub wanted_method: String,
    /// Nobody but the client has seen the password.
    pub vouched: bool,
    pub password_stamp: String,
}

pub struct FakeVerification {
    store: Arc<FakeStore>,
    clock: Clock,
    open: Mutex<HashMap<String, (String, u32)>>,
    /// Whose attempt each is, as it began.
    clients: Mutex<HashMap<String, String>>,
    pub begun: Mutex<Vec<SeenAttempt>>,
    /// Who was reported, and why.
    pub reports: Mutex<Vec<(String, String)>>,
    /// What providers said, as it was handed on.
    pub callbacks: Mutex<Vec<proto::verification::CallbackRequest>>,
    pub cancelled: AtomicUsize,
    /// Which client of which attempt and round waited, and for how long.
    pub awaited: Mutex<Vec<AwaitRequest>>,
    pub answers: AtomicUsize,
    pub seeds_made: AtomicUsize,
    /// What became of the device that connects, and of a prompt to it.
    pub device_state: Mutex<String>,
    pub tried: Mutex<String>,
    /// What apps of the privacyIDEA protocol sent, and what they are told; `None` = verification is away.
    pub pi_seen: Mutex<Vec<proto::verification::PiRequest>>,
    pub pi_says: Mutex<Option<(u32, String)>>,
    /// What the next Begin or Answer says, whatever was asked.
    pub say_next: Mutex<Option<Result<outcome::Result, tonic::Code>>>,
    /// The transaction that the next answer names.
    pub wrong_transaction: Mutex<Option<String>>,
}

impl FakeVerification {
    pub fn new(store: Arc<FakeStore>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            open: Mutex::default(),
            clients: Mutex::default(),
            begun: Mutex::default(),
            reports: Mutex::default(),
            callbacks: Mutex::default(),
            cancelled: AtomicUsize::new(0),
            awaited: Mutex::default(),
            answers: AtomicUsize::new(0),
            seeds_made: AtomicUsize::new(0),
            device_state: Mutex::new("open".into()),
            tried: Mutex::new("user_denied".into()),
            pi_seen: Mutex::default(),
            pi_says: Mutex::default(),
            say_next: Mutex::default(),
            wrong_transaction: Mutex::default(),
        }
    }

    pub fn say(&self, result: outcome::Result) {
        *self.say_next.lock().expect("a lock") = Some(Ok(result));
    }

    pub fn fail(&self, code: tonic::Code) {
        *self.say_next.lock().expect("a lock") = Some(Err(code));
    }

    pub fn reports(&self) -> Vec<(String, String)> {
        self.reports.lock().expect("a lock").clone()
    }

    pub fn allow(user_id: &str) -> Allow {
        Allow {
            reason: "valid_code".into(),
            method: "code".into(),
            assurance: "code".into(),
            source: "live".into(),
            client: "portal".into(),
            expires_unix_ms: NOW_MS + 10_000,
            user_id: user_id.into(),
            ..Allow::default()
        }
    }

    fn outcome(&self, transaction: &str, result: outcome::Result) -> Result<Response<Outcome>, Status> {
        let named = self.wrong_transaction.lock().expect("a lock").take();
        let transaction_id = named.unwrap_or_else(|| transaction.to_owned());
        Ok(Response::new(Outcome { transaction_id, result: Some(result) }))
    }

    /// Whoever asks about an attempt names the client that began it; of one that never began nothing is known.
    fn is_of(&self, transaction: &str, client: &str) {
        let clients = self.clients.lock().expect("a lock");
        assert!(clients.get(transaction).is_none_or(|began| began == client), "{client} asks for another's");
    }

    fn told(&self) -> Option<Result<outcome::Result, Status>> {
        let told = self.say_next.lock().expect("a lock").take();
        told.map(|told| told.map_err(|code| Status::new(code, "inside")))
    }
}

fn deny(reason: &str) -> outcome::Result {
    outcome::Result::Deny(Deny { reason: reason.into(), ..Deny::default() })
}

fn ask(step: u32, user_id: &str, previous: &str) -> outcome::Result {
    outcome::Result::Ask(Ask {
        method: "code".into(),
        step,
        expires_unix_ms: NOW_MS + 120_000,
        user_id: user_id.into(),
        previous: previous.into(),
        kind: proto::verification::AskKind::Code.into(),
        ..Ask::default()
    })
}

#[tonic::async_trait]
impl Verification for FakeVerification {
    async fn appended_forms(&self, _: Request<AppendedFormsRequest>) -> Result<Response<AppendedFormsReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let request = request.into_inner();
        let attempt = request.attempt.ok_or_else(|| Status::invalid_argument("attempt"))?;
        assert_eq!(request.primary, proto::verification::Primary::Passed as i32);
        assert!(request.code.is_none());
        self.clients.lock().expect("a lock").insert(attempt.transaction_id.clone(), attempt.client.clone());
        self.begun.lock().expect("a lock").push(SeenAttempt {
            username: attempt.username.clone(),
            client: attempt.client,
            protocol: attempt.protocol,
            client_ip: attempt.client_ip,
            can_challenge: attempt.can_challenge,
            person_ip: attempt.person_ip,
            wanted_method: request.wanted_method,
            vouched: request.vouched,
            password_stamp: attempt.password_stamp,
        });
        let transaction = attempt.transaction_id;
        if let Some(told) = self.told() {
            return self.outcome(&transaction, told?);
        }
        let result = match self.store.user(&attempt.username) {
            None => deny("unknown_user"),
            Some(user) if user.state != "enabled" => deny("blocked"),
            Some(user) if !user.has_factor() => deny("not_enrolled"),
            Some(user) => {
                self.open.lock().expect("a lock").insert(transaction.clone(), (user.id.clone(), 1));
                ask(1, &user.id, "")
            }
        };
        self.outcome(&transaction, result)
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        self.answers.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        let client = request.client.clone();
        let transaction = request.transaction_id;
        self.is_of(&transaction, &client);
        if let Some(told) = self.told() {
            return self.outcome(&transaction, told?);
        }
        let code = Secret::from(request.answer.unwrap_or_default());
        let result = {
            let mut open = self.open.lock().expect("a lock");
            match open.get_mut(&transaction) {
                Some((user, step)) if *step == request.step => {
                    let user = user.clone();
                    *step += 1;
                    match (code.expose_str(), *step) {
                        (Some(RIGHT_CODE), _) => {
                            open.remove(&transaction);
                            let expires_unix_ms = self.clock.now_ms() + 10_000;
                            outcome::Result::Allow(Allow { client, expires_unix_ms, ..Self::allow(&user) })
                        }
                        (_, step) if step <= 3 => ask(step, "", "wrong_code"),
                        _ => {
                            open.remove(&transaction);
                            deny("locked_out")
                        }
                    }
                }
                _ => deny("challenge_gone"),
            }
        };
        self.outcome(&transaction, result)
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        self.is_of(&request.get_ref().transaction_id, &request.get_ref().client);
        self.cancelled.fetch_add(1, Ordering::SeqCst);
        let ended = self.open.lock().expect("a lock").remove(&request.get_ref().transaction_id).is_some();
        Ok(Response::new(CancelReply { ended }))
    }

    async fn password_changed(
        &self,
        _: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        panic!("nobody changes a password of the directory at the portal")
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let request = request.into_inner();
        let username = request.attempt.map(|attempt| attempt.username).unwrap_or_default();
        self.reports.lock().expect("a lock").push((username, request.reason));
        Ok(Response::new(ReportReply {}))
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<Outcome>, Status> {
        let AwaitRequest { transaction_id, client, .. } = request.get_ref().clone();
        self.is_of(&transaction_id, &client);
        self.awaited.lock().expect("a lock").push(request.into_inner());
        match self.told() {
            Some(told) => self.outcome(&transaction_id, told?),
            None => self.outcome(&transaction_id, deny("no_answer")),
        }
    }
}

#[tonic::async_trait]
impl Enrolment for FakeVerification {
    async fn start_code(&self, request: Request<StartCodeRequest>) -> Result<Response<StartCodeReply>, Status> {
        let request = request.into_inner();
        let number = self.seeds_made.fetch_add(1, Ordering::SeqCst) + 1;
        let factor_id = self.store.add_pending(&request.user_id, number)?;
        let uri = format!("otpauth://totp/Example:ann?secret={SEED}&issuer=Example&algorithm=SHA1&digits=6&period=30");
        Ok(Response::new(StartCodeReply {
            factor_id,
            otpauth_uri: Some(Secret::from(uri).into()),
            seed_base32: Some(Secret::from(SEED).into()),
        }))
    }

    async fn confirm_code(&self, request: Request<ConfirmCodeRequest>) -> Result<Response<ConfirmCodeReply>, Status> {
        let request = request.into_inner();
        let code = Secret::from(request.code.unwrap_or_default());
        let right = code.expose_str() == Some(RIGHT_CODE);
        let confirmed = right && self.store.confirm(&request.user_id, &request.factor_id, &request.actor);
        let reason = if confirmed { String::new() } else { "wrong_code".into() };
        Ok(Response::new(ConfirmCodeReply { confirmed, reason }))
    }

    async fn resync(&self, request: Request<ResyncRequest>) -> Result<Response<ResyncReply>, Status> {
        let request = request.into_inner();
        let codes: Vec<Secret> = request.codes.into_iter().map(Secret::from).collect();
        let done = codes.first().is_some_and(|code| code.expose_str() == Some(RIGHT_CODE));
        self.store.note(format!("resync {} with {} codes by {}", request.factor_id, codes.len(), request.actor));
        let reason = if done { String::new() } else { "wrong_code".into() };
        Ok(Response::new(ResyncReply { done, reason }))
    }

    async fn find_token(&self, request: Request<FindTokenRequest>) -> Result<Response<FindTokenReply>, Status> {
        let code = Secret::from(request.into_inner().code.unwrap_or_default());
        let serials = if code.expose_str() == Some(RIGHT_CODE) { vec!["T-0001".to_owned()] } else { Vec::new() };
        Ok(Response::new(FindTokenReply { serials }))
    }

    async fn start_phone(&self, request: Request<StartPhoneRequest>) -> Result<Response<StartPhoneReply>, Status> {
        let request = request.into_inner();
        self.store.note(format!(
            "{} {} x{:?} backup={} by {}",
            request.method, request.number, request.extension, request.backup, request.actor
        ));
        if request.number.len() < 8 {
            return Err(Status::invalid_argument("number"));
        }
        Ok(Response::new(match request.number.starts_with("+900") {
            true => StartPhoneReply { reason: "rate_limited".into(), ..StartPhoneReply::default() },
            false => StartPhoneReply {
                verification_id: "phone-1".into(),
                destination: "\u{2022}\u{2022}\u{2022}\u{2022} 1820".into(),
                expires_unix_ms: NOW_MS + 300_000,
                reason: String::new(),
            },
        }))
    }

    /// The right code, or none for a call that was answered.
    async fn confirm_phone(&self, request: Request<ConfirmPhoneRequest>) -> Result<Response<ConfirmReply>, Status> {
        let request = request.into_inner();
        let code = request.code.map(Secret::from);
        let right = code.as_ref().is_none_or(|code| code.expose_str() == Some(RIGHT_CODE));
        let confirmed = right && request.verification_id == "phone-1";
        let reason = if confirmed { String::new() } else { "wrong_code".into() };
        Ok(Response::new(ConfirmReply { confirmed, reason }))
    }

    async fn start_device(&self, request: Request<StartDeviceRequest>) -> Result<Response<StartDeviceReply>, Status> {
        let request = request.into_inner();
        self.store.note(format!("activation {} by {}", request.kind, request.actor));
        // Only our own app can be told a code by typing.
        let code = if request.kind == "web" { "WXYZ-2345" } else { "" };
        let uri = format!("https://portal.example/phone#{}-of-{}", request.kind, request.user_id);
        Ok(Response::new(StartDeviceReply {
            device_id: "device-1".into(),
            code: Some(Secret::from(code).into()),
            uri: Some(Secret::from(uri).into()),
            expires_unix_ms: NOW_MS + 600_000,
            ..StartDeviceReply::default()
        }))
    }

    async fn device_state(&self, request: Request<DeviceStateRequest>) -> Result<Response<DeviceStateReply>, Status> {
        if request.get_ref().device_id != "device-1" {
            return Err(Status::not_found("there is no such activation"));
        }
        let state = self.device_state.lock().expect("a lock").clone();
        Ok(Response::new(DeviceStateReply { state, name: String::new() }))
    }

    async fn new_recovery_codes(
        &self,
        request: Request<NewRecoveryCodesRequest>,
    ) -> Result<Response<NewRecoveryCodesReply>, Status> {
        self.store.note(format!("recovery codes by {}", request.get_ref().actor));
        let codes = (0..10).map(|place| Secret::from(format!("ABCDE-1234{place}")).into()).collect();
        Ok(Response::new(NewRecoveryCodesReply { codes }))
    }

    async fn try_method(&self, request: Request<TryMethodRequest>) -> Result<Response<TryMethodReply>, Status> {
        let request = request.into_inner();
        self.store.note(format!("try {} {:?} by {}", request.method, request.device_id, request.actor));
        assert_eq!(request.device_id, "device-1");
        let reason = match request.method.as_str() {
            "push" => self.tried.lock().expect("a lock").clone(),
            _ => "no_answer".to_owned(),
        };
        let steps = vec![Step { ms: 12, what: "sent".into() }, Step { ms: 900, what: "answered".into() }];
        Ok(Response::new(TryMethodReply { reason, steps }))
    }

    async fn test_provider(
        &self,
        request: Request<TestProviderRequest>,
    ) -> Result<Response<TestProviderReply>, Status> {
        let request = request.into_inner();
        self.store.note(format!("test {} by {:?} to {}", request.channel, request.provider, request.to));
        let steps = vec![Step { ms: 40, what: "accepted".into() }];
        Ok(Response::new(TestProviderReply { accepted: true, provider: "carrier".into(), steps }))
    }

    async fn start_passkey(
        &self,
        _: Request<proto::verification::StartPasskeyRequest>,
    ) -> Result<Response<proto::verification::StartPasskeyReply>, Status> {
        Err(Status::unimplemented("start_passkey"))
    }

    async fn confirm_passkey(
        &self,
        _: Request<proto::verification::ConfirmPasskeyRequest>,
    ) -> Result<Response<proto::verification::ConfirmReply>, Status> {
        Err(Status::unimplemented("confirm_passkey"))
    }
}

#[tonic::async_trait]
impl proto::verification::phone_server::Phone for FakeVerification {
    async fn pi(
        &self,
        request: Request<proto::verification::PiRequest>,
    ) -> Result<Response<proto::verification::PiReply>, Status> {
        self.pi_seen.lock().expect("a lock").push(request.into_inner());
        let (status, json) = self.pi_says.lock().expect("a lock").clone().ok_or_else(|| Status::unavailable("away"))?;
        Ok(Response::new(proto::verification::PiReply { status, json }))
    }

    async fn begin_activation(
        &self,
        _: Request<proto::verification::BeginActivationRequest>,
    ) -> Result<Response<proto::verification::BeginActivationReply>, Status> {
        Err(Status::unimplemented("begin_activation"))
    }

    async fn finish_activation(
        &self,
        _: Request<proto::verification::FinishActivationRequest>,
    ) -> Result<Response<proto::verification::FinishActivationReply>, Status> {
        Err(Status::unimplemented("finish_activation"))
    }

    async fn update_device(
        &self,
        _: Request<proto::verification::UpdateDeviceRequest>,
    ) -> Result<Response<proto::verification::UpdateDeviceReply>, Status> {
        Err(Status::unimplemented("update_device"))
    }

    async fn open_prompts(
        &self,
        _: Request<proto::verification::OpenPromptsRequest>,
    ) -> Result<Response<proto::verification::OpenPromptsReply>, Status> {
        Err(Status::unimplemented("open_prompts"))
    }

    async fn decide(
        &self,
        _: Request<proto::verification::DecideRequest>,
    ) -> Result<Response<proto::verification::DecideReply>, Status> {
        Err(Status::unimplemented("decide"))
    }

    async fn confirm_device_code(
        &self,
        _: Request<proto::verification::ConfirmDeviceCodeRequest>,
    ) -> Result<Response<proto::verification::ConfirmDeviceCodeReply>, Status> {
        Err(Status::unimplemented("confirm_device_code"))
    }
}

#[tonic::async_trait]
impl proto::verification::callback_server::Callback for FakeVerification {
    async fn receive(
        &self,
        request: Request<proto::verification::CallbackRequest>,
    ) -> Result<Response<proto::verification::CallbackReply>, Status> {
        let request = request.into_inner();
        let reply = match request.path.as_str() {
            "receipt" => (204, "", ""),
            "call/1/begin" => (200, "text/xml", "<Response/>"),
            "away" => return Err(Status::unavailable("store_unavailable")),
            _ => (404, "text/plain", "not found\n"),
        };
        self.callbacks.lock().expect("a lock").push(request);
        let (status, content_type, body) = reply;
        let (content_type, body) = (content_type.into(), body.into());
        Ok(Response::new(proto::verification::CallbackReply { status, content_type, body }))
    }
}
