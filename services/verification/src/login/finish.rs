//! How a login ends: let in, once the store has committed it; refused, once the store has recorded it; or asked.

use super::{Login, Step};
use crate::Service;
use crate::attempt::Origin;
use crate::budget::Budget;
use crate::challenges::{Came, Opened, ROUNDS, Record, Round, Stage};
use crate::commit::{Committed, Ending, Granted, Proven};
use crate::facts::KnownUser;
use crate::outcome::{self, Previous};
use domain::{Reason, ResultClass};
use policy::Grant;
use proto::verification::outcome::Result as Said;
use tonic::Status;

impl Service {
    /// The store first, then the Allow (V-61). What the store refuses is the end, but for a code that somebody was faster with.
    pub(crate) async fn let_in(&self, login: &Login, grant: Grant, proven: Proven) -> Result<Step, Status> {
        let granted = self.granted(login, &grant, proven);
        let committed = self.committer.allow(login.origin(), &login.user.id, granted, login.budget).await?;
        Ok(self.committed(login, &grant, committed).await)
    }

    pub(crate) fn granted<'a>(&self, login: &Login, grant: &'a Grant, proven: Proven) -> Granted<'a> {
        let remember = self.remembering(login, grant);
        Granted { proven, remember, evaluation: login.evaluation, ..Granted::by_rule(grant) }
    }

    /// What the store has made of an Allow.
    pub(crate) async fn committed(&self, login: &Login, grant: &Grant, committed: Committed) -> Step {
        match committed {
            Committed::Allowed => {
                self.close_if_possible(login, Came::from(grant)).await;
                Step::Said(outcome::allow(login.origin(), &login.user.id, grant))
            }
            Committed::Refused(reason) => Step::Over(Ending { method: grant.method(), ..reason.into() }),
        }
    }

    /// By a rule, where nothing is proven and perhaps nobody known.
    pub(crate) async fn let_in_by_rule(
        &self,
        origin: &Origin,
        user_id: &str,
        granted: Granted<'_>,
        budget: Budget,
    ) -> Result<Said, Status> {
        let grant = granted.grant;
        match self.committer.allow(origin, user_id, granted, budget).await? {
            Committed::Allowed => Ok(outcome::allow(origin, user_id, grant)),
            Committed::Refused(reason) => self.refuse(origin, user_id, reason, budget).await,
        }
    }

    /// The event first, then the Deny: an attempt that cannot be recorded is unavailable, which is a No as well.
    pub(crate) async fn refuse(
        &self,
        origin: &Origin,
        user_id: &str,
        ending: impl Into<Ending>,
        budget: Budget,
    ) -> Result<Said, Status> {
        let ending = ending.into();
        self.committer.record(origin, user_id, ending, budget).await?;
        Ok(outcome::deny(ending))
    }

    /// By a rule: with until when it holds, where the store says so.
    pub(crate) async fn refuse_by_rule(
        &self,
        origin: &Origin,
        user: Option<&KnownUser>,
        reason: Reason,
        budget: Budget,
    ) -> Result<Said, Status> {
        let until_unix_ms = user.map_or(0, |user| match reason {
            Reason::Blocked => user.record.blocked_until_unix_ms,
            Reason::LockedOut => user.record.pin.map_or(0, |pin| pin.locked_until_unix_ms),
            _ => 0,
        });
        let ending = Ending { until_unix_ms: until_unix_ms.max(0), ..reason.into() };
        self.refuse(origin, user.map_or("", |user| &user.id), ending, budget).await
    }

    /// The end of a login whose password was right.
    pub(crate) async fn end(&self, login: &Login, ending: Ending) -> Result<Said, Status> {
        self.close_if_possible(login, Came::Denied(ending)).await;
        let refused = self.refuse(login.origin(), &login.user.id, ending, login.budget).await;
        // Behind the event: what goes wrong here makes no No an Unavailable.
        self.note_failure(login, ending).await;
        refused
    }

    /// Only so that copies are refused sooner: nobody was given the step that is open now, and the store has the transaction as spent.
    async fn close_if_possible(&self, login: &Login, came: Came) {
        if let Some(held) = &login.held {
            self.unanswered.ended(login.origin().transaction);
            let _ = self.challenges.close(held, came).await;
        }
    }

    /// Asks: the next round of the conversation, or its first.
    pub(crate) async fn ask(
        &self,
        login: &mut Login,
        round: Round,
        life_ms: i64,
        previous: Previous<'_>,
    ) -> Result<Step, Status> {
        let expires_unix_ms = self.clock.now_ms().saturating_add(life_ms);
        self.ask_until(login, round, expires_unix_ms, previous).await
    }

    /// The same with a given end.
    pub(crate) async fn ask_until(
        &self,
        login: &mut Login,
        round: Round,
        expires_unix_ms: i64,
        previous: Previous<'_>,
    ) -> Result<Step, Status> {
        let limits = login.rules.limits;
        let came = Came::Asked { previous: previous.reason, rule: previous.rule.to_owned() };
        let record = |stage| Record {
            attempt: login.attempt.clone(),
            user_id: login.user.id.clone(),
            expires_unix_ms,
            stage,
            wanted: login.wanted,
            failed: login.failed.clone(),
            remember_key: login.remember_key.clone(),
            round_ms: limits.round_ms,
            taken: login.held.as_ref().and_then(|held| held.record.taken_and(came.clone())),
        };
        let first = |round| Stage::Asked { step: 1, tries_left: limits.tries, rounds_left: ROUNDS, round };
        let Some(held) = &login.held else {
            let now = self.clock.now_ms();
            return match self.challenges.open(&record(first(round)), now).await? {
                Opened::New(held) => {
                    self.unanswered.asked(&held.record);
                    let said = self.question(login, &held.record, previous);
                    login.held = Some(*held);
                    said
                }
                Opened::Before(held) => {
                    let same = held.record.user_id == login.user.id && held.record.attempt.is_same(&login.attempt);
                    let said = same.then(|| outcome::ask(&held.record, &login.user, &login.rules.known, previous));
                    Ok(said.flatten().map_or(Step::Over(Reason::ChallengeGone.into()), Step::SaidBefore))
                }
            };
        };
        let stage = match &held.record.stage {
            // A conversation has an end, whatever it is about (FR-14).
            Stage::Asked { rounds_left: 0, .. } => {
                let otherwise =
                    if matches!(round, Round::NewPin { .. }) { Reason::WrongPin } else { Reason::WrongCode };
                return Ok(Step::Over(previous.reason.unwrap_or(otherwise).into()));
            }
            Stage::Asked { step, tries_left, rounds_left, .. } => {
                Stage::Asked { step: *step, tries_left: *tries_left, rounds_left: *rounds_left, round }
            }
            Stage::CodeSpent(_) | Stage::Closed => first(round),
        };
        match self.challenges.replace(held, record(stage)).await? {
            Some(held) => {
                self.unanswered.asked(&held.record);
                let said = self.question(login, &held.record, previous);
                login.held = Some(held);
                said
            }
            None => Ok(Step::Over(Reason::ChallengeGone.into())),
        }
    }

    /// A round of the usual length.
    pub(crate) async fn ask_code(&self, login: &mut Login, previous: Previous<'_>) -> Result<Step, Status> {
        self.ask(login, Round::Code, login.rules.limits.round_ms, previous).await
    }

    fn question(&self, login: &Login, record: &Record, previous: Previous<'_>) -> Result<Step, Status> {
        let said = outcome::ask(record, &login.user, &login.rules.known, previous);
        said.map(Step::Said).ok_or_else(|| Status::internal(Reason::InternalError.code()))
    }
}

/// A reason that ends an attempt without letting anybody in.
pub fn ending(code: &str) -> Result<Reason, Status> {
    let reason = Reason::from_code(code);
    match reason.class() {
        ResultClass::Failed | ResultClass::Denied | ResultClass::Fraud | ResultClass::Error => Ok(reason),
        ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge => {
            Err(Status::invalid_argument("reason is none that ends an attempt"))
        }
    }
}
