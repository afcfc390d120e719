//! The changes that guard a decision: tries counted, codes spent, Allow with its audit event (V-11, V-14, V-61).
//!
//! What a login needs goes through [`group`]; what happens at enrolment are transactions of their own.

mod caps;
pub mod decide;
pub mod devices;
mod factors;
pub mod group;
mod limits;
mod notes;
mod prompts;
pub mod proofs;
pub mod secrets;
mod sent_codes;

use crate::Store;
use crate::audit::{self, make_printable, put};
use crate::rpc::{StoreError, bound, id};
use decide::Recorded;
use group::{Answer, Operation};
use proto::user_store::{
    AddPendingFactorReply, AddPendingFactorRequest, AuditEvent, CommitAllowReply, CommitAllowRequest,
    ConfirmFactorReply, ConfirmFactorRequest, RecordReply, RecordRequest, ReserveTryReply, ReserveTryRequest,
    SpendCodeReply, SpendCodeRequest, TryCodeReply, TryCodeRequest, commit_server::Commit,
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

pub struct CommitService(pub Store);

#[tonic::async_trait]
impl Commit for CommitService {
    async fn reserve_try(&self, request: Request<ReserveTryRequest>) -> Result<Response<ReserveTryReply>, Status> {
        let mut request = request.into_inner();
        bound(&mut request.source, 128);
        request.now_unix_ms = self.0.at(request.now_unix_ms);
        match self.0.group().run(Operation::Reserve(request)).await? {
            Answer::Reserved(reply) => Ok(Response::new(reply)),
            _ => Err(StoreError::Broken("an answer of another kind").into()),
        }
    }

    async fn try_code(&self, request: Request<TryCodeRequest>) -> Result<Response<TryCodeReply>, Status> {
        let TryCodeRequest { allow, matched } = request.into_inner();
        let allow = allow.ok_or_else(|| Status::invalid_argument("allow is missing"))?;
        let request = TryCodeRequest { allow: Some(self.clean_allow(allow)?), matched };
        match self.0.group().run(Operation::TryCode(Box::new(request))).await? {
            Answer::CodeTried(reply) => Ok(Response::new(reply)),
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
        let request = self.clean_allow(request.into_inner())?;
        match self.0.group().run(Operation::Allow(Box::new(request))).await? {
            Answer::Allowed(result) => Ok(Response::new(CommitAllowReply { result: result.into() })),
            _ => Err(StoreError::Broken("an answer of another kind").into()),
        }
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        let event = request.into_inner().event.ok_or_else(|| Status::invalid_argument("event is missing"))?;
        let request = RecordRequest { event: Some(clean(&self.0, event)), let_in_before: false };
        // Where the attempt has another last word that one stands, and whoever asks here lets nobody in.
        record(&self.0, request).await?;
        Ok(Response::new(RecordReply {}))
    }

    async fn add_pending_factor(
        &self,
        request: Request<AddPendingFactorRequest>,
    ) -> Result<Response<AddPendingFactorReply>, Status> {
        Ok(Response::new(factors::add_pending(&self.0, request.into_inner()).await?))
    }

    async fn confirm_factor(
        &self,
        request: Request<ConfirmFactorRequest>,
    ) -> Result<Response<ConfirmFactorReply>, Status> {
        Ok(Response::new(factors::confirm(&self.0, request.into_inner()).await?))
    }

    async fn resync_factor(
        &self,
        request: Request<proto::user_store::ResyncFactorRequest>,
    ) -> Result<Response<proto::user_store::ResyncFactorReply>, Status> {
        Ok(Response::new(factors::resync_factor(&self.0, request.into_inner()).await?))
    }

    async fn forget_remembered(
        &self,
        request: Request<proto::user_store::ForgetRememberedRequest>,
    ) -> Result<Response<proto::user_store::ForgetRememberedReply>, Status> {
        Ok(Response::new(notes::forget_remembered(&self.0, request.into_inner()).await?))
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
    /// A request whose texts are clean.
    fn clean_allow(&self, mut request: CommitAllowRequest) -> Result<CommitAllowRequest, Status> {
        bound(&mut request.source, 128);
        bound(&mut request.evaluation, 64);
        let event = request.event.take().ok_or_else(|| Status::invalid_argument("event is missing"))?;
        id("event.transaction_id", &event.transaction_id)?;
        request.event = Some(clean(&self.0, event));
        if let Some(remember) = &mut request.remember {
            make_printable(&mut remember.place, 256);
        }
        Ok(request)
    }
}

/// Writes an event whose texts are clean.
pub async fn record(store: &Store, request: RecordRequest) -> Result<Recorded, StoreError> {
    match store.group().run(Operation::Record(Box::new(request))).await? {
        Answer::Recorded(recorded) => Ok(recorded),
        _ => Err(StoreError::Broken("an answer of another kind")),
    }
}

/// An event as it may be stored: sequence and hash are ours, texts are printable and bounded (V-61).
pub fn clean(store: &Store, event: AuditEvent) -> AuditEvent {
    let mut event = AuditEvent { sequence: 0, at_unix_ms: store.at(event.at_unix_ms), hash: String::new(), ..event };
    for (text, characters_max) in [
        (&mut event.kind, 64),
        (&mut event.transaction_id, 64),
        (&mut event.client, 64),
        (&mut event.protocol, 16),
        (&mut event.user_id, 64),
        (&mut event.username, 256),
        (&mut event.client_ip, 64),
        (&mut event.calling_station, 128),
        (&mut event.result, 32),
        (&mut event.reason, 64),
        (&mut event.method, 32),
        (&mut event.assurance, 32),
        (&mut event.source, 32),
        (&mut event.actor, 128),
        (&mut event.detail, 1024),
    ] {
        make_printable(text, characters_max);
    }
    event
}

/// What makes two requests for an Allow the same: who is let in, by what proof, and what is remembered of it. When and from where it
/// is asked makes no difference, nor on which token the try was counted: on whose code was used last, which this Allow may have changed.
fn allow_digest(request: &CommitAllowRequest) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(b"allow");
    if let Some(event) = &request.event {
        let [kind, transaction_id, client, protocol, user_id, _, _, _, result, reason, method, assurance, source, _, _] =
            audit::fields(event);
        let of_event = [kind, transaction_id, client, protocol, user_id, result, reason, method, assurance, source];
        let of_request: [&str; 8] = [
            &request.factor_id,
            // Here stood what the try was counted on.
            "",
            &request.evaluation,
            &request.prompt_id,
            &request.secret_handle,
            &request.bypass_id,
            &request.pin_handle,
            &request.passkey_id,
        ];
        for field in of_event.into_iter().chain(of_request) {
            put(&mut digest, field.as_bytes());
        }
    }
    digest.update(request.step.to_be_bytes());
    digest.update([u8::from(request.spent_before), u8::from(request.sent_code), u8::from(request.remember.is_some())]);
    let remember = request.remember.as_ref();
    put(&mut digest, &request.remembered_key);
    put(&mut digest, remember.map_or(&[], |it| &it.key));
    if let Some(it) = remember {
        put(&mut digest, it.place.as_bytes());
        digest.update(it.idle_seconds.to_be_bytes());
        digest.update(it.life_seconds.to_be_bytes());
        digest.update(it.epoch.to_be_bytes());
    }
    if let Some(it) = &request.passkey_count {
        put(&mut digest, it.before_json.as_bytes());
        put(&mut digest, it.after_json.as_bytes());
    }
    digest.finalize().to_vec()
}

/// What makes two events of an attempt the same: everything but the time, and when they are told.
fn record_digest(request: &RecordRequest) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(b"record");
    if let Some(event) = &request.event {
        // An attempt has no actor.
        let [of_attempt @ .., _, detail] = audit::fields(event);
        for field in of_attempt.into_iter().chain([detail]) {
            put(&mut digest, field.as_bytes());
        }
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::each_field_its_own;
    use proto::user_store::{PasskeyCount, RememberLogin};

    #[test]
    fn a_request_that_comes_again_after_an_upgrade_is_the_same_one() {
        // V-02, V-40: its digest stands in the audit
        let hex = |digest: Vec<u8>| data_encoding::HEXLOWER.encode(&digest);
        let record = RecordRequest { event: Some(each_field_its_own()), let_in_before: true };
        assert_eq!(hex(record_digest(&record)), "fb0d7c63bbca9492f8f352ecf4bf037c863e97386fb4195b36f1cead362f8e21");
        let remember =
            RememberLogin { key: b"9".to_vec(), place: "10".into(), idle_seconds: 11, life_seconds: 12, epoch: 13 };
        let allow = CommitAllowRequest {
            event: Some(each_field_its_own()),
            factor_id: "1".into(),
            counted_factor_id: "2".into(),
            evaluation: "3".into(),
            prompt_id: "4".into(),
            secret_handle: "5".into(),
            bypass_id: "6".into(),
            pin_handle: "7".into(),
            passkey_id: "8".into(),
            step: 14,
            spent_before: true,
            remembered_key: b"15".to_vec(),
            remember: Some(remember),
            ..CommitAllowRequest::default()
        };
        assert_eq!(hex(allow_digest(&allow)), "b1cbb23a1f05788e512d6cc6fbfb0f2fce648ac25dde297b6602cf28dde2fcd4");
        let elsewhere = CommitAllowRequest { counted_factor_id: "another".into(), ..allow.clone() };
        assert_eq!(allow_digest(&elsewhere), allow_digest(&allow), "counted on another token");
        let count = PasskeyCount { before_json: "count 1".into(), after_json: "count 2".into() };
        let counted = CommitAllowRequest { passkey_count: Some(count), ..allow.clone() };
        assert_ne!(allow_digest(&counted), allow_digest(&allow), "another proof");
    }
}
