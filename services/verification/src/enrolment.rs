//! A new token: a seed that counts for nothing until one code of it was proven.

use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::facts::KnownUser;
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
            }),
        };
        let commit = &self.committer.commit;
        let added = budget.ask("add factor", pending, |request| commit.add_pending_factor(request)).await?;
        Ok(Response::new(StartCodeReply {
            factor_id: added.factor_id,
            otpauth_uri: Some(otp::otpauth_uri(&seed, form, &issuer, &user.username).into()),
            seed_base32: Some(otp::base32(&seed).into()),
        }))
    }

    async fn confirm_code(&self, request: Request<ConfirmCodeRequest>) -> Result<Response<ConfirmCodeReply>, Status> {
        let budget = Budget::of(&request);
        let request = request.into_inner();
        let reason = self.confirm(request, budget).await?;
        let reason_code = reason.map_or("", Reason::code).to_owned();
        Ok(Response::new(ConfirmCodeReply { confirmed: reason.is_none(), reason: reason_code }))
    }
}

impl Service {
    /// `None`: confirmed.
    async fn confirm(&self, request: ConfirmCodeRequest, budget: Budget) -> Result<Option<Reason>, Status> {
        let user = self.enabled_user(&request.user_id, budget).await?;
        let pending = user.tokens.iter().find(|token| token.pending && token.factor_id == request.factor_id);
        let Some(token) = pending else { return Ok(Some(Reason::ChallengeGone)) };
        let kind = TryKind::AfterPassword;
        if !self.committer.reserve_try(&user.id, &token.factor_id, kind, SOURCE, budget).await? {
            return Ok(Some(Reason::LockedOut));
        }
        let typed: domain::Secret = request.code.unwrap_or_default().into();
        let now = self.clock.now_ms();
        let verdict = PresentedCode::parse(typed.expose()).map_or(Verdict::NoMatch, |code| {
            otp::verify(&token.seed, token.form, &code, now, token.last_step, otp::WINDOW)
        });
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

    async fn enabled_user(&self, user_id: &str, budget: Budget) -> Result<KnownUser, Status> {
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
