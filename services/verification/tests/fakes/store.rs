//! The store's contract in memory: Settings, Facts and Commit as `proto/twinlock/user_store.proto` says.

mod kept;

use super::{NOW, SEED, subject};
use domain::Secret;
use domain::settings::Settings as Document;
use kept::Kept;
use proto::user_store::{
    AddPendingFactorReply, AddPendingFactorRequest, AllowResult, AuditEvent, CodeFactor, CommitAllowReply,
    CommitAllowRequest, ConfirmFactorReply, ConfirmFactorRequest, FetchReply, FetchRequest, Key, KeyRingReply,
    KeyRingRequest, LearnClientReply, LearnClientRequest, LoginFactsReply, LoginFactsRequest, LoginUser, Mail,
    NamedReply, NamedRequest, PinServiceAccountReply, PinServiceAccountRequest, Prompt, PushDevice, RecordReply,
    RecordRequest, RememberLogin, ReserveTryReply, ReserveTryRequest, ResolvePromptRequest, ResyncFactorRequest,
    SecretKind, SetPhoneRequest, SpendCodeReply, SpendCodeRequest, SpendResult, TryCodeReply, TryCodeRequest,
    TryCodeResult, TryKind, commit_server::Commit, facts_server::Facts, login_facts_request::Who,
    settings_server::Settings,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tonic::{Request, Response, Status, async_trait};

/// Tries after a right password before the throttle closes, and without one in an hour.
pub const TRIES: u32 = 5;
pub const UNVERIFIED: u32 = 20;

/// Ids from here on are people of the crowd.
pub const CROWD: u128 = 0xc0 << 120;

/// How a call misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Unavailable,
    Internal,
    /// Never answers.
    Hang,
    /// Does it, and the answer is lost.
    LostReply,
    /// Answers with a number that no version of the contract has, or with contradictions.
    Nonsense,
}

pub struct FakeStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    settings: Document,
    revision: u64,
    users: Vec<User>,
    failures: HashMap<String, u32>,
    unverified: HashMap<String, u32>,
    granted: u32,
    spent: HashMap<(String, u64), String>,
    /// The final event of each transaction, with what an Allow used.
    finals: HashMap<String, (AuditEvent, CommitAllowRequest)>,
    events: Vec<AuditEvent>,
    faults: HashMap<&'static str, Fault>,
    calls: HashMap<&'static str, u32>,
    kept: Kept,
    /// The store's clock as it says it; 0 = it does not.
    says_now: i64,
    resynced: Vec<ResyncFactorRequest>,
    forgotten: Vec<String>,
    stock: Vec<CodeFactor>,
    pins: Vec<String>,
    crowd: usize,
    seen: HashSet<(String, String)>,
}

struct User {
    name: &'static str,
    user: LoginUser,
    factors: Vec<CodeFactor>,
    devices: Vec<PushDevice>,
}

impl FakeStore {
    /// ann has a token; bob none; off and gone are disabled and removed, with tokens; nobody else is there.
    pub fn new(settings: Document) -> Arc<Self> {
        let user = |name: &'static str, state: &str, enrolled: bool| User {
            name,
            user: LoginUser {
                user_id: format!("id-of-{name}"),
                username: format!("{name}@corp.example"),
                mail: format!("{name}@mail.example"),
                state: state.into(),
                ..LoginUser::default()
            },
            factors: if enrolled { vec![factor(&format!("token-of-{name}"))] } else { vec![] },
            devices: vec![],
        };
        let users = vec![
            user("ann", "enabled", true),
            user("bob", "enabled", false),
            user("off", "disabled", true),
            user("gone", "removed", true),
        ];
        Arc::new(Self { state: Mutex::new(State { settings, revision: 1, users, ..State::default() }) })
    }

    pub fn break_call(&self, call: &'static str, fault: Fault) {
        self.lock().faults.insert(call, fault);
    }

    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    pub fn events(&self) -> Vec<AuditEvent> {
        self.lock().events.clone()
    }

    /// The reasons recorded, in order.
    pub fn reasons(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.reason).collect()
    }

    pub fn calls(&self, call: &'static str) -> u32 {
        self.lock().calls.get(call).copied().unwrap_or(0)
    }

    /// How many tries were granted, so that a code was compared.
    pub fn granted(&self) -> u32 {
        self.lock().granted
    }

    pub fn failures(&self, factor_id: &str) -> u32 {
        self.lock().failures.get(factor_id).copied().unwrap_or(0)
    }

    pub fn set_state(&self, name: &str, state: &str) {
        self.lock().users.iter_mut().find(|user| user.name == name).expect("a user").user.state = state.into();
    }

    pub fn give_token(&self, name: &str, token: CodeFactor) {
        self.lock().users.iter_mut().find(|user| user.name == name).expect("a user").factors.push(token);
    }

    /// Changes what the store says about somebody.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut LoginUser)) {
        change(&mut self.lock().users.iter_mut().find(|user| user.name == name).expect("a user").user);
    }

    pub fn drop_tokens(&self, name: &str) {
        self.lock().users.iter_mut().find(|user| user.name == name).expect("a user").factors.clear();
    }

    /// A phone with the web app.
    pub fn give_phone(&self, name: &str) {
        let device = PushDevice {
            device_id: format!("phone-of-{name}"),
            kind: "web".into(),
            state: "active".into(),
            last_seen_unix_ms: NOW,
            ..PushDevice::default()
        };
        self.lock().users.iter_mut().find(|user| user.name == name).expect("a user").devices.push(device);
    }

    pub fn give_secret(&self, name: &str, kind: SecretKind, secret: &str, uses: u32) {
        let key = (format!("id-of-{name}"), i32::from(kind));
        self.lock().kept().secrets.entry(key).or_default().push((secret.into(), uses));
    }

    pub fn say_now(&self, now_unix_ms: i64) {
        self.lock().says_now = now_unix_ms;
    }

    pub fn prompts(&self) -> Vec<Prompt> {
        self.lock().kept().prompts.clone()
    }

    /// What a phone does: the prompt's outcome, once.
    pub fn resolve(&self, prompt_id: &str, outcome: &str, assurance: &str, now_unix_ms: i64) -> bool {
        let request = ResolvePromptRequest {
            prompt_id: prompt_id.into(),
            outcome: outcome.into(),
            assurance: assurance.into(),
            now_unix_ms,
            ..ResolvePromptRequest::default()
        };
        self.lock().kept().resolve(&request).taken
    }

    /// What a phone's side does with a PIN: the handle of its check.
    pub fn prove_pin(&self, name: &str, transaction_id: &str, pin: &str) -> String {
        let request = proto::user_store::CheckSecretRequest {
            user_id: format!("id-of-{name}"),
            kind: SecretKind::Pin.into(),
            secret: Some(Secret::from(pin).into()),
            transaction_id: transaction_id.into(),
            now_unix_ms: NOW,
            ..proto::user_store::CheckSecretRequest::default()
        };
        self.lock().kept().check_secret(request).handle
    }

    /// The same with a PIN that was checked for it.
    pub fn approve_with_pin(&self, prompt: &Prompt, pin_handle: &str, now_unix_ms: i64) {
        let request = ResolvePromptRequest {
            prompt_id: prompt.prompt_id.clone(),
            outcome: "approved".into(),
            assurance: "approve_only".into(),
            pin_handle: pin_handle.into(),
            now_unix_ms,
            ..ResolvePromptRequest::default()
        };
        self.lock().kept().resolve(&request);
    }

    /// So many people more, with a phone each.
    pub fn crowd(&self, people: usize) {
        self.lock().crowd = people;
    }

    pub fn prompts_open(&self) -> usize {
        self.lock().kept().prompts.iter().filter(|prompt| prompt.outcome.is_empty()).count()
    }

    pub fn resolve_all(&self, outcome: &str, now_unix_ms: i64) {
        for prompt in &mut self.lock().kept().prompts {
            if prompt.outcome.is_empty() {
                prompt.outcome = outcome.into();
                prompt.answered_unix_ms = now_unix_ms;
                prompt.assurance = "approve_only".into();
            }
        }
    }

    /// Calls of every other kind.
    pub fn calls_but(&self, kinds: &[&str]) -> u32 {
        self.lock().calls.iter().filter(|(kind, _)| !kinds.contains(*kind)).map(|(_, calls)| calls).sum()
    }

    pub fn mail_keys(&self) -> HashSet<String> {
        self.lock().kept().mail_keys.clone()
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.lock().kept().mails.clone()
    }

    pub fn phones(&self) -> Vec<SetPhoneRequest> {
        self.lock().kept().phones.clone()
    }

    pub fn resynced(&self) -> Vec<ResyncFactorRequest> {
        self.lock().resynced.clone()
    }

    pub fn remembered(&self) -> Vec<RememberLogin> {
        self.lock().kept().remembered.values().map(|kept| kept.login.clone()).collect()
    }

    pub fn set_stock(&self, tokens: Vec<CodeFactor>) {
        self.lock().stock = tokens;
    }

    /// What the last Allow has learnt of a token.
    /// Whose remembered logins were ended.
    pub fn forgotten(&self) -> Vec<String> {
        self.lock().forgotten.clone()
    }

    pub fn last_step(&self) -> u64 {
        let state = self.lock();
        let last = state.events.last().expect("an event");
        state.finals[&last.transaction_id].1.step
    }

    pub fn last_drift(&self) -> i32 {
        let state = self.lock();
        let last = state.events.last().expect("an event");
        state.finals[&last.transaction_id].1.drift
    }

    /// PINs that people have set themselves.
    pub fn pins(&self) -> Vec<String> {
        self.lock().pins.clone()
    }

    pub fn change_settings(&self, change: impl FnOnce(&mut Document)) {
        let mut state = self.lock();
        change(&mut state.settings);
        state.revision += 1;
    }

    pub fn factors(&self, name: &str) -> Vec<CodeFactor> {
        self.lock().users.iter().find(|user| user.name == name).expect("a user").factors.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whole")
    }

    /// Counts the call and breaks it if it was told to. `true`: the answer is to be nonsense.
    async fn called(&self, call: &'static str) -> Result<Turn, Status> {
        tokio::task::yield_now().await;
        let fault = {
            let mut state = self.lock();
            *state.calls.entry(call).or_default() += 1;
            state.faults.get(call).copied()
        };
        match fault {
            None => Ok(Turn::Normal),
            Some(Fault::Unavailable) => Err(Status::unavailable("broken on command")),
            Some(Fault::Internal) => Err(Status::internal("broken on command")),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::LostReply) => Ok(Turn::LostReply),
            Some(Fault::Nonsense) => Ok(Turn::Nonsense),
        }
    }
}

pub fn factor(id: &str) -> CodeFactor {
    CodeFactor {
        factor_id: id.into(),
        algorithm: "SHA1".into(),
        digits: 6,
        period_seconds: 30,
        seed: Some(Secret::from(SEED).into()),
        last_step: 0,
        pending: false,
        ..CodeFactor::default()
    }
}

#[derive(PartialEq, Eq)]
enum Turn {
    Normal,
    LostReply,
    Nonsense,
}

impl Turn {
    fn answer<T>(self, reply: T, nonsense: T) -> Result<Response<T>, Status> {
        match self {
            Self::Normal => Ok(Response::new(reply)),
            Self::LostReply => Err(Status::unavailable("the answer was lost on command")),
            Self::Nonsense => Ok(Response::new(nonsense)),
        }
    }
}

impl State {
    /// What the store makes of an Allow.
    fn allow(&mut self, mut request: CommitAllowRequest) -> AllowResult {
        let event = request.event.take().expect("an event");
        match self.finals.get(&event.transaction_id) {
            Some((first, asked)) => {
                let same = (&first.user_id, &first.client, &first.reason)
                    == (&event.user_id, &event.client, &event.reason)
                    // What was learnt of the token is not what was asked (V-02), nor is on which one the try was counted.
                    && *asked
                        == CommitAllowRequest {
                            drift: asked.drift,
                            counted_factor_id: asked.counted_factor_id.clone(),
                            ..request
                        };
                if same { AllowResult::Committed } else { AllowResult::Spent }
            }
            None => {
                let by_code = !request.factor_id.is_empty();
                let refused =
                    self.users.iter().any(|user| user.user.user_id == event.user_id && user.user.state != "enabled");
                let key = (request.factor_id.clone(), request.step);
                let mark = self.spent.get(&key) == Some(&event.transaction_id);
                let fresh = match self.token(&event.user_id, &request.factor_id) {
                    _ if !by_code => Some(true),
                    Some(token) if token.pending => None,
                    Some(_) if request.spent_before => Some(mark),
                    Some(token) if request.step > token.last_step => {
                        token.last_step = request.step;
                        Some(true)
                    }
                    Some(_) => Some(false),
                    None => None,
                };
                let (user, transaction, at) = (&event.user_id, &event.transaction_id, event.at_unix_ms);
                let bypass = self.bypass(user, &request.bypass_id);
                let spent =
                    fresh == Some(true) && !refused && bypass && self.kept.spend(user, transaction, at, &request);
                match fresh {
                    _ if refused => AllowResult::Refused,
                    None => AllowResult::Refused,
                    Some(false) => AllowResult::Reused,
                    Some(true) if !spent => AllowResult::Refused,
                    Some(true) => {
                        if let Some(login) = request.remember.clone() {
                            assert_eq!(event.source, "live", "only a person's own factor is remembered (V-50)");
                            self.kept.remember(&event.user_id, event.at_unix_ms, login);
                        }
                        self.failures.remove(&request.factor_id);
                        self.failures.remove(&request.counted_factor_id);
                        self.finish(event, request);
                        AllowResult::Committed
                    }
                }
            }
        }
    }

    fn token(&mut self, user_id: &str, factor_id: &str) -> Option<&mut CodeFactor> {
        let user = self.users.iter_mut().find(|user| user.user.user_id == user_id && user.user.state == "enabled")?;
        user.factors.iter_mut().find(|factor| factor.factor_id == factor_id)
    }

    fn of_the_crowd(&self, who: &Who) -> Option<LoginFactsReply> {
        let Who::Subject(subject) = who else { return None };
        let id: uuid::Uuid = subject.object_id.strip_prefix("entryUUID:")?.parse().ok()?;
        let number = id.as_u128().checked_sub(CROWD).filter(|number| *number < self.crowd as u128)?;
        let name = format!("crowd-{number}");
        let user = LoginUser { user_id: name.clone(), username: name, state: "enabled".into(), ..LoginUser::default() };
        let phone =
            PushDevice { kind: "web".into(), state: "active".into(), last_seen_unix_ms: NOW, ..PushDevice::default() };
        Some(LoginFactsReply { user: Some(user), devices: vec![phone], ..LoginFactsReply::default() })
    }

    /// Spends the bypass, if the Allow rests on one; `false`: it is not there.
    fn bypass(&mut self, user_id: &str, bypass_id: &str) -> bool {
        if bypass_id.is_empty() {
            return true;
        }
        let user = self.users.iter_mut().find(|user| user.user.user_id == user_id);
        let open = user.filter(|user| user.user.bypass.as_ref().is_some_and(|open| open.bypass_id == bypass_id));
        open.map(|user| user.user.bypass = None).is_some()
    }

    fn finish(&mut self, event: AuditEvent, asked: CommitAllowRequest) {
        self.finals.insert(event.transaction_id.clone(), (event.clone(), asked));
        self.events.push(event);
    }
}

#[async_trait]
impl Settings for FakeStore {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let turn = self.called("fetch").await?;
        let part = request.extensions().get::<service_kit::grpc::Peer>().map(|peer| peer.part.clone());
        assert_eq!(part.as_deref(), Some("verification"), "the store must know who asks");
        let state = self.lock();
        let reply = if request.get_ref().known_revision == state.revision {
            FetchReply {
                revision: state.revision,
                unchanged: true,
                now_unix_ms: state.says_now,
                ..FetchReply::default()
            }
        } else {
            FetchReply {
                revision: state.revision,
                settings_json: serde_json::to_string(&state.settings).expect("writes"),
                now_unix_ms: state.says_now,
                ..FetchReply::default()
            }
        };
        turn.answer(reply, FetchReply { revision: 9, settings_json: "{\"client\":7}".into(), ..FetchReply::default() })
    }

    async fn pin_service_account(
        &self,
        _: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        unreachable!("verification pins nothing")
    }

    async fn learn_client(&self, _: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        unreachable!("verification learns nothing")
    }

    async fn key_ring(&self, request: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        let turn = self.called("key_ring").await?;
        assert!(["challenges", "codes", "remembered"].contains(&request.get_ref().purpose.as_str()));
        let key = |id, octet: u8| Key { id, key: Some(Secret::new(vec![octet; 32]).into()) };
        turn.answer(KeyRingReply { keys: vec![key(1, 1), key(2, 2)], current: 2 }, KeyRingReply::default())
    }
}

#[async_trait]
impl Facts for FakeStore {
    async fn login(&self, request: Request<LoginFactsRequest>) -> Result<Response<LoginFactsReply>, Status> {
        let turn = self.called("login").await?;
        let state = self.lock();
        let who = request.into_inner().who;
        if let Some(reply) = who.as_ref().and_then(|who| state.of_the_crowd(who)) {
            return Ok(Response::new(reply));
        }
        let found = match who {
            Some(Who::Subject(asked)) => state.users.iter().find(|user| asked == (&subject(user.name)).into()),
            Some(Who::UserId(id)) => state.users.iter().find(|user| user.user.user_id == id),
            None => panic!("asked for nobody"),
        };
        let reply = found.map_or_else(LoginFactsReply::default, |user| LoginFactsReply {
            user: Some(user.user.clone()),
            code_factors: user.factors.clone(),
            devices: user.devices.clone(),
            ..LoginFactsReply::default()
        });
        let nonsense =
            LoginFactsReply { user: None, code_factors: vec![factor("of nobody")], ..LoginFactsReply::default() };
        turn.answer(reply, nonsense)
    }

    async fn named(&self, request: Request<NamedRequest>) -> Result<Response<NamedReply>, Status> {
        let turn = self.called("named").await?;
        let nobody = !self.lock().users.iter().any(|user| user.user.username == request.get_ref().name);
        turn.answer(NamedReply { nobody }, NamedReply::default())
    }
}

#[async_trait]
impl Commit for FakeStore {
    async fn reserve_try(&self, request: Request<ReserveTryRequest>) -> Result<Response<ReserveTryReply>, Status> {
        let turn = self.called("reserve_try").await?;
        let request = request.into_inner();
        assert!(!request.user_id.is_empty() && !request.factor_id.is_empty() && !request.source.is_empty());
        assert!(request.now_unix_ms >= NOW);
        let mut state = self.lock();
        let kind = request.kind();
        let (counter, limit) = match kind {
            TryKind::AfterPassword => (state.failures.entry(request.factor_id).or_default(), TRIES),
            TryKind::Unverified => (state.unverified.entry(request.user_id).or_default(), UNVERIFIED),
            TryKind::Unspecified => panic!("a try of no kind"),
        };
        let granted = *counter < limit;
        *counter += u32::from(granted);
        state.granted += u32::from(granted);
        turn.answer(
            ReserveTryReply { granted, retry_unix_ms: 0 },
            ReserveTryReply { granted: false, retry_unix_ms: -1 },
        )
    }

    async fn spend_code(&self, request: Request<SpendCodeRequest>) -> Result<Response<SpendCodeReply>, Status> {
        let turn = self.called("spend_code").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let spent = state
            .token(&request.user_id, &request.factor_id)
            .filter(|token| !token.pending && request.step > token.last_step)
            .map(|token| token.last_step = request.step)
            .is_some();
        if spent {
            state.spent.insert((request.factor_id, request.step), request.transaction_id);
        }
        let result = if spent { SpendResult::Spent } else { SpendResult::Reused };
        turn.answer(SpendCodeReply { result: result.into() }, SpendCodeReply { result: 77 })
    }

    async fn allow(&self, request: Request<CommitAllowRequest>) -> Result<Response<CommitAllowReply>, Status> {
        let turn = self.called("allow").await?;
        if turn == Turn::Nonsense {
            return Ok(Response::new(CommitAllowReply { result: 77 }));
        }
        let result = self.lock().allow(request.into_inner());
        turn.answer(CommitAllowReply { result: result.into() }, CommitAllowReply::default())
    }

    async fn try_code(&self, request: Request<TryCodeRequest>) -> Result<Response<TryCodeReply>, Status> {
        let turn = self.called("try_code").await?;
        if turn == Turn::Nonsense {
            return Ok(Response::new(TryCodeReply { result: 77, retry_unix_ms: 0 }));
        }
        let TryCodeRequest { allow, matched } = request.into_inner();
        let allow = allow.expect("what a right code lets in");
        assert!(!allow.counted_factor_id.is_empty() && !allow.source.is_empty());
        let mut state = self.lock();
        let counter = state.failures.entry(allow.counted_factor_id.clone()).or_default();
        let granted = *counter < TRIES;
        *counter += u32::from(granted);
        state.granted += u32::from(granted);
        let result = match (granted, matched) {
            (false, _) => TryCodeResult::Throttled,
            (true, false) => TryCodeResult::Wrong,
            (true, true) => match state.allow(allow) {
                AllowResult::Committed => TryCodeResult::Allowed,
                AllowResult::Reused => TryCodeResult::Reused,
                AllowResult::Spent => TryCodeResult::Spent,
                AllowResult::Refused | AllowResult::Unspecified => TryCodeResult::Refused,
            },
        };
        turn.answer(TryCodeReply { result: result.into(), retry_unix_ms: 0 }, TryCodeReply::default())
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        let turn = self.called("record").await?;
        let event = request.into_inner().event.expect("an event");
        assert!(!matches!(event.result.as_str(), "success" | "bypass" | "challenge" | ""));
        let mut state = self.lock();
        if !state.finals.contains_key(&event.transaction_id) {
            state.finish(event, CommitAllowRequest::default());
        }
        turn.answer(RecordReply {}, RecordReply {})
    }

    async fn add_pending_factor(
        &self,
        request: Request<AddPendingFactorRequest>,
    ) -> Result<Response<AddPendingFactorReply>, Status> {
        let turn = self.called("add_pending_factor").await?;
        let AddPendingFactorRequest { user_id, factor, actor } = request.into_inner();
        assert!(!actor.is_empty(), "every change names who made it");
        let mut state = self.lock();
        let user = state.users.iter_mut().find(|user| user.user.user_id == user_id).expect("a user");
        user.factors.retain(|factor| !factor.pending);
        let factor_id = format!("new-token-{}", user.factors.len());
        user.factors.push(CodeFactor { factor_id: factor_id.clone(), pending: true, ..factor.expect("a factor") });
        turn.answer(AddPendingFactorReply { factor_id }, AddPendingFactorReply::default())
    }

    async fn confirm_factor(
        &self,
        request: Request<ConfirmFactorRequest>,
    ) -> Result<Response<ConfirmFactorReply>, Status> {
        let turn = self.called("confirm_factor").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let confirmed = state.token(&request.user_id, &request.factor_id).filter(|token| token.pending).map(|token| {
            token.pending = false;
            token.last_step = request.step;
        });
        turn.answer(ConfirmFactorReply { confirmed: confirmed.is_some() }, ConfirmFactorReply { confirmed: false })
    }

    async fn resync_factor(
        &self,
        request: Request<proto::user_store::ResyncFactorRequest>,
    ) -> Result<Response<proto::user_store::ResyncFactorReply>, Status> {
        let turn = self.called("resync_factor").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = {
            state.resynced.push(request);
            proto::user_store::ResyncFactorReply { done: true }
        };
        turn.answer(reply, Default::default())
    }

    async fn forget_remembered(
        &self,
        request: Request<proto::user_store::ForgetRememberedRequest>,
    ) -> Result<Response<proto::user_store::ForgetRememberedReply>, Status> {
        let turn = self.called("forget_remembered").await?;
        self.lock().forgotten.push(request.into_inner().user_id);
        turn.answer(proto::user_store::ForgetRememberedReply { done: true }, Default::default())
    }

    async fn check_secret(
        &self,
        request: Request<proto::user_store::CheckSecretRequest>,
    ) -> Result<Response<proto::user_store::CheckSecretReply>, Status> {
        let turn = self.called("check_secret").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = state.kept().check_secret(request);
        turn.answer(reply, Default::default())
    }

    async fn set_pin(
        &self,
        request: Request<proto::user_store::SetPinRequest>,
    ) -> Result<Response<proto::user_store::SetPinReply>, Status> {
        let turn = self.called("set_pin").await?;
        let request = request.into_inner();
        let pin = Secret::from(request.pin.expect("a PIN")).expose_str().expect("digits").to_owned();
        let mut state = self.lock();
        let rule = if pin.len() < 4 { "length" } else { "" };
        if rule.is_empty() {
            state.pins.push(pin);
        }
        turn.answer(
            proto::user_store::SetPinReply { set: rule.is_empty(), rule: rule.into() },
            proto::user_store::SetPinReply::default(),
        )
    }

    async fn new_recovery_codes(
        &self,
        request: Request<proto::user_store::StoreRecoveryCodesRequest>,
    ) -> Result<Response<proto::user_store::StoreRecoveryCodesReply>, Status> {
        let turn = self.called("new_recovery_codes").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let codes = request.codes.into_iter().map(|code| Secret::from(code).expose_str().expect("text").to_owned());
        let key = (request.user_id, i32::from(SecretKind::Recovery));
        state.kept().secrets.insert(key, codes.map(|code| (code, 1)).collect());
        turn.answer(Default::default(), Default::default())
    }

    async fn set_phone(
        &self,
        request: Request<proto::user_store::SetPhoneRequest>,
    ) -> Result<Response<proto::user_store::SetPhoneReply>, Status> {
        let turn = self.called("set_phone").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = {
            state.kept().phones.push(request);
            proto::user_store::SetPhoneReply {}
        };
        turn.answer(reply, Default::default())
    }

    async fn open_prompt(
        &self,
        request: Request<proto::user_store::OpenPromptRequest>,
    ) -> Result<Response<proto::user_store::OpenPromptReply>, Status> {
        let turn = self.called("open_prompt").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = state.kept().open_prompt(request);
        turn.answer(reply, Default::default())
    }

    async fn resolve_prompt(
        &self,
        request: Request<proto::user_store::ResolvePromptRequest>,
    ) -> Result<Response<proto::user_store::ResolvePromptReply>, Status> {
        let turn = self.called("resolve_prompt").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = state.kept().resolve(&request);
        turn.answer(reply, Default::default())
    }

    async fn get_prompts(
        &self,
        request: Request<proto::user_store::GetPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        let turn = self.called("get_prompts").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = {
            let asked = |prompt: &&Prompt| {
                request.prompt_ids.contains(&prompt.prompt_id)
                    || request.transaction_ids.contains(&prompt.transaction_id)
            };
            let prompts = state.kept().prompts.iter().filter(asked).cloned().collect();
            proto::user_store::GetPromptsReply { prompts }
        };
        turn.answer(reply, Default::default())
    }

    async fn user_prompts(
        &self,
        request: Request<proto::user_store::UserPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        let request = request.into_inner();
        let open = |prompt: &&Prompt| {
            prompt.user_id == request.user_id
                && prompt.method == request.method
                && prompt.outcome.is_empty()
                && prompt.expires_unix_ms > request.now_unix_ms
        };
        let prompts = self.lock().kept().prompts.iter().filter(open).cloned().collect();
        Ok(Response::new(proto::user_store::GetPromptsReply { prompts }))
    }

    async fn update_prompt(
        &self,
        _: Request<proto::user_store::UpdatePromptRequest>,
    ) -> Result<Response<proto::user_store::UpdatePromptReply>, Status> {
        Err(Status::unimplemented("update_prompt"))
    }

    async fn open_sent_code(
        &self,
        request: Request<proto::user_store::OpenSentCodeRequest>,
    ) -> Result<Response<proto::user_store::OpenSentCodeReply>, Status> {
        let turn = self.called("open_sent_code").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = state.kept().open_sent_code(request);
        turn.answer(reply, Default::default())
    }

    async fn check_sent_code(
        &self,
        request: Request<proto::user_store::CheckSentCodeRequest>,
    ) -> Result<Response<proto::user_store::CheckSentCodeReply>, Status> {
        let turn = self.called("check_sent_code").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = state.kept().check_sent_code(&request);
        turn.answer(reply, Default::default())
    }

    async fn open_activation(
        &self,
        _: Request<proto::user_store::OpenActivationRequest>,
    ) -> Result<Response<proto::user_store::OpenActivationReply>, Status> {
        Err(Status::unimplemented("open_activation"))
    }

    async fn find_activation(
        &self,
        _: Request<proto::user_store::FindActivationRequest>,
    ) -> Result<Response<proto::user_store::FindActivationReply>, Status> {
        Err(Status::unimplemented("find_activation"))
    }

    async fn put_device(
        &self,
        _: Request<proto::user_store::PutDeviceRequest>,
    ) -> Result<Response<proto::user_store::PutDeviceReply>, Status> {
        Err(Status::unimplemented("put_device"))
    }

    async fn touch_device(
        &self,
        request: Request<proto::user_store::TouchDeviceRequest>,
    ) -> Result<Response<proto::user_store::TouchDeviceReply>, Status> {
        let turn = self.called("touch_device").await?;
        let request = request.into_inner();
        let reply = {
            assert!(request.activate);
            proto::user_store::TouchDeviceReply { done: true }
        };
        turn.answer(reply, Default::default())
    }

    async fn get_device(
        &self,
        _: Request<proto::user_store::GetDeviceRequest>,
    ) -> Result<Response<proto::user_store::GetDeviceReply>, Status> {
        Err(Status::unimplemented("get_device"))
    }

    async fn put_passkey(
        &self,
        _: Request<proto::user_store::PutPasskeyRequest>,
    ) -> Result<Response<proto::user_store::PutPasskeyReply>, Status> {
        Err(Status::unimplemented("put_passkey"))
    }

    async fn see_once(
        &self,
        request: Request<proto::user_store::SeeOnceRequest>,
    ) -> Result<Response<proto::user_store::SeeOnceReply>, Status> {
        let turn = self.called("see_once").await?;
        let proto::user_store::SeeOnceRequest { scope, id, forget, .. } = request.into_inner();
        let mut state = self.lock();
        let first = !forget && state.seen.insert((scope.clone(), id.clone()));
        if forget {
            state.seen.remove(&(scope, id));
        }
        drop(state);
        turn.answer(proto::user_store::SeeOnceReply { first }, Default::default())
    }

    async fn get_sealed(
        &self,
        _: Request<proto::user_store::GetSealedRequest>,
    ) -> Result<Response<proto::user_store::GetSealedReply>, Status> {
        Err(Status::unimplemented("get_sealed"))
    }

    async fn put_sealed(
        &self,
        _: Request<proto::user_store::PutSealedRequest>,
    ) -> Result<Response<proto::user_store::PutSealedReply>, Status> {
        Err(Status::unimplemented("put_sealed"))
    }

    async fn note_message(
        &self,
        _: Request<proto::user_store::NoteMessageRequest>,
    ) -> Result<Response<proto::user_store::NoteMessageReply>, Status> {
        Err(Status::unimplemented("note_message"))
    }

    async fn list_seeds(
        &self,
        request: Request<proto::user_store::ListSeedsRequest>,
    ) -> Result<Response<proto::user_store::ListSeedsReply>, Status> {
        let turn = self.called("list_seeds").await?;
        let request = request.into_inner();
        let state = self.lock();
        let reply = {
            let limit = request.limit.min(2) as usize;
            let later = |token: &&CodeFactor| token.serial > request.after;
            let tokens: Vec<CodeFactor> = state.stock.iter().filter(later).take(limit).cloned().collect();
            let next = tokens.last().map(|token| token.serial.clone()).unwrap_or_default();
            proto::user_store::ListSeedsReply { tokens, next }
        };
        turn.answer(reply, Default::default())
    }
}

#[async_trait]
impl proto::user_store::outbox_server::Outbox for FakeStore {
    async fn put(
        &self,
        request: Request<proto::user_store::PutMailRequest>,
    ) -> Result<Response<proto::user_store::PutMailReply>, Status> {
        let turn = self.called("put").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let reply = {
            state.kept().put_mail(request);
            proto::user_store::PutMailReply {}
        };
        turn.answer(reply, Default::default())
    }

    async fn take(
        &self,
        _: Request<proto::user_store::TakeMailRequest>,
    ) -> Result<Response<proto::user_store::TakeMailReply>, Status> {
        Err(Status::unimplemented("take"))
    }

    async fn done(
        &self,
        _: Request<proto::user_store::DoneMailRequest>,
    ) -> Result<Response<proto::user_store::DoneMailReply>, Status> {
        Err(Status::unimplemented("done"))
    }
}
