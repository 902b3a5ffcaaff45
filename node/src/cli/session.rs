//! How a verb reaches its cluster.
//!
//! A node of an embedded store has the store to itself, so it is asked over HTTP; its address is beside the store. Where no
//! node runs, and with brokers that several may open, the same routes are used in this process. A verb does not see the
//! difference: it asks paths and reads JSON. What only nodes know is asked of [`Session::nodes`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{Method, StatusCode};
use serde_json::Value as Json;

use super::{
    exit::Exit,
    failure::Failure,
    fleet::{self, Member},
    output::{Screen, program},
    place::{self, Place},
};
use crate::{
    brokers::{Backbone, Broker},
    client::{Client, KnownTasks},
    config::{Config, UrlKind},
    http::{
        Api,
        endpoint::Endpoint,
        guard::Guard,
        remote::{Remote, RemoteError},
        router,
    },
};

/// A cluster, reached.
#[derive(Debug)]
pub(super) struct Session {
    remote: Remote,
    /// Who the nodes are, where the broker tells.
    shared: Option<(Arc<dyn Broker>, Box<Config>)>,
}

impl Session {
    /// Reaches the cluster of `place`: a node that runs, or else the stores themselves.
    pub(super) async fn open(place: &Place, screen: &Screen) -> Result<Self, Failure> {
        let loaded = place.load(Vec::new(), screen)?;
        let config = &loaded.config;
        let began = Instant::now();
        loop {
            if let Some(remote) = running(place, config).await {
                return Ok(Self { remote, shared: None });
            }
            let Some(broker) = &config.broker else {
                let reason = "no broker is configured, and no development node runs on this machine";
                return Err(Failure::new(Exit::Unavailable, "there is nobody to ask", reason).hint(format!("{} dev", program())));
            };
            // Whoever has the store open is a node that is about to answer, or a verb that is about to end.
            match place::open(config, broker, Duration::ZERO) {
                Err(failure) if failure.exit() == Exit::Unavailable && began.elapsed() < place::STORE_WITHIN => {
                    tokio::time::sleep(place::STORE_LOOK).await;
                }
                opened => return Self::here(loaded.config, opened?),
            }
        }
    }

    /// The nodes of the cluster; with an embedded store the one that has it open, if any.
    pub(super) async fn nodes(&self) -> Result<Vec<Member>, Failure> {
        match (&self.shared, &self.remote) {
            (None, Remote::Here(_)) => Ok(Vec::new()),
            (None, remote) => Ok(vec![Member::asked(remote.clone())]),
            (Some((broker, config)), _) => fleet::of_broker(broker, config).await,
        }
    }

    /// Whether the nodes are others than what [`Session::get`] asks.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    fn here(config: Config, backbone: Backbone) -> Result<Self, Failure> {
        let Backbone { broker, backend, ledger } = backbone;
        let settings = Arc::new(super::serve::settings(&config, None)?);
        let is_shared = config.broker.as_ref().is_some_and(|broker| broker.kind != UrlKind::Embedded);
        let (timezone, queue) = (config.timezone.value.clone(), super::serve::beat_queue(&config));
        let shared = is_shared.then(|| (broker.clone(), Box::new(config)));
        let client = Client::new(broker.clone(), backend.clone(), ledger.clone(), settings, KnownTasks::default());
        let api = Api::new(client, broker, backend, ledger, None).scheduling(&timezone, queue);
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let guard = Guard::new(nowhere, None).map_err(|error| Failure::new(Exit::Failed, "cannot ask", error))?;
        Ok(Self { remote: Remote::Here(router(api, guard)), shared })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Json, Failure> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        self.ask(Method::POST, path, body).await
    }

    /// Submits, under an idempotency key if there is one.
    pub(super) async fn submit(&self, body: &Json, key: Option<&str>) -> Result<Json, Failure> {
        let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let asked = self.remote.ask_with(Method::POST, "/api/v1/submit", Some(body), &headers).await;
        asked.map(|(_, answer)| answer).map_err(failure)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Json, Failure> {
        self.ask(Method::DELETE, path, None).await
    }

    /// Every item of a list, page by page, up to `limit`.
    pub(super) async fn list(&self, path: &str, limit: usize) -> Result<Vec<Json>, Failure> {
        fleet::pages(limit, path, async |page| self.get(&page).await).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        self.remote.ask(method, path, body).await.map(|(_, answer)| answer).map_err(failure)
    }
}

/// The node that `--node` names, or the one that answers beside the configured store.
pub(super) async fn running(place: &Place, config: &Config) -> Option<Remote> {
    if let Some(address) = place.node {
        let token = config.http.token.as_ref().map(|token| token.expose().clone());
        return Some(Remote::Listening { address, token });
    }
    let file = match &config.broker {
        None => place::dev_store(config),
        Some(broker) if broker.kind == UrlKind::Embedded => place::store_file(config, broker),
        Some(_) => return None,
    };
    let remote = Endpoint::read(&file)?.remote();
    remote.raw(Method::GET, "/livez", None).await.is_ok().then_some(remote)
}

pub(super) fn failure(error: RemoteError) -> Failure {
    match error {
        RemoteError::Problem { status, detail, hint } => {
            let exit = match status {
                StatusCode::NOT_FOUND => Exit::NotFound,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Exit::Usage,
                StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
                _ => Exit::Failed,
            };
            let failure = Failure::new(exit, "the node refuses", detail);
            let hint = hint.or_else(|| (exit != Exit::NotFound).then(|| format!("{} doctor", program())));
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        error => Failure::new(Exit::Unavailable, "there is no answer", error).hint(format!("{} doctor", program())),
    }
}

/// `text` as one part of a path.
pub(super) fn part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => part.push(char::from(byte)),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

/// Runs a verb that asks.
pub(super) fn run<F>(work: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, "cannot start", error))?;
    let done = runtime.block_on(async { super::interrupt::Interrupt::listen()?.or(work).await });
    // What still runs is a connection that is not needed any more.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_cannot_leave_it() {
        assert_eq!(part("a-b.c_d~1"), "a-b.c_d~1");
        assert_eq!(part("../x?y=1#z é"), "..%2Fx%3Fy%3D1%23z%20%C3%A9");
    }
}
