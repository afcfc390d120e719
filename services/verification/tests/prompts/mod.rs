//! A store of prompts, PINs and devices in memory, as `proto/twinlock/user_store.proto` says, and a node over it. What a test of calls
//! and phones does not touch answers UNIMPLEMENTED.

#![allow(dead_code, reason = "each test program uses its part")]

use domain::Secret;
use domain::settings::Settings as Document;
use proto::user_store::*;
use proto::verification::callback_server::Callback as _;
use proto::verification::{CallbackReply, CallbackRequest};
use service_kit::bus::{Bus, InProcess};
use service_kit::{Clock, Process};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};
use verification::{Deps, Service};

pub const NOW: i64 = 1_790_000_000_000;
pub const PORTAL: &str = "https://mfa.example.com";
pub const USER: &str = "id-of-ann";

/// One store, one bus, one clock, and as many nodes as a test wants.
pub struct World {
    pub store: Arc<PromptStore>,
    pub bus: Arc<InProcess>,
    pub clock: Clock,
    process: Process,
}

impl World {
    pub fn new(settings: serde_json::Value, secrets: &[(&str, &str)]) -> Self {
        Self::at(Clock::at(NOW), settings, secrets)
    }

    pub fn at(clock: Clock, settings: serde_json::Value, secrets: &[(&str, &str)]) -> Self {
        let settings: Document = serde_json::from_value(settings).expect("valid settings");
        let secrets = secrets.iter().map(|(name, secret)| ((*name).to_owned(), Secret::from(*secret))).collect();
        let state = State { settings, secrets, revision: 1, pin: "4711".into(), ..State::default() };
        Self {
            store: Arc::new(PromptStore { clock: clock.clone(), state: Mutex::new(state) }),
            bus: Arc::new(InProcess::new()),
            clock,
            process: Process::detached("test"),
        }
    }

    /// A verification process that has its settings.
    pub async fn node(&self) -> Arc<Service> {
        let deps = Deps {
            settings: self.store.clone(),
            facts: self.store.clone(),
            commit: self.store.clone(),
            outbox: self.store.clone(),
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            randomness: getrandom::fill,
        };
        let node = Arc::new(Service::start(deps, &self.process));
        for _ in 0..500 {
            if node.receive(Request::new(CallbackRequest::default())).await.is_ok() {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the node never got its settings");
    }

    /// An open prompt, as a login opens it.
    pub fn prompt(&self, method: &str) -> Prompt {
        let mut state = self.store.lock();
        let id = uuid::Uuid::now_v7().to_string();
        let prompt = Prompt {
            prompt_id: id.clone(),
            transaction_id: format!("transaction-of-{id}"),
            user_id: USER.into(),
            method: method.into(),
            client: "vpn".into(),
            application: "VPN".into(),
            username: "ann@corp.example".into(),
            begun_unix_ms: self.clock.now_ms(),
            expires_unix_ms: self.clock.now_ms() + 110_000,
            revision: 1,
            ..Prompt::default()
        };
        state.prompts.push(prompt.clone());
        prompt
    }

    /// Waits until the prompt has an outcome.
    pub async fn outcome(&self, prompt_id: &str) -> Prompt {
        for _ in 0..1000 {
            let prompt = self.store.read(prompt_id);
            if !prompt.outcome.is_empty() {
                return prompt;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the prompt has no outcome");
    }

    /// Hears the next word of the bus that the prompt is resolved.
    pub async fn resolved(&self) -> service_kit::bus::Subscription {
        self.bus.subscribe(proto::subjects::CHALLENGE_RESOLVED).await.expect("in this process")
    }
}

/// Hands a callback to a node, as the portal does.
pub async fn call_back(node: &Service, provider: &str, url: &str, request: CallbackRequest) -> CallbackReply {
    let prefix = format!("{PORTAL}/callback/{provider}/");
    let path = url.strip_prefix(&prefix).unwrap_or_default().to_owned();
    let request =
        CallbackRequest { provider: provider.into(), path, method: "POST".into(), url: url.into(), ..request };
    node.receive(Request::new(request)).await.expect("answered").into_inner()
}

pub struct PromptStore {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub settings: Document,
    pub secrets: HashMap<String, Secret>,
    pub revision: u64,
    pub prompts: Vec<Prompt>,
    answers: HashMap<String, Vec<u8>>,
    pub pin: String,
    pub pin_locked: bool,
    /// PINs that were compared.
    pub pins_tried: u32,
    pub blocked_until: Option<i64>,
    pub notes: Vec<NoteMessageRequest>,
    pub events: Vec<AuditEvent>,
    pub devices: Vec<(String, PushDevice)>,
    pub activations: Vec<Activation>,
    pub passkeys: Vec<Passkey>,
    pub factors: Vec<CodeFactor>,
    /// What the store says of the user, beside name and state.
    pub record: LoginUser,
    /// Empty = [`PORTAL`].
    pub portal_url: String,
    /// The user may not log in.
    pub disabled: bool,
    seen: HashMap<(String, String), i64>,
    sealed: HashMap<String, Vec<u8>>,
    /// Calls that fail, by name.
    pub broken: Vec<&'static str>,
}

pub struct Activation {
    pub request: OpenActivationRequest,
    pub device_id: String,
    pub wrong: u32,
    pub spent_by: Option<String>,
}

impl PromptStore {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whole")
    }

    pub fn read(&self, prompt_id: &str) -> Prompt {
        self.lock().prompts.iter().find(|prompt| prompt.prompt_id == prompt_id).expect("a prompt").clone()
    }

    /// Ends a prompt as somebody else would: `withdrawn`, `expired`.
    pub fn end(&self, prompt_id: &str, outcome: &str) {
        let mut state = self.lock();
        let prompt = state.prompts.iter_mut().find(|prompt| prompt.prompt_id == prompt_id).expect("a prompt");
        prompt.outcome = outcome.into();
        prompt.revision += 1;
    }

    pub fn change_settings(&self, change: impl FnOnce(&mut Document)) {
        let mut state = self.lock();
        change(&mut state.settings);
        state.revision += 1;
    }

    async fn called(&self, call: &'static str) -> Result<(), Status> {
        // Others get a turn, as over a network.
        tokio::task::yield_now().await;
        if self.lock().broken.contains(&call) { Err(Status::unavailable("broken on command")) } else { Ok(()) }
    }
}

fn ok<T>(reply: T) -> Result<Response<T>, Status> {
    Ok(Response::new(reply))
}

type Answer<'f, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'f>>;

/// Methods that no test of calls and phones needs.
macro_rules! unused {
    ($($name:ident: $request:ty => $reply:ty;)*) => {
        $(fn $name<'s, 'f>(&'s self, _: Request<$request>) -> Answer<'f, $reply>
        where 's: 'f, Self: 'f {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[async_trait]
impl settings_server::Settings for PromptStore {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let state = self.lock();
        if request.into_inner().known_revision == state.revision {
            return ok(FetchReply { revision: state.revision, unchanged: true, ..FetchReply::default() });
        }
        ok(FetchReply {
            revision: state.revision,
            settings_json: serde_json::to_string(&state.settings).expect("settings are JSON"),
            secrets: state.secrets.iter().map(|(name, secret)| (name.clone(), secret.clone().into())).collect(),
            portal_url: if state.portal_url.is_empty() { PORTAL.into() } else { state.portal_url.clone() },
            now_unix_ms: self.clock.now_ms(),
            ..FetchReply::default()
        })
    }

    async fn key_ring(&self, _: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        ok(KeyRingReply { keys: vec![Key { id: 1, key: Some(Secret::new(vec![7; 32]).into()) }], current: 1 })
    }

    unused! {
        pin_service_account: PinServiceAccountRequest => PinServiceAccountReply;
        learn_client: LearnClientRequest => LearnClientReply;
    }
}

#[async_trait]
impl facts_server::Facts for PromptStore {
    async fn login(&self, request: Request<LoginFactsRequest>) -> Result<Response<LoginFactsReply>, Status> {
        let known = matches!(request.into_inner().who, Some(login_facts_request::Who::UserId(id)) if id == USER);
        let user = known.then(|| LoginUser {
            user_id: USER.into(),
            username: "ann@corp.example".into(),
            state: "enabled".into(),
            ..self.lock().record.clone()
        });
        let devices = self.lock().devices.iter().map(|(_, device)| device.clone()).collect();
        let proven = |passkey: &&Passkey| !passkey.credential_json.is_empty();
        let passkeys = self.lock().passkeys.iter().filter(proven).cloned().collect();
        let code_factors = if known { self.lock().factors.clone() } else { Vec::new() };
        ok(LoginFactsReply { user, code_factors, devices, passkeys })
    }
    unused! {
        named: NamedRequest => NamedReply;
    }
}

#[async_trait]
impl outbox_server::Outbox for PromptStore {
    async fn take(&self, _: Request<TakeMailRequest>) -> Result<Response<TakeMailReply>, Status> {
        ok(TakeMailReply::default())
    }
    unused! {
        put: PutMailRequest => PutMailReply;
        done: DoneMailRequest => DoneMailReply;
    }
}

#[async_trait]
impl commit_server::Commit for PromptStore {
    async fn get_prompts(&self, request: Request<GetPromptsRequest>) -> Result<Response<GetPromptsReply>, Status> {
        self.called("get_prompts").await?;
        let ids = request.into_inner().prompt_ids;
        let prompts = self.lock().prompts.iter().filter(|prompt| ids.contains(&prompt.prompt_id)).cloned().collect();
        ok(GetPromptsReply { prompts })
    }

    async fn user_prompts(&self, request: Request<UserPromptsRequest>) -> Result<Response<GetPromptsReply>, Status> {
        self.called("user_prompts").await?;
        let UserPromptsRequest { user_id, method, now_unix_ms } = request.into_inner();
        let open = |prompt: &&Prompt| {
            prompt.user_id == user_id
                && prompt.method == method
                && prompt.outcome.is_empty()
                && prompt.expires_unix_ms > now_unix_ms
        };
        let prompts = self.lock().prompts.iter().filter(open).cloned().collect();
        ok(GetPromptsReply { prompts })
    }

    async fn update_prompt(
        &self,
        request: Request<UpdatePromptRequest>,
    ) -> Result<Response<UpdatePromptReply>, Status> {
        self.called("update_prompt").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let prompt = state.prompts.iter_mut().find(|prompt| prompt.prompt_id == request.prompt_id);
        let prompt = prompt.ok_or_else(|| Status::not_found("prompt"))?;
        let updated = prompt.revision == request.expected_revision && prompt.outcome.is_empty();
        if updated {
            prompt.state_json = request.state_json;
            prompt.revision += 1;
        }
        ok(UpdatePromptReply { updated, prompt: Some(prompt.clone()) })
    }

    async fn resolve_prompt(
        &self,
        request: Request<ResolvePromptRequest>,
    ) -> Result<Response<ResolvePromptReply>, Status> {
        self.called("resolve_prompt").await?;
        let request = request.into_inner();
        let mut guard = self.lock();
        let state = &mut *guard;
        let before = state.answers.get(&request.prompt_id).cloned();
        let prompt = state.prompts.iter_mut().find(|prompt| prompt.prompt_id == request.prompt_id);
        let prompt = prompt.ok_or_else(|| Status::not_found("prompt"))?;
        let open = prompt.outcome.is_empty() && prompt.expires_unix_ms > request.now_unix_ms;
        let taken = open || before.is_some_and(|digest| digest == request.answer_digest);
        if let (true, Some(count)) = (open, &request.passkey_count) {
            let (_, device) =
                state.devices.iter_mut().find(|(_, it)| it.device_id == request.device_id).expect("a device");
            if device.passkey_json != count.before_json {
                return ok(ResolvePromptReply { taken: false, prompt: Some(prompt.clone()) });
            }
            device.passkey_json.clone_from(&count.after_json);
        }
        if open {
            prompt.outcome = request.outcome;
            prompt.answered_by = request.answered_by;
            prompt.assurance = request.assurance;
            prompt.answered_unix_ms = request.now_unix_ms;
            prompt.pin_handle = request.pin_handle;
            prompt.revision += 1;
        }
        let prompt = prompt.clone();
        if open {
            state.answers.insert(request.prompt_id, request.answer_digest);
            if prompt.outcome == "fraud" {
                state.blocked_until = Some(request.block_until_unix_ms);
            }
        }
        ok(ResolvePromptReply { taken, prompt: Some(prompt) })
    }

    async fn check_secret(&self, request: Request<CheckSecretRequest>) -> Result<Response<CheckSecretReply>, Status> {
        self.called("check_secret").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        assert_eq!(request.kind, SecretKind::Pin as i32);
        assert!(!request.transaction_id.is_empty() && request.user_id == USER);
        state.pins_tried += 1;
        let typed: Secret = request.secret.unwrap_or_default().into();
        let result = match typed.expose() == state.pin.as_bytes() {
            _ if state.pin_locked => SecretResult::Locked,
            true => SecretResult::Right,
            false => SecretResult::Wrong,
        };
        let handle = if result == SecretResult::Right { format!("pin-{}", state.pins_tried) } else { String::new() };
        ok(CheckSecretReply { result: result.into(), handle, retry_unix_ms: 0 })
    }

    async fn set_pin(&self, request: Request<SetPinRequest>) -> Result<Response<SetPinReply>, Status> {
        self.called("set_pin").await?;
        let pin: Secret = request.into_inner().pin.unwrap_or_default().into();
        let pin = pin.expose_str().expect("digits").to_owned();
        let unfit = pin.len() < 4 || pin == "1234";
        if !unfit {
            self.lock().pin = pin;
        }
        ok(SetPinReply { set: !unfit, rule: if unfit { "run".into() } else { String::new() } })
    }

    async fn note_message(&self, request: Request<NoteMessageRequest>) -> Result<Response<NoteMessageReply>, Status> {
        self.lock().notes.push(request.into_inner());
        ok(NoteMessageReply::default())
    }

    async fn open_activation(
        &self,
        request: Request<OpenActivationRequest>,
    ) -> Result<Response<OpenActivationReply>, Status> {
        self.called("open_activation").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        if state.devices.len() as u32 >= request.devices_max {
            return ok(OpenActivationReply::default());
        }
        let device_id = format!("device-{}", state.activations.len() + 1);
        state.activations.push(Activation { request, device_id: device_id.clone(), wrong: 0, spent_by: None });
        ok(OpenActivationReply { device_id })
    }

    async fn find_activation(
        &self,
        request: Request<FindActivationRequest>,
    ) -> Result<Response<FindActivationReply>, Status> {
        self.called("find_activation").await?;
        let asked = request.into_inner();
        let mut state = self.lock();
        let found = state.activations.iter_mut().find(|activation| {
            let by_serial = !asked.serial.is_empty() && activation.request.serial == asked.serial;
            by_serial || (asked.serial.is_empty() && activation.request.code_hash == asked.code_hash)
        });
        let Some(activation) = found else { return ok(FindActivationReply::default()) };
        if activation.request.code_hash != asked.code_hash {
            activation.wrong += 1;
            return ok(FindActivationReply::default());
        }
        if activation.wrong >= 5 || activation.request.expires_unix_ms <= asked.now_unix_ms {
            return ok(FindActivationReply::default());
        }
        let device = PushDevice {
            device_id: activation.device_id.clone(),
            kind: activation.request.kind.clone(),
            state: "pending".into(),
            serial: activation.request.serial.clone(),
            server_key: activation.request.server_key.clone(),
            public_key: activation.spent_by.clone().unwrap_or_default(),
            ..PushDevice::default()
        };
        ok(FindActivationReply {
            device: Some(device),
            user_id: activation.request.user_id.clone(),
            state_json: String::new(),
            redeemed: activation.spent_by.is_some(),
        })
    }

    async fn put_device(&self, request: Request<PutDeviceRequest>) -> Result<Response<PutDeviceReply>, Status> {
        self.called("put_device").await?;
        let request = request.into_inner();
        let mut device = request.device.expect("a device");
        let mut state = self.lock();
        if let Some((_, known)) = state.devices.iter().find(|(_, known)| known.device_id == device.device_id) {
            device.state.clone_from(&known.state);
        }
        if !request.code_hash.is_empty() {
            let found = state.activations.iter_mut().find(|it| it.request.code_hash == request.code_hash);
            // The same request again is done.
            let fresh = |it: &Activation| it.spent_by.as_ref().is_none_or(|key| *key == device.public_key);
            let Some(activation) = found.filter(|it| fresh(it)) else {
                return ok(PutDeviceReply { done: false });
            };
            activation.spent_by = Some(device.public_key.clone());
        }
        match state.devices.iter_mut().find(|(_, known)| known.device_id == device.device_id) {
            // A change names what changes.
            Some((_, known)) => {
                if let Some(subscription) = device.subscription {
                    known.subscription = (!subscription.value.is_empty()).then_some(subscription);
                }
                if !device.passkey_json.is_empty() {
                    known.passkey_json = device.passkey_json;
                }
                if !device.capabilities.is_empty() {
                    known.capabilities = device.capabilities;
                }
                known.last_seen_unix_ms = known.last_seen_unix_ms.max(device.last_seen_unix_ms);
            }
            None => state.devices.push((request.user_id, device)),
        }
        ok(PutDeviceReply { done: true })
    }

    async fn touch_device(&self, request: Request<TouchDeviceRequest>) -> Result<Response<TouchDeviceReply>, Status> {
        self.called("touch_device").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let found = state.devices.iter_mut().find(|(_, device)| device.device_id == request.device_id);
        let Some((_, device)) = found else { return ok(TouchDeviceReply { done: false }) };
        if request.endpoint_gone {
            device.subscription = None;
            return ok(TouchDeviceReply { done: true });
        }
        device.last_seen_unix_ms = request.now_unix_ms;
        if request.activate {
            device.state = "active".into();
        }
        ok(TouchDeviceReply { done: true })
    }

    async fn get_device(&self, request: Request<GetDeviceRequest>) -> Result<Response<GetDeviceReply>, Status> {
        self.called("get_device").await?;
        let asked = request.into_inner();
        let state = self.lock();
        let found = state.devices.iter().find(|(_, device)| {
            let by_serial = !asked.serial.is_empty() && device.serial == asked.serial;
            by_serial || (asked.serial.is_empty() && device.device_id == asked.device_id)
        });
        let opened = || {
            let found = state.activations.iter().find(|it| it.device_id == asked.device_id)?;
            let device = PushDevice {
                device_id: found.device_id.clone(),
                kind: found.request.kind.clone(),
                state: "activation".into(),
                ..PushDevice::default()
            };
            Some((found.request.user_id.clone(), device))
        };
        let found = found.cloned().or_else(opened);
        ok(found.map_or_else(GetDeviceReply::default, |(user_id, device)| GetDeviceReply {
            device: Some(device),
            user_id,
            username: "ann@corp.example".into(),
            enabled: !state.disabled,
        }))
    }

    async fn open_prompt(&self, request: Request<OpenPromptRequest>) -> Result<Response<OpenPromptReply>, Status> {
        self.called("open_prompt").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let open = state.prompts.iter().any(|it| it.outcome.is_empty() && it.expires_unix_ms > request.now_unix_ms);
        if open {
            let result = PromptResult::Pending.into();
            return ok(OpenPromptReply { result, until_unix_ms: 0, prompt: None });
        }
        let prompt = Prompt { revision: 1, ..request.prompt.expect("a prompt") };
        state.prompts.push(prompt.clone());
        ok(OpenPromptReply { result: PromptResult::Opened.into(), until_unix_ms: 0, prompt: Some(prompt) })
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        self.called("record").await?;
        self.lock().events.push(request.into_inner().event.expect("an event"));
        ok(RecordReply {})
    }

    async fn put_passkey(&self, request: Request<PutPasskeyRequest>) -> Result<Response<PutPasskeyReply>, Status> {
        self.called("put_passkey").await?;
        let PutPasskeyRequest { passkey, pending, .. } = request.into_inner();
        let passkey = passkey.expect("a passkey");
        let mut state = self.lock();
        if pending {
            // As the store: there is a ceremony, or there is nothing.
            if passkey.credential_json.is_empty() {
                return Err(Status::invalid_argument("passkey.credential_json"));
            }
            let passkey_id = passkey.passkey_id;
            state.passkeys.push(Passkey { passkey_id: passkey_id.clone(), ..Passkey::default() });
            return ok(PutPasskeyReply { passkey_id });
        }
        let known = state.passkeys.iter_mut().find(|known| known.passkey_id == passkey.passkey_id);
        let Some(known) = known else { return ok(PutPasskeyReply::default()) };
        *known = passkey.clone();
        ok(PutPasskeyReply { passkey_id: passkey.passkey_id })
    }

    async fn add_pending_factor(
        &self,
        request: Request<AddPendingFactorRequest>,
    ) -> Result<Response<AddPendingFactorReply>, Status> {
        self.called("add_pending_factor").await?;
        let factor_id = uuid::Uuid::new_v4().to_string();
        let factor = CodeFactor { factor_id: factor_id.clone(), ..request.into_inner().factor.expect("a factor") };
        let mut state = self.lock();
        state.factors.retain(|known| !known.pending);
        state.factors.push(factor);
        ok(AddPendingFactorReply { factor_id })
    }

    async fn confirm_factor(
        &self,
        request: Request<ConfirmFactorRequest>,
    ) -> Result<Response<ConfirmFactorReply>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        let found = state.factors.iter_mut().find(|it| it.factor_id == request.factor_id && it.pending);
        let confirmed = found.map(|factor| factor.pending = false).is_some();
        ok(ConfirmFactorReply { confirmed })
    }

    async fn reserve_try(&self, _: Request<ReserveTryRequest>) -> Result<Response<ReserveTryReply>, Status> {
        ok(ReserveTryReply { granted: true, retry_unix_ms: 0 })
    }

    async fn see_once(&self, request: Request<SeeOnceRequest>) -> Result<Response<SeeOnceReply>, Status> {
        self.called("see_once").await?;
        let request = request.into_inner();
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let key = (request.scope, request.id);
        if request.forget {
            state.seen.remove(&key);
            return ok(SeeOnceReply { first: false });
        }
        let first = state.seen.get(&key).is_none_or(|expires| *expires <= now);
        if first {
            state.seen.insert(key, request.expires_unix_ms);
        }
        ok(SeeOnceReply { first })
    }

    async fn get_sealed(&self, request: Request<GetSealedRequest>) -> Result<Response<GetSealedReply>, Status> {
        let value = self.lock().sealed.get(&request.into_inner().name).cloned();
        ok(GetSealedReply { value: value.map(|value| Secret::new(value).into()) })
    }

    async fn put_sealed(&self, request: Request<PutSealedRequest>) -> Result<Response<PutSealedReply>, Status> {
        let request = request.into_inner();
        let value: Secret = request.value.unwrap_or_default().into();
        let mut state = self.lock();
        let kept = state.sealed.entry(request.name).or_insert_with(|| value.expose().to_vec()).clone();
        ok(PutSealedReply { value: Some(Secret::new(kept).into()) })
    }

    unused! {
        try_code: TryCodeRequest => TryCodeReply;
        spend_code: SpendCodeRequest => SpendCodeReply;
        allow: CommitAllowRequest => CommitAllowReply;
        resync_factor: ResyncFactorRequest => ResyncFactorReply;
        forget_remembered: ForgetRememberedRequest => ForgetRememberedReply;
        new_recovery_codes: StoreRecoveryCodesRequest => StoreRecoveryCodesReply;
        set_phone: SetPhoneRequest => SetPhoneReply;
        open_sent_code: OpenSentCodeRequest => OpenSentCodeReply;
        check_sent_code: CheckSentCodeRequest => CheckSentCodeReply;
        list_seeds: ListSeedsRequest => ListSeedsReply;
    }
}
