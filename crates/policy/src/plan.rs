//! Which methods can be tried in an attempt, in which order and how: what is left when no rule has decided.

use crate::facts::{User, holds_until};
use crate::grant::{
    AnswersCheck, CodeCheck, PasskeyCheck, PromptCheck, RecoveryCheck, RememberedCheck, SentCodeCheck, TemporaryCheck,
};
use crate::request::{Request, Shows};
use domain::settings::{Choice, NumberMatching, Then};
use domain::{Assurance, Method, Reason};

/// The way to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are tried. Not empty unless a code was given, or only a recent login can open.
    pub ways: Vec<Way>,
    /// Why there is no way, should there be no recent login either.
    pub dead_end: Option<Reason>,
    /// What may be typed where a code is asked for.
    pub typed: Typed,
    /// Show the list of `ways` first (FV-12).
    pub list_first: bool,
    /// After a technical failure of the phone a code may be asked for (FR-06).
    pub fallback_code: bool,
    /// A recent login may still count; nothing is asked then (V-50).
    pub remembered: Option<RememberedCheck>,
    /// What the methods, PIN and assurance in force say: a remembered login is of the same, or of none (V-50).
    pub in_force: String,
}

/// A method and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub method: Method,
    /// The PIN is demanded with it.
    pub pin: bool,
    /// The client shows a number that the person finds on the phone (V-22).
    pub number: bool,
    pub proof: Proof,
}

/// What decides about a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// An answer on the phone.
    Prompt(PromptCheck),
    /// The code that is sent.
    SentCode(SentCodeCheck),
    /// One of [`Plan::typed`].
    Typed,
    Passkey(PasskeyCheck),
    Answers(AnswersCheck),
}

/// Codes that a person may type, each with what a right one is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    pub code: Option<CodeCheck>,
    pub recovery: Option<RecoveryCheck>,
    pub temporary: Option<TemporaryCheck>,
}

impl Typed {
    pub fn is_empty(&self) -> bool {
        self.code.is_none() && self.recovery.is_none() && self.temporary.is_none()
    }
}

impl Plan {
    pub fn way(&self, method: Method) -> Option<&Way> {
        self.ways.iter().find(|way| way.method == method)
    }

    /// The ways that wait for the phone, in order.
    pub fn out_of_band(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(|way| way.method.is_out_of_band())
    }
}

/// The values in force: the client's, with a policy's in their place.
pub struct InForce<'a> {
    methods: &'a [Method],
    pin: bool,
    least: Assurance,
}

impl<'a> InForce<'a> {
    pub fn new(request: &Request<'a>, policy: Option<&'a Then>) -> Self {
        let client = request.client;
        Self {
            methods: policy.map_or(&client.methods[..], |then| match then.methods.is_empty() {
                true => &client.methods,
                false => &then.methods,
            }),
            pin: policy.and_then(|then| then.pin).unwrap_or(client.pin),
            least: policy.and_then(|then| then.least_assurance).unwrap_or(client.least_assurance),
        }
    }

    fn in_words(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(|method| method.code()).collect();
        format!("{} pin={} least={}", methods.join(","), self.pin, self.least.code())
    }
}

/// Plans, or says why nothing is left: first what the user has and may use, then what the client can carry.
pub fn plan(request: &Request<'_>, user: &User<'_>, in_force: &InForce<'_>, now_unix_ms: i64) -> Result<Plan, Reason> {
    let usable = usable(user, in_force)?;
    let typed = typed(user, &usable);
    let pin_locked = holds_until(user.pin.locked_until_unix_ms, now_unix_ms);
    let with_pin = |method: Method| (in_force.pin || user.pin.required) && takes_pin(method);
    let carried: Vec<Way> = usable
        .iter()
        .filter(|method| carries(request.shows, **method))
        .map(|method| way(request, *method, with_pin(*method), in_force.least))
        .filter(|way| way.best() >= in_force.least)
        .collect();
    let remembered = request.client.remember.as_ref().map(|_| RememberedCheck::new());
    let in_words = in_force.in_words();
    let done = |ways, list_first| Plan {
        ways,
        dead_end: None,
        typed,
        list_first,
        // The client's rule alone (FR-06): who was shown the list may choose the code in the next attempt.
        fallback_code: request.client.fallback_code,
        remembered,
        in_force: in_words,
    };
    if request.code_given {
        return match usable_typed(user, &usable) {
            true => Ok(done(open(carried, user, pin_locked), false)),
            false => Err(Reason::NoUsableMethod),
        };
    }
    if let Some(wanted) = request.wanted {
        let asked_for = |method: Method| method == wanted || wanted == Method::Code && method == Method::Recovery;
        let by_help_desk = wanted == Method::Code && user.temporary_code;
        if !by_help_desk && !usable.iter().any(|method| asked_for(*method)) {
            return Err(Reason::NoUsableMethod);
        }
        let chosen: Vec<Way> = carried.into_iter().filter(|way| asked_for(way.method)).collect();
        return left(chosen, user, pin_locked, request.shows).map(|ways| done(ways, false));
    }
    let ways = match left(carried, user, pin_locked, request.shows) {
        // The code came behind the password, once; the password alone is what an application repeats (V-50).
        Err(Reason::MethodImpossible) if request.client.remember.is_some() => {
            return Ok(Plan { dead_end: Some(Reason::MethodImpossible), ..done(Vec::new(), false) });
        }
        left => left?,
    };
    let ways = preferred_first(ways, request, user);
    let list_first = request.company.choice == Choice::ListFirst && request.shows > Shows::Nothing && ways.len() > 1;
    Ok(done(ways, list_first))
}

/// What the user has, may use, and what is strong enough at its best, in the order of the rules in force.
fn usable(user: &User<'_>, in_force: &InForce<'_>) -> Result<Vec<Method>, Reason> {
    let allowed = |method: &Method| user.allowed_methods.as_ref().is_none_or(|allowed| allowed.contains(method));
    let usable: Vec<Method> = in_force
        .methods
        .iter()
        .filter(|method| user.methods.contains(method) && allowed(method) && at_best(**method) >= in_force.least)
        .copied()
        .collect();
    if usable.is_empty() && !user.temporary_code { Err(Reason::NoUsableMethod) } else { Ok(usable) }
}

fn typed(user: &User<'_>, usable: &[Method]) -> Typed {
    Typed {
        code: usable.contains(&Method::Code).then(CodeCheck::new),
        recovery: usable.contains(&Method::Recovery).then(RecoveryCheck::new),
        temporary: user.temporary_code.then(TemporaryCheck::new),
    }
}

fn usable_typed(user: &User<'_>, usable: &[Method]) -> bool {
    user.temporary_code || usable.contains(&Method::Code) || usable.contains(&Method::Recovery)
}

fn way(request: &Request<'_>, method: Method, pin: bool, least: Assurance) -> Way {
    let number = method == Method::Push
        && match request.shows {
            Shows::Nothing => false,
            Shows::Text => request.client.number_matching == NumberMatching::Yes,
            Shows::Dialogue => true,
        };
    let proof = match method {
        Method::Push | Method::Call | Method::SmsReply => Proof::Prompt(PromptCheck::new(method, least)),
        Method::Sms => Proof::SentCode(SentCodeCheck::new()),
        Method::Code | Method::Recovery => Proof::Typed,
        Method::Passkey => Proof::Passkey(PasskeyCheck::new()),
        Method::Questions => Proof::Answers(AnswersCheck::new()),
    };
    Way { method, pin, number, proof }
}

impl Way {
    /// The most an answer can prove here.
    fn best(&self) -> Assurance {
        if self.number { Assurance::NumberMatched } else { self.method.assurance() }
    }
}

/// The most a method can prove at a client that shows everything.
fn at_best(method: Method) -> Assurance {
    if method == Method::Push { Assurance::NumberMatched } else { method.assurance() }
}

/// FV-02 to FV-06: a code of a token stands alone.
fn takes_pin(method: Method) -> bool {
    matches!(method, Method::Push | Method::Call | Method::Sms | Method::SmsReply)
}

fn carries(shows: Shows, method: Method) -> bool {
    match method {
        Method::Push | Method::Call | Method::SmsReply => true,
        Method::Sms | Method::Code | Method::Recovery => shows >= Shows::Text,
        Method::Passkey | Method::Questions => shows == Shows::Dialogue,
    }
}

/// Without those whose PIN cannot be given: none is set, it is past its time, or locked.
fn open(mut ways: Vec<Way>, user: &User<'_>, pin_locked: bool) -> Vec<Way> {
    ways.retain(|way| !way.pin || user.pin.set && !user.pin.expired && !pin_locked);
    ways
}

/// Of what the client can carry: what is left to try, or why nothing is.
fn left(carried: Vec<Way>, user: &User<'_>, pin_locked: bool, shows: Shows) -> Result<Vec<Way>, Reason> {
    let carries_some = !carried.is_empty();
    let ways = open(carried, user, pin_locked);
    match ways.is_empty() {
        false => Ok(ways),
        // Nothing but the help desk's code: it is asked for as any code is.
        true if user.temporary_code && shows >= Shows::Text => {
            Ok(vec![Way { method: Method::Code, pin: false, number: false, proof: Proof::Typed }])
        }
        true if carries_some && pin_locked => Err(Reason::LockedOut),
        true if carries_some => Err(Reason::NoUsableMethod),
        true => Err(Reason::MethodImpossible),
    }
}

/// FV-12: the user's own choice, else the company's, if it is among them; the others behind it as they were. Recovery codes come
/// last, and never by themselves where a code can be asked for: both are typed in the same field.
fn preferred_first(mut ways: Vec<Way>, request: &Request<'_>, user: &User<'_>) -> Vec<Way> {
    if ways.iter().any(|way| way.method == Method::Code) {
        ways.retain(|way| way.method != Method::Recovery);
    }
    let default = user.default_method.unwrap_or(request.company.default_method);
    ways.sort_by_key(|way| (way.method == Method::Recovery, way.method != default));
    ways
}
