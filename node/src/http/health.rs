//! `/livez`, `/readyz`, `/api/v1/node`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Api,
    problem::{Kind, Problem},
};
use crate::actors::report::Phase;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The node takes work: it is running, and broker and ledger answer.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let Some(report) = api.report().await else { return not_ready("stopped") };
    if report.phase != Phase::Running {
        return not_ready(match report.phase {
            Phase::Draining => "draining",
            Phase::Restarting => "restarting",
            _ => "stopped",
        });
    }
    for (name, link) in [("broker", &report.broker), ("ledger", &report.ledger)] {
        if !link.is_up() {
            return not_ready(&format!("{name} does not answer"));
        }
    }
    "ready\n".into_response()
}

fn not_ready(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
}

/// Everything the node says of itself.
pub(super) async fn node(State(api): State<Api>) -> Result<Response, Problem> {
    match api.report().await {
        Some(report) => Ok(Json(json!(report)).into_response()),
        None => Err(Problem::new(Kind::Unavailable, "there is no running node here")),
    }
}
