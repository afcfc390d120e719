//! The one function that lets people in: a request and the facts go in, a decision comes out (V-01).
//!
//! Pure, and small enough to be read whole: [`decide`] is an evaluator over [`RULES`], a table that is read from the top;
//! the first rule that speaks decides. What no rule decides is left to a [`Plan`]: methods, in order. All entry points come
//! through here: RADIUS, LDAP, portal.
//!
//! Where a client is only observed (FB-04) the same table speaks, and who would be asked or refused for want of a second factor is let in.
//!
//! ```text
//! request (client, company, policies, what can be shown)  ┐
//!                                                          ├─ decide ─ Allow | Deny | Bypass | Plan | Observed
//! facts   (state, groups, methods, PIN, exemptions)        ┘
//! ```

pub mod appended;
mod facts;
mod grant;
mod observed;
mod plan;
mod policies;
mod request;

pub use facts::{Bypass, Facts, Pin, User, UserState};
pub use grant::{
    AnswersCheck, BypassCheck, CodeCheck, Grant, PasskeyCheck, PromptCheck, RecoveryCheck, RememberedCheck,
    SentCodeCheck, TemporaryCheck,
};
pub use observed::{Observed, Would};
pub use plan::{Plan, Proof, Typed, Way};
pub use policies::may_ask_pin;
pub use request::{ClientRules, Request, Shows};

use domain::settings::{RefuseOrPass, Then};
use domain::{Reason, Source};
use facts::holds_until;
use plan::InForce;

/// What to do with an attempt (V-02).
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Grant),
    Deny(Reason),
    /// An open one-time bypass lets in, once the store has spent it (V-53).
    Bypass(BypassCheck),
    /// The person has to prove something.
    Plan(Plan),
    /// The client is only observed: the password decides (FB-04).
    Observed(Observed),
}

/// Decides.
pub fn decide(request: &Request<'_>, facts: &Facts<'_>, now_unix_ms: i64) -> Decision {
    let decision = by_the_table(request, facts, now_unix_ms);
    match request.client.is_observed(now_unix_ms) {
        true => observed::instead_of(decision, now_unix_ms),
        false => decision,
    }
}

fn by_the_table(request: &Request<'_>, facts: &Facts<'_>, now_unix_ms: i64) -> Decision {
    let user = facts.user.as_ref();
    let policy = policies::first_fitting(request, user, now_unix_ms);
    let case = Case { request, user, policy: policy.map(|rule| &rule.then), now_unix_ms };
    let effect = RULES.iter().find(|rule| (rule.when)(&case)).map(|rule| rule.then);
    match (effect, user) {
        (Some(Effect::Pass(reason, source)), _) => Decision::Allow(Grant::by_rule(reason, source, now_unix_ms)),
        (Some(Effect::Refuse(reason)), _) => Decision::Deny(reason),
        (Some(Effect::RefuseByPolicy), _) => {
            Decision::Deny(match policy.is_some_and(|rule| rule.when.time.is_some()) {
                true => Reason::OutOfHours,
                false => Reason::ClientNotAllowed,
            })
        }
        (Some(Effect::Bypass), _) => Decision::Bypass(BypassCheck::new()),
        (None, Some(user)) => match plan::plan(request, user, &InForce::new(request, case.policy), now_unix_ms) {
            Ok(plan) => Decision::Plan(plan),
            Err(reason) => Decision::Deny(reason),
        },
        (None, None) => Decision::Deny(Reason::UnknownUser),
    }
}

/// What a rule looks at.
struct Case<'a> {
    request: &'a Request<'a>,
    user: Option<&'a User<'a>>,
    policy: Option<&'a Then>,
    now_unix_ms: i64,
}

struct Rule {
    when: fn(&Case<'_>) -> bool,
    then: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    /// Let in on the password alone.
    Pass(Reason, Source),
    Refuse(Reason),
    RefuseByPolicy,
    Bypass,
}

/// The table. The order is the policy: a state refuses before any rule lets pass, also where unknown users pass (FU-02); who lacks
/// a group is refused before any rule asks for less.
#[rustfmt::skip] // one rule a line
const RULES: &[Rule] = &[
    Rule { when: |c| c.is_off(),                                                then: Effect::Refuse(Reason::Blocked) },
    Rule { when: |c| c.policy.is_some_and(|then| then.refuse),                  then: Effect::RefuseByPolicy },
    Rule { when: |c| c.is_service_account(),                                    then: Effect::Pass(Reason::ServiceAccount, Source::Exempt) },
    Rule { when: |c| c.user.is_none() && passes(c.request.client.unknown_user), then: Effect::Pass(Reason::UnknownUserPassed, Source::UnknownUser) },
    Rule { when: |c| c.user.is_none(),                                          then: Effect::Refuse(Reason::UnknownUser) },
    Rule { when: |c| c.lacks_group(),                                           then: Effect::Refuse(Reason::NotInGroup) },
    Rule { when: |c| c.is_exempt(),                                             then: Effect::Pass(Reason::Exempt, Source::Exempt) },
    Rule { when: |c| c.is_trusted_place(),                                      then: Effect::Pass(Reason::TrustedNetwork, Source::TrustedNetwork) },
    Rule { when: |c| c.has_bypass(),                                            then: Effect::Bypass },
    Rule { when: |c| c.may_pass_without_a_method(),                             then: Effect::Pass(Reason::NotEnrolledPassed, Source::NotEnrolled) },
    Rule { when: |c| !c.is_enrolled(),                                          then: Effect::Refuse(Reason::NotEnrolled) },
];

impl Case<'_> {
    fn may_pass_without_a_method(&self) -> bool {
        let must_enrol = self.user.is_some_and(|user| user.must_enrol);
        !self.is_enrolled() && !must_enrol && passes(self.request.client.not_enrolled)
    }

    fn is_off(&self) -> bool {
        self.user.is_some_and(|user| {
            user.state != UserState::Enabled || holds_until(user.blocked_until_unix_ms, self.now_unix_ms)
        })
    }

    fn is_service_account(&self) -> bool {
        self.request.as_service_account && self.request.client.lists(self.request.subject, self.request.client_ip)
    }

    /// FV-44. A client that names no group needs none.
    fn lacks_group(&self) -> bool {
        let wanted = &self.request.client.groups;
        !wanted.is_empty() && self.user.is_none_or(|user| !policies::in_one_of(user.groups, wanted))
    }

    /// FV-42. Never at the portal: there the factor guards the factors (V-84).
    fn is_exempt(&self) -> bool {
        let here = |client: &String| client == "*" || *client == self.request.client.name;
        let user = self.user.is_some_and(|user| {
            user.exempt_clients.iter().any(here)
                && (user.exempt_until_unix_ms <= 0 || user.exempt_until_unix_ms > self.now_unix_ms)
        });
        !self.request.client.is_portal() && (user || self.policy.is_some_and(|then| then.exempt))
    }

    /// FV-32, V-54.
    fn is_trusted_place(&self) -> bool {
        self.request.person_ip.is_some_and(|ip| request::within(&self.request.client.trusted_networks, ip))
    }

    /// FV-28. Whoever gives a code does not need it, and keeps it.
    fn has_bypass(&self) -> bool {
        !self.request.client.is_portal()
            && !self.request.code_given
            && self.user.and_then(|user| user.bypass).is_some_and(|bypass| {
                bypass.expires_unix_ms > self.now_unix_ms
                    && (bypass.client.is_empty() || bypass.client == self.request.client.name)
            })
    }

    /// Whoever the help desk gave a code has something to show. One whose methods nobody can carry now is not let in as somebody
    /// without any (V-25).
    fn is_enrolled(&self) -> bool {
        self.user.is_some_and(|user| user.enrolled || !user.methods.is_empty() || user.temporary_code)
    }
}

fn passes(rule: RefuseOrPass) -> bool {
    rule == RefuseOrPass::Pass
}
