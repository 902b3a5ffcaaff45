//! Who may talk to a node: the token, and the `Host` and `Origin` of the request.
//!
//! A page in a browser can send requests to `127.0.0.1`, and with a name that its owner points there (DNS rebinding) it can
//! even read the answers. So a node that listens on loopback answers only to the names of loopback, and no node answers to
//! an `Origin` other than its own. A node that listens elsewhere needs a token; see [`Guard::new`].

use std::net::SocketAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use thiserror::Error;

use super::problem::{Kind, Problem};

/// What is asked of every request.
#[derive(Clone)]
pub struct Guard {
    token: Option<Box<str>>,
    loopback: bool,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("token", &self.token.as_ref().map(|_| "********")).field("loopback", &self.loopback).finish()
    }
}

/// The API would be open to the network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "refusing to listen on {0} without a token: anybody who reaches it could run tasks\n  try: set UMBEL_HTTP_TOKEN (or http.token in umbel.toml), or listen on 127.0.0.1"
)]
pub struct OpenToTheNetwork(pub SocketAddr);

impl Guard {
    /// A guard for a server that listens on `address`.
    ///
    /// # Errors
    /// When `address` is not loopback and there is no token.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Result<Self, OpenToTheNetwork> {
        let token = token.filter(|token| !token.is_empty());
        let loopback = address.ip().is_loopback();
        if !loopback && token.is_none() {
            return Err(OpenToTheNetwork(address));
        }
        Ok(Self { token: token.map(Into::into), loopback })
    }

    fn check(&self, headers: &HeaderMap, public: bool) -> Result<(), Problem> {
        let host = host(headers)?;
        if self.loopback && !is_loopback_name(host) {
            return Err(Problem::new(Kind::Forbidden, format!("this node answers to localhost, not to Host {host:?}"))
                .hint("use http://127.0.0.1 or http://localhost"));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(|(_, name)| name == host);
            if !own {
                return Err(Problem::new(Kind::Forbidden, "requests from pages of another origin are refused"));
            }
        }
        match &self.token {
            Some(token) if !public => bearer(headers)
                .is_some_and(|given| equal(given.as_bytes(), token.as_bytes()))
                .then_some(())
                .ok_or_else(|| Problem::new(Kind::Unauthorized, "this node asks for a token").hint("send `Authorization: Bearer …`")),
            _ => Ok(()),
        }
    }
}

/// Refuses what the guard refuses. Liveness and readiness say nothing that needs a token.
pub async fn layer(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let public = matches!(request.uri().path(), "/livez" | "/readyz");
    match guard.check(request.headers(), public) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn host(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => Ok(host),
        _ => Err(Problem::new(Kind::Malformed, "a request has exactly one Host header")),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares without telling by its time where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
