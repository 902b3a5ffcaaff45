//! `/api/v1/queues`.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use umbel_proto::QueueName;

use super::{Api, extract::Path, json, page::Page, problem::Problem};
use crate::brokers::QueueStatus;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let queues = api.broker.queues().await?;
    Ok(Json(json!({ "items": queues.iter().map(status).collect::<Vec<_>>() })))
}

pub(super) async fn show(State(api): State<Api>, Path(queue): Path) -> Result<Json<Value>, Problem> {
    Ok(Json(status(&find(&api, &queue).await?)))
}

pub(super) async fn peek(State(api): State<Api>, Path(queue): Path, page: Page) -> Result<Json<Value>, Problem> {
    let queue = find(&api, &queue).await?.name;
    let messages = api.broker.peek(&queue, page.limit).await?;
    let items: Vec<Value> = messages
        .iter()
        .map(|peeked| json!({ "message": json::message(&peeked.envelope), "due": peeked.due, "attempts": peeked.attempts }))
        .collect();
    Ok(Json(json!({ "items": items })))
}

pub(super) async fn purge(State(api): State<Api>, Path(queue): Path) -> Result<Json<Value>, Problem> {
    let queue = find(&api, &queue).await?.name;
    let purged = api.broker.purge(&queue).await?;
    tracing::info!(%queue, purged, "queue purged over HTTP");
    Ok(Json(json!({ "purged": purged })))
}

pub(super) async fn pause(State(api): State<Api>, Path(queue): Path) -> Result<Json<Value>, Problem> {
    set_paused(&api, &queue, true).await
}

pub(super) async fn resume(State(api): State<Api>, Path(queue): Path) -> Result<Json<Value>, Problem> {
    set_paused(&api, &queue, false).await
}

async fn set_paused(api: &Api, queue: &str, paused: bool) -> Result<Json<Value>, Problem> {
    let queue = QueueName::from(queue);
    // A queue may be paused before it is first used, so an unknown name is no error here.
    api.broker.pause(&queue, paused).await?;
    tracing::info!(%queue, paused, "queue paused or resumed over HTTP");
    Ok(Json(json!({ "queue": queue, "paused": paused })))
}

async fn find(api: &Api, queue: &str) -> Result<QueueStatus, Problem> {
    let mut queues = api.broker.queues().await?;
    match queues.iter().position(|status| status.name.as_str() == queue) {
        Some(at) => Ok(queues.swap_remove(at)),
        None => {
            let names = queues.iter().map(|status| status.name.as_str());
            Err(Problem::not_found_among("queue", queue, names).hint("node queues ls"))
        }
    }
}

fn status(status: &QueueStatus) -> Value {
    json!({
        "name": status.name, "ready": status.ready, "held": status.held, "scheduled": status.scheduled,
        "oldest": status.oldest, "consumers": status.consumers, "paused": status.paused,
    })
}
