//! What callers ask, in the order of an attempt: which codes could be appended, begin, complete, answer; and what ended
//! without us.

use crate::Service;
use crate::attempt::{Attempt, Origin, transaction};
use crate::budget::Budget;
use crate::challenges::{Held, Opened, ROUND_MS, ROUNDS, Record, Stage, TRIES};
use crate::commit::{Committed, UsedCode};
use crate::decide::decide;
use crate::facts::KnownUser;
use crate::methods::code::{self, Checked};
use domain::{DirectoryRef, Method, Reason, ResultClass, Secret};
use policy::{CodeCheck, Decision, Grant, UserState};
use proto::user_store::TryKind;
use proto::verification::verification_server::Verification;
use proto::verification::{
    Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, Ask, BeginRequest, CancelReply, CancelRequest,
    CodeAccepted, CompleteRequest, Deny, Outcome, Primary, ReportReply, ReportRequest, outcome,
};
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

#[async_trait]
impl Verification for Service {
    async fn appended_forms(
        &self,
        request: Request<AppendedFormsRequest>,
    ) -> Result<Response<AppendedFormsReply>, Status> {
        let budget = Budget::of(&request);
        let AppendedFormsRequest { client, subject } = request.into_inner();
        let subject: DirectoryRef = subject
            .and_then(|subject| subject.try_into().ok())
            .ok_or_else(|| Status::invalid_argument("subject is not valid"))?;
        if !self.settings.methods(&client)?.contains(&Method::Code) {
            return Ok(Response::new(AppendedFormsReply::default()));
        }
        let user = self.store.user(&subject, budget).await?.filter(|user| user.state == UserState::Enabled);
        let mut code_digits: Vec<u32> = user.map_or_else(Vec::new, |user| {
            user.tokens_in_force().iter().map(|token| token.form.digits().into()).collect()
        });
        code_digits.sort_unstable();
        code_digits.dedup();
        Ok(Response::new(AppendedFormsReply { code_digits, ..AppendedFormsReply::default() }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let BeginRequest { attempt, primary, code, .. } = request.into_inner();
        let attempt: Attempt = attempt.try_into()?;
        let code: Option<Secret> = code.map(Into::into);
        let result = match (Primary::try_from(primary), code) {
            (Ok(Primary::Passed), code) => self.begin_passed(&attempt, code, budget).await?,
            (Ok(Primary::Pending), Some(code)) => self.begin_pending(&attempt, &code, budget).await?,
            (Ok(Primary::Pending), None) => return Err(Status::invalid_argument("code is missing")),
            (Ok(Primary::Unspecified) | Err(_), _) => return Err(Status::invalid_argument("primary is not known")),
        };
        Ok(outcome(&attempt.origin, result))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let attempt: Attempt = request.into_inner().attempt.try_into()?;
        let result = self.complete_spent(&attempt, budget).await?;
        Ok(outcome(&attempt.origin, result))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let AnswerRequest { transaction_id, step, client, answer } = request.into_inner();
        let held = self.challenges.find(transaction(&transaction_id)?).await?;
        let result = match held {
            // Nobody is told, and nothing recorded: a stray copy must not end a conversation that goes on.
            None => deny(Reason::ChallengeGone),
            Some(held) => {
                let answer: Secret = answer.unwrap_or_default().into();
                self.take_answer(held, step, &client, &answer, budget).await?
            }
        };
        Ok(Response::new(Outcome { transaction_id, result: Some(result) }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        let budget = Budget::of(&request);
        let CancelRequest { transaction_id, reason } = request.into_inner();
        let reason = ending(&reason)?;
        if let Some(held) = self.challenges.find(transaction(&transaction_id)?).await?
            && held.record.stage != Stage::Closed
            && self.challenges.close(&held).await?
        {
            let Record { origin, user_id, .. } = &held.record;
            self.committer.record(origin, user_id, reason, budget).await?;
        }
        Ok(Response::new(CancelReply {}))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let budget = Budget::of(&request);
        let ReportRequest { attempt, reason } = request.into_inner();
        let reason = ending(&reason)?;
        let attempt = attempt.ok_or_else(|| Status::invalid_argument("attempt is missing"))?;
        let subject: Option<DirectoryRef> = attempt.subject.clone().and_then(|subject| subject.try_into().ok());
        let origin: Origin = attempt.try_into()?;
        // Whose it was is worth a question, not the event.
        let user_id = match subject {
            Some(subject) => self.store.user(&subject, budget).await.ok().flatten().map(|user| user.id),
            None => None,
        };
        self.committer.record(&origin, &user_id.unwrap_or_default(), reason, budget).await?;
        Ok(Response::new(ReportReply {}))
    }

    async fn r#await(&self, request: Request<proto::verification::AwaitRequest>) -> Result<Response<Outcome>, Status> {
        let _ = request;
        Err(Status::unimplemented("await"))
    }
}

/// A code that was checked after the password.
enum Tried {
    Allowed(outcome::Result),
    /// Another try may be given.
    Wrong(Reason),
    /// The attempt is over.
    Over(Reason),
}

impl Service {
    /// The password was right.
    async fn begin_passed(
        &self,
        attempt: &Attempt,
        code: Option<Secret>,
        budget: Budget,
    ) -> Result<outcome::Result, Status> {
        let origin = &attempt.origin;
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        let user = self.store.user(&attempt.subject, budget).await?;
        let user_id = user.as_ref().map_or("", |user| &user.id);
        match (decide(attempt, &rules, user.as_ref(), code.is_some(), self.clock.now_ms()), &user) {
            (Decision::Allow(grant), _) => self.let_in(origin, user_id, grant, None, None, budget).await,
            (Decision::Deny(reason), _) => self.refuse(origin, user_id, reason, budget).await,
            (Decision::Ask(method), Some(user)) => self.ask(attempt, user, method, budget).await,
            (Decision::CheckCode(check), Some(user)) => {
                match self.try_code(origin, user, check, &code.unwrap_or_default(), None, budget).await? {
                    Tried::Allowed(result) => Ok(result),
                    Tried::Wrong(reason) | Tried::Over(reason) => self.refuse(origin, user_id, reason, budget).await,
                }
            }
            (Decision::Ask(_) | Decision::CheckCode(_), None) => Err(Status::internal(Reason::InternalError.code())),
        }
    }

    /// The code comes before the password (L-52 b): it is spent now, and stays spent whatever the password turns out to be
    /// (L-53). A No is no event: with the whole string as the password the attempt goes on.
    async fn begin_pending(&self, attempt: &Attempt, code: &Secret, budget: Budget) -> Result<outcome::Result, Status> {
        let origin = &attempt.origin;
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        let user = self.store.user(&attempt.subject, budget).await?;
        let now = self.clock.now_ms();
        let user = match (decide(attempt, &rules, user.as_ref(), true, now), user) {
            (Decision::CheckCode(_), Some(user)) => user,
            (Decision::Deny(reason), user) => {
                let user_id = user.map_or_else(String::new, |user| user.id);
                return self.refuse(origin, &user_id, reason, budget).await;
            }
            // A rule would let the user pass on the password, which nobody has checked yet.
            _ => return Ok(deny(Reason::WrongCode)),
        };
        let checked = code::check(&self.committer, &user, code, TryKind::Unverified, origin.source(), budget).await?;
        let (factor_id, step) = match checked {
            Checked::Right { factor_id, step } => (factor_id, step),
            Checked::Wrong => return Ok(deny(Reason::WrongCode)),
            // Above the budget of L-54 the tail is not looked at: to the gateway it is part of the password.
            Checked::Throttled => {
                self.metrics.unverified_code_limited();
                return Ok(deny(Reason::RateLimited));
            }
        };
        let spent_now = self.committer.spend_code(origin, &user.id, &factor_id, step, budget).await?;
        let record = Record {
            origin: origin.clone(),
            subject: attempt.subject.clone(),
            user_id: user.id,
            expires_unix_ms: now + ROUND_MS,
            stage: Stage::CodeSpent { factor_id, step },
        };
        if !spent_now {
            // Perhaps by this very request, whose answer was lost (V-02).
            let before = self.challenges.find(origin.transaction).await?;
            let same =
                before.is_some_and(|held| same_attempt(&held.record, &record) && held.record.stage == record.stage);
            return Ok(if same { code_accepted() } else { deny(Reason::ReusedCode) });
        }
        match self.challenges.open(&record, now).await? {
            Opened::New => Ok(code_accepted()),
            Opened::Before(_) => Ok(deny(Reason::ReusedCode)),
        }
    }

    /// The password passed after its code was spent.
    async fn complete_spent(&self, attempt: &Attempt, budget: Budget) -> Result<outcome::Result, Status> {
        let origin = &attempt.origin;
        let held = self.challenges.find(origin.transaction).await?;
        let now = self.clock.now_ms();
        let spent = held.as_ref().and_then(|held| match &held.record {
            Record {
                origin: before, subject, expires_unix_ms, stage: Stage::CodeSpent { factor_id, step }, ..
            } if before.client == origin.client
                && before.protocol == origin.protocol
                && *subject == attempt.subject
                && *expires_unix_ms > now =>
            {
                Some(UsedCode { factor_id, step: *step, spent_before: true })
            }
            _ => None,
        });
        let Some(rules) = self.settings.rules(origin)? else {
            return self.refuse(origin, "", Reason::ClientNotAllowed, budget).await;
        };
        let user = self.store.user(&attempt.subject, budget).await?;
        let user_id = user.as_ref().map_or("", |user| &user.id);
        let Some(used) = spent else {
            return self.refuse(origin, user_id, Reason::ChallengeGone, budget).await;
        };
        match decide(attempt, &rules, user.as_ref(), true, now) {
            Decision::CheckCode(check) => {
                self.let_in(origin, user_id, check.right(now), Some(used), None, budget).await
            }
            Decision::Allow(grant) => self.let_in(origin, user_id, grant, None, None, budget).await,
            Decision::Deny(reason) => self.refuse(origin, user_id, reason, budget).await,
            Decision::Ask(_) => Err(Status::internal(Reason::InternalError.code())),
        }
    }

    /// The answer to a round. Whoever moves the step on evaluates; every other copy comes too late.
    async fn take_answer(
        &self,
        held: Held,
        step: u32,
        client: &str,
        answer: &Secret,
        budget: Budget,
    ) -> Result<outcome::Result, Status> {
        let now = self.clock.now_ms();
        let Stage::Asked { step: open, tries_left, rounds_left } = held.record.stage else {
            return Ok(deny(Reason::ChallengeGone));
        };
        if client != held.record.origin.client || step != open || tries_left == 0 {
            return Ok(deny(Reason::ChallengeGone));
        }
        let Record { origin, user_id, .. } = held.record.clone();
        if held.record.expires_unix_ms <= now {
            return match self.challenges.close(&held).await? {
                true => self.refuse(&origin, &user_id, Reason::ChallengeGone, budget).await,
                false => Ok(deny(Reason::ChallengeGone)),
            };
        }
        // An empty answer costs a round and no try: nothing was guessed.
        let empty = answer.is_empty();
        let next = Record {
            expires_unix_ms: now + ROUND_MS,
            stage: Stage::Asked {
                step: step + 1,
                tries_left: tries_left - u8::from(!empty),
                rounds_left: rounds_left.saturating_sub(1),
            },
            ..held.record.clone()
        };
        let Some(mine) = self.challenges.replace(&held, next).await? else { return Ok(deny(Reason::ChallengeGone)) };
        let tried =
            if empty { Tried::Wrong(Reason::NoAnswer) } else { self.evaluate(&mine.record, answer, budget).await? };
        match (tried, &mine.record.stage) {
            (Tried::Allowed(result), _) => {
                self.close_if_possible(&mine).await;
                Ok(result)
            }
            (Tried::Wrong(reason), Stage::Asked { step, tries_left: 1.., rounds_left: 1.. }) => {
                let previous = if empty { "" } else { reason.code() };
                Ok(ask(&mine.record, Method::Code, *step, previous))
            }
            (Tried::Wrong(reason) | Tried::Over(reason), _) => {
                self.close_if_possible(&mine).await;
                self.refuse(&origin, &user_id, reason, budget).await
            }
        }
    }

    /// Only so that copies are refused sooner: nobody was given the step that is open now, and the store has the transaction
    /// as spent.
    async fn close_if_possible(&self, held: &Held) {
        let _ = self.challenges.close(held).await;
    }

    /// Decides again, with the answer: the user may have been blocked while the question was open.
    async fn evaluate(&self, record: &Record, answer: &Secret, budget: Budget) -> Result<Tried, Status> {
        let attempt = Attempt {
            origin: record.origin.clone(),
            subject: record.subject.clone(),
            client_ip: record.origin.client_ip.parse().ok(),
            can_challenge: true,
            as_service_account: false,
        };
        // The map alone does not make a round unique: it can be in the map and here, or be put back (V-73).
        let evaluation = Some(Uuid::new_v4());
        let Some(rules) = self.settings.rules(&attempt.origin)? else {
            return Ok(Tried::Over(Reason::ClientNotAllowed));
        };
        let user = self.store.user(&attempt.subject, budget).await?;
        let user_id = user.as_ref().map_or("", |user| &user.id);
        match (decide(&attempt, &rules, user.as_ref(), true, self.clock.now_ms()), &user) {
            (Decision::CheckCode(check), Some(user)) if user.id == record.user_id => {
                self.try_code(&attempt.origin, user, check, answer, evaluation, budget).await
            }
            (Decision::Allow(grant), _) => {
                self.let_in(&attempt.origin, user_id, grant, None, evaluation, budget).await.map(Tried::Allowed)
            }
            (Decision::Deny(reason), _) => Ok(Tried::Over(reason)),
            _ => Ok(Tried::Over(Reason::ChallengeGone)),
        }
    }

    async fn try_code(
        &self,
        origin: &Origin,
        user: &KnownUser,
        check: CodeCheck,
        presented: &Secret,
        evaluation: Option<Uuid>,
        budget: Budget,
    ) -> Result<Tried, Status> {
        let kind = TryKind::AfterPassword;
        let checked = code::check(&self.committer, user, presented, kind, origin.source(), budget).await?;
        let tried = match checked {
            Checked::Throttled => Tried::Over(Reason::LockedOut),
            Checked::Wrong => Tried::Wrong(Reason::WrongCode),
            // Also where our facts say that the step is spent: if by this very request, the store knows (V-02).
            Checked::Right { factor_id, step } => {
                let grant = check.right(self.clock.now_ms());
                let used = UsedCode { factor_id: &factor_id, step, spent_before: false };
                match self.committer.allow(origin, &user.id, &grant, Some(used), evaluation, budget).await? {
                    Committed::Allowed => Tried::Allowed(allow(origin, &user.id, &grant)),
                    Committed::Refused(Reason::ReusedCode) => Tried::Wrong(Reason::ReusedCode),
                    Committed::Refused(reason) => Tried::Over(reason),
                }
            }
        };
        match &tried {
            Tried::Over(Reason::LockedOut) => self.metrics.locked_out(),
            Tried::Wrong(reason) if self.failing.note(&user.id, self.clock.now_ms()) => tracing::warn!(
                event = "password_known_factor_failing",
                service = "verification",
                request_id = %origin.transaction,
                client = origin.client,
                user = user.username,
                reason = reason.code(),
            ),
            _ => {}
        }
        Ok(tried)
    }

    async fn ask(
        &self,
        attempt: &Attempt,
        user: &KnownUser,
        method: Method,
        budget: Budget,
    ) -> Result<outcome::Result, Status> {
        let now = self.clock.now_ms();
        let record = Record {
            origin: attempt.origin.clone(),
            subject: attempt.subject.clone(),
            user_id: user.id.clone(),
            expires_unix_ms: now + ROUND_MS,
            stage: Stage::Asked { step: 1, tries_left: TRIES, rounds_left: ROUNDS },
        };
        match self.challenges.open(&record, now).await? {
            Opened::New => Ok(ask(&record, method, 1, "")),
            Opened::Before(held) => match held.record.stage {
                Stage::Asked { step, .. } if same_attempt(&held.record, &record) => {
                    Ok(ask(&held.record, method, step, ""))
                }
                _ => self.refuse(&attempt.origin, &user.id, Reason::ChallengeGone, budget).await,
            },
        }
    }

    /// The store first, then the Allow (V-61).
    async fn let_in(
        &self,
        origin: &Origin,
        user_id: &str,
        grant: Grant,
        used: Option<UsedCode<'_>>,
        evaluation: Option<Uuid>,
        budget: Budget,
    ) -> Result<outcome::Result, Status> {
        match self.committer.allow(origin, user_id, &grant, used, evaluation, budget).await? {
            Committed::Allowed => Ok(allow(origin, user_id, &grant)),
            Committed::Refused(reason) => self.refuse(origin, user_id, reason, budget).await,
        }
    }

    /// The event first, then the Deny: an attempt that cannot be recorded is unavailable, which is a No as well.
    async fn refuse(
        &self,
        origin: &Origin,
        user_id: &str,
        reason: Reason,
        budget: Budget,
    ) -> Result<outcome::Result, Status> {
        self.committer.record(origin, user_id, reason, budget).await?;
        Ok(deny(reason))
    }
}

fn outcome(origin: &Origin, result: outcome::Result) -> Response<Outcome> {
    Response::new(Outcome { transaction_id: origin.transaction.to_string(), result: Some(result) })
}

/// The only place that makes an Allow, and only of what the store has committed.
fn allow(origin: &Origin, user_id: &str, grant: &Grant) -> outcome::Result {
    outcome::Result::Allow(Allow {
        reason: grant.reason().code().into(),
        method: grant.method().map_or("", Method::code).into(),
        assurance: grant.assurance().code().into(),
        source: grant.source().code().into(),
        client: origin.client.clone(),
        expires_unix_ms: grant.expires_unix_ms(),
        user_id: user_id.to_owned(),
    })
}

fn deny(reason: Reason) -> outcome::Result {
    outcome::Result::Deny(Deny { reason: reason.code().into(), ..Deny::default() })
}

fn ask(record: &Record, method: Method, step: u32, previous: &str) -> outcome::Result {
    outcome::Result::Ask(Ask {
        method: method.code().into(),
        step,
        expires_unix_ms: record.expires_unix_ms,
        user_id: record.user_id.clone(),
        previous: previous.into(),
        kind: proto::verification::AskKind::Code.into(),
        ..Ask::default()
    })
}

fn code_accepted() -> outcome::Result {
    outcome::Result::CodeAccepted(CodeAccepted {})
}

fn same_attempt(a: &Record, b: &Record) -> bool {
    a.origin.client == b.origin.client
        && a.origin.protocol == b.origin.protocol
        && a.subject == b.subject
        && a.user_id == b.user_id
}

/// A reason that ends an attempt without letting anybody in.
fn ending(code: &str) -> Result<Reason, Status> {
    let reason = Reason::from_code(code);
    match reason.class() {
        ResultClass::Failed | ResultClass::Denied | ResultClass::Fraud | ResultClass::Error => Ok(reason),
        ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge => {
            Err(Status::invalid_argument("reason is none that ends an attempt"))
        }
    }
}
