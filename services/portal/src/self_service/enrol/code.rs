//! An authenticator app: a QR code, then one code of it as proof.

use super::{may_enrol, may_go_on, proven, refused, tell};
use crate::app::{App, VERIFICATION_LIMIT, text_of, within};
use crate::http::ClientAddress;
use crate::self_service::form::Posted;
use crate::self_service::go_on;
use crate::self_service::pages::{self, Failure, Frame, Scan, Shown, show};
use crate::self_service::qr::Qr;
use crate::self_service::sign_in::status_of;
use crate::session::{self, Live};
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason};
use http::StatusCode;
use proto::verification::{ConfirmCodeRequest, StartCodeRequest};
use std::sync::Arc;

/// Makes the secret and shows it. An older one that was not confirmed is void from now on.
pub(in crate::self_service) async fn start(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(mut live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if let Err(reason) = may_go_on(&app, &live, from).await {
        tell(&live, from, reference, Method::Code, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request = StartCodeRequest {
        user_id: live.session.user_id.clone(),
        actor: "self".to_owned(),
        ..StartCodeRequest::default()
    };
    let started = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_code(request)).await;
    let started = match started {
        Ok(started) => started,
        Err(status) => return pages::unavailable(&app, t, &status),
    };
    live.session.pending_factor_id = started.factor_id;
    if let Err(status) = session::save(&app, &mut live).await {
        return pages::unavailable(&app, t, &status);
    }
    let (uri, secret) = (text_of(started.otpauth_uri), text_of(started.seed_base32));
    let Some(qr) = Qr::of(uri.as_bytes()).filter(|_| uri.starts_with("otpauth://totp/")) else {
        tracing::error!(request_id = %reference, "verification gave no secret that can be shown");
        return refused(&app, t, &live, Reason::InternalError, reference);
    };
    tell(&live, from, reference, Method::Code, "started", "");
    let shown = Some(Shown { qr, uri, secret: in_fours(&secret) });
    show(StatusCode::OK, &Scan { frame: Frame::of(&app, t, t.scan_title, &live), failure: None, shown })
}

/// One code proves that the app has the secret; from then on it counts.
pub(in crate::self_service) async fn confirm(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    mut posted: Posted,
) -> Response {
    let t = posted.t;
    let code = posted.secret("code");
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    if live.session.pending_factor_id.is_empty() {
        return go_on(Some(&live));
    }
    let reference = app.new_transaction();
    let refused = |app: &App, live: &Live, reason: Reason| {
        tell(live, from, reference, Method::Code, "refused", reason.code());
        let failure = Failure::new(t.not_confirmed(reason), reference);
        let frame = Frame::of(app, t, t.prove_again, live);
        show(status_of(reason), &Scan { frame, failure, shown: None })
    };
    if let Err(reason) = may_go_on(&app, &live, from).await {
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
        Err(status) => return pages::unavailable(&app, t, &status),
    }
    tell(&live, from, reference, Method::Code, "confirmed", "");
    proven(&app, t, live, "code").await
}

/// `JBSW Y3DP ...`: easier to type.
fn in_fours(secret: &str) -> String {
    let signs: Vec<char> = secret.chars().filter(|sign| !sign.is_whitespace()).collect();
    signs.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
