//! Ten codes for the day the phone is gone: shown once, printable (FV-09). For those with both locks open alone.

use super::{refused, still_allowed, tell};
use crate::app::{App, VERIFICATION_LIMIT, text_of, within};
use crate::http::ClientAddress;
use crate::self_service::form::Posted;
use crate::self_service::go_on;
use crate::self_service::pages::{self, Frame, Recovery, show};
use crate::session::Stage;
use axum::extract::State;
use axum::response::Response;
use domain::Method;
use http::StatusCode;
use proto::verification::NewRecoveryCodesRequest;
use std::sync::Arc;

pub(in crate::self_service) async fn make(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(live) = posted.live.filter(|live| live.stage == Stage::Full) else { return go_on(None) };
    let reference = app.new_transaction();
    if let Err(reason) = still_allowed(&app, &live).await {
        tell(&live, from, reference, Method::Recovery, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request = NewRecoveryCodesRequest { user_id: live.session.user_id.clone(), actor: "self".to_owned() };
    let made = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.new_recovery_codes(request)).await;
    match made {
        Ok(reply) => {
            tell(&live, from, reference, Method::Recovery, "confirmed", "");
            let codes = reply.codes.into_iter().map(|code| text_of(Some(code))).collect();
            show(StatusCode::OK, &Recovery { frame: Frame::of(&app, t, t.recovery_title, &live), codes })
        }
        Err(status) => pages::unavailable(&app, t, &status),
    }
}
