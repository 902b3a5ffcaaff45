//! `/api/v1/schedules`.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use umbel_proto::{Map, Millis};
use umbel_scheduler::beat::{Beat, CatchUp, Entry, Mark, Source, signature};

use super::{
    Api,
    extract::{Body, Path, Query},
    problem::{Kind, Problem},
};
use crate::schedules::{
    Book, Kept, Schedules,
    written::{Written, schedule},
};

/// The most times that are listed ahead.
const NEXT_MAX: usize = 1_000;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let book = book(&api).await?;
    let broken = book.unreadable.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
    let items: Vec<Value> = book.entries.iter().map(|kept| show(&api, kept, book.now)).collect();
    Ok(Json(json!({ "items": items, "unreadable": broken.collect::<Vec<_>>(), "leader": book.leader, "now": book.now })))
}

pub(super) async fn show_one(State(api): State<Api>, Path(name): Path) -> Result<Json<Value>, Problem> {
    let book = book(&api).await?;
    Ok(Json(show(&api, find(&book, &name)?, book.now)))
}

/// An entry with its name.
#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    written: Map,
}

pub(super) async fn add(State(api): State<Api>, Body(body): Body) -> Result<(StatusCode, Json<Value>), Problem> {
    let malformed = |reason: String| Problem::new(Kind::Malformed, reason).hint("node schedules add --help");
    let Named { name, written } = serde_json::from_slice(&body).map_err(|error| malformed(format!("the entry cannot be read: {error}")))?;
    let written: Written = serde_json::to_value(&written)
        .and_then(serde_json::from_value)
        .map_err(|error| malformed(format!("the entry {name:?} cannot be read: {error}")))?;
    let entry = written.entry(&name, Source::Api, &api.timezone).map_err(|reason| malformed(format!("the entry {name:?}: {reason}")))?;
    let before = book(&api).await?;
    if let Some(known) = before.entries.iter().find(|known| known.entry.name == name && known.entry.source != Source::Api) {
        return Err(declared(&known.entry));
    }
    let store = store(&api)?;
    store.put(vec![entry]).await?;
    tracing::info!(entry = name, "a schedule was added over HTTP");
    let book = store.book().await?;
    Ok((StatusCode::CREATED, Json(show(&api, find(&book, &name)?, book.now))))
}

pub(super) async fn remove(State(api): State<Api>, Path(name): Path) -> Result<Json<Value>, Problem> {
    let book = book(&api).await?;
    let known = find(&book, &name)?;
    if known.entry.source != Source::Api {
        return Err(declared(&known.entry));
    }
    store(&api)?.remove(std::slice::from_ref(&name)).await?;
    tracing::info!(entry = name, "a schedule was removed over HTTP");
    Ok(Json(json!({ "name": name, "removed": true })))
}

fn declared(entry: &Entry) -> Problem {
    let place = match entry.source {
        Source::Config => "[schedules] of umbel.toml",
        Source::App => "the application's beat_schedule",
        Source::Django => "the tables of django-celery-beat",
        Source::Api => "this API",
    };
    let detail = format!("the entry {:?} is declared in {place}, and is changed there", entry.name);
    Problem::new(Kind::Malformed, detail).hint(format!("node schedules pause {:?} stops it for now", entry.name))
}

pub(super) async fn pause(State(api): State<Api>, Path(name): Path) -> Result<Json<Value>, Problem> {
    set_paused(&api, &name, true).await
}

pub(super) async fn resume(State(api): State<Api>, Path(name): Path) -> Result<Json<Value>, Problem> {
    set_paused(&api, &name, false).await
}

async fn set_paused(api: &Api, name: &str, paused: bool) -> Result<Json<Value>, Problem> {
    let book = book(api).await?;
    find(&book, name)?;
    store(api)?.pause(name, paused).await?;
    tracing::info!(entry = name, paused, "a schedule was paused or resumed over HTTP");
    Ok(Json(json!({ "name": name, "paused": paused })))
}

pub(super) async fn run(State(api): State<Api>, Path(name): Path) -> Result<Json<Value>, Problem> {
    let book = book(&api).await?;
    let entry = &find(&book, &name)?.entry;
    // Derived like the ids of ticks, so that nobody takes it for another beat's.
    let key = format!("run:{name}:{}", uuid::Uuid::new_v4());
    let sent = api.client.submit_as(signature(entry, api.beat_queue.as_ref()), &key).await?;
    tracing::info!(entry = name, id = %sent.id(), "a schedule's task was sent over HTTP");
    Ok(Json(json!({ "name": name, "id": sent.id() })))
}

#[derive(Deserialize)]
pub(super) struct Ahead {
    count: Option<usize>,
}

pub(super) async fn next(State(api): State<Api>, Path(name): Path, Query(ahead): Query<Ahead>) -> Result<Json<Value>, Problem> {
    let count = ahead.count.unwrap_or(5);
    if !(1..=NEXT_MAX).contains(&count) {
        return Err(Problem::new(Kind::Malformed, format!("count is {count}, it must be 1 to {NEXT_MAX}")));
    }
    let book = book(&api).await?;
    let Kept { entry, mark } = find(&book, &name)?;
    let schedule =
        schedule(entry, &api.timezone).map_err(|reason| Problem::new(Kind::Malformed, format!("the entry {name:?}: {reason}")))?;
    // What is due already comes first, as it will be sent.
    let mut beat = Beat::default();
    beat.put(Arc::new(entry.clone()), schedule, mark.clone(), book.now);
    let mut items = Vec::new();
    let mut now = book.now;
    while let Some(at) = beat.next_at().filter(|_| items.len() < count) {
        now = now.max(at);
        for tick in beat.take(now, 1) {
            if tick.action == umbel_scheduler::beat::Action::Send && items.len() < count {
                items.push(tick.to());
            }
            beat.moved(&tick.entry.name, tick.mark.clone(), now);
        }
    }
    Ok(Json(json!({ "name": name, "items": items })))
}

fn store(api: &Api) -> Result<Arc<dyn Schedules>, Problem> {
    api.broker.schedules().ok_or_else(|| {
        let detail = format!("the {} broker keeps no schedules", api.broker.kind());
        Problem::new(Kind::NotFound, detail).hint("use a broker that does: umbel:// or redis://")
    })
}

async fn book(api: &Api) -> Result<Book, Problem> {
    Ok(store(api)?.book().await?)
}

fn find<'a>(book: &'a Book, name: &str) -> Result<&'a Kept, Problem> {
    let names = || book.entries.iter().map(|kept| kept.entry.name.as_str());
    let found = book.entries.iter().find(|kept| kept.entry.name == name);
    found.ok_or_else(|| Problem::not_found_among("schedule", name, names()).hint("node schedules ls"))
}

fn show(api: &Api, kept: &Kept, now: Millis) -> Value {
    let Kept { entry, mark } = kept;
    let (next, error) = match next_of(api, entry, mark, now) {
        Ok(next) => (next, None),
        Err(reason) => (None, Some(reason)),
    };
    json!({
        "name": entry.name, "task": entry.task, "schedule": entry.when.to_string(), "when": entry.when, "timezone": entry.timezone,
        "source": entry.source.as_str(), "enabled": entry.enabled, "paused": mark.paused, "one_off": entry.one_off,
        "catch_up": entry.catch_up.to_string(), "catch_up_window_ms": match entry.catch_up {
            CatchUp::All { window_ms } => Some(window_ms),
            _ => None,
        },
        "jitter_ms": entry.jitter_ms, "starts": entry.starts, "ends": entry.ends, "args": entry.args, "kwargs": entry.kwargs,
        "options": entry.options, "last": mark.sent, "runs": mark.runs, "next": next, "error": error,
    })
}

pub(super) fn next_of(api: &Api, entry: &Entry, mark: &Mark, now: Millis) -> Result<Option<Millis>, String> {
    let mut beat = Beat::default();
    beat.put(Arc::new(entry.clone()), schedule(entry, &api.timezone)?, mark.clone(), now);
    Ok(beat.next_at())
}
