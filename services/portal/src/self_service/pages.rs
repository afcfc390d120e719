//! Templates and the pages that more than one handler shows. Askama escapes every value: names come from directories (V-85).

use super::form::Visitor;
use super::qr::Qr;
use crate::app::App;
use crate::session::Live;
use crate::texts::{ENGLISH, Texts};
use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use domain::TransactionId;
use http::StatusCode;
use std::sync::Arc;

/// What every page shows.
pub(super) struct Frame {
    pub t: &'static Texts,
    pub title: &'static str,
    pub company: String,
    /// Who is signed in, or has given the password.
    pub person: Option<Person>,
    /// Carried by every form of the page.
    pub token: String,
}

pub(super) struct Person {
    pub username: String,
    /// With both locks open: there is something to sign out of.
    pub full: bool,
}

/// What went wrong, and what to tell the help desk.
pub(super) struct Failure {
    pub sentence: &'static str,
    pub reference: String,
}

impl Failure {
    pub fn new(sentence: &'static str, transaction: TransactionId) -> Option<Self> {
        Some(Self { sentence, reference: transaction.short() })
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn<'a> {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub name: &'a str,
    pub signed_out: bool,
}

#[derive(Template)]
#[template(path = "code.html")]
pub(super) struct Code {
    pub frame: Frame,
    pub failure: Option<Failure>,
}

#[derive(Template)]
#[template(path = "invitation.html")]
pub(super) struct Invitation {
    pub frame: Frame,
    pub failure: Option<Failure>,
}

#[derive(Template)]
#[template(path = "enrol.html")]
pub(super) struct Enrol {
    pub frame: Frame,
    pub failure: Option<Failure>,
}

/// With the secret: shown once. After a wrong code the page comes again without it.
#[derive(Template)]
#[template(path = "scan.html")]
pub(super) struct Scan {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub shown: Option<Shown>,
}

pub(super) struct Shown {
    pub qr: Qr,
    pub uri: String,
    pub secret: String,
}

#[derive(Template)]
#[template(path = "account.html")]
pub(super) struct Account {
    pub frame: Frame,
    pub name: String,
    pub methods: Vec<MethodShown>,
}

pub(super) struct MethodShown {
    pub name: &'static str,
    pub added: Option<Moment>,
    pub last_used: Option<Moment>,
}

/// A time for machines and for people.
pub(super) struct Moment {
    pub machine: String,
    pub text: String,
}

/// One heading, one paragraph, one way on.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub lead: Option<&'static str>,
    pub way_on: &'static str,
    pub label: &'static str,
    pub good: bool,
}

impl Frame {
    pub fn new(app: &App, title: &'static str) -> Self {
        let company = app.settings.current().map_or_else(String::new, |it| it.settings.portal.company.clone());
        Self { t: &ENGLISH, title, company, person: None, token: String::new() }
    }

    pub fn of(app: &App, title: &'static str, live: &Live) -> Self {
        let full = live.stage == crate::session::Stage::Full;
        let person = Some(Person { username: live.session.username.clone(), full });
        Self { person, token: live.form_token().to_owned(), ..Self::new(app, title) }
    }
}

pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

pub(super) fn message(app: &App, status: StatusCode, title: &'static str, lead: &'static str) -> Response {
    let frame = Frame::new(app, title);
    let page = Message { frame, failure: None, lead: Some(lead), way_on: "/", label: ENGLISH.to_start, good: false };
    show(status, &page)
}

pub(super) async fn not_found(State(app): State<Arc<App>>) -> Response {
    message(&app, StatusCode::NOT_FOUND, ENGLISH.not_found_title, ENGLISH.not_found_lead)
}

/// A form that is not taken.
pub(super) fn expired(app: &App, status: StatusCode) -> Response {
    message(app, status, ENGLISH.expired_title, ENGLISH.expired_lead)
}

/// Another part did not answer as it should. Nothing of that is for the person.
pub(super) fn unavailable(app: &App, status: &tonic::Status) -> Response {
    let reference = app.new_transaction();
    tracing::warn!(
        request_id = %reference,
        r#ref = reference.short(),
        code = ?status.code(),
        "a page could not be shown"
    );
    let failure = Failure::new(ENGLISH.unavailable_lead, reference);
    let frame = Frame::new(app, ENGLISH.unavailable_title);
    let page = Message { frame, failure, lead: None, way_on: "/", label: ENGLISH.to_start, good: false };
    show(StatusCode::SERVICE_UNAVAILABLE, &page)
}

impl Visitor {
    /// The session, if it is at the stage that a page asks for.
    pub fn at(&self, asked: impl Fn(crate::session::Stage) -> bool) -> Option<&Live> {
        self.0.as_ref().filter(|live| asked(live.stage))
    }
}
