//! A new token: a seed that counts for nothing until one code of it was proven.

mod devices;
mod passkeys;
mod phones;
mod recovery;
mod tokens;
mod trial;

use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::facts::KnownUser;
use crate::methods::code::verdict;
use domain::{CodeAlgorithm, CodeForm, PresentedCode, Reason};
use otp::Verdict;
use policy::UserState;
use proto::user_store::{AddPendingFactorRequest, CodeFactor, ConfirmFactorRequest, TryKind};
use proto::verification::{
    ConfirmCodeReply, ConfirmCodeRequest, StartCodeReply, StartCodeRequest, enrolment_server::Enrolment,
};
use tonic::{Request, Response, Status, async_trait};

/// Where tries to confirm come from, for the throttle.
const SOURCE: &str = "enrolment";

#[async_trait]
impl Enrolment for Service {
    async fn start_code(&self, request: Request<StartCodeRequest>) -> Result<Response<StartCodeReply>, Status> {
        let budget = Budget::of(&request);
        let request = request.into_inner();
        let form = code_form(&request)?;
        let issuer = match line(&request.issuer, 64) {
            issuer if issuer.is_empty() => self.settings.company()?,
            issuer => issuer,
        };
        let user = self.enabled_user(&request.user_id, budget).await?;
        Ok(Response::new(self.new_code(user, form, &issuer, &request.actor, budget).await?))
    }

    async fn confirm_code(&self, request: Request<ConfirmCodeRequest>) -> Result<Response<ConfirmCodeReply>, Status> {
        let budget = Budget::of(&request);
        let request = request.into_inner();
        let reason = self.confirm(request, budget).await?;
        let reason_code = reason.map_or("", Reason::code).to_owned();
        Ok(Response::new(ConfirmCodeReply { confirmed: reason.is_none(), reason: reason_code }))
    }

    async fn resync(
        &self,
        request: Request<proto::verification::ResyncRequest>,
    ) -> Result<Response<proto::verification::ResyncReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(tokens::resync(self, request.into_inner(), budget).await?))
    }

    async fn find_token(
        &self,
        request: Request<proto::verification::FindTokenRequest>,
    ) -> Result<Response<proto::verification::FindTokenReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(tokens::find_token(self, request.into_inner(), budget).await?))
    }

    async fn start_phone(
        &self,
        request: Request<proto::verification::StartPhoneRequest>,
    ) -> Result<Response<proto::verification::StartPhoneReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(phones::start_phone(self, request.into_inner(), budget).await?))
    }

    async fn confirm_phone(
        &self,
        request: Request<proto::verification::ConfirmPhoneRequest>,
    ) -> Result<Response<proto::verification::ConfirmReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(phones::confirm_phone(self, request.into_inner(), budget).await?))
    }

    async fn start_device(
        &self,
        request: Request<proto::verification::StartDeviceRequest>,
    ) -> Result<Response<proto::verification::StartDeviceReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(devices::start_device(self, request.into_inner(), budget).await?))
    }

    async fn device_state(
        &self,
        request: Request<proto::verification::DeviceStateRequest>,
    ) -> Result<Response<proto::verification::DeviceStateReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(devices::device_state(self, request.into_inner(), budget).await?))
    }

    async fn new_recovery_codes(
        &self,
        request: Request<proto::verification::NewRecoveryCodesRequest>,
    ) -> Result<Response<proto::verification::NewRecoveryCodesReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(recovery::new_recovery_codes(self, request.into_inner(), budget).await?))
    }

    async fn try_method(
        &self,
        request: Request<proto::verification::TryMethodRequest>,
    ) -> Result<Response<proto::verification::TryMethodReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(trial::try_method(self, request.into_inner(), budget).await?))
    }

    async fn test_provider(
        &self,
        request: Request<proto::verification::TestProviderRequest>,
    ) -> Result<Response<proto::verification::TestProviderReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(trial::test_provider(self, request.into_inner(), budget).await?))
    }

    async fn start_passkey(
        &self,
        request: Request<proto::verification::StartPasskeyRequest>,
    ) -> Result<Response<proto::verification::StartPasskeyReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(passkeys::start_passkey(self, request.into_inner(), budget).await?))
    }

    async fn confirm_passkey(
        &self,
        request: Request<proto::verification::ConfirmPasskeyRequest>,
    ) -> Result<Response<proto::verification::ConfirmReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(passkeys::confirm_passkey(self, request.into_inner(), budget).await?))
    }
}

impl Service {
    /// A seed that counts for nothing until a code of it is confirmed. An older one that was not is void.
    pub(crate) async fn new_code(
        &self,
        user: KnownUser,
        form: CodeForm,
        issuer: &str,
        actor: &str,
        budget: Budget,
    ) -> Result<StartCodeReply, Status> {
        let seed = otp::generate_seed(form.algorithm(), self.randomness).map_err(|error| {
            tracing::error!(error = %error, "no randomness for a seed");
            Status::internal(Reason::InternalError.code())
        })?;
        let pending = AddPendingFactorRequest {
            user_id: user.id,
            factor: Some(CodeFactor {
                factor_id: String::new(),
                algorithm: form.algorithm().code().into(),
                digits: form.digits().into(),
                period_seconds: form.period_seconds() as u32,
                seed: Some(seed.clone().into()),
                last_step: 0,
                pending: true,
                ..CodeFactor::default()
            }),
            actor: line(actor, 128),
        };
        let commit = &self.committer.commit;
        let added = budget.ask("add factor", pending, |request| commit.add_pending_factor(request)).await?;
        Ok(StartCodeReply {
            factor_id: added.factor_id,
            otpauth_uri: Some(otp::otpauth_uri(&seed, form, issuer, &user.username).into()),
            seed_base32: Some(otp::base32(&seed).into()),
        })
    }

    /// `None`: confirmed.
    pub(crate) async fn confirm(&self, request: ConfirmCodeRequest, budget: Budget) -> Result<Option<Reason>, Status> {
        let user = self.enabled_user(&request.user_id, budget).await?;
        let pending = user.tokens.iter().find(|token| token.pending && token.factor_id == request.factor_id);
        let Some(token) = pending else { return Ok(Some(Reason::ChallengeGone)) };
        let kind = TryKind::AfterPassword;
        if self.committer.reserve_try(&user.id, &token.factor_id, kind, SOURCE, budget).await?.is_err() {
            return Ok(Some(Reason::LockedOut));
        }
        let typed: domain::Secret = request.code.unwrap_or_default().into();
        let now = self.clock.now_ms();
        let verdict = match PresentedCode::parse(typed.expose()) {
            None => Verdict::NoMatch,
            Some(code) => verdict(token, &code, now, &self.clock_check)
                .ok_or_else(|| Status::unavailable(Reason::VerificationUnavailable.code()))?,
        };
        let step = match verdict {
            Verdict::Match(step) => step,
            Verdict::Reused(_) => return Ok(Some(Reason::ReusedCode)),
            Verdict::NoMatch => return Ok(Some(Reason::WrongCode)),
        };
        let confirm = ConfirmFactorRequest {
            user_id: user.id,
            factor_id: request.factor_id,
            step,
            actor: line(&request.actor, 128),
            now_unix_ms: now,
        };
        let commit = &self.committer.commit;
        let reply = budget.ask("confirm factor", confirm, |request| commit.confirm_factor(request)).await?;
        Ok((!reply.confirmed).then_some(Reason::ChallengeGone))
    }

    pub(crate) async fn enabled_user(&self, user_id: &str, budget: Budget) -> Result<KnownUser, Status> {
        let user = self.store.user_by_id(user_id, budget).await?;
        let user = user.ok_or_else(|| Status::not_found(Reason::UnknownUser.code()))?;
        match user.state {
            UserState::Enabled => Ok(user),
            UserState::Disabled | UserState::Removed => Err(Status::failed_precondition(Reason::Blocked.code())),
        }
    }
}

fn code_form(request: &StartCodeRequest) -> Result<CodeForm, Status> {
    let algorithm = match request.algorithm.as_str() {
        "" => CodeAlgorithm::Sha1,
        code => CodeAlgorithm::from_code(code).ok_or_else(|| Status::invalid_argument("algorithm is not known"))?,
    };
    let or = |given: u32, usual| if given == 0 { usual } else { given };
    CodeForm::new(algorithm, or(request.digits, 6), or(request.period_seconds, 30))
        .map_err(|error| Status::invalid_argument(error.to_string()))
}
