//! The pages of the app on the phone. The same for everybody: who it is, the page's script knows and the page does not.

use super::words::Words;
use crate::app::App;
use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// May control `/phone` itself, and not only what lies below.
const WORKER_SCOPE: (HeaderName, &str) = (HeaderName::from_static("service-worker-allowed"), "/phone");
/// Reasons that pages have words for; every other one reads `reason-other`.
const REASONS: [&str; 13] = [
    "wrong_number",
    "wrong_pin",
    "locked_out",
    "challenge_gone",
    "not_enrolled",
    "blocked",
    "rate_limited",
    "no_usable_method",
    "passkey_refused",
    "number_missing",
    "pin_missing",
    "no_network",
    "other",
];

#[derive(Template)]
#[template(path = "phone.html")]
struct Wait {
    frame: PhoneFrame,
}

#[derive(Template)]
#[template(path = "phone_activate.html")]
struct Activate {
    frame: PhoneFrame,
}

#[derive(Template)]
#[template(path = "phone_offline.html")]
struct Offline {
    frame: PhoneFrame,
}

struct PhoneFrame {
    words: Words,
    company: String,
    script: &'static str,
}

impl PhoneFrame {
    fn new(app: &App, headers: &HeaderMap, script: &'static str) -> Self {
        let settings = app.settings.current();
        let company = settings.map_or_else(String::new, |current| current.settings.portal.company.clone());
        Self { words: Words::of(app.texts(headers).language), company, script }
    }

    fn say(&self, key: &str) -> String {
        self.words.say(key)
    }

    fn language(&self) -> &str {
        self.words.language()
    }

    fn name(&self) -> &str {
        if self.company.is_empty() { "Twinlock" } else { &self.company }
    }

    /// Code and words of each reason, for the script.
    fn reasons(&self) -> Vec<(&'static str, String)> {
        let words = |code: &'static str| (code, self.say(&format!("reason-{}", code.replace('_', "-"))));
        REASONS.into_iter().map(words).collect()
    }
}

pub(super) async fn wait(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    show(&Wait { frame: PhoneFrame::new(&app, &headers, "phone.js") })
}

pub(super) async fn activate(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    show(&Activate { frame: PhoneFrame::new(&app, &headers, "phone-activate.js") })
}

/// Kept by the service worker, shown when there is no network.
pub(super) async fn offline(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    show(&Offline { frame: PhoneFrame::new(&app, &headers, "phone-offline.js") })
}

pub(super) async fn worker() -> Response {
    let script = include_str!("../../assets/phone-worker.js");
    let kind = (CONTENT_TYPE, "text/javascript; charset=utf-8");
    ([kind, WORKER_SCOPE, (CACHE_CONTROL, "no-cache")], script).into_response()
}

pub(super) async fn manifest(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let frame = PhoneFrame::new(&app, &headers, "");
    let icon =
        |file: &str, sizes: &str, kind: &str| json!({ "src": format!("/assets/{file}"), "sizes": sizes, "type": kind });
    let manifest = json!({
        "id": "/phone",
        "name": format!("{} · {}", frame.name(), frame.say("app-name")),
        "short_name": frame.name(),
        "lang": frame.language(),
        "start_url": "/phone",
        "scope": "/phone",
        "display": "standalone",
        "background_color": "#f3f5f8",
        "theme_color": "#1f5fa8",
        "icons": [
            icon("icon-192.png", "192x192", "image/png"),
            icon("icon-512.png", "512x512", "image/png"),
            icon("icon.svg", "any", "image/svg+xml"),
        ],
    });
    ([(CONTENT_TYPE, "application/manifest+json")], manifest.to_string()).into_response()
}

fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
