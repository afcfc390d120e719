//! What an attempt comes to, in the store before it leaves here: no commit, no Allow (V-61).

use crate::attempt::Origin;
use crate::budget::{Budget, known, not_understood};
use domain::{Method, Reason, ResultClass, Secret};
use policy::Grant;
use proto::user_store::{
    AllowResult, AuditEvent, CheckSecretReply, CheckSecretRequest, CommitAllowRequest, PasskeyCount, RecordRequest,
    RememberLogin, ReserveTryRequest, SecretKind, SecretResult, SeeOnceRequest, SpendCodeRequest, SpendResult,
    TryCodeRequest, TryCodeResult, TryKind, commit_server::Commit,
};
use serde::{Deserialize, Serialize};
use service_kit::Clock;
use service_kit::grpc::idempotent;
use std::sync::Arc;
use tonic::Status;
use uuid::Uuid;

/// What the audit says of an attempt whose client checked the password by itself.
const VOUCHED: &str = "first factor: by the word of the client";

/// The store's side of a decision.
#[derive(Clone)]
pub struct Committer {
    pub(crate) commit: Arc<dyn Commit>,
    clock: Clock,
}

/// What an Allow rests on: what the store has to find as it is said here, and spends.
#[derive(Debug, Clone, Default)]
pub struct Proven {
    pub code: Option<UsedCode>,
    /// An approved prompt.
    pub prompt_id: String,
    /// The code that was sent was right.
    pub sent_code: bool,
    /// A recovery or temporary code, or answers.
    pub secret_handle: String,
    /// The PIN beside it.
    pub pin_handle: String,
    pub bypass_id: String,
    pub remembered_key: Vec<u8>,
    pub passkey_id: String,
    /// Where it counts its signatures.
    pub passkey_count: Option<PasskeyCount>,
}

/// An Allow on its way into the store.
pub struct Granted<'a> {
    pub grant: &'a Grant,
    pub proven: Proven,
    /// To be remembered (V-50).
    pub remember: Option<RememberLogin>,
    /// Names the evaluation of an answer.
    pub evaluation: Option<Uuid>,
    /// What else the audit says of it; empty = nothing.
    pub note: &'a str,
}

impl<'a> Granted<'a> {
    /// By a rule: nothing is proven.
    pub fn by_rule(grant: &'a Grant) -> Self {
        Self { grant, proven: Proven::default(), remember: None, evaluation: None, note: "" }
    }
}

/// A code and the step it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsedCode {
    pub factor_id: String,
    pub step: u64,
    /// The token its try was counted on; empty = none was counted after the password.
    pub counted_factor_id: String,
    /// How far the token was seen to run ahead.
    pub drift: i32,
    /// Its mark was made before the bind (L-53) and must be there.
    pub spent_before: bool,
}

/// What the store says to an Allow.
#[derive(Debug, PartialEq, Eq)]
pub enum Committed {
    Allowed,
    Refused(Reason),
}

/// What the store says to a try at a code.
#[derive(Debug, PartialEq, Eq)]
pub enum CodeTried {
    /// Counted, and the code was right.
    Decided(Committed),
    /// Counted.
    Wrong,
    /// Not counted: nobody hears what the code was worth. When the next try is open, 0 = after an unlock.
    Throttled { until_unix_ms: i64 },
}

/// What the store says to a PIN, a recovery or temporary code, or answers.
pub enum Secreted {
    Right {
        handle: String,
    },
    Wrong,
    /// Not looked at; when the next try is open, 0 = after an unlock.
    Locked {
        until_unix_ms: i64,
    },
    /// There is none, or it is past its time.
    None,
}

/// A secret that the store compares with its hash.
pub struct PresentedSecret<'a> {
    pub kind: SecretKind,
    pub secret: &'a Secret,
    /// For answers to questions: in the order of the questions.
    pub questions: &'a [String],
    pub answers: &'a [Secret],
    pub try_kind: TryKind,
}

/// How an attempt ended without an Allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub reason: Reason,
    /// The method that failed; `None` if none ran.
    pub method: Option<Method>,
    /// When it may be tried again; 0 = nobody knows, -1 = not by itself.
    pub until_unix_ms: i64,
}

impl Ending {
    pub fn of(reason: Reason, method: Method) -> Self {
        Self { reason, method: Some(method), until_unix_ms: 0 }
    }

    pub fn until(self, until_unix_ms: i64) -> Self {
        Self { until_unix_ms, ..self }
    }
}

impl From<Reason> for Ending {
    fn from(reason: Reason) -> Self {
        Self { reason, method: None, until_unix_ms: 0 }
    }
}

impl Committer {
    pub fn new(commit: Arc<dyn Commit>, clock: Clock) -> Self {
        Self { commit, clock }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Counts a try; if none is left now, when the next one is open.
    pub async fn reserve_try(
        &self,
        user_id: &str,
        factor_id: &str,
        kind: TryKind,
        source: &str,
        budget: Budget,
    ) -> Result<Result<(), i64>, Status> {
        let request = ReserveTryRequest {
            user_id: user_id.to_owned(),
            factor_id: factor_id.to_owned(),
            source: source.to_owned(),
            kind: kind.into(),
            now_unix_ms: self.now_ms(),
        };
        let reply = budget.ask("reserve try", request, |request| self.commit.reserve_try(request)).await?;
        Ok(if reply.granted { Ok(()) } else { Err(reply.retry_unix_ms.max(0)) })
    }

    /// Counts a try after the password on a token and, where it is granted, lets in by `right`; `None`: the code was wrong. What it was
    /// worth decides nothing and is told nobody before the store has counted (V-14).
    pub async fn try_code(
        &self,
        origin: &Origin,
        user_id: &str,
        counted_factor_id: &str,
        right: Option<Granted<'_>>,
        budget: Budget,
    ) -> Result<CodeTried, Status> {
        let matched = right.is_some();
        let allow = match right {
            Some(login) => self.allow_request(origin, user_id, login),
            None => CommitAllowRequest {
                event: Some(self.event(origin, user_id, Reason::WrongCode)),
                source: origin.source().to_owned(),
                ..CommitAllowRequest::default()
            },
        };
        let allow = CommitAllowRequest { counted_factor_id: counted_factor_id.to_owned(), ..allow };
        // Right or wrong: what is sent again where a connection breaks must not tell which it was. A wrong code may count twice then, and
        // a right one does not (V-02).
        let request = idempotent(TryCodeRequest { allow: Some(allow), matched });
        let reply = budget.ask("try code", request, |request| self.commit.try_code(request)).await?;
        match known(reply.result, "try code")? {
            TryCodeResult::Wrong => Ok(CodeTried::Wrong),
            TryCodeResult::Throttled => Ok(CodeTried::Throttled { until_unix_ms: reply.retry_unix_ms.max(0) }),
            TryCodeResult::Allowed if matched => Ok(CodeTried::Decided(Committed::Allowed)),
            TryCodeResult::Reused if matched => Ok(CodeTried::Decided(Committed::Refused(Reason::ReusedCode))),
            TryCodeResult::Spent if matched => Ok(CodeTried::Decided(Committed::Refused(Reason::ChallengeGone))),
            TryCodeResult::Refused if matched => Ok(CodeTried::Decided(Committed::Refused(Reason::Blocked))),
            TryCodeResult::Allowed
            | TryCodeResult::Reused
            | TryCodeResult::Spent
            | TryCodeResult::Refused
            | TryCodeResult::Unspecified => Err(not_understood("try code")),
        }
    }

    /// Marks a code as used before the password is known; `false`: it was already.
    pub async fn spend_code(
        &self,
        origin: &Origin,
        user_id: &str,
        factor_id: &str,
        step: u64,
        budget: Budget,
    ) -> Result<bool, Status> {
        let request = SpendCodeRequest {
            transaction_id: origin.transaction.to_string(),
            user_id: user_id.to_owned(),
            factor_id: factor_id.to_owned(),
            step,
            now_unix_ms: self.now_ms(),
        };
        let reply = budget.ask("spend code", request, |request| self.commit.spend_code(request)).await?;
        match known(reply.result, "spend code")? {
            SpendResult::Spent => Ok(true),
            SpendResult::Reused => Ok(false),
            SpendResult::Unspecified => Err(not_understood("spend code")),
        }
    }

    /// Whether this is the first one that is seen of its kind, for all nodes.
    pub async fn see_once(&self, request: SeeOnceRequest, budget: Budget) -> Result<bool, Status> {
        Ok(budget.ask("see once", request, |request| self.commit.see_once(request)).await?.first)
    }

    /// Compares a secret with its hash, after the store has counted the try (V-31).
    pub async fn check_secret(
        &self,
        origin: &Origin,
        user_id: &str,
        presented: PresentedSecret<'_>,
        budget: Budget,
    ) -> Result<Secreted, Status> {
        let request = CheckSecretRequest {
            user_id: user_id.to_owned(),
            kind: presented.kind.into(),
            secret: Some(presented.secret.clone().into()),
            answers: presented.answers.iter().map(|answer| answer.clone().into()).collect(),
            questions: presented.questions.to_vec(),
            source: origin.source().to_owned(),
            transaction_id: origin.transaction.to_string(),
            try_kind: presented.try_kind.into(),
            now_unix_ms: self.now_ms(),
        };
        let reply = budget.ask("check secret", request, |request| self.commit.check_secret(request)).await?;
        let CheckSecretReply { result, handle, retry_unix_ms } = reply;
        match known(result, "check secret")? {
            SecretResult::Right if !handle.is_empty() => Ok(Secreted::Right { handle }),
            SecretResult::Wrong => Ok(Secreted::Wrong),
            SecretResult::Locked => Ok(Secreted::Locked { until_unix_ms: retry_unix_ms.max(0) }),
            SecretResult::None => Ok(Secreted::None),
            SecretResult::Right | SecretResult::Unspecified => Err(not_understood("check secret")),
        }
    }

    /// What is spent, counters and audit event at once. The same request asking again gets the first result (V-02); an
    /// `evaluation` is a request of its own, so that an answer lets in once even where its round was opened twice (R-44, V-73).
    pub async fn allow(
        &self,
        origin: &Origin,
        user_id: &str,
        login: Granted<'_>,
        budget: Budget,
    ) -> Result<Committed, Status> {
        let request = self.allow_request(origin, user_id, login);
        let reply = budget.ask("allow", idempotent(request), |request| self.commit.allow(request)).await?;
        match known(reply.result, "allow")? {
            AllowResult::Committed => Ok(Committed::Allowed),
            AllowResult::Reused => Ok(Committed::Refused(Reason::ReusedCode)),
            AllowResult::Spent => Ok(Committed::Refused(Reason::ChallengeGone)),
            AllowResult::Refused => Ok(Committed::Refused(Reason::Blocked)),
            AllowResult::Unspecified => Err(not_understood("allow")),
        }
    }

    fn allow_request(&self, origin: &Origin, user_id: &str, login: Granted<'_>) -> CommitAllowRequest {
        let Granted { grant, proven, remember, evaluation, note } = login;
        let code = proven.code.unwrap_or_default();
        let event = self.event(origin, user_id, grant.reason());
        let details = [event.detail.as_str(), note];
        let detail = details.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
        CommitAllowRequest {
            event: Some(AuditEvent {
                method: grant.method().map_or("", |method| method.code()).into(),
                assurance: grant.assurance().code().into(),
                source: grant.source().code().into(),
                detail,
                ..event
            }),
            factor_id: code.factor_id,
            counted_factor_id: code.counted_factor_id,
            step: code.step,
            spent_before: code.spent_before,
            drift: code.drift,
            source: origin.source().to_owned(),
            evaluation: evaluation.map(|id| id.to_string()).unwrap_or_default(),
            prompt_id: proven.prompt_id,
            sent_code: proven.sent_code,
            secret_handle: proven.secret_handle,
            pin_handle: proven.pin_handle,
            bypass_id: proven.bypass_id,
            remembered_key: proven.remembered_key,
            passkey_id: proven.passkey_id,
            passkey_count: proven.passkey_count,
            remember,
        }
    }

    /// The event of an attempt that ended otherwise. It ends the transaction: nothing that may still go on is recorded.
    pub async fn record(&self, origin: &Origin, user_id: &str, ending: Ending, budget: Budget) -> Result<(), Status> {
        let Ending { reason, method, .. } = ending;
        debug_assert!(!matches!(reason.class(), ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge));
        let event =
            AuditEvent { method: method.map_or("", Method::code).into(), ..self.event(origin, user_id, reason) };
        let request = RecordRequest { event: Some(event), ..RecordRequest::default() };
        budget.ask("record", idempotent(request), |request| self.commit.record(request)).await?;
        Ok(())
    }

    fn event(&self, origin: &Origin, user_id: &str, reason: Reason) -> AuditEvent {
        AuditEvent {
            at_unix_ms: self.now_ms(),
            kind: "authentication".into(),
            transaction_id: origin.transaction.to_string(),
            client: origin.client.clone(),
            protocol: origin.protocol.code().into(),
            user_id: user_id.to_owned(),
            username: origin.username.clone(),
            client_ip: origin.client_ip.clone(),
            calling_station: origin.calling_station.clone(),
            result: reason.class().code().into(),
            reason: reason.code().into(),
            detail: if origin.vouched { VOUCHED.into() } else { String::new() },
            ..AuditEvent::default()
        }
    }
}
