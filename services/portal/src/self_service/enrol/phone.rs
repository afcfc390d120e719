//! A phone number: it is texted or called once, and counts when that came back (FP-11).

use super::{may_enrol, may_go_on, proven, refused, tell};
use crate::app::{App, PERSON_LIMIT, VERIFICATION_LIMIT, within};
use crate::http::ClientAddress;
use crate::self_service::form::{Posted, Visitor};
use crate::self_service::go_on;
use crate::self_service::pages::{self, Failure, Frame, PhoneNumber, PhoneProve, show};
use crate::self_service::sign_in::status_of;
use crate::session::{self, Live};
use crate::texts::Texts;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::Response;
use domain::{Method, Reason};
use http::StatusCode;
use http::request::Parts;
use proto::verification::{ConfirmPhoneRequest, StartPhoneRequest};
use std::sync::Arc;

/// Longer than any number and extension that is one.
const NUMBER_LENGTH_MAX: usize = 40;

/// How the number is proven, as the path says. Any other path is none of ours.
pub(in crate::self_service) struct Way(Method);

impl FromRequestParts<Arc<App>> for Way {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let named = Path::<String>::from_request_parts(parts, app).await.ok();
        match named.and_then(|Path(name)| Method::from_code(&name)) {
            Some(method @ (Method::Sms | Method::Call)) => Ok(Self(method)),
            _ => Err(pages::not_found(State(app.clone()), parts.headers.clone()).await),
        }
    }
}

pub(in crate::self_service) async fn page(State(app): State<Arc<App>>, visitor: Visitor, Way(method): Way) -> Response {
    match visitor.at(may_enrol) {
        Some(live) => number_page(&app, visitor.t, live, method, StatusCode::OK, None),
        None => go_on(visitor.live.as_ref()),
    }
}

/// Texts or calls the number.
pub(in crate::self_service) async fn start(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    Way(method): Way,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let number = posted.text("number").trim().to_owned();
    let extension = posted.text("extension").trim().to_owned();
    let Some(mut live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    let reference = app.new_transaction();
    if number.len() > NUMBER_LENGTH_MAX || extension.len() > NUMBER_LENGTH_MAX {
        let failure = Failure::new(t.bad_number(), reference);
        return number_page(&app, t, &live, method, StatusCode::FORBIDDEN, failure);
    }
    if let Err(reason) = may_go_on(&app, &live, from).await {
        tell(&live, from, reference, method, "refused", reason.code());
        return refused(&app, t, &live, reason, reference);
    }
    let request = StartPhoneRequest {
        user_id: live.session.user_id.clone(),
        method: method.code().to_owned(),
        number,
        extension,
        backup: false,
        actor: "self".to_owned(),
    };
    let started = within(VERIFICATION_LIMIT, request, |request| app.deps.enrolment.start_phone(request)).await;
    let started = match started {
        Ok(started) => started,
        Err(status) if status.code() == tonic::Code::InvalidArgument => {
            let failure = Failure::new(t.bad_number(), reference);
            return number_page(&app, t, &live, method, StatusCode::FORBIDDEN, failure);
        }
        Err(status) => return pages::unavailable(&app, t, &status),
    };
    if !started.reason.is_empty() {
        let reason = Reason::from_code(&started.reason);
        tell(&live, from, reference, method, "refused", reason.code());
        let failure = Failure::new(t.not_confirmed(reason), reference);
        return number_page(&app, t, &live, method, status_of(reason), failure);
    }
    tell(&live, from, reference, method, "started", "");
    live.session.pending_phone_id = started.verification_id;
    match session::save(&app, &mut live).await {
        Ok(()) => prove_page(&app, t, &live, method, StatusCode::OK, None),
        Err(status) => pages::unavailable(&app, t, &status),
    }
}

/// The code of the text; or the call was answered.
pub(in crate::self_service) async fn confirm(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    Way(method): Way,
    mut posted: Posted,
) -> Response {
    let t = posted.t;
    let code = posted.secret("code");
    let Some(live) = posted.live.filter(|live| may_enrol(live.stage)) else { return go_on(None) };
    if live.session.pending_phone_id.is_empty() {
        return go_on(Some(&live));
    }
    let reference = app.new_transaction();
    let again = |reason: Reason| {
        tell(&live, from, reference, method, "refused", reason.code());
        prove_page(&app, t, &live, method, status_of(reason), Failure::new(t.not_confirmed(reason), reference))
    };
    if let Err(reason) = may_go_on(&app, &live, from).await {
        return again(reason);
    }
    let request = ConfirmPhoneRequest {
        user_id: live.session.user_id.clone(),
        verification_id: live.session.pending_phone_id.clone(),
        code: Some(code.into()),
        actor: "self".to_owned(),
    };
    let limit = if method == Method::Call { PERSON_LIMIT } else { VERIFICATION_LIMIT };
    let confirmed = within(limit, request, |request| app.deps.enrolment.confirm_phone(request)).await;
    match confirmed {
        Ok(reply) if reply.confirmed => {
            tell(&live, from, reference, method, "confirmed", "");
            proven(&app, t, live, "phone").await
        }
        Ok(reply) => again(Reason::from_code(&reply.reason)),
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => again(Reason::NoAnswer),
        Err(status) => pages::unavailable(&app, t, &status),
    }
}

fn number_page(
    app: &App,
    t: &'static Texts,
    live: &Live,
    method: Method,
    status: StatusCode,
    failure: Option<Failure>,
) -> Response {
    let (lead, label) = match method {
        Method::Call => (t.phone_lead_call, t.phone_call),
        _ => (t.phone_lead_sms, t.phone_send),
    };
    let frame = Frame::of(app, t, t.phone_title, live);
    show(status, &PhoneNumber { frame, failure, method: method.code(), lead, label })
}

fn prove_page(
    app: &App,
    t: &'static Texts,
    live: &Live,
    method: Method,
    status: StatusCode,
    failure: Option<Failure>,
) -> Response {
    let rings = method == Method::Call;
    let title = if rings { t.call_title } else { t.code_title };
    show(status, &PhoneProve { frame: Frame::of(app, t, title, live), failure, rings })
}
