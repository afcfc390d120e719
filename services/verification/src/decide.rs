//! The call of the one decision function, with its span.

use crate::attempt::Attempt;
use crate::facts::{KnownUser, for_policy};
use crate::settings::Rules;
use domain::{Method, Reason};
use policy::{Decision, Request};

/// What is at hand beside the attempt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    /// A code, appended or as an answer.
    pub code: bool,
    /// The method that was chosen, or is under way.
    pub wanted: Option<Method>,
}

pub fn decide(attempt: &Attempt, rules: &Rules, user: Option<&KnownUser>, given: Given, now_unix_ms: i64) -> Decision {
    let span = tracing::info_span!(
        "policy.decide",
        otel.kind = "internal",
        twinlock.method = tracing::field::Empty,
        twinlock.reason = tracing::field::Empty,
    );
    let _entered = span.enter();
    let request = Request {
        client: &rules.client,
        company: rules.company(),
        policies: rules.policies(),
        subject: attempt.subject.as_ref(),
        client_ip: attempt.client_ip,
        person_ip: attempt.person_ip,
        as_service_account: attempt.as_service_account,
        code_given: given.code,
        wanted: given.wanted,
        shows: attempt.shows(),
    };
    let decision = policy::decide(&request, &for_policy(user, &rules.known, now_unix_ms), now_unix_ms);
    match &decision {
        Decision::Allow(grant) => span.record("twinlock.reason", grant.reason().code()),
        Decision::Deny(reason) => span.record("twinlock.reason", reason.code()),
        Decision::Observed(observed) => span.record("twinlock.reason", observed.grant.reason().code()),
        Decision::Bypass(_) => span.record("twinlock.reason", Reason::OneTimeBypass.code()),
        Decision::Plan(_) if given.code => span.record("twinlock.method", Method::Code.code()),
        Decision::Plan(plan) => {
            let first = plan.ways.first().map(|way| way.method);
            let reason = match first {
                _ if plan.list_first => Reason::ChoiceAsked,
                Some(method) if method.is_out_of_band() => Reason::ApprovalAsked,
                _ => Reason::CodeAsked,
            };
            span.record("twinlock.method", first.map_or("", Method::code)).record("twinlock.reason", reason.code())
        }
    };
    decision
}
