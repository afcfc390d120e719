//! A passkey for the portal itself (FV-08): the browser makes it, and what it sent is checked by verification.

use super::{may_enrol, may_go_on, proven, refused, tell};
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
use tonic::Code;

/// What the browser has to make. The ceremony is bound to the person and to this passkey, so its id may travel with the form.
pub(in crate::self_service) async fn start(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if let Err(reason) = may_go_on(&app, &live, from).await {
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
        // As many as are allowed, or over meanwhile.
        Err(status) if status.code() == Code::FailedPrecondition => {
            tell(&live, from, reference, Method::Passkey, "refused", Reason::ChallengeGone.code());
            refused(&app, t, &live, Reason::ChallengeGone, reference)
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
    let [passkey_id, name, credential_json] =
        ["passkey_id", "name", "credential"].map(|field| posted.text(field).to_owned());
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if let Err(reason) = may_go_on(&app, &live, from).await {
        tell(&live, from, reference, Method::Passkey, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let user_id = live.session.user_id.clone();
    let request = ConfirmPasskeyRequest { user_id, passkey_id, name, credential_json, actor: "self".to_owned() };
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
        // As many as are allowed, or over meanwhile.
        Err(status) if status.code() == Code::FailedPrecondition => {
            tell(&live, from, reference, Method::Passkey, "refused", Reason::ChallengeGone.code());
            refused(&app, t, &live, Reason::ChallengeGone, reference)
        }
        Err(status) => pages::unavailable(&app, t, &status),
    }
}
