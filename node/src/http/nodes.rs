//! Other nodes, and the end of this one.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    extract::Query,
    problem::{Kind, Problem},
};
use crate::{
    Shutdown, clock,
    cluster::{ClusterView, Member, MemberState},
};

/// How long running tasks may take when nobody says.
const GRACE_SECS: u64 = 25;

/// Who is there, as the node behind this API sees it; where there is none, who holds a lease.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<serde_json::Value>, Problem> {
    if let Some(node) = &api.node {
        let view = node.cluster().borrow().clone();
        return Ok(Json(json!({ "seen_by": view.me, "gossips": view.gossips, "items": view.members.values().collect::<Vec<_>>() })));
    }
    let Some(nodes) = api.broker.nodes().await.map_err(Problem::from)? else {
        return Err(Problem::new(Kind::Unavailable, format!("the {} broker cannot tell which nodes are there", api.broker.kind())));
    };
    let mut view = ClusterView { me: "nobody".into(), gossips: false, members: BTreeMap::new() };
    for live in nodes {
        let about = live.about;
        let member = Member {
            node: live.node.clone(),
            state: MemberState::Alive,
            since: clock::now(),
            roles: Vec::new(),
            queues: live.queues,
            version: about.version,
            host: about.host,
            http: about.http.map(|http| http.to_string()),
            gossip: about.gossip,
            load: None,
        };
        view.members.insert(live.node, member);
    }
    Ok(Json(json!({ "seen_by": null, "gossips": false, "items": view.members.values().collect::<Vec<_>>() })))
}

/// How to end.
#[derive(Debug, Deserialize)]
pub(super) struct Drain {
    /// How long running tasks may take, in seconds.
    grace_secs: Option<u64>,
}

/// Takes no more work, gives back what has not begun, finishes what runs, and ends.
pub(super) async fn drain(State(api): State<Api>, Query(drain): Query<Drain>) -> Result<Json<serde_json::Value>, Problem> {
    let node = api.node.as_ref().ok_or_else(|| Problem::new(Kind::Unavailable, "there is no running node here"))?;
    node.shutdown(Shutdown::Warm { grace: Duration::from_secs(drain.grace_secs.unwrap_or(GRACE_SECS)) });
    Ok(Json(json!({ "node": node.name(), "draining": true })))
}
