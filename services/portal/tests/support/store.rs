//! The store, faked: users, sessions, invitations, API keys, settings; it goes away on command.

use domain::Secret;
use domain::settings::FirstEnrolment;
use proto::common::DirectoryRef;
use proto::user_store::admin_server::Admin;
use proto::user_store::portal_data_server::PortalData;
use proto::user_store::settings_server::Settings;
use proto::user_store::*;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub struct FakeUser {
    pub id: String,
    pub username: String,
    pub first_name: String,
    pub state: String,
    pub factors: Vec<FactorSummary>,
}

#[derive(Default)]
struct Facts {
    users: Vec<FakeUser>,
    sessions: HashMap<Vec<u8>, (u64, Session)>,
    invitations: HashMap<String, (String, u32)>,
    first: Option<FirstEnrolment>,
    revision: u64,
    calls: Vec<String>,
}

pub struct FakeStore {
    facts: Mutex<Facts>,
    /// Every call fails while it is set.
    pub down: AtomicBool,
    /// The host that passkeys are bound to; empty = no portal told one yet.
    pub rp_id: Mutex<String>,
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

    fn detail(&self) -> UserDetail {
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
            }),
            subject: Some(self.subject()),
            names: vec![self.username.clone()],
            factors: self.factors.clone(),
            revision: 7,
            ..UserDetail::default()
        }
    }
}

impl FakeStore {
    pub fn new(first: FirstEnrolment) -> Self {
        let store = Self { facts: Mutex::default(), down: AtomicBool::new(false), rp_id: Mutex::default() };
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
        });
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
        found.map(|factor| factor.pending = false).is_some()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut FakeUser)) {
        let mut facts = self.facts.lock().expect("a lock");
        change(facts.users.iter_mut().find(|user| user.username == name || user.id == name).expect("a user"));
    }

    fn note(&self, call: String) {
        self.facts.lock().expect("a lock").calls.push(call);
    }

    fn up(&self) -> Result<(), Status> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Status::unavailable("10.0.0.9:5432 refused")),
            false => Ok(()),
        }
    }

    fn detail(&self, name: &str) -> Answer<UserDetail> {
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
        let settings_json = serde_json::json!({
            "portal": { "first_enrolment": first, "company": super::COMPANY },
            "client": [
                { "name": "vpn", "protocol": "radius", "sources": ["10.0.4.0/28"], "target": "corp", "secret": "keep" },
                { "name": "gitlab", "protocol": "ldap", "sources": ["10.0.7.9/32"], "target": "corp" },
            ],
        });
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

#[tonic::async_trait]
impl Admin for FakeStore {
    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersReply> {
        self.up()?;
        let request = request.into_inner();
        let facts = self.facts.lock().expect("a lock");
        let after = facts.users.iter().filter(|user| user.username > request.after);
        let mut users: Vec<UserSummary> = after.filter_map(|user| user.detail().user).collect();
        let more = users.len() > request.limit as usize;
        users.truncate(request.limit as usize);
        let next = users.last().filter(|_| more).map(|user| user.username.clone()).unwrap_or_default();
        Ok(Response::new(ListUsersReply { users, next }))
    }
    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<UserDetail> {
        self.detail(&request.get_ref().name)
    }
    async fn set_user_state(&self, request: Request<SetUserStateRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        if !matches!(request.expected_revision, 0 | 7) {
            return Err(Status::aborted("the user has another revision"));
        }
        self.set_state(&request.user_id, &request.state);
        self.note(format!("state {} {} by {}: {}", request.user_id, request.state, request.actor, request.reason));
        self.detail(&request.user_id)
    }
    async fn unlock_user(&self, request: Request<UnlockUserRequest>) -> Answer<UserDetail> {
        self.note(format!("unlock by {}", request.get_ref().actor));
        self.detail(&request.get_ref().user_id)
    }
    async fn revoke_factor(&self, request: Request<RevokeFactorRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("revoke {} by {}", request.factor_id, request.actor));
        self.change(&request.user_id, |user| user.factors.retain(|factor| factor.factor_id != request.factor_id));
        self.detail(&request.user_id)
    }
    async fn invite(&self, request: Request<InviteRequest>) -> Answer<InviteReply> {
        self.up()?;
        self.note(format!("invite {} h by {}", request.get_ref().life_hours, request.get_ref().actor));
        let code = Some(Secret::from("K7QM-2Z9P").into());
        Ok(Response::new(InviteReply { code, expires_unix_ms: super::NOW_MS + 172_800_000 }))
    }
    async fn export_settings(&self, _: Request<ExportSettingsRequest>) -> Answer<ExportSettingsReply> {
        self.up()?;
        Ok(Response::new(ExportSettingsReply { revision: 41, document: "revision = 41\n".into() }))
    }
    async fn apply_settings(&self, request: Request<ApplySettingsRequest>) -> Answer<ApplySettingsReply> {
        self.up()?;
        let request = request.into_inner();
        let names: Vec<&str> = request.secrets.keys().map(String::as_str).collect();
        self.note(format!("apply dry_run={} by {} with {names:?}", request.dry_run, request.actor));
        let errors = match request.document.contains("colour") {
            true => vec!["line 1: colour: unknown; nearest: company".to_owned()],
            false => Vec::new(),
        };
        let generated = HashMap::from([("client.vpn.secret".to_owned(), Secret::from("s3cret").into())]);
        Ok(Response::new(ApplySettingsReply {
            revision: 42,
            changes: vec!["added client.vpn".into()],
            errors,
            generated,
            ..ApplySettingsReply::default()
        }))
    }
    async fn rotate_client_secret(&self, _: Request<RotateClientSecretRequest>) -> Answer<RotateClientSecretReply> {
        Err(Status::unimplemented(""))
    }
    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditReply> {
        self.up()?;
        let request = request.into_inner();
        let event = |sequence| AuditEvent { sequence, at_unix_ms: super::NOW_MS, ..AuditEvent::default() };
        let events = (request.after + 1..=250).take(request.limit as usize).map(event).collect();
        Ok(Response::new(ListAuditReply { events, last: 250 }))
    }
    async fn verify_audit(&self, _: Request<VerifyAuditRequest>) -> Answer<VerifyAuditReply> {
        Err(Status::unimplemented(""))
    }
    async fn create_api_key(&self, _: Request<CreateApiKeyRequest>) -> Answer<CreateApiKeyReply> {
        Err(Status::unimplemented(""))
    }
    async fn list_api_keys(&self, _: Request<ListApiKeysRequest>) -> Answer<ListApiKeysReply> {
        Err(Status::unimplemented(""))
    }
    async fn revoke_api_key(&self, _: Request<RevokeApiKeyRequest>) -> Answer<RevokeApiKeyReply> {
        Err(Status::unimplemented(""))
    }
    async fn sync_status(&self, _: Request<SyncStatusRequest>) -> Answer<SyncStatusReply> {
        self.up()?;
        Ok(Response::new(SyncStatusReply { epoch: 3, leader: "node-1".into(), ..SyncStatusReply::default() }))
    }
    async fn request_sync(&self, request: Request<RequestSyncRequest>) -> Answer<RequestSyncReply> {
        self.up()?;
        self.note(format!("sync {:?} by {}", request.get_ref().sync_item, request.get_ref().actor));
        Ok(Response::new(RequestSyncReply {}))
    }
    async fn decide_approval(&self, request: Request<DecideApprovalRequest>) -> Answer<DecideApprovalReply> {
        self.up()?;
        self.note(format!("decide {} by {}", request.get_ref().approve, request.get_ref().actor));
        Ok(Response::new(DecideApprovalReply { applied: 6 }))
    }

    async fn block_user(
        &self,
        _: Request<proto::user_store::BlockUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("block_user"))
    }

    async fn unblock_user(
        &self,
        _: Request<proto::user_store::UnblockUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("unblock_user"))
    }

    async fn exempt_user(
        &self,
        _: Request<proto::user_store::ExemptUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("exempt_user"))
    }

    async fn edit_user(
        &self,
        _: Request<proto::user_store::EditUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("edit_user"))
    }

    async fn start_bypass(
        &self,
        _: Request<proto::user_store::StartBypassRequest>,
    ) -> Result<Response<proto::user_store::StartBypassReply>, Status> {
        Err(Status::unimplemented("start_bypass"))
    }

    async fn end_bypass(
        &self,
        _: Request<proto::user_store::EndBypassRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("end_bypass"))
    }

    async fn issue_temporary_code(
        &self,
        _: Request<proto::user_store::IssueTemporaryCodeRequest>,
    ) -> Result<Response<proto::user_store::IssueTemporaryCodeReply>, Status> {
        Err(Status::unimplemented("issue_temporary_code"))
    }

    async fn reset_pin(
        &self,
        _: Request<proto::user_store::ResetPinRequest>,
    ) -> Result<Response<proto::user_store::ResetPinReply>, Status> {
        Err(Status::unimplemented("reset_pin"))
    }

    async fn set_answers(
        &self,
        _: Request<proto::user_store::SetAnswersRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Err(Status::unimplemented("set_answers"))
    }

    async fn list_tokens(
        &self,
        _: Request<proto::user_store::ListTokensRequest>,
    ) -> Result<Response<proto::user_store::ListTokensReply>, Status> {
        Err(Status::unimplemented("list_tokens"))
    }

    async fn import_tokens(
        &self,
        _: Request<proto::user_store::ImportTokensRequest>,
    ) -> Result<Response<proto::user_store::ImportReply>, Status> {
        Err(Status::unimplemented("import_tokens"))
    }

    async fn assign_token(
        &self,
        _: Request<proto::user_store::AssignTokenRequest>,
    ) -> Result<Response<proto::user_store::TokenSummary>, Status> {
        Err(Status::unimplemented("assign_token"))
    }

    async fn unassign_token(
        &self,
        _: Request<proto::user_store::UnassignTokenRequest>,
    ) -> Result<Response<proto::user_store::TokenSummary>, Status> {
        Err(Status::unimplemented("unassign_token"))
    }

    async fn revoke_token(
        &self,
        _: Request<proto::user_store::RevokeTokenRequest>,
    ) -> Result<Response<proto::user_store::RevokeTokenReply>, Status> {
        Err(Status::unimplemented("revoke_token"))
    }

    async fn import_users(
        &self,
        _: Request<proto::user_store::ImportUsersRequest>,
    ) -> Result<Response<proto::user_store::ImportReply>, Status> {
        Err(Status::unimplemented("import_users"))
    }

    async fn list_prompts(
        &self,
        _: Request<proto::user_store::ListPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Err(Status::unimplemented("list_prompts"))
    }

    async fn list_remembered(
        &self,
        _: Request<proto::user_store::ListRememberedRequest>,
    ) -> Result<Response<proto::user_store::ListRememberedReply>, Status> {
        Err(Status::unimplemented("list_remembered"))
    }

    async fn clear_remembered(
        &self,
        _: Request<proto::user_store::ClearRememberedRequest>,
    ) -> Result<Response<proto::user_store::ClearRememberedReply>, Status> {
        Err(Status::unimplemented("clear_remembered"))
    }

    async fn list_messages(
        &self,
        _: Request<proto::user_store::ListMessagesRequest>,
    ) -> Result<Response<proto::user_store::ListMessagesReply>, Status> {
        Err(Status::unimplemented("list_messages"))
    }

    async fn key_status(
        &self,
        _: Request<proto::user_store::KeyStatusRequest>,
    ) -> Result<Response<proto::user_store::KeyStatusReply>, Status> {
        Err(Status::unimplemented("key_status"))
    }

    async fn rotate_keys(
        &self,
        _: Request<proto::user_store::RotateKeysRequest>,
    ) -> Result<Response<proto::user_store::KeyStatusReply>, Status> {
        Err(Status::unimplemented("rotate_keys"))
    }
}
