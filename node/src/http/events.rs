//! `/api/v1/events`: what happens to tasks, as server-sent events.
//!
//! Each event is one fact: `event:` its kind, `data:` the task's row. A reader that lags loses the oldest and is sent an event
//! `lagged` that says how many.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event as Sse, KeepAlive, Sse as Stream},
};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{
    Api,
    extract::Query,
    problem::{Kind, Problem},
};

/// Sent when nothing happens, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which events are wanted; everything without.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Wanted {
    /// Of one task.
    task_id: Option<String>,
    /// Of one workflow.
    root_id: Option<String>,
}

pub(super) async fn stream(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Stream<impl futures::Stream<Item = Result<Sse, Infallible>>>, Problem> {
    let Some(node) = &api.node else { return Err(Problem::new(Kind::Unavailable, "there is no running node here")) };
    let events = node.facts().subscribe();
    let stream = stream::unfold((events, api, wanted), |(mut events, api, wanted)| async move {
        loop {
            let received = tokio::select! {
                () = api.stop.cancelled() => return None,
                received = events.recv() => received,
            };
            let event = match received {
                Ok(event) => event,
                Err(RecvError::Lagged(missed)) => {
                    let lagged = Sse::default().event("lagged").data(json!({ "missed": missed }).to_string());
                    return Some((Ok(lagged), (events, api, wanted)));
                }
                Err(RecvError::Closed) => return None,
            };
            let Some(invocation) = &event.invocation else { continue };
            let headers = &invocation.headers;
            let other_task = wanted.task_id.as_deref().is_some_and(|id| id != headers.id.as_str());
            let other_root = wanted.root_id.as_deref().is_some_and(|id| headers.root_id.as_ref().is_none_or(|root| root.as_str() != id));
            if other_task || other_root {
                continue;
            }
            // The index may be one event behind; what is sent is what this event makes of it.
            api.index.apply(&event);
            let data = json!({ "at": event.at, "task": api.index.get(headers.id.as_str()) });
            let sse = Sse::default().event(event.fact.kind().as_str()).data(data.to_string());
            return Some((Ok(sse), (events, api, wanted)));
        }
    });
    Ok(Stream::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
