//! The invitation code that stands beside the password where the settings ask for one (V-86), and beside security answers where there is
//! no method. The store counts its tries.

use super::enrol::still_allowed;
use super::form::{Posted, Visitor};
use super::go_on;
use super::pages::{self, Failure, Frame, Invitation, show};
use super::sign_in::{status_of, with_cookie};
use crate::app::{App, STORE_LIMIT, within};
use crate::http::ClientAddress;
use crate::session::{self, Live, Stage};
use crate::texts::Texts;
use axum::extract::State;
use axum::response::Response;
use domain::Reason;
use http::StatusCode;
use proto::user_store::RedeemInvitationRequest;
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    match visitor.at(may_redeem) {
        Some(live) => form(&app, visitor.t, live, StatusCode::OK, None),
        None => go_on(visitor.live.as_ref()),
    }
}

pub(super) async fn submit(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    mut posted: Posted,
) -> Response {
    let t = posted.t;
    let code = posted.secret("invitation");
    let Some(live) = posted.live.filter(|live| may_redeem(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if !app.may_send_code(from) {
        let failure = Failure::new(t.refused(Reason::RateLimited), reference);
        return form(&app, t, &live, StatusCode::TOO_MANY_REQUESTS, failure);
    }
    // A code is good once: not for somebody who could do nothing with it.
    if let Err(reason) = still_allowed(&app, &live).await {
        let failure = Failure::new(t.refused(reason), reference);
        return form(&app, t, &live, status_of(reason), failure);
    }
    let request = RedeemInvitationRequest {
        user_id: live.session.user_id.clone(),
        code: Some(code.into()),
        now_unix_ms: app.now_ms(),
    };
    let redeemed = within(STORE_LIMIT, request, |request| app.deps.portal_data.redeem_invitation(request)).await;
    let accepted = match redeemed {
        Ok(reply) => reply.accepted,
        Err(status) => return pages::unavailable(&app, t, &status),
    };
    tracing::info!(
        event = "invitation",
        service = "portal",
        request_id = %reference,
        r#ref = reference.short(),
        client_ip = %from,
        user = live.session.username,
        accepted,
        "invitation code given"
    );
    if !accepted {
        let failure = Failure::new(t.invitation_refused(), reference);
        return form(&app, t, &live, StatusCode::FORBIDDEN, failure);
    }
    match session::promote(&app, live, Stage::Enrolling).await {
        Ok(live) => with_cookie(go_on(Some(&live)), &live),
        Err(status) => pages::unavailable(&app, t, &status),
    }
}

fn may_redeem(stage: Stage) -> bool {
    matches!(stage, Stage::Invitation | Stage::Answers)
}

fn form(app: &App, t: &'static Texts, live: &Live, status: StatusCode, failure: Option<Failure>) -> Response {
    show(status, &Invitation { frame: Frame::of(app, t, t.invitation_title, live), failure })
}
