//! The store, faked: users, sessions, invitations, API keys, settings; it goes away on command.

use domain::Secret;
use domain::settings::FirstEnrolment;
use proto::common::DirectoryRef;
use proto::user_store::portal_data_server::PortalData;
use proto::user_store::settings_server::Settings;
use proto::user_store::*;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::{Request, Response, Status};

pub(super) type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub struct FakeUser {
    pub id: String,
    pub username: String,
    pub first_name: String,
    pub state: String,
    pub factors: Vec<FactorSummary>,
    /// What else there is of them.
    pub more: UserDetail,
}

#[derive(Default)]
pub(super) struct Facts {
    pub users: Vec<FakeUser>,
    pub tokens: Vec<TokenSummary>,
    pub remembered: Vec<RememberedSummary>,
    pub keys: u32,
    sessions: HashMap<Vec<u8>, (u64, Session)>,
    invitations: HashMap<String, (String, u32)>,
    first: Option<FirstEnrolment>,
    revision: u64,
    calls: Vec<String>,
}

pub struct FakeStore {
    pub(super) facts: Mutex<Facts>,
    /// Every call fails while it is set.
    pub down: AtomicBool,
    /// No session can be written while it is set.
    pub read_only: AtomicBool,
    /// The name of a key that is no longer in force.
    pub revoked_key: Mutex<String>,
    /// The host that passkeys are bound to; empty = no portal told one yet.
    pub rp_id: Mutex<String>,
    /// What the settings are exported as, and what was applied.
    pub document: Mutex<String>,
    pub applied: Mutex<Vec<String>>,
    /// Why a document is refused.
    pub refusals: Mutex<Vec<String>>,
    pub warnings: Mutex<Vec<String>>,
    /// What a document makes weaker: a reason is asked for.
    pub weaker: Mutex<Vec<String>>,
    /// What the client vpn lets through, and more keys of it.
    pub weaknesses: Mutex<Vec<String>>,
    vpn: Mutex<serde_json::Value>,
    /// What is applied is what is exported afterwards.
    pub takes_effect: AtomicBool,
    /// The directories that a document changes.
    pub changed_directories: Mutex<Vec<String>>,
    /// Runs beside the one there always was, the newest first.
    pub runs: Mutex<Vec<SyncRun>>,
}

/// The key of a role: `twk_owner` ...
pub fn api_key(role: &str) -> String {
    format!("twk_{role}")
}

pub fn subject_of(username: &str) -> DirectoryRef {
    DirectoryRef { directory: "corp".into(), object_id: format!("entryUUID:{username}") }
}

impl FakeUser {
    pub fn has_factor(&self) -> bool {
        self.factors.iter().any(|factor| !factor.pending)
    }

    pub fn subject(&self) -> DirectoryRef {
        subject_of(&self.username)
    }

    pub(super) fn detail(&self) -> UserDetail {
        UserDetail {
            user: Some(UserSummary {
                user_id: self.id.clone(),
                username: self.username.clone(),
                first_name: self.first_name.clone(),
                last_name: "Archer".into(),
                mail: format!("{}@example.com", self.username),
                state: self.state.clone(),
                directory: "corp".into(),
                factors: self.factors.len() as u32,
                locked_until_unix_ms: 0,
                last_success_unix_ms: super::NOW_MS - 60_000,
                user_group: format!("of {}", self.first_name),
                sync_problem: self.more.user.as_ref().map(|user| user.sync_problem.clone()).unwrap_or_default(),
            }),
            subject: Some(self.subject()),
            names: vec![self.username.clone()],
            factors: self.factors.clone(),
            revision: 7,
            ..self.more.clone()
        }
    }
}

impl FakeStore {
    /// More keys of the client vpn.
    pub fn change_vpn(&self, keys: serde_json::Value) {
        *self.vpn.lock().expect("a lock") = keys;
        self.facts.lock().expect("a lock").revision += 1;
    }

    pub fn new(first: FirstEnrolment) -> Self {
        let store = Self {
            facts: Mutex::default(),
            down: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            revoked_key: Mutex::default(),
            rp_id: Mutex::default(),
            document: Mutex::new("revision = 41\n".into()),
            applied: Mutex::default(),
            refusals: Mutex::default(),
            warnings: Mutex::default(),
            weaker: Mutex::default(),
            weaknesses: Mutex::default(),
            vpn: Mutex::new(serde_json::json!({})),
            takes_effect: AtomicBool::default(),
            changed_directories: Mutex::default(),
            runs: Mutex::default(),
        };
        store.set_first_enrolment(first);
        store.add("ann", "Ann");
        store.add("ben", "Ben");
        store
    }

    pub fn add(&self, username: &str, first_name: &str) {
        let mut facts = self.facts.lock().expect("a lock");
        let id = uuid::Uuid::from_u128(facts.users.len() as u128 + 1).to_string();
        facts.users.push(FakeUser {
            id,
            username: username.into(),
            first_name: first_name.into(),
            state: "enabled".into(),
            factors: Vec::new(),
            more: UserDetail::default(),
        });
    }

    pub fn has_problem(&self, username: &str, text: &str) {
        let mut facts = self.facts.lock().expect("a lock");
        let user = facts.users.iter_mut().find(|user| user.username == username).expect("there");
        user.more.user = Some(UserSummary { sync_problem: text.into(), ..UserSummary::default() });
    }

    pub fn user(&self, name: &str) -> Option<FakeUser> {
        let facts = self.facts.lock().expect("a lock");
        facts.users.iter().find(|user| user.username == name || user.id == name).cloned()
    }

    pub fn user_id(&self, name: &str) -> String {
        self.user(name).expect("a user").id
    }

    pub fn give_factor(&self, name: &str) {
        self.change(name, |user| {
            user.factors.push(FactorSummary {
                factor_id: format!("factor-{}", user.factors.len()),
                method: "code".into(),
                algorithm: "SHA1".into(),
                digits: 6,
                period_seconds: 30,
                created_unix_ms: super::NOW_MS - 86_400_000,
                ..FactorSummary::default()
            });
        });
    }

    /// As an administrator does with methods that are not to be trusted any more.
    pub fn revoke_factors(&self, name: &str) {
        self.change(name, |user| user.factors.clear());
    }

    pub fn set_state(&self, name: &str, state: &str) {
        self.change(name, |user| user.state = state.into());
    }

    pub fn invite(&self, name: &str, code: &str) {
        let id = self.user(name).expect("a user").id;
        self.facts.lock().expect("a lock").invitations.insert(id, (code.into(), 5));
    }

    pub fn set_first_enrolment(&self, first: FirstEnrolment) {
        let mut facts = self.facts.lock().expect("a lock");
        facts.first = Some(first);
        facts.revision += 1;
    }

    pub fn sessions(&self) -> usize {
        self.facts.lock().expect("a lock").sessions.len()
    }

    /// What the store holds of sessions: their ids as it knows them.
    pub fn session_hashes(&self) -> Vec<Vec<u8>> {
        self.facts.lock().expect("a lock").sessions.keys().cloned().collect()
    }

    pub fn calls(&self) -> Vec<String> {
        self.facts.lock().expect("a lock").calls.clone()
    }

    pub fn add_pending(&self, user_id: &str, number: usize) -> Result<String, Status> {
        let factor_id = format!("pending-{number}");
        let mut facts = self.facts.lock().expect("a lock");
        let user = facts.users.iter_mut().find(|user| user.id == user_id);
        let user = user.ok_or_else(|| Status::not_found("no such user"))?;
        user.factors.retain(|factor| !factor.pending);
        user.factors.push(FactorSummary {
            factor_id: factor_id.clone(),
            method: "code".into(),
            pending: true,
            created_unix_ms: super::NOW_MS,
            ..FactorSummary::default()
        });
        Ok(factor_id)
    }

    pub fn confirm(&self, user_id: &str, factor_id: &str, actor: &str) -> bool {
        self.note(format!("confirm {factor_id} by {actor}"));
        let mut facts = self.facts.lock().expect("a lock");
        let user = facts.users.iter_mut().find(|user| user.id == user_id).expect("a user");
        let found = user.factors.iter_mut().find(|factor| factor.factor_id == factor_id && factor.pending);
        if let Some(factor) = found {
            factor.pending = false;
            return true;
        }
        let token =
            |token: &&mut TokenSummary| token.factor_id == factor_id && token.user_id == user_id && token.pending;
        facts.tokens.iter_mut().find(token).map(|token| token.pending = false).is_some()
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut FakeUser)) {
        let mut facts = self.facts.lock().expect("a lock");
        change(facts.users.iter_mut().find(|user| user.username == name || user.id == name).expect("a user"));
    }

    pub fn note(&self, call: String) {
        self.facts.lock().expect("a lock").calls.push(call);
    }

    pub(super) fn up(&self) -> Result<(), Status> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Status::unavailable("10.0.0.9:5432 refused")),
            false => Ok(()),
        }
    }

    pub(super) fn detail(&self, name: &str) -> Answer<UserDetail> {
        self.up()?;
        let found = self.user(name).ok_or_else(|| Status::not_found("there is no such user"))?;
        Ok(Response::new(found.detail()))
    }
}

#[tonic::async_trait]
impl Settings for FakeStore {
    async fn fetch(&self, request: Request<FetchRequest>) -> Answer<FetchReply> {
        self.up()?;
        let facts = self.facts.lock().expect("a lock");
        if request.get_ref().known_revision == facts.revision {
            return Ok(Response::new(FetchReply {
                revision: facts.revision,
                unchanged: true,
                ..FetchReply::default()
            }));
        }
        let first = serde_json::to_value(facts.first).expect("JSON");
        let bind = serde_json::json!({ "kind": "anonymous" });
        let mut settings_json = serde_json::json!({
            "target": [{ "name": "homes", "kind": "radius", "directory": "corp", "servers": [
                { "address": "10.0.0.5", "secret": "keep", "message_authenticator": "auto" },
                { "address": "radius.example", "transport": "tls" },
            ] }],
            "directory": [
                { "name": "corp", "preset": "openldap", "urls": ["ldaps://dc"], "base": "dc=corp", "query_bind": bind },
                { "name": "second", "preset": "openldap", "urls": ["ldaps://dc2"], "base": "dc=second", "query_bind": bind },
            ],
            "sync_item": [
                { "name": "tried", "directory": "second", "state": "preview", "source": { "kind": "domain" } },
                { "name": "staff", "directory": "second", "source": { "kind": "group", "dn": "cn=staff,dc=second" } },
                { "name": "all", "directory": "second", "source": { "kind": "domain" } },
            ],
            "portal": { "first_enrolment": first, "company": super::COMPANY },
            "client": [
                { "name": "vpn", "protocol": "radius", "sources": ["10.0.4.0/28"], "target": "corp", "secret": "keep" },
                { "name": "gitlab", "protocol": "ldap", "sources": ["10.0.7.9/32"], "target": "corp" },
                { "name": "wiki", "protocol": "api", "sources": ["127.0.0.0/8", "::1/128"], "target": "corp", "api_keys": ["test-application"] },
                { "name": "theirs", "protocol": "api", "sources": ["127.0.0.0/8", "::1/128"], "target": "corp", "api_keys": ["another"] },
                { "name": "elsewhere", "protocol": "api", "sources": ["192.0.2.0/24"], "target": "corp", "api_keys": ["test-application"] },
            ],
        });
        let more = self.vpn.lock().expect("a lock").clone();
        settings_json["client"][0].as_object_mut().expect("vpn").extend(more.as_object().expect("keys").clone());
        let settings_json = settings_json.to_string();
        Ok(Response::new(FetchReply { revision: facts.revision, settings_json, ..FetchReply::default() }))
    }

    async fn pin_service_account(&self, _: Request<PinServiceAccountRequest>) -> Answer<PinServiceAccountReply> {
        Err(Status::permission_denied(""))
    }
    async fn learn_client(&self, _: Request<LearnClientRequest>) -> Answer<LearnClientReply> {
        Err(Status::permission_denied(""))
    }
    async fn key_ring(&self, _: Request<KeyRingRequest>) -> Answer<KeyRingReply> {
        Err(Status::permission_denied(""))
    }
}

#[tonic::async_trait]
impl PortalData for FakeStore {
    async fn put_session(&self, request: Request<PutSessionRequest>) -> Answer<PutSessionReply> {
        self.up()?;
        if self.read_only.load(Ordering::Relaxed) {
            return Err(Status::unavailable("nothing can be written"));
        }
        let request = request.into_inner();
        assert_eq!(request.id_hash.len(), 32, "a SHA-256");
        let mut facts = self.facts.lock().expect("a lock");
        let known = facts.sessions.get(&request.id_hash).map_or(0, |(revision, _)| *revision);
        if known != request.expected_revision {
            return Err(Status::aborted("somebody changed it first"));
        }
        let session = request.session.ok_or_else(|| Status::invalid_argument("session"))?;
        facts.sessions.insert(request.id_hash, (known + 1, session));
        Ok(Response::new(PutSessionReply { revision: known + 1 }))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionReply> {
        self.up()?;
        let facts = self.facts.lock().expect("a lock");
        let found = facts.sessions.get(&request.get_ref().id_hash).cloned();
        let reply = found.map(|(revision, session)| GetSessionReply { session: Some(session), revision });
        Ok(Response::new(reply.unwrap_or_default()))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Answer<EndSessionReply> {
        self.up()?;
        self.facts.lock().expect("a lock").sessions.remove(&request.get_ref().id_hash);
        Ok(Response::new(EndSessionReply {}))
    }

    async fn check_api_key(&self, request: Request<CheckApiKeyRequest>) -> Answer<CheckApiKeyReply> {
        self.up()?;
        let key = Secret::from(request.into_inner().key.unwrap_or_default());
        let role = key.expose_str().and_then(|key| key.strip_prefix("twk_")).unwrap_or_default();
        // "root" is a role of tomorrow's version.
        let known = domain::Role::from_code(role).is_some() || role == "root";
        Ok(Response::new(match known {
            true => CheckApiKeyReply { valid: true, name: format!("test-{role}"), role: role.into() },
            false => CheckApiKeyReply::default(),
        }))
    }

    async fn redeem_invitation(&self, request: Request<RedeemInvitationRequest>) -> Answer<RedeemInvitationReply> {
        self.up()?;
        let request = request.into_inner();
        let code = Secret::from(request.code.unwrap_or_default());
        let mut facts = self.facts.lock().expect("a lock");
        let accepted = match facts.invitations.get_mut(&request.user_id) {
            Some((right, tries)) if *tries > 0 => {
                *tries -= 1;
                code.expose() == right.as_bytes()
            }
            _ => false,
        };
        if accepted {
            facts.invitations.remove(&request.user_id);
        }
        Ok(Response::new(RedeemInvitationReply { accepted }))
    }

    async fn own_detail(&self, request: Request<OwnDetailRequest>) -> Answer<UserDetail> {
        let subject = request.into_inner().subject.unwrap_or_default();
        self.detail(subject.object_id.strip_prefix("entryUUID:").unwrap_or_default())
    }

    async fn announce(
        &self,
        request: Request<proto::user_store::AnnounceRequest>,
    ) -> Result<Response<proto::user_store::AnnounceReply>, Status> {
        self.up()?;
        let request = request.into_inner();
        let mut rp_id = self.rp_id.lock().expect("a lock");
        let host = request.public_url.trim_start_matches("https://").split(':').next().unwrap_or_default().to_owned();
        let accepted = rp_id.is_empty() || *rp_id == host || request.danger_change_rp_id;
        if accepted {
            *rp_id = host;
        }
        Ok(Response::new(proto::user_store::AnnounceReply { accepted, rp_id: rp_id.clone() }))
    }
}
