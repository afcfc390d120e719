//! The one address that apps of the privacyIDEA protocol speak to (docs/operating/authenticator-push.md): fields are collected and
//! handed on, the answer is handed back. Nothing is decided here.

use super::Phones;
use crate::app::{VERIFICATION_LIMIT, within};
use crate::http::ClientAddress;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode, Uri};
use proto::verification::PiRequest;
use std::collections::HashMap;

/// The protocol has eight.
const FIELDS_MAX: usize = 32;

pub(super) async fn serve(
    State(phones): State<Phones>,
    ClientAddress(from): ClientAddress,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    if !phones.may_ask(from) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let fields = match method == Method::POST {
        true => std::str::from_utf8(&body).ok().and_then(fields),
        false => fields(uri.query().unwrap_or_default()),
    };
    let Some(fields) = fields else { return StatusCode::BAD_REQUEST.into_response() };
    let request = PiRequest { method: method.as_str().into(), fields, address: from.to_string() };
    match within(VERIFICATION_LIMIT, request, |request| phones.app.deps.phone.pi(request)).await {
        Ok(reply) => {
            let status = u16::try_from(reply.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (status.unwrap_or(StatusCode::BAD_GATEWAY), headers, reply.json).into_response()
        }
        Err(error) => {
            tracing::warn!(error = error.message(), "a phone could not be answered");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// A form is written as a query is, whatever the request calls it. `None`: it is neither.
fn fields(text: &str) -> Option<HashMap<String, String>> {
    let uri = Uri::builder().path_and_query(format!("/?{text}")).build().ok()?;
    let Query(fields) = Query::<HashMap<String, String>>::try_from_uri(&uri).ok()?;
    (fields.len() <= FIELDS_MAX).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_query_and_form_alike() {
        let read = fields("serial=TWLK01&capabilities=%5B%22a%22%5D&nonce=a%2Bb+c&decline=1").expect("read");
        for (name, value) in [("serial", "TWLK01"), ("capabilities", r#"["a"]"#), ("nonce", "a+b c"), ("decline", "1")]
        {
            assert_eq!(read[name], value);
        }
        assert!(fields("").expect("empty").is_empty());
        for bad in ["a=\u{1}", "a b", "ä=1", "a=%ff"] {
            assert!(fields(bad).is_none_or(|fields| fields.values().all(|value| !value.contains('\u{1}'))), "{bad}");
        }
        let many: String = (0..100).map(|place| format!("f{place}=1&")).collect();
        assert!(fields(&many).is_none());
        assert!(fields(&"a".repeat(70_000)).is_none());
    }
}
