//! The answer to a round. Whoever moves the step on evaluates; every other copy comes too late. A round that waits for the
//! phone is not moved on: what it waits for is decided once, in the store.

use super::observed::Beside;
use super::{Login, Step};
use crate::Service;
use crate::budget::Budget;
use crate::challenges::{Approval, Came, Held, Record, Round, Stage, Taken};
use crate::commit::Ending;
use crate::decide::{Given, decide};
use crate::methods::code::{self, RowBegun, Tried};
use crate::outcome::{self, Previous};
use domain::{Method, Reason, Secret};
use policy::{Decision, Plan, Proof};
use proto::verification::outcome::Result as Said;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tonic::Status;
use uuid::Uuid;

/// Kept back of a caller's wait to say what came of it.
const ANSWER: Duration = Duration::from_millis(1_500);
/// The longest look of one Await.
const AWAIT_MAX_MS: u32 = 55_000;

/// How often an evaluation under way is looked at by those who wait for what comes of it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// What an answer means for the round.
enum Heard {
    Done(Said),
    /// The same round again, with another try if there is one.
    Again(Round, Reason),
    Over(Ending),
}

/// Which round an answer is for, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) step: u32,
    pub(crate) client: &'a str,
    /// Of the request that brought it.
    pub(crate) mark: &'a [u8],
}

impl Service {
    pub(crate) async fn take_answer(
        &self,
        held: Held,
        turn: Turn<'_>,
        answer: &Secret,
        budget: Budget,
    ) -> Result<Said, Status> {
        let Some(round) = self.open_round(&held, &turn) else {
            return self.said_before(held, &turn, answer, budget).await;
        };
        if let Some(said) = self.too_late(&held, budget).await? {
            return Ok(said);
        }
        let taken = self.taken(&held.record, &turn, answer);
        if let Round::Approval(approval) = round {
            let within = budget.less(ANSWER).left();
            let mut held = held;
            held.record.taken = taken;
            return self.await_phone(held, approval, within, budget).await;
        }
        let Some((held, may_try_again)) = self.move_on(&held, taken, answer).await? else {
            // Perhaps by this very answer, on its way through another node.
            return match self.challenges.find(held.record.attempt.origin.transaction).await? {
                Some(held) => self.said_before(held, &turn, answer, budget).await,
                None => Ok(outcome::deny(Reason::ChallengeGone)),
            };
        };
        self.evaluate(held, round, answer, may_try_again, budget).await
    }

    /// For clients with a dialogue: waits for the phone, and says again what is open if it still is.
    pub(crate) async fn look(
        &self,
        held: Held,
        step: u32,
        client: &str,
        wait_ms: u32,
        budget: Budget,
    ) -> Result<Said, Status> {
        let turn = Turn { step, client, mark: &[] };
        let Some(round) = self.open_round(&held, &turn) else {
            return Ok(outcome::deny(Reason::ChallengeGone));
        };
        if let Some(said) = self.too_late(&held, budget).await? {
            return Ok(said);
        }
        // Whatever else is asked is answered, not waited for.
        let Round::Approval(approval) = round else { return self.same_question(&held, budget).await };
        // What comes now is of no answer.
        let mut held = held;
        held.record.taken = None;
        let wait = Duration::from_millis(wait_ms.min(AWAIT_MAX_MS).into());
        self.await_phone_for(held, approval, wait.min(budget.less(ANSWER).left()), true, budget).await
    }

    /// The round that this answer is for; `None`: there is none, or it is another client's.
    fn open_round(&self, held: &Held, turn: &Turn<'_>) -> Option<Round> {
        let Stage::Asked { step, tries_left, round, .. } = &held.record.stage else { return None };
        let mine = turn.client == held.record.attempt.origin.client && turn.step == *step && *tries_left > 0;
        mine.then(|| round.clone())
    }

    /// The answer as it is known again; `None` where nobody asks again, and while there is no key for it.
    fn taken(&self, record: &Record, turn: &Turn<'_>, answer: &Secret) -> Option<Taken> {
        let key_id = self.code_keys.current()?;
        let digest = self.answer_digest(key_id, record, turn, answer)?;
        Some(Taken { step: turn.step, key_id, digest, came: None })
    }

    fn answer_digest(&self, key_id: u32, record: &Record, turn: &Turn<'_>, answer: &Secret) -> Option<Vec<u8>> {
        if turn.mark.is_empty() {
            return None;
        }
        let transaction = record.attempt.origin.transaction.to_string();
        let step = turn.step.to_be_bytes();
        let fields: &[&[u8]] = &[b"answer", transaction.as_bytes(), &step, turn.mark, answer.expose()];
        self.code_keys.digest(key_id, fields)
    }

    /// No round waits for this answer. A caller that did not hear what came of it asks again about the same request and hears the first
    /// result, once there is one (V-02); nothing is evaluated again, and no other request gets anything.
    async fn said_before(
        &self,
        mut held: Held,
        turn: &Turn<'_>,
        answer: &Secret,
        budget: Budget,
    ) -> Result<Said, Status> {
        let mut pause = LOOK_AGAIN;
        loop {
            let record = &held.record;
            let same = |taken: &&Taken| {
                let digest = self.answer_digest(taken.key_id, record, turn, answer);
                turn.step == taken.step
                    && turn.client == record.attempt.origin.client
                    && digest.is_some_and(|digest| digest.ct_eq(&taken.digest).into())
            };
            let Some(taken) = record.taken.as_ref().filter(same) else { break };
            if let Some(came) = &taken.came {
                return self.say_again(record, came, budget).await;
            }
            let left = budget.less(ANSWER).left();
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
            match self.challenges.find(record.attempt.origin.transaction).await? {
                Some(now) => held = now,
                None => break,
            }
        }
        Ok(outcome::deny(Reason::ChallengeGone))
    }

    async fn say_again(&self, record: &Record, came: &Came, budget: Budget) -> Result<Said, Status> {
        let (origin, now) = (&record.attempt.origin, self.clock.now_ms());
        let gone = Ok(outcome::deny(Reason::ChallengeGone));
        // The event may have been what failed.
        if let Came::Denied(ending) = came {
            return self.refuse(origin, &record.user_id, *ending, budget).await;
        }
        let (Some(user), Some(rules)) =
            (self.store.user_by_id(&record.user_id, budget).await?, self.settings.rules(origin)?)
        else {
            return gone;
        };
        match came {
            Came::Asked { previous, rule } if record.expires_unix_ms > now => {
                let previous = Previous { reason: *previous, rule };
                outcome::ask(record, &user, &rules.known, previous).map_or(gone, Ok)
            }
            Came::Allowed(allowed) if allowed.expires_unix_ms > now => {
                // Whoever was blocked since is not let in again.
                match decide(&record.attempt, &rules, Some(&user), Given::default(), now) {
                    Decision::Deny(reason @ Reason::Blocked) => Ok(outcome::deny(reason)),
                    _ => Ok(outcome::allow_again(origin, &record.user_id, allowed)),
                }
            }
            Came::Asked { .. } | Came::Allowed(_) | Came::Denied(_) => gone,
        }
    }

    /// Somebody has to end what nobody answered in time.
    async fn too_late(&self, held: &Held, budget: Budget) -> Result<Option<Said>, Status> {
        let Record { attempt, user_id, expires_unix_ms, stage, .. } = &held.record;
        if *expires_unix_ms > self.clock.now_ms() {
            return Ok(None);
        }
        let method = match stage {
            Stage::Asked { round, .. } => outcome::method(round),
            Stage::CodeSpent(_) | Stage::Closed => None,
        };
        let ending = Ending { method, ..Reason::ChallengeGone.into() };
        match self.challenges.close(held, Came::Denied(ending)).await? {
            true => self.refuse(&attempt.origin, user_id, ending, budget).await.map(Some),
            false => Ok(Some(outcome::deny(ending))),
        }
    }

    /// Takes the round: its step moves on, and a try is used up. An empty answer costs a round and no try: nothing was guessed.
    /// `None`: somebody was faster.
    async fn move_on(
        &self,
        held: &Held,
        taken: Option<Taken>,
        answer: &Secret,
    ) -> Result<Option<(Held, bool)>, Status> {
        let Stage::Asked { step, tries_left, rounds_left, round } = &held.record.stage else { return Ok(None) };
        let tries_left = tries_left.saturating_sub(u8::from(!answer.is_empty() && is_guess(round)));
        let rounds_left = rounds_left.saturating_sub(1);
        let stage = Stage::Asked { step: step + 1, tries_left, rounds_left, round: round.clone() };
        // A code that was sent is good for so long, however often it is asked for (FR-14).
        let expires_unix_ms = match round {
            Round::SentCode { .. } => held.record.expires_unix_ms,
            _ => self.clock.now_ms() + held.record.round_ms,
        };
        let next = Record { stage, expires_unix_ms, taken, ..held.record.clone() };
        let mine = self.challenges.replace(held, next).await?;
        Ok(mine.map(|mine| (mine, tries_left > 0 && rounds_left > 0)))
    }

    /// Decides again, with the answer: the user may have been blocked while the question was open.
    async fn evaluate(
        &self,
        held: Held,
        round: Round,
        answer: &Secret,
        may_try_again: bool,
        budget: Budget,
    ) -> Result<Said, Status> {
        let expires = held.record.expires_unix_ms;
        let code = matches!(round, Round::Code | Round::NextCode { .. });
        let wanted = if code { None } else { outcome::method(&round).or(held.record.wanted) };
        let given = Given { code, wanted };
        let (mut login, plan) = match self.resume(held, given, budget).await? {
            Resumed::Plan(login, plan) => (login, plan),
            Resumed::Said(said) => return Ok(said),
        };
        let heard = match round {
            Round::Code => self.hear_code(&mut login, &plan, answer, None).await?,
            Round::NextCode { factor_id, first } => {
                self.hear_code(&mut login, &plan, answer, Some(RowBegun { factor_id, first })).await?
            }
            Round::SentCode { sent, right } => {
                Box::pin(self.hear_sent_code(&mut login, &plan, sent, right, answer)).await?.into()
            }
            Round::Choice { methods } => self.hear_choice(&mut login, plan, &methods, answer).await?,
            Round::NewPin { pin_handle, key_id, first } => {
                let new = crate::methods::pin::NewPin { pin_handle, key_id, first };
                self.hear_new_pin(&mut login, &plan, new, answer).await?.into()
            }
            Round::Questions { questions } => self.hear_answers(&login, &plan, questions, answer).await?.into(),
            Round::Passkey { challenge, options_json } => {
                self.hear_passkey(&login, &plan, challenge, options_json, answer).await?.into()
            }
            // Waits in its own way, before a step is moved on.
            Round::Approval(_) => return Err(Status::internal(Reason::InternalError.code())),
        };
        match heard {
            Heard::Done(said) => Ok(said),
            Heard::Again(round, reason) if may_try_again => {
                // Nothing was typed, and nothing is wrong.
                let nothing = answer.is_empty() && reason == Reason::NoAnswer;
                let previous = if nothing { Previous::default() } else { reason.into() };
                if !answer.is_empty() {
                    self.note_failure(&login, Ending { method: outcome::method(&round), ..reason.into() }).await;
                }
                let step = self.ask_until(&mut login, round, expires, previous).await?;
                self.settle(&login, step).await
            }
            Heard::Again(round, reason) => {
                let ending = Ending { method: outcome::method(&round), ..reason.into() };
                self.end(&login, ending).await
            }
            Heard::Over(ending) => self.end(&login, ending).await,
        }
    }

    async fn resume(&self, held: Held, given: Given, budget: Budget) -> Result<Resumed, Status> {
        let record = held.record.clone();
        let origin = &record.attempt.origin;
        let over = async |reason: Reason| {
            let _ = self.challenges.close(&held, Came::Denied(reason.into())).await;
            self.refuse(origin, &record.user_id, reason, budget).await.map(Resumed::Said)
        };
        let Some(rules) = self.settings.rules(origin)? else { return over(Reason::ClientNotAllowed).await };
        let user = self.store.user(record.attempt.somebody()?, budget).await?;
        // The store has forgotten the user, or knows somebody else under this entry: that is another conversation.
        let same = user.as_ref().is_some_and(|user| user.id == record.user_id);
        match (decide(&record.attempt, &rules, user.as_ref(), given, self.clock.now_ms()), user) {
            (Decision::Plan(plan), Some(user)) if same => {
                Ok(Resumed::Plan(Box::new(Login::resumed(&record, rules, user, held, budget)), plan))
            }
            // A rule lets the user pass now: it is applied to what was asked, once.
            (Decision::Allow(grant), Some(user)) if same => {
                let login = Login::resumed(&record, rules, user, held, budget);
                let step = self.let_in(&login, grant, crate::commit::Proven::default()).await?;
                self.settle(&login, step).await.map(Resumed::Said)
            }
            (Decision::Observed(observed), Some(user)) if same => {
                let came = Came::from(&observed.grant);
                let beside = Beside { code: None, evaluation: Some(Uuid::new_v4()) };
                let said = self.let_in_observed(origin, &user.id, observed, beside, budget).await?;
                // What the store refused is said again as nothing else.
                let came =
                    if matches!(said, Said::Allow(_)) { came } else { Came::Denied(Reason::ChallengeGone.into()) };
                let _ = self.challenges.close(&held, came).await;
                Ok(Resumed::Said(said))
            }
            (Decision::Deny(reason), _) => over(reason).await,
            _ => over(Reason::ChallengeGone).await,
        }
    }

    /// Any answer waits for the phone.
    async fn await_phone(
        &self,
        held: Held,
        approval: Approval,
        within: Duration,
        budget: Budget,
    ) -> Result<Said, Status> {
        self.await_phone_for(held, approval, within, false, budget).await
    }

    async fn await_phone_for(
        &self,
        held: Held,
        approval: Approval,
        within: Duration,
        may_look_again: bool,
        budget: Budget,
    ) -> Result<Said, Status> {
        let mut seat = self.waiting.seat(&approval.prompt_id)?;
        let over = self.wait_for(&mut seat, &approval, within, budget).await?;
        drop(seat);
        if over.is_none() && may_look_again {
            return self.same_question(&held, budget).await;
        }
        let prompt = match over {
            Some(prompt) => prompt,
            None => self.expire(&approval.prompt_id, budget).await?,
        };
        self.fall_silent(&prompt);
        let given = Given { code: false, wanted: Some(approval.method) };
        let (mut login, plan) = match self.resume(held, given, budget).await? {
            Resumed::Plan(login, plan) => (login, plan),
            Resumed::Said(said) => return Ok(said),
        };
        let way = plan.ways.iter().find(|way| way.method == approval.method);
        let Some((way, Proof::Prompt(check))) = way.map(|way| (way, way.proof.clone())) else {
            return self.end(&login, Ending::of(Reason::NoUsableMethod, approval.method)).await;
        };
        match self.conclude(&login, way, check, &prompt, &approval.provider).await? {
            Step::Failed(ending) => {
                login.failed.push(approval.method);
                let plan = self.plan_again(&login)?.unwrap_or(plan);
                self.pursue_after(&mut login, &plan, Some(ending)).await
            }
            step => self.settle(&login, step).await,
        }
    }

    /// The whole plan again, after the method that was under way has failed: others may follow.
    fn plan_again(&self, login: &Login) -> Result<Option<Plan>, Status> {
        let given = Given { code: false, wanted: login.wanted };
        let decision = decide(&login.attempt, &login.rules, Some(&login.user), given, self.clock.now_ms());
        Ok(match decision {
            Decision::Plan(plan) => Some(plan),
            Decision::Allow(_) | Decision::Deny(_) | Decision::Bypass(_) | Decision::Observed(_) => None,
        })
    }

    async fn same_question(&self, held: &Held, budget: Budget) -> Result<Said, Status> {
        let user = self.store.user_by_id(&held.record.user_id, budget).await?;
        let known = self.settings.known()?;
        let said = user.and_then(|user| outcome::ask(&held.record, &user, &known, Previous::default()));
        Ok(said.unwrap_or_else(|| outcome::deny(Reason::ChallengeGone)))
    }

    /// `begun`: the code before may have been of a token that ran away; the one after it is right too.
    async fn hear_code(
        &self,
        login: &mut Login,
        plan: &Plan,
        answer: &Secret,
        begun: Option<RowBegun>,
    ) -> Result<Heard, Status> {
        if answer.is_empty() {
            return Ok(Heard::Again(begun.map_or(Round::Code, RowBegun::round), Reason::NoAnswer));
        }
        let user = &login.user;
        let step = match self.try_typed(login, &plan.typed, answer).await? {
            Tried::Throttled { until_unix_ms } => return Ok(Heard::Over(code::locked(until_unix_ms))),
            Tried::Right(step) => step,
            Tried::Wrong => match begun.and_then(|begun| self.row_ended(user, &plan.typed, &begun, answer)) {
                Some(right) => self.let_in(login, right.grant, right.proven).await?,
                None => {
                    let begun = self.row_begun(user, &plan.typed, answer);
                    return Ok(Heard::Again(begun.map_or(Round::Code, RowBegun::round), Reason::WrongCode));
                }
            },
        };
        Ok(match step {
            Step::Over(ending) if ending.reason == Reason::ReusedCode => Heard::Again(Round::Code, Reason::ReusedCode),
            step => step.into(),
        })
    }

    /// A place in the list from 1, or a code.
    async fn hear_choice(
        &self,
        login: &mut Login,
        plan: Plan,
        methods: &[Method],
        answer: &Secret,
    ) -> Result<Heard, Status> {
        let again = |reason| Ok(Heard::Again(Round::Choice { methods: methods.to_vec() }, reason));
        if answer.is_empty() {
            return again(Reason::NoAnswer);
        }
        let place = domain::presented::folded_digits(answer.expose(), 2)
            .and_then(|digits| digits.expose_str()?.parse::<usize>().ok());
        let named = answer.expose_str().and_then(|text| Method::from_code(text.trim()));
        let chosen = match (place, named) {
            (Some(place), _) => place.checked_sub(1).and_then(|place| methods.get(place)).copied(),
            (None, named) => named.filter(|method| methods.contains(method)),
        };
        let Some(chosen) = chosen else {
            // A list of methods may be answered with a code outright.
            return match plan.typed.is_empty() || place.is_some() {
                true => again(Reason::WrongCode),
                false => match self.hear_code(login, &plan, answer, None).await? {
                    Heard::Again(_, reason) => again(reason),
                    heard => Ok(heard),
                },
            };
        };
        login.give_back_try();
        login.wanted = Some(chosen);
        match self.plan_again(login)? {
            Some(plan) => self.pursue_after(login, &plan, None).await.map(Heard::Done),
            None => Ok(Heard::Over(Ending::of(Reason::NoUsableMethod, chosen))),
        }
    }
}

enum Resumed {
    Plan(Box<Login>, Plan),
    Said(Said),
}

/// A new PIN guesses nothing: it costs rounds, and no tries. A list may be answered with a code; a choice of it gives the try back.
fn is_guess(round: &Round) -> bool {
    !matches!(round, Round::NewPin { .. } | Round::Approval(_))
}

impl From<Step> for Heard {
    fn from(step: Step) -> Self {
        match step {
            Step::Said(said) | Step::SaidBefore(said) => Self::Done(said),
            Step::Failed(ending) | Step::NotNow(ending) | Step::Over(ending) => Self::Over(ending),
        }
    }
}

/// What a method makes of an answer.
pub enum Answered {
    Step(Step),
    Again(Round, Reason),
}

impl From<Answered> for Heard {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Step(step) => step.into(),
            Answered::Again(round, reason) => Self::Again(round, reason),
        }
    }
}
