//! What providers of messages and calls say, handed on to verification as it came: it alone checks who said it (V-18).
//!
//! Knows the way and its bounds, nothing of what is said. Whatever verification does not know is one and the same 404.

use crate::app::{App, VERIFICATION_LIMIT, within};
use crate::http::ClientAddress;
use crate::limits::Limit;
use crate::metrics::Limited;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proto::verification::{CallbackReply, CallbackRequest};
use service_kit::net::one_source;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const BODY_BYTES_MAX: usize = 64 * 1024;
/// Verification needs no others: one says how the body reads, the rest are signatures.
const HEADERS: [&str; 3] = ["content-type", "x-twilio-signature", "x-twinlock-signature"];
const HEADER_BYTES_MAX: usize = 1024;

struct Callbacks {
    app: Arc<App>,
    /// Only what was not known or not signed counts: a busy provider is never slowed down.
    strangers_of_place: Limit<IpAddr>,
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let strangers_of_place = Limit::new(60, Duration::from_secs(1));
    Router::new()
        .route("/callback/{provider}/{*path}", get(receive).post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Callbacks { app, strangers_of_place }))
}

async fn receive(
    State(callbacks): State<Arc<Callbacks>>,
    ClientAddress(address): ClientAddress,
    method: Method,
    OriginalUri(uri): OriginalUri,
    Path((provider, path)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (app, now) = (&callbacks.app, Instant::now());
    if !callbacks.strangers_of_place.open(&one_source(address), now) {
        app.metrics.limited(Limited::CallbacksOfPlace);
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    // Signatures cover the address as the provider knows it, whatever proxy stands between.
    let called = uri.path_and_query().map_or("/", |it| it.as_str());
    let request = CallbackRequest {
        provider,
        path,
        method: method.as_str().into(),
        url: format!("{}{called}", app.public.origin()),
        headers: HEADERS.into_iter().filter_map(|name| Some((name.to_owned(), header(&headers, name)?))).collect(),
        body: body.into(),
        address: address.to_string(),
    };
    match within(VERIFICATION_LIMIT, request, |request| app.deps.callback.receive(request)).await {
        Ok(reply) => {
            if reply.status == 404 {
                callbacks.strangers_of_place.take(one_source(address), now);
            }
            answer(reply)
        }
        Err(error) => {
            tracing::warn!(error = error.message(), "a callback could not be handed on");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= HEADER_BYTES_MAX).then(|| value.to_owned())
}

fn answer(reply: CallbackReply) -> Response {
    let status = u16::try_from(reply.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = (status.unwrap_or(StatusCode::BAD_GATEWAY), reply.body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    if let (false, Ok(kind)) = (reply.content_type.is_empty(), HeaderValue::try_from(reply.content_type)) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
