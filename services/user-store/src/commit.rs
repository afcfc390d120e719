//! The changes that guard a decision: tries counted, codes spent, Allow with its audit event (V-11, V-14, V-61).
//!
//! What a login needs goes through [`group`]; adding and confirming a factor are transactions of their own.

pub mod decide;
mod devices;
mod factors;
pub mod group;
mod notes;
mod prompts;
mod secrets;
mod sent_codes;

use crate::audit::{self, NewEvent, printable};
use crate::rpc::{StoreError, bounded, id};
use crate::sql::args;
use crate::{Store, users};
use domain::CodeForm;
use group::{Answer, Operation};
use proto::user_store::{
    AddPendingFactorReply, AddPendingFactorRequest, AuditEvent, CommitAllowReply, CommitAllowRequest,
    ConfirmFactorReply, ConfirmFactorRequest, RecordReply, RecordRequest, ReserveTryReply, ReserveTryRequest,
    SpendCodeReply, SpendCodeRequest, commit_server::Commit,
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

/// Factors a user may have.
const FACTORS_MAX: i64 = 10;

pub struct CommitService(pub Store);

#[tonic::async_trait]
impl Commit for CommitService {
    async fn reserve_try(&self, request: Request<ReserveTryRequest>) -> Result<Response<ReserveTryReply>, Status> {
        let mut request = request.into_inner();
        request.source = bounded(&request.source, 128);
        request.now_unix_ms = self.0.at(request.now_unix_ms);
        match self.0.group().run(Operation::Reserve(request)).await? {
            Answer::Reserved(reply) => Ok(Response::new(reply)),
            _ => Err(StoreError::Broken("an answer of another kind").into()),
        }
    }

    async fn spend_code(&self, request: Request<SpendCodeRequest>) -> Result<Response<SpendCodeReply>, Status> {
        let mut request = request.into_inner();
        request.now_unix_ms = self.0.at(request.now_unix_ms);
        id("transaction_id", &request.transaction_id)?;
        match self.0.group().run(Operation::Spend(request)).await? {
            Answer::Spent(result) => Ok(Response::new(SpendCodeReply { result: result.into() })),
            _ => Err(StoreError::Broken("an answer of another kind").into()),
        }
    }

    async fn allow(&self, request: Request<CommitAllowRequest>) -> Result<Response<CommitAllowReply>, Status> {
        let mut request = request.into_inner();
        request.source = bounded(&request.source, 128);
        request.evaluation = bounded(&request.evaluation, 64);
        let event = request.event.take().ok_or_else(|| Status::invalid_argument("event is missing"))?;
        id("event.transaction_id", &event.transaction_id)?;
        request.event = Some(self.clean(event));
        match self.0.group().run(Operation::Allow(Box::new(request))).await? {
            Answer::Allowed(result) => Ok(Response::new(CommitAllowReply { result: result.into() })),
            _ => Err(StoreError::Broken("an answer of another kind").into()),
        }
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        let event = request.into_inner().event.ok_or_else(|| Status::invalid_argument("event is missing"))?;
        let request = RecordRequest { event: Some(self.clean(event)) };
        self.0.group().run(Operation::Record(Box::new(request))).await?;
        Ok(Response::new(RecordReply {}))
    }

    async fn add_pending_factor(
        &self,
        request: Request<AddPendingFactorRequest>,
    ) -> Result<Response<AddPendingFactorReply>, Status> {
        let AddPendingFactorRequest { user_id, factor } = request.into_inner();
        let factor = factor.ok_or_else(|| Status::invalid_argument("factor is missing"))?;
        let algorithm = domain::CodeAlgorithm::from_code(&factor.algorithm)
            .ok_or_else(|| Status::invalid_argument("factor.algorithm: allowed are SHA1, SHA256, SHA512"))?;
        let form = CodeForm::new(algorithm, factor.digits, factor.period_seconds);
        form.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let seed = factor.seed.filter(|seed| (16..=64).contains(&seed.value.len()));
        let seed = seed.ok_or_else(|| Status::invalid_argument("factor.seed: allowed are 16 to 64 octets"))?;

        let now_ms = self.0.clock().now_ms();
        let mut session = self.0.database().write().await.map_err(StoreError::from)?;
        let head = audit::lock(&mut session).await.map_err(StoreError::from)?;
        let username = users::enabled_username(&mut session, &user_id).await?;
        let held = "SELECT COUNT(*) AS held FROM factors WHERE user_id = $1 AND NOT pending";
        let held = session.row(held, args![&user_id]).await.map_err(StoreError::from)?;
        let held: i64 = held.map_or(Ok(0), |row| row.get("held")).map_err(StoreError::from)?;
        if held >= FACTORS_MAX {
            return Err(Status::failed_precondition(format!("the user has {FACTORS_MAX} factors already")));
        }
        let sql = "DELETE FROM factors WHERE user_id = $1 AND serial_key = '' AND pending";
        session.execute(sql, args![&user_id]).await.map_err(StoreError::from)?;
        let factor_id = uuid::Uuid::new_v4().to_string();
        let owner = users::factor_owner(&user_id, &factor_id);
        let sealed = self.0.seal().seal_field(users::seed_place(&owner), &seed.value);
        let sql = "INSERT INTO factors (factor_id, user_id, kind, serial, serial_key, manufacturer, model, algorithm, digits, \
                   period_seconds, seed, pending, last_step, drift, failures, open_ms, created_ms, last_used_ms, revision) \
                   VALUES ($1, $2, 'totp', '', '', '', '', $3, $4, $5, $6, $7, -1, 0, 0, 0, $8, 0, 1)";
        let arguments =
            args![&factor_id, &user_id, algorithm.code(), factor.digits, factor.period_seconds, sealed, true, now_ms];
        session.execute(sql, arguments).await.map_err(StoreError::from)?;
        let event = NewEvent::administrative(now_ms, "factor.added", "", format!("code {factor_id}, not yet proven"));
        audit::append(&mut session, head, vec![event.about(&user_id, &username)]).await.map_err(StoreError::from)?;
        session.commit().await.map_err(StoreError::from)?;
        self.0.teller().user_changed(&user_id);
        Ok(Response::new(AddPendingFactorReply { factor_id }))
    }

    async fn confirm_factor(
        &self,
        request: Request<ConfirmFactorRequest>,
    ) -> Result<Response<ConfirmFactorReply>, Status> {
        let ConfirmFactorRequest { user_id, factor_id, step, actor, now_unix_ms } = request.into_inner();
        let now_ms = self.0.at(now_unix_ms);
        let mut session = self.0.database().write().await.map_err(StoreError::from)?;
        let head = audit::lock(&mut session).await.map_err(StoreError::from)?;
        let username = users::enabled_username(&mut session, &user_id).await?;
        let sql = "UPDATE factors SET pending = $1, last_step = $2, failures = 0, open_ms = 0, last_used_ms = $3, \
                   revision = revision + 1 WHERE factor_id = $4 AND user_id = $5 AND pending AND last_step < $6";
        let arguments = args![false, step, now_ms, &factor_id, &user_id, step];
        if session.execute(sql, arguments).await.map_err(StoreError::from)? != 1 {
            return Ok(Response::new(ConfirmFactorReply { confirmed: false }));
        }
        let event = NewEvent::administrative(now_ms, "factor.confirmed", &actor, format!("code {factor_id}"));
        audit::append(&mut session, head, vec![event.about(&user_id, &username)]).await.map_err(StoreError::from)?;
        session.commit().await.map_err(StoreError::from)?;
        self.0.teller().user_changed(&user_id);
        Ok(Response::new(ConfirmFactorReply { confirmed: true }))
    }

    async fn resync_factor(
        &self,
        request: Request<proto::user_store::ResyncFactorRequest>,
    ) -> Result<Response<proto::user_store::ResyncFactorReply>, Status> {
        Ok(Response::new(factors::resync_factor(&self.0, request.into_inner()).await?))
    }

    async fn check_secret(
        &self,
        request: Request<proto::user_store::CheckSecretRequest>,
    ) -> Result<Response<proto::user_store::CheckSecretReply>, Status> {
        Ok(Response::new(secrets::check_secret(&self.0, request.into_inner()).await?))
    }

    async fn set_pin(
        &self,
        request: Request<proto::user_store::SetPinRequest>,
    ) -> Result<Response<proto::user_store::SetPinReply>, Status> {
        Ok(Response::new(secrets::set_pin(&self.0, request.into_inner()).await?))
    }

    async fn new_recovery_codes(
        &self,
        request: Request<proto::user_store::StoreRecoveryCodesRequest>,
    ) -> Result<Response<proto::user_store::StoreRecoveryCodesReply>, Status> {
        Ok(Response::new(secrets::new_recovery_codes(&self.0, request.into_inner()).await?))
    }

    async fn set_phone(
        &self,
        request: Request<proto::user_store::SetPhoneRequest>,
    ) -> Result<Response<proto::user_store::SetPhoneReply>, Status> {
        Ok(Response::new(sent_codes::set_phone(&self.0, request.into_inner()).await?))
    }

    async fn open_prompt(
        &self,
        request: Request<proto::user_store::OpenPromptRequest>,
    ) -> Result<Response<proto::user_store::OpenPromptReply>, Status> {
        Ok(Response::new(prompts::open_prompt(&self.0, request.into_inner()).await?))
    }

    async fn resolve_prompt(
        &self,
        request: Request<proto::user_store::ResolvePromptRequest>,
    ) -> Result<Response<proto::user_store::ResolvePromptReply>, Status> {
        Ok(Response::new(prompts::resolve_prompt(&self.0, request.into_inner()).await?))
    }

    async fn get_prompts(
        &self,
        request: Request<proto::user_store::GetPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Ok(Response::new(prompts::get_prompts(&self.0, request.into_inner()).await?))
    }

    async fn user_prompts(
        &self,
        request: Request<proto::user_store::UserPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Ok(Response::new(prompts::user_prompts(&self.0, request.into_inner()).await?))
    }

    async fn update_prompt(
        &self,
        request: Request<proto::user_store::UpdatePromptRequest>,
    ) -> Result<Response<proto::user_store::UpdatePromptReply>, Status> {
        Ok(Response::new(prompts::update_prompt(&self.0, request.into_inner()).await?))
    }

    async fn open_sent_code(
        &self,
        request: Request<proto::user_store::OpenSentCodeRequest>,
    ) -> Result<Response<proto::user_store::OpenSentCodeReply>, Status> {
        Ok(Response::new(sent_codes::open_sent_code(&self.0, request.into_inner()).await?))
    }

    async fn check_sent_code(
        &self,
        request: Request<proto::user_store::CheckSentCodeRequest>,
    ) -> Result<Response<proto::user_store::CheckSentCodeReply>, Status> {
        Ok(Response::new(sent_codes::check_sent_code(&self.0, request.into_inner()).await?))
    }

    async fn open_activation(
        &self,
        request: Request<proto::user_store::OpenActivationRequest>,
    ) -> Result<Response<proto::user_store::OpenActivationReply>, Status> {
        Ok(Response::new(devices::open_activation(&self.0, request.into_inner()).await?))
    }

    async fn find_activation(
        &self,
        request: Request<proto::user_store::FindActivationRequest>,
    ) -> Result<Response<proto::user_store::FindActivationReply>, Status> {
        Ok(Response::new(devices::find_activation(&self.0, request.into_inner()).await?))
    }

    async fn put_device(
        &self,
        request: Request<proto::user_store::PutDeviceRequest>,
    ) -> Result<Response<proto::user_store::PutDeviceReply>, Status> {
        Ok(Response::new(devices::put_device(&self.0, request.into_inner()).await?))
    }

    async fn touch_device(
        &self,
        request: Request<proto::user_store::TouchDeviceRequest>,
    ) -> Result<Response<proto::user_store::TouchDeviceReply>, Status> {
        Ok(Response::new(devices::touch_device(&self.0, request.into_inner()).await?))
    }

    async fn get_device(
        &self,
        request: Request<proto::user_store::GetDeviceRequest>,
    ) -> Result<Response<proto::user_store::GetDeviceReply>, Status> {
        Ok(Response::new(devices::get_device(&self.0, request.into_inner()).await?))
    }

    async fn put_passkey(
        &self,
        request: Request<proto::user_store::PutPasskeyRequest>,
    ) -> Result<Response<proto::user_store::PutPasskeyReply>, Status> {
        Ok(Response::new(devices::put_passkey(&self.0, request.into_inner()).await?))
    }

    async fn see_once(
        &self,
        request: Request<proto::user_store::SeeOnceRequest>,
    ) -> Result<Response<proto::user_store::SeeOnceReply>, Status> {
        Ok(Response::new(notes::see_once(&self.0, request.into_inner()).await?))
    }

    async fn get_sealed(
        &self,
        request: Request<proto::user_store::GetSealedRequest>,
    ) -> Result<Response<proto::user_store::GetSealedReply>, Status> {
        Ok(Response::new(notes::get_sealed(&self.0, request.into_inner()).await?))
    }

    async fn put_sealed(
        &self,
        request: Request<proto::user_store::PutSealedRequest>,
    ) -> Result<Response<proto::user_store::PutSealedReply>, Status> {
        Ok(Response::new(notes::put_sealed(&self.0, request.into_inner()).await?))
    }

    async fn note_message(
        &self,
        request: Request<proto::user_store::NoteMessageRequest>,
    ) -> Result<Response<proto::user_store::NoteMessageReply>, Status> {
        Ok(Response::new(notes::note_message(&self.0, request.into_inner()).await?))
    }

    async fn list_seeds(
        &self,
        request: Request<proto::user_store::ListSeedsRequest>,
    ) -> Result<Response<proto::user_store::ListSeedsReply>, Status> {
        Ok(Response::new(factors::list_seeds(&self.0, request.into_inner()).await?))
    }
}

impl CommitService {
    /// An event as it may be stored: sequence and hash are ours, texts are printable and bounded (V-61).
    fn clean(&self, event: AuditEvent) -> AuditEvent {
        AuditEvent {
            sequence: 0,
            at_unix_ms: self.0.at(event.at_unix_ms),
            kind: printable(&event.kind, 64),
            transaction_id: printable(&event.transaction_id, 64),
            client: printable(&event.client, 64),
            protocol: printable(&event.protocol, 16),
            user_id: printable(&event.user_id, 64),
            username: printable(&event.username, 256),
            client_ip: printable(&event.client_ip, 64),
            calling_station: printable(&event.calling_station, 128),
            result: printable(&event.result, 32),
            reason: printable(&event.reason, 64),
            method: printable(&event.method, 32),
            assurance: printable(&event.assurance, 32),
            source: printable(&event.source, 32),
            actor: printable(&event.actor, 128),
            detail: printable(&event.detail, 1024),
            hash: String::new(),
        }
    }
}

/// What makes two requests for an Allow the same: everything but the time.
fn allow_digest(request: &CommitAllowRequest) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(b"allow");
    if let Some(event) = &request.event {
        for field in [
            &event.kind,
            &event.transaction_id,
            &event.client,
            &event.protocol,
            &event.user_id,
            &event.result,
            &event.reason,
            &event.method,
            &event.assurance,
            &event.source,
            &request.factor_id,
            &request.evaluation,
        ] {
            digest.update((field.len() as u64).to_be_bytes());
            digest.update(field.as_bytes());
        }
    }
    digest.update(request.step.to_be_bytes());
    digest.update([u8::from(request.spent_before)]);
    digest.finalize().to_vec()
}
