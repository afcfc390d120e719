//! The second lock of a sign-in: whatever verification asks for, a code, a choice, an answer on the phone, a passkey.
//!
//! The question is kept with the session, so that its page can be shown again. An answer on the phone is waited for: by the page's
//! script, or by the person's own click where there is no script. Each of both is a POST, because an answer changes what the session
//! may do (V-81).

use super::form::{Posted, Visitor};
use super::go_on;
use super::pages::{self, Approval, Choice, Code, Failure, Frame, PasskeyAsked, Questions, show};
use super::sign_in::{again, with_cookie};
use crate::app::{App, PERSON_LIMIT};
use crate::attempt::{Attempt, Verdict};
use crate::http::ClientAddress;
use crate::session::{self, Live, Stage};
use crate::texts::Texts;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::{Method, Reason, Secret, TransactionId};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use proto::verification::{Ask, AskKind};
use serde_json::json;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    match visitor.at(|stage| matches!(stage, Stage::Code { .. })) {
        Some(live) => form(&app, visitor.t, live, StatusCode::OK, None),
        None => go_on(visitor.live.as_ref()),
    }
}

/// An answer that was typed or chosen.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    mut posted: Posted,
) -> Response {
    let t = posted.t;
    let answer = answer_of(&mut posted);
    let Some((live, transaction, step)) = waiting(posted) else { return go_on(None) };
    if !app.may_send_code(from) {
        // Nothing was evaluated: the same page, the same round.
        let failure = Failure::new(t.refused(Reason::RateLimited), transaction);
        return form(&app, t, &live, StatusCode::TOO_MANY_REQUESTS, failure);
    }
    let attempt = Attempt::resume(&live.session, transaction, from);
    let verdict = attempt.answer(&app, step, answer).await;
    match advance(&app, live, attempt, verdict).await {
        Next::Done(response) => response,
        Next::Asked { live, previous } => {
            let failure = previous.and_then(|reason| Failure::new(t.refused(reason), transaction));
            let status = if failure.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
            form(&app, t, &live, status, failure)
        }
        Next::Over { live, reason } => over(&app, t, &headers, &live, transaction, reason).await,
        Next::Fault(status) => pages::unavailable(&app, t, &status),
    }
}

/// Waits a while for the answer on the phone. A script is told what to do next; a person sees the next page.
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let by_script = headers.get(ACCEPT).is_some_and(|accepted| accepted == "application/json");
    let tell = |next: &'static str| Json(json!({ "next": next })).into_response();
    let Some((live, transaction, step)) = waiting(posted) else {
        return if by_script { tell("/") } else { go_on(None) };
    };
    let attempt = Attempt::resume(&live.session, transaction, from);
    let verdict = attempt.wait(&app, step, PERSON_LIMIT).await;
    match advance(&app, live, attempt, verdict).await {
        Next::Done(response) if by_script => {
            let mut told = tell("/account");
            for cookie in response.headers().get_all(http::header::SET_COOKIE) {
                told.headers_mut().append(http::header::SET_COOKIE, cookie.clone());
            }
            told
        }
        Next::Done(response) => response,
        // The same question means: wait on.
        Next::Asked { live, .. } if by_script => {
            let same = session::asked(&live.session).is_some_and(|ask| ask.kind() == AskKind::Approval);
            if same { tell("") } else { tell("/code") }
        }
        Next::Asked { live, .. } => form(&app, t, &live, StatusCode::OK, None),
        // The page itself comes with the form's answer: the script sends the form.
        Next::Over { live, reason } if by_script => {
            end(&app, &live).await;
            Json(json!({ "next": "/", "sentence": t.refused(reason), "reference": transaction.short() }))
                .into_response()
        }
        Next::Over { live, reason } => over(&app, t, &headers, &live, transaction, reason).await,
        // The script asks again, later and later.
        Next::Fault(status) if by_script => {
            tracing::warn!(code = ?status.code(), "a wait could not go on");
            (StatusCode::SERVICE_UNAVAILABLE, tell("")).into_response()
        }
        Next::Fault(status) => pages::unavailable(&app, t, &status),
    }
}

/// What became of an answer.
enum Next {
    /// Both locks are open.
    Done(Response),
    Asked {
        live: Live,
        previous: Option<Reason>,
    },
    Over {
        live: Live,
        reason: Reason,
    },
    Fault(tonic::Status),
}

async fn advance(app: &App, mut live: Live, attempt: Attempt, verdict: Result<Verdict, Reason>) -> Next {
    match verdict {
        Ok(Verdict::Allow(allow)) => match attempt.allowed(app, allow, &live.session.user_id) {
            Ok(stage) => match session::promote(app, live, stage).await {
                Ok(live) => Next::Done(with_cookie(go_on(Some(&live)), &live)),
                Err(status) => Next::Fault(status),
            },
            Err(reason) => Next::Over { live, reason },
        },
        Ok(Verdict::Ask(ask)) => {
            let previous = (!ask.previous.is_empty()).then(|| Reason::from_code(&ask.previous));
            let same = session::asked(&live.session).is_some_and(|open| open == *ask);
            if !same {
                live.stage = Stage::Code { transaction: attempt.transaction, step: ask.step };
                session::ask(&mut live.session, &ask);
                if let Err(status) = session::save(app, &mut live).await {
                    return Next::Fault(status);
                }
            }
            Next::Asked { live, previous }
        }
        Ok(Verdict::Deny(reason, method)) => {
            attempt.denied_by(app, reason, &method);
            Next::Over { live, reason }
        }
        Err(reason) => {
            attempt.denied(app, reason);
            Next::Over { live, reason }
        }
    }
}

/// A code, a place in a list, an assertion: one field. Answers to questions: a line each.
fn answer_of(posted: &mut Posted) -> Secret {
    let answers = posted.all_secrets("answer");
    if answers.is_empty() {
        return posted.secret("code");
    }
    let mut lines = Vec::with_capacity(answers.iter().map(|answer| answer.len() + 1).sum());
    for answer in &answers {
        if !lines.is_empty() {
            lines.push(b'\n');
        }
        lines.extend(answer.expose().iter().map(|octet| if *octet == b'\n' { b' ' } else { *octet }));
    }
    Secret::new(lines)
}

fn waiting(posted: Posted) -> Option<(Live, TransactionId, u32)> {
    let live = posted.live?;
    match live.stage {
        Stage::Code { transaction, step } => Some((live, transaction, step)),
        _ => None,
    }
}

async fn end(app: &App, live: &Live) {
    if let Err(status) = session::end(app, live).await {
        tracing::debug!(code = ?status.code(), "the session of a failed sign-in ends by itself");
    }
}

/// The attempt is over, and so is its session. The cookie stays where it is: where a form was sent twice, the other answer may have
/// brought a better one.
async fn over(
    app: &App,
    t: &'static Texts,
    headers: &HeaderMap,
    live: &Live,
    transaction: TransactionId,
    reason: Reason,
) -> Response {
    end(app, live).await;
    let failure = Failure::new(t.refused(reason), transaction);
    again(app, t, headers, reason, failure, &live.session.username)
}

/// The page of the open question.
fn form(app: &App, t: &'static Texts, live: &Live, status: StatusCode, failure: Option<Failure>) -> Response {
    let ask = session::asked(&live.session).unwrap_or_default();
    let frame = |title| Frame::of(app, t, title, live);
    let method = Method::from_code(&ask.method);
    match ask.kind() {
        AskKind::Approval if method == Some(Method::Call) => {
            show(status, &Approval { frame: frame(t.call_title), failure, lead: t.call_lead, number: String::new() })
        }
        AskKind::Approval => {
            let lead = if ask.number.is_empty() { t.approve_lead } else { t.approve_number };
            show(status, &Approval { frame: frame(t.approve_title), failure, lead, number: ask.number })
        }
        AskKind::Choice => {
            let methods = ask.choices.iter().filter_map(|code| Method::from_code(code));
            let choices = methods.map(|method| (method.code(), t.method(method))).collect();
            show(status, &Choice { frame: frame(t.choice_title), failure, choices })
        }
        AskKind::Passkey => {
            let options = ask.passkey_json;
            show(status, &PasskeyAsked { frame: frame(t.passkey_title), failure, options })
        }
        AskKind::Questions => {
            show(status, &Questions { frame: frame(t.questions_title), failure, questions: ask.questions })
        }
        kind => show(status, &Code { frame: frame(title(t, kind)), failure, field: Field::of(t, kind, &ask) }),
    }
}

fn title(t: &'static Texts, kind: AskKind) -> &'static str {
    match kind {
        AskKind::NewPin => t.new_pin_title,
        AskKind::NewPinAgain => t.new_pin_again_title,
        _ => t.code_title,
    }
}

/// The one field of a page on which something is typed.
pub(super) struct Field {
    pub lead: &'static str,
    /// Where it was sent; empty = it was not.
    pub destination: String,
    pub label: &'static str,
    pub help: &'static str,
    /// It is not shown while it is typed, and no browser offers to keep it.
    pub hidden: bool,
    /// A new one can be asked for.
    pub resend: bool,
}

impl Field {
    fn of(t: &'static Texts, kind: AskKind, ask: &Ask) -> Self {
        let sent = !ask.destination.is_empty();
        let usual = Self {
            lead: if sent { t.code_sent } else { t.code_lead },
            destination: ask.destination.clone(),
            label: t.code,
            help: if sent { t.code_sms_help } else { t.code_help },
            hidden: false,
            resend: sent,
        };
        match kind {
            AskKind::CodeAndPin => Self { label: t.code_and_pin, help: t.code_and_pin_help, hidden: true, ..usual },
            AskKind::NewPin => {
                Self { lead: t.new_pin_lead, label: t.new_pin, help: "", hidden: true, resend: false, ..usual }
            }
            AskKind::NewPinAgain => {
                Self { lead: "", label: t.new_pin_again, help: "", hidden: true, resend: false, ..usual }
            }
            _ => usual,
        }
    }
}
