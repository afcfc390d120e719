//! A code before the password (L-52 b): spent first, and the login completed when the password has passed (L-53).

use super::observed::Beside;
use crate::Service;
use crate::attempt::Attempt;
use crate::budget::Budget;
use crate::challenges::{Held, Opened, ROUND_MS, Record, Spent, Stage};
use crate::commit::{Ending, Granted, Proven, UsedCode};
use crate::decide::{Given, decide};
use crate::methods::code::{Checked, Noted};
use crate::outcome;
use domain::{Method, Reason, Secret};
use policy::{Decision, Grant, Typed};
use proto::verification::outcome::Result as Said;
use tonic::Status;

const GIVEN: Given = Given { code: true, wanted: None };

impl Service {
    /// The code is spent now, and stays spent whatever the password turns out to be. A No is no event: with the whole string as the
    /// password the attempt goes on.
    pub(crate) async fn begin_pending(&self, attempt: Attempt, code: &Secret, budget: Budget) -> Result<Said, Status> {
        let origin = &attempt.origin;
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        let user = self.user_of(&attempt, budget).await?;
        let now = self.clock.now_ms();
        let (plan, user) = match (decide(&attempt, &rules, user.as_ref(), GIVEN, now), user) {
            (Decision::Plan(plan), Some(user)) => (plan, user),
            (Decision::Deny(reason), user) => {
                return self.refuse_by_rule(origin, user.as_ref(), reason, budget).await;
            }
            (Decision::Observed(observed), Some(user)) => {
                return self.look_at_pending(origin, &user, &observed, code, budget).await;
            }
            // A rule would let the user pass on the password, which nobody has checked yet.
            _ => return Ok(outcome::deny(Reason::WrongCode)),
        };
        let checked = self.check_typed(origin, &user, &plan.typed, code, budget).await?;
        let right = match checked {
            Checked::Right(right) => right,
            Checked::Wrong => return Ok(outcome::deny(Reason::WrongCode)),
            // Above the budget of L-54 the tail is not looked at: to the gateway it is part of the password.
            Checked::Throttled { .. } => {
                self.metrics.unverified_code_limited();
                return Ok(outcome::deny(Reason::RateLimited));
            }
        };
        let spent_now = match &right.proven.code {
            Some(code) => self.committer.spend_code(origin, &user.id, &code.factor_id, code.step, budget).await?,
            // Recovery and temporary codes were used up by the check; what is left is the handle, of this transaction alone.
            None => true,
        };
        let record = Record {
            attempt: attempt.clone(),
            user_id: user.id,
            expires_unix_ms: now + ROUND_MS,
            stage: Stage::CodeSpent(right.spent()),
            wanted: None,
            failed: Vec::new(),
            remember_key: Vec::new(),
            round_ms: rules.limits.round_ms,
            taken: None,
        };
        if !spent_now {
            // Perhaps by this very request, whose answer was lost (V-02).
            let before = self.challenges.find(origin.transaction).await?;
            let same = before.is_some_and(|held| is_same(&held, &record));
            return Ok(if same { outcome::code_accepted() } else { outcome::deny(Reason::ReusedCode) });
        }
        match self.challenges.open(&record, now).await? {
            Opened::New(held) => {
                self.unanswered.asked(&held.record);
                Ok(outcome::code_accepted())
            }
            Opened::Before(_) => Ok(outcome::deny(Reason::ReusedCode)),
        }
    }

    /// The password passed after its code was spent.
    pub(crate) async fn complete_spent(&self, attempt: Attempt, budget: Budget) -> Result<Said, Status> {
        let transaction = attempt.origin.transaction;
        let said = self.decide_spent(attempt, budget).await?;
        // Whatever it is, it has its event.
        self.unanswered.ended(transaction);
        Ok(said)
    }

    async fn decide_spent(&self, attempt: Attempt, budget: Budget) -> Result<Said, Status> {
        let origin = &attempt.origin;
        let held = self.challenges.find(origin.transaction).await?;
        let now = self.clock.now_ms();
        let spent = held.and_then(|held| match held.record.stage {
            Stage::CodeSpent(spent) if held.record.attempt.is_same(&attempt) && held.record.expires_unix_ms > now => {
                Some(spent)
            }
            _ => None,
        });
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        let user = self.store.user(attempt.somebody()?, budget).await?;
        let user_id = user.as_ref().map_or("", |user| &user.id);
        let decision = decide(&attempt, &rules, user.as_ref(), GIVEN, now);
        if let Decision::Observed(observed) = decision {
            // The code was looked at before the password, and nothing was kept of it.
            let beside = Beside { code: Some(Noted::Right), evaluation: None };
            return self.let_in_observed(origin, user_id, observed, beside, budget).await;
        }
        let Some(spent) = spent else {
            let ending = Ending::of(Reason::ChallengeGone, Method::Code);
            return self.refuse(origin, user_id, ending, budget).await;
        };
        match (decision, user) {
            (Decision::Plan(plan), Some(user)) => match proven(spent, &plan.typed, now) {
                Some((grant, proven)) => {
                    let mut login = self.login(attempt, rules, user, None, budget);
                    login.remember_key = self.remember_key(&login, &plan).unwrap_or_default();
                    let step = self.let_in(&login, grant, proven).await?;
                    self.settle(&login, step).await
                }
                None => self.refuse(origin, &user.id, Reason::NoUsableMethod, budget).await,
            },
            (Decision::Allow(grant), user) => {
                let user_id = user.map_or_else(String::new, |user| user.id);
                self.let_in_by_rule(origin, &user_id, Granted::by_rule(&grant), budget).await
            }
            (Decision::Deny(reason), user) => self.refuse_by_rule(origin, user.as_ref(), reason, budget).await,
            // A bypass that was opened meanwhile is not spent: a code was given. Who is nobody any more has no plan.
            (Decision::Plan(_) | Decision::Bypass(_) | Decision::Observed(_), user) => {
                let user_id = user.map_or_else(String::new, |user| user.id);
                self.refuse(origin, &user_id, Reason::ChallengeGone, budget).await
            }
        }
    }
}

/// What was spent, with what it is worth by the rules of now. `None`: it may not be used any more.
fn proven(spent: Spent, typed: &Typed, now_unix_ms: i64) -> Option<(Grant, Proven)> {
    match spent {
        Spent::Code { factor_id, step, drift } => {
            let code = Some(UsedCode { factor_id, step, drift, spent_before: true, ..UsedCode::default() });
            Some((typed.code.clone()?.right(now_unix_ms), Proven { code, ..Proven::default() }))
        }
        Spent::Secret { method, handle } => {
            let grant = match method {
                Some(_) => typed.recovery.clone()?.right(now_unix_ms),
                None => typed.temporary.clone()?.right(now_unix_ms),
            };
            Some((grant, Proven { secret_handle: handle, ..Proven::default() }))
        }
    }
}

fn is_same(held: &Held, record: &Record) -> bool {
    let same_stage = match (&held.record.stage, &record.stage) {
        // The drift may have been read anew.
        (
            Stage::CodeSpent(Spent::Code { factor_id: a, step: first, .. }),
            Stage::CodeSpent(Spent::Code { factor_id: b, step: second, .. }),
        ) => a == b && first == second,
        _ => false,
    };
    same_stage && held.record.user_id == record.user_id && held.record.attempt.is_same(&record.attempt)
}
