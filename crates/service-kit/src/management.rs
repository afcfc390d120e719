//! The management page, on a port of its own: `/livez`, `/startupz`, `/readyz`, `/healthz/upstreams`, `/metrics`. Answers from memory
//! only, so it is quick however much waits.

use crate::health::Health;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::TextEncoder;
use serde_json::json;

#[derive(Clone)]
struct Page {
    health: Health,
    metrics: prometheus::Registry,
}

pub(crate) fn router(health: Health, metrics: prometheus::Registry) -> Router {
    Router::new()
        // That this is answered at all is the answer: the runtime turns.
        .route("/livez", get(async || "ok\n"))
        .route("/startupz", get(startup))
        .route("/readyz", get(ready))
        .route("/healthz/upstreams", get(upstreams))
        .route("/metrics", get(metrics_text))
        .with_state(Page { health, metrics })
}

async fn startup(State(page): State<Page>, RawQuery(query): RawQuery) -> Response {
    answer(page.health.is_started(), &page.health, query)
}

async fn ready(State(page): State<Page>, RawQuery(query): RawQuery) -> Response {
    answer(page.health.is_ready(), &page.health, query)
}

fn answer(good: bool, health: &Health, query: Option<String>) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose =
        query.is_some_and(|query| query.split('&').any(|word| word == "verbose" || word.starts_with("verbose=")));
    let text = match (verbose, good) {
        (true, _) => health.report(),
        (false, true) => "ok\n".to_owned(),
        (false, false) => "not ready\n".to_owned(),
    };
    (status, text).into_response()
}

async fn upstreams(State(page): State<Page>) -> Response {
    let line = |(kind, name, state): (&str, String, crate::health::UpstreamState)| {
        json!({
            "kind": kind,
            "name": name,
            "state": if state.up { "up" } else { "down" },
            "for_seconds": state.since.elapsed().as_secs(),
            "latency_ms": state.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            "last_error": state.last_error,
        })
    };
    Json(page.health.upstreams().into_iter().map(line).collect::<Vec<_>>()).into_response()
}

async fn metrics_text(State(page): State<Page>) -> Response {
    match TextEncoder::new().encode_to_string(&page.metrics.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
