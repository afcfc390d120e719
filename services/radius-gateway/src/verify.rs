//! The port to verification, and the one place of this part where an Allow comes into being.
//!
//! An [`Allow`] has no constructor: it is what is left of a reply after every check of V-02. What is unknown, late or meant for
//! somebody else is no decision, and no decision is a No.

use crate::attempt::Attempt;
use crate::settings::Client;
use domain::{Assurance, DirectoryRef, Method, NameForm, Protocol, Reason, ResultClass, Secret, Source, TransactionId};
use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, AppendedFormsRequest, BeginRequest, CancelRequest, CompleteRequest, Outcome, Primary, ReportRequest,
    outcome,
};
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::Upstream;
use service_kit::{Clock, Shutdown};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Code, Response, Status};
use uuid::Uuid;

/// Verification as this part calls it, and whether it answers.
pub(crate) struct Verifier {
    port: Arc<dyn Verification>,
    clock: Clock,
    shutdown: Shutdown,
    upstream: Upstream,
    reachable: AtomicBool,
    heard: Mutex<Instant>,
    reports: Arc<Semaphore>,
}

/// Kept back of every deadline, to answer the client with (V-44).
pub(crate) const MARGIN: Duration = Duration::from_millis(250);
/// Verification that has said nothing for this long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Reports under way at once. Beyond it an attempt is missing in the audit, and the log says so.
const REPORTS_MAX: usize = 4_096;
/// A report is tried again for this long: a part that restarts is back by then.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// What verification said about an attempt.
#[derive(Debug)]
pub(crate) enum Decision {
    Allow(Allow),
    Deny(Reason),
    Ask(Ask),
    /// The appended code was right and is spent; the password is still to be checked (L-52 b).
    CodeAccepted,
}

/// Both locks opened, or a rule lets the user pass: for this attempt, this client, now.
#[derive(Debug)]
pub(crate) struct Allow {
    pub(crate) reason: Reason,
    pub(crate) method: Option<Method>,
    pub(crate) assurance: Option<Assurance>,
    pub(crate) source: Option<Source>,
    /// Twinlock's id of the user; nil for one who is not in the store.
    pub(crate) user: Uuid,
    _checked: (),
}

/// The person is to be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) step: u16,
    pub(crate) expires_unix_ms: i64,
    pub(crate) user: Uuid,
    /// What was wrong with the previous answer.
    pub(crate) previous: Option<Reason>,
}

/// Nothing that could be acted on: the answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verification gave no decision: {}", .0.code())]
pub(crate) struct NoDecision(pub(crate) Reason);

impl Verifier {
    pub(crate) fn new(port: Arc<dyn Verification>, clock: Clock, shutdown: Shutdown, upstream: Upstream) -> Arc<Self> {
        let reports = Arc::new(Semaphore::new(REPORTS_MAX));
        let heard = Mutex::new(Instant::now());
        Arc::new(Self { port, clock, shutdown, upstream, reachable: AtomicBool::new(false), heard, reports })
    }

    /// Lengths of the codes the user could have appended; empty where there is no code.
    pub(crate) async fn appended_forms(
        &self,
        client: &Client,
        subject: &DirectoryRef,
        deadline: Instant,
    ) -> Result<Vec<u32>, NoDecision> {
        let request = AppendedFormsRequest { client: client.name().to_owned(), subject: Some(subject.into()) };
        let (request, left) = within(request, deadline)?;
        Ok(self.heard(left, self.port.appended_forms(request)).await?.code_digits)
    }

    /// The password was right: may the person in?
    pub(crate) async fn begin(
        &self,
        attempt: &mut Attempt,
        code: Option<Secret>,
        deadline: Instant,
    ) -> Result<Decision, NoDecision> {
        self.ask_to_begin(attempt, Primary::Passed, code, deadline).await
    }

    /// The password comes after the code: is the code right (L-52 b)? Never answered with an Allow.
    pub(crate) async fn begin_with_code(
        &self,
        attempt: &mut Attempt,
        code: Secret,
        deadline: Instant,
    ) -> Result<Decision, NoDecision> {
        self.ask_to_begin(attempt, Primary::Pending, Some(code), deadline).await
    }

    async fn ask_to_begin(
        &self,
        attempt: &mut Attempt,
        primary: Primary,
        code: Option<Secret>,
        deadline: Instant,
    ) -> Result<Decision, NoDecision> {
        let code = code.map(proto::common::Secret::from);
        let request =
            BeginRequest { attempt: Some(wire(attempt)), primary: primary.into(), code, wanted_method: String::new() };
        let (request, left) = within(request, deadline)?;
        attempt.known_to_verification = true;
        let outcome = self.heard(left, self.port.begin(request)).await?;
        self.decision(attempt.transaction, &attempt.client, outcome, primary)
    }

    /// The password behind an accepted code was right too.
    pub(crate) async fn complete(&self, attempt: &Attempt, deadline: Instant) -> Result<Decision, NoDecision> {
        let (request, left) = within(CompleteRequest { attempt: Some(wire(attempt)) }, deadline)?;
        let outcome = self.heard(left, self.port.complete(request)).await?;
        self.decision(attempt.transaction, &attempt.client, outcome, Primary::Passed)
    }

    /// The person's answer to a challenge.
    pub(crate) async fn answer(
        &self,
        attempt: &mut Attempt,
        step: u16,
        answer: Secret,
        deadline: Instant,
    ) -> Result<Decision, NoDecision> {
        let request = AnswerRequest {
            transaction_id: attempt.transaction.to_string(),
            step: step.into(),
            client: attempt.client.name().to_owned(),
            answer: Some(answer.into()),
        };
        let (request, left) = within(request, deadline)?;
        attempt.known_to_verification = true;
        let outcome = self.heard(left, self.port.answer(request)).await?;
        self.decision(attempt.transaction, &attempt.client, outcome, Primary::Passed)
    }

    /// Nobody waits any more, or the conversation is dead. Best effort, beside the login.
    pub(crate) fn cancel(self: &Arc<Self>, transaction: TransactionId, reason: Reason) {
        let request = CancelRequest { transaction_id: transaction.to_string(), reason: reason.code().to_owned() };
        let verifier = self.clone();
        self.beside(transaction, move || {
            let (verifier, request) = (verifier.clone(), request.clone());
            async move { verifier.port.cancel(with_deadline(idempotent(request), REPORT_LIMIT)).await.map(drop) }
        });
    }

    /// For the audit: an attempt that ended without verification. Best effort, beside the login.
    pub(crate) fn report(self: &Arc<Self>, attempt: &Attempt, reason: Reason) {
        let request = ReportRequest { attempt: Some(wire(attempt)), reason: reason.code().to_owned() };
        let verifier = self.clone();
        self.beside(attempt.transaction, move || {
            let (verifier, request) = (verifier.clone(), request.clone());
            async move { verifier.port.report(with_deadline(idempotent(request), REPORT_LIMIT)).await.map(drop) }
        });
    }

    /// Whether a login could be decided now, as far as is known.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Asks a verification that has been silent whether it is there, by a question about nobody: it needs the store, like a
    /// login does.
    pub(crate) fn watch(self: &Arc<Self>, some_client: impl Fn() -> Option<String> + Send + 'static) {
        let verifier = self.clone();
        self.shutdown.spawn_until_stopping(async move {
            loop {
                let silent = verifier.heard_at().elapsed() >= SILENCE_MAX;
                if (silent || !verifier.is_reachable())
                    && let Some(client) = some_client()
                {
                    let nobody = proto::common::DirectoryRef {
                        directory: "none".into(),
                        object_id: format!("entryUUID:{}", Uuid::nil()),
                    };
                    let request = AppendedFormsRequest { client, subject: Some(nobody) };
                    let call = verifier.port.appended_forms(with_deadline(idempotent(request), SILENCE_MAX));
                    let _ = verifier.heard(SILENCE_MAX, call).await;
                }
                tokio::time::sleep(SILENCE_MAX / 4).await;
            }
        });
    }

    /// Awaits a call for at most `left`, and remembers whether verification is there.
    async fn heard<T>(
        &self,
        left: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, NoDecision> {
        let begun = Instant::now();
        let answered = tokio::time::timeout(left, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")));
        let failure = answered.as_ref().err().map(Status::code);
        // Whoever refuses a question is there; whoever gives no decision is as good as gone.
        let reachable = !matches!(
            failure,
            Some(
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Unknown
                    | Code::Internal
                    | Code::Cancelled
                    | Code::ResourceExhausted
            )
        );
        match (self.reachable.swap(reachable, Ordering::Relaxed), reachable) {
            (false, true) => tracing::info!(service = crate::NAME, "verification answers"),
            (true, false) => tracing::warn!(service = crate::NAME, code = ?failure, "verification does not answer"),
            _ => {}
        }
        match reachable {
            true => {
                *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                self.upstream.up(begun.elapsed());
            }
            false => self.upstream.down(format!("{:?}", failure.unwrap_or(Code::Unknown))),
        }
        answered.map(Response::into_inner).map_err(|status| {
            NoDecision(match status.code() {
                Code::ResourceExhausted => Reason::Overloaded,
                _ => Reason::VerificationUnavailable,
            })
        })
    }

    fn heard_at(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call that no login waits for, several times if need be.
    fn beside<F, Call>(&self, transaction: TransactionId, call: F)
    where
        F: Fn() -> Call + Send + 'static,
        Call: Future<Output = Result<(), Status>> + Send,
    {
        let Ok(permit) = self.reports.clone().try_acquire_owned() else {
            return lost(transaction);
        };
        self.shutdown.spawn(async move {
            let _permit = permit;
            let begun = Instant::now();
            let mut pause = Duration::from_millis(250);
            loop {
                match tokio::time::timeout(REPORT_LIMIT, call()).await {
                    Ok(Ok(())) => return,
                    _ if begun.elapsed() > REPORT_PATIENCE => return lost(transaction),
                    _ => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(Duration::from_secs(4));
            }
        });
    }

    /// V-02: every way in which this may not be an Allow for this very attempt is no decision.
    fn decision(
        &self,
        transaction: TransactionId,
        client: &Client,
        outcome: Outcome,
        asked: Primary,
    ) -> Result<Decision, NoDecision> {
        let decision = decode(outcome, transaction, client.name(), asked, self.clock.now_ms());
        if decision.is_err() {
            tracing::error!(service = crate::NAME, request_id = %transaction, "verification said what this attempt cannot be told");
        }
        decision
    }
}

fn lost(transaction: TransactionId) {
    tracing::warn!(service = crate::NAME, event = "report_lost", request_id = %transaction, "the end of an attempt could not be reported for the audit");
}

fn decode(
    outcome: Outcome,
    transaction: TransactionId,
    client: &str,
    asked: Primary,
    now_unix_ms: i64,
) -> Result<Decision, NoDecision> {
    const FAULT: Result<Decision, NoDecision> = Err(NoDecision(Reason::InternalError));
    if outcome.transaction_id.parse() != Ok(transaction) {
        return FAULT;
    }
    let user = |id: &str| id.parse().unwrap_or(Uuid::nil());
    match outcome.result {
        Some(outcome::Result::Allow(allow)) => {
            let reason = Reason::from_code(&allow.reason);
            let lets_in = matches!(reason.class(), ResultClass::Success | ResultClass::Bypass);
            if !lets_in || allow.client != client || allow.expires_unix_ms <= now_unix_ms || asked != Primary::Passed {
                return FAULT;
            }
            Ok(Decision::Allow(Allow {
                reason,
                method: Method::from_code(&allow.method),
                assurance: Assurance::from_code(&allow.assurance),
                source: Source::from_code(&allow.source),
                user: user(&allow.user_id),
                _checked: (),
            }))
        }
        Some(outcome::Result::Deny(deny)) => match Reason::from_code(&deny.reason) {
            // A No with the reason of a Yes makes no sense, but it is a No.
            reason if matches!(reason.class(), ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge) => {
                Ok(Decision::Deny(Reason::InternalError))
            }
            reason => Ok(Decision::Deny(reason)),
        },
        Some(outcome::Result::Ask(ask)) if asked == Primary::Passed => {
            let (Some(method), Ok(step)) = (Method::from_code(&ask.method), ask.step.try_into()) else { return FAULT };
            let previous = (!ask.previous.is_empty()).then(|| Reason::from_code(&ask.previous));
            let expires_unix_ms = ask.expires_unix_ms;
            match expires_unix_ms > now_unix_ms {
                true => Ok(Decision::Ask(Ask { method, step, expires_unix_ms, user: user(&ask.user_id), previous })),
                false => FAULT,
            }
        }
        Some(outcome::Result::CodeAccepted(_)) if asked == Primary::Pending => Ok(Decision::CodeAccepted),
        Some(outcome::Result::CodeAccepted(_) | outcome::Result::Ask(_)) | None => FAULT,
    }
}

/// With what is left of the deadline; too little is none. Every call may be sent again to another replica: verification
/// answers a repeated one with its first result (V-02).
fn within<T>(request: T, deadline: Instant) -> Result<(tonic::Request<T>, Duration), NoDecision> {
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
    if left.is_zero() {
        return Err(NoDecision(Reason::VerificationUnavailable));
    }
    Ok((with_deadline(idempotent(request), left), left))
}

fn wire(attempt: &Attempt) -> proto::verification::Attempt {
    proto::verification::Attempt {
        transaction_id: attempt.transaction.to_string(),
        client: attempt.client.name().to_owned(),
        protocol: Protocol::Radius.code().to_owned(),
        subject: attempt.person.as_ref().map(|person| (&person.subject).into()),
        username: attempt.person.as_ref().map_or_else(|| attempt.typed.clone(), |person| person.username.clone()),
        name_form: attempt.person.as_ref().map_or("", |person| NameForm::code(person.name_form)).to_owned(),
        client_ip: attempt.client_ip.to_string(),
        calling_station: attempt.calling_station.clone().unwrap_or_default(),
        can_challenge: attempt.client.can_challenge(),
        service_account: false,
        dialogue: false,
        person_ip: String::new(),
        password_digest: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::verification as wire;

    const NOW: i64 = 1_790_000_000_000;
    const OURS: TransactionId = TransactionId(Uuid::from_u128(7));

    fn allow() -> wire::Allow {
        wire::Allow {
            reason: "valid_code".into(),
            method: "code".into(),
            assurance: "code".into(),
            source: "live".into(),
            client: "vpn".into(),
            expires_unix_ms: NOW + 1,
            user_id: Uuid::from_u128(9).to_string(),
        }
    }

    fn ask() -> wire::Ask {
        let user_id = Uuid::from_u128(9).to_string();
        wire::Ask { method: "code".into(), step: 1, expires_unix_ms: NOW + 1, user_id, ..wire::Ask::default() }
    }

    fn decided(transaction: &str, result: Option<outcome::Result>, asked: Primary) -> Result<Decision, NoDecision> {
        decode(Outcome { transaction_id: transaction.into(), result }, OURS, "vpn", asked, NOW)
    }

    #[test]
    fn an_allow_counts_only_for_its_own_attempt_client_and_time() {
        // V-02, V-75, B-89
        let ours = OURS.to_string();
        let other = Uuid::from_u128(8).to_string();
        let said = |allow: wire::Allow| Some(outcome::Result::Allow(allow));
        assert!(matches!(decided(&ours, said(allow()), Primary::Passed), Ok(Decision::Allow(_))));
        let cases = [
            (other.as_str(), said(allow()), Primary::Passed),
            ("", said(allow()), Primary::Passed),
            (&ours, said(wire::Allow { client: "wifi".into(), ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { expires_unix_ms: NOW, ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { reason: "wrong_code".into(), ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { reason: "let_him_in".into(), ..allow() }), Primary::Passed),
            // The password has not been looked at yet.
            (&ours, said(allow()), Primary::Pending),
            (&ours, Some(outcome::Result::Ask(ask())), Primary::Pending),
            (&ours, None, Primary::Passed),
            (&ours, Some(outcome::Result::CodeAccepted(wire::CodeAccepted {})), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { method: "telepathy".into(), ..ask() })), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { step: 65_536, ..ask() })), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { expires_unix_ms: NOW, ..ask() })), Primary::Passed),
        ];
        for (place, (transaction, result, asked)) in cases.into_iter().enumerate() {
            assert!(decided(transaction, result, asked).is_err(), "case {place}");
        }
    }

    #[test]
    fn a_deny_is_a_no_whatever_its_reason_says() {
        let deny =
            |reason: &str| Some(outcome::Result::Deny(wire::Deny { reason: reason.into(), ..wire::Deny::default() }));
        for (said, understood) in [
            ("reused_code", Reason::ReusedCode),
            ("valid_code", Reason::InternalError),
            ("something_new", Reason::InternalError),
        ] {
            let decision = decided(&OURS.to_string(), deny(said), Primary::Passed);
            assert!(matches!(decision, Ok(Decision::Deny(reason)) if reason == understood), "{said}: {decision:?}");
        }
    }
}
