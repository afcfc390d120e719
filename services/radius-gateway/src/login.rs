//! One attempt, from what the packet brings to the verdict: the order of the two locks (R-63, L-50 to L-54).
//!
//! ```text
//! password, no code            bind ─yes─> Begin                        one bind
//! password and code, required  bind the head ─yes─> Begin with the code one bind, none without a code
//! password and code, optional  code right: bind the head ─> Complete    one bind: the code is spent before it
//!                              code wrong: bind the whole ─> Begin
//! State                        Answer                                   no bind
//! ```

use crate::Gateway;
use crate::attempt::Attempt;
use crate::credentials::{self, Presented, Refusal};
use crate::listener::Request;
use crate::target::Target;
use crate::verify::{Allow, Ask, Decision, NoDecision};
use domain::settings::Appended;
use domain::{Reason, Secret, TransactionId};
use policy::appended::{Rule, Split, split};
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
pub(crate) async fn decide(gateway: &Arc<Gateway>, request: &Request, attempt: &mut Attempt) -> Verdict {
    let verified = request.verified();
    let deadline = request.received + Duration::from_secs(request.client.settings.wait_seconds.into());
    let now_unix_seconds = gateway.now_unix_seconds();
    let lesson = verified.lesson();
    gateway.learn(&request.client, lesson, false);
    let presented = credentials::read(&verified, request.client.name(), &gateway.keys.state(), now_unix_seconds);
    let decided = match presented {
        Ok(Presented::Password { name, password }) => {
            first_round(gateway, lesson, attempt, &name, &password, deadline).await
        }
        Ok(Presented::Answer { state, answer }) => next_round(gateway, attempt, &state, answer, deadline).await,
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
    name: &str,
    typed: &Secret,
    deadline: Instant,
) -> Result<Verdict, Reason> {
    let mut target = Target::of(gateway, attempt)?;
    let entry = target.resolve(name, attempt, deadline).await?;
    let client = attempt.client.clone();
    let rule = Rule::from(&client.settings);
    let code_digits = match rule.appended {
        Appended::Off => Vec::new(),
        Appended::Optional | Appended::Required => {
            gateway.verifier.appended_forms(&client, &entry.subject, deadline).await?
        }
    };
    let (password, code) = match split(rule, &code_digits, typed.expose()) {
        Split::Whole => (typed.clone(), None),
        Split::Code { head, code } => (Secret::new(head), Some(Secret::new(code))),
        Split::NoMatch => return Err(Reason::WrongCode),
        Split::EmptyPassword => return Err(Reason::EmptyPassword),
    };
    let begun = Instant::now();
    let (password, code, code_is_spent) = match code {
        Some(code) if rule.appended == Appended::Optional => {
            let spent = gateway.verifier.begin_with_code(attempt, code, deadline).await;
            attempt.second = Some(begun.elapsed());
            match spent? {
                Decision::CodeAccepted => (password, None, true),
                // Not a code of the user after all, or there were too many guesses: it is part of the password (L-52, L-54).
                Decision::Deny(Reason::WrongCode | Reason::ReusedCode | Reason::RateLimited | Reason::LockedOut) => {
                    (typed.clone(), None, false)
                }
                decision => return Ok(verdict(attempt, decision)?),
            }
        }
        code => (password, code, false),
    };
    target.bind(&entry, &password, attempt, deadline).await?;
    gateway.learn(&client, lesson, true);
    let begun = Instant::now();
    let code_given = code.is_some();
    let decided = match code_is_spent {
        true => gateway.verifier.complete(attempt, deadline).await,
        false => gateway.verifier.begin(attempt, code, deadline).await,
    };
    if code_given {
        attempt.second = Some(begun.elapsed());
    }
    Ok(verdict(attempt, decided?)?)
}

/// The password of this packet is an answer: it goes to verification and nowhere else (R-42).
async fn next_round(
    gateway: &Arc<Gateway>,
    attempt: &mut Attempt,
    state: &State,
    answer: Secret,
    deadline: Instant,
) -> Result<Verdict, Reason> {
    gateway.resume(attempt, state);
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
        Decision::Deny(reason) => Verdict::Reject(reason),
        // Verification was told that the device can show it.
        Decision::Ask(ask) if attempt.client.can_challenge() => Verdict::Challenge(ask),
        Decision::Ask(_) => Verdict::Reject(Reason::MethodImpossible),
        Decision::CodeAccepted => return Err(NoDecision(Reason::InternalError)),
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
        }
    }
}

impl From<NoDecision> for Reason {
    fn from(error: NoDecision) -> Self {
        error.0
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
