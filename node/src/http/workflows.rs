//! `/api/v1/results` and `/api/v1/workflows`.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use umbel_proto::{GroupId, ResultRecord, ResultTuple, TaskId};
use umbel_scheduler::revocation::Revocation;

use super::{
    Api,
    extract::{Path, Query},
    json,
    problem::{Kind, Problem},
};

/// The longest wait for a result, in seconds.
const WAIT_SECS_MAX: f64 = 60.0;
/// Tasks of a workflow that are looked up for one answer.
const NODES_MAX: usize = 10_000;

/// How long to wait for a result.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wait {
    wait: Option<f64>,
}

/// The result of a task: 200 when it has ended, 202 while it has not. `?wait=` waits that many seconds for it to end.
pub(super) async fn result(State(api): State<Api>, Path(id): Path, Query(wait): Query<Wait>) -> Result<Response, Problem> {
    let task = TaskId::from(id.as_str());
    let secs = wait.wait.unwrap_or(0.0);
    if !(0.0..=WAIT_SECS_MAX).contains(&secs) {
        return Err(Problem::new(Kind::Malformed, format!("wait is {secs}, it must be 0 to {WAIT_SECS_MAX} seconds")));
    }
    let mut found = read(&api, &task).await?;
    if secs > 0.0 && !ended(found.as_ref()) {
        let mut watch = api.backend.watch(std::slice::from_ref(&task)).await?;
        let until = tokio::time::Instant::now() + Duration::from_secs_f64(secs);
        while !ended(found.as_ref()) {
            tokio::select! {
                next = watch.next() => found = Some(next?),
                () = tokio::time::sleep_until(until) => break,
                () = api.stop.cancelled() => return Err(Problem::new(Kind::Unavailable, "the node stops")),
            }
        }
    }
    let status = if ended(found.as_ref()) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = found.as_ref().map_or_else(|| json!({ "task_id": id, "status": "PENDING", "result": null }), json::record);
    Ok((status, Json(body)).into_response())
}

pub(super) async fn forget(State(api): State<Api>, Path(id): Path) -> Result<StatusCode, Problem> {
    api.backend.forget(&[TaskId::from(id)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A workflow by the id of its result (a task's or a group's): every task that can be reached from it, with its state.
pub(super) async fn show(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let group = api.backend.group(&GroupId::from(id.as_str())).await?;
    let chord = api.backend.chord(&GroupId::from(id.as_str())).await?;
    let root = match &group {
        Some(tree) => tree.clone(),
        None => ResultTuple { id: id.clone(), parent: None, children: None },
    };
    let mut left = NODES_MAX;
    let tree = Box::pin(node(&api, &root, &mut left)).await?;
    let unknown = group.is_none() && chord.is_none() && tree["status"] == "PENDING" && api.index.get(&id).is_none();
    if unknown {
        return Err(Problem::not_found("workflow", &id));
    }
    let chord = chord.map(|progress| json!({ "size": progress.size, "done": progress.done }));
    Ok(Json(json!({ "id": id, "chord": chord, "tree": tree, "truncated": left == 0 })))
}

pub(super) async fn revoke(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let (task, group) = (TaskId::from(id.as_str()), GroupId::from(id.as_str()));
    let root = api.index.get(&id).and_then(|row| row.root_id).unwrap_or_else(|| task.clone());
    api.broker.revoke(&[Revocation::Workflow(root), Revocation::Group(group), Revocation::Task(task)]).await?;
    tracing::info!(root_id = %id, "workflow revoked over HTTP");
    Ok(Json(json!({ "id": id, "revoked": true })))
}

async fn node(api: &Api, tuple: &ResultTuple, left: &mut usize) -> Result<Value, Problem> {
    let record = read(api, &TaskId::from(tuple.id.as_str())).await?;
    let row = api.index.get(&tuple.id);
    let below = tuple.children.clone().or_else(|| record.as_ref().and_then(|record| record.children.clone())).unwrap_or_default();
    let mut children = Vec::new();
    for child in &below {
        if *left == 0 {
            break;
        }
        *left -= 1;
        children.push(Box::pin(node(api, child, left)).await?);
    }
    let parent = tuple.parent.as_ref().map(|parent| parent.id.clone());
    let status = record.as_ref().map(|record| record.status.as_str().to_owned()).or_else(|| row.as_ref().map(|row| row.state.to_owned()));
    Ok(json!({
        "id": tuple.id, "name": row.map(|row| row.name), "status": status.unwrap_or_else(|| "PENDING".to_owned()),
        "group": tuple.children.is_some(), "parent": parent, "children": children,
    }))
}

async fn read(api: &Api, task: &TaskId) -> Result<Option<ResultRecord>, Problem> {
    Ok(api.backend.get(std::slice::from_ref(task)).await?.into_iter().next().flatten())
}

fn ended(record: Option<&ResultRecord>) -> bool {
    record.is_some_and(|record| record.status.is_ready())
}
