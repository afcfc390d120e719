//! The ways of a plan, one after the other: the next one only where the one before failed for a technical reason. A refusal is final
//! (FR-06, FV-13).

use super::Login;
use crate::Service;
use crate::challenges::Round;
use crate::commit::Ending;
use crate::outcome::Previous;
use domain::{Method, Reason};
use policy::{Plan, Proof, Way};
use proto::verification::outcome::Result as Said;
use std::time::Duration;
use tonic::Status;

/// Less than this is not enough for a person to find the phone.
const LEAST_WAIT: Duration = Duration::from_secs(3);

/// What came of a step of a login.
pub enum Step {
    /// This is the answer.
    Said(Said),
    /// It was asked before, by this very attempt: the same question again.
    SaidBefore(Said),
    /// The method failed; a technical failure leaves room for the next one.
    Failed(Ending),
    /// Nothing may go out to the phone now (V-17, V-23). What is typed still works.
    NotNow(Ending),
    /// The attempt is over.
    Over(Ending),
}

impl Service {
    /// Tries what is left of the plan.
    pub(crate) async fn pursue(&self, login: &mut Login, plan: &Plan) -> Result<Said, Status> {
        if plan.list_first && login.failed.is_empty() {
            let methods = plan.ways.iter().map(|way| way.method).collect();
            let step =
                self.ask(login, Round::Choice { methods }, login.rules.limits.round_ms, Previous::default()).await?;
            return self.settle(login, step).await;
        }
        self.pursue_after(login, plan, None).await
    }

    /// The same after something has failed already.
    pub(crate) async fn pursue_after(
        &self,
        login: &mut Login,
        plan: &Plan,
        failed: Option<Ending>,
    ) -> Result<Said, Status> {
        let mut ended = failed;
        let mut phone_is_closed = false;
        for way in &plan.ways {
            if login.failed.contains(&way.method) || !self.may_follow(login, plan, way, ended, phone_is_closed) {
                continue;
            }
            match Box::pin(self.try_way(login, plan, way, ended)).await? {
                Step::Failed(ending) if ending.reason.is_technical() => {
                    login.failed.push(way.method);
                    ended = Some(ending);
                }
                Step::NotNow(ending) => {
                    self.metrics.not_now(way.method);
                    login.failed.push(way.method);
                    phone_is_closed = true;
                    ended = Some(ending);
                }
                step => return self.settle(login, step).await,
            }
        }
        // Where the plan has no way of its own for it (a method was wanted), a code is still asked for.
        let asks = plan.fallback_code || phone_is_closed;
        if ended.is_some() && asks && login.can_ask() && !plan.typed.is_empty() && !login.failed.contains(&Method::Code)
        {
            let previous = ended.map_or_else(Previous::default, |ending| ending.reason.into());
            let step = self.ask_code(login, previous).await?;
            return self.settle(login, step).await;
        }
        self.end(login, ended.unwrap_or(plan.dead_end.unwrap_or(Reason::NoUsableMethod).into())).await
    }

    /// The answer to a step that ends the walk.
    pub(crate) async fn settle(&self, login: &Login, step: Step) -> Result<Said, Status> {
        match step {
            Step::Said(said) | Step::SaidBefore(said) => Ok(said),
            Step::Failed(ending) | Step::NotNow(ending) | Step::Over(ending) => self.end(login, ending).await,
        }
    }

    /// The first way may always be tried. After a failure: the phone by another way, if there is time; a text or a code only where a
    /// code may stand in for the phone; and nothing but a code while the phone is closed.
    fn may_follow(&self, login: &Login, plan: &Plan, way: &Way, ended: Option<Ending>, phone_is_closed: bool) -> bool {
        let in_time = login.budget.left() >= LEAST_WAIT;
        match (ended, way.method.is_out_of_band()) {
            (None, _) => true,
            (Some(_), true) => !phone_is_closed && in_time,
            (Some(_), false) if phone_is_closed => matches!(way.proof, Proof::Typed),
            (Some(_), false) => plan.fallback_code,
        }
    }

    async fn try_way(&self, login: &mut Login, plan: &Plan, way: &Way, ended: Option<Ending>) -> Result<Step, Status> {
        let previous = ended.map_or_else(Previous::default, |ending| ending.reason.into());
        match &way.proof {
            Proof::Prompt(check) => self.ask_phone(login, plan, way, check.clone()).await,
            Proof::SentCode(_) => self.send_code(login, way, previous).await,
            Proof::Typed => self.ask_code(login, previous).await,
            Proof::Answers(_) => self.ask_questions(login).await,
            Proof::Passkey(_) => self.ask_passkey(login).await,
        }
    }
}
