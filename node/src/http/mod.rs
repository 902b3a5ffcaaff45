//! The HTTP API of a node.
//!
//! **What it owns.** The listener, its connections, the list of tasks seen lately ([`index`]) and the idempotency keys
//! ([`submit`]). **Who sends to it.** Programs and people on this machine; the CLI; probes and Prometheus. **What it sends
//! on.** Submissions through the [`Client`], questions to broker, backend and actors. It is no part of the pipeline: tasks
//! run without it.
//!
//! **What bounds it.** Connections and header time ([`server`]), body size ([`BODY_BYTES_MAX`]), page size ([`page`]), watchers'
//! buffers, idempotency keys. **When it dies.** A handler's panic ends its connection. The server is started again by its node;
//! clients see a refused connection meanwhile.
//!
//! Who may talk to it is decided in [`guard`]. Every route is in [`ROUTES`] and in the OpenAPI document, and a test compares.

mod control;
mod dead;
pub mod endpoint;
mod events;
mod extract;
pub mod guard;
mod health;
pub mod index;
mod json;
pub mod metrics;
mod nodes;
mod page;

pub mod problem;
mod queues;
pub mod remote;
mod schedules;
pub mod server;
pub mod submit;
mod tasks;
mod workflows;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use tokio_util::sync::CancellationToken;
use umbel_proto::QueueName;

use self::{
    guard::Guard,
    index::TaskIndex,
    problem::{Kind, Problem},
    server::Server,
    submit::Keys,
};
use crate::{Node, actors::report::NodeReport, backends::Backend, brokers::Broker, client::Client, ledgers::Ledger};

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Api {
    /// Submits and revokes.
    pub client: Client,
    /// Where messages wait.
    pub broker: Arc<dyn Broker>,
    /// Where results wait.
    pub backend: Arc<dyn Backend>,
    /// What makes a message that is sent again durable.
    pub ledger: Arc<dyn Ledger>,
    /// The node behind this API; `None` where the routes are used over stores that no node has open.
    pub node: Option<Node>,
    /// Tasks seen lately.
    pub index: TaskIndex,
    /// Submissions by idempotency key.
    pub keys: Keys,
    /// The time zone of schedules that name none.
    pub timezone: String,
    /// Where scheduled tasks go that name no queue.
    pub beat_queue: Option<QueueName>,
    /// Ends streams when the server stops.
    pub stop: CancellationToken,
}

impl Api {
    /// An API over stores that belong together, and the node that works on them.
    pub fn new(client: Client, broker: Arc<dyn Broker>, backend: Arc<dyn Backend>, ledger: Arc<dyn Ledger>, node: Option<Node>) -> Self {
        Self {
            client,
            broker,
            backend,
            ledger,
            node,
            index: TaskIndex::default(),
            keys: Keys::default(),
            timezone: "UTC".to_owned(),
            beat_queue: None,
            stop: CancellationToken::new(),
        }
    }

    /// With the settings of beat: what schedules take that name no time zone, and no queue.
    #[must_use]
    pub fn scheduling(mut self, timezone: &str, queue: Option<QueueName>) -> Self {
        timezone.clone_into(&mut self.timezone);
        self.beat_queue = queue;
        self
    }

    async fn report(&self) -> Option<NodeReport> {
        self.node.as_ref()?.report().await
    }
}

type Handler = fn() -> MethodRouter<Api>;

/// Every route: path, methods, handlers.
pub const ROUTES: &[(&str, &[&str], Handler)] = &[
    ("/livez", &["get"], || get(health::live)),
    ("/readyz", &["get"], || get(health::ready)),
    ("/metrics", &["get"], || get(metrics::scrape)),
    ("/api/v1/openapi.json", &["get"], || get(openapi)),
    ("/api/v1/node", &["get"], || get(health::node)),
    ("/api/v1/control", &["post"], || post(control::command)),
    ("/api/v1/events", &["get"], || get(events::stream)),
    ("/api/v1/submit", &["post"], || post(submit::submit)),
    ("/api/v1/results/{id}", &["get", "delete"], || get(workflows::result).merge(delete(workflows::forget))),
    ("/api/v1/workflows/{id}", &["get"], || get(workflows::show)),
    ("/api/v1/workflows/{id}/revoke", &["post"], || post(workflows::revoke)),
    ("/api/v1/tasks", &["get"], || get(tasks::list)),
    ("/api/v1/tasks/{id}", &["get"], || get(tasks::show)),
    ("/api/v1/tasks/{id}/revoke", &["post"], || post(tasks::revoke)),
    ("/api/v1/tasks/{id}/retry", &["post"], || post(tasks::retry)),
    ("/api/v1/queues", &["get"], || get(queues::list)),
    ("/api/v1/queues/{queue}", &["get"], || get(queues::show)),
    ("/api/v1/queues/{queue}/messages", &["get", "delete"], || get(queues::peek).merge(delete(queues::purge))),
    ("/api/v1/queues/{queue}/pause", &["post"], || post(queues::pause)),
    ("/api/v1/queues/{queue}/resume", &["post"], || post(queues::resume)),
    ("/api/v1/schedules", &["get", "post"], || get(schedules::list).merge(post(schedules::add))),
    ("/api/v1/schedules/{name}", &["get", "delete"], || get(schedules::show_one).merge(delete(schedules::remove))),
    ("/api/v1/schedules/{name}/next", &["get"], || get(schedules::next)),
    ("/api/v1/schedules/{name}/run", &["post"], || post(schedules::run)),
    ("/api/v1/schedules/{name}/pause", &["post"], || post(schedules::pause)),
    ("/api/v1/schedules/{name}/resume", &["post"], || post(schedules::resume)),
    ("/api/v1/dead", &["get"], || get(dead::list)),
    ("/api/v1/dead/{id}", &["get", "delete"], || get(dead::show).merge(delete(dead::drop))),
    ("/api/v1/dead/{id}/retry", &["post"], || post(dead::retry)),
    ("/api/v1/nodes", &["get"], || get(nodes::list)),
    ("/api/v1/drain", &["post"], || post(nodes::drain)),
];

/// The OpenAPI document.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The routes behind `guard`.
pub fn router(api: Api, guard: Guard) -> Router {
    let mut router = Router::new();
    for (path, _, handler) in ROUTES {
        router = router.route(path, handler());
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(guard, guard::layer))
        .with_state(api)
}

/// Starts serving.
///
/// # Errors
/// When `address` cannot be listened on, or is open to the network without a token.
pub async fn serve(address: SocketAddr, token: Option<&str>, api: Api) -> Result<Server, ServeError> {
    Listener::bind(address, token).await?.serve(api)
}

/// An address that is listened on already, before there is anything to serve: a node says where it listens as soon as it
/// takes messages.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    listener: tokio::net::TcpListener,
    guard: Guard,
}

impl Listener {
    /// Listens. Who connects waits until [`Listener::serve`].
    ///
    /// # Errors
    /// When `address` cannot be listened on, or is open to the network without a token.
    pub async fn bind(address: SocketAddr, token: Option<&str>) -> Result<Self, ServeError> {
        let guard = Guard::new(address, token)?;
        let failed = |error: std::io::Error| ServeError::Listen { address, reason: error.to_string() };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self { address: listener.local_addr().map_err(failed)?, listener, guard })
    }

    /// Where it listens, with the port that was chosen where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `api` from now on.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn serve(self, api: Api) -> Result<Server, ServeError> {
        let Self { address, listener, guard } = self;
        if let Some(node) = &api.node {
            crate::task::spawn(api.index.clone().follow(node.facts().subscribe()));
            crate::task::spawn(api.index.clone().hear(node.heard()));
        }
        let stop = api.stop.clone();
        Server::start(listener, router(api, guard), stop).map_err(|error| ServeError::Listen { address, reason: error.to_string() })
    }
}

/// Why the API cannot be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// It would be open to the network.
    #[error(transparent)]
    Open(#[from] guard::OpenToTheNetwork),
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::not_found("route", uri.path()).hint("GET /api/v1/openapi.json lists them")
}

async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} {} is not a thing", uri.path())).hint("GET /api/v1/openapi.json lists them")
}
