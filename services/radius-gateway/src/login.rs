//! One attempt, from what the packet brings to the verdict: the order of the two locks (R-63, L-50 to L-54).
//!
//! ```text
//! password, no code            bind ─yes─> Begin                        one bind
//! password and code, required  bind the head ─yes─> Begin with the code one bind, none without a code
//! password and code, optional  code right: bind the head ─> Complete    one bind: the code is spent before it
//!                              code wrong: bind the whole ─> Begin
//! State                        Answer                                   no bind
//! ```
//!
//! While verification is down (V-40) the password is tried only where the client lets people in on it alone.

use crate::attempt::Attempt;
use crate::credentials::{self, Presented, Refusal};
use crate::listener::Request;
use crate::metrics::InFlight;
use crate::target::Target;
use crate::verify::{Allow, Ask, Decision, MARGIN, NoDecision};
use crate::{Gateway, question};
use directory::Entry;
use domain::settings::Appended;
use domain::{Method, Protocol, Reason, Secret, TransactionId};
use fail_open::{Admission, Login, NoPass};
use policy::appended::{Forms, Rule, Split, split};
use radius_wire::{DropReason, Lesson, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How a request is to be answered.
#[derive(Debug)]
pub(crate) enum Verdict {
    Accept(Allow),
    Challenge(Ask),
    Reject(Reason),
    /// Not at all.
    Silence(DropReason),
}

/// Decides a request. May be dropped at any await: what is then open at verification is closed by whoever dropped it.
pub(crate) async fn decide(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    in_flight: &mut InFlight<'_>,
) -> Verdict {
    let verified = request.verified();
    let deadline = request.received + Duration::from_secs(request.client.settings.wait_seconds.into());
    let now_unix_seconds = gateway.now_unix_seconds();
    let lesson = verified.lesson();
    gateway.learn(&request.client, lesson, false);
    let presented = credentials::read(&verified, request.client.name(), &gateway.keys.state(), now_unix_seconds);
    let decided = match presented {
        Ok(Presented::Password { name, password }) => {
            // Boxed: what waits for a person is kept small, and this is the larger part of it.
            Box::pin(first_round(gateway, lesson, attempt, (&name, &password), deadline, in_flight)).await
        }
        Ok(Presented::Answer { state, answer }) => {
            next_round(gateway, attempt, &state, answer, deadline, in_flight).await
        }
        Err(Refusal::Silence(reason)) => Ok(Verdict::Silence(reason)),
        Err(Refusal::Reject { reason, conversation }) => {
            if let Some(state) = conversation {
                gateway.resume(attempt, &state);
                gateway.verifier.cancel(attempt.transaction, reason);
                attempt.recorded = true;
            }
            hint(request, reason, &verified);
            Err(reason)
        }
    };
    decided.unwrap_or_else(Verdict::Reject)
}

async fn first_round(
    gateway: &Arc<Gateway>,
    lesson: Lesson,
    attempt: &mut Attempt,
    typed: (&str, &Secret),
    deadline: Instant,
    in_flight: &mut InFlight<'_>,
) -> Result<Verdict, Reason> {
    let (name, typed) = typed;
    let mut target = Target::of(gateway, attempt)?;
    let client = attempt.client.clone();
    // While nobody can decide, a password is tried only where it may be enough: the answer would tell whether it was right (B5).
    unless_it_passes(gateway.fail_open.applies_to(&client.settings))?;
    let entry = target.resolve(name, attempt, deadline).await?;
    let admitted = gateway.fail_open.admit(&client.settings, target.directory(), &entry, deadline - MARGIN).await;
    let admission = unless_it_passes(admitted)?;
    let Factors { password, code, wanted, spent } =
        Factors::of(gateway, attempt, &entry, typed, admission.is_some(), deadline).await?;
    target.bind(&entry, &password, attempt, deadline).await?;
    gateway.learn(&client, lesson, true);
    attempt.password_digest = gateway.keys.password_digest(&client, &entry.subject, password.expose());
    let code_given = code.is_some() || spent;
    attempt.method = attempt.method.or(wanted).or(code_given.then_some(Method::Code));
    in_flight.waits_for(attempt.method);
    let begun = Instant::now();
    let decided = match spent {
        true => gateway.verifier.complete(attempt, deadline).await,
        false => gateway.verifier.begin(attempt, code, wanted, deadline).await,
    };
    match (decided, admission) {
        (Err(NoDecision { nobody_there: true, .. }), Some(admission)) => {
            attempt.method = None;
            let_in_while_down(gateway, attempt, admission, deadline).await
        }
        (decided, _) => {
            let decided = decided?;
            if attempt.second.is_none() && attempt.method.is_some() {
                attempt.second = Some(begun.elapsed());
            }
            Ok(verdict(attempt, decided)?)
        }
    }
}

/// What was typed, taken apart: the password to bind with, and what stood behind it (L-50 to L-55).
struct Factors {
    password: Secret,
    code: Option<Secret>,
    wanted: Option<Method>,
    /// The code was right, and was spent before the bind.
    spent: bool,
}

impl Factors {
    /// `passing`: verification is down, and the person is let in if the password is right. Nobody can say then what they could have
    /// appended, so that whatever looks like it is taken off.
    async fn of(
        gateway: &Gateway,
        attempt: &mut Attempt,
        entry: &Entry,
        typed: &Secret,
        passing: bool,
        deadline: Instant,
    ) -> Result<Self, Reason> {
        let rule = Rule::from(&attempt.client.settings);
        let forms = match rule.appended {
            Appended::Off => Forms::default(),
            Appended::Optional | Appended::Required => {
                match gateway.verifier.appended_forms(&attempt.client, &entry.subject, deadline).await {
                    Err(NoDecision { nobody_there: true, .. }) if passing => Forms::any(),
                    forms => forms?,
                }
            }
        };
        let alone = |password: &[u8]| Self { password: Secret::new(password), code: None, wanted: None, spent: false };
        match split(rule, &forms, typed.expose()) {
            Split::Whole => Ok(alone(typed.expose())),
            Split::NoMatch => Err(Reason::WrongCode),
            Split::EmptyPassword => Err(Reason::EmptyPassword),
            Split::Method { head, wanted } => Ok(Self { wanted, ..alone(head) }),
            Split::Code { head, code } if rule.appended == Appended::Required => {
                Ok(Self { code: Some(Secret::new(code)), ..alone(head) })
            }
            Split::Code { head, code } => {
                let begun = Instant::now();
                let spent = gateway.verifier.begin_with_code(attempt, Secret::new(code), deadline).await;
                attempt.second = Some(begun.elapsed());
                attempt.method = attempt.method.or(Some(Method::Code));
                match spent {
                    Ok(Decision::CodeAccepted) => Ok(Self { spent: true, ..alone(head) }),
                    // Not a code of the user after all, or there were too many guesses: it is part of the password (L-52, L-54).
                    Ok(Decision::Deny(
                        Reason::WrongCode | Reason::ReusedCode | Reason::RateLimited | Reason::LockedOut,
                    )) => Ok(alone(typed.expose())),
                    Ok(Decision::Deny(reason)) => {
                        attempt.recorded = true;
                        Err(reason)
                    }
                    // Not before the password: `verify` refuses both, and so does this.
                    Ok(Decision::Allow(_) | Decision::Ask(_)) => Err(Reason::InternalError),
                    Err(NoDecision { nobody_there: true, .. }) if passing => {
                        attempt.second = None;
                        Ok(alone(head))
                    }
                    Err(error) => Err(error.reason),
                }
            }
        }
    }
}

/// `None` while verification is not down, and everything goes its way.
fn unless_it_passes<T>(passes: Result<T, NoPass>) -> Result<Option<T>, Reason> {
    match passes {
        Ok(passes) => Ok(Some(passes)),
        Err(NoPass::NotDown) => Ok(None),
        Err(why) => {
            tracing::debug!(service = crate::NAME, why = %why, "verification is down, and nobody is let in");
            Err(Reason::VerificationUnavailable)
        }
    }
}

/// V-40: the password was right, and nobody is there to decide.
async fn let_in_while_down(
    gateway: &Gateway,
    attempt: &mut Attempt,
    admission: Admission,
    deadline: Instant,
) -> Result<Verdict, Reason> {
    let login = Login {
        transaction: attempt.transaction,
        protocol: Protocol::Radius,
        username: attempt.person.as_ref().map_or("", |person| &person.username),
        client_ip: attempt.client_ip.to_string(),
        calling_station: attempt.calling_station.as_deref().unwrap_or_default(),
    };
    let passed = gateway.fail_open.record(admission, &login, deadline - MARGIN).await.map_err(|why| {
        tracing::warn!(service = crate::NAME, request_id = %attempt.transaction, why = %why, "nobody is let in while verification is down");
        Reason::VerificationUnavailable
    })?;
    attempt.recorded = true;
    gateway.metrics.fail_open(attempt.client.name());
    Allow::while_down(&passed, attempt).map(Verdict::Accept).ok_or(Reason::InternalError)
}

/// The password of this packet is an answer: it goes to verification and nowhere else (R-42).
async fn next_round(
    gateway: &Arc<Gateway>,
    attempt: &mut Attempt,
    state: &State,
    answer: Secret,
    deadline: Instant,
    in_flight: &mut InFlight<'_>,
) -> Result<Verdict, Reason> {
    gateway.resume(attempt, state);
    in_flight.waits_for(attempt.method);
    let begun = Instant::now();
    let decided = gateway.verifier.answer(attempt, state.step, answer, deadline).await;
    attempt.second = Some(begun.elapsed());
    let decision = decided?;
    // The conversation was with this user; an Allow for somebody else is none.
    let user = match &decision {
        Decision::Allow(allow) => Some(allow.user),
        Decision::Ask(ask) => Some(ask.user),
        Decision::Deny(_) | Decision::CodeAccepted => None,
    };
    if user.is_some_and(|user| user != Uuid::from_bytes(state.user)) {
        return Err(Reason::InternalError);
    }
    Ok(verdict(attempt, decision)?)
}

fn verdict(attempt: &mut Attempt, decision: Decision) -> Result<Verdict, NoDecision> {
    attempt.recorded = matches!(decision, Decision::Allow(_) | Decision::Deny(_));
    Ok(match decision {
        Decision::Allow(allow) => Verdict::Accept(allow),
        Decision::Deny(reason) => {
            if reason == Reason::MethodImpossible {
                // R-48, R-49: the reason alone would leave the administrator guessing.
                tracing::warn!(
                    service = crate::NAME,
                    client = attempt.client.name(),
                    request_id = %attempt.transaction,
                    can_challenge = attempt.client.can_challenge(),
                    "the person has no method left that this device can carry; let it show challenges, or take codes after the password"
                );
            }
            Verdict::Reject(reason)
        }
        // Verification was told what the device can show.
        Decision::Ask(ask) if attempt.client.can_challenge() && question::can_be_shown(ask.kind) => {
            Verdict::Challenge(ask)
        }
        Decision::Ask(ask) => {
            tracing::warn!(
                service = crate::NAME,
                client = attempt.client.name(),
                method = ask.method.map(Method::code),
                "verification asks what this device cannot show"
            );
            Verdict::Reject(Reason::MethodImpossible)
        }
        Decision::CodeAccepted => return Err(NoDecision::of(Reason::InternalError)),
    })
}

impl Gateway {
    /// Puts the attempt into the place of the conversation it goes on with.
    fn resume(&self, attempt: &mut Attempt, state: &State) {
        attempt.transaction = TransactionId(Uuid::from_bytes(state.transaction));
        attempt.rounds = u32::from(state.step) + 1;
        if let Some(opened) = self.challenges.opened(attempt.transaction) {
            attempt.begun = opened.begun;
            attempt.person = opened.person;
            attempt.first = opened.first;
            attempt.method = opened.method;
        }
    }
}

impl From<NoDecision> for Reason {
    fn from(error: NoDecision) -> Self {
        error.reason
    }
}

/// Says what the administrator of the device has to change; the reason alone would leave him guessing.
fn hint(request: &Request, reason: Reason, verified: &radius_wire::Verified<'_>) {
    let client = request.client.name();
    match reason {
        Reason::ProtocolUnsupported => match credentials::unsupported_kind(verified) {
            Some(kind) => tracing::warn!(
                service = crate::NAME,
                client,
                sent = kind,
                "the device sends a kind of credentials that a directory cannot check; set it to PAP"
            ),
            None => tracing::warn!(
                service = crate::NAME,
                client,
                "the device sends a request without one readable name and password"
            ),
        },
        Reason::SecretMismatch => tracing::warn!(
            service = crate::NAME,
            client,
            "a password could not be read; the shared secret of the device is probably another one"
        ),
        _ => {}
    }
}
