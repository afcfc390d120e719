//! The pages: sign-in, code, invitation, enrolment, account. They work without script.
//!
//! A page asks for a stage of the session; who is at another one is sent to the page of that. Every change is a POST that carries
//! the form token and comes from our own origin ([`form::Posted`]).

mod account;
mod assets;
mod enrol;
mod form;
mod invitation;
mod pages;
mod qr;
mod second_factor;
mod sign_in;

use crate::app::App;
use crate::session::{Live, Stage};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use std::sync::Arc;

/// The longest form holds a name, a password and a token.
const FORM_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(sign_in::page))
        .route("/sign-in", post(sign_in::submit))
        .route("/code", get(second_factor::page).post(second_factor::submit))
        .route("/code/wait", post(second_factor::wait))
        .route("/invitation", get(invitation::page).post(invitation::submit))
        .route("/enrol", get(enrol::page))
        .route("/enrol/start", post(enrol::code::start))
        .route("/enrol/confirm", post(enrol::code::confirm))
        .route("/enrol/device", post(enrol::device::start))
        .route("/enrol/device/check", post(enrol::device::check))
        .route("/enrol/device/prove", post(enrol::device::prove))
        .route("/enrol/phone/{method}", get(enrol::phone::page).post(enrol::phone::start))
        .route("/enrol/phone/{method}/confirm", post(enrol::phone::confirm))
        .route("/enrol/passkey", post(enrol::passkey::start))
        .route("/enrol/passkey/confirm", post(enrol::passkey::confirm))
        .route("/enrol/recovery", post(enrol::recovery::make))
        .route("/enrol/done", get(enrol::done))
        .route("/account", get(account::page))
        .route("/sign-out", post(sign_in::sign_out))
        .merge(assets::router())
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(app)
}

/// The files of pages, and a page for whatever else is asked for.
pub(crate) fn assets(app: Arc<App>) -> Router {
    assets::router().fallback(pages::not_found).method_not_allowed_fallback(pages::not_found).with_state(app)
}

/// Where a person at this stage goes on.
fn go_on(live: Option<&Live>) -> Response {
    let path = match live.map(|live| live.stage) {
        None => "/",
        Some(Stage::Code { .. }) => "/code",
        Some(Stage::Invitation) => "/invitation",
        Some(Stage::Enrolling) => "/enrol",
        Some(Stage::Answers | Stage::Full) => "/account",
        Some(Stage::Console) => "/console",
    };
    Redirect::to(path).into_response()
}
