//! Who comes in: an API key makes a session, and each page asks whether the key may still show it.

use super::pages::{self, Frame, SignIn};
use super::{permission_of, reloads_itself};
use crate::api::{Caller, Problem};
use crate::app::{App, STORE_LIMIT, within};
use crate::http::{ClientAddress, same_origin};
use crate::session::{self, FormCookie, Live, Stage, same_token};
use axum::extract::{Form, FromRequest, FromRequestParts, MatchedPath, Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use domain::{Role, Secret};
use http::header::{HeaderMap, SET_COOKIE};
use http::request::Parts;
use http::{Method, StatusCode};
use proto::user_store::{CheckApiKeyRequest, ListApiKeysRequest, Session};
use serde::Deserialize;
use service_kit::grpc::idempotent;
use std::sync::Arc;

/// Somebody who may see the page that was asked for.
pub(super) struct Administrator {
    pub live: Live,
    /// As the REST API knows the holder of the key, so that nobody is somebody else here (S-40).
    pub caller: Caller,
}

/// A form of theirs that came from a page of ours, sent to this very browser (V-81).
pub(super) struct Sent {
    pub by: Administrator,
    fields: Vec<(String, String)>,
    /// Fields called `secret.`, by the rest of their names: no page ever shows them.
    secrets: Vec<(String, Secret)>,
}

const SECRET: &str = "secret.";

impl Administrator {
    pub fn may(&self, method: &Method, path: &str) -> bool {
        permission_of(method, path).is_some_and(|permission| self.caller.role.may(permission))
    }
}

impl Sent {
    /// A field; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.fields.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.trim())
    }

    /// Every field of this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.clone()).collect()
    }

    /// Of the field `secret.NAME`; `None` where nothing was typed.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|(found, _)| found == name).map(|(_, secret)| secret).filter(|it| !it.is_empty())
    }

    /// What was typed, for another page of the same form: no token, no secret, none of `but`.
    pub fn typed(&self, but: &[&str]) -> Vec<(String, String)> {
        let typed = self.fields.iter().filter(|(name, _)| name != "csrf" && !but.contains(&name.as_str()));
        typed.cloned().collect()
    }
}

impl FromRequestParts<Arc<App>> for Administrator {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let path = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let found = admit(app, &parts.headers, &path).await.map_err(|problem| pages::refused(app, None, &problem))?;
        let Some(by) = found else {
            // Afterwards the browser asks with GET, whatever it asked with now.
            let asked = parts.uri.path_and_query().filter(|_| permission_of(&Method::GET, &path).is_some());
            let asked = asked.map_or("/console", |asked| asked.as_str());
            return Err(Redirect::to(&format!("/console/sign-in?next={}", pages::escaped(asked))).into_response());
        };
        if !app.may_call(&by.caller.key) {
            return Err(pages::refused(app, Some(&by), &Problem::too_many()));
        }
        match by.may(&parts.method, &path) {
            true => Ok(by),
            false => Err(pages::refused(app, Some(&by), &Problem::forbidden())),
        }
    }
}

impl FromRequest<Arc<App>> for Sent {
    type Rejection = Response;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        if !same_origin(request.headers(), &app.public) {
            tracing::debug!("a form of another origin was refused");
            return Err(pages::expired(app, None));
        }
        let (mut parts, body) = request.into_parts();
        let by = Administrator::from_request_parts(&mut parts, app).await?;
        let read = Form::<Vec<(String, String)>>::from_request(Request::from_parts(parts, body), app).await;
        let Form(all) = read.map_err(|rejection| match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => pages::too_long(app, &by),
            _ => pages::expired(app, Some(&by)),
        })?;
        let (mut fields, mut secrets) = (Vec::new(), Vec::new());
        for (name, value) in all {
            match name.strip_prefix(SECRET) {
                Some(name) => secrets.push((name.to_owned(), Secret::from(value))),
                None => fields.push((name, value)),
            }
        }
        let sent = Self { by, fields, secrets };
        match same_token(sent.text("csrf"), sent.by.live.form_token()) {
            true => Ok(sent),
            false => Err(pages::expired(app, Some(&sent.by))),
        }
    }
}

/// `None`: nobody, any longer.
async fn admit(app: &App, headers: &HeaderMap, route: &str) -> Result<Option<Administrator>, Problem> {
    let live = match reloads_itself(route) {
        true => session::load_console_unused(app, headers).await?,
        false => session::load_console(app, headers).await?,
    };
    let Some(live) = live else { return Ok(None) };
    let request = idempotent(ListApiKeysRequest {});
    let keys = within(STORE_LIMIT, request, |request| app.deps.admin.list_api_keys(request)).await?.keys;
    let session = &live.session;
    // A key that was made under the same name later is another one.
    let key = keys.into_iter().find(|key| {
        key.name == session.username
            && key.expires_unix_ms > app.now_ms()
            && key.created_unix_ms <= session.created_unix_ms
    });
    let found = key.and_then(|key| Some((Role::from_code(&key.role)?, key.name)));
    match found {
        Some((role, key)) => {
            Ok(Some(Administrator { live, caller: Caller { actor: format!("api-key:{key}"), role, key } }))
        }
        None => {
            session::end(app, &live).await?;
            Ok(None)
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WhereTo {
    #[serde(default)]
    next: String,
}

pub(super) async fn page(State(app): State<Arc<App>>, Query(to): Query<WhereTo>, headers: HeaderMap) -> Response {
    form(&app, &headers, &to.next, None)
}

pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    ClientAddress(from): ClientAddress,
    headers: HeaderMap,
    request: Request,
) -> Response {
    if !same_origin(&headers, &app.public) {
        return pages::expired(&app, None);
    }
    let read = Form::<Vec<(String, String)>>::from_request(request, &app).await;
    let Ok(Form(fields)) = read else { return pages::expired(&app, None) };
    let (mut token, mut next, mut key) = (String::new(), String::new(), Secret::default());
    for (name, value) in fields {
        match name.as_str() {
            "csrf" => token = value,
            "next" => next = value,
            "key" => key = Secret::from(value.trim()),
            _ => {}
        }
    }
    let expected = FormCookie::found(&headers).map(|cookie| cookie.token());
    if !expected.is_some_and(|expected| same_token(&token, &expected)) {
        return pages::expired(&app, None);
    }
    if !app.may_show_key(from) {
        return form(&app, &headers, &next, Some("Too many tries. Wait a moment, and try again."));
    }
    let request = idempotent(CheckApiKeyRequest { key: Some(key.into()), now_unix_ms: app.now_ms() });
    let checked = within(STORE_LIMIT, request, |request| app.deps.portal_data.check_api_key(request)).await;
    let reply = match checked {
        Ok(reply) => reply,
        Err(status) => return pages::refused(&app, None, &Problem::from(status)),
    };
    let role = Role::from_code(&reply.role).filter(|role| *role != Role::Application);
    let (true, Some(role)) = (reply.valid && !reply.name.is_empty(), role) else {
        app.saw_unknown_key(from);
        tracing::info!(event = "console_refused", service = "portal", client_ip = %from, "a key does not open the console");
        return form(&app, &headers, &next, Some("This key does not open the console."));
    };
    tracing::info!(
        event = "console_opened",
        service = "portal",
        key = reply.name,
        role = role.code(),
        client_ip = %from,
        "an administrator signed in to the console"
    );
    let session = Session { username: reply.name, ..Session::default() };
    match session::open(&app, session, Stage::Console).await {
        Ok(live) => {
            let mut response = Redirect::to(inside(&next)).into_response();
            response.headers_mut().append(SET_COOKIE, live.cookie());
            response
        }
        Err(status) => pages::refused(&app, None, &Problem::from(status)),
    }
}

pub(super) async fn sign_out(State(app): State<Arc<App>>, sent: Sent) -> Response {
    if let Err(status) = session::end(&app, &sent.by.live).await {
        return pages::refused(&app, None, &Problem::from(status));
    }
    let mut response = Redirect::to("/console/sign-in").into_response();
    response.headers_mut().append(SET_COOKIE, session::no_console_cookie());
    response
}

/// A page of the console, or its first one: nobody is sent anywhere else from here.
fn inside(next: &str) -> &str {
    let plain = next.bytes().all(|sign| sign.is_ascii_graphic() && sign != b'\\');
    let ours = next == "/console" || next.starts_with("/console/") || next.starts_with("/console?");
    if plain && ours && !next.contains("//") { next } else { "/console" }
}

fn form(app: &App, headers: &HeaderMap, next: &str, failure: Option<&'static str>) -> Response {
    let cookie = FormCookie::of(app, headers);
    let frame = Frame { token: cookie.token(), ..Frame::new(app, "Sign in to the console") };
    let page = SignIn { frame, failure, next: inside(next).to_owned() };
    let status = if failure.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = pages::show(status, &page);
    if let Some(cookie) = cookie.cookie() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_sent_anywhere_but_into_the_console() {
        for ours in ["/console", "/console/approvals/7", "/console?x=1"] {
            assert_eq!(inside(ours), ours);
        }
        for other in [
            "",
            "/",
            "/account",
            "//evil.example",
            "https://evil.example",
            "/console//evil",
            "/consolex",
            "/console/\\x",
        ] {
            assert_eq!(inside(other), "/console", "{other}");
        }
    }
}
