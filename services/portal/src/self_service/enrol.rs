//! Adding an authenticator app: a QR code, then one code of it as proof.
//!
//! V-86: with less than both locks this is open to those without any method, and only as long as they have none. That is looked at
//! before the secret is shown and again before it counts; of two sessions that race, the store keeps the pending secret of one.

use super::form::{Posted, Visitor};
use super::go_on;
use super::pages::{self, Enrol, Failure, Frame, Message, Scan, Shown, show};
use super::qr::Qr;
use super::sign_in::{own_detail, status_of, with_cookie};
use crate::app::{App, VERIFICATION_LIMIT, within};
use crate::http::ClientAddress;
use crate::session::{self, Live, Stage};
use crate::texts::ENGLISH;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::settings::FirstEnrolment;
use domain::{Reason, Secret, TransactionId};
use http::StatusCode;
use proto::verification::{ConfirmCodeRequest, StartCodeRequest};
use std::net::IpAddr;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    match visitor.at(may_enrol) {
        Some(live) => show(StatusCode::OK, &Enrol { frame: Frame::of(&app, ENGLISH.enrol_title, live), failure: None }),
        None => go_on(visitor.0.as_ref()),
    }
}

/// Makes the secret and shows it. An older one that was not confirmed is void from now on.
pub(super) async fn start(State(app): State<Arc<App>>, ClientAddress(from): ClientAddress, posted: Posted) -> Response {
    let Some(mut live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    let refused = |app: &App, live: &Live, reason: Reason| {
        let failure = Failure::new(ENGLISH.not_confirmed(reason), reference);
        show(status_of(reason), &Enrol { frame: Frame::of(app, ENGLISH.enrol_title, live), failure })
    };
    if !app.may_send_code(from) {
        return refused(&app, &live, Reason::RateLimited);
    }
    if let Err(reason) = still_allowed(&app, &live).await {
        tell(&live, from, reference, "refused", reason.code());
        return refused(&app, &live, reason);
    }
    let request = StartCodeRequest { user_id: live.session.user_id.clone(), ..StartCodeRequest::default() };
    let started = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_code(request)).await;
    let started = match started {
        Ok(started) => started,
        Err(status) => return pages::unavailable(&app, &status),
    };
    live.session.pending_factor_id = started.factor_id;
    if let Err(status) = session::save(&app, &mut live).await {
        return pages::unavailable(&app, &status);
    }
    let text = |secret: Option<proto::common::Secret>| {
        Secret::from(secret.unwrap_or_default()).expose_str().unwrap_or_default().to_owned()
    };
    let (uri, secret) = (text(started.otpauth_uri), text(started.seed_base32));
    let Some(qr) = Qr::of(uri.as_bytes()).filter(|_| uri.starts_with("otpauth://totp/")) else {
        tracing::error!(request_id = %reference, "verification gave no secret that can be shown");
        return refused(&app, &live, Reason::InternalError);
    };
    tell(&live, from, reference, "started", "");
    let shown = Some(Shown { qr, uri, secret: in_fours(&secret) });
    show(StatusCode::OK, &Scan { frame: Frame::of(&app, ENGLISH.scan_title, &live), failure: None, shown })
}

/// One code proves that the app has the secret; from then on it counts.
pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    mut posted: Posted,
) -> Response {
    let code = posted.secret("code");
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    if live.session.pending_factor_id.is_empty() {
        return go_on(Some(&live));
    }
    let reference = app.new_transaction();
    let refused = |app: &App, live: &Live, reason: Reason| {
        tell(live, from, reference, "refused", reason.code());
        let failure = Failure::new(ENGLISH.not_confirmed(reason), reference);
        let frame = Frame::of(app, ENGLISH.prove_again, live);
        show(status_of(reason), &Scan { frame, failure, shown: None })
    };
    if !app.may_send_code(from) {
        return refused(&app, &live, Reason::RateLimited);
    }
    if let Err(reason) = still_allowed(&app, &live).await {
        return refused(&app, &live, reason);
    }
    let request = ConfirmCodeRequest {
        user_id: live.session.user_id.clone(),
        factor_id: live.session.pending_factor_id.clone(),
        code: Some(code.into()),
        actor: "self".to_owned(),
    };
    let confirmed = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.confirm_code(request)).await;
    match confirmed {
        Ok(reply) if reply.confirmed => {}
        Ok(reply) => return refused(&app, &live, Reason::from_code(&reply.reason)),
        Err(status) => return pages::unavailable(&app, &status),
    }
    tell(&live, from, reference, "confirmed", "");
    // Whoever came with less has now proven a method of their own: a new id, as after any second factor.
    match session::promote(&app, live, Stage::Full).await {
        Ok(live) => with_cookie(Redirect::to("/enrol/done").into_response(), &live),
        Err(status) => pages::unavailable(&app, &status),
    }
}

pub(super) async fn done(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    let Some(live) = visitor.at(|stage| stage == Stage::Full) else { return go_on(visitor.0.as_ref()) };
    let page = Message {
        frame: Frame::of(&app, ENGLISH.done_title, live),
        failure: None,
        lead: Some(ENGLISH.done_lead),
        way_on: "/account",
        label: ENGLISH.done_next,
        good: true,
    };
    show(StatusCode::OK, &page)
}

fn may_enrol(stage: Stage) -> bool {
    matches!(stage, Stage::Enrolling | Stage::Full)
}

/// What was true at sign-in may have changed since: the user may be disabled, have got a method, or the settings may say otherwise.
async fn still_allowed(app: &App, live: &Live) -> Result<(), Reason> {
    let own = own_detail(app, live.session.subject.clone()).await?;
    if own.user_id != live.session.user_id {
        return Err(Reason::Blocked);
    }
    if live.stage == Stage::Full {
        // The method that opened the second lock was taken away since: with it goes the right to bring another one.
        return if own.has_factor() { Ok(()) } else { Err(Reason::Blocked) };
    }
    let settings = app.settings.current().ok_or(Reason::StoreUnavailable)?;
    match settings.settings.portal.first_enrolment {
        FirstEnrolment::Off => Err(Reason::NotEnrolled),
        _ if own.has_factor() => Err(Reason::Blocked),
        FirstEnrolment::Open | FirstEnrolment::Invitation => Ok(()),
    }
}

fn tell(live: &Live, from: IpAddr, reference: TransactionId, result: &'static str, reason: &'static str) {
    tracing::info!(
        event = "enrolment",
        service = "portal",
        request_id = %reference,
        r#ref = reference.short(),
        client_ip = %from,
        user = live.session.username,
        method = domain::Method::Code.code(),
        result,
        reason = Some(reason).filter(|reason| !reason.is_empty()),
        "enrolment"
    );
}

/// `JBSW Y3DP ...`: easier to type.
fn in_fours(secret: &str) -> String {
    let signs: Vec<char> = secret.chars().filter(|sign| !sign.is_whitespace()).collect();
    signs.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
