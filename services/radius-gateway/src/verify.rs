//! The port to verification, and the one place of this part where an Allow comes into being.
//!
//! An [`Allow`] has no constructor: it is what is left of a reply after every check of V-02, or of a pass of `fail-open`, which has
//! its event already. What is unknown, late or meant for somebody else is no decision, and no decision is a No.

use crate::attempt::Attempt;
use data_encoding::BASE64;
use domain::{
    Assurance, DirectoryRef, Language, Method, NameForm, Protocol, Reason, ResultClass, Secret, Source, TransactionId,
};
use fail_open::{Passed, Presence};
use policy::appended::Forms;
use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, AppendedFormsRequest, AskKind, BeginRequest, CancelRequest, CompleteRequest, Outcome,
    PasswordChangedRequest, Primary, ReportRequest, outcome,
};
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::Upstream;
use service_kit::{Clock, Shutdown};
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Code, Response, Status};
use uuid::Uuid;

/// Verification as this part calls it, and whether it answers.
pub(crate) struct Verifier {
    port: Arc<dyn Verification>,
    clock: Clock,
    shutdown: Shutdown,
    upstream: Upstream,
    presence: Arc<Presence>,
    reports: Arc<Semaphore>,
    changes: Changes,
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Outcome>, Status>> + Send + 'a>>;

/// Kept back of every deadline, to answer the client with (V-44).
pub(crate) const MARGIN: Duration = Duration::from_millis(250);
/// A replica that cannot decide now is not the only one: asked again once, after this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Reports under way at once. Beyond it an attempt is missing in the audit, and the log says so.
const REPORTS_MAX: usize = 4_096;
/// A report is tried again for this long: a part that restarts is back by then.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// People whose directory is asked for at once after a change of their password. Beyond it one is not told, and the log says so.
const CHANGES_MAX: usize = 256;
/// How long a directory is asked whose password was changed.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(3_600);

/// A call on its way beside the login, which goes on whether anybody waits for it or not.
pub(crate) struct Beside(Option<JoinHandle<()>>);

impl Beside {
    /// Returns when it is done, after `limit` at the latest. May be dropped at any time.
    pub(crate) async fn done(self, limit: Duration) {
        let Some(call) = self.0 else { return };
        let _ = tokio::time::timeout(limit, call).await;
    }
}

/// What verification is asked about an attempt. A person may take their time to answer: the message is made anew whenever it is sent,
/// and held by nobody.
pub(crate) enum Question {
    /// The password was right, or comes after the code (L-52 b): may the person in?
    Begin { primary: Primary, code: Option<Secret>, wanted: Option<Method> },
    /// The password behind an accepted code was right too.
    Complete,
    /// The person's answer to a challenge. `mark`: SHA-256 of the packet, the same wherever a copy of it lands.
    Answer { step: u16, answer: Secret, mark: Vec<u8> },
}

impl Question {
    /// What is known of the password.
    pub(crate) fn primary(&self) -> Primary {
        match self {
            Self::Begin { primary, .. } => *primary,
            Self::Complete | Self::Answer { .. } => Primary::Passed,
        }
    }

    /// What has no code is answered when a person has done something, and that may take a minute.
    pub(crate) fn may_wait_for_a_person(&self) -> bool {
        matches!(self, Self::Begin { code: None, .. })
    }
}

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
    /// The groups of the client's reply rules that the user is in; `None` = nobody could say.
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) subject: Option<DirectoryRef>,
    _checked: (),
}

/// The person is to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// None for a choice.
    pub(crate) method: Option<Method>,
    pub(crate) kind: AskKind,
    pub(crate) step: u16,
    pub(crate) expires_unix_ms: i64,
    pub(crate) user: Uuid,
    /// What was wrong with the previous answer.
    pub(crate) previous: Option<Reason>,
    /// Approval: what the person finds on the phone; empty = nothing to compare.
    pub(crate) number: String,
    /// Choice: what there is, in order.
    pub(crate) choices: Vec<Method>,
    /// Where something was sent, masked.
    pub(crate) destination: String,
    pub(crate) language: Language,
}

/// Nothing that could be acted on: the answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verification gave no decision: {}", .reason.code())]
pub(crate) struct NoDecision {
    pub(crate) reason: Reason,
    /// Nobody was there, or whoever was has no store: the one failure behind which somebody may be let in (V-40). What was late,
    /// too much or nonsense is none of it (V-41).
    pub(crate) nobody_there: bool,
}

impl NoDecision {
    pub(crate) fn of(reason: Reason) -> Self {
        Self { reason, nobody_there: false }
    }
}

impl Allow {
    /// The other way in which an Allow comes into being: verification is down, the client lets people in, the password was right,
    /// and the event is written (V-40).
    pub(crate) fn while_down(passed: &Passed, attempt: &Attempt) -> Option<Self> {
        let ours = passed.transaction() == attempt.transaction && passed.client() == attempt.client.name();
        ours.then_some(Self {
            reason: Reason::FailOpen,
            method: None,
            assurance: Some(Assurance::None),
            source: Some(Source::FailOpen),
            user: Uuid::nil(),
            groups: None,
            subject: attempt.person.as_ref().map(|person| person.subject.clone()),
            _checked: (),
        })
    }
}

impl Verifier {
    pub(crate) fn new(
        port: Arc<dyn Verification>,
        clock: Clock,
        shutdown: Shutdown,
        upstream: Upstream,
        presence: Arc<Presence>,
    ) -> Arc<Self> {
        let reports = Arc::new(Semaphore::new(REPORTS_MAX));
        Arc::new(Self { port, clock, shutdown, upstream, presence, reports, changes: Changes::default() })
    }

    /// What the user could have appended to the password.
    pub(crate) async fn appended_forms(
        &self,
        attempt: &Attempt,
        subject: &DirectoryRef,
        deadline: Instant,
    ) -> Result<Forms, NoDecision> {
        let request = || AppendedFormsRequest {
            client: attempt.client.name().to_owned(),
            subject: Some(subject.into()),
            person_ip: attempt.person_ip.map(|address| address.to_string()).unwrap_or_default(),
            transaction_id: attempt.transaction.to_string(),
        };
        let reply = self.asked(deadline, |left| self.port.appended_forms(within(request(), left))).await?;
        Ok(Forms {
            code_digits: reply.code_digits,
            temporary_code: reply.temporary_code,
            recovery_code: reply.recovery_code,
            // A method of a newer version is no word here.
            keywords: reply.keywords.iter().filter_map(|word| Method::from_code(word)).collect(),
            code_optional: reply.code_optional,
        })
    }

    /// The password comes after the code: is the code right (L-52 b)? Never answered with an Allow.
    pub(crate) async fn begin_with_code(
        &self,
        attempt: &mut Attempt,
        code: Secret,
        deadline: Instant,
    ) -> Result<Decision, NoDecision> {
        attempt.known_to_verification = true;
        let question = Question::Begin { primary: Primary::Pending, code: Some(code), wanted: None };
        let outcome = self.ask(attempt, &question, deadline).await?;
        self.decision(attempt, outcome, question.primary())
    }

    /// Waits for what becomes of an attempt, perhaps for a person. May be dropped at any time: nobody is asked any more then.
    pub(crate) fn ask<'a>(
        &'a self,
        attempt: &'a Attempt,
        question: &'a Question,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, NoDecision>> + 'a {
        self.asked(deadline, move |left| self.put(attempt, question, left))
    }

    fn put(&self, attempt: &Attempt, question: &Question, left: Duration) -> Answering<'_> {
        match question {
            Question::Begin { primary, code, wanted } => {
                let request = BeginRequest {
                    attempt: Some(wire(attempt).into()),
                    primary: (*primary).into(),
                    code: code.clone().map(proto::common::Secret::from),
                    wanted_method: wanted.map_or("", Method::code).to_owned(),
                    ..BeginRequest::default()
                };
                self.port.begin(within(request, left))
            }
            Question::Complete => self.port.complete(within(CompleteRequest { attempt: Some(wire(attempt)) }, left)),
            Question::Answer { step, answer, mark } => {
                let request = AnswerRequest {
                    transaction_id: attempt.transaction.to_string(),
                    step: (*step).into(),
                    client: attempt.client.name().to_owned(),
                    answer: Some(answer.clone().into()),
                    mark: mark.clone(),
                };
                self.port.answer(within(request, left))
            }
        }
    }

    /// Nobody waits any more, or the conversation is dead. Best effort, beside the login.
    pub(crate) fn cancel(self: &Arc<Self>, transaction: TransactionId, reason: Reason) -> Beside {
        let request = CancelRequest {
            transaction_id: transaction.to_string(),
            reason: reason.code().to_owned(),
            ..CancelRequest::default()
        };
        let verifier = self.clone();
        self.beside(transaction, Told::End, move || {
            let (verifier, request) = (verifier.clone(), request.clone());
            async move { verifier.port.cancel(with_deadline(idempotent(request), REPORT_LIMIT)).await.map(drop) }
        })
    }

    /// Ends an attempt if this question of it is still open. Whether it did: of all who ask, one.
    pub(crate) async fn end_question(&self, transaction: TransactionId, step: u16, reason: Reason) -> bool {
        let request = CancelRequest {
            transaction_id: transaction.to_string(),
            reason: reason.code().to_owned(),
            step: step.into(),
            ..CancelRequest::default()
        };
        let begun = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            let call = self.port.cancel(with_deadline(idempotent(request.clone()), REPORT_LIMIT));
            match tokio::time::timeout(REPORT_LIMIT, call).await {
                Ok(Ok(reply)) => return reply.into_inner().ended,
                _ if begun.elapsed() > REPORT_PATIENCE => {
                    lost(transaction, Told::End);
                    return false;
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }

    /// For the audit: an attempt that ended without verification. Best effort, beside the login.
    pub(crate) fn report(self: &Arc<Self>, attempt: &Attempt, reason: Reason) {
        let request = ReportRequest { attempt: Some(wire(attempt)), reason: reason.code().to_owned() };
        let verifier = self.clone();
        self.beside(attempt.transaction, Told::Report, move || {
            let (verifier, request) = (verifier.clone(), request.clone());
            async move { verifier.port.report(with_deadline(idempotent(request), REPORT_LIMIT)).await.map(drop) }
        });
    }

    /// A home server took another password of this person: nothing of before is remembered (V-52). Best effort, beside the login.
    pub(crate) fn password_changed(self: &Arc<Self>, transaction: TransactionId, client: &str, subject: &DirectoryRef) {
        let request = PasswordChangedRequest { subject: Some(subject.into()), client: client.to_owned() };
        let verifier = self.clone();
        self.beside(transaction, Told::PasswordChange, move || {
            let (verifier, request) = (verifier.clone(), request.clone());
            async move { verifier.port.password_changed(with_deadline(idempotent(request), REPORT_LIMIT)).await.map(drop) }
        });
    }

    /// The same of somebody whom `whose` cannot name yet: it is asked until it says something.
    pub(crate) fn password_changed_of<F>(
        self: &Arc<Self>,
        changed: Changed,
        whose: impl Fn() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Option<Named>> + Send,
    {
        let Changed { transaction, client, name } = changed;
        let asking = match self.changes.enter((client.clone(), name)) {
            Entered::Now(asking) => asking,
            Entered::Before => return,
            Entered::Full => return still_remembered(transaction, &client, Unknown::TooMany),
        };
        let verifier = self.clone();
        self.shutdown.spawn_background(async move {
            let mut pause = Duration::from_secs(1);
            let named = async {
                loop {
                    tokio::time::sleep(pause).await;
                    if let Some(named) = whose().await {
                        return named;
                    }
                    pause = (pause * 2).min(Duration::from_secs(60));
                }
            };
            // Cancel safety: both only ask and wait.
            let named = tokio::select! {
                named = tokio::time::timeout(DIRECTORY_PATIENCE, named) => named.map_err(|_| Unknown::Late),
                () = verifier.shutdown.stopping() => Err(Unknown::Stopping),
            };
            // A change from now on is asked about anew.
            drop(asking);
            match named {
                Ok(Named::As(subject)) => verifier.password_changed(transaction, &client, &subject),
                Ok(Named::Nobody) => {}
                Ok(Named::Several) => still_remembered(transaction, &client, Unknown::Several),
                Err(why) => still_remembered(transaction, &client, why),
            }
        });
    }

    /// Whether a login could be decided now, as far as is known.
    pub(crate) fn is_reachable(&self) -> bool {
        self.presence.is_reachable()
    }

    /// Asks a verification that has been silent whether it is there, by a question about nobody: it needs the store, like a
    /// login does.
    pub(crate) fn watch(self: &Arc<Self>, some_client: impl Fn() -> Option<String> + Send + 'static) {
        let (verifier, teller) = (self.clone(), self.clone());
        let ask = move |limit| {
            let nobody = proto::common::DirectoryRef {
                directory: "none".into(),
                object_id: format!("entryUUID:{}", Uuid::nil()),
            };
            let client = some_client()?;
            let request = AppendedFormsRequest { client, subject: Some(nobody), ..AppendedFormsRequest::default() };
            let verifier = verifier.clone();
            Some(async move {
                let request = with_deadline(idempotent(request), limit);
                verifier.port.appended_forms(request).await.map(drop)
            })
        };
        self.presence.watch(&self.shutdown, ask, move |reachable, code| {
            match reachable {
                true => teller.upstream.up(Duration::ZERO),
                false => teller.upstream.down(format!("{code:?}")),
            }
            tell(reachable, code);
        });
    }

    /// Asks, and once more where a replica says that it cannot decide now: another one may, within the same deadline. Verification
    /// answers a repeated question with its first result (V-02).
    #[expect(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice as long as it waits")]
    fn asked<T, F>(
        &self,
        deadline: Instant,
        put: impl Fn(Duration) -> F + Send,
    ) -> impl Future<Output = Result<T, NoDecision>> + Send
    where
        T: Send,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        async move {
            let mut asked_before = false;
            loop {
                // A block: what was heard is not held on to.
                {
                    let (begun, left) = (Instant::now(), left(deadline)?);
                    let answered = tokio::time::timeout(left, put(left)).await;
                    let heard = self.heard(begun, answered.unwrap_or_else(|_| Err(Status::deadline_exceeded(""))));
                    let nobody_there = matches!(heard, Err(NoDecision { nobody_there: true, .. }));
                    if !nobody_there || asked_before || self.presence.is_down() {
                        return heard;
                    }
                }
                asked_before = true;
                Box::pin(tokio::time::sleep(ASKED_AGAIN_AFTER)).await;
            }
        }
    }

    /// What came of a call, which tells whether verification is there.
    fn heard<T>(&self, begun: Instant, answered: Result<Response<T>, Status>) -> Result<T, NoDecision> {
        let code = answered.as_ref().err().map_or(Code::Ok, Status::code);
        if self.presence.heard(code) {
            tell(self.presence.is_reachable(), code);
        }
        match code {
            Code::Ok => self.upstream.up(begun.elapsed()),
            Code::DeadlineExceeded => {}
            code => self.upstream.down(format!("{code:?}")),
        }
        answered.map(Response::into_inner).map_err(|status| NoDecision {
            reason: match status.code() {
                Code::ResourceExhausted => Reason::Overloaded,
                _ => Reason::VerificationUnavailable,
            },
            nobody_there: status.code() == Code::Unavailable,
        })
    }

    /// Runs a call that no login waits for, several times if need be.
    fn beside<F, Call>(&self, transaction: TransactionId, what: Told, call: F) -> Beside
    where
        F: Fn() -> Call + Send + 'static,
        Call: Future<Output = Result<(), Status>> + Send,
    {
        let Ok(permit) = self.reports.clone().try_acquire_owned() else {
            lost(transaction, what);
            return Beside(None);
        };
        Beside(Some(self.shutdown.spawn(async move {
            let _permit = permit;
            let begun = Instant::now();
            let mut pause = Duration::from_millis(250);
            loop {
                match tokio::time::timeout(REPORT_LIMIT, call()).await {
                    Ok(Ok(())) => return,
                    _ if begun.elapsed() > REPORT_PATIENCE => return lost(transaction, what),
                    _ => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(Duration::from_secs(4));
            }
        })))
    }

    /// V-02: every way in which this may not be an Allow for this very attempt is no decision.
    pub(crate) fn decision(
        &self,
        attempt: &mut Attempt,
        outcome: Outcome,
        asked: Primary,
    ) -> Result<Decision, NoDecision> {
        let (transaction, method) = (attempt.transaction, method(&outcome));
        let decision = decode(outcome, transaction, attempt.client.name(), asked, self.clock.now_ms());
        match &decision {
            Ok(_) => attempt.method = method.or(attempt.method),
            Err(_) => {
                tracing::error!(service = crate::NAME, request_id = %transaction, "verification said what this attempt cannot be told")
            }
        }
        decision
    }
}

fn tell(reachable: bool, code: Code) {
    match reachable {
        true => tracing::info!(service = crate::NAME, "verification answers"),
        false => tracing::warn!(service = crate::NAME, ?code, "verification does not answer"),
    }
}

/// What was asked of the person, or failed, or succeeded.
fn method(outcome: &Outcome) -> Option<Method> {
    Method::from_code(match outcome.result.as_ref()? {
        outcome::Result::Allow(allow) => &allow.method,
        outcome::Result::Deny(deny) => &deny.method,
        outcome::Result::Ask(ask) => &ask.method,
        outcome::Result::CodeAccepted(_) => return None,
    })
}

/// What verification is told beside the login.
#[derive(Clone, Copy)]
enum Told {
    /// How an attempt ended that it does not know.
    Report,
    /// That an attempt is over.
    End,
    /// Whose password is another one.
    PasswordChange,
}

fn lost(transaction: TransactionId, what: Told) {
    match what {
        Told::Report => {
            tracing::warn!(service = crate::NAME, event = "report_lost", request_id = %transaction, "the end of an attempt could not be reported for the audit");
        }
        Told::End => {
            tracing::warn!(service = crate::NAME, event = "cancel_lost", request_id = %transaction, "verification could not be told that nobody waits for an attempt: what it has open ends with its time");
        }
        Told::PasswordChange => {
            tracing::warn!(service = crate::NAME, event = "password_change_not_told", request_id = %transaction, "a person has changed their password at a home server, and verification could not be told: recent logins with the old password count until their time ends");
        }
    }
}

/// Why it is not known whose password is another one.
#[derive(Clone, Copy)]
pub(crate) enum Unknown {
    Late,
    Several,
    TooMany,
    Stopping,
}

pub(crate) fn still_remembered(transaction: TransactionId, client: &str, why: Unknown) {
    let why = match why {
        Unknown::Late => "the directory did not say in time",
        Unknown::Several => "more than one account answers to the name",
        Unknown::TooMany => "too many are asked about at once",
        Unknown::Stopping => "the process stops",
    };
    tracing::warn!(service = crate::NAME, event = "password_change_not_told", request_id = %transaction, client, why, "a person has changed their password at a home server, and it is not known who: recent logins with the old password count until their time ends");
}

/// Whom a name leads to.
pub(crate) enum Named {
    As(DirectoryRef),
    Nobody,
    Several,
}

/// A password that a home server has taken of somebody who is known by name alone.
pub(crate) struct Changed {
    pub(crate) transaction: TransactionId,
    pub(crate) client: String,
    pub(crate) name: String,
}

/// Whom the directories are asked about, by client and name: each once, however often they change their password meanwhile.
#[derive(Default)]
struct Changes(Arc<Mutex<HashSet<(String, String)>>>);

enum Entered {
    Now(Asking),
    Before,
    Full,
}

/// Leaves when it is dropped.
struct Asking {
    changes: Arc<Mutex<HashSet<(String, String)>>>,
    who: (String, String),
}

impl Changes {
    fn enter(&self, who: (String, String)) -> Entered {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.contains(&who) {
            return Entered::Before;
        }
        if asked.len() >= CHANGES_MAX {
            return Entered::Full;
        }
        asked.insert(who.clone());
        Entered::Now(Asking { changes: self.0.clone(), who })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.who);
    }
}

fn decode(
    outcome: Outcome,
    transaction: TransactionId,
    client: &str,
    asked: Primary,
    now_unix_ms: i64,
) -> Result<Decision, NoDecision> {
    const FAULT: Result<Decision, NoDecision> = Err(NoDecision { reason: Reason::InternalError, nobody_there: false });
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
                groups: Some(allow.groups),
                subject: allow.subject.and_then(|subject| subject.try_into().ok()),
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
            match question(ask, user).filter(|ask| ask.expires_unix_ms > now_unix_ms) {
                Some(ask) => Ok(Decision::Ask(ask)),
                None => FAULT,
            }
        }
        Some(outcome::Result::CodeAccepted(_)) if asked == Primary::Pending => Ok(Decision::CodeAccepted),
        Some(outcome::Result::CodeAccepted(_) | outcome::Result::Ask(_)) | None => FAULT,
    }
}

/// `None` for what this version does not know: no part of a question may be guessed (V-75).
fn question(ask: proto::verification::Ask, user: fn(&str) -> Uuid) -> Option<Ask> {
    let kind = AskKind::try_from(ask.kind).ok().filter(|kind| *kind != AskKind::Unspecified)?;
    let method = match ask.method.as_str() {
        "" if matches!(kind, AskKind::Choice | AskKind::NewPin | AskKind::NewPinAgain) => None,
        code => Some(Method::from_code(code)?),
    };
    let choices = ask.choices.iter().map(|code| Method::from_code(code)).collect::<Option<Vec<_>>>()?;
    if kind == AskKind::Choice && choices.is_empty() {
        return None;
    }
    Some(Ask {
        method,
        kind,
        step: ask.step.try_into().ok()?,
        expires_unix_ms: ask.expires_unix_ms,
        user: user(&ask.user_id),
        previous: (!ask.previous.is_empty()).then(|| Reason::from_code(&ask.previous)),
        number: ask.number,
        choices,
        destination: ask.destination,
        language: Language::new(&ask.language).unwrap_or_else(|_| Language::english()),
    })
}

/// What is left of the deadline; too little is none.
fn left(deadline: Instant) -> Result<Duration, NoDecision> {
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
    match left.is_zero() {
        true => Err(NoDecision::of(Reason::VerificationUnavailable)),
        false => Ok(left),
    }
}

/// Every call may be sent again to another replica: verification answers a repeated one with its first result (V-02).
fn within<T>(request: T, left: Duration) -> tonic::Request<T> {
    with_deadline(idempotent(request), left)
}

fn wire(attempt: &Attempt) -> proto::verification::Attempt {
    let unresolved = attempt.absent.as_deref().unwrap_or(&attempt.typed);
    let stamp = attempt.person.as_ref().and_then(|it| it.password_stamp);
    proto::verification::Attempt {
        transaction_id: attempt.transaction.to_string(),
        client: attempt.client.name().to_owned(),
        protocol: Protocol::Radius.code().to_owned(),
        subject: attempt.person.as_ref().map(|person| (&person.subject).into()),
        username: attempt.person.as_ref().map_or(unresolved, |person| &person.username).to_owned(),
        name_form: attempt.person.as_ref().map_or("", |person| NameForm::code(person.name_form)).to_owned(),
        client_ip: attempt.client_ip.to_string(),
        calling_station: attempt.calling_station.as_deref().unwrap_or_default().to_owned(),
        can_challenge: attempt.asks,
        service_account: false,
        dialogue: false,
        person_ip: attempt.person_ip.map(|address| address.to_string()).unwrap_or_default(),
        password_digest: attempt.password_digest.to_vec(),
        proven_absent: attempt.absent.is_some(),
        password_stamp: stamp.map(|it| BASE64.encode(&it)).unwrap_or_default(),
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
            ..wire::Allow::default()
        }
    }

    fn ask() -> wire::Ask {
        let user_id = Uuid::from_u128(9).to_string();
        let kind = wire::AskKind::Code.into();
        wire::Ask { method: "code".into(), kind, step: 1, expires_unix_ms: NOW + 1, user_id, ..wire::Ask::default() }
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
            (&ours, Some(outcome::Result::Ask(wire::Ask { method: String::new(), ..ask() })), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { kind: 0, ..ask() })), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { kind: 99, ..ask() })), Primary::Passed),
            (
                &ours,
                Some(outcome::Result::Ask(wire::Ask { choices: vec!["telepathy".into()], ..ask() })),
                Primary::Passed,
            ),
            (
                &ours,
                Some(outcome::Result::Ask(wire::Ask { kind: wire::AskKind::Choice.into(), ..ask() })),
                Primary::Passed,
            ),
            (&ours, Some(outcome::Result::Ask(wire::Ask { step: 65_536, ..ask() })), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask { expires_unix_ms: NOW, ..ask() })), Primary::Passed),
        ];
        for (place, (transaction, result, asked)) in cases.into_iter().enumerate() {
            assert!(decided(transaction, result, asked).is_err(), "case {place}");
        }
    }

    #[test]
    fn a_directory_is_asked_about_one_person_once_and_about_so_many_at_most() {
        // V-52
        let changes = Changes::default();
        let who = |client: &str, name: usize| (client.to_owned(), name.to_string());
        let first = changes.enter(who("vpn", 0));
        assert!(matches!(first, Entered::Now(_)));
        assert!(matches!(changes.enter(who("vpn", 0)), Entered::Before));
        let mut others: Vec<_> = (1..CHANGES_MAX).map(|name| changes.enter(who("vpn", name))).collect();
        assert!(others.iter().all(|entered| matches!(entered, Entered::Now(_))));
        assert!(matches!(changes.enter(who("wifi", 0)), Entered::Full));
        others.pop();
        assert!(matches!(changes.enter(who("wifi", 0)), Entered::Now(_)), "another client's is another's");
        drop(first);
        assert!(matches!(changes.enter(who("vpn", 0)), Entered::Now(_)), "told, and changed once more");
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
