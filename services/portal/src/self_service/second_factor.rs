//! The code of a sign-in.

use super::form::{Posted, Visitor};
use super::go_on;
use super::pages::{self, Code, Failure, Frame, show};
use super::sign_in::{again, with_cookie};
use crate::app::App;
use crate::attempt::{Attempt, Verdict};
use crate::http::ClientAddress;
use crate::session::{self, Live, Stage};
use crate::texts::ENGLISH;
use axum::extract::State;
use axum::response::Response;
use domain::{Reason, TransactionId};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    match visitor.at(|stage| matches!(stage, Stage::Code { .. })) {
        Some(live) => form(&app, live, StatusCode::OK, None),
        None => go_on(visitor.0.as_ref()),
    }
}

pub(super) async fn submit(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    mut posted: Posted,
) -> Response {
    let code = posted.secret("code");
    let Some((mut live, transaction, step)) = waiting(posted) else { return go_on(None) };
    if !app.may_send_code(from) {
        // Nothing was evaluated: the same page, the same round.
        let failure = Failure::new(ENGLISH.refused(Reason::RateLimited), transaction);
        return form(&app, &live, StatusCode::TOO_MANY_REQUESTS, failure);
    }
    let attempt = Attempt::resume(&live.session, transaction, from);
    match attempt.answer(&app, step, code).await {
        Ok(Verdict::Allow(allow)) => match attempt.allowed(&app, allow, &live.session.user_id) {
            Ok(()) => match session::promote(&app, live, Stage::Full).await {
                Ok(live) => with_cookie(go_on(Some(&live)), &live),
                Err(status) => pages::unavailable(&app, &status),
            },
            Err(reason) => over(&app, &headers, &live, transaction, reason).await,
        },
        Ok(Verdict::Ask { step, previous, .. }) => {
            live.stage = Stage::Code { transaction, step };
            if let Err(status) = session::save(&app, &mut live).await {
                return pages::unavailable(&app, &status);
            }
            let failure = Failure::new(ENGLISH.refused(previous.unwrap_or(Reason::WrongCode)), transaction);
            form(&app, &live, StatusCode::FORBIDDEN, failure)
        }
        Ok(Verdict::Deny(reason)) | Err(reason) => {
            attempt.denied(&app, reason);
            over(&app, &headers, &live, transaction, reason).await
        }
    }
}

fn waiting(posted: Posted) -> Option<(Live, TransactionId, u32)> {
    let live = posted.live?;
    match live.stage {
        Stage::Code { transaction, step } => Some((live, transaction, step)),
        _ => None,
    }
}

/// The attempt is over, and so is its session. The cookie stays where it is: where a form was sent twice, the other answer may have
/// brought a better one.
async fn over(app: &App, headers: &HeaderMap, live: &Live, transaction: TransactionId, reason: Reason) -> Response {
    if let Err(status) = session::end(app, live).await {
        tracing::debug!(code = ?status.code(), "the session of a failed sign-in ends by itself");
    }
    let failure = Failure::new(ENGLISH.refused(reason), transaction);
    again(app, headers, reason, failure, &live.session.username)
}

fn form(app: &App, live: &Live, status: StatusCode, failure: Option<Failure>) -> Response {
    show(status, &Code { frame: Frame::of(app, ENGLISH.code_title, live), failure })
}
