//! The port to verification, and the one place of this part where an Allow comes into being.
//!
//! An [`Allow`] has no constructor: it is what is left of a reply after every check of V-02, or of a pass of `fail-open`, which has
//! its event already. Whatever is unknown, late or meant
//! for somebody else is [`Unavailable`], never an Allow.

use domain::{DirectoryRef, Method, NameForm, Protocol, Reason, ResultClass, Secret, Source, TransactionId};
use fail_open::{Passed, Presence};
use policy::appended::Forms;
use proto::verification::verification_server::Verification;
use proto::verification::{
    AppendedFormsRequest, Attempt, BeginRequest, CancelRequest, CompleteRequest, Outcome, PasswordChangedRequest,
    Primary, ReportRequest, outcome,
};
use service_kit::health::{Health, Upstream};
use service_kit::{Clock, Shutdown};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// Verification as this part calls it.
#[derive(Clone)]
pub struct Verifier {
    port: Arc<dyn Verification>,
    clock: Clock,
    upstream: Upstream,
    presence: Arc<Presence>,
}

/// Kept back of every deadline, to answer the client with (V-44).
pub const MARGIN: Duration = Duration::from_millis(250);
/// A replica that cannot decide now is not the only one: asked again once, after this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// An attempt as verification is told of it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub transaction: TransactionId,
    /// Name of the client in the settings.
    pub client: String,
    pub client_ip: IpAddr,
    /// The person's own address, if the client's rule knows one (V-54).
    pub person_ip: Option<IpAddr>,
    /// Stands for the password that was right (V-32); empty where nobody wants it.
    pub password_digest: Vec<u8>,
    /// When the directory says that the password was changed (V-52).
    pub password_stamp: Option<String>,
    /// Absent where the name could not be resolved.
    pub entry: Option<DirectoryRef>,
    /// The directory's canonical name; what was typed where there is none.
    pub username: String,
    pub name_form: Option<NameForm>,
    pub service_account: bool,
}

/// A decisive Allow for one attempt, decoded and checked.
#[derive(Debug)]
pub struct Allow {
    transaction: TransactionId,
    reason: Reason,
    method: Option<Method>,
    assurance: String,
    source: Option<Source>,
    /// Twinlock's id of the user.
    user_id: Option<String>,
}

/// What verification said about an attempt.
#[derive(Debug)]
pub enum Verdict {
    Allow(Allow),
    Deny {
        reason: Reason,
        /// What failed, if anything was asked of the person.
        method: Option<Method>,
    },
    /// The appended code was right and is spent; the password is still to be checked (L-52 b).
    CodeAccepted,
}

/// Nothing that could be acted on: the answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verification gave no decision: {}", .reason.code())]
pub struct Unavailable {
    pub reason: Reason,
    /// Nobody was there, or whoever was has no store: the one failure behind which somebody may be let in (V-40). What was late,
    /// too much or nonsense is none of it (V-41).
    pub nobody_there: bool,
}

impl Unavailable {
    fn because(reason: Reason) -> Self {
        Self { reason, nobody_there: false }
    }
}

impl Verifier {
    pub fn new(port: Arc<dyn Verification>, clock: Clock, health: &Health, presence: Arc<Presence>) -> Self {
        let upstream = health.upstream("verification", "verification");
        Self { port, clock, upstream, presence }
    }

    /// Asks a verification that has been silent whether it is there, by a question about nobody: it needs the store, like a
    /// login does.
    pub fn watch(&self, shutdown: &Shutdown, some_client: impl Fn() -> Option<String> + Send + 'static) {
        let (verifier, teller) = (self.clone(), self.clone());
        let ask = move |limit| {
            let nobody = proto::common::DirectoryRef {
                directory: "none".into(),
                object_id: format!("entryUUID:{}", uuid::Uuid::nil()),
            };
            let client = some_client()?;
            let request = AppendedFormsRequest { client, subject: Some(nobody), ..AppendedFormsRequest::default() };
            let verifier = verifier.clone();
            Some(async move {
                let request = service_kit::grpc::idempotent(tonic::Request::new(request));
                verifier.port.appended_forms(service_kit::grpc::with_deadline(request, limit)).await.map(drop)
            })
        };
        self.presence.watch(shutdown, ask, move |reachable, code| {
            match reachable {
                true => teller.upstream.up(Duration::ZERO),
                false => teller.upstream.down(format!("{code:?}")),
            }
            tell(reachable, code);
        });
    }

    /// What the user could have appended to the password.
    pub async fn appended_forms(&self, subject: &Subject, deadline: Instant) -> Result<Forms, Unavailable> {
        let request = || AppendedFormsRequest {
            client: subject.client.clone(),
            subject: subject.entry.as_ref().map(Into::into),
            person_ip: subject.person_ip(),
            transaction_id: subject.transaction.to_string(),
        };
        let reply = self.asked(request, deadline, |request| self.port.appended_forms(request)).await?;
        Ok(Forms {
            code_digits: reply.code_digits,
            temporary_code: reply.temporary_code,
            recovery_code: reply.recovery_code,
            // A method of a newer version is no word here.
            keywords: reply.keywords.iter().filter_map(|word| Method::from_code(word)).collect(),
            code_optional: reply.code_optional,
        })
    }

    /// The password was right: may the person in?
    pub async fn begin(
        &self,
        subject: &Subject,
        code: Option<Secret>,
        wanted: Option<Method>,
        deadline: Instant,
    ) -> Result<Verdict, Unavailable> {
        self.ask_to_begin(subject, Primary::Passed, code, wanted, deadline).await
    }

    /// The password comes after the code: is the code right (L-52 b)? Never answered with an Allow.
    pub async fn begin_with_code(
        &self,
        subject: &Subject,
        code: Secret,
        deadline: Instant,
    ) -> Result<Verdict, Unavailable> {
        self.ask_to_begin(subject, Primary::Pending, Some(code), None, deadline).await
    }

    async fn ask_to_begin(
        &self,
        subject: &Subject,
        primary: Primary,
        code: Option<Secret>,
        wanted: Option<Method>,
        deadline: Instant,
    ) -> Result<Verdict, Unavailable> {
        let request = || BeginRequest {
            attempt: Some(subject.attempt().into()),
            primary: primary.into(),
            code: code.clone().map(proto::common::Secret::from),
            wanted_method: wanted.map_or("", Method::code).to_owned(),
            ..BeginRequest::default()
        };
        let outcome = self.asked(request, deadline, |request| self.port.begin(request)).await?;
        self.verdict(subject, outcome, primary)
    }

    /// The password behind an accepted code was right too.
    pub async fn complete(&self, subject: &Subject, deadline: Instant) -> Result<Verdict, Unavailable> {
        let request = || CompleteRequest { attempt: Some(subject.attempt()) };
        let outcome = self.asked(request, deadline, |request| self.port.complete(request)).await?;
        self.verdict(subject, outcome, Primary::Passed)
    }

    /// Nobody waits any more (L-13). The report that follows is the attempt's last event: an Allow still under way cannot be
    /// committed after it.
    pub async fn cancel(&self, subject: &Subject, reason: Reason) {
        let request = CancelRequest {
            transaction_id: subject.transaction.to_string(),
            reason: reason.code().to_owned(),
            ..CancelRequest::default()
        };
        let call = self.port.cancel(service_kit::grpc::with_deadline(request, REPORT_LIMIT));
        let ended = tokio::time::timeout(REPORT_LIMIT, call).await;
        if !matches!(ended, Ok(Ok(_))) {
            tracing::debug!(request_id = %subject.transaction, "a cancellation did not reach verification");
        }
    }

    /// For the audit: an attempt that ended before the second factor. Best effort.
    pub async fn report(&self, subject: &Subject, reason: Reason) {
        let request = ReportRequest { attempt: Some(subject.attempt()), reason: reason.code().to_owned() };
        let call = self.port.report(service_kit::grpc::with_deadline(request, REPORT_LIMIT));
        let ended = tokio::time::timeout(REPORT_LIMIT, call).await;
        if !matches!(ended, Ok(Ok(_))) {
            tracing::warn!(
                event = "report_lost",
                request_id = %subject.transaction,
                reason = reason.code(),
                "an attempt could not be reported for the audit"
            );
        }
    }

    /// The directory took another password of this person: nothing of before is remembered (L-14, V-52).
    pub async fn password_changed(&self, subject: &DirectoryRef, client: &str) {
        let deadline = Instant::now() + REPORT_LIMIT;
        let request = || PasswordChangedRequest { subject: Some(subject.into()), client: client.to_owned() };
        if self.asked(request, deadline, |request| self.port.password_changed(request)).await.is_err() {
            password_change_lost(client, &format_args!("verification did not take it for {}", subject.id));
        }
    }

    /// Asks, and once more where a replica says that it cannot decide now: another one may, within the same deadline. Verification
    /// answers a repeated question with its first result (V-02).
    async fn asked<M, T, F>(
        &self,
        message: impl Fn() -> M,
        deadline: Instant,
        call: impl Fn(tonic::Request<M>) -> F,
    ) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        match self.heard(call(within(message(), deadline)?)).await {
            Err(Unavailable { nobody_there: true, .. }) if !self.presence.is_down() => {}
            answered => return answered,
        }
        tokio::time::sleep(ASKED_AGAIN_AFTER).await;
        self.heard(call(within(message(), deadline)?)).await
    }

    async fn heard<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Unavailable> {
        let asked = Instant::now();
        let reply = call.await;
        let code = reply.as_ref().err().map_or(Code::Ok, Status::code);
        if self.presence.heard(code) {
            tell(self.presence.is_reachable(), code);
        }
        match code {
            Code::Ok => self.upstream.up(asked.elapsed()),
            // A person may take all the time there is.
            Code::DeadlineExceeded => {}
            code => self.upstream.down(format!("{code:?}")),
        }
        reply.map(tonic::Response::into_inner).map_err(|status| Unavailable {
            reason: match status.code() {
                Code::ResourceExhausted => Reason::Overloaded,
                _ => Reason::VerificationUnavailable,
            },
            nobody_there: status.code() == Code::Unavailable,
        })
    }

    /// V-02: every way in which this may not be an Allow for this very attempt is Unavailable.
    fn verdict(&self, subject: &Subject, outcome: Outcome, asked: Primary) -> Result<Verdict, Unavailable> {
        let fault = Unavailable::because(Reason::InternalError);
        if outcome.transaction_id.parse() != Ok(subject.transaction) {
            tracing::error!(request_id = %subject.transaction, "verification answered for another transaction");
            return Err(fault);
        }
        match outcome.result {
            Some(outcome::Result::Allow(allow)) => {
                let reason = Reason::from_code(&allow.reason);
                let lets_in = matches!(reason.class(), ResultClass::Success | ResultClass::Bypass);
                let ours = allow.client == subject.client && allow.expires_unix_ms > self.clock.now_ms();
                if !lets_in || !ours || asked != Primary::Passed {
                    tracing::error!(request_id = %subject.transaction, "an Allow is not for this attempt");
                    return Err(fault);
                }
                Ok(Verdict::Allow(Allow {
                    transaction: subject.transaction,
                    reason,
                    method: Method::from_code(&allow.method),
                    assurance: allow.assurance,
                    source: Source::from_code(&allow.source),
                    user_id: Some(allow.user_id).filter(|user_id| !user_id.is_empty()),
                }))
            }
            Some(outcome::Result::Deny(deny)) => match Reason::from_code(&deny.reason) {
                // A method that failed for technical reasons is a No about the person; said as anything else it would tell that the
                // password was right (D7, L-41).
                reason if matches!(reason.class(), ResultClass::Error) && !reason.is_technical() => {
                    Err(Unavailable::because(reason))
                }
                // A No with the reason of a Yes makes no sense, but it is a No.
                reason if matches!(reason.class(), ResultClass::Success | ResultClass::Bypass) => Err(fault),
                reason => Ok(Verdict::Deny { reason, method: Method::from_code(&deny.method) }),
            },
            Some(outcome::Result::CodeAccepted(_)) if asked == Primary::Pending => Ok(Verdict::CodeAccepted),
            // A question cannot be shown on LDAP, and we said so.
            Some(outcome::Result::CodeAccepted(_) | outcome::Result::Ask(_)) | None => Err(fault),
        }
    }
}

/// Reports outlive the connection they are about, but not for long.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

impl Subject {
    fn person_ip(&self) -> String {
        self.person_ip.map(|address| address.to_string()).unwrap_or_default()
    }

    fn attempt(&self) -> Attempt {
        Attempt {
            transaction_id: self.transaction.to_string(),
            client: self.client.clone(),
            protocol: Protocol::Ldap.code().to_owned(),
            subject: self.entry.as_ref().map(Into::into),
            username: self.username.clone(),
            name_form: self.name_form.map_or("", NameForm::code).to_owned(),
            client_ip: self.client_ip.to_string(),
            calling_station: String::new(),
            can_challenge: false,
            service_account: self.service_account,
            dialogue: false,
            person_ip: self.person_ip(),
            password_digest: self.password_digest.clone(),
            proven_absent: false,
            password_stamp: self.password_stamp.clone().unwrap_or_default(),
        }
    }
}

impl Allow {
    /// The other way in which an Allow comes into being: verification is down, the client lets people in, the password was right,
    /// and the event is written (V-40).
    pub fn while_down(passed: &Passed, subject: &Subject) -> Option<Self> {
        let ours = passed.transaction() == subject.transaction && passed.client() == subject.client;
        ours.then(|| Self {
            transaction: subject.transaction,
            reason: Reason::FailOpen,
            method: None,
            assurance: domain::Assurance::None.code().to_owned(),
            source: Some(Source::FailOpen),
            user_id: None,
        })
    }

    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn method(&self) -> Option<Method> {
        self.method
    }

    pub fn assurance(&self) -> &str {
        &self.assurance
    }

    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// `None` for whoever is no user here, or was let in while nobody could say.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }
}

fn tell(reachable: bool, code: Code) {
    match reachable {
        true => tracing::info!(event = "verification_answers", "verification answers"),
        false => tracing::warn!(event = "verification_silent", ?code, "verification cannot be asked"),
    }
}

/// With what is left of the deadline; too little is none. Every call may be sent again to another replica:
/// verification answers a repeated one with its first result (V-02).
fn within<T>(request: T, deadline: Instant) -> Result<tonic::Request<T>, Unavailable> {
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
    if left.is_zero() {
        return Err(Unavailable::because(Reason::NoAnswer));
    }
    Ok(service_kit::grpc::with_deadline(service_kit::grpc::idempotent(tonic::Request::new(request)), left))
}

/// Somebody's remembered logins go on although the directory has another password of theirs.
pub fn password_change_lost(client: &str, why: &dyn std::fmt::Display) {
    tracing::error!(
        event = "password_change_lost",
        client,
        %why,
        "a changed password could not be reported: end that person's remembered logins with `twinlock remember clear`"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::verification as wire;
    use tonic::{Request, Response};

    struct Silent;

    #[tonic::async_trait]
    impl Verification for Silent {
        async fn appended_forms(
            &self,
            _: Request<AppendedFormsRequest>,
        ) -> Result<Response<wire::AppendedFormsReply>, Status> {
            Err(Status::unavailable(""))
        }
        async fn begin(&self, _: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
            Err(Status::unavailable(""))
        }
        async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
            Err(Status::unavailable(""))
        }
        async fn answer(&self, _: Request<wire::AnswerRequest>) -> Result<Response<Outcome>, Status> {
            Err(Status::unavailable(""))
        }
        async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<wire::CancelReply>, Status> {
            Err(Status::unavailable(""))
        }
        async fn report(&self, _: Request<ReportRequest>) -> Result<Response<wire::ReportReply>, Status> {
            Err(Status::unavailable(""))
        }
        async fn password_changed(
            &self,
            _: Request<wire::PasswordChangedRequest>,
        ) -> Result<Response<wire::PasswordChangedReply>, Status> {
            Err(Status::unavailable(""))
        }

        async fn r#await(
            &self,
            _: Request<proto::verification::AwaitRequest>,
        ) -> Result<Response<proto::verification::Outcome>, Status> {
            Err(Status::unimplemented("await"))
        }
    }

    const NOW: i64 = 1_790_000_000_000;

    fn subject() -> Subject {
        Subject {
            transaction: TransactionId(uuid::Uuid::from_u128(7)),
            client: "gitlab".into(),
            client_ip: [127, 0, 0, 1].into(),
            person_ip: None,
            password_digest: Vec::new(),
            password_stamp: None,
            entry: None,
            username: "ann".into(),
            name_form: None,
            service_account: false,
        }
    }

    fn allow() -> wire::Allow {
        wire::Allow {
            reason: "valid_code".into(),
            method: "code".into(),
            assurance: "code".into(),
            source: "live".into(),
            client: "gitlab".into(),
            expires_unix_ms: NOW + 1,
            user_id: String::new(),
            ..wire::Allow::default()
        }
    }

    fn decide(transaction: &str, result: Option<outcome::Result>, asked: Primary) -> Result<Verdict, Unavailable> {
        let verifier = Verifier::new(Arc::new(Silent), Clock::at(NOW), &Health::default(), Presence::new());
        verifier.verdict(&subject(), Outcome { transaction_id: transaction.into(), result }, asked)
    }

    #[test]
    fn an_allow_counts_only_for_its_own_attempt_client_and_time() {
        // V-02, B-89
        let ours = subject().transaction.to_string();
        let said = |allow: wire::Allow| Some(outcome::Result::Allow(allow));
        assert!(matches!(decide(&ours, said(allow()), Primary::Passed), Ok(Verdict::Allow(_))));
        let other = uuid::Uuid::from_u128(8).to_string();
        let cases = [
            (other.as_str(), said(allow()), Primary::Passed),
            ("", said(allow()), Primary::Passed),
            (&ours, said(wire::Allow { client: "vpn".into(), ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { expires_unix_ms: NOW, ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { reason: "wrong_code".into(), ..allow() }), Primary::Passed),
            (&ours, said(wire::Allow { reason: "let_him_in".into(), ..allow() }), Primary::Passed),
            // The password has not been looked at yet.
            (&ours, said(allow()), Primary::Pending),
            (&ours, None, Primary::Passed),
            (&ours, Some(outcome::Result::CodeAccepted(wire::CodeAccepted {})), Primary::Passed),
            (&ours, Some(outcome::Result::Ask(wire::Ask::default())), Primary::Passed),
            (
                &ours,
                Some(outcome::Result::Deny(wire::Deny { reason: "valid_code".into(), ..wire::Deny::default() })),
                Primary::Passed,
            ),
        ];
        for (place, (transaction, result, asked)) in cases.into_iter().enumerate() {
            assert!(matches!(decide(transaction, result, asked), Err(Unavailable { .. })), "case {place}");
        }
    }

    #[test]
    fn a_deny_keeps_its_reason_and_an_unknown_one_is_no_decision() {
        let ours = subject().transaction.to_string();
        let deny =
            |reason: &str| Some(outcome::Result::Deny(wire::Deny { reason: reason.into(), ..wire::Deny::default() }));
        let verdict = decide(&ours, deny("reused_code"), Primary::Passed);
        assert!(matches!(verdict, Ok(Verdict::Deny { reason: Reason::ReusedCode, method: None })), "{verdict:?}");
        let verdict = decide(&ours, deny("something_new"), Primary::Passed);
        assert!(matches!(verdict, Err(Unavailable { reason: Reason::InternalError, .. })), "{verdict:?}");
    }
}
