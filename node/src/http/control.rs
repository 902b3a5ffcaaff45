//! `/api/v1/control`: remote control of nodes and Celery workers.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value as Json_, json};
use umbel_proto::{Map, Value, control::Request};

use super::{
    Api,
    extract::Body,
    problem::{Kind, Problem},
};
use crate::control::ask;

/// The longest that answers may be waited for.
const PATIENCE_MAX: f64 = 60.0;

/// A command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// Its name.
    method: String,
    /// Its arguments by name.
    #[serde(default)]
    arguments: serde_json::Map<String, Json_>,
    /// The nodes it is for; without it all of them.
    destination: Option<Vec<String>>,
    /// What the names of the nodes it is for look like.
    pattern: Option<String>,
    /// How the pattern is read.
    matcher: Option<String>,
    /// How long to wait for the next answer, in seconds.
    timeout: Option<f64>,
}

pub(super) async fn command(State(api): State<Api>, Body(body): Body) -> Result<Json<Json_>, Problem> {
    let command: Command = serde_json::from_slice(&body).map_err(|error| Problem::new(Kind::Malformed, format!("body: {error}")))?;
    let timeout = command.timeout.unwrap_or(1.0);
    if !(0.0..=PATIENCE_MAX).contains(&timeout) {
        return Err(Problem::new(Kind::Malformed, format!("timeout must be between 0 and {PATIENCE_MAX} seconds")));
    }
    let wrong = |error: &dyn std::fmt::Display| Problem::new(Kind::Malformed, format!("the arguments cannot be sent: {error}"));
    let arguments = Value::from_serialize(&command.arguments).map_err(|error| wrong(&error))?;
    let request = Request {
        arguments: arguments.as_map().cloned().unwrap_or_else(Map::new),
        destination: command.destination,
        pattern: command.pattern,
        matcher: command.matcher,
        ..Request::new(command.method)
    };
    let answers = ask::ask(&api.broker, request, Duration::from_secs_f64(timeout)).await?;
    let replies: Vec<Json_> =
        answers.replies.iter().map(|(node, reply)| json!({ "node": node, "reply": super::json::value(reply) })).collect();
    Ok(Json(json!({ "replies": replies, "missing": answers.missing, "silent": answers.silent })))
}
