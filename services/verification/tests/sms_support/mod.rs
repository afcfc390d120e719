//! A verification node over a store of messages and mail in memory, for what goes out to people and what comes back.
#![allow(dead_code, reason = "each test program uses a part of it")]

use bytes::Bytes;
use domain::Secret;
use domain::settings::Settings as Document;
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::{
    ForgetRememberedReply, ForgetRememberedRequest, commit_server::Commit, facts_server::Facts, outbox_server::Outbox,
    settings_server::Settings, *,
};
use proto::verification::callback_server::Callback;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::{CallbackReply, CallbackRequest, Step, TestProviderReply, TestProviderRequest};
use serde_json::{Value, json};
use service_kit::bus::{Bus, InProcess};
use service_kit::{Clock, Process};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status, async_trait};
use verification::{Deps, Service};

pub const NOW: i64 = 1_790_000_000_000;
pub const PORTAL: &str = "https://mfa.example.com";
/// A mobile number of Germany.
pub const PHONE: &str = "+4915123456789";

/// One node, its store and its clock.
pub struct Node {
    pub service: Arc<Service>,
    pub store: Arc<Store>,
    pub clock: Clock,
    pub process: Process,
    bus: Arc<dyn Bus>,
}

impl Node {
    /// With these providers; `more` is the rest of the settings.
    pub async fn new(providers: Value, more: Value, secrets: &[(&str, &str)]) -> Self {
        Self::on(Arc::new(InProcess::new()), providers, more, secrets).await
    }

    pub async fn on(bus: Arc<dyn Bus>, providers: Value, more: Value, secrets: &[(&str, &str)]) -> Self {
        let store = Arc::new(Store::default());
        store.set(providers, more, secrets);
        let (clock, process) = (Clock::at(NOW), Process::detached("test"));
        let deps = Deps {
            settings: store.clone(),
            facts: store.clone(),
            commit: store.clone(),
            outbox: store.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            randomness: getrandom::fill,
        };
        let service = Arc::new(Service::start(deps, &process));
        let node = Self { service, store, clock, process, bus };
        node.until("the settings", || node.process.health().is_started()).await;
        node
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(15);
        while !condition() {
            assert!(Instant::now() < end, "gave up waiting for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Settings that this node has taken up.
    pub async fn change(&self, providers: Value, more: Value, secrets: &[(&str, &str)]) {
        let fetches = self.store.set(providers, more, secrets);
        let end = Instant::now() + Duration::from_secs(15);
        // Who asks a second time has taken up what the first answer said.
        while self.store.lock().fetches <= fetches + 1 {
            assert!(Instant::now() < end, "gave up waiting for the new settings");
            self.bus.publish(SETTINGS_CHANGED, Bytes::new()).await.expect("told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A test message over a channel: what every message goes through.
    pub async fn send(&self, channel: &str, provider: &str, to: &str) -> TestProviderReply {
        let request = TestProviderRequest {
            channel: channel.into(),
            provider: provider.into(),
            to: to.into(),
            language: "en".into(),
            actor: "admin:test".into(),
        };
        self.service.test_provider(request_with_time(request, 9_000)).await.expect("answered").into_inner()
    }

    pub async fn text(&self) -> TestProviderReply {
        self.send("sms", "", PHONE).await
    }

    pub async fn call_back(&self, request: CallbackRequest) -> CallbackReply {
        self.service.receive(request_with_time(request, 5_000)).await.expect("answered").into_inner()
    }

    pub fn upstream(&self, name: &str) -> Option<bool> {
        self.process.health().upstreams().into_iter().find(|(_, known, _)| known == name).map(|(_, _, state)| state.up)
    }
}

pub fn request_with_time<T>(message: T, ms: u64) -> Request<T> {
    service_kit::grpc::with_deadline(Request::new(message), Duration::from_millis(ms))
}

pub fn steps(reply: &TestProviderReply) -> String {
    reply.steps.iter().map(|Step { what, .. }| what.as_str()).collect::<Vec<_>>().join("; ")
}

/// A generic HTTP provider.
pub fn http_provider(name: &str, url: &str) -> Value {
    json!({"name": name, "channel": "sms", "adapter": {
        "kind": "http", "url": url, "json": r#"{"to":"{phone}","text":"{text}"}"#, "id_pointer": "/id",
    }})
}

pub fn smpp_provider(name: &str, address: &str) -> Value {
    json!({"name": name, "channel": "sms", "timeout_seconds": 2, "adapter": {
        "kind": "smpp", "address": address, "system_id": "twinlock", "sender": "Twinlock", "enquire_seconds": 5,
    }})
}

#[derive(Default)]
pub struct Store {
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    document: Document,
    revision: u64,
    pub fetches: u64,
    secrets: HashMap<String, String>,
    seen: HashSet<(String, String)>,
    /// Every note, in order.
    pub notes: Vec<NoteMessageRequest>,
    pub mails: Vec<Mail>,
    pub done: Vec<DoneMailRequest>,
    pub prompts: Vec<Prompt>,
    pub resolved: Vec<ResolvePromptRequest>,
    pub pins: Vec<String>,
    /// Notes take most of a second.
    pub slow_notes: bool,
    pub notes_begun: u32,
    /// So many of the next receipts find the store away.
    pub receipts_to_refuse: u32,
    sealed: HashMap<String, Vec<u8>>,
}

impl Store {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whole")
    }

    /// Returns how often settings were fetched before.
    pub fn set(&self, providers: Value, more: Value, secrets: &[(&str, &str)]) -> u64 {
        let mut document =
            json!({"verification": {"country": "DE"}, "portal": {"company": "Example"}, "provider": providers});
        document.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let mut state = self.lock();
        state.document = serde_json::from_value(document).expect("valid settings");
        state.revision += 1;
        state.secrets = secrets.iter().map(|&(name, secret)| (name.to_owned(), secret.to_owned())).collect();
        state.fetches
    }

    /// `state provider provider_id destination`, of every message that went out or was reported.
    pub fn noted(&self) -> Vec<String> {
        let notes = self.lock().notes.clone();
        notes
            .iter()
            .map(|note| [&*note.state, &*note.provider, &*note.provider_id, &*note.destination].join(" "))
            .collect()
    }

    pub fn queue(&self, mail: Mail) {
        self.lock().mails.push(mail);
    }

    /// `mail_id sent|again|never`
    pub fn ended(&self) -> BTreeMap<String, String> {
        let done = self.lock().done.clone();
        let word = |it: &DoneMailRequest| match (it.sent, it.retry_unix_ms) {
            (true, _) => "sent".to_owned(),
            (false, 0) => format!("never: {}", it.error),
            (false, at) => format!("again after {} s", (at - NOW) / 1000),
        };
        done.iter().map(|it| (it.mail_id.clone(), word(it))).collect()
    }
}

#[async_trait]
impl Settings for Store {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let mut state = self.lock();
        state.fetches += 1;
        let revision = state.revision;
        if request.get_ref().known_revision == revision {
            return Ok(Response::new(FetchReply { revision, unchanged: true, ..FetchReply::default() }));
        }
        let secrets = state.secrets.iter().map(|(name, secret)| (name.clone(), Secret::from(secret.as_str()).into()));
        Ok(Response::new(FetchReply {
            revision,
            settings_json: serde_json::to_string(&state.document).expect("writes"),
            secrets: secrets.collect(),
            portal_url: PORTAL.into(),
            now_unix_ms: NOW,
            ..FetchReply::default()
        }))
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
        let octet = request.get_ref().purpose.len() as u8;
        let key = Key { id: 1, key: Some(Secret::new(vec![octet; 32]).into()) };
        Ok(Response::new(KeyRingReply { keys: vec![key], current: 1 }))
    }
}

#[async_trait]
impl Outbox for Store {
    async fn put(&self, request: Request<PutMailRequest>) -> Result<Response<PutMailReply>, Status> {
        self.lock().mails.extend(request.into_inner().mail);
        Ok(Response::new(PutMailReply {}))
    }

    async fn take(&self, request: Request<TakeMailRequest>) -> Result<Response<TakeMailReply>, Status> {
        let limit = request.get_ref().limit as usize;
        let mut state = self.lock();
        let count = limit.min(state.mails.len());
        Ok(Response::new(TakeMailReply { mails: state.mails.drain(..count).collect() }))
    }

    async fn done(&self, request: Request<DoneMailRequest>) -> Result<Response<DoneMailReply>, Status> {
        self.lock().done.push(request.into_inner());
        Ok(Response::new(DoneMailReply {}))
    }
}

/// Calls that nothing here makes.
macro_rules! implement {
    ($trait:path { $($name:ident $request:ident $reply:ident;)* } { $($written:tt)* }) => {
        #[async_trait]
        impl $trait for Store {
            $($written)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

implement! { Facts { login LoginFactsRequest LoginFactsReply; named NamedRequest NamedReply; } {} }

implement! {
    Commit {
        reserve_try ReserveTryRequest ReserveTryReply;
        try_code TryCodeRequest TryCodeReply;
        spend_code SpendCodeRequest SpendCodeReply;
        allow CommitAllowRequest CommitAllowReply;
        record RecordRequest RecordReply;
        add_pending_factor AddPendingFactorRequest AddPendingFactorReply;
        confirm_factor ConfirmFactorRequest ConfirmFactorReply;
        resync_factor ResyncFactorRequest ResyncFactorReply;
        forget_remembered ForgetRememberedRequest ForgetRememberedReply;
        set_pin SetPinRequest SetPinReply;
        new_recovery_codes StoreRecoveryCodesRequest StoreRecoveryCodesReply;
        set_phone SetPhoneRequest SetPhoneReply;
        open_prompt OpenPromptRequest OpenPromptReply;
        user_prompts UserPromptsRequest GetPromptsReply;
        update_prompt UpdatePromptRequest UpdatePromptReply;
        open_sent_code OpenSentCodeRequest OpenSentCodeReply;
        check_sent_code CheckSentCodeRequest CheckSentCodeReply;
        open_activation OpenActivationRequest OpenActivationReply;
        find_activation FindActivationRequest FindActivationReply;
        put_device PutDeviceRequest PutDeviceReply;
        touch_device TouchDeviceRequest TouchDeviceReply;
        get_device GetDeviceRequest GetDeviceReply;
        put_passkey PutPasskeyRequest PutPasskeyReply;
        list_seeds ListSeedsRequest ListSeedsReply;
    } {
        async fn get_sealed(&self, request: Request<GetSealedRequest>) -> Result<Response<GetSealedReply>, Status> {
            let value = self.lock().sealed.get(&request.into_inner().name).map(|kept| Secret::new(kept.clone()).into());
            Ok(Response::new(GetSealedReply { value }))
        }

        async fn put_sealed(&self, request: Request<PutSealedRequest>) -> Result<Response<PutSealedReply>, Status> {
            let PutSealedRequest { name, value } = request.into_inner();
            let value = value.map(Secret::from).unwrap_or_default();
            let kept = self.lock().sealed.entry(name).or_insert_with(|| value.expose().to_vec()).clone();
            Ok(Response::new(PutSealedReply { value: Some(Secret::new(kept).into()) }))
        }

        async fn see_once(&self, request: Request<SeeOnceRequest>) -> Result<Response<SeeOnceReply>, Status> {
            let SeeOnceRequest { scope, id, forget, .. } = request.into_inner();
            let (mut state, seen) = (self.lock(), (scope, id));
            if forget {
                state.seen.remove(&seen);
                return Ok(Response::new(SeeOnceReply::default()));
            }
            Ok(Response::new(SeeOnceReply { first: state.seen.insert(seen) }))
        }

        async fn note_message(&self, request: Request<NoteMessageRequest>) -> Result<Response<NoteMessageReply>, Status> {
            let note = request.into_inner();
            self.lock().notes_begun += 1;
            let slow = self.lock().slow_notes;
            if slow {
                tokio::time::sleep(Duration::from_millis(800)).await;
            }
            let mut state = self.lock();
            if note.message_id.is_empty() && state.receipts_to_refuse > 0 {
                state.receipts_to_refuse -= 1;
                return Err(Status::unavailable("the store is away"));
            }
            if !note.message_id.is_empty() {
                let message_id = note.message_id.clone();
                state.notes.push(note);
                return Ok(Response::new(NoteMessageReply { message_id, ..NoteMessageReply::default() }));
            }
            let about = |known: &&NoteMessageRequest| {
                !known.message_id.is_empty() && (&known.provider, &known.provider_id) == (&note.provider, &note.provider_id)
            };
            let found = state.notes.iter().find(about).cloned();
            let Some(found) = found else { return Ok(Response::new(NoteMessageReply::default())) };
            state.notes.push(note);
            Ok(Response::new(NoteMessageReply {
                message_id: found.message_id,
                user_id: found.user_id,
                transaction_id: found.transaction_id,
            }))
        }

        async fn get_prompts(&self, request: Request<GetPromptsRequest>) -> Result<Response<GetPromptsReply>, Status> {
            let wanted = request.into_inner().transaction_ids;
            let prompts = self.lock().prompts.clone();
            let prompts = prompts.into_iter().filter(|prompt| wanted.contains(&prompt.transaction_id)).collect();
            Ok(Response::new(GetPromptsReply { prompts }))
        }

        async fn resolve_prompt(&self, request: Request<ResolvePromptRequest>) -> Result<Response<ResolvePromptReply>, Status> {
            let request = request.into_inner();
            let mut state = self.lock();
            state.prompts.retain(|prompt| prompt.prompt_id != request.prompt_id);
            state.resolved.push(request);
            Ok(Response::new(ResolvePromptReply { taken: true, prompt: None }))
        }

        async fn check_secret(&self, request: Request<CheckSecretRequest>) -> Result<Response<CheckSecretReply>, Status> {
            let secret = request.into_inner().secret.map(Secret::from).unwrap_or_default();
            self.lock().pins.push(secret.expose_str().unwrap_or_default().to_owned());
            let right = secret.expose() == b"7788";
            let result = if right { SecretResult::Right } else { SecretResult::Wrong };
            Ok(Response::new(CheckSecretReply { result: result.into(), handle: "pin-handle".into(), retry_unix_ms: 0 }))
        }
    }
}

/// TLS that ends here and goes on in clear text to a counterpart on this host.
pub async fn tls_in_front_of(port: u16, issued: &lab::Certificate) -> u16 {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_file(&issued.certificate).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows both")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let front = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let Ok(mut inside) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    front
}
