//! Observe-only (FB-04): the password decides, and what the second factor would have done is kept beside it.
//!
//! Only the second factor is left out. Who is blocked, disabled or removed stays out, and so does whom a rule keeps from the application
//! (a policy that refuses, a group that is lacking): none of these asks for a factor. A rule that lets in on the password alone does so
//! in its own name.

use crate::Decision;
use crate::grant::Grant;
use crate::plan::Plan;
use domain::{Reason, Source};

/// A person is let in on the password, whatever the second factor would have come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Observed {
    pub grant: Grant,
    pub would: Would,
}

/// What the client would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Would {
    Refuse(Reason),
    /// Let in by a one-time bypass. It stays open.
    Bypass,
    Ask(Plan),
}

pub(crate) fn instead_of(decision: Decision, now_unix_ms: i64) -> Decision {
    let would = match decision {
        Decision::Deny(reason) if is_about_the_factor(reason) => Would::Refuse(reason),
        Decision::Bypass(_) => Would::Bypass,
        Decision::Plan(plan) => Would::Ask(plan),
        decision @ (Decision::Allow(_) | Decision::Deny(_) | Decision::Observed(_)) => return decision,
    };
    // The settings exempt the client: no person gave anything, and nothing was opened for anybody.
    let grant = Grant::by_rule(Reason::Observed, Source::Exempt, now_unix_ms);
    Decision::Observed(Observed { grant, would })
}

/// Refused for want of a second factor, or of somebody who could have one. What is not named here keeps refusing.
fn is_about_the_factor(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownUser
            | Reason::NotEnrolled
            | Reason::NoUsableMethod
            | Reason::MethodImpossible
            | Reason::LockedOut
    )
}
