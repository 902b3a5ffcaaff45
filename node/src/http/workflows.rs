//! `/api/v1/results` and `/api/v1/workflows`.

use std::{collections::HashSet, time::Duration};

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
/// Levels of a workflow that are shown. Each is two of JSON, of which readers take 128 (`serde_json`).
const DEPTH_MAX: usize = 60;
/// Results that are read at a time.
const SLICE: usize = 500;

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
    let (tree, whole) = tree(&api, root).await?;
    let unknown = group.is_none() && chord.is_none() && tree["status"] == "PENDING" && api.index.get(&id).is_none();
    if unknown {
        return Err(Problem::not_found("workflow", &id));
    }
    let chord = chord.map(|progress| json!({ "size": progress.size, "done": progress.done }));
    Ok(Json(json!({ "id": id, "chord": chord, "tree": tree, "truncated": !whole })))
}

pub(super) async fn revoke(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let (task, group) = (TaskId::from(id.as_str()), GroupId::from(id.as_str()));
    let root = api.index.get(&id).and_then(|row| row.root_id).unwrap_or_else(|| task.clone());
    api.broker.revoke(&[Revocation::Workflow(root), Revocation::Group(group), Revocation::Task(task)]).await?;
    tracing::info!(root_id = %id, "workflow revoked over HTTP");
    Ok(Json(json!({ "id": id, "revoked": true })))
}

/// A task or a group of a workflow.
struct Part {
    tuple: ResultTuple,
    record: Option<ResultRecord>,
    /// Its children, which stand behind it.
    children: Vec<usize>,
    /// Whether it has more of them.
    truncated: bool,
}

impl Part {
    fn new(tuple: ResultTuple) -> Self {
        Self { tuple, record: None, children: Vec::new(), truncated: false }
    }

    fn below(&self) -> Vec<ResultTuple> {
        let stored = || self.record.as_ref().and_then(|record| record.children.clone());
        self.tuple.children.clone().or_else(stored).unwrap_or_default()
    }
}

/// What can be reached from `root`, as a tree, and whether all of it is there. One level is looked up after the other: a chain is as
/// deep as it is long, and a task that sends itself again has no end.
async fn tree(api: &Api, root: ResultTuple) -> Result<(Value, bool), Problem> {
    let mut seen = HashSet::from([root.id.clone()]);
    let mut parts = vec![Part::new(root)];
    let (mut whole, mut level) = (true, 0..1);
    for depth in 1..=DEPTH_MAX {
        for slice in level.clone().collect::<Vec<_>>().chunks(SLICE) {
            let ids: Vec<TaskId> = slice.iter().map(|at| TaskId::from(parts[*at].tuple.id.as_str())).collect();
            for (at, record) in slice.iter().zip(api.backend.get(&ids).await?) {
                parts[*at].record = record;
            }
        }
        let first_of_next = parts.len();
        for at in level {
            for child in parts[at].below() {
                if depth == DEPTH_MAX || parts.len() >= NODES_MAX {
                    parts[at].truncated = true;
                    whole = false;
                    break;
                }
                // Celery's results may name a task twice; its place is where it was found first.
                if seen.insert(child.id.clone()) {
                    let place = parts.len();
                    parts[at].children.push(place);
                    parts.push(Part::new(child));
                }
            }
        }
        level = first_of_next..parts.len();
        if level.is_empty() {
            break;
        }
    }
    Ok((assemble(api, parts), whole))
}

/// The tree of parts of which each stands before its children.
fn assemble(api: &Api, parts: Vec<Part>) -> Value {
    let mut shown: Vec<Value> = vec![Value::Null; parts.len()];
    for (at, part) in parts.into_iter().enumerate().rev() {
        let children: Vec<Value> = part.children.iter().map(|child| shown[*child].take()).collect();
        let row = api.index.get(&part.tuple.id);
        let stored = part.record.as_ref().map(|record| record.status.as_str().to_owned());
        let status = stored.or_else(|| row.as_ref().map(|row| row.state.to_owned())).unwrap_or_else(|| "PENDING".to_owned());
        let parent = part.tuple.parent.as_ref().map(|parent| parent.id.clone());
        let mut node = json!({
            "id": part.tuple.id, "name": row.map(|row| row.name), "status": status,
            "group": part.tuple.children.is_some(), "parent": parent, "truncated": part.truncated,
        });
        node["children"] = Value::Array(children);
        shown[at] = node;
    }
    shown.swap_remove(0)
}

async fn read(api: &Api, task: &TaskId) -> Result<Option<ResultRecord>, Problem> {
    Ok(api.backend.get(std::slice::from_ref(task)).await?.into_iter().next().flatten())
}

fn ended(record: Option<&ResultRecord>) -> bool {
    record.is_some_and(|record| record.status.is_ready())
}
