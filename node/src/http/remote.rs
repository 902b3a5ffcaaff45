//! The other end: what asks the API of a node.
//!
//! A [`Remote`] is either a node that listens somewhere, or the routes themselves in this process, over stores that no node has
//! open. The CLI speaks to both in the same words, so there is one way to do each thing.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use thiserror::Error;
use tower::ServiceExt as _;

/// How long a node may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The largest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A node to ask.
#[derive(Clone)]
pub enum Remote {
    /// One that listens.
    Listening {
        /// Where.
        address: SocketAddr,
        /// Its token, if it wants one.
        token: Option<String>,
    },
    /// The routes, without a node.
    Here(Router),
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listening { address, .. } => write!(f, "Remote({address})"),
            Self::Here(_) => f.write_str("Remote(here)"),
        }
    }
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listening { address, .. } => address.fmt(f),
            Self::Here(_) => f.write_str("this process"),
        }
    }
}

/// Why there is no answer, or which.
#[derive(Debug, Clone, Error)]
pub enum RemoteError {
    /// Nobody listens, or the connection broke.
    #[error("cannot reach the node at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The node refused, with a problem document.
    #[error("{detail}")]
    Problem {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        detail: String,
        /// What it says to try.
        hint: Option<String>,
    },
    /// The answer is not one of this API.
    #[error("the answer of {address} cannot be read: {reason}")]
    Answer {
        /// Where from.
        address: String,
        /// Why.
        reason: String,
    },
}

impl Remote {
    /// Asks, and reads the whole answer as JSON (null for an empty one).
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<(StatusCode, Json), RemoteError> {
        self.ask_with(method, path, body, &[]).await
    }

    /// As [`Remote::ask`], with more headers.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn ask_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        headers: &[(&str, &str)],
    ) -> Result<(StatusCode, Json), RemoteError> {
        let (status, bytes) = self.whole(self.open_with(method, path, body, headers).await?).await?;
        let unreadable = |reason: String| RemoteError::Answer { address: self.to_string(), reason };
        if bytes.is_empty() {
            return Ok((status, Json::Null));
        }
        let answer: Json = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if status.is_success() {
            return Ok((status, answer));
        }
        let text = |key: &str| answer.get(key).and_then(Json::as_str).map(str::to_owned);
        Err(RemoteError::Problem { status, detail: text("detail").unwrap_or_else(|| status.to_string()), hint: text("hint") })
    }

    /// Asks, and reads the whole answer as it is.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn raw(&self, method: Method, path: &str, body: Option<&Json>) -> Result<(StatusCode, Bytes), RemoteError> {
        self.whole(self.open(method, path, body).await?).await
    }

    async fn whole(&self, response: Response<Body>) -> Result<(StatusCode, Bytes), RemoteError> {
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX)
            .await
            .map_err(|error| RemoteError::Answer { address: self.to_string(), reason: error.to_string() })?;
        Ok((status, bytes))
    }

    /// Asks, and leaves the answer's body to be read as it comes (server-sent events).
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Response<Body>, RemoteError> {
        self.open_with(method, path, body, &[]).await
    }

    async fn open_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, RemoteError> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).map_err(|error| self.unreachable(error))?;
        match self {
            Self::Here(router) => {
                request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
                Ok(router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
            Self::Listening { address, token } => {
                let headers = request.headers_mut();
                let host = HeaderValue::from_str(&address.to_string()).map_err(|error| self.unreachable(error))?;
                headers.insert(header::HOST, host);
                if let Some(token) = token {
                    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| self.unreachable(error))?;
                    bearer.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, bearer);
                }
                self.send(*address, request).await
            }
        }
    }

    async fn send(&self, address: SocketAddr, request: Request<Body>) -> Result<Response<Body>, RemoteError> {
        let connect = tokio::time::timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect(address));
        let stream = match connect.await {
            Ok(connected) => connected.map_err(|error| self.unreachable(error))?,
            Err(_) => return Err(self.unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        crate::task::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
        Ok(response.map(Body::new))
    }

    fn unreachable(&self, reason: impl ToString) -> RemoteError {
        RemoteError::Unreachable { address: self.to_string(), reason: reason.to_string() }
    }
}
