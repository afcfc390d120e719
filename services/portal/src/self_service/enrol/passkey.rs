//! A passkey for the portal itself (FV-08): the browser makes it, and what it sent is checked by verification.

use super::{may_enrol, proven, refused, still_allowed, tell};
use crate::app::{App, VERIFICATION_LIMIT, within};
use crate::http::ClientAddress;
use crate::self_service::form::Posted;
use crate::self_service::go_on;
use crate::self_service::pages::{self, Frame, NewPasskey, show};
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason};
use http::StatusCode;
use proto::verification::{ConfirmPasskeyRequest, StartPasskeyRequest};
use std::sync::Arc;

/// What the browser has to make. The ceremony is bound to the person and to this passkey, so its id may travel with the form.
pub(in crate::self_service) async fn start(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if !app.may_send_code(from) {
        return refused(&app, t, &live, Reason::RateLimited, reference);
    }
    if let Err(reason) = still_allowed(&app, &live).await {
        tell(&live, from, reference, Method::Passkey, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request = StartPasskeyRequest { user_id: live.session.user_id.clone(), actor: "self".to_owned() };
    let started = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_passkey(request)).await;
    match started {
        Ok(started) => {
            tell(&live, from, reference, Method::Passkey, "started", "");
            let frame = Frame::of(&app, t, t.passkey_new_title, &live);
            show(StatusCode::OK, &NewPasskey { frame, options: started.options_json, passkey_id: started.passkey_id })
        }
        Err(status) => pages::unavailable(&app, t, &status),
    }
}

/// What the browser made.
pub(in crate::self_service) async fn confirm(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let request = ConfirmPasskeyRequest {
        user_id: String::new(),
        passkey_id: posted.text("passkey_id").to_owned(),
        name: posted.text("name").to_owned(),
        credential_json: posted.text("credential").to_owned(),
        actor: "self".to_owned(),
    };
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    let allowed = match app.may_send_code(from) {
        true => still_allowed(&app, &live).await,
        false => Err(Reason::RateLimited),
    };
    if let Err(reason) = allowed {
        tell(&live, from, reference, Method::Passkey, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request = ConfirmPasskeyRequest { user_id: live.session.user_id.clone(), ..request };
    let confirmed = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.confirm_passkey(request)).await;
    match confirmed {
        Ok(reply) if reply.confirmed => {
            tell(&live, from, reference, Method::Passkey, "confirmed", "");
            proven(&app, t, live, "passkey").await
        }
        Ok(reply) => {
            let reason = Reason::from_code(&reply.reason);
            tell(&live, from, reference, Method::Passkey, "refused", reason.code());
            refused(&app, t, &live, reason, reference)
        }
        Err(status) => pages::unavailable(&app, t, &status),
    }
}
