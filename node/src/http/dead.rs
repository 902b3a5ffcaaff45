//! `/api/v1/dead`: dead letters.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    Api,
    extract::Path,
    json,
    page::{Page, page},
    problem::Problem,
};
use crate::brokers::DeadLetter;

/// Dead letters looked through to find one or to fill a page.
const LOOK_MAX: usize = 100_000;

pub(super) async fn list(State(api): State<Api>, wanted: Page) -> Result<Json<Value>, Problem> {
    // The cursor counts from the oldest, so that letters which die meanwhile do not shift the pages.
    let letters = api.broker.dead(LOOK_MAX).await?;
    let total = letters.len();
    let skip = wanted.cursor.map_or(0, |left| total.saturating_sub(left as usize));
    let items: Vec<Value> = letters.iter().skip(skip).take(wanted.limit).map(letter).collect();
    let left = total - skip - items.len();
    Ok(Json(page(items, (left > 0).then_some(left as u64))))
}

pub(super) async fn show(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    let letters = api.broker.dead(LOOK_MAX).await?;
    let found = letters.iter().find(|letter| letter.id == id);
    Ok(Json(letter(found.ok_or_else(|| missing(&id))?)))
}

pub(super) async fn retry(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    if !api.broker.dead_retry(&id).await? {
        return Err(missing(&id));
    }
    tracing::info!(letter = %id, "dead letter put back over HTTP");
    Ok(Json(json!({ "id": id, "retried": true })))
}

pub(super) async fn drop(State(api): State<Api>, Path(id): Path) -> Result<Json<Value>, Problem> {
    if !api.broker.dead_drop(&id).await? {
        return Err(missing(&id));
    }
    tracing::info!(letter = %id, "dead letter dropped over HTTP");
    Ok(Json(json!({ "id": id, "dropped": true })))
}

fn missing(id: &str) -> Problem {
    Problem::not_found("dead letter", id).hint("node dead ls")
}

fn letter(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id, "queue": letter.queue, "reason": letter.reason.as_str(), "detail": letter.detail, "at": letter.at,
        "attempts": letter.attempts, "message": json::message(&letter.envelope),
    })
}
