//! `/api/v1/tasks`: tasks this node has seen lately.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use umbel_proto::{Invocation, QueueName, TaskId};
use umbel_scheduler::{Commit, Effect, Fence, Publish, revocation::Revocation, settlement::route_back};

use super::{
    Api,
    extract::{Path, Query},
    json,
    page::{Page, page},
    problem::{Kind, Problem},
};

/// Filters; all that are given must fit.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    state: Option<String>,
    name: Option<String>,
    queue: Option<String>,
    root_id: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, Query(filter): Query<Filter>, wanted: Page) -> Json<Value> {
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    let (rows, next) = api.index.page(wanted.cursor, wanted.limit, |row| {
        fits(&filter.state, row.state)
            && fits(&filter.name, &row.name)
            && fits(&filter.queue, &row.queue)
            && fits(&filter.root_id, row.root_id.as_ref().map_or("", TaskId::as_str))
    });
    Json(page(rows.into_iter().map(|row| json!(row)).collect(), next))
}

pub(super) async fn show(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let task = TaskId::from(id.as_str());
    let record = api.backend.get(std::slice::from_ref(&task)).await?.into_iter().next().flatten();
    let row = api.index.get(&id);
    if record.is_none() && row.is_none() {
        return Err(unknown(&id));
    }
    Ok(Json(json!({ "task": row, "result": record.as_ref().map(json::record) })))
}

pub(super) async fn revoke(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    // An id nobody has seen may be waiting in a queue: revoking it is right, as it is in Celery.
    api.broker.revoke(&[Revocation::Task(TaskId::from(id.as_str()))]).await?;
    tracing::info!(task_id = %id, "task revoked over HTTP");
    Ok(Json(json!({ "id": id, "revoked": true })))
}

pub(super) async fn retry(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let Some(again) = api.index.again(&id) else {
        return Err(match api.index.get(&id) {
            None => unknown(&id),
            Some(row) => {
                Problem::new(Kind::Conflict, format!("task {id} is {}: only tasks that failed or expired are run again", row.state))
            }
        });
    };
    // Whoever takes it would refuse it: an order to revoke holds for every message of its task.
    if api.broker.revoked().borrow().covers(&again) {
        let refused = Problem::new(Kind::Conflict, format!("task {id} is revoked, or what it belongs to: it would not run"));
        return Err(refused.hint("send it under a new id: node call"));
    }
    let mut invocation = Invocation::clone(&again);
    invocation.headers.retries = 0;
    invocation.headers.eta = None;
    // Whoever asks for it wants it now, however late that is.
    invocation.headers.expires = None;
    let taken_from = api.index.get(&id).map(|row| row.queue).filter(|queue| !queue.is_empty());
    let queue = taken_from.unwrap_or_else(|| invocation.properties.routing_key.clone());
    let route = route_back(&invocation, &QueueName::from(queue));
    let publish = Effect::Publish(Box::new(Publish { invocation, route, due: None }));
    api.ledger.commit(vec![Commit { fence: Fence::Open, effects: vec![publish] }]).await?;
    tracing::info!(task_id = %id, "task sent again over HTTP");
    Ok(Json(json!({ "id": id, "retried": true })))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("task", id).hint("a task that has not been taken yet is in its queue: node queues peek")
}
