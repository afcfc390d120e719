//! Adding a method: which ways there are, and what all of them have in common. A file each: `enrol/code`, `enrol/device`, `enrol/passkey`,
//! `enrol/phone`, `enrol/recovery`.
//!
//! V-86: with less than both locks this is open to those without any method, and only as long as they have none. That is looked at
//! before anything is shown or sent, and again before it counts; of two sessions that race, the store keeps the pending secret of one.

pub(super) mod code;
pub(super) mod device;
pub(super) mod passkey;
pub(super) mod phone;
pub(super) mod recovery;

use super::form::Visitor;
use super::go_on;
use super::pages::{self, Choose, Failure, Frame, Message, Offered, show};
use super::sign_in::{Own, own_detail, status_of, with_cookie};
use crate::app::App;
use crate::session::{self, Live, Stage};
use crate::texts::Texts;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::settings::{Channel, FirstEnrolment};
use domain::{Method, Reason, TransactionId};
use http::StatusCode;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    match visitor.at(may_enrol) {
        Some(live) => choose(&app, visitor.t, live, StatusCode::OK, None),
        None => go_on(visitor.live.as_ref()),
    }
}

/// The ways that the settings leave.
fn choose(app: &App, t: &'static Texts, live: &Live, status: StatusCode, failure: Option<Failure>) -> Response {
    let settings = app.settings.current();
    let settings = settings.as_ref().map(|current| &current.settings);
    let carried = |channel| settings.is_some_and(|it| it.carries(channel));
    let offered = Offered {
        push: settings.is_some_and(|it| it.push.web),
        pi: settings.is_some_and(|it| it.push.pi),
        sms: carried(Channel::Sms),
        call: carried(Channel::Voice),
        recovery: live.stage == Stage::Full,
    };
    show(status, &Choose { frame: Frame::of(app, t, t.choose_title, live), failure, offered })
}

pub(super) async fn done(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    let t = visitor.t;
    let Some(live) = visitor.at(|stage| stage == Stage::Full) else { return go_on(visitor.live.as_ref()) };
    let lead = match live.session.added.as_str() {
        "device" => t.device_done_lead,
        "phone" => t.phone_done_lead,
        "passkey" => t.passkey_done_lead,
        _ => t.done_lead,
    };
    let page = Message {
        frame: Frame::of(&app, t, t.done_title, live),
        failure: None,
        lead: Some(lead),
        way_on: "/account",
        label: t.done_next,
        good: true,
    };
    show(StatusCode::OK, &page)
}

fn may_enrol(stage: Stage) -> bool {
    matches!(stage, Stage::Enrolling | Stage::Full)
}

/// The chooser again, with why not.
fn refused(app: &App, t: &'static Texts, live: &Live, reason: Reason, reference: TransactionId) -> Response {
    choose(app, t, live, status_of(reason), Failure::new(t.not_confirmed(reason), reference))
}

/// The method was proven. Whoever came with less has now proven a method of their own: a new id, as after any second factor, and
/// nothing is pending in its session.
async fn proven(app: &App, t: &'static Texts, mut live: Live, added: &'static str) -> Response {
    added.clone_into(&mut live.session.added);
    match session::promote(app, live, Stage::Full).await {
        Ok(live) => with_cookie(Redirect::to("/enrol/done").into_response(), &live),
        Err(status) => pages::unavailable(app, t, &status),
    }
}

/// Before anything is shown or sent, and again before it counts.
async fn may_go_on(app: &App, live: &Live, from: IpAddr) -> Result<(), Reason> {
    match app.may_send_code(from) {
        true => still_allowed(app, live).await,
        false => Err(Reason::RateLimited),
    }
}

/// What was true at sign-in may have changed since: the user may be disabled, have got a method, or the settings may say otherwise.
pub(super) async fn still_allowed(app: &App, live: &Live) -> Result<(), Reason> {
    let own = own_detail(app, live.session.subject.clone()).await?;
    if own.user_id != live.session.user_id {
        return Err(Reason::Blocked);
    }
    if live.stage == Stage::Full {
        // The method that opened the second lock was taken away since: with it goes the right to bring another one.
        return if own.has_method() { Ok(()) } else { Err(Reason::Blocked) };
    }
    may_add_first(app, &own)
}

/// A first method, by somebody who has none (V-86).
pub(super) fn may_add_first(app: &App, own: &Own) -> Result<(), Reason> {
    let settings = app.settings.current().ok_or(Reason::StoreUnavailable)?;
    match settings.settings.portal.first_enrolment {
        FirstEnrolment::Off => Err(Reason::NotEnrolled),
        _ if own.has_factor() => Err(Reason::Blocked),
        FirstEnrolment::Open | FirstEnrolment::Invitation => Ok(()),
    }
}

fn tell(
    live: &Live,
    from: IpAddr,
    reference: TransactionId,
    method: Method,
    result: &'static str,
    reason: &'static str,
) {
    tracing::info!(
        event = "enrolment",
        service = "portal",
        request_id = %reference,
        r#ref = reference.short(),
        client_ip = %from,
        user = live.session.username,
        method = method.code(),
        result,
        reason = Some(reason).filter(|reason| !reason.is_empty()),
        "enrolment"
    );
}
