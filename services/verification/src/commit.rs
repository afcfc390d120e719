//! What an attempt comes to, in the store before it leaves here: no commit, no Allow (V-61).

use crate::attempt::Origin;
use crate::budget::{Budget, known, not_understood};
use domain::{Method, Reason, ResultClass};
use policy::Grant;
use proto::user_store::{
    AllowResult, AuditEvent, CommitAllowRequest, RecordRequest, ReserveTryRequest, SpendCodeRequest, SpendResult,
    TryKind, commit_server::Commit,
};
use service_kit::Clock;
use service_kit::grpc::idempotent;
use std::sync::Arc;
use tonic::Status;
use uuid::Uuid;

/// The store's side of a decision.
#[derive(Clone)]
pub struct Committer {
    pub(crate) commit: Arc<dyn Commit>,
    clock: Clock,
}

/// A code and the step it stands for.
pub struct UsedCode<'a> {
    pub factor_id: &'a str,
    pub step: u64,
    /// Its mark was made before the bind (L-53) and must be there.
    pub spent_before: bool,
}

/// What the store says to an Allow.
pub enum Committed {
    Allowed,
    Refused(Reason),
}

impl Committer {
    pub fn new(commit: Arc<dyn Commit>, clock: Clock) -> Self {
        Self { commit, clock }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Counts a try; `false`: none is left now.
    pub async fn reserve_try(
        &self,
        user_id: &str,
        factor_id: &str,
        kind: TryKind,
        source: &str,
        budget: Budget,
    ) -> Result<bool, Status> {
        let request = ReserveTryRequest {
            user_id: user_id.to_owned(),
            factor_id: factor_id.to_owned(),
            source: source.to_owned(),
            kind: kind.into(),
            now_unix_ms: self.now_ms(),
        };
        let reply = budget.ask("reserve try", request, |request| self.commit.reserve_try(request)).await?;
        Ok(reply.granted)
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

    /// Replay mark, counters and audit event at once. The same request asking again gets the first result (V-02); an
    /// `evaluation` is a request of its own, so that an answer lets in once even where its round was opened twice (R-44, V-73).
    pub async fn allow(
        &self,
        origin: &Origin,
        user_id: &str,
        grant: &Grant,
        code: Option<UsedCode<'_>>,
        evaluation: Option<Uuid>,
        budget: Budget,
    ) -> Result<Committed, Status> {
        let (factor_id, step, spent_before) =
            code.map_or(("", 0, false), |code| (code.factor_id, code.step, code.spent_before));
        let request = CommitAllowRequest {
            event: Some(AuditEvent {
                method: grant.method().map_or("", |method| method.code()).into(),
                assurance: grant.assurance().code().into(),
                source: grant.source().code().into(),
                ..self.event(origin, user_id, grant.reason())
            }),
            factor_id: factor_id.to_owned(),
            step,
            spent_before,
            source: origin.source().to_owned(),
            evaluation: evaluation.map(|id| id.to_string()).unwrap_or_default(),
            ..CommitAllowRequest::default()
        };
        let reply = budget.ask("allow", idempotent(request), |request| self.commit.allow(request)).await?;
        match known(reply.result, "allow")? {
            AllowResult::Committed => Ok(Committed::Allowed),
            AllowResult::Reused => Ok(Committed::Refused(Reason::ReusedCode)),
            AllowResult::Spent => Ok(Committed::Refused(Reason::ChallengeGone)),
            AllowResult::Refused => Ok(Committed::Refused(Reason::Blocked)),
            AllowResult::Unspecified => Err(not_understood("allow")),
        }
    }

    /// The event of an attempt that ended otherwise. It ends the transaction: nothing that may still go on is recorded.
    pub async fn record(&self, origin: &Origin, user_id: &str, reason: Reason, budget: Budget) -> Result<(), Status> {
        debug_assert!(!matches!(reason.class(), ResultClass::Success | ResultClass::Bypass | ResultClass::Challenge));
        let by_code = matches!(
            reason,
            Reason::WrongCode | Reason::ReusedCode | Reason::LockedOut | Reason::ChallengeGone | Reason::NoAnswer
        );
        let method = if by_code { Method::Code.code() } else { "" };
        let event = AuditEvent { method: method.into(), ..self.event(origin, user_id, reason) };
        let request = RecordRequest { event: Some(event) };
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
            ..AuditEvent::default()
        }
    }
}
