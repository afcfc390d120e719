//! The call of the one decision function, with its span.

use crate::attempt::Attempt;
use crate::facts::{KnownUser, for_policy};
use policy::{ClientRules, Decision, Request};

pub fn decide(
    attempt: &Attempt,
    client: &ClientRules,
    user: Option<&KnownUser>,
    code_given: bool,
    now_unix_ms: i64,
) -> Decision {
    let span = tracing::info_span!(
        "policy.decide",
        otel.kind = "internal",
        twinlock.method = tracing::field::Empty,
        twinlock.reason = tracing::field::Empty,
    );
    let _entered = span.enter();
    let request = Request {
        client,
        subject: &attempt.subject,
        client_ip: attempt.client_ip,
        as_service_account: attempt.as_service_account,
        code_given,
        can_challenge: attempt.can_challenge,
    };
    let decision = policy::decide(&request, &for_policy(user), now_unix_ms);
    match &decision {
        Decision::Allow(grant) => span.record("twinlock.reason", grant.reason().code()),
        Decision::Deny(reason) => span.record("twinlock.reason", reason.code()),
        Decision::Ask(method) => {
            span.record("twinlock.method", method.code()).record("twinlock.reason", domain::Reason::CodeAsked.code())
        }
        Decision::CheckCode(_) => span.record("twinlock.method", domain::Method::Code.code()),
    };
    decision
}
