//! Errors as RFC 9457 problem documents: what failed, the value at fault, and what to try.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{backends::BackendError, brokers::BrokerError, client::ClientError, config::suggest::closest, ledgers::LedgerError};

/// A refused or failed request.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Which kind of problem, stable across versions: `urn:umbel:problem:<kind>`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// What to try next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be understood.
    Malformed,
    /// The token is missing or wrong.
    Unauthorized,
    /// The `Host` or `Origin` is not one this node answers to.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The idempotency key was used for another request.
    Conflict,
    /// The body is larger than this node reads.
    TooLarge,
    /// Broker, result backend or ledger do not answer now.
    Unavailable,
    /// Something in this node went wrong.
    Internal,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "the request cannot be understood"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "a token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "this origin is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "there is no such thing"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "not with this method"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "the idempotency key is taken"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request is too large"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "a store does not answer"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "the node has failed"),
        }
    }
}

impl Problem {
    /// A problem of `kind`.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.parts();
        Self { kind: format!("urn:umbel:problem:{name}"), title, status: status.as_u16(), detail: detail.into(), hint: None }
    }

    /// With what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// There is no `what` called `name`.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(Kind::NotFound, format!("no {what} {name:?}"))
    }

    /// There is no `what` called `name`, but perhaps one of `names` was meant.
    pub fn not_found_among<'a>(what: &str, name: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let near = closest(name, names).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        Self::new(Kind::NotFound, format!("no {what} {name:?}{near}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let unauthorized = status == StatusCode::UNAUTHORIZED;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"umbel\""));
        }
        response
    }
}

macro_rules! problem_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                if error.is_transient() {
                    Self::new(Kind::Unavailable, error.to_string()).hint("node doctor")
                } else {
                    Self::new(Kind::Malformed, error.to_string())
                }
            }
        }
    )*};
}

problem_from!(BrokerError, BackendError, LedgerError, ClientError);
