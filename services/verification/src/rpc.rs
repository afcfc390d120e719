//! What callers ask, in the order of an attempt: which codes could be appended, begin, complete, answer, await; and what ended
//! without us. Parsed and bounded in time here; what follows is in `login`.

use crate::Service;
use crate::attempt::{Attempt, Origin, line, transaction};
use crate::budget::Budget;
use crate::facts::for_policy;
use crate::login::{Turn, ending};
use crate::outcome::{deny, response};
use crate::reply_groups;
use domain::{DirectoryRef, Method, Reason, Secret};
use policy::{Decision, Shows, UserState};
use proto::user_store::ForgetRememberedRequest;
use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, AppendedFormsReply, AppendedFormsRequest, AwaitRequest, BeginRequest, CancelReply, CancelRequest,
    CompleteRequest, Outcome, PasswordChangedReply, PasswordChangedRequest, Primary, ReportReply, ReportRequest,
    outcome::Result as Said,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

/// Methods that a word after the password may choose (L-51).
const KEYWORDS: [Method; 3] = [Method::Push, Method::Call, Method::Sms];

/// The password alone is enough, as far as can be known before it is checked.
fn needs_no_code(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(_) | Decision::Bypass(_) | Decision::Observed(_))
}

impl Service {
    /// An Allow also says who it is, and which groups of the client's reply rules the user is in. Without the store nobody can
    /// say: then there is no answer yet, and whoever asks again hears the same Allow.
    async fn with_groups(
        &self,
        said: Said,
        client: &str,
        subject: Option<&DirectoryRef>,
        budget: Budget,
    ) -> Result<Said, Status> {
        let Said::Allow(mut allow) = said else { return Ok(said) };
        // Whom nobody knows is in no group.
        let Some(subject) = subject else { return Ok(Said::Allow(allow)) };
        allow.subject = Some(subject.into());
        let known = self.settings.known()?;
        let rules = known.settings.client(client).map(|client| client.reply.as_slice()).unwrap_or_default();
        let mut wanted: Vec<String> = rules.iter().filter_map(|rule| rule.when_group.clone()).collect();
        if !wanted.is_empty()
            && let Some(user) = self.store.user(subject, budget).await?
        {
            wanted.retain(|group| reply_groups::is_member(&user.record.groups, group));
            allow.groups = wanted;
        }
        Ok(Said::Allow(allow))
    }
}

#[async_trait]
impl Verification for Service {
    async fn appended_forms(
        &self,
        request: Request<AppendedFormsRequest>,
    ) -> Result<Response<AppendedFormsReply>, Status> {
        let budget = Budget::of(&request);
        let AppendedFormsRequest { client, subject, person_ip, transaction_id } = request.into_inner();
        let subject: DirectoryRef = subject
            .and_then(|subject| subject.try_into().ok())
            .ok_or_else(|| Status::invalid_argument("subject is not valid"))?;
        let known = self.settings.known()?;
        let Some(client) = known.settings.client(&client) else {
            return Ok(Response::new(AppendedFormsReply::default()));
        };
        let user = self.store.user(&subject, budget).await?.filter(|user| user.state == UserState::Enabled);
        let Some(user) = user else { return Ok(Response::new(AppendedFormsReply::default())) };
        let has = user.methods(&known, self.clock.now_ms());
        let usable = |method: Method| client.methods.contains(&method) && has.contains(&method);
        let mut code_digits: Vec<u32> = match usable(Method::Code) {
            true => user.tokens_in_force().iter().map(|token| token.kind.digits().into()).collect(),
            false => Vec::new(),
        };
        code_digits.sort_unstable();
        code_digits.dedup();
        let code_optional = {
            let request = policy::Request {
                client: &policy::ClientRules::from(client),
                company: &known.settings.verification,
                policies: &known.settings.policies,
                subject: Some(&subject),
                client_ip: None,
                person_ip: person_ip.parse().ok(),
                as_service_account: false,
                code_given: false,
                wanted: None,
                shows: Shows::Nothing,
            };
            let now = self.clock.now_ms();
            needs_no_code(&policy::decide(&request, &for_policy(Some(&user), &known, now), now))
        };
        let keywords = KEYWORDS.into_iter().filter(|method| client.appended_keywords && usable(*method));
        let reply = AppendedFormsReply {
            code_digits,
            temporary_code: user.record.temporary_code,
            recovery_code: usable(Method::Recovery),
            keywords: keywords.map(|method| method.code().to_owned()).collect(),
            code_optional,
        };
        if let Ok(transaction) = transaction(&transaction_id) {
            self.handed.keep(transaction, subject, user, Instant::now());
        }
        Ok(Response::new(reply))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let BeginRequest { attempt, primary, code, wanted_method, vouched } = request.into_inner();
        let attempt = attempt.map(|attempt| *attempt);
        let mut attempt: Attempt = attempt.try_into()?;
        attempt.origin.vouched = vouched;
        let transaction_id = attempt.origin.transaction.to_string();
        let (client, subject) = (attempt.origin.client.clone(), attempt.subject.clone());
        let code: Option<Secret> = code.map(Into::into);
        let wanted = match wanted_method.as_str() {
            "" => None,
            code => {
                Some(Method::from_code(code).ok_or_else(|| Status::invalid_argument("wanted_method is not known"))?)
            }
        };
        let result = match (Primary::try_from(primary), code) {
            (Ok(Primary::Passed), code) => Box::pin(self.begin_passed(attempt, code, wanted, budget)).await?,
            (Ok(Primary::Pending), Some(code)) => Box::pin(self.begin_pending(attempt, &code, budget)).await?,
            (Ok(Primary::Pending), None) => return Err(Status::invalid_argument("code is missing")),
            (Ok(Primary::Unspecified) | Err(_), _) => return Err(Status::invalid_argument("primary is not known")),
        };
        Ok(response(transaction_id, self.with_groups(result, &client, subject.as_ref(), budget).await?))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let attempt: Attempt = request.into_inner().attempt.try_into()?;
        let transaction_id = attempt.origin.transaction.to_string();
        let (client, subject) = (attempt.origin.client.clone(), attempt.subject.clone());
        let result = Box::pin(self.complete_spent(attempt, budget)).await?;
        Ok(response(transaction_id, self.with_groups(result, &client, subject.as_ref(), budget).await?))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let AnswerRequest { transaction_id, step, client, answer, mark } = request.into_inner();
        let held = self.challenges.find(transaction(&transaction_id)?).await?;
        let result = match held {
            // Nobody is told, and nothing recorded: a stray copy must not end a conversation that goes on.
            None => deny(Reason::ChallengeGone),
            Some(held) => {
                let answer: Secret = answer.unwrap_or_default().into();
                let subject = held.record.attempt.subject.clone();
                let result =
                    Box::pin(self.take_answer(held, Turn { step, client: &client, mark: &mark }, &answer, budget))
                        .await?;
                self.with_groups(result, &client, subject.as_ref(), budget).await?
            }
        };
        Ok(response(transaction_id, result))
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<Outcome>, Status> {
        let budget = Budget::of(&request);
        let AwaitRequest { transaction_id, step, client, wait_ms } = request.into_inner();
        let held = self.challenges.find(transaction(&transaction_id)?).await?;
        let result = match held {
            None => deny(Reason::ChallengeGone),
            Some(held) => Box::pin(self.look(held, step, &client, wait_ms, budget)).await?,
        };
        Ok(response(transaction_id, result))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        let budget = Budget::of(&request);
        let CancelRequest { transaction_id, reason, client, step: only } = request.into_inner();
        let reason = ending(&reason)?;
        let transaction = transaction(&transaction_id)?;
        if !client.is_empty() {
            // Nobody is told whether there is such an attempt.
            let held = self.challenges.find(transaction).await?;
            if held.is_none_or(|held| held.record.attempt.origin.client != client) {
                return Ok(Response::new(CancelReply::default()));
            }
        }
        let only = (only != 0).then_some(only);
        // First of all nobody is asked any more, wherever the login waits.
        if only.is_none() {
            self.unanswered.withdraw_all(&transaction_id, budget).await?;
        }
        let ended = match self.challenges.find(transaction).await? {
            Some(held) => self.unanswered.end(&held, only, reason, budget).await?,
            None => false,
        };
        Ok(Response::new(CancelReply { ended }))
    }

    async fn password_changed(
        &self,
        request: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        let budget = Budget::of(&request);
        let PasswordChangedRequest { subject, client } = request.into_inner();
        let subject: DirectoryRef = subject
            .and_then(|subject| subject.try_into().ok())
            .ok_or_else(|| Status::invalid_argument("subject is not valid"))?;
        // Whom the store does not know it remembers nothing of.
        if let Some(user) = self.store.user(&subject, budget).await? {
            let forget = ForgetRememberedRequest { user_id: user.id.clone() };
            let commit = &self.committer.commit;
            budget.ask("forget remembered", forget, |request| commit.forget_remembered(request)).await?;
            let client = line(&client, 128);
            tracing::info!(event = "password_changed", user_id = %user.id, client, "nothing of before is remembered");
        }
        Ok(Response::new(PasswordChangedReply {}))
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
        self.committer.record(&origin, &user_id.unwrap_or_default(), reason.into(), budget).await?;
        self.unanswered.reported(origin.transaction);
        Ok(Response::new(ReportReply {}))
    }
}
