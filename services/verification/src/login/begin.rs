//! The password was right: the decision, and its first step.

use super::observed::Beside;
use super::{Login, Step};
use crate::Service;
use crate::attempt::Attempt;
use crate::budget::Budget;
use crate::commit::{Granted, Proven};
use crate::decide::{Given, decide};
use crate::facts::KnownUser;
use crate::methods::code::{self, Tried};
use crate::settings::Rules;
use domain::{Method, Reason, Secret};
use policy::{BypassCheck, Decision, Plan};
use proto::verification::outcome::Result as Said;
use tokio::time::Instant;
use tonic::Status;

impl Service {
    pub(crate) async fn begin_passed(
        &self,
        attempt: Attempt,
        code: Option<Secret>,
        wanted: Option<Method>,
        budget: Budget,
    ) -> Result<Said, Status> {
        let origin = &attempt.origin;
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        if attempt.subject.is_none() && !self.store.has_nobody_named(&origin.username, budget).await? {
            // somebody who was removed, or another spelling of somebody. Nobody is proven to be unknown by that.
            return self.refuse(origin, "", Reason::UnknownUser, budget).await;
        }
        let user = self.user_of(&attempt, budget).await?;
        let given = Given { code: code.is_some(), wanted };
        match (decide(&attempt, &rules, user.as_ref(), given, self.clock.now_ms()), user) {
            (Decision::Allow(grant), user) => {
                let user_id = user.map_or_else(String::new, |user| user.id);
                Box::pin(self.let_in_by_rule(origin, &user_id, Granted::by_rule(&grant), budget)).await
            }
            (Decision::Deny(reason), user) => self.refuse_by_rule(origin, user.as_ref(), reason, budget).await,
            (Decision::Observed(observed), user) => {
                let code = user.as_ref().zip(code.as_ref()).map(|(user, code)| self.note_code(user, code));
                let user_id = user.map_or_else(String::new, |user| user.id);
                Box::pin(self.let_in_observed(origin, &user_id, observed, Beside { code, evaluation: None }, budget))
                    .await
            }
            (Decision::Bypass(check), Some(user)) => {
                let mut login = self.login(attempt, rules, user, wanted, budget);
                let step = self.pass_once(&mut login, check).await?;
                self.settle(&login, step).await
            }
            (Decision::Plan(plan), Some(user)) => {
                let mut login = self.login(attempt, rules, user, wanted, budget);
                match code {
                    Some(code) => self.try_appended(&mut login, &plan, &code).await,
                    None => self.begin_plan(&mut login, plan).await,
                }
            }
            (Decision::Bypass(_) | Decision::Plan(_), None) => Err(Status::internal(Reason::InternalError.code())),
        }
    }

    /// As it was read for this attempt a moment ago, or as it is now.
    pub(super) async fn user_of(&self, attempt: &Attempt, budget: Budget) -> Result<Option<KnownUser>, Status> {
        let Some(subject) = &attempt.subject else { return Ok(None) };
        match self.handed.take(attempt.origin.transaction, subject, Instant::now()) {
            Some(user) => Ok(Some(user)),
            None => self.store.user_named(subject, &attempt.origin.username, budget).await,
        }
    }

    pub(super) fn login(
        &self,
        attempt: Attempt,
        rules: Rules,
        user: KnownUser,
        wanted: Option<Method>,
        budget: Budget,
    ) -> Login {
        Login {
            attempt,
            rules,
            user: Box::new(user),
            budget,
            wanted,
            failed: Vec::new(),
            remember_key: Vec::new(),
            held: None,
            evaluation: None,
        }
    }

    /// A recent login counts, if there is one; else the plan.
    async fn begin_plan(&self, login: &mut Login, plan: Plan) -> Result<Said, Status> {
        login.remember_key = self.remember_key(login, &plan).unwrap_or_default();
        if login.wanted.is_none()
            && let Some(check) = plan.remembered.clone()
            && let Some(said) = self.remembered(login, check).await?
        {
            return Ok(said);
        }
        self.pursue(login, &plan).await
    }

    /// The code came with the password, in one field: it decides.
    async fn try_appended(&self, login: &mut Login, plan: &Plan, code: &Secret) -> Result<Said, Status> {
        login.remember_key = self.remember_key(login, plan).unwrap_or_default();
        let step = match self.try_typed(login, &plan.typed, code).await? {
            Tried::Right(step) => step,
            Tried::Wrong => Step::Over(crate::commit::Ending::of(Reason::WrongCode, Method::Code)),
            Tried::Throttled { until_unix_ms } => Step::Over(code::locked(until_unix_ms)),
        };
        self.settle(login, step).await
    }

    /// A one-time bypass lets in once (V-53).
    async fn pass_once(&self, login: &mut Login, check: BypassCheck) -> Result<Step, Status> {
        let bypass_id = login.user.record.bypass.as_ref().map(|bypass| bypass.bypass_id.clone()).unwrap_or_default();
        let proven = Proven { bypass_id, ..Proven::default() };
        self.let_in(login, check.right(self.clock.now_ms()), proven).await
    }
}
