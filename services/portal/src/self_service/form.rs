//! Who asks for a page, and what a form sent in: checked before any handler sees it.

use super::pages;
use crate::app::App;
use crate::http::same_origin;
use crate::session::{self, FormCookie, Live, same_token};
use crate::texts::Texts;
use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::response::Response;
use domain::Secret;
use http::StatusCode;
use http::request::Parts;
use std::sync::Arc;

/// Who asks for a page: the session of the cookie, if it is in force, and the language to answer in.
pub(super) struct Visitor {
    pub live: Option<Live>,
    pub t: &'static Texts,
}

/// A form that came from a page of ours, sent to this very browser (V-81). There is no other way to a form's fields.
pub(super) struct Posted {
    pub live: Option<Live>,
    pub t: &'static Texts,
    fields: Vec<(String, String)>,
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let t = app.texts(&parts.headers);
        let loaded = session::load(app, &parts.headers).await;
        let live = loaded.map_err(|status| pages::unavailable(app, t, &status))?;
        let t = live.as_ref().and_then(Live::texts).unwrap_or(t);
        Ok(Self { live, t })
    }
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = Response;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let t = app.texts(request.headers());
        if !same_origin(request.headers(), &app.public) {
            tracing::debug!("a form of another origin was refused");
            return Err(pages::expired(app, t, StatusCode::FORBIDDEN));
        }
        let loaded = session::load(app, request.headers()).await;
        let live = loaded.map_err(|status| pages::unavailable(app, t, &status))?;
        let t = live.as_ref().and_then(Live::texts).unwrap_or(t);
        let expected = match &live {
            Some(live) => Some(live.form_token().to_owned()),
            None => FormCookie::found(request.headers()).map(|cookie| cookie.token()),
        };
        let read = Form::<Vec<(String, String)>>::from_request(request, app).await;
        let Form(fields) = read.map_err(|rejection| pages::expired(app, t, rejection.status()))?;
        let posted = Self { live, t, fields };
        if !expected.is_some_and(|expected| same_token(posted.text("csrf"), &expected)) {
            return Err(pages::expired(app, t, StatusCode::FORBIDDEN));
        }
        Ok(posted)
    }
}

impl Posted {
    /// A field; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.fields.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Every field of this name, never to be printed.
    pub fn all_secrets(&mut self, name: &str) -> Vec<Secret> {
        let found = self.fields.iter_mut().filter(|(found, _)| found == name);
        found.map(|(_, value)| Secret::from(std::mem::take(value))).collect()
    }

    /// A field that must never be printed. Taken out: it is there once.
    pub fn secret(&mut self, name: &str) -> Secret {
        let found = self.fields.iter_mut().find(|(found, _)| found == name);
        found.map(|(_, value)| Secret::from(std::mem::take(value))).unwrap_or_default()
    }
}
