//! Name and password, and what follows from verification's answer.

use super::form::{Posted, Visitor};
use super::go_on;
use super::pages::{self, Failure, Frame, SignIn, show};
use crate::app::{App, STORE_LIMIT, within};
use crate::attempt::{Attempt, Verdict, is_a_name};
use crate::http::ClientAddress;
use crate::metrics::Limited;
use crate::session::{self, FormCookie, Live, Stage};
use crate::texts::Texts;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Reason;
use domain::settings::FirstEnrolment;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use proto::directory::Person;
use proto::user_store::{OwnDetailRequest, Session, UserDetail};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use tonic::Code;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor, headers: HeaderMap) -> Response {
    match visitor.live {
        Some(live) => go_on(Some(&live)),
        None => form(&app, visitor.t, &headers, StatusCode::OK, None, "", false),
    }
}

pub(super) async fn submit(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    mut posted: Posted,
) -> Response {
    let t = posted.t;
    let name = posted.text("name").trim().to_owned();
    let password = posted.secret("password");
    let mut attempt = Attempt::begin(&app, from, &name);
    let reference = attempt.transaction;
    let refused = |reason| {
        let failure = Failure::new(t.sign_in_failed, reference);
        form(&app, t, &headers, status_of(reason), failure, &name, false)
    };
    if let Err(reason) = may_try(&app, from, &name) {
        // Not reported: a flood of tries must not become a flood of writes.
        attempt.denied(&app, reason);
        return refused(reason);
    }
    // Never sent to a directory: it would be an anonymous bind, and succeed (L-10).
    if password.is_empty() {
        attempt.failed_first(&app, Reason::EmptyPassword).await;
        return refused(Reason::EmptyPassword);
    }
    if !is_a_name(&name) {
        attempt.failed_first(&app, Reason::UnknownUser).await;
        return refused(Reason::UnknownUser);
    }
    let Ok(_seat) = app.limits.sign_ins_at_once.try_acquire() else {
        app.metrics.limited(Limited::SignInsAtOnce);
        attempt.denied(&app, Reason::Overloaded);
        return refused(Reason::Overloaded);
    };
    let person = match attempt.check_password(&app, password).await {
        Ok(person) => person,
        Err(reason) => {
            attempt.failed_first(&app, reason).await;
            return refused(reason);
        }
    };
    // From here on the password is right, and what the person may know is told.
    let told = |reason| {
        let failure = Failure::new(t.refused(reason), reference);
        form(&app, t, &headers, status_of(reason), failure, &name, false)
    };
    let before = posted.live;
    match attempt.decide(&app, None).await {
        Ok(Verdict::Ask(ask)) if !ask.user_id.is_empty() => {
            let stage = Stage::Code { transaction: reference, step: ask.step };
            let mut session = identity(&person, ask.user_id.clone());
            session::ask(&mut session, &ask);
            enter(&app, t, before, session, stage).await
        }
        Ok(Verdict::Deny(Reason::NotEnrolled, _)) => {
            attempt.denied(&app, Reason::NotEnrolled);
            match first_enrolment(&app, &person).await {
                Ok(Way::Open(detail)) => enter(&app, t, before, detail, Stage::Enrolling).await,
                Ok(Way::ByInvitation(detail)) => enter(&app, t, before, detail, Stage::Invitation).await,
                Ok(Way::Off) => pages::message(&app, t, StatusCode::FORBIDDEN, t.off_title, t.off_lead),
                Err(reason) => told(reason),
            }
        }
        Ok(Verdict::Deny(reason, method)) => {
            attempt.denied_by(&app, reason, &method);
            told(reason)
        }
        // Nobody enters the portal with the password alone, whoever says so.
        Ok(Verdict::Allow(_) | Verdict::Ask(_)) => {
            attempt.denied(&app, Reason::InternalError);
            told(Reason::InternalError)
        }
        Err(reason) => {
            attempt.denied(&app, reason);
            told(reason)
        }
    }
}

/// Ends the session, and the sign-in that was under way.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    posted: Posted,
) -> Response {
    let t = posted.t;
    let Some(live) = posted.live else { return go_on(None) };
    if let Err(status) = session::end(&app, &live).await {
        return pages::unavailable(&app, t, &status);
    }
    if let Stage::Code { transaction, .. } = live.stage {
        Attempt::resume(&live.session, transaction, from).cancelled(&app).await;
    }
    let mut response = form(&app, t, &headers, StatusCode::OK, None, "", live.stage.is_signed_in());
    response.headers_mut().append(SET_COOKIE, session::no_cookie());
    response
}

/// The sign-in form, with the cookie it is tied to.
fn form(
    app: &App,
    t: &'static Texts,
    headers: &HeaderMap,
    status: StatusCode,
    failure: Option<Failure>,
    name: &str,
    signed_out: bool,
) -> Response {
    let cookie = FormCookie::of(app, headers);
    let frame = Frame { token: cookie.token(), ..Frame::new(app, t, t.sign_in_title) };
    let mut response = show(status, &SignIn { frame, failure, name, signed_out });
    if let Some(cookie) = cookie.cookie() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The page after a failed second factor: the form again, with why.
pub(super) fn again(
    app: &App,
    t: &'static Texts,
    headers: &HeaderMap,
    reason: Reason,
    failure: Option<Failure>,
    name: &str,
) -> Response {
    form(app, t, headers, status_of(reason), failure, name, false)
}

fn may_try(app: &App, from: std::net::IpAddr, name: &str) -> Result<(), Reason> {
    if app.settings.current().is_none() {
        return Err(Reason::StoreUnavailable);
    }
    if app.may_sign_in(from, name) { Ok(()) } else { Err(Reason::RateLimited) }
}

pub(super) fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::RateLimited | Reason::LockedOut | Reason::CoolingDown => StatusCode::TOO_MANY_REQUESTS,
        reason if reason.class() == domain::ResultClass::Error => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

/// A fresh session under a fresh id; whatever the browser had before is over (V-80).
async fn enter(app: &App, t: &'static Texts, before: Option<Live>, person: Session, stage: Stage) -> Response {
    if let Some(before) = before
        && let Err(status) = session::end(app, &before).await
    {
        return pages::unavailable(app, t, &status);
    }
    // Without it the browser's will do.
    let own = own_detail(app, person.subject.clone()).await.ok().filter(|own| own.user_id == person.user_id);
    let language = own.map_or_else(String::new, |own| own.detail.language_portal);
    match session::open(app, Session { language, ..person }, stage).await {
        Ok(live) => with_cookie(go_on(Some(&live)), &live),
        Err(status) => pages::unavailable(app, t, &status),
    }
}

pub(super) fn with_cookie(mut response: Response, live: &Live) -> Response {
    response.headers_mut().append(SET_COOKIE, live.cookie());
    response.into_response()
}

fn identity(person: &Person, user_id: String) -> Session {
    Session { user_id, username: person.username.clone(), subject: person.subject.clone(), ..Session::default() }
}

/// How somebody without a method may get the first one.
enum Way {
    Open(Session),
    ByInvitation(Session),
    Off,
}

async fn first_enrolment(app: &App, person: &Person) -> Result<Way, Reason> {
    let settings = app.settings.current().ok_or(Reason::StoreUnavailable)?;
    let detail = own_detail(app, person.subject.clone()).await?;
    if detail.has_factor() {
        return Err(Reason::InternalError);
    }
    let session = identity(person, detail.user_id);
    Ok(match settings.settings.portal.first_enrolment {
        FirstEnrolment::Open => Way::Open(session),
        FirstEnrolment::Invitation => Way::ByInvitation(session),
        FirstEnrolment::Off => Way::Off,
    })
}

/// A user of the store who is enabled.
pub(super) struct Own {
    pub user_id: String,
    pub detail: UserDetail,
}

impl Own {
    /// One that counts: proven once.
    pub fn has_factor(&self) -> bool {
        let detail = &self.detail;
        detail.factors.iter().any(|factor| !factor.pending)
            || detail.devices.iter().any(|device| device.state == "active")
            || detail.recovery_left > 0
    }

    /// A number too: who signs in by it has a method, though it keeps nobody from adding a first one, for nobody may carry it.
    pub fn has_method(&self) -> bool {
        self.has_factor() || !self.detail.phone.is_empty()
    }
}

/// What the store holds of this person now.
pub(super) async fn own_detail(app: &App, subject: Option<proto::common::DirectoryRef>) -> Result<Own, Reason> {
    let request = idempotent(OwnDetailRequest { subject });
    let found = within(STORE_LIMIT, request, |request| app.deps.portal_data.own_detail(request)).await;
    let detail = found.map_err(|status| match status.code() {
        Code::NotFound => Reason::UnknownUser,
        code => {
            tracing::warn!(?code, "a user cannot be read");
            Reason::StoreUnavailable
        }
    })?;
    match &detail.user {
        Some(user) if user.state == "enabled" && !user.user_id.is_empty() => {
            Ok(Own { user_id: user.user_id.clone(), detail })
        }
        Some(_) => Err(Reason::Blocked),
        None => Err(Reason::InternalError),
    }
}
