//! A phone that can be asked: it scans, connects by itself, and approves once as proof (V-20, FM-04).

use super::{choose, may_enrol, may_go_on, proven, refused, tell};
use crate::app::{App, PERSON_LIMIT, VERIFICATION_LIMIT, text_of, within};
use crate::http::ClientAddress;
use crate::self_service::form::Posted;
use crate::self_service::go_on;
use crate::self_service::pages::{self, Device, DeviceProve, Failure, Frame, Shown, show};
use crate::self_service::qr::Qr;
use crate::self_service::sign_in::status_of;
use crate::session::{self, Live};
use crate::texts::Texts;
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason, ResultClass};
use http::StatusCode;
use proto::verification::{DeviceStateReply, DeviceStateRequest, StartDeviceRequest, TryMethodRequest};
use std::sync::Arc;

/// Shows what the phone has to scan. Shown once.
pub(in crate::self_service) async fn start(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let kind = if posted.text("kind") == "pi" { "pi" } else { "web" };
    let Some(mut live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if let Err(reason) = may_go_on(&app, &live, from).await {
        tell(&live, from, reference, Method::Push, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request =
        StartDeviceRequest { user_id: live.session.user_id.clone(), kind: kind.to_owned(), actor: "self".to_owned() };
    // A key for the app may have to be made.
    let started = within(PERSON_LIMIT, request, |request| app.deps.enrolment.start_device(request)).await;
    let started = match started {
        Ok(started) => started,
        Err(status) => return pages::unavailable(&app, t, &status),
    };
    if started.devices_max > 0 {
        let failure = Failure::new(t.too_many_devices(started.devices_max), reference);
        return choose(&app, t, &live, StatusCode::FORBIDDEN, failure);
    }
    if !started.reason.is_empty() {
        return refused(&app, t, &live, Reason::from_code(&started.reason), reference);
    }
    live.session.pending_device_id = started.device_id;
    if let Err(status) = session::save(&app, &mut live).await {
        return pages::unavailable(&app, t, &status);
    }
    let uri = text_of(started.uri);
    let known =
        ["https://", "http://", "otpauth://pipush/", "pia://pipush/"].iter().any(|start| uri.starts_with(start));
    let Some(qr) = Qr::of(uri.as_bytes()).filter(|_| known) else {
        tracing::error!(request_id = %reference, "verification gave no address that a phone can scan");
        return refused(&app, t, &live, Reason::InternalError, reference);
    };
    tell(&live, from, reference, Method::Push, "started", "");
    let (title, lead) = if kind == "pi" { (t.pi_title, t.pi_lead) } else { (t.device_title, t.device_lead) };
    let shown = Some(Shown { qr, uri, secret: String::new() });
    let frame = Frame::of(&app, t, title, &live);
    show(StatusCode::OK, &Device { frame, failure: None, lead, shown, link: kind == "web" })
}

/// Has the phone connected?
pub(in crate::self_service) async fn check(State(app): State<Arc<App>>, posted: Posted) -> Response {
    let t = posted.t;
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    match device_state(&app, &live).await.as_ref().map(|state| state.state.as_str()) {
        Ok("redeemed") => prove_page(&app, t, &live, None),
        Ok("active") => proven(&app, t, live, "device").await,
        Ok("open") => {
            let failure = Failure::new(t.device_not_yet, reference);
            let frame = Frame::of(&app, t, t.device_title, &live);
            show(StatusCode::OK, &Device { frame, failure, lead: "", shown: None, link: false })
        }
        Ok(_) => refused(&app, t, &live, Reason::ChallengeGone, reference),
        Err(status) => pages::unavailable(&app, t, status),
    }
}

async fn device_state(app: &App, live: &Live) -> Result<DeviceStateReply, tonic::Status> {
    let request =
        DeviceStateRequest { user_id: live.session.user_id.clone(), device_id: live.session.pending_device_id.clone() };
    within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.device_state(request)).await
}

/// "Prompt me now": a real prompt, which has to be approved.
pub(in crate::self_service) async fn prove(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if live.session.pending_device_id.is_empty() {
        return go_on(Some(&live));
    }
    if let Err(reason) = may_go_on(&app, &live, from).await {
        return prove_page(&app, t, &live, Some((reason, Failure::new(t.not_confirmed(reason), reference))));
    }
    // By the prompt that the phone shows when it is connected: whoever has approved that is not asked again.
    if device_state(&app, &live).await.is_ok_and(|state| state.state == "active") {
        return proven(&app, t, live, "device").await;
    }
    let request = TryMethodRequest {
        user_id: live.session.user_id.clone(),
        method: Method::Push.code().to_owned(),
        device_id: live.session.pending_device_id.clone(),
        actor: "self".to_owned(),
        to_prove: true,
    };
    let tried = within(PERSON_LIMIT, request, |request| app.deps.enrolment.try_method(request)).await;
    match tried.map(|tried| Reason::from_code(&tried.reason)) {
        Ok(reason) if reason.class() == ResultClass::Success => {
            tell(&live, from, reference, Method::Push, "confirmed", "");
            proven(&app, t, live, "device").await
        }
        Ok(reason) => {
            tell(&live, from, reference, Method::Push, "refused", reason.code());
            prove_page(&app, t, &live, Some((reason, Failure::new(t.not_confirmed(reason), reference))))
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            let reason = Reason::NoAnswer;
            prove_page(&app, t, &live, Some((reason, Failure::new(t.not_confirmed(reason), reference))))
        }
        Err(status) => pages::unavailable(&app, t, &status),
    }
}

fn prove_page(app: &App, t: &'static Texts, live: &Live, failed: Option<(Reason, Option<Failure>)>) -> Response {
    let (status, failure) = failed.map_or((StatusCode::OK, None), |(reason, failure)| (status_of(reason), failure));
    show(status, &DeviceProve { frame: Frame::of(app, t, t.device_prove_title, live), failure })
}
