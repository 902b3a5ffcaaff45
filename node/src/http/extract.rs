//! What handlers take out of a request. The same as axum's own, except that what cannot be taken out is a [`Problem`].

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path as AxumPath, Query as AxumQuery, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use super::{
    BODY_BYTES_MAX,
    problem::{Kind, Problem},
};

/// The one variable part of the path.
pub(super) struct Path(pub(super) String);

/// The query.
pub(super) struct Query<T>(pub(super) T);

/// The whole body.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match AxumPath::<String>::from_request_parts(parts, state).await {
            Ok(AxumPath(part)) => Ok(Self(part)),
            Err(error) => Err(Problem::new(Kind::Malformed, format!("path: {}", error.body_text()))),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match AxumQuery::<T>::from_request_parts(parts, state).await {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(error) => Err(Problem::new(Kind::Malformed, format!("query: {}", error.body_text()))),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::new(Kind::TooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes")))
            }
            Err(error) => Err(Problem::new(Kind::Malformed, format!("body: {}", error.body_text()))),
        }
    }
}
