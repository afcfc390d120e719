//! Templates and the pages that more than one handler shows. Askama escapes every value: names come from directories (V-85).

use super::form::Visitor;
use super::qr::Qr;
use super::second_factor::Field;
use crate::app::App;
use crate::session::Live;
use crate::texts::Texts;
use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use domain::TransactionId;
use http::{HeaderMap, StatusCode};
use std::borrow::Cow;
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
    /// There is something to sign out of.
    pub signed_in: bool,
}

/// What went wrong, and what to tell the help desk.
pub(super) struct Failure {
    pub sentence: Cow<'static, str>,
    pub reference: String,
}

impl Failure {
    pub fn new(sentence: impl Into<Cow<'static, str>>, transaction: TransactionId) -> Option<Self> {
        Some(Self { sentence: sentence.into(), reference: transaction.short() })
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
    pub field: Field,
}

/// The phone is asked; with a number, or without one.
#[derive(Template)]
#[template(path = "approval.html")]
pub(super) struct Approval {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub lead: &'static str,
    pub number: String,
}

/// Codes of methods and what they are called.
#[derive(Template)]
#[template(path = "choice.html")]
pub(super) struct Choice {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub choices: Vec<(&'static str, &'static str)>,
}

/// The browser is to make a passkey.
#[derive(Template)]
#[template(path = "passkey_new.html")]
pub(super) struct NewPasskey {
    pub frame: Frame,
    /// Of `navigator.credentials.create`, as JSON.
    pub options: String,
    pub passkey_id: String,
}

#[derive(Template)]
#[template(path = "passkey.html")]
pub(super) struct PasskeyAsked {
    pub frame: Frame,
    pub failure: Option<Failure>,
    /// PublicKeyCredentialRequestOptions as JSON.
    pub options: String,
}

#[derive(Template)]
#[template(path = "questions.html")]
pub(super) struct Questions {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub questions: Vec<String>,
}

/// The ways to add a method, as far as the settings have them.
#[derive(Template)]
#[template(path = "choose.html")]
pub(super) struct Choose {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub offered: Offered,
}

pub(super) struct Offered {
    pub push: bool,
    pub pi: bool,
    pub sms: bool,
    pub call: bool,
    /// For those who have a method already.
    pub recovery: bool,
}

/// A phone is to scan this.
#[derive(Template)]
#[template(path = "device.html")]
pub(super) struct Device {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub lead: &'static str,
    /// Shown once.
    pub shown: Option<Shown>,
    /// For the web app: the page can be opened on this very phone.
    pub link: bool,
}

/// The connected phone is to approve once.
#[derive(Template)]
#[template(path = "device_prove.html")]
pub(super) struct DeviceProve {
    pub frame: Frame,
    pub failure: Option<Failure>,
}

#[derive(Template)]
#[template(path = "phone_number.html")]
pub(super) struct PhoneNumber {
    pub frame: Frame,
    pub failure: Option<Failure>,
    pub method: &'static str,
    pub lead: &'static str,
    pub label: &'static str,
}

#[derive(Template)]
#[template(path = "phone_prove.html")]
pub(super) struct PhoneProve {
    pub frame: Frame,
    pub failure: Option<Failure>,
    /// The number rings; otherwise a code is typed.
    pub rings: bool,
}

#[derive(Template)]
#[template(path = "recovery.html")]
pub(super) struct Recovery {
    pub frame: Frame,
    pub codes: Vec<String>,
}

#[derive(Template)]
#[template(path = "invitation.html")]
pub(super) struct Invitation {
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
    pub recovery_left: u32,
    pub way_on: WayOn,
}

/// How a method can be added from here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WayOn {
    Add,
    /// With an invitation code: there are security answers and nothing else.
    Invitation,
    /// After a sign-in with a method that is there.
    StrongerSignIn,
    /// Nobody adds a first method here.
    HelpDesk,
}

pub(super) struct MethodShown {
    pub name: &'static str,
    /// What its owner calls it; may be empty.
    pub label: String,
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
    pub fn new(app: &App, t: &'static Texts, title: &'static str) -> Self {
        let company = app.settings.current().map_or_else(String::new, |it| it.settings.portal.company.clone());
        Self { t, title, company, person: None, token: String::new() }
    }

    pub fn of(app: &App, t: &'static Texts, title: &'static str, live: &Live) -> Self {
        let signed_in = live.stage.is_signed_in();
        let person = Some(Person { username: live.session.username.clone(), signed_in });
        Self { person, token: live.form_token().to_owned(), ..Self::new(app, t, title) }
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

pub(super) fn message(
    app: &App,
    t: &'static Texts,
    status: StatusCode,
    title: &'static str,
    lead: &'static str,
) -> Response {
    let frame = Frame::new(app, t, title);
    let page = Message { frame, failure: None, lead: Some(lead), way_on: "/", label: t.to_start, good: false };
    show(status, &page)
}

pub(super) async fn not_found(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let t = app.texts(&headers);
    message(&app, t, StatusCode::NOT_FOUND, t.not_found_title, t.not_found_lead)
}

/// A form that is not taken.
pub(super) fn expired(app: &App, t: &'static Texts, status: StatusCode) -> Response {
    message(app, t, status, t.expired_title, t.expired_lead)
}

/// Another part did not answer as it should. Nothing of that is for the person.
pub(super) fn unavailable(app: &App, t: &'static Texts, status: &tonic::Status) -> Response {
    let reference = app.new_transaction();
    tracing::warn!(
        request_id = %reference,
        r#ref = reference.short(),
        code = ?status.code(),
        "a page could not be shown"
    );
    let failure = Failure::new(t.unavailable_lead, reference);
    let frame = Frame::new(app, t, t.unavailable_title);
    let page = Message { frame, failure, lead: None, way_on: "/", label: t.to_start, good: false };
    show(StatusCode::SERVICE_UNAVAILABLE, &page)
}

impl Visitor {
    /// The session, if it is at the stage that a page asks for.
    pub fn at(&self, asked: impl Fn(crate::session::Stage) -> bool) -> Option<&Live> {
        self.live.as_ref().filter(|live| asked(live.stage))
    }
}
