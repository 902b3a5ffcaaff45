//! The nodes of a cluster, each asked over HTTP.
//!
//! A node of an embedded store is found beside the store. On a broker that many share, the broker tells who holds a lease and
//! where each listens. What only the nodes know (how they are, what they ran) is asked of all of them at once; who does not
//! answer is named, and never waited for longer than [`ANSWER_WITHIN`].

use std::{sync::Arc, time::Duration};

use axum::http::Method;
use futures::future::join_all;
use serde_json::Value as Json;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
    place::{self, Place},
    session,
};
use crate::{
    brokers::{Broker, LiveNode},
    config::{self, Config, UrlKind},
    http::remote::{Remote, RemoteError},
};

/// How long a node may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    /// The machine it runs on, if it said so.
    pub(super) host: String,
    /// How to ask it, or why it cannot be asked from here.
    remote: Result<Remote, String>,
}

impl Member {
    /// One that is asked anyway.
    pub(super) fn asked(remote: Remote) -> Self {
        Self { name: remote.to_string(), host: config::hostname(), remote: Ok(remote) }
    }

    async fn of(live: LiveNode, token: Option<String>) -> Self {
        let LiveNode { node, about, .. } = live;
        let remote = match about.http_from(&config::hostname()) {
            Some(address) => match tokio::net::lookup_host(&address).await.map(|mut found| found.next()) {
                Ok(Some(address)) => Ok(Remote::Listening { address, token }),
                Ok(None) => Err(format!("{address} leads nowhere")),
                Err(error) => Err(format!("{address}: {error}")),
            },
            None if about.http.is_some() => Err(format!("it listens only on its own machine, {}", about.host)),
            None => Err("it serves no HTTP".to_owned()),
        };
        Self { name: node.as_str().to_owned(), host: about.host, remote }
    }

    /// Asks it; an error says why there is no answer.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Json, RemoteError> {
        let unreachable = |reason: String| RemoteError::Unreachable { address: self.name.clone(), reason };
        let remote = self.remote.as_ref().map_err(|reason| unreachable(reason.clone()))?;
        match tokio::time::timeout(ANSWER_WITHIN, remote.ask(method, path, None)).await {
            Ok(answer) => answer.map(|(_, answer)| answer),
            Err(_) => Err(unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }

    /// Every item of a list, page by page, up to `limit`.
    pub(super) async fn list(&self, path: &str, limit: usize) -> Result<Vec<Json>, RemoteError> {
        pages(limit, path, async |page| self.ask(Method::GET, &page).await).await
    }

    /// Whether it takes work, and what it says.
    pub(super) async fn ready(&self) -> (bool, String) {
        let remote = match &self.remote {
            Ok(remote) => remote,
            Err(reason) => return (false, reason.clone()),
        };
        match tokio::time::timeout(ANSWER_WITHIN, remote.raw(Method::GET, "/readyz", None)).await {
            Ok(Ok((status, text))) => (status.is_success(), String::from_utf8_lossy(&text).trim().to_owned()),
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        }
    }
}

/// The nodes of the cluster of `place`, of which there is at least one.
pub(super) async fn find(place: &Place, screen: &Screen) -> Result<Vec<Member>, Failure> {
    let loaded = place.load(Vec::new(), screen)?;
    let config = loaded.config;
    // Celery's words: scripts look for them.
    let nobody = |why: &str| {
        let failure = Failure::new(Exit::Unavailable, "No nodes replied within time constraint", why);
        failure.hint(format!("{0} dev, or {0} worker", program()))
    };
    if let Some(remote) = session::running(place, &config).await {
        return Ok(vec![Member::asked(remote)]);
    }
    let members = match &config.broker {
        Some(broker) if broker.kind != UrlKind::Embedded => {
            of_broker(&place::open(&config, broker, Duration::ZERO)?.broker, &config).await?
        }
        _ => return Err(nobody("no node runs here")),
    };
    if members.is_empty() { Err(nobody("no node holds a lease at the broker")) } else { Ok(members) }
}

/// The nodes that hold a lease at `broker`.
pub(super) async fn of_broker(broker: &Arc<dyn Broker>, config: &Config) -> Result<Vec<Member>, Failure> {
    let nodes = broker.nodes().await.map_err(|error| {
        Failure::new(Exit::Unavailable, "cannot ask the broker which nodes are there", error).hint(format!("{} doctor", program()))
    })?;
    let Some(nodes) = nodes else {
        let reason = format!("the {} broker cannot tell which nodes are there", broker.kind());
        return Err(Failure::new(Exit::Unavailable, "there is nobody to ask", reason).hint("name a node with --node HOST:PORT"));
    };
    let token = config.http.token.as_ref().map(|token| token.expose().clone());
    Ok(join_all(nodes.into_iter().map(|node| Member::of(node, token.clone()))).await)
}

/// What every node that answers says; who does not is noted. Fails when there are nodes and nobody answers.
pub(super) async fn ask_all(members: &[Member], path: &str, screen: &Screen) -> Result<Vec<Json>, Failure> {
    let asked = join_all(members.iter().map(|member| member.ask(Method::GET, path))).await;
    let mut answers = Vec::with_capacity(members.len());
    let mut silent = Vec::new();
    for (member, answer) in members.iter().zip(asked) {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => silent.push(format!("{} does not answer: {error}", member.name)),
        }
    }
    if answers.is_empty() && !members.is_empty() {
        let failure = Failure::new(Exit::Unavailable, "there is no answer", "");
        return Err(failure.lines(silent).hint(format!("{} doctor", program())));
    }
    silent.iter().for_each(|line| note(screen, line));
    Ok(answers)
}

/// The failure of a verb whose answer lacks some nodes; its data has been printed.
pub(super) fn partial(members: &[Member], answers: usize) -> Result<(), Failure> {
    match members.len() - answers {
        0 => Ok(()),
        missing => Err(Failure::new(Exit::Partial, "not every node answered", format!("{missing} of {} did not", members.len()))),
    }
}

/// Reads a list page by page, up to `limit` items.
pub(super) async fn pages<E>(limit: usize, path: &str, get: impl AsyncFn(String) -> Result<Json, E>) -> Result<Vec<Json>, E> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = (limit - items.len()).min(1_000);
        let mark = if path.contains('?') { '&' } else { '?' };
        let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = get(format!("{path}{mark}limit={page}{next}")).await?;
        items.extend(answer["items"].as_array().into_iter().flatten().cloned());
        cursor = answer["next"].as_str().map(str::to_owned);
        if cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}
