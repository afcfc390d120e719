//! Bodies, queries and paths, strict: what is wrong is a problem document, never a page.

use super::problem::Problem;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub T);

/// A JSON body; no body is an empty object. Any other type is refused, so that no foreign page's form can be one (B-91).
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = media_type(&request).is_some_and(|found| found == "application/json");
        let body = Bytes::from_request(request, state).await?;
        match body.as_ref() {
            [] => read(b"{}"),
            body if json => read(body),
            _ => Err(Problem::media_type("application/json")),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Body<T>, Problem> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(Body(value)),
        // The text names keys and types; a value could be a secret.
        Err(error) if error.is_data() => Err(Problem::rule(without_values(&error))),
        Err(error) => Err(Problem::syntax(format!("not JSON, line {}, column {}", error.line(), error.column()))),
    }
}

/// What serde says of unknown and missing keys, but no value that was found.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.starts_with("unknown field") || text.starts_with("missing field") || text.starts_with("duplicate field")
    {
        true => text,
        false => {
            format!("a value has the wrong type or is not allowed, line {}, column {}", error.line(), error.column())
        }
    }
}

/// `text/toml` of `text/toml; charset=utf-8`.
pub(super) fn media_type(request: &Request) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}
