//! A sign-in from its first to its last word: the password, verification's decision, one log line. To the portal itself, or to an
//! application that asks by the API (FC-05).

use crate::app::{App, PASSWORD_LIMIT, VERIFICATION_LIMIT, begun_ms, within};
use crate::metrics::{CLIENT, Ended};
use crate::session::{self, Stage};
use domain::settings;
use domain::{Assurance, Method, Protocol, Reason, ResultClass, Secret, TransactionId};
use proto::directory::{CheckRequest, Person, ResolveRequest};
use proto::user_store::Session;
use proto::verification::{
    AnswerRequest, Ask, AskKind, Attempt as WireAttempt, AwaitRequest, BeginRequest, CancelRequest, Outcome, Primary,
    ReportRequest, outcome,
};
use service_kit::grpc::idempotent;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// For the audit, nobody waits longer.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct Attempt {
    pub transaction: TransactionId,
    asker: Asker,
    from: IpAddr,
    /// As typed; the directory's name once it is known.
    typed: String,
    person: Option<Person>,
    first: Option<First>,
    rounds: u32,
    /// The one that was asked for, or used.
    method: Option<Method>,
}

/// As long as any name in a directory, in octets.
pub(crate) const NAME_LENGTH_MAX: usize = 512;

/// Can it be somebody's?
pub(crate) fn is_a_name(typed: &str) -> bool {
    !typed.is_empty() && typed.len() <= NAME_LENGTH_MAX && !typed.chars().any(char::is_control)
}

/// Whom the sign-in is for.
#[derive(Clone)]
pub(crate) struct Asker {
    /// As the settings name it.
    client: String,
    protocol: Protocol,
    /// Who checks the password; empty = the first directory of the settings.
    directory: String,
    /// Where the person is, as the application says.
    pub person: Option<IpAddr>,
}

impl Asker {
    pub fn portal() -> Self {
        Self { client: CLIENT.to_owned(), protocol: Protocol::Portal, directory: String::new(), person: None }
    }

    pub fn application(client: &settings::Client) -> Self {
        let directory = client.target.to_string();
        Self { client: client.name.to_string(), protocol: Protocol::Api, directory, person: None }
    }
}

/// What became of the password.
#[derive(Clone, Copy)]
struct First {
    right: bool,
    took: Option<Duration>,
}

/// What verification said.
#[derive(Debug)]
pub(crate) enum Verdict {
    Allow(Allow),
    Ask(Box<Ask>),
    /// And the method that failed, where one ran.
    Deny(Reason, String),
}

/// A decisive Allow for one attempt. Made by [`Attempt::verdict`] only, after every check of V-02.
#[derive(Debug)]
pub(crate) struct Allow {
    pub reason: Reason,
    pub method: Option<Method>,
    pub assurance: String,
    pub source: String,
    pub user_id: String,
}

impl Allow {
    /// Answers to questions prove as little as a password does (V-86), and so does what this version does not know.
    fn stage(&self) -> Stage {
        let proven = Assurance::from_code(&self.assurance).is_some_and(|assurance| assurance > Assurance::None);
        if proven && self.method != Some(Method::Questions) { Stage::Full } else { Stage::Answers }
    }
}

impl Attempt {
    pub fn begin(app: &App, from: IpAddr, typed: &str) -> Self {
        Self::new(Asker::portal(), app.new_transaction(), from, typed)
    }

    pub fn new(asker: Asker, transaction: TransactionId, from: IpAddr, typed: &str) -> Self {
        tracing::Span::current().record("twinlock.request_id", tracing::field::display(transaction));
        Self { transaction, asker, from, typed: typed.to_owned(), person: None, first: None, rounds: 1, method: None }
    }

    /// A later round of an application's: who it is about is known to verification.
    pub fn later(asker: Asker, transaction: TransactionId, from: IpAddr, step: u32) -> Self {
        Self { rounds: step, ..Self::new(asker, transaction, from, "") }
    }

    /// The one whose code is waited for.
    pub fn resume(session: &Session, transaction: TransactionId, from: IpAddr) -> Self {
        tracing::Span::current().record("twinlock.request_id", tracing::field::display(transaction));
        let person =
            Person { subject: session.subject.clone(), username: session.username.clone(), ..Person::default() };
        Self {
            transaction,
            asker: Asker::portal(),
            from,
            typed: session.username.clone(),
            person: Some(person),
            first: Some(First { right: true, took: None }),
            rounds: session.step.max(1),
            method: session::asked(session).and_then(|ask| Method::from_code(&ask.method)),
        }
    }

    pub fn client(&self) -> &str {
        &self.asker.client
    }

    /// One name, one password, at most one bind (V-86). The reason of a refusal comes back.
    pub async fn check_password(&mut self, app: &App, password: Secret) -> Result<Person, Reason> {
        let begun = Instant::now();
        let request = CheckRequest {
            directory: self.asker.directory.clone(),
            name: self.typed.clone(),
            password: Some(password.into()),
        };
        let answered = within(PASSWORD_LIMIT, request, |request| app.deps.password_check.check(request)).await;
        let reply = answered.map_err(|status| unasked(&status))?;
        self.first = Some(First { right: reply.reason.is_empty(), took: Some(begun.elapsed()) });
        self.known(reply.person, &reply.reason)
    }

    /// Who is meant, by somebody who has checked the password already.
    pub async fn find(&mut self, app: &App) -> Result<(), Reason> {
        let request = idempotent(ResolveRequest { directory: self.asker.directory.clone(), name: self.typed.clone() });
        let answered = within(PASSWORD_LIMIT, request, |request| app.deps.password_check.resolve(request)).await;
        let reply = answered.map_err(|status| unasked(&status))?;
        self.known(reply.person, &reply.reason).map(drop)
    }

    /// Whom the directory means, or why nobody.
    fn known(&mut self, person: Option<Person>, reason: &str) -> Result<Person, Reason> {
        self.person = person.filter(|person| person.subject.is_some());
        match (reason, &self.person) {
            ("", Some(person)) => Ok(person.clone()),
            ("", None) => Err(Reason::InternalError),
            (reason, _) => Err(refusal(Reason::from_code(reason))),
        }
    }

    /// The password was right: what now? By the method that is wanted, if there is a choice.
    pub async fn decide(&self, app: &App, wanted: Option<Method>) -> Result<Verdict, Reason> {
        let request = BeginRequest {
            attempt: Some(self.on_the_wire().into()),
            primary: Primary::Passed.into(),
            wanted_method: wanted.map_or("", Method::code).to_owned(),
            vouched: self.first.is_none(),
            ..BeginRequest::default()
        };
        let call = within(VERIFICATION_LIMIT, idempotent(request), |request| app.deps.verification.begin(request));
        self.verdict(app, call.await)
    }

    pub async fn answer(&self, app: &App, step: u32, code: Secret) -> Result<Verdict, Reason> {
        let request = AnswerRequest {
            transaction_id: self.transaction.to_string(),
            step,
            client: self.asker.client.clone(),
            answer: Some(code.into()),
            // Of this one post, which the channel may send on to another replica.
            mark: app.new_transaction().0.into_bytes().to_vec(),
        };
        let call = within(VERIFICATION_LIMIT, idempotent(request), |request| app.deps.verification.answer(request));
        self.verdict(app, call.await)
    }

    /// Has the person answered on the phone? Waits a while for it; still open is the same question again.
    pub async fn wait(&self, app: &App, step: u32, patience: Duration) -> Result<Verdict, Reason> {
        let request = AwaitRequest {
            transaction_id: self.transaction.to_string(),
            step,
            client: self.asker.client.clone(),
            wait_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
        };
        let limit = patience + VERIFICATION_LIMIT;
        let call = within(limit, idempotent(request), |request| app.deps.verification.r#await(request));
        self.verdict(app, call.await)
    }

    /// The person gave up. The last word, where there was none yet.
    pub async fn cancelled(self, app: &App) {
        let reason = Reason::UserCancelled;
        let request = CancelRequest {
            transaction_id: self.transaction.to_string(),
            reason: reason.code().to_owned(),
            client: self.asker.client.clone(),
            ..CancelRequest::default()
        };
        let cancelled = within(REPORT_LIMIT, request, |request| app.deps.verification.cancel(request)).await;
        let ended = match cancelled {
            Ok(reply) => reply.ended,
            Err(status) => {
                tracing::debug!(code = ?status.code(), "a cancellation did not reach verification");
                // The portal's own was there; an application may name any.
                self.asker.protocol == Protocol::Portal
            }
        };
        if ended {
            self.ended(app, reason, None);
        }
    }

    /// It ended before verification was asked: for the audit, and the last word.
    pub async fn failed_first(self, app: &App, reason: Reason) {
        let request = ReportRequest { attempt: Some(self.on_the_wire()), reason: reason.code().to_owned() };
        if let Err(status) = within(REPORT_LIMIT, request, |request| app.deps.verification.report(request)).await {
            tracing::warn!(
                event = "report_lost",
                request_id = %self.transaction,
                code = ?status.code(),
                "an attempt could not be reported for the audit"
            );
        }
        self.ended(app, reason, None);
    }

    /// Which method failed, where verification said so.
    pub fn denied_by(mut self, app: &App, reason: Reason, method: &str) {
        self.method = Method::from_code(method).or(self.method);
        self.ended(app, reason, None);
    }

    pub fn denied(self, app: &App, reason: Reason) {
        self.ended(app, reason, None);
    }

    /// Both locks are open: how far. The user must be the one who was asked.
    pub fn allowed(self, app: &App, allow: Allow, asked: &str) -> Result<Stage, Reason> {
        if allow.user_id != asked {
            tracing::error!(request_id = %self.transaction, "an Allow is for another user");
            self.ended(app, Reason::InternalError, None);
            return Err(Reason::InternalError);
        }
        self.ended(app, allow.reason, Some(&allow));
        Ok(allow.stage())
    }

    /// An application's own sign-in, which a rule may open too.
    pub fn let_in(mut self, app: &App, allow: &Allow) {
        self.method = allow.method;
        self.ended(app, allow.reason, Some(allow));
    }

    /// The one log line of an attempt.
    fn ended(self, app: &App, reason: Reason, allow: Option<&Allow>) {
        let first = self.first;
        let second = first.is_none_or(|first| first.right).then_some(self.method).flatten();
        let total_ms = begun_ms(self.transaction).map_or(0, |begun| app.now_ms().saturating_sub(begun).max(0));
        let person = self.person.as_ref();
        tracing::info!(
            event = "authentication",
            service = "portal",
            request_id = %self.transaction,
            r#ref = self.transaction.short(),
            protocol = self.asker.protocol.code(),
            client = self.asker.client,
            client_ip = %self.from,
            user = person.map(|person| person.username.as_str()),
            name_form = person.map(|person| person.name_form.as_str()).filter(|form| !form.is_empty()),
            result = reason.class().code(),
            reason = reason.code(),
            first.result = first.map(|first| if first.right { "ok" } else { "refused" }),
            first.ms = first.and_then(|first| first.took).map(|took| took.as_millis() as u64),
            second.method = second.map(Method::code),
            assurance = allow.map(|allow| allow.assurance.as_str()),
            source = allow.map(|allow| allow.source.as_str()),
            rounds = self.rounds,
            ms = total_ms,
            "sign-in ended"
        );
        app.metrics.attempt_ended(&Ended {
            client: &self.asker.client,
            protocol: self.asker.protocol,
            reason,
            method: allow.map_or(second, |allow| allow.method),
            password_was_right: first.is_some_and(|first| first.right),
            first: first.and_then(|first| first.took),
            total: Duration::from_millis(total_ms.unsigned_abs()),
        });
    }

    /// V-02: every way in which this is no Allow for this very attempt is a No. Nobody enters the portal by a rule: only a live second
    /// factor counts (V-84, V-86).
    fn verdict(&self, app: &App, answered: Result<Outcome, tonic::Status>) -> Result<Verdict, Reason> {
        let ours = self.transaction;
        let outcome = answered.map_err(|status| {
            tracing::warn!(code = ?status.code(), "verification cannot be asked");
            match status.code() {
                tonic::Code::ResourceExhausted => Reason::Overloaded,
                _ => Reason::VerificationUnavailable,
            }
        })?;
        let fault = |what| {
            tracing::error!(request_id = %ours, what, "an answer of verification is not for this attempt");
            Reason::InternalError
        };
        if outcome.transaction_id.parse() != Ok(ours) {
            return Err(fault("transaction"));
        }
        match outcome.result {
            Some(outcome::Result::Allow(allow)) => {
                let reason = Reason::from_code(&allow.reason);
                let in_time = allow.expires_unix_ms > app.now_ms();
                let counts = match self.asker.protocol {
                    Protocol::Api => matches!(reason.class(), ResultClass::Success | ResultClass::Bypass),
                    _ => reason.class() == ResultClass::Success && !allow.user_id.is_empty(),
                };
                if !counts || allow.client != self.asker.client || !in_time {
                    return Err(fault("allow"));
                }
                Ok(Verdict::Allow(Allow {
                    reason,
                    method: Method::from_code(&allow.method),
                    assurance: allow.assurance,
                    source: allow.source,
                    user_id: allow.user_id,
                }))
            }
            Some(outcome::Result::Ask(ask)) => match ask.kind() {
                // A question of a later version cannot be shown (V-75).
                AskKind::Unspecified => Err(fault("question")),
                _ => Ok(Verdict::Ask(Box::new(ask))),
            },
            Some(outcome::Result::Deny(deny)) => {
                Ok(Verdict::Deny(refusal(Reason::from_code(&deny.reason)), deny.method))
            }
            Some(outcome::Result::CodeAccepted(_)) | None => Err(fault("kind")),
        }
    }

    fn on_the_wire(&self) -> WireAttempt {
        let person = self.person.as_ref();
        let place = match self.asker.protocol {
            Protocol::Api => self.asker.person,
            _ => Some(self.from),
        };
        let text = |address: Option<IpAddr>| address.map(|ip| ip.to_string()).unwrap_or_default();
        WireAttempt {
            transaction_id: self.transaction.to_string(),
            client: self.asker.client.clone(),
            protocol: self.asker.protocol.code().to_owned(),
            subject: person.and_then(|person| person.subject.clone()),
            username: person.map_or_else(|| self.typed.clone(), |person| person.username.clone()),
            name_form: person.map(|person| person.name_form.clone()).unwrap_or_default(),
            client_ip: self.from.to_string(),
            calling_station: text(self.asker.person),
            can_challenge: true,
            service_account: false,
            dialogue: true,
            person_ip: text(place),
            password_digest: Vec::new(),
            proven_absent: false,
            password_stamp: person.map(|person| person.password_stamp.clone()).unwrap_or_default(),
        }
    }
}

/// The gateway that asks the directory gave no answer.
fn unasked(status: &tonic::Status) -> Reason {
    tracing::warn!(code = ?status.code(), "the directory cannot be asked");
    match status.code() {
        tonic::Code::ResourceExhausted => Reason::Overloaded,
        tonic::Code::DeadlineExceeded => Reason::DirectoryTimeout,
        _ => Reason::DirectoryError,
    }
}

/// A No with the reason of a Yes makes no sense, but it is a No.
fn refusal(reason: Reason) -> Reason {
    match reason.class() {
        ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge => Reason::InternalError,
        _ => reason,
    }
}
