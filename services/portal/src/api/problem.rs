//! What went wrong, as RFC 9457 writes it (FC-03).

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tonic::Code;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// What is wrong, one sentence each, where there is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    /// The reason from the closed list, where a code was refused or there is no decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            reason: None,
        }
    }

    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// For people: what is wrong, each thing by itself.
    pub fn sentences(&self) -> Vec<String> {
        [&self.detail].into_iter().chain(&self.errors).cloned().collect()
    }

    /// The request cannot be read: the caller's to mend.
    pub fn syntax(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "a valid API key is needed: Authorization: Bearer twk_...")
    }

    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "the role of this API key does not allow it")
    }

    /// The role allows it in general, and a rule not in this case.
    pub fn not_this(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not know this method")
    }

    pub fn media_type(expected: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body must be {expected}"))
    }

    pub fn too_many() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests in a short time")
    }

    /// Readable, but a rule says no.
    pub fn rule(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub fn rules(detail: impl Into<String>, errors: Vec<String>) -> Self {
        Self { errors, ..Self::rule(detail) }
    }

    /// The settings are of another revision by now.
    pub fn behind() -> Self {
        Self::new(StatusCode::CONFLICT, "somebody changed the settings first; try again")
    }

    /// There is no decision, and why.
    pub fn unavailable(reason: domain::Reason) -> Self {
        let detail = "there is no decision; try again";
        Self { reason: Some(reason.code()), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub fn code_refused(reason: domain::Reason) -> Self {
        Self { reason: Some(reason.code()), ..Self::rule(reason.sentence()) }
    }
}

/// Another part's No. Its words go on where they are meant for whoever asked; the inside of a fault never does.
impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        let told = |otherwise: &'static str| match status.message() {
            "" => otherwise.to_owned(),
            message => message.to_owned(),
        };
        match status.code() {
            Code::NotFound => Self::not_found(told("there is no such thing")),
            Code::InvalidArgument | Code::OutOfRange => Self::rule(told("a value is not allowed")),
            Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => {
                Self::new(StatusCode::CONFLICT, told("somebody changed it first"))
            }
            Code::ResourceExhausted => Self::too_many(),
            code @ (Code::Unavailable | Code::DeadlineExceeded) => {
                tracing::warn!(?code, "a part that the API needs does not answer");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "a part that is needed does not answer; try again")
            }
            code => {
                tracing::error!(?code, "an API call failed inside");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault in Twinlock")
            }
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::syntax(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::syntax(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "the body cannot be read; at most 1 MB is")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        let mut say = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        say(CONTENT_TYPE, "application/problem+json");
        match status {
            StatusCode::UNAUTHORIZED => drop(say(WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS => drop(say(RETRY_AFTER, "1")),
            StatusCode::SERVICE_UNAVAILABLE => drop(say(RETRY_AFTER, "5")),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inside_of_a_fault_is_not_told() {
        let problem = Problem::from(tonic::Status::internal("table users: disk I/O error"));
        assert_eq!(problem.status, 500);
        assert!(!problem.detail.contains("users"));
        let problem = Problem::from(tonic::Status::unavailable("10.0.0.7:5432 refused"));
        assert_eq!(problem.status, 503);
        assert!(!problem.detail.contains("10.0.0.7"));
        // A part that may not call another is our fault, not the caller's.
        assert_eq!(Problem::from(tonic::Status::permission_denied("x")).status, 500);
    }
}
