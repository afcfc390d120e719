//! The one function that lets people in: a request and the facts go in, a decision comes out (V-01).
//!
//! Pure, and small enough to be read whole: [`decide`] is an evaluator over [`RULES`], a table that is read from the top;
//! the first rule that speaks decides. All entry points come through here: RADIUS, LDAP, portal.

pub mod appended;
mod grant;

pub use grant::{CodeCheck, Grant};

use domain::settings::{RefuseOrPass, ServiceAccount};
use domain::{DirectoryRef, Method, ObjectName, Reason, Source};
use std::net::IpAddr;

/// What to do with an attempt (V-02).
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Grant),
    Deny(Reason),
    /// Ask the person, by this method.
    Ask(Method),
    /// A code came with the attempt: it decides.
    CheckCode(CodeCheck),
}

/// The attempt, as far as a decision depends on it.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub client: &'a ClientRules,
    /// Who is meant, resolved by the directory.
    pub subject: &'a DirectoryRef,
    /// Where the client's packets come from.
    pub client_ip: Option<IpAddr>,
    /// The gateway bound it as one of the client's service accounts.
    pub as_service_account: bool,
    /// A code came with the attempt, appended to the password or as an answer.
    pub code_given: bool,
    /// The client can show a question and send back the answer.
    pub can_challenge: bool,
}

/// What the settings say about the client that asks.
#[derive(Debug, Clone)]
pub struct ClientRules {
    pub unknown_user: RefuseOrPass,
    pub not_enrolled: RefuseOrPass,
    /// Methods allowed, in order of preference.
    pub methods: Vec<Method>,
    /// The directory whose accounts `service_accounts` are; `None` where there are none.
    pub target: Option<ObjectName>,
    pub service_accounts: Vec<ServiceAccount>,
}

impl ClientRules {
    /// The portal's own: it never lets anybody pass on the password alone (V-84, V-86).
    pub fn portal() -> Self {
        Self {
            unknown_user: RefuseOrPass::Refuse,
            not_enrolled: RefuseOrPass::Refuse,
            methods: Method::ALL.to_vec(),
            target: None,
            service_accounts: Vec::new(),
        }
    }

    /// By immutable id and source, never by name (L-22). An account whose id was not found yet is not listed.
    fn lists(&self, subject: &DirectoryRef, client_ip: Option<IpAddr>) -> bool {
        self.target.as_ref() == Some(&subject.directory)
            && self.service_accounts.iter().any(|account| {
                let from_there =
                    |ip: IpAddr| account.sources.iter().any(|network| network.contains(&ip.to_canonical()));
                account.id.as_ref() == Some(&subject.id)
                    && (account.sources.is_empty() || client_ip.is_some_and(from_there))
            })
    }
}

impl From<&domain::settings::Client> for ClientRules {
    fn from(client: &domain::settings::Client) -> Self {
        Self {
            unknown_user: client.unknown_user,
            not_enrolled: client.not_enrolled,
            methods: client.methods.clone(),
            target: Some(client.target.clone()),
            service_accounts: client.service_accounts.clone(),
        }
    }
}

/// What the store knows about the subject. `user` is `None` only where the subject is proven to be unknown; an error is
/// never absence.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub user: Option<User>,
}

#[derive(Debug, Clone)]
pub struct User {
    pub state: UserState,
    /// Methods the user has, proven and in force.
    pub methods: Vec<Method>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    Enabled,
    Disabled,
    Removed,
}

impl UserState {
    /// A state that this version does not know refuses (V-75).
    pub fn from_code(code: &str) -> Self {
        match code {
            "enabled" => Self::Enabled,
            "removed" => Self::Removed,
            _ => Self::Disabled,
        }
    }
}

/// Decides. `now_unix_ms` only bounds how long an Allow may be acted on.
pub fn decide(request: &Request<'_>, facts: &Facts, now_unix_ms: i64) -> Decision {
    let effect = RULES.iter().find(|rule| (rule.when)(request, facts)).map_or(REFUSE_BY_DEFAULT, |rule| rule.then);
    match effect {
        Effect::Pass(reason, source) => Decision::Allow(Grant::by_rule(reason, source, now_unix_ms)),
        Effect::Refuse(reason) => Decision::Deny(reason),
        Effect::Check => Decision::CheckCode(CodeCheck::new()),
        Effect::Ask => Decision::Ask(Method::Code),
    }
}

struct Rule {
    when: fn(&Request<'_>, &Facts) -> bool,
    then: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    /// Let in on the password alone.
    Pass(Reason, Source),
    Refuse(Reason),
    Check,
    Ask,
}

/// The table. The order is the policy: a state refuses before any rule lets pass, also where unknown users pass (FU-02).
#[rustfmt::skip] // one rule a line
const RULES: &[Rule] = &[
    Rule { when: |_, f| is_off(f),                                                  then: Effect::Refuse(Reason::Blocked) },
    Rule { when: |r, _| r.as_service_account && r.client.lists(r.subject, r.client_ip), then: Effect::Pass(Reason::ServiceAccount, Source::Exempt) },
    Rule { when: |r, f| is_unknown(f) && passes(r.client.unknown_user),             then: Effect::Pass(Reason::UnknownUserPassed, Source::UnknownUser) },
    Rule { when: |_, f| is_unknown(f),                                              then: Effect::Refuse(Reason::UnknownUser) },
    Rule { when: |r, f| !is_enrolled(f) && passes(r.client.not_enrolled),           then: Effect::Pass(Reason::NotEnrolledPassed, Source::NotEnrolled) },
    Rule { when: |_, f| !is_enrolled(f),                                            then: Effect::Refuse(Reason::NotEnrolled) },
    Rule { when: |r, f| !has(f, Method::Code) || !r.client.methods.contains(&Method::Code), then: Effect::Refuse(Reason::NoUsableMethod) },
    Rule { when: |r, _| r.code_given,                                               then: Effect::Check },
    Rule { when: |r, _| r.can_challenge,                                            then: Effect::Ask },
];
/// Nothing is left that the client could carry.
const REFUSE_BY_DEFAULT: Effect = Effect::Refuse(Reason::MethodImpossible);

fn is_off(facts: &Facts) -> bool {
    facts.user.as_ref().is_some_and(|user| user.state != UserState::Enabled)
}

fn is_unknown(facts: &Facts) -> bool {
    facts.user.is_none()
}

fn is_enrolled(facts: &Facts) -> bool {
    facts.user.as_ref().is_some_and(|user| !user.methods.is_empty())
}

fn has(facts: &Facts, method: Method) -> bool {
    facts.user.as_ref().is_some_and(|user| user.methods.contains(&method))
}

fn passes(rule: RefuseOrPass) -> bool {
    rule == RefuseOrPass::Pass
}
