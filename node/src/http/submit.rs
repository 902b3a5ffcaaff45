//! `POST /api/v1/submit`: a signature or an expression goes in, ids come out.
//!
//! With an `Idempotency-Key` header the same request may be sent again: it is answered as the first time and nothing is sent
//! twice. Keys are kept in memory for the life of the node, [`KEYS_MAX`] of them; and because the ids of a workflow are
//! derived from its key, a request repeated after a restart names the same tasks again.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value as Json_, json};
use tokio::sync::Mutex;
use umbel_proto::{GroupId, Limits, Map, Signature, TaskName, Value};

use super::{
    Api,
    extract::Body,
    json,
    problem::{Kind, Problem},
};
use crate::{config::suggest::closest, expression};

/// Idempotency keys kept; beyond, the oldest is forgotten.
pub const KEYS_MAX: usize = 10_000;
/// The most warnings about one submission.
const WARNINGS_MAX: usize = 10;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// What was answered to which key.
///
/// One lock around the whole of a keyed submission: two requests with one key must not both be first. It is tokio's, because it
/// is held while the submission is committed; requests without a key do not touch it.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    known: HashMap<String, (u64, Json_)>,
    order: VecDeque<String>,
}

pub(super) async fn submit(State(api): State<Api>, headers: HeaderMap, Body(body): Body) -> Result<Response, Problem> {
    let Some(key) = idempotency_key(&headers)? else {
        let answer = send(&api, &body, None).await?;
        return Ok((StatusCode::ACCEPTED, Json(answer)).into_response());
    };
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let request = hasher.finish();
    let mut answers = api.keys.0.lock().await;
    if let Some((known, answer)) = answers.known.get(&key) {
        return if *known == request {
            Ok((StatusCode::ACCEPTED, [("idempotent-replayed", "true")], Json(answer.clone())).into_response())
        } else {
            Err(Problem::new(Kind::Conflict, "this Idempotency-Key was used for another request"))
        };
    }
    let answer = send(&api, &body, Some(&key)).await?;
    if answers.order.len() == KEYS_MAX
        && let Some(oldest) = answers.order.pop_front()
    {
        answers.known.remove(&oldest);
    }
    answers.order.push_back(key.clone());
    answers.known.insert(key, (request, answer.clone()));
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn send(api: &Api, body: &[u8], key: Option<&str>) -> Result<Json_, Problem> {
    let signature = read(body)?;
    let warnings = api.node.as_ref().map(|node| unfamiliar(&signature, &node.task_names())).unwrap_or_default();
    let submission = match key {
        Some(key) => api.client.submit_as(signature, key).await?,
        None => api.client.submit(signature).await?,
    };
    if submission.is_group() {
        // So that the group's id leads to its members; the members themselves are durable already.
        api.backend.save_group(&GroupId::from(submission.id()), submission.tuple()).await?;
    }
    let mut answer = json!({ "id": submission.id(), "result": json::tree(submission.tuple()) });
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    Ok(answer)
}

/// Tasks that this node does not run and whose names are nearly those of tasks it does. They are sent all the same: another
/// node may run them.
fn unfamiliar(signature: &Signature, known: &[TaskName]) -> Vec<String> {
    let mut unfamiliar = Vec::new();
    let mut rest = vec![signature.to_value()];
    while let Some(value) = rest.pop() {
        match value {
            Value::List(list) => rest.extend(list),
            Value::Map(mut map) => {
                if let Some(Value::Str(task)) = map.get("task")
                    && !known.iter().any(|name| name.as_str() == task)
                    && let Some(near) = closest(task, known.iter().map(TaskName::as_str))
                {
                    let warning = format!("this node has no task {task:?}; did you mean {near:?}?");
                    if unfamiliar.len() < WARNINGS_MAX && !unfamiliar.contains(&warning) {
                        unfamiliar.push(warning);
                    }
                }
                // Signatures stand in each other's `kwargs` and `options`; arguments are not theirs.
                for within in ["kwargs", "options"] {
                    let Some(Value::Map(inner)) = map.get_mut(within) else { continue };
                    for part in ["tasks", "header", "body", "task", "link", "link_error", "chord"] {
                        rest.extend(inner.shift_remove(part));
                    }
                }
            }
            _ => {}
        }
    }
    unfamiliar
}

/// `{"signature": {…}}`, `{"expression": "add(2, 2) | mul(8)"}`, or a bare signature.
fn read(body: &[u8]) -> Result<Signature, Problem> {
    let malformed = |error: umbel_proto::DecodeError| Problem::new(Kind::Malformed, error.to_string());
    let value = umbel_proto::codec::json::parse(body, Limits { size_bytes: super::BODY_BYTES_MAX, depth: 128 }).map_err(malformed)?;
    let Value::Map(map) = &value else {
        return Err(Problem::new(Kind::Malformed, "the body is not a JSON object"));
    };
    match (map.get("signature"), map.get("task"), map.get("expression")) {
        (None, None, Some(Value::Str(text))) => {
            expression::parse(text, None).map_err(|error| Problem::new(Kind::Malformed, format!("expression: {error}")))
        }
        (Some(signature), None, None) => Signature::from_value(&completed(signature.clone())).map_err(malformed),
        (None, Some(_), None) => Signature::from_value(&completed(value)).map_err(malformed),
        _ => Err(Problem::new(Kind::Malformed, "the body holds none of `expression` (text), `signature` and `task`")
            .hint(r#"{"expression": "umbel.demo.add(2, 3)"}"#)),
    }
}

/// A signature with what Celery's clients always send (`options`, `kwargs`, `immutable`, …) filled in where a person left it
/// out, in its parts as well. Depth was capped when it was parsed.
fn completed(value: Value) -> Value {
    let mut map = match value {
        Value::Map(map) if map.contains_key("task") => map,
        // A list of signatures, or a mistake that `Signature::from_value` will name.
        Value::List(list) => return Value::List(list.into_iter().map(completed).collect()),
        other => return other,
    };
    for (key, default) in [
        ("args", Value::List(Vec::new())),
        ("kwargs", Value::Map(Map::new())),
        ("options", Value::Map(Map::new())),
        ("subtask_type", Value::Null),
        ("immutable", Value::Bool(false)),
    ] {
        map.entry(key.to_owned()).or_insert(default);
    }
    for (within, parts) in [("kwargs", ["tasks", "header", "body", "task"].as_slice()), ("options", &["link", "link_error"])] {
        let Some(Value::Map(inner)) = map.get_mut(within) else { continue };
        for part in parts {
            if let Some(found) = inner.get_mut(*part) {
                *found = completed(std::mem::take(found));
            }
        }
    }
    Value::Map(map)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(Kind::Malformed, format!("an Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters"))),
    }
}
