//! Sign-ins of applications that have no LDAP and no RADIUS (FC-05).
//!
//! ```text
//! POST /authentications ─┬─ allowed | refused
//!                        └─ asked ─┬─ approval: GET ...?wait=55 until it is another state
//!                                  └─ code, choice ...: POST .../answer
//! ```
//!
//! An id names a round, and nothing of it is kept here: `application~transaction~step`. Whose it is says the client's list of keys,
//! at every call; verification compares the client with the one that was asked.

use super::access::Caller;
use super::extract::{Body, Path, Query};
use super::factors::secret;
use super::moment;
use super::problem::Problem;
use super::secrets::given;
use crate::app::App;
use crate::attempt::{Asker, Attempt, NAME_LENGTH_MAX, Verdict, is_a_name};
use crate::http::ClientAddress;
use crate::metrics::Limited;
use axum::Json;
use axum::extract::State;
use domain::settings::{self, ClientProtocol};
use domain::{Method, Reason, ResultClass, Secret, TransactionId};
use http::StatusCode;
use proto::verification::{Ask, AskKind};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

const WAIT_SECONDS_MAX: u64 = 55;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAuthentication {
    /// The client of the settings, with protocol = "api".
    application: String,
    /// The name that was typed, in any form the directory knows.
    user: String,
    /// Checked by the application's directory. Absent: the application has checked it, and the audit says so.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// push, call, sms, code ...: what to begin with. Absent: as the user and the settings say.
    method: Option<String>,
    /// Where the person is: for trusted networks, and shown in prompts.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAnswer {
    /// A code, or the place of a choice, from 1.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    answer: Secret,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for the person, 0 to 55.
    #[serde(default)]
    wait: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AuthenticationState {
    Allowed,
    Asked,
    Refused,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Authentication {
    /// Names this round; the next question has another one.
    id: String,
    state: AuthenticationState,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<Question>,
    /// From the closed list of reasons: allowed or refused, why. Not for the person's eyes before the password was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Allowed: by what.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    /// Allowed: how much was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    assurance: Option<String>,
    /// Allowed: live, remembered, or the rule that let them in.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Allowed: who they are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Question {
    /// approval, code, code_and_pin, new_pin, new_pin_again or choice.
    kind: &'static str,
    /// push, call, sms, code ...
    method: String,
    /// approval: show this number, the person chooses it on the phone; empty = there is none.
    number: String,
    /// choice: methods; the answer is the place of one, from 1.
    choices: Vec<String>,
    /// Where a code went, masked.
    destination: String,
    /// Why the answer before was not taken; empty = there was none.
    previous: String,
    /// Of the person: BCP 47.
    language: String,
    expires: Option<String>,
}

/// Begin a sign-in: the password, if it is given, then the second factor
#[utoipa::path(post, path = "/authentications", tag = "authentications", request_body = NewAuthentication, responses(
    (status = 201, body = Authentication), (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    caller: Caller,
    Body(new): Body<NewAuthentication>,
) -> Result<(StatusCode, Json<Authentication>), Problem> {
    let mut asker = asker(&app, &caller, from, &new.application)?;
    asker.person = new.address.map(|address| address.to_canonical());
    let wanted = match new.method.as_deref() {
        None => None,
        Some(code) => Some(
            Method::from_code(code).ok_or_else(|| Problem::rule("method: is none; such as push, call, sms, code"))?,
        ),
    };
    let name = new.user.trim();
    if !is_a_name(name) {
        return Err(Problem::rule(format!(
            "user: allowed are 1 to {NAME_LENGTH_MAX} octets without control characters"
        )));
    }
    // Never sent to a directory: it would be an anonymous bind, and succeed (L-10).
    if new.password.as_ref().is_some_and(Secret::is_empty) {
        return Err(Problem::rule("password: is empty; leave it out where the application has checked it"));
    }
    let mut attempt = Attempt::new(asker, app.new_transaction(), from, name);
    let first = match new.password {
        Some(password) => {
            // Each one is a bind: bounded by name, so that no application is a way to guess, and in all.
            if !app.may_try_name(name) {
                attempt.denied(&app, Reason::RateLimited);
                return Err(Problem::too_many());
            }
            let Ok(_seat) = app.limits.sign_ins_at_once.try_acquire() else {
                app.metrics.limited(Limited::SignInsAtOnce);
                attempt.denied(&app, Reason::Overloaded);
                return Err(Problem::too_many());
            };
            attempt.check_password(&app, password).await.map(drop)
        }
        None => attempt.find(&app).await,
    };
    if let Err(reason) = first {
        let id = Round::of(&attempt, 0).id();
        attempt.failed_first(&app, reason).await;
        return refused(id, reason).map(created);
    }
    let verdict = attempt.decide(&app, wanted).await;
    told(&app, attempt, 0, verdict).map(created)
}

/// Wait for the person's answer on the phone; still open is the same question again
#[utoipa::path(get, path = "/authentications/{id}", tag = "authentications", params(("id" = String, Path), Wait), responses(
    (status = 200, body = Authentication), (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn look(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    caller: Caller,
    Path(id): Path<String>,
    Query(how): Query<Wait>,
) -> Result<Json<Authentication>, Problem> {
    if how.wait > WAIT_SECONDS_MAX {
        return Err(Problem::rule(format!("wait: found {}; allowed are 0 to {WAIT_SECONDS_MAX}", how.wait)));
    }
    let round = Round::parse(&id)?;
    let attempt = round.attempt(&app, &caller, from)?;
    let verdict = attempt.wait(&app, round.step, Duration::from_secs(how.wait)).await;
    told(&app, attempt, round.step, verdict).map(Json)
}

/// Answer a question
#[utoipa::path(post, path = "/authentications/{id}/answer", tag = "authentications", request_body = NewAnswer,
    params(("id" = String, Path)), responses(
    (status = 200, body = Authentication), (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewAnswer>,
) -> Result<Json<Authentication>, Problem> {
    let round = Round::parse(&id)?;
    let attempt = round.attempt(&app, &caller, from)?;
    let verdict = attempt.answer(&app, round.step, new.answer).await;
    told(&app, attempt, round.step, verdict).map(Json)
}

/// Nobody waits any more: the phone asks no longer
#[utoipa::path(delete, path = "/authentications/{id}", tag = "authentications", params(("id" = String, Path)), responses(
    (status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let attempt = Round::parse(&id)?.attempt(&app, &caller, from)?;
    attempt.cancelled(&app).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A round as its id names it.
struct Round {
    application: String,
    transaction: TransactionId,
    step: u32,
}

impl Round {
    fn of(attempt: &Attempt, step: u32) -> Self {
        Self { application: attempt.client().to_owned(), transaction: attempt.transaction, step }
    }

    fn id(&self) -> String {
        format!("{}~{}~{}", self.application, self.transaction, self.step)
    }

    fn parse(id: &str) -> Result<Self, Problem> {
        let parts: Vec<&str> = id.split('~').collect();
        let [application, transaction, step] = parts[..] else { return Err(gone()) };
        // Round 0 is what stands for the beginning, and asks nothing.
        let (Ok(transaction), Ok(step @ 1..)) = (transaction.parse(), step.parse()) else { return Err(gone()) };
        Ok(Self { application: application.to_owned(), transaction, step })
    }

    fn attempt(&self, app: &App, caller: &Caller, from: IpAddr) -> Result<Attempt, Problem> {
        let asker = asker(app, caller, from, &self.application).map_err(|_| gone())?;
        Ok(Attempt::later(asker, self.transaction, from, self.step))
    }
}

fn gone() -> Problem {
    Problem::not_found("no such question is open")
}

/// The application, if this key may ask for it from this address. Which of these is not so is not told.
fn asker(app: &App, caller: &Caller, from: IpAddr, application: &str) -> Result<Asker, Problem> {
    let current = app.settings.current();
    let held = |client: &&settings::Client| {
        client.protocol == ClientProtocol::Api
            && client.api_keys.contains(&caller.key)
            && client.sources.iter().any(|network| network.contains(&from))
    };
    let client = current.as_ref().and_then(|current| current.settings.client(application));
    client.filter(held).map(Asker::application).ok_or_else(|| {
        Problem::not_found(
            "application: there is no API client of this name for this key and the address it is used from",
        )
    })
}

fn created(told: Authentication) -> (StatusCode, Json<Authentication>) {
    (StatusCode::CREATED, Json(told))
}

/// What verification says, as the caller hears it. `step` is the round that was asked about.
fn told(app: &App, attempt: Attempt, step: u32, verdict: Result<Verdict, Reason>) -> Result<Authentication, Problem> {
    let id = Round::of(&attempt, step).id();
    match verdict {
        Ok(Verdict::Allow(allow)) => {
            attempt.let_in(app, &allow);
            Ok(Authentication {
                reason: Some(allow.reason.code()),
                method: allow.method.map(Method::code),
                assurance: Some(allow.assurance),
                source: Some(allow.source),
                user_id: Some(allow.user_id).filter(|id| !id.is_empty()),
                ..plain(id, AuthenticationState::Allowed)
            })
        }
        Ok(Verdict::Ask(ask)) => {
            let id = Round::of(&attempt, ask.step).id();
            Ok(Authentication { question: Some(question(*ask)), ..plain(id, AuthenticationState::Asked) })
        }
        // A stray copy must not end a sign-in that goes on, nor have a line in the log of its own.
        Ok(Verdict::Deny(Reason::ChallengeGone, _)) if step > 0 => Err(gone()),
        Ok(Verdict::Deny(reason, method)) => {
            attempt.denied_by(app, reason, &method);
            refused(id, reason)
        }
        Err(reason) => {
            attempt.denied(app, reason);
            refused(id, reason)
        }
    }
}

/// No decision is no answer: the caller may try again.
fn refused(id: String, reason: Reason) -> Result<Authentication, Problem> {
    match reason.class() {
        ResultClass::Error => Err(Problem::unavailable(reason)),
        _ => Ok(Authentication { reason: Some(reason.code()), ..plain(id, AuthenticationState::Refused) }),
    }
}

fn plain(id: String, state: AuthenticationState) -> Authentication {
    Authentication {
        id,
        state,
        question: None,
        reason: None,
        method: None,
        assurance: None,
        source: None,
        user_id: None,
    }
}

fn question(ask: Ask) -> Question {
    Question {
        kind: match ask.kind() {
            AskKind::Approval => "approval",
            AskKind::CodeAndPin => "code_and_pin",
            AskKind::NewPin => "new_pin",
            AskKind::NewPinAgain => "new_pin_again",
            AskKind::Choice => "choice",
            // The last two are the portal's alone, and the first is none.
            AskKind::Code | AskKind::Passkey | AskKind::Questions | AskKind::Unspecified => "code",
        },
        expires: moment(ask.expires_unix_ms),
        method: ask.method,
        number: ask.number,
        choices: ask.choices,
        destination: ask.destination,
        previous: ask.previous,
        language: ask.language,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_application_attempt_and_round_and_nothing_else_is_one() {
        let transaction = TransactionId(uuid::Uuid::from_u128(7));
        let id = Round { application: "time-sheets.2".into(), transaction, step: 3 }.id();
        let read = Round::parse(&id).map_err(|_| ()).expect("ours");
        assert_eq!((read.application.as_str(), read.transaction, read.step), ("time-sheets.2", transaction, 3));
        for bad in [
            "",
            "a",
            "a~b~1",
            &format!("a~{transaction}"),
            &format!("a~{transaction}~-1"),
            &format!("a~{transaction}~0"),
            &format!("{id}~1"),
        ] {
            assert!(Round::parse(bad).is_err(), "{bad}");
        }
    }
}
