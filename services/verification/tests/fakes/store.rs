//! The store's contract in memory: Settings, Facts and Commit as `proto/twinlock/user_store.proto` says.

use super::{NOW, SEED, subject};
use domain::Secret;
use domain::settings::Settings as Document;
use proto::user_store::{
    AddPendingFactorReply, AddPendingFactorRequest, AllowResult, AuditEvent, CodeFactor, CommitAllowReply,
    CommitAllowRequest, ConfirmFactorReply, ConfirmFactorRequest, FetchReply, FetchRequest, Key, KeyRingReply,
    KeyRingRequest, LearnClientReply, LearnClientRequest, LoginFactsReply, LoginFactsRequest, LoginUser,
    PinServiceAccountReply, PinServiceAccountRequest, RecordReply, RecordRequest, ReserveTryReply, ReserveTryRequest,
    SpendCodeReply, SpendCodeRequest, SpendResult, TryKind, commit_server::Commit, facts_server::Facts,
    login_facts_request::Who, settings_server::Settings,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tonic::{Request, Response, Status, async_trait};

/// Tries after a right password before the throttle closes, and without one in an hour.
pub const TRIES: u32 = 5;
pub const UNVERIFIED: u32 = 20;

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
}

struct User {
    name: &'static str,
    user: LoginUser,
    factors: Vec<CodeFactor>,
}

impl FakeStore {
    /// ann has a token; bob none; off and gone are disabled and removed, with tokens; nobody else is there.
    pub fn new(settings: Document) -> Arc<Self> {
        let user = |name: &'static str, state: &str, enrolled: bool| User {
            name,
            user: LoginUser {
                user_id: format!("id-of-{name}"),
                username: format!("{name}@corp.example"),
                state: state.into(),
                ..LoginUser::default()
            },
            factors: if enrolled { vec![factor(&format!("token-of-{name}"))] } else { vec![] },
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
    fn token(&mut self, user_id: &str, factor_id: &str) -> Option<&mut CodeFactor> {
        let user = self.users.iter_mut().find(|user| user.user.user_id == user_id && user.user.state == "enabled")?;
        user.factors.iter_mut().find(|factor| factor.factor_id == factor_id)
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
            FetchReply { revision: state.revision, unchanged: true, ..FetchReply::default() }
        } else {
            FetchReply {
                revision: state.revision,
                settings_json: serde_json::to_string(&state.settings).expect("writes"),
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
        assert_eq!(request.get_ref().purpose, "challenges");
        let key = |id, octet: u8| Key { id, key: Some(Secret::new(vec![octet; 32]).into()) };
        turn.answer(KeyRingReply { keys: vec![key(1, 1), key(2, 2)], current: 2 }, KeyRingReply::default())
    }
}

#[async_trait]
impl Facts for FakeStore {
    async fn login(&self, request: Request<LoginFactsRequest>) -> Result<Response<LoginFactsReply>, Status> {
        let turn = self.called("login").await?;
        let state = self.lock();
        let found = match request.into_inner().who {
            Some(Who::Subject(asked)) => state.users.iter().find(|user| asked == (&subject(user.name)).into()),
            Some(Who::UserId(id)) => state.users.iter().find(|user| user.user.user_id == id),
            None => panic!("asked for nobody"),
        };
        let reply = found.map_or_else(LoginFactsReply::default, |user| LoginFactsReply {
            user: Some(user.user.clone()),
            code_factors: user.factors.clone(),
            ..LoginFactsReply::default()
        });
        let nonsense =
            LoginFactsReply { user: None, code_factors: vec![factor("of nobody")], ..LoginFactsReply::default() };
        turn.answer(reply, nonsense)
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
        let mut request = request.into_inner();
        let event = request.event.take().expect("an event");
        if turn == Turn::Nonsense {
            return Ok(Response::new(CommitAllowReply { result: 77 }));
        }
        let mut state = self.lock();
        let result = match state.finals.get(&event.transaction_id) {
            Some((first, asked)) => {
                let same = (&first.user_id, &first.client, &first.reason)
                    == (&event.user_id, &event.client, &event.reason)
                    && *asked == request;
                if same { AllowResult::Committed } else { AllowResult::Spent }
            }
            None => {
                let by_code = !request.factor_id.is_empty();
                let refused =
                    state.users.iter().any(|user| user.user.user_id == event.user_id && user.user.state != "enabled");
                let key = (request.factor_id.clone(), request.step);
                let mark = state.spent.get(&key) == Some(&event.transaction_id);
                let fresh = match state.token(&event.user_id, &request.factor_id) {
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
                match fresh {
                    _ if refused => AllowResult::Refused,
                    None => AllowResult::Refused,
                    Some(false) => AllowResult::Reused,
                    Some(true) => {
                        state.failures.remove(&request.factor_id);
                        state.finish(event, request);
                        AllowResult::Committed
                    }
                }
            }
        };
        turn.answer(CommitAllowReply { result: result.into() }, CommitAllowReply::default())
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
        let AddPendingFactorRequest { user_id, factor } = request.into_inner();
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
        _: Request<proto::user_store::ResyncFactorRequest>,
    ) -> Result<Response<proto::user_store::ResyncFactorReply>, Status> {
        Err(Status::unimplemented("resync_factor"))
    }

    async fn check_secret(
        &self,
        _: Request<proto::user_store::CheckSecretRequest>,
    ) -> Result<Response<proto::user_store::CheckSecretReply>, Status> {
        Err(Status::unimplemented("check_secret"))
    }

    async fn set_pin(
        &self,
        _: Request<proto::user_store::SetPinRequest>,
    ) -> Result<Response<proto::user_store::SetPinReply>, Status> {
        Err(Status::unimplemented("set_pin"))
    }

    async fn new_recovery_codes(
        &self,
        _: Request<proto::user_store::StoreRecoveryCodesRequest>,
    ) -> Result<Response<proto::user_store::StoreRecoveryCodesReply>, Status> {
        Err(Status::unimplemented("new_recovery_codes"))
    }

    async fn set_phone(
        &self,
        _: Request<proto::user_store::SetPhoneRequest>,
    ) -> Result<Response<proto::user_store::SetPhoneReply>, Status> {
        Err(Status::unimplemented("set_phone"))
    }

    async fn open_prompt(
        &self,
        _: Request<proto::user_store::OpenPromptRequest>,
    ) -> Result<Response<proto::user_store::OpenPromptReply>, Status> {
        Err(Status::unimplemented("open_prompt"))
    }

    async fn resolve_prompt(
        &self,
        _: Request<proto::user_store::ResolvePromptRequest>,
    ) -> Result<Response<proto::user_store::ResolvePromptReply>, Status> {
        Err(Status::unimplemented("resolve_prompt"))
    }

    async fn get_prompts(
        &self,
        _: Request<proto::user_store::GetPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Err(Status::unimplemented("get_prompts"))
    }

    async fn user_prompts(
        &self,
        _: Request<proto::user_store::UserPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Err(Status::unimplemented("user_prompts"))
    }

    async fn update_prompt(
        &self,
        _: Request<proto::user_store::UpdatePromptRequest>,
    ) -> Result<Response<proto::user_store::UpdatePromptReply>, Status> {
        Err(Status::unimplemented("update_prompt"))
    }

    async fn open_sent_code(
        &self,
        _: Request<proto::user_store::OpenSentCodeRequest>,
    ) -> Result<Response<proto::user_store::OpenSentCodeReply>, Status> {
        Err(Status::unimplemented("open_sent_code"))
    }

    async fn check_sent_code(
        &self,
        _: Request<proto::user_store::CheckSentCodeRequest>,
    ) -> Result<Response<proto::user_store::CheckSentCodeReply>, Status> {
        Err(Status::unimplemented("check_sent_code"))
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
        _: Request<proto::user_store::TouchDeviceRequest>,
    ) -> Result<Response<proto::user_store::TouchDeviceReply>, Status> {
        Err(Status::unimplemented("touch_device"))
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
        _: Request<proto::user_store::SeeOnceRequest>,
    ) -> Result<Response<proto::user_store::SeeOnceReply>, Status> {
        Err(Status::unimplemented("see_once"))
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
        _: Request<proto::user_store::ListSeedsRequest>,
    ) -> Result<Response<proto::user_store::ListSeedsReply>, Status> {
        Err(Status::unimplemented("list_seeds"))
    }
}

#[async_trait]
impl proto::user_store::outbox_server::Outbox for FakeStore {
    async fn put(
        &self,
        _: Request<proto::user_store::PutMailRequest>,
    ) -> Result<Response<proto::user_store::PutMailReply>, Status> {
        Err(Status::unimplemented("put"))
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
